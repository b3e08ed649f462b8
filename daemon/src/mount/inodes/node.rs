//! One node: its identity, where it was seen, and what is believed of it.
//!
//! Locks: `belief`, `kept` and `late`, leaves but for the table of [`super::Inodes`], which comes before.

use super::late::Late;
use super::{DEPTH_MAX, Ino};
use crate::mount::early::Making;
use crate::mount::error::FsError;
use crate::mount::heard::Heard;
use crate::mount::lease::{Terms, covered_by};
use crate::mount::opens::HostOpen;
use crate::mount::write::{WriteBuffer, Writer};
use parking_lot::Mutex;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use tokio::time::Instant;
use wormhole_protocol::{Attr, ContentVersion, FileId, FileKind, Name, NodeRef, RelPath};

/// What is believed of a node, and since when.
pub(super) struct Belief {
    /// Directory and name under which it was seen last; none for the root.
    pub(super) place: Option<(Arc<Node>, Name)>,
    /// Where it was seen before, the latest last: a file may have several names, and lose the one seen last.
    pub(super) former: Vec<(Arc<Node>, Name)>,
    pub(super) attr: Attr,
    /// When the host said so.
    pub(super) heard: Heard,
    /// Since when it is known not to be true any more; what was told earlier changes nothing.
    pub(super) doubted: Option<Instant>,
    /// When the last change of ours was answered; answers to earlier questions change nothing.
    pub(super) own: Option<Instant>,
    /// When the host last said so unasked; likewise.
    pub(super) news: Option<Instant>,
    /// Version of the bytes in the kernel's page cache.
    pub(super) kernel_version: Option<ContentVersion>,
    /// Lookups the kernel counts.
    pub(super) lookups: u64,
}

/// Names of a file that are remembered beside the one seen last.
const FORMER_MAX: usize = 4;

/// A file on the host that the kernel or a handle refers to.
pub struct Node {
    /// Its number.
    pub ino: Ino,
    /// Its identity on the host.
    pub id: FileId,
    pub(super) belief: Mutex<Belief>,
    /// What was written and not yet answered for; made with the first write.
    pub(super) writer: OnceLock<Arc<Writer>>,
    /// Open files of programs.
    pub(super) open_files: AtomicUsize,
    /// Keeps it open at the host after its last name went, as long as programs have it open.
    pub(super) kept: Mutex<Option<Arc<HostOpen>>>,
    /// The file has another number for whoever looks it up from now on.
    pub(super) retired: AtomicBool,
    /// How it is being made, or was, if it was made early.
    pub(super) making: OnceLock<Arc<Making>>,
    /// This mount made it.
    pub(super) ours: AtomicBool,
    /// What is done to it later.
    pub(super) late: Mutex<Option<Late>>,
    /// How often the host spoke of it unasked, or it was found not to be as believed.
    pub(super) unasked: AtomicU64,
}

impl Node {
    pub(super) fn new(
        ino: Ino,
        place: Option<(Arc<Self>, Name)>,
        attr: Attr,
        heard: Heard,
    ) -> Self {
        Self {
            ino,
            id: attr.id,
            belief: Mutex::new(Belief {
                place,
                former: Vec::new(),
                attr,
                heard,
                doubted: None,
                own: None,
                news: None,
                kernel_version: None,
                lookups: 0,
            }),
            writer: OnceLock::new(),
            open_files: AtomicUsize::new(0),
            kept: Mutex::default(),
            retired: AtomicBool::new(false),
            making: OnceLock::new(),
            ours: AtomicBool::new(false),
            late: Mutex::default(),
            unasked: AtomicU64::new(0),
        }
    }

    /// A node the kernel was not told of, to be asked about only.
    pub(in crate::mount) fn detached(dir: &Arc<Self>, name: &Name, attr: &Attr) -> Arc<Self> {
        let place = Some((dir.clone(), name.clone()));
        Arc::new(Self::new(
            Ino::NONE,
            place,
            *attr,
            Heard::since(Instant::now()),
        ))
    }

    /// Its dirty data, if any was ever written.
    pub fn writer(&self) -> Option<&Arc<Writer>> {
        self.writer.get()
    }

    /// Its dirty data, which counts against `buffer`.
    pub fn writer_in(&self, buffer: &Arc<WriteBuffer>) -> &Arc<Writer> {
        self.writer.get_or_init(|| Writer::new(buffer.clone()))
    }

    /// Whether all that was written has been answered for.
    pub fn is_clean(&self) -> bool {
        self.writer().is_none_or(|writer| writer.is_clean())
    }

    /// The attributes as programs see them: the file is as long as what was written makes it.
    pub fn with_dirty_size(&self, mut attr: Attr) -> Attr {
        if let Some(end) = self.writer().and_then(|writer| writer.end()) {
            attr.size = attr.size.max(end);
        }
        attr
    }

    /// A program opened it.
    pub(in crate::mount) fn count_open(&self) {
        self.open_files.fetch_add(1, Relaxed);
    }

    /// A program closed it; with the last one goes what kept it at the host.
    pub(in crate::mount) fn uncount_open(&self) {
        if self.open_files.fetch_sub(1, Relaxed) == 1 {
            drop(self.kept.lock().take());
        }
    }

    /// Whether a program has it open.
    pub fn is_open(&self) -> bool {
        self.open_files.load(Relaxed) > 0
    }

    /// The host keeps it open, though it may have no name any more.
    pub fn keep(&self, open: Arc<HostOpen>) {
        let mut kept = self.kept.lock();
        if self.is_open() && kept.is_none() {
            *kept = Some(open);
        }
    }

    /// Whether the file has another number for whoever looks it up now ([`super::Inodes::retire`]).
    pub fn is_retired(&self) -> bool {
        self.retired.load(Relaxed)
    }

    /// Where it was seen last, for people.
    pub fn shown_path(self: &Arc<Self>) -> PathBuf {
        let path = self.path().unwrap_or_else(|_| RelPath::root());
        PathBuf::from(OsString::from_vec(path.as_bytes().to_vec()))
    }

    /// The same of an entry of it.
    pub fn shown_path_of(self: &Arc<Self>, name: &Name) -> PathBuf {
        let name = OsString::from_vec(name.as_bytes().to_vec());
        self.shown_path().join(name)
    }

    /// Tells a reused number from the node that had it before (`fuse_entry_out.generation`).
    pub fn generation(&self) -> u64 {
        self.id.birth
    }

    /// The attributes last heard of.
    pub fn attr(&self) -> Attr {
        self.belief.lock().attr
    }

    /// The attributes, if they are still believed.
    pub fn fresh_attr(&self, terms: &Terms) -> Option<Attr> {
        let belief = self.belief.lock();
        (terms.believes(belief.heard) && belief.doubted.is_none()).then_some(belief.attr)
    }

    /// How often the host spoke of it unasked, or it was found not to be as believed: as long as that stays the same,
    /// nobody else is known to have changed it.
    pub fn unasked(&self) -> u64 {
        self.unasked.load(Relaxed)
    }

    /// Whether the attributes are known not to be true any more.
    pub fn is_doubted(&self) -> bool {
        self.belief.lock().doubted.is_some()
    }

    /// When the host told the attributes.
    pub fn told(&self) -> Instant {
        self.heard().told
    }

    /// When they were asked for and told.
    pub fn heard(&self) -> Heard {
        self.belief.lock().heard
    }

    /// The directory whose lease covers the attributes.
    pub fn covered_by(&self) -> Option<FileId> {
        let belief = self.belief.lock();
        let dir = belief.place.as_ref().map(|(dir, _)| dir.id);
        covered_by(&belief.attr, dir)
    }

    /// The same, once its attributes are `attr`: it may have several names no more.
    pub fn covered_with(&self, attr: &Attr) -> Option<FileId> {
        let belief = self.belief.lock();
        let dir = belief.place.as_ref().map(|(dir, _)| dir.id);
        covered_by(attr, dir)
    }

    /// The directory and the name under which it was seen last; none for the root.
    pub fn place(&self) -> Option<(Arc<Self>, Name)> {
        self.belief.lock().place.clone()
    }

    /// Whether the kernel's pages are of `version`; from now on they are.
    pub fn take_kernel_version(&self, version: ContentVersion) -> bool {
        self.belief.lock().kernel_version.replace(version) == Some(version)
    }

    /// The version of the bytes the kernel has, if it is another than this; from now on it has none.
    pub fn drop_kernel_version_unless(&self, version: ContentVersion) -> Option<ContentVersion> {
        let mut belief = self.belief.lock();
        belief.kernel_version.take_if(|known| *known != version)
    }

    /// How the host is asked about this node.
    ///
    /// # Errors
    /// [`FsError::NameTooLong`] if the path exceeds what the protocol carries.
    pub fn reference(self: &Arc<Self>) -> Result<NodeRef, FsError> {
        Ok(NodeRef {
            path: self.path()?,
            expect: Some(self.id),
        })
    }

    fn path(self: &Arc<Self>) -> Result<RelPath, FsError> {
        let mut names = Vec::new();
        let mut at = self.clone();
        loop {
            let place = at.place();
            let Some((parent, name)) = place else { break };
            if names.len() >= DEPTH_MAX {
                return Err(FsError::NameTooLong);
            }
            names.push(name);
            at = parent;
        }
        names.iter().rev().try_fold(RelPath::root(), |path, name| {
            path.join(name).map_err(|_| FsError::NameTooLong)
        })
    }

    /// The directory this node was seen in; the root is its own.
    pub fn parent(self: &Arc<Self>) -> Arc<Self> {
        match &self.belief.lock().place {
            Some((parent, _)) => parent.clone(),
            None => self.clone(),
        }
    }

    /// Whether `ancestor` is this node or one above it.
    pub(super) fn is_within(self: &Arc<Self>, ancestor: FileId) -> bool {
        let mut at = self.clone();
        for _ in 0..DEPTH_MAX {
            if at.id == ancestor {
                return true;
            }
            let place = at.place();
            match place {
                Some((parent, _)) => at = parent,
                None => return false,
            }
        }
        true
    }

    /// Moves the node to where it was just seen, unless that would make it its own ancestor.
    pub(in crate::mount) fn move_to(self: &Arc<Self>, dir: &Arc<Self>, name: &Name) {
        if self.attr().kind == FileKind::Directory && dir.is_within(self.id) {
            return;
        }
        let mut belief = self.belief.lock();
        if let Some((parent, known)) = &belief.place
            && !(Arc::ptr_eq(parent, dir) && known == name)
        {
            let place = (dir.clone(), name.clone());
            let former = belief.place.replace(place);
            if belief.attr.kind != FileKind::Directory {
                belief
                    .former
                    .retain(|(at, known)| at.id != dir.id || known != name);
                belief.former.extend(former);
                let surplus = belief.former.len().saturating_sub(FORMER_MAX);
                belief.former.drain(..surplus);
            }
        }
    }

    /// The node has lost a name; if it was seen there last, it is to be found where it was before that.
    pub fn leave(&self, dir: FileId, name: &Name) {
        let mut belief = self.belief.lock();
        belief
            .former
            .retain(|(at, known)| at.id != dir || known != name);
        let is_there = |(at, known): &(Arc<Self>, Name)| at.id == dir && known == name;
        if belief.place.as_ref().is_some_and(is_there)
            && let Some(former) = belief.former.pop()
        {
            belief.place = Some(former);
        }
    }
}
