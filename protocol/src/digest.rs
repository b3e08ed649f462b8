//! What a listing says, in 32 bytes: so that a mount can ask whether one it has still holds.
//!
//! Each entry is hashed (BLAKE3) in its wire form, name and all attributes. Of up to 4,096 entries the digest is the
//! hash of these hashes in ascending order. Of more it is the hash of how many there are and of their sum: each hash is
//! drawn out to 1,024 numbers of 16 bits, and these are added one by one (LtHash: Bellare and Micciancio, "A new
//! paradigm for collision-free hashing", 1997; Lewi et al., "Securing update propagation with homomorphic hashing",
//! IACR ePrint 2019/227). So it does not depend on the order in which a directory is read, and making one takes
//! at most 130 KiB, whatever the directory.
//!
//! Listings beyond [`LIST_DIGEST_ENTRIES_MAX`] have no digest: it bounds what asking costs a host.

use crate::codec::{Decode, Encode, encode_into};
use crate::limits::LIST_DIGEST_ENTRIES_MAX;
use crate::message::Entry;

/// The digest of a listing: equal ones mean the same names with the same attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub struct ListingDigest(pub [u8; 32]);

/// Up to so many hashes are kept to be sorted, which is quicker than to add them up.
const SORTED_MAX: usize = 4096;
/// Bytes a digester takes at the most.
pub const DIGESTER_BYTES: usize = SORTED_MAX * size_of::<EntryHash>() + size_of::<Sum>();
/// Numbers in a sum.
const LANES: usize = 1024;
/// What keeps the hash of a sum apart from that of sorted hashes.
const SUM_CONTEXT: &str = "wormhole listing digest: sum of entries";

type EntryHash = [u8; 32];
type Sum = [u16; LANES];

/// Makes the digest of a listing from its entries, as they come.
#[derive(Debug, Default)]
pub struct ListingDigester {
    count: usize,
    /// Those that were not added to a sum.
    hashes: Vec<EntryHash>,
    /// Of all others, if there were too many to be sorted.
    sum: Option<Box<Sum>>,
    too_many: bool,
}

impl ListingDigester {
    /// Adds an entry. False if the listing is too long to have a digest: more need not be added.
    pub fn add(&mut self, entry: &Entry) -> bool {
        let mut hasher = blake3::Hasher::new();
        if self.count >= LIST_DIGEST_ENTRIES_MAX || encode_into(entry, &mut hasher).is_err() {
            self.too_many = true;
            return false;
        }
        if self.hashes.len() == SORTED_MAX {
            self.add_up();
        }
        self.count += 1;
        self.hashes.push(*hasher.finalize().as_bytes());
        true
    }

    /// The digest; none if there were too many entries.
    pub fn finish(mut self) -> Option<ListingDigest> {
        if self.too_many {
            return None;
        }
        if self.sum.is_some() {
            self.add_up();
        }
        let digest = match self.sum {
            Some(sum) => {
                let mut hasher = blake3::Hasher::new_derive_key(SUM_CONTEXT);
                hasher.update(&(self.count as u64).to_le_bytes());
                for lane in sum.iter() {
                    hasher.update(&lane.to_le_bytes());
                }
                hasher.finalize()
            }
            None => {
                self.hashes.sort_unstable();
                blake3::hash(self.hashes.as_flattened())
            }
        };
        Some(ListingDigest(*digest.as_bytes()))
    }

    /// Adds the hashes at hand to the sum.
    fn add_up(&mut self) {
        let sum = self.sum.get_or_insert_with(|| Box::new([0; LANES]));
        for hash in self.hashes.drain(..) {
            let mut drawn = [0; LANES * 2];
            blake3::Hasher::new()
                .update(&hash)
                .finalize_xof()
                .fill(&mut drawn);
            for (lane, bytes) in sum.iter_mut().zip(drawn.as_chunks().0) {
                *lane = lane.wrapping_add(u16::from_le_bytes(*bytes));
            }
        }
    }
}
