//! Order, bounds and the reuse of buffers.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use super::*;
use proptest::prelude::*;

fn at(nanos: u64) -> Moment {
    Moment::from_nanos(nanos)
}

fn put(line: &mut DelayLine, due: u64, label: u8) -> Result<(), Full> {
    let mut packet = line.lend();
    packet.buffer_mut()[0] = label;
    packet.set_len(1);
    line.push(at(due), packet)
}

fn take(line: &mut DelayLine, now: u64) -> Option<u8> {
    let packet = line.pop_due(at(now))?;
    let label = packet[0];
    line.give_back(packet);
    Some(label)
}

#[test]
fn nothing_leaves_before_its_moment() {
    let mut line = DelayLine::new(4, 400);
    assert_eq!(line.next_due(), None);
    put(&mut line, 10, 1).unwrap();
    assert_eq!(line.next_due(), Some(at(10)));
    assert_eq!(take(&mut line, 9), None);
    assert_eq!(take(&mut line, 10), Some(1));
    assert!(line.is_empty());
}

#[test]
fn equals_leave_in_the_order_they_came_also_after_an_overtaker() {
    let mut line = DelayLine::new(4, 400);
    for (label, due) in [(1, 10), (2, 30), (3, 20), (4, 20), (5, 30), (6, 10)] {
        put(&mut line, due, label).unwrap();
    }
    let out: Vec<u8> = std::iter::from_fn(|| take(&mut line, 30)).collect();
    assert_eq!(out, [1, 6, 3, 4, 2, 5]);
}

#[test]
fn an_orderly_packet_does_not_pass_an_equal_overtaker() {
    let mut line = DelayLine::new(4, 400);
    put(&mut line, 30, 1).unwrap();
    put(&mut line, 20, 2).unwrap();
    // The queue is empty once the first has left, so this one stands in it.
    assert_eq!(take(&mut line, 20), Some(2));
    put(&mut line, 25, 3).unwrap();
    assert_eq!(take(&mut line, 30), Some(3));
    assert_eq!(take(&mut line, 30), Some(1));
}

#[test]
fn a_packet_is_as_long_as_it_says_and_no_longer_than_its_buffer() {
    let mut line = DelayLine::<()>::new(4, 400);
    let mut packet = line.lend();
    packet.buffer_mut().copy_from_slice(b"abcd");
    packet.set_len(3);
    assert_eq!(&*packet, b"abc");
    packet.set_len(5);
    assert_eq!(&*packet, b"abcd");
}

#[test]
fn a_full_line_gives_the_packet_back() {
    let mut line = DelayLine::new(100, 250);
    put(&mut line, 1, 1).unwrap();
    put(&mut line, 2, 2).unwrap();
    let Err(Full(packet)) = put(&mut line, 3, 3) else {
        panic!("a third buffer of 100 bytes does not fit in 250");
    };
    assert_eq!(packet[0], 3);
    line.give_back(packet);
    assert_eq!(take(&mut line, 3), Some(1));
    put(&mut line, 3, 4).unwrap();
    assert_eq!(line.len(), 2);
}

#[test]
fn one_packet_always_has_room() {
    let mut line = DelayLine::new(100, 0);
    put(&mut line, 1, 1).unwrap();
    assert!(put(&mut line, 1, 2).is_err());
    assert_eq!(take(&mut line, 1), Some(1));
}

#[test]
fn buffers_are_used_again() {
    let mut line = DelayLine::new(100, 1_000);
    for label in 0..5 {
        put(&mut line, 0, label).unwrap();
    }
    while take(&mut line, 0).is_some() {}
    let known: Vec<*const u8> = line.spare.iter().map(|p| p.buffer.as_ptr()).collect();
    assert_eq!(known.len(), 5);
    for round in 0..50 {
        put(&mut line, round, 0).unwrap();
        let packet = line.pop_due(at(round)).unwrap();
        assert!(known.contains(&packet.buffer.as_ptr()));
        line.give_back(packet);
    }
    assert_eq!(line.spare.len(), 5);
}

#[test]
fn spare_buffers_count_against_the_limit() {
    let mut line = DelayLine::new(100, 300);
    let lent: Vec<Packet> = (0..5).map(|_| line.lend()).collect();
    for packet in lent {
        line.give_back(packet);
    }
    assert_eq!(line.buffers(), 3);
    // A packet of someone else's takes the place of a spare one.
    line.push(at(1), Packet::new(100)).unwrap();
    assert_eq!((line.len(), line.buffers()), (1, 3));
}

#[test]
fn buffers_of_another_size_are_not_kept() {
    let mut line = DelayLine::<()>::new(100, 1_000);
    line.give_back(Packet::new(7));
    assert_eq!(line.lend().buffer.len(), 100);
}

proptest! {
    /// Against a list that is sorted (stably) each time.
    #[test]
    fn agrees_with_a_sorted_list(steps in prop::collection::vec((any::<bool>(), 0_u64..40), 1..400)) {
        let mut line = DelayLine::new(1, 64);
        let mut list: Vec<(u64, u8)> = Vec::new();
        for (label, (push, moment)) in steps.into_iter().enumerate() {
            if push {
                let label = u8::try_from(label % 256).unwrap();
                let room = list.len() < 64;
                prop_assert_eq!(put(&mut line, moment, label).is_ok(), room);
                if room {
                    list.push((moment, label));
                    list.sort_by_key(|(due, _)| *due);
                }
            } else {
                let due = list.first().is_some_and(|(due, _)| *due <= moment);
                let expected = due.then(|| list.remove(0).1);
                prop_assert_eq!(take(&mut line, moment), expected);
            }
            prop_assert_eq!(line.len(), list.len());
            prop_assert_eq!(line.next_due(), list.first().map(|(due, _)| at(*due)));
            prop_assert!(line.buffers() <= 64);
        }
    }
}
