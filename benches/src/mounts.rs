//! The table of mounts of this process, and how to leave it.
//!
//! The kernel says when the table changes, so waiting for a mount costs nothing and misses nothing.

use crate::process;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::mount::{UnmountFlags, unmount};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long users of a dead mount are given to leave it.
const FORCE_MAX: Duration = Duration::from_secs(5);
/// How often they are told.
const FORCE_EVERY: Duration = Duration::from_millis(20);

/// The table of mounts, open to be waited for.
pub struct Table(File);

impl Table {
    /// # Errors
    /// If there is no `/proc`.
    pub fn open() -> io::Result<Self> {
        Ok(Self(File::open("/proc/self/mountinfo")?))
    }

    /// Whether something is mounted at `path`, which is absolute and has no symbolic links.
    ///
    /// # Errors
    /// Whatever the kernel says.
    pub fn holds(&mut self, path: &Path) -> io::Result<bool> {
        let Some(path) = path.to_str() else {
            return Err(io::Error::other("the path of a mount is not text"));
        };
        let path = escaped(path);
        let text = self.look()?;
        Ok(text
            .lines()
            .any(|line| line.split(' ').nth(4) == Some(&path)))
    }

    /// The whole table, as the kernel writes it.
    ///
    /// # Errors
    /// Whatever the kernel says.
    pub fn look(&mut self) -> io::Result<String> {
        let mut text = String::new();
        self.0.rewind()?;
        self.0.read_to_string(&mut text)?;
        Ok(text)
    }

    /// Waits until the table changes after it was last looked at, for at most `limit`.
    ///
    /// # Errors
    /// Whatever the kernel says.
    pub fn wait(&self, limit: Duration) -> io::Result<()> {
        let timeout = Timespec::try_from(limit).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(&self.0, PollFlags::PRI)], Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Where a line of the table says that something is mounted, and of which type that is.
pub(crate) fn entry(line: &str) -> Option<(PathBuf, &str)> {
    let path = unescaped(line.split(' ').nth(4)?);
    let (_, source) = line.split_once(" - ")?;
    Some((path, source.split(' ').next()?))
}

/// As it was before the table wrote it: three octal digits follow a backslash.
fn unescaped(path: &str) -> PathBuf {
    let (mut bytes, mut rest) = (Vec::new(), path.as_bytes());
    while let Some((first, others)) = rest.split_first() {
        let digits = others
            .get(..3)
            .and_then(|three| std::str::from_utf8(three).ok());
        let code = digits.and_then(|three| u8::from_str_radix(three, 8).ok());
        match code.filter(|_| *first == b'\\') {
            Some(code) => {
                bytes.push(code);
                rest = &others[3..];
            }
            None => {
                bytes.push(*first);
                rest = others;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

/// As the table writes it.
fn escaped(path: &str) -> String {
    let escapes = [
        ('\\', "\\134"),
        (' ', "\\040"),
        ('\t', "\\011"),
        ('\n', "\\012"),
    ];
    escapes
        .iter()
        .fold(path.to_owned(), |path, (from, to)| path.replace(*from, to))
}

/// Whether something is mounted at `path`; not if nobody can tell.
pub fn is_mounted(path: &Path) -> bool {
    Table::open()
        .and_then(|mut table| table.holds(path))
        .unwrap_or(false)
}

/// Unmounts `path` if nobody uses it.
///
/// # Errors
/// Whatever the kernel says, `EBUSY` if it is used.
pub fn leave(path: &Path) -> io::Result<()> {
    match unmount(path, UnmountFlags::empty()) {
        // Root may do it alone, others through FUSE's own program.
        Err(rustix::io::Errno::PERM) => fusermount(&["-u"], path),
        other => Ok(other?),
    }
}

/// Takes `path` out of the tree of files, whoever uses it; never waits. Call it when whoever served the
/// mount is gone: then nobody waits in it either.
pub fn detach(path: &Path) {
    if unmount(path, UnmountFlags::DETACH).is_err() {
        // If this fails too, nothing was mounted, or nothing can be done.
        let _ = fusermount(&["-u", "-z"], path);
    }
}

/// Makes a network file system of the kernel's fail all that waits in it, again and again, since its
/// users may try once more, until they have left or for some seconds.
pub(crate) fn force(path: &Path) {
    let deadline = Instant::now() + FORCE_MAX;
    while is_mounted(path) && Instant::now() < deadline {
        let mut command = Command::new("umount");
        // A process, since the kernel may wait even now, and only a process can be killed out of that.
        let _ = process::run(command.arg("-f").arg(path), FORCE_MAX);
        std::thread::sleep(FORCE_EVERY);
    }
}

fn fusermount(options: &[&str], path: &Path) -> io::Result<()> {
    let mut command = Command::new("fusermount3");
    command.args(options).arg(path);
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(said.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::{Table, entry, escaped};
    use std::path::Path;

    #[test]
    fn paths_are_looked_up_as_the_kernel_writes_them() {
        assert_eq!(escaped("/a b\\c"), "/a\\040b\\134c");
        let line = "58 24 0:31 / /a\\040b\\134c rw - fuse.sshfs x:/ rw";
        assert_eq!(entry(line), Some(("/a b\\c".into(), "fuse.sshfs")));
        let mut table = Table::open().expect("/proc");
        assert!(table.holds(Path::new("/proc")).expect("readable"));
        assert!(!table.holds(Path::new("/proc/self")).expect("readable"));
    }
}
