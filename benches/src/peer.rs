//! Who is measured: the ways to read a distant folder.
//!
//! A [`Peer`] serves a folder on one end of a lab and mounts it on the other, with programs of its
//! own. Each keeps all it writes beneath the folder it is given, and nothing outlives the values here:
//! dropping a [`Mounted`] unmounts, dropping a [`Served`] ends the server.
//!
//! A peer runs its programs in the foreground, as descendants of this process, so that what they cost
//! can be counted and none is forgotten.

mod choice;
mod custom;
mod local;
mod mount;
mod nfs;
mod rclone;
mod sshd;
mod sshfs;
mod wormhole;

pub use choice::{UnknownPeer, all, choose};
pub use custom::{Custom, CustomError};

use crate::mounts::Table;
use crate::process::{self, Failure};
use crate::record::PeerInfo;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};
use wormhole_netem::LinkEnd;

/// Where peers run.
pub struct Site {
    /// Where the folder is.
    pub host: LinkEnd,
    /// Where it is mounted.
    pub mount: LinkEnd,
    /// The `wormhole` under test.
    pub program: PathBuf,
}

/// Why a peer cannot run here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unavailable {
    /// For people, in one sentence.
    pub reason: String,
    /// The one command that mends it, where there is one.
    pub install: Option<String>,
}

/// What went wrong with a peer.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// A program did not start, or ended too early.
    #[error("{program}: {problem}\n{log}")]
    Program {
        /// Which.
        program: String,
        /// What it did.
        problem: String,
        /// The end of what it said.
        log: String,
    },
    /// Not ready in time.
    #[error("{0}")]
    Late(String),
    /// The file system of this machine.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<Failure> for PeerError {
    fn from(failure: Failure) -> Self {
        Self::Program {
            program: failure.what,
            problem: failure.problem,
            log: failure.log,
        }
    }
}

/// One way to read a distant folder.
pub trait Peer: Send {
    /// Its name in `--peers` and in reports.
    fn name(&self) -> &str;

    /// Version, settings, durability; whether it can run at `site`, and if not, why.
    fn info(&self, site: &Site) -> PeerInfo;

    /// Whether mounts of it can be written to.
    fn writes(&self) -> bool;

    /// Serves `share` from the host's end; returns when it can be mounted. What the server keeps goes
    /// into `folder`, which is empty.
    ///
    /// # Errors
    /// [`PeerError`].
    fn serve(&self, site: &Site, share: &Path, folder: &Path)
    -> Result<Box<dyn Served>, PeerError>;
}

/// A running server; ends when dropped.
pub trait Served: Send {
    /// Processes of the server: what they and their descendants use is what the server costs.
    fn processes(&self) -> Vec<u32>;

    /// Starts to mount on the mount's end at `path`, an empty directory. What the client keeps goes
    /// into `folder`, which is empty: a fresh folder is a fresh cache. Does not wait.
    ///
    /// # Errors
    /// [`PeerError`].
    fn mount(
        &mut self,
        site: &Site,
        path: &Path,
        folder: &Path,
    ) -> Result<Box<dyn Mounted>, PeerError>;
}

/// A mount, or one that is about to be; unmounted when dropped.
pub trait Mounted: Send {
    /// Processes of the client.
    fn processes(&self) -> Vec<u32>;

    /// Where the share's files are: usually the path that was mounted.
    fn root(&self) -> &Path;

    /// Whether it is mounted by now.
    ///
    /// # Errors
    /// [`PeerError`] if it never will be.
    fn poll(&mut self) -> Result<bool, PeerError>;

    /// Ends it at once, whatever it is doing: whoever waits in it gets an error.
    fn kill(&mut self);

    /// Unmounts, politely first, then by force; waits until its processes have ended.
    ///
    /// # Errors
    /// [`PeerError`] if force was needed.
    fn unmount(self: Box<Self>) -> Result<(), PeerError>;
}

/// How long between two looks at a process that should mount.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long a program may take to tell its version.
const VERSION_MAX: Duration = Duration::from_secs(20);

/// Waits until `mounted` is mounted and its root has answered a `stat`, for at most `limit`; ends it if
/// that is not enough. Notices within microseconds, so that the time to mount can be measured with it.
///
/// # Errors
/// [`PeerError`]; the mount is of no use then.
pub fn wait(mounted: &mut dyn Mounted, limit: Duration) -> Result<(), PeerError> {
    let mut table = Table::open()?;
    let deadline = Instant::now() + limit;
    // Looked at before the peer does, so that no change between its look and the wait is missed.
    while !(table.look()?, mounted.poll()?).1 {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            mounted.kill();
            return Err(late("not mounted", limit));
        }
        table.wait(left.min(LOOK_EVERY))?;
    }
    let left = deadline.saturating_duration_since(Instant::now());
    let root = mounted.root().to_path_buf();
    std::thread::scope(|scope| {
        let (tell, told) = channel();
        scope.spawn(move || tell.send(std::fs::metadata(root).map(drop)));
        match told.recv_timeout(left) {
            Ok(answer) => Ok(answer?),
            Err(_) => {
                // Whoever waits in the mount gets an error now: so does that thread.
                mounted.kill();
                Err(late("mounted, but no answer", limit))
            }
        }
    })
}

fn late(problem: &str, limit: Duration) -> PeerError {
    PeerError::Late(format!("{problem} within {} s", limit.as_secs_f64()))
}

/// What a report says about a peer of this name. It is available if its version could be told.
fn describe(
    name: &str,
    version: Result<String, Unavailable>,
    settings: &[&str],
    durability: &str,
) -> PeerInfo {
    let (version, reason, install, available) = match version {
        Ok(version) => (version, None, None, true),
        Err(why) => (String::new(), Some(why.reason), why.install, false),
    };
    PeerInfo {
        name: name.to_owned(),
        version,
        settings: settings.iter().map(|line| (*line).to_owned()).collect(),
        durability: durability.to_owned(),
        available,
        reason,
        install,
    }
}

/// The first line `program` says when asked for its version by `argument`; `install` mends its absence.
fn version_of(program: &str, argument: &str, install: Option<&str>) -> Result<String, Unavailable> {
    let unavailable = |reason: String, install: Option<&str>| Unavailable {
        reason,
        install: install.map(str::to_owned),
    };
    let Some(path) = process::which(program) else {
        let reason = format!("there is no program {program}");
        return Err(unavailable(reason, install));
    };
    let output = process::run(Command::new(path).arg(argument), VERSION_MAX)
        .map_err(|error| unavailable(error.to_string(), None))?;
    let said = String::from_utf8_lossy(&output.stdout);
    Ok(said.lines().next().unwrap_or_default().trim().to_owned())
}

/// Whether file systems can be served from user space here.
fn fuse() -> Result<(), Unavailable> {
    // To open it does nothing yet.
    let device = File::options().read(true).write(true).open("/dev/fuse");
    let reason = match device {
        Err(error) => format!("/dev/fuse: {error}"),
        Ok(_) if rustix::process::geteuid().is_root() => return Ok(()),
        Ok(_) if process::which("fusermount3").is_some() => return Ok(()),
        Ok(_) => "there is no program fusermount3, which users need to mount".to_owned(),
    };
    Err(Unavailable {
        reason,
        install: Some("apt-get install fuse3".to_owned()),
    })
}

#[cfg(test)]
mod tests;
