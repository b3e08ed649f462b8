//! Budget, full queue, full disk.

use super::*;

/// Bytes the files of the cache take, as `du` would say.
fn taken(root: &Path) -> u64 {
    let (mut bytes, mut rest) = (0, vec![root.join(SHARE.to_string()).join("data")]);
    rest.push(root.join(SHARE.to_string()).join("packs"));
    while let Some(dir) = rest.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            let metadata = entry.metadata().unwrap();
            match metadata.is_dir() {
                true => rest.push(entry.path()),
                false => bytes += file::room(&metadata),
            }
        }
    }
    bytes
}

#[test]
fn the_budget_is_kept_and_the_least_recently_used_goes_first() {
    let dir = TempDir::new().unwrap();
    // Slack, and what file systems add per file.
    let budget = 40 * CHUNK;
    let disk = open_with(dir.path(), budget);
    for file in 0..60 {
        store(&disk, file, 2 * CHUNK, 0, BlockMask::FULL);
        store(&disk, file, 2 * CHUNK, 1, BlockMask::FULL);
        disk.flush();
        assert!(disk.stats().resident_bytes <= budget);
        assert_eq!(
            read(&disk, 0, 2 * CHUNK, 1),
            BlockMask::FULL,
            "used all the time"
        );
    }
    assert!(taken(dir.path()) <= budget);
    assert_eq!(read(&disk, 1, 2 * CHUNK, 0), BlockMask::EMPTY);
    assert_eq!(read(&disk, 59, 2 * CHUNK, 0), BlockMask::FULL);
    let stats = disk.stats();
    assert!(stats.evicted_bytes >= 80 * CHUNK, "{stats:?}");
    assert_eq!((stats.corrupt, stats.errors), (0, 0));
    drop(disk);
    // A smaller budget holds from the start on, and the order of use has survived.
    let disk = open_with(dir.path(), 10 * CHUNK);
    assert!(disk.stats().resident_bytes <= 10 * CHUNK);
    assert!(taken(dir.path()) <= 10 * CHUNK);
    assert_eq!(read(&disk, 0, 2 * CHUNK, 0), BlockMask::FULL);
    assert_eq!(read(&disk, 59, 2 * CHUNK, 0), BlockMask::FULL);
    assert_eq!(read(&disk, 50, 2 * CHUNK, 0), BlockMask::EMPTY);
}

#[test]
fn packs_are_evicted_whole_and_the_budget_is_kept() {
    let dir = TempDir::new().unwrap();
    // More than one pack is written; the budget holds less than two.
    let budget = 40 << 20;
    let disk = open_with(dir.path(), budget);
    let files = 4000;
    for file in 0..files {
        store(&disk, file, 16 << 10, 0, BlockMask::FULL);
        if file % 500 == 0 {
            disk.flush();
            assert!(disk.stats().resident_bytes <= budget);
        }
    }
    disk.flush();
    assert!(disk.stats().resident_bytes <= budget);
    assert_eq!(read(&disk, 0, 16 << 10, 0), BlockMask::EMPTY);
    assert_eq!(read(&disk, files - 1, 16 << 10, 0), BlockMask(0xf));
    let there = |disk: &Disk| {
        (0..files)
            .filter(|f| !read(disk, *f, 16 << 10, 0).is_empty())
            .count()
    };
    let before = there(&disk);
    assert!(before > 1000);
    drop(disk);
    let disk = open_with(dir.path(), budget);
    assert_eq!(there(&disk), before, "every pack is found again");
}

#[test]
fn a_file_larger_than_the_budget_flows_through() {
    let dir = TempDir::new().unwrap();
    let budget = 64 * CHUNK;
    let disk = open_with(dir.path(), budget);
    let (size, chunks) = (400 * CHUNK, 400);
    for index in 0..chunks {
        store(&disk, 1, size, index, BlockMask::FULL);
        if index % 8 == 7 {
            disk.flush();
            assert!(disk.stats().resident_bytes <= budget);
            // The part just stored stays.
            assert_eq!(read(&disk, 1, size, index), BlockMask::FULL);
        }
    }
    assert!(taken(dir.path()) <= budget);
    assert_eq!(read(&disk, 1, size, 0), BlockMask::EMPTY);
    let run = disk.read_run(&key(1), size, ChunkIndex(chunks - 50), 50);
    assert!(run.iter().all(|chunk| chunk.mask() == BlockMask::FULL));
    let stats = disk.stats();
    assert_eq!((stats.corrupt, stats.errors), (0, 0), "{stats:?}");
    assert!(stats.evicted_bytes >= (chunks - 64) * CHUNK);
}

#[test]
fn blocks_of_zeros_take_no_room_and_come_back() {
    let dir = TempDir::new().unwrap();
    let disk = open(dir.path());
    let (size, chunks) = (100 * CHUNK + 5, 101);
    let zeros = |index| {
        let len = ChunkIndex(index).len_in(size);
        Chunk::piece(0, Bytes::from(vec![0; len]))
    };
    let read_zeros = |disk: &Disk| {
        for index in (0..chunks).filter(|index| *index != 50) {
            let chunk = disk.read(&key(1), size, ChunkIndex(index), BlockMask::FULL);
            assert_eq!(chunk.mask(), whole(size, index), "{index}");
            assert!(
                chunk
                    .parts()
                    .all(|(_, bytes)| bytes.iter().all(|b| *b == 0))
            );
        }
    };
    for index in 0..chunks {
        assert!(disk.store(&key(1), size, ChunkIndex(index), zeros(index)));
    }
    disk.flush();
    read_zeros(&disk);
    assert_eq!(disk.stats().written_bytes, 0);
    assert!(disk.stats().resident_bytes < CHUNK);

    // Zeros and data in one chunk, over what a dropped chunk left behind.
    let data = layout::SharePaths::new(dir.path(), SHARE).data(&key(1).digest());
    let garbage = vec![0xee; CHUNK_BYTES];
    file::write_at(&file::open(&data).unwrap(), &garbage, 50 * CHUNK).unwrap();
    assert_eq!(read_mask(&disk, size, 50), BlockMask::EMPTY);
    disk.flush();
    let mut bytes = vec![0; CHUNK_BYTES];
    bytes[BLOCK_BYTES..3 * BLOCK_BYTES].copy_from_slice(&truth(1, 0, 2 * BLOCK_BYTES as u64));
    bytes[CHUNK_BYTES - 1] = 1;
    let mixed = Chunk::piece(0, Bytes::from(bytes.clone()));
    assert!(disk.store(&key(1), size, ChunkIndex(50), mixed));
    disk.flush();
    assert_eq!(disk.stats().written_bytes, 3 * BLOCK_BYTES as u64);
    let chunk = disk.read(&key(1), size, ChunkIndex(50), BlockMask::FULL);
    assert_eq!(chunk.slice(0, CHUNK_BYTES).unwrap(), bytes);
    read_zeros(&disk);
    drop(disk);
    read_zeros(&open(dir.path()));
}

fn read_mask(disk: &Disk, size: u64, index: u64) -> BlockMask {
    let index = ChunkIndex(index);
    disk.read(&key(1), size, index, BlockMask::FULL).mask()
}

#[test]
fn nothing_is_stored_without_a_budget() {
    let dir = TempDir::new().unwrap();
    let disk = open_with(dir.path(), 0);
    let chunk = true_chunk(1, CHUNK, 0, BlockMask::FULL);
    assert!(!disk.store(&key(1), CHUNK, ChunkIndex(0), chunk));
    assert_eq!(read(&disk, 1, CHUNK, 0), BlockMask::EMPTY);
}

#[test]
fn a_full_queue_refuses_and_does_not_block() {
    let dir = TempDir::new().unwrap();
    let disk = open(dir.path());
    disk.inner.queue.pause(true);
    let chunk = true_chunk(1, CHUNK, 0, BlockMask::FULL);
    let mut taken = 0;
    for file in 0..1000 {
        if !disk.store(&key(file), CHUNK, ChunkIndex(0), chunk.clone()) {
            break;
        }
        taken += 1;
    }
    assert!((500..512).contains(&taken), "{taken}");
    let stats = disk.stats();
    assert!(stats.queue_bytes <= limits::QUEUE_BYTES_MAX as u64);
    assert_eq!(stats.refused, 1);
    disk.inner.queue.pause(false);
    disk.flush();
    assert_eq!(disk.stats().queue_bytes, 0);
    assert!(disk.store(&key(2000), CHUNK, ChunkIndex(0), chunk));
}

/// A small file system, unmounted at the end.
struct Tmpfs(TempDir);

impl Tmpfs {
    fn mount(options: &std::ffi::CStr) -> Option<Self> {
        let dir = TempDir::new().unwrap();
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("tmpfs", dir.path(), "tmpfs", flags, options).ok()?;
        Some(Self(dir))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.0.path(), rustix::mount::UnmountFlags::DETACH);
    }
}

#[test]
fn a_full_disk_costs_stores_and_no_read() {
    let Some(tmpfs) = Tmpfs::mount(c"size=3m") else {
        eprintln!("a_full_disk_costs_stores_and_no_read did not run: it may not mount a tmpfs");
        return;
    };
    let disk = open(tmpfs.0.path());
    let (size, chunks) = (6 * CHUNK, 6);
    for file in 0..20 {
        for index in 0..chunks {
            let chunk = true_chunk(file, size, index, BlockMask::FULL);
            disk.store(&key(file), size, ChunkIndex(index), chunk);
        }
        let small = true_chunk(100 + file, 9000, 0, BlockMask::FULL);
        disk.store(&key(100 + file), 9000, ChunkIndex(0), small);
        disk.flush();
        for file in 0..=file {
            for index in 0..chunks {
                read(&disk, file, size, index);
            }
            read(&disk, 100 + file, 9000, 0);
        }
    }
    let stats = disk.stats();
    assert!(stats.errors > 0, "{stats:?}");
    assert!(stats.evicted_bytes > 0 && stats.refused > 0, "{stats:?}");
    assert_eq!(stats.corrupt, 0, "{stats:?}");
    // After the pause it stores again.
    let chunk = true_chunk(500, CHUNK, 0, BlockMask::FULL);
    for _ in 0..=limits::STORES_SKIPPED {
        disk.store(&key(500), CHUNK, ChunkIndex(0), chunk.clone());
    }
    disk.flush();
    assert_eq!(read(&disk, 500, CHUNK, 0), BlockMask::FULL);
}
