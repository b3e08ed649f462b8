//! Signs that a directory is being gone through name by name, so that its listing would serve.
//!
//! The sign is a second name within a term. A directory whose listing turned out too long is not
//! suspected again while it is remembered.
//!
//! Lock: `recent`, never across an await.

use lru::LruCache;
use parking_lot::Mutex;
use std::num::NonZeroUsize;
use std::time::Duration;
use tokio::time::Instant;
use wormhole_protocol::{FileId, Name};

/// Directories remembered.
const DIRS_MAX: NonZeroUsize = NonZeroUsize::new(1024).expect("not zero");

/// What was last asked for in a directory.
enum Seen {
    Name(Name, Instant),
    TooLong,
}

/// Directories in which names were asked for, least recently last.
pub(super) struct Evidence {
    recent: Mutex<LruCache<FileId, Seen>>,
}

impl Default for Evidence {
    fn default() -> Self {
        Self {
            recent: Mutex::new(LruCache::new(DIRS_MAX)),
        }
    }
}

impl Evidence {
    /// Takes note of a name that is being asked for. True if it is the second within `term`.
    pub(super) fn note(&self, dir: FileId, name: &Name, term: Duration, now: Instant) -> bool {
        let mut recent = self.recent.lock();
        let second = match recent.get(&dir) {
            Some(Seen::TooLong) => return false,
            Some(Seen::Name(last, at)) => last != name && now.saturating_duration_since(*at) < term,
            None => false,
        };
        recent.put(dir, Seen::Name(name.clone(), now));
        second
    }

    /// The directory's listing is too long to be fetched on a suspicion.
    pub(super) fn is_too_long(&self, dir: FileId) {
        self.recent.lock().put(dir, Seen::TooLong);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_name_within_a_term_is_the_sign() {
        let dir = |inode| FileId {
            device: 1,
            inode,
            birth: 0,
        };
        let name = |text: &str| Name::new(text).unwrap();
        let (term, now) = (Duration::from_secs(1), Instant::now());
        let evidence = Evidence::default();
        assert!(!evidence.note(dir(1), &name("a"), term, now));
        assert!(!evidence.note(dir(1), &name("a"), term, now + term / 2));
        assert!(!evidence.note(dir(2), &name("b"), term, now + term / 2));
        assert!(evidence.note(dir(1), &name("b"), term, now + term));
        assert!(!evidence.note(dir(1), &name("c"), term, now + 2 * term));
        evidence.is_too_long(dir(1));
        assert!(!evidence.note(dir(1), &name("d"), term, now + 2 * term));
    }
}
