//! Watching a subtree: what changes in it, wherever it is changed.
//!
//! A watch knows the names of its directories as they were last looked at ([`known`]). What the host tells of a
//! directory only says that it is to be looked at again, through the mount's own beliefs, which costs nothing
//! where it is leased; what differs is an event. So nothing is missed, whatever becomes of leases and
//! connections; of changes in quick succession the last may be all that is seen.
//!
//! Looking again keeps the leases in use. Directories that are not leased are looked at all the time, a few
//! at a time.

mod known;

use super::error::FsError;
use super::handles::HandleId;
use super::inodes::Node;
use super::vfs::Vfs;
use super::warm::{Looked, WarmError, resolve};
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
pub use known::{Kind, What};
use known::{Known, Names};
use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval};
use wormhole_protocol::{Attr, Fault, FileId, FileKind, Name};

/// Names of one watch.
pub const NAMES_MAX: usize = 250_000;
/// Directories looked at together.
const LOOKS_MAX: usize = 4;
/// Directories that are not leased, or not used for long, looked at in one turn, and between two turns.
const TURN_DIRS: usize = 64;
const TURN: Duration = Duration::from_millis(500);
/// How long a leased directory is left alone.
const LEASED_REST: Duration = Duration::from_secs(20);
/// What the host told that waits to be looked at; more makes a watch look at everything.
const TOLD_MAX: usize = 1024;

/// The host has told something of a directory, or of none in particular.
pub type Told = Option<FileId>;

/// Who hears that the host has told something.
#[derive(Clone)]
pub struct Taps(broadcast::Sender<Told>);

impl Default for Taps {
    fn default() -> Self {
        Self(broadcast::Sender::new(TOLD_MAX))
    }
}

impl Taps {
    /// Something was told, and is believed by now.
    pub fn tell(&self, told: Told) {
        // Nobody may be watching.
        let _ = self.0.send(told);
    }
}

/// What a watch says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// All is known as it is now; what changes from here on is told.
    Ready {
        /// Directories that are watched.
        directories: u64,
        /// Names in them.
        names: u64,
    },
    /// Something is not as it was.
    Change {
        /// What happened.
        what: What,
        /// To what, beneath the share's root.
        path: PathBuf,
        /// What it is, or was.
        kind: Kind,
    },
}

/// Why a watch ended.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The path leads nowhere.
    #[error(transparent)]
    Path(#[from] WarmError),
    /// It holds too much.
    #[error("there are more than {NAMES_MAX} names in it: watch a part of it")]
    TooLarge,
    /// What was watched is there no more.
    #[error("it is there no more")]
    Gone,
    /// Nobody listens.
    #[error("nobody listens")]
    Unheard,
}

/// A directory that is watched.
struct Dir {
    looked: Arc<Looked>,
    path: PathBuf,
    names: Names,
    /// Whether what is in it when it is looked at first is news.
    is_news: bool,
    looked_at: Instant,
    /// Whether all that was seen then is leased, so that a change of it would be told.
    is_told: bool,
}

/// What was found in a directory.
type Found = (FileId, Result<Vec<(Name, Attr, Option<Looked>)>, FsError>);

/// Watches what is at `path`, which is not followed if it is a symlink. Ends with an error, or by being dropped.
///
/// # Errors
/// Always.
pub async fn watch(
    vfs: &Arc<Vfs>,
    path: &Path,
    events: mpsc::Sender<Event>,
) -> Result<std::convert::Infallible, WatchError> {
    let mut told = vfs.taps().0.subscribe();
    let mut watch = Watch::begin(vfs, path, events).await?;
    while !watch.is_idle() {
        watch.look_once().await?;
    }
    watch.say_ready().await?;
    let listener = watch.events.clone();
    let mut turns = interval(TURN);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        watch.begin_looks();
        tokio::select! {
            heard = told.recv() => match heard {
                Ok(Some(dir)) => watch.wants(dir),
                Ok(None) | Err(broadcast::error::RecvError::Lagged(_)) => watch.wants_all(),
                // Never: this holds the file system, which holds the sender.
                Err(broadcast::error::RecvError::Closed) => return Err(WatchError::Unheard),
            },
            Some(found) = watch.looking.next(), if !watch.looking.is_empty() => watch.take(found).await?,
            _ = turns.tick() => watch.turn(),
            () = listener.closed() => return Err(WatchError::Unheard),
        }
    }
}

struct Watch {
    vfs: Arc<Vfs>,
    root: FileId,
    /// The one name in the root that is watched, if it is a file.
    only: Option<Name>,
    dirs: HashMap<FileId, Dir>,
    names: usize,
    wanted: VecDeque<FileId>,
    /// Those in `wanted` and those being looked at.
    pending: HashSet<FileId>,
    /// Those of the latter of which something was told since.
    again: HashSet<FileId>,
    looking: FuturesUnordered<BoxFuture<'static, Found>>,
    events: mpsc::Sender<Event>,
}

impl Watch {
    async fn begin(
        vfs: &Arc<Vfs>,
        path: &Path,
        events: mpsc::Sender<Event>,
    ) -> Result<Self, WatchError> {
        let mut at = resolve(vfs, path).await.map_err(WarmError::Path)?;
        let (mut dir, mut only) = (path, None);
        if at.node.attr().kind != FileKind::Directory {
            dir = path.parent().unwrap_or(Path::new(""));
            only = at.node.place().map(|(_, name)| name);
            at = resolve(vfs, dir).await.map_err(WarmError::Path)?;
        }
        let mut watch = Self {
            vfs: vfs.clone(),
            root: at.node.id,
            only,
            dirs: HashMap::new(),
            names: 0,
            wanted: VecDeque::new(),
            pending: HashSet::new(),
            again: HashSet::new(),
            looking: FuturesUnordered::new(),
            events,
        };
        watch.add(at, dir.to_owned(), false);
        Ok(watch)
    }

    fn add(&mut self, looked: Looked, path: PathBuf, is_news: bool) {
        let id = looked.node.id;
        let dir = Dir {
            looked: Arc::new(looked),
            path,
            names: Names::default(),
            is_news,
            looked_at: Instant::now(),
            is_told: false,
        };
        if let Some(before) = self.dirs.insert(id, dir) {
            self.names -= before.names.len();
        }
        self.wants(id);
    }

    fn is_idle(&self) -> bool {
        self.wanted.is_empty() && self.looking.is_empty()
    }

    fn wants(&mut self, id: FileId) {
        if !self.dirs.contains_key(&id) {
            return;
        }
        if self.pending.insert(id) {
            self.wanted.push_back(id);
        } else {
            self.again.insert(id);
        }
    }

    fn wants_all(&mut self) {
        let all: Vec<_> = self.dirs.keys().copied().collect();
        all.into_iter().for_each(|id| self.wants(id));
    }

    /// Wants those that may have changed without a word, those looked at longest ago first.
    fn turn(&mut self) {
        let now = Instant::now();
        let leases = self.vfs.leases();
        let mut old: Vec<_> = self
            .dirs
            .iter()
            .filter(|(id, dir)| {
                let is_recent = now.duration_since(dir.looked_at) < LEASED_REST;
                !(is_recent && dir.is_told && leases.held(**id, now).is_some())
            })
            .map(|(id, dir)| (dir.looked_at, *id))
            .collect();
        old.sort_unstable_by_key(|(looked_at, _)| *looked_at);
        for (_, id) in old.into_iter().take(TURN_DIRS) {
            if !self.pending.contains(&id) {
                self.wants(id);
            }
        }
    }

    fn begin_looks(&mut self) {
        while self.looking.len() < LOOKS_MAX
            && let Some(id) = self.wanted.pop_front()
        {
            let now = Instant::now();
            let held = self.vfs.leases().held(id, now);
            match self.dirs.get_mut(&id) {
                Some(dir) => {
                    // What was heard before the lease may be believed for a short term yet.
                    let short = self.vfs.short_term();
                    dir.is_told = held.is_some_and(|held| held.since + short <= now);
                    let look = look(self.vfs.clone(), dir.looked.clone());
                    self.looking.push(look.boxed());
                }
                None => drop(self.pending.remove(&id)),
            }
        }
    }

    async fn look_once(&mut self) -> Result<(), WatchError> {
        self.begin_looks();
        match self.looking.next().await {
            Some(found) => self.take(found).await,
            None => Ok(()),
        }
    }

    /// Takes what was found in a directory, and says what is not as it was.
    async fn take(&mut self, (id, found): Found) -> Result<(), WatchError> {
        self.pending.remove(&id);
        if self.again.remove(&id) {
            self.wants(id);
        }
        let found = match found {
            Ok(found) => found,
            Err(error) if is_gone(error) && id == self.root => return Err(WatchError::Gone),
            // Its own directory will tell that it is gone. Else it is looked at again, by and by.
            Err(_) => return Ok(()),
        };
        let Some(dir) = self.dirs.get_mut(&id) else {
            return Ok(());
        };
        dir.looked_at = Instant::now();
        let (mut now, mut subdirs) = (Names::default(), Vec::new());
        for (name, attr, looked) in found {
            if self.only.as_ref().is_some_and(|only| *only != name) {
                continue;
            }
            if let Some(looked) = looked.filter(|_| self.only.is_none()) {
                subdirs.push((name.clone(), looked));
            }
            now.insert(name, Known::of(&attr));
        }
        let (is_news, path) = (dir.is_news, dir.path.clone());
        let before = std::mem::replace(&mut dir.names, now.clone());
        dir.is_news = true;
        self.names = self.names - before.len() + now.len();
        if self.names > NAMES_MAX {
            return Err(WatchError::TooLarge);
        }
        let changes = if is_news {
            known::changes(&before, &now)
        } else {
            Vec::new()
        };
        for (what, name, known) in changes {
            let path = beneath(&path, name);
            if what == What::Removed && known.kind == Kind::Directory {
                self.forget(&path);
            }
            let kind = known.kind;
            self.say(Event::Change { what, path, kind }).await?;
        }
        for (name, looked) in subdirs {
            let path = beneath(&path, &name);
            let is_known = self.dirs.get(&looked.node.id);
            if is_known.is_none_or(|known| known.path != path) {
                self.add(looked, path, is_news);
            }
        }
        Ok(())
    }

    /// A directory is no longer at `path`, nor is anything beneath.
    fn forget(&mut self, path: &Path) {
        let mut fewer = 0;
        self.dirs.retain(|_, dir| {
            let stays = !dir.path.starts_with(path);
            fewer += if stays { 0 } else { dir.names.len() };
            stays
        });
        self.names -= fewer;
    }

    async fn say_ready(&mut self) -> Result<(), WatchError> {
        let ready = Event::Ready {
            directories: self.dirs.len() as u64,
            names: self.names as u64,
        };
        self.say(ready).await
    }

    async fn say(&mut self, event: Event) -> Result<(), WatchError> {
        let said = self.events.send(event).await;
        said.map_err(|_| WatchError::Unheard)
    }
}

fn is_gone(error: FsError) -> bool {
    let gone = [Fault::NotFound, Fault::NotDirectory].map(FsError::Fault);
    error == FsError::Stale || gone.contains(&error)
}

fn beneath(dir: &Path, name: &Name) -> PathBuf {
    dir.join(OsStr::from_bytes(name.as_bytes()))
}

/// A directory that is open for as long as this lives.
struct Open(Arc<Vfs>, HandleId);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.release(self.1);
    }
}

async fn look(vfs: Arc<Vfs>, dir: Arc<Looked>) -> Found {
    let found = names_in(&vfs, &dir.node).await;
    (dir.node.id, found)
}

async fn names_in(
    vfs: &Arc<Vfs>,
    dir: &Arc<Node>,
) -> Result<Vec<(Name, Attr, Option<Looked>)>, FsError> {
    let open = Open(vfs.clone(), vfs.opendir(dir.ino)?);
    let (mut names, mut offset) = (Vec::new(), 0);
    loop {
        let page = vfs.readdir(open.1, offset).await?;
        let Some((end, _)) = page.entries.last() else {
            return Ok(names);
        };
        offset = *end;
        for (_, listed) in &page.entries {
            let (name, attr) = (listed.entry.name.clone(), listed.entry.attr);
            let looked = match attr.kind {
                // An entry that cannot be true is no directory to go into.
                FileKind::Directory => vfs.show(&page.dir, listed).ok(),
                _ => None,
            };
            names.push((name, attr, looked.map(|found| Looked::new(vfs, found.node))));
        }
        if names.len() > NAMES_MAX {
            return Ok(names);
        }
    }
}
