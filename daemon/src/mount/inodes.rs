//! The nodes the kernel knows, and what the mount believes of each.
//!
//! A node is a file on the host, whatever its names ([`FileId`]). Its number is the host's inode
//! number where that is unambiguous, so that hard links and `find -inum` look as on the host. The
//! table holds a node exactly while the kernel counts lookups of it; handles keep theirs alive.
//!
//! Not here: asking the host (`vfs`), directory contents (`listing`).
//!
//! Invariants
//! - The share root is number 1, and no other node is.
//! - The chain of parents of every node ends at the root.
//!
//! Locks: `table` before a node's `belief`; neither across an await.

pub(super) mod learn;

use super::error::FsError;
use super::heard::Heard;
use super::lease::{Terms, covered_by};
use super::opens::HostOpen;
use super::write::{WriteBuffer, Writer};
use parking_lot::Mutex;
use std::collections::hash_map::Entry as MapEntry;
use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use tokio::time::Instant;
use wormhole_protocol::{Attr, ContentVersion, FileId, FileKind, Name, NodeRef, RelPath};

/// A node's number, as the kernel and `stat` show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ino(pub u64);

impl Ino {
    /// The share root.
    pub const ROOT: Self = Self(1);
    /// Of what the kernel does not know.
    const NONE: Self = Self(0);
}

/// Deepest path; more is a host that makes directories parents of each other.
const DEPTH_MAX: usize = 2048;
/// Numbers from here on are hashes, not inode numbers of the host.
const HASHED: u64 = 1 << 63;
/// Numbers tried when hashes collide.
const PROBES_MAX: u64 = 16;

/// What is believed of a node, and since when.
struct Belief {
    /// Directory and name under which it was seen last; none for the root.
    place: Option<(Arc<Node>, Name)>,
    /// Where it was seen before, the latest last: a file may have several names, and lose the one seen last.
    former: Vec<(Arc<Node>, Name)>,
    attr: Attr,
    /// When the host said so.
    heard: Heard,
    /// Since when it is known not to be true any more; what was told earlier changes nothing.
    doubted: Option<Instant>,
    /// When the last change of ours was answered; answers to earlier questions change nothing.
    own: Option<Instant>,
    /// When the host last said so unasked; likewise.
    news: Option<Instant>,
    /// Version of the bytes in the kernel's page cache.
    kernel_version: Option<ContentVersion>,
    /// Lookups the kernel counts.
    lookups: u64,
}

/// Names of a file that are remembered beside the one seen last.
const FORMER_MAX: usize = 4;

/// A file on the host that the kernel or a handle refers to.
pub struct Node {
    /// Its number.
    pub ino: Ino,
    /// Its identity on the host.
    pub id: FileId,
    belief: Mutex<Belief>,
    /// What was written and not yet answered for; made with the first write.
    writer: OnceLock<Arc<Writer>>,
    /// Open files of programs.
    open_files: AtomicUsize,
    /// Keeps it open at the host after its last name went, as long as programs have it open.
    kept: Mutex<Option<Arc<HostOpen>>>,
    /// The file has another number for whoever looks it up from now on.
    retired: AtomicBool,
}

impl Node {
    fn new(ino: Ino, place: Option<(Arc<Self>, Name)>, attr: Attr, heard: Heard) -> Self {
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
        }
    }

    /// A node the kernel was not told of, to be asked about only.
    pub(super) fn detached(dir: &Arc<Self>, name: &Name, attr: &Attr) -> Arc<Self> {
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
    pub(super) fn count_open(&self) {
        self.open_files.fetch_add(1, Relaxed);
    }

    /// A program closed it; with the last one goes what kept it at the host.
    pub(super) fn uncount_open(&self) {
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

    /// Whether the file has another number for whoever looks it up now ([`Inodes::retire`]).
    pub fn is_retired(&self) -> bool {
        self.retired.load(Relaxed)
    }

    /// Where it was seen last, for people.
    pub fn shown_path(self: &Arc<Self>) -> PathBuf {
        let path = self.path().unwrap_or_else(|_| RelPath::root());
        PathBuf::from(OsString::from_vec(path.as_bytes().to_vec()))
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
    fn is_within(self: &Arc<Self>, ancestor: FileId) -> bool {
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
    pub(super) fn move_to(self: &Arc<Self>, dir: &Arc<Self>, name: &Name) {
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

/// The nodes the kernel counts lookups of.
pub struct Inodes {
    root: Arc<Node>,
    table: Mutex<HashMap<Ino, Arc<Node>>>,
    /// Whether any node ever was retired: then a free number does not mean that there is no other.
    any_retired: AtomicBool,
}

impl Inodes {
    /// A table with only the root in it.
    pub fn new(root: Attr, now: Instant) -> Self {
        let root = Arc::new(Node::new(Ino::ROOT, None, root, now.into()));
        let table = HashMap::from([(Ino::ROOT, root.clone())]);
        Self {
            root,
            table: Mutex::new(table),
            any_retired: AtomicBool::new(false),
        }
    }

    /// The share root.
    pub fn root(&self) -> &Arc<Node> {
        &self.root
    }

    /// Nodes in the table.
    pub fn len(&self) -> usize {
        self.table.lock().len()
    }

    /// Never: the root stays.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The node of a number.
    ///
    /// # Errors
    /// [`FsError::Stale`] if the kernel never looked it up, or forgot it.
    pub fn get(&self, ino: Ino) -> Result<Arc<Node>, FsError> {
        self.table.lock().get(&ino).cloned().ok_or(FsError::Stale)
    }

    /// The node of a file on the host, if the kernel knows it.
    pub fn by_id(&self, id: FileId) -> Option<Arc<Node>> {
        self.live(&self.table.lock(), id).cloned()
    }

    fn live<'a>(&self, table: &'a HashMap<Ino, Arc<Node>>, id: FileId) -> Option<&'a Arc<Node>> {
        self.numbers(id)
            .filter_map(|ino| table.get(&ino))
            .find(|node| node.id == id && !node.is_retired())
    }

    /// Gives the file of a node another number: whoever looks it up from now on gets a node of its own.
    /// This one stays for those who have it open.
    pub fn retire(&self, node: &Node) {
        self.any_retired.store(true, Relaxed);
        node.retired.store(true, Relaxed);
    }

    /// Every number the kernel knows.
    pub fn numbers_in_use(&self) -> Vec<Ino> {
        self.table.lock().keys().copied().collect()
    }

    /// The numbers of directories and of what was seen in them last.
    pub fn entries_of(&self, dirs: &HashSet<FileId>) -> Vec<Ino> {
        let table = self.table.lock();
        let within = table.values().filter(|node| {
            let belief = node.belief.lock();
            let parent = belief.place.as_ref().map(|(parent, _)| parent.id);
            dirs.contains(&node.id) || parent.is_some_and(|parent| dirs.contains(&parent))
        });
        within.map(|node| node.ino).collect()
    }

    /// Takes an entry of `dir` that the kernel is about to be told of, and counts the lookup.
    ///
    /// # Errors
    /// [`FsError::Io`] if the entry cannot be true: the root below itself, a directory within itself.
    pub fn remember(
        &self,
        dir: &Arc<Node>,
        name: &Name,
        attr: &Attr,
        heard: impl Into<Heard>,
    ) -> Result<Arc<Node>, FsError> {
        let heard = heard.into();
        let is_dir = attr.kind == FileKind::Directory;
        if attr.id == self.root.id || (is_dir && dir.is_within(attr.id)) {
            return Err(FsError::Io);
        }
        let mut table = self.table.lock();
        let known = match self.any_retired.load(Relaxed) {
            true => self.live(&table, attr.id).map(|node| node.ino),
            false => None,
        };
        for ino in known.into_iter().chain(self.numbers(attr.id)) {
            let node = match table.entry(ino) {
                MapEntry::Vacant(slot) => {
                    let place = Some((dir.clone(), name.clone()));
                    slot.insert(Arc::new(Node::new(ino, place, *attr, heard)))
                        .clone()
                }
                MapEntry::Occupied(slot) if slot.get().id == attr.id => {
                    if slot.get().is_retired() {
                        continue;
                    }
                    let node = slot.get().clone();
                    node.learn(attr, heard);
                    node.move_to(dir, name);
                    node
                }
                // The host reused an inode number. The kernel tells the two apart by generation but
                // counts their lookups under one number, so the count moves on.
                MapEntry::Occupied(mut slot) if same_number(slot.get().id, attr.id) => {
                    let lookups = slot.get().belief.lock().lookups;
                    let place = Some((dir.clone(), name.clone()));
                    let node = Arc::new(Node::new(ino, place, *attr, heard));
                    node.belief.lock().lookups = lookups;
                    slot.insert(node.clone());
                    node
                }
                MapEntry::Occupied(_) => continue,
            };
            node.belief.lock().lookups += 1;
            return Ok(node);
        }
        Err(FsError::Io)
    }

    /// The kernel dropped `lookups` of its lookups of `ino`.
    pub fn forget(&self, ino: Ino, lookups: u64) {
        if ino == Ino::ROOT {
            return;
        }
        let mut table = self.table.lock();
        let MapEntry::Occupied(slot) = table.entry(ino) else {
            return;
        };
        let gone = {
            let mut belief = slot.get().belief.lock();
            belief.lookups = belief.lookups.saturating_sub(lookups);
            belief.lookups == 0
        };
        if gone {
            slot.remove();
        }
    }

    /// The numbers a node may have, best first.
    fn numbers(&self, id: FileId) -> impl Iterator<Item = Ino> + use<> {
        let own = (id.device == self.root.id.device && id.inode > 1 && id.inode < HASHED)
            .then_some(Ino(id.inode));
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&id.device.to_le_bytes());
        bytes[8..].copy_from_slice(&id.inode.to_le_bytes());
        let hash = blake3::hash(&bytes);
        let mut first = [0; 8];
        first.copy_from_slice(&hash.as_bytes()[..8]);
        let first = u64::from_le_bytes(first);
        let hashed = (0..PROBES_MAX).map(move |probe| Ino(first.wrapping_add(probe) | HASHED));
        own.into_iter().chain(hashed)
    }
}

fn same_number(a: FileId, b: FileId) -> bool {
    a.device == b.device && a.inode == b.inode
}

#[cfg(test)]
mod tests;
