//! The table of nodes, and those in it that rest.
//!
//! A [`Node`] takes some 450 bytes. One that rests takes 32: it is a place in the listing of its directory, which
//! is kept for as long as a node rests in it. What it was told there is all that is known of it, so it can be made
//! anew; as told when the listing was, which may be longer ago than the node was told the same, and is never believed
//! for longer than that.
//!
//! Directories do not rest, nor what is in use, is open, was written, has changed or was told of since.

use super::{Ino, Node};
use crate::mount::listing::Listing;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::time::Instant;
use wormhole_protocol::{FileId, FileKind};

/// Nodes that are awake though nobody uses them.
const AWAKE_MAX: usize = 16_384;
/// Nodes looked at when there are more: more than one, so that they become fewer.
const LOOKS: usize = 4;
/// Directories the kernel has forgotten, before it is looked which of them nothing refers to.
const FORGOTTEN_MIN: usize = 1024;
/// What was told so shortly ago stays awake: the kernel is about to ask for it.
const SETTLED: Duration = Duration::from_millis(500);

/// A node as a place in a listing.
pub(super) struct Resting {
    dir: Arc<Node>,
    listing: Arc<Listing>,
    number: u32,
    lookups: u16,
    /// What is known is under the lease of `dir`.
    leased: bool,
    /// The kernel has pages of the version that was listed.
    has_pages: bool,
}

/// What the table holds for a number.
pub(super) enum Slot {
    Awake(Arc<Node>),
    Resting(Resting),
}

/// A node that may come to rest.
struct Candidate {
    ino: Ino,
    /// Which of the nodes that had this number.
    address: usize,
}

/// The nodes by number.
pub(super) struct Table {
    slots: HashMap<Ino, Slot>,
    /// Nodes that are awake, those that woke longest ago first. Some are no longer there.
    awake: VecDeque<Candidate>,
    /// Directories the kernel has forgotten while something here refers to them.
    forgotten: HashMap<Ino, Weak<Node>>,
    /// Those that nothing refers to any more are removed when there are so many.
    forgotten_max: usize,
}

impl Table {
    pub(super) fn new(root: Arc<Node>) -> Self {
        Self {
            slots: HashMap::from([(Ino::ROOT, Slot::Awake(root))]),
            awake: VecDeque::new(),
            forgotten: HashMap::new(),
            forgotten_max: FORGOTTEN_MIN,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn numbers(&self) -> impl Iterator<Item = Ino> {
        self.slots.keys().copied()
    }

    pub(super) fn slots(&self) -> impl Iterator<Item = (Ino, &Slot)> {
        self.slots.iter().map(|(ino, slot)| (*ino, slot))
    }

    pub(super) fn get(&self, ino: Ino) -> Option<&Slot> {
        self.slots.get(&ino)
    }

    /// Puts a node in the place of the one that had its number, if any.
    pub(super) fn put(&mut self, node: Arc<Node>) {
        if node.belief.lock().attr.kind != FileKind::Directory {
            self.awake.push_back(Candidate::of(&node));
        }
        self.forgotten.remove(&node.ino);
        self.slots.insert(node.ino, Slot::Awake(node));
    }

    /// The node of a number, awake.
    pub(super) fn wake(&mut self, ino: Ino) -> Option<Arc<Node>> {
        let node = match self.slots.get(&ino) {
            None => return self.forgotten(ino),
            Some(Slot::Awake(node)) => return Some(node.clone()),
            Some(Slot::Resting(resting)) => Arc::new(resting.node(ino)?),
        };
        self.put(node.clone());
        Some(node)
    }

    /// Counts a lookup of a node that is in the table; whether it is.
    pub(super) fn count(&mut self, node: &Arc<Node>) -> bool {
        let is_there = matches!(self.slots.get(&node.ino), Some(Slot::Awake(known)) if Arc::ptr_eq(known, node));
        if is_there {
            node.belief.lock().lookups += 1;
        }
        is_there
    }

    /// The kernel dropped lookups; with the last one the node goes.
    pub(super) fn forget(&mut self, ino: Ino, lookups: u64) {
        let left = match self.slots.get_mut(&ino) {
            Some(Slot::Awake(node)) => {
                let mut belief = node.belief.lock();
                belief.lookups = belief.lookups.saturating_sub(lookups);
                belief.lookups
            }
            Some(Slot::Resting(resting)) => {
                let lookups = u16::try_from(lookups).unwrap_or(u16::MAX);
                resting.lookups = resting.lookups.saturating_sub(lookups);
                resting.lookups.into()
            }
            None => return,
        };
        if left == 0
            && let Some(Slot::Awake(node)) = self.slots.remove(&ino)
        {
            self.keep_forgotten(&node);
        }
    }

    /// A directory the kernel has forgotten.
    pub(super) fn forgotten(&self, ino: Ino) -> Option<Arc<Node>> {
        self.forgotten.get(&ino)?.upgrade()
    }

    /// The kernel has forgotten a node. What is in a directory refers to it, if that is open or the kernel still
    /// knows it, and has its path from it: should the directory be found again, it must be the same node.
    fn keep_forgotten(&mut self, node: &Arc<Node>) {
        let is_dir = node.belief.lock().attr.kind == FileKind::Directory;
        if !is_dir || Arc::strong_count(node) == 1 {
            return;
        }
        if self.forgotten.len() >= self.forgotten_max {
            self.forgotten.retain(|_, node| node.strong_count() > 0);
            self.forgotten_max = FORGOTTEN_MIN.max(2 * self.forgotten.len());
        }
        self.forgotten.insert(node.ino, Arc::downgrade(node));
    }

    /// Takes a few of those that woke longest ago, if too many are awake; with the directories they are in.
    fn surplus(&mut self) -> Vec<(Candidate, FileId)> {
        let mut found = Vec::new();
        for _ in 0..LOOKS {
            if self.awake.len() <= AWAKE_MAX {
                break;
            }
            let Some(candidate) = self.awake.pop_front() else {
                break;
            };
            match self.awake_node(&candidate).map(rests_in) {
                // It is gone, or another has its number.
                None => {}
                Some(None) => self.awake.push_back(candidate),
                Some(Some(dir)) => found.push((candidate, dir)),
            }
        }
        found
    }

    fn awake_node(&self, candidate: &Candidate) -> Option<&Arc<Node>> {
        match self.slots.get(&candidate.ino)? {
            Slot::Awake(node) if address(node) == candidate.address => Some(node),
            _ => None,
        }
    }

    /// Puts a node to rest in the listing of its directory, if that says all there is to know of it.
    fn rest(&mut self, candidate: Candidate, listing: Option<Arc<Listing>>) {
        let resting = match (self.awake_node(&candidate), listing) {
            (None, _) => return,
            (Some(node), Some(listing)) => Resting::of(node, listing),
            (Some(_), None) => None,
        };
        match resting {
            Some(resting) => {
                self.slots.insert(candidate.ino, Slot::Resting(resting));
            }
            None => self.awake.push_back(candidate),
        }
    }

    #[cfg(test)]
    pub(super) fn awake(&self) -> usize {
        let is_awake = |slot: &&Slot| matches!(slot, Slot::Awake(_));
        self.slots.values().filter(is_awake).count()
    }
}

impl super::Inodes {
    /// Puts nodes to rest that nobody uses, if too many are awake; a few with each call. `listing_of` says what is
    /// known of a directory.
    pub fn rest_surplus(&self, listing_of: impl Fn(FileId) -> Option<Arc<Listing>>) {
        let surplus = self.table.lock().surplus();
        for (candidate, dir) in surplus {
            let listing = listing_of(dir);
            self.table.lock().rest(candidate, listing);
        }
    }
}

impl Candidate {
    fn of(node: &Arc<Node>) -> Self {
        Self {
            ino: node.ino,
            address: address(node),
        }
    }
}

fn address(node: &Arc<Node>) -> usize {
    Arc::as_ptr(node).addr()
}

/// The directory in whose listing a node may rest, as far as it can be seen of the node.
fn rests_in(node: &Arc<Node>) -> Option<FileId> {
    let is_used = Arc::strong_count(node) > 1
        || node.writer.get().is_some()
        || node.open_files.load(Relaxed) > 0
        || node.retired.load(Relaxed)
        || node.making.get().is_some()
        || node.kept.lock().is_some();
    if is_used {
        return None;
    }
    let belief = node.belief.lock();
    let is_plain = belief.doubted.is_none()
        && belief.own.is_none()
        && belief.news.is_none()
        && belief.former.is_empty()
        && belief
            .kernel_version
            .is_none_or(|version| version == belief.attr.version);
    let is_settled = Instant::now().saturating_duration_since(belief.heard.told) >= SETTLED;
    let (dir, _) = belief.place.as_ref()?;
    (is_plain && is_settled).then_some(dir.id)
}

impl Resting {
    fn of(node: &Arc<Node>, listing: Arc<Listing>) -> Option<Self> {
        rests_in(node)?;
        let belief = node.belief.lock();
        let (dir, name) = belief.place.clone()?;
        Some(Self {
            number: listing.record_of(&name, &belief.attr)?,
            dir,
            listing,
            lookups: u16::try_from(belief.lookups).ok()?,
            leased: belief.heard.leased,
            has_pages: belief.kernel_version.is_some(),
        })
    }

    /// The node, made anew.
    fn node(&self, ino: Ino) -> Option<Node> {
        let (name, attr, heard) = self.listing.record(self.number)?;
        let heard = heard.leased(heard.leased && self.leased);
        let node = Node::new(ino, Some((self.dir.clone(), name)), attr, heard);
        let mut belief = node.belief.lock();
        belief.lookups = self.lookups.into();
        belief.kernel_version = self.has_pages.then_some(attr.version);
        drop(belief);
        Some(node)
    }
}

impl Slot {
    /// Whether it is the node of this file.
    pub(super) fn is_of(&self, id: FileId) -> bool {
        match self {
            Self::Awake(node) => node.id == id,
            Self::Resting(resting) => {
                let record = resting.listing.record(resting.number);
                record.is_some_and(|(_, attr, _)| attr.id == id)
            }
        }
    }

    pub(super) fn is_retired(&self) -> bool {
        match self {
            Self::Awake(node) => node.is_retired(),
            Self::Resting(_) => false,
        }
    }

    /// The directory it was seen in last.
    pub(super) fn parent(&self) -> Option<FileId> {
        match self {
            Self::Awake(node) => {
                let belief = node.belief.lock();
                belief.place.as_ref().map(|(dir, _)| dir.id)
            }
            Self::Resting(resting) => Some(resting.dir.id),
        }
    }

    /// Its identity, if it may be a directory's.
    pub(super) fn dir(&self) -> Option<FileId> {
        match self {
            Self::Awake(node) => Some(node.id),
            Self::Resting(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;
