//! Reads: the right bytes, of one version.

use crate::world::{Stuck, UNSETTLED, World, expecting, node, read};
use proptest::prelude::*;
use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use tokio::io::AsyncReadExt;
use wormhole::rpc::{CallError, Remote};
use wormhole_protocol::{ByteRange, Fault, ReadUrgency, Reply, Request};

/// Bytes that differ everywhere.
fn pattern(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

#[test]
fn any_range_reads_as_the_file_does() {
    const SIZE: usize = 1_700_001;
    let world = World::new();
    let model = pattern(SIZE);
    world.write("f", &model);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mount = runtime.block_on(world.mount());
    let near = |n: u64| (n.saturating_sub(2)..n + 3).boxed();
    let place = prop_oneof![
        0..2 * SIZE as u64,
        near(0),
        near(4096),
        near(128 << 10),
        near(640 << 10),
        near(SIZE as u64),
        near((1 << 62) - 3),
    ];
    let len = prop_oneof![
        1..SIZE as u64 + 9,
        1_u64..9,
        near(128 << 10),
        Just(64 << 20)
    ];
    let config = ProptestConfig::with_cases(150);
    proptest!(config, |(offset in place, len in len, ahead: bool)| {
        let len = len.max(1);
        let from = usize::try_from(offset).unwrap().min(SIZE);
        let to = usize::try_from(offset + len).unwrap().min(SIZE);
        let urgency = if ahead { ReadUrgency::Ahead } else { ReadUrgency::Demand };
        let range = ByteRange::new(offset, len).unwrap();
        let request = Request::Read { node: node("f"), range, urgency };
        let bytes = runtime.block_on(async {
            let mut answer = mount.0.call(request).await.unwrap();
            let mut bytes = Vec::new();
            answer.payload.read_to_end(&mut bytes).await.unwrap();
            assert!(matches!(answer.reply, Reply::Data { len, .. } if len == bytes.len() as u64));
            bytes
        });
        prop_assert!(bytes == model[from..to]);
    });
    drop(mount);
}

#[tokio::test]
async fn a_sparse_file_of_five_gigabytes() {
    const SIZE: u64 = 5 << 30;
    let world = World::new();
    let file = File::create(world.at("sparse")).unwrap();
    file.set_len(SIZE).unwrap();
    file.write_all_at(b"end", SIZE - 3).unwrap();
    file.write_all_at(b"middle", (4 << 30) - 2).unwrap();
    let mount = world.mount().await;
    let attr = mount.lookup("", "sparse").await.unwrap();
    assert_eq!(attr.size, SIZE);
    assert!(attr.blocks * 512 < 1 << 20);
    let at = async |offset, len| mount.read(node("sparse"), offset, len).await.unwrap().1;
    assert_eq!(at(SIZE - 5, 100).await, b"\0\0end");
    assert_eq!(at((4 << 30) - 3, 8).await, b"\0middle\0");
    assert_eq!(at(SIZE, 1).await, b"");
    let zeros = at(1 << 30, 3 << 20).await;
    assert!(zeros.len() == 3 << 20 && zeros.iter().all(|b| *b == 0));
}

#[tokio::test]
async fn a_file_that_changes_under_a_long_read_breaks_it_off() {
    type Change = fn(&File);
    let changes: [(&str, Change); 3] = [
        ("written", |f| f.write_all_at(b"new", 7).unwrap()),
        ("truncated", |f| f.set_len(200_000).unwrap()),
        ("appended", |f| f.write_all_at(b"new", 8 << 20).unwrap()),
    ];
    for (what, change) in changes {
        let world = World::new();
        world.write("f", pattern(8 << 20));
        let mount = world.mount().await;
        let mut answer = mount.0.call(read(node("f"), 0, 8 << 20)).await.unwrap();
        let mut bytes = vec![0; 100];
        answer.payload.read_exact(&mut bytes).await.unwrap();
        change(&File::options().write(true).open(world.at("f")).unwrap());
        let error = answer.payload.read_to_end(&mut bytes).await.unwrap_err();
        assert_eq!(
            CallError::from_io(&error),
            CallError::Fault(Fault::Changed),
            "{what}"
        );
        assert!(
            bytes == pattern(8 << 20)[..bytes.len()],
            "{what}: of the old version"
        );
        assert!(bytes.len() < 8 << 20);
        // Asking again gives the new one.
        let now = fs::read(world.at("f")).unwrap();
        let (attr, bytes) = mount.read(node("f"), 0, 9 << 20).await.unwrap();
        assert!(bytes == now && attr.size == now.len() as u64, "{what}");
        assert_eq!(world.counters().faults["Changed"], 1);
    }
}

/// The promise behind every cache: equal versions, equal bytes; no reply mixes two versions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_versions_mean_equal_bytes() {
    const LEN: usize = 700_000;
    let world = World::new();
    world.write("f", vec![0; LEN]);
    let stop = Arc::new(AtomicBool::new(false));
    let writer = std::thread::spawn({
        let (stop, file) = (
            stop.clone(),
            File::options().write(true).open(world.at("f")).unwrap(),
        );
        move || {
            let mut bytes = vec![0; LEN];
            for round in 0_u64.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                bytes.fill(u8::try_from(round % 251).unwrap());
                file.write_all_at(&bytes, 0).unwrap();
                // Now and then long enough for the file to settle.
                let pause = if round % 8 == 7 { 70 } else { round % 3 };
                std::thread::sleep(std::time::Duration::from_millis(pause));
            }
        }
    });
    let mount = world.mount().await;
    let mut seen = HashMap::new();
    let (mut whole, mut again) = (0, 0);
    for _ in 0..1500 {
        match mount.read(node("f"), 0, LEN as u64).await {
            Ok((attr, bytes)) => {
                let hash = blake3::hash(&bytes);
                whole += 1;
                if let Some(before) = seen.insert(attr.version, hash) {
                    assert_eq!(before, hash);
                    again += 1;
                }
            }
            Err(fault) => assert_eq!(fault, Fault::Changed),
        }
    }
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    assert!(whole > 0, "some reads came through");
    assert!(again > 0, "and some versions were seen twice");
}

#[tokio::test]
async fn two_writes_within_a_tick_are_two_versions() {
    let world = World::new();
    world.write("f", "0000");
    let mount = world.mount().await;
    let file = File::options().write(true).open(world.at("f")).unwrap();
    let mut versions = HashMap::new();
    let mut in_time = 0;
    for i in 0..300_u32 {
        let written = Instant::now();
        file.write_all_at(format!("{i:04}").as_bytes(), 0).unwrap();
        let (read, bytes) = mount.read(node("f"), 0, 4).await.unwrap();
        let looked = mount.getattr(node("f")).await.unwrap();
        assert_eq!(versions.insert(read.version, bytes), None);
        // Looks that took too long may find it settled both times.
        if written.elapsed() < UNSETTLED {
            assert_eq!(versions.insert(looked.version, Vec::new()), None);
            in_time += 1;
        }
    }
    assert!(in_time > 0, "some looks were in time");
}

#[tokio::test]
async fn an_unlinked_file_stays_readable_to_the_session_that_read_it() {
    let world = World::new();
    let (reader, other) = (world.mount_as(1).await, world.mount_as(2).await);
    for (what, replaced) in [("unlinked", false), ("renamed over", true)] {
        world.write("f", "old bytes");
        let attr = reader.lookup("", "f").await.unwrap();
        let old = expecting("f", attr.id);
        reader.read(old.clone(), 0, 3).await.unwrap();
        if replaced {
            world.write("new", "new bytes");
            fs::rename(world.at("new"), world.at("f")).unwrap();
        } else {
            fs::remove_file(world.at("f")).unwrap();
        }
        let (attr, bytes) = reader.read(old.clone(), 0, 100).await.unwrap();
        assert_eq!((&bytes[..], attr.links), (&b"old bytes"[..], 0), "{what}");
        let expected = if replaced {
            Fault::Stale
        } else {
            Fault::NotFound
        };
        assert_eq!(
            other.read(old, 0, 100).await.unwrap_err(),
            expected,
            "{what}"
        );
    }
    let (_, bytes) = reader.read(node("f"), 0, 100).await.unwrap();
    assert_eq!(bytes, b"new bytes");
}

#[tokio::test]
async fn a_read_holds_two_segments_at_most() {
    let world = World::new();
    world.write("f", pattern(4 << 20));
    let session = world.session(1).await;
    let mut sink = Stuck::after(0);
    let mut nothing = ();
    let mut serving = session.serve(read(node("f"), 0, 4 << 20), &mut nothing, &mut sink);
    // Until it waits for the sink with the next segment ready.
    let next_ready = async {
        while world.sessions()[0].buffer_bytes < (128 + 512) << 10 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _ = &mut serving => panic!("nobody took anything"),
        () = next_ready => {}
    }
    assert_eq!(world.sessions()[0].buffer_bytes, (128 + 512) << 10);
    drop(serving);
    assert!(matches!(sink.reply, Some(Reply::Data { len, .. }) if len == 4 << 20));
}
