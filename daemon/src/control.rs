//! Asking a running mount to do something: what `wormhole warm`, `pin`, `unpin`, `watch` and `drain` say to it.
//!
//! A mount process listens on a second socket beside that of its status ([`socket`]). A connection carries
//! one [`Order`], as one line of JSON, and then lines of JSON back, [`Word`]s, until the last one. Whoever
//! closes the connection takes the order back. Only the same user and root are heard.
//!
//! Not here: what is done ([`crate::mount`]), who asks and how it is shown ([`crate::cli`]).

pub mod socket;

pub use crate::mount::pending::Loss;
pub use crate::mount::warm::Warmth;
pub use crate::mount::watch::{Kind, What};
use crate::path_text::PathText;
use serde::{Deserialize, Serialize};
pub use socket::{ControlSocket, Listener};

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "kebab-case")]
pub enum Order {
    /// Bring what is beneath a path to the disk cache.
    Warm {
        /// Beneath the mount point.
        path: PathText,
        /// Only say how much is here.
        check: bool,
    },
    /// The same, and keep it there.
    Pin {
        /// Beneath the mount point.
        path: PathText,
    },
    /// Keep it no longer.
    Unpin {
        /// Beneath the mount point.
        path: PathText,
    },
    /// Wait until the host has all that programs were told is done.
    Drain,
    /// Tell what changes beneath a path, until the connection closes.
    Watch {
        /// Beneath the mount point.
        path: PathText,
    },
}

/// What a mount says about an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "word", rename_all = "kebab-case")]
pub enum Word {
    /// How far it is.
    Progress(Warmth),
    /// It is done.
    Done(Warmth),
    /// The host does not have all of it yet.
    Draining {
        /// Changes it has not answered.
        changes: u64,
        /// Bytes.
        bytes: u64,
        /// Whether it is there at all.
        connected: bool,
    },
    /// The host has answered to everything.
    Drained {
        /// Changes that were lost since this was asked last.
        lost: u64,
        /// The latest of them.
        losses: Vec<Loss>,
    },
    /// What changes from here on is told.
    Watching {
        /// Directories that are watched.
        directories: u64,
        /// Names in them.
        names: u64,
    },
    /// Something is not as it was.
    Change {
        /// What happened.
        what: What,
        /// To what, beneath the mount point.
        path: PathText,
        /// What it is, or was.
        kind: Kind,
    },
    /// It cannot be done.
    Failed {
        /// Why, as a part of a sentence.
        why: String,
    },
}
