//! The memory of segments that were sent, used again.
//!
//! Several threads take what is written, and malloc gives each memory of its own (an arena), in which what is
//! free is of no use to the others: a write buffer of 64 MiB came to hold twice as much. So what a whole segment
//! has taken once is kept here for the next one, of whatever file.
//!
//! Lock: `idle`, a leaf.

use super::SEGMENT_BYTES;
use bytes::Bytes;
use parking_lot::Mutex;
use std::sync::Arc;

/// Buffers of whole segments that nobody uses.
pub(super) struct Spares {
    idle: Mutex<Vec<Vec<u8>>>,
    idle_max: usize,
}

impl Spares {
    /// None yet; at most as many as a write buffer of `bytes` can have in use.
    pub(super) fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            idle: Mutex::default(),
            idle_max: bytes / SEGMENT_BYTES,
        })
    }

    /// An empty buffer with room for a segment, if there is one.
    pub(super) fn take(&self) -> Option<Vec<u8>> {
        self.idle.lock().pop()
    }

    /// Keeps a buffer, if it is one for a whole segment.
    pub(super) fn put(&self, mut buffer: Vec<u8>) {
        if buffer.capacity() != SEGMENT_BYTES {
            return;
        }
        buffer.clear();
        let mut idle = self.idle.lock();
        if idle.len() < self.idle_max {
            idle.push(buffer);
        }
    }

    /// `data`, to be sent; what holds it comes back when nobody needs it any more.
    pub(super) fn lend(self: &Arc<Self>, data: Vec<u8>) -> Bytes {
        Bytes::from_owner(Lent {
            data,
            spares: self.clone(),
        })
    }
}

/// Data on its way.
struct Lent {
    data: Vec<u8>,
    spares: Arc<Spares>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.spares.put(std::mem::take(&mut self.data));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_held_a_whole_segment_comes_back_once_it_was_sent_and_no_more_than_the_most() {
        let spares = Spares::new(2 * SEGMENT_BYTES);
        let whole = || vec![7; SEGMENT_BYTES];
        let sent = [spares.lend(whole()), spares.lend(whole())];
        assert_eq!(sent[0].len(), SEGMENT_BYTES);
        let again = sent[0].clone();
        drop(sent);
        assert!(spares.take().is_some_and(|spare| spare.is_empty()));
        assert!(spares.take().is_none(), "one is still being sent again");
        drop(again);
        spares.put(whole());
        spares.put(whole());
        assert_eq!(spares.idle.lock().len(), 2);
    }

    #[test]
    fn what_held_less_is_not_kept() {
        let spares = Spares::new(SEGMENT_BYTES);
        drop(spares.lend(vec![7; 4096]));
        assert!(spares.take().is_none());
    }
}
