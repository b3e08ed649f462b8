//! The mount's file system over a made-up host, in one process: what is asked, what is believed, what
//! is read, and what happens when the host misbehaves.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and its numbers are small"
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use support::distant::Distant;
use support::fake::{FakeHost, attr, bytes_at};
use wormhole::mount::error::FsError;
use wormhole::mount::handles::OpenHow;
use wormhole::mount::inodes::Ino;
use wormhole::mount::vfs::{Vfs, VfsConfig};
use wormhole::rpc::loopback::Loopback;
use wormhole_protocol::*;

const CALLER: Caller = Caller { uid: 0, gid: 0 };

const MIB: u64 = 1024 * 1024;
const HOUR: Duration = Duration::from_secs(3600);

fn config(attr_ttl: Duration, l1_bytes: u64) -> VfsConfig {
    VfsConfig {
        attr_ttl,
        timeout: Duration::from_secs(30),
        l1_bytes,
        write_buffer_bytes: 64 << 20,
        durability: Default::default(),
        access: Access::ReadWrite,
    }
}

fn vfs_with(host: &Arc<FakeHost>, attr_ttl: Duration, l1_bytes: u64) -> Arc<Vfs> {
    let remote = Arc::new(Loopback::new(host.clone()));
    Arc::new(Vfs::new(
        config(attr_ttl, l1_bytes),
        ShareId([1; 16]),
        host.root(),
        remote,
        None,
    ))
}

fn vfs(host: &Arc<FakeHost>) -> Arc<Vfs> {
    vfs_with(host, HOUR, 64 * MIB)
}

async fn find(vfs: &Vfs, name: &str) -> Ino {
    vfs.lookup(Ino::ROOT, name.as_bytes())
        .await
        .unwrap()
        .unwrap_or_else(|_| panic!("no {name}"))
        .node
        .ino
}

async fn list(vfs: &Vfs, dir: Ino) -> Vec<Vec<u8>> {
    let handle = vfs.opendir(dir).unwrap();
    let mut names = Vec::new();
    let mut offset = 0;
    loop {
        let page = vfs.readdir(handle, offset).await.unwrap();
        let Some((last, _)) = page.entries.last() else {
            break;
        };
        offset = *last;
        names.extend(
            page.entries
                .iter()
                .map(|(_, l)| l.entry.name.as_bytes().to_vec()),
        );
    }
    vfs.release(handle);
    names
}

fn big_file(host: &FakeHost, size: u64) {
    host.put("big", attr(2000, FileKind::File, size, 1), 42);
}

#[tokio::test]
async fn sequential_reading_takes_few_long_requests_and_every_byte_once() {
    let host = FakeHost::new();
    let size = 48 * MIB + 4097;
    big_file(&host, size);
    let vfs = vfs(&host);
    let ino = find(&vfs, "big").await;
    let file = vfs
        .open(CALLER, ino, OpenHow::default())
        .await
        .unwrap()
        .handle;
    let mut at = 0;
    while at < size {
        let bytes = vfs.read(file, at, MIB).await.unwrap();
        assert_eq!(bytes.len() as u64, MIB.min(size - at));
        assert!(bytes[..] == bytes_at(42, at, bytes.len())[..], "at {at}");
        at += bytes.len() as u64;
    }
    assert!(vfs.read(file, size, MIB).await.unwrap().is_empty());
    assert_eq!(host.sent.load(SeqCst), size);
    let reads = host.reads();
    assert!(reads.len() < 30, "{} requests", reads.len());
}

#[tokio::test]
async fn random_reads_fetch_only_the_blocks_they_touch() {
    let host = FakeHost::new();
    big_file(&host, 1024 * MIB);
    let vfs = vfs(&host);
    let ino = find(&vfs, "big").await;
    let file = vfs
        .open(CALLER, ino, OpenHow::default())
        .await
        .unwrap()
        .handle;
    let mut offset = 7 * MIB + 4096;
    for _ in 0..50 {
        let bytes = vfs.read(file, offset, 4096).await.unwrap();
        assert!(bytes[..] == bytes_at(42, offset, 4096)[..]);
        offset = (offset * 7 + 4096 * 131) % (1023 * MIB) / 4096 * 4096;
    }
    assert_eq!(host.sent.load(SeqCst), 50 * 4096);
}

#[tokio::test]
async fn a_block_is_fetched_once_however_many_read_it() {
    let host = FakeHost::new();
    big_file(&host, MIB);
    let vfs = vfs(&host);
    let ino = find(&vfs, "big").await;
    let mut readers = Vec::new();
    for i in 0..64u64 {
        let vfs = vfs.clone();
        readers.push(tokio::spawn(async move {
            let file = vfs
                .open(CALLER, ino, OpenHow::default())
                .await
                .unwrap()
                .handle;
            let offset = (i % 8) * 4096;
            let bytes = vfs.read(file, offset, MIB - offset).await.unwrap();
            assert!(bytes[..] == bytes_at(42, offset, bytes.len())[..]);
        }));
    }
    for reader in readers {
        reader.await.unwrap();
    }
    assert_eq!(host.sent.load(SeqCst), MIB);
}

#[tokio::test]
async fn a_reader_is_answered_when_its_own_bytes_are_there() {
    let host = FakeHost::new();
    big_file(&host, 8 * MIB);
    host.gated.store(true, SeqCst);
    let vfs = vfs(&host);
    let ino = find(&vfs, "big").await;
    let file = vfs
        .open(CALLER, ino, OpenHow::default())
        .await
        .unwrap()
        .handle;
    // The start of a file is read ahead of; one block through the gate must do for one block.
    host.gate.add_permits(1);
    let bytes = vfs.read(file, 0, 4096).await.unwrap();
    assert!(bytes[..] == bytes_at(42, 0, 4096)[..]);
    assert!(host.sent.load(SeqCst) <= 4096);
}

#[tokio::test]
async fn closing_cancels_what_nobody_waits_for() {
    let host = FakeHost::new();
    big_file(&host, 8 * MIB);
    host.gated.store(true, SeqCst);
    host.gate.add_permits(1);
    let vfs = vfs(&host);
    let ino = find(&vfs, "big").await;
    let file = vfs
        .open(CALLER, ino, OpenHow::default())
        .await
        .unwrap()
        .handle;
    vfs.read(file, 0, 4096).await.unwrap();
    assert_eq!(host.running.load(SeqCst), 1, "the rest is under way");
    vfs.release(file);
    while host.running.load(SeqCst) > 0 {
        tokio::task::yield_now().await;
    }
    // The rest of the chunk can be had again, by a new request.
    host.gated.store(false, SeqCst);
    let file = vfs
        .open(CALLER, ino, OpenHow::default())
        .await
        .unwrap()
        .handle;
    let bytes = vfs.read(file, 0, 64 * 1024).await.unwrap();
    assert!(bytes[..] == bytes_at(42, 0, 64 * 1024)[..]);
}

#[tokio::test]
async fn a_jump_cancels_what_was_read_ahead_for_the_old_place() {
    let host = FakeHost::new();
    big_file(&host, 512 * MIB);
    let vfs = vfs(&host);
    let ino = find(&vfs, "big").await;
    let file = vfs
        .open(CALLER, ino, OpenHow::default())
        .await
        .unwrap()
        .handle;
    for i in 0..6 {
        vfs.read(file, i * MIB, MIB).await.unwrap();
    }
    host.gated.store(true, SeqCst);
    host.gate.add_permits(10_000);
    vfs.read(file, 300 * MIB, 4096).await.unwrap();
    while host.running.load(SeqCst) > 0 {
        tokio::task::yield_now().await;
    }
    assert!(host.sent.load(SeqCst) < 60 * MIB);
}

#[tokio::test]
async fn a_new_version_is_seen_at_the_next_open_and_old_bytes_are_never_shown_for_it() {
    let host = FakeHost::new();
    big_file(&host, MIB);
    let vfs = vfs_with(&host, Duration::ZERO, 64 * MIB);
    let ino = find(&vfs, "big").await;
    let opened = vfs.open(CALLER, ino, OpenHow::default()).await.unwrap();
    assert!(!opened.keep_cache, "the kernel has nothing yet");
    vfs.read(opened.handle, 0, 65536).await.unwrap();
    vfs.release(opened.handle);
    let again = vfs.open(CALLER, ino, OpenHow::default()).await.unwrap();
    assert!(
        again.keep_cache,
        "same version: the kernel's pages are good"
    );
    vfs.release(again.handle);
    host.put("big", attr(2000, FileKind::File, 2 * MIB, 2), 43);
    let opened = vfs.open(CALLER, ino, OpenHow::default()).await.unwrap();
    assert!(!opened.keep_cache);
    let bytes = vfs.read(opened.handle, 0, 4 * MIB).await.unwrap();
    assert!(bytes[..] == bytes_at(43, 0, 2 * MIB as usize)[..]);
}

#[tokio::test]
async fn attributes_are_asked_once_within_their_term_and_again_after_it() {
    let host = FakeHost::new();
    big_file(&host, MIB);
    let asked = |host: &FakeHost| host.count(|r| matches!(r, Request::Getattr { .. }));
    let believing = vfs(&host);
    let ino = find(&believing, "big").await;
    for _ in 0..5 {
        believing.getattr(ino, None).await.unwrap();
    }
    assert_eq!(asked(&host), 0, "the lookup brought them");
    let doubting = vfs_with(&host, Duration::ZERO, 0);
    let ino = find(&doubting, "big").await;
    for _ in 0..5 {
        doubting.getattr(ino, None).await.unwrap();
    }
    assert_eq!(asked(&host), 5);
}

#[tokio::test]
async fn a_version_that_changes_under_a_read_restarts_it() {
    let host = FakeHost::new();
    big_file(&host, MIB);
    let vfs = vfs(&host);
    let ino = find(&vfs, "big").await;
    let file = vfs
        .open(CALLER, ino, OpenHow::default())
        .await
        .unwrap()
        .handle;
    // The mount still believes the old attributes.
    host.put("big", attr(2000, FileKind::File, MIB / 2, 2), 43);
    let bytes = vfs.read(file, 0, MIB).await.unwrap();
    assert!(bytes[..] == bytes_at(43, 0, MIB as usize / 2)[..]);
}

#[tokio::test]
async fn a_file_that_never_rests_is_read_past_the_caches() {
    let host = FakeHost::new();
    big_file(&host, MIB);
    host.misbehaviour.lock().unwrap().restless = true;
    let vfs = vfs(&host);
    let ino = find(&vfs, "big").await;
    let file = vfs
        .open(CALLER, ino, OpenHow::default())
        .await
        .unwrap()
        .handle;
    // The answer that tells so is good for who asked.
    for (round, (offset, len)) in [(4096, 8192), (5000, 10_000), (MIB - 7, 100)]
        .into_iter()
        .enumerate()
    {
        let there = len.min(MIB - offset);
        let bytes = vfs.read(file, offset, len).await.unwrap();
        assert!(bytes[..] == bytes_at(42, offset, there as usize)[..]);
        let reads = host.count(|r| matches!(r, Request::Read { .. }));
        let direct = vfs.fetcher().read_stats.snapshot().direct;
        assert_eq!((reads, direct), (round + 1, round as u64 + 1));
    }
}

#[tokio::test]
async fn a_file_that_has_grown_and_never_rests_is_read_to_its_new_end() {
    let host = FakeHost::new();
    big_file(&host, 6000);
    let vfs = vfs(&host);
    let ino = find(&vfs, "big").await;
    let file = vfs
        .open(CALLER, ino, OpenHow::default())
        .await
        .unwrap()
        .handle;
    host.misbehaviour.lock().unwrap().restless = true;
    big_file(&host, 20_000);
    let bytes = vfs.read(file, 100, 50_000).await.unwrap();
    assert!(bytes[..] == bytes_at(42, 100, 19_900)[..]);
}

#[tokio::test]
async fn a_reply_broken_off_by_a_change_is_asked_again() {
    let host = FakeHost::new();
    big_file(&host, MIB);
    host.misbehaviour.lock().unwrap().break_reads = Some((64 * 1024, Fault::Changed));
    let vfs = vfs(&host);
    let ino = find(&vfs, "big").await;
    let file = vfs
        .open(CALLER, ino, OpenHow::default())
        .await
        .unwrap()
        .handle;
    let bytes = vfs.read(file, 0, MIB).await.unwrap();
    assert!(bytes[..] == bytes_at(42, 0, MIB as usize)[..]);
}

#[tokio::test]
async fn short_data_in_the_middle_of_a_file_is_an_error_not_an_end() {
    let host = FakeHost::new();
    big_file(&host, MIB);
    host.misbehaviour.lock().unwrap().short_by = 4096;
    let vfs = vfs(&host);
    let ino = find(&vfs, "big").await;
    let file = vfs
        .open(CALLER, ino, OpenHow::default())
        .await
        .unwrap()
        .handle;
    assert_eq!(vfs.read(file, 0, 65536).await, Err(FsError::Io));
}

#[tokio::test]
async fn a_fault_of_the_disk_reaches_the_reader_and_spoils_nothing() {
    let host = FakeHost::new();
    big_file(&host, MIB);
    host.misbehaviour.lock().unwrap().break_reads = Some((0, Fault::Io));
    let vfs = vfs(&host);
    let ino = find(&vfs, "big").await;
    let file = vfs
        .open(CALLER, ino, OpenHow::default())
        .await
        .unwrap()
        .handle;
    assert_eq!(
        vfs.read(file, 0, 65536).await,
        Err(FsError::Fault(Fault::Io))
    );
    let bytes = vfs.read(file, 0, 65536).await.unwrap();
    assert!(bytes[..] == bytes_at(42, 0, 65536)[..]);
}

#[tokio::test]
async fn a_listing_is_one_request_and_answers_lookups_even_negative_ones() {
    let host = FakeHost::new();
    for i in 0..3000 {
        host.put(&format!("f{i:04}"), attr(5000 + i, FileKind::File, i, 1), i);
    }
    let vfs = vfs(&host);
    assert_eq!(list(&vfs, Ino::ROOT).await.len(), 3000);
    for i in (0..3000).step_by(100) {
        find(&vfs, &format!("f{i:04}")).await;
    }
    assert!(vfs.lookup(Ino::ROOT, b"nothing").await.unwrap().is_err());
    assert_eq!(list(&vfs, Ino::ROOT).await.len(), 3000);
    assert_eq!(host.requests.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_listing_older_than_its_term_is_asked_again() {
    let host = FakeHost::new();
    host.put("a", attr(5000, FileKind::File, 1, 1), 1);
    let vfs = vfs_with(&host, Duration::ZERO, 0);
    assert_eq!(list(&vfs, Ino::ROOT).await, [b"a"]);
    host.put("b", attr(5001, FileKind::File, 1, 1), 1);
    assert_eq!(list(&vfs, Ino::ROOT).await, [b"a", b"b"]);
    assert!(vfs.lookup(Ino::ROOT, b"c").await.unwrap().is_err());
    assert_eq!(host.count(|r| matches!(r, Request::Lookup { .. })), 1);
}

#[tokio::test]
async fn a_file_that_was_replaced_is_stale_but_stays_known_to_those_who_hold_it() {
    let host = FakeHost::new();
    big_file(&host, MIB);
    let vfs = vfs_with(&host, Duration::ZERO, 64 * MIB);
    let ino = find(&vfs, "big").await;
    let file = vfs
        .open(CALLER, ino, OpenHow::default())
        .await
        .unwrap()
        .handle;
    host.put("big", attr(2001, FileKind::File, 5, 1), 9);
    // A moment after it was looked up, that is still what was meant.
    assert_eq!(vfs.getattr(ino, None).await.unwrap().0.size, MIB);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert!(matches!(vfs.getattr(ino, None).await, Err(FsError::Stale)));
    let (old, _) = vfs.getattr(ino, Some(file)).await.unwrap();
    assert_eq!(old.size, MIB);
    let new = find(&vfs, "big").await;
    assert_eq!(new, Ino(2001));
    assert_eq!(vfs.getattr(new, None).await.unwrap().0.size, 5);
}

#[tokio::test]
async fn writing_is_refused_and_unknown_numbers_find_nothing() {
    let host = FakeHost::new();
    big_file(&host, MIB);
    let config = VfsConfig {
        access: Access::Read,
        ..config(HOUR, 64 * MIB)
    };
    let remote = Arc::new(Loopback::new(host.clone()));
    let vfs = Vfs::new(config, ShareId([1; 16]), host.root(), remote, None);
    let ino = find(&vfs, "big").await;
    let writing = OpenHow {
        writes: true,
        ..OpenHow::default()
    };
    let refused = vfs.open(CALLER, ino, writing).await.map(|_| ());
    assert_eq!(refused, Err(FsError::Fault(Fault::ReadOnly)));
    use wormhole::mount::handles::HandleId;
    assert_eq!(vfs.read(HandleId(77), 0, 1).await, Err(FsError::BadHandle));
    assert!(matches!(
        vfs.getattr(Ino(99), None).await,
        Err(FsError::Stale)
    ));
    for name in ["", ".", "..", "a/b"] {
        assert!(
            vfs.lookup(Ino::ROOT, name.as_bytes()).await.is_err(),
            "{name:?}"
        );
    }
    assert!(vfs.lookup(Ino::ROOT, &[b'x'; 256]).await.is_err());
}

#[tokio::test]
async fn without_memory_reading_still_works() {
    let host = FakeHost::new();
    big_file(&host, 3 * MIB + 1);
    let vfs = vfs_with(&host, HOUR, 0);
    let ino = find(&vfs, "big").await;
    let file = vfs
        .open(CALLER, ino, OpenHow::default())
        .await
        .unwrap()
        .handle;
    for at in [0, MIB, 2 * MIB, 3 * MIB] {
        let bytes = vfs.read(file, at, MIB).await.unwrap();
        assert!(bytes[..] == bytes_at(42, at, bytes.len())[..], "at {at}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_byte_of_a_listed_file_costs_one_round_trip_and_the_second_read_none() {
    let rtt = Duration::from_millis(150);
    let host = FakeHost::new();
    big_file(&host, 8 * MIB);
    let config = config(HOUR, 64 * MIB);
    let remote = Arc::new(Distant::new(&host, rtt));
    let vfs = Vfs::new(config, ShareId([1; 16]), host.root(), remote, None);
    list(&vfs, Ino::ROOT).await;
    let started = tokio::time::Instant::now();
    let ino = find(&vfs, "big").await;
    let file = vfs
        .open(CALLER, ino, OpenHow::default())
        .await
        .unwrap()
        .handle;
    vfs.read(file, 0, 4096).await.unwrap();
    // The clock of the test moves by what is waited for, in whole milliseconds.
    assert_eq!(started.elapsed().as_millis(), rtt.as_millis());
    vfs.read(file, 0, 4096).await.unwrap();
    assert_eq!(started.elapsed().as_millis(), rtt.as_millis());
}
