//! Where the disk work of requests is done: in other threads, or, if it is short, where it is.

use super::super::pace::{Effort, Place};
use super::{Core, OPEN, Slot};
use rustix::time::{ClockId, clock_gettime};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;
use wormhole_protocol::Fault;

impl Core {
    /// Runs `work` on the blocking pool.
    ///
    /// # Errors
    /// [`Fault::Closing`] if the runtime ends; [`Fault::Io`] if `work` panicked.
    pub(in super::super) async fn on_disk<T: Send + 'static>(
        self: &Arc<Self>,
        slot: &Slot,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Result<T, Fault> {
        let executing = self.resources().executing.clone().acquire_owned().await;
        let held = (executing.expect(OPEN), slot.clone());
        let core = self.clone();
        let task = tokio::task::spawn_blocking(move || {
            let done = work(&core);
            drop(held);
            done
        });
        task.await.map_err(|e| {
            if e.is_panic() {
                Fault::Io
            } else {
                Fault::Closing
            }
        })
    }

    /// Runs `work`, which mostly takes microseconds: where it is, as long as the disk is quick (`pace`).
    ///
    /// # Errors
    /// As [`Core::on_disk`].
    pub(in super::super) async fn briefly_on_disk<T: Send + 'static>(
        self: &Arc<Self>,
        slot: &Slot,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Result<T, Fault> {
        let pace = self.service.pace();
        let place = match Handle::current().runtime_flavor() {
            RuntimeFlavor::MultiThread => pace.place(self.service.began().elapsed()),
            _ => Place::Elsewhere,
        };
        if place == Place::Elsewhere {
            return self.on_disk(slot, work).await;
        }
        let executing = self.resources().executing.clone().acquire_owned().await;
        let _held = executing.expect(OPEN);
        let work = || {
            let (start, before) = (self.service.began().elapsed(), Usage::now());
            let done = catch_unwind(AssertUnwindSafe(|| work(self)));
            let (end, after) = (self.service.began().elapsed(), Usage::now());
            let effort = Effort {
                elapsed: end.saturating_sub(start),
                computed: after.computed.saturating_sub(before.computed),
                slept: after.sleeps != before.sleeps,
            };
            pace.took(effort, end);
            done
        };
        let done = match place {
            Place::Here => work(),
            _ => block_in_place(work),
        };
        done.map_err(|_| Fault::Io)
    }
}

/// What a thread has used so far.
struct Usage {
    /// Of a processor.
    computed: Duration,
    /// How often it gave the processor up to wait.
    sleeps: libc::c_long,
}

impl Usage {
    /// This one. The times of getrusage(2) are as of the last tick.
    fn now() -> Self {
        // SAFETY: all zeros is a valid rusage, and the kernel writes no more than one.
        let usage = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage);
            usage
        };
        let computed = clock_gettime(ClockId::ThreadCPUTime);
        Self {
            computed: computed.try_into().unwrap_or_default(),
            sleeps: usage.ru_nvcsw,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_slept_shows_it_and_one_that_computed_as_well() {
        let before = Usage::now();
        std::thread::sleep(Duration::from_millis(1));
        let slept = Usage::now();
        assert!(slept.sleeps > before.sleeps);
        while Usage::now().computed < slept.computed + Duration::from_millis(5) {}
    }
}
