//! The directories in which small files were read lately, and how a walk goes from one to the next.
//!
//! Pure but for the nodes it names. Bounded: the directory read longest ago goes first.

use super::pattern::{Order, Seen};
use super::stream::Batch;
use super::table::{SmallFile, Table};
use super::{FREE_BYTES, UNREAD_PART};
use crate::mount::inodes::Node;
use lru::LruCache;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use wormhole_protocol::FileId;

/// Directories watched.
const DIRS_MAX: NonZeroUsize = NonZeroUsize::new(256).expect("not zero");
/// Files of all of them.
const FILES_MAX: usize = 64 * 1024;
/// Directories of a walk that are fetched from at once.
const CHAIN_MAX: usize = 16;
/// Files read in a directory before it is looked through.
const READ_MIN: usize = 2;
/// Files remembered of a directory without a table.
const SEEN_MAX: usize = 32;
/// A directory whose files change is not looked through more often than this.
const PREPARE_AGAIN: Duration = Duration::from_millis(100);
/// What is free of the window, when the next stream is worth a request: half of it, or this.
const ROOM_BYTES: u64 = 256 * 1024;
/// Less than this is not worth one, if that is all that may be fetched in vain.
const ALLOWED_MIN_BYTES: u64 = 32 * 1024;

/// What is to be done after a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Nothing,
    /// The directory is to be looked through.
    Prepare,
    /// More may be fetched.
    Advance,
}

/// The directory after another one.
enum Next {
    Unknown,
    Sought,
    Is(FileId),
    None,
}

/// One directory.
pub(super) struct Watched {
    node: Arc<Node>,
    /// Files read before there was a table.
    seen: Vec<SmallFile>,
    prepared: Option<Instant>,
    preparing: bool,
    table: Option<Table>,
    next: Next,
    /// The directory before it in the walk that is expected to come here.
    before: Option<FileId>,
    /// Directories the walk went through before it came here.
    walked: u32,
}

impl Watched {
    fn new(node: Arc<Node>) -> Self {
        Self {
            node,
            seen: Vec::new(),
            prepared: None,
            preparing: false,
            table: None,
            next: Next::Unknown,
            before: None,
            walked: 0,
        }
    }

    /// Takes note of a read for which there is no table, or an outdated one.
    fn note(&mut self, file: &SmallFile, now: Instant) -> Step {
        if !self.seen.iter().any(|known| known.id == file.id) {
            if self.seen.len() >= SEEN_MAX {
                self.seen.remove(0);
            }
            self.seen.push(file.clone());
        }
        let is_soon = |at: Instant| now.saturating_duration_since(at) < PREPARE_AGAIN;
        if self.seen.len() < READ_MIN || self.preparing || self.prepared.is_some_and(is_soon) {
            return Step::Nothing;
        }
        self.preparing = true;
        self.prepared = Some(now);
        Step::Prepare
    }

    fn files(&self) -> usize {
        self.table.as_ref().map_or(0, |table| table.files.len())
    }
}

/// The directories.
pub(super) struct WatchedDirs {
    dirs: LruCache<FileId, Watched>,
    /// Bytes of small files read.
    read_bytes: u64,
    /// Bytes fetched ahead and not read.
    unread_bytes: u64,
    last_read: Option<Instant>,
}

impl Default for WatchedDirs {
    fn default() -> Self {
        Self {
            dirs: LruCache::new(DIRS_MAX),
            read_bytes: 0,
            unread_bytes: 0,
            last_read: None,
        }
    }
}

impl WatchedDirs {
    /// Takes note of a read, and says what it was if that is known.
    pub(super) fn observe(
        &mut self,
        dir: &Arc<Node>,
        file: &SmallFile,
        window_max_bytes: u64,
        now: Instant,
    ) -> (Option<Seen>, Step) {
        self.last_read = Some(now);
        let watched = self
            .dirs
            .get_or_insert_mut(dir.id, || Watched::new(dir.clone()));
        let number = watched
            .table
            .as_ref()
            .and_then(|table| table.number(file.id, file.version));
        let (Some(table), Some(number)) = (&mut watched.table, number) else {
            // What is not in the table, or in another version, says that it is outdated.
            self.read_bytes += u64::from(file.size);
            watched.table = None;
            return (None, watched.note(file, now));
        };
        let seen = table.pattern.observe(number, window_max_bytes);
        match seen {
            Seen::Hit => {
                self.read_bytes += u64::from(file.size);
                self.unread_bytes = self.unread_bytes.saturating_sub(file.size.into());
            }
            Seen::Miss => self.read_bytes += u64::from(file.size),
            Seen::Other => {}
        }
        let before = watched.before.take();
        self.arrive(dir.id, before);
        let watched = self.dirs.peek(&dir.id);
        let table = watched.and_then(|watched| watched.table.as_ref());
        match table {
            Some(table) if table.pattern.window_bytes() > 0 => (Some(seen), Step::Advance),
            _ => (Some(seen), Step::Nothing),
        }
    }

    /// A walk that was expected in a directory came there.
    fn arrive(&mut self, dir: FileId, before: Option<FileId>) {
        let Some(before) = before else { return };
        let walked = self.dirs.peek(&before).map_or(0, |before| before.walked);
        if let Some(watched) = self.dirs.peek_mut(&dir) {
            watched.walked = watched.walked.max(walked + 1);
        }
    }

    /// A directory was looked through. True if more is to be fetched.
    pub(super) fn prepared(
        &mut self,
        dir: &Arc<Node>,
        table: Option<Table>,
        window_max_bytes: u64,
    ) -> bool {
        let Some(watched) = self.dirs.peek_mut(&dir.id) else {
            return false;
        };
        watched.preparing = false;
        let Some(mut table) = table else {
            // The listing is on its way, or there is none; the next read tries again.
            watched.prepared = None;
            return false;
        };
        for file in watched.seen.drain(..) {
            if let Some(number) = table.number(file.id, file.version) {
                table.pattern.observe(number, window_max_bytes);
            }
        }
        let goes_on = table.pattern.window_bytes() > 0;
        watched.table = Some(table);
        self.shrink(dir.id);
        goes_on
    }

    /// What is to be fetched for who reads `dir`: there, and in the directories after it. Also the last of
    /// them, if the one behind it is to be found.
    pub(super) fn plan(
        &mut self,
        dir: FileId,
        window_max_bytes: u64,
    ) -> (Vec<Batch>, Option<(Arc<Node>, Order)>) {
        let chain = self.chain(dir);
        let tables = || {
            chain
                .iter()
                .filter_map(|id| self.dirs.peek(id)?.table.as_ref())
        };
        let Some(first) = tables().next() else {
            return (Vec::new(), None);
        };
        let order = first.pattern.order();
        let window = first.pattern.window_bytes().min(window_max_bytes);
        let ahead: u64 = tables().map(|table| table.pattern.ahead_bytes()).sum();
        let allowed = FREE_BYTES + self.read_bytes / UNREAD_PART;
        let room = window.saturating_sub(ahead);
        let mut left = room.min(allowed.saturating_sub(self.unread_bytes));
        if room < (window / 2).min(ROOM_BYTES) || left < (window / 8).min(ALLOWED_MIN_BYTES) {
            left = 0;
        }
        let will_go_on = self.will_go_on(dir);
        let mut batches = Vec::new();
        for id in chain {
            let Some(watched) = self.dirs.peek_mut(&id) else {
                break;
            };
            let Some(table) = &mut watched.table else {
                break;
            };
            let numbers = table.pattern.plan(left);
            let file = |number: u32| (number, table.files[number as usize].clone());
            let files: Vec<_> = numbers.into_iter().map(file).collect();
            left -= files.iter().map(|(_, f)| u64::from(f.size)).sum::<u64>();
            if !files.is_empty() {
                let dir = watched.node.clone();
                batches.push(Batch { dir, files });
            }
            let goes_on = table.pattern.is_exhausted() && will_go_on;
            // Finding the next directory takes round trips, and costs a listing.
            let is_sought = goes_on || table.pattern.is_steady();
            if is_sought && matches!(watched.next, Next::Unknown) {
                watched.next = Next::Sought;
                return (batches, Some((watched.node.clone(), order)));
            }
            if !goes_on {
                return (batches, None);
            }
        }
        (batches, None)
    }

    /// A directory and those after it, as far as they are known.
    fn chain(&mut self, dir: FileId) -> Vec<FileId> {
        let mut chain = vec![dir];
        let mut last = dir;
        while chain.len() < CHAIN_MAX
            && let Some(Next::Is(next)) = self.dirs.peek(&last).map(|watched| &watched.next)
            && let next = *next
            && !chain.contains(&next)
        {
            if !self.dirs.contains(&next) {
                // Forgotten meanwhile; it may be found again.
                self.not_sought(last);
                break;
            }
            chain.push(next);
            last = next;
        }
        chain
    }

    /// Whether who reads in `dir` is about to come to the next: he came from another one, or has read much.
    fn will_go_on(&self, dir: FileId) -> bool {
        self.dirs.peek(&dir).is_some_and(|watched| {
            let pattern = watched.table.as_ref().map(|table| &table.pattern);
            watched.walked > 0 || pattern.is_some_and(|p| 2 * p.read_count() >= p.len())
        })
    }

    /// What comes after `last` is this, or nothing. True if more is to be fetched for who reads `dir`.
    pub(super) fn go_on(
        &mut self,
        dir: FileId,
        last: FileId,
        next: Option<(Arc<Node>, Table)>,
    ) -> bool {
        let (order, window) = self
            .dirs
            .peek(&dir)
            .and_then(|watched| watched.table.as_ref())
            .map_or((Order::Listing, 0), |table| {
                (table.pattern.order(), table.pattern.window_bytes())
            });
        let Some(watched) = self.dirs.peek_mut(&last) else {
            return false;
        };
        let Some((node, mut table)) = next else {
            watched.next = Next::None;
            return false;
        };
        watched.next = Next::Is(node.id);
        let id = node.id;
        let watched = self.dirs.get_or_insert_mut(id, || Watched::new(node));
        // One that was read already needs nobody to expect it.
        if watched.table.is_none() && watched.seen.is_empty() {
            table.pattern.expect(order, window);
            watched.table = Some(table);
            watched.before = Some(last);
        }
        self.shrink(id);
        true
    }

    /// The directory after `last` could not be looked for now.
    pub(super) fn not_sought(&mut self, last: FileId) {
        if let Some(watched) = self.dirs.peek_mut(&last) {
            watched.next = Next::Unknown;
        }
    }

    /// So much of what was planned is being fetched.
    pub(super) fn fetching(&mut self, bytes: u64) {
        self.unread_bytes += bytes;
    }

    /// A planned file is here already, or on its way to somebody.
    pub(super) fn settle(&mut self, dir: FileId, number: u32) {
        if let Some(table) = self.table_mut(dir) {
            table.pattern.settle(number);
        }
    }

    /// A file that was being fetched does not come: it has changed, or may be fetched later.
    pub(super) fn failed(&mut self, dir: FileId, (number, file): &(u32, SmallFile), again: bool) {
        self.unread_bytes = self.unread_bytes.saturating_sub(file.size.into());
        let Some(table) = self.table_mut(dir) else {
            return;
        };
        // The table may be another one by now.
        if table.number(file.id, file.version) != Some(*number) {
            return;
        }
        if again {
            table.pattern.take_back(*number);
        } else {
            table.pattern.settle(*number);
        }
    }

    /// When a small file was last read.
    pub(super) fn last_read(&self) -> Option<Instant> {
        self.last_read
    }

    fn table_mut(&mut self, dir: FileId) -> Option<&mut Table> {
        self.dirs.peek_mut(&dir)?.table.as_mut()
    }

    /// Forgets the directories read longest ago, all but `keep`, while there are too many files.
    fn shrink(&mut self, keep: FileId) {
        let mut files: usize = self.dirs.iter().map(|(_, watched)| watched.files()).sum();
        while files > FILES_MAX
            && let Some((oldest, watched)) = self.dirs.peek_lru()
            && *oldest != keep
        {
            files -= watched.files();
            self.dirs.pop_lru();
        }
    }
}

#[cfg(test)]
mod tests;
