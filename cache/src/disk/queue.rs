//! What waits for the writer thread: bounded in bytes, never blocking those who put something in.
//!
//! Lock: `state`, for moments only.

use crate::chunk::Chunk;
use crate::disk::layout::Header;
use crate::disk::limits::{BATCH_BYTES_MAX, QUEUE_BYTES_MAX, QUEUE_JOB_BYTES};
use crate::key::ContentDigest;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
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
        state.bytes += bytes;
        state.jobs.push_back(job);
        drop(state);
        self.work.notify_one();
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
            if !state.jobs.is_empty() && (!state.paused || state.closed) {
                let mut batch = Vec::new();
                while state.batch_bytes < BATCH_BYTES_MAX {
                    let Some(job) = state.jobs.pop_front() else {
                        break;
                    };
                    state.batch_bytes += job.bytes();
                    batch.push(job);
                }
                state.busy = true;
                return Work::Batch(batch);
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
            self.work.wait(&mut state);
        }
    }

    /// Waits until all that was put in before is done.
    pub(crate) fn wait_idle(&self) {
        let mut state = self.state.lock();
        while !state.is_idle() && !state.closed {
            self.idle.wait(&mut state);
        }
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
