//! One file that is being made early: what waits for it, and what goes along with its name.

use super::{FIRST_BYTES_MAX, IDLE};
use crate::mount::error::FsError;
use crate::mount::inodes::Node;
use crate::mount::opens::HostOpen;
use crate::mount::write::Delivered;
use crate::rpc::Body;
use parking_lot::Mutex;
use std::pin::pin;
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::sleep;
use wormhole_protocol::{AfterWrite, AttrChange, Caller, FileId, Name};

/// A file being made.
pub struct Making {
    pub(super) dir: Arc<Node>,
    pub(super) name: Name,
    pub(super) file: FileId,
    /// On whose behalf.
    pub(super) caller: Caller,
    /// Permission bits it is to have; not changed once the host was asked.
    pub(super) mode: AtomicU16,
    pub(super) first: Mutex<First>,
    /// Somebody waits, or has something to be sent along.
    pub(super) wake: Notify,
    pub(super) outcome: watch::Sender<Option<Result<(), FsError>>>,
    /// What it became instead.
    pub(super) remade: OnceLock<Arc<HostOpen>>,
}

/// What is written to it first.
#[derive(Clone, Default)]
pub struct FirstBytes {
    /// Where it belongs.
    pub offset: u64,
    /// What.
    pub body: Body,
    /// What is done then.
    pub after: AfterWrite,
}

impl FirstBytes {
    /// None: attributes are set all the same.
    pub fn only_setting(set: AttrChange) -> Self {
        Self {
            after: AfterWrite {
                set: Some(set),
                sync: None,
            },
            ..Self::default()
        }
    }
}

/// The first bytes.
pub(super) enum First {
    /// There are none yet.
    Open,
    /// These, and who wants to know what became of them.
    Bytes(FirstBytes, oneshot::Sender<Result<Delivered, FsError>>),
    /// The host is being asked.
    Sent,
}

impl Making {
    /// Whether it was answered.
    pub fn is_over(&self) -> bool {
        self.outcome.borrow().is_some()
    }

    /// Why there is no such file.
    pub fn error(&self) -> Option<FsError> {
        self.outcome.borrow().and_then(Result::err)
    }

    /// Another file under its name, which the host made because it had given the reserved one up: what is written goes
    /// there.
    pub fn remade(&self) -> Option<&Arc<HostOpen>> {
        self.remade.get()
    }

    /// Asks the host now, and waits for its answer.
    pub async fn finish(&self) {
        self.wake.notify_one();
        // Who makes it is not gone before it is over.
        let _ = self
            .outcome
            .subscribe()
            .wait_for(Option::is_some)
            .await
            .map(drop);
    }

    /// Gives it other permission bits, if the host was not asked yet and it is its maker who wants to.
    pub fn set_mode(&self, caller: Caller, mode: u16) -> bool {
        let first = self.first.lock();
        let is_open = caller == self.caller && matches!(*first, First::Open);
        if is_open {
            self.mode.store(mode, Relaxed);
        }
        is_open
    }

    /// Sends `bytes` along with the name. `None` if that is on its way already, or they are too many, or `caller` wants
    /// attributes set then and is not its maker.
    pub async fn send_along(
        &self,
        caller: Caller,
        bytes: FirstBytes,
    ) -> Option<Result<Delivered, FsError>> {
        let sets_as_another = bytes.after.set.is_some() && caller != self.caller;
        if bytes.body.len() > FIRST_BYTES_MAX || sets_as_another {
            return None;
        }
        let (done, told) = oneshot::channel();
        {
            let mut first = self.first.lock();
            if !matches!(*first, First::Open) {
                return None;
            }
            *first = First::Bytes(bytes, done);
        }
        self.wake.notify_one();
        Some(told.await.unwrap_or(Err(FsError::Io)))
    }
}

impl Making {
    /// What goes along: what was written, if it comes before somebody waits or nothing more does.
    pub(super) async fn wait_for_first(&self, node: &Node) -> First {
        let mut rested = pin!(sleep(IDLE));
        loop {
            let woken = tokio::select! {
                () = self.wake.notified() => true,
                () = &mut rested, if !rested.is_elapsed() => false,
            };
            let mut first = self.first.lock();
            // What was written will be offered as soon as it rests.
            let is_waited_for = woken || matches!(*first, First::Bytes(..)) || node.is_clean();
            if is_waited_for {
                return std::mem::replace(&mut *first, First::Sent);
            }
        }
    }
}
