//! Files that come whole from somebody else than their reader: small ones fetched in bulk (`bulk`), and those that were
//! written here (`own_bytes`).
//!
//! They are claimed in the table of flights like all that is fetched, so a reader that comes meanwhile waits
//! for them, and nothing is fetched twice.

use super::Fetcher;
use crate::mount::inodes::Node;
use crate::mount::stats::add;
use bytes::Bytes;
use wormhole_cache::{Chunk, ChunkKey, Claimed, ContentKey};
use wormhole_protocol::limits::CHUNK_BYTES;
use wormhole_protocol::{Attr, BlockMask, ChunkIndex, ContentVersion, FileId};

/// The only chunk there is.
const FIRST: ChunkIndex = ChunkIndex(0);

/// A file that is to be brought. Dropping it gives that up: who waits for it asks for himself.
pub(in crate::mount) struct Whole {
    content: ContentKey,
    size: u32,
    claimed: Claimed,
}

impl Whole {
    /// Which file.
    pub(in crate::mount) fn file(&self) -> FileId {
        self.content.file
    }

    /// Its length.
    pub(in crate::mount) fn bytes(&self) -> u64 {
        self.size.into()
    }

    /// Whether somebody waits for it.
    pub(in crate::mount) fn has_waiters(&self) -> bool {
        self.claimed.has_waiters()
    }
}

impl Fetcher {
    /// Claims a file of one chunk; none if some of it is here, or under way.
    pub(in crate::mount) fn claim_whole(
        &self,
        file: FileId,
        version: ContentVersion,
        size: u32,
    ) -> Option<Whole> {
        if size == 0 || size as usize > CHUNK_BYTES {
            return None;
        }
        let share = self.share;
        let content = ContentKey {
            share,
            file,
            version,
        };
        let key = ChunkKey::new(content.digest(), FIRST);
        let all = BlockMask::covering(0, size as usize);
        if self.memory.get(&key).is_some() {
            return None;
        }
        let (_, claimed) = self.claim(key, FIRST, all)?;
        (claimed.mask() == all).then_some(Whole {
            content,
            size,
            claimed,
        })
    }

    /// Takes what the host said a file holds.
    pub(in crate::mount) fn bring(&self, mut whole: Whole, bytes: Bytes) {
        add(&self.read_stats.fetched_bytes, bytes.len() as u64);
        let chunk = Chunk::piece(0, bytes);
        self.memory.insert(whole.claimed.key(), chunk.clone());
        whole.claimed.publish(&chunk);
        if let Some(disk) = &self.disk {
            disk.store(&whole.content, whole.size.into(), FIRST, chunk);
        }
    }

    /// Takes bytes that the host vouched for: all of a file whose attributes are `attr`, a chunk each.
    pub(in crate::mount) fn keep(
        &self,
        node: &Node,
        attr: &Attr,
        chunks: impl Iterator<Item = Bytes>,
    ) {
        let content = self.key_of(node, attr);
        let digest = content.digest();
        for (index, bytes) in (0..).map(ChunkIndex).zip(chunks) {
            let chunk = Chunk::piece(0, bytes);
            self.memory
                .insert(ChunkKey::new(digest, index), chunk.clone());
            if let Some(disk) = &self.disk {
                disk.store(&content, attr.size, index, chunk);
            }
        }
    }

    /// Whether the disk cache surely has nothing of it: not even another thread need look.
    pub(in crate::mount) fn disk_lacks(&self, whole: &Whole) -> bool {
        let wants = [whole.claimed.mask()];
        self.disk
            .as_ref()
            .is_none_or(|disk| disk.surely_lacks(&whole.content, whole.size.into(), FIRST, &wants))
    }

    /// Brings those that the disk cache has; the others come back.
    pub(in crate::mount) async fn bring_from_disk(&self, wholes: Vec<Whole>) -> Vec<Whole> {
        let Some(disk) = self.disk.clone() else {
            return wholes;
        };
        let read = move || {
            let read = |whole: Whole| {
                let want = whole.claimed.mask();
                let chunk = disk.read(&whole.content, whole.size.into(), FIRST, want);
                (whole, chunk)
            };
            wholes.into_iter().map(read).collect::<Vec<_>>()
        };
        let mut missing = Vec::new();
        for (mut whole, chunk) in tokio::task::spawn_blocking(read).await.unwrap_or_default() {
            if chunk.mask().contains(whole.claimed.mask()) {
                add(&self.read_stats.disk_bytes, chunk.bytes() as u64);
                self.memory.insert(whole.claimed.key(), chunk.clone());
                whole.claimed.publish(&chunk);
            } else {
                missing.push(whole);
            }
        }
        missing
    }

    /// Whether there is memory to fetch ahead into.
    pub(in crate::mount) fn keeps_ahead(&self) -> bool {
        self.l1_bytes >= 16 * CHUNK_BYTES as u64
    }
}
