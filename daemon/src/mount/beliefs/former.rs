//! What is known from before: listings of an earlier session, or of an earlier life of this mount.
//!
//! They are not believed, but the host is asked of many at once, by their digests, which of them still hold
//! ([`Request::Revalidate`]). As soon as a session listens it is asked of those that were used last, in one request. If
//! one of the others is wanted after that, all are asked about, a few requests at a time; whoever is quicker asks for
//! his own. What holds is leased from then on as if it had just been told.
//!
//! Where their directories are, so that the host can be asked: `survey`.
//!
//! A mount that comes back finds listings in a file ([`crate::mount::tree_file`]). As long as that is being read,
//! and no session listens yet, who lists or looks up waits a little.
//!
//! Lock: `tasks`, a leaf.

use super::Beliefs;
use super::renewal::Subject;
use crate::mount::heard::Heard;
use crate::mount::inodes::{Inodes, Node};
use crate::mount::listing::Listing;
use crate::mount::stats::add;
use crate::rpc::CallError;
use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Instant, timeout};
use wormhole_protocol::limits::{REQUEST_BYTES_MAX, REVALIDATE_DIRS_MAX};
use wormhole_protocol::{Attr, FileId, KnownListing, NodeRef, RelPath, Reply, Request, Verdict};

/// Requests at once; each has the host read up to 128 directories.
const AT_ONCE: usize = 4;
/// With so many entries in its directories a request names no further one: the host looks at all before it answers.
const ENTRIES_AT_ONCE: usize = 128 * 1024;
/// What a directory takes in a request at the most, besides its path, and the request itself.
const KNOWN_BYTES: usize = 72;
const REQUEST_HEAD_BYTES: usize = 64;
/// How long what is about to be known is waited for, before it is asked for in vain.
const PATIENCE: Duration = Duration::from_secs(2);
/// And how much of that the disk may take.
const READING_MAX: Duration = Duration::from_millis(400);
/// So long ago was what the file says told, for want of something better: before anything in this life.
const LONG_AGO: Duration = Duration::from_secs(3600);

const _: () = assert!(REVALIDATE_DIRS_MAX * KNOWN_BYTES + REQUEST_HEAD_BYTES <= REQUEST_BYTES_MAX);

/// How far what is known from before is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// It is being read from the disk.
    Reading,
    /// Likewise, and no session will listen for now.
    ReadingUnheard,
    /// It is here, and no session has listened yet.
    Waiting,
    /// The host is asked, or was.
    Known,
}

pub(super) struct Former {
    phase: watch::Sender<Phase>,
    /// Something of before is wanted.
    wanted: watch::Sender<()>,
    tasks: Mutex<JoinSet<()>>,
}

impl Default for Former {
    fn default() -> Self {
        Self {
            phase: watch::Sender::new(Phase::Known),
            wanted: watch::Sender::new(()),
            tasks: Mutex::default(),
        }
    }
}

impl Former {
    /// Waits for a phase; false if that takes longer than `patience`.
    async fn reached(&self, phase: Phase, patience: Duration) -> bool {
        let mut now = self.phase.subscribe();
        let reached = now.wait_for(|now| *now >= phase);
        matches!(timeout(patience, reached).await, Ok(Ok(_)))
    }

    fn reach(&self, phase: Phase) {
        self.phase.send_if_modified(|now| {
            let is_new = *now < phase;
            *now = phase.max(*now);
            is_new
        });
    }

    fn end_reading(&self) {
        self.phase.send_modify(|now| match now {
            Phase::Reading => *now = Phase::Waiting,
            Phase::ReadingUnheard => *now = Phase::Known,
            Phase::Waiting | Phase::Known => {}
        });
    }

    fn nobody_listens(&self) {
        self.phase.send_modify(|now| match now {
            Phase::Reading => *now = Phase::ReadingUnheard,
            Phase::Waiting => *now = Phase::Known,
            Phase::ReadingUnheard | Phase::Known => {}
        });
    }

    /// Waits until what was saved is here; false if the disk is slow.
    pub(super) async fn read(&self) -> bool {
        self.reached(Phase::Waiting, READING_MAX).await
    }

    /// Something of before is wanted: waits until the host is being asked about it, if it is about to be.
    pub(super) async fn want(&self) {
        self.wanted.send_replace(());
        if self.read().await {
            self.reached(Phase::Known, PATIENCE).await;
        }
    }
}

/// Directories that one request asks about.
struct Batch {
    dirs: Vec<(FileId, Arc<Listing>)>,
    known: Vec<KnownListing>,
    beliefs: Weak<Beliefs>,
}

/// Whoever waits for them waits no longer.
impl Drop for Batch {
    fn drop(&mut self) {
        if let Some(beliefs) = self.beliefs.upgrade() {
            beliefs.release_listings(self.dirs.iter().map(|(dir, _)| *dir));
        }
    }
}

impl Beliefs {
    /// What an earlier life knew is about to be read.
    pub fn begin_reading(&self) {
        self.former.phase.send_replace(Phase::Reading);
    }

    /// It was read, as far as it could be.
    pub fn end_reading(&self) {
        self.former.end_reading();
    }

    /// No session will listen for now.
    pub fn nobody_listens(&self) {
        self.former.nobody_listens();
    }

    /// Takes listings that were saved, unless there is something better. False if there is no room for more, or they
    /// make no sense.
    pub fn take_saved(&self, bytes: &[u8]) -> bool {
        let now = Instant::now();
        let heard = Heard::from(now.checked_sub(LONG_AGO).unwrap_or(now)).leased(true);
        self.load(bytes, heard)
    }

    /// A number that changes with what there is to save.
    pub fn listings_number(&self) -> u64 {
        self.listings.changes()
    }

    /// A session listens: has the host say which of the listings of before still hold.
    pub fn revalidate(self: &Arc<Self>, inodes: &Arc<Inodes>) {
        let mut tasks = self.former.tasks.lock();
        tasks.abort_all();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(revalidate(Arc::downgrade(self), inodes.clone()));
    }

    /// Whether a listing was told under a lease that is over.
    pub(super) fn is_former(&self, dir: FileId) -> bool {
        let listing = self.listings.peek(dir);
        listing.is_some_and(|listing| {
            let heard = listing.heard();
            heard.leased && !self.terms(dir).is_leased(heard)
        })
    }

    /// As many of `dirs` as fit a request, but for those somebody asks about already.
    fn next_batch(self: &Arc<Self>, dirs: &mut VecDeque<(FileId, RelPath)>) -> Batch {
        let mut batch = Batch {
            dirs: Vec::new(),
            known: Vec::new(),
            beliefs: Arc::downgrade(self),
        };
        let (mut room, mut entries) = (REQUEST_BYTES_MAX - REQUEST_HEAD_BYTES, 0);
        while batch.dirs.len() < REVALIDATE_DIRS_MAX && entries < ENTRIES_AT_ONCE {
            let takes = dirs
                .front()
                .map(|(_, path)| path.as_bytes().len() + KNOWN_BYTES);
            let Some(left) = takes.and_then(|takes| room.checked_sub(takes)) else {
                break;
            };
            let Some((dir, path)) = dirs.pop_front() else {
                break;
            };
            if let Some(listing) = self.listings.peek(dir)
                && self.is_former(dir)
                && let Some(digest) = listing.digest()
                && self.claim_listing(dir)
            {
                room = left;
                entries += listing.arrived();
                batch.dirs.push((dir, listing));
                batch.known.push(KnownListing {
                    dir: NodeRef {
                        path,
                        expect: Some(dir),
                    },
                    digest,
                });
            }
        }
        batch
    }

    /// Takes what the host says of a batch; what has changed is listed anew where somebody may be waiting for it.
    fn take_verdicts(
        self: &Arc<Self>,
        inodes: &Inodes,
        batch: Batch,
        verdicts: Vec<Verdict>,
        asked: Instant,
    ) {
        let mut changed = Vec::new();
        for ((dir, listing), verdict) in batch.dirs.iter().zip(verdicts) {
            match verdict {
                Verdict::Holds { attr, leased } if attr.id == *dir => {
                    let node = inodes.by_id(*dir);
                    self.holds(node.as_deref(), listing, &attr, leased, asked);
                }
                Verdict::Holds { .. } => {}
                Verdict::Changed => {
                    listing.outdate();
                    changed.push((*dir, listing.clone()));
                }
            }
        }
        drop(batch);
        for (dir, listing) in changed {
            if let Some(dir) = inodes.by_id(dir)
                && !Self::is_long(&listing)
            {
                self.fetch_listing(&dir, Some(listing));
            }
        }
    }

    fn holds(
        &self,
        node: Option<&Node>,
        listing: &Listing,
        attr: &Attr,
        leased: bool,
        asked: Instant,
    ) {
        let leased = self.is_leased_answer(attr.id, asked, leased);
        let heard = Heard::from(asked).leased(leased);
        listing.confirm(heard);
        if leased && self.own.attr_since(attr.id, asked).is_none() {
            listing.set_own_attr(attr, heard);
        }
        if let Some(node) = node {
            node.learn(attr, heard);
        }
    }

    /// Asks whether a listing of before still holds, and draws no other.
    pub(super) fn verify_listing(self: &Arc<Self>, dir: &Arc<Node>, listing: Arc<Listing>) {
        let Ok(reference) = dir.reference() else {
            return;
        };
        let (dir, remote, weak) = (dir.clone(), self.remote.clone(), Arc::downgrade(self));
        self.start(Subject::Listing(dir.id), async move {
            let digested = listing.clone();
            let digest = spawn_blocking(move || digested.digest()).await;
            let Ok(Some(digest)) = digest else {
                return;
            };
            let known = KnownListing {
                dir: reference,
                digest,
            };
            let asked = Instant::now();
            let request = Request::Revalidate {
                listings: vec![known],
            };
            let answer = remote.call(request).await;
            let (Ok(Reply::Revalidated(verdicts)), Some(beliefs)) =
                (answer.map(|answer| answer.reply), weak.upgrade())
            else {
                return;
            };
            match verdicts.as_slice() {
                [Verdict::Holds { attr, leased }] if attr.id == dir.id => {
                    beliefs.holds(Some(&dir), &listing, attr, *leased, asked);
                }
                [Verdict::Changed] => listing.outdate(),
                _ => {}
            }
        });
    }
}

async fn revalidate(weak: Weak<Beliefs>, inodes: Arc<Inodes>) {
    let Some(mut wanted) = weak
        .upgrade()
        .map(|beliefs| beliefs.former.wanted.subscribe())
    else {
        return;
    };
    let Some(mut phase) = weak
        .upgrade()
        .map(|beliefs| beliefs.former.phase.subscribe())
    else {
        return;
    };
    if phase.wait_for(|now| *now >= Phase::Waiting).await.is_err() {
        return;
    }
    let (beliefs, known) = (weak.clone(), inodes.clone());
    let dirs = spawn_blocking(move || Some(beliefs.upgrade()?.former_dirs(&known)));
    let Ok(Some(mut dirs)) = dirs.await else {
        return;
    };
    let first = next_batch(&weak, &mut dirs).await;
    if let Some(beliefs) = weak.upgrade() {
        beliefs.former.reach(Phase::Known);
    }
    if let Some(first) = first {
        ask(&weak, &inodes, first).await;
    }
    // The others are asked about when one of them is wanted; or was, meanwhile.
    if dirs.is_empty() || wanted.changed().await.is_err() {
        return;
    }
    let batches = stream::unfold(dirs, |mut dirs| async {
        let batch = next_batch(&weak, &mut dirs).await?;
        Some((batch, dirs))
    });
    let asked = batches.for_each_concurrent(AT_ONCE, |batch| ask(&weak, &inodes, batch));
    asked.await;
}

/// The next request, whose digests take a while to make.
async fn next_batch(weak: &Weak<Beliefs>, dirs: &mut VecDeque<(FileId, RelPath)>) -> Option<Batch> {
    while !dirs.is_empty() {
        let (beliefs, mut taken) = (weak.clone(), std::mem::take(dirs));
        let made = spawn_blocking(move || {
            let batch = beliefs.upgrade()?.next_batch(&mut taken);
            Some((batch, taken))
        });
        let (batch, left) = made.await.ok()??;
        *dirs = left;
        if !batch.dirs.is_empty() {
            return Some(batch);
        }
    }
    None
}

async fn ask(weak: &Weak<Beliefs>, inodes: &Inodes, mut batch: Batch) {
    let Some(remote) = weak.upgrade().map(|beliefs| {
        add(&beliefs.stats.renewal, 1);
        beliefs.remote.clone()
    }) else {
        return;
    };
    let request = Request::Revalidate {
        listings: std::mem::take(&mut batch.known),
    };
    let asked = Instant::now();
    let answer = remote.call(request).await;
    let verdicts = match answer.map(|answer| answer.reply) {
        Ok(Reply::Revalidated(verdicts)) if verdicts.len() == batch.dirs.len() => Ok(verdicts),
        Ok(_) => Err(CallError::Violation),
        Err(error) => Err(error),
    };
    match (verdicts, weak.upgrade()) {
        (Ok(verdicts), Some(beliefs)) => beliefs.take_verdicts(inodes, batch, verdicts, asked),
        // Whoever wants one of them asks for it.
        (Err(error), _) => tracing::debug!("listings of before are not looked at: {error}"),
        (Ok(_), None) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn waits(former: &Former) -> bool {
        let begun = Instant::now();
        former.want().await;
        !begun.elapsed().is_zero()
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_a_host_that_tells_nobody() {
        for is_read_first in [true, false] {
            let former = Former::default();
            assert!(!waits(&former).await);
            former.phase.send_replace(Phase::Reading);
            assert!(waits(&former).await);
            if is_read_first {
                former.end_reading();
                assert!(waits(&former).await);
                former.nobody_listens();
            } else {
                former.nobody_listens();
                assert!(waits(&former).await);
                former.end_reading();
            }
            assert!(!waits(&former).await);
        }
    }
}
