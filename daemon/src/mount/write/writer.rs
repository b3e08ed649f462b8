//! The dirty data of one file, and the task that sends it.
//!
//! A writer that has dirty data has one task, which ends when it has none. The task owns the requests to the
//! host, so they go on whatever becomes of those who wrote or wait. What the task must know of, it is woken
//! for: something may be sent, somebody presses for room, the newest segment has rested long enough.

use super::buffer::{Room, WriteBuffer};
use super::dirty::{Dirty, Freed, SegmentId, Sending};
use super::errors::{ErrorMark, Errors};
use super::{AGE_MAX, BOUNDS, Deliver, Delivered, IDLE};
use crate::mount::error::FsError;
use crate::mount::stats::{add, sub};
use crate::rpc::Body;
use futures_util::stream::{FuturesUnordered, StreamExt};
use parking_lot::Mutex;
use std::pin::pin;
use std::sync::Arc;
use tokio::sync::Notify;
use tokio::time::Instant;
use wormhole_protocol::limits::OFFSET_MAX;
use wormhole_protocol::{AfterWrite, Attr, AttrChange, Caller, Fault, SyncWhat};

/// What the host said of a file when it had written to it, and when it said so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answered {
    /// The attributes then.
    pub attr: Attr,
    /// When the answer came.
    pub told: Instant,
}

/// The dirty data of one file.
pub struct Writer {
    buffer: Arc<WriteBuffer>,
    state: Mutex<State>,
    /// The task has something to do.
    wake: Notify,
    /// A segment was answered.
    progress: Notify,
}

struct State {
    dirty: Dirty<Route>,
    errors: Errors,
    /// Answers so far.
    answers: u64,
    latest: Option<Latest>,
    /// The last segment after which something was done, and why attributes could not be set then.
    finished: Option<(SegmentId, Option<Fault>)>,
    /// Whether there is a task.
    running: bool,
    /// When the newest segment began, and when it was last added to.
    begun: Instant,
    added: Instant,
}

/// The answer with the newest attributes.
struct Latest {
    answered: Answered,
    /// Which answer it was.
    number: u64,
}

/// Where a segment goes. Two that go elsewhere are never made one.
#[derive(Clone)]
struct Route(Arc<dyn Deliver>);

impl PartialEq for Route {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// A segment that was sent.
struct Sent {
    id: SegmentId,
    /// How many others had been answered before.
    answers: u64,
    /// Something is done after it.
    finishes: bool,
}

/// What the task has to do.
struct Turn {
    send: Vec<Sending<Route>>,
    /// Answers there were when these were sent.
    answers: u64,
    /// When to look again though nothing happens.
    until: Option<Instant>,
}

impl Writer {
    /// Without dirty data; it takes room from `buffer`.
    pub fn new(buffer: Arc<WriteBuffer>) -> Arc<Self> {
        let now = Instant::now();
        Arc::new(Self {
            buffer,
            state: Mutex::new(State {
                dirty: Dirty::new(BOUNDS),
                errors: Errors::default(),
                answers: 0,
                latest: None,
                finished: None,
                running: false,
                begun: now,
                added: now,
            }),
            wake: Notify::new(),
            progress: Notify::new(),
        })
    }

    /// Takes `data` to be sent to `to`; waits while there is no room. If the future is dropped, the head of
    /// `data` may have been taken.
    ///
    /// # Errors
    /// [`Fault::FileTooLarge`] beyond the largest offset. Errors of sending are told elsewhere.
    pub async fn write(
        self: &Arc<Self>,
        to: &Arc<dyn Deliver>,
        offset: u64,
        data: &[u8],
    ) -> Result<(), FsError> {
        let end = offset.checked_add(data.len() as u64);
        if end.is_none_or(|end| end > OFFSET_MAX) {
            return Err(FsError::Fault(Fault::FileTooLarge));
        }
        let (mut at, mut rest) = (offset, data);
        while !rest.is_empty() {
            let room = self.buffer.room(rest.len()).await;
            let bytes = self.take(to, at, &rest[..rest.len().min(room.bytes())], room);
            at += bytes as u64;
            rest = &rest[bytes..];
        }
        Ok(())
    }

    /// Sends all that was written before the call, and waits until it was answered. Says what the host said
    /// last of the file, if it said anything since the last failure. Errors are told by
    /// [`Self::error_since`].
    pub async fn flush(&self) -> Option<Answered> {
        let newest = {
            let mut state = self.state.lock();
            state.dirty.seal();
            state.dirty.newest()
        };
        if let Some(newest) = newest {
            self.wake.notify_one();
            self.answered_until(newest).await;
        }
        let state = self.state.lock();
        state.latest.as_ref().map(|latest| latest.answered)
    }

    /// The same; and has the file made durable on the way, if that takes no request of its own: if all that is dirty is one
    /// segment that was not sent, and goes to `to`. Whether it was.
    pub async fn flush_durably(&self, to: &Arc<dyn Deliver>, what: SyncWhat) -> bool {
        let after = AfterWrite {
            set: None,
            sync: Some(what),
        };
        let to = Route(to.clone());
        let finished = self.flush_and(|route| *route == to, after).await;
        finished.is_some()
    }

    /// The same; and has attributes set on the way, on behalf of `caller`: why they were not, if that was tried.
    pub async fn flush_setting(&self, caller: Caller, set: AttrChange) -> Option<Option<Fault>> {
        let after = AfterWrite {
            set: Some(set),
            sync: None,
        };
        let suits = |route: &Route| route.0.caller() == caller;
        self.flush_and(suits, after).await
    }

    async fn flush_and(
        &self,
        suits: impl FnOnce(&Route) -> bool,
        after: AfterWrite,
    ) -> Option<Option<Fault>> {
        let only = self.state.lock().dirty.after_only(suits, after);
        self.flush().await;
        let (id, unset) = self.state.lock().finished?;
        (only == Some(id)).then_some(unset)
    }

    async fn answered_until(&self, newest: SegmentId) {
        loop {
            let mut progress = pin!(self.progress.notified());
            // From here on no answer is missed.
            progress.as_mut().enable();
            if !self.state.lock().dirty.has_until(newest) {
                return;
            }
            progress.await;
        }
    }

    /// For a handle that is being opened: which errors are not its own.
    pub fn error_mark(&self) -> ErrorMark {
        self.state.lock().errors.mark()
    }

    /// The last error after `mark`, which moves to the present: so each handle is told once.
    pub fn error_since(&self, mark: &mut ErrorMark) -> Option<FsError> {
        self.state.lock().errors.since(mark)
    }

    /// The same, for who tells nobody: whoever opens the file next is told as well.
    pub fn error_after(&self, mark: ErrorMark) -> Option<FsError> {
        self.state.lock().errors.after(mark)
    }

    /// Whether attributes are to be set with what was written, and it is not known yet that they are.
    pub fn sets_attributes(&self) -> bool {
        self.state.lock().dirty.sets_attributes()
    }

    /// Whether the host has answered everything.
    pub fn is_clean(&self) -> bool {
        self.state.lock().dirty.is_empty()
    }

    /// One past the last byte that is not answered: the file is at least so long.
    pub fn end(&self) -> Option<u64> {
        self.state.lock().dirty.end()
    }

    /// Whether one of the `len` bytes from `offset` is not answered.
    pub fn overlaps(&self, offset: u64, len: u64) -> bool {
        let state = self.state.lock();
        state.dirty.overlaps(offset, offset.saturating_add(len))
    }

    /// Takes the head of `data` into the room there is, and sees to it that it will be sent.
    fn take(
        self: &Arc<Self>,
        to: &Arc<dyn Deliver>,
        offset: u64,
        data: &[u8],
        room: Room<'_>,
    ) -> usize {
        let spare = self.buffer.spares.take();
        let (taken, unused, start, urgent) = {
            let mut state = self.state.lock();
            state.dirty.lend(spare);
            let taken = state.dirty.take(&Route(to.clone()), offset, data);
            let unused = state.dirty.unused();
            add(&self.buffer.stats.dirty_bytes, taken.dirtied as u64);
            state.added = Instant::now();
            if taken.begun {
                state.begun = state.added;
            }
            let start = !std::mem::replace(&mut state.running, true);
            (taken, unused, start, state.dirty.can_send())
        };
        if let Some(unused) = unused {
            self.buffer.spares.put(unused);
        }
        add(&self.buffer.stats.taken_bytes, taken.bytes as u64);
        room.keep(taken.pages);
        if start {
            let running = Running {
                writer: self.clone(),
                is_over: false,
            };
            tokio::spawn(running.run());
        } else if urgent || self.buffer.is_pressed() {
            self.wake.notify_one();
        }
        taken.bytes
    }

    /// What the task has to do now; `None`: it ends, because nothing is dirty.
    fn turn(&self) -> Option<Turn> {
        let mut state = self.state.lock();
        if state.dirty.is_empty() {
            state.running = false;
            return None;
        }
        let due = (state.added + IDLE).min(state.begun + AGE_MAX);
        if self.buffer.is_pressed() || due <= Instant::now() {
            state.dirty.seal();
        }
        Some(Turn {
            send: std::iter::from_fn(|| state.dirty.send()).collect(),
            answers: state.answers,
            until: state.dirty.is_open().then_some(due),
        })
    }

    async fn send(
        &self,
        segment: Sending<Route>,
        answers: u64,
    ) -> (Sent, Result<Delivered, FsError>) {
        let _slot = self.buffer.slot().await;
        add(&self.buffer.stats.segments, 1);
        let body = Body::from(self.buffer.spares.lend(segment.data));
        let (to, after) = (&segment.route.0, segment.after);
        let answer = to.write(segment.offset, body, after).await;
        let sent = Sent {
            id: segment.id,
            answers,
            finishes: after != AfterWrite::NOTHING,
        };
        (sent, answer)
    }

    fn answered(&self, sent: &Sent, answer: Result<Delivered, FsError>) {
        let freed = {
            let mut state = self.state.lock();
            match &answer {
                Ok(delivered) => state.learn(delivered, sent),
                Err(error) => state.fail(*error),
            }
            state.dirty.answered(sent.id)
        };
        match answer {
            Ok(_) => add(&self.buffer.stats.written_bytes, freed.bytes as u64),
            Err(_) => add(&self.buffer.stats.failed, 1),
        }
        self.free(&freed);
    }

    /// Gives up everything: nobody is left to send it.
    fn give_up(&self) {
        let freed = {
            let mut state = self.state.lock();
            state.running = false;
            state.fail(FsError::Io);
            state.dirty.clear()
        };
        add(&self.buffer.stats.failed, 1);
        self.free(&freed);
    }

    fn free(&self, freed: &Freed) {
        sub(&self.buffer.stats.dirty_bytes, freed.bytes as u64);
        self.buffer.free(freed.pages);
        self.progress.notify_waiters();
    }
}

impl State {
    /// Takes the attributes that came with an answer. Of segments that were under way at once, it is not
    /// known which was written last: that is told by the time of the change, and by the length, which only
    /// grows from our side.
    fn learn(&mut self, Delivered { attr, unset }: &Delivered, sent: &Sent) {
        self.answers += 1;
        if sent.finishes {
            self.finished = Some((sent.id, *unset));
        }
        let is_newer = self.latest.as_ref().is_none_or(|latest| {
            let known = &latest.answered.attr;
            sent.answers >= latest.number
                || (attr.changed, attr.size) >= (known.changed, known.size)
        });
        if is_newer {
            let told = Instant::now();
            self.latest = Some(Latest {
                answered: Answered { attr: *attr, told },
                number: self.answers,
            });
        }
    }

    /// What a segment that failed left behind is not known.
    fn fail(&mut self, error: FsError) {
        self.answers += 1;
        self.errors.record(error);
        self.latest = None;
    }
}

/// The task of a writer. Should it not come to its end (the runtime is going down, or a bug), what is
/// dirty is given up, so that nobody waits for it for ever.
struct Running {
    writer: Arc<Writer>,
    is_over: bool,
}

impl Running {
    async fn run(mut self) {
        let writer = self.writer.clone();
        let mut pressed = writer.buffer.pressed();
        let mut under_way = FuturesUnordered::new();
        while let Some(turn) = writer.turn() {
            for segment in turn.send {
                under_way.push(writer.send(segment, turn.answers));
            }
            tokio::select! {
                Some((sent, answer)) = under_way.next() => writer.answered(&sent, answer),
                () = writer.wake.notified() => {}
                // An error would mean that the buffer is gone, which this task holds.
                _ = pressed.changed() => {}
                () = rest(turn.until) => {}
            }
        }
        self.is_over = true;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.is_over {
            self.writer.give_up();
        }
    }
}

async fn rest(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
