//! Reading file bytes: memory, then disk, then the host; each missing block once.
//!
//! A read first takes what memory has. What is missing it claims in the table of flights: blocks that
//! nobody fetches yet become its own flight (one long request to the host, see [`flight`]), the others
//! are waited for. A reader is answered as soon as its own blocks are there, not when a flight ends.
//!
//! All bytes of one answer belong to one version of the file. When the version changes under a read it
//! starts again; a file that keeps changing is read past the caches.
//!
//! Not here: how far to read ahead (`readahead`), what a handle is (`handles`).

mod bring;
mod flight;
mod whole;

pub use bring::Brought;
pub use flight::Cancel;
pub(super) use whole::Whole;

use super::beliefs::gone_is_stale;
use super::error::FsError;
use super::heard::Heard;
use super::inodes::Node;
use super::stats::{ReadStats, RemoteStats, add, sub};
use crate::rpc::{Answer, CallError, Remote};
use bytes::{Bytes, BytesMut};
use flight::{Flight, Outcome};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::time::Instant;
use wormhole_cache::{
    Abandoned, Chunk, ChunkKey, Claimed, ContentDigest, ContentKey, Disk, Flights, Memory, Waiting,
};
use wormhole_protocol::limits::CHUNK_BYTES;
use wormhole_protocol::{
    Attr, BlockMask, ByteRange, ChunkIndex, Fault, ReadUrgency, Reply, Request, ShareId,
};

/// Bytes that may be under way for all handles together.
const PENDING_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Bounds of the readahead window of one handle.
const WINDOW_BYTES_MAX: u64 = 32 * 1024 * 1024;
const WINDOW_BYTES_FLOOR: (u64, u64) = (256 * 1024, 8 * 1024 * 1024);
/// Its floor before anything was measured.
const WINDOW_BYTES_UNKNOWN: u64 = 1024 * 1024;
/// How long a measurement of the path serves.
const PATH_AGE_MAX: Duration = Duration::from_millis(100);
/// Changes of version a read follows before it goes past the caches. A file written a moment ago has a new
/// version at every look (see the host's `meta`): each answer is kept under the version it is of, and waiting
/// for the file to rest could take for ever.
const TURNS_MAX: u32 = 1;

/// The bytes of one version of one file.
#[derive(Clone)]
pub(crate) struct Content {
    pub(crate) node: Arc<Node>,
    pub(crate) attr: Attr,
    pub(crate) key: ContentKey,
    digest: ContentDigest,
}

impl Content {
    fn chunk_key(&self, index: ChunkIndex) -> ChunkKey {
        ChunkKey::new(self.digest, index)
    }
}

/// Reads through both caches.
pub struct Fetcher {
    share: ShareId,
    remote: Arc<dyn Remote>,
    memory: Memory,
    disk: Option<Arc<Disk>>,
    flights: Arc<Flights>,
    timeout: Duration,
    l1_bytes: u64,
    window: Mutex<(Instant, u64)>,
    /// What was read.
    pub read_stats: ReadStats,
    /// What was asked of the host.
    pub remote_stats: Arc<RemoteStats>,
}

/// Why a read begins anew.
enum Retry {
    /// The file has another version now.
    Changed,
    /// And this is it; its bytes are on their way.
    Turned(Box<Attr>),
    /// It had one for a moment, of which these are the bytes that were wanted.
    Once(Bytes),
    /// A fetch this read relied on was given up.
    Abandoned,
    Failed(FsError),
}

impl Fetcher {
    /// A fetcher for `share`; `l1_bytes` of memory, and a disk cache if there is one.
    pub fn new(
        share: ShareId,
        remote: Arc<dyn Remote>,
        l1_bytes: u64,
        disk: Option<Arc<Disk>>,
        timeout: Duration,
    ) -> Arc<Self> {
        Arc::new(Self {
            share,
            remote,
            memory: Memory::new(l1_bytes),
            disk,
            flights: Arc::new(Flights::default()),
            timeout,
            l1_bytes,
            window: Mutex::new((Instant::now(), 0)),
            read_stats: ReadStats::default(),
            remote_stats: Arc::default(),
        })
    }

    /// The memory cache, for its figures.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// The disk cache, for its figures.
    pub fn disk(&self) -> Option<&Arc<Disk>> {
        self.disk.as_ref()
    }

    /// Counts bytes as under way for as long as the guard lives.
    pub(super) fn pending(&self, bytes: u64) -> Pending<'_> {
        Pending::new(&self.read_stats, bytes)
    }

    /// Largest window a handle may read ahead now: twice the bandwidth-delay product of the path, at
    /// least what the path carries in a moment, bounded by the memory there is.
    pub fn window_max_bytes(&self) -> u64 {
        let mut window = self.window.lock();
        let now = Instant::now();
        if window.1 == 0 || now.duration_since(window.0) > PATH_AGE_MAX {
            let path = self.remote.path();
            let (low, high) = WINDOW_BYTES_FLOOR;
            let floor = match path.bytes_per_sec {
                0 => WINDOW_BYTES_UNKNOWN,
                rate => rate.clamp(low, high),
            };
            let bytes = (2 * path.bdp_bytes()).clamp(floor, WINDOW_BYTES_MAX);
            *window = (now, bytes.min(self.l1_bytes / 4).max(low));
        }
        let pending = self.read_stats.pending_bytes.load(Relaxed);
        window.1.min(PENDING_BYTES_MAX.saturating_sub(pending))
    }

    /// The bytes `offset..offset + len`, cut at the end of the file, and starts to fetch
    /// `ahead` (from, until) besides.
    ///
    /// # Errors
    /// What the host answered, or [`FsError::TimedOut`].
    pub async fn read(
        self: &Arc<Self>,
        node: &Arc<Node>,
        offset: u64,
        len: u64,
        ahead: (u64, u64),
        cancel: &Cancel,
    ) -> Result<Bytes, FsError> {
        if node.is_doubted() {
            // What is here may be of a version that is no more, and nobody knows which one is. Of a file that is gone it
            // is the last.
            match self.read_direct(node, offset, len).await {
                Err(error) if gone_is_stale(error) == FsError::Stale => {}
                read => return read,
            }
        }
        let started = Instant::now();
        let (mut attr, mut turns) = (node.attr(), 0);
        loop {
            let end = offset.saturating_add(len).min(attr.size);
            if offset >= end {
                return Ok(Bytes::new());
            }
            let content = self.content(node, &attr);
            let wanted = (offset, len);
            match self.assemble(&content, wanted, ahead, cancel).await {
                Err(Retry::Failed(error)) => return Err(error),
                Ok(bytes) | Err(Retry::Once(bytes)) => {
                    add(&self.read_stats.served_bytes, bytes.len() as u64);
                    return Ok(bytes);
                }
                Err(Retry::Turned(to)) if turns < TURNS_MAX => (attr, turns) = (*to, turns + 1),
                Err(Retry::Turned(_) | Retry::Changed) => {
                    return self.read_direct(node, offset, len).await;
                }
                Err(Retry::Abandoned) => attr = node.attr(),
            }
            if started.elapsed() > self.timeout {
                return Err(FsError::TimedOut);
            }
        }
    }

    fn content(&self, node: &Arc<Node>, attr: &Attr) -> Content {
        let key = ContentKey {
            share: self.share,
            file: node.id,
            version: attr.version,
        };
        Content {
            node: node.clone(),
            attr: *attr,
            digest: key.digest(),
            key,
        }
    }

    async fn assemble(
        self: &Arc<Self>,
        content: &Content,
        (offset, len): (u64, u64),
        ahead: (u64, u64),
        cancel: &Cancel,
    ) -> Result<Bytes, Retry> {
        let end = offset.saturating_add(len).min(content.attr.size);
        let mut parts = Vec::new();
        let mut waits = Vec::new();
        let mut mine = Vec::new();
        for (index, want) in masks(offset, end) {
            let key = content.chunk_key(index);
            let have = self.memory.get(&key).unwrap_or_else(Chunk::empty);
            let missing = want.minus(have.mask());
            if !missing.is_empty() {
                mine.extend(self.claim(key, index, missing));
                // Whoever fetches them, these are the blocks to wait for. Should they be nobody's again
                // already (they came into memory, or a fetch was given up between the two claims), the
                // claim made here ends at once, and what is still missing is asked for in another round.
                let claim = self.flights.claim(key, missing);
                waits.push((parts.len(), claim.theirs, claim.have, key, missing));
            }
            parts.push(have);
        }
        let reader = (!mine.is_empty()).then_some((offset, len));
        self.claim_ahead(content, ahead, &mut mine);
        let outcome = self.launch(content, mine, reader, cancel);
        for (part, theirs, have, key, missing) in waits {
            let arrived = self
                .arrived(theirs, have, key, missing)
                .await
                .map_err(|Abandoned| match outcome.get() {
                    Some(Outcome::Failed(error)) => Retry::Failed(error),
                    Some(Outcome::Changed) => Retry::Changed,
                    Some(Outcome::Turned(attr)) => Retry::Turned(attr),
                    Some(Outcome::Once(bytes)) => Retry::Once(bytes),
                    None => Retry::Abandoned,
                })?;
            parts[part] = parts[part].merge(&arrived);
        }
        join(&parts, offset, end).ok_or(Retry::Abandoned)
    }

    /// The blocks of a claim made for waiting: those there already and those others bring.
    async fn arrived(
        &self,
        theirs: Option<Waiting>,
        have: Chunk,
        key: ChunkKey,
        missing: BlockMask,
    ) -> Result<Chunk, Abandoned> {
        let mut chunk = have;
        if let Some(waiting) = theirs {
            chunk = chunk.merge(&waiting.await?);
        }
        if !chunk.mask().contains(missing)
            && let Some(cached) = self.memory.get(&key)
        {
            chunk = chunk.merge(&cached);
        }
        Ok(chunk)
    }

    /// Claims blocks for a flight, less those that came into memory meanwhile.
    fn claim(
        &self,
        key: ChunkKey,
        index: ChunkIndex,
        missing: BlockMask,
    ) -> Option<(ChunkIndex, Claimed)> {
        let mut claimed = self.flights.claim(key, missing).mine?;
        // A flight that ended between our look and our claim put its blocks into memory first.
        if let Some(cached) = self.memory.get(&key)
            && !cached.mask().and(claimed.mask()).is_empty()
        {
            claimed.publish(&cached);
        }
        (!claimed.mask().is_empty()).then_some((index, claimed))
    }

    fn claim_ahead(
        &self,
        content: &Content,
        (from, until): (u64, u64),
        mine: &mut Vec<(ChunkIndex, Claimed)>,
    ) {
        for (index, want) in masks(from, until.min(content.attr.size)) {
            let key = content.chunk_key(index);
            let have = self.memory.get(&key).map_or(BlockMask::EMPTY, |c| c.mask());
            let missing = want.minus(have);
            if !missing.is_empty() {
                mine.extend(self.claim(key, index, missing));
            }
        }
    }

    /// Starts a flight for what was claimed; if that is wanted now, for a reader of a range.
    fn launch(
        self: &Arc<Self>,
        content: &Content,
        mine: Vec<(ChunkIndex, Claimed)>,
        reader: Option<(u64, u64)>,
        cancel: &Cancel,
    ) -> Arc<flight::OutcomeSlot> {
        let outcome = Arc::new(flight::OutcomeSlot::default());
        if !mine.is_empty() {
            let urgency = if reader.is_some() {
                ReadUrgency::Demand
            } else {
                ReadUrgency::Ahead
            };
            let flight = Flight::new(
                self.clone(),
                content.clone(),
                mine,
                urgency,
                cancel.subscribe(),
            );
            tokio::spawn(flight.following(reader).run(outcome.clone()));
        }
        outcome
    }

    /// Asks the host for a range of `node`, and checks that the header makes sense.
    async fn request(
        &self,
        node: &Arc<Node>,
        range: ByteRange,
        urgency: ReadUrgency,
    ) -> Result<(Attr, u64, Answer), FsError> {
        match urgency {
            ReadUrgency::Demand => add(&self.remote_stats.read, 1),
            ReadUrgency::Ahead => add(&self.remote_stats.read_ahead, 1),
        }
        let asked = Instant::now();
        let answer = self
            .remote
            .call(Request::Read {
                node: node.reference()?,
                range,
                urgency,
            })
            .await?;
        let Reply::Data { attr, len } = answer.reply else {
            return Err(FsError::Io);
        };
        // A host that answers less than the file holds, or of another file, is broken or lies: short
        // data must never look like the end of the file.
        let expected = range.end().min(attr.size).saturating_sub(range.offset());
        if attr.id != node.id || len != expected {
            return Err(FsError::Io);
        }
        node.learn_content(&attr, Heard::since(asked));
        Ok((attr, len, answer))
    }

    /// Reads from the beginning past the caches: whether the host can still read the file.
    ///
    /// # Errors
    /// What the host answered.
    pub async fn try_read(&self, node: &Arc<Node>, len: u64) -> Result<(), FsError> {
        self.read_direct(node, 0, len).await.map(drop)
    }

    /// Reads past the caches.
    async fn read_direct(&self, node: &Arc<Node>, offset: u64, len: u64) -> Result<Bytes, FsError> {
        let end = offset.saturating_add(len).min(node.attr().size);
        let len = end.saturating_sub(offset);
        if len == 0 {
            return Ok(Bytes::new());
        }
        add(&self.read_stats.direct, 1);
        let range = ByteRange::new(offset, len).ok_or(FsError::Fault(Fault::Invalid))?;
        let mut last = FsError::Io;
        // The host breaks off when the file changes between two segments; what a kernel asks for at
        // once is short, so a few tries do.
        for _ in 0..8 {
            let (_, len, mut answer) = self.request(node, range, ReadUrgency::Demand).await?;
            let mut buf = BytesMut::with_capacity(usize::try_from(len).unwrap_or(CHUNK_BYTES));
            let read = (&mut answer.payload)
                .take(len)
                .read_to_end_into(&mut buf)
                .await;
            match read {
                Ok(()) if buf.len() as u64 == len => {
                    add(&self.read_stats.fetched_bytes, len);
                    add(&self.read_stats.served_bytes, len);
                    return Ok(buf.freeze());
                }
                Ok(()) => last = FsError::Io,
                Err(error) => match CallError::from_io(&error) {
                    CallError::Fault(Fault::Changed) | CallError::Link => last = FsError::Io,
                    error => return Err(error.into()),
                },
            }
        }
        Err(last)
    }
}

/// Reads into a [`BytesMut`] until the end.
trait ReadToEnd {
    async fn read_to_end_into(self, buf: &mut BytesMut) -> std::io::Result<()>;
}

impl<R: tokio::io::AsyncRead + Unpin> ReadToEnd for R {
    async fn read_to_end_into(mut self, buf: &mut BytesMut) -> std::io::Result<()> {
        while self.read_buf(buf).await? > 0 {}
        Ok(())
    }
}

/// Counts bytes as under way for as long as it lives.
pub(super) struct Pending<'a>(&'a ReadStats, u64);

impl<'a> Pending<'a> {
    fn new(stats: &'a ReadStats, bytes: u64) -> Self {
        add(&stats.pending_bytes, bytes);
        Self(stats, bytes)
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        sub(&self.0.pending_bytes, self.1);
    }
}

/// The chunks and blocks that hold the bytes `offset..end`.
fn masks(offset: u64, end: u64) -> impl Iterator<Item = (ChunkIndex, BlockMask)> {
    let chunks = if offset < end {
        ChunkIndex::of(offset).0..ChunkIndex::of(end - 1).0 + 1
    } else {
        0..0
    };
    chunks.map(move |index| {
        let start = ChunkIndex(index).offset();
        (
            ChunkIndex(index),
            BlockMask::covering(within(offset, start), within(end, start)),
        )
    })
}

/// Where byte `at` of a file lies within the chunk that starts at `start`, cut to the chunk.
fn within(at: u64, start: u64) -> usize {
    usize::try_from(at.saturating_sub(start)).map_or(CHUNK_BYTES, |at| at.min(CHUNK_BYTES))
}

/// The bytes `offset..end` out of the chunks that cover them, without a copy where one piece has all.
fn join(parts: &[Chunk], offset: u64, end: u64) -> Option<Bytes> {
    let start = ChunkIndex::of(offset).offset();
    if let [only] = parts
        && let Some(bytes) = only.slice(within(offset, start), within(end, start))
    {
        return Some(bytes);
    }
    let len = usize::try_from(end - offset).ok()?;
    let mut out = BytesMut::zeroed(len);
    let mut rest = &mut out[..];
    for (index, part) in (ChunkIndex::of(offset).0..).zip(parts) {
        let start = ChunkIndex(index).offset();
        let (from, to) = (within(offset, start), within(end, start));
        let (head, tail) = rest.split_at_mut(to - from);
        if !part.copy_to(from, head) {
            return None;
        }
        rest = tail;
    }
    Some(out.freeze())
}
