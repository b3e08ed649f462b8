//! Files made early in directories that were made through the same mount a moment before.

use crate::EXISTS;
use crate::maker::{CALLER, Maker, RTT, world_with};
use crate::world::World;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use wormhole::mount::inodes::Ino;
use wormhole_protocol::RenameHow;

/// Makes a directory at the top, and in it files, one after the other: which it is, and how long the files took.
async fn fill(maker: &Maker, dir: &str, files: u32) -> (Ino, Duration) {
    let made = maker.vfs.make_dir(CALLER, Ino::ROOT, dir.as_bytes(), 0o755);
    let ino = made.await.unwrap().node.ino;
    let began = Instant::now();
    for n in 0..files {
        maker.make(ino, &format!("f{n}"), "content").await.unwrap();
    }
    (ino, began.elapsed())
}

#[tokio::test(start_paused = true)]
async fn so_it_does_in_a_directory_that_was_made_here_from_the_first_file_on() {
    let world = World::new();
    let maker = Maker::new(&world, 1).await;
    maker.far(RTT);
    let (dir, took) = fill(&maker, "d", 30).await;
    assert!(took < RTT * 31, "{took:?}");
    // What is known of it needs no asking either.
    let began = Instant::now();
    assert_eq!(maker.names(dir).await.len(), 30);
    maker.vfs.getattr(dir, None).await.unwrap();
    assert!(maker.vfs.lookup(dir, b"none").await.unwrap().is_err());
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn so_it_does_in_however_many_directories() {
    let world = World::new();
    let maker = Maker::new(&world, 1).await;
    maker.far(RTT);
    // More than a mount may hold alone at once.
    for n in 0..700 {
        let (_, took) = fill(&maker, &format!("d{n}"), 2).await;
        assert!(took < RTT * 24 / 10, "{n}: {took:?}");
    }
    let (first, last) = (maker.dir("d0").await, maker.dir("d699").await);
    for (dir, name) in [(first, "d0"), (last, "d699")] {
        assert_eq!(maker.names(dir).await, ["f0", "f1"], "{name}");
        maker.make(dir, "f2", "more").await.unwrap();
        let path = world.folder().join(name).join("f2");
        assert_eq!(fs::read(path).unwrap(), b"more");
    }
}

#[tokio::test(start_paused = true)]
async fn a_directory_that_changes_before_its_maker_knew_of_it_is_asked_about() {
    let world = world_with(&["p"]);
    let maker = Maker::new(&world, 1).await;
    let parent = maker.prepared("p").await;
    maker.far(RTT);
    let make = async |name: &str, then: &dyn Fn()| {
        let there = world.folder().join("p").join(name);
        let changes = async {
            while !there.exists() {
                sleep(Duration::from_millis(1)).await;
            }
            then();
        };
        let makes = maker.vfs.make_dir(CALLER, parent, name.as_bytes(), 0o755);
        let (made, ()) = tokio::join!(makes, changes);
        made.unwrap().node.ino
    };
    // Given other rights by a program of the host.
    let path = world.folder().join("p/d");
    let set_mode = || fs::set_permissions(&path, Permissions::from_mode(0o711)).unwrap();
    let dir = make("d", &set_mode).await;
    sleep(RTT).await;
    let (attr, _) = maker.vfs.getattr(dir, None).await.unwrap();
    assert_eq!(attr.mode & 0o777, 0o711);
    // Filled by one.
    let path = world.folder().join("p/e");
    let fill = || fs::write(path.join("theirs"), "").unwrap();
    let dir = make("e", &fill).await;
    sleep(RTT).await;
    assert_eq!(maker.names(dir).await, ["theirs"]);
    // What is above it is renamed by this mount: others know it by another path than it was given by.
    let there = world.folder().join("p/g");
    let moves = async {
        while !there.exists() {
            sleep(Duration::from_millis(1)).await;
        }
        let (from, to) = ((Ino::ROOT, &b"p"[..]), (Ino::ROOT, &b"q"[..]));
        let renamed = maker.vfs.rename(CALLER, from, to, RenameHow::Replace);
        renamed.await.unwrap();
    };
    let makes = maker.vfs.make_dir(CALLER, parent, b"g", 0o755);
    let (made, ()) = tokio::join!(makes, moves);
    let dir = made.unwrap().node.ino;
    let began = Instant::now();
    let file = maker.create(dir, "f", true).await.unwrap();
    assert!(began.elapsed() >= RTT, "not before the host was asked");
    maker.close(file).await.unwrap();
    assert!(world.folder().join("q/g/f").exists());
}

#[tokio::test(start_paused = true)]
async fn a_new_directory_others_looked_into_before_its_maker_knew_is_not_its_own() {
    let world = World::new();
    let (maker, other) = (Maker::new(&world, 1).await, Maker::new(&world, 2).await);
    maker.far(RTT);
    for n in 0..20 {
        let name = format!("d{n}");
        let looks = async {
            while !world.folder().join(&name).exists() {
                sleep(Duration::from_millis(1)).await;
            }
            let dir = other.dir(&name).await;
            assert!(other.vfs.lookup(dir, b"f").await.unwrap().is_err());
            dir
        };
        let makes = maker
            .vfs
            .make_dir(CALLER, Ino::ROOT, name.as_bytes(), 0o755);
        let (made, theirs) = tokio::join!(makes, looks);
        let ours = made.unwrap().node.ino;
        let (first, second) = tokio::join!(
            async {
                let file = maker.create(ours, "f", true).await?;
                maker.write(file, "one").await?;
                maker.close(file).await
            },
            other.make(theirs, "f", "two")
        );
        let content = fs::read(world.folder().join(&name).join("f")).unwrap();
        match (first, second) {
            (Ok(()), Err(EXISTS)) => assert_eq!(content, b"one", "{name}"),
            (Err(EXISTS), Ok(())) => assert_eq!(content, b"two", "{name}"),
            other => panic!("{name}: {other:?}"),
        }
    }
}
