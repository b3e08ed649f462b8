//! What a mount believes while it is in use: renewed before its term ends, without anyone waiting, and
//! never older than the term. The host is made up and far away; time is virtual.

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
use support::fake::{FakeHost, attr};
use tokio::time::{Instant, sleep};
use wormhole::mount::error::FsError;
use wormhole::mount::handles::OpenHow;
use wormhole::mount::inodes::Ino;
use wormhole::mount::vfs::{CreateHow, Vfs, VfsConfig};
use wormhole_protocol::*;

const CALLER: Caller = Caller { uid: 0, gid: 0 };

const RTT: Duration = Duration::from_millis(150);
const TTL: Duration = Duration::from_secs(1);
const STEP: Duration = Duration::from_millis(100);

struct World {
    host: Arc<FakeHost>,
    remote: Arc<Distant>,
    vfs: Vfs,
}

impl World {
    fn new(attr_ttl: Duration) -> Self {
        Self::over(FakeHost::new(), attr_ttl)
    }

    fn over(host: Arc<FakeHost>, attr_ttl: Duration) -> Self {
        let config = VfsConfig {
            attr_ttl,
            timeout: Duration::from_secs(30),
            // Too little to fetch small files in bulk (`tests/bulk.rs`): each read is one of its own.
            l1_bytes: 1 << 20,
            write_buffer_bytes: 64 << 20,
            durability: Default::default(),
            access: Access::ReadWrite,
        };
        let remote = Arc::new(Distant::new(&host, RTT));
        let vfs = Vfs::new(config, ShareId([1; 16]), host.root(), remote.clone(), None);
        Self { host, remote, vfs }
    }

    async fn find(&self, dir: Ino, name: &str) -> Option<Ino> {
        let found = self.vfs.lookup(dir, name.as_bytes()).await.unwrap();
        found.ok().map(|found| found.node.ino)
    }

    fn requests(&self) -> usize {
        self.host.requests.lock().unwrap().len()
    }
}

fn file(host: &FakeHost, path: &str, inode: u64, size: u64) {
    host.put(path, attr(inode, FileKind::File, size, 1), inode);
}

fn listed_files(world: &World, count: u64) {
    world.host.put("d", attr(2, FileKind::Directory, 0, 1), 0);
    for i in 0..count {
        file(&world.host, &format!("d/f{i}"), 10_000 + i, 10);
    }
}

/// Lists a directory; how many entries it has.
async fn list(world: &World, dir: Ino) -> usize {
    let handle = world.vfs.opendir(dir).unwrap();
    let mut offset = 0;
    let mut count = 0;
    loop {
        let page = world.vfs.readdir(handle, offset).await.unwrap();
        match page.entries.last() {
            Some((last, _)) => offset = *last,
            None => break,
        }
        count += page.entries.len();
    }
    world.vfs.release(handle);
    count
}

/// What `work` brings, and how long it took.
async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let started = Instant::now();
    let done = work.await;
    (done, started.elapsed())
}

#[tokio::test(start_paused = true)]
async fn what_is_used_is_renewed_before_its_term_ends_and_nobody_waits() {
    let world = World::new(TTL);
    world.host.put("d", attr(2, FileKind::Directory, 0, 1), 0);
    file(&world.host, "d/f", 3, 10);
    let dir = world.find(Ino::ROOT, "d").await.unwrap();
    let ino = world.find(dir, "f").await.unwrap();
    let rounds = 100;
    for _ in 0..rounds {
        sleep(STEP).await;
        let walk = async {
            assert_eq!(world.find(Ino::ROOT, "d").await, Some(dir));
            assert_eq!(world.find(dir, "f").await, Some(ino));
            world.vfs.getattr(Ino::ROOT, None).await.unwrap();
            world.vfs.getattr(ino, None).await.unwrap();
            let opened = world
                .vfs
                .open(CALLER, ino, OpenHow::default())
                .await
                .unwrap();
            world.vfs.release(opened.handle);
        };
        assert_eq!(timed(walk).await.1, Duration::ZERO);
    }
    // The last renewals are under way.
    sleep(RTT * 2).await;
    let remote = world.vfs.fetcher().remote_stats.snapshot();
    assert_eq!((remote.lookup, remote.getattr), (2, 0));
    // Three subjects (the root, the directory, the file), each renewed every half term or so.
    let halves = u64::try_from((STEP * rounds).as_millis() / (TTL / 2).as_millis()).unwrap();
    assert!(remote.renewal <= 3 * (halves + 1), "{remote:?}");
    assert_eq!(world.requests() as u64, 2 + remote.renewal);
}

#[tokio::test(start_paused = true)]
async fn an_idle_mount_asks_nothing() {
    let world = World::new(TTL);
    file(&world.host, "f", 3, 10);
    world.find(Ino::ROOT, "f").await.unwrap();
    sleep(TTL * 6 / 10).await;
    world.find(Ino::ROOT, "f").await.unwrap();
    sleep(TTL * 3600).await;
    assert_eq!(world.requests(), 2, "the lookup and one renewal");
}

#[tokio::test(start_paused = true)]
async fn the_kernel_believes_half_the_term_and_comes_back_in_the_second() {
    let world = World::new(TTL);
    file(&world.host, "f", 3, 10);
    let lookup = async || {
        world
            .vfs
            .lookup(Ino::ROOT, b"f")
            .await
            .unwrap()
            .ok()
            .unwrap()
    };
    let found = lookup().await;
    assert_eq!(found.ttl, TTL / 2);
    sleep(TTL / 4).await;
    assert_eq!(lookup().await.ttl, TTL / 4);
    assert_eq!(
        world.vfs.getattr(found.node.ino, None).await.unwrap().1,
        TTL / 4
    );
    sleep(TTL / 2).await;
    assert_eq!(lookup().await.ttl, TTL / 16, "a quarter of what is left");
    let absent = world.vfs.lookup(Ino::ROOT, b"nothing").await.unwrap();
    assert_eq!(absent.err(), Some(TTL / 2));
}

/// Uses every step what `seen` looks at until it answers true, and checks that it does so within the
/// term of the change that was just made.
async fn seen_within_the_term(seen: impl AsyncFn() -> bool) {
    let changed = Instant::now();
    while !seen().await {
        assert!(changed.elapsed() <= TTL, "still the old");
        sleep(STEP).await;
    }
}

#[tokio::test(start_paused = true)]
async fn changes_of_what_is_in_use_are_seen_within_the_term() {
    let world = World::new(TTL);
    let (host, vfs) = (&world.host, &world.vfs);
    file(host, "f", 3, 10);
    let f = world.find(Ino::ROOT, "f").await.unwrap();
    assert_eq!(world.find(Ino::ROOT, "g").await, None);
    for round in 1..20u64 {
        // At another point of the term in each round.
        sleep(Duration::from_millis(37 * round)).await;
        file(host, "f", 3, 10 + round);
        seen_within_the_term(async || vfs.getattr(f, None).await.unwrap().0.size == 10 + round)
            .await;
        file(host, "g", 100 + round, 1);
        seen_within_the_term(async || world.find(Ino::ROOT, "g").await == Some(Ino(100 + round)))
            .await;
        host.remove("g");
        seen_within_the_term(async || world.find(Ino::ROOT, "g").await.is_none()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_finds_another_file_makes_the_old_one_stale() {
    let world = World::new(TTL);
    file(&world.host, "f", 3, 10);
    let old = world.find(Ino::ROOT, "f").await.unwrap();
    file(&world.host, "f", 4, 20);
    sleep(TTL * 6 / 10).await;
    // Answered from belief, and a renewal begins.
    assert_eq!(world.find(Ino::ROOT, "f").await, Some(old));
    sleep(RTT * 2).await;
    assert_eq!(world.find(Ino::ROOT, "f").await, Some(Ino(4)));
    let stale = world.vfs.getattr(old, None).await;
    assert!(matches!(stale, Err(FsError::Stale)));
    assert_eq!(world.vfs.getattr(Ino(4), None).await.unwrap().0.size, 20);
}

#[tokio::test(start_paused = true)]
async fn so_many_renewals_at_once_and_no_more() {
    const COUNT: u64 = 500;
    let world = World::new(TTL);
    for i in 0..COUNT {
        let dir = attr(10_000 + i, FileKind::Directory, 0, 1);
        world.host.put(&format!("d{i}"), dir, 0);
        file(&world.host, &format!("d{i}/f"), 20_000 + i, 1);
    }
    list(&world, Ino::ROOT).await;
    for i in 0..COUNT {
        world.find(Ino::ROOT, &format!("d{i}")).await.unwrap();
    }
    // One name in each of many directories: no listing would serve.
    let lookups = || {
        let dirs = (0..COUNT).map(|i| world.find(Ino(10_000 + i), "f"));
        futures_util::future::join_all(dirs)
    };
    lookups().await;
    let asked = world.requests();
    world.remote.calls_max.store(0, SeqCst);
    sleep(TTL * 6 / 10).await;
    let (_, took) = timed(lookups()).await;
    assert_eq!(took, Duration::ZERO);
    sleep(RTT * 2).await;
    let most = world.remote.calls_max.load(SeqCst);
    assert!((1..=64).contains(&most), "{most}");
    assert!(world.requests() <= asked + 64);
}

#[tokio::test(start_paused = true)]
async fn without_a_term_nothing_is_believed_and_nothing_renewed() {
    let world = World::new(Duration::ZERO);
    file(&world.host, "f", 3, 10);
    let ino = world.find(Ino::ROOT, "f").await.unwrap();
    for size in 11..20 {
        file(&world.host, "f", 3, size);
        let (told, took) = timed(world.vfs.getattr(ino, None)).await;
        assert_eq!(told.unwrap().0.size, size);
        assert!(took >= RTT);
        assert_eq!(timed(world.find(Ino::ROOT, "f")).await.1, took);
    }
    let remote = world.vfs.fetcher().remote_stats.snapshot();
    assert_eq!((remote.lookup, remote.getattr, remote.renewal), (10, 9, 0));
}

#[tokio::test(start_paused = true)]
async fn files_of_a_listed_directory_cost_one_round_trip_each_however_many_terms_it_takes() {
    let world = World::new(TTL);
    listed_files(&world, 20);
    let dir = world.find(Ino::ROOT, "d").await.unwrap();
    assert_eq!(list(&world, dir).await, 20);
    let started = Instant::now();
    for i in 0..20 {
        sleep(RTT).await;
        let read = async {
            let dir = world.find(Ino::ROOT, "d").await.unwrap();
            let ino = world.find(dir, &format!("f{i}")).await.unwrap();
            let opened = world
                .vfs
                .open(CALLER, ino, OpenHow::default())
                .await
                .unwrap();
            world.vfs.getattr(ino, Some(opened.handle)).await.unwrap();
            let bytes = world.vfs.read(opened.handle, 0, 4096).await.unwrap();
            world.vfs.release(opened.handle);
            bytes.len()
        };
        let (len, took) = timed(read).await;
        assert_eq!(len, 10);
        // The clock of the test moves by what is waited for, in whole milliseconds.
        assert_eq!(took.as_millis(), RTT.as_millis(), "file {i}");
    }
    assert!(started.elapsed() > 5 * TTL);
}

#[tokio::test(start_paused = true)]
async fn an_unchanged_listing_in_use_is_renewed_by_its_digest_alone() {
    let world = World::new(TTL);
    listed_files(&world, 3000);
    let dir = world.find(Ino::ROOT, "d").await.unwrap();
    assert_eq!(list(&world, dir).await, 3000);
    let rounds = 100;
    for i in 0..rounds {
        sleep(STEP).await;
        let used = async {
            let found = world.find(dir, &format!("f{}", i * 29)).await;
            assert_eq!(found, Some(Ino(10_000 + i * 29)));
            assert_eq!(world.find(dir, &format!("absent{i}")).await, None);
            assert_eq!(list(&world, dir).await, 3000);
        };
        assert_eq!(timed(used).await.1, Duration::ZERO);
    }
    let host = &world.host;
    assert_eq!(
        host.count(|r| matches!(r, Request::List { known: None, .. })),
        1
    );
    assert_eq!(host.count(|r| matches!(r, Request::Lookup { .. })), 1);
    let renewals = host.count(|r| matches!(r, Request::List { known: Some(_), .. }));
    assert!((10..=22).contains(&renewals), "{renewals}");
    assert_eq!(host.entries_sent.load(SeqCst), 3000, "each entry once");
}

#[tokio::test(start_paused = true)]
async fn changes_in_a_listing_in_use_are_seen_within_the_term_and_nobody_waits() {
    let world = World::new(TTL);
    listed_files(&world, 1000);
    let dir = world.find(Ino::ROOT, "d").await.unwrap();
    list(&world, dir).await;
    let size = async |name: &str| {
        let (found, took) = timed(world.vfs.lookup(dir, name.as_bytes())).await;
        assert_eq!(
            took,
            Duration::ZERO,
            "answered from the old listing meanwhile"
        );
        found.unwrap().ok().map(|found| found.attr.size)
    };
    for round in 1..10u64 {
        sleep(Duration::from_millis(37 * round)).await;
        file(&world.host, "d/f500", 10_500, 10 + round);
        file(&world.host, "d/new", 5000 + round, 1);
        seen_within_the_term(async || size("f500").await == Some(10 + round)).await;
        seen_within_the_term(async || size("new").await == Some(1)).await;
        world.host.remove("d/new");
        seen_within_the_term(async || size("new").await.is_none()).await;
    }
    assert_eq!(
        world
            .host
            .count(|r| matches!(r, Request::List { known: None, .. })),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn a_directory_that_is_gone_takes_its_listing_with_it() {
    let world = World::new(TTL);
    listed_files(&world, 10);
    let dir = world.find(Ino::ROOT, "d").await.unwrap();
    list(&world, dir).await;
    world.host.remove("d");
    for i in 0..10 {
        world.host.remove(&format!("d/f{i}"));
    }
    sleep(TTL * 6 / 10).await;
    assert!(world.find(dir, "f1").await.is_some(), "still believed");
    sleep(RTT * 2).await;
    assert_eq!(world.find(dir, "f1").await, None);
    let gone = world.vfs.getattr(dir, None).await;
    assert!(matches!(gone, Err(FsError::Stale)));
    assert_eq!(world.find(Ino::ROOT, "d").await, None);
}

#[tokio::test(start_paused = true)]
async fn of_a_long_listing_that_nobody_watches_single_names_are_renewed() {
    let world = World::new(TTL);
    listed_files(&world, 5000);
    let dir = world.find(Ino::ROOT, "d").await.unwrap();
    assert_eq!(list(&world, dir).await, 5000);
    for _ in 0..30 {
        sleep(STEP).await;
        let (found, took) = timed(world.find(dir, "f4999")).await;
        assert_eq!((found, took), (Some(Ino(14_999)), Duration::ZERO));
    }
    assert_eq!(world.host.count(|r| matches!(r, Request::List { .. })), 1);
}

#[tokio::test(start_paused = true)]
async fn reading_the_files_of_a_directory_one_by_one_fetches_its_listing() {
    let world = World::new(TTL);
    listed_files(&world, 20);
    let dir = world.find(Ino::ROOT, "d").await.unwrap();
    for i in 0..20 {
        let read = async {
            let ino = world.find(dir, &format!("f{i}")).await.unwrap();
            let opened = world
                .vfs
                .open(CALLER, ino, OpenHow::default())
                .await
                .unwrap();
            world.vfs.read(opened.handle, 0, 4096).await.unwrap();
            world.vfs.release(opened.handle);
        };
        let round_trips = if i < 2 { 2 } else { 1 };
        let took = timed(read).await.1;
        assert_eq!(took.as_millis(), round_trips * RTT.as_millis(), "file {i}");
    }
    let host = &world.host;
    assert_eq!(host.count(|r| matches!(r, Request::Lookup { .. })), 3);
    assert_eq!(
        host.count(|r| matches!(r, Request::List { known: None, .. })),
        1
    );
    // A listing that ran out is asked for by its digest.
    sleep(TTL * 10).await;
    assert_eq!(host.entries_sent.load(SeqCst), 20);
    for name in ["f1", "f2", "f3"] {
        world.find(dir, name).await.unwrap();
    }
    assert_eq!(host.count(|r| matches!(r, Request::Lookup { .. })), 5);
    assert_eq!(host.entries_sent.load(SeqCst), 20);
}

#[tokio::test(start_paused = true)]
async fn one_name_at_a_time_fetches_no_listing() {
    let world = World::new(TTL);
    listed_files(&world, 5);
    let dir = world.find(Ino::ROOT, "d").await.unwrap();
    for i in 0..5 {
        for _ in 0..3 {
            world.find(dir, &format!("f{i}")).await.unwrap();
        }
        sleep(TTL).await;
    }
    assert_eq!(world.host.count(|r| matches!(r, Request::List { .. })), 0);
}

#[tokio::test(start_paused = true)]
async fn a_directory_too_long_to_fetch_on_suspicion_is_given_up_once() {
    let world = World::new(TTL);
    listed_files(&world, 20_000);
    let dir = world.find(Ino::ROOT, "d").await.unwrap();
    for i in 0..40 {
        world.find(dir, &format!("f{i}")).await.unwrap();
    }
    let host = &world.host;
    assert_eq!(host.count(|r| matches!(r, Request::List { .. })), 1);
    assert_eq!(host.count(|r| matches!(r, Request::Lookup { .. })), 41);
}

#[tokio::test(start_paused = true)]
async fn filling_a_directory_made_here_costs_two_round_trips_for_each_small_file() {
    let world = World::new(TTL);
    let made = timed(world.vfs.make_dir(CALLER, Ino::ROOT, b"new", 0o755)).await;
    assert_eq!(made.1, RTT);
    let dir = made.0.unwrap().node.ino;
    let how = OpenHow {
        writes: true,
        ..OpenHow::default()
    };
    let create = CreateHow {
        mode: 0o644,
        exclusive: true,
        truncate: false,
    };
    for i in 0..10 {
        let name = format!("f{i}");
        let fill = async {
            assert_eq!(world.find(dir, &name).await, None);
            let created = world
                .vfs
                .create(CALLER, dir, name.as_bytes(), create, how)
                .await;
            let handle = created.unwrap().1.handle;
            world.vfs.write(handle, 0, &[7; 4096]).await.unwrap();
            world.vfs.flush(handle, LockOwner(1)).await.unwrap();
            world.vfs.release(handle);
        };
        let (_, took) = timed(fill).await;
        assert!(took <= RTT * 11 / 5, "{name}: {took:?}");
    }
    assert_eq!(list(&world, dir).await, 10);
    let asked = |request: &Request| matches!(request, Request::Lookup { .. });
    assert_eq!(world.host.count(asked), 0);
}
