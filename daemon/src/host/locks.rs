//! The locks a mount holds, kept as locks of the host's kernel.
//!
//! So they conflict with those of other mounts and with those of programs on the host, and nothing here
//! knows ranges or decides who may have what. A *holder* (an owner's record locks on a file; the `flock` of
//! an open file) has a file description of its own, because that is whom the kernel takes for the
//! owner of a lock. Closing it ends its locks.
//!
//! A description is opened for reading and writing where the host may: an owner that begins with a shared
//! lock may want an exclusive one later, and locks do not move from one description to another.
//!
//! Races within a mount: whoever takes a lock looks afterwards whether its description is still the
//! holder's, and else begins anew; so a lock that was granted was granted before whatever ended it.
//!
//! Lock: `table`, leaf; never held while the kernel is asked for a lock.

mod kernel;
mod wait;

use super::fault;
use super::held::{Held, Open};
use super::limits::{LOCK_OWNERS_MAX, LOCK_WAITS_MAX};
use super::meta;
use super::resolve::Root;
use super::session::{Class, Core};
use crate::rpc::{Sink, SinkClosed};
use parking_lot::Mutex;
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::Semaphore;
use wormhole_protocol::{
    Attr, Fault, FileId, Lock, LockConflict, LockKind, LockMode, LockOwner, LockRange, OpenId,
    Reply, Request,
};

/// Answers requests about locks.
pub(super) async fn serve(
    core: &Arc<Core>,
    request: Request,
    sink: &mut dyn Sink,
) -> Result<(), SinkClosed> {
    let done = match request {
        Request::Lock {
            lock,
            mode,
            wait: true,
        } => {
            let attempt = || attempt(core, lock, mode);
            let granted = wait::until_granted(&core.held.locks().waiting, attempt).await;
            granted.map(Reply::Attr)
        }
        request => on_disk(core, move |core| answer(core, &request)).await,
    };
    core.reply(sink, done.unwrap_or_else(Reply::Fault)).await
}

/// One try. What waits between two of them takes up neither a slot nor a thread.
async fn attempt(core: &Arc<Core>, lock: Lock, mode: LockMode) -> Result<Attr, Fault> {
    on_disk(core, move |core| take(core, &lock, mode)).await
}

/// Takes a lock. Says what the file is like then: whoever had it before may have changed it.
fn take(core: &Core, lock: &Lock, mode: LockMode) -> Result<Attr, Fault> {
    let held = &core.held;
    held.locks().take(held, lock, mode)?;
    let now = meta::now();
    let open = held.open(lock.open)?;
    let stx = meta::stat(&open.fd).map_err(fault::of)?;
    core.resources().versions.attr(&open.fd, &stx, now)
}

async fn on_disk<T: Send + 'static>(
    core: &Arc<Core>,
    work: impl Fn(&Core) -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    let slot = core.slot(Class::Small).await;
    core.on_disk(&slot, move |core| core.with_descriptors(|| work(core)))
        .await?
}

fn answer(core: &Core, request: &Request) -> Result<Reply, Fault> {
    let held = &*core.held;
    let locks = held.locks();
    match request {
        Request::Lock { lock, mode, .. } => return take(core, lock, *mode).map(Reply::Attr),
        Request::Unlock { lock } => locks.give(held, lock)?,
        Request::UnlockAll { open, owner } => locks.give_all(held.open(*open)?.id, *owner),
        Request::TestLock { lock, mode } => {
            return Ok(Reply::Conflict(locks.conflict(held, lock, *mode)?));
        }
        // Served elsewhere, and nothing else may fall through to here.
        _ => return Err(Fault::Invalid),
    }
    Ok(Reply::Done)
}

/// Whom the kernel takes for the owner of a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Holder {
    /// All record locks of an owner on a file, through whichever open they were taken.
    Record(FileId, LockOwner),
    /// The lock of an open file as a whole.
    Flock(OpenId, LockOwner),
}

impl Holder {
    fn of(lock: &Lock, open: &Open) -> Self {
        match lock.kind {
            LockKind::Record => Self::Record(open.id, lock.owner),
            LockKind::Flock => Self::Flock(lock.open, lock.owner),
        }
    }
}

/// A holder's description.
#[derive(Debug)]
struct Description {
    fd: Arc<OwnedFd>,
    /// Whether a lock was ever granted on it: else it need not be kept.
    used: bool,
}

/// The locks of one mount.
#[derive(Debug)]
pub(super) struct Locks {
    table: Mutex<HashMap<Holder, Description>>,
    /// A permit for each request that waits.
    waiting: Semaphore,
}

impl Default for Locks {
    fn default() -> Self {
        Self {
            table: Mutex::default(),
            waiting: Semaphore::new(LOCK_WAITS_MAX),
        }
    }
}

impl Locks {
    /// Takes a lock, or changes its mode.
    ///
    /// # Errors
    /// [`Fault::Locked`] if somebody else has it; [`Fault::NotOpen`]; [`Fault::Invalid`] for an exclusive
    /// record lock through what is open for reading; [`Fault::Unsupported`] if the host may not open the
    /// file as the lock needs it; [`Fault::Exhausted`].
    pub(super) fn take(&self, held: &Held, lock: &Lock, mode: LockMode) -> Result<(), Fault> {
        let open = held.open(lock.open)?;
        if lock.kind == LockKind::Record && mode == LockMode::Exclusive && !open.access.writes() {
            return Err(Fault::Invalid);
        }
        let holder = Holder::of(lock, &open);
        loop {
            let fd = self.description(holder, &open)?;
            let taken = match lock.kind {
                LockKind::Record => kernel::lock_range(&fd, lock.range, mode),
                LockKind::Flock => kernel::lock_whole(&fd, mode),
            };
            match taken {
                Ok(()) if self.granted(holder, &fd) => break,
                Ok(()) => {}
                Err(e) => {
                    self.failed(holder, &fd);
                    return Err(refusal(e));
                }
            }
        }
        // It may have been closed meanwhile, and what goes with it looked for before this was there.
        held.open(lock.open)
            .map(drop)
            .inspect_err(|_| held.drop_locks(lock.open, open.id))
    }

    /// Gives up a lock, or a part of it. There need be none.
    ///
    /// # Errors
    /// [`Fault::NotOpen`], [`Fault::Exhausted`].
    pub(super) fn give(&self, held: &Held, lock: &Lock) -> Result<(), Fault> {
        let open = held.open(lock.open)?;
        let holder = Holder::of(lock, &open);
        if lock.kind == LockKind::Flock || lock.range == LockRange::ALL {
            self.end(holder);
            return Ok(());
        }
        let fd = self.table.lock().get(&holder).map(|d| d.fd.clone());
        if let Some(fd) = fd {
            kernel::unlock_range(&fd, lock.range).map_err(refusal)?;
            wait::wake();
        }
        Ok(())
    }

    /// Gives up all record locks of an owner on a file.
    pub(super) fn give_all(&self, file: FileId, owner: LockOwner) {
        self.end(Holder::Record(file, owner));
    }

    /// Who is in the way of a record lock.
    ///
    /// # Errors
    /// [`Fault::NotOpen`]; [`Fault::Invalid`] for another kind of lock.
    pub(super) fn conflict(
        &self,
        held: &Held,
        lock: &Lock,
        mode: LockMode,
    ) -> Result<Option<LockConflict>, Fault> {
        let open = held.open(lock.open)?;
        if lock.kind != LockKind::Record {
            return Err(Fault::Invalid);
        }
        let holder = Holder::of(lock, &open);
        let own = self.table.lock().get(&holder).map(|d| d.fd.clone());
        // Who has no description has no locks. Nor has the open's own: it may ask for him.
        let fd = own.as_deref().unwrap_or(&open.fd);
        kernel::conflict(fd, lock.range, mode).map_err(refusal)
    }

    /// Ends what goes with an open that is closed; and, if it was the last one of a file, all record
    /// locks on that.
    pub(super) fn closed(&self, number: OpenId, last_of: Option<FileId>) {
        let before = {
            let mut table = self.table.lock();
            let before = table.len();
            table.retain(|holder, _| match holder {
                Holder::Flock(open, _) => *open != number,
                Holder::Record(file, _) => Some(*file) != last_of,
            });
            before - table.len()
        };
        if before > 0 {
            wait::wake();
        }
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.table.lock().is_empty()
    }

    /// The holder's description, made if there is none.
    fn description(&self, holder: Holder, open: &Open) -> Result<Arc<OwnedFd>, Fault> {
        if let Some(found) = self.table.lock().get(&holder) {
            return Ok(found.fd.clone());
        }
        let made = Arc::new(reopen(open)?);
        let mut table = self.table.lock();
        if table.len() >= LOCK_OWNERS_MAX && !table.contains_key(&holder) {
            return Err(Fault::Exhausted);
        }
        let entry = table.entry(holder).or_insert(Description {
            fd: made,
            used: false,
        });
        Ok(entry.fd.clone())
    }

    /// Notes a grant; false if the description is no longer the holder's, and the lock ends with it.
    fn granted(&self, holder: Holder, fd: &Arc<OwnedFd>) -> bool {
        match self.table.lock().get_mut(&holder) {
            Some(found) if Arc::ptr_eq(&found.fd, fd) => {
                found.used = true;
                true
            }
            _ => false,
        }
    }

    /// Closes a description that never had a lock, unless somebody is about to take one on it.
    fn failed(&self, holder: Holder, fd: &Arc<OwnedFd>) {
        let mut table = self.table.lock();
        let idle = |found: &Description| {
            // The table's and the caller's; who else has one took it under the lock of the table.
            Arc::ptr_eq(&found.fd, fd) && !found.used && Arc::strong_count(fd) == 2
        };
        if table.get(&holder).is_some_and(idle) {
            table.remove(&holder);
        }
    }

    fn end(&self, holder: Holder) {
        let ended = self.table.lock().remove(&holder);
        if let Some(Description { fd, .. }) = ended {
            // A request under way may keep the description open a moment longer than its locks.
            let given = match holder {
                Holder::Record(..) => kernel::unlock_range(&fd, LockRange::ALL),
                Holder::Flock(..) => kernel::unlock_whole(&fd),
            };
            if let Err(e) = given {
                tracing::debug!("a lock goes when its descriptor is closed: {e}");
            }
            drop(fd);
            wait::wake();
        }
    }
}

impl Drop for Locks {
    fn drop(&mut self) {
        // Fields go after this; who is woken must find the locks gone.
        self.table.get_mut().clear();
        wait::wake();
    }
}

/// Another description of an open file, which may have lost its name.
fn reopen(file: &Open) -> Result<OwnedFd, Fault> {
    let path = Root::proc_path(&file.fd);
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let mut denied = Errno::ACCESS;
    for access in [OFlags::RDWR, OFlags::RDONLY, OFlags::WRONLY] {
        match open(&*path, flags | access, Mode::empty()) {
            Err(e @ (Errno::ACCESS | Errno::PERM | Errno::ROFS | Errno::TXTBSY)) => denied = e,
            done => return done.map_err(refusal),
        }
    }
    Err(refusal(denied))
}

/// `EACCES` of a lock means "somebody has it" to programs; what cannot be locked at all must say so.
fn refusal(errno: Errno) -> Fault {
    match errno {
        Errno::AGAIN => Fault::Locked,
        Errno::ACCESS | Errno::PERM | Errno::BADF => Fault::Unsupported,
        Errno::NOLCK => Fault::Exhausted,
        Errno::DEADLK => Fault::Deadlock,
        other => fault::of(other),
    }
}

#[cfg(test)]
mod tests;
