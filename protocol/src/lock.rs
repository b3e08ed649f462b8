//! Locks, as a mount asks for them: `flock(2)` and those of `fcntl(2)`.
//!
//! Not here: how long the host keeps them (`change`, on opens), and who waits.

use crate::change::OpenId;
use crate::codec::{Decode, Encode, validated};
use crate::limits::OFFSET_MAX;

/// Whose lock it is: a process or an open file of the mounting machine, opaque to the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct LockOwner(pub u64);

/// Which kind of lock; the two know nothing of each other, as on Linux.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub enum LockKind {
    /// Of an extent, of a process or an open file (`fcntl(2)`).
    Record,
    /// Of a whole file, of an open file (`flock(2)`).
    Flock,
}

/// How a lock excludes others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub enum LockMode {
    /// Those who want it for themselves.
    Shared,
    /// All others.
    Exclusive,
}

/// A lock: of what, whose, how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Lock {
    /// Through which open file.
    pub open: OpenId,
    /// Whose.
    pub owner: LockOwner,
    /// Which kind.
    pub kind: LockKind,
    /// First byte, and the last one (`u64::MAX`: however long the file gets). All of the file for
    /// [`LockKind::Flock`].
    pub range: LockRange,
}

/// The bytes of a lock: first and last, both included; the last is `OFFSET_MAX` for "to the end".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LockRange((u64, u64));

impl LockRange {
    /// All of a file.
    pub const ALL: Self = Self((0, OFFSET_MAX));

    /// From `first` to `last`, both included; `None` if that is nothing. What lies beyond `off_t` is cut.
    pub const fn new(first: u64, last: u64) -> Option<Self> {
        let last = if last > OFFSET_MAX { OFFSET_MAX } else { last };
        if first <= last {
            Some(Self((first, last)))
        } else {
            None
        }
    }

    /// First byte.
    pub const fn first(self) -> u64 {
        self.0.0
    }

    /// Last byte.
    pub const fn last(self) -> u64 {
        self.0.1
    }
}

impl TryFrom<(u64, u64)> for LockRange {
    type Error = ();
    fn try_from((first, last): (u64, u64)) -> Result<Self, ()> {
        match Self::new(first, last) {
            Some(range) if range.last() == last => Ok(range),
            _ => Err(()),
        }
    }
}
validated!(LockRange, (u64, u64), |r: &LockRange| &r.0);

/// Somebody's lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct LockConflict {
    /// Of which bytes.
    pub range: LockRange,
    /// How it excludes others.
    pub mode: LockMode,
}
