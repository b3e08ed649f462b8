//! Why an operation of the file system failed: the middle layer between the wire and errno.
//!
//! [`crate::rpc::CallError`] becomes [`FsError`] here; `fuse::convert` holds the one table to errno.

use crate::rpc::CallError;
use wormhole_protocol::Fault;

/// Why an operation failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum FsError {
    /// The host answered so.
    #[error("the host answered: {0:?}")]
    Fault(Fault),
    /// The name no longer leads to the node: look again.
    #[error("stale node")]
    Stale,
    /// The connection failed in a way that asking again does not mend, or the host lied.
    #[error("connection failed")]
    Io,
    /// No answer within the mount's timeout.
    #[error("no answer within the timeout")]
    TimedOut,
    /// Not a handle or node of this mount.
    #[error("no such handle")]
    BadHandle,
    /// A path that grew too long or too deep.
    #[error("path too long")]
    NameTooLong,
    /// As many files are open as may be.
    #[error("too many open files")]
    TooManyOpen,
    /// A value larger than the caller's buffer.
    #[error("does not fit the buffer")]
    Range,
    /// The process that asked was killed meanwhile.
    #[error("the caller was killed")]
    Killed,
}

impl From<CallError> for FsError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Fault(Fault::Stale) => Self::Stale,
            CallError::Fault(fault) => Self::Fault(fault),
            CallError::Link | CallError::Violation | CallError::Restarted => Self::Io,
            CallError::TimedOut => Self::TimedOut,
        }
    }
}
