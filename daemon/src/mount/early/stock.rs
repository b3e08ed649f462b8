//! Reserved files in stock, by directory.
//!
//! How many are wanted follows the use: more whenever somebody finds none. What the host says about a stock that
//! was forgotten meanwhile is of no use: the lease it came under has ended.

use crate::mount::inodes::Node;
use lru::LruCache;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use wormhole_protocol::limits::RESERVED_FILES_MAX;
use wormhole_protocol::{Attr, FileId, FileKind, Name, RelPath, Timestamp};

/// Directories with files in stock.
const DIRECTORIES_MAX: NonZeroUsize = NonZeroUsize::new(256).expect("not zero");
/// Files wanted of a directory at first.
pub(super) const WANTED_MIN: u8 = 4;
/// A file is used within this time: the host gives it up after sixty seconds.
const YOUNG: Duration = Duration::from_secs(30);
/// A host that had none is asked again after so long.
const REFUSED: Duration = Duration::from_secs(5);

/// Who may make files in a directory, and whose they are.
#[derive(Clone, Copy)]
struct Access {
    mode: u16,
    uid: u32,
    gid: u32,
}

impl Access {
    fn of(dir: &Node) -> Self {
        let Attr { mode, uid, gid, .. } = dir.attr();
        Self { mode, uid, gid }
    }

    /// Whether all who might make files still may, and these would be whose they would have been.
    fn holds(self, now: Self) -> bool {
        /// To find and to change names, for anybody.
        const NAMES: u16 = 0o333;
        const SPECIAL: u16 = 0o7000;
        (self.uid, self.gid, self.mode & SPECIAL) == (now.uid, now.gid, now.mode & SPECIAL)
            && self.mode & !now.mode & NAMES == 0
    }
}

/// Attributes of a file that was reserved so long ago, as if it were made now: by the host's clock, less a round trip.
fn as_if_made(attr: Attr, ago: Duration) -> Attr {
    let made = attr.changed;
    let nanos = u64::from(made.nanos()) + u64::from(ago.subsec_nanos());
    let secs = made
        .secs()
        .saturating_add_unsigned(ago.as_secs() + nanos / 1_000_000_000);
    let nanos = u32::try_from(nanos % 1_000_000_000).unwrap_or_default();
    let now = Timestamp::new(secs, nanos).unwrap_or(made);
    Attr {
        accessed: now,
        modified: now,
        changed: now,
        ..attr
    }
}

/// What is in stock.
pub(super) struct Stocks {
    by_dir: LruCache<FileId, Stock>,
    next: u64,
    forgotten: Forgotten,
}

/// Which stocks were forgotten lately: what was asked for before is of no use.
struct Forgotten {
    recent: LruCache<FileId, Instant>,
    /// Until then any may have been.
    others: Instant,
}

impl Forgotten {
    fn note(&mut self, dir: FileId) {
        if let Some((_, at)) = self.recent.push(dir, Instant::now()) {
            self.others = self.others.max(at);
        }
    }

    fn all(&mut self) {
        self.recent.clear();
        self.others = Instant::now();
    }

    fn since(&self, dir: FileId, asked: Instant) -> bool {
        let at = self.recent.peek(&dir).copied();
        asked <= at.map_or(self.others, |at| at.max(self.others))
    }
}

struct Stock {
    number: u64,
    dir: Arc<Node>,
    /// Where that was, and whose.
    path: RelPath,
    access: Access,
    files: Vec<(Attr, Instant)>,
    wanted: u8,
    /// Whether the host has given any: this mount holds the directory alone, and may change it.
    given: bool,
    /// Asked for, and not yet there.
    coming: u8,
    /// Not to be asked for before.
    not_before: Instant,
    /// When the last file was made the slow way.
    made: Option<Instant>,
}

impl Default for Stocks {
    fn default() -> Self {
        Self {
            by_dir: LruCache::new(DIRECTORIES_MAX),
            next: 0,
            forgotten: Forgotten {
                recent: LruCache::new(DIRECTORIES_MAX),
                others: Instant::now(),
            },
        }
    }
}

impl Stocks {
    /// A file, the number of the stock it is from, and how many to ask for in its place. None if the directory is
    /// not what it was when they were reserved: then it is for the host to say whether there may be one.
    pub(super) fn take(
        &mut self,
        dir: &Node,
        path: &RelPath,
        now: Instant,
    ) -> Option<(Attr, u64, u8)> {
        let stock = self.by_dir.peek(&dir.id)?;
        if !stock.is_of(dir, path) {
            self.by_dir.pop(&dir.id);
            return None;
        }
        let stock = self.by_dir.get_mut(&dir.id)?;
        stock.access = Access::of(dir);
        let before = stock.files.len();
        stock
            .files
            .retain(|(_, at)| now.saturating_duration_since(*at) < YOUNG);
        let is_used_up = before == 0 && stock.coming > 0;
        let Some((attr, at)) = stock.files.pop() else {
            if is_used_up {
                stock.wanted = (2 * stock.wanted).min(RESERVED_FILES_MAX);
            }
            return None;
        };
        let refill = stock.missing();
        stock.coming += refill;
        let attr = as_if_made(attr, now.saturating_duration_since(at));
        Some((attr, stock.number, refill))
    }

    /// Whether the directory is held alone, and may be changed by whoever was given files in it.
    pub(super) fn are_given(&self, dir: &Node, path: &RelPath) -> bool {
        let stock = self.by_dir.peek(&dir.id);
        stock.is_some_and(|stock| stock.given && stock.is_of(dir, path))
    }

    /// Whether the host was asked for the first, and has not answered.
    pub(super) fn is_claimed(&self, dir: FileId) -> bool {
        let stock = self.by_dir.peek(&dir);
        stock.is_some_and(|stock| !stock.given && stock.coming > 0)
    }

    /// Whether there are none left, but more were asked for.
    pub(super) fn are_coming(&self, dir: FileId) -> bool {
        let stock = self.by_dir.peek(&dir);
        stock.is_some_and(|stock| stock.given && stock.files.is_empty() && stock.coming > 0)
    }

    /// A file was made the slow way. How many files are to be asked for, and for which stock; none if none are:
    /// one file does not mean that more will follow, unless they `surely` do.
    pub(super) fn want(
        &mut self,
        dir: &Arc<Node>,
        path: &RelPath,
        now: Instant,
        surely: bool,
    ) -> Option<(u64, u8)> {
        let next = self.next + 1;
        let stock = self
            .by_dir
            .get_or_insert_mut(dir.id, || Stock::new(next, dir, path, now));
        self.next = next;
        let made = stock.made.replace(now);
        let follows = surely || made.is_some_and(|at| now.saturating_duration_since(at) < YOUNG);
        let count = stock.missing();
        if !follows || count == 0 || stock.coming > 0 || now < stock.not_before {
            return None;
        }
        stock.coming = count;
        Some((stock.number, count))
    }

    /// Files came with a directory that was made, as was asked at `asked`.
    pub(super) fn begin(
        &mut self,
        dir: &Arc<Node>,
        path: &RelPath,
        files: Vec<Attr>,
        asked: Instant,
    ) {
        let now = Instant::now();
        if files.is_empty() || self.forgotten.since(dir.id, asked) || self.by_dir.contains(&dir.id)
        {
            return;
        }
        self.next += 1;
        let (number, count) = (self.next, files.len());
        let count = u8::try_from(count).unwrap_or(u8::MAX).min(WANTED_MIN);
        let stock = Stock {
            made: Some(now),
            wanted: count,
            coming: count,
            ..Stock::new(number, dir, path, now)
        };
        self.by_dir.put(dir.id, stock);
        self.refill(dir.id, number, count, files);
    }

    /// The host has answered to being asked for `asked` files.
    pub(super) fn refill(&mut self, dir: FileId, number: u64, asked: u8, files: Vec<Attr>) {
        let now = Instant::now();
        let stock = self.by_dir.peek_mut(&dir);
        let Some(stock) = stock.filter(|stock| stock.number == number) else {
            return;
        };
        stock.coming = stock.coming.saturating_sub(asked);
        if asked > 0 && files.is_empty() {
            stock.not_before = now + REFUSED;
        }
        stock.given |= !files.is_empty();
        let files = files.into_iter().take(asked.into());
        let nameless = files.filter(|attr| attr.kind == FileKind::File && attr.links == 0);
        stock.files.extend(nameless.map(|attr| (attr, now)));
    }

    /// The directory is not held alone any more.
    pub(super) fn forget(&mut self, dir: FileId) {
        self.by_dir.pop(&dir);
        self.forgotten.note(dir);
    }

    /// None is.
    pub(super) fn forget_all(&mut self) {
        self.by_dir.clear();
        self.forgotten.all();
    }

    /// None is that the entry `name` of `dir` leads to, or that lies beneath it.
    pub(super) fn forget_beneath(&mut self, dir: &Arc<Node>, name: &Name) {
        let beneath = self
            .by_dir
            .iter()
            .filter(|(_, s)| s.dir.is_beneath(dir, name));
        let beneath: Vec<_> = beneath.map(|(id, _)| *id).collect();
        for id in beneath {
            self.forget(id);
        }
    }
}

impl Stock {
    fn new(number: u64, dir: &Arc<Node>, path: &RelPath, now: Instant) -> Self {
        Self {
            number,
            dir: dir.clone(),
            path: path.clone(),
            access: Access::of(dir),
            files: Vec::new(),
            wanted: WANTED_MIN,
            given: false,
            coming: 0,
            not_before: now,
            made: None,
        }
    }

    /// Whether a directory is where it was, and as open to its mount.
    fn is_of(&self, dir: &Node, path: &RelPath) -> bool {
        self.path == *path && self.access.holds(Access::of(dir))
    }

    fn missing(&self) -> u8 {
        let there = u8::try_from(self.files.len()).unwrap_or(u8::MAX);
        self.wanted
            .saturating_sub(there.saturating_add(self.coming))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wormhole_protocol::ContentVersion;

    #[test]
    fn a_file_reserved_a_while_ago_has_the_times_of_now() {
        let at = |secs, nanos| Timestamp::new(secs, nanos).unwrap();
        let attr = Attr {
            id: FileId {
                device: 1,
                inode: 2,
                birth: 3,
            },
            kind: FileKind::File,
            mode: 0o600,
            links: 0,
            uid: 0,
            gid: 0,
            rdev: 0,
            size: 0,
            blocks: 0,
            accessed: at(1, 1),
            modified: at(2, 2),
            changed: at(-3, 600_000_000),
            xattrs: false,
            version: ContentVersion([0; 16]),
        };
        let made = as_if_made(attr, Duration::from_millis(2_500));
        let now = at(0, 100_000_000);
        assert_eq!([made.accessed, made.modified, made.changed], [now; 3]);
        let last = Attr {
            changed: at(i64::MAX, 999_999_999),
            ..attr
        };
        let made = as_if_made(last, Duration::from_nanos(1));
        assert_eq!(made.changed, at(i64::MAX, 0));
    }
}
