//! Bringing one file: what is missing, piece by piece, until nothing is.

use super::walk::Found;
use super::{Progress, name_of};
use crate::mount::error::FsError;
use crate::mount::fetch::Brought;
use crate::mount::vfs::Vfs;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use wormhole_cache::{ContentKey, Disk};
use wormhole_protocol::limits::{BLOCK_BYTES, CHUNK_BYTES};
use wormhole_protocol::{Attr, BlockMask, ChunkIndex};

/// Files fetched at a time: enough that round trips of small ones overlap.
pub(super) const FILES_MAX: usize = 32;
/// Bytes under way for all of them together; the queue of the disk cache takes as much again and more.
const BYTES_MAX: usize = 16 * 1024 * 1024;
/// Largest piece asked for at once.
const PIECE_CHUNKS: usize = 32;
/// Bytes that may wait for the disk before more is asked for.
const QUEUE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Rounds without a byte of progress before a file is given up, and the pause before another.
const FRUITLESS_MAX: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);

const _: () = assert!(PIECE_CHUNKS * CHUNK_BYTES <= BYTES_MAX / 4);

/// Fetches files of one mount.
pub(super) struct Files {
    vfs: Arc<Vfs>,
    disk: Arc<Disk>,
    bytes: Semaphore,
}

/// Chunks of which some blocks are missing.
type Piece = Vec<(ChunkIndex, BlockMask)>;

impl Files {
    pub(super) fn new(vfs: &Arc<Vfs>, disk: &Arc<Disk>) -> Self {
        Self {
            vfs: vfs.clone(),
            disk: disk.clone(),
            bytes: Semaphore::new(BYTES_MAX),
        }
    }

    /// Brings a file of which `held` bytes are here. Says what is, if all of it is in the end, and its size.
    pub(super) async fn bring(
        &self,
        file: Found,
        held: u64,
        progress: &Progress,
    ) -> (Option<(ContentKey, u64)>, u64) {
        let Found { looked, attr } = &file;
        progress.here_bytes.fetch_add(held, Relaxed);
        let here = match held == attr.size {
            true => Ok((self.vfs.fetcher().key_of(&looked.node, attr), held)),
            false => self.bring_versions(&file, held, progress).await,
        };
        match here {
            Ok((key, size)) => {
                self.check(key, size).await;
                progress.here_files.fetch_add(1, Relaxed);
                (Some((key, size)), size)
            }
            Err(error) => {
                progress.fail(&name_of(&looked.node), error);
                (None, looked.node.attr().size)
            }
        }
    }

    /// Has a content checked that the kernel may be given to read by itself, so that nobody who opens it waits
    /// for that.
    async fn check(&self, key: ContentKey, size: u64) {
        if self.vfs.passthrough().takes(size) && !self.disk.is_known_whole(&key) {
            let disk = self.disk.clone();
            let check = move || drop(disk.open_whole(&key, size));
            // If it is not sound, whoever opens it will find that out as well.
            let _ = tokio::task::spawn_blocking(check).await;
        }
    }

    /// As often as the file changes; one that never rests is given up.
    async fn bring_versions(
        &self,
        file: &Found,
        held: u64,
        progress: &Progress,
    ) -> Result<(ContentKey, u64), FsError> {
        let node = &file.looked.node;
        let (mut attr, mut held, mut fruitless) = (file.attr, held, 0);
        loop {
            let before = held;
            let brought = self.bring_missing(file, &attr).await?;
            let now = node.attr();
            if brought == Brought::Changed || now.version != attr.version {
                attr = now;
            }
            let key = self.vfs.fetcher().key_of(node, &attr);
            held = self.flushed(key, attr.size).await;
            progress.here_bytes.fetch_add(held, Relaxed);
            progress.here_bytes.fetch_sub(before, Relaxed);
            if held == attr.size {
                return Ok((key, attr.size));
            }
            fruitless = if held > before { 0 } else { fruitless + 1 };
            if fruitless > FRUITLESS_MAX {
                // It changes all the time, or the disk takes nothing.
                return Err(FsError::Io);
            }
            // Somebody else may be fetching what is missing.
            tokio::time::sleep(PAUSE * fruitless).await;
        }
    }

    /// Asks once for everything that is missing.
    async fn bring_missing(&self, file: &Found, attr: &Attr) -> Result<Brought, FsError> {
        let (node, fetcher) = (&file.looked.node, self.vfs.fetcher());
        let key = fetcher.key_of(node, attr);
        let mut at = ChunkIndex(0);
        while at.offset() < attr.size {
            let (piece, next) = self.missing(key, attr.size, at).await;
            at = next;
            if piece.is_empty() {
                continue;
            }
            let _room = self.room_for(&piece).await;
            if fetcher.bring_to_disk(node, attr, &piece).await? == Brought::Changed {
                return Ok(Brought::Changed);
            }
            if self.disk.stats().queue_bytes > QUEUE_BYTES_MAX {
                self.flushed(key, 0).await;
            }
        }
        Ok(Brought::Handed)
    }

    /// What is missing of the next piece of a file, and where the one after begins.
    async fn missing(&self, key: ContentKey, size: u64, at: ChunkIndex) -> (Piece, ChunkIndex) {
        let disk = self.disk.clone();
        let left = ChunkIndex::of(size - 1).0 + 1 - at.0;
        let chunks = usize::try_from(left).map_or(PIECE_CHUNKS, |left| left.min(PIECE_CHUNKS));
        let masks = tokio::task::spawn_blocking(move || disk.masks(&key, size, at, chunks)).await;
        let masks = masks.unwrap_or_else(|_| vec![BlockMask::EMPTY; chunks]);
        let piece = (at.0..)
            .zip(masks)
            .map(|(index, mask)| {
                let index = ChunkIndex(index);
                let all = BlockMask::covering(0, index.len_in(size));
                (index, all.minus(mask))
            })
            .filter(|(_, missing)| !missing.is_empty());
        (piece.collect(), ChunkIndex(at.0 + chunks as u64))
    }

    async fn room_for(&self, piece: &Piece) -> Option<SemaphorePermit<'_>> {
        let blocks: usize = piece.iter().map(|(_, mask)| mask.count()).sum();
        let bytes = u32::try_from(blocks * BLOCK_BYTES).unwrap_or(u32::MAX);
        // Never closed.
        self.bytes.acquire_many(bytes).await.ok()
    }

    /// How many bytes are here once all that was handed over is written.
    async fn flushed(&self, key: ContentKey, size: u64) -> u64 {
        let disk = self.disk.clone();
        let held = tokio::task::spawn_blocking(move || {
            disk.flush();
            disk.held_bytes(&key, size)
        });
        held.await.unwrap_or(0)
    }
}
