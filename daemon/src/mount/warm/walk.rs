//! Walking a subtree through the mount's own beliefs: names it knows cost nothing.
//!
//! Directories are listed several at a time, a page at a time, deepest first, so that what waits stays small
//! whatever the shape of the tree.

use super::{Progress, name_of};
use crate::mount::error::FsError;
use crate::mount::handles::HandleId;
use crate::mount::inodes::{Ino, Node};
use crate::mount::vfs::{Page, Vfs};
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use std::sync::Arc;
use wormhole_protocol::{Attr, FileKind};

/// Directories listed at a time: half of what a host does for one mount, so that others need not wait.
const LISTINGS_MAX: usize = 4;

/// A node whose lookup has been counted, and is forgotten when this is dropped.
pub(crate) struct Looked {
    vfs: Arc<Vfs>,
    pub(crate) node: Arc<Node>,
}

impl Looked {
    pub(crate) fn new(vfs: &Arc<Vfs>, node: Arc<Node>) -> Self {
        Self {
            vfs: vfs.clone(),
            node,
        }
    }

    pub(crate) fn root(vfs: &Arc<Vfs>) -> Result<Self, FsError> {
        Ok(Self::new(vfs, vfs.node(Ino::ROOT)?))
    }
}

impl Drop for Looked {
    fn drop(&mut self) {
        self.vfs.forget(self.node.ino, 1);
    }
}

/// A file, and its attributes when it was found.
pub(super) struct Found {
    pub(super) looked: Looked,
    pub(super) attr: Attr,
}

/// A directory that is open, and where the next page begins.
struct Open {
    vfs: Arc<Vfs>,
    /// Must be known to the file system for as long as what is in it is looked at.
    looked: Looked,
    handle: HandleId,
    offset: u64,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.vfs.release(self.handle);
    }
}

type Listed = (Open, Result<Page, FsError>);

/// The files beneath a node that have not been found yet.
pub(super) struct Walk {
    vfs: Arc<Vfs>,
    listing: FuturesUnordered<BoxFuture<'static, Listed>>,
    begun: Vec<Open>,
    waiting: Vec<Looked>,
    /// The file that is all there is.
    only: Option<Looked>,
}

impl Walk {
    pub(super) fn new(vfs: Arc<Vfs>, from: Looked) -> Self {
        let is_dir = from.node.attr().kind == FileKind::Directory;
        let (waiting, only) = match is_dir {
            true => (vec![from], None),
            false => (Vec::new(), Some(from)),
        };
        Self {
            vfs,
            listing: FuturesUnordered::new(),
            begun: Vec::new(),
            waiting,
            only,
        }
    }

    /// Whether all files have been found.
    pub(super) fn is_over(&self) -> bool {
        let nothing = self.waiting.is_empty() && self.begun.is_empty() && self.only.is_none();
        nothing && self.listing.is_empty()
    }

    /// More files; perhaps none although there are more. Nothing is lost when the future is dropped.
    pub(super) async fn next_page(&mut self, progress: &Progress) -> Vec<Found> {
        if let Some(only) = self.only.take() {
            return found(only).into_iter().collect();
        }
        while self.listing.len() < LISTINGS_MAX {
            match self.begin() {
                Some(Ok(open)) => self.listing.push(list(open).boxed()),
                Some(Err(error)) => progress.fail("a directory", error),
                None => break,
            }
        }
        match self.listing.next().await {
            Some((open, Ok(page))) => self.take(open, &page),
            Some((open, Err(error))) => {
                progress.fail(&name_of(&open.looked.node), error);
                Vec::new()
            }
            None => Vec::new(),
        }
    }

    /// The directory to list next: one that was begun, else the one found last.
    fn begin(&mut self) -> Option<Result<Open, FsError>> {
        if let Some(open) = self.begun.pop() {
            return Some(Ok(open));
        }
        let looked = self.waiting.pop()?;
        Some(self.vfs.opendir(looked.node.ino).map(|handle| Open {
            vfs: self.vfs.clone(),
            looked,
            handle,
            offset: 0,
        }))
    }

    fn take(&mut self, mut open: Open, page: &Page) -> Vec<Found> {
        let Some((end, _)) = page.entries.last() else {
            return Vec::new();
        };
        open.offset = *end;
        let mut files = Vec::new();
        for (_, listed) in &page.entries {
            // An entry that cannot be true is left out, as the kernel would.
            let Ok(shown) = self.vfs.show(&page.dir, listed) else {
                continue;
            };
            let looked = Looked::new(&self.vfs, shown.node);
            match shown.attr.kind {
                FileKind::Directory => self.waiting.push(looked),
                FileKind::File => files.push(Found {
                    looked,
                    attr: shown.attr,
                }),
                _ => {}
            }
        }
        self.begun.push(open);
        files
    }
}

async fn list(open: Open) -> Listed {
    let page = open.vfs.readdir(open.handle, open.offset).await;
    (open, page)
}

fn found(looked: Looked) -> Option<Found> {
    let attr = looked.node.attr();
    (attr.kind == FileKind::File).then_some(Found { looked, attr })
}
