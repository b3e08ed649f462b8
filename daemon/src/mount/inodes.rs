//! The nodes the kernel knows, and what the mount believes of each.
//!
//! A node is a file on the host, whatever its names ([`FileId`]). Its number is the host's inode
//! number where that is unambiguous, so that hard links and `find -inum` look as on the host. The
//! table holds a node exactly while the kernel counts lookups of it; handles keep theirs alive.
//!
//! The kernel counts lookups of whatever it has room for: after a walk, of a million files. A node that nobody
//! uses, and of which no more is known than its directory's listing says, is therefore kept as a place in that
//! listing ([`resting`]), and made anew when it is asked for.
//!
//! Not here: asking the host (`vfs`), directory contents (`listing`).
//!
//! Invariants
//! - The share root is number 1, and no other node is.
//! - The chain of parents of every node ends at the root.
//! - There is one [`Node`] for a number at a time, however often it rested.
//! - There is one for a directory for as long as anything refers to it, even if the kernel forgot it in between:
//!   what is open in it has its path from there.
//!
//! Locks: `table` before a node's `belief`, before a listing's; none across an await.

pub(super) mod late;
pub(super) mod learn;
mod making;
mod node;
mod resting;

use super::error::FsError;
use super::heard::Heard;
pub use late::Hold;
pub use node::Node;
use parking_lot::Mutex;
use resting::Table;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use tokio::time::Instant;
use wormhole_protocol::{Attr, FileId, FileKind, Name};

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

/// The nodes the kernel counts lookups of.
pub struct Inodes {
    root: Arc<Node>,
    table: Mutex<Table>,
    /// Whether any node ever was retired: then a free number does not mean that there is no other.
    any_retired: AtomicBool,
}

impl Inodes {
    /// A table with only the root in it.
    pub fn new(root: Attr, now: Instant) -> Self {
        let root = Arc::new(Node::new(Ino::ROOT, None, root, now.into()));
        Self {
            table: Mutex::new(Table::new(root.clone())),
            root,
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
        self.table.lock().wake(ino).ok_or(FsError::Stale)
    }

    /// The node of a file on the host, if the kernel knows it, or something in it.
    pub fn by_id(&self, id: FileId) -> Option<Arc<Node>> {
        let mut table = self.table.lock();
        let ino = self.live(&table, id)?;
        table.wake(ino)
    }

    fn live(&self, table: &Table, id: FileId) -> Option<Ino> {
        if id == self.root.id {
            return Some(Ino::ROOT);
        }
        self.numbers(id).find(|ino| match table.get(*ino) {
            Some(slot) => slot.is_of(id) && !slot.is_retired(),
            None => table.forgotten(*ino).is_some_and(|node| node.id == id),
        })
    }

    /// Gives the file of a node another number: whoever looks it up from now on gets a node of its own.
    /// This one stays for those who have it open.
    pub fn retire(&self, node: &Node) {
        self.any_retired.store(true, Relaxed);
        node.retired.store(true, Relaxed);
    }

    /// Every number the kernel knows.
    pub fn numbers_in_use(&self) -> Vec<Ino> {
        self.table.lock().numbers().collect()
    }

    /// The numbers of directories and of what was seen in them last.
    pub fn entries_of(&self, dirs: &HashSet<FileId>) -> Vec<Ino> {
        let table = self.table.lock();
        let within = table.slots().filter(|(_, slot)| {
            slot.parent().is_some_and(|parent| dirs.contains(&parent))
                || slot.dir().is_some_and(|dir| dirs.contains(&dir))
        });
        within.map(|(ino, _)| ino).collect()
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
            true => self.live(&table, attr.id),
            false => None,
        };
        let anew = |ino| {
            let place = Some((dir.clone(), name.clone()));
            Arc::new(Node::new(ino, place, *attr, heard))
        };
        for ino in known.into_iter().chain(self.numbers(attr.id)) {
            let node = match table.wake(ino) {
                None => anew(ino),
                Some(node) if node.id == attr.id => {
                    if node.is_retired() {
                        continue;
                    }
                    node.learn(attr, heard);
                    node.move_to(dir, name);
                    node.belief.lock().lookups += 1;
                    if table.get(ino).is_none() {
                        table.put(node.clone());
                    }
                    return Ok(node);
                }
                // The host reused an inode number. The kernel tells the two apart by generation but
                // counts their lookups under one number, so the count moves on.
                Some(old) if same_number(old.id, attr.id) => {
                    let node = anew(ino);
                    node.belief.lock().lookups = old.belief.lock().lookups;
                    node
                }
                Some(_) => continue,
            };
            node.belief.lock().lookups += 1;
            table.put(node.clone());
            return Ok(node);
        }
        Err(FsError::Io)
    }

    /// The kernel dropped `lookups` of its lookups of `ino`.
    pub fn forget(&self, ino: Ino, lookups: u64) {
        if ino != Ino::ROOT {
            self.table.lock().forget(ino, lookups);
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
