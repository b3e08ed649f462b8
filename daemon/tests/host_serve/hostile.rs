//! Mounts and owners that do their worst: nothing outside the share is ever touched.

use crate::changes::{WRITABLE, creating, linking, making, making_dir, renaming, writing};
use crate::world::{Mount, World, expecting, name, node};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_bind, mount_change, unmount};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use wormhole::host::{HostState, Share, TicketLimits};
use wormhole_protocol::{
    Access, AttrChange, Change, Fault, FileId, NewNode, OpenId, RenameHow, Reply, Request, SetTime,
    XattrName,
};

/// While `dir` is swapped with a symlink to a directory outside, over and over, no request sees
/// anything of that directory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_symlink_swapped_in_is_never_followed() {
    let world = World::new();
    fs::create_dir(world.outside("out")).unwrap();
    fs::write(world.outside("out/file"), "SECRET").unwrap();
    let secret = fs::metadata(world.outside("out/file")).unwrap().ino();
    let secret_dir = fs::metadata(world.outside("out")).unwrap().ino();
    fs::create_dir_all(world.at("dir/deep")).unwrap();
    world.write("dir/file", "public");
    symlink(world.outside("out"), world.at("link")).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let swapper = std::thread::spawn({
        let (stop, dir, link) = (stop.clone(), world.at("dir"), world.at("link"));
        move || {
            while !stop.load(Ordering::Relaxed) {
                renameat_with(CWD, &dir, CWD, &link, RenameFlags::EXCHANGE).unwrap();
            }
        }
    });
    let mount = world.mount().await;
    let (mut through, mut refused) = (0, 0);
    let mut note = |fault: Fault| {
        assert!(
            matches!(fault, Fault::Stale | Fault::NotDirectory | Fault::Exhausted),
            "{fault:?}"
        );
        refused += 1;
    };
    for _ in 0..1000 {
        match mount.read(node("dir/file"), 0, 100).await {
            Ok((attr, bytes)) => {
                assert_eq!(bytes, b"public");
                assert_ne!(attr.id.inode, secret);
                through += 1;
            }
            Err(fault) => note(fault),
        }
        for looked in [
            mount.getattr(node("dir/file")).await,
            mount.lookup("dir", "file").await,
        ] {
            match looked {
                Ok(attr) => assert_ne!(attr.id.inode, secret),
                Err(fault) => note(fault),
            }
        }
        match mount.frames(node("dir")).await {
            Ok((attr, frames)) => {
                assert_ne!(attr.id.inode, secret_dir);
                let mut entries = frames.iter().flat_map(|f| &f.entries);
                assert!(entries.all(|e| e.attr.id.inode != secret));
            }
            Err(fault) => note(fault),
        }
        let name = XattrName::new(*b"user.x").unwrap();
        let node = node("dir/file");
        match mount.call(Request::GetXattr { node, name }).await {
            Err(Fault::NoAttribute | Fault::Unsupported) => {}
            Err(fault) => note(fault),
            Ok(reply) => panic!("{reply:?}"),
        }
    }
    stop.store(true, Ordering::Relaxed);
    swapper.join().unwrap();
    assert!(
        through > 0 && refused > 0,
        "both were met: {through}, {refused}"
    );
}

#[tokio::test]
async fn a_forged_identity_opens_nothing() {
    let world = World::new();
    fs::write(world.outside("secret"), "SECRET").unwrap();
    world.write("mine", "mine");
    world.write("theirs", "theirs");
    let (a, b) = (world.mount_as(1).await, world.mount_as(2).await);
    let theirs = b.lookup("", "theirs").await.unwrap();
    b.read(expecting("theirs", theirs.id), 0, 9).await.unwrap();
    let outside = fs::metadata(world.outside("secret")).unwrap();
    let forged = [
        theirs.id,
        FileId {
            device: outside.dev(),
            inode: outside.ino(),
            birth: 0,
        },
        FileId {
            birth: theirs.id.birth ^ 1,
            ..theirs.id
        },
        FileId {
            device: 0,
            inode: 0,
            birth: 0,
        },
        FileId {
            device: u64::MAX,
            inode: u64::MAX,
            birth: u64::MAX,
        },
    ];
    for id in forged {
        let forged = expecting("mine", id);
        assert_eq!(
            a.read(forged.clone(), 0, 9).await.unwrap_err(),
            Fault::Stale
        );
        assert_eq!(a.getattr(forged).await, Err(Fault::Stale));
    }
    // What the other session has open, this one has not.
    fs::remove_file(world.at("theirs")).unwrap();
    let gone = expecting("theirs", theirs.id);
    assert_eq!(
        a.read(gone.clone(), 0, 9).await.unwrap_err(),
        Fault::NotFound
    );
    assert!(b.read(gone, 0, 9).await.is_ok());
}

#[tokio::test]
async fn a_share_that_is_renamed_is_still_the_share() {
    let world = World::new();
    world.write("f", "x");
    let mount = world.mount().await;
    fs::rename(world.at(""), world.outside("renamed")).unwrap();
    fs::create_dir(world.at("")).unwrap();
    world.write("impostor", "x");
    assert_eq!(mount.names("").await, [b"f".to_vec()]);
    assert_eq!(mount.read(node("f"), 0, 9).await.unwrap().1, b"x");
    assert_eq!(mount.getattr(node("impostor")).await, Err(Fault::NotFound));
}

#[tokio::test]
async fn a_directory_that_left_is_out_of_reach() {
    let world = World::new();
    fs::create_dir_all(world.at("d/e")).unwrap();
    world.write("d/e/f", "x");
    let mount = world.mount().await;
    let d = mount.getattr(node("d/e")).await.unwrap();
    fs::rename(world.at("d"), world.outside("gone")).unwrap();
    symlink(world.outside("gone"), world.at("d")).unwrap();
    assert_eq!(
        mount.getattr(expecting("d/e", d.id)).await,
        Err(Fault::Stale)
    );
    assert_eq!(
        mount.read(node("d/e/f"), 0, 9).await.unwrap_err(),
        Fault::Stale
    );
    assert_eq!(mount.lookup("d/e", "f").await, Err(Fault::Stale));
}

/// Somebody shares a folder and binds /proc into it: files of it are data, its links are not.
#[test]
fn magic_links_lead_nowhere() {
    // In a mount namespace of its own, which goes with the thread: whatever happens, nothing stays
    // mounted where a temporary folder is about to be removed.
    let alone = || {
        // SAFETY: no descriptor table is unshared, and the runtime's threads are this one's children.
        let unshared = unsafe { unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS) };
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        if unshared.is_err() || mount_change("/", private).is_err() {
            return; // Needs privileges.
        }
        let world = World::new();
        fs::create_dir(world.at("proc")).unwrap();
        mount_bind("/proc", world.at("proc")).unwrap();
        let looks = async {
            let mount = world.mount().await;
            [
                mount.getattr(node("proc/self/cwd/Cargo.toml")).await,
                mount.getattr(node("proc/1/root/etc")).await,
                mount.getattr(node("proc/thread-self/status")).await,
                mount.getattr(node("proc/version")).await,
            ]
        };
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let [looks @ .., plain] = runtime.block_on(looks);
        drop(runtime);
        unmount(world.at("proc"), UnmountFlags::DETACH).unwrap();
        assert_eq!(looks, [Err(Fault::Stale); 3]);
        assert!(plain.is_ok(), "a plain mount is the owner's decision");
    };
    std::thread::spawn(alone).join().unwrap();
}

#[tokio::test]
async fn the_hosts_own_secrets_are_not_shared() {
    // The parent of everything is shared, the host's state directory with it.
    let world = World::new();
    let home = Share::open(&world.outside(""), name("home")).unwrap();
    let state = HostState::open(&world.outside("state")).unwrap();
    let state = state.share(&home).unwrap();
    let home = world.gate.add_share(home, state).unwrap();
    let secret = home.state().issue(TicketLimits::default(), 0).unwrap();
    let session = world
        .admit(&crate::world::hello(&secret, 5))
        .await
        .unwrap()
        .session;
    let mount = Mount(wormhole::rpc::loopback::Loopback::new(session));
    assert_eq!(mount.names("").await, [b"share".to_vec()]);
    assert_eq!(mount.lookup("", "state").await, Err(Fault::NotFound));
    for path in ["state", "state/shares"] {
        assert_eq!(mount.getattr(node(path)).await, Err(Fault::NotFound));
        assert_eq!(mount.list(path).await.unwrap_err(), Fault::NotFound);
        assert_eq!(mount.lookup(path, "shares").await, Err(Fault::NotFound));
    }
    assert!(matches!(
        mount.call(Request::StatFs).await,
        Ok(Reply::StatFs(_))
    ));
}

/// Everything of a directory tree that a change could have touched.
fn picture(dir: &std::path::Path) -> Vec<(std::path::PathBuf, u32, u32, u64, i64, Vec<u8>)> {
    let mut seen = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let meta = fs::symlink_metadata(&path).unwrap();
        let bytes = if meta.is_file() {
            fs::read(&path).unwrap()
        } else {
            Vec::new()
        };
        seen.push((
            path.clone(),
            meta.mode(),
            meta.uid(),
            meta.nlink(),
            meta.ctime_nsec() ^ meta.ctime(),
            bytes,
        ));
        if meta.is_dir() {
            seen.extend(picture(&path));
        }
    }
    seen.sort();
    seen
}

/// Changes of `dir/file` and of entries of `dir`, of every kind that names a path.
fn changes_of(dir: &str, file: &str) -> Vec<Change> {
    let at = format!("{dir}/{file}");
    let set = AttrChange {
        mode: Some(0o600),
        size: Some(1),
        modified: Some(SetTime::Now),
        ..AttrChange::default()
    };
    vec![
        Change::Open {
            truncate: false,
            node: node(&at),
            access: Access::ReadWrite,
            open: OpenId(1),
        },
        writing(1, 0, b""),
        creating(dir, file, 0o600, 1),
        Change::SetAttr {
            node: node(&at),
            set,
        },
        Change::RemoveXattr {
            node: node(&at),
            name: XattrName::new(*b"user.x").unwrap(),
        },
        making_dir(dir, "made", 0o700),
        making(dir, "fifo", NewNode::Fifo),
        linking(dir, "symlink", "/"),
        Change::Link {
            node: node(&at),
            dir: node(dir),
            name: name("second"),
        },
        renaming((dir, file), (dir, "renamed"), RenameHow::Replace, Some(2)),
        renaming((dir, "renamed"), (dir, file), RenameHow::Replace, None),
        Change::Unlink {
            dir: node(dir),
            name: name("second"),
            keep: Some(OpenId(3)),
        },
        Change::Unlink {
            dir: node(dir),
            name: name("symlink"),
            keep: None,
        },
        Change::Unlink {
            dir: node(dir),
            name: name("fifo"),
            keep: None,
        },
        Change::RemoveDir {
            dir: node(dir),
            name: name("made"),
        },
        Change::SyncDir { dir: node(dir) },
    ]
}

#[tokio::test]
async fn no_change_goes_through_a_symlink() {
    let world = World::with(WRITABLE);
    fs::create_dir_all(world.outside("out/dir")).unwrap();
    fs::write(world.outside("out/file"), "SECRET").unwrap();
    let before = picture(&world.outside("out"));
    symlink(world.outside("out"), world.at("absolute")).unwrap();
    symlink("../out", world.at("relative")).unwrap();
    symlink("/proc/self/cwd", world.at("magic")).unwrap();
    let mount = world.mount().await;
    for dir in ["absolute", "relative", "magic"] {
        for change in changes_of(dir, "file") {
            let refused = mount.change(change.clone()).await;
            assert!(
                matches!(
                    refused,
                    Err(Fault::Stale | Fault::NotDirectory | Fault::NotOpen)
                ),
                "{change:?}: {refused:?}"
            );
        }
    }
    // A link as the last name is the link itself.
    symlink(world.outside("out/file"), world.at("file")).unwrap();
    symlink(world.outside("out/new"), world.at("new")).unwrap();
    for entry in ["file", "new"] {
        assert_eq!(mount.create("", entry, 1).await, Err(Fault::Stale));
        assert_eq!(mount.open(node(entry), 1).await, Err(Fault::WrongKind));
        let made = mount.make_dir("", entry).await;
        assert_eq!(made, Err(Fault::Exists));
        let below = mount.make_dir(entry, "x").await;
        assert!(below.is_err());
        mount.unlink("", entry, Some(4)).await.unwrap();
    }
    assert_eq!(picture(&world.outside("out")), before);
}

/// While `dir` is swapped with a symlink to a directory outside, over and over, no change reaches it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_change_goes_through_a_symlink_swapped_in() {
    let world = World::with(WRITABLE);
    fs::create_dir(world.outside("out")).unwrap();
    fs::write(world.outside("out/file"), "SECRET").unwrap();
    fs::write(world.outside("out/renamed"), "SECRET").unwrap();
    let before = picture(&world.outside("out"));
    fs::create_dir(world.at("dir")).unwrap();
    symlink(world.outside("out"), world.at("link")).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let swapper = std::thread::spawn({
        let (stop, dir, link) = (stop.clone(), world.at("dir"), world.at("link"));
        move || {
            while !stop.load(Ordering::Relaxed) {
                renameat_with(CWD, &dir, CWD, &link, RenameFlags::EXCHANGE).unwrap();
            }
        }
    });
    let mount = world.mount().await;
    let (mut through, mut refused) = (0, 0);
    for _ in 0..200 {
        for change in changes_of("dir", "file") {
            match mount.change(change).await {
                Ok(_) => through += 1,
                Err(Fault::Stale | Fault::NotDirectory) => refused += 1,
                Err(_) => {}
            }
        }
    }
    stop.store(true, Ordering::Relaxed);
    swapper.join().unwrap();
    assert!(through > 0 && refused > 0, "{through}, {refused}");
    assert_eq!(picture(&world.outside("out")), before);
}

#[tokio::test]
async fn what_is_hidden_can_be_neither_changed_nor_uncovered() {
    let world = World::new();
    fs::create_dir_all(world.outside("home/conf")).unwrap();
    fs::create_dir(world.outside("home/plain")).unwrap();
    let home = Share::open(&world.outside("home"), name("home")).unwrap();
    let state = HostState::open(&world.outside("home/conf/state")).unwrap();
    let state = state.share(&home).unwrap();
    let home = world.gate.add_share_with(home, state, WRITABLE).unwrap();
    let limits = TicketLimits {
        access: WRITABLE.access,
        ..TicketLimits::default()
    };
    let secret = home.state().issue(limits, 0).unwrap();
    let admission = world.admit(&crate::world::hello(&secret, 5)).await.unwrap();
    let mount = Mount(wormhole::rpc::loopback::Loopback::new(admission.session));
    let before = picture(&world.outside("home/conf"));
    assert_eq!(mount.names("conf").await, Vec::<Vec<u8>>::new());
    let replace = RenameHow::Replace;
    for (change, fault) in [
        (making_dir("conf", "state", 0o755), Fault::NotPermitted),
        (creating("conf", "state", 0o644, 1), Fault::NotPermitted),
        (linking("conf", "state", "x"), Fault::NotPermitted),
        (creating("conf/state", "x", 0o644, 1), Fault::NotFound),
        (
            renaming(("conf", "state"), ("", "s"), replace, None),
            Fault::NotFound,
        ),
        (
            renaming(("", "plain"), ("conf", "state"), replace, None),
            Fault::NotPermitted,
        ),
        (
            renaming(("", "conf"), ("", "c"), replace, None),
            Fault::NotPermitted,
        ),
        (
            renaming(("", "plain"), ("", "conf"), RenameHow::Exchange, None),
            Fault::NotPermitted,
        ),
        (
            Change::RemoveDir {
                dir: node("conf"),
                name: name("state"),
            },
            Fault::NotFound,
        ),
        (
            Change::RemoveDir {
                dir: node(""),
                name: name("conf"),
            },
            Fault::NotEmpty,
        ),
        (
            Change::SetAttr {
                node: node("conf/state"),
                set: AttrChange::default(),
            },
            Fault::NotFound,
        ),
    ] {
        assert_eq!(mount.change(change.clone()).await, Err(fault), "{change:?}");
    }
    assert_eq!(picture(&world.outside("home/conf")), before);
    mount.make_dir("conf", "other").await.unwrap();
}

/// Opens are found by number, and each mount has numbers of its own.
#[tokio::test]
async fn what_another_mount_holds_is_out_of_reach() {
    let world = World::with(WRITABLE);
    world.write("f", "theirs");
    let (a, b) = (world.mount_as(1).await, world.mount_as(2).await);
    let f = a.open(node("f"), 1).await.unwrap();
    a.unlink("", "f", None).await.unwrap();
    assert_eq!(b.write(1, 0, b"x").await, Err(Fault::NotOpen));
    let gone = || expecting("f", f.id);
    assert_eq!(b.getattr(gone()).await, Err(Fault::NotFound));
    assert_eq!(b.open(gone(), 1).await, Err(Fault::NotFound));
    assert_eq!(a.read(gone(), 0, 9).await.unwrap().1, b"theirs");
    // Numbers and extents at the edge of what they can be.
    for offset in [u64::MAX, u64::MAX - 1, i64::MAX as u64] {
        assert_eq!(a.write(1, offset, b"xx").await, Err(Fault::FileTooLarge));
    }
    assert_eq!(b.write(u64::MAX, 0, b"x").await, Err(Fault::NotOpen));
}
