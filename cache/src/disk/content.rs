//! The two files of one content: its bytes and its index.
//!
//! Readers may call at any time. Only the writer thread changes files, data first and slot second, and
//! never bytes that a valid slot promises; so whoever reads a slot and then its bytes sees both from
//! the same state or finds that the hash does not fit.
//!
//! What comes from disk is [`Unverified`] until its hash was compared.

use crate::chunk::Chunk;
use crate::disk::file;
use crate::disk::layout::{FoundSlot, HEADER_BYTES, Header, SLOT_BYTES, SharePaths, Slot, array};
use crate::key::ContentDigest;
use bytes::Bytes;
use rustix::fs::{FallocateFlags, SeekFrom, fallocate, seek};
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, UNIX_EPOCH};
use wormhole_protocol::limits::{BLOCK_BYTES, CHUNK_BYTES};
use wormhole_protocol::{BlockMask, ChunkIndex};

use super::layout::mask_bytes;
use super::limits::WRITE_SLICES_MAX;

/// Open files of one content.
#[derive(Debug)]
pub(crate) struct Content {
    data: File,
    index: File,
    header: Header,
    digest: ContentDigest,
    /// When the last use was last written to the index file's time; seconds since 1970.
    persisted_secs: AtomicU64,
}

/// Why a content could not be opened.
#[derive(Debug)]
pub(crate) enum OpenFailure {
    Absent,
    /// It is not what was asked for, or its header is damaged.
    Foreign,
    Io(io::Error),
}

impl From<io::Error> for OpenFailure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Absent,
            _ => Self::Io(error),
        }
    }
}

/// The present bytes of a chunk as they were found on disk.
pub(crate) struct Unverified {
    slot: Slot,
    bytes: Bytes,
    len: usize,
}

impl Unverified {
    /// The chunk, if the bytes are those that were stored.
    pub(crate) fn verify(self) -> Option<Chunk> {
        let whole = self.bytes.len() == mask_bytes(self.slot.mask, self.len);
        if !whole || *blake3::hash(&self.bytes).as_bytes() != self.slot.hash {
            return None;
        }
        Some(chunk_of(self.slot.mask, &self.bytes, self.len))
    }
}

/// Builds a chunk of `len` bytes from its present bytes in order.
pub(crate) fn chunk_of(mask: BlockMask, bytes: &Bytes, len: usize) -> Chunk {
    let mut at = 0;
    mask.runs().fold(Chunk::empty(), |chunk, run| {
        let run_len = (run.end * BLOCK_BYTES).min(len) - run.start * BLOCK_BYTES;
        let piece = Chunk::piece(run.start, bytes.slice(at..at + run_len));
        at += run_len;
        chunk.merge(&piece)
    })
}

/// The slot's hash of a chunk.
pub(crate) fn slot_of(chunk: &Chunk) -> Slot {
    let mut hasher = blake3::Hasher::new();
    for (_, bytes) in chunk.parts() {
        hasher.update(bytes);
    }
    Slot {
        mask: chunk.mask(),
        hash: *hasher.finalize().as_bytes(),
    }
}

impl Content {
    /// Opens the files of `header.key`, which must say exactly `header`.
    pub(crate) fn open(
        paths: &SharePaths,
        header: Header,
        digest: ContentDigest,
    ) -> Result<Self, OpenFailure> {
        let index = file::open(&paths.index(&digest))?;
        let data = file::open(&paths.data(&digest))?;
        let mut head = [0; HEADER_BYTES];
        let read = file::read_at(&index, &mut head, 0)?;
        if read == 0 {
            // The writer is just making it.
            return Err(OpenFailure::Absent);
        }
        if read < HEADER_BYTES || Header::decode(&head) != Some(header) {
            return Err(OpenFailure::Foreign);
        }
        Ok(Self {
            data,
            index,
            header,
            digest,
            persisted_secs: AtomicU64::new(0),
        })
    }

    /// Opens a content whatever its header says, as long as that is sound and of this digest.
    pub(crate) fn open_any(paths: &SharePaths, digest: ContentDigest) -> Result<Self, OpenFailure> {
        let index = file::open(&paths.index(&digest))?;
        let mut head = [0; HEADER_BYTES];
        let read = file::read_at(&index, &mut head, 0)?;
        let header = Header::decode(&head).filter(|header| header.key.digest() == digest);
        match header {
            Some(header) if read == HEADER_BYTES => Self::open(paths, header, digest),
            _ => Err(OpenFailure::Foreign),
        }
    }

    /// Makes empty files. Whatever was there is gone.
    pub(crate) fn create(
        paths: &SharePaths,
        header: Header,
        digest: ContentDigest,
    ) -> io::Result<Self> {
        let (data, index) = (paths.data(&digest), paths.index(&digest));
        file::remove(&index)?;
        file::remove(&data)?;
        if let Some(dir) = data.parent() {
            file::make_dir(dir)?;
        }
        let content = Self {
            data: file::create(&data)?,
            index: file::create(&index)?,
            header,
            digest,
            persisted_secs: AtomicU64::new(0),
        };
        file::write_at(&content.index, &header.encode(), 0)?;
        Ok(content)
    }

    pub(crate) const fn digest(&self) -> ContentDigest {
        self.digest
    }

    pub(crate) const fn header(&self) -> &Header {
        &self.header
    }

    /// Chunks of the whole content.
    pub(crate) const fn chunks(&self) -> u64 {
        self.header.size.div_ceil(CHUNK_BYTES as u64)
    }

    fn len_of(&self, index: ChunkIndex) -> usize {
        index.len_in(self.header.size)
    }

    /// The slots of `chunks` chunks; beyond the end of the index they are absent.
    pub(crate) fn slots(&self, first: ChunkIndex, chunks: usize) -> io::Result<Vec<FoundSlot>> {
        let mut bytes = vec![0; chunks * SLOT_BYTES];
        let read = file::read_at(&self.index, &mut bytes, Slot::offset(first))?;
        // A slot cut in two is zeros at its end and fails its own check.
        bytes[read..].fill(0);
        Ok(self.decode_slots(first, &bytes).collect())
    }

    /// Whether nothing is held of the blocks `wants` of neighbouring chunks, as far as memory tells without asking the
    /// disk; if not, that has to be looked at.
    pub(crate) fn surely_lacks(&self, first: ChunkIndex, wants: &[BlockMask]) -> bool {
        let mut bytes = vec![0; wants.len() * SLOT_BYTES];
        let lacks = |(found, want): (FoundSlot, &BlockMask)| match found {
            FoundSlot::Absent => true,
            FoundSlot::Present(slot) => slot.mask.and(*want).is_empty(),
            FoundSlot::Damaged => false,
        };
        file::read_at_hand(&self.index, &mut bytes, Slot::offset(first)).is_some()
            && self.decode_slots(first, &bytes).zip(wants).all(lacks)
    }

    fn decode_slots(&self, first: ChunkIndex, bytes: &[u8]) -> impl Iterator<Item = FoundSlot> {
        let slots = bytes.chunks_exact(SLOT_BYTES);
        (first.0..).zip(slots).map(|(index, bytes)| {
            let index = ChunkIndex(index);
            Slot::decode(&array(bytes, 0), &self.digest, index, self.len_of(index))
        })
    }

    /// The bytes a slot promises. Short if the file is.
    pub(crate) fn bytes_of(&self, index: ChunkIndex, slot: Slot) -> io::Result<Unverified> {
        let len = self.len_of(index);
        let mut bytes = Vec::with_capacity(mask_bytes(slot.mask, len));
        for run in slot.mask.runs() {
            let (from, to) = (run.start * BLOCK_BYTES, (run.end * BLOCK_BYTES).min(len));
            file::append_from(
                &self.data,
                index.offset() + from as u64,
                to - from,
                &mut bytes,
            )?;
        }
        Ok(Unverified {
            slot,
            bytes: bytes.into(),
            len,
        })
    }

    /// A chunk as far as it is present and sound. `Err(())` inside: its slot or bytes are damaged.
    pub(crate) fn chunk(&self, index: ChunkIndex) -> io::Result<Result<Chunk, ()>> {
        let slot = match self.slots(index, 1)?.first() {
            Some(FoundSlot::Present(slot)) => *slot,
            Some(FoundSlot::Damaged) => return Ok(Err(())),
            Some(FoundSlot::Absent) | None => return Ok(Ok(Chunk::empty())),
        };
        Ok(self.bytes_of(index, slot)?.verify().ok_or(()))
    }

    /// Whether `slot` says that all of chunk `index` is present.
    pub(crate) fn is_whole(&self, index: ChunkIndex, slot: Slot) -> bool {
        slot.mask == BlockMask::covering(0, self.len_of(index))
    }

    /// Writes bytes at their places, runs as long as a chunk past the page cache; `extents` are in order of offset
    /// and do not overlap.
    pub(crate) fn write_data(&self, extents: &[(u64, Bytes)]) -> io::Result<()> {
        let mut rest = extents;
        while let Some((offset, first)) = rest.first() {
            let mut end = offset + first.len() as u64;
            let mut count = 1;
            while count < rest.len().min(WRITE_SLICES_MAX) && rest[count].0 == end {
                end += rest[count].1.len() as u64;
                count += 1;
            }
            let mut slices: Vec<_> = rest[..count].iter().map(|e| IoSlice::new(&e.1)).collect();
            if end - offset < CHUNK_BYTES as u64 {
                file::write_all_at(&self.data, &mut slices, *offset)?;
            } else {
                file::write_past_page_cache_at(&self.data, &mut slices, *offset)?;
            }
            rest = &rest[count..];
        }
        Ok(())
    }

    /// Makes the ranges `from..to`, in order, read as zeros; without room if the file system can.
    pub(crate) fn write_holes(&self, holes: &[(u64, u64)]) -> io::Result<()> {
        let Some((_, end)) = holes.last() else {
            return Ok(());
        };
        let len = self.data.metadata()?.len();
        // Bytes of a chunk that was dropped may still be there.
        for (from, to) in holes.iter().filter(|(from, _)| *from < len) {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            match fallocate(&self.data, flags, *from, to - from) {
                Err(rustix::io::Errno::OPNOTSUPP) => {
                    let zeros = usize::try_from(to - from).map_err(io::Error::other)?;
                    file::write_at(&self.data, &vec![0; zeros], *from)?;
                }
                other => other?,
            }
        }
        if *end > len {
            self.data.set_len(*end)?;
        }
        Ok(())
    }

    /// Writes the slots of neighbouring chunks; `None` makes one absent.
    pub(crate) fn write_slots(&self, first: ChunkIndex, slots: &[Option<Slot>]) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(slots.len() * SLOT_BYTES);
        for (index, slot) in (first.0..).zip(slots) {
            match slot {
                Some(slot) => bytes.extend(slot.encode(&self.digest, ChunkIndex(index))),
                None => bytes.extend([0; SLOT_BYTES]),
            }
        }
        file::write_at(&self.index, &bytes, Slot::offset(first))
    }

    /// Gives the room of chunks back: slots first, so that nobody is promised a hole.
    pub(crate) fn punch(&self, first: ChunkIndex, chunks: u64) -> io::Result<()> {
        // Clearing slots in place would grow an index that ends earlier.
        let index_len = self.index.metadata()?.len();
        let from = Slot::offset(first);
        let to = Slot::offset(ChunkIndex(first.0 + chunks)).min(index_len);
        if from < to {
            let zeros = vec![0; usize::try_from(to - from).map_err(io::Error::other)?];
            file::write_at(&self.index, &zeros, from)?;
        }
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        fallocate(
            &self.data,
            flags,
            first.offset(),
            chunks * CHUNK_BYTES as u64,
        )?;
        Ok(())
    }

    /// The first chunk at or after `from` that takes room.
    pub(crate) fn first_resident(&self, from: ChunkIndex) -> io::Result<Option<ChunkIndex>> {
        match seek(&self.data, SeekFrom::Data(from.offset())) {
            Ok(offset) => Ok(Some(ChunkIndex::of(offset))),
            Err(rustix::io::Errno::NXIO) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The first chunk at or after `from` whose slot may be present, skipping holes of the index.
    pub(crate) fn next_indexed(&self, from: ChunkIndex) -> io::Result<Option<ChunkIndex>> {
        match seek(&self.index, SeekFrom::Data(Slot::offset(from))) {
            Ok(offset) => {
                let slots = offset.saturating_sub(HEADER_BYTES as u64) / SLOT_BYTES as u64;
                Ok(Some(ChunkIndex(slots.max(from.0))))
            }
            Err(rustix::io::Errno::NXIO) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether `file` is the one with the bytes of this content.
    pub(crate) fn is_data(&self, file: &File) -> io::Result<bool> {
        let (ours, other) = (self.data.metadata()?, file.metadata()?);
        Ok((ours.dev(), ours.ino()) == (other.dev(), other.ino()))
    }

    /// Room both files take, in bytes.
    pub(crate) fn room(&self) -> io::Result<u64> {
        Ok(file::room(&self.data.metadata()?) + file::room(&self.index.metadata()?))
    }

    /// Writes the time of a use to the index file, if the last one written is old enough.
    pub(crate) fn persist_use(&self, used_nanos: u64, at_least_secs: u64) {
        let secs = used_nanos / 1_000_000_000;
        let before = self.persisted_secs.load(Relaxed);
        if secs < before.saturating_add(at_least_secs) {
            return;
        }
        self.persisted_secs.store(secs, Relaxed);
        let used = UNIX_EPOCH + Duration::from_nanos(used_nanos);
        // A time that cannot be written only makes the content look older after a restart.
        let _ = self.index.set_modified(used);
    }
}
