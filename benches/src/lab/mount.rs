//! A mount of a lab: `wormhole mount`, in the foreground.

use super::LabError;
use super::child::{Child, PATIENCE};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Advice, fadvise};
use rustix::mount::{UnmountFlags, unmount};
use std::fs::{self, File};
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// What a mount may remember.
#[derive(Debug, Clone, Default)]
pub struct MountOptions {
    /// `--l1-size`; the program's default if `None`.
    pub l1_size: Option<&'static str>,
    /// `--l2-size`; `Some("0")` is `--no-l2`, `None` the program's default.
    pub l2_size: Option<&'static str>,
}

impl MountOptions {
    /// Nothing on disk.
    pub fn without_disk_cache() -> Self {
        Self {
            l2_size: Some("0"),
            ..Self::default()
        }
    }
}

/// A mount that may not answer yet.
pub struct Starting {
    path: PathBuf,
    child: Child,
}

impl Starting {
    pub(super) fn spawn(
        program: &Path,
        lab: &Path,
        name: &str,
        ticket_file: &Path,
        options: &MountOptions,
    ) -> Result<Self, LabError> {
        let path = lab.join(name);
        fs::create_dir_all(&path)?;
        let mut command = Command::new(program);
        command.arg("mount").arg("--ticket-file").arg(ticket_file);
        if let Some(size) = options.l1_size {
            command.args(["--l1-size", size]);
        }
        match options.l2_size {
            Some("0") => {
                command.arg("--no-l2");
            }
            size => {
                let cache = lab.join("cache").join(name);
                fs::create_dir_all(&cache)?;
                command.arg("--cache-dir").arg(cache);
                if let Some(size) = size {
                    command.args(["--l2-size", size]);
                }
            }
        }
        command.arg(&path);
        let child = Child::spawn(name, lab, &mut command, false)?;
        Ok(Self { path, child })
    }

    /// Waits until the mount answers a `stat` of its root.
    ///
    /// # Errors
    /// [`LabError::NotReady`] if the process ends or takes too long.
    pub fn ready(mut self) -> Result<Mount, LabError> {
        let mut table = File::open("/proc/self/mountinfo")?;
        let deadline = Instant::now() + PATIENCE;
        while !is_mounted(&mut table, &self.path)? {
            if let Some(status) = self.child.ended() {
                return Err(self.child.not_ready(status));
            }
            if Instant::now() > deadline {
                return Err(self.child.not_ready("not mounted in time"));
            }
            wait_for_change(&table)?;
        }
        // Blocks until the process has answered the kernel's first requests.
        fs::metadata(&self.path)?;
        Ok(Mount {
            path: self.path,
            child: self.child,
        })
    }
}

/// A mount that answers; unmounted and ended when dropped.
pub struct Mount {
    path: PathBuf,
    child: Child,
}

impl Mount {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the kernel forget the content of `file`, so that the mount is asked again.
    ///
    /// # Errors
    /// Whatever the kernel says.
    pub fn drop_pages(file: &File) -> std::io::Result<()> {
        Ok(fadvise(file, 0, None, Advice::DontNeed)?)
    }

    /// Tells the kernel not to read ahead in `file`.
    ///
    /// # Errors
    /// Whatever the kernel says.
    pub fn expect_random(file: &File) -> std::io::Result<()> {
        Ok(fadvise(file, 0, None, Advice::Random)?)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        self.child.end();
        let mounted = File::open("/proc/self/mountinfo")
            .and_then(|mut table| is_mounted(&mut table, &self.path));
        if matches!(mounted, Ok(true)) {
            eprintln!("{} is still mounted: detaching it", self.path.display());
            // Root may do it alone, others through the helper.
            if unmount(&self.path, UnmountFlags::DETACH).is_err() {
                let _ = Command::new("fusermount3")
                    .args(["-u", "-z"])
                    .arg(&self.path)
                    .status();
            }
        }
    }
}

/// Whether something is mounted at `path`, which holds nothing that the kernel would escape.
fn is_mounted(table: &mut File, path: &Path) -> std::io::Result<bool> {
    let mut text = String::new();
    table.rewind()?;
    table.read_to_string(&mut text)?;
    let path = path.to_str();
    Ok(text
        .lines()
        .any(|line| line.split(' ').nth(4) == path && path.is_some()))
}

/// Waits until the table of mounts changes, or long enough to look at the process again.
fn wait_for_change(table: &File) -> std::io::Result<()> {
    let timeout = Timespec {
        tv_sec: 0,
        tv_nsec: 50_000_000,
    };
    poll(&mut [PollFd::new(table, PollFlags::PRI)], Some(&timeout))?;
    Ok(())
}
