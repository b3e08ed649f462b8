//! The closed set of errors a host may answer with.
//!
//! A fault is errno-shaped but not an errno: numbers differ between systems, and the set is closed so
//! that a mount need not guess. No text travels; what a user reads is made where it is shown.

use crate::codec::{Decode, Encode};

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident = $code:literal),* $(,)?) => {
        /// Why the host did not do what was asked. The number is also the code with which it resets
        /// the stream of a reply that was already under way.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
        pub enum Fault { $($(#[$doc])* $name),* }

        impl Fault {
            /// Every fault.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The number of this fault on a reset stream.
            pub const fn code(self) -> u32 {
                match self { $(Self::$name => $code),* }
            }

            /// The fault of a number; `None` for one this version does not know.
            pub const fn from_code(code: u32) -> Option<Self> {
                match code { $($code => Some(Self::$name),)* _ => None }
            }
        }
    };
}

faults! {
    /// Nothing of that name.
    NotFound = 1,
    /// The host's user may not do that.
    Denied = 2,
    /// The name leads to another node than the mount believes: look again.
    Stale = 3,
    /// Not a directory.
    NotDirectory = 4,
    /// A directory where a file was expected.
    IsDirectory = 5,
    /// Not of the kind the request is for.
    WrongKind = 6,
    /// A name or path too long for the host.
    NameTooLong = 7,
    /// Too many levels of symlinks, or one where none is followed.
    Loop = 8,
    /// The request makes no sense (range, name).
    Invalid = 9,
    /// The share is read-only.
    ReadOnly = 10,
    /// The host's disk failed.
    Io = 11,
    /// The host is out of a resource (descriptors, memory); later may work.
    Exhausted = 12,
    /// No such extended attribute.
    NoAttribute = 13,
    /// The value is larger than its limit.
    TooLarge = 14,
    /// The host's file system cannot do that.
    Unsupported = 15,
    /// The content changed while it was being read: ask again.
    Changed = 16,
    /// The host is shutting down.
    Closing = 17,
    /// There is something of that name.
    Exists = 18,
    /// The directory is not empty.
    NotEmpty = 19,
    /// No space left on the host's disk.
    NoSpace = 20,
    /// The host's user, or the one it acts as, has used up what it may.
    Quota = 21,
    /// Longer than a file may be there.
    FileTooLarge = 22,
    /// Not within one file system of the host.
    CrossDevice = 23,
    /// In use in a way that forbids it (a mount point).
    Busy = 24,
    /// As many names as a node may have.
    TooManyLinks = 25,
    /// A program that is running.
    TextBusy = 26,
    /// Somebody else has the lock.
    Locked = 27,
    /// Only a privileged user, or the owner, may do that.
    NotPermitted = 28,
    /// Neither data nor a hole from there on.
    NoData = 29,
    /// Nothing is open under that number.
    NotOpen = 30,
    /// The change was settled, as far as the host knows: its answer is gone.
    Settled = 31,
    /// Waiting for the lock would be waiting for oneself.
    Deadlock = 32,
}
