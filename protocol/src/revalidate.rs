//! Many listings looked at anew in one request.
//!
//! A mount that comes back, after a lost link or a restart, has listings but no leases. It names directories and
//! the digests of what it has of them; the host reads each, and says which listings still hold. These are
//! leased then, if the session listens, as if each had been asked for by [`crate::Request::List`]. The others
//! the mount lists when it needs them.

use crate::attr::Attr;
use crate::codec::{Decode, Encode};
use crate::digest::ListingDigest;
use crate::message::NodeRef;

/// A listing a mount has.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub struct KnownListing {
    /// Of which directory.
    pub dir: NodeRef,
    /// Its digest.
    pub digest: ListingDigest,
}

/// What has become of a listing.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Verdict {
    /// It holds, as [`crate::Reply::Unchanged`] says.
    Holds {
        /// Attributes of the directory.
        attr: Attr,
        /// The directory is leased from now on.
        leased: bool,
    },
    /// It does not, or nobody knows.
    Changed,
}
