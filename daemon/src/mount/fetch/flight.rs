//! One flight: a run of chunks claimed together, brought from disk or in one long request each run.
//!
//! The flight owns its claims. Blocks are published as they arrive: whole chunks as a rule, single
//! blocks when somebody waits for just these. An answer may be of a later version than was asked for: then it
//! goes on under that one. It ends early when its reader went elsewhere and nobody
//! else waits; dropping the payload then cancels the rest at the host. Blocks it owes at its end are
//! abandoned, and their waiters ask again.
//!
//! Invariant: blocks are in memory before they are published (see `wormhole_cache::Flights`).

use super::{Content, Fetcher, FsError, Pending, masks, within};
use crate::mount::stats::add;
use crate::rpc::{CallError, Payload};
use bytes::{BufMut, Bytes, BytesMut};
use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use tokio::io::AsyncReadExt;
use tokio::sync::watch;
use wormhole_cache::{Chunk, Claimed, Disk};
use wormhole_protocol::limits::{BLOCK_BYTES, READ_BYTES_MAX};
use wormhole_protocol::{Attr, BlockMask, ByteRange, ChunkIndex, Fault, ReadUrgency};

/// Chunks looked up on disk at a time: 1 MiB.
const DISK_RUN_CHUNKS: usize = 8;
/// Lost connections without a byte of progress before a flight gives up.
const FRUITLESS_MAX: u32 = 8;

/// Tells the flights of a handle that its reader went elsewhere, or closed.
pub struct Cancel(watch::Sender<()>);

impl Default for Cancel {
    fn default() -> Self {
        Self(watch::Sender::new(()))
    }
}

impl Cancel {
    /// What is under way is no longer wanted.
    pub fn cancel(&self) {
        self.0.send_replace(());
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<()> {
        self.0.subscribe()
    }
}

/// How a flight ended before its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The file has another version now.
    Changed,
    /// The file has this version now, of which the bytes are being brought.
    Turned(Box<Attr>),
    /// The file had another version for a moment: all that the reader wanted to read of it.
    Once(Bytes),
    Failed(FsError),
}

/// Where a flight leaves its outcome for the reader that started it.
#[derive(Default)]
pub(super) struct OutcomeSlot(OnceLock<Outcome>);

impl OutcomeSlot {
    pub(super) fn get(&self) -> Option<Outcome> {
        self.0.get().cloned()
    }
}

/// A flight that has not started.
pub(super) struct Flight {
    fetcher: Arc<Fetcher>,
    content: Content,
    /// In order of index; a chunk leaves when nothing of it is owed.
    owed: VecDeque<(ChunkIndex, Claimed)>,
    urgency: ReadUrgency,
    cancelled: watch::Receiver<()>,
    was_cancelled: bool,
    /// Whether it goes on if the file has another version: for a reader, who wants the bytes of now. What is
    /// brought to last waits for a version that lasts.
    follows: bool,
    /// Offset and length of what that reader wants, if he waits for this flight; may end beyond the file.
    reader: Option<(u64, u64)>,
    outcome: Arc<OutcomeSlot>,
}

/// Ends a flight.
enum End {
    /// Nobody waits any more.
    Unwanted,
    Early(Outcome),
}

impl From<FsError> for End {
    fn from(error: FsError) -> Self {
        Self::Early(Outcome::Failed(error))
    }
}

impl Flight {
    pub(super) fn new(
        fetcher: Arc<Fetcher>,
        content: Content,
        owed: Vec<(ChunkIndex, Claimed)>,
        urgency: ReadUrgency,
        cancelled: watch::Receiver<()>,
    ) -> Self {
        Self {
            fetcher,
            content,
            owed: owed.into(),
            urgency,
            cancelled,
            was_cancelled: false,
            follows: false,
            reader: None,
            outcome: Arc::default(),
        }
    }

    /// The same, for a reader; who waits for it wants so many bytes from an offset on.
    pub(super) fn following(self, wants: Option<(u64, u64)>) -> Self {
        Self {
            follows: true,
            reader: wants,
            ..self
        }
    }

    pub(super) async fn run(mut self, outcome: Arc<OutcomeSlot>) {
        self.outcome = outcome.clone();
        let fetcher = self.fetcher.clone();
        let bytes = self
            .owed
            .iter()
            .map(|(_, c)| c.mask().count())
            .sum::<usize>()
            * BLOCK_BYTES;
        let _pending = Pending::new(&fetcher.read_stats, bytes as u64);
        let end = match fetcher.disk.clone() {
            Some(disk) => self.take_from_disk(&disk).await,
            None => Ok(()),
        };
        let end = match end {
            Ok(()) => self.ask_host().await,
            end => end,
        };
        match end {
            Ok(()) => {}
            Err(End::Unwanted) => add(&fetcher.read_stats.cancelled, 1),
            // Set before the claims are dropped, so that whoever is woken finds it.
            Err(End::Early(end)) => {
                let _ = outcome.0.set(end);
            }
        }
    }

    /// Takes what the disk cache has.
    async fn take_from_disk(&mut self, disk: &Arc<Disk>) -> Result<(), End> {
        let mut at = 0;
        while at < self.owed.len() {
            let first = self.owed[at].0;
            let run = (at..self.owed.len().min(at + DISK_RUN_CHUNKS))
                .take_while(|i| self.owed[*i].0.0 - first.0 == (*i - at) as u64)
                .count();
            let wants: Vec<_> = (at..at + run).map(|i| self.owed[i].1.mask()).collect();
            let found = read_disk(disk.clone(), &self.content, first, wants).await;
            for (i, chunk) in found.into_iter().enumerate() {
                if !chunk.mask().is_empty() {
                    add(&self.fetcher.read_stats.disk_bytes, chunk.bytes() as u64);
                    self.publish(at + i, &chunk);
                }
            }
            at += run;
            self.check_wanted()?;
        }
        self.owed.retain(|(_, claimed)| !claimed.mask().is_empty());
        Ok(())
    }

    /// Asks the host for what is left, run by run; again after a lost connection.
    async fn ask_host(&mut self) -> Result<(), End> {
        let mut fruitless = 0;
        while let Some((start, end)) = self.next_run() {
            let before = start;
            match self.ask_run(start, end).await {
                Ok(()) => fruitless = 0,
                Err(RunEnd::Ended(end)) => return Err(end),
                Err(RunEnd::LinkLost { reached }) => {
                    fruitless = if reached > before { 0 } else { fruitless + 1 };
                    if fruitless > FRUITLESS_MAX {
                        return Err(FsError::Io.into());
                    }
                }
            }
            self.owed.retain(|(_, claimed)| !claimed.mask().is_empty());
        }
        Ok(())
    }

    /// The first maximal run of owed bytes, across chunks.
    fn next_run(&self) -> Option<(u64, u64)> {
        let size = self.content.attr.size;
        let mut run: Option<(u64, u64)> = None;
        for (index, claimed) in &self.owed {
            for blocks in claimed.mask().runs() {
                let from = index.offset() + (blocks.start * BLOCK_BYTES) as u64;
                let to = (index.offset() + (blocks.end * BLOCK_BYTES) as u64).min(size);
                match &mut run {
                    None => run = Some((from, to)),
                    Some((start, end)) if *end == from && to - *start <= READ_BYTES_MAX => {
                        *end = to;
                    }
                    Some(run) => return Some(*run),
                }
            }
        }
        run
    }

    async fn ask_run(&mut self, start: u64, end: u64) -> Result<(), RunEnd> {
        let range = ByteRange::new(start, end - start).ok_or(FsError::Fault(Fault::Invalid))?;
        let (attr, _, answer) = {
            let request = self
                .fetcher
                .request(&self.content.node, range, self.urgency);
            tokio::select! {
                answer = request => answer?,
                end = unwanted(&mut self.cancelled, &self.owed, &mut self.was_cancelled) => return Err(end.into()),
            }
        };
        if self.urgency == ReadUrgency::Ahead {
            add(&self.fetcher.read_stats.ahead_bytes, range.len());
        }
        let mut payload = answer.payload;
        let end = if attr.version == self.content.attr.version {
            end
        } else {
            match self.turn_to(&attr, start, end) {
                Some(end) => end,
                None => return Err(self.once(&attr, range, payload).await.into()),
            }
        };
        let mut at = start;
        while at < end {
            at = self.chunk_from(&mut payload, at, end).await?;
            self.check_wanted()?;
        }
        Ok(())
    }

    /// The answer is of another version than was asked for: what it brings is kept under that one, and who waits
    /// is told. Up to where bytes come that can be kept; none if they are not wanted, or somebody fetches them already.
    fn turn_to(&mut self, attr: &Attr, start: u64, end: u64) -> Option<u64> {
        // Under no lease a version of this moment is good for this answer, and nobody may find it later.
        let node = &self.content.node;
        if !self.follows || !node.heard().leased || node.attr().version != attr.version {
            return None;
        }
        let end = match attr.size {
            // The last block has grown, and was not asked for whole.
            size if size > end => end - end % BLOCK_BYTES as u64,
            size => end.min(size),
        };
        let content = self.fetcher.content(&self.content.node, attr);
        let mut owed = VecDeque::new();
        for (index, want) in masks(start, end) {
            let key = content.chunk_key(index);
            let claimed = self.fetcher.claim(key, index, want)?;
            if claimed.1.mask() != want {
                return None;
            }
            owed.push_back(claimed);
        }
        if owed.is_empty() {
            return None;
        }
        self.content = content;
        // Set before the claims are dropped, so that whoever is woken finds it.
        let _ = self.outcome.0.set(Outcome::Turned(Box::new(*attr)));
        self.owed = owed;
        Some(end)
    }

    /// The answer is of another version than was asked for, and cannot be kept: it is as good as any other for the one
    /// reader it was asked for, if it has all he wants.
    async fn once(&mut self, attr: &Attr, range: ByteRange, mut payload: Payload) -> End {
        let changed = End::Early(Outcome::Changed);
        let Some((offset, len)) = self.reader else {
            return changed;
        };
        let end = offset.saturating_add(len).min(attr.size);
        let answered = range.offset()..=range.end();
        if end <= offset || !answered.contains(&offset) || !answered.contains(&end) {
            return changed;
        }
        let within = |at: u64| usize::try_from(at - range.offset());
        let (Ok(before), Ok(len)) = (within(offset), within(end)) else {
            return changed;
        };
        let mut buf = BytesMut::with_capacity(len);
        while buf.len() < len {
            let left = len - buf.len();
            let read = tokio::select! {
                read = async { payload.read_buf(&mut (&mut buf).limit(left)).await } => read,
                end = unwanted(&mut self.cancelled, &self.owed, &mut self.was_cancelled) => return end,
            };
            match read {
                Ok(n) if n > 0 => add(&self.fetcher.read_stats.fetched_bytes, n as u64),
                _ => return changed,
            }
        }
        add(&self.fetcher.read_stats.direct, 1);
        End::Early(Outcome::Once(buf.freeze().slice(before..)))
    }

    /// Reads the part of one chunk from `at` on, publishing what is waited for as it comes.
    async fn chunk_from(
        &mut self,
        payload: &mut Payload,
        at: u64,
        end: u64,
    ) -> Result<u64, RunEnd> {
        let index = ChunkIndex::of(at);
        let slot = self.owed.iter().position(|(i, _)| *i == index);
        let slot = slot.ok_or(FsError::Io)?;
        let (from, to) = (within(at, index.offset()), within(end, index.offset()));
        let mut published = from;
        let mut buf = BytesMut::with_capacity(to - from);
        let mut whole = Chunk::empty();
        while published + buf.len() < to {
            let left = to - published - buf.len();
            let read = tokio::select! {
                read = async { payload.read_buf(&mut (&mut buf).limit(left)).await } => read,
                end = unwanted(&mut self.cancelled, &self.owed, &mut self.was_cancelled) => return Err(end.into()),
            };
            match read.map_err(|error| CallError::from_io(&error)) {
                Ok(n) if n > 0 => add(&self.fetcher.read_stats.fetched_bytes, n as u64),
                Ok(_) | Err(CallError::Link) => {
                    let reached = index.offset() + (published + buf.len()) as u64;
                    return Err(RunEnd::LinkLost { reached });
                }
                Err(CallError::Fault(Fault::Changed)) => {
                    return Err(End::Early(Outcome::Changed).into());
                }
                Err(error) => return Err(FsError::from(error).into()),
            }
            let got = published + buf.len();
            let blocks_end = if got == to {
                to
            } else {
                got - got % BLOCK_BYTES
            };
            let mask = BlockMask::covering(published, blocks_end);
            if got == to || (!mask.is_empty() && self.owed[slot].1.would_wake(mask)) {
                let piece = buf.split_to(blocks_end - published).freeze();
                let piece = Chunk::piece(published / BLOCK_BYTES, piece);
                published = blocks_end;
                self.publish(slot, &piece);
                whole = whole.merge(&piece);
            }
        }
        // The table of flights keeps what arrived for as long as a claim lives.
        if self.owed[slot].1.mask().is_empty() {
            self.owed.remove(slot);
        }
        if let Some(disk) = &self.fetcher.disk {
            disk.store(&self.content.key, self.content.attr.size, index, whole);
        }
        Ok(index.offset() + to as u64)
    }

    fn publish(&mut self, slot: usize, chunk: &Chunk) {
        let index = self.owed[slot].0;
        let key = self.owed[slot].1.key();
        self.fetcher.memory.insert(key, chunk.clone());
        // What was asked for and what is read ahead are claims of their own, also of one chunk.
        for (_, claimed) in self.owed.iter_mut().filter(|(i, _)| *i == index) {
            claimed.publish(chunk);
        }
    }

    fn check_wanted(&mut self) -> Result<(), End> {
        if !self.was_cancelled && self.cancelled.has_changed().unwrap_or(true) {
            self.was_cancelled = true;
        }
        if self.was_cancelled && !self.owed.iter().any(|(_, claimed)| claimed.has_waiters()) {
            return Err(End::Unwanted);
        }
        Ok(())
    }
}

/// Resolves when the flight was cancelled and nobody else waits for what it owes.
async fn unwanted(
    cancelled: &mut watch::Receiver<()>,
    owed: &VecDeque<(ChunkIndex, Claimed)>,
    was_cancelled: &mut bool,
) -> End {
    if !*was_cancelled {
        // An error means that the handle is closed.
        let _ = cancelled.changed().await;
        *was_cancelled = true;
        if !owed.iter().any(|(_, claimed)| claimed.has_waiters()) {
            return End::Unwanted;
        }
    }
    // Somebody waits; `check_wanted` looks again after every chunk.
    std::future::pending().await
}

enum RunEnd {
    Ended(End),
    LinkLost { reached: u64 },
}

impl From<End> for RunEnd {
    fn from(end: End) -> Self {
        Self::Ended(end)
    }
}

impl From<FsError> for RunEnd {
    fn from(error: FsError) -> Self {
        Self::Ended(error.into())
    }
}

async fn read_disk(
    disk: Arc<Disk>,
    content: &Content,
    first: ChunkIndex,
    wants: Vec<BlockMask>,
) -> Vec<Chunk> {
    let (key, size) = (content.key, content.attr.size);
    // Most of what is not in memory is not on disk either; another thread costs more than to see that.
    if disk.surely_lacks(&key, size, first, &wants) {
        return vec![Chunk::empty(); wants.len()];
    }
    let read = move || {
        if wants.len() > 1 {
            return disk.read_run(&key, size, first, wants.len());
        }
        let want = wants.first().copied().unwrap_or(BlockMask::EMPTY);
        vec![disk.read(&key, size, first, want)]
    };
    tokio::task::spawn_blocking(read).await.unwrap_or_default()
}
