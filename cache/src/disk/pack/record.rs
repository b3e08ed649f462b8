//! One content in a pack: its head, its payload, and what makes both believable.

use crate::chunk::Chunk;
use crate::disk::content::chunk_of;
use crate::disk::file;
use crate::disk::layout::{array, mask_bytes};
use crate::disk::limits::PACKED_BYTES_MAX;
use crate::key::ContentDigest;
use bytes::Bytes;
use std::fs::File;
use std::io;
use wormhole_protocol::BlockMask;

const MAGIC: u32 = u32::from_le_bytes(*b"whpk");
/// Bytes of a record before its payload.
pub(crate) const RECORD_BYTES: usize = 72;
const CHECKED_BYTES: usize = 64;

/// The head of a record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record {
    pub(crate) mask: BlockMask,
    pub(crate) size: u32,
    pub(crate) payload: u32,
    pub(crate) digest: ContentDigest,
    pub(crate) hash: [u8; 32],
}

impl Record {
    pub(crate) fn encode(&self) -> [u8; RECORD_BYTES] {
        let mut bytes = [0; RECORD_BYTES];
        bytes[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.mask.0.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.size.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.payload.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.digest.0);
        bytes[32..64].copy_from_slice(&self.hash);
        let check = blake3::hash(&bytes[..CHECKED_BYTES]);
        bytes[CHECKED_BYTES..].copy_from_slice(&check.as_bytes()[..8]);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; RECORD_BYTES]) -> Option<Self> {
        let word = |at| u32::from_le_bytes(array(bytes, at));
        let record = Self {
            mask: BlockMask(word(4)),
            size: word(8),
            payload: word(12),
            digest: ContentDigest(array(bytes, 16)),
            hash: array(bytes, 32),
        };
        let small = u64::from(record.size.max(record.payload)) <= PACKED_BYTES_MAX;
        (small && record.encode() == *bytes).then_some(record)
    }

    pub(crate) const fn is_dead(&self) -> bool {
        self.mask.is_empty()
    }

    /// The chunk, if the payload is what was stored.
    pub(crate) fn verify(&self, payload: Bytes) -> Option<Chunk> {
        let len = self.size as usize;
        let sound = BlockMask::covering(0, len).contains(self.mask)
            && payload.len() == mask_bytes(self.mask, len)
            && *blake3::hash(&payload).as_bytes() == self.hash;
        sound.then(|| chunk_of(self.mask, &payload, len))
    }
}

/// Hops over the records of a pack; the offset where sound ones end.
pub(crate) fn records(file: &File, mut found: impl FnMut(u32, Record)) -> io::Result<u64> {
    let len = file.metadata()?.len().min(u64::from(u32::MAX));
    let mut at = 0;
    loop {
        let mut head = [0; RECORD_BYTES];
        if file::read_at(file, &mut head, at)? < RECORD_BYTES {
            return Ok(at);
        }
        let Some(record) = Record::decode(&head) else {
            return Ok(at);
        };
        let next = at + (RECORD_BYTES as u64) + u64::from(record.payload);
        if next > len {
            return Ok(at);
        }
        found(u32::try_from(at).map_err(io::Error::other)?, record);
        at = next;
    }
}

/// Reads the record at `offset` with a payload of `payload` bytes.
pub(crate) fn read_record(
    file: &File,
    offset: u32,
    payload: u32,
) -> io::Result<Option<(Record, Bytes)>> {
    let len = RECORD_BYTES + payload as usize;
    let mut bytes = Vec::with_capacity(len);
    file::append_from(file, u64::from(offset), len, &mut bytes)?;
    if bytes.len() < len {
        return Ok(None);
    }
    let record = Record::decode(&array(&bytes, 0)).filter(|r| r.payload == payload);
    Ok(record.map(|record| (record, Bytes::from(bytes).slice(RECORD_BYTES..))))
}

/// Marks a record as damaged, so that no later scan believes it.
pub(crate) fn kill(
    file: &File,
    offset: u32,
    payload: u32,
    digest: ContentDigest,
) -> io::Result<()> {
    let dead = Record {
        mask: BlockMask::EMPTY,
        size: 0,
        payload,
        digest,
        hash: [0; 32],
    };
    file::write_at(file, &dead.encode(), u64::from(offset))
}
