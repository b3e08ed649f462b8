//! Watching a subtree: what is told, when, and what it costs. The host is made up; time is virtual.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and its numbers are small"
)]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use support::fake::{FakeHost, attr};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use wormhole::mount::vfs::{Vfs, VfsConfig};
use wormhole::mount::watch::{Event, Kind, WatchError, What, watch};
use wormhole::rpc::loopback::Loopback;
use wormhole_protocol::*;

const FILE: FileKind = FileKind::File;
const DIR: FileKind = FileKind::Directory;

struct World {
    host: Arc<FakeHost>,
    events: mpsc::Receiver<Event>,
    watching: JoinHandle<WatchError>,
}

impl World {
    /// Watches `path`; when this returns, it is ready.
    async fn new(leases: bool, path: &str) -> Self {
        let host = FakeHost::new();
        if leases {
            host.give_leases();
        }
        for (number, dir) in (2..).zip(["d", "d/e", "beside"]) {
            host.put(dir, attr(number, DIR, 0, 1), 0);
        }
        for (number, file) in (10..).zip(["d/a", "d/b", "d/e/c", "beside/x"]) {
            host.put(file, attr(number, FILE, 10, 1), number);
        }
        let config = VfsConfig {
            attr_ttl: Duration::from_secs(1),
            timeout: Duration::from_secs(30),
            l1_bytes: 8 << 20,
            write_buffer_bytes: 8 << 20,
            durability: Default::default(),
            access: Access::Read,
        };
        let remote = Arc::new(Loopback::new(host.clone()));
        let vfs = Vfs::new(config, ShareId([1; 16]), host.root(), remote, None);
        let vfs = Arc::new(vfs);
        vfs.listen();
        // The first answer may be given before the host has been asked to speak.
        sleep(Duration::from_millis(10)).await;
        let (to, events) = mpsc::channel(100);
        let path = path.to_owned();
        let watching = tokio::spawn(async move {
            match watch(&vfs, Path::new(&path), to).await {
                Ok(never) => match never {},
                Err(error) => error,
            }
        });
        let mut world = Self {
            host,
            events,
            watching,
        };
        let ready = world.events.recv().await.unwrap();
        assert!(matches!(ready, Event::Ready { .. }), "{ready:?}");
        world
    }

    /// The next change, or none for a while.
    async fn next(&mut self) -> Option<(What, String, Kind)> {
        let event = timeout(Duration::from_secs(5), self.events.recv()).await;
        match event.ok().flatten()? {
            Event::Change { what, path, kind } => {
                Some((what, path.to_str().unwrap().to_owned(), kind))
            }
            ready @ Event::Ready { .. } => panic!("{ready:?}"),
        }
    }

    async fn expect(&mut self, what: What, path: &str, kind: Kind) {
        let expected = Some((what, path.to_owned(), kind));
        assert_eq!(self.next().await, expected);
    }

    fn looks(&self) -> usize {
        let speaks = |r: &Request| matches!(r, Request::Listen | Request::Heard { .. });
        self.host.count(|request| !speaks(request))
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_host_tells_is_told_on_and_costs_nothing_while_nothing_happens() {
    let mut world = World::new(true, "d").await;
    let looks = world.looks();
    sleep(Duration::from_secs(300)).await;
    assert_eq!(world.looks(), looks, "all of it is leased and stays so");
    let host = world.host.clone();
    host.put("d/a", attr(10, FILE, 20, 2), 10);
    host.tell_of("d", &["a"]).await;
    world.expect(What::Modified, "d/a", Kind::File).await;
    host.put("d/new", attr(20, FILE, 1, 1), 20);
    host.remove("d/b");
    host.tell_of("d", &["new", "b"]).await;
    world.expect(What::Removed, "d/b", Kind::File).await;
    world.expect(What::Created, "d/new", Kind::File).await;
    let moded = Attr {
        mode: 0o600,
        ..attr(20, FILE, 1, 1)
    };
    host.put("d/new", moded, 20);
    host.tell_of("d", &["new"]).await;
    world.expect(What::Attributes, "d/new", Kind::File).await;
    host.put("d/e/c", attr(21, FILE, 1, 1), 21);
    host.tell_of("d/e", &["c"]).await;
    world.expect(What::Removed, "d/e/c", Kind::File).await;
    world.expect(What::Created, "d/e/c", Kind::File).await;
    assert_eq!(world.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn new_folders_are_watched_and_removed_ones_no_more() {
    let mut world = World::new(true, "d").await;
    let host = world.host.clone();
    host.put("d/sub", attr(30, DIR, 0, 1), 0);
    host.put("d/sub/file", attr(31, FILE, 1, 1), 31);
    host.tell_of("d", &["sub"]).await;
    world.expect(What::Created, "d/sub", Kind::Directory).await;
    world.expect(What::Created, "d/sub/file", Kind::File).await;
    host.put("d/sub/more", attr(32, FILE, 1, 1), 32);
    host.tell_of("d/sub", &["more"]).await;
    world.expect(What::Created, "d/sub/more", Kind::File).await;
    // Renamed, with what is in it.
    for path in ["d/sub", "d/sub/file", "d/sub/more"] {
        host.remove(path);
    }
    host.put("d/moved", attr(30, DIR, 0, 1), 0);
    host.put("d/moved/file", attr(31, FILE, 1, 1), 31);
    host.put("d/moved/more", attr(32, FILE, 1, 1), 32);
    host.tell_of("d", &["sub", "moved"]).await;
    world.expect(What::Removed, "d/sub", Kind::Directory).await;
    world
        .expect(What::Created, "d/moved", Kind::Directory)
        .await;
    world
        .expect(What::Created, "d/moved/file", Kind::File)
        .await;
    world
        .expect(What::Created, "d/moved/more", Kind::File)
        .await;
    host.put("d/moved/file", attr(31, FILE, 1, 2), 31);
    host.tell_of("d/moved", &["file"]).await;
    world
        .expect(What::Modified, "d/moved/file", Kind::File)
        .await;
    assert_eq!(world.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn without_leases_and_after_they_were_lost_changes_are_found_by_looking() {
    for leases in [false, true] {
        let mut world = World::new(leases, "").await;
        let host = world.host.clone();
        if leases {
            // The host lost count: what happened meanwhile is found all the same.
            host.put("d/e/c", attr(12, FILE, 10, 2), 12);
            host.put("beside/y", attr(40, FILE, 10, 1), 40);
            host.tell(News::AllOver);
        } else {
            host.put("d/e/c", attr(12, FILE, 10, 2), 12);
            host.put("beside/y", attr(40, FILE, 10, 1), 40);
        }
        let mut found = [world.next().await.unwrap(), world.next().await.unwrap()];
        found.sort_by(|a, b| a.1.cmp(&b.1));
        let created = (What::Created, "beside/y".to_owned(), Kind::File);
        let modified = (What::Modified, "d/e/c".to_owned(), Kind::File);
        assert_eq!(found, [created, modified], "{leases}");
        assert_eq!(world.next().await, None);
    }
}

#[tokio::test(start_paused = true)]
async fn of_a_file_nothing_else_is_told() {
    let mut world = World::new(true, "d/a").await;
    let host = world.host.clone();
    host.put("d/b", attr(11, FILE, 20, 2), 11);
    host.put("d/a", attr(10, FILE, 20, 2), 10);
    host.tell_of("d", &["b", "a"]).await;
    world.expect(What::Modified, "d/a", Kind::File).await;
    host.remove("d/a");
    host.tell_of("d", &["a"]).await;
    world.expect(What::Removed, "d/a", Kind::File).await;
    host.put("d/a", attr(50, FILE, 20, 2), 10);
    host.tell_of("d", &["a"]).await;
    world.expect(What::Created, "d/a", Kind::File).await;
    assert_eq!(world.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_watch_ends_with_what_is_watched_and_with_who_listens() {
    let world = World::new(false, "d").await;
    for path in ["d", "d/a", "d/b", "d/e", "d/e/c"] {
        world.host.remove(path);
    }
    let ended = world.watching.await.unwrap();
    assert!(matches!(ended, WatchError::Gone), "{ended}");
    let world = World::new(true, "d").await;
    drop(world.events);
    let ended = world.watching.await.unwrap();
    assert!(matches!(ended, WatchError::Unheard), "{ended}");
}
