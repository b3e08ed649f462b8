//! The caches by themselves: memory, disk, single flight. No network, no kernel.
//!
//! Disk groups work in a temporary directory (`TMPDIR`) and measure what the page cache gives, unless
//! it is smaller than the data. With `--test` everything runs once and small.

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use wormhole_cache::{
    Chunk, ChunkKey, Claim, ContentDigest, ContentKey, Disk, DiskConfig, Flights, Memory,
};
use wormhole_protocol::limits::{BLOCK_BYTES, CHUNK_BYTES};
use wormhole_protocol::{BlockMask, ChunkIndex, ContentVersion, FileId, ShareId};

const SHARE: ShareId = ShareId([7; 16]);
const CHUNK: u64 = CHUNK_BYTES as u64;

/// Whether this is a trial run. `cargo bench` says `--bench`, and only it; so does criterion tell.
fn small() -> bool {
    let said = |what: &str| std::env::args().any(|arg| arg == what);
    said("--test") || !said("--bench")
}

fn content(file: u64) -> ContentKey {
    ContentKey {
        share: SHARE,
        file: FileId {
            device: 1,
            inode: file,
            birth: 0,
        },
        version: ContentVersion([1; 16]),
    }
}

fn memory_key(index: u64) -> ChunkKey {
    ChunkKey::new(ContentDigest([1; 16]), ChunkIndex(index))
}

fn whole() -> Chunk {
    Chunk::piece(0, Bytes::from(vec![0x5a; CHUNK_BYTES]))
}

/// Numbers without a pattern, the same in every run (splitmix64).
fn scatter(i: u64) -> u64 {
    let x = i.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb) >> 16
}

fn open(dir: &TempDir) -> Disk {
    let config = DiskConfig {
        root: dir.path().to_owned(),
        budget_bytes: 64 << 30,
    };
    Disk::open(config, SHARE).expect("a temporary directory takes a cache")
}

/// Stores a chunk, waiting while the queue is full.
fn store(disk: &Disk, file: u64, size: u64, index: u64, chunk: &Chunk) {
    while !disk.store(&content(file), size, ChunkIndex(index), chunk.clone()) {
        disk.flush();
    }
}

fn l1_hit(c: &mut Criterion) {
    let memory = Memory::new(256 << 20);
    let chunks = if small() { 16 } else { 1024 };
    (0..chunks).for_each(|index| memory.insert(memory_key(index), whole()));
    memory.settle();
    let mut group = c.benchmark_group("l1_hit");
    let mut i = 0;
    group.bench_function("look_up", |b| {
        b.iter(|| {
            i += 1;
            memory.get(&memory_key(scatter(i) % chunks))
        });
    });
    group.throughput(Throughput::Bytes(CHUNK));
    let mut out = vec![0; CHUNK_BYTES];
    group.bench_function("copy_chunk", |b| {
        b.iter(|| {
            i += 1;
            let chunk = memory.get(&memory_key(i % chunks));
            chunk.is_some_and(|chunk| chunk.copy_to(0, black_box(&mut out)))
        });
    });
    group.finish();
}

fn l1_eviction(c: &mut Criterion) {
    let (total, capacity) = if small() {
        (8 << 20, 4 << 20)
    } else {
        (512 << 20, 256 << 20)
    };
    let chunk = whole();
    let mut group = c.benchmark_group("l1_eviction");
    group.sample_size(10).throughput(Throughput::Bytes(total));
    group.bench_function("512_into_256_mib", |b| {
        b.iter_batched(
            || Memory::new(capacity),
            |memory| {
                for index in 0..total / CHUNK {
                    memory.insert(memory_key(index), chunk.clone());
                }
                memory.settle();
                assert!(memory.stats().resident_bytes <= capacity);
                memory
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

/// A million chunks of which one block each is present: every look-up reads one slot and one block.
/// The blocks are zeros, so that the million takes no room and is removed again in no time.
fn l2_million(c: &mut Criterion) {
    let (contents, chunks, reads) = if small() {
        (4, 64, 100)
    } else {
        (64, 15_625, 10_000)
    };
    let dir = TempDir::new().expect("a temporary directory");
    let disk = open(&dir);
    let size = chunks * CHUNK;
    let block = Chunk::piece(0, Bytes::from(vec![0; BLOCK_BYTES]));
    let start = Instant::now();
    for file in 0..contents {
        (0..chunks).for_each(|index| store(&disk, file, size, index, &block));
    }
    disk.flush();
    let total = contents * chunks;
    eprintln!("l2_million: {total} chunks stored in {:?}", start.elapsed());
    drop(disk);
    let start = Instant::now();
    let disk = open(&dir);
    eprintln!("l2_million: opened in {:?}", start.elapsed());
    disk.settle();
    eprintln!("l2_million: scanned in {:?}", start.elapsed());

    let mut group = c.benchmark_group("l2_million");
    group
        .sample_size(10)
        .throughput(Throughput::Elements(reads));
    let mut i = 0;
    group.bench_function("random_reads", |b| {
        b.iter(|| {
            for _ in 0..reads {
                i += 1;
                let at = scatter(i) % total;
                let index = ChunkIndex(at % chunks);
                let found = disk.read(&content(at / chunks), size, index, BlockMask(1));
                assert_eq!(found.mask(), BlockMask(1));
            }
        });
    });
    group.bench_function("random_misses", |b| {
        b.iter(|| {
            for _ in 0..reads {
                i += 1;
                let index = ChunkIndex(scatter(i) % chunks);
                disk.read(&content(contents + i % 1000), size, index, BlockMask(1));
            }
        });
    });
    group.finish();
    assert_eq!(disk.stats().corrupt, 0);
}

fn l2_rates(c: &mut Criterion) {
    let chunks: u64 = if small() { 32 } else { 2048 };
    let size = chunks * CHUNK;
    let chunk = whole();
    let mut group = c.benchmark_group("l2_rates");
    group.sample_size(10).throughput(Throughput::Bytes(size));
    for (name, random) in [("write_in_order", false), ("write_at_random", true)] {
        group.bench_function(name, |b| {
            b.iter_custom(|rounds| {
                let mut spent = Duration::ZERO;
                for _ in 0..rounds {
                    let dir = TempDir::new().expect("a temporary directory");
                    let disk = open(&dir);
                    let start = Instant::now();
                    for i in 0..chunks {
                        // Odd, and so a permutation of a power of two.
                        let index = if random { i * 1_025_957 % chunks } else { i };
                        store(&disk, 1, size, index, &chunk);
                    }
                    disk.flush();
                    spent += start.elapsed();
                }
                spent
            });
        });
    }

    let dir = TempDir::new().expect("a temporary directory");
    let disk = open(&dir);
    (0..chunks).for_each(|index| store(&disk, 1, size, index, &chunk));
    disk.flush();
    group.throughput(Throughput::Bytes(8 * CHUNK));
    let mut i = 0;
    group.bench_function("read_run_of_8", |b| {
        b.iter(|| {
            i += 1;
            let first = ChunkIndex(i * 8 % chunks);
            let run = disk.read_run(&content(1), size, first, 8);
            assert!(run.iter().all(|chunk| chunk.mask() == BlockMask::FULL));
            run
        });
    });
    group.throughput(Throughput::Bytes(CHUNK));
    group.bench_function("read_chunk_at_random", |b| {
        b.iter(|| {
            i += 1;
            let index = ChunkIndex(scatter(i) % chunks);
            disk.read(&content(1), size, index, BlockMask::FULL)
        });
    });
    let small_size = 8 << 10;
    let small = Chunk::piece(0, Bytes::from(vec![0x5a; 8 << 10]));
    (0..chunks).for_each(|file| store(&disk, 1000 + file, small_size, 0, &small));
    disk.flush();
    group.throughput(Throughput::Bytes(small_size));
    group.bench_function("read_packed_at_random", |b| {
        b.iter(|| {
            i += 1;
            let file = 1000 + scatter(i) % chunks;
            let found = disk.read(&content(file), small_size, ChunkIndex(0), BlockMask(0b11));
            assert_eq!(found.mask(), BlockMask(0b11));
        });
    });
    group.finish();
}

/// 64 readers of one absent chunk, from claim to answer.
fn single_flight_64(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .build()
        .expect("a runtime");
    let chunk = whole();
    let mut group = c.benchmark_group("single_flight_64");
    group.throughput(Throughput::Elements(64));
    group.bench_function("claim_publish_wake", |b| {
        b.iter(|| {
            let flights = Arc::<Flights>::default();
            let key = memory_key(0);
            let Claim { mine, .. } = flights.claim(key, BlockMask::FULL);
            let mut mine = mine.expect("the first claimer fetches");
            let readers: Vec<_> = (1..64)
                .map(|_| {
                    let theirs = flights.claim(key, BlockMask::FULL).theirs;
                    let theirs = theirs.expect("the others wait");
                    runtime.spawn(async move { theirs.await.is_ok() })
                })
                .collect();
            mine.publish(&chunk);
            runtime.block_on(async {
                for reader in readers {
                    assert!(reader.await.expect("a reader does not panic"));
                }
            });
        });
    });
    group.finish();
}

criterion_group!(
    benches,
    l1_hit,
    l1_eviction,
    l2_million,
    l2_rates,
    single_flight_64
);
criterion_main!(benches);
