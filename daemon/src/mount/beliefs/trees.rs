//! Metadata of whole trees, fetched ahead: so that a walk finds what it looks at already here.
//!
//! A directory that is listed and was never listed before is not asked for alone, but with all beneath it, breadth
//! first and compressed ([`Request::Tree`]). The first directory comes at once, as from a listing; the host sends
//! the rest when nothing else wants the link. Each directory that comes becomes a listing like any other, leased
//! if the host says so.
//!
//! Who lists a directory that is about to come waits for it as long as it will not take much longer than asking
//! would; else he asks himself, again with all beneath: a walk that goes elsewhere than the stream overtakes it.
//!
//! Programs that know their paths (git, compilers) list no directory, and come to each by itself. Where one is
//! listed beside another, because names in it were looked up or to be read, so is all beneath the directory both
//! are in.
//!
//! Bounds: so many entries in the life of a mount ([`PrefetchMetadata`]), a few streams at once. What the host
//! sends unasked (a directory that is none of those announced by a listing before) is not believed.
//!
//! Lock: `state`, a leaf.

use super::Beliefs;
use crate::mount::heard::Heard;
use crate::mount::inodes::Node;
use crate::mount::listing::Listing;
use crate::mount::stats::add;
use crate::rpc::{CallError, Payload};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use wormhole_protocol::limits::TREE_ENTRIES_MAX;
use wormhole_protocol::{
    Attr, FileId, FileKind, ListFrame, RelPath, Reply, Request, TreeDecoder, TreeFrame,
};

/// Entries fetched ahead in the life of a mount that fetches as it is used: some 4 MB on the wire.
const LAZY_ENTRIES_MAX: u32 = 100_000;
/// Streams at once: one that is overtaken, and the one that overtakes it.
const STREAMS_MAX: usize = 2;
/// How long a directory that is about to come is waited for, beside two round trips.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long a mount that fetches everything waits for the host to give leases, before it begins.
const LEASES_MAX: Duration = Duration::from_secs(5);
/// How long the directory that was asked for is waited for; then it is asked for alone.
const FIRST_MAX: Duration = Duration::from_secs(30);
/// Directories remembered as asked for; beyond, nothing is fetched around any.
const BEGUN_MAX: usize = 4096;
/// Directories upwards in which one around two others is looked for.
const CLIMB_MAX: usize = 64;
/// Bytes drawn from the stream at a time.
const PIECE_BYTES: usize = 64 * 1024;

/// What is fetched of names and attributes before anybody asks (`--prefetch-metadata`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum PrefetchMetadata {
    /// Nothing.
    Off,
    /// What is beneath a directory that is listed, or around two that names are looked up in, up to 100,000
    /// entries.
    #[default]
    Lazy,
    /// The whole share, from the start, up to 1,000,000 entries.
    All,
}

/// Where a directory that was announced stands in its stream.
#[derive(Clone, Copy)]
struct Announced {
    stream: u64,
    order: u64,
}

/// How far a stream is.
struct Stream {
    began: Instant,
    announced: u64,
    arrived: u64,
}

#[derive(Default)]
struct State {
    entries_left: u32,
    next: u64,
    streams: HashMap<u64, Stream>,
    announced: HashMap<FileId, Announced>,
    /// Directories that were asked for with all beneath.
    begun: HashSet<FileId>,
    /// The directory that was listed last, but for those it is in.
    last: Option<Arc<Node>>,
    tasks: JoinSet<()>,
}

/// The trees a mount is fetching.
pub(super) struct Trees {
    state: Mutex<State>,
    /// Changes with each directory that begins to arrive, and with each end.
    changed: watch::Sender<()>,
}

impl Default for Trees {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            changed: watch::Sender::new(()),
        }
    }
}

impl Trees {
    /// A new stream that is to bring `dir` first; none if there are too many, or enough was fetched.
    fn begin(&self, dir: FileId) -> Option<(u64, u32)> {
        let mut state = self.state.lock();
        let entries_max = state.entries_left.min(TREE_ENTRIES_MAX);
        if entries_max == 0 || state.streams.len() >= STREAMS_MAX {
            return None;
        }
        state.next += 1;
        let number = state.next;
        let stream = Stream {
            began: Instant::now(),
            announced: 0,
            arrived: 0,
        };
        state.streams.insert(number, stream);
        if state.begun.len() < BEGUN_MAX {
            state.begun.insert(dir);
        }
        drop(state);
        self.announce(number, dir);
        Some((number, entries_max))
    }

    fn announce(&self, number: u64, dir: FileId) {
        let mut state = self.state.lock();
        let Some(stream) = state.streams.get_mut(&number) else {
            return;
        };
        let order = stream.announced;
        stream.announced += 1;
        let announced = Announced {
            stream: number,
            order,
        };
        state.announced.insert(dir, announced);
    }

    /// A directory begins to arrive, or is known not to.
    fn arrived(&self, number: u64, dir: FileId) {
        let mut state = self.state.lock();
        if state
            .announced
            .get(&dir)
            .is_some_and(|announced| announced.stream == number)
        {
            state.announced.remove(&dir);
        }
        if let Some(stream) = state.streams.get_mut(&number) {
            stream.arrived += 1;
        }
        drop(state);
        self.changed.send_replace(());
    }

    /// Whether `dir` was asked for neither by itself nor with one it is in.
    fn is_new(&self, dir: &Arc<Node>) -> bool {
        let begun = &self.state.lock().begun;
        begun.len() < BEGUN_MAX && !upwards(dir.clone()).any(|dir| begun.contains(&dir.id))
    }

    /// So many entries came.
    fn took(&self, entries: usize) {
        let mut state = self.state.lock();
        let entries = u32::try_from(entries).unwrap_or(u32::MAX);
        state.entries_left = state.entries_left.saturating_sub(entries);
    }

    fn end(&self, number: u64) {
        let mut state = self.state.lock();
        state.streams.remove(&number);
        state
            .announced
            .retain(|_, announced| announced.stream != number);
        drop(state);
        self.changed.send_replace(());
    }

    /// How much longer a directory is worth waiting for, if it takes `patience` to ask for it; none if it will
    /// not come, or not soon.
    fn worth_waiting(&self, dir: FileId, patience: Duration) -> Option<Duration> {
        let state = self.state.lock();
        let announced = state.announced.get(&dir)?;
        let stream = state.streams.get(&announced.stream)?;
        if announced.order <= stream.arrived || stream.arrived == 0 {
            return Some(patience);
        }
        let ahead = u32::try_from(announced.order - stream.arrived).ok()?;
        let each = stream.began.elapsed() / u32::try_from(stream.arrived).ok()?;
        (each.checked_mul(ahead)? <= patience).then_some(patience)
    }
}

impl Beliefs {
    /// Says what is fetched ahead. All of it is from now on, beginning with `root`.
    pub fn prefetch(self: &Arc<Self>, how: PrefetchMetadata, root: &Arc<Node>) {
        if self.believes_nothing() {
            return;
        }
        self.trees.state.lock().entries_left = match how {
            PrefetchMetadata::Off => 0,
            PrefetchMetadata::Lazy => LAZY_ENTRIES_MAX,
            PrefetchMetadata::All => TREE_ENTRIES_MAX,
        };
        if how != PrefetchMetadata::All {
            return;
        }
        let (weak, root) = (Arc::downgrade(self), root.clone());
        let mut changes = self.leases.changes();
        let start = async move {
            let given = changes.wait_for(|()| {
                weak.upgrade()
                    .is_none_or(|beliefs| beliefs.leases.snapshot().term_ms.is_some())
            });
            let _ = tokio::time::timeout(LEASES_MAX, given).await;
            if let Some(beliefs) = weak.upgrade() {
                beliefs.fetch_tree(&root);
            }
        };
        self.trees.state.lock().tasks.spawn(start);
    }

    /// The listing of a directory, if it comes with a tree: one that is on its way, or one that is asked for now.
    pub(super) async fn list_with_tree(self: &Arc<Self>, dir: &Arc<Node>) -> Option<Arc<Listing>> {
        let patience = self.remote.path().rtt * 2 + PATIENCE;
        let mut changed = self.trees.changed.subscribe();
        // What was listed before is asked for by its digest, or alone.
        let is_new = self.listings.get(dir.id).is_none();
        let first = match self.trees.worth_waiting(dir.id, patience) {
            Some(patience) => patience,
            None if is_new && self.fetch_tree(dir) => {
                self.fetch_around(dir);
                FIRST_MAX
            }
            None => return None,
        };
        let deadline = Instant::now() + first;
        loop {
            changed.borrow_and_update();
            if let Some(listing) = self.joinable(dir) {
                return Some(listing);
            }
            self.trees.worth_waiting(dir.id, patience)?;
            timeout_at(deadline, changed.changed()).await.ok()?.ok()?;
        }
    }

    /// Asks for what is around `dir`, which is about to be listed, and the directory that was before it, if nobody
    /// did yet. Who goes on in one, into it or out of it does not go from one to another.
    pub(super) fn fetch_around(self: &Arc<Self>, dir: &Arc<Node>) {
        let last = self.trees.state.lock().last.clone();
        let within: HashSet<FileId> = last
            .iter()
            .cloned()
            .flat_map(upwards)
            .map(|d| d.id)
            .collect();
        if within.contains(&dir.id) {
            return;
        }
        self.trees.state.lock().last = Some(dir.clone());
        let around = upwards(dir.clone()).find(|dir| within.contains(&dir.id));
        if let (Some(last), Some(around)) = (last, around)
            && around.id != last.id
            && self.trees.is_new(&around)
        {
            self.fetch_tree(&around);
        }
    }

    /// Asks for a directory and all beneath it, in the background. False if that is not to be.
    fn fetch_tree(self: &Arc<Self>, dir: &Arc<Node>) -> bool {
        let Ok(reference) = dir.reference() else {
            return false;
        };
        if !self.remote.is_connected() {
            return false;
        }
        let Some((number, entries_max)) = self.trees.begin(dir.id) else {
            return false;
        };
        add(&self.stats.tree, 1);
        let fetch = Fetch {
            number,
            asked: Instant::now(),
            announced: HashMap::from([(reference.path.clone(), dir.id)]),
            current: None,
            first: Some(dir.clone()),
            beliefs: Arc::downgrade(self),
        };
        let remote = self.remote.clone();
        let run = async move {
            let request = Request::Tree {
                dir: reference,
                entries_max,
            };
            let answer = remote.call(request).await;
            let (weak, number) = (fetch.beliefs.clone(), fetch.number);
            if let Ok(answer) = answer
                && answer.reply == Reply::Tree
            {
                fetch.run(answer.payload, entries_max).await;
            }
            if let Some(beliefs) = weak.upgrade() {
                beliefs.trees.end(number);
            }
        };
        let mut state = self.trees.state.lock();
        while state.tasks.try_join_next().is_some() {}
        state.tasks.spawn(run);
        true
    }

    /// A change of ours was answered with these attributes: those that came with a tree are older, if they are of
    /// a directory.
    pub(super) fn forget_dir_attr(&self, attr: &Attr) {
        if attr.kind == FileKind::Directory
            && let Some(listing) = self.listings.get(attr.id)
        {
            listing.forget_own_attr();
        }
    }

    /// Gives a node that was just seen as `attr`, if it is a directory, the attributes that came with its own
    /// entries, if these are leased.
    pub fn learn_dir(&self, node: &Node, attr: &Attr) {
        if attr.kind != FileKind::Directory {
            return;
        }
        let listing = self.listings.get(attr.id);
        let own = listing.and_then(|listing| listing.own_attr());
        if let Some((own, heard)) = own
            && self.terms(attr.id).is_leased(heard)
        {
            node.learn(&own, heard);
        }
    }
}

/// A directory, and those it is in.
fn upwards(dir: Arc<Node>) -> impl Iterator<Item = Arc<Node>> {
    let up = |dir: &Arc<Node>| dir.place().map(|(parent, _)| parent);
    std::iter::successors(Some(dir), up).take(CLIMB_MAX)
}

/// One tree being fetched.
struct Fetch {
    number: u64,
    asked: Instant,
    /// Directories a listing told of, by their paths; what comes of others is not believed.
    announced: HashMap<RelPath, FileId>,
    /// The directory that is arriving, unless nobody wants it.
    current: Option<(RelPath, Option<Arc<Listing>>)>,
    /// The directory that was asked for.
    first: Option<Arc<Node>>,
    beliefs: Weak<Beliefs>,
}

/// Whoever reads a directory that was arriving is told that it is not.
impl Drop for Fetch {
    fn drop(&mut self) {
        self.break_off();
    }
}

impl Fetch {
    /// Takes frames until the end of the stream, or of the mount.
    async fn run(mut self, mut payload: Payload, entries_max: u32) {
        let Ok(mut decoder) = TreeDecoder::open(entries_max as usize) else {
            return;
        };
        let mut piece = vec![0; PIECE_BYTES];
        while let Ok(read @ 1..) = payload.read(&mut piece).await {
            let mut input = &piece[..read];
            loop {
                match decoder.next(&mut input) {
                    Ok(Some(frame)) => {
                        let Some(beliefs) = self.beliefs.upgrade() else {
                            return;
                        };
                        beliefs.trees.took(frame.entries_len());
                        self.take(&beliefs, frame);
                    }
                    Ok(None) => break,
                    Err(error) => {
                        tracing::warn!("the host's tree cannot be read: {error}");
                        return;
                    }
                }
            }
        }
    }

    /// A directory that is arriving will not be whole.
    fn break_off(&mut self) {
        if let Some((_, Some(listing))) = self.current.take() {
            listing.feed(Err(CallError::Link));
        }
    }

    fn take(&mut self, beliefs: &Arc<Beliefs>, frame: TreeFrame) {
        let (entries, last) = match frame {
            TreeFrame::Directory {
                path,
                attr,
                leased,
                entries,
                last,
            } => {
                self.break_off();
                self.open(beliefs, path, &attr, leased);
                (entries, last)
            }
            TreeFrame::More { entries, last } => (entries, last),
            TreeFrame::End { .. } => return self.break_off(),
        };
        let Some((path, listing)) = &self.current else {
            return;
        };
        for entry in entries
            .iter()
            .filter(|e| e.attr.kind == FileKind::Directory)
        {
            if let Ok(path) = path.join(&entry.name) {
                self.announced.insert(path, entry.attr.id);
                beliefs.trees.announce(self.number, entry.attr.id);
            }
        }
        if let Some(listing) = listing {
            listing.feed(Ok(ListFrame { entries, last }));
            beliefs.trees.changed.send_replace(());
        }
        if last {
            self.current = None;
        }
    }

    /// A directory begins.
    fn open(&mut self, beliefs: &Arc<Beliefs>, path: RelPath, attr: &Attr, leased: bool) {
        let is_announced = self.announced.remove(&path) == Some(attr.id);
        if !is_announced || attr.kind != FileKind::Directory {
            return;
        }
        let first = self.first.take();
        let leased = beliefs.is_leased_answer(attr.id, self.asked, leased);
        let heard = Heard::since(self.asked).leased(leased);
        if let Some(first) = first.filter(|first| first.id == attr.id) {
            first.learn(attr, heard);
        }
        let known = beliefs.listings.get(attr.id);
        // What is known already, and is as good, stays: somebody may be reading it.
        let is_known = known.is_some_and(|known| {
            let is_good = known.is_joinable(&beliefs.terms(attr.id));
            is_good && (known.heard().leased || !leased)
        });
        let listing = (!is_known && beliefs.doubts.allow(attr.id, self.asked)).then(|| {
            let listing = Listing::fed(heard, leased.then_some(*attr));
            beliefs.listings.put_id(attr.id, listing.clone());
            beliefs.amend_id(attr.id, &listing);
            listing
        });
        self.current = Some((path, listing));
        beliefs.trees.arrived(self.number, attr.id);
    }
}
