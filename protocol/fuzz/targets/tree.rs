//! Fuzzes the reader of whole trees, compression and all: it ends, and yields no more than was asked for.

#![no_main]

use wormhole_protocol::TreeDecoder;

const ENTRIES_MAX: usize = 100;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut decoder = TreeDecoder::open(ENTRIES_MAX).expect("memory");
    let mut input = bytes;
    let mut entries = 0;
    while let Ok(Some(frame)) = decoder.next(&mut input) {
        entries += frame.entries_len();
    }
    assert!(entries <= ENTRIES_MAX);
});
