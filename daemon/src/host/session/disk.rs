//! Where the disk work of requests is done: in other threads, or, if it is short, where it is.

use super::super::pace::Place;
use super::{Core, OPEN, Slot};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
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
        let start = self.service.began().elapsed();
        let work = || catch_unwind(AssertUnwindSafe(|| work(self)));
        let done = match place {
            Place::Here => work(),
            _ => block_in_place(work),
        };
        let end = self.service.began().elapsed();
        pace.took(end.saturating_sub(start), end);
        done.map_err(|_| Fault::Io)
    }
}
