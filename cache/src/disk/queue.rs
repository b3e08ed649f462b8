//! What waits for the writer thread: bounded in bytes, never blocking those who put something in.
//!
//! The writer lets a moment pass before it takes what came, so that neighbours come together and whoever puts one
//! more in has nobody to wake. A batch that is full, somebody who waits, and the end do not let it wait.
//!
//! Lock: `state`, for moments only.

use crate::chunk::Chunk;
use crate::disk::layout::Header;
use crate::disk::limits::{BATCH_BYTES_MAX, GATHER, QUEUE_BYTES_MAX, QUEUE_JOB_BYTES};
use crate::key::ContentDigest;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::time::Instant;
use wormhole_protocol::ChunkIndex;

/// Blocks to be stored, or a suspicion.
pub(crate) struct Job {
    pub(crate) header: Header,
    pub(crate) digest: ContentDigest,
    pub(crate) index: ChunkIndex,
    /// `None`: a reader found the chunk damaged; look again and drop it.
    pub(crate) chunk: Option<Chunk>,
}

impl Job {
    fn bytes(&self) -> usize {
        self.chunk.as_ref().map_or(0, Chunk::bytes) + QUEUE_JOB_BYTES
    }
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    /// Of the jobs waiting and of the batch being written.
    bytes: usize,
    batch_bytes: usize,
    /// When the oldest of the jobs waiting is to be taken at the latest.
    due: Option<Instant>,
    /// How many wait for the queue to be idle.
    hurried: usize,
    /// The writer is doing what it was last given.
    busy: bool,
    closed: bool,
    paused: bool,
    evict: bool,
}

impl State {
    fn is_idle(&self) -> bool {
        self.jobs.is_empty() && !self.evict && !self.busy
    }

    /// Whether jobs waiting are to be taken now.
    fn is_due(&self) -> bool {
        let full = self.bytes >= BATCH_BYTES_MAX;
        let waited = || self.due.is_none_or(|due| due <= Instant::now());
        full || self.closed || self.hurried > 0 || waited()
    }

    /// What the writer is given at once.
    fn take_batch(&mut self) -> Vec<Job> {
        let mut batch = Vec::new();
        while self.batch_bytes < BATCH_BYTES_MAX {
            let Some(job) = self.jobs.pop_front() else {
                break;
            };
            self.batch_bytes += job.bytes();
            batch.push(job);
        }
        self.busy = true;
        batch
    }
}

/// The queue.
#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    work: Condvar,
    idle: Condvar,
}

/// What the writer is to do next.
pub(crate) enum Work {
    Batch(Vec<Job>),
    /// Only look whether something must be evicted.
    Evict,
    Closed,
}

impl Queue {
    /// Adds a job; false if the queue is full or closed.
    pub(crate) fn push(&self, job: Job) -> bool {
        let bytes = job.bytes();
        let mut state = self.state.lock();
        if state.closed || state.bytes + bytes > QUEUE_BYTES_MAX {
            return false;
        }
        if state.jobs.is_empty() {
            state.due = Some(Instant::now() + GATHER);
        }
        let was_full = state.bytes >= BATCH_BYTES_MAX;
        state.bytes += bytes;
        state.jobs.push_back(job);
        let wake = state.jobs.len() == 1 || (!was_full && state.bytes >= BATCH_BYTES_MAX);
        drop(state);
        if wake {
            self.work.notify_one();
        }
        true
    }

    /// Has the writer look whether something must be evicted.
    pub(crate) fn evict(&self) {
        self.state.lock().evict = true;
        self.work.notify_one();
    }

    /// Waits for work. What the last call returned counts as done.
    pub(crate) fn next(&self) -> Work {
        let mut state = self.state.lock();
        state.bytes -= std::mem::take(&mut state.batch_bytes);
        state.busy = false;
        loop {
            let waiting = !state.jobs.is_empty() && (!state.paused || state.closed);
            if waiting && state.is_due() {
                return Work::Batch(state.take_batch());
            }
            if std::mem::take(&mut state.evict) {
                state.busy = true;
                return Work::Evict;
            }
            if state.closed {
                return Work::Closed;
            }
            if state.is_idle() {
                self.idle.notify_all();
            }
            match state.due {
                Some(due) if waiting => drop(self.work.wait_until(&mut state, due)),
                _ => self.work.wait(&mut state),
            }
        }
    }

    /// Waits until all that was put in before is done.
    pub(crate) fn wait_idle(&self) {
        let mut state = self.state.lock();
        state.hurried += 1;
        self.work.notify_one();
        while !state.is_idle() && !state.closed {
            self.idle.wait(&mut state);
        }
        state.hurried -= 1;
    }

    /// No more jobs; the writer does those it has and ends.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.work.notify_all();
        self.idle.notify_all();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    pub(crate) fn bytes(&self) -> usize {
        self.state.lock().bytes
    }

    /// Holds the writer back, for tests of a full queue.
    #[cfg(test)]
    pub(crate) fn pause(&self, paused: bool) {
        self.state.lock().paused = paused;
        self.work.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::tests::header;
    use bytes::Bytes;
    use std::time::Duration;
    use wormhole_protocol::limits::BLOCK_BYTES;

    fn job(index: u64) -> Job {
        let header = header(1, 1 << 30);
        Job {
            header,
            digest: header.key.digest(),
            index: ChunkIndex(index),
            chunk: Some(Chunk::piece(0, Bytes::from(vec![7; BLOCK_BYTES]))),
        }
    }

    #[test]
    fn a_batch_gathers_until_it_is_full_or_somebody_waits() {
        let queue = Queue::default();
        assert!(queue.push(job(0)) && queue.push(job(1)));
        let mut state = queue.state.lock();
        let later = Some(Instant::now() + Duration::from_hours(1));
        state.due = later;
        assert!(!state.is_due(), "it has just come");
        state.hurried = 1;
        assert!(state.is_due(), "somebody waits");
        state.hurried = 0;
        drop(state);
        let mut index = 2;
        while queue.bytes() < BATCH_BYTES_MAX {
            assert!(!queue.state.lock().is_due());
            assert!(queue.push(job(index)));
            index += 1;
        }
        assert!(queue.state.lock().is_due(), "the batch is full");
        let Work::Batch(batch) = queue.next() else {
            panic!("no batch");
        };
        assert_eq!(batch.len() as u64, index);
    }

    #[test]
    fn whoever_waits_for_the_writer_does_not_wait_for_more_to_come() {
        let queue = Queue::default();
        assert!(queue.push(job(0)));
        queue.state.lock().due = Some(Instant::now() + Duration::from_hours(1));
        std::thread::scope(|scope| {
            scope.spawn(|| while let Work::Batch(_) = queue.next() {});
            queue.wait_idle();
            assert!(queue.state.lock().jobs.is_empty());
            queue.close();
        });
    }
}
