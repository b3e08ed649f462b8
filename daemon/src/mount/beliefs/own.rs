//! What is known better than from answers to earlier questions: what this mount changed itself, and what the
//! host told unasked.
//!
//! Bounded; of what was forgotten, answers to earlier questions are believed for the short term only
//! ([`Own::forgotten`]).
//!
//! Locks: those of `names`, `attrs` and `forgotten`, leaves.

use super::Beliefs;
use crate::mount::heard::Heard;
use crate::mount::inodes::Node;
use crate::mount::listing::Listing;
use lru::LruCache;
use parking_lot::Mutex;
use std::num::NonZeroUsize;
use std::time::Duration;
use tokio::time::Instant;
use wormhole_protocol::{Attr, FileId, Name};

/// Changes remembered of each kind.
const CHANGES_MAX: NonZeroUsize = NonZeroUsize::new(8192).expect("not zero");

/// Who knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// This mount did it.
    Us,
    /// The host told.
    Host,
}

/// Where a name leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leads {
    /// There, or nowhere.
    To(Option<Attr>),
    /// A change of ours and one of others crossed: nobody knows.
    Unknown,
}

/// What is known of a name, since when, and from whom.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    pub(super) leads: Leads,
    pub(super) at: Instant,
    pub(super) by: By,
    /// When this mount changed it last.
    pub(super) ours: Option<Instant>,
}

/// An entry of a directory.
type EntryKey = (FileId, Name);

/// Names that were given or taken, and attributes that changed.
pub(super) struct Own {
    names: Mutex<LruCache<EntryKey, Known>>,
    attrs: Mutex<LruCache<FileId, (Attr, Instant, By)>>,
    forgotten: Mutex<Option<Instant>>,
}

impl Default for Own {
    fn default() -> Self {
        Self {
            names: Mutex::new(LruCache::sparse(CHANGES_MAX)),
            attrs: Mutex::new(LruCache::sparse(CHANGES_MAX)),
            forgotten: Mutex::default(),
        }
    }
}

impl Own {
    /// `name` leads there now, as somebody says.
    pub(super) fn name(&self, dir: FileId, name: &Name, leads: Leads, at: Instant, by: By) {
        let key = (dir, name.clone());
        let mut names = self.names.lock();
        let ours = match by {
            By::Us => Some(at),
            By::Host => names.peek(&key).and_then(|known| known.ours),
        };
        let known = Known {
            leads,
            at,
            by,
            ours,
        };
        let dropped = names.push(key.clone(), known);
        drop(names);
        if let Some((old, known)) = dropped
            && old != key
        {
            self.forget(known.at);
        }
    }

    /// A node has these attributes now.
    pub(super) fn attr(&self, attr: &Attr, at: Instant, by: By) {
        let dropped = self.attrs.lock().push(attr.id, (*attr, at, by));
        if let Some((old, (_, at, _))) = dropped
            && old != attr.id
        {
            self.forget(at);
        }
    }

    fn forget(&self, at: Instant) {
        let mut forgotten = self.forgotten.lock();
        *forgotten = (*forgotten).max(Some(at));
    }

    /// Whether something was forgotten that happened at `asked` or later.
    pub(super) fn forgotten(&self, asked: Instant) -> bool {
        self.forgotten.lock().is_some_and(|at| at >= asked)
    }

    /// What is known of a name better than an answer to a question of `asked`.
    pub(super) fn name_since(&self, dir: FileId, name: &Name, asked: Instant) -> Option<Known> {
        let names = self.names.lock();
        let known = names.peek(&(dir, name.clone()));
        known.filter(|known| known.at >= asked).copied()
    }

    /// What is known of a node better than an answer to a question of `asked`.
    pub(super) fn attr_since(&self, id: FileId, asked: Instant) -> Option<(Attr, Instant, By)> {
        let attrs = self.attrs.lock();
        attrs.peek(&id).filter(|(_, at, _)| *at >= asked).copied()
    }

    /// Whether a name of a directory may have changed since.
    pub(super) fn changed_since(&self, dir: FileId, since: Instant) -> bool {
        let names = self.names.lock();
        let mut lately = names.iter().take_while(|(_, known)| known.at >= since);
        let changed = lately.any(|((id, _), _)| *id == dir);
        drop(names);
        changed || self.forgotten(since)
    }

    /// Names of a directory that changed since `asked`.
    pub(super) fn names_since(&self, dir: FileId, asked: Instant) -> Vec<(Name, Known)> {
        let names = self.names.lock();
        let of_dir = names
            .iter()
            .filter(|((id, _), known)| *id == dir && known.at >= asked);
        of_dir
            .map(|((_, name), known)| (name.clone(), *known))
            .collect()
    }
}

impl Beliefs {
    /// Takes note of attributes that came with an answer to a change of ours, asked for at `asked`. The node, if
    /// there is one, has learnt them before: answers overtake each other, and it knows which counts.
    pub fn changed(&self, attr: &Attr, node: Option<&Node>, asked: Instant) {
        let last = || node.map_or(*attr, Node::attr);
        let mut noted = last();
        loop {
            self.note_changed(&noted, node, asked);
            // Another answer may have come meanwhile, and have been noted before.
            let now = last();
            if now == noted {
                return;
            }
            noted = now;
        }
    }

    /// The same, of a node to which nothing else was under way.
    pub fn changed_alone(&self, node: &Node, attr: &Attr, asked: Instant) {
        let heard = self.of_change(node.covered_by(), asked);
        node.learn_alone(attr, heard.asked_at(asked));
        self.changed(attr, Some(node), asked);
    }

    fn note_changed(&self, attr: &Attr, node: Option<&Node>, asked: Instant) {
        let now = Instant::now();
        self.own.attr(attr, now, By::Us);
        self.forget_dir_attr(attr);
        let Some((dir, name)) = node.and_then(Node::place) else {
            return;
        };
        if self.is_crossed(dir.id, &name, asked) {
            return self.doubt_name(dir.id, &name, now);
        }
        let heard = self.of_change(Some(dir.id), asked);
        self.names.update(dir.id, &name, attr, heard);
        if let Some(listing) = self.listings.get(dir.id) {
            listing.update(&name, attr, heard);
        }
    }

    /// Takes note that a change of ours, asked for at `asked`, has made this directory: there was nothing in it, and
    /// whoever fills it need not ask for each name whether there is. That may have come under a lease. What the kernel may
    /// believe of it, and how much longer.
    pub fn made_dir(
        &self,
        dir: &Node,
        attr: &Attr,
        leased: bool,
        asked: Instant,
    ) -> (Option<Attr>, Duration) {
        let leased = leased && self.is_leased_answer(dir.id, asked, leased);
        let held = self.leases.held(dir.id, Instant::now());
        // Not one that was given since, for another answer.
        let leased = leased && held.is_some_and(|held| held.since <= asked);
        if leased {
            dir.learn_alone(attr, Heard::since(asked).leased(true));
        }
        let listing = Listing::empty(Heard::from(asked).leased(leased));
        if self.doubts.allow(dir.id, asked) {
            self.listings.put(dir, listing.clone());
        }
        // The host may have told of something in it already.
        self.amend(dir, &listing);
        super::attr_on(&self.attr_terms(dir), dir)
    }

    /// The attributes of a node as this mount left them, or the host told since, if the others were asked for
    /// before.
    pub fn own_attr(&self, id: FileId, asked: Instant) -> Option<(Attr, Instant)> {
        let (attr, at, _) = self.own.attr_since(id, asked)?;
        Some((attr, at))
    }
}
