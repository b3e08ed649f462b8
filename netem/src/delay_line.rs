//! Packets on their way: each waits for the moment its link delivers it.
//!
//! A [`DelayLine`] holds the packets of one direction, in user space, and lends the buffers they are
//! read into. It reads no clock: whoever drives it asks when something is due, and takes what is.
//!
//! Packets mostly come in the order they leave, so they stand in a plain queue; one that overtakes
//! (only with jitter) goes into a heap beside it. Of the two, what is due first comes out first.
//!
//! Invariants
//! - What comes out is ordered by moment, and among equals by when it was put in.
//! - Buffers of waiting and spare packets together never take more than the limit.
//! - Once as many packets have been on their way as ever are at a time, nothing is allocated.

#[cfg(test)]
mod tests;

use crate::moment::Moment;
use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};
use std::ops::Deref;

/// A buffer with a packet in it. Reads as the packet's bytes.
#[derive(Debug)]
pub struct Packet<N = ()> {
    buffer: Box<[u8]>,
    len: usize,
    /// What whoever sends it on has to know. A lent packet may still have an earlier one's.
    pub note: N,
}

impl<N: Default> Packet<N> {
    fn new(buffer_bytes: usize) -> Self {
        Self {
            buffer: vec![0; buffer_bytes].into_boxed_slice(),
            len: 0,
            note: N::default(),
        }
    }
}

impl<N> Packet<N> {
    /// The whole buffer, to read a packet into. What was in it before may still be.
    pub fn buffer_mut(&mut self) -> &mut [u8] {
        &mut self.buffer
    }

    /// Says how many bytes the packet has, at the front of the buffer; at most the whole buffer.
    pub fn set_len(&mut self, len: usize) {
        self.len = len.min(self.buffer.len());
    }
}

impl<N> Deref for Packet<N> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.buffer.get(..self.len).unwrap_or(&self.buffer)
    }
}

/// There is no room for a packet; here it is back.
#[derive(Debug, thiserror::Error)]
#[error("more packets are on their way than the limit allows")]
pub struct Full<N = ()>(pub Packet<N>);

/// The packets on their way in one direction.
#[derive(Debug)]
pub struct DelayLine<N = ()> {
    buffer_bytes: usize,
    buffers_max: usize,
    /// In the order of their moments.
    orderly: VecDeque<Waiting<N>>,
    /// Those that overtook.
    overtaking: BinaryHeap<Reverse<Waiting<N>>>,
    spare: Vec<Packet<N>>,
    /// Packets put in so far: decides among equals.
    pushed: u64,
}

impl<N: Default> DelayLine<N> {
    /// An empty line whose packets have up to `buffer_bytes` each. Their buffers take up to
    /// `limit_bytes` in all, however short the packets in them are; one packet always has room.
    pub fn new(buffer_bytes: usize, limit_bytes: usize) -> Self {
        Self {
            buffer_bytes,
            buffers_max: (limit_bytes / buffer_bytes.max(1)).max(1),
            orderly: VecDeque::new(),
            overtaking: BinaryHeap::new(),
            spare: Vec::new(),
            pushed: 0,
        }
    }

    /// A buffer for the next packet: one used before, if there is one.
    pub fn lend(&mut self) -> Packet<N> {
        self.spare
            .pop()
            .unwrap_or_else(|| Packet::new(self.buffer_bytes))
    }

    /// Takes a buffer back, to be lent again.
    pub fn give_back(&mut self, packet: Packet<N>) {
        if self.buffers() < self.buffers_max && packet.buffer.len() == self.buffer_bytes {
            self.spare.push(packet);
        }
    }

    /// Holds `packet` until `at`.
    ///
    /// # Errors
    /// If there is no room; the packet comes back with the error.
    pub fn push(&mut self, at: Moment, packet: Packet<N>) -> Result<(), Full<N>> {
        if self.len() >= self.buffers_max {
            return Err(Full(packet));
        }
        if self.buffers() >= self.buffers_max {
            self.spare.pop();
        }
        let waiting = Waiting {
            at,
            turn: self.pushed,
            packet,
        };
        self.pushed += 1;
        if self.orderly.back().is_some_and(|last| last.at > at) {
            self.overtaking.push(Reverse(waiting));
        } else {
            self.orderly.push_back(waiting);
        }
        Ok(())
    }

    /// When the next packet is due.
    #[inline]
    pub fn next_due(&self) -> Option<Moment> {
        let orderly = self.orderly.front().map(|waiting| waiting.at);
        match (orderly, self.overtaking.peek()) {
            (Some(orderly), Some(Reverse(overtaking))) => Some(orderly.min(overtaking.at)),
            (None, Some(Reverse(overtaking))) => Some(overtaking.at),
            (orderly, None) => orderly,
        }
    }

    /// The next packet that is due at `now`. Its buffer is to be [given back](Self::give_back).
    #[inline]
    pub fn pop_due(&mut self, now: Moment) -> Option<Packet<N>> {
        if self.next_due()? > now {
            return None;
        }
        let overtaken = match (self.orderly.front(), self.overtaking.peek()) {
            (Some(orderly), Some(Reverse(overtaking))) => overtaking < orderly,
            (orderly, _) => orderly.is_none(),
        };
        let waiting = if overtaken {
            self.overtaking.pop().map(|Reverse(waiting)| waiting)
        } else {
            self.orderly.pop_front()
        };
        waiting.map(|waiting| waiting.packet)
    }

    /// How many packets are on their way.
    pub fn len(&self) -> usize {
        self.orderly.len() + self.overtaking.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Buffers this line holds.
    fn buffers(&self) -> usize {
        self.len() + self.spare.len()
    }
}

/// A packet and its moment. Ordered by that and by turn, whatever the packet is.
#[derive(Debug)]
struct Waiting<N> {
    at: Moment,
    turn: u64,
    packet: Packet<N>,
}

impl<N> Waiting<N> {
    fn order(&self) -> (Moment, u64) {
        (self.at, self.turn)
    }
}

impl<N> PartialEq for Waiting<N> {
    fn eq(&self, other: &Self) -> bool {
        self.order() == other.order()
    }
}

impl<N> Eq for Waiting<N> {}

impl<N> PartialOrd for Waiting<N> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<N> Ord for Waiting<N> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.order().cmp(&other.order())
    }
}
