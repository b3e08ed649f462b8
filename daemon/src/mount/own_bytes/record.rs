//! What was written to files from their beginnings on, while it is not known to be all there is.
//!
//! Plain data, bounded: of a file up to [`FILE_BYTES_MAX`], of all files as much as the table was made for and no more than
//! [`FILES_MAX`]; the oldest go first. What leaves a hole is forgotten.

use crate::mount::inodes::Node;
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use wormhole_protocol::limits::{CHUNK_BYTES, VOUCH_BYTES_MAX, VOUCH_FILES_MAX};
use wormhole_protocol::{BytesDigest, FileId};

/// Longest file of which what is written is remembered.
pub(super) const FILE_BYTES_MAX: usize = 8 * 1024 * 1024;
const _: () = assert!(FILE_BYTES_MAX as u64 <= VOUCH_BYTES_MAX);
/// Files at a time.
const FILES_MAX: usize = 4096;
/// How long a file rests after it was closed, before the host is asked: longer than it takes to settle there, on most file
/// systems. The second time it is for those that keep whole seconds.
const REST: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(2_500)];

/// The bytes of a file so far: each piece a chunk, all but the last full.
#[derive(Default)]
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

    fn cut(&mut self, bytes: usize) {
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
pub(super) struct Whole {
    pub(super) node: Arc<Node>,
    pub(super) pieces: Pieces,
    /// Times the host was asked.
    pub(super) asked: usize,
}

struct Record {
    whole: Whole,
    /// When it was closed, if it was not written since.
    closed: Option<Instant>,
    /// Which of all that were begun.
    number: u64,
}

impl Record {
    fn due(&self) -> Option<Instant> {
        Some(self.closed? + REST[self.whole.asked])
    }
}

/// What is to be done next.
pub(super) enum Next {
    /// Asking the host for these.
    Ask(Vec<Whole>),
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

    /// `data` was written.
    pub(super) fn wrote(&mut self, node: &Arc<Node>, offset: u64, data: &[u8]) {
        let Some(record) = self.record(node, offset) else {
            return;
        };
        let before = record.whole.pieces.bytes();
        let at = usize::try_from(offset).ok().filter(|at| *at <= before);
        let Some(at) = at.filter(|at| at + data.len() <= FILE_BYTES_MAX) else {
            self.forget(node.id);
            return;
        };
        record.closed = None;
        record.whole.pieces.put(at, data);
        self.bytes += record.whole.pieces.bytes() - before;
        self.shed();
    }

    fn shed(&mut self) {
        while self.bytes > self.bytes_max || self.files.len() > FILES_MAX {
            let Some((_, oldest)) = self.order.first_key_value() else {
                return;
            };
            self.forget(*oldest);
        }
    }

    fn record(&mut self, node: &Arc<Node>, offset: u64) -> Option<&mut Record> {
        if offset == 0 && !self.files.contains_key(&node.id) {
            self.insert(
                Whole {
                    node: node.clone(),
                    pieces: Pieces::default(),
                    asked: 0,
                },
                None,
            );
        }
        self.files.get_mut(&node.id)
    }

    fn insert(&mut self, whole: Whole, closed: Option<Instant>) {
        let (id, number) = (whole.node.id, self.begun);
        self.begun += 1;
        self.bytes += whole.pieces.bytes();
        let record = Record {
            whole,
            closed,
            number,
        };
        self.files.insert(id, record);
        self.order.insert(number, id);
    }

    /// The file is `size` long now.
    pub(super) fn cut(&mut self, id: FileId, size: u64) {
        let Some(record) = self.files.get_mut(&id) else {
            return;
        };
        let pieces = &mut record.whole.pieces;
        match usize::try_from(size) {
            Ok(size) if size > 0 && size <= pieces.bytes() => {
                self.bytes -= pieces.bytes() - size;
                pieces.cut(size);
            }
            _ => self.forget(id),
        }
    }

    /// What is known of it is not all.
    pub(super) fn forget(&mut self, id: FileId) {
        self.take(id);
    }

    fn take(&mut self, id: FileId) -> Option<Whole> {
        let record = self.files.remove(&id)?;
        self.order.remove(&record.number);
        self.bytes -= record.whole.pieces.bytes();
        Some(record.whole)
    }

    /// The file was closed, and the host has what was written; whether anything is known of it.
    pub(super) fn closed(&mut self, id: FileId, now: Instant) -> bool {
        let record = self.files.get_mut(&id);
        record.is_some_and(|record| {
            record.closed = Some(now);
            record.whole.asked = 0;
            true
        })
    }

    /// The host could not say yet; whether it is to be asked again.
    pub(super) fn again(&mut self, mut whole: Whole, now: Instant) {
        whole.asked += 1;
        let is_known = self.files.contains_key(&whole.node.id);
        if !is_known && whole.asked < REST.len() {
            self.insert(whole, Some(now));
            self.shed();
        }
    }

    /// What is to be done at `now`.
    pub(super) fn next(&mut self, now: Instant) -> Next {
        let due = |record: &Record| Some((record.due()?, record.number, record.whole.node.id));
        let mut closed: Vec<_> = self.files.values().filter_map(due).collect();
        closed.sort_unstable_by_key(|(due, number, _)| (*due, *number));
        let Some((first, ..)) = closed.first() else {
            return Next::Nothing;
        };
        if *first > now {
            return Next::Rest(*first);
        }
        let (mut wholes, mut left) = (Vec::new(), VOUCH_BYTES_MAX);
        for (due, _, id) in closed.into_iter().take(VOUCH_FILES_MAX) {
            let Some(record) = self.files.get(&id).filter(|_| due <= now) else {
                break;
            };
            let bytes = record.whole.pieces.bytes();
            let Some(rest) = left.checked_sub(bytes as u64) else {
                break;
            };
            left = rest;
            wholes.extend(self.take(id));
        }
        Next::Ask(wholes)
    }
}

#[cfg(test)]
mod tests;
