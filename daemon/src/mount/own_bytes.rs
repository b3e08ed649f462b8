//! Files this mount wrote from beginning to end: what it wrote goes to its caches, once the host has vouched for it.
//!
//! ```text
//!   write ──> Records ── closed, and at rest ──> Vouch ── the host has just that, of this version ──> caches
//! ```
//!
//! What answers to writes say of a file does not do: a program on the host may have written in between. So nothing
//! here is believed, and nothing need be exact: what the caches get is what was hashed, and the host found the same in the
//! file of that version. What the host does not vouch for is forgotten, and fetched when somebody reads it.
//!
//! Invariant: what is held is bounded ([`BYTES_MAX`] and [`record`]).
//!
//! Not here: writing (`write`), the caches (`fetch`).
//!
//! Locks: `state`, under which what was written is copied, and `tasks`; leaves.

mod record;

use super::fetch::Fetcher;
use super::heard::Heard;
use super::inodes::Node;
use super::stats::{OwnBytesStats, add};
use crate::rpc::Remote;
use parking_lot::Mutex;
use record::{Next, Records, Whole};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Instant, sleep_until, timeout};
use wormhole_protocol::limits::{REQUEST_BYTES_MAX, VOUCH_FILES_MAX};
use wormhole_protocol::{Attr, FileId, Reply, Request, WrittenFile};

/// Most bytes that are held, unless memory is short: then a part of what the memory cache may have.
const BYTES_MAX: u64 = 32 * 1024 * 1024;
const L1_PART: u64 = 8;
/// A host that does not answer for so long is not waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// What a file needs in a request besides its path.
const FILE_WIRE_BYTES: usize = 96;
const _: () = assert!(VOUCH_FILES_MAX * FILE_WIRE_BYTES < REQUEST_BYTES_MAX);

/// What this mount wrote, and when its host is asked about it.
pub struct OwnBytes {
    fetcher: Arc<Fetcher>,
    remote: Arc<dyn Remote>,
    state: Mutex<State>,
    tasks: Mutex<JoinSet<()>>,
    /// Something was closed.
    wake: Arc<Notify>,
    /// What became of it.
    pub stats: OwnBytesStats,
}

struct State {
    records: Records,
    /// Whether there is a task that asks about them.
    is_asking: bool,
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
            }),
            tasks: Mutex::default(),
            wake: Arc::default(),
            stats: OwnBytesStats::default(),
        })
    }

    /// `data` was taken to be written.
    pub fn wrote(&self, node: &Arc<Node>, offset: u64, data: &[u8]) {
        if self.fetcher.keeps_ahead() {
            self.state.lock().records.wrote(node, offset, data);
        }
    }

    /// The file was made `size` long.
    pub fn cut(&self, id: FileId, size: u64) {
        self.state.lock().records.cut(id, size);
    }

    /// Not all that was written has arrived.
    pub fn forget(&self, id: FileId) {
        self.state.lock().records.forget(id);
    }

    /// The file was closed, and the host has applied all that was written.
    pub fn closed(self: &Arc<Self>, id: FileId) {
        {
            let mut state = self.state.lock();
            if !state.records.closed(id, Instant::now()) {
                return;
            }
            if std::mem::replace(&mut state.is_asking, true) {
                self.wake.notify_one();
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
        if matches!(next, Next::Nothing) {
            state.is_asking = false;
        }
        next
    }

    /// Asks about some files, as many at a time as fit a request.
    async fn ask(&self, wholes: Vec<Whole>) {
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
                None => self.state.lock().records.again(whole, Instant::now()),
            }
        }
    }

    /// Gives the caches what the host has vouched for.
    fn keep(&self, whole: Whole, attr: &Attr, asked: Instant) {
        let Whole { node, pieces, .. } = whole;
        let bytes = pieces.bytes() as u64;
        if attr.id != node.id || attr.size != bytes {
            return;
        }
        add(&self.stats.kept_files, 1);
        add(&self.stats.kept_bytes, bytes);
        node.learn_content(attr, Heard::since(asked));
        self.fetcher.keep(&node, attr, pieces.into_chunks());
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
            Next::Ask(wholes) => this.ask(wholes).await,
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
