//! What a share has been asked and has answered, in numbers.

use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use wormhole_protocol::{Fault, Request};

/// The kinds of request, by the names metrics use.
const KINDS: [&str; 21] = [
    "lookup",
    "getattr",
    "readlink",
    "list",
    "read",
    "statfs",
    "getxattr",
    "listxattr",
    "seek",
    "change",
    "lock",
    "unlock",
    "unlockall",
    "testlock",
    "listen",
    "heard",
    "readmany",
    "revalidate",
    "tree",
    "reserve",
    "vouch",
];

fn kind(request: &Request) -> usize {
    match request {
        Request::Lookup { .. } => 0,
        Request::Getattr { .. } => 1,
        Request::Readlink { .. } => 2,
        Request::List { .. } => 3,
        Request::Read { .. } => 4,
        Request::StatFs => 5,
        Request::GetXattr { .. } => 6,
        Request::ListXattr { .. } => 7,
        Request::Seek { .. } => 8,
        Request::Change { .. } => 9,
        Request::Lock { .. } => 10,
        Request::Unlock { .. } => 11,
        Request::UnlockAll { .. } => 12,
        Request::TestLock { .. } => 13,
        Request::Listen => 14,
        Request::Heard { .. } => 15,
        Request::ReadMany { .. } => 16,
        Request::Revalidate { .. } => 17,
        Request::Tree { .. } => 18,
        Request::Reserve { .. } => 19,
        Request::Vouch { .. } => 20,
    }
}

/// The counters of one share.
#[derive(Debug, Default)]
pub(super) struct Counters {
    requests: [AtomicU64; KINDS.len()],
    faults: [AtomicU64; Fault::ALL.len()],
    in_flight: AtomicU64,
    /// Sessions admitted since the start.
    pub(super) sessions_total: AtomicU64,
    /// Payload handed to the transport: file contents and listing frames.
    pub(super) payload_bytes: AtomicU64,
    /// Bytes behind changes, received.
    pub(super) received_bytes: AtomicU64,
    /// Directory entries sent.
    pub(super) entries: AtomicU64,
    /// Directory entries left out because they could not be read.
    pub(super) entries_skipped: AtomicU64,
    /// First segments read again because the file changed meanwhile.
    pub(super) rereads: AtomicU64,
    /// Replies broken off because the mount took nothing for too long.
    pub(super) stalls: AtomicU64,
}

/// The counters of a share at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CountersSnapshot {
    /// Requests begun, by kind.
    pub requests: BTreeMap<&'static str, u64>,
    /// Faults answered or replies broken off with one, by fault.
    pub faults: BTreeMap<String, u64>,
    /// Requests being answered.
    pub in_flight: u64,
    /// Sessions admitted since the start.
    pub sessions_total: u64,
    /// Payload bytes handed to the transport: file contents and listing frames.
    pub payload_bytes: u64,
    /// Bytes behind changes, received.
    pub received_bytes: u64,
    /// Directory entries sent.
    pub entries: u64,
    /// Directory entries left out because they could not be read.
    pub entries_skipped: u64,
    /// First segments read again because the file changed meanwhile.
    pub rereads: u64,
    /// Replies broken off because the mount took nothing for too long.
    pub stalls: u64,
}

impl Counters {
    /// Counts a request, and that it is being answered until the guard goes.
    pub(super) fn begin(self: &Arc<Self>, request: &Request) -> InFlight {
        add(&self.requests[kind(request)], 1);
        add(&self.in_flight, 1);
        InFlight(self.clone())
    }

    /// Counts a fault.
    pub(super) fn fault(&self, fault: Fault) {
        if let Some(index) = Fault::ALL.iter().position(|f| *f == fault) {
            add(&self.faults[index], 1);
        }
    }

    /// The numbers now.
    pub(super) fn snapshot(&self) -> CountersSnapshot {
        let faults = Fault::ALL.iter().zip(&self.faults);
        CountersSnapshot {
            requests: KINDS
                .iter()
                .zip(&self.requests)
                .map(|(k, n)| (*k, get(n)))
                .collect(),
            faults: faults
                .map(|(fault, n)| (format!("{fault:?}"), get(n)))
                .collect(),
            in_flight: get(&self.in_flight),
            sessions_total: get(&self.sessions_total),
            payload_bytes: get(&self.payload_bytes),
            received_bytes: get(&self.received_bytes),
            entries: get(&self.entries),
            entries_skipped: get(&self.entries_skipped),
            rereads: get(&self.rereads),
            stalls: get(&self.stalls),
        }
    }
}

/// Adds to a counter.
pub(super) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

/// Reads a counter.
pub(super) fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// A request that is being answered.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Counters>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
