//! Pins: names under which contents are kept, and the file that remembers them.
//!
//! ```text
//! magic 8, version u32, pins u32, then for each pin:
//!   name length u32, name, contents u32, then for each content: digest 16, size u64
//! blake3 of all before, 32
//! ```
//! All numbers are little endian. What the names mean, the mount knows; here they are bytes. The file is
//! replaced as a whole, and one that is not whole is not believed: then nothing is pinned.

use crate::disk::file;
use crate::disk::layout::{HEADER_BYTES, SLOT_BYTES, SharePaths, array};
use crate::disk::limits::{PACKED_BYTES_MAX, PIN_NAME_BYTES_MAX, PINNED_CONTENTS_MAX, PINS_MAX};
use crate::disk::pack::RECORD_BYTES;
use crate::key::ContentDigest;
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::PathBuf;
use wormhole_protocol::limits::{CHUNK_BYTES, OFFSET_MAX};

const MAGIC: [u8; 8] = *b"wormpins";
const VERSION: u32 = 1;
const CONTENT_BYTES: usize = 24;
const SUM_BYTES: usize = 32;
/// Largest file that is read.
const FILE_BYTES_MAX: usize =
    16 + PINS_MAX * (8 + PIN_NAME_BYTES_MAX) + PINNED_CONTENTS_MAX * CONTENT_BYTES + SUM_BYTES;
/// What file systems give out at the least.
const ROOM_BYTES: u64 = 4096;

/// A content that is pinned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PinnedContent {
    pub(crate) digest: ContentDigest,
    pub(crate) size: u64,
}

impl PinnedContent {
    /// The room it takes when all of it is here and none of it is a hole.
    pub(crate) fn room(&self) -> u64 {
        if self.size <= PACKED_BYTES_MAX {
            return self.size + RECORD_BYTES as u64;
        }
        let slots = self.size.div_ceil(CHUNK_BYTES as u64) * SLOT_BYTES as u64;
        self.size.next_multiple_of(ROOM_BYTES)
            + (HEADER_BYTES as u64 + slots).next_multiple_of(ROOM_BYTES)
    }
}

/// Pins by name; the contents of each in order, none twice.
pub(crate) type Pins = BTreeMap<Vec<u8>, Vec<PinnedContent>>;

/// The pins of a share; none if the file cannot be believed, which is said.
pub(crate) fn load(paths: &SharePaths) -> io::Result<Result<Pins, ()>> {
    let file = match file::open_read(&paths.pins()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Ok(Pins::new())),
        other => other?,
    };
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)?;
    Ok(decode(&bytes).ok_or(()))
}

/// Writes the pins of a share, in place of those there were.
pub(crate) fn save(paths: &SharePaths, pins: &Pins) -> io::Result<()> {
    let path = paths.pins();
    let new = PathBuf::from(format!("{}.new", path.display()));
    file::remove(&new)?;
    let file = file::create(&new)?;
    file::write_at(&file, &encode(pins), 0)?;
    // A user said what to keep: that is not lost with the power.
    file.sync_all()?;
    std::fs::rename(&new, &path)
}

fn encode(pins: &Pins) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    let word = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes();
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend(word(pins.len()));
    for (name, contents) in pins {
        bytes.extend(word(name.len()));
        bytes.extend(name);
        bytes.extend(word(contents.len()));
        for content in contents {
            bytes.extend(content.digest.0);
            bytes.extend(content.size.to_le_bytes());
        }
    }
    let sum = blake3::hash(&bytes);
    bytes.extend(sum.as_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<Pins> {
    let (bytes, sum) = bytes.split_at_checked(bytes.len().checked_sub(SUM_BYTES)?)?;
    if blake3::hash(bytes).as_bytes() != sum {
        return None;
    }
    let mut rest = bytes;
    if take(&mut rest, 8)? != MAGIC || word(&mut rest)? != VERSION {
        return None;
    }
    let count = word(&mut rest)?;
    let (mut pins, mut contents_count) = (Pins::new(), 0);
    for _ in 0..count {
        let name_len = word(&mut rest)? as usize;
        let name = take(&mut rest, name_len)?.to_vec();
        let contents = word(&mut rest)? as usize;
        contents_count += contents;
        let too_many = pins.len() >= PINS_MAX || contents_count > PINNED_CONTENTS_MAX;
        if too_many || name_len > PIN_NAME_BYTES_MAX {
            return None;
        }
        let contents = take(&mut rest, contents.checked_mul(CONTENT_BYTES)?)?;
        let mut contents: Vec<_> = contents
            .chunks_exact(CONTENT_BYTES)
            .map(|bytes| PinnedContent {
                digest: ContentDigest(array(bytes, 0)),
                size: u64::from_le_bytes(array(bytes, 16)),
            })
            .filter(|content| content.size <= OFFSET_MAX)
            .collect();
        contents.sort_unstable();
        contents.dedup_by_key(|content| content.digest);
        pins.insert(name, contents);
    }
    rest.is_empty().then_some(pins)
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(len)?;
    *rest = tail;
    Some(head)
}

fn word(rest: &mut &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(array(take(rest, 4)?, 0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pins() -> Pins {
        let content = |n: u8, size| PinnedContent {
            digest: ContentDigest([n; 16]),
            size,
        };
        Pins::from([
            (b"a/b".to_vec(), vec![content(1, 5), content(2, 7 << 30)]),
            (Vec::new(), vec![]),
        ])
    }

    #[test]
    fn pins_come_back_and_every_damage_is_found() {
        let bytes = encode(&pins());
        assert_eq!(decode(&bytes), Some(pins()));
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&bad), None, "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert_eq!(decode(&bytes[..len]), None, "{len} bytes");
        }
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        for at in [12, 16] {
            let mut bytes = encode(&pins());
            bytes.truncate(bytes.len() - SUM_BYTES);
            bytes[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
            let sum = blake3::hash(&bytes);
            bytes.extend(sum.as_bytes());
            assert_eq!(decode(&bytes), None);
        }
    }
}
