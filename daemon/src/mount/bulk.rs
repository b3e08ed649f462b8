//! Small files in bulk: what will be read next of a directory is fetched before anybody asks.
//!
//! Each first read of a small file is shown to the pattern of its directory ([`pattern`]). When that says which
//! files come next, they are fetched in one stream ([`stream`]) into the same caches and through the same
//! table of flights as everything else: who reads one of them meanwhile waits for it, unless it is still far
//! away in its stream. Where a directory ends, the next one of the walk goes on.
//!
//! Which files there are, and in which versions, is taken from the directory's listing. A file that changed
//! since is not brought, and costs its reader what it always did.
//!
//! Invariants
//! - What was fetched and not read is, of all small files that were read, a quarter at most, beyond
//!   [`FREE_BYTES`]: so at most a fifth of all their bytes is fetched in vain.
//! - What is under way and unread fits the window of the path ([`Fetcher::window_max_bytes`]).
//!
//! Not here: reading (`fetch`), what names mean (`beliefs`).
//!
//! Locks: `dirs`, `under_way`, `tasks`; none while another is held, nor across an await.

mod pattern;
mod stream;
mod table;
mod watched;

use super::beliefs::Beliefs;
use super::fetch::{Fetcher, Whole};
use super::inodes::Node;
use super::stats::{BulkStats, add};
use crate::rpc::Remote;
use parking_lot::Mutex;
use pattern::{Order, Seen};
use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;
use stream::{Batch, Owed};
use table::{SmallFile, Table};
use tokio::task::JoinSet;
use tokio::time::Instant;
use watched::{Step, WatchedDirs};
use wormhole_protocol::{FileId, Name};

/// Bytes that may be fetched and unread whatever was read.
const FREE_BYTES: u64 = 1024 * 1024;
/// One part in so many of what was read may be, besides.
const UNREAD_PART: u64 = 4;
/// Streams and preparations at once.
const TASKS_MAX: usize = 32;
/// Directories upwards in which the next one of a walk is looked for.
const CLIMB_MAX: usize = 16;
/// A stream that does not begin for so long, and some round trips, is given up; so is one whose files nobody
/// reads for as long.
const PATIENCE: (Duration, u32) = (Duration::from_secs(2), 4);
/// A reader waits this long, and some round trips, for a stream to come to its file; else it asks for itself.
const NEAR: (Duration, u32) = (Duration::from_secs(1), 2);

/// A file on its way.
struct UnderWay {
    whole: Whole,
    /// Bytes of its stream before it.
    before_bytes: u64,
    /// Bytes of its stream that have come.
    come_bytes: Arc<AtomicU64>,
}

/// Fetches small files ahead of need.
pub struct Bulk {
    fetcher: Arc<Fetcher>,
    beliefs: Arc<Beliefs>,
    remote: Arc<dyn Remote>,
    dirs: Mutex<WatchedDirs>,
    under_way: Mutex<HashMap<FileId, UnderWay>>,
    tasks: Mutex<JoinSet<()>>,
    /// What was fetched so.
    pub stats: BulkStats,
}

impl Bulk {
    /// Fetches through `fetcher` what `beliefs` list.
    pub fn new(fetcher: Arc<Fetcher>, beliefs: Arc<Beliefs>, remote: Arc<dyn Remote>) -> Arc<Self> {
        Arc::new(Self {
            fetcher,
            beliefs,
            remote,
            dirs: Mutex::default(),
            under_way: Mutex::default(),
            tasks: Mutex::default(),
            stats: BulkStats::default(),
        })
    }

    /// Takes note that a file is read from its beginning. What is fetched because of it, is before this
    /// returns on its way as far as readers are concerned.
    pub fn observe(self: &Arc<Self>, node: &Arc<Node>) {
        let attr = node.attr();
        let Some((dir, name)) = node.place() else {
            return;
        };
        let Some(file) = SmallFile::of(&name, &attr) else {
            return;
        };
        if !self.fetcher.keeps_ahead() {
            return;
        }
        let window_max = self.fetcher.window_max_bytes();
        let (seen, step) = {
            let mut dirs = self.dirs.lock();
            dirs.observe(&dir, &file, window_max, Instant::now())
        };
        if seen == Some(Seen::Hit) {
            add(&self.stats.used_bytes, file.size.into());
            add(&self.stats.used_files, 1);
            self.take_if_far(file.id);
        }
        match step {
            Step::Nothing => {}
            Step::Prepare => {
                if !self.start(prepare(Arc::downgrade(self), dir.clone())) {
                    self.dirs.lock().prepared(&dir, None, window_max);
                }
            }
            Step::Advance => self.advance(dir.id),
        }
    }

    /// Who waits for a file that is far away in its stream would get it sooner alone.
    fn take_if_far(&self, id: FileId) {
        let mut under_way = self.under_way.lock();
        let Some(file) = under_way.get(&id) else {
            return;
        };
        let path = self.remote.path();
        let bytes = file
            .before_bytes
            .saturating_sub(file.come_bytes.load(Relaxed));
        let micros = bytes.saturating_mul(1_000_000) / path.bytes_per_sec.max(1);
        if path.bytes_per_sec > 0 && Duration::from_micros(micros) > NEAR.0 + path.rtt * NEAR.1 {
            let taken = under_way.remove(&id);
            drop(under_way);
            // Dropped with no lock held: it wakes who waits.
            drop(taken);
        }
    }

    /// Fetches what the pattern of a directory, and of those after it, says.
    fn advance(self: &Arc<Self>, dir: FileId) {
        let window_max = self.fetcher.window_max_bytes();
        let (batches, last) = self.dirs.lock().plan(dir, window_max);
        for batch in batches {
            self.fetch(batch);
        }
        if let Some((last, order)) = last {
            let id = last.id;
            if !self.start(go_on(Arc::downgrade(self), dir, last, order)) {
                self.dirs.lock().not_sought(id);
            }
        }
    }

    /// Claims the files of a batch and starts the stream that brings them.
    fn fetch(self: &Arc<Self>, batch: Batch) {
        let dir = batch.dir.id;
        let mut wanted = Vec::new();
        let mut wholes = Vec::new();
        let mut settled = Vec::new();
        for (number, file) in batch.files {
            match self.fetcher.claim_whole(file.id, file.version, file.size) {
                Some(whole) => {
                    wholes.push((file.id, whole));
                    wanted.push((number, file));
                }
                None => settled.push(number),
            }
        }
        {
            let mut dirs = self.dirs.lock();
            dirs.fetching(wholes.iter().map(|(_, whole)| whole.bytes()).sum());
            for number in settled {
                dirs.settle(dir, number);
            }
        }
        if wanted.is_empty() {
            return;
        }
        let come_bytes = Arc::new(AtomicU64::new(0));
        let mut before_bytes = 0;
        let mut perhaps_on_disk = Vec::new();
        for (id, whole) in wholes {
            if !self.fetcher.disk_lacks(&whole) {
                perhaps_on_disk.push(id);
            }
            let bytes = whole.bytes();
            let under_way = UnderWay {
                whole,
                before_bytes,
                come_bytes: come_bytes.clone(),
            };
            self.under_way.lock().insert(id, under_way);
            before_bytes += bytes;
        }
        let batch = Batch {
            dir: batch.dir,
            files: wanted,
        };
        // Dropped unstarted, it gives back what it owes.
        let owed = Owed::new(Arc::downgrade(self), batch, perhaps_on_disk, come_bytes);
        self.start(stream::run(owed));
    }

    /// How long readers wait for the host to begin to answer, and streams for readers.
    fn patience(&self) -> Duration {
        PATIENCE.0 + self.remote.path().rtt * PATIENCE.1
    }

    /// Whether nobody has read a small file for a while.
    fn is_idle(&self) -> bool {
        let last = self.dirs.lock().last_read();
        last.is_none_or(|last| last.elapsed() > self.patience())
    }

    /// Runs a task, unless there are too many. False if it does not run.
    fn start(&self, task: impl Future<Output = ()> + Send + 'static) -> bool {
        let mut tasks = self.tasks.lock();
        while tasks.try_join_next().is_some() {}
        if tasks.len() >= TASKS_MAX {
            // What it would have held takes locks when it goes.
            drop(tasks);
            drop(task);
            return false;
        }
        tasks.spawn(task);
        true
    }
}

/// Makes the table of a directory that is being read, if its listing is at hand.
async fn prepare(bulk: Weak<Bulk>, dir: Arc<Node>) {
    let Some(bulk) = bulk.upgrade() else { return };
    let table = match bulk.beliefs.listing_at_hand(&dir).await {
        Some(listing) => Table::of(&listing).await,
        None => None,
    };
    let window_max = bulk.fetcher.window_max_bytes();
    if bulk.dirs.lock().prepared(&dir, table, window_max) {
        bulk.advance(dir.id);
    }
}

/// Finds the directory that comes after `last`, and goes on there with the reading of `dir`.
async fn go_on(bulk: Weak<Bulk>, dir: FileId, last: Arc<Node>, order: Order) {
    let Some(bulk) = bulk.upgrade() else { return };
    let next = bulk.directory_after(&last, order).await;
    let expected = match &next {
        Some(next) => bulk.listed(next).await.map(|table| (next.clone(), table)),
        None => None,
    };
    if bulk.dirs.lock().go_on(dir, last.id, expected) {
        bulk.advance(dir);
    }
}

impl Bulk {
    /// The directory that a walk comes to after `dir`: its own first one, else the next one beside it, or
    /// beside the directory it is in, and so on.
    async fn directory_after(&self, dir: &Arc<Node>, order: Order) -> Option<Arc<Node>> {
        let mut at = dir.clone();
        let mut name: Option<Name> = None;
        for _ in 0..CLIMB_MAX {
            let table = self.listed(&at).await?;
            if let Some((name, attr)) = table.dir_after(name.as_ref(), order) {
                return Some(Node::detached(&at, name, attr));
            }
            let (parent, own) = at.place()?;
            (at, name) = (parent, Some(own));
        }
        None
    }

    /// What a directory holds, asked for if it is not known.
    async fn listed(&self, dir: &Arc<Node>) -> Option<Table> {
        if !self.remote.is_connected() {
            return None;
        }
        let listing = self.beliefs.list(dir).await.ok()?;
        Table::of(&listing).await
    }
}
