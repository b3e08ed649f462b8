//! The bytes on disk: names, header, slots. No I/O here.
//!
//! ```text
//! <root>/<share>/lock                       flock, pid of the owner
//! <root>/<share>/format                     "wormhole cache 1 <share>"
//! <root>/<share>/data/<2>/<30>.data         byte i of the content at offset i, sparse
//! <root>/<share>/data/<2>/<30>.index        header, then one slot per chunk, sparse
//! <root>/<share>/packs/<8>.pack             small contents, see `pack`
//! <root>/<share>/pins                       what is never evicted, see `pins`
//! ```
//! All numbers are little endian. A slot of zeros is an absent chunk.

use crate::key::{ContentDigest, ContentKey};
use std::path::{Path, PathBuf};
use wormhole_protocol::limits::BLOCK_BYTES;
use wormhole_protocol::{BlockMask, ChunkIndex, ContentVersion, FileId, ShareId};

/// Version of everything here; another one is not read.
pub(crate) const FORMAT: u32 = 1;
/// Bytes before the first slot.
pub(crate) const HEADER_BYTES: usize = 128;
/// Bytes of a slot.
pub(crate) const SLOT_BYTES: usize = 48;

const MAGIC: [u8; 8] = *b"wormhidx";
const CHECKED_BYTES: usize = HEADER_BYTES - 32;

/// What the head of an index file says whose chunks these are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) key: ContentKey,
    pub(crate) size: u64,
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.key.share.0);
        bytes[32..40].copy_from_slice(&self.key.file.device.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.key.file.inode.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.key.file.birth.to_le_bytes());
        bytes[56..72].copy_from_slice(&self.key.version.0);
        bytes[72..80].copy_from_slice(&self.size.to_le_bytes());
        let sum = blake3::hash(&bytes[..CHECKED_BYTES]);
        bytes[CHECKED_BYTES..].copy_from_slice(sum.as_bytes());
        bytes
    }

    /// `None` if the checksum, the magic or the format is another.
    pub(crate) fn decode(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let header = Self {
            key: ContentKey {
                share: ShareId(array(bytes, 16)),
                file: FileId {
                    device: u64_at(bytes, 32),
                    inode: u64_at(bytes, 40),
                    birth: u64_at(bytes, 48),
                },
                version: ContentVersion(array(bytes, 56)),
            },
            size: u64_at(bytes, 72),
        };
        // Encoding is deterministic: what encodes to the same bytes has magic, format and sum right.
        (header.encode() == *bytes).then_some(header)
    }
}

/// What the index says of one chunk: which blocks are present, and the hash of their bytes in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) mask: BlockMask,
    pub(crate) hash: [u8; 32],
}

/// A slot as it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FoundSlot {
    Absent,
    Damaged,
    Present(Slot),
}

impl Slot {
    pub(crate) fn encode(&self, digest: &ContentDigest, index: ChunkIndex) -> [u8; SLOT_BYTES] {
        let mut bytes = [0; SLOT_BYTES];
        bytes[0..4].copy_from_slice(&self.mask.0.to_le_bytes());
        bytes[8..40].copy_from_slice(&self.hash);
        let mut hasher = blake3::Hasher::new();
        hasher.update(&bytes[..40]);
        hasher.update(&digest.0);
        hasher.update(&index.0.to_le_bytes());
        bytes[40..48].copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        bytes
    }

    /// Reads the slot of chunk `index`, of which the file has `len` bytes. A slot copied from another
    /// chunk or content is damaged, and so is one that names blocks beyond the end.
    pub(crate) fn decode(
        bytes: &[u8; SLOT_BYTES],
        digest: &ContentDigest,
        index: ChunkIndex,
        len: usize,
    ) -> FoundSlot {
        if *bytes == [0; SLOT_BYTES] {
            return FoundSlot::Absent;
        }
        let slot = Self {
            mask: BlockMask(u32::from_le_bytes(array(bytes, 0))),
            hash: array(bytes, 8),
        };
        let whole = BlockMask::covering(0, len);
        if slot.mask.is_empty()
            || !whole.contains(slot.mask)
            || slot.encode(digest, index) != *bytes
        {
            return FoundSlot::Damaged;
        }
        FoundSlot::Present(slot)
    }

    /// Where the slot of chunk `index` stands in the index file.
    pub(crate) const fn offset(index: ChunkIndex) -> u64 {
        HEADER_BYTES as u64 + index.0 * SLOT_BYTES as u64
    }
}

/// How many bytes the blocks `mask` have in a chunk of `len` bytes.
pub(crate) fn mask_bytes(mask: BlockMask, len: usize) -> usize {
    mask.runs()
        .map(|run| {
            (run.end * BLOCK_BYTES)
                .min(len)
                .saturating_sub(run.start * BLOCK_BYTES)
        })
        .sum()
}

/// Paths of one share's cache.
#[derive(Debug, Clone)]
pub(crate) struct SharePaths {
    pub(crate) dir: PathBuf,
}

impl SharePaths {
    pub(crate) fn new(root: &Path, share: ShareId) -> Self {
        Self {
            dir: root.join(share.to_string()),
        }
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.dir.join("lock")
    }

    pub(crate) fn format(&self) -> PathBuf {
        self.dir.join("format")
    }

    pub(crate) fn pins(&self) -> PathBuf {
        self.dir.join("pins")
    }

    pub(crate) fn tree(&self) -> PathBuf {
        self.dir.join("tree")
    }

    /// The next [`Self::tree`] while it is being written.
    pub(crate) fn new_tree(&self) -> PathBuf {
        self.dir.join("tree.new")
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    pub(crate) fn packs_dir(&self) -> PathBuf {
        self.dir.join("packs")
    }

    pub(crate) fn data(&self, digest: &ContentDigest) -> PathBuf {
        self.content(digest, "data")
    }

    pub(crate) fn index(&self, digest: &ContentDigest) -> PathBuf {
        self.content(digest, "index")
    }

    fn content(&self, digest: &ContentDigest, kind: &str) -> PathBuf {
        let hex = hex(&digest.0);
        let (group, name) = hex.split_at(2);
        self.data_dir().join(group).join(format!("{name}.{kind}"))
    }

    pub(crate) fn pack(&self, number: u32) -> PathBuf {
        self.packs_dir().join(format!("{number:08x}.pack"))
    }
}

/// What the `format` file of a share says.
pub(crate) fn format_line(share: ShareId) -> String {
    format!("wormhole cache {FORMAT} {share}\n")
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The 16 bytes a hexadecimal text of 32 digits stands for.
pub(crate) fn unhex(text: &str) -> Option<[u8; 16]> {
    let text = text.as_bytes();
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    if text.len() != 32 {
        return None;
    }
    let mut bytes = [0; 16];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

/// The `N` bytes at `at`, which the caller knows to be there.
pub(crate) fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(bytes, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_of_a_header_or_slot_is_found() {
        let header = crate::disk::tests::header(3, 9 << 20);
        let bytes = header.encode();
        assert_eq!(Header::decode(&bytes), Some(header));
        for bit in 0..HEADER_BYTES * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::decode(&bad), None, "bit {bit}");
        }

        let digest = header.key.digest();
        let slot = Slot {
            mask: BlockMask(0b1011),
            hash: [7; 32],
        };
        let bytes = slot.encode(&digest, ChunkIndex(5));
        let decode = |b: &_, i| Slot::decode(b, &digest, ChunkIndex(i), 128 << 10);
        assert_eq!(decode(&bytes, 5), FoundSlot::Present(slot));
        assert_eq!(decode(&bytes, 6), FoundSlot::Damaged);
        assert_eq!(decode(&[0; SLOT_BYTES], 5), FoundSlot::Absent);
        for bit in 0..SLOT_BYTES * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&bad, 5), FoundSlot::Damaged, "bit {bit}");
        }
        // A valid slot that names a block beyond the end of the file.
        let short = Slot::decode(&bytes, &digest, ChunkIndex(5), 4096);
        assert_eq!(short, FoundSlot::Damaged);
    }

    #[test]
    fn hexadecimal_names_come_back() {
        let digest = [0xa5; 16];
        assert_eq!(unhex(&hex(&digest)), Some(digest));
        assert_eq!(unhex("zz"), None);
        assert_eq!(unhex(&"A5".repeat(16)), None);
    }
}
