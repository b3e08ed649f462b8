//! The memory a measurement will fill, made ready before it.
//!
//! A virtual machine may get its memory from the machine beneath only at the first touch, and give back
//! what is free for a few seconds (free page reporting of virtio-balloon, Linux
//! `mm/page_reporting.c`). Dropping the page cache frees memory, so every cold read would then pay for
//! the machine beneath as well: measured here, 2.7 s per GiB, which halves what is left of two cores at
//! 1 Gbit/s. The same for every peer, and no property of any; so it is paid before the clock runs.

use std::fs;
use std::hint::black_box;

const PAGE: usize = 4096;
/// Touched at once; freed again before the next step would exceed what may be held.
const PIECE: usize = 64 << 20;
/// What moves is kept by the page caches of both ends (which is one here), by a disk cache's pages and
/// by programs' own memory.
const COPIES: u64 = 4;
/// Buffers of whatever size, for a small measurement.
const BASE_BYTES: u64 = 64 << 20;
/// Of what is available, at most so much.
const SHARE_MAX: u64 = 2;

/// Makes memory for a measurement ready that moves `bytes`.
pub(super) fn make_ready(bytes: u64) {
    let wanted = wanted(bytes, available().unwrap_or(0));
    let pieces = usize::try_from(wanted).unwrap_or(0) / PIECE;
    let mut held = Vec::with_capacity(pieces);
    for _ in 0..pieces {
        let mut piece = vec![0_u8; PIECE];
        for page in piece.chunks_mut(PAGE) {
            page[0] = 1;
        }
        held.push(black_box(piece));
    }
}

fn wanted(bytes: u64, available: u64) -> u64 {
    let wanted = bytes.saturating_mul(COPIES).saturating_add(BASE_BYTES);
    wanted.min(available / SHARE_MAX)
}

/// Memory that programs could get, in bytes.
fn available() -> Option<u64> {
    let table = fs::read_to_string("/proc/meminfo").ok()?;
    let line = table.lines().find(|l| l.starts_with("MemAvailable:"))?;
    Some(line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_copies_are_made_ready_but_at_most_half_of_what_there_is() {
        const GIB: u64 = 1 << 30;
        assert_eq!(wanted(GIB, 100 * GIB), 4 * GIB + BASE_BYTES);
        assert_eq!(wanted(GIB, 6 * GIB), 3 * GIB);
        assert_eq!(wanted(u64::MAX, 6 * GIB), 3 * GIB);
        assert_eq!(wanted(0, GIB), BASE_BYTES);
        assert_eq!(wanted(GIB, 0), 0);
    }

    #[test]
    fn this_machine_says_what_is_available() {
        assert!(available().is_some_and(|bytes| bytes > 0));
    }
}
