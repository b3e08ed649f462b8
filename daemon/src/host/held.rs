//! What a mount holds at the host beyond a request: opens, locks on them, and the answers to its changes.
//!
//! It belongs to the mount ([`wormhole_protocol::MountId`]), not to a connection: it waits for a while for a
//! mount whose link was lost, and ends when that time is over, or when the mount says goodbye (`holdings`).
//!
//! Every open takes up room before it is made, of the mount's own and of the host's, so that a mount which
//! opens all it can leaves the others theirs.
//!
//! Lock: `opens`, leaf.

use super::change::Answers;
use super::limits::{HELD_OPENS_MAX, SPARE_OPENS_MIN};
use super::locks::Locks;
use super::reserve::Reserved;
use super::resources::Resources;
use parking_lot::Mutex;
use rustix::fd::OwnedFd;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wormhole_protocol::{Access, Fault, FileId, OpenId, RelPath};

/// A regular file a mount holds open.
#[derive(Debug)]
pub(super) struct Open {
    /// Which file.
    pub(super) id: FileId,
    /// Where it was opened.
    pub(super) path: Option<RelPath>,
    /// Its descriptor.
    pub(super) fd: Arc<OwnedFd>,
    /// For what it was opened.
    pub(super) access: Access,
    /// Whether the descriptor reads: a file opened for writing may be one that the host cannot read.
    pub(super) readable: bool,
    /// Held while something is written at the end: the place is read off the descriptor afterwards.
    pub(super) appending: Mutex<()>,
    /// A sync failed: what was written may be lost, and no later sync can say otherwise.
    pub(super) broken: AtomicBool,
    /// Up to where the disk has been told to begin with what was written in order.
    pub(super) begun_bytes: AtomicU64,
    /// What it takes up.
    _room: Room,
}

impl Open {
    /// A file that was opened within `room`.
    pub(super) fn new(id: FileId, fd: OwnedFd, access: Access, readable: bool, room: Room) -> Self {
        Self {
            id,
            path: None,
            fd: Arc::new(fd),
            access,
            readable,
            appending: Mutex::default(),
            broken: AtomicBool::new(false),
            begun_bytes: AtomicU64::new(0),
            _room: room,
        }
    }

    /// It was opened at `path`.
    pub(super) fn at(self, path: Option<RelPath>) -> Self {
        Self { path, ..self }
    }
}

/// Leave to hold one file open.
#[derive(Debug)]
pub(super) struct Room {
    _own: OwnedSemaphorePermit,
    _host: OwnedSemaphorePermit,
}

#[derive(Debug, Default)]
struct Opens {
    by_number: HashMap<OpenId, Arc<Open>>,
    by_file: HashMap<FileId, Vec<OpenId>>,
}

impl Opens {
    fn remove(&mut self, number: OpenId) -> Option<Arc<Open>> {
        let open = self.by_number.remove(&number)?;
        if let Some(numbers) = self.by_file.get_mut(&open.id) {
            numbers.retain(|other| *other != number);
            if numbers.is_empty() {
                self.by_file.remove(&open.id);
            }
        }
        Some(open)
    }
}

/// What one mount holds.
#[derive(Debug)]
pub(super) struct Held {
    /// What became of its changes.
    pub(super) answers: Arc<Answers>,
    /// Files without names, for it to name.
    pub(super) reserved: Reserved,
    opens: Mutex<Opens>,
    locks: Locks,
    own: Arc<Semaphore>,
    reserve: Arc<Semaphore>,
    shared: Arc<Semaphore>,
}

impl Held {
    /// Nothing yet.
    pub(super) fn new(resources: &Resources) -> Self {
        Self {
            answers: Arc::default(),
            reserved: Reserved::default(),
            opens: Mutex::default(),
            locks: Locks::default(),
            own: Arc::new(Semaphore::new(HELD_OPENS_MAX)),
            reserve: Arc::new(Semaphore::new(resources.reserved_opens)),
            shared: resources.shared_opens.clone(),
        }
    }

    /// Room for one more open.
    ///
    /// # Errors
    /// [`Fault::Exhausted`] if the mount holds as many as it may, or the host as many as it can.
    pub(super) fn room(&self) -> Result<Room, Fault> {
        let take = |from: &Arc<Semaphore>| from.clone().try_acquire_owned().ok();
        let own = take(&self.own).ok_or(Fault::Exhausted)?;
        let host = take(&self.reserve).or_else(|| take(&self.shared));
        Ok(Room {
            _own: own,
            _host: host.ok_or(Fault::Exhausted)?,
        })
    }

    /// The same for what is only kept in stock: where there is plenty.
    pub(super) fn spare_room(&self) -> Option<Room> {
        let plenty = self.own.available_permits() > HELD_OPENS_MAX / 2
            && self.shared.available_permits() > SPARE_OPENS_MIN;
        plenty.then(|| self.room().ok()).flatten()
    }

    /// What is open under a number.
    ///
    /// # Errors
    /// [`Fault::NotOpen`].
    pub(super) fn open(&self, number: OpenId) -> Result<Arc<Open>, Fault> {
        let opens = self.opens.lock();
        opens.by_number.get(&number).cloned().ok_or(Fault::NotOpen)
    }

    /// What is open for writing under a number.
    ///
    /// # Errors
    /// [`Fault::NotOpen`].
    pub(super) fn writable(&self, number: OpenId) -> Result<Arc<Open>, Fault> {
        let open = self.open(number)?;
        if open.access.writes() {
            Ok(open)
        } else {
            Err(Fault::NotOpen)
        }
    }

    /// Any open of a file, one for writing if there is one.
    pub(super) fn open_of(&self, id: FileId) -> Option<Arc<Open>> {
        self.best_of(id, |_| true)
    }

    /// An open of a file through which it can be read.
    pub(super) fn readable_of(&self, id: FileId) -> Option<Arc<Open>> {
        self.best_of(id, |open| open.readable)
    }

    /// Holds `open` under a number, in place of what had it.
    pub(super) fn hold(&self, number: OpenId, open: Open) {
        let mut opens = self.opens.lock();
        let before = opens.remove(number);
        opens.by_file.entry(open.id).or_default().push(number);
        opens.by_number.insert(number, Arc::new(open));
        drop(opens);
        if let Some(before) = before {
            self.drop_locks(number, before.id);
        }
    }

    /// Lets go of a number, and of the locks that go with it.
    pub(super) fn close(&self, number: OpenId) {
        let closed = self.opens.lock().remove(number);
        if let Some(closed) = closed {
            self.drop_locks(number, closed.id);
        }
    }

    /// The locks on what is open.
    pub(super) fn locks(&self) -> &Locks {
        &self.locks
    }

    /// Ends the locks that went with an open of `file`.
    pub(super) fn drop_locks(&self, number: OpenId, file: FileId) {
        if !self.locks.is_empty() {
            let last = !self.opens.lock().by_file.contains_key(&file);
            self.locks.closed(number, last.then_some(file));
        }
    }

    /// How many are open.
    pub(super) fn len(&self) -> usize {
        self.opens.lock().by_number.len()
    }

    fn best_of(&self, id: FileId, fit: impl Fn(&Open) -> bool) -> Option<Arc<Open>> {
        let opens = self.opens.lock();
        let numbers = opens.by_file.get(&id)?;
        let of_file = numbers.iter().filter_map(|n| opens.by_number.get(n));
        let best = of_file.filter(|open| fit(open)).max_by_key(|o| o.access);
        best.cloned()
    }
}
