//! What one mount is still to be told: which directories and names in them are no longer what it saw.
//!
//! In order, numbered from 1 on, with gaps. Only marks are kept, no attributes: those are looked at when a push
//! leaves, so that news of a directory which waits already goes along with it, and nothing old is told.
//!
//! Bounded: of a directory with too many news only that it is not leased any more is told, and if there are
//! too many directories, that nothing is.

use super::super::limits::{PUSH_NAMES_WAITING_MAX, PUSHES_WAITING_MAX};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use wormhole_protocol::limits::PUSH_NAMES_MAX;
use wormhole_protocol::{FileId, Name};

/// The number of a push; 0 stands for none.
pub(in super::super) type Number = u64;

/// What is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Due {
    /// Something of a directory.
    Of {
        /// Which.
        dir: FileId,
        /// Whether its own attributes are others.
        itself: bool,
        /// Names in it.
        names: BTreeSet<Name>,
    },
    /// The directory is not leased any more.
    Over(FileId),
    /// It is, but not to this mount alone.
    Shared(FileId),
    /// Nothing is.
    AllOver,
}

/// What waits to be told to one mount.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: BTreeMap<Number, Due>,
    by_dir: HashMap<FileId, Number>,
    /// That all is over waits, under this number: nothing else need be told.
    all_over: Option<Number>,
    names: usize,
    last: Number,
}

impl Queue {
    /// Marks a name in `dir`, or if there is none, `dir` itself. The number under which it will be told.
    pub(super) fn mark(&mut self, dir: FileId, name: Option<Name>, itself: bool) -> Number {
        if let Some(number) = self.all_over {
            return number;
        }
        let number = match self.by_dir.get(&dir) {
            Some(number) => *number,
            None => match self.begin(dir) {
                Ok(number) => number,
                Err(number) => return number,
            },
        };
        let Some(Due::Of {
            itself: marked,
            names,
            ..
        }) = self.waiting.get_mut(&number)
        else {
            return number;
        };
        *marked |= itself;
        if let Some(name) = name
            && names.insert(name)
        {
            self.names += 1;
            if names.len() > PUSH_NAMES_MAX {
                self.names -= names.len();
                self.waiting.insert(number, Due::Over(dir));
            }
        }
        if self.names > PUSH_NAMES_WAITING_MAX {
            return self.all_over();
        }
        number
    }

    /// Marks that `dir` is not leased any more. The number under which that will be told.
    pub(super) fn over(&mut self, dir: FileId) -> Number {
        if let Some(number) = self.all_over {
            return number;
        }
        match self.by_dir.get(&dir) {
            Some(number) => {
                if let Some(Due::Of { names, .. }) = self.waiting.insert(*number, Due::Over(dir)) {
                    self.names -= names.len();
                }
                *number
            }
            None => self.begin(dir).map_or_else(
                |all_over| all_over,
                |number| {
                    self.waiting.insert(number, Due::Over(dir));
                    number
                },
            ),
        }
    }

    /// Marks that the lease of `dir` is not the sole one any more. The number under which that will be told.
    pub(super) fn shared(&mut self, dir: FileId) -> Number {
        if let Some(number) = self.all_over {
            return number;
        }
        if self.waiting.len() >= PUSHES_WAITING_MAX {
            return self.all_over();
        }
        self.last += 1;
        self.waiting.insert(self.last, Due::Shared(dir));
        self.last
    }

    /// Marks that nothing is leased any more. The number under which that will be told.
    pub(super) fn all_over(&mut self) -> Number {
        if let Some(number) = self.all_over {
            return number;
        }
        self.waiting.clear();
        self.by_dir.clear();
        self.names = 0;
        self.last += 1;
        self.waiting.insert(self.last, Due::AllOver);
        self.all_over = Some(self.last);
        self.last
    }

    /// The next to be told.
    pub(super) fn take(&mut self) -> Option<(Number, Due)> {
        let (number, news) = self.waiting.pop_first()?;
        match &news {
            Due::Of { dir, names, .. } => {
                self.names -= names.len();
                self.by_dir.remove(dir);
            }
            Due::Over(dir) => {
                self.by_dir.remove(dir);
            }
            Due::Shared(_) => {}
            Due::AllOver => self.all_over = None,
        }
        Some((number, news))
    }

    /// The highest number given so far.
    pub(super) fn last(&self) -> Number {
        self.last
    }

    /// How many pushes wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether what waits ends the lease of `dir`, alone or (none) with all others.
    pub(super) fn end_of(&self, dir: FileId) -> Option<Option<FileId>> {
        if self.all_over.is_some() {
            return Some(None);
        }
        let number = self.by_dir.get(&dir)?;
        let ends = matches!(self.waiting.get(number), Some(Due::Over(_)));
        ends.then_some(Some(dir))
    }

    /// A push about `dir`, or if there are too many, the number of that which ends all.
    fn begin(&mut self, dir: FileId) -> Result<Number, Number> {
        if self.waiting.len() >= PUSHES_WAITING_MAX {
            return Err(self.all_over());
        }
        self.last += 1;
        self.by_dir.insert(dir, self.last);
        let news = Due::Of {
            dir,
            itself: false,
            names: BTreeSet::new(),
        };
        self.waiting.insert(self.last, news);
        Ok(self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir(inode: u64) -> FileId {
        FileId {
            device: 1,
            inode,
            birth: 0,
        }
    }

    fn name(n: usize) -> Name {
        Name::new(format!("n{n}")).unwrap()
    }

    fn of(inode: u64, itself: bool, names: &[usize]) -> Due {
        Due::Of {
            dir: dir(inode),
            itself,
            names: names.iter().map(|n| name(*n)).collect(),
        }
    }

    #[test]
    fn news_of_a_directory_goes_together_until_it_leaves() {
        let mut queue = Queue::default();
        assert_eq!(queue.mark(dir(1), Some(name(1)), false), 1);
        assert_eq!(queue.mark(dir(2), None, true), 2);
        assert_eq!(queue.mark(dir(1), Some(name(2)), true), 1);
        assert_eq!(queue.mark(dir(1), Some(name(1)), false), 1);
        assert_eq!(queue.take(), Some((1, of(1, true, &[1, 2]))));
        assert_eq!(queue.mark(dir(1), Some(name(1)), false), 3);
        assert_eq!(queue.over(dir(2)), 2);
        assert_eq!(queue.end_of(dir(2)), Some(Some(dir(2))));
        assert_eq!(queue.end_of(dir(1)), None);
        assert_eq!(queue.mark(dir(2), Some(name(3)), false), 2);
        assert_eq!(queue.take(), Some((2, Due::Over(dir(2)))));
        assert_eq!(queue.take(), Some((3, of(1, false, &[1]))));
        assert_eq!((queue.take(), queue.last(), queue.names), (None, 3, 0));
    }

    #[test]
    fn too_many_news_of_one_directory_end_its_lease_and_too_many_in_all_every_lease() {
        let mut queue = Queue::default();
        for n in 0..=PUSH_NAMES_MAX {
            assert_eq!(queue.mark(dir(1), Some(name(n)), true), 1);
        }
        assert_eq!(queue.names, 0);
        assert_eq!(queue.take(), Some((1, Due::Over(dir(1)))));
        for n in 0..PUSHES_WAITING_MAX as u64 {
            assert_eq!(queue.mark(dir(n), None, true), n + 2);
        }
        let most = PUSHES_WAITING_MAX as u64 + 2;
        assert_eq!(queue.mark(dir(0), Some(name(0)), false), 2, "waits already");
        assert_eq!(queue.mark(dir(most), None, true), most);
        assert_eq!(queue.mark(dir(0), Some(name(0)), false), most);
        assert_eq!((queue.over(dir(1)), queue.all_over()), (most, most));
        assert_eq!(queue.take(), Some((most, Due::AllOver)));
        assert_eq!(queue.take(), None);
        for n in 0.. {
            let of = (n / PUSH_NAMES_MAX) as u64;
            let number = queue.mark(dir(of), Some(name(n % PUSH_NAMES_MAX)), false);
            if queue.all_over == Some(number) {
                assert_eq!(n, PUSH_NAMES_WAITING_MAX);
                break;
            }
        }
        assert_eq!(queue.take().map(|(_, news)| news), Some(Due::AllOver));
        assert!(queue.waiting.is_empty() && queue.by_dir.is_empty() && queue.names == 0);
    }
}
