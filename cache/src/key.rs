//! Names of cached content: share, file and version, never a path.

use wormhole_protocol::{ChunkIndex, ContentVersion, FileId, ShareId};

/// One version of one file of one share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContentKey {
    /// The share.
    pub share: ShareId,
    /// The file on the host.
    pub file: FileId,
    /// The version of its content.
    pub version: ContentVersion,
}

impl ContentKey {
    /// A digest short enough to key every chunk with; computed once per content.
    pub fn digest(&self) -> ContentDigest {
        let mut hasher = blake3::Hasher::new_derive_key("wormhole 2026-11 content digest");
        hasher.update(&self.share.0);
        hasher.update(&self.file.device.to_le_bytes());
        hasher.update(&self.file.inode.to_le_bytes());
        hasher.update(&self.file.birth.to_le_bytes());
        hasher.update(&self.version.0);
        let mut digest = [0; 16];
        hasher.finalize_xof().fill(&mut digest);
        ContentDigest(digest)
    }
}

/// The digest of a [`ContentKey`]: 128 bits, no two contents share one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentDigest(pub [u8; 16]);

/// One chunk of one content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChunkKey {
    content: ContentDigest,
    index: ChunkIndex,
}

impl ChunkKey {
    /// Chunk `index` of `content`.
    pub const fn new(content: ContentDigest, index: ChunkIndex) -> Self {
        Self { content, index }
    }

    /// Which chunk of its content.
    pub const fn index(&self) -> ChunkIndex {
        self.index
    }
}
