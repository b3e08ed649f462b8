//! What words cost: a header, a listing, a hash.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use wormhole_protocol::codec::Wire;
use wormhole_protocol::limits::{CHUNK_BYTES, FRAME_PREFIX_BYTES, LIST_FRAME_ENTRIES_MAX};
use wormhole_protocol::{
    Attr, ContentVersion, Entry, FileId, FileKind, ListFrame, Name, Reply, Timestamp,
};

/// Entries of the listing that is measured.
const ENTRIES: usize = 1000;

fn attr(inode: u64) -> Attr {
    let time = Timestamp::new(1_763_704_800, 123_456_789).expect("a valid time");
    Attr {
        id: FileId {
            device: 0x801,
            inode,
            birth: 1_763_704_800_123_456_789,
        },
        kind: FileKind::File,
        mode: 0o644,
        links: 1,
        uid: 1000,
        gid: 1000,
        rdev: 0,
        size: 123_456,
        blocks: 248,
        accessed: time,
        modified: time,
        changed: time,
        xattrs: false,
        version: ContentVersion([7; 16]),
    }
}

/// A listing as it travels: as few frames as it fits in.
fn listing() -> Vec<ListFrame> {
    let entries: Vec<Entry> = (0..ENTRIES as u64)
        .map(|i| Entry {
            name: Name::new(format!("IMG_{i:05}.jpeg")).expect("a valid name"),
            attr: attr(i),
        })
        .collect();
    let frames = entries.chunks(LIST_FRAME_ENTRIES_MAX);
    let last = frames.len() - 1;
    frames
        .enumerate()
        .map(|(i, entries)| ListFrame {
            entries: entries.to_vec(),
            last: i == last,
        })
        .collect()
}

fn headers(c: &mut Criterion) {
    let mut group = c.benchmark_group("protocol");
    let reply = Reply::Data {
        attr: attr(1),
        len: CHUNK_BYTES as u64,
    };
    let frame = reply.to_frame().expect("within limits");
    group.bench_function("read reply header/encode", |b| {
        b.iter(|| black_box(&reply).to_frame());
    });
    group.bench_function("read reply header/decode", |b| {
        b.iter(|| Reply::from_body(black_box(&frame[FRAME_PREFIX_BYTES..])));
    });

    let frames = listing();
    let encoded: Vec<Vec<u8>> = frames
        .iter()
        .map(|frame| frame.to_frame().expect("within limits"))
        .collect();
    group.throughput(Throughput::Elements(ENTRIES as u64));
    group.bench_function("listing of 1,000/encode", |b| {
        b.iter(|| {
            for frame in &frames {
                let _ = black_box(black_box(frame).to_frame());
            }
        });
    });
    group.bench_function("listing of 1,000/decode", |b| {
        b.iter(|| {
            for frame in &encoded {
                let _ = black_box(ListFrame::from_body(&frame[FRAME_PREFIX_BYTES..]));
            }
        });
    });

    group.throughput(Throughput::Bytes(CHUNK_BYTES as u64));
    group.bench_function("blake3 of 128 KiB", |b| {
        b.iter_batched_ref(
            || vec![0xa5u8; CHUNK_BYTES],
            |chunk| blake3::hash(chunk),
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

criterion_group!(benches, headers);
criterion_main!(benches);
