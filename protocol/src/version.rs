//! The history of the wire, and what can be negotiated.

use crate::codec::{Decode, Encode};

/// One line per change of the wire; the newest last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u16)]
pub enum WireVersion {
    /// 2026-11: hello, lookup, getattr, readlink, list, read, statfs, getxattr, listxattr.
    V1 = 1,
    /// 2026-11: a listing can be asked for by the digest of the one that is known, and be unchanged.
    V2 = 2,
    /// 2026-11: changes, opens, locks, seeking.
    V3 = 3,
    /// 2026-11: leases, pushes.
    V4 = 4,
    /// 2026-11: attributes say whether there are extended ones; an open may cut the file.
    V5 = 5,
    /// 2026-11: attributes can be set and a file made durable as it is written; a directory that was made comes with a lease.
    V6 = 6,
}

impl WireVersion {
    /// The oldest this build still speaks; no build with an older one was ever released.
    pub const OLDEST: Self = Self::V6;
    /// The newest this build speaks.
    pub const NEWEST: Self = Self::V6;

    /// Its number on the wire.
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// The newest version within both this build's range and the peer's `oldest..=newest`.
    pub fn common(oldest: u16, newest: u16) -> Option<Self> {
        [Self::V6]
            .into_iter()
            .rev()
            .find(|v| (oldest..=newest).contains(&v.number()))
    }
}

/// The protocol's name in the TLS handshake (ALPN, RFC 7301). The number changes only when the hello
/// itself does; everything after it is negotiated by [`WireVersion`] and [`Features`].
pub const ALPN: &[u8] = b"wormhole/1";

/// A set of optional abilities; a session uses those both sides named. Unknown bits are ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Encode, Decode)]
pub struct Features(pub u64);

impl Features {
    /// What this build can do beyond the wire version: nothing yet.
    pub const SUPPORTED: Self = Self(0);

    /// What both sides can do.
    pub const fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}
