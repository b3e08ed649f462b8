//! Small contents, many to a file.
//!
//! A pack is a row of records, only ever appended to. Which record a content has is known in memory
//! alone and learnt again by hopping from record to record when the cache is opened. A pack is evicted
//! whole. A content stored again has two records; the later one counts.
//!
//! ```text
//! record: magic u32, mask u32, size u32, payload u32, digest 16, blake3 32, check 8, payload
//! ```
//! A mask of 0 marks a record found damaged.
//!
//! Lock: `state`, never across I/O.

use crate::chunk::Chunk;
use crate::disk::content::slot_of;
use crate::disk::file;
use crate::disk::layout::SharePaths;
use crate::disk::limits::{OPEN_PACKS_MAX, PACK_BYTES_MAX};
use crate::disk::opened::out_of_descriptors;
use crate::disk::table::{nanos_of, now_nanos};
use crate::key::ContentDigest;
use lru::LruCache;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, IoSlice};
use std::num::NonZeroUsize;
use std::sync::Arc;
use wormhole_protocol::BlockMask;

mod record;

pub(crate) use record::{RECORD_BYTES, Record, kill, read_record, records};

#[derive(Debug, Clone, Copy)]
struct At {
    pack: u32,
    offset: u32,
    payload: u32,
}

#[derive(Debug, Clone, Copy)]
struct Pack {
    bytes: u64,
    used_nanos: u64,
}

struct State {
    map: HashMap<ContentDigest, At>,
    packs: BTreeMap<u32, Pack>,
    files: LruCache<u32, Arc<File>>,
    bytes: u64,
    /// Number of the pack that is appended to; it exists once something was.
    active: u32,
}

/// The packs of one share.
pub(crate) struct Packs {
    paths: SharePaths,
    state: Mutex<State>,
}

/// What a look-up found.
pub(crate) enum Found {
    Absent,
    Damaged,
    Chunk(Chunk),
}

impl Packs {
    /// Learns the last pack, whose torn tail is cut; the others are learnt by [`Self::scan`].
    pub(crate) fn open(paths: SharePaths) -> io::Result<Self> {
        let most = NonZeroUsize::new(OPEN_PACKS_MAX).unwrap_or(NonZeroUsize::MIN);
        let mut state = State {
            map: HashMap::new(),
            packs: BTreeMap::new(),
            files: LruCache::new(most),
            bytes: 0,
            active: 0,
        };
        for (number, path) in pack_files(&paths)? {
            let metadata = std::fs::symlink_metadata(path)?;
            let used_nanos = metadata.modified().map_or(0, nanos_of);
            let bytes = metadata.len();
            state.packs.insert(number, Pack { bytes, used_nanos });
        }
        if let Some((&number, pack)) = state.packs.iter_mut().next_back() {
            let file = file::open(&paths.pack(number))?;
            let map = &mut state.map;
            let end = records(&file, |offset, record| {
                map.insert(record.digest, At::of(number, offset, &record));
            })?;
            if end < pack.bytes {
                file.set_len(end)?;
                pack.bytes = end;
            }
            state.active = number;
            state.files.push(number, Arc::new(file));
        }
        state.bytes = state.packs.values().map(|pack| pack.bytes).sum();
        Ok(Self {
            paths,
            state: Mutex::new(state),
        })
    }

    /// Learns the packs written before the last one, latest first; stops when `stop` says so.
    pub(crate) fn scan(&self, stop: impl Fn() -> bool) {
        let numbers: Vec<u32> = {
            let state = self.state.lock();
            let active = state.active;
            state
                .packs
                .keys()
                .rev()
                .copied()
                .filter(|n| *n < active)
                .collect()
        };
        for number in numbers {
            if stop() {
                return;
            }
            let mut found = Vec::new();
            let scanned = file::open_read(&self.paths.pack(number)).and_then(|file| {
                records(&file, |offset, record| {
                    found.push((record.digest, At::of(number, offset, &record)));
                })
            });
            if let Err(error) = scanned {
                tracing::warn!(pack = number, %error, "cannot read a pack of the cache");
            }
            let mut state = self.state.lock();
            if state.packs.contains_key(&number) {
                for (digest, at) in found.into_iter().rev() {
                    state.map.entry(digest).or_insert(at);
                }
            }
        }
    }

    /// The chunk of a content of `size` bytes.
    pub(crate) fn read(&self, digest: &ContentDigest, size: u32) -> io::Result<Found> {
        let at = {
            let mut state = self.state.lock();
            let Some(at) = state.map.get(digest).copied() else {
                return Ok(Found::Absent);
            };
            if let Some(pack) = state.packs.get_mut(&at.pack) {
                pack.used_nanos = now_nanos();
            }
            at
        };
        let file = match self.file(at.pack) {
            Ok(file) => file,
            // Evicted meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Absent),
            Err(error) => return Err(error),
        };
        let Some((record, payload)) = read_record(&file, at.offset, at.payload)? else {
            return Ok(Found::Damaged);
        };
        if record.is_dead() || record.size != size {
            return Ok(Found::Absent);
        }
        if record.digest != *digest {
            return Ok(Found::Damaged);
        }
        Ok(record.verify(payload).map_or(Found::Damaged, Found::Chunk))
    }

    /// Appends a content's chunk, with what is present of it already; the bytes written.
    /// For the writer thread only.
    pub(crate) fn append(
        &self,
        digest: ContentDigest,
        size: u32,
        chunk: &Chunk,
    ) -> io::Result<u64> {
        let chunk = match self.read(&digest, size)? {
            Found::Chunk(present) if present.mask().contains(chunk.mask()) => return Ok(0),
            Found::Chunk(present) => present.merge(chunk),
            Found::Absent | Found::Damaged => chunk.clone(),
        };
        self.write_record(digest, size, &chunk)
    }

    /// Appends a record, whatever there is of its content already; the bytes written.
    fn write_record(&self, digest: ContentDigest, size: u32, chunk: &Chunk) -> io::Result<u64> {
        let slot = slot_of(chunk);
        let record = Record {
            mask: slot.mask,
            size,
            payload: u32::try_from(chunk.bytes()).map_err(io::Error::other)?,
            digest,
            hash: slot.hash,
        };
        let head = record.encode();
        let (number, offset, file) = self.active()?;
        let mut slices = vec![IoSlice::new(&head)];
        slices.extend(chunk.parts().map(|(_, bytes)| IoSlice::new(bytes)));
        if let Err(error) = file::write_all_at(&file, &mut slices, offset) {
            // Half a record at the end would hide those appended after it.
            let _ = file.set_len(offset);
            return Err(error);
        }
        let written = (RECORD_BYTES as u64) + u64::from(record.payload);
        let offset = u32::try_from(offset).map_err(io::Error::other)?;
        let mut state = self.state.lock();
        state.map.insert(digest, At::of(number, offset, &record));
        let pack = state.packs.entry(number).or_insert(Pack {
            bytes: 0,
            used_nanos: 0,
        });
        pack.bytes += written;
        pack.used_nanos = now_nanos();
        state.bytes += written;
        Ok(written)
    }

    /// Forgets a content whose record is damaged, for good. For the writer thread only.
    pub(crate) fn drop_damaged(&self, digest: &ContentDigest, size: u32) -> io::Result<()> {
        if !matches!(self.read(digest, size)?, Found::Damaged) {
            return Ok(());
        }
        let Some(at) = self.state.lock().map.remove(digest) else {
            return Ok(());
        };
        kill(&*self.file(at.pack)?, at.offset, at.payload, *digest)
    }

    /// The least recently used pack.
    pub(crate) fn oldest(&self) -> Option<u32> {
        let uses = self.uses().into_iter();
        uses.min_by_key(|(number, used)| (*used, *number))
            .map(|(number, _)| number)
    }

    /// All packs: number and last use.
    pub(crate) fn uses(&self) -> Vec<(u32, u64)> {
        let state = self.state.lock();
        let packs = state.packs.iter();
        packs.map(|(n, pack)| (*n, pack.used_nanos)).collect()
    }

    /// Whether nothing is held of a content.
    pub(crate) fn lacks(&self, digest: &ContentDigest) -> bool {
        !self.state.lock().map.contains_key(digest)
    }

    /// Which blocks of a content of `size` bytes there are, as far as memory tells: all or none.
    pub(crate) fn mask(&self, digest: &ContentDigest, size: u32) -> BlockMask {
        match self.state.lock().map.get(digest) {
            // A record holds as many bytes as its content only if it holds all of them.
            Some(at) if at.payload == size => BlockMask::covering(0, size as usize),
            _ => BlockMask::EMPTY,
        }
    }

    /// Removes a pack and all it holds, but for what `keep` says: that moves to another pack. The bytes
    /// freed by that. For the writer thread only.
    pub(crate) fn evict(
        &self,
        number: u32,
        keep: impl Fn(&ContentDigest) -> bool,
    ) -> io::Result<u64> {
        {
            let mut state = self.state.lock();
            if state.active == number {
                state.active = number.wrapping_add(1);
            }
        }
        let moved = self.move_out(number, keep)?;
        {
            let mut state = self.state.lock();
            state.map.retain(|_, at| at.pack != number);
            state.files.pop(&number);
        }
        file::remove(&self.paths.pack(number))?;
        let mut state = self.state.lock();
        // A reader may have opened it again before it was removed.
        state.files.pop(&number);
        let bytes = state.packs.remove(&number).map_or(0, |pack| pack.bytes);
        state.bytes -= bytes;
        Ok(bytes.saturating_sub(moved))
    }

    /// Appends what is to be kept of a pack to the active one; the bytes written.
    fn move_out(&self, number: u32, keep: impl Fn(&ContentDigest) -> bool) -> io::Result<u64> {
        let file = match self.file(number) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            other => other?,
        };
        let mut kept = Vec::new();
        records(&file, |offset, record| {
            if !record.is_dead() && keep(&record.digest) {
                kept.push((offset, record));
            }
        })?;
        let mut written = 0;
        for (offset, record) in kept {
            let at = self.state.lock().map.get(&record.digest).copied();
            // What is known to be elsewhere is a later record of the same; what is not known at all was
            // not scanned yet.
            if at.is_some_and(|at| (at.pack, at.offset) != (number, offset)) {
                continue;
            }
            let read = read_record(&file, offset, record.payload)?;
            if let Some(chunk) = read.and_then(|(record, payload)| record.verify(payload)) {
                written += self.write_record(record.digest, record.size, &chunk)?;
            }
        }
        Ok(written)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.state.lock().bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.state.lock().map.len()
    }

    /// Writes the last use of each pack to its file's time.
    pub(crate) fn persist_uses(&self) {
        for (number, nanos) in self.uses() {
            let used = std::time::UNIX_EPOCH + std::time::Duration::from_nanos(nanos);
            // A time that cannot be written only makes the pack look older after a restart.
            let _ = file::open(&self.paths.pack(number)).and_then(|f| f.set_modified(used));
        }
    }

    /// Where the next record goes: pack, offset, file.
    fn active(&self) -> io::Result<(u32, u64, Arc<File>)> {
        let (number, bytes) = {
            let mut state = self.state.lock();
            let active = state.active;
            let bytes = state.packs.get(&active).map_or(0, |pack| pack.bytes);
            if bytes >= PACK_BYTES_MAX {
                state.active = active.wrapping_add(1);
                (state.active, 0)
            } else {
                (active, bytes)
            }
        };
        if bytes > 0 {
            return Ok((number, bytes, self.file(number)?));
        }
        let file = Arc::new(file::open_or_create(&self.paths.pack(number))?);
        file.set_len(0)?;
        self.keep(number, &file);
        Ok((number, 0, file))
    }

    fn file(&self, number: u32) -> io::Result<Arc<File>> {
        if let Some(file) = self.state.lock().files.get(&number) {
            return Ok(file.clone());
        }
        let path = self.paths.pack(number);
        let file = match file::open(&path) {
            Err(error) if out_of_descriptors(&error) => {
                self.state.lock().files.clear();
                file::open(&path)
            }
            other => other,
        };
        let file = Arc::new(file?);
        self.keep(number, &file);
        Ok(file)
    }

    fn keep(&self, number: u32, file: &Arc<File>) {
        let mut state = self.state.lock();
        // A pack evicted while it was being opened would keep its room for as long as it is open.
        if number == state.active || state.packs.contains_key(&number) {
            let replaced = state.files.push(number, file.clone());
            drop(state);
            drop(replaced);
        }
    }
}

impl At {
    fn of(pack: u32, offset: u32, record: &Record) -> Self {
        Self {
            pack,
            offset,
            payload: record.payload,
        }
    }
}

/// The packs of a share, in order of number.
pub(crate) fn pack_files(paths: &SharePaths) -> io::Result<Vec<(u32, std::path::PathBuf)>> {
    let mut packs = Vec::new();
    let entries = match std::fs::read_dir(paths.packs_dir()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(packs),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".pack"));
        let number = number.and_then(|hex| u32::from_str_radix(hex, 16).ok());
        // Only the name we would give: `+1.pack` parses as well.
        if let Some(number) = number.filter(|n| paths.pack(*n) == entry.path()) {
            packs.push((number, entry.path()));
        }
    }
    packs.sort_unstable();
    Ok(packs)
}
