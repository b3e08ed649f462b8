//! Bringing a subtree to the disk cache ahead of need.
//!
//! First a survey ([`walk`]): how much there is, and how much of it is here. Then the files that are not are
//! fetched, several at a time, as reads ahead, so that whoever reads goes first. Bytes go the way they
//! always do (`fetch`); what is here is known from the cache's index alone.
//!
//! Not here: keeping what was brought (`pins`), who asks for it (`control`).

mod file;
mod walk;

use super::error::FsError;
use super::inodes::{Ino, Node};
use super::vfs::Vfs;
use crate::path_text::PathText;
use file::{FILES_MAX, Files};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
pub(crate) use walk::Looked;
use walk::{Found, Walk};
use wormhole_cache::{ContentKey, Disk};
use wormhole_protocol::{Fault, FileKind};

/// Contents with their sizes.
pub type Contents = Vec<(ContentKey, u64)>;

/// How far it is.
#[derive(Default)]
pub struct Progress {
    surveyed: AtomicBool,
    files: AtomicU64,
    bytes: AtomicU64,
    here_files: AtomicU64,
    here_bytes: AtomicU64,
    failed: AtomicU64,
    first_failure: parking_lot::Mutex<Option<String>>,
}

/// How much there is beneath a path, and how much of it is in the disk cache.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Warmth {
    /// Whether all names have been looked through, so that the figures of what there is are final.
    pub surveyed: bool,
    /// Files there are.
    pub files: u64,
    /// Bytes they have.
    pub bytes: u64,
    /// Files that are here as a whole.
    pub here_files: u64,
    /// Bytes that are here.
    pub here_bytes: u64,
    /// Files and directories that could not be had.
    pub failed: u64,
    /// What was said of the first of them.
    pub first_failure: Option<String>,
}

impl Warmth {
    /// Whether everything is here.
    pub fn is_complete(&self) -> bool {
        self.surveyed && self.failed == 0 && self.here_files == self.files
    }
}

impl Progress {
    /// Figures now.
    pub fn snapshot(&self) -> Warmth {
        Warmth {
            surveyed: self.surveyed.load(Relaxed),
            files: self.files.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            here_files: self.here_files.load(Relaxed),
            here_bytes: self.here_bytes.load(Relaxed),
            failed: self.failed.load(Relaxed),
            first_failure: self.first_failure.lock().clone(),
        }
    }

    fn fail(&self, what: &str, error: FsError) {
        self.failed.fetch_add(1, Relaxed);
        let mut first = self.first_failure.lock();
        first.get_or_insert_with(|| format!("{what}: {}", said(error)));
    }
}

/// An error of the file system, for people.
fn said(error: FsError) -> String {
    match error {
        FsError::Fault(Fault::NotFound) => "there is no such file or directory".to_owned(),
        FsError::Fault(Fault::NotDirectory) => {
            "it is beneath something that is no directory".to_owned()
        }
        FsError::Fault(Fault::Denied) => "the host may not read it".to_owned(),
        FsError::TimedOut => "the host does not answer".to_owned(),
        FsError::Stale => "it was moved or replaced meanwhile".to_owned(),
        other => other.to_string(),
    }
}

/// The name under which a node was seen last, for people.
fn name_of(node: &Node) -> String {
    let bytes = node.place().map(|(_, name)| name.as_bytes().to_vec());
    let name = bytes.map(|bytes| PathText::from(OsString::from_vec(bytes)).to_string());
    name.unwrap_or_else(|| "the root of the share".to_owned())
}

/// Why a subtree could not be brought.
#[derive(Debug, thiserror::Error)]
pub enum WarmError {
    /// There is no disk cache to bring it to.
    #[error("this mount has no disk cache")]
    NoDisk,
    /// The path leads nowhere, or could not be looked at.
    #[error("{}", said(*.0))]
    Path(FsError),
    /// It is larger than the disk cache.
    #[error(
        "it takes {wanted_bytes} bytes, and the disk cache may hold {room_bytes} besides what is pinned"
    )]
    NoRoom {
        /// What it takes.
        wanted_bytes: u64,
        /// What there is room for.
        room_bytes: u64,
    },
}

/// What a survey is to find out besides figures.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Survey {
    Figures,
    Contents,
}

/// Brings subtrees of one mount to its disk cache.
#[derive(Clone)]
pub struct Warmer {
    vfs: Arc<Vfs>,
    disk: Arc<Disk>,
}

impl Warmer {
    /// For the file system of a mount with a disk cache.
    ///
    /// # Errors
    /// [`WarmError::NoDisk`].
    pub fn new(vfs: &Arc<Vfs>) -> Result<Self, WarmError> {
        let disk = vfs.fetcher().disk().ok_or(WarmError::NoDisk)?;
        Ok(Self {
            vfs: vfs.clone(),
            disk: disk.clone(),
        })
    }

    /// The disk cache.
    pub fn disk(&self) -> &Arc<Disk> {
        &self.disk
    }

    /// Finds out how much there is beneath `path` and how much of it is here; fetches nothing but names.
    ///
    /// # Errors
    /// [`WarmError`]. What fails beneath the path is counted.
    pub async fn check(&self, path: &Path, progress: &Progress) -> Result<(), WarmError> {
        self.survey(path, progress, Survey::Figures).await.map(drop)
    }

    /// The same, and says which contents those are.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub async fn contents(&self, path: &Path, progress: &Progress) -> Result<Contents, WarmError> {
        self.survey(path, progress, Survey::Contents).await
    }

    /// Brings what is beneath `path`, after a survey that counted into `progress`. Says which contents
    /// are here now. Dropping the future ends it.
    ///
    /// # Errors
    /// [`WarmError`]. What fails beneath the path is counted.
    pub async fn bring(&self, path: &Path, progress: &Progress) -> Result<Contents, WarmError> {
        let mut walk = self.walk(path).await?;
        let files = Files::new(&self.vfs, &self.disk);
        // What was counted before may have come or gone meanwhile.
        progress.here_files.store(0, Relaxed);
        progress.here_bytes.store(0, Relaxed);
        progress.failed.store(0, Relaxed);
        *progress.first_failure.lock() = None;
        let (mut found, mut bytes) = (0, 0);
        let mut under_way = FuturesUnordered::new();
        let (mut waiting, mut contents) = (Vec::new(), Vec::new());
        loop {
            while under_way.len() < FILES_MAX
                && let Some((file, held)) = waiting.pop()
            {
                under_way.push(files.bring(file, held, progress));
            }
            tokio::select! {
                Some((brought, size)) = under_way.next() => {
                    contents.extend(brought);
                    found += 1;
                    bytes += size;
                }
                page = walk.next_page(progress), if waiting.is_empty() && !walk.is_over() => {
                    let held = self.held(&page).await;
                    waiting.extend(page.into_iter().zip(held));
                    waiting.reverse();
                }
                else => break,
            }
        }
        progress.files.store(found, Relaxed);
        progress.bytes.store(bytes, Relaxed);
        Ok(contents)
    }

    /// Fails if `wanted` bytes do not fit into the disk cache besides what is pinned.
    ///
    /// # Errors
    /// [`WarmError::NoRoom`].
    pub fn require_room(&self, wanted: &Warmth) -> Result<(), WarmError> {
        let room = self.disk.pin_room();
        // What is pinned and lies beneath the path is here and counted twice; it need not be fetched.
        let wanted_bytes = wanted.bytes.saturating_sub(wanted.here_bytes);
        let room_bytes = room.limit_bytes.saturating_sub(room.pinned_bytes);
        if wanted_bytes > room_bytes {
            return Err(WarmError::NoRoom {
                wanted_bytes,
                room_bytes,
            });
        }
        Ok(())
    }

    async fn survey(
        &self,
        path: &Path,
        progress: &Progress,
        what: Survey,
    ) -> Result<Contents, WarmError> {
        let mut walk = self.walk(path).await?;
        let disk = self.disk.clone();
        // What an earlier run left must be known, and what was read written, or it would seem not to be here.
        let settle = move || {
            disk.wait_for_scan();
            disk.flush();
        };
        let _ = tokio::task::spawn_blocking(settle).await;
        let mut contents = Vec::new();
        while !walk.is_over() {
            let page = walk.next_page(progress).await;
            let held = self.held(&page).await;
            for (file, held) in page.iter().zip(held) {
                progress.files.fetch_add(1, Relaxed);
                progress.bytes.fetch_add(file.attr.size, Relaxed);
                progress.here_bytes.fetch_add(held, Relaxed);
                let is_here = held == file.attr.size;
                progress.here_files.fetch_add(is_here.into(), Relaxed);
                if what == Survey::Contents {
                    let key = self.vfs.fetcher().key_of(&file.looked.node, &file.attr);
                    contents.push((key, file.attr.size));
                }
            }
        }
        progress.surveyed.store(true, Relaxed);
        Ok(contents)
    }

    /// How many bytes of each of these files are here.
    async fn held(&self, page: &[Found]) -> Vec<u64> {
        let keys: Vec<_> = page
            .iter()
            .map(|file| {
                let key = self.vfs.fetcher().key_of(&file.looked.node, &file.attr);
                (key, file.attr.size)
            })
            .collect();
        let (disk, count) = (self.disk.clone(), keys.len());
        let held = tokio::task::spawn_blocking(move || {
            let held = keys.iter().map(|(key, size)| disk.held_bytes(key, *size));
            held.collect()
        });
        held.await.unwrap_or_else(|_| vec![0; count])
    }

    async fn walk(&self, path: &Path) -> Result<Walk, WarmError> {
        let looked = resolve(&self.vfs, path).await.map_err(WarmError::Path)?;
        Ok(Walk::new(self.vfs.clone(), looked))
    }
}

/// The node at `path` beneath the root of the share. Symlinks are not followed.
pub(crate) async fn resolve(vfs: &Arc<Vfs>, path: &Path) -> Result<Looked, FsError> {
    let mut at = Looked::root(vfs)?;
    for component in path.components() {
        let Component::Normal(name) = component else {
            return Err(FsError::Fault(Fault::Invalid));
        };
        if at.node.attr().kind != FileKind::Directory {
            return Err(FsError::Fault(Fault::NotDirectory));
        }
        match vfs.lookup(at.node.ino, name.as_bytes()).await? {
            Ok(found) => at = Looked::new(vfs, found.node),
            Err(_) => return Err(FsError::Fault(Fault::NotFound)),
        }
    }
    // What the host says now, not what was believed: a survey of something old brings the wrong thing.
    if at.node.ino != Ino::ROOT {
        vfs.getattr(at.node.ino, None).await?;
    }
    Ok(at)
}
