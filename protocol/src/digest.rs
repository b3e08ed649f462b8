//! What a listing says, in 32 bytes: so that a mount can ask whether one it has still holds.
//!
//! Each entry is hashed (BLAKE3) in its wire form, name and all attributes; the digest is the hash of
//! these hashes in ascending order. So it does not depend on the order in which a directory is read,
//! and making one takes 32 bytes for each entry, whatever its name.
//!
//! Listings beyond [`LIST_DIGEST_ENTRIES_MAX`] have no digest: it bounds what asking costs a host.

use crate::codec::{Decode, Encode, encode_into};
use crate::limits::LIST_DIGEST_ENTRIES_MAX;
use crate::message::Entry;

/// The digest of a listing: equal ones mean the same names with the same attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub struct ListingDigest(pub [u8; 32]);

/// Makes the digest of a listing from its entries, as they come.
#[derive(Debug, Default)]
pub struct ListingDigester {
    entries: Vec<[u8; 32]>,
    too_many: bool,
}

impl ListingDigester {
    /// Adds an entry. False if the listing is too long to have a digest: more need not be added.
    pub fn add(&mut self, entry: &Entry) -> bool {
        let mut hasher = blake3::Hasher::new();
        if self.entries.len() >= LIST_DIGEST_ENTRIES_MAX || encode_into(entry, &mut hasher).is_err()
        {
            self.too_many = true;
            return false;
        }
        self.entries.push(*hasher.finalize().as_bytes());
        true
    }

    /// The digest; none if there were too many entries.
    pub fn finish(mut self) -> Option<ListingDigest> {
        if self.too_many {
            return None;
        }
        self.entries.sort_unstable();
        let digest = blake3::hash(self.entries.as_flattened());
        Some(ListingDigest(*digest.as_bytes()))
    }
}
