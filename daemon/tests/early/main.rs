//! Files made early, in mounts of a real host in this process: one round trip, nobody deceived, nothing lost.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod along;
mod maker;
mod names;
mod new_dirs;
#[path = "../support/page_cache.rs"]
mod page_cache;
#[path = "../model/world.rs"]
mod world;

use maker::{CALLER, Maker, New, RTT, world_with};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use wormhole::mount::error::FsError;
use wormhole::mount::handles::OpenHow;
use wormhole::mount::inodes::Ino;
use wormhole::mount::vfs::CreateHow;
use wormhole_protocol::{Attr, AttrChange, Fault, LockOwner, RenameHow, SyncWhat, XattrHow};

pub(crate) const EXISTS: FsError = FsError::Fault(Fault::Exists);

#[tokio::test(start_paused = true)]
async fn making_writing_and_closing_a_file_takes_one_round_trip() {
    let world = world_with(&["d"]);
    let maker = Maker::new(&world, 1).await;
    let dir = maker.prepared("d").await;
    maker.far(RTT);
    for n in 0..50 {
        let began = Instant::now();
        maker.make(dir, &format!("f{n}"), "content").await.unwrap();
        let took = began.elapsed();
        assert!(took >= RTT && took < RTT * 12 / 10, "{n}: {took:?}");
    }
    // Without content as well.
    let began = Instant::now();
    let file = maker.create(dir, "empty", false).await.unwrap();
    assert_eq!(began.elapsed(), Duration::ZERO);
    maker.close(file).await.unwrap();
    assert!(began.elapsed() < RTT * 12 / 10);
    for n in 0..50 {
        let path = world.folder().join(format!("d/f{n}"));
        assert_eq!(fs::read(path).unwrap(), b"content");
    }
    assert_eq!(maker.names(dir).await.len(), 53);
}

#[tokio::test(start_paused = true)]
async fn many_at_once_find_files_in_stock() {
    let world = world_with(&["d"]);
    let maker = Arc::new(Maker::new(&world, 1).await);
    let dir = maker.prepared("d").await;
    maker.far(RTT);
    let began = Instant::now();
    let threads = (0..16).map(|thread| {
        let maker = maker.clone();
        tokio::spawn(async move {
            for n in 0..50 {
                let name = format!("{thread}-{n}");
                maker.make(dir, &name, &name).await.unwrap();
            }
        })
    });
    for thread in threads.collect::<Vec<_>>() {
        thread.await.unwrap();
    }
    let took = began.elapsed();
    assert!(took < RTT * 70, "{took:?}");
    for (thread, n) in (0..16).flat_map(|t| (0..50).map(move |n| (t, n))) {
        let name = format!("{thread}-{n}");
        let path = world.folder().join("d").join(&name);
        assert_eq!(fs::read(path).unwrap(), name.as_bytes());
    }
}

#[tokio::test(start_paused = true)]
async fn who_writes_a_file_anew_waits_twice() {
    let world = world_with(&["d"]);
    for name in ["f", "g"] {
        fs::write(world.folder().join("d").join(name), "a longer content").unwrap();
    }
    let maker = Maker::new(&world, 1).await;
    let dir = maker.prepared("d").await;
    maker.far(RTT);
    let how = OpenHow {
        writes: true,
        truncates: true,
        ..OpenHow::default()
    };
    for name in ["f", "g"] {
        let found = maker.vfs.lookup(dir, name.as_bytes()).await.unwrap();
        let ino = found.unwrap().node.ino;
        let began = Instant::now();
        let handle = maker.vfs.open(CALLER, ino, how).await.unwrap().handle;
        let file = New { handle, ino };
        maker.write(file, "new").await.unwrap();
        assert_eq!(maker.vfs.read(handle, 0, 100).await.unwrap(), b"new"[..]);
        maker.close(file).await.unwrap();
        let took = began.elapsed();
        assert!(took >= 2 * RTT && took < RTT * 24 / 10, "{took:?}");
        let there = world.folder().join("d").join(name);
        assert_eq!(fs::read(there).unwrap(), b"new");
    }
    // What another handle has written goes as well.
    let found = maker.vfs.lookup(dir, b"f").await.unwrap();
    let ino = found.unwrap().node.ino;
    let handle = maker.vfs.open(CALLER, ino, how).await.unwrap().handle;
    maker.write(New { handle, ino }, "longer").await.unwrap();
    let second = maker.vfs.open(CALLER, ino, how).await.unwrap().handle;
    maker.vfs.write(second, 0, b"x").await.unwrap();
    for handle in [handle, second] {
        maker.close(New { handle, ino }).await.unwrap();
    }
    assert_eq!(fs::read(world.folder().join("d/f")).unwrap(), b"x");
}

#[tokio::test(start_paused = true)]
async fn what_was_written_before_a_file_is_made_anew_is_cut_off_in_whatever_order_it_arrives() {
    let world = world_with(&["d"]);
    let maker = Maker::new(&world, 1).await;
    let dir = maker.prepared("d").await;
    let old = maker.create(dir, "f", true).await.unwrap();
    sleep(RTT).await;
    assert!(world.folder().join("d/f").exists());
    maker.write(old, "old").await.unwrap();
    // It is sent after 20 ms: it arrives later than what makes the file anew, and is answered earlier.
    maker.far(Duration::from_millis(60));
    let nearer = async {
        sleep(Duration::from_millis(5)).await;
        maker.far(Duration::from_millis(30));
    };
    let create = CreateHow {
        mode: 0o640,
        exclusive: false,
        truncate: true,
    };
    let how = OpenHow {
        writes: true,
        ..OpenHow::default()
    };
    let (made, ()) = tokio::join!(maker.vfs.create(CALLER, dir, b"f", create, how), nearer);
    let (found, opened) = made.unwrap();
    assert_eq!(found.attr.size, 0);
    assert_eq!(fs::read(world.folder().join("d/f")).unwrap(), b"");
    maker.vfs.release(opened.handle);
    maker.close(old).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_looks_at_a_new_file_before_writing_waits_for_nobody() {
    let world = world_with(&["d"]);
    let maker = Maker::new(&world, 1).await;
    let dir = maker.prepared("d").await;
    maker.far(RTT);
    let file = maker.create(dir, "f", true).await.unwrap();
    let began = Instant::now();
    let look = || maker.vfs.getattr(file.ino, None);
    let (before, ttl) = look().await.unwrap();
    assert_eq!((began.elapsed(), ttl), (Duration::ZERO, Duration::ZERO));
    maker.write(file, "four").await.unwrap();
    let (written, _) = look().await.unwrap();
    assert!(began.elapsed() >= RTT);
    assert_eq!((before.size, written.size), (0, 4));
    let constant = |attr: Attr| (attr.id, attr.links, attr.mode, attr.uid, attr.gid);
    assert_eq!(constant(before), constant(written));
}

#[tokio::test(start_paused = true)]
async fn whoever_looks_here_sees_what_was_made() {
    let world = world_with(&["d", "e"]);
    let maker = Maker::new(&world, 1).await;
    let dir = maker.prepared("d").await;
    let other = maker.dir("e").await;
    maker.far(RTT);
    let file = maker.create(dir, "f", true).await.unwrap();
    maker.write(file, "four").await.unwrap();
    let (attr, _) = maker.vfs.getattr(file.ino, None).await.unwrap();
    let on_disk = || fs::metadata(world.folder().join("d/f")).unwrap();
    assert_eq!(
        (attr.size, attr.id.inode),
        (4, std::os::unix::fs::MetadataExt::ino(&on_disk()))
    );
    assert_eq!((attr.mode & 0o777, attr.links), (0o640, 1));
    maker.close(file).await.unwrap();

    let file = maker.create(dir, "g", true).await.unwrap();
    assert!(maker.names(dir).await.contains(&"g".into()));
    assert_eq!(maker.create(dir, "g", true).await.err(), Some(EXISTS));
    maker.close(file).await.unwrap();

    let file = maker.create(dir, "h", true).await.unwrap();
    maker.write(file, "moved").await.unwrap();
    let vfs = &maker.vfs;
    let renamed = vfs.rename(CALLER, (dir, b"h"), (other, b"i"), RenameHow::Replace);
    renamed.await.unwrap();
    maker.close(file).await.unwrap();
    assert_eq!(fs::read(world.folder().join("e/i")).unwrap(), b"moved");

    let file = maker.create(dir, "j", true).await.unwrap();
    maker.write(file, "gone").await.unwrap();
    vfs.unlink(CALLER, dir, b"j").await.unwrap();
    let read = vfs.read(file.handle, 0, 10).await.unwrap();
    assert_eq!(read, &b"gone"[..]);
    maker.close(file).await.unwrap();
    assert!(!world.folder().join("d/j").exists());

    let file = maker.create(dir, "k", true).await.unwrap();
    let set = AttrChange {
        mode: Some(0o600),
        ..AttrChange::default()
    };
    assert_eq!(
        vfs.setattr(CALLER, file.ino, set).await.unwrap().0.mode & 0o777,
        0o600
    );
    vfs.fsync(file.handle, SyncWhat::All).await.unwrap();
    maker.close(file).await.unwrap();

    // The directory it is made in moves.
    let file = maker.create(dir, "l", true).await.unwrap();
    maker.write(file, "along").await.unwrap();
    let renamed = vfs.rename(CALLER, (Ino::ROOT, b"d"), (other, b"d"), RenameHow::Replace);
    renamed.await.unwrap();
    maker.close(file).await.unwrap();
    assert_eq!(fs::read(world.folder().join("e/d/l")).unwrap(), b"along");
}

#[tokio::test(start_paused = true)]
async fn another_mount_sees_what_was_made_the_moment_it_was() {
    let dirs: Vec<_> = (0..20).map(|n| format!("d{n}")).collect();
    let world = world_with(&dirs.iter().map(String::as_str).collect::<Vec<_>>());
    let (maker, other) = (Maker::new(&world, 1).await, Maker::new(&world, 2).await);
    let mut prepared = Vec::new();
    for dir in &dirs {
        prepared.push(maker.prepared(dir).await);
    }
    maker.far(Duration::from_millis(20));
    for (n, (dir, ino)) in dirs.iter().zip(prepared).enumerate() {
        let began = Instant::now();
        let file = maker.create(ino, "f", true).await.unwrap();
        assert_eq!(began.elapsed(), Duration::ZERO, "early");
        maker.write(file, "bytes").await.unwrap();
        let theirs = other.dir(dir).await;
        match n % 3 {
            0 => assert!(
                other.vfs.lookup(theirs, b"f").await.unwrap().is_ok(),
                "{dir}"
            ),
            1 => assert!(other.names(theirs).await.contains(&"f".into()), "{dir}"),
            _ => assert_eq!(other.create(theirs, "f", true).await.err(), Some(EXISTS)),
        }
        maker.close(file).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_mounts_that_make_the_same_file_one_does() {
    let dirs: Vec<_> = (0..40).map(|n| format!("d{n}")).collect();
    let world = world_with(&dirs.iter().map(String::as_str).collect::<Vec<_>>());
    let (one, two) = (Maker::new(&world, 1).await, Maker::new(&world, 2).await);
    let mut prepared = Vec::new();
    for dir in &dirs {
        prepared.push(one.prepared(dir).await);
    }
    one.far(Duration::from_millis(4));
    two.far(Duration::from_millis(2));
    for (n, (dir, ours)) in dirs.iter().zip(prepared).enumerate() {
        let theirs = two.dir(dir).await;
        let early = Duration::from_micros(200 * (n as u64 % 20));
        let first = async {
            sleep(early).await;
            let file = one.create(ours, "f", true).await?;
            one.write(file, "one").await?;
            one.close(file).await
        };
        let (first, second) = tokio::join!(first, two.make(theirs, "f", "two"));
        let content = fs::read(world.folder().join(dir).join("f")).unwrap();
        match (first, second) {
            (Ok(()), Err(EXISTS)) => assert_eq!(content, b"one", "{dir}"),
            (Err(EXISTS), Ok(())) => assert_eq!(content, b"two", "{dir}"),
            other => panic!("{dir}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn that_a_program_of_the_host_was_faster_is_told_at_the_close() {
    let world = world_with(&["d"]);
    let maker = Maker::new(&world, 1).await;
    let dir = maker.prepared("d").await;
    for (n, text) in ["", "ours"].into_iter().enumerate() {
        maker.names(dir).await;
        let name = format!("f{n}");
        let path = world.folder().join("d").join(&name);
        fs::write(&path, "theirs").unwrap();
        let file = maker.create(dir, &name, true).await.unwrap();
        if !text.is_empty() {
            maker.write(file, text).await.unwrap();
        }
        let flushed = maker.vfs.flush(file.handle, LockOwner(1)).await;
        assert_eq!(flushed, Err(EXISTS), "{name}");
        assert!(maker.write(file, "more").await.is_err());
        assert!(maker.vfs.fsync(file.handle, SyncWhat::All).await.is_err());
        maker.vfs.release(file.handle);
        assert_eq!(fs::read(&path).unwrap(), b"theirs");
        let found = maker.vfs.lookup(dir, name.as_bytes()).await.unwrap();
        let found = found.ok().unwrap();
        assert_ne!(found.node.ino, file.ino);
        assert_eq!(found.attr.size, 6);
        // And on it goes.
        for m in 0..4 {
            let name = format!("after{n}-{m}");
            maker.make(dir, &name, "x").await.unwrap();
            sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_program_of_the_host_moved_is_held_alone_where_it_is_only() {
    let world = world_with(&["p", "p/d"]);
    let (maker, other) = (Maker::new(&world, 1).await, Maker::new(&world, 2).await);
    let parent = maker.dir("p").await;
    let found = maker.vfs.lookup(parent, b"d").await.unwrap().ok().unwrap();
    let dir = found.node.ino;
    for n in 0..4 {
        maker.make(dir, &format!("first{n}"), "").await.unwrap();
        sleep(Duration::from_millis(50)).await;
    }
    fs::rename(world.folder().join("p"), world.folder().join("q")).unwrap();
    sleep(Duration::from_millis(50)).await;
    for mount in [&other, &maker] {
        let parent = mount.dir("q").await;
        let found = mount.vfs.lookup(parent, b"d").await.unwrap().ok().unwrap();
        assert!(
            mount
                .vfs
                .lookup(found.node.ino, b"f")
                .await
                .unwrap()
                .is_err()
        );
        mount.names(found.node.ino).await;
        mount.far(RTT);
    }
    // The other has looked there, and nobody told the maker.
    let began = Instant::now();
    let file = maker.create(dir, "f", true).await.unwrap();
    assert!(began.elapsed() >= RTT, "the host was asked");
    maker.close(file).await.unwrap();
    let parent = other.dir("q").await;
    let found = other.vfs.lookup(parent, b"d").await.unwrap().ok().unwrap();
    let again = other.create(found.node.ino, "f", true).await;
    assert_eq!(again.err(), Some(EXISTS));
}

/// Whatever is made there inherits it: a user besides the owner may write.
const DEFAULT_ACL: [(u16, u16, u32); 5] = [
    (0x01, 7, u32::MAX),
    (0x02, 7, 12_345),
    (0x04, 5, u32::MAX),
    (0x10, 7, u32::MAX),
    (0x20, 0, u32::MAX),
];

#[tokio::test(start_paused = true)]
async fn a_directory_that_was_given_other_rights_is_asked_first() {
    let world = world_with(&["d"]);
    let maker = Maker::new(&world, 1).await;
    let dir = maker.prepared("d").await;
    maker.far(RTT);
    let early = async |name: &str| {
        let began = Instant::now();
        let file = maker.create(dir, name, true).await.unwrap();
        let took = began.elapsed();
        maker.close(file).await.unwrap();
        took < RTT
    };
    let set_mode = async |mode| {
        let set = AttrChange {
            mode: Some(mode),
            ..AttrChange::default()
        };
        maker.vfs.setattr(CALLER, dir, set).await.unwrap();
    };
    assert!(early("a1").await);
    set_mode(0o775).await;
    assert!(early("a2").await, "more rights than before");
    set_mode(0o555).await;
    assert!(!early("b1").await, "by this mount");
    early("b2").await;
    sleep(RTT * 3).await;
    assert!(early("c").await);
    fs::set_permissions(world.folder().join("d"), Permissions::from_mode(0o700)).unwrap();
    sleep(RTT * 3).await;
    assert!(!early("e1").await, "by a program of the host");
    early("e2").await;
    sleep(RTT * 3).await;
    assert!(early("f").await);
    let mut acl = 2_u32.to_le_bytes().to_vec();
    for (tag, rights, id) in DEFAULT_ACL {
        acl.extend(tag.to_le_bytes());
        acl.extend(rights.to_le_bytes());
        acl.extend(id.to_le_bytes());
    }
    let name = b"system.posix_acl_default";
    let given = maker.vfs.setxattr(CALLER, dir, name, &acl, XattrHow::Set);
    given.await.unwrap();
    for file in ["g", "h", "i", "j"] {
        assert!(!early(file).await, "{file}");
        let file = maker.vfs.lookup(dir, file.as_bytes()).await.unwrap().ok();
        let node = file.unwrap().node.ino;
        let inherited = maker.vfs.getxattr(node, b"system.posix_acl_access").await;
        assert!(inherited.is_ok());
        sleep(RTT * 3).await;
    }
}

#[tokio::test]
async fn locks_are_made_by_the_host_first() {
    let world = world_with(&["d"]);
    let maker = Maker::new(&world, 1).await;
    let dir = maker.prepared("d").await;
    fs::write(world.folder().join("d/index.lock"), "theirs").unwrap();
    let created = maker.create(dir, "index.lock", true).await;
    assert_eq!(created.err(), Some(EXISTS));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_lost_in_between_loses_nothing() {
    let world = world_with(&["d"]);
    let maker = Arc::new(Maker::new(&world, 1).await);
    let dir = maker.prepared("d").await;
    maker.far(RTT);
    for n in 0..20 {
        let name = format!("f{n}");
        let file = maker.create(dir, &name, true).await.unwrap();
        maker.write(file, &name).await.unwrap();
        let closing = {
            let maker = maker.clone();
            tokio::spawn(async move { maker.close(file).await })
        };
        sleep(RTT * n / 15).await;
        maker.door.cut();
        closing.await.unwrap().unwrap();
        let path = world.folder().join("d").join(&name);
        assert_eq!(fs::read(path).unwrap(), name.as_bytes());
        sleep(RTT * 30).await;
        maker.make(dir, &format!("slow{n}"), "").await.unwrap();
        sleep(RTT * 30).await;
    }
}
