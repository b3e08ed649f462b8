//! Asking a host for changes: each once, whatever happens to the connection.
//!
//! Every change gets a number of its own; the host keeps its answer until a later change says that it is
//! settled. The link asks again by itself, under the same number, while the host lives. When the host was
//! restarted meanwhile nobody remembers whether the change was done: then [`Changes::ask`] asks anew and compares.
//! What does no harm when done twice is done again, what was to go and is gone was done; what cannot be told
//! fails.
//!
//! Lock: `seqs`, leaf.

use super::error::FsError;
use super::stats::{ChangeStats, add};
use crate::rpc::{Answer, Body, CallError, Remote};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;
use wormhole_protocol::{Caller, Change, Fault, RenameHow, Reply, Request, Seq};

/// Times a change is asked anew of another life of the host.
const LIVES_MAX: u32 = 3;

/// Who asks for changes on behalf of a mount.
pub struct Changes {
    remote: Arc<dyn Remote>,
    seqs: Mutex<Seqs>,
    stats: Arc<ChangeStats>,
}

#[derive(Default)]
struct Seqs {
    last: u64,
    /// Asked and not answered.
    open: BTreeSet<u64>,
}

/// A number in use.
struct Numbered<'a> {
    changes: &'a Changes,
    seq: u64,
    settled: u64,
}

impl Drop for Numbered<'_> {
    fn drop(&mut self) {
        self.changes.seqs.lock().open.remove(&self.seq);
    }
}

impl Changes {
    /// Asks `remote`.
    pub fn new(remote: Arc<dyn Remote>, stats: Arc<ChangeStats>) -> Arc<Self> {
        Arc::new(Self {
            remote,
            seqs: Mutex::default(),
            stats,
        })
    }

    /// What is counted.
    pub fn stats(&self) -> &Arc<ChangeStats> {
        &self.stats
    }

    /// Has `change` done, with the bytes that belong to it.
    ///
    /// [`Reply::Done`] for any change means that it was found done by an earlier try, after a restart of the
    /// host.
    ///
    /// # Errors
    /// What the host answered; [`FsError::Io`] if it was restarted and cannot tell.
    pub async fn ask(&self, caller: Caller, change: Change, body: Body) -> Result<Reply, FsError> {
        add(&self.stats.changes, 1);
        for life in 0..LIVES_MAX {
            let answer = self
                .ask_of(&*self.remote, caller, &change, body.clone())
                .await;
            match answer {
                Err(CallError::Restarted) if can_be_compared(&change) => {}
                Err(CallError::Fault(fault)) if life > 0 => return compared(&change, fault),
                answer => return Ok(answer?.reply),
            }
        }
        Err(FsError::Io)
    }

    /// Asks one connection once.
    ///
    /// # Errors
    /// What came of it.
    pub async fn ask_of(
        &self,
        remote: &dyn Remote,
        caller: Caller,
        change: &Change,
        body: Body,
    ) -> Result<Answer, CallError> {
        let number = self.number();
        let request = Request::Change {
            seq: Seq(number.seq),
            settled: Seq(number.settled),
            caller,
            change: change.clone(),
        };
        remote.call_with(request, body).await
    }

    fn number(&self) -> Numbered<'_> {
        let mut seqs = self.seqs.lock();
        seqs.last += 1;
        let seq = seqs.last;
        seqs.open.insert(seq);
        let settled = seqs.open.first().copied().unwrap_or(seq);
        Numbered {
            changes: self,
            seq,
            settled,
        }
    }
}

/// Whether asking again tells whether it was done: what is found done shows as a fault of its own.
fn can_be_compared(change: &Change) -> bool {
    let exchanges = matches!(
        change,
        Change::Rename {
            how: RenameHow::Exchange,
            ..
        }
    );
    !exchanges && !matches!(change, Change::Append { .. } | Change::Copy { .. })
}

/// What a fault means of a change that is asked again, after the host was restarted.
fn compared(change: &Change, fault: Fault) -> Result<Reply, FsError> {
    match (change, fault) {
        // It is gone, as was asked.
        (Change::Unlink { .. } | Change::RemoveDir { .. }, Fault::NotFound)
        | (Change::RemoveXattr { .. }, Fault::NoAttribute) => Ok(Reply::Done),
        // Done by this mount before, or by somebody else: nobody knows.
        (
            Change::Create { .. }
            | Change::MakeDir { .. }
            | Change::MakeNode { .. }
            | Change::Symlink { .. }
            | Change::Link { .. }
            | Change::SetXattr { .. },
            Fault::Exists,
        )
        | (Change::Rename { .. }, Fault::Exists | Fault::NotFound | Fault::Stale) => {
            Err(FsError::Io)
        }
        _ => Err(CallError::Fault(fault).into()),
    }
}
