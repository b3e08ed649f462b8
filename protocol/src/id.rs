//! Identities: of a share, of a host's life, of a mount, of a file.
//!
//! None of these is secret; knowing one grants nothing.

use crate::codec::{Decode, Encode};
use std::fmt;

/// A share, for as long as the host keeps its state; caches are keyed by it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct ShareId(pub [u8; 16]);

impl fmt::Display for ShareId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for ShareId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ShareId({self})")
    }
}

/// One life of a host process; a restart begins a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Epoch(pub u64);

/// One mount, across its reconnects: chosen at random when it starts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub struct MountId(pub [u8; 16]);

impl fmt::Debug for MountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "MountId({a:02x}{b:02x}{c:02x}{d:02x}..)")
    }
}

/// A file on the host's disk, whatever its name: device, inode and time of birth, which tells a
/// reused inode number from the file that had it before (0 where the file system keeps none).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct FileId {
    /// Device number (`makedev(3)`).
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// Birth time in nanoseconds since 1970, truncated to 64 bits; 0 if unknown.
    pub birth: u64,
}
