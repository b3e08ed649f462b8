//! Waiting for a lock without holding a thread.
//!
//! A wait is a row of tries. The next one follows when a mount of this process has given up a lock, any
//! one; and, for the locks of other programs, of whose end nobody tells, after intervals that grow. It
//! ends with the lock, with an error, or after a while with [`Fault::Locked`], upon which the mount asks
//! again. Dropping the future ends it as well.

use crate::host::limits::{LOCK_POLL_MAX, LOCK_POLL_MIN, LOCK_WAIT_MAX};
use std::pin::pin;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, timeout_at};
use wormhole_protocol::Fault;

/// One for the process, not for each share: the folders of two shares may overlap. Who is woken for
/// nothing tries once more than needed.
static FREED: Notify = Notify::const_new();

/// Wakes everyone who waits for a lock.
pub(super) fn wake() {
    FREED.notify_waiters();
}

/// Tries until `attempt` says something else than [`Fault::Locked`], or the time is over. Only as many
/// wait so long at once as `room` has permits. Others wait a moment: a mount that asks again at once then
/// does not ask all the time.
pub(super) async fn until_granted<T, F>(
    room: &Semaphore,
    mut attempt: impl FnMut() -> F,
) -> Result<T, Fault>
where
    F: Future<Output = Result<T, Fault>>,
{
    let place = room.try_acquire();
    let most = match place {
        Ok(_) => LOCK_WAIT_MAX,
        Err(_) => LOCK_POLL_MAX,
    };
    let end = Instant::now() + most;
    let mut pause = LOCK_POLL_MIN;
    loop {
        // Listening begins before the try: what is given up after it is not missed.
        let mut freed = pin!(FREED.notified());
        freed.as_mut().enable();
        match attempt().await {
            Err(Fault::Locked) => {}
            done => return done,
        }
        let now = Instant::now();
        if now >= end {
            return Err(Fault::Locked);
        }
        if timeout_at(end.min(now + pause), freed).await.is_err() {
            pause = (pause * 2).min(LOCK_POLL_MAX);
        }
    }
}
