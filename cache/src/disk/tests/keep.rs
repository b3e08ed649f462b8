//! What is kept: pins, contents that are held, and what is known of what is here.

use super::*;
use crate::disk::limits::PACK_BYTES_MAX;

fn whole_file(disk: &Disk, file: u64, size: u64) {
    for index in 0..size.div_ceil(CHUNK) {
        store(disk, file, size, index, BlockMask::FULL);
    }
    disk.flush();
}

fn is_whole(disk: &Disk, file: u64, size: u64) -> bool {
    disk.held_bytes(&key(file), size) == size
        && (0..size.div_ceil(CHUNK))
            .all(|index| read(disk, file, size, index) == whole(size, index))
}

#[test]
fn what_is_here_is_known_without_reading_it() {
    let dir = TempDir::new().unwrap();
    let disk = open(dir.path());
    let size = 3 * CHUNK + 5000;
    let masks = |disk: &Disk| disk.masks(&key(1), size, ChunkIndex(0), 5);
    assert_eq!(masks(&disk), [BlockMask::EMPTY; 5]);
    assert_eq!(disk.held_bytes(&key(1), size), 0);
    store(&disk, 1, size, 1, BlockMask(0b110));
    store(&disk, 1, size, 3, BlockMask::FULL);
    store(&disk, 2, 9000, 0, BlockMask::FULL);
    store(&disk, 3, 9000, 0, BlockMask(1));
    disk.flush();
    let none = BlockMask::EMPTY;
    assert_eq!(
        masks(&disk),
        [none, BlockMask(0b110), none, BlockMask(0b11), none]
    );
    assert_eq!(disk.held_bytes(&key(1), size), 8192 + 5000);
    // Of small contents that are here in part nothing is said to be.
    assert_eq!([2, 3].map(|f| disk.held_bytes(&key(f), 9000)), [9000, 0]);
    let other = ContentKey {
        share: ShareId([7; 16]),
        ..key(1)
    };
    assert_eq!(disk.held_bytes(&other, size), 0);
}

#[test]
fn pinned_contents_outlive_all_others_and_restarts() {
    let dir = TempDir::new().unwrap();
    let budget = 64 * CHUNK;
    let (large, small) = (4 * CHUNK, 16 << 10);
    let contents = [(key(1), large), (key(2), small)];
    {
        let disk = open_with(dir.path(), budget);
        disk.pin(b"some/dir", &contents).unwrap();
        whole_file(&disk, 1, large);
        whole_file(&disk, 2, small);
    }
    for round in 0..2 {
        let disk = open_with(dir.path(), budget);
        let report = &disk.pins()[0];
        assert_eq!((&report.name[..], report.contents), (&b"some/dir"[..], 2));
        assert!(report.fits && report.bytes >= large + small);
        for file in 100..200 {
            whole_file(&disk, file + 100 * round, 2 * CHUNK);
            // Packs are turned over as well.
            for more in 0..8 {
                store(&disk, 1000 + file * 8 + more, small, 0, BlockMask::FULL);
            }
        }
        disk.flush();
        assert!(disk.stats().resident_bytes <= budget);
        assert!(is_whole(&disk, 1, large) && is_whole(&disk, 2, small));
    }
    let disk = open_with(dir.path(), budget);
    assert!(disk.unpin(b"some/dir").unwrap());
    assert!(!disk.unpin(b"some/dir").unwrap());
    for file in 100..200 {
        whole_file(&disk, file, 2 * CHUNK);
    }
    assert_eq!(disk.held_bytes(&key(1), large), 0);
    assert_eq!(disk.pins(), []);
}

#[test]
fn small_pinned_contents_move_when_their_pack_goes() {
    let dir = TempDir::new().unwrap();
    let (budget, size) = (2 * PACK_BYTES_MAX, 16 << 10);
    let disk = open_with(dir.path(), budget);
    let pinned: Vec<_> = (0..100).map(|i| (key(i * 7), size)).collect();
    disk.pin(b"p", &pinned).unwrap();
    for file in 0..12_000 {
        // A full queue refuses what it cannot take.
        if file % 1000 == 0 {
            disk.flush();
        }
        store(&disk, file, size, 0, BlockMask::FULL);
    }
    disk.flush();
    assert!(disk.stats().resident_bytes <= budget);
    assert_eq!(read(&disk, 1, size, 0), BlockMask::EMPTY);
    for i in 0..100 {
        assert_eq!(read(&disk, i * 7, size, 0), BlockMask(0xf), "{i}");
    }
}

#[test]
fn pins_that_do_not_fit_are_refused_and_those_that_do_no_more_are_said_not_to() {
    let dir = TempDir::new().unwrap();
    let budget = 64 * CHUNK;
    {
        let disk = open_with(dir.path(), budget);
        disk.pin(b"b", &[(key(1), 20 * CHUNK)]).unwrap();
        // Before the other by name; it must not push it out.
        let error = disk.pin(b"a", &[(key(2), 40 * CHUNK)]).unwrap_err();
        let PinError::NoRoom {
            wanted_bytes,
            pinned_bytes,
            limit_bytes,
        } = error
        else {
            panic!("{error}");
        };
        assert!(wanted_bytes >= 40 * CHUNK && pinned_bytes >= 20 * CHUNK);
        assert_eq!(limit_bytes, 56 * CHUNK);
        assert_eq!(disk.pins().len(), 1);
        // The same contents twice cost once.
        disk.pin(b"a", &[(key(1), 20 * CHUNK), (key(2), 20 * CHUNK)])
            .unwrap();
        disk.pin(b"a", &[(key(2), 30 * CHUNK)]).unwrap();
        assert_eq!(disk.pin_room().limit_bytes, limit_bytes);
        let error = disk.pin(&[b'x'; 5000], &[]).unwrap_err();
        assert!(matches!(error, PinError::TooMany), "{error}");
    }
    let disk = open_with(dir.path(), 32 * CHUNK);
    let fits: Vec<_> = disk.pins().iter().map(|pin| pin.fits).collect();
    // The first by name is too large now; the other is not.
    assert_eq!(fits, [false, true]);
}

#[test]
fn a_damaged_list_of_pins_pins_nothing_and_a_new_one_is_kept() {
    let dir = TempDir::new().unwrap();
    open(dir.path()).pin(b"a", &[(key(1), 100)]).unwrap();
    let list = dir.path().join(SHARE.to_string()).join("pins");
    let mut bytes = std::fs::read(&list).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&list, bytes).unwrap();
    let disk = open(dir.path());
    assert_eq!((disk.pins().len(), disk.stats().corrupt), (0, 1));
    disk.pin(b"b", &[(key(1), 100)]).unwrap();
    drop(disk);
    assert_eq!(open(dir.path()).pins()[0].name, b"b");
}

#[test]
fn gc_leaves_what_is_pinned_and_clear_does_not() {
    let dir = TempDir::new().unwrap();
    {
        let disk = open(dir.path());
        disk.pin(b"a", &[(key(1), 2 * CHUNK), (key(2), 1000)])
            .unwrap();
        for file in [1, 3] {
            whole_file(&disk, file, 2 * CHUNK);
        }
        whole_file(&disk, 2, 1000);
    }
    let swept = crate::gc(dir.path(), Some(std::time::Duration::ZERO), Some(0)).unwrap();
    assert_eq!(swept.removed_contents, 1);
    {
        let disk = open(dir.path());
        assert!(is_whole(&disk, 1, 2 * CHUNK) && is_whole(&disk, 2, 1000));
    }
    crate::clear(dir.path(), None).unwrap();
    let disk = open(dir.path());
    assert_eq!((disk.pins().len(), disk.stats().resident_bytes), (0, 0));
}

#[test]
fn a_whole_content_is_a_file_that_stays_while_it_is_held() {
    use std::os::fd::AsFd;
    let dir = TempDir::new().unwrap();
    let (budget, size) = (64 * CHUNK, 3 * CHUNK + 100);
    let disk = open_with(dir.path(), budget);
    assert!(disk.open_whole(&key(1), size).is_none());
    whole_file(&disk, 1, size);
    assert!(!disk.is_known_whole(&key(1)));
    let held = disk.open_whole(&key(1), size).unwrap();
    assert!(disk.is_known_whole(&key(1)));
    let again = disk.open_whole(&key(1), size).unwrap();
    for file in 100..200 {
        whole_file(&disk, file, 2 * CHUNK);
    }
    assert!(disk.stats().resident_bytes <= budget);
    let mut bytes = vec![0; usize::try_from(size).unwrap() + 1];
    let read = rustix::io::pread(held.as_fd(), &mut bytes, 0).unwrap();
    assert_eq!(bytes[..read], truth(1, 0, size)[..]);
    assert!(rustix::io::write(held.as_fd(), b"x").is_err());
    drop(held);
    assert!(is_whole(&disk, 1, size), "somebody else holds it");
    drop(again);
    for file in 100..200 {
        whole_file(&disk, file, 2 * CHUNK);
    }
    assert_eq!(disk.held_bytes(&key(1), size), 0);
}

#[test]
fn what_is_not_whole_sound_or_small_enough_is_no_file() {
    let dir = TempDir::new().unwrap();
    let size = 3 * CHUNK;
    let disk = open_with(dir.path(), 16 * CHUNK);
    store(&disk, 1, size, 0, BlockMask::FULL);
    disk.flush();
    assert!(disk.open_whole(&key(1), size).is_none(), "not whole");
    whole_file(&disk, 2, 1000);
    assert!(disk.open_whole(&key(2), 1000).is_none(), "in a pack");
    whole_file(&disk, 3, size);
    let digest = key(3).digest();
    let data = layout::SharePaths::new(dir.path(), SHARE).data(&digest);
    let file = std::fs::File::options().write(true).open(data).unwrap();
    file::write_at(&file, b"damage", 2 * CHUNK + 5).unwrap();
    assert!(disk.open_whole(&key(3), size).is_none(), "damaged");
    store(&disk, 6, size, 0, BlockMask::FULL);
    whole_file(&disk, 6, size);
    assert!(disk.open_whole(&key(6), size).is_some());
    let data = layout::SharePaths::new(dir.path(), SHARE).data(&key(6).digest());
    let file = std::fs::File::options().write(true).open(data).unwrap();
    file::write_at(&file, b"damage", 5).unwrap();
    assert!(
        disk.open_whole(&key(6), size).is_none(),
        "damaged after it was found sound"
    );
}

#[test]
fn no_more_is_held_than_leaves_room_for_others() {
    let dir = TempDir::new().unwrap();
    let (budget, size) = (16 * CHUNK, 7 * CHUNK + CHUNK / 4);
    let disk = open_with(dir.path(), budget);
    for file in [1, 2] {
        whole_file(&disk, file, size);
    }
    let held = disk.open_whole(&key(1), size);
    assert!(held.is_some() && disk.open_whole(&key(2), size).is_none());
    drop(held);
    assert!(disk.open_whole(&key(2), size).is_some());
}

#[test]
fn holes_of_a_sparse_content_are_in_the_file() {
    use std::os::fd::AsFd;
    let dir = TempDir::new().unwrap();
    let disk = open(dir.path());
    let size = 2 * CHUNK + 6000;
    for index in 0..3 {
        let len = ChunkIndex(index).len_in(size);
        let zeros = Chunk::piece(0, Bytes::from(vec![0; len]));
        assert!(disk.store(&key(1), size, ChunkIndex(index), zeros));
    }
    disk.flush();
    let whole = disk.open_whole(&key(1), size).unwrap();
    let mut bytes = vec![1; usize::try_from(size).unwrap() + 1];
    let read = rustix::io::pread(whole.as_fd(), &mut bytes, 0).unwrap();
    assert_eq!(read as u64, size);
    assert!(bytes[..read].iter().all(|byte| *byte == 0));
}
