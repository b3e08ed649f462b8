//! Single flight: which blocks are being fetched, and who waits for them.
//!
//! Whoever misses blocks claims them. Those nobody fetches yet become his to fetch ([`Claimed`]); for
//! the others he waits ([`Waiting`]). A waiter is answered as soon as its own blocks have arrived.
//!
//! Ordering rule for users: a fetcher puts blocks into the memory cache *before* it publishes them,
//! and a claimer looks into the memory cache again *after* it claimed. Then no block is fetched twice:
//! either the claimer sees the flight, or the flight has ended and the memory cache has its blocks.
//!
//! Bounded by its users: an entry exists only while a claim on it does.
//! Lock: `table`, never across an await; waiters are woken after it is released.

use crate::chunk::Chunk;
use crate::key::ChunkKey;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::oneshot;
use wormhole_protocol::BlockMask;

/// The fetch of blocks somebody waited for was given up; ask again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the fetch was given up")]
pub struct Abandoned;

struct Waiter {
    want: BlockMask,
    answer: oneshot::Sender<Chunk>,
}

#[derive(Default)]
struct Flight {
    /// Blocks claimed and not yet published.
    owed: BlockMask,
    /// Claims that still exist.
    claims: usize,
    arrived: Option<Chunk>,
    waiters: Vec<Waiter>,
}

impl Flight {
    fn arrived(&self) -> Chunk {
        self.arrived.clone().unwrap_or(Chunk::empty())
    }
}

/// The table of flights.
#[derive(Default)]
pub struct Flights {
    table: Mutex<HashMap<ChunkKey, Flight>>,
}

/// What becomes of the blocks somebody misses.
pub struct Claim {
    /// Blocks that have arrived in a flight still under way.
    pub have: Chunk,
    /// Blocks the claimer must fetch now.
    pub mine: Option<Claimed>,
    /// Blocks others are fetching.
    pub theirs: Option<Waiting>,
}

impl Flights {
    /// Divides the blocks `want` of a chunk among what has arrived, the caller, and others.
    pub fn claim(self: &Arc<Self>, key: ChunkKey, want: BlockMask) -> Claim {
        let mut table = self.table.lock();
        let flight = table.entry(key).or_default();
        let have = flight.arrived();
        let theirs = want.and(flight.owed);
        let mine = want.minus(flight.owed).minus(have.mask());
        let theirs = (!theirs.is_empty()).then(|| {
            let (answer, receiver) = oneshot::channel();
            flight.waiters.retain(|waiter| !waiter.answer.is_closed());
            flight.waiters.push(Waiter {
                want: theirs,
                answer,
            });
            Waiting(receiver)
        });
        let mine = (!mine.is_empty()).then(|| {
            flight.owed = flight.owed.or(mine);
            flight.claims += 1;
            Claimed {
                flights: self.clone(),
                key,
                owed: mine,
            }
        });
        if flight.claims == 0 {
            table.remove(&key);
        }
        Claim { have, mine, theirs }
    }

    /// Chunks of which something is being fetched.
    pub fn len(&self) -> usize {
        self.table.lock().len()
    }

    /// Whether nothing is being fetched.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Blocks somebody has to fetch. Dropping it with blocks owed abandons these.
pub struct Claimed {
    flights: Arc<Flights>,
    key: ChunkKey,
    owed: BlockMask,
}

impl Claimed {
    /// Which chunk.
    pub const fn key(&self) -> ChunkKey {
        self.key
    }

    /// Blocks still owed.
    pub const fn mask(&self) -> BlockMask {
        self.owed
    }

    /// Gives blocks that arrived to all who wait for them. Put them into the memory cache first.
    pub fn publish(&mut self, chunk: &Chunk) {
        let brought = chunk.mask().and(self.owed);
        self.owed = self.owed.minus(brought);
        let mut woken = Vec::new();
        {
            let mut table = self.flights.table.lock();
            let Some(flight) = table.get_mut(&self.key) else {
                return;
            };
            flight.owed = flight.owed.minus(brought);
            let arrived = flight.arrived().merge(chunk);
            let mut at = 0;
            while at < flight.waiters.len() {
                if arrived.mask().contains(flight.waiters[at].want) {
                    woken.push(flight.waiters.swap_remove(at));
                } else {
                    at += 1;
                }
            }
            flight.arrived = Some(arrived.clone());
            for waiter in woken {
                let _ = waiter.answer.send(arrived.clone());
            }
        }
    }

    /// Whether somebody waits for blocks still owed.
    pub fn has_waiters(&self) -> bool {
        let table = self.flights.table.lock();
        table.get(&self.key).is_some_and(|flight| {
            let mut waiters = flight.waiters.iter();
            waiters.any(|w| !w.answer.is_closed() && !w.want.and(self.owed).is_empty())
        })
    }

    /// Whether publishing the blocks `mask` would complete what somebody waits for.
    pub fn would_wake(&self, mask: BlockMask) -> bool {
        let table = self.flights.table.lock();
        table.get(&self.key).is_some_and(|flight| {
            let present = mask.or(flight
                .arrived
                .as_ref()
                .map_or(BlockMask::EMPTY, Chunk::mask));
            let mut waiters = flight.waiters.iter();
            waiters.any(|w| !w.answer.is_closed() && present.contains(w.want))
        })
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        let mut table = self.flights.table.lock();
        let Some(flight) = table.get_mut(&self.key) else {
            return;
        };
        flight.owed = flight.owed.minus(self.owed);
        flight.claims -= 1;
        // A waiter whose sender goes learns that it was abandoned.
        flight
            .waiters
            .retain(|waiter| waiter.want.and(self.owed).is_empty());
        if flight.claims == 0 {
            table.remove(&self.key);
        }
    }
}

/// Waits for blocks others fetch; the chunk has at least these.
pub struct Waiting(oneshot::Receiver<Chunk>);

impl Future for Waiting {
    type Output = Result<Chunk, Abandoned>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0)
            .poll(context)
            .map(|answer| answer.map_err(|_| Abandoned))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::ContentDigest;
    use crate::memory::Memory;
    use bytes::Bytes;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use wormhole_protocol::ChunkIndex;
    use wormhole_protocol::limits::{BLOCK_BYTES, CHUNK_BYTES};

    const KEY: ChunkKey = ChunkKey::new(ContentDigest([1; 16]), ChunkIndex(0));

    fn blocks(first: usize, end: usize) -> Chunk {
        let bytes = Bytes::from(vec![5; (end - first) * BLOCK_BYTES]);
        Chunk::piece(first, bytes)
    }

    fn claim(flights: &Arc<Flights>, first: usize, end: usize) -> Claim {
        flights.claim(KEY, BlockMask::run(first, end))
    }

    /// What is known now, without waiting.
    fn poll(waiting: &mut Waiting) -> Option<Result<BlockMask, Abandoned>> {
        let mut context = Context::from_waker(std::task::Waker::noop());
        match Pin::new(waiting).poll(&mut context) {
            Poll::Ready(answer) => Some(answer.map(|chunk| chunk.mask())),
            Poll::Pending => None,
        }
    }

    /// Reads as a mount does; how often the host was asked.
    async fn read(flights: &Arc<Flights>, memory: &Memory, fetches: &AtomicUsize) -> Chunk {
        loop {
            let Claim { mine, theirs, .. } = flights.claim(KEY, BlockMask::FULL);
            if let Some(held) = memory.get(&KEY) {
                return held;
            }
            if let Some(mut mine) = mine {
                fetches.fetch_add(1, SeqCst);
                tokio::task::yield_now().await;
                let chunk = Chunk::piece(0, Bytes::from(vec![5; CHUNK_BYTES]));
                memory.insert(KEY, chunk.clone());
                mine.publish(&chunk);
                return chunk;
            }
            if let Some(theirs) = theirs
                && let Ok(chunk) = theirs.await
            {
                return chunk;
            }
        }
    }

    #[test]
    fn sixty_four_readers_cost_one_fetch() {
        let runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = { runtime }.worker_threads(4).build().unwrap();
        for _ in 0..50 {
            let flights = Arc::<Flights>::default();
            let memory = Arc::new(Memory::new(1 << 20));
            let fetches = Arc::<AtomicUsize>::default();
            runtime.block_on(async {
                let readers: Vec<_> = (0..64)
                    .map(|_| {
                        let (flights, memory) = (flights.clone(), memory.clone());
                        let fetches = fetches.clone();
                        tokio::spawn(async move { read(&flights, &memory, &fetches).await })
                    })
                    .collect();
                for reader in readers {
                    assert_eq!(reader.await.unwrap().mask(), BlockMask::FULL);
                }
            });
            assert_eq!(fetches.load(SeqCst), 1);
            assert!(flights.is_empty());
        }
    }

    #[test]
    fn blocks_are_divided_between_claims() {
        let flights = Arc::<Flights>::default();
        let first = claim(&flights, 0, 8).mine.unwrap();
        let second = claim(&flights, 4, 12);
        assert_eq!(first.mask(), BlockMask::run(0, 8));
        assert_eq!(second.mine.as_ref().unwrap().mask(), BlockMask::run(8, 12));
        assert!(second.theirs.is_some());
        let third = claim(&flights, 0, 12);
        assert!(third.mine.is_none() && third.theirs.is_some());
        assert_eq!(flights.len(), 1);
    }

    #[test]
    fn whoever_needs_less_is_answered_first() {
        let flights = Arc::<Flights>::default();
        let mut mine = claim(&flights, 0, 32).mine.unwrap();
        let mut all = claim(&flights, 0, 32).theirs.unwrap();
        let mut few = claim(&flights, 2, 4).theirs.unwrap();
        assert!(mine.has_waiters());
        assert!(!mine.would_wake(BlockMask::run(0, 3)));
        mine.publish(&blocks(0, 3));
        assert_eq!((poll(&mut few), poll(&mut all)), (None, None));
        assert!(
            mine.would_wake(BlockMask::run(3, 4)),
            "with what has arrived"
        );
        mine.publish(&blocks(3, 5));
        assert_eq!(poll(&mut few), Some(Ok(BlockMask::run(0, 5))));
        assert_eq!(poll(&mut all), None);
        // Who comes now has what arrived at once.
        let late = claim(&flights, 1, 5);
        assert_eq!(late.have.mask(), BlockMask::run(0, 5));
        assert!(late.mine.is_none() && late.theirs.is_none());
        mine.publish(&blocks(5, 32));
        assert_eq!(poll(&mut all), Some(Ok(BlockMask::FULL)));
        assert!(!mine.has_waiters());
        drop(mine);
        assert!(flights.is_empty());
    }

    #[test]
    fn a_fetch_given_up_tells_those_who_need_it_and_no_other() {
        let flights = Arc::<Flights>::default();
        let low = claim(&flights, 0, 8).mine.unwrap();
        let mut high = claim(&flights, 8, 16).mine.unwrap();
        let mut wants_low = claim(&flights, 0, 2).theirs.unwrap();
        let mut wants_high = claim(&flights, 8, 10).theirs.unwrap();
        let mut wants_both = claim(&flights, 7, 9).theirs.unwrap();
        drop(low);
        assert_eq!(poll(&mut wants_low), Some(Err(Abandoned)));
        assert_eq!(poll(&mut wants_both), Some(Err(Abandoned)));
        assert_eq!(poll(&mut wants_high), None);
        // What was given up is the next claimer's.
        let again = claim(&flights, 0, 8).mine.unwrap();
        assert_eq!(again.mask(), BlockMask::run(0, 8));
        high.publish(&blocks(8, 16));
        assert_eq!(poll(&mut wants_high), Some(Ok(BlockMask::run(8, 16))));
        drop(high);
        assert_eq!(flights.len(), 1);
        drop(again);
        assert!(flights.is_empty());
    }

    #[test]
    fn a_fetch_given_up_halfway_keeps_what_it_published() {
        let flights = Arc::<Flights>::default();
        let mut mine = claim(&flights, 0, 8).mine.unwrap();
        let other = claim(&flights, 8, 9).mine.unwrap();
        mine.publish(&blocks(0, 4));
        assert_eq!(mine.mask(), BlockMask::run(4, 8));
        let mut waits = claim(&flights, 2, 6).theirs.unwrap();
        drop(mine);
        assert_eq!(poll(&mut waits), Some(Err(Abandoned)));
        let next = claim(&flights, 2, 6);
        assert_eq!(next.have.mask(), BlockMask::run(0, 4));
        assert_eq!(next.mine.as_ref().unwrap().mask(), BlockMask::run(4, 6));
        drop(other);
        assert_eq!(flights.len(), 1);
        drop(next);
        assert!(flights.is_empty());
    }

    #[test]
    fn waiters_that_went_away_do_not_count() {
        let flights = Arc::<Flights>::default();
        let mut mine = claim(&flights, 0, 8).mine.unwrap();
        let waits = claim(&flights, 0, 2).theirs.unwrap();
        assert!(mine.has_waiters() && mine.would_wake(BlockMask::run(0, 2)));
        drop(waits);
        assert!(!mine.has_waiters() && !mine.would_wake(BlockMask::run(0, 2)));
        mine.publish(&blocks(0, 8));
        assert!(mine.mask().is_empty());
    }

    #[test]
    fn flights_may_end_in_any_order() {
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            let flights = Arc::<Flights>::default();
            let mut claims: Vec<_> = (0..3)
                .map(|i| Some(claim(&flights, i * 4, i * 4 + 4).mine.unwrap()))
                .collect();
            let mut waits = claim(&flights, 0, 12).theirs.unwrap();
            for (done, i) in order.into_iter().enumerate() {
                assert_eq!(poll(&mut waits), None);
                assert_eq!(flights.len(), 1);
                let mut ended = claims[i].take().unwrap();
                ended.publish(&blocks(i * 4, i * 4 + 4));
                drop(ended);
                assert_eq!(flights.is_empty(), done == 2);
            }
            assert_eq!(poll(&mut waits), Some(Ok(BlockMask::run(0, 12))));
        }
    }
}
