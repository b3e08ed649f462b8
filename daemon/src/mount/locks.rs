//! The locks this mount's programs hold through one open file: what to take again, what to give up.
//!
//! A list of who has which bytes how, kept as the host keeps it: a later lock of the same owner replaces
//! what it covers, giving up cuts. Plain data; asking the host is done in `vfs`.

use wormhole_protocol::{Lock, LockKind, LockMode, LockOwner, LockRange, OpenId};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    owner: LockOwner,
    kind: LockKind,
    first: u64,
    last: u64,
    mode: LockMode,
}

/// Locks held through one open file.
#[derive(Debug, Default)]
pub struct LockBook {
    entries: Vec<Entry>,
    /// Owners who gave up waiting for an answer, and may have a lock all the same. Nothing to take again,
    /// but to be given up with the rest.
    doubtful: Vec<LockOwner>,
}

impl LockBook {
    /// `lock` was granted.
    pub fn granted(&mut self, lock: &Lock, mode: LockMode) {
        self.released(lock);
        self.entries.push(Entry {
            owner: lock.owner,
            kind: lock.kind,
            first: lock.range.first(),
            last: lock.range.last(),
            mode,
        });
    }

    /// `lock` was given up, or whatever of it was held.
    pub fn released(&mut self, lock: &Lock) {
        let (first, last) = (lock.range.first(), lock.range.last());
        let mut kept = Vec::with_capacity(self.entries.len() + 1);
        for entry in self.entries.drain(..) {
            let same = entry.owner == lock.owner && entry.kind == lock.kind;
            if !same || entry.last < first || entry.first > last {
                kept.push(entry);
                continue;
            }
            if entry.first < first {
                kept.push(Entry {
                    last: first - 1,
                    ..entry
                });
            }
            if entry.last > last {
                kept.push(Entry {
                    first: last + 1,
                    ..entry
                });
            }
        }
        self.entries = kept;
    }

    /// Nobody waits any more for the answer to `lock`, which may be granted or not.
    pub fn doubt(&mut self, lock: &Lock) {
        if lock.kind == LockKind::Record && !self.doubtful.contains(&lock.owner) {
            self.doubtful.push(lock.owner);
        }
    }

    /// Forgets the record locks of an owner; whether there were any, or may have been.
    pub fn release_all(&mut self, owner: LockOwner) -> bool {
        let before = self.entries.len() + self.doubtful.len();
        self.doubtful.retain(|doubted| *doubted != owner);
        self.entries
            .retain(|entry| entry.owner != owner || entry.kind != LockKind::Record);
        self.entries.len() + self.doubtful.len() < before
    }

    /// Whether nothing is held, nor may be.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.doubtful.is_empty()
    }

    /// All of them, as asked for through the open file `open`.
    pub fn all(&self, open: OpenId) -> impl Iterator<Item = (Lock, LockMode)> + use<'_> {
        self.entries.iter().filter_map(move |entry| {
            let lock = Lock {
                open,
                owner: entry.owner,
                kind: entry.kind,
                range: LockRange::new(entry.first, entry.last)?,
            };
            Some((lock, entry.mode))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(owner: u64, kind: LockKind, first: u64, last: u64) -> Lock {
        Lock {
            open: OpenId(1),
            owner: LockOwner(owner),
            kind,
            range: LockRange::new(first, last).unwrap(),
        }
    }

    fn held(book: &LockBook) -> Vec<(u64, u64, u64, LockMode)> {
        let mut held: Vec<_> = book
            .all(OpenId(1))
            .map(|(l, mode)| (l.owner.0, l.range.first(), l.range.last(), mode))
            .collect();
        held.sort_by_key(|entry| (entry.0, entry.1));
        held
    }

    #[test]
    fn later_locks_replace_what_they_cover_and_giving_up_cuts() {
        use LockKind::{Flock, Record};
        use LockMode::{Exclusive, Shared};
        let mut book = LockBook::default();
        book.granted(&lock(1, Record, 0, 99), Shared);
        book.granted(&lock(1, Record, 40, 59), Exclusive);
        book.granted(&lock(2, Record, 0, 9), Shared);
        assert_eq!(
            held(&book),
            [
                (1, 0, 39, Shared),
                (1, 40, 59, Exclusive),
                (1, 60, 99, Shared),
                (2, 0, 9, Shared)
            ]
        );
        book.released(&lock(1, Record, 30, 69));
        assert_eq!(
            held(&book),
            [(1, 0, 29, Shared), (1, 70, 99, Shared), (2, 0, 9, Shared)]
        );
        book.granted(&lock(1, Flock, 0, u64::MAX), Exclusive);
        assert!(book.release_all(LockOwner(1)));
        assert!(!book.release_all(LockOwner(1)), "of records, none is left");
        book.doubt(&lock(7, Record, 0, 9));
        book.doubt(&lock(7, Record, 20, 29));
        book.doubt(&lock(8, Flock, 0, 9));
        assert!(!held(&book).iter().any(|entry| entry.0 == 7));
        assert!(book.release_all(LockOwner(7)), "it may have been granted");
        assert!(!book.release_all(LockOwner(7)) && !book.release_all(LockOwner(8)));
        assert_eq!(held(&book).len(), 2);
        book.released(&lock(2, Record, 0, u64::MAX));
        book.released(&lock(1, Flock, 0, 0));
        assert!(!book.is_empty(), "the flock but for its first byte");
        book.released(&lock(1, Flock, 0, u64::MAX));
        assert!(book.is_empty());
    }
}
