//! What the host said of single names: that they lead to a node, or to nothing.
//!
//! Lock: `recent`, before that of `unseen`, never across an await.

use super::directories::Directories;
use crate::mount::heard::Heard;
use lru::LruCache;
use parking_lot::Mutex;
use std::num::NonZeroUsize;
use std::sync::Arc;
use wormhole_protocol::{Attr, FileId, Name};

/// Names remembered; with their attributes some 5 MB.
const NAMES_MAX: NonZeroUsize = NonZeroUsize::new(16_384).expect("not zero");

/// What the host said of a name, and when.
#[derive(Debug, Clone, Copy)]
pub struct Told {
    /// The attributes of the node the name leads to; none if it leads to nothing.
    pub attr: Option<Attr>,
    /// When it was asked for and told.
    pub heard: Heard,
}

impl Told {
    /// Heard so.
    pub fn new(attr: Option<Attr>, heard: impl Into<Heard>) -> Self {
        let heard = heard.into();
        Self { attr, heard }
    }

    /// Whether a name leads to the same node, or to nothing, as `other` says.
    fn agrees_with(&self, other: &Self) -> bool {
        let leads_to = |told: &Self| told.attr.map(|attr| attr.id);
        leads_to(self) == leads_to(other)
    }
}

/// Names by directory, least recently used last.
pub(super) struct Names {
    recent: Mutex<LruCache<(FileId, Name), Told>>,
    /// Where a name may lead elsewhere than the kernel was last told, without the host having spoken of it yet: an
    /// answer to a question of this mount's own, a renewal or a listing, was faster than the news. Or what was known
    /// there was dropped, so that nobody can tell. The news then says nothing that is new here, and must be told to
    /// the kernel all the same. Noted under the locks of names and listings, so that whoever sees what replaced
    /// something sees this as well.
    pub(super) unseen: Arc<Directories>,
}

impl Default for Names {
    fn default() -> Self {
        Self {
            recent: Mutex::new(LruCache::new(NAMES_MAX)),
            unseen: Arc::default(),
        }
    }
}

impl Names {
    /// What was last said of a name, however long ago.
    pub(super) fn get(&self, dir: FileId, name: &Name) -> Option<Told> {
        self.recent.lock().get(&(dir, name.clone())).copied()
    }

    /// Remembers what the host told unasked, or in answer to a change, unless something later is known.
    pub(super) fn put(&self, dir: FileId, name: &Name, told: Told) {
        self.keep(dir, name, told, false);
    }

    /// The same of an answer, of which the kernel may never hear.
    pub(super) fn answered(&self, dir: FileId, name: &Name, told: Told) {
        self.keep(dir, name, told, true);
    }

    fn keep(&self, dir: FileId, name: &Name, told: Told, answered: bool) {
        let mut recent = self.recent.lock();
        let key = (dir, name.clone());
        let known = recent.peek(&key);
        if known.is_some_and(|known| known.heard.told > told.heard.told) {
            return;
        }
        if answered && known.is_some_and(|known| !known.agrees_with(&told)) {
            self.unseen.note(dir);
        }
        if let Some((out, _)) = recent.push(key.clone(), told)
            && out != key
        {
            self.unseen.note(out.0);
        }
    }

    /// The attributes of what a name leads to have changed; if it leads elsewhere, nothing has.
    pub(super) fn update(&self, dir: FileId, name: &Name, attr: &Attr, heard: Heard) {
        if let Some(known) = self.recent.lock().peek_mut(&(dir, name.clone()))
            && known.attr.is_some_and(|known| known.id == attr.id)
        {
            *known = Told::new(Some(*attr), heard);
        }
    }

    /// Forgets all names of a directory.
    pub(super) fn remove_all(&self, dir: FileId) {
        let mut recent = self.recent.lock();
        let of_dir = recent.iter().filter(|((id, _), _)| *id == dir);
        let keys: Vec<_> = of_dir.map(|(key, _)| key.clone()).collect();
        for key in keys {
            recent.pop(&key);
            self.unseen.note(dir);
        }
    }

    /// Forgets a name.
    pub(super) fn remove(&self, dir: FileId, name: &Name) {
        let mut recent = self.recent.lock();
        recent.pop(&(dir, name.clone()));
        self.unseen.note(dir);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::Instant;

    fn dir(inode: u64) -> FileId {
        FileId {
            device: 1,
            inode,
            birth: 0,
        }
    }

    #[test]
    fn older_news_and_other_directories_change_nothing() {
        let names = Names::default();
        let name = Name::new("a").unwrap();
        let now = Instant::now();
        let told = |at| Told::new(None, at);
        names.put(dir(1), &name, told(now + Duration::from_secs(1)));
        names.put(dir(1), &name, told(now));
        names.put(dir(2), &name, told(now));
        let known = names.get(dir(1), &name).unwrap();
        assert_eq!(known.heard.told, now + Duration::from_secs(1));
        names.remove(dir(2), &name);
        assert!(names.get(dir(2), &name).is_none());
        names.put(dir(2), &name, told(now));
        names.remove_all(dir(2));
        assert!(names.get(dir(2), &name).is_none());
        assert!(names.get(dir(1), &name).is_some());
    }

    #[test]
    fn only_so_many_are_remembered() {
        let names = Names::default();
        let now = Instant::now();
        let name = |i: usize| Name::new(i.to_string()).unwrap();
        for i in 0..NAMES_MAX.get() + 10 {
            names.put(dir(1), &name(i), Told::new(None, now));
        }
        assert!(names.get(dir(1), &name(9)).is_none());
        assert!(names.get(dir(1), &name(10)).is_some());
    }
}
