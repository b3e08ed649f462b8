//! Room for the dirty data of a mount: bounded memory, shared by all its files.
//!
//! Room is given in the order it was asked for, so that one file cannot starve the others. Whoever waits
//! for it presses: as long as somebody does, no file holds back what it could send.

use super::spares::Spares;
use super::{MOUNT_SEGMENTS_MAX, PAGE_BYTES, SEGMENT_BYTES};
use crate::mount::stats::{BufferSnapshot, BufferStats, add};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use tokio::sync::{Semaphore, SemaphorePermit, watch};

/// Why waiting for a semaphore cannot fail.
const NEVER_CLOSED: &str = "nobody closes this semaphore";

/// Bounded memory of all dirty data of a mount.
pub struct WriteBuffer {
    free: Semaphore,
    pages: u32,
    /// Segments that may be under way besides.
    slots: Semaphore,
    /// How many wait for room.
    pressing: AtomicUsize,
    /// Changes whenever one begins to.
    pressed: watch::Sender<()>,
    /// Memory of segments that were sent.
    pub(super) spares: Arc<Spares>,
    pub(super) stats: BufferStats,
}

impl WriteBuffer {
    /// Room for `bytes`, at least a page.
    pub fn new(bytes: u64) -> Arc<Self> {
        let pages = u32::try_from(bytes / PAGE_BYTES as u64).unwrap_or(u32::MAX);
        let pages = pages.max(1);
        Arc::new(Self {
            free: Semaphore::new(pages as usize),
            pages,
            slots: Semaphore::new(MOUNT_SEGMENTS_MAX),
            pressing: AtomicUsize::new(0),
            pressed: watch::Sender::new(()),
            spares: Spares::new(pages as usize * PAGE_BYTES),
            stats: BufferStats::default(),
        })
    }

    /// Its figures.
    pub fn stats(&self) -> BufferSnapshot {
        self.stats.snapshot()
    }

    /// Sends everything, of all files, and waits until all was answered. What is written meanwhile waits until then.
    pub async fn drain(&self) {
        let _press = self.press();
        let all = self.free.acquire_many(self.pages);
        drop(all.await.expect(NEVER_CLOSED));
    }

    /// Room for the head of a write of `bytes`, which may be longer than can be had at once. Waits for it.
    pub(super) async fn room(&self, bytes: usize) -> Room<'_> {
        let pages = u32::try_from(bytes.min(SEGMENT_BYTES).div_ceil(PAGE_BYTES));
        let pages = pages.map_or(self.pages, |pages| pages.min(self.pages));
        let permit = match self.free.try_acquire_many(pages) {
            Ok(permit) => permit,
            Err(_) => {
                add(&self.stats.waits, 1);
                let _press = self.press();
                self.free.acquire_many(pages).await.expect(NEVER_CLOSED)
            }
        };
        Room { permit }
    }

    /// Takes back what [`Room::keep`] kept.
    pub(super) fn free(&self, pages: usize) {
        self.free.add_permits(pages);
    }

    /// Waits until one more segment may be under way.
    pub(super) async fn slot(&self) -> SemaphorePermit<'_> {
        self.slots.acquire().await.expect(NEVER_CLOSED)
    }

    /// Whether somebody waits for room.
    pub(super) fn is_pressed(&self) -> bool {
        self.pressing.load(SeqCst) > 0
    }

    /// Tells when somebody begins to wait for room.
    pub(super) fn pressed(&self) -> watch::Receiver<()> {
        self.pressed.subscribe()
    }

    fn press(&self) -> Press<'_> {
        self.pressing.fetch_add(1, SeqCst);
        self.pressed.send_replace(());
        Press(self)
    }
}

/// Somebody waits for room.
struct Press<'a>(&'a WriteBuffer);

impl Drop for Press<'_> {
    fn drop(&mut self) {
        self.0.pressing.fetch_sub(1, SeqCst);
    }
}

/// Room for some bytes; what is not kept is given back.
pub(super) struct Room<'a> {
    permit: SemaphorePermit<'a>,
}

impl Room<'_> {
    /// How many bytes have room.
    pub(super) fn bytes(&self) -> usize {
        self.permit.num_permits() * PAGE_BYTES
    }

    /// Keeps `pages` until they are [freed](WriteBuffer::free).
    pub(super) fn keep(mut self, pages: usize) {
        if let Some(kept) = self.permit.split(pages) {
            kept.forget();
        }
    }
}
