//! Names that are given or taken, and nodes that are changed, after programs were told that this is done: who looks at
//! them waits until these guards are dropped.

use super::names::Work;
use super::{Early, LEASE_LEFT_MIN};
use crate::mount::inodes::Node;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::watch;
use tokio::time::Instant;
use wormhole_protocol::{FileId, Name};

impl Early {
    /// Something is put off of a node: whoever waits for what is done in its directory, or beneath, waits for it.
    pub fn begin_late(self: &Arc<Self>, node: &Arc<Node>) -> Lately {
        self.state.lock().names.put_late(node);
        self.count.fetch_add(1, Ordering::Release);
        Lately {
            early: self.clone(),
            id: node.id,
        }
    }

    /// Something is to be done to a name that programs are told is done at once: only where this mount holds the directory
    /// alone and may change it, and nothing else is being done to the name, but that the file `made` is being made under
    /// it, which whoever does this waits for. When it is over the name `leads` there, or to nothing.
    pub fn begin_move(
        self: &Arc<Self>,
        (dir, name): (&Arc<Node>, &Name),
        leads: Option<FileId>,
        made: Option<FileId>,
    ) -> Option<Moving> {
        let now = Instant::now();
        let held = self.leases.held(dir.id, now)?;
        let at = dir.reference().ok()?;
        if dir.late().is_some() {
            return None;
        }
        let mut state = self.state.lock();
        if held.until < now + LEASE_LEFT_MIN || !state.stocks.are_given(dir, &at.path) {
            return None;
        }
        let over = watch::Sender::new(false);
        let work = Work::Moving {
            leads,
            over: over.subscribe(),
        };
        if !state.names.put(dir, name, work, made) {
            return None;
        }
        self.count.fetch_add(1, Ordering::Release);
        Some(Moving {
            early: self.clone(),
            dir: dir.id,
            name: name.clone(),
            over,
        })
    }
}

/// Something was put off of a node, until this is dropped.
pub struct Lately {
    early: Arc<Early>,
    id: FileId,
}

impl Drop for Lately {
    fn drop(&mut self) {
        self.early.state.lock().names.end_late(self.id);
        self.early.count.fetch_sub(1, Ordering::Release);
    }
}

/// Something is being done to a name, until this is dropped.
pub struct Moving {
    early: Arc<Early>,
    dir: FileId,
    name: Name,
    over: watch::Sender<bool>,
}

impl Drop for Moving {
    fn drop(&mut self) {
        let mut state = self.early.state.lock();
        state.names.remove(self.dir, &self.name);
        drop(state);
        self.early.count.fetch_sub(1, Ordering::Release);
        self.over.send_replace(true);
    }
}
