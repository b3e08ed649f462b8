//! Asking a host for changes: each once, whatever happens to the connection.
//!
//! Every change gets a number of its own; the host keeps its answer until a later change says that it is
//! settled. The link asks again by itself, under the same number, while the host lives. When the host was
//! restarted meanwhile nobody remembers whether the change was done: then [`Changes::ask`] asks anew and compares.
//! What does no harm when done twice is done again, what was to go and is gone was done; what cannot be told
//! fails.
//!
//! One that takes long holds back what is settled, and the host keeps only so many answers: who would get too
//! far ahead of it waits.
//!
//! Lock: `seqs`, leaf.

use super::closing::Closing;
use super::error::FsError;
use super::stats::{ChangeStats, add};
use crate::rpc::{Answer, Body, CallError, Remote};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::{Arc, OnceLock, Weak};
use tokio::sync::Notify;
use wormhole_protocol::limits::CHANGES_AHEAD_MAX;
use wormhole_protocol::{Caller, Change, Fault, RenameHow, Reply, Request, Seq};

/// Times a change is asked anew of another life of the host.
const LIVES_MAX: u32 = 3;

/// How long a change waits for a lost host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// As long as a program that waits for it would: the mount's timeout.
    OfPrograms,
    /// Until the host is back, or the mount ends: programs were told that it is done.
    Endless,
}

/// Who asks for changes on behalf of a mount.
pub struct Changes {
    remote: Arc<dyn Remote>,
    seqs: Mutex<Seqs>,
    /// A change was answered or given up.
    settled: Notify,
    /// What is to be closed before names change.
    closing: OnceLock<Weak<Closing>>,
    stats: Arc<ChangeStats>,
}

#[derive(Default)]
struct Seqs {
    last: u64,
    /// Asked and not answered.
    open: BTreeSet<u64>,
}

impl Seqs {
    /// How far the next one would be ahead of the oldest that is open.
    fn ahead(&self) -> u64 {
        self.open.first().map_or(0, |oldest| self.last + 1 - oldest)
    }
}

/// A number in use.
struct Numbered<'a> {
    changes: &'a Changes,
    seq: u64,
    /// The oldest in use then.
    settled: u64,
}

impl Numbered<'_> {
    fn request(&self, caller: Caller, change: &Change) -> Request {
        Request::Change {
            seq: Seq(self.seq),
            settled: Seq(self.settled),
            caller,
            change: change.clone(),
        }
    }
}

impl Drop for Numbered<'_> {
    fn drop(&mut self) {
        self.changes.seqs.lock().open.remove(&self.seq);
        add(&self.changes.stats.answered, 1);
        self.changes.settled.notify_waiters();
    }
}

impl Changes {
    /// Asks `remote`.
    pub fn new(remote: Arc<dyn Remote>, stats: Arc<ChangeStats>) -> Arc<Self> {
        Arc::new(Self {
            remote,
            seqs: Mutex::default(),
            settled: Notify::new(),
            closing: OnceLock::new(),
            stats,
        })
    }

    /// What waits in `closing` is closed before any names change.
    pub(super) fn close_before_names(&self, closing: Weak<Closing>) {
        // There is one of them.
        let _ = self.closing.set(closing);
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
        self.ask_with(Patience::OfPrograms, caller, change, body)
            .await
    }

    /// The same, with more or less patience.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub async fn ask_with(
        &self,
        patience: Patience,
        caller: Caller,
        change: Change,
        body: Body,
    ) -> Result<Reply, FsError> {
        add(&self.stats.changes, 1);
        if moves_names(&change)
            && let Some(closing) = self.closing.get().and_then(Weak::upgrade)
        {
            closing.hurry();
        }
        for life in 0..LIVES_MAX {
            let number = self.number().await;
            let request = number.request(caller, &change);
            let answer = match patience {
                Patience::OfPrograms => self.remote.call_with(request, body.clone()),
                Patience::Endless => self.remote.call_patiently(request, body.clone()),
            };
            match answer.await {
                Err(CallError::Restarted) if can_be_compared(&change) => {}
                Err(CallError::Fault(fault)) if life > 0 => return compared(&change, fault),
                answer => return Ok(answer?.reply),
            }
        }
        Err(FsError::Io)
    }

    /// Asks one connection once, without waiting for others: they may wait for this one.
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
        let number = self.numbered(&mut self.seqs.lock());
        remote.call_with(number.request(caller, change), body).await
    }

    fn numbered(&self, seqs: &mut Seqs) -> Numbered<'_> {
        seqs.last += 1;
        seqs.open.insert(seqs.last);
        let oldest = seqs.open.first().copied();
        Numbered {
            changes: self,
            seq: seqs.last,
            settled: oldest.unwrap_or(seqs.last),
        }
    }

    /// The next number; waits while it would be too far ahead of the oldest in use.
    async fn number(&self) -> Numbered<'_> {
        loop {
            let mut settled = pin!(self.settled.notified());
            // From here on nothing that is settled is missed.
            settled.as_mut().enable();
            {
                let mut seqs = self.seqs.lock();
                if seqs.ahead() < u64::from(CHANGES_AHEAD_MAX) {
                    return self.numbered(&mut seqs);
                }
            }
            settled.await;
        }
    }
}

/// Whether something may have another name afterwards, or none.
fn moves_names(change: &Change) -> bool {
    matches!(
        change,
        Change::Rename { .. }
            | Change::Link { .. }
            | Change::Unlink { .. }
            | Change::RemoveDir { .. }
    )
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::PathEstimate;
    use futures_util::FutureExt;
    use futures_util::future::{BoxFuture, pending};
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
    use tokio::sync::Semaphore;
    use wormhole_protocol::OpenId;

    /// Answers at once, but for the first, which waits for leave.
    struct Slow {
        leave: Semaphore,
        asked: AtomicU64,
    }

    impl Remote for Slow {
        fn call_with(&self, request: Request, _: Body) -> BoxFuture<'_, Result<Answer, CallError>> {
            async move {
                self.asked.fetch_add(1, SeqCst);
                if let Request::Change { seq: Seq(1), .. } = request {
                    let _ = self.leave.acquire().await;
                }
                Ok(Answer {
                    reply: Reply::Done,
                    payload: Box::new(tokio::io::empty()),
                })
            }
            .boxed()
        }

        fn path(&self) -> PathEstimate {
            PathEstimate::default()
        }

        fn closed(&self) -> BoxFuture<'_, ()> {
            pending().boxed()
        }
    }

    #[tokio::test]
    async fn nobody_gets_further_ahead_of_a_slow_change_than_the_host_keeps_answers() {
        let slow = Arc::new(Slow {
            leave: Semaphore::new(0),
            asked: AtomicU64::new(0),
        });
        let changes = Changes::new(slow.clone(), Arc::default());
        let caller = Caller { uid: 0, gid: 0 };
        let ask = || {
            changes.ask(
                caller,
                Change::Close {
                    opens: vec![OpenId(1)],
                },
                Body::empty(),
            )
        };
        let mut first = pin!(ask());
        assert!(first.as_mut().now_or_never().is_none());
        for _ in 1..CHANGES_AHEAD_MAX {
            ask().await.unwrap();
        }
        let mut waits = pin!(ask());
        assert!(waits.as_mut().now_or_never().is_none());
        assert_eq!(slow.asked.load(SeqCst), u64::from(CHANGES_AHEAD_MAX));
        // Whoever takes back what a host has forgotten does not wait: all others may wait for that.
        let back = Change::Close {
            opens: vec![OpenId(2)],
        };
        let taken = changes.ask_of(&*slow, caller, &back, Body::empty()).await;
        assert!(taken.is_ok());
        slow.leave.add_permits(1);
        first.await.unwrap();
        waits.await.unwrap();
    }
}
