//! Small files in bulk, in one process over a made-up host: what is fetched before anybody asks, that nothing
//! is fetched twice, that little is fetched in vain, and that nothing outdated is shown.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and its numbers are small"
)]

mod support;

use futures_util::future::join_all;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use support::distant::Distant;
use support::fake::{FakeHost, attr, bytes_at};
use tokio::time::Instant;
use wormhole::mount::handles::OpenHow;
use wormhole::mount::inodes::Ino;
use wormhole::mount::vfs::{Vfs, VfsConfig};
use wormhole::rpc::Remote;
use wormhole::rpc::loopback::Loopback;
use wormhole_cache::{Disk, DiskConfig};
use wormhole_protocol::*;

const CALLER: Caller = Caller { uid: 0, gid: 0 };
const RTT: Duration = Duration::from_millis(100);
const SHARE: ShareId = ShareId([1; 16]);
const FILES: u64 = 100;
const FILE_BYTES: u64 = 10 * 1024;

/// A tree of `dirs` directories with 100 files of 10 KiB each; its content is the number of its inode.
fn tree(dirs: u64) -> Arc<FakeHost> {
    let host = FakeHost::new();
    for dir in 0..dirs {
        let path = format!("d{dir:03}");
        host.put(&path, attr(10_000 + dir, FileKind::Directory, 0, 1), 0);
        for file in 0..FILES {
            let (inode, path) = (inode(dir, file), path_of(dir, file));
            host.put(&path, attr(inode, FileKind::File, FILE_BYTES, 1), inode);
        }
    }
    host
}

fn inode(dir: u64, file: u64) -> u64 {
    100_000 + dir * FILES + file
}

fn path_of(dir: u64, file: u64) -> String {
    format!("d{dir:03}/f{file:03}")
}

fn mount(host: &Arc<FakeHost>) -> Arc<Vfs> {
    mount_over(Distant::new(host, RTT), host, None)
}

fn mount_over(remote: impl Remote, host: &FakeHost, disk: Option<Arc<Disk>>) -> Arc<Vfs> {
    let config = VfsConfig {
        attr_ttl: Duration::from_secs(3600),
        timeout: Duration::from_secs(30),
        l1_bytes: 64 << 20,
        write_buffer_bytes: 1 << 20,
        durability: Default::default(),
        access: Access::Read,
    };
    let root = host.root();
    Arc::new(Vfs::new(config, SHARE, root, Arc::new(remote), disk))
}

async fn find(vfs: &Vfs, dir: Ino, name: &str) -> Ino {
    let found = vfs.lookup(dir, name.as_bytes()).await.unwrap();
    found.unwrap_or_else(|_| panic!("no {name}")).node.ino
}

/// Opens a file by its path, as programs do, and reads it.
async fn load(vfs: &Vfs, dir: u64, file: u64) -> Vec<u8> {
    let parent = find(vfs, Ino::ROOT, &format!("d{dir:03}")).await;
    let ino = find(vfs, parent, &format!("f{file:03}")).await;
    let how = OpenHow::default();
    let opened = vfs.open(CALLER, ino, how).await.unwrap().handle;
    let bytes = vfs.read(opened, 0, 128 * 1024).await.unwrap();
    vfs.release(opened);
    bytes.to_vec()
}

async fn load_and_check(vfs: &Vfs, dir: u64, file: u64) {
    let bytes = load(vfs, dir, file).await;
    assert!(bytes == bytes_at(inode(dir, file), 0, FILE_BYTES as usize));
}

fn asked_one_by_one(host: &FakeHost) -> usize {
    host.count(|request| matches!(request, Request::Read { .. }))
}

fn asked_in_bulk(host: &FakeHost) -> usize {
    host.count(|request| matches!(request, Request::ReadMany { .. }))
}

#[tokio::test(start_paused = true)]
async fn directories_read_file_by_file_cost_some_round_trips_at_the_beginning_and_no_more() {
    let host = tree(10);
    let vfs = mount(&host);
    let began = Instant::now();
    for dir in 0..10 {
        for file in 0..FILES {
            load_and_check(&vfs, dir, file).await;
        }
    }
    let round_trips = began.elapsed().as_secs_f64() / RTT.as_secs_f64();
    assert!(round_trips < 27.0, "{round_trips} round trips");
    assert!(asked_one_by_one(&host) <= 4, "{}", asked_one_by_one(&host));
    assert!(asked_in_bulk(&host) <= 60, "{}", asked_in_bulk(&host));
    assert_eq!(host.sent.load(SeqCst), 10 * FILES * FILE_BYTES, "each once");
    let stats = vfs.bulk().stats.snapshot();
    assert_eq!(stats.fetched_bytes, stats.used_bytes);
}

#[tokio::test(start_paused = true)]
async fn sixteen_readers_in_no_order_profit_as_well() {
    let host = tree(10);
    let vfs = mount(&host);
    // Every file once, neighbours far apart.
    let order: Vec<u64> = (0..10 * FILES).map(|i| i * 389 % (10 * FILES)).collect();
    let began = Instant::now();
    let readers = (0..16).map(|reader| {
        let (vfs, order) = (vfs.clone(), order.clone());
        tokio::spawn(async move {
            for number in order.into_iter().skip(reader).step_by(16) {
                load_and_check(&vfs, number / FILES, number % FILES).await;
            }
        })
    });
    for reader in join_all(readers).await {
        reader.unwrap();
    }
    let round_trips = began.elapsed().as_secs_f64() / RTT.as_secs_f64();
    // One by one they cost 62. The bound on what is fetched in vain costs the rest.
    assert!(round_trips < 40.0, "{round_trips} round trips");
    assert_eq!(host.sent.load(SeqCst), 10 * FILES * FILE_BYTES, "each once");
}

#[tokio::test(start_paused = true)]
async fn a_fifth_of_the_bytes_at_most_is_fetched_in_vain() {
    let host = tree(100);
    let vfs = mount(&host);
    // The first files of each directory promise more than is read of it.
    for dir in 0..100 {
        for file in 0..10 {
            load_and_check(&vfs, dir, file).await;
        }
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    let (sent, read) = (host.sent.load(SeqCst), 1000 * FILE_BYTES);
    let in_vain = sent - read;
    assert!(in_vain <= sent / 5 + (1 << 20), "{in_vain} of {sent}");
    let stats = vfs.bulk().stats.snapshot();
    assert!(stats.used_bytes > 0, "{stats:?}");
    assert_eq!(stats.fetched_bytes - stats.used_bytes, in_vain);
}

#[tokio::test(start_paused = true)]
async fn what_changed_since_it_was_listed_is_read_as_it_is() {
    let host = tree(1);
    let vfs = mount(&host);
    for file in 0..2 {
        load_and_check(&vfs, 0, file).await;
    }
    for file in (3..FILES).step_by(5) {
        let changed = attr(inode(0, file), FileKind::File, 5000, 2);
        host.put(&path_of(0, file), changed, 7);
    }
    for file in 2..FILES {
        // The first window was on its way before, and what was listed is believed for an hour.
        if file % 5 == 3 && file > 40 {
            assert!(load(&vfs, 0, file).await == bytes_at(7, 0, 5000), "{file}");
        } else if file % 5 != 3 {
            load_and_check(&vfs, 0, file).await;
        }
    }
    assert!(vfs.bulk().stats.snapshot().refused_files > 0);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_sends_less_than_there_is_serves_nobody_a_short_file() {
    let host = tree(1);
    let vfs = mount(&host);
    load_and_check(&vfs, 0, 0).await;
    let parent = find(&vfs, Ino::ROOT, "d000").await;
    for name in ["f001", "f002"] {
        find(&vfs, parent, name).await;
    }
    host.misbehaviour.lock().unwrap().short_by = 1;
    let ino = find(&vfs, parent, "f001").await;
    let opened = vfs.open(CALLER, ino, OpenHow::default()).await.unwrap();
    assert!(vfs.read(opened.handle, 0, 4096).await.is_err());
    while asked_in_bulk(&host) == 0 || host.running.load(SeqCst) > 0 {
        tokio::time::sleep(RTT).await;
    }
    host.misbehaviour.lock().unwrap().short_by = 0;
    for file in 1..FILES {
        load_and_check(&vfs, 0, file).await;
    }
}

/// A mount whose first stream is on its way and brings nothing yet, over a link of this rate.
async fn with_a_stream_held(host: &Arc<FakeHost>, bytes_per_sec: u64) -> Arc<Vfs> {
    let remote = Distant::new(host, RTT);
    remote.bytes_per_sec.store(bytes_per_sec, SeqCst);
    let vfs = mount_over(remote, host, None);
    host.misbehaviour.lock().unwrap().hold_bulk = true;
    for file in 0..2 {
        load_and_check(&vfs, 0, file).await;
    }
    while asked_in_bulk(host) == 0 {
        tokio::time::sleep(RTT / 10).await;
    }
    vfs
}

#[tokio::test(start_paused = true)]
async fn who_reads_a_file_on_its_way_waits_for_it_and_asks_nobody() {
    let host = tree(1);
    let vfs = with_a_stream_held(&host, 100 << 20).await;
    let before = asked_one_by_one(&host);
    let readers = (3..9).map(|file| {
        let vfs = vfs.clone();
        tokio::spawn(async move { load_and_check(&vfs, 0, file).await })
    });
    let readers: Vec<_> = readers.collect();
    tokio::time::sleep(10 * RTT).await;
    host.gate.add_permits(10_000);
    for reader in readers {
        reader.await.unwrap();
    }
    assert_eq!(asked_one_by_one(&host), before);
}

#[tokio::test(start_paused = true)]
async fn who_reads_a_file_that_is_still_far_away_asks_for_it_himself() {
    let host = tree(1);
    let vfs = with_a_stream_held(&host, 64 << 10).await;
    let before = asked_one_by_one(&host);
    // More than a second and two round trips of the stream lie before it, and little before the other.
    let began = Instant::now();
    load_and_check(&vfs, 0, 13).await;
    assert!(began.elapsed() <= 3 * RTT, "{:?}", began.elapsed());
    assert_eq!(asked_one_by_one(&host), before + 1);
    let near = {
        let vfs = vfs.clone();
        tokio::spawn(async move { load_and_check(&vfs, 0, 4).await })
    };
    tokio::time::sleep(RTT).await;
    host.gate.add_permits(10_000);
    near.await.unwrap();
    assert_eq!(asked_one_by_one(&host), before + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_disk_cache_has_is_taken_from_there_and_the_rest_is_asked_for() {
    let host = tree(2);
    let folder = tempfile::tempdir().unwrap();
    let config = DiskConfig {
        root: folder.path().to_owned(),
        budget_bytes: 64 << 20,
    };
    let open = || Arc::new(Disk::open(config.clone(), SHARE).unwrap());
    let disk = open();
    let vfs = mount_over(Loopback::new(host.clone()), &host, Some(disk.clone()));
    // All of the first directory, half of the second.
    for number in 0..FILES + FILES / 2 {
        load_and_check(&vfs, number / FILES, number % FILES).await;
    }
    // What was fetched beyond is stored as well.
    while host.running.load(SeqCst) > 0 {
        tokio::task::yield_now().await;
    }
    drop(vfs);
    let before = host.sent.load(SeqCst);
    disk.flush();
    while Arc::strong_count(&disk) > 1 {
        tokio::task::yield_now().await;
    }
    drop(disk);
    let vfs = mount_over(Loopback::new(host.clone()), &host, Some(open()));
    for number in 0..2 * FILES {
        load_and_check(&vfs, number / FILES, number % FILES).await;
    }
    let all = 2 * FILES * FILE_BYTES;
    assert_eq!(host.sent.load(SeqCst), all, "{before} before");
    let fetched = vfs.fetcher().read_stats.snapshot();
    assert!(fetched.disk_bytes >= 3 * all / 4, "{fetched:?}");
}
