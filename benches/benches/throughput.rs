//! How fast bytes come, in order and at random, the first time and again; and how fast they go.
//!
//! Through a real mount over the loopback interface. Cold reads a file that was made for that
//! iteration. "Again" drops the kernel's pages first, so that the mount's own caches answer: a file
//! that fits the memory cache from there, a larger one mostly from disk. Writing counts until the host has
//! the bytes on its disk.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};
use wormhole_benches::pair::{Mount, MountOptions, Pair};
use wormhole_benches::scale::Scale;
use wormhole_benches::tree::{Random, Tree};

const BLOCK_BYTES: usize = 4096;
/// Room on disk for the file being read and the one before it, and not for every one there was.
const L2_SIZE: &str = "3G";

/// Reads the whole of `path`, a megabyte at a time; returns how long that took.
fn read_through(path: &Path, buffer: &mut [u8], expected: u64) -> Duration {
    let began = Instant::now();
    let mut file = File::open(path).expect("opened");
    let mut total = 0;
    loop {
        match file.read(buffer).expect("read") {
            0 => break,
            n => total += n as u64,
        }
    }
    let took = began.elapsed();
    assert_eq!(total, expected, "a short file");
    took
}

/// Times `count` reads of 4 KiB at the next places of `places`; `refill` gives a file and new places
/// when they have run out.
struct RandomReads<'a> {
    places: Vec<u64>,
    file: Option<File>,
    refill: &'a mut dyn FnMut() -> (File, Vec<u64>),
}

impl RandomReads<'_> {
    fn time(&mut self, count: u64) -> Duration {
        let mut block = [0; BLOCK_BYTES];
        let mut total = Duration::ZERO;
        for _ in 0..count {
            let (file, place) = loop {
                match (&self.file, self.places.pop()) {
                    (Some(file), Some(place)) => break (file, place),
                    _ => {
                        let (file, places) = (self.refill)();
                        (self.file, self.places) = (Some(file), places);
                    }
                }
            };
            let began = Instant::now();
            file.read_exact_at(&mut block, place * BLOCK_BYTES as u64)
                .expect("a block");
            total += began.elapsed();
        }
        total
    }
}

fn throughput(c: &mut Criterion) {
    let Some(pair) = Pair::open_for("throughput") else {
        return;
    };
    let options = MountOptions {
        l2_size: Some(L2_SIZE),
        ..MountOptions::default()
    };
    let mount = pair.mount(&options).expect("mounted");
    let mut tree = Tree::new(&pair.share());
    sequential(c, &mount, &mut tree);
    random(c, &mount, &mut tree);
    written(c, &mount);
}

/// Writes a new file of `bytes` bytes and waits until it is on the host's disk; returns how long that took.
fn write_through(path: &Path, piece: &[u8], bytes: u64) -> Duration {
    let began = Instant::now();
    let mut file = File::create_new(path).expect("created");
    for _ in 0..bytes / piece.len() as u64 {
        file.write_all(piece).expect("written");
    }
    file.sync_all().expect("on disk");
    drop(file);
    began.elapsed()
}

fn written(c: &mut Criterion, mount: &Mount) {
    let bytes: u64 = Scale::of_this_run().pick(1 << 30, 8 << 20);
    let mut random = Random(2);
    let piece: Vec<u8> = (0..(1 << 20) / 8)
        .flat_map(|_| random.number().to_le_bytes())
        .collect();
    let path = mount.path().join("written");
    let mut group = c.benchmark_group("throughput");
    group.sample_size(10);
    group.throughput(Throughput::Bytes(bytes));
    group.bench_function("sequential 1 GiB/write and fsync", |b| {
        b.iter_custom(|n| {
            let mut total = Duration::ZERO;
            for _ in 0..n {
                total += write_through(&path, &piece, bytes);
                fs::remove_file(&path).expect("removed");
            }
            total
        });
    });
    group.finish();
}

fn sequential(c: &mut Criterion, mount: &Mount, tree: &mut Tree) {
    let scale = Scale::of_this_run();
    let large: u64 = scale.pick(1 << 30, 8 << 20);
    let small: u64 = scale.pick(128 << 20, 4 << 20);
    let mut buffer = vec![0; 1 << 20];
    let mut group = c.benchmark_group("throughput");
    group.sample_size(10);

    group.throughput(Throughput::Bytes(large));
    group.bench_function("sequential 1 GiB/cold", |b| {
        b.iter_custom(|n| {
            let mut total = Duration::ZERO;
            for _ in 0..n {
                let name = tree.fresh_file(large).expect("a fresh file");
                total += read_through(&mount.sees_file(&name, large), &mut buffer, large);
                tree.remove(&name).expect("removed");
            }
            total
        });
    });
    for (id, bytes) in [
        ("sequential 1 GiB/again", large),
        ("sequential 128 MiB/again, from memory", small),
    ] {
        let name = tree.fresh_file(bytes).expect("a file");
        let path = mount.sees_file(&name, bytes);
        read_through(&path, &mut buffer, bytes);
        group.throughput(Throughput::Bytes(bytes));
        group.bench_function(id, |b| {
            b.iter_custom(|n| {
                let mut total = Duration::ZERO;
                for _ in 0..n {
                    let file = File::open(&path).expect("opened");
                    Mount::drop_pages(&file).expect("dropped");
                    total += read_through(&path, &mut buffer, bytes);
                }
                total
            });
        });
        tree.remove(&name).expect("removed");
    }
    group.finish();
}

fn random(c: &mut Criterion, mount: &Mount, tree: &mut Tree) {
    let scale = Scale::of_this_run();
    let large: u64 = scale.pick(1 << 30, 4 << 20);
    let small: u64 = scale.pick(128 << 20, 4 << 20);
    let mut group = c.benchmark_group("throughput");
    group.throughput(Throughput::Bytes(BLOCK_BYTES as u64));
    group.sample_size(10);

    let mut seeds = Random(1);
    let mut last: Option<String> = None;
    let mut refill = || {
        if let Some(name) = last.take() {
            tree.remove(&name).expect("removed");
        }
        let name = tree.fresh_file(large).expect("a fresh file");
        let file = File::open(mount.sees_file(&name, large)).expect("opened");
        Mount::expect_random(&file).expect("advised");
        last = Some(name);
        (file, seeds.shuffled(large / BLOCK_BYTES as u64))
    };
    let mut cold = RandomReads {
        places: Vec::new(),
        file: None,
        refill: &mut refill,
    };
    group.bench_function("random 4 KiB/cold", |b| b.iter_custom(|n| cold.time(n)));
    drop(cold);

    let name = tree.fresh_file(small).expect("a file");
    let path = mount.sees_file(&name, small);
    read_through(&path, &mut vec![0; 1 << 20], small);
    let mut refill = || {
        let file = File::open(&path).expect("opened");
        Mount::expect_random(&file).expect("advised");
        Mount::drop_pages(&file).expect("dropped");
        (file, seeds.shuffled(small / BLOCK_BYTES as u64))
    };
    let mut again = RandomReads {
        places: Vec::new(),
        file: None,
        refill: &mut refill,
    };
    group.bench_function("random 4 KiB/again, from memory", |b| {
        b.iter_custom(|n| again.time(n));
    });
    group.finish();
}

criterion_group!(benches, throughput);
criterion_main!(benches);
