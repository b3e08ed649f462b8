//! What goes along with the bytes of a file: that it is made durable, and attributes.

use crate::maker::{CALLER, Maker, New, RTT, world_with};
use crate::page_cache::is_on_disk;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Duration;
use tokio::time::Instant;
use wormhole::mount::error::FsError;
use wormhole::mount::handles::OpenHow;
use wormhole_protocol::{AttrChange, Caller, Fault, SetTime, SyncWhat, Timestamp};

#[tokio::test(start_paused = true)]
async fn what_was_written_is_made_durable_in_the_same_round_trip() {
    let world = world_with(&["d"]);
    let maker = Maker::new(&world, 1).await;
    let dir = maker.prepared("d").await;
    maker.far(RTT);
    let path = world.folder().join("d/f");
    let is_there = |content: &str| {
        assert_eq!(fs::read(&path).unwrap(), content.as_bytes());
        assert!(is_on_disk(
            &path,
            "what_was_written_is_made_durable_in_the_same_round_trip"
        ));
    };
    let fsync = async |file: New, what, round_trips: u32| {
        let began = Instant::now();
        maker.vfs.fsync(file.handle, what).await.unwrap();
        let took = began.elapsed();
        let least = RTT * round_trips;
        assert!(took >= least && took < least + RTT / 5, "{took:?}");
    };
    let file = maker.create(dir, "f", true).await.unwrap();
    maker.write(file, "content").await.unwrap();
    fsync(file, SyncWhat::All, 1).await;
    is_there("content");
    maker.write(file, "CONTENT").await.unwrap();
    fsync(file, SyncWhat::Data, 1).await;
    is_there("CONTENT");
    // In two places, it takes a request of its own; and so does what was there already.
    for offset in [0, 7] {
        maker
            .vfs
            .write(file.handle, 7 - offset, b"abcdefg")
            .await
            .unwrap();
    }
    fsync(file, SyncWhat::All, 2).await;
    is_there("abcdefgabcdefg");
    fsync(file, SyncWhat::All, 1).await;
    maker.close(file).await.unwrap();

    let how = OpenHow {
        writes: true,
        syncs: Some(SyncWhat::Data),
        ..OpenHow::default()
    };
    let opened = maker.vfs.open(CALLER, file.ino, how).await.unwrap();
    let began = Instant::now();
    maker.vfs.write(opened.handle, 0, b"O_DSYNC").await.unwrap();
    assert!(began.elapsed() < RTT * 12 / 10);
    is_there("O_DSYNCabcdefg");
    maker.vfs.release(opened.handle);
}

#[tokio::test(start_paused = true)]
async fn a_file_gets_its_mode_before_it_is_made() {
    let world = world_with(&["d"]);
    let maker = Maker::new(&world, 1).await;
    let dir = maker.prepared("d").await;
    maker.far(RTT);
    let began = Instant::now();
    let mode = |mode| AttrChange {
        mode: Some(mode),
        ..AttrChange::default()
    };
    let file = maker.create(dir, "f", true).await.unwrap();
    let set = maker.vfs.setattr(CALLER, file.ino, mode(0o604));
    assert_eq!(set.await.unwrap().0.mode, 0o604);
    maker.write(file, "content").await.unwrap();
    // Who gives a file to himself, of which nothing comes, does not wait for what he wrote.
    let set = maker.vfs.setattr(CALLER, file.ino, AttrChange::default());
    assert_eq!(set.await.unwrap().0.size, 7);
    assert_eq!(began.elapsed(), Duration::ZERO);
    maker.close(file).await.unwrap();
    assert!(began.elapsed() < RTT * 12 / 10);
    let there = fs::metadata(world.folder().join("d/f")).unwrap();
    assert_eq!(there.permissions().mode() & 0o777, 0o604);
    // Afterwards, and what is more than permissions, the host is asked.
    let began = Instant::now();
    let set = maker.vfs.setattr(CALLER, file.ino, mode(0o640));
    assert_eq!(set.await.unwrap().0.mode, 0o640);
    assert!(began.elapsed() >= RTT);
    let file = maker.create(dir, "g", true).await.unwrap();
    let set = maker.vfs.setattr(CALLER, file.ino, mode(0o4640));
    assert_eq!(set.await.unwrap().0.mode, 0o4640);
    assert!(began.elapsed() >= RTT * 2);
    maker.close(file).await.unwrap();
}

/// How many round trips it took to set attributes.
async fn round_trips(maker: &Maker, caller: Caller, file: New, set: AttrChange) -> u32 {
    let began = Instant::now();
    let (attr, _) = maker.vfs.setattr(caller, file.ino, set).await.unwrap();
    if let Some(mode) = set.mode {
        assert_eq!(attr.mode, mode);
    }
    let took = began.elapsed();
    let counted = (1..9).find(|&n| took < RTT * n + RTT / 2);
    counted.unwrap()
}

fn modified(secs: i64) -> AttrChange {
    let at = |secs| Some(SetTime::At(Timestamp::new(secs, 7).unwrap()));
    AttrChange {
        accessed: at(-1),
        modified: at(secs),
        ..AttrChange::default()
    }
}

#[tokio::test(start_paused = true)]
async fn attributes_are_set_with_what_was_written_in_the_same_round_trip() {
    let world = world_with(&["d"]);
    let maker = Maker::new(&world, 1).await;
    let dir = maker.prepared("d").await;
    maker.far(RTT);
    let path = world.folder().join("d/f");
    let there = || {
        let there = fs::metadata(&path).unwrap();
        assert_eq!((there.mtime_nsec(), there.atime()), (7, -1));
        (there.mtime(), there.len())
    };
    // As it gets its name.
    let file = maker.create(dir, "f", true).await.unwrap();
    maker.write(file, "content").await.unwrap();
    assert_eq!(round_trips(&maker, CALLER, file, modified(1000)).await, 1);
    assert_eq!(there(), (1000, 7));
    // And later. What is written takes set-id bits away, and these are given after it.
    maker.write(file, "CONTENT, and more").await.unwrap();
    let all = AttrChange {
        mode: Some(0o4711),
        ..modified(2000)
    };
    assert_eq!(round_trips(&maker, CALLER, file, all).await, 1);
    assert_eq!(there(), (2000, 17));
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o4711);
    // With nothing to go along with, after two that are dirty, and for somebody else, it is a request.
    assert_eq!(round_trips(&maker, CALLER, file, modified(3000)).await, 1);
    for offset in [100, 0] {
        let written = maker.vfs.write(file.handle, offset, b"two");
        written.await.unwrap();
    }
    assert_eq!(round_trips(&maker, CALLER, file, modified(4000)).await, 2);
    maker.write(file, "another").await.unwrap();
    let somebody = Caller { uid: 77, gid: 77 };
    assert_eq!(round_trips(&maker, somebody, file, modified(5000)).await, 2);
    assert_eq!(there(), (5000, 103));
    // What comes after it leaves its own times.
    maker.write(file, "last").await.unwrap();
    maker.close(file).await.unwrap();
    assert!(fs::metadata(&path).unwrap().mtime() > 1_000_000_000);
}

#[tokio::test(start_paused = true)]
async fn an_empty_file_gets_its_name_and_its_times_at_once() {
    let world = world_with(&["d"]);
    let maker = Maker::new(&world, 1).await;
    let dir = maker.prepared("d").await;
    maker.far(RTT);
    let mtime = |name: &str| fs::metadata(world.folder().join("d").join(name)).map(|m| m.mtime());
    let file = maker.create(dir, "f", false).await.unwrap();
    assert_eq!(round_trips(&maker, CALLER, file, modified(1000)).await, 1);
    assert_eq!(mtime("f").unwrap(), 1000);
    maker.close(file).await.unwrap();
    let file = maker.create(dir, "g", false).await.unwrap();
    let somebody = Caller { uid: 77, gid: 77 };
    assert_eq!(round_trips(&maker, somebody, file, modified(1000)).await, 2);
    maker.close(file).await.unwrap();
    // It was made by a program of the host meanwhile.
    let file = maker.create(dir, "h", false).await.unwrap();
    fs::write(world.folder().join("d/h"), "theirs").unwrap();
    let set = maker.vfs.setattr(CALLER, file.ino, modified(1000)).await;
    assert_eq!(set.unwrap_err(), FsError::Fault(Fault::Exists));
    assert_ne!(mtime("h").unwrap(), 1000);
    maker.close(file).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn attributes_that_cannot_be_set_take_no_bytes_away() {
    let world = world_with(&["d"]);
    let maker = Maker::new(&world, 1).await;
    let dir = maker.prepared("d").await;
    let nobody = AttrChange {
        uid: Some(u32::MAX),
        ..AttrChange::default()
    };
    let file = maker.create(dir, "f", true).await.unwrap();
    for content in ["content", "CONTENT"] {
        maker.write(file, content).await.unwrap();
        let set = maker.vfs.setattr(CALLER, file.ino, nobody).await;
        assert_eq!(set.unwrap_err(), FsError::Fault(Fault::Invalid));
        let there = fs::read(world.folder().join("d/f")).unwrap();
        assert_eq!(there, content.as_bytes());
    }
    maker.close(file).await.unwrap();
}
