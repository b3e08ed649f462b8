//! Files whose bytes a mount wants with the news of their next change: it has read them lately.
//!
//! A wish is good for two changes (a program that writes a file is often noticed twice), so that a file nobody
//! reads any more is not sent for ever. Named by directory and name, not by identity: programs that save a file
//! put another in its place.
//!
//! Bounded; the wish used longest ago goes first. Lock: `wishes`, a leaf.

use super::limits::{WANTED_CHANGES, WANTED_MAX};
use lru::LruCache;
use parking_lot::Mutex;
use wormhole_protocol::{FileId, Name, WantedName};

struct Wish {
    bytes_max: u32,
    changes_left: u8,
}

/// What one session wants.
pub(super) struct Wanted {
    wishes: Mutex<LruCache<(FileId, Name), Wish>>,
}

impl Default for Wanted {
    fn default() -> Self {
        Self {
            wishes: Mutex::new(LruCache::sparse(WANTED_MAX)),
        }
    }
}

impl Wanted {
    /// The mount says what it wants.
    pub(super) fn note(&self, wanted: Vec<WantedName>) {
        let mut wishes = self.wishes.lock();
        for WantedName {
            dir,
            name,
            bytes_max,
        } in wanted
        {
            let wish = Wish {
                bytes_max,
                changes_left: WANTED_CHANGES,
            };
            wishes.put((dir, name), wish);
        }
    }

    /// How long the file of this name may be to be wanted; none if it is not.
    pub(super) fn bytes_max(&self, dir: FileId, name: &Name) -> Option<usize> {
        let wishes = self.wishes.lock();
        let wish = wishes.peek(&(dir, name.clone()))?;
        usize::try_from(wish.bytes_max).ok()
    }

    /// The bytes are on their way.
    pub(super) fn brought(&self, dir: FileId, name: &Name) {
        let mut wishes = self.wishes.lock();
        let key = (dir, name.clone());
        if let Some(wish) = wishes.get_mut(&key) {
            wish.changes_left = wish.changes_left.saturating_sub(1);
            if wish.changes_left == 0 {
                wishes.pop(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(n: usize) -> Name {
        Name::new(format!("n{n}")).unwrap()
    }

    fn wanted(n: usize) -> WantedName {
        WantedName {
            dir: DIR,
            name: name(n),
            bytes_max: 100,
        }
    }

    const DIR: FileId = FileId {
        device: 1,
        inode: 2,
        birth: 3,
    };

    #[test]
    fn a_wish_is_good_for_two_changes_unless_it_is_renewed() {
        let files = Wanted::default();
        assert_eq!(files.bytes_max(DIR, &name(1)), None);
        files.note(vec![wanted(1)]);
        files.brought(DIR, &name(1));
        assert_eq!(files.bytes_max(DIR, &name(1)), Some(100));
        files.note(vec![wanted(1)]);
        files.brought(DIR, &name(1));
        assert_eq!(files.bytes_max(DIR, &name(1)), Some(100));
        files.brought(DIR, &name(1));
        assert_eq!(files.bytes_max(DIR, &name(1)), None);
    }

    #[test]
    fn of_too_many_wishes_the_oldest_go() {
        let files = Wanted::default();
        for n in 0..=WANTED_MAX.get() {
            files.note(vec![wanted(n)]);
        }
        assert_eq!(files.bytes_max(DIR, &name(0)), None);
        assert_eq!(files.bytes_max(DIR, &name(1)), Some(100));
    }
}
