//! Many at once: readers of one mount, those who make files in it, mounts of one host.
//!
//! Through real mounts over the loopback interface. Every reader has a file of its own that was made
//! for that iteration. Everyone who makes files does it in a folder of their own, since a kernel makes one
//! file of a folder at a time. Connecting is what a user waits for: from starting `wormhole mount`, fifty of
//! them at once, until the last one answers.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};
use wormhole_benches::pair::{Mount, MountOptions, Pair};
use wormhole_benches::scale::Scale;
use wormhole_benches::tree::Tree;

const READERS: u64 = 10;
const MAKERS: u64 = 16;

fn read_through(path: &Path) -> u64 {
    let mut file = File::open(path).expect("opened");
    let (mut buffer, mut total) = (vec![0; 1 << 20], 0);
    loop {
        match file.read(&mut buffer).expect("read") {
            0 => return total,
            n => total += n as u64,
        }
    }
}

fn readers(c: &mut Criterion) {
    let Some(pair) = Pair::open_for("concurrency: 10 parallel readers") else {
        return;
    };
    let options = MountOptions {
        l2_size: Some("3G"),
        ..MountOptions::default()
    };
    let mount = pair.mount(&options).expect("mounted");
    let mut tree = Tree::new(&pair.share());
    let bytes: u64 = Scale::of_this_run().pick(32 << 20, 1 << 20);
    let mut group = c.benchmark_group("concurrency");
    group.sample_size(10);
    group.throughput(Throughput::Bytes(READERS * bytes));
    group.bench_function("10 parallel readers", |b| {
        b.iter_custom(|n| {
            let mut total = Duration::ZERO;
            for _ in 0..n {
                let name = tree.fresh_folder(READERS, bytes).expect("fresh files");
                let folder = mount.sees(&name);
                let began = Instant::now();
                std::thread::scope(|scope| {
                    for i in 0..READERS {
                        let path = folder.join(i.to_string());
                        scope.spawn(move || assert_eq!(read_through(&path), bytes));
                    }
                });
                total += began.elapsed();
                tree.remove(&name).expect("removed");
            }
            total
        });
    });
    group.finish();
}

fn makers(c: &mut Criterion) {
    let Some(pair) = Pair::open_for("concurrency: 16 threads making files") else {
        return;
    };
    let mount = pair
        .mount(&MountOptions::without_disk_cache())
        .expect("mounted");
    let each: u64 = Scale::of_this_run().pick(50, 5);
    let folders: Vec<_> = (0..MAKERS)
        .map(|i| mount.path().join(i.to_string()))
        .collect();
    let mut group = c.benchmark_group("concurrency");
    group.sample_size(10);
    group.throughput(Throughput::Elements(MAKERS * each));
    group.bench_function("16 threads making files of 4 KiB", |b| {
        b.iter_custom(|n| {
            let mut total = Duration::ZERO;
            for _ in 0..n {
                for folder in &folders {
                    fs::create_dir(folder).expect("a folder");
                }
                let began = Instant::now();
                std::thread::scope(|scope| {
                    for folder in &folders {
                        scope.spawn(|| make(folder, each));
                    }
                });
                total += began.elapsed();
                for folder in &folders {
                    fs::remove_dir_all(folder).expect("removed");
                }
            }
            total
        });
    });
    group.finish();
}

fn make(folder: &Path, files: u64) {
    for i in 0..files {
        fs::write(folder.join(i.to_string()), [7; 4096]).expect("a new file");
    }
}

fn clients(c: &mut Criterion) {
    let Some(pair) = Pair::open_for("concurrency: 50 clients connecting") else {
        return;
    };
    let count: u64 = Scale::of_this_run().pick(50, 5);
    let options = MountOptions::without_disk_cache();
    let mut group = c.benchmark_group("concurrency");
    group.sample_size(10);
    group.throughput(Throughput::Elements(count));
    group.bench_function("50 clients connecting", |b| {
        b.iter_custom(|n| {
            let mut total = Duration::ZERO;
            for _ in 0..n {
                let began = Instant::now();
                let starting: Vec<_> = (0..count)
                    .map(|i| pair.start_mount(&format!("client-{i}"), &options))
                    .collect();
                let mounts: Vec<Mount> = starting
                    .into_iter()
                    .map(|mount| mount.and_then(|mount| mount.ready()).expect("mounted"))
                    .collect();
                total += began.elapsed();
                drop(mounts);
            }
            total
        });
    });
    group.finish();
}

criterion_group!(benches, readers, makers, clients);
criterion_main!(benches);
