//! What was written to files from their beginnings on, while it is not known to be all there is.
//!
//! Plain data, bounded: of a file up to [`FILE_BYTES_MAX`], of all files as much as the table was made for and no more than
//! [`FILES_MAX`]; the oldest go first. What leaves a hole is forgotten, unless the file was empty before.
//!
//! A file that was empty when its record began holds what was written since and zeros, as far as this mount changed it:
//! its record is *complete*, and says since when. Changes that were under way at the same time may have been applied in
//! either order: no record of a file that had such is complete.

use crate::mount::inodes::Node;
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use wormhole_protocol::limits::{CHUNK_BYTES, VOUCH_BYTES_MAX, VOUCH_FILES_MAX};
use wormhole_protocol::{BytesDigest, FileId};

/// Longest file the host is asked about.
pub(super) const FILE_BYTES_MAX: usize = 8 * 1024 * 1024;
const _: () = assert!(FILE_BYTES_MAX as u64 <= VOUCH_BYTES_MAX);
/// Files at a time.
const FILES_MAX: usize = 4096;
/// How long a file rests after it was closed, before the host is asked: longer than it takes to settle there, on most file
/// systems.
pub(super) const REST: Duration = Duration::from_millis(100);
/// And after the host was asked in vain: for file systems that keep whole seconds.
const RESTS: [Duration; 2] = [REST, Duration::from_millis(2_500)];

/// The bytes of a file so far: each piece a chunk, all but the last full.
#[derive(Default, Clone)]
pub(super) struct Pieces {
    pieces: Vec<Vec<u8>>,
    bytes: usize,
}

impl Pieces {
    /// How many.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Puts `data` at `offset`, which is not beyond the end.
    fn put(&mut self, mut offset: usize, mut data: &[u8]) {
        while !data.is_empty() {
            let (number, at) = (offset / CHUNK_BYTES, offset % CHUNK_BYTES);
            if number == self.pieces.len() {
                self.pieces
                    .push(Vec::with_capacity(data.len().min(CHUNK_BYTES)));
            }
            let piece = &mut self.pieces[number];
            let (head, rest) = data.split_at(data.len().min(CHUNK_BYTES - at));
            let (over, new) = head.split_at(head.len().min(piece.len() - at));
            piece[at..at + over.len()].copy_from_slice(over);
            piece.extend_from_slice(new);
            self.bytes += new.len();
            (offset, data) = (offset + head.len(), rest);
        }
    }

    /// Zeros up to `bytes`, which is beyond the end.
    fn extend(&mut self, bytes: usize) {
        static ZEROS: [u8; CHUNK_BYTES] = [0; CHUNK_BYTES];
        while self.bytes < bytes {
            self.put(self.bytes, &ZEROS[..(bytes - self.bytes).min(CHUNK_BYTES)]);
        }
    }

    /// Up to `len` bytes from `offset` on; fewer only at the end.
    fn read(&self, offset: u64, len: u64) -> Bytes {
        let within = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(self.bytes);
        let (mut at, until) = (within(offset), within(offset.saturating_add(len)));
        let mut bytes = Vec::with_capacity(until - at);
        while at < until {
            let (piece, from) = (&self.pieces[at / CHUNK_BYTES], at % CHUNK_BYTES);
            let part = &piece[from..piece.len().min(from + until - at)];
            bytes.extend_from_slice(part);
            at += part.len();
        }
        Bytes::from(bytes)
    }

    fn cut(&mut self, bytes: usize) {
        if bytes == 0 {
            return *self = Self::default();
        }
        self.pieces.truncate(bytes.div_ceil(CHUNK_BYTES));
        if let Some(last) = self.pieces.last_mut() {
            last.truncate(bytes - (bytes - 1) / CHUNK_BYTES * CHUNK_BYTES);
        }
        self.bytes = bytes;
    }

    /// The digest of all of it.
    pub(super) fn digest(&self) -> BytesDigest {
        BytesDigest::of(self.pieces.iter().map(Vec::as_slice))
    }

    /// A chunk each.
    pub(super) fn into_chunks(self) -> impl Iterator<Item = Bytes> {
        self.pieces.into_iter().map(|mut piece| {
            piece.shrink_to_fit();
            Bytes::from(piece)
        })
    }
}

/// A file whose bytes are all here, as far as this mount knows.
#[derive(Clone)]
pub(super) struct Whole {
    pub(super) node: Arc<Node>,
    pub(super) pieces: Arc<Pieces>,
    /// Which of all records that were begun.
    pub(super) number: u64,
}

/// Since when a record is complete, and how often the host had spoken of the file unasked by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Complete {
    pub(super) since: Instant,
    pub(super) unasked: u64,
}

struct Record {
    whole: Whole,
    /// When it was closed, if it was not changed since and nobody is being asked.
    closed: Option<Instant>,
    /// The host is being asked about it as it is.
    is_asking: bool,
    /// Times the host was asked.
    asked: usize,
    complete: Option<Complete>,
    /// It was not closed since it was begun or changed.
    is_being_written: bool,
    /// Changes that are under way.
    changing: usize,
    /// More than one was, since there last was none.
    mixed: bool,
}

/// A change that is under way: of which record, and how often the host had spoken of the file when it began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    number: Option<u64>,
    unasked: u64,
}

/// How a change ended.
pub(super) enum Changed<'a> {
    /// These bytes are there.
    Written(u64, &'a [u8]),
    /// These were put at the end, which was there.
    Appended(u64, &'a [u8]),
    /// It is so long now; empty, it was so not before this was asked for.
    Cut(u64, Instant),
    /// Nobody knows.
    Otherwise,
}

impl Record {
    /// Puts bytes into it; whether all that the file holds can still be known.
    fn put(&mut self, offset: u64, data: &[u8], bytes_max: usize) -> bool {
        let bytes_max = self.bytes_max(bytes_max);
        let pieces = Arc::make_mut(&mut self.whole.pieces);
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        let is_hole = at > pieces.bytes();
        if at.saturating_add(data.len()) > bytes_max || is_hole && self.complete.is_none() {
            return false;
        }
        if is_hole && !data.is_empty() {
            pieces.extend(at);
        }
        pieces.put(at.min(pieces.bytes()), data);
        true
    }

    /// Makes it so long; whether all that the file holds can still be known.
    fn cut(&mut self, size: u64, bytes_max: usize) -> bool {
        let bytes_max = self.bytes_max(bytes_max);
        let pieces = Arc::make_mut(&mut self.whole.pieces);
        match usize::try_from(size) {
            Ok(size) if size <= pieces.bytes() => pieces.cut(size),
            Ok(size) if size <= bytes_max && self.complete.is_some() => pieces.extend(size),
            _ => return false,
        }
        true
    }

    /// What is only to be asked about is worth no more than can be asked about.
    fn bytes_max(&self, bytes_max: usize) -> usize {
        match self.complete {
            Some(_) => bytes_max,
            None => bytes_max.min(FILE_BYTES_MAX),
        }
    }

    fn is_readable(&self) -> bool {
        self.is_being_written && !self.mixed
    }

    fn due(&self) -> Option<Instant> {
        Some(self.closed? + RESTS[self.asked])
    }
}

/// What is to be done next.
pub(super) enum Next {
    /// Asking the host for these; and whether there are more.
    Ask(Vec<Whole>, bool),
    /// Waiting.
    Rest(Instant),
    /// Nothing, until something is closed.
    Nothing,
}

/// The files that are being written, and those that were closed a moment ago.
pub(super) struct Records {
    files: HashMap<FileId, Record>,
    /// By age.
    order: BTreeMap<u64, FileId>,
    begun: u64,
    bytes: usize,
    bytes_max: usize,
}

impl Records {
    /// None yet; of all files at most `bytes_max`.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            files: HashMap::new(),
            order: BTreeMap::new(),
            begun: 0,
            bytes: 0,
            bytes_max,
        }
    }

    /// The file was empty then.
    pub(super) fn begin(&mut self, node: &Arc<Node>, empty: Complete) {
        if self.files.contains_key(&node.id) {
            return;
        }
        self.insert(node);
        if let Some(record) = self.files.get_mut(&node.id) {
            record.complete = Some(empty);
        }
        self.shed();
    }

    /// A change of it begins: `from_start` if what it holds from then on is known from its beginning on.
    pub(super) fn change(&mut self, node: &Arc<Node>, from_start: bool) -> Mark {
        if from_start && !self.files.contains_key(&node.id) {
            self.insert(node);
        }
        let mut mark = Mark {
            number: None,
            unasked: node.unasked(),
        };
        let Some(record) = self.files.get_mut(&node.id) else {
            return mark;
        };
        record.mixed |= record.changing > 0;
        record.changing += 1;
        record.closed = None;
        record.is_asking = false;
        record.is_being_written = true;
        mark.number = Some(record.whole.number);
        self.shed();
        mark
    }

    /// A change of it ended.
    pub(super) fn changed(&mut self, node: &Arc<Node>, mark: Mark, how: &Changed<'_>) {
        let bytes_max = self.bytes_max;
        let Some(record) = self.files.get_mut(&node.id) else {
            return;
        };
        if mark.number != Some(record.whole.number) {
            return self.forget(node.id);
        }
        if record.mixed {
            record.complete = None;
        }
        let mixed = record.mixed;
        record.changing -= 1;
        record.mixed &= record.changing > 0;
        let before = record.whole.pieces.bytes();
        let is_known = match *how {
            Changed::Written(offset, data) => record.put(offset, data, bytes_max),
            Changed::Appended(offset, data) => {
                offset == before as u64 && record.put(offset, data, bytes_max)
            }
            Changed::Cut(0, since) if !mixed => {
                record.cut(0, bytes_max);
                record.complete = Some(Complete {
                    since,
                    unasked: mark.unasked,
                });
                true
            }
            Changed::Cut(size, _) => size > 0 && record.cut(size, bytes_max),
            Changed::Otherwise => false,
        };
        self.bytes = self.bytes + record.whole.pieces.bytes() - before;
        match is_known {
            true => self.shed(),
            false => self.forget(node.id),
        }
    }

    /// Since when all is known that the file holds, if it is and while it is being written.
    pub(super) fn complete(&self, node: &Arc<Node>) -> Option<Complete> {
        let record = self.files.get(&node.id)?;
        let is_it = Arc::ptr_eq(&record.whole.node, node);
        record.complete.filter(|_| is_it && record.is_readable())
    }

    /// What it holds, if that is still known.
    pub(super) fn read(
        &self,
        node: &Node,
        known: Complete,
        offset: u64,
        len: u64,
    ) -> Option<Bytes> {
        let pieces = self.still(node, known)?;
        Some(pieces.read(offset, len))
    }

    /// How much.
    pub(super) fn size(&self, node: &Node, known: Complete) -> Option<u64> {
        let pieces = self.still(node, known)?;
        Some(pieces.bytes() as u64)
    }

    fn still(&self, node: &Node, known: Complete) -> Option<&Pieces> {
        let record = self.files.get(&node.id)?;
        let is_it = record.complete == Some(known) && record.is_readable();
        is_it.then_some(&record.whole.pieces)
    }

    fn shed(&mut self) {
        while self.bytes > self.bytes_max || self.files.len() > FILES_MAX {
            let Some((_, oldest)) = self.order.first_key_value() else {
                return;
            };
            self.forget(*oldest);
        }
    }

    /// Begins a record, of which nothing is known yet.
    fn insert(&mut self, node: &Arc<Node>) {
        self.forget(node.id);
        let number = self.begun;
        self.begun += 1;
        let record = Record {
            whole: Whole {
                node: node.clone(),
                pieces: Arc::default(),
                number,
            },
            closed: None,
            is_asking: false,
            asked: 0,
            complete: None,
            is_being_written: true,
            changing: 0,
            mixed: false,
        };
        self.files.insert(node.id, record);
        self.order.insert(number, node.id);
    }

    /// What is known of it is not all.
    pub(super) fn forget(&mut self, id: FileId) {
        self.take(id);
    }

    fn take(&mut self, id: FileId) -> Option<Record> {
        let record = self.files.remove(&id)?;
        self.order.remove(&record.whole.number);
        self.bytes -= record.whole.pieces.bytes();
        Some(record)
    }

    /// The host was asked about it: what it was asked about, if that is still what the file holds.
    pub(super) fn answered(&mut self, id: FileId, number: u64) -> Option<Whole> {
        self.asking(id, number)?;
        self.take(id).map(|record| record.whole)
    }

    fn asking(&mut self, id: FileId, number: u64) -> Option<&mut Record> {
        let record = self.files.get_mut(&id)?;
        (record.is_asking && record.whole.number == number).then_some(record)
    }

    /// The file was closed, and the host has what was written; whether there is anything to be asked of it.
    pub(super) fn closed(&mut self, id: FileId, now: Instant) -> bool {
        let Some(record) = self.files.get_mut(&id) else {
            return false;
        };
        record.is_being_written = false;
        if !(1..=FILE_BYTES_MAX).contains(&record.whole.pieces.bytes()) {
            // Nothing to be asked about, or too much.
            self.forget(id);
            return false;
        }
        record.closed = Some(now);
        record.is_asking = false;
        record.asked = 0;
        true
    }

    /// The host could not say yet: it is asked again, but not for ever.
    pub(super) fn again(&mut self, id: FileId, number: u64, now: Instant) {
        let Some(record) = self.asking(id, number) else {
            return;
        };
        record.asked += 1;
        record.is_asking = false;
        if record.asked < RESTS.len() {
            record.closed = Some(now);
        } else {
            self.forget(id);
        }
    }

    /// What is to be done at `now`.
    pub(super) fn next(&mut self, now: Instant) -> Next {
        let due =
            |record: &Record| Some((record.due()?, record.whole.number, record.whole.node.id));
        let mut closed: Vec<_> = self.files.values().filter_map(due).collect();
        closed.sort_unstable_by_key(|(due, number, _)| (*due, *number));
        let Some((first, ..)) = closed.first() else {
            return Next::Nothing;
        };
        if *first > now {
            return Next::Rest(*first);
        }
        let due_now = closed.partition_point(|(due, ..)| *due <= now);
        let (mut wholes, mut left) = (Vec::new(), VOUCH_BYTES_MAX);
        for (_, _, id) in closed.into_iter().take(due_now.min(VOUCH_FILES_MAX)) {
            let Some(record) = self.files.get_mut(&id) else {
                break;
            };
            let bytes = record.whole.pieces.bytes();
            let Some(rest) = left.checked_sub(bytes as u64) else {
                break;
            };
            left = rest;
            (record.closed, record.is_asking) = (None, true);
            wholes.push(record.whole.clone());
        }
        let more = wholes.len() < due_now;
        Next::Ask(wholes, more)
    }
}

#[cfg(test)]
mod tests;
