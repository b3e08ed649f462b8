//! Segments against plain arrays of bytes: whatever is written, sent, answered and lost in whatever order.

#![allow(
    clippy::cast_possible_truncation,
    reason = "the numbers of a test are small"
)]

use super::*;
use proptest::prelude::*;

const SMALL: Bounds = Bounds {
    segment_bytes: 32,
    page_bytes: 4,
    in_flight_max: 3,
};
/// The file of the model.
const FILE_BYTES: usize = 160;

fn dirty() -> Dirty<u8> {
    Dirty::new(SMALL)
}

/// Takes all of a write, as a writer does.
fn write(dirty: &mut Dirty<u8>, route: u8, offset: u64, data: &[u8]) -> Vec<Taken> {
    let (mut at, mut taken) = (0, Vec::new());
    while at < data.len() {
        taken.push(dirty.take(&route, offset + at as u64, &data[at..]));
        at += taken.last().unwrap().bytes;
    }
    taken
}

fn sent(dirty: &mut Dirty<u8>) -> Vec<(u64, Vec<u8>)> {
    std::iter::from_fn(|| dirty.send())
        .map(|segment| (segment.offset, segment.data))
        .collect()
}

#[test]
fn contiguous_writes_become_one_segment_and_a_full_one_may_go() {
    let mut dirty = dirty();
    for at in 0..7 {
        write(&mut dirty, 0, at * 4, &[1; 4]);
        assert!(!dirty.can_send());
    }
    let taken = write(&mut dirty, 0, 28, &[2; 8]);
    assert_eq!(taken.len(), 2, "the second half begins a segment");
    let mut whole = vec![1; 28];
    whole.extend([2; 4]);
    assert_eq!(sent(&mut dirty), [(0, whole)]);
    assert!(dirty.is_open());
    dirty.seal();
    assert_eq!(sent(&mut dirty), [(32, vec![2; 4])]);
}

#[test]
fn a_jump_seals_the_segment_before_it() {
    let mut dirty = dirty();
    write(&mut dirty, 0, 0, b"ab");
    write(&mut dirty, 0, 100, b"cd");
    assert_eq!(sent(&mut dirty), [(0, b"ab".to_vec())]);
    assert_eq!(dirty.end(), Some(102));
    assert!(dirty.overlaps(1, 2) && !dirty.overlaps(2, 100) && dirty.overlaps(101, 200));
}

#[test]
fn what_was_not_sent_is_written_over_in_place() {
    let mut dirty = dirty();
    write(&mut dirty, 0, 0, b"abcdef");
    let taken = write(&mut dirty, 0, 4, b"EFGH");
    assert_eq!(taken[0].dirtied, 0);
    assert_eq!((taken[1].dirtied, taken[1].begun), (2, false));
    dirty.seal();
    assert_eq!(sent(&mut dirty), [(0, b"abcdEFGH".to_vec())]);
}

#[test]
fn bytes_beneath_a_newer_segment_stay_beneath_it() {
    let mut dirty = dirty();
    write(&mut dirty, 0, 4, b"old!");
    write(&mut dirty, 0, 2, b"newer");
    // It lies wholly in the older one, but the newer one would cover it again.
    write(&mut dirty, 0, 5, b"z");
    dirty.seal();
    let first = dirty.send().unwrap();
    assert_eq!(first.data, b"old!");
    assert!(dirty.send().is_none(), "the two overlap");
    dirty.answered(first.id);
    assert_eq!(dirty.send().unwrap().data, b"newzr");
}

#[test]
fn a_segment_that_grows_into_one_under_way_waits_for_it() {
    let mut dirty = dirty();
    write(&mut dirty, 0, 8, b"under way");
    dirty.seal();
    let under_way = dirty.send().unwrap();
    write(&mut dirty, 0, 0, b"before..");
    dirty.seal();
    assert!(dirty.can_send());
    write(&mut dirty, 0, 8, b"later");
    assert!(!dirty.can_send());
    dirty.answered(under_way.id);
    assert_eq!(sent(&mut dirty), [(0, b"before..later".to_vec())]);
}

#[test]
fn a_segment_that_had_to_wait_still_waits_for_more() {
    let mut dirty = dirty();
    write(&mut dirty, 0, 0, b"first");
    dirty.seal();
    let first = dirty.send().unwrap();
    write(&mut dirty, 0, 0, b"second");
    dirty.answered(first.id);
    assert!(!dirty.can_send() && dirty.is_open());
    write(&mut dirty, 0, 6, b" part");
    dirty.seal();
    assert_eq!(sent(&mut dirty), [(0, b"second part".to_vec())]);
}

#[test]
fn what_goes_elsewhere_is_a_segment_of_its_own() {
    let mut dirty = dirty();
    write(&mut dirty, 0, 0, b"ab");
    write(&mut dirty, 1, 2, b"cd");
    write(&mut dirty, 0, 2, b"CD");
    dirty.seal();
    let first = dirty.send().unwrap();
    let second = dirty.send().unwrap();
    assert_eq!((first.route, second.route), (0, 1));
    assert!(dirty.send().is_none());
    dirty.answered(second.id);
    assert_eq!(dirty.send().unwrap().data, b"CD");
}

#[test]
fn little_costs_a_page_and_no_more_than_a_few_are_under_way() {
    let mut dirty = dirty();
    for n in 0..5 {
        let taken = write(&mut dirty, 0, n * 10, b"x");
        assert_eq!(taken[0].pages, 1);
    }
    dirty.seal();
    let under_way: Vec<_> = std::iter::from_fn(|| dirty.send()).collect();
    assert_eq!(under_way.len(), 3);
    let freed = dirty.answered(under_way[1].id);
    assert_eq!((freed.bytes, freed.pages), (1, 1));
    assert_eq!(sent(&mut dirty).len(), 1);
}

#[test]
fn room_for_more_than_came_is_given_back() {
    let bounds = Bounds {
        segment_bytes: 1 << 20,
        page_bytes: 4096,
        in_flight_max: 1,
    };
    let mut dirty = Dirty::new(bounds);
    dirty.take(&0, 0, &[1; 10]);
    dirty.take(&0, 10, &[1; 10]);
    dirty.seal();
    assert!(dirty.send().unwrap().data.capacity() < 4096);
}

#[derive(Debug, Clone)]
enum Step {
    Write(u8, usize, usize),
    Seal,
    Send,
    /// Which of those under way, and whether it went well.
    Answer(usize, bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..2u8, 0..FILE_BYTES, 1..50usize).prop_map(|(r, o, l)| Step::Write(r, o, l)),
        // Going on where the last write ended.
        4 => (1..20usize).prop_map(|l| Step::Write(0, usize::MAX, l)),
        1 => Just(Step::Seal),
        4 => Just(Step::Send),
        3 => (any::<usize>(), prop::bool::weighted(0.9)).prop_map(|(n, ok)| Step::Answer(n, ok)),
    ]
}

/// What the world around the segments looks like.
struct World {
    dirty: Dirty<u8>,
    /// What the program believes it wrote, and what the host has.
    written: [u8; FILE_BYTES],
    host: [u8; FILE_BYTES],
    /// Bytes that were lost with a segment that failed, and not written since.
    lost: [bool; FILE_BYTES],
    under_way: Vec<Sending<u8>>,
    pages: usize,
    stamp: u8,
    at: usize,
}

impl World {
    fn step(&mut self, step: &Step) {
        match *step {
            Step::Write(route, offset, len) => {
                let offset = if offset == usize::MAX {
                    self.at
                } else {
                    offset
                };
                let end = (offset + len).min(FILE_BYTES);
                if offset < end {
                    self.write(route, offset, end);
                }
            }
            Step::Seal => self.dirty.seal(),
            Step::Send => self.send(),
            Step::Answer(n, is_ok) if !self.under_way.is_empty() => {
                let segment = self.under_way.swap_remove(n % self.under_way.len());
                self.answer(segment, is_ok);
            }
            Step::Answer(..) => {}
        }
        self.check();
    }

    fn write(&mut self, route: u8, offset: usize, end: usize) {
        self.stamp = self.stamp.wrapping_add(1);
        let data: Vec<u8> = (offset..end).map(|i| self.stamp ^ (i as u8) << 4).collect();
        for taken in write(&mut self.dirty, route, offset as u64, &data) {
            assert!(taken.pages <= taken.bytes.div_ceil(SMALL.page_bytes));
            self.pages += taken.pages;
        }
        self.written[offset..end].copy_from_slice(&data);
        self.at = end % FILE_BYTES;
    }

    fn send(&mut self) {
        let Some(segment) = self.dirty.send() else {
            return;
        };
        let range = range(&segment);
        assert!(range.len() <= SMALL.segment_bytes);
        for other in self.under_way.iter().map(self::range) {
            assert!(range.end <= other.start || other.end <= range.start);
        }
        self.under_way.push(segment);
        assert!(self.under_way.len() <= SMALL.in_flight_max);
    }

    fn answer(&mut self, segment: Sending<u8>, is_ok: bool) {
        let range = range(&segment);
        if is_ok {
            self.host[range.clone()].copy_from_slice(&segment.data);
        }
        self.lost[range].fill(!is_ok);
        self.pages -= self.dirty.answered(segment.id).pages;
    }

    fn check(&self) {
        let segments: Vec<_> = self.dirty.segments.values().collect();
        assert_eq!(self.dirty.end(), segments.iter().map(|s| s.end()).max());
        let pages = segments.iter().map(|s| s.len.div_ceil(SMALL.page_bytes));
        assert_eq!(self.pages, pages.sum::<usize>());
        // Every segment but the newest can go, or waits for one that will.
        let stuck = segments.iter().rev().skip(1).any(|s| !s.sealed);
        assert!(!stuck);
    }

    fn finish(&mut self) {
        self.dirty.seal();
        while !self.dirty.is_empty() {
            while self.dirty.can_send() {
                self.send();
            }
            let segment = self.under_way.pop().expect("something is always under way");
            self.answer(segment, true);
        }
        assert_eq!(self.pages, 0);
        for at in 0..FILE_BYTES {
            assert!(
                self.lost[at] || self.host[at] == self.written[at],
                "byte {at}"
            );
        }
    }
}

fn range(segment: &Sending<u8>) -> std::ops::Range<usize> {
    let offset = segment.offset as usize;
    offset..offset + segment.data.len()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_host_ends_up_with_what_was_written_last(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World {
            dirty: dirty(),
            written: [0; FILE_BYTES],
            host: [0; FILE_BYTES],
            lost: [false; FILE_BYTES],
            under_way: Vec::new(),
            pages: 0,
            stamp: 0,
            at: 0,
        };
        for step in &steps {
            world.step(step);
        }
        world.finish();
    }
}
