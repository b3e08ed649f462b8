//! A mount that a program serves, through FUSE or otherwise.
//!
//! The program stays in the foreground for as long as the mount is there, or does its work in the
//! background and ends; what it did is seen in the table of mounts in either case.

use super::{LOOK_EVERY, Mounted, PeerError};
use crate::mounts::{self, Table};
use crate::process::{Child, END_MAX, kill_all};
use crate::procfs::{self, Identity};
use rustix::io::Errno;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a mount may be in use by somebody who is about to leave it.
const BUSY_MAX: Duration = Duration::from_secs(2);

/// Another way to unmount than the kernel's.
type Leave = Box<dyn Fn() -> io::Result<()> + Send>;

/// See the module.
pub(super) struct ProgramMount {
    path: PathBuf,
    child: Child,
    table: Table,
    /// `NAME=value` in the environment of all it started, where its command may end before it does.
    mark: Option<String>,
    leave: Option<Leave>,
    /// Its command ends once it has mounted, and the kernel does the rest.
    in_kernel: bool,
}

impl ProgramMount {
    /// `child` is about to mount `path`, and ends when that is unmounted.
    pub(super) fn new(path: &Path, child: Child) -> io::Result<Self> {
        Ok(Self {
            path: path.canonicalize()?,
            child,
            table: Table::open()?,
            mark: None,
            leave: None,
            in_kernel: false,
        })
    }

    /// `child` may end once it has mounted, and leave the rest to processes that carry `mark`.
    pub(super) fn marked(mut self, mark: String) -> Self {
        self.mark = Some(mark);
        self
    }

    /// `child` ends once it has mounted, and leaves the rest to the kernel.
    pub(super) fn in_kernel(mut self) -> Self {
        self.in_kernel = true;
        self
    }

    /// It is unmounted by `leave`.
    pub(super) fn left_by(mut self, leave: Leave) -> Self {
        self.leave = Some(leave);
        self
    }

    /// Whether its command may end while the mount is there.
    fn may_end(&self) -> bool {
        self.in_kernel || self.mark.is_some()
    }

    /// Takes it out of the tree of files; whoever waits in it gets an error.
    fn detach(&self) {
        if self.in_kernel {
            mounts::force(&self.path);
        }
        if mounts::is_mounted(&self.path) {
            mounts::detach(&self.path);
        }
    }

    /// All its processes that run.
    fn alive(&self) -> Vec<Identity> {
        let tree = procfs::tree(&self.processes());
        tree.iter().map(|process| process.identity).collect()
    }

    /// Unmounts, as long as nobody is in it for longer than a moment.
    fn leave(&self) -> io::Result<()> {
        let deadline = Instant::now() + BUSY_MAX;
        loop {
            let left = match &self.leave {
                Some(leave) => leave(),
                None => mounts::leave(&self.path),
            };
            match left {
                Err(error) if is_busy(&error) && Instant::now() < deadline => {
                    std::thread::sleep(LOOK_EVERY);
                }
                other => return other,
            }
        }
    }
}

impl Mounted for ProgramMount {
    fn processes(&self) -> Vec<u32> {
        let mut pids = vec![self.child.id()];
        pids.extend(self.mark.iter().flat_map(|mark| procfs::marked(mark)));
        pids
    }

    fn root(&self) -> &Path {
        &self.path
    }

    fn poll(&mut self) -> Result<bool, PeerError> {
        if self.table.holds(&self.path)? {
            return Ok(true);
        }
        match self.child.ended() {
            Some(status) if !(status.success() && self.may_end()) => {
                let problem = format!("ended with {status} instead of mounting");
                Err(self.child.failure(problem).into())
            }
            _ => Ok(false),
        }
    }

    fn kill(&mut self) {
        let processes = self.alive();
        self.child.kill();
        kill_all(&processes);
        self.detach();
    }

    fn unmount(mut self: Box<Self>) -> Result<(), PeerError> {
        let processes = self.alive();
        if let Err(error) = self.leave() {
            let problem = format!("did not unmount: {error}");
            let failure = self.child.failure(problem);
            self.kill();
            return Err(failure.into());
        }
        let polite = self.child.wait(END_MAX) || self.child.end();
        kill_all(&processes);
        if polite {
            return Ok(());
        }
        let problem = "did not end when unmounted, and had to be killed";
        Err(self.child.failure(problem).into())
    }
}

impl Drop for ProgramMount {
    fn drop(&mut self) {
        let processes = self.alive();
        if self.child.ended().is_none() {
            self.child.end();
        }
        kill_all(&processes);
        self.detach();
    }
}

fn is_busy(error: &io::Error) -> bool {
    // From the kernel a number, from FUSE's program its text.
    error.raw_os_error() == Some(Errno::BUSY.raw_os_error()) || error.to_string().contains("busy")
}
