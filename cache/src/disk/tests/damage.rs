//! Every byte on disk is hostile: flipped, cut off, swapped, replaced.

use super::*;
use std::os::unix::fs::FileExt;

const SIZE: u64 = 4 * CHUNK + 100;

fn files(root: &Path, ending: &str) -> Vec<PathBuf> {
    let (mut found, mut rest) = (Vec::new(), vec![root.to_owned()]);
    while let Some(dir) = rest.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                rest.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                found.push(path);
            }
        }
    }
    found
}

fn file(root: &Path, ending: &str) -> std::fs::File {
    let found = files(root, ending);
    assert_eq!(found.len(), 1);
    file::open(&found[0]).unwrap()
}

fn flip(file: &std::fs::File, offset: u64) {
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], offset).unwrap();
}

fn filled(root: &Path) -> Disk {
    let disk = open(root);
    for index in 0..5 {
        store(&disk, 1, SIZE, index, BlockMask::FULL);
    }
    disk.flush();
    disk
}

/// After damage to chunk 2 alone: it is absent, the rest is there, and it can be stored again.
fn only_chunk_2_is_lost(disk: &Disk) {
    let run = disk.read_run(&key(1), SIZE, ChunkIndex(0), 5);
    for (index, chunk) in (0..).zip(&run) {
        assert_true(chunk, 1, index);
        assert_eq!(chunk.mask().is_empty(), index == 2, "chunk {index}");
    }
    assert_eq!(read(disk, 1, SIZE, 2), BlockMask::EMPTY);
    assert!(disk.stats().corrupt >= 1);
    disk.flush();
    let corrupt = disk.stats().corrupt;
    assert_eq!(read(disk, 1, SIZE, 2), BlockMask::EMPTY);
    assert_eq!(
        disk.stats().corrupt,
        corrupt,
        "it was dropped, not found again"
    );
    store(disk, 1, SIZE, 2, BlockMask::FULL);
    disk.flush();
    assert_eq!(read(disk, 1, SIZE, 2), BlockMask::FULL);
}

#[test]
fn a_flipped_bit_in_the_data_is_never_served() {
    let dir = TempDir::new().unwrap();
    let disk = filled(dir.path());
    flip(&file(dir.path(), ".data"), 2 * CHUNK + 77_777);
    only_chunk_2_is_lost(&disk);
}

#[test]
fn a_flipped_bit_in_a_slot_is_never_served() {
    for at in [0, 5, 20, 47] {
        let dir = TempDir::new().unwrap();
        let disk = filled(dir.path());
        flip(&file(dir.path(), ".index"), 128 + 2 * 48 + at);
        only_chunk_2_is_lost(&disk);
    }
}

#[test]
fn a_damaged_chunk_can_be_stored_over_without_a_reader_having_seen_it() {
    let dir = TempDir::new().unwrap();
    let disk = open(dir.path());
    store(&disk, 1, SIZE, 2, BlockMask(0xff));
    disk.flush();
    flip(&file(dir.path(), ".data"), 2 * CHUNK + 5);
    store(&disk, 1, SIZE, 2, BlockMask(0xff00));
    disk.flush();
    assert_eq!(read(&disk, 1, SIZE, 2), BlockMask(0xff00));
}

#[test]
fn a_slot_of_another_chunk_or_content_is_never_served() {
    let dir = TempDir::new().unwrap();
    let disk = filled(dir.path());
    let index = file(dir.path(), ".index");
    let data = file(dir.path(), ".data");
    // Chunk 1 with its slot and all its bytes in the place of chunk 2.
    let mut slot = [0; 48];
    index.read_exact_at(&mut slot, 128 + 48).unwrap();
    index.write_all_at(&slot, 128 + 2 * 48).unwrap();
    let mut bytes = vec![0; CHUNK_BYTES];
    data.read_exact_at(&mut bytes, CHUNK).unwrap();
    data.write_all_at(&bytes, 2 * CHUNK).unwrap();
    only_chunk_2_is_lost(&disk);
}

#[test]
fn the_files_of_another_content_are_never_served() {
    let dir = TempDir::new().unwrap();
    let disk = open(dir.path());
    store(&disk, 1, SIZE, 0, BlockMask::FULL);
    drop(disk);
    let paths = layout::SharePaths::new(dir.path(), SHARE);
    let (from, to) = (key(1).digest(), key(2).digest());
    file::make_dir(paths.data(&to).parent().unwrap()).unwrap();
    std::fs::rename(paths.data(&from), paths.data(&to)).unwrap();
    std::fs::rename(paths.index(&from), paths.index(&to)).unwrap();
    let disk = open(dir.path());
    assert_eq!(read(&disk, 2, SIZE, 0), BlockMask::EMPTY);
    assert_eq!(disk.stats().corrupt, 1);
    store(&disk, 2, SIZE, 1, BlockMask::FULL);
    disk.flush();
    assert_eq!(read(&disk, 2, SIZE, 0), BlockMask::EMPTY);
    assert_eq!(read(&disk, 2, SIZE, 1), BlockMask::FULL);
}

#[test]
fn a_damaged_header_costs_the_content_and_no_more() {
    for at in [0, 9, 20, 60, 75, 127] {
        let dir = TempDir::new().unwrap();
        drop(filled(dir.path()));
        flip(&file(dir.path(), ".index"), at);
        let disk = open(dir.path());
        assert_eq!(read(&disk, 1, SIZE, 0), BlockMask::EMPTY);
        assert!(disk.stats().corrupt >= 1);
        store(&disk, 1, SIZE, 0, BlockMask::FULL);
        disk.flush();
        assert_eq!(read(&disk, 1, SIZE, 0), BlockMask::FULL);
        assert_eq!(read(&disk, 1, SIZE, 1), BlockMask::EMPTY);
    }
}

#[test]
fn truncated_files_lose_what_was_cut() {
    let dir = TempDir::new().unwrap();
    let disk = filled(dir.path());
    file(dir.path(), ".data").set_len(3 * CHUNK + 5000).unwrap();
    for (index, chunk) in (0..).zip(disk.read_run(&key(1), SIZE, ChunkIndex(0), 5)) {
        assert_true(&chunk, 1, index);
        assert_eq!(chunk.mask().is_empty(), index >= 3);
    }
    for len in [128 + 48 + 20, 100, 0] {
        let dir = TempDir::new().unwrap();
        drop(filled(dir.path()));
        file(dir.path(), ".index").set_len(len).unwrap();
        let disk = open(dir.path());
        for (index, chunk) in (0..).zip(disk.read_run(&key(1), SIZE, ChunkIndex(0), 5)) {
            assert_true(&chunk, 1, index);
            assert_eq!(chunk.mask().is_empty(), index >= 1 || len < 128);
        }
        store(&disk, 1, SIZE, 4, BlockMask::FULL);
        disk.flush();
        assert_eq!(read(&disk, 1, SIZE, 4), whole(SIZE, 4));
    }
}

#[test]
fn either_file_may_be_missing() {
    for ending in [".data", ".index"] {
        let dir = TempDir::new().unwrap();
        drop(filled(dir.path()));
        std::fs::remove_file(&files(dir.path(), ending)[0]).unwrap();
        let disk = open(dir.path());
        assert!(disk.stats().resident_bytes > 0, "what is left counts");
        assert_eq!(read(&disk, 1, SIZE, 0), BlockMask::EMPTY);
        store(&disk, 1, SIZE, 0, BlockMask::FULL);
        disk.flush();
        assert_eq!(read(&disk, 1, SIZE, 0), BlockMask::FULL);
        assert_eq!(disk.stats().errors, 0);
    }
}

#[test]
fn a_symlink_in_place_of_a_file_is_not_followed() {
    let dir = TempDir::new().unwrap();
    drop(filled(dir.path()));
    let data = files(dir.path(), ".data").remove(0);
    let victim = dir.path().join("victim");
    std::fs::copy(&data, &victim).unwrap();
    let before = std::fs::read(&victim).unwrap();
    std::fs::remove_file(&data).unwrap();
    std::os::unix::fs::symlink(&victim, &data).unwrap();
    let disk = open(dir.path());
    assert_eq!(read(&disk, 1, SIZE, 0), BlockMask::EMPTY);
    store(&disk, 1, SIZE, 0, BlockMask::FULL);
    disk.flush();
    assert!(std::fs::read(&victim).unwrap() == before);
}

#[test]
fn damaged_and_torn_packs_lose_only_what_they_must() {
    let record = (pack::RECORD_BYTES + 9000) as u64;
    let small = |disk: &Disk, file| !read(disk, file, 9000, 0).is_empty();
    let filled = |root: &Path| {
        let disk = open(root);
        for file in 0..5 {
            // One by one: records of one batch have an order of their own.
            store(&disk, file, 9000, 0, BlockMask::FULL);
            disk.flush();
        }
        drop(disk);
    };
    // A payload: that content only, dropped once and for all.
    let dir = TempDir::new().unwrap();
    filled(dir.path());
    flip(&file(dir.path(), ".pack"), 2 * record + 100);
    let disk = open(dir.path());
    assert_eq!(
        [0, 1, 2, 3, 4].map(|f| small(&disk, f)),
        [true, true, false, true, true]
    );
    assert_eq!(disk.stats().corrupt, 1);
    drop(disk);
    let disk = open(dir.path());
    assert!(!small(&disk, 2));
    assert_eq!(disk.stats().corrupt, 0, "it was marked");
    store(&disk, 2, 9000, 0, BlockMask::FULL);
    drop(disk);
    assert!(small(&open(dir.path()), 2));
    // A head: the way to those after it is lost. A torn tail: that record.
    for (cut, left) in [(false, 2), (true, 3)] {
        let dir = TempDir::new().unwrap();
        filled(dir.path());
        match cut {
            false => flip(&file(dir.path(), ".pack"), 2 * record + 5),
            true => file(dir.path(), ".pack")
                .set_len(3 * record + 1000)
                .unwrap(),
        }
        let disk = open(dir.path());
        for f in 0..5 {
            assert_eq!(small(&disk, f), f < left);
            store(&disk, f, 9000, 0, BlockMask::FULL);
        }
        drop(disk);
        let disk = open(dir.path());
        assert!(
            (0..5).all(|f| small(&disk, f)),
            "what is appended later is found"
        );
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(48))]
    /// Garbage anywhere in any file: nothing untrue is served, nothing panics, storing goes on.
    #[test]
    fn garbage_is_never_served(
        which in 0_usize..3,
        at in 0_u64..1_000_000,
        garbage in proptest::collection::vec(proptest::num::u8::ANY, 1..300),
        reopen in proptest::bool::ANY,
    ) {
        let dir = TempDir::new().unwrap();
        let mut disk = filled(dir.path());
        (2..40).for_each(|file| store(&disk, file, 9000, 0, BlockMask::FULL));
        disk.flush();
        let target = file(dir.path(), [".data", ".index", ".pack"][which]);
        let len = target.metadata().unwrap().len();
        target.write_all_at(&garbage, at % len).unwrap();
        if reopen {
            drop(disk);
            disk = open(dir.path());
        }
        for _ in 0..2 {
            for (index, chunk) in (0..).zip(disk.read_run(&key(1), SIZE, ChunkIndex(0), 5)) {
                assert_true(&chunk, 1, index);
                read(&disk, 1, SIZE, index);
                store(&disk, 1, SIZE, index, BlockMask::FULL);
            }
            for file in 2..40 {
                read(&disk, file, 9000, 0);
                store(&disk, file, 9000, 0, BlockMask::FULL);
            }
            disk.flush();
        }
        // Garbage may lie where a reader of an open header does not look again; a restart looks.
        drop(disk);
        let disk = open(dir.path());
        for index in 0..5 {
            read(&disk, 1, SIZE, index);
        }
    }
}

/// A disk that cannot be read is asked once for a run, not for each chunk of it.
#[test]
fn a_disk_that_fails_is_not_asked_for_every_chunk() {
    let dir = TempDir::new().unwrap();
    let disk = open(dir.path());
    let size = 8 * CHUNK;
    (0..8).for_each(|index| store(&disk, 1, size, index, BlockMask::FULL));
    drop(disk);
    let disk = open(dir.path());
    // A FIFO can be opened, and not be read at a place (ESPIPE).
    let data = disk.inner.paths.data(&key(1).digest());
    std::fs::remove_file(&data).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &data, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let run = disk.read_run(&key(1), size, ChunkIndex(0), 8);
    assert_eq!(run.len(), 8);
    assert!(run.iter().all(|chunk| chunk.mask().is_empty()));
    assert_eq!(disk.stats().errors, 1);
}
