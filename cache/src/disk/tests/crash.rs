//! An owner that is killed while it writes.

use super::*;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

const ROOT: &str = "WORMHOLE_TEST_CACHE_ROOT";
const SIZE: u64 = 200 * CHUNK;

/// Not a test by itself: the process that `a_killed_owner_leaves_nothing_untrue` kills.
#[test]
fn stores_until_it_is_killed() {
    let Some(root) = std::env::var_os(ROOT) else {
        return;
    };
    let disk = open(Path::new(&root));
    let mut said = false;
    for round in 0_u64.. {
        let (file, index) = (round % 5, round * 7 % 200);
        let mask = BlockMask(if round % 4 == 0 {
            u32::MAX
        } else {
            0x00ff_ff00 >> (round % 9)
        });
        disk.store(
            &key(file),
            SIZE,
            ChunkIndex(index),
            true_chunk(file, SIZE, index, mask),
        );
        let small = true_chunk(10 + round, 9000, 0, BlockMask::FULL);
        disk.store(&key(10 + round), 9000, ChunkIndex(0), small);
        if !said && disk.stats().written_bytes > 4 << 20 {
            said = true;
            println!("written");
        }
    }
}

#[test]
fn a_killed_owner_leaves_nothing_untrue() {
    let dir = TempDir::new().unwrap();
    for _ in 0..4 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "disk::tests::crash::stores_until_it_is_killed",
                "--nocapture",
            ])
            .env(ROOT, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // Kept open: a closed pipe would end the child before it is killed.
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let written = lines.any(|line| line.unwrap().contains("written"));
        assert!(written, "the child died by itself");
        child.kill().unwrap();
        child.wait().unwrap();

        let disk = open(dir.path());
        let mut held = 0;
        for file in 0..5 {
            for index in 0..200 {
                held += read(&disk, file, SIZE, index).count();
            }
            let run = disk.read_run(&key(file), SIZE, ChunkIndex(0), 200);
            (0..)
                .zip(&run)
                .for_each(|(index, chunk)| assert_true(chunk, file, index));
        }
        assert!(held > 0);
        assert!((10..40).any(|file| !read(&disk, file, 9000, 0).is_empty()));
    }
}

/// Power lost: the slots had reached the disk, the bytes had not.
#[test]
fn promises_without_bytes_are_not_believed() {
    let dir = TempDir::new().unwrap();
    let disk = open(dir.path());
    (0..8).for_each(|index| store(&disk, 1, SIZE, index, BlockMask::FULL));
    drop(disk);
    let data = layout::SharePaths::new(dir.path(), SHARE).data(&key(1).digest());
    let len = std::fs::metadata(&data).unwrap().len();
    let file = file::open(&data).unwrap();
    file.set_len(0).unwrap();
    file.set_len(len).unwrap();
    let disk = open(dir.path());
    let run = disk.read_run(&key(1), SIZE, ChunkIndex(0), 8);
    assert!(run.iter().all(|chunk| chunk.mask().is_empty()));
    assert_eq!(disk.stats().corrupt, 8);
}
