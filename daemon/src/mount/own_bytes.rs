//! Files this mount wrote from beginning to end: they are read from here while they are being written, and what was written
//! goes to the caches once the host has vouched for it.
//!
//! ```text
//!   write ──> Records ── closed, and at rest ──> Vouch ── the host has just that, of this version ──> caches
//!               └── complete, and under the lease it began under ──> readers
//! ```
//!
//! What answers to writes say of a file does not do for the caches: a program on the host may have written in between. So
//! they get what was hashed, and what the host found the same in the file of that version. What the host does not vouch
//! for is forgotten, and fetched when somebody reads it.
//!
//! Readers of a file that was empty when it was begun need not wait while it is being written: it is what was written, until
//! it is closed, the host speaks of it, or the lease of its directory ends.
//!
//! Invariants
//! - What is held is bounded ([`BYTES_MAX`] and [`record`]).
//! - Each change of content this mount asks for goes through [`OwnBytes::change`]: what it did is put down, or the file
//!   forgotten, whether or not anybody waits for the answer.
//!
//! Not here: writing (`write`), the caches (`fetch`).
//!
//! Locks: `state`, under which what was written is copied, and `tasks`; leaves.

mod record;

use super::beliefs::Beliefs;
use super::fetch::Fetcher;
use super::heard::Heard;
use super::inodes::Node;
use super::stats::{OwnBytesStats, add};
use crate::rpc::Remote;
use bytes::Bytes;
use parking_lot::Mutex;
pub use record::Complete;
use record::{Changed, Mark, Next, REST, Records, Whole};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use wormhole_protocol::limits::{REQUEST_BYTES_MAX, VOUCH_FILES_MAX};
use wormhole_protocol::{Attr, FileId, Reply, Request, WrittenFile};

/// Most bytes that are held, unless memory is short: then a part of what the memory cache may have.
const BYTES_MAX: u64 = 32 * 1024 * 1024;
const L1_PART: u64 = 8;
/// A host that does not answer for so long is not waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two questions: a program that makes file after file has many of them closed by then, and each question costs
/// both ends as much as making a file.
const GATHER: Duration = Duration::from_millis(50);
/// What a file needs in a request besides its path.
const FILE_WIRE_BYTES: usize = 96;
const _: () = assert!(VOUCH_FILES_MAX * FILE_WIRE_BYTES < REQUEST_BYTES_MAX);

/// What this mount wrote, and when its host is asked about it.
pub struct OwnBytes {
    fetcher: Arc<Fetcher>,
    remote: Arc<dyn Remote>,
    state: Mutex<State>,
    tasks: Mutex<JoinSet<()>>,
    /// Something was closed that is to be asked about sooner than all else.
    wake: Arc<Notify>,
    /// What became of it.
    pub stats: OwnBytesStats,
}

struct State {
    records: Records,
    /// Whether there is a task that asks about them.
    is_asking: bool,
    /// Until when it rests.
    rests_until: Option<Instant>,
}

impl OwnBytes {
    /// For the caches of `fetcher`, of which memory has `l1_bytes`.
    pub fn new(fetcher: Arc<Fetcher>, remote: Arc<dyn Remote>, l1_bytes: u64) -> Arc<Self> {
        let bytes_max = (l1_bytes / L1_PART).min(BYTES_MAX);
        let records = Records::new(usize::try_from(bytes_max).unwrap_or(usize::MAX));
        Arc::new(Self {
            fetcher,
            remote,
            state: Mutex::new(State {
                records,
                is_asking: false,
                rests_until: None,
            }),
            tasks: Mutex::default(),
            wake: Arc::default(),
            stats: OwnBytesStats::default(),
        })
    }

    /// The file was found empty, not before `since`, when the host had spoken of it so often unasked.
    pub fn begin(&self, node: &Arc<Node>, since: Instant, unasked: u64) {
        if self.fetcher.keeps_ahead() {
            let empty = Complete { since, unasked };
            self.state.lock().records.begin(node, empty);
        }
    }

    /// Something is about to be written at `offset`.
    pub fn write<'a>(self: &'a Arc<Self>, node: &'a Arc<Node>, offset: u64) -> Changing<'a> {
        self.change(node, offset == 0)
    }

    /// The file is about to be made `size` long.
    pub fn cut<'a>(self: &'a Arc<Self>, node: &'a Arc<Node>, size: u64) -> Changing<'a> {
        self.change(node, size == 0)
    }

    /// The content is about to be changed; `from_start` if it is known from its beginning on then.
    pub fn change<'a>(self: &'a Arc<Self>, node: &'a Arc<Node>, from_start: bool) -> Changing<'a> {
        let from_start = from_start && self.fetcher.keeps_ahead();
        let mark = self.state.lock().records.change(node, from_start);
        Changing {
            own: self,
            node,
            mark: Some(mark),
        }
    }

    /// Since when all is known that a file holds, if nobody else can have changed it unheard.
    pub fn complete(&self, node: &Arc<Node>, beliefs: &Beliefs) -> Option<Complete> {
        let known = self.state.lock().records.complete(node)?;
        let is_so = node.unasked() == known.unasked && beliefs.is_leased_since(node, known.since);
        is_so.then_some(known)
    }

    /// Up to `len` bytes of a file from `offset` on, if that is still known.
    pub fn read(&self, node: &Node, known: Complete, offset: u64, len: u64) -> Option<Bytes> {
        let bytes = self.state.lock().records.read(node, known, offset, len)?;
        add(&self.stats.read_bytes, bytes.len() as u64);
        Some(bytes)
    }

    /// How long it is, likewise.
    pub fn size(&self, node: &Node, known: Complete) -> Option<u64> {
        self.state.lock().records.size(node, known)
    }

    /// Not all that was written has arrived.
    pub fn forget(&self, id: FileId) {
        self.state.lock().records.forget(id);
    }

    /// The file was closed, and the host has applied all that was written.
    pub fn closed(self: &Arc<Self>, id: FileId) {
        {
            let now = Instant::now();
            let mut state = self.state.lock();
            if !state.records.closed(id, now) {
                return;
            }
            if std::mem::replace(&mut state.is_asking, true) {
                // Who rests is woken only if this is due before.
                if state.rests_until.is_some_and(|until| now + REST < until) {
                    self.wake.notify_one();
                }
                return;
            }
        }
        let mut tasks = self.tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(run(Arc::downgrade(self)));
    }

    fn next(&self) -> Next {
        let mut state = self.state.lock();
        let next = state.records.next(Instant::now());
        state.is_asking = !matches!(next, Next::Nothing);
        state.rests_until = match next {
            Next::Rest(until) => Some(until),
            Next::Ask(..) | Next::Nothing => None,
        };
        next
    }

    /// Asks about some files, as many at a time as fit a request; of which nothing is heard, they are forgotten.
    async fn ask(&self, wholes: Vec<Whole>) {
        let asked: Vec<_> = wholes.iter().map(|w| (w.node.id, w.number)).collect();
        self.ask_each(wholes).await;
        let mut state = self.state.lock();
        for (id, number) in asked {
            state.records.answered(id, number);
        }
    }

    async fn ask_each(&self, wholes: Vec<Whole>) {
        let mut wholes = wholes.into_iter();
        while !wholes.as_slice().is_empty() && self.remote.is_connected() {
            let hash = move || {
                let named = name(&mut wholes);
                (named, wholes)
            };
            let Ok((named, rest)) = spawn_blocking(hash).await else {
                return;
            };
            wholes = rest;
            self.ask_about(named).await;
        }
    }

    async fn ask_about(&self, named: Vec<(Whole, WrittenFile)>) {
        let (wholes, files): (Vec<_>, Vec<_>) = named.into_iter().unzip();
        if files.is_empty() {
            return;
        }
        add(&self.stats.asked_files, files.len() as u64);
        let asked = Instant::now();
        let answer = timeout(PATIENCE, self.remote.call(Request::Vouch { files })).await;
        let Ok(Ok(answer)) = answer else {
            return;
        };
        let Reply::Vouched(vouched) = answer.reply else {
            return;
        };
        for (whole, attr) in wholes.into_iter().zip(vouched) {
            match attr {
                Some(attr) => self.keep(whole, &attr, asked),
                None => {
                    let (id, number) = (whole.node.id, whole.number);
                    let mut state = self.state.lock();
                    state.records.again(id, number, Instant::now());
                }
            }
        }
    }

    /// Gives the caches what the host has vouched for.
    fn keep(&self, whole: Whole, attr: &Attr, asked: Instant) {
        let bytes = whole.pieces.bytes() as u64;
        if attr.id != whole.node.id || attr.size != bytes {
            return;
        }
        // Of what was changed meanwhile this was a version, and nobody will ask for it.
        let kept = self
            .state
            .lock()
            .records
            .answered(whole.node.id, whole.number);
        if kept.is_none() {
            return;
        }
        drop(kept);
        let Whole { node, pieces, .. } = whole;
        let pieces = Arc::unwrap_or_clone(pieces);
        add(&self.stats.kept_files, 1);
        add(&self.stats.kept_bytes, bytes);
        node.learn_content(attr, Heard::since(asked));
        self.fetcher.keep(&node, attr, pieces.into_chunks());
    }
}

/// A change of content that is under way. If nobody says how it ended, nobody knows what the file holds.
pub struct Changing<'a> {
    own: &'a OwnBytes,
    node: &'a Arc<Node>,
    mark: Option<Mark>,
}

impl Changing<'_> {
    /// `data` was taken to be written at `offset`.
    pub fn wrote(self, offset: u64, data: &[u8]) {
        self.end(&Changed::Written(offset, data));
    }

    /// `data` was put at the end, which was at `offset`.
    pub fn appended(self, offset: u64, data: &[u8]) {
        self.end(&Changed::Appended(offset, data));
    }

    /// The file was made `size` long, as was asked for at `asked`.
    pub fn cut(self, size: u64, asked: Instant) {
        self.end(&Changed::Cut(size, asked));
    }

    fn end(mut self, how: &Changed<'_>) {
        if let Some(mark) = self.mark.take() {
            self.own.state.lock().records.changed(self.node, mark, how);
        }
    }
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        if let Some(mark) = self.mark.take() {
            let mut state = self.own.state.lock();
            state.records.changed(self.node, mark, &Changed::Otherwise);
        }
    }
}

/// Takes as many of `wholes` as fit a request, with what is asked about them.
fn name(wholes: &mut std::vec::IntoIter<Whole>) -> Vec<(Whole, WrittenFile)> {
    let mut named = Vec::new();
    let mut left = REQUEST_BYTES_MAX;
    while let Some(whole) = wholes.as_slice().first() {
        let node = whole.node.reference();
        let bytes = FILE_WIRE_BYTES + node.as_ref().map_or(0, |node| node.path.as_bytes().len());
        let Some(rest) = left.checked_sub(bytes) else {
            break;
        };
        left = rest;
        let (Some(whole), Ok(node)) = (wholes.next(), node) else {
            continue;
        };
        let file = WrittenFile {
            node,
            size: whole.pieces.bytes() as u64,
            digest: whole.pieces.digest(),
        };
        named.push((whole, file));
    }
    named
}

/// Asks about what was closed, until there is nothing more.
async fn run(own: Weak<OwnBytes>) {
    loop {
        let Some(this) = own.upgrade() else {
            return;
        };
        match this.next() {
            Next::Ask(wholes, more) => {
                this.ask(wholes).await;
                drop(this);
                if !more {
                    sleep(GATHER).await;
                }
            }
            Next::Rest(until) => {
                let wake = this.wake.clone();
                drop(this);
                tokio::select! {
                    () = sleep_until(until) => {}
                    // What was closed last may be due before what is to be asked about once more.
                    () = wake.notified() => {}
                }
            }
            Next::Nothing => return,
        }
    }
}
