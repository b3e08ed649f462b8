//! How long a program waits: for the first byte, for a `stat`, for a listing, for a small file that it makes.
//!
//! Through a real mount over the loopback interface, so what is measured is what the program itself
//! costs. Cold means that the file or folder was made for that iteration and no cache has seen it; as
//! in life, the folder a file lies in has just been listed.

use criterion::{Criterion, criterion_group, criterion_main};
use std::fs::{self, File};
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};
use wormhole_benches::pair::{Mount, MountOptions, Pair};
use wormhole_benches::scale::Scale;
use wormhole_benches::tree::Tree;

/// Cold files made at once: few enough to be read while their listing is believed.
const FILES_AT_ONCE: u64 = 100;
const FILE_BYTES: u64 = 16 * 1024;

/// Opens `path` and reads its first block.
fn first_byte(path: &Path) {
    let mut block = [0; 4096];
    let file = File::open(path).expect("opened");
    file.read_exact_at(&mut block, 0).expect("its first block");
}

/// Lists `folder` with the attributes of every entry; returns how many there are.
fn list(folder: &Path) -> u64 {
    let mut found = 0;
    for entry in fs::read_dir(folder).expect("listed") {
        let entry = entry.expect("an entry");
        black_box(entry.metadata().expect("attributes"));
        found += 1;
    }
    found
}

/// Times `work` on `iterations` files that nobody has asked for. `listed`: their folder has been.
fn on_fresh_files(
    tree: &mut Tree,
    mount: &Mount,
    iterations: u64,
    listed: bool,
    work: impl Fn(&Path),
) -> Duration {
    let (mut total, mut left) = (Duration::ZERO, iterations);
    while left > 0 {
        let count = left.min(FILES_AT_ONCE);
        let name = tree.fresh_folder(count, FILE_BYTES).expect("fresh files");
        let folder = mount.sees(&name);
        if listed {
            list(&folder);
        }
        for i in 0..count {
            let path = folder.join(i.to_string());
            let began = Instant::now();
            work(&path);
            total += began.elapsed();
        }
        tree.remove(&name).expect("removed");
        left -= count;
    }
    total
}

fn latency(c: &mut Criterion) {
    let Some(pair) = Pair::open_for("latency") else {
        return;
    };
    let mount = pair.mount(&MountOptions::default()).expect("mounted");
    let mut tree = Tree::new(&pair.share());
    let mut group = c.benchmark_group("latency");
    group.sample_size(20);

    group.bench_function("first byte/cold", |b| {
        b.iter_custom(|n| on_fresh_files(&mut tree, &mount, n, true, first_byte));
    });
    let known = tree.fresh_file(FILE_BYTES).expect("a file");
    let known = mount.sees(&known);
    group.bench_function("first byte/warm", |b| b.iter(|| first_byte(&known)));
    group.bench_function("first byte/warm, page cache dropped", |b| {
        let file = File::open(&known).expect("opened");
        b.iter_custom(|n| {
            let mut total = Duration::ZERO;
            for _ in 0..n {
                Mount::drop_pages(&file).expect("dropped");
                let began = Instant::now();
                first_byte(&known);
                total += began.elapsed();
            }
            total
        });
    });

    let stat = |path: &Path| {
        black_box(fs::metadata(path).expect("attributes"));
    };
    group.bench_function("stat/cold", |b| {
        b.iter_custom(|n| on_fresh_files(&mut tree, &mount, n, false, stat));
    });
    group.bench_function("stat/warm", |b| b.iter(|| stat(&known)));

    let made = mount.path().join("made");
    fs::create_dir(&made).expect("a folder");
    let mut count = 0;
    group.bench_function("create, write and close 4 KiB", |b| {
        b.iter(|| {
            count += 1;
            fs::write(made.join(count.to_string()), [7; 4096]).expect("a new file");
        });
    });

    let entries = Scale::of_this_run().pick(1000, 50);
    group.sample_size(10);
    group.bench_function("readdir of 1,000/cold", |b| {
        b.iter_custom(|n| {
            let mut total = Duration::ZERO;
            for _ in 0..n {
                let name = tree.fresh_folder(entries, 0).expect("a fresh folder");
                let folder = mount.sees(&name);
                let began = Instant::now();
                let found = list(&folder);
                total += began.elapsed();
                assert_eq!(found, entries);
                tree.remove(&name).expect("removed");
            }
            total
        });
    });
    let known = tree.fresh_folder(entries, 0).expect("a folder");
    let known = mount.sees(&known);
    group.bench_function("readdir of 1,000/warm", |b| b.iter(|| list(&known)));
    group.finish();
}

criterion_group!(benches, latency);
criterion_main!(benches);
