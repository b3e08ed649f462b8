//! What this mount holds open at the host, and how it gets it back.
//!
//! An [`HostOpen`] is a file the host keeps open for this mount under a number: one that is written, locked,
//! or was unlinked while programs here have it open. It outlives a connection. When the host forgot (it was
//! restarted, or waited for too long) everything is opened again by its name and identity before anything
//! else is asked, and its locks are taken again; what cannot be had back is *lost*, and whoever uses it gets
//! an error.
//!
//! Dropping the last reference closes it at the host, in the background.
//!
//! Locks: `live`; `locks` of an open. Neither while the other is held, nor across an await.

use super::changes::Changes;
use super::closing::Closing;
use super::error::FsError;
use super::inodes::Node;
use super::locks::LockBook;
use crate::rpc::{Body, CallError, Remote};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use wormhole_protocol::{
    Access, Attr, Caller, Change, Fault, FileId, Lock, LockMode, OpenId, Reply, Request,
};

/// On whose behalf opens are closed and taken back; a host asks nobody's leave for that.
pub(super) const NOBODY: Caller = Caller { uid: 0, gid: 0 };

/// A file the host keeps open for this mount.
pub struct HostOpen {
    /// Its number there.
    pub id: OpenId,
    /// The file.
    pub node: Arc<Node>,
    /// For what.
    pub access: Access,
    /// On whose behalf, and what decided that he may.
    leave: Leave,
    lost: AtomicBool,
    locks: Mutex<LockBook>,
    opens: Arc<Opens>,
}

/// Who opened a file, and by what permissions: where all that is the same, one open serves several handles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Leave {
    caller: Caller,
    mode: u16,
    uid: u32,
    gid: u32,
}

impl Leave {
    fn of(caller: Caller, attr: &Attr) -> Self {
        Self {
            caller,
            mode: attr.mode,
            uid: attr.uid,
            gid: attr.gid,
        }
    }
}

impl HostOpen {
    /// Fails if the host has it no more, or there never was such a file.
    ///
    /// # Errors
    /// [`FsError::Io`]; why it could not be made.
    pub fn require(&self) -> Result<(), FsError> {
        // One that is being made will be had anew.
        if self.now().lost.load(Relaxed) && self.node.making().is_none() {
            return Err(FsError::Io);
        }
        self.node.unmade().map_or(Ok(()), Err)
    }

    /// What the host has open in its place, if it could not have the file under the identity it was to have.
    pub fn now(&self) -> &Self {
        self.node.remade().map_or(self, |remade| &**remade)
    }

    /// Takes note that the host has opened `node` in its place, under `id`.
    pub(super) fn replaced(&self, id: OpenId, node: Arc<Node>) -> Arc<Self> {
        self.opens
            .opened(self.leave.caller, id, node, Access::ReadWrite)
    }

    /// All opens of the mount.
    pub(super) fn opens(&self) -> &Arc<Opens> {
        &self.opens
    }

    /// The locks held through it.
    pub fn locks(&self) -> &Mutex<LockBook> {
        &self.locks
    }
}

impl Drop for HostOpen {
    fn drop(&mut self) {
        self.opens.live.lock().remove(self);
        if self.lost.load(Relaxed) {
            return;
        }
        match self.locks.get_mut().is_empty() {
            true => self.opens.close(self.id),
            false => self.opens.closing.at_once(self.id),
        }
    }
}

/// All that this mount holds open at the host.
pub struct Opens {
    changes: Arc<Changes>,
    next: AtomicU64,
    live: Mutex<Live>,
    closing: Arc<Closing>,
}

#[derive(Default)]
struct Live {
    by_number: HashMap<OpenId, Weak<HostOpen>>,
    /// The latest of each file that is open for writing.
    by_file: HashMap<FileId, Weak<HostOpen>>,
}

impl Live {
    fn insert(&mut self, open: &Arc<HostOpen>) {
        self.by_number.insert(open.id, Arc::downgrade(open));
        if open.access.writes() {
            self.by_file.insert(open.node.id, Arc::downgrade(open));
        }
    }

    fn remove(&mut self, open: &HostOpen) {
        self.by_number.remove(&open.id);
        // Another may have taken its place.
        let is_over = |known: &Weak<HostOpen>| known.strong_count() == 0;
        if self.by_file.get(&open.node.id).is_some_and(is_over) {
            self.by_file.remove(&open.node.id);
        }
    }
}

impl Opens {
    /// Nothing is open. Must be called within the runtime.
    pub fn new(changes: Arc<Changes>) -> Arc<Self> {
        Arc::new(Self {
            closing: Closing::new(changes.clone()),
            changes,
            next: AtomicU64::new(0),
            live: Mutex::default(),
        })
    }

    /// A number nobody has used.
    pub fn number(&self) -> OpenId {
        OpenId(self.next.fetch_add(1, Relaxed) + 1)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.live.lock().by_number.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// An open of `node` for writing that serves `caller` as well, if its attributes are still `attr`.
    pub fn shared(&self, caller: Caller, node: &Node, attr: &Attr) -> Option<Arc<HostOpen>> {
        let open = self.live.lock().by_file.get(&node.id)?.upgrade()?;
        let serves = open.leave == Leave::of(caller, attr) && !open.lost.load(Relaxed);
        serves.then_some(open)
    }

    /// Takes note that the host has opened `node` under `id`.
    pub fn opened(
        self: &Arc<Self>,
        caller: Caller,
        id: OpenId,
        node: Arc<Node>,
        access: Access,
    ) -> Arc<HostOpen> {
        let open = Arc::new(HostOpen {
            id,
            access,
            leave: Leave::of(caller, &node.attr()),
            node,
            lost: AtomicBool::new(false),
            locks: Mutex::default(),
            opens: self.clone(),
        });
        self.live.lock().insert(&open);
        open
    }

    /// Closes `id` when dropped: whoever asked for it may go before the answer comes, and the host must not
    /// keep what nobody has.
    pub fn undo(&self, id: OpenId) -> Undo<'_> {
        Undo {
            opens: self,
            id,
            armed: true,
        }
    }

    /// Has the host open `node`.
    ///
    /// # Errors
    /// What it answered.
    pub async fn open(
        self: &Arc<Self>,
        caller: Caller,
        node: &Arc<Node>,
        access: Access,
    ) -> Result<Arc<HostOpen>, FsError> {
        let (open, attr) = self.ask(caller, node, access, false).await?;
        node.learn(&attr, tokio::time::Instant::now());
        Ok(open)
    }

    /// Has it open `node` to be written, and cut it to nothing: says what it is like then.
    ///
    /// # Errors
    /// What it answered.
    pub async fn open_emptied(
        self: &Arc<Self>,
        caller: Caller,
        node: &Arc<Node>,
    ) -> Result<(Arc<HostOpen>, Attr), FsError> {
        self.ask(caller, node, Access::ReadWrite, true).await
    }

    async fn ask(
        self: &Arc<Self>,
        caller: Caller,
        node: &Arc<Node>,
        access: Access,
        truncate: bool,
    ) -> Result<(Arc<HostOpen>, Attr), FsError> {
        let id = self.number();
        let undo = self.undo(id);
        let change = Change::Open {
            node: node.reference()?,
            access,
            truncate,
            open: id,
        };
        match self.changes.ask(caller, change, Body::empty()).await {
            Ok(Reply::Attr(attr)) if attr.id == node.id => {
                undo.disarm();
                Ok((self.opened(caller, id, node.clone(), access), attr))
            }
            Ok(_) => Err(FsError::Io),
            Err(error) => {
                undo.disarm();
                Err(match error {
                    // As many are open as the host allows.
                    FsError::Fault(Fault::Exhausted) => FsError::TooManyOpen,
                    error => error,
                })
            }
        }
    }

    /// Closes a number at the host, in the background.
    pub fn close(&self, id: OpenId) {
        self.closing.soon(id);
    }

    /// Opens everything again over a new connection to a host that has forgotten.
    async fn take_back(&self, remote: &dyn Remote) -> Result<(), CallError> {
        let live: Vec<_> = {
            let live = self.live.lock();
            live.by_number.values().filter_map(Weak::upgrade).collect()
        };
        for open in live {
            if open.lost.load(Relaxed) {
                continue;
            }
            match self.reopen(remote, &open).await {
                Ok(()) => {}
                Err(CallError::Fault(fault)) => {
                    open.lost.store(true, Relaxed);
                    tracing::warn!(
                        inode = open.node.id.inode,
                        ?fault,
                        "a file that was open could not be had back from the host: it fails from now on"
                    );
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn reopen(&self, remote: &dyn Remote, open: &HostOpen) -> Result<(), CallError> {
        let node = open.node.reference();
        let change = Change::Open {
            node: node.map_err(|_| CallError::Fault(Fault::NameTooLong))?,
            access: open.access,
            // What was cut is cut, and may have been written to since.
            truncate: false,
            open: open.id,
        };
        self.changes
            .ask_of(remote, NOBODY, &change, Body::empty())
            .await?;
        let locks: Vec<(Lock, LockMode)> = open.locks.lock().all(open.id).collect();
        for (lock, mode) in locks {
            let request = Request::Lock {
                lock,
                mode,
                wait: false,
            };
            remote.call(request).await?;
        }
        Ok(())
    }
}

/// Closes an open nobody took, unless disarmed.
pub struct Undo<'a> {
    opens: &'a Opens,
    id: OpenId,
    armed: bool,
}

impl Undo<'_> {
    /// Somebody has it now, or it was never opened.
    pub fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.opens.close(self.id);
        }
    }
}

impl super::link::Reclaim for Opens {
    fn reclaim<'a>(&'a self, remote: &'a dyn Remote) -> BoxFuture<'a, Result<(), CallError>> {
        self.take_back(remote).boxed()
    }
}
