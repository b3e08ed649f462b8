//! A host and a mount on this machine, each a process of the program under test.
//!
//! Everything lies in one temporary folder: the share, the mount point, caches, state, logs. It is
//! gone when the pair is dropped: mounts first, then the host, then the files.
//!
//! ```text
//! share/   what is hosted          mnt/     where it is mounted
//! state/   the host's state        cache/   the mount's disk cache
//! logs/    stderr of every process
//! ```

mod host;
mod mount;

pub use host::Host;
pub use mount::{Mount, MountOptions};

use crate::process::Failure;
use std::io;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Why there is no pair.
#[derive(Debug, thiserror::Error)]
pub enum PairError {
    /// This machine cannot mount anything; the reason.
    #[error("{0}")]
    Unable(String),
    /// There is nothing to measure.
    #[error("the program under test: {0}")]
    Program(String),
    /// A process did not become ready.
    #[error("{what}: {problem}\n{log}")]
    NotReady {
        /// Which process.
        what: String,
        /// What it did instead.
        problem: String,
        /// The end of its log.
        log: String,
    },
    /// The file system of this machine.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<Failure> for PairError {
    fn from(failure: Failure) -> Self {
        Self::NotReady {
            what: failure.what,
            problem: failure.problem,
            log: failure.log,
        }
    }
}

/// A running host, and a place for mounts of it.
pub struct Pair {
    program: PathBuf,
    host: Host,
    // Last: the folder goes when the processes are gone.
    folder: TempDir,
}

impl Pair {
    /// Starts a host that shares an empty folder on the loopback interface.
    ///
    /// # Errors
    /// [`PairError`]; [`PairError::Unable`] if FUSE is missing here.
    pub fn open() -> Result<Self, PairError> {
        if !Path::new("/dev/fuse").exists() {
            return Err(PairError::Unable("there is no /dev/fuse".to_owned()));
        }
        let program = crate::program::find()?;
        let folder = tempfile::Builder::new()
            .prefix("wormhole-pair-")
            .tempdir()?;
        for name in ["share", "mnt", "state", "cache", "logs", "xdg"] {
            std::fs::create_dir(folder.path().join(name))?;
        }
        let host = Host::start(&program, folder.path())?;
        Ok(Self {
            program,
            host,
            folder,
        })
    }

    /// Opens a pair, or says by name what is not run, and why, if this machine cannot have one.
    ///
    /// # Panics
    /// If the program under test does not work.
    pub fn open_for(benchmark: &str) -> Option<Self> {
        match Self::open() {
            Ok(pair) => Some(pair),
            Err(PairError::Unable(reason)) => {
                eprintln!("benchmark {benchmark} did not run: {reason}");
                None
            }
            Err(error) => panic!("benchmark {benchmark}: {error}"),
        }
    }

    /// The folder that is hosted.
    pub fn share(&self) -> PathBuf {
        self.folder.path().join("share")
    }

    /// Mounts the share and waits until it answers.
    ///
    /// # Errors
    /// [`PairError`].
    pub fn mount(&self, options: &MountOptions) -> Result<Mount, PairError> {
        self.start_mount("mnt", options)?.ready()
    }

    /// Starts to mount the share at `name`, a folder made for it there, and does not wait.
    ///
    /// # Errors
    /// [`PairError`].
    pub fn start_mount(
        &self,
        name: &str,
        options: &MountOptions,
    ) -> Result<mount::Starting, PairError> {
        let ticket = self.host.ticket_file();
        mount::Starting::spawn(&self.program, self.folder.path(), name, ticket, options)
    }
}
