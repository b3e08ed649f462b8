//! A mount of a pair: `wormhole mount`, in the foreground.

use super::PairError;
use crate::mounts::{self, Table};
use crate::process::{Child, PATIENCE};
use rustix::fs::{Advice, fadvise};
use std::fs::{self, File, Metadata};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use wormhole_netem::LinkEnd;

/// How long between two looks at a process that should mount.
const LOOK_EVERY: Duration = Duration::from_millis(50);

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
        folder: &Path,
        name: &str,
        ticket_file: &Path,
        options: &MountOptions,
    ) -> Result<Self, PairError> {
        let path = folder.join(name);
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
                let cache = folder.join("cache").join(name);
                fs::create_dir_all(&cache)?;
                command.arg("--cache-dir").arg(cache);
                if let Some(size) = size {
                    command.args(["--l2-size", size]);
                }
            }
        }
        command.arg(&path);
        let child = Child::spawn(&LinkEnd::here(), name, folder, &mut command, false)?;
        Ok(Self { path, child })
    }

    /// Waits until the mount answers a `stat` of its root.
    ///
    /// # Errors
    /// [`PairError::NotReady`] if the process ends or takes too long.
    pub fn ready(mut self) -> Result<Mount, PairError> {
        let mut table = Table::open()?;
        let deadline = Instant::now() + PATIENCE;
        while !table.holds(&self.path)? {
            if let Some(status) = self.child.ended() {
                return Err(self.child.failure(status).into());
            }
            if Instant::now() > deadline {
                return Err(self.child.failure("not mounted in time").into());
            }
            table.wait(LOOK_EVERY)?;
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

    /// The path of `name`, once the mount sees it: what was made just now may be believed absent for the
    /// rest of a term.
    ///
    /// # Panics
    /// If it does not see it for long.
    pub fn sees(&self, name: &str) -> PathBuf {
        self.sees_such(name, |_| true)
    }

    /// Waits until the mount sees all `bytes` bytes of a file that the host has by now: what it was told while the file was
    /// being written is of a shorter one.
    ///
    /// # Panics
    /// If it does not see them for long.
    pub fn sees_file(&self, name: &str, bytes: u64) -> PathBuf {
        self.sees_such(name, |file| file.len() == bytes)
    }

    fn sees_such(&self, name: &str, is_it: impl Fn(&Metadata) -> bool) -> PathBuf {
        let path = self.path.join(name);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let seen = fs::metadata(&path);
            if seen.as_ref().is_ok_and(&is_it) {
                return path;
            }
            assert!(Instant::now() < deadline, "{}: {seen:?}", path.display());
            std::thread::sleep(LOOK_EVERY);
        }
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
        if mounts::is_mounted(&self.path) {
            eprintln!("{} is still mounted: detaching it", self.path.display());
            mounts::detach(&self.path);
        }
    }
}
