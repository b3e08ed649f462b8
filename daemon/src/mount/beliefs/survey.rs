//! Where the directories are whose listings are kept.
//!
//! The host can be asked about a listing of before only if it can be told where the directory is. Most are found from
//! the root by listings alone. One that was reached by names, with none listed above it, is an *anchor*: where it is
//! was seen as names were looked up, and is saved with it. Paths may be old: the host is told which directory is meant.
//!
//! Lock: `known`, a leaf.

use super::Beliefs;
use super::listings::Listings;
use crate::mount::heard::Heard;
use crate::mount::inodes::Inodes;
use crate::mount::listing::Listing;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use wormhole_protocol::{FileId, RelPath};

/// Anchors of which it is known where they are.
const ANCHORS_MAX: usize = 4096;

/// Anchors of an earlier life.
#[derive(Default)]
pub(super) struct Anchors {
    known: Mutex<HashMap<FileId, RelPath>>,
}

impl Anchors {
    fn note(&self, dir: FileId, path: RelPath) {
        let mut known = self.known.lock();
        if known.len() < ANCHORS_MAX {
            known.insert(dir, path);
        }
    }

    fn path(&self, dir: FileId) -> Option<RelPath> {
        self.known.lock().get(&dir).cloned()
    }
}

/// A listing with what is needed to ask about it in another life.
pub struct Saved {
    dir: FileId,
    listing: Arc<Listing>,
    /// Where an anchor is; empty of what other listings lead to.
    anchor: RelPath,
}

impl Saved {
    /// Appends it: the length of the path (2 bytes), the path, the listing. Nothing, if it is none to be asked about.
    pub fn save(&self, out: &mut Vec<u8>) {
        let before = out.len();
        let path = self.anchor.as_bytes();
        let Ok(len) = u16::try_from(path.len()) else {
            return;
        };
        out.extend(len.to_le_bytes());
        out.extend(path);
        if !self.listing.save(self.dir, out) {
            out.truncate(before);
        }
    }

    /// What `bytes` begin with, as heard of long ago; none if that makes no sense.
    fn load(bytes: &mut &[u8], heard: Heard) -> Option<Self> {
        let (len, rest) = bytes.split_first_chunk()?;
        let (path, mut rest) = rest.split_at_checked(u16::from_le_bytes(*len).into())?;
        let anchor = RelPath::new(path).ok()?;
        let (dir, listing) = Listing::load(&mut rest, heard)?;
        *bytes = rest;
        Some(Self {
            dir,
            listing,
            anchor,
        })
    }
}

/// The listings that are kept, those from the root breadth first, and the paths of all directories they name.
struct Survey<'a> {
    listings: &'a Listings,
    order: Vec<Saved>,
    paths: HashMap<FileId, RelPath>,
}

impl Survey<'_> {
    /// Adds what can be found by listings from a directory on.
    fn walk(&mut self, from: FileId, path: RelPath) {
        self.paths.insert(from, path.clone());
        let mut next = VecDeque::from([(from, path.clone())]);
        while let Some((dir, path)) = next.pop_front() {
            let Some(listing) = self.listings.peek(dir) else {
                continue;
            };
            for (name, id) in listing.directories() {
                if let Ok(path) = path.join(&name)
                    && !self.paths.contains_key(&id)
                {
                    self.paths.insert(id, path.clone());
                    next.push_back((id, path));
                }
            }
            let anchor = match dir == from {
                true => path,
                false => RelPath::root(),
            };
            self.order.push(Saved {
                dir,
                listing,
                anchor,
            });
        }
    }
}

impl Beliefs {
    /// Takes listings that were saved, unless there is something better. False if there is no room for more, or they
    /// make no sense.
    pub(super) fn load(&self, mut bytes: &[u8], heard: Heard) -> bool {
        while !bytes.is_empty() {
            let Some(saved) = Saved::load(&mut bytes, heard) else {
                return false;
            };
            if !self.listings.put_former(saved.dir, saved.listing) {
                return false;
            }
            if !saved.anchor.is_root() {
                self.anchors.note(saved.dir, saved.anchor);
            }
        }
        true
    }

    /// What there is to save: of what it is known where it is. One by one, when they are wanted, it would take far
    /// longer to ask about the rest than to draw the tree anew.
    pub fn to_save(&self, inodes: &Inodes) -> VecDeque<Saved> {
        self.survey(inodes).order.into()
    }

    /// The directories whose listings may still hold, those used last first, and their paths.
    pub(super) fn former_dirs(&self, inodes: &Inodes) -> VecDeque<(FileId, RelPath)> {
        let latest = self.listings.latest(usize::MAX).into_iter();
        let former: Vec<_> = latest.filter(|dir| self.is_former(*dir)).collect();
        if former.is_empty() {
            return VecDeque::new();
        }
        let mut paths = self.survey(inodes).paths;
        let with_path = former.into_iter().filter_map(|dir| {
            let path = path_now(inodes, dir).or_else(|| paths.remove(&dir))?;
            Some((dir, path))
        });
        with_path.collect()
    }

    fn survey(&self, inodes: &Inodes) -> Survey<'_> {
        let mut survey = Survey {
            listings: &self.listings,
            order: Vec::new(),
            paths: HashMap::new(),
        };
        survey.walk(inodes.root().id, RelPath::root());
        let mut anchors = 0;
        for dir in self.listings.latest(usize::MAX) {
            if survey.paths.contains_key(&dir) {
                continue;
            }
            if let Some(path) = path_now(inodes, dir).or_else(|| self.anchors.path(dir)) {
                survey.walk(dir, path);
                anchors += 1;
            }
            if anchors == ANCHORS_MAX {
                break;
            }
        }
        survey
    }
}

/// Where a directory is, if the kernel knows it.
fn path_now(inodes: &Inodes, dir: FileId) -> Option<RelPath> {
    let seen = inodes.by_id(dir)?.reference().ok()?;
    Some(seen.path)
}
