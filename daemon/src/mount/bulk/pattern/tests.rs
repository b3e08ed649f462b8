//! What is fetched for readers of every kind, in a directory that exists only as numbers.

use super::*;

const KIB: u64 = 1024;
const MAX: u64 = 1024 * KIB;
const FILE: u32 = 10 * 1024;

/// `count` files of 10 KiB, whose names are in the reverse order of the listing.
fn pattern(count: u32) -> Pattern {
    let sizes = vec![FILE; count as usize];
    Pattern::new(sizes, (0..count).rev().collect())
}

/// Reads a file and fetches what the pattern says.
fn read(pattern: &mut Pattern, file: u32) -> (Seen, Vec<u32>) {
    let seen = pattern.observe(file, MAX);
    let left = pattern.window_bytes().saturating_sub(pattern.ahead_bytes());
    (seen, pattern.plan(left))
}

#[test]
fn in_the_order_of_the_listing_all_but_the_first_files_are_fetched_before_they_are_read() {
    let mut pattern = pattern(100);
    assert_eq!(read(&mut pattern, 0), (Seen::Miss, vec![]));
    let (seen, first) = read(&mut pattern, 1);
    assert_eq!((seen, &first[..3]), (Seen::Miss, &[2, 3, 4][..]));
    let first = first.len();
    let mut fetched = 2 + first;
    for file in 2..100 {
        let (seen, next) = read(&mut pattern, file);
        assert_eq!(seen, Seen::Hit, "{file}");
        fetched += next.len();
        assert!(pattern.ahead_bytes() <= MAX);
    }
    assert_eq!(fetched, 100);
    assert!(pattern.is_exhausted());
    assert_eq!((pattern.ahead_bytes(), pattern.read_count()), (0, 100));
}

#[test]
fn the_window_doubles_with_each_that_was_read_up_to_the_bound() {
    let mut pattern = pattern(1000);
    let mut windows = Vec::new();
    for file in 0..200 {
        read(&mut pattern, file);
        windows.push(pattern.window_bytes());
    }
    assert_eq!(windows[0], 0);
    assert_eq!(windows[1], MAX / WINDOW_FIRST_PART);
    assert!(windows[1..].windows(2).all(|w| w[0] <= w[1]));
    assert!(windows[20] >= 2 * windows[1]);
    assert_eq!(*windows.last().unwrap(), MAX);
}

#[test]
fn in_the_order_of_names_the_next_names_are_fetched() {
    let mut pattern = pattern(100);
    read(&mut pattern, 99);
    let (_, next) = read(&mut pattern, 98);
    assert_eq!(next[..3], [97, 96, 95]);
    assert_eq!(pattern.order(), Order::Name);
}

#[test]
fn threads_that_overtake_each_other_are_one_run() {
    let mut pattern = pattern(100);
    for file in [1, 0, 3, 2, 5, 4, 7, 6] {
        read(&mut pattern, file);
    }
    assert!((8..20).all(|file| read(&mut pattern, file).0 == Seen::Hit));
}

#[test]
fn in_no_order_twice_what_was_read_is_fetched_and_soon_all() {
    let mut pattern = pattern(100);
    let mut missed = 0;
    let mut fetched = 0;
    for i in 0..100_u32 {
        // Each file once, far from the one before.
        let (seen, next) = read(&mut pattern, i * 37 % 100);
        missed += u32::from(seen == Seen::Miss);
        fetched += next.len();
        let read = usize::try_from(i + 1).unwrap();
        assert!(fetched <= 4 * read, "{fetched} after {read}");
    }
    assert!(missed <= 30, "{missed}");
    assert_eq!(pattern.ahead_bytes(), 0);
}

#[test]
fn one_file_or_two_apart_fetch_nothing() {
    let mut pattern = pattern(1000);
    assert_eq!(read(&mut pattern, 500), (Seen::Miss, vec![]));
    assert_eq!(read(&mut pattern, 20), (Seen::Miss, vec![]));
    assert_eq!(read(&mut pattern, 20), (Seen::Other, vec![]));
}

#[test]
fn a_pattern_that_breaks_fetches_no_more() {
    let mut pattern = pattern(10_000);
    for file in 0..50 {
        read(&mut pattern, file);
    }
    let ahead = pattern.ahead_bytes();
    let mut more = 0;
    for i in 0..20 {
        more += read(&mut pattern, 1000 + 400 * i).1.len();
    }
    assert_eq!(more, 0);
    assert_eq!(pattern.ahead_bytes(), ahead);
}

#[test]
fn reading_all_of_it_again_begins_anew() {
    let mut pattern = pattern(30);
    for file in 0..30 {
        read(&mut pattern, file);
    }
    // One file that is read over and over is no second pass.
    assert_eq!(read(&mut pattern, 7), (Seen::Other, vec![]));
    let mut fetched = 0;
    for file in 0..30 {
        fetched += read(&mut pattern, file).1.len();
    }
    assert!(fetched > 20, "{fetched}");
}

#[test]
fn what_is_here_already_or_came_to_nothing_is_not_ahead() {
    let mut pattern = pattern(20);
    read(&mut pattern, 0);
    let (_, next) = read(&mut pattern, 1);
    pattern.settle(next[0]);
    pattern.take_back(next[1]);
    let ahead = (next.len() - 2) as u64 * u64::from(FILE);
    assert_eq!(pattern.ahead_bytes(), ahead);
    let (seen, more) = read(&mut pattern, next[0]);
    assert_eq!((seen, more[0]), (Seen::Other, next[1]));
}

#[test]
fn a_directory_that_is_expected_is_fetched_from_its_beginning() {
    let mut pattern = pattern(100);
    pattern.expect(Order::Name, 100 * KIB);
    assert_eq!(pattern.plan(35 * KIB), [99, 98, 97]);
    assert_eq!(pattern.observe(99, MAX), Seen::Hit);
    assert_eq!(pattern.window_bytes(), 100 * KIB + 2 * u64::from(FILE));
}
