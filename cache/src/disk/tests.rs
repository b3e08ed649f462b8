//! The disk cache from outside. `damage`: what a hostile disk can do to it. `room`: budget, full
//! queue, full disk. `crash`: an owner that is killed.

mod crash;
mod damage;
mod keep;
mod room;

use super::*;
use bytes::Bytes;
use std::path::Path;
use tempfile::TempDir;
use wormhole_protocol::limits::BLOCK_BYTES;
use wormhole_protocol::{ContentVersion, FileId};

pub(crate) const SHARE: ShareId = ShareId([1; 16]);
const CHUNK: u64 = CHUNK_BYTES as u64;

pub(crate) fn key(file: u64) -> ContentKey {
    ContentKey {
        share: SHARE,
        file: FileId {
            device: 1,
            inode: file,
            birth: 0,
        },
        version: ContentVersion([9; 16]),
    }
}

pub(crate) fn header(file: u64, size: u64) -> Header {
    Header {
        key: key(file),
        size,
    }
}

/// The bytes `from..to` of file `file`, as the host has them.
pub(crate) fn truth(file: u64, from: u64, to: u64) -> Bytes {
    let word = |i: u64| {
        let x = (i ^ file.rotate_left(40)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (x ^ x >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    };
    let (first, end) = (from / 8, to.div_ceil(8));
    let bytes: Vec<u8> = (first..end).flat_map(|i| word(i).to_le_bytes()).collect();
    let skip = usize::try_from(from - first * 8).unwrap();
    Bytes::from(bytes).slice(skip..skip + usize::try_from(to - from).unwrap())
}

/// Blocks of a chunk as the host has them.
pub(crate) fn true_chunk(file: u64, size: u64, index: u64, mask: BlockMask) -> Chunk {
    let index = ChunkIndex(index);
    let mask = mask.and(BlockMask::covering(0, index.len_in(size)));
    mask.runs().fold(Chunk::empty(), |chunk, run| {
        let from = index.offset() + (run.start * BLOCK_BYTES) as u64;
        let to = (index.offset() + (run.end * BLOCK_BYTES) as u64).min(size);
        chunk.merge(&Chunk::piece(run.start, truth(file, from, to)))
    })
}

pub(crate) fn open(root: &Path) -> Disk {
    open_with(root, 1 << 30)
}

pub(crate) fn open_with(root: &Path, budget_bytes: u64) -> Disk {
    let root = root.to_owned();
    let disk = Disk::open(DiskConfig { root, budget_bytes }, SHARE).unwrap();
    disk.settle();
    disk
}

pub(crate) fn store(disk: &Disk, file: u64, size: u64, index: u64, mask: BlockMask) {
    let chunk = true_chunk(file, size, index, mask);
    assert!(disk.store(&key(file), size, ChunkIndex(index), chunk));
}

/// Reads a chunk and compares what there is of it with the truth; which blocks there are.
pub(crate) fn read(disk: &Disk, file: u64, size: u64, index: u64) -> BlockMask {
    let chunk = disk.read(&key(file), size, ChunkIndex(index), BlockMask::FULL);
    assert_true(&chunk, file, index);
    chunk.mask()
}

pub(crate) fn assert_true(chunk: &Chunk, file: u64, index: u64) {
    for (start, bytes) in chunk.parts() {
        let from = ChunkIndex(index).offset() + start as u64;
        let want = truth(file, from, from + bytes.len() as u64);
        assert!(
            *bytes == want,
            "chunk {index} of file {file} is not what was stored"
        );
    }
}

pub(crate) fn whole(size: u64, index: u64) -> BlockMask {
    BlockMask::covering(0, ChunkIndex(index).len_in(size))
}

/// A content of every interesting size comes back, before and after a restart.
#[test]
fn what_was_stored_comes_back() {
    let dir = TempDir::new().unwrap();
    let sizes = [
        1,
        4095,
        4096,
        16 << 10,
        (16 << 10) + 1,
        CHUNK - 1,
        CHUNK,
        CHUNK + 1,
        5 * CHUNK + 7777,
    ];
    for round in 0..2 {
        let disk = open(dir.path());
        for (file, size) in (0..).zip(sizes) {
            for index in 0..size.div_ceil(CHUNK) {
                if round == 0 {
                    assert_eq!(read(&disk, file, size, index), BlockMask::EMPTY);
                    store(&disk, file, size, index, BlockMask::FULL);
                }
            }
        }
        disk.flush();
        for (file, size) in (0..).zip(sizes) {
            for index in 0..size.div_ceil(CHUNK) {
                assert_eq!(read(&disk, file, size, index), whole(size, index), "{size}");
            }
            let run = disk.read_run(&key(file), size, ChunkIndex(0), 8);
            assert_eq!(run.len(), 8);
            for (index, chunk) in (0..).zip(&run) {
                assert_true(chunk, file, index);
                assert_eq!(chunk.mask(), whole(size, index));
            }
        }
        let stats = disk.stats();
        assert_eq!((stats.corrupt, stats.errors, stats.refused), (0, 0, 0));
        assert_eq!(stats.queue_bytes, 0);
        assert!(stats.resident_bytes > 8 * CHUNK, "{stats:?}");
    }
}

#[test]
fn pieces_of_a_chunk_are_merged() {
    let dir = TempDir::new().unwrap();
    let disk = open(dir.path());
    for size in [3 * CHUNK + 5000, 14_000] {
        let masks = [0b1, 0b100, 0b110, 0x8000_0000, 0b1111].map(BlockMask);
        let mut present = BlockMask::EMPTY;
        for (i, mask) in masks.into_iter().enumerate() {
            if mask.and(whole(size, 0)).is_empty() {
                continue;
            }
            store(&disk, size, size, 0, mask);
            present = present.or(mask.and(whole(size, 0)));
            // Both within one batch and over several.
            if i % 2 == 0 {
                disk.flush();
                assert_eq!(read(&disk, size, size, 0), present);
            }
        }
        disk.flush();
        assert_eq!(read(&disk, size, size, 0), present);
    }
    // A run with holes: whole, partial, absent, and the last, which is short.
    let size = 3 * CHUNK + 5000;
    store(&disk, size, size, 1, BlockMask::FULL);
    store(&disk, size, size, 3, BlockMask::FULL);
    disk.flush();
    let run = disk.read_run(&key(size), size, ChunkIndex(0), 6);
    let masks: Vec<u32> = run.iter().map(|chunk| chunk.mask().0).collect();
    assert_eq!(masks, [0x8000_000f, u32::MAX, 0, 0b11, 0, 0]);
    (0..)
        .zip(&run)
        .for_each(|(index, chunk)| assert_true(chunk, size, index));
}

/// A chunk that outlives those it was read with holds no more than its own memory.
#[test]
fn chunks_that_were_read_together_share_no_memory() {
    let dir = TempDir::new().unwrap();
    let disk = open(dir.path());
    let size = 4 * CHUNK;
    (0..4).for_each(|index| store(&disk, 1, size, index, BlockMask::FULL));
    disk.flush();
    let run = disk.read_run(&key(1), size, ChunkIndex(0), 4);
    let alone: Vec<bool> = run
        .iter()
        .flat_map(Chunk::parts)
        .map(|part| part.1.is_unique())
        .collect();
    assert_eq!(alone, [true; 4]);
}

/// "Nothing" is only said of what is not there, and then without a look at the disk.
#[test]
fn what_is_surely_lacking_is_not_there() {
    let dir = TempDir::new_in("/var/tmp").unwrap();
    let disk = open(dir.path());
    let (small, large) = (100, 3 * CHUNK);
    let lacks =
        |file, size, index, mask| disk.surely_lacks(&key(file), size, ChunkIndex(index), &[mask]);
    assert!(lacks(1, small, 0, BlockMask::FULL));
    store(&disk, 1, small, 0, BlockMask::FULL);
    assert!(!lacks(2, large, 0, BlockMask::FULL), "nobody has looked");
    let (there, beside) = (
        BlockMask::covering(0, 8192),
        BlockMask::covering(8192, 16384),
    );
    store(&disk, 2, large, 1, there);
    disk.flush();
    assert!(!lacks(1, small, 0, BlockMask::FULL));

    // Some file systems cannot tell what is in memory.
    let probe = dir.path().join("probe");
    std::fs::write(&probe, [1]).unwrap();
    let probe = file::open_read(&probe).unwrap();
    let tells = file::read_at_hand(&probe, &mut [0], 0) == Some(1);
    let misses = disk.stats().misses;
    assert_eq!(lacks(2, large, 0, BlockMask::FULL), tells);
    assert_eq!(lacks(2, large, 1, beside), tells);
    assert_eq!(lacks(2, large, 2, BlockMask::FULL), tells, "past the index");
    assert_eq!(disk.stats().misses - misses, if tells { 3 } else { 0 });
    assert!(!lacks(2, large, 1, BlockMask::FULL));
    assert!(!lacks(2, large + 1, 0, BlockMask::FULL), "of another size");
    let all = [BlockMask::FULL; 3];
    assert!(!disk.surely_lacks(&key(2), large, ChunkIndex(0), &all));
}

/// Where the file system takes bytes past the page cache and where it does not (tmpfs).
#[test]
fn bytes_written_past_the_page_cache_are_there() {
    let on_tmpfs = TempDir::new_in("/dev/shm").unwrap();
    let elsewhere = TempDir::new_in("/var/tmp").unwrap();
    for dir in [on_tmpfs, elsewhere] {
        let path = dir.path().join("file");
        let file = file::create(&path).unwrap();
        let (first, second) = (truth(1, 0, 300_001), truth(1, 300_001, 300_002));
        let mut slices = [
            std::io::IoSlice::new(&first),
            std::io::IoSlice::new(&[]),
            std::io::IoSlice::new(&second),
        ];
        file::write_past_page_cache_at(&file, &mut slices, 4097).unwrap();
        let found = std::fs::read(&path).unwrap();
        assert!(found[..4097].iter().all(|byte| *byte == 0));
        assert!(found[4097..] == truth(1, 0, 300_002));
        let read_only = file::open_read(&path).unwrap();
        let refused =
            file::write_past_page_cache_at(&read_only, &mut [std::io::IoSlice::new(&first)], 0);
        assert_eq!(
            refused.unwrap_err().raw_os_error(),
            Some(rustix::io::Errno::BADF.raw_os_error())
        );
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(24))]
    /// Whatever is stored in whatever order: what is read is true, and all that was stored is there.
    #[test]
    fn any_order_of_stores_is_read_back(
        size in 1_u64..6 * CHUNK,
        stores in proptest::collection::vec((0_u64..6, proptest::num::u32::ANY, proptest::bool::ANY), 1..24),
    ) {
        let dir = TempDir::new().unwrap();
        let mut disk = open(dir.path());
        let mut present = [BlockMask::EMPTY; 6];
        for (index, mask, restart) in stores {
            let mask = BlockMask(mask).and(if index < size.div_ceil(CHUNK) { whole(size, index) } else { BlockMask::EMPTY });
            if mask.is_empty() {
                continue;
            }
            store(&disk, 1, size, index, mask);
            let at = usize::try_from(index).unwrap();
            present[at] = present[at].or(mask);
            if restart {
                drop(disk);
                disk = open(dir.path());
            }
        }
        disk.flush();
        for (index, mask) in (0..).zip(present) {
            proptest::prop_assert_eq!(read(&disk, 1, size, index), mask);
        }
        for (index, chunk) in (0..).zip(disk.read_run(&key(1), size, ChunkIndex(0), 6)) {
            assert_true(&chunk, 1, index);
            proptest::prop_assert_eq!(chunk.mask(), present[usize::try_from(index).unwrap()]);
        }
    }
}

#[test]
fn nonsense_is_neither_stored_nor_served() {
    let dir = TempDir::new().unwrap();
    let disk = open(dir.path());
    let size = 2 * CHUNK;
    let full = true_chunk(1, size, 0, BlockMask::FULL);
    let refuse = |key: &ContentKey, size, index, chunk: &Chunk| {
        assert!(!disk.store(key, size, ChunkIndex(index), chunk.clone()));
        let read = disk.read(key, size, ChunkIndex(index), BlockMask::FULL);
        assert!(read.mask().is_empty());
        let run = disk.read_run(key, size, ChunkIndex(index), 3);
        assert!(run.iter().all(|chunk| chunk.mask().is_empty()));
    };
    refuse(&key(1), size, 2, &full);
    refuse(&key(1), size, u64::MAX, &full);
    refuse(&key(1), u64::MAX, 0, &full);
    refuse(&key(1), 0, 0, &full);
    refuse(&key(1), CHUNK - 1, 0, &full);
    refuse(&key(1), size, 0, &Chunk::empty());
    // A piece that ends within a block although the file goes on.
    refuse(&key(1), size, 0, &Chunk::piece(0, truth(1, 0, 5000)));
    let mut foreign = key(1);
    foreign.share = ShareId([2; 16]);
    refuse(&foreign, size, 0, &full);
    assert_eq!(disk.stats().refused, 8);
}

#[test]
fn another_version_or_size_is_another_content() {
    let dir = TempDir::new().unwrap();
    let disk = open(dir.path());
    for size in [3 * CHUNK, 9000] {
        store(&disk, size, size, 0, BlockMask::FULL);
        disk.flush();
        let mut newer = key(size);
        newer.version = ContentVersion([10; 16]);
        let mut other = key(size);
        other.file.birth = 1;
        let none = |key: &ContentKey, size| {
            let chunk = disk.read(key, size, ChunkIndex(0), BlockMask::FULL);
            assert!(chunk.mask().is_empty());
            let run = disk.read_run(key, size, ChunkIndex(0), 2);
            assert!(run.iter().all(|chunk| chunk.mask().is_empty()));
        };
        none(&newer, size);
        none(&other, size);
        none(&key(size), size + 1);
        assert_eq!(read(&disk, size, size, 0), whole(size, 0));
    }
    // The same version with another size cannot be: the later one replaces the earlier.
    let size = 3 * CHUNK;
    store(&disk, size, size + 1, 1, BlockMask::FULL);
    disk.flush();
    assert_eq!(read(&disk, size, size + 1, 1), BlockMask::FULL);
    assert_eq!(read(&disk, size, size + 1, 0), BlockMask::EMPTY);
    assert_eq!(read(&disk, size, size, 0), BlockMask::EMPTY);
}

#[test]
fn one_owner_per_share_and_shares_side_by_side() {
    let dir = TempDir::new().unwrap();
    let disk = open(dir.path());
    let config = DiskConfig {
        root: dir.path().to_owned(),
        budget_bytes: 1 << 20,
    };
    match Disk::open(config.clone(), SHARE).err() {
        Some(DiskError::InUse { pid }) => assert_eq!(pid, std::process::id()),
        other => panic!("{other:?}"),
    }
    let second = Disk::open(config.clone(), ShareId([2; 16])).unwrap();
    let mut theirs = key(1);
    theirs.share = ShareId([2; 16]);
    let chunk = true_chunk(77, 2 * CHUNK, 0, BlockMask::FULL);
    assert!(second.store(&theirs, 2 * CHUNK, ChunkIndex(0), chunk));
    second.flush();
    assert_eq!(read(&disk, 1, 2 * CHUNK, 0), BlockMask::EMPTY);
    store(&disk, 1, 2 * CHUNK, 0, BlockMask::FULL);
    disk.flush();
    let chunk = second.read(&theirs, 2 * CHUNK, ChunkIndex(0), BlockMask::FULL);
    assert_true(&chunk, 77, 0);
    drop(disk);
    drop(Disk::open(config, SHARE).unwrap());
}

#[test]
fn a_cache_of_another_format_is_left_alone() {
    let dir = TempDir::new().unwrap();
    drop(open(dir.path()));
    let format = dir.path().join(SHARE.to_string()).join("format");
    std::fs::write(&format, "wormhole cache 2 of the future\n").unwrap();
    let config = DiskConfig {
        root: dir.path().to_owned(),
        budget_bytes: 1 << 20,
    };
    match Disk::open(config.clone(), SHARE).err() {
        Some(DiskError::Format { found, .. }) => {
            assert_eq!(found, "wormhole cache 2 of the future");
        }
        other => panic!("{other:?}"),
    }
    // Killed before it had written the format.
    std::fs::write(&format, "").unwrap();
    Disk::open(config, SHARE).unwrap();
}

#[test]
fn files_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let dir = TempDir::new().unwrap();
    let root = dir.path().join("new").join("root");
    let disk = open(&root);
    store(&disk, 1, 2 * CHUNK, 0, BlockMask::FULL);
    store(&disk, 2, 200, 0, BlockMask::FULL);
    disk.flush();
    let mut seen = 0;
    let mut rest = vec![root];
    while let Some(path) = rest.pop() {
        let metadata = std::fs::symlink_metadata(&path).unwrap();
        let mode = metadata.permissions().mode() & 0o7777;
        if metadata.is_dir() {
            assert_eq!(mode, 0o700, "{path:?}");
            let entries = std::fs::read_dir(&path).unwrap();
            rest.extend(entries.map(|entry| entry.unwrap().path()));
        } else {
            assert_eq!(mode, 0o600, "{path:?}");
            seen += 1;
        }
    }
    assert_eq!(seen, 5, "lock, format, data, index, pack");
}

#[test]
fn readers_and_the_writer_do_not_disturb_each_other() {
    let dir = TempDir::new().unwrap();
    let disk = open_with(dir.path(), 24 * CHUNK);
    let size = 16 * CHUNK;
    std::thread::scope(|scope| {
        for reader in 0..3_u64 {
            let disk = &disk;
            scope.spawn(move || {
                for round in 0..200 {
                    let (file, index) = ((reader + round) % 3, round % 16);
                    read(disk, file, size, index);
                    let run = disk.read_run(&key(file), size, ChunkIndex(index), 4);
                    (index..)
                        .zip(&run)
                        .for_each(|(i, chunk)| assert_true(chunk, file, i));
                }
            });
        }
        for round in 0..300_u64 {
            // Three files of 16 chunks do not fit: contents come and go under the readers.
            let mask = BlockMask(if round % 3 == 0 {
                u32::MAX
            } else {
                0x0f0f_00ff << (round % 7)
            });
            let chunk = true_chunk(round % 3, size, round % 16, mask);
            disk.store(&key(round % 3), size, ChunkIndex(round % 16), chunk);
            if round % 8 == 0 {
                disk.flush();
            }
        }
    });
    disk.flush();
    let stats = disk.stats();
    assert_eq!((stats.corrupt, stats.errors), (0, 0), "{stats:?}");
    assert!(stats.evicted_bytes > 0);
}
