//! No bytes make a decoder take more memory than its limit: counted by the allocator itself.
//!
//! The count is per thread, so that tests of this file may run side by side.

#[path = "support/mutate.rs"]
mod mutate;
#[path = "support/samples.rs"]
mod samples;

use mutate::{Random, hostile, lengths};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use wormhole_protocol::codec::Wire;
use wormhole_protocol::limits::{FRAME_PREFIX_BYTES, TICKET_CHARS_MAX};
use wormhole_protocol::{
    FileFrame, Hello, HelloReply, ListFrame, Push, Reply, Request, Ticket, TreeFrame,
};

thread_local! {
    static TAKEN_BYTES: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, counting what the current thread ever asked for.
struct Counting;

// SAFETY: every call goes to `System` unchanged; counting touches only a constant-initialised
// thread-local without destructor, which itself never allocates.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        TAKEN_BYTES.set(TAKEN_BYTES.get().saturating_add(layout.size()));
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`; `block` came from `System`.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Room for small things that are no part of the value, such as an error's text.
const SLACK_BYTES: usize = 1024;
const CASES: usize = 20_000;

/// Bytes allocated, freed again or not, while `work` ran.
fn taken_by<T>(work: impl FnOnce() -> T) -> usize {
    let before = TAKEN_BYTES.get();
    let result = work();
    let taken = TAKEN_BYTES.get() - before;
    drop(result);
    taken
}

fn bounded<T: Wire>(samples: Vec<samples::Sample<T>>) {
    let valid: Vec<Vec<u8>> = samples
        .into_iter()
        .map(|(_, value)| value.to_frame().expect("within limits")[FRAME_PREFIX_BYTES..].to_vec())
        .collect();
    let lengths = lengths();
    let check = |bytes: &[u8]| {
        let taken = taken_by(|| T::from_body(bytes));
        // The decoder's own limit, and once more for containers: it gives their bytes back to the
        // budget while their items are being read.
        let limit = 4 * T::BYTES_MAX + SLACK_BYTES;
        assert!(taken <= limit, "{taken} > {limit} for {bytes:02x?}");
    };
    for good in &valid {
        for at in 0..good.len() {
            for length in &lengths {
                let mut bad = good.clone();
                bad.splice(at..=at, length.iter().copied());
                check(&bad);
            }
        }
    }
    let mut random = Random(7);
    for _ in 0..CASES {
        check(&hostile(&mut random, &valid, &lengths));
    }
    for byte in 0..=255 {
        check(&vec![byte; T::BYTES_MAX]);
        check(&vec![byte; T::BYTES_MAX + 1]);
    }
}

#[test]
fn the_allocator_is_counted() {
    assert!(taken_by(|| vec![0u8; 1 << 20]) >= 1 << 20);
    assert_eq!(taken_by(|| 1 + 1), 0);
}

#[test]
fn hellos_are_bounded() {
    bounded::<Hello>(samples::hellos());
}

#[test]
fn hello_replies_are_bounded() {
    bounded::<HelloReply>(samples::hello_replies());
}

#[test]
fn requests_are_bounded() {
    bounded::<Request>(samples::requests());
}

#[test]
fn replies_are_bounded() {
    bounded::<Reply>(samples::replies());
}

#[test]
fn list_frames_are_bounded() {
    bounded::<ListFrame>(samples::list_frames());
}

#[test]
fn pushes_are_bounded() {
    bounded::<Push>(samples::pushes());
}

#[test]
fn file_frames_are_bounded() {
    bounded::<FileFrame>(samples::file_frames());
}

#[test]
fn tree_frames_are_bounded() {
    bounded::<TreeFrame>(samples::tree_frames());
}

#[test]
fn tickets_are_bounded() {
    for chars in [0, 8, TICKET_CHARS_MAX, TICKET_CHARS_MAX + 1, 10 << 20] {
        let text = format!("wh1{}", "q".repeat(chars));
        let taken = taken_by(|| text.parse::<Ticket>());
        assert!(taken <= 8 * TICKET_CHARS_MAX, "{taken} for {chars}");
    }
}
