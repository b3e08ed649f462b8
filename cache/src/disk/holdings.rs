//! What of a content is here, what is to be kept, and whole contents as files the kernel may read.

use crate::disk::content::Content;
use crate::disk::file;
use crate::disk::guard::{Hold, PinError, PinReport, PinRoom};
use crate::disk::layout::{FoundSlot, Header, mask_bytes};
use crate::disk::limits::{MASK_CHUNKS_MAX, PACKED_BYTES_MAX, RUN_CHUNKS_MAX};
use crate::disk::pins::PinnedContent;
use crate::disk::{Disk, chunk_len};
use crate::key::ContentKey;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use wormhole_protocol::limits::CHUNK_BYTES;
use wormhole_protocol::{BlockMask, ChunkIndex};

/// A file with all bytes of a content and no others, each checked. It neither changes nor is it evicted
/// for as long as this lives.
pub struct Whole {
    file: File,
    _hold: Hold,
}

impl AsFd for Whole {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Disk {
    /// Which blocks of `chunks` chunks there are, by what the index says: nothing is read or checked.
    /// Blocks the thread.
    pub fn masks(
        &self,
        content: &ContentKey,
        size: u64,
        first: ChunkIndex,
        chunks: usize,
    ) -> Vec<BlockMask> {
        let mut masks = Vec::with_capacity(chunks.min(MASK_CHUNKS_MAX));
        if let Some(header) = self.header(content, size) {
            self.add_masks(header, first, chunks, &mut masks);
        }
        masks.resize(chunks, BlockMask::EMPTY);
        masks
    }

    fn add_masks(
        &self,
        header: Header,
        first: ChunkIndex,
        chunks: usize,
        out: &mut Vec<BlockMask>,
    ) {
        let digest = header.key.digest();
        if header.size <= PACKED_BYTES_MAX {
            let size = u32::try_from(header.size).unwrap_or(u32::MAX);
            out.push(self.inner.packs.mask(&digest, size));
            return;
        }
        let there = header.size.div_ceil(CHUNK_BYTES as u64);
        let there = usize::try_from(there.saturating_sub(first.0)).unwrap_or(usize::MAX);
        let Some(content) = self.inner.content(header, digest) else {
            return;
        };
        let (mut at, mut left) = (first, chunks.min(there));
        while left > 0 {
            let step = left.min(MASK_CHUNKS_MAX);
            let Ok(slots) = content.slots(at, step) else {
                return;
            };
            out.extend(slots.iter().map(|slot| match slot {
                FoundSlot::Present(slot) => slot.mask,
                FoundSlot::Absent | FoundSlot::Damaged => BlockMask::EMPTY,
            }));
            at.0 += step as u64;
            left -= step;
        }
    }

    /// How many bytes of a content there are, by what the index says. Blocks the thread.
    pub fn held_bytes(&self, content: &ContentKey, size: u64) -> u64 {
        let chunks = size.div_ceil(CHUNK_BYTES as u64);
        let (mut at, mut held) = (0, 0);
        while at < chunks {
            let step = usize::try_from(chunks - at)
                .map_or(MASK_CHUNKS_MAX, |left| left.min(MASK_CHUNKS_MAX));
            let masks = self.masks(content, size, ChunkIndex(at), step);
            for (index, mask) in (at..).zip(masks) {
                let len = chunk_len(ChunkIndex(index), size);
                held += mask_bytes(mask, len) as u64;
            }
            at += step as u64;
        }
        held
    }

    /// Keeps `contents` (with their sizes) from being evicted, in place of what was pinned under `name`.
    /// They need not be here yet. Blocks the thread.
    ///
    /// # Errors
    /// [`PinError`]; what was pinned before still is, then.
    pub fn pin(&self, name: &[u8], contents: &[(ContentKey, u64)]) -> Result<(), PinError> {
        let contents = contents
            .iter()
            .filter_map(|(key, size)| self.header(key, *size))
            .map(|header| PinnedContent {
                digest: header.key.digest(),
                size: header.size,
            });
        self.inner.guard.pin(name, contents.collect())
    }

    /// Gives up a pin; whether there was one. Blocks the thread.
    ///
    /// # Errors
    /// If the list of pins cannot be written.
    pub fn unpin(&self, name: &[u8]) -> Result<bool, PinError> {
        self.inner.guard.unpin(name)
    }

    /// All pins, by name.
    pub fn pins(&self) -> Vec<PinReport> {
        self.inner.guard.reports()
    }

    /// What pins take of the budget, and what they may take.
    pub fn pin_room(&self) -> PinRoom {
        self.inner.guard.room()
    }

    /// Room a content of `size` bytes takes when all of it is here.
    pub fn room_of(&self, content: &ContentKey, size: u64) -> u64 {
        let digest = content.digest();
        PinnedContent { digest, size }.room()
    }

    /// A content as a file, if all of it is here; every byte is read and checked for that. `None` as well for
    /// contents that have no file of their own because they are small, and where too much is held already.
    /// Blocks the thread.
    pub fn open_whole(&self, content: &ContentKey, size: u64) -> Option<Whole> {
        let header = self.header(content, size)?;
        if size <= PACKED_BYTES_MAX {
            return None;
        }
        let digest = content.digest();
        let hold = self.inner.guard.hold(PinnedContent { digest, size })?;
        let content = self.inner.content(header, digest)?;
        let file = self.open_checked(&content).ok().flatten()?;
        Some(Whole { file, _hold: hold })
    }

    /// Whether a content was found to be whole and sound before, so that it will be opened without reading
    /// it all.
    pub fn is_known_whole(&self, content: &ContentKey) -> bool {
        self.inner.sound.lock().contains(&content.digest())
    }

    /// A descriptor of its own, which cannot write, of a content whose every byte was found sound: now, or
    /// earlier if the file is still as it was then.
    fn open_checked(&self, content: &Content) -> io::Result<Option<File>> {
        let digest = content.digest();
        let file = file::open_read(&self.inner.paths.data(&digest))?;
        let stamp = Stamp::of(&file)?;
        if self.inner.sound.lock().get(&digest) == Some(&stamp) {
            return Ok(Some(file));
        }
        // The one that is checked, and as long as the content: the kernel knows no other end.
        let is_meant = content.is_data(&file)? && stamp.len == content.header().size;
        if !is_meant || !is_sound(content)? || Stamp::of(&file)? != stamp {
            return Ok(None);
        }
        self.inner.sound.lock().push(digest, stamp);
        Ok(Some(file))
    }
}

/// A file as it was when it was checked: whoever writes to it changes its times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    inode: u64,
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self {
            inode: metadata.ino(),
            len: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

/// Whether all of a content is here, every byte as it was stored.
fn is_sound(content: &Content) -> io::Result<bool> {
    let chunks = content.chunks();
    let mut at = 0;
    while at < chunks {
        let step =
            usize::try_from(chunks - at).map_or(RUN_CHUNKS_MAX, |left| left.min(RUN_CHUNKS_MAX));
        let slots = content.slots(ChunkIndex(at), step)?;
        for (index, found) in (at..).zip(slots) {
            let index = ChunkIndex(index);
            let FoundSlot::Present(slot) = found else {
                return Ok(false);
            };
            if !content.is_whole(index, slot) || content.bytes_of(index, slot)?.verify().is_none() {
                return Ok(false);
            }
        }
        at += step as u64;
    }
    Ok(true)
}
