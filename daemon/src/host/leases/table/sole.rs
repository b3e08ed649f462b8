//! Sole leases: who may make files in a directory before this host is asked.
//!
//! Invariants
//! - Of a directory that one mount holds alone no other holds a lease, and no request of another mount's that looks
//!   or changes anything there is under way: it would be answered without a lease, and believed all the same.
//! - Who looks or changes anything there ([`Scope`]) waits until the holder has heard that it is shared, which
//!   it says only once all it made before was answered; at most to the end of the holder's lease.
//!
//! Places are paths, as requests name them. What makes a path lead elsewhere ends what is held alone beneath it; who
//! comes by another path than he was given it by holds it alone no more.

use super::super::super::limits::{SOLE_LEASES_MAX, SOLE_RECALLS_MAX, SOLE_REST};
use super::super::super::watch::Watching;
use super::super::queue::Number;
use super::super::touch::Wait;
use super::{MountKey, Table};
use lru::LruCache;
use std::collections::HashMap;
use std::num::NonZeroUsize;
use tokio::time::Instant;
use wormhole_protocol::{Change, FileId, Name, NodeRef, RelPath, Request};

/// Directories of which is remembered that they were shared lately.
const RESTING_MAX: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");

/// Which request of a mount is under way.
pub(in super::super) type VisitId = u64;

/// The leases held alone, and what must be over before another is.
pub(super) struct Soles {
    by_dir: HashMap<FileId, Sole>,
    visits: HashMap<VisitId, Visiting>,
    next: VisitId,
    resting: LruCache<FileId, Instant>,
}

struct Visiting {
    key: MountKey,
    scope: Scope,
    changes: bool,
}

struct Sole {
    holder: MountKey,
    hearing: u64,
    path: RelPath,
    since: Instant,
    /// The push that says that it is shared, and until when it is waited for.
    recalled: Option<(Number, Instant)>,
}

impl Default for Soles {
    fn default() -> Self {
        Self {
            by_dir: HashMap::new(),
            visits: HashMap::new(),
            next: 0,
            resting: LruCache::sparse(RESTING_MAX),
        }
    }
}

/// How far a request sees from a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// The node, be it a directory or an entry of one.
    Node,
    /// The directory and its entries.
    Entries,
    /// All beneath.
    Beneath,
}

/// Which directories a request looks into, or changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in super::super::super) struct Scope(Vec<(RelPath, Reach)>);

impl Scope {
    /// Of a request that only looks. What is read of a file, or through what is open, shows no names.
    pub(in super::super::super) fn of(request: &Request) -> Self {
        match request {
            Request::Lookup { dir, name } => Self(vec![entry(dir, name)]),
            Request::Getattr { node } => Self(vec![(node.path.clone(), Reach::Node)]),
            Request::List { dir, .. } | Request::Reserve { dir, .. } => {
                Self(vec![(dir.path.clone(), Reach::Entries)])
            }
            Request::Revalidate { listings } => {
                let dirs = listings.iter().map(|known| known.dir.path.clone());
                Self(dirs.map(|path| (path, Reach::Entries)).collect())
            }
            Request::Tree { dir, .. } => Self(vec![(dir.path.clone(), Reach::Beneath)]),
            _ => Self::default(),
        }
    }

    /// Of what shows a node.
    pub(in super::super::super) fn of_node(path: RelPath) -> Self {
        Self(vec![(path, Reach::Node)])
    }

    /// Of a change; of one that is made through what is open, none.
    pub(in super::super::super) fn of_change(change: &Change) -> Self {
        let node = |node: &NodeRef| (node.path.clone(), Reach::Node);
        Self(match change {
            Change::Open { node: at, .. }
            | Change::SyncDir { dir: at }
            | Change::SetAttr { node: at, .. }
            | Change::SetXattr { node: at, .. }
            | Change::RemoveXattr { node: at, .. } => vec![node(at)],
            Change::Create { dir, name, .. }
            | Change::MakeDir { dir, name, .. }
            | Change::MakeNode { dir, name, .. }
            | Change::Symlink { dir, name, .. }
            | Change::Unlink { dir, name, .. }
            | Change::RemoveDir { dir, name } => vec![entry(dir, name)],
            Change::NameReserved(new) => vec![entry(&new.dir, &new.name)],
            Change::Link {
                node: linked,
                dir,
                name,
            } => vec![node(linked), entry(dir, name)],
            Change::Rename {
                from,
                from_name,
                to,
                to_name,
                ..
            } => {
                let (from, to) = (entry(from, from_name), entry(to, to_name));
                let moved = [&from, &to].map(|(path, _)| (path.clone(), Reach::Beneath));
                let [a, b] = moved;
                vec![from, to, a, b]
            }
            Change::Close { .. }
            | Change::Write { .. }
            | Change::Append { .. }
            | Change::Allocate { .. }
            | Change::Copy { .. }
            | Change::Sync { .. } => Vec::new(),
        })
    }

    /// Whether it is of no directory.
    pub(in super::super::super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a directory may be elsewhere after it.
    fn moves(&self, dir: &RelPath) -> bool {
        let dir = dir.as_bytes();
        let reaches = |(path, reach): &(RelPath, Reach)| {
            let path = path.as_bytes();
            *reach == Reach::Beneath && (path == dir || beneath(dir, path).is_some())
        };
        self.0.iter().any(reaches)
    }

    fn touches(&self, dir: &RelPath) -> bool {
        let dir = dir.as_bytes();
        self.0.iter().any(|(path, reach)| {
            let path = path.as_bytes();
            path == dir
                || match reach {
                    Reach::Node => is_entry(path, dir),
                    Reach::Entries => is_entry(dir, path),
                    Reach::Beneath => beneath(dir, path).is_some(),
                }
        })
    }
}

/// What lies between `above` and `path`.
fn beneath<'a>(path: &'a [u8], above: &[u8]) -> Option<&'a [u8]> {
    if above.is_empty() {
        return (!path.is_empty()).then_some(path);
    }
    path.strip_prefix(above)?.strip_prefix(b"/")
}

fn is_entry(path: &[u8], dir: &[u8]) -> bool {
    beneath(path, dir).is_some_and(|rest| !rest.contains(&b'/'))
}

fn entry(dir: &NodeRef, name: &Name) -> (RelPath, Reach) {
    match dir.path.join(name) {
        Ok(path) => (path, Reach::Node),
        // There can be no such entry; but something may be said of the directory.
        Err(_) => (dir.path.clone(), Reach::Entries),
    }
}

impl<W: Watching> Table<W> {
    /// A mount is about to look or change something. Who is to be waited for before, so that nobody holds alone
    /// what it sees.
    pub(in super::super) fn recall(
        &mut self,
        key: MountKey,
        scope: &Scope,
        now: Instant,
    ) -> Vec<Wait> {
        let of_others = |(_, sole): &(&FileId, &Sole)| sole.holder != key;
        let touched = self.soles.by_dir.iter().filter(of_others);
        let touched = touched.filter(|(_, sole)| scope.touches(&sole.path));
        let touched: Vec<_> = touched.map(|(id, _)| *id).collect();
        let waits = touched.into_iter().filter_map(|id| self.share(id, now));
        waits.collect()
    }

    /// Tells the holder of a directory that it is shared; whom to wait for until it is.
    fn share(&mut self, id: FileId, now: Instant) -> Option<Wait> {
        let held = self.is_held_alone(id);
        let sole = self.soles.by_dir.get_mut(&id)?;
        let mount = self.mounts.get_mut(&sole.holder).filter(|_| held);
        let wait = mount.and_then(|mount| {
            let (number, until) = *sole.recalled.get_or_insert_with(|| {
                let number = mount.queue.shared(id);
                mount.wake.notify_one();
                (number, mount.until)
            });
            let waited = mount.acked < number && now < until;
            waited.then_some(Wait {
                mount: sole.holder,
                hearing: sole.hearing,
                number,
                until,
            })
        });
        if wait.is_none() {
            self.soles.by_dir.remove(&id);
            self.soles.resting.put(id, now);
        }
        wait
    }

    /// Whether the holder of a directory still has the lease it was given with.
    fn is_held_alone(&self, id: FileId) -> bool {
        let (Some(sole), Some(dir)) = (self.soles.by_dir.get(&id), self.dirs.peek(&id)) else {
            return false;
        };
        let listens = self.mounts.get(&sole.holder);
        listens.is_some_and(|mount| mount.hearing == sole.hearing)
            && dir.holdings.iter().any(|(key, _)| *key == sole.holder)
    }

    /// A mount begins to look or to change something; until [`Self::left`] nobody else gets what it touches for
    /// himself alone, nor itself what it moves.
    pub(in super::super) fn visit(
        &mut self,
        key: MountKey,
        scope: Scope,
        changes: bool,
    ) -> VisitId {
        if changes {
            // The places of these leases are about to be elsewhere.
            let moved = |sole: &Sole| sole.holder == key && scope.moves(&sole.path);
            self.soles.by_dir.retain(|_, sole| !moved(sole));
        }
        let visiting = Visiting {
            key,
            scope,
            changes,
        };
        self.soles.next += 1;
        self.soles.visits.insert(self.soles.next, visiting);
        self.soles.next
    }

    /// It has come to its end.
    pub(in super::super) fn left(&mut self, visit: VisitId) {
        self.soles.visits.remove(&visit);
    }

    /// A mount wants a directory, on which it has a lease, for itself alone. Whether it has it now.
    pub(in super::super) fn claim(
        &mut self,
        key: MountKey,
        session: u64,
        (id, path): (FileId, &RelPath),
        now: Instant,
    ) -> bool {
        let Some(mount) = self.mounts.get(&key) else {
            return false;
        };
        let hearing = mount.hearing;
        let shunned = mount.shunned.is_some_and(|until| now < until);
        if mount.session != session || !mount.connected || mount.fenced.is_some() || shunned {
            return false;
        }
        if self.is_sole(key, (id, path)) {
            return true;
        }
        let is_waited_for = |sole: &Sole| sole.recalled.is_some_and(|(_, until)| now < until);
        if self.soles.by_dir.get(&id).is_some_and(is_waited_for) {
            return false;
        }
        let alone = self.dirs.peek(&id).is_some_and(|dir| {
            dir.path == *path
                && !dir.unsure
                && !dir.holdings.is_empty()
                && dir.holdings.iter().all(|(k, h)| *k == key && !h.over)
        });
        let rests = |since: &Instant| now.saturating_duration_since(*since) < SOLE_REST;
        let rests = self.soles.resting.peek(&id).is_some_and(rests);
        let visited = |visiting: &Visiting| {
            let scope = &visiting.scope;
            let is_own = visiting.key == key;
            !is_own && scope.touches(path) || is_own && visiting.changes && scope.moves(path)
        };
        let may = alone && !rests && !self.soles.visits.values().any(visited);
        if !may || !self.make_room(key, now) {
            return false;
        }
        let sole = Sole {
            holder: key,
            hearing,
            path: path.clone(),
            since: now,
            recalled: None,
        };
        self.soles.by_dir.insert(id, sole);
        true
    }

    /// Makes room for one more directory that a mount holds alone: it is told to share the one it has held longest. False
    /// if it does not hear of that.
    fn make_room(&mut self, key: MountKey, now: Instant) -> bool {
        let held = |soles: &Soles| soles.by_dir.values().filter(|s| s.holder == key).count();
        if held(&self.soles) < SOLE_LEASES_MAX {
            return true;
        }
        let ids: Vec<_> = self.soles.by_dir.keys().copied().collect();
        for id in ids {
            if !self.is_held_alone(id) || self.is_shared(id) {
                self.soles.by_dir.remove(&id);
            }
        }
        let held_now = |(_, sole): &(&FileId, &Sole)| sole.holder == key && sole.recalled.is_none();
        let held_now = self.soles.by_dir.iter().filter(held_now);
        let oldest = held_now.min_by_key(|(_, sole)| sole.since);
        let oldest = oldest.map(|(id, _)| *id);
        if held(&self.soles) >= SOLE_LEASES_MAX
            && let Some(id) = oldest
        {
            self.share(id, now);
        }
        held(&self.soles) < SOLE_LEASES_MAX + SOLE_RECALLS_MAX
    }

    /// Whether the holder of a directory has heard that it is shared.
    fn is_shared(&self, id: FileId) -> bool {
        let sole = self.soles.by_dir.get(&id);
        let recalled = sole.and_then(|sole| Some((sole.holder, sole.recalled?.0)));
        recalled.is_some_and(|(holder, number)| {
            let mount = self.mounts.get(&holder);
            mount.is_none_or(|mount| mount.acked >= number)
        })
    }

    /// Whether a mount holds the directory at a path alone, and nobody waits for it to be shared.
    pub(in super::super) fn is_sole(&self, key: MountKey, (id, path): (FileId, &RelPath)) -> bool {
        let is_there = |sole: &Sole| sole.holder == key && sole.path == *path;
        let sole = self.soles.by_dir.get(&id);
        sole.is_some_and(|sole| is_there(sole) && sole.recalled.is_none()) && self.is_held_alone(id)
    }

    /// Whether another mount holds a directory alone, though somebody may be waiting for it.
    pub(super) fn is_sole_of_another(&self, key: MountKey, id: FileId) -> bool {
        let sole = self.soles.by_dir.get(&id);
        sole.is_some_and(|sole| sole.holder != key) && self.is_held_alone(id)
    }

    /// Whether no other mount can have heard of what this one does in a directory.
    pub(in super::super) fn is_alone(&self, key: MountKey, id: FileId) -> bool {
        let sole = self.soles.by_dir.get(&id);
        sole.is_some_and(|sole| sole.holder == key) && self.is_held_alone(id)
    }
}

#[cfg(test)]
mod tests;
