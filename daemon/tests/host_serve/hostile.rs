//! Mounts and owners that do their worst: nothing outside the share is ever touched.

use crate::world::{Mount, World, expecting, name, node};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_bind, mount_change, unmount};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use wormhole::host::{HostState, Share, TicketLimits};
use wormhole_protocol::{Fault, FileId, Reply, Request, XattrName};

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
