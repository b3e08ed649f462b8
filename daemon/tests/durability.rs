//! A mount with `--durability memory`, of a real host in this process: programs wait for no host, who looks sees what is
//! there, and nothing is lost in silence.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

#[path = "early/maker.rs"]
mod maker;
#[path = "support/page_cache.rs"]
mod page_cache;
#[path = "model/world.rs"]
mod world;

use maker::{CALLER, Maker, New, RTT, world_with};
use page_cache::is_on_disk;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use world::World;
use wormhole::mount::durability::Durability;
use wormhole::mount::error::FsError;
use wormhole::mount::handles::OpenHow;
use wormhole::mount::inodes::Ino;
use wormhole_protocol::{
    AttrChange, Fault, LockKind, LockMode, LockOwner, LockRange, RenameHow, SetTime, SyncWhat,
    Timestamp,
};

const HOUR: Duration = Duration::from_secs(3600);

async fn maker(world: &World) -> Maker {
    Maker::with(world, 1, Durability::Memory).await
}

/// A mount of which a directory `d` is prepared, and the host is far.
async fn far_maker(world: &World) -> (Maker, Ino) {
    let maker = maker(world).await;
    let dir = maker.prepared("d").await;
    drained(&maker).await;
    maker.far(RTT);
    (maker, dir)
}

async fn drained(maker: &Maker) {
    assert!(maker.vfs.drain(HOUR).await);
    assert_eq!(maker.vfs.pending().snapshot().changes, 0);
}

async fn stat(maker: &Maker, dir: Ino, name: &str) -> Option<(Ino, u64)> {
    let found = maker.vfs.lookup(dir, name.as_bytes()).await.unwrap().ok()?;
    let (attr, _) = maker.vfs.getattr(found.node.ino, None).await.unwrap();
    Some((found.node.ino, attr.size))
}

async fn set(maker: &Maker, ino: Ino, set: AttrChange) {
    maker.vfs.setattr(CALLER, ino, set).await.unwrap();
}

fn modified(secs: i64) -> AttrChange {
    AttrChange {
        mode: Some(0o604),
        modified: Some(SetTime::At(Timestamp::new(secs, 7).unwrap())),
        ..AttrChange::default()
    }
}

fn content(world: &World, path: &str) -> Option<String> {
    fs::read_to_string(world.folder().join(path)).ok()
}

/// Cuts the mount off, until the door is opened.
fn cut_off(maker: &Maker) {
    maker.door.is_shut.store(true, Ordering::Relaxed);
    maker.door.cut();
}

fn let_in(maker: &Maker) {
    maker.door.is_shut.store(false, Ordering::Relaxed);
}

async fn unlink(maker: &Maker, dir: Ino, name: &str) -> Result<(), FsError> {
    maker.vfs.unlink(CALLER, dir, name.as_bytes()).await
}

async fn rename(maker: &Maker, dir: Ino, from: &str, to: &str) {
    let (from, to) = ((dir, from.as_bytes()), (dir, to.as_bytes()));
    let renamed = maker.vfs.rename(CALLER, from, to, RenameHow::Replace);
    renamed.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn programs_wait_for_no_host() {
    let world = world_with(&["d"]);
    let (maker, dir) = far_maker(&world).await;
    let began = Instant::now();
    for n in 0..2 {
        let name = format!("f{n}");
        let file = maker.create(dir, &name, true).await.unwrap();
        maker.write(file, "content").await.unwrap();
        set(&maker, file.ino, modified(1000 + n)).await;
        maker.close(file).await.unwrap();
    }
    maker.make(dir, "g.tmp", "other").await.unwrap();
    rename(&maker, dir, "g.tmp", "g").await;
    maker.make(dir, "gone", "gone").await.unwrap();
    unlink(&maker, dir, "gone").await.unwrap();
    // Where the names lead is known, before the host knows.
    let lookup = |name: &'static str| maker.vfs.lookup(dir, name.as_bytes());
    assert!(lookup("g").await.unwrap().is_ok());
    assert!(lookup("g.tmp").await.unwrap().is_err());
    assert!(lookup("gone").await.unwrap().is_err());
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(fs::read_dir(world.folder().join("d")).unwrap().count(), 2);
    assert!(maker.vfs.pending().snapshot().changes >= 7);
    drained(&maker).await;
    assert!(began.elapsed() >= RTT);
    assert_eq!(content(&world, "d/f0").unwrap(), "content");
    assert_eq!(content(&world, "d/g").unwrap(), "other");
    assert_eq!(fs::read_dir(world.folder().join("d")).unwrap().count(), 5);
    let there = fs::metadata(world.folder().join("d/f1")).unwrap();
    assert_eq!((there.mtime(), there.mtime_nsec()), (1001, 7));
    assert_eq!(there.permissions().mode() & 0o777, 0o604);
    assert_eq!(maker.vfs.pending().snapshot().lost, 0);
}

#[tokio::test(start_paused = true)]
async fn what_was_there_before_changes_its_name_or_goes_without_waiting() {
    let world = world_with(&["d"]);
    for name in ["a", "b", "c"] {
        fs::write(world.folder().join("d").join(name), name).unwrap();
    }
    let (maker, dir) = far_maker(&world).await;
    // As the kernel does.
    for name in ["a", "b", "c"] {
        stat(&maker, dir, name).await.unwrap();
    }
    let began = Instant::now();
    rename(&maker, dir, "a", "b").await;
    unlink(&maker, dir, "c").await.unwrap();
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(content(&world, "d/b").unwrap(), "b");
    // Who lists the directory sees it as it is then.
    let names = maker.names(dir).await;
    assert!(began.elapsed() >= RTT);
    assert!(names.contains(&"b".to_owned()) && !names.contains(&"a".to_owned()));
    assert!(!names.contains(&"c".to_owned()));
    assert_eq!(content(&world, "d/b").unwrap(), "a");
    assert!(content(&world, "d/c").is_none());
    assert_eq!(maker.vfs.pending().snapshot().lost, 0);
}

#[tokio::test(start_paused = true)]
async fn who_looks_waits_for_what_is_on_its_way() {
    let world = world_with(&["d"]);
    let (maker, dir) = far_maker(&world).await;
    maker.make(dir, "f", "content").await.unwrap();
    let began = Instant::now();
    let (ino, size) = stat(&maker, dir, "f").await.unwrap();
    assert!(began.elapsed() >= RTT);
    let there = fs::metadata(world.folder().join("d/f")).unwrap();
    assert_eq!((ino.0, size), (there.ino(), 7));
    // The same file, written again.
    let how = OpenHow {
        writes: true,
        ..OpenHow::default()
    };
    let handle = maker.vfs.open(CALLER, ino, how).await.unwrap().handle;
    let file = New { handle, ino };
    maker.write(file, "CONTENT").await.unwrap();
    maker.close(file).await.unwrap();
    let handle = maker.vfs.open(CALLER, ino, OpenHow::default()).await;
    let handle = handle.unwrap().handle;
    assert_eq!(
        &maker.vfs.read(handle, 0, 100).await.unwrap()[..],
        b"CONTENT"
    );
    maker.vfs.release(handle);
    // A kernel that forgets the file forgets nothing that was written to it.
    let handle = maker.vfs.open(CALLER, ino, how).await.unwrap().handle;
    let file = New { handle, ino };
    maker.write(file, "longer than before").await.unwrap();
    maker.close(file).await.unwrap();
    maker.vfs.forget(ino, 2);
    assert_eq!(stat(&maker, dir, "f").await.unwrap().1, 18);
}

#[tokio::test(start_paused = true)]
async fn what_was_synced_is_on_the_host() {
    let world = world_with(&["d"]);
    let (maker, dir) = far_maker(&world).await;
    let file = maker.create(dir, "f", true).await.unwrap();
    maker.write(file, "content").await.unwrap();
    set(&maker, file.ino, modified(5)).await;
    maker.vfs.fsync(file.handle, SyncWhat::All).await.unwrap();
    assert_eq!(content(&world, "d/f").unwrap(), "content");
    let there = fs::metadata(world.folder().join("d/f")).unwrap();
    assert_eq!(there.mtime(), 5);
    maker.close(file).await.unwrap();
    maker.make(dir, "g", "").await.unwrap();
    unlink(&maker, dir, "f").await.unwrap();
    let opened = maker.vfs.opendir(dir).unwrap();
    maker.vfs.fsync_dir(opened).await.unwrap();
    assert!(content(&world, "d/f").is_none() && content(&world, "d/g").is_some());
}

#[tokio::test(start_paused = true)]
async fn what_was_written_under_a_lock_is_on_the_host_when_it_is_given_up() {
    let world = world_with(&["d"]);
    let (maker, dir) = far_maker(&world).await;
    let file = maker.create(dir, "f", true).await.unwrap();
    let wanted = wormhole::mount::vfs::Wanted {
        owner: LockOwner(1),
        kind: LockKind::Record,
        range: LockRange::new(0, u64::MAX).unwrap(),
    };
    let locked = maker
        .vfs
        .lock(file.handle, wanted, LockMode::Exclusive, false);
    locked.await.unwrap();
    maker.write(file, "content").await.unwrap();
    maker.close(file).await.unwrap();
    assert_eq!(content(&world, "d/f").unwrap(), "content");
}

#[tokio::test(start_paused = true)]
async fn what_is_done_to_a_file_is_done_in_order() {
    let world = world_with(&["d"]);
    let (maker, dir) = far_maker(&world).await;
    for n in 0..30 {
        let file = maker.create(dir, "a", false).await.unwrap();
        let text = format!("{n:04}").repeat(n + 1);
        maker.write(file, &text).await.unwrap();
        set(&maker, file.ino, modified(9)).await;
        // Later than the time that was set.
        maker.write(file, "more").await.unwrap();
        maker.close(file).await.unwrap();
        rename(&maker, dir, "a", "b").await;
        if n % 3 == 0 {
            unlink(&maker, dir, "b").await.unwrap();
        }
    }
    drained(&maker).await;
    assert_eq!(maker.vfs.pending().snapshot().lost, 0);
    let text = content(&world, "d/b").unwrap();
    assert_eq!(text, format!("more{}", "0029".repeat(29)));
    assert!(content(&world, "d/a").is_none());
    let there = fs::metadata(world.folder().join("d/b")).unwrap();
    assert!(there.mtime() > 9);
}

#[tokio::test(start_paused = true)]
async fn what_the_host_refuses_is_counted_and_named() {
    let world = world_with(&["d"]);
    let (maker, dir) = far_maker(&world).await;
    let file = maker.create(dir, "f", true).await.unwrap();
    maker.write(file, "ours").await.unwrap();
    // A program on the host is faster, and hears of no lease.
    fs::write(world.folder().join("d/f"), "theirs").unwrap();
    maker.close(file).await.unwrap();
    drained(&maker).await;
    assert_eq!(content(&world, "d/f").unwrap(), "theirs");
    let pending = maker.vfs.pending().snapshot();
    assert_eq!(pending.lost, 1);
    assert_eq!(pending.losses[0].path.as_ref(), Path::new("d/f"));
    let exists = FsError::Fault(Fault::Exists).to_string();
    assert_eq!(pending.losses[0].why, exists);
    assert_eq!(maker.vfs.pending().tell_losses().0, 1);
    assert_eq!(maker.vfs.pending().tell_losses().0, 0);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_is_away_for_long_loses_nothing() {
    let world = world_with(&["d"]);
    let (maker, dir) = far_maker(&world).await;
    let open = maker.create(dir, "open", true).await.unwrap();
    maker.write(open, "before").await.unwrap();
    maker.make(dir, "f", "content").await.unwrap();
    cut_off(&maker);
    // Ten times as long as programs wait.
    sleep(Duration::from_secs(200)).await;
    let began = Instant::now();
    let found = maker.vfs.lookup(dir, b"f").await.unwrap().unwrap();
    let looked = maker.vfs.getattr(found.node.ino, None).await;
    assert!(looked.is_err(), "who looks is told");
    assert!(began.elapsed() < Duration::from_secs(30));
    assert!(!maker.vfs.drain(Duration::from_secs(5)).await);
    let_in(&maker);
    drained(&maker).await;
    assert_eq!(content(&world, "d/f").unwrap(), "content");
    assert_eq!(content(&world, "d/open").unwrap(), "before");
    // The one that is open goes on.
    maker.vfs.write(open.handle, 6, b" after").await.unwrap();
    maker.close(open).await.unwrap();
    drained(&maker).await;
    assert_eq!(content(&world, "d/open").unwrap(), "before after");
    assert_eq!(maker.vfs.pending().snapshot().lost, 0);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_was_restarted_loses_nothing() {
    let world = world_with(&["d"]);
    let (maker, dir) = far_maker(&world).await;
    cut_off(&maker);
    let open = maker.create(dir, "open", true).await.unwrap();
    maker.write(open, "before").await.unwrap();
    maker.make(dir, "empty", "").await.unwrap();
    let long = "0123456789abcdef".repeat(20_000);
    let file = maker.create(dir, "long", true).await.unwrap();
    maker.write(file, &long).await.unwrap();
    set(&maker, file.ino, modified(77)).await;
    maker.close(file).await.unwrap();
    maker.make(dir, "x.tmp", "renamed").await.unwrap();
    rename(&maker, dir, "x.tmp", "x").await;
    sleep(Duration::from_secs(1)).await;
    world.restart().await;
    let_in(&maker);
    drained(&maker).await;
    assert_eq!(maker.vfs.pending().snapshot().lost, 0);
    assert_eq!(content(&world, "d/open").unwrap(), "before");
    assert_eq!(content(&world, "d/empty").unwrap(), "");
    assert_eq!(content(&world, "d/long").unwrap(), long);
    assert_eq!(content(&world, "d/x").unwrap(), "renamed");
    let there = fs::metadata(world.folder().join("d/long")).unwrap();
    assert_eq!((there.mtime(), there.mode() & 0o777), (77, 0o604));
    // Whoever has a file open that had to be made again goes on.
    maker.vfs.write(open.handle, 6, b" after").await.unwrap();
    maker.vfs.fsync(open.handle, SyncWhat::All).await.unwrap();
    maker.close(open).await.unwrap();
    assert_eq!(content(&world, "d/open").unwrap(), "before after");
    let (ino, _) = stat(&maker, dir, "open").await.unwrap();
    let there = fs::metadata(world.folder().join("d/open")).unwrap();
    assert_eq!(ino.0, there.ino());
}

#[tokio::test(start_paused = true)]
async fn a_strict_mount_makes_again_what_a_restarted_host_had_reserved() {
    let world = world_with(&["d"]);
    let maker = Maker::new(&world, 1).await;
    let dir = maker.prepared("d").await;
    cut_off(&maker);
    let file = maker.create(dir, "f", true).await.unwrap();
    maker.write(file, "content").await.unwrap();
    world.restart().await;
    let_in(&maker);
    maker.vfs.fsync(file.handle, SyncWhat::All).await.unwrap();
    assert_eq!(content(&world, "d/f").unwrap(), "content");
    assert!(is_on_disk(
        &world.folder().join("d/f"),
        "a_strict_mount_makes_again_what_a_restarted_host_had_reserved"
    ));
    maker.close(file).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_was_opened_to_be_emptied_is_not_emptied_once_more_by_a_restart() {
    let world = world_with(&["d"]);
    fs::write(world.folder().join("d/f"), "before").unwrap();
    let maker = Maker::new(&world, 1).await;
    let dir = maker.prepared("d").await;
    let found = maker.vfs.lookup(dir, b"f").await.unwrap();
    let ino = found.unwrap().node.ino;
    let how = OpenHow {
        writes: true,
        truncates: true,
        ..OpenHow::default()
    };
    let handle = maker.vfs.open(CALLER, ino, how).await.unwrap().handle;
    let file = New { handle, ino };
    maker.write(file, "content").await.unwrap();
    maker.vfs.fsync(handle, SyncWhat::All).await.unwrap();
    cut_off(&maker);
    world.restart().await;
    let_in(&maker);
    maker.vfs.write(handle, 7, b" after").await.unwrap();
    maker.close(file).await.unwrap();
    assert_eq!(content(&world, "d/f").unwrap(), "content after");
}

#[tokio::test(start_paused = true)]
async fn another_mount_waits_for_names_that_are_on_their_way() {
    let world = world_with(&["d"]);
    let (maker, dir) = far_maker(&world).await;
    let other = Maker::new(&world, 2).await;
    let there = other.dir("d").await;
    other.names(there).await;
    let dir_again = maker.prepared("d").await;
    assert_eq!(dir, dir_again);
    maker.make(dir, "f", "content").await.unwrap();
    unlink(&maker, dir, "first-1").await.unwrap();
    let names = timeout(HOUR, other.names(there)).await.unwrap();
    assert!(names.contains(&"f".to_owned()), "{names:?}");
    assert!(!names.contains(&"first-1".to_owned()), "{names:?}");
}

#[tokio::test(start_paused = true)]
async fn two_names_of_one_file_stay_as_they_are() {
    let world = world_with(&["d"]);
    let (maker, dir) = far_maker(&world).await;
    let file = maker.create(dir, "f", true).await.unwrap();
    maker.close(file).await.unwrap();
    let linked = maker.vfs.link(CALLER, file.ino, dir, b"g");
    assert_eq!(linked.await.unwrap().attr.links, 2);
    let renamed = timeout(HOUR, rename(&maker, dir, "g", "f")).await;
    assert!(renamed.is_ok(), "nobody waits for himself");
    drained(&maker).await;
    assert_eq!(maker.vfs.pending().snapshot().lost, 0);
    assert!(content(&world, "d/f").is_some() && content(&world, "d/g").is_some());
    unlink(&maker, dir, "f").await.unwrap();
    drained(&maker).await;
    assert!(content(&world, "d/f").is_none() && content(&world, "d/g").is_some());
}

#[tokio::test(start_paused = true)]
async fn who_sets_what_only_the_host_can_waits_for_a_lost_one_his_time_and_no_longer() {
    let world = world_with(&["d"]);
    let (maker, dir) = far_maker(&world).await;
    let owner = AttrChange {
        uid: Some(77),
        ..AttrChange::default()
    };
    for (name, content) in [("empty", ""), ("full", "content")] {
        let file = maker.create(dir, name, true).await.unwrap();
        maker.write(file, content).await.unwrap();
        cut_off(&maker);
        let set = timeout(HOUR, maker.vfs.setattr(CALLER, file.ino, owner)).await;
        assert_eq!(set.unwrap().unwrap_err(), FsError::TimedOut, "{name}");
        let_in(&maker);
        let closed = timeout(HOUR, maker.close(file)).await;
        closed.unwrap().unwrap();
        drained(&maker).await;
        let there = self::content(&world, &format!("d/{name}"));
        assert_eq!(there.unwrap(), content);
    }
}
