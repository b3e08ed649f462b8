//! Files the kernel reads from the disk cache by itself (`FUSE_PASSTHROUGH`).
//!
//! A file that is opened to read, is wholly in the disk cache in its present version, and has been at rest
//! for a while, is handed to the kernel as the cache's own file: reads never come here any more. Such a file
//! cannot change under its reader, nor can the reader be told of a change; who opens it anew, after it has
//! changed, gets the new version.
//!
//! The kernel reads an inode in one way at a time: through its page cache, or from one backing file. So
//! this is the table of the ways inodes are open now. An open that does not go with it (the file has changed,
//! or is to be written, while somebody still reads it from the cache) is a *conflict*: the file gets another
//! number, and the kernel, told to look again, another inode.
//!
//! The kernel lets go before it tells us, so what is counted here lasts longer than what it counts.
//!
//! Lock: `state`, for moments only.

use super::inodes::{Ino, Node};
use lru::LruCache;
use parking_lot::Mutex;
use serde::Serialize;
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use wormhole_cache::{ContentKey, Disk, Whole};
use wormhole_protocol::{Attr, ContentVersion, FileId, FileKind};

/// Smaller files gain nothing.
const SIZE_MIN: u64 = 128 * 1024;
/// Larger files are not checked while somebody waits for the open.
const CHECKED_AT_OPEN_MAX: u64 = 64 * 1024 * 1024;
/// How long a file must not have been written to: what grows is read as it grows.
const REST: Duration = Duration::from_secs(5);
/// How long a file that was seen to change is not handed over.
const RESTLESS: Duration = Duration::from_secs(600);
/// Files whose last version is remembered for that.
const SEEN_MAX: usize = 4096;
/// Files that are named in a report.
const SHOWN_MAX: usize = 64;

/// The file is open in a way that does not go with the one asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conflict;

/// What this is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PassthroughSnapshot {
    /// Why no file is handed over, if none is.
    pub note: Option<String>,
    /// Opens since mounting.
    pub opens: u64,
    /// Files that are open now.
    pub open_files: u64,
    /// Some of them, by path.
    pub files: Vec<PathBuf>,
}

/// A kernel inode: a number may be given to another file.
type Key = (Ino, FileId);

/// How an inode is open.
#[derive(Default)]
struct Ways {
    cached: usize,
    backed: Option<Backed>,
}

struct Backed {
    version: ContentVersion,
    whole: Arc<Whole>,
    node: Arc<Node>,
    opens: usize,
}

/// The version a file had when it was last opened, and when it was seen to have changed.
struct Seen {
    version: ContentVersion,
    changed: Option<Instant>,
}

struct State {
    off: Option<String>,
    ways: HashMap<Key, Ways>,
    seen: LruCache<Key, Seen>,
}

/// The ways in which files are open.
pub struct Passthrough {
    disk: Option<Arc<Disk>>,
    state: Mutex<State>,
    opens: AtomicU64,
    /// One large file is checked at a time.
    checking: Arc<Semaphore>,
}

impl Passthrough {
    /// Nothing is open. Files are handed over if there is a disk cache, until it is refused.
    pub fn new(disk: Option<Arc<Disk>>) -> Arc<Self> {
        let off = disk.is_none().then(|| "there is no disk cache".to_owned());
        let most = NonZeroUsize::new(SEEN_MAX).unwrap_or(NonZeroUsize::MIN);
        Arc::new(Self {
            disk,
            state: Mutex::new(State {
                off,
                ways: HashMap::new(),
                seen: LruCache::new(most),
            }),
            opens: AtomicU64::new(0),
            checking: Arc::new(Semaphore::new(1)),
        })
    }

    /// From now on no file is handed over.
    pub fn refuse(&self, why: &str) {
        let mut state = self.state.lock();
        if state.off.is_none() {
            tracing::debug!("files are not read past this program: {why}");
            state.off = Some(why.to_owned());
        }
    }

    /// Whether files of this size are handed over at all.
    pub fn takes(&self, size: u64) -> bool {
        size >= SIZE_MIN && self.state.lock().off.is_none()
    }

    /// Opens an inode to be read: from the cache's file, if one comes with it.
    ///
    /// # Errors
    /// [`Conflict`].
    pub async fn open_to_read(
        self: &Arc<Self>,
        node: &Arc<Node>,
        attr: &Attr,
        content: ContentKey,
    ) -> Result<Way, Conflict> {
        let key = (node.ino, node.id);
        let may_be_backed = {
            let mut state = self.state.lock();
            let rests = state.rests(key, attr);
            if let Some(way) = state.join(key, attr)? {
                drop(state);
                return Ok(self.way(key, way));
            }
            state.off.is_none() && rests && is_eligible(node, attr)
        };
        let whole = match may_be_backed {
            true => self.whole(content, attr.size).await,
            false => None,
        };
        let mut state = self.state.lock();
        // Somebody else may have opened it meanwhile.
        let way = match (state.join(key, attr)?, whole) {
            (Some(way), _) => way,
            (None, Some(whole)) => {
                let backed = Backed {
                    version: attr.version,
                    whole: whole.clone(),
                    node: node.clone(),
                    opens: 1,
                };
                state.ways.entry(key).or_default().backed = Some(backed);
                Some(whole)
            }
            (None, None) => {
                state.ways.entry(key).or_default().cached += 1;
                None
            }
        };
        drop(state);
        Ok(self.way(key, way))
    }

    /// Opens an inode in any other way.
    ///
    /// # Errors
    /// [`Conflict`].
    pub fn open_otherwise(self: &Arc<Self>, node: &Node) -> Result<Way, Conflict> {
        let key = (node.ino, node.id);
        let mut state = self.state.lock();
        let ways = state.ways.entry(key).or_default();
        if ways.backed.is_some() {
            return Err(Conflict);
        }
        ways.cached += 1;
        drop(state);
        Ok(self.way(key, None))
    }

    fn way(self: &Arc<Self>, key: Key, whole: Option<Arc<Whole>>) -> Way {
        if whole.is_some() {
            self.opens.fetch_add(1, Relaxed);
        }
        Way {
            passthrough: self.clone(),
            key,
            whole,
        }
    }

    /// The content as a file, if all of it is in the disk cache. A large one that was not checked before is
    /// checked in the background, for the next open.
    async fn whole(&self, content: ContentKey, size: u64) -> Option<Arc<Whole>> {
        let disk = self.disk.clone()?;
        if size <= CHECKED_AT_OPEN_MAX || disk.is_known_whole(&content) {
            let open = move || disk.open_whole(&content, size);
            return tokio::task::spawn_blocking(open).await.ok()?.map(Arc::new);
        }
        if let Ok(turn) = self.checking.clone().try_acquire_owned() {
            tokio::task::spawn_blocking(move || {
                drop(disk.open_whole(&content, size));
                drop(turn);
            });
        }
        None
    }

    /// What it is doing.
    pub fn snapshot(&self) -> PassthroughSnapshot {
        let (note, nodes) = {
            let state = self.state.lock();
            let backed = state.ways.values().filter_map(|ways| ways.backed.as_ref());
            let nodes: Vec<_> = backed.map(|backed| backed.node.clone()).collect();
            (state.off.clone(), nodes)
        };
        let mut files: Vec<_> = nodes.iter().take(SHOWN_MAX).map(Node::shown_path).collect();
        files.sort();
        PassthroughSnapshot {
            note,
            opens: self.opens.load(Relaxed),
            open_files: nodes.len() as u64,
            files,
        }
    }
}

impl State {
    /// Opens an inode in the way in which it is open already, if it is.
    fn join(&mut self, key: Key, attr: &Attr) -> Result<Option<Option<Arc<Whole>>>, Conflict> {
        let Some(ways) = self.ways.get_mut(&key) else {
            return Ok(None);
        };
        match &mut ways.backed {
            Some(backed) if backed.version == attr.version => {
                backed.opens += 1;
                Ok(Some(Some(backed.whole.clone())))
            }
            Some(_) => Err(Conflict),
            None => {
                ways.cached += 1;
                Ok(Some(None))
            }
        }
    }

    /// Takes note of the version an inode has; whether it has not been seen to change lately.
    fn rests(&mut self, key: Key, attr: &Attr) -> bool {
        let now = Instant::now();
        let before = self.seen.get(&key);
        let changed = match before {
            Some(seen) if seen.version != attr.version => Some(now),
            Some(seen) => seen.changed,
            None => None,
        };
        let version = attr.version;
        self.seen.push(key, Seen { version, changed });
        changed.is_none_or(|changed| now.duration_since(changed) > RESTLESS)
    }

    fn leave(&mut self, key: Key, backed: bool) -> Option<Backed> {
        let ways = self.ways.get_mut(&key)?;
        let mut ended = None;
        if backed {
            let is_last = ways.backed.as_mut().is_some_and(|backed| {
                backed.opens -= 1;
                backed.opens == 0
            });
            ended = is_last.then(|| ways.backed.take()).flatten();
        } else {
            ways.cached -= 1;
        }
        if ways.cached == 0 && ways.backed.is_none() {
            self.ways.remove(&key);
        }
        ended
    }
}

/// Whether a file may be handed to the kernel, as far as its attributes tell.
fn is_eligible(node: &Node, attr: &Attr) -> bool {
    let modified = u64::try_from(attr.modified.secs()).unwrap_or(0);
    let age = SystemTime::now().duration_since(UNIX_EPOCH + Duration::from_secs(modified));
    // What was written in the future was written by another clock, and perhaps just now.
    let is_at_rest = age.is_ok_and(|age| age >= REST);
    attr.kind == FileKind::File && attr.size >= SIZE_MIN && is_at_rest && node.is_clean()
}

/// An inode is open in this way for as long as this lives.
pub struct Way {
    passthrough: Arc<Passthrough>,
    key: Key,
    whole: Option<Arc<Whole>>,
}

impl Way {
    /// The file the kernel is to read instead.
    pub fn whole(&self) -> Option<&Arc<Whole>> {
        self.whole.as_ref()
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        let mut state = self.passthrough.state.lock();
        let ended = state.leave(self.key, self.whole.is_some());
        drop(state);
        // Closing files takes time; not under the lock.
        drop(ended);
    }
}
