//! What this mount changed itself, and so knows better than answers to earlier questions.
//!
//! Bounded; what is forgotten is believed as the host told it last.
//!
//! Lock: `recent` of each, leaves.

use lru::LruCache;
use parking_lot::Mutex;
use std::num::NonZeroUsize;
use tokio::time::Instant;
use wormhole_protocol::{Attr, FileId, Name};

/// Changes remembered of each kind.
const CHANGES_MAX: NonZeroUsize = NonZeroUsize::new(8192).expect("not zero");

/// What is known, and since when.
type Known<T> = (T, Instant);
/// An entry of a directory.
type EntryKey = (FileId, Name);

/// Names that were given or taken, and attributes that came with an answer to a change.
pub(super) struct Own {
    names: Mutex<LruCache<EntryKey, Known<Option<Attr>>>>,
    attrs: Mutex<LruCache<FileId, Known<Attr>>>,
}

impl Default for Own {
    fn default() -> Self {
        Self {
            names: Mutex::new(LruCache::sparse(CHANGES_MAX)),
            attrs: Mutex::new(LruCache::sparse(CHANGES_MAX)),
        }
    }
}

impl Own {
    /// `name` leads to this now.
    pub(super) fn name(&self, dir: FileId, name: &Name, attr: Option<Attr>, at: Instant) {
        self.names.lock().put((dir, name.clone()), (attr, at));
    }

    /// A node has these attributes now.
    pub(super) fn attr(&self, attr: &Attr, at: Instant) {
        self.attrs.lock().put(attr.id, (*attr, at));
    }

    /// What is known of a node better than an answer to a question of `asked`.
    pub(super) fn attr_since(&self, id: FileId, asked: Instant) -> Option<(Attr, Instant)> {
        let attrs = self.attrs.lock();
        attrs.peek(&id).filter(|(_, at)| *at >= asked).copied()
    }

    /// Names of a directory that changed since `asked`.
    pub(super) fn names_since(
        &self,
        dir: FileId,
        asked: Instant,
    ) -> Vec<(Name, Option<Attr>, Instant)> {
        let names = self.names.lock();
        let of_dir = names
            .iter()
            .filter(|((id, _), (_, at))| *id == dir && *at >= asked);
        of_dir
            .map(|((_, name), (attr, at))| (name.clone(), *attr, *at))
            .collect()
    }
}
