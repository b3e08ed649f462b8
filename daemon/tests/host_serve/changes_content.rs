//! Files and their bytes, changed.

use crate::changes::{ROOT, WRITABLE, asking, attr, call, made, making, writable, writing};
use crate::page_cache::{is_on_disk, unwritten_pages};
use crate::world::{Mount, World, expecting, name, node};
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use wormhole_protocol::limits::OFFSET_MAX;
use wormhole_protocol::{
    Access, Allocate, Attr, AttrChange, Change, Extent, Fault, FileKind, NewNode, OpenId,
    RenameHow, Reply, SetTime, SyncWhat, Timestamp,
};

#[tokio::test]
async fn a_file_is_made_written_and_read_back() {
    let (world, mount) = writable().await;
    let attr = mount.create("", "f", 1).await.unwrap();
    assert_eq!((attr.kind, attr.size), (FileKind::File, 0));
    let attr = mount.write(1, 3, b"hello").await.unwrap();
    assert_eq!(attr.size, 8);
    assert_eq!(fs::read(world.at("f")).unwrap(), b"\0\0\0hello");
    let big = vec![7; 3 << 20];
    mount.write(1, 5, &big).await.unwrap();
    let (read, bytes) = mount.read(node("f"), 0, 4 << 20).await.unwrap();
    assert_eq!((read.id, bytes.len()), (attr.id, 5 + (3 << 20)));
    assert!(bytes[5..] == big);
    assert_eq!(mount.append(1, b"end").await, Ok(5 + (3 << 20)));
    assert_eq!(mount.append(1, b"!").await, Ok(8 + (3 << 20)));
    for what in [SyncWhat::All, SyncWhat::Data] {
        let open = OpenId(1);
        assert_eq!(
            mount.change(Change::Sync { open, what }).await,
            Ok(Reply::Done)
        );
    }
    let dir = node("");
    assert_eq!(mount.change(Change::SyncDir { dir }).await, Ok(Reply::Done));
    let far = mount.write(1, OFFSET_MAX, b"x").await;
    assert_eq!(far, Err(Fault::FileTooLarge));
    for _ in 0..2 {
        let open = OpenId(1);
        assert_eq!(
            mount.change(Change::Close { opens: vec![open] }).await,
            Ok(Reply::Done)
        );
    }
    assert_eq!(mount.write(1, 0, b"x").await, Err(Fault::NotOpen));
}

#[tokio::test]
async fn a_write_makes_the_file_durable_if_asked_to() {
    let test = "a_write_makes_the_file_durable_if_asked_to";
    let (world, mount) = writable().await;
    mount.create("", "f", 1).await.unwrap();
    let path = world.at("f");
    for (n, sync) in [SyncWhat::All, SyncWhat::Data].into_iter().enumerate() {
        mount.write(1, 0, &[7; 8192]).await.unwrap();
        assert_ne!(unwritten_pages(&path), Some(0), "not before");
        let mut change = writing(1, 8192, b"end");
        if let Change::Write { after, .. } = &mut change {
            after.sync = Some(sync);
        }
        let done = call(&mount, asking(ROOT, change), b"end").await;
        assert_eq!(attr(done.unwrap()).unwrap().size, 8195, "{n}");
        assert!(is_on_disk(&path, test));
    }
}

#[tokio::test]
async fn a_write_sets_attributes_if_asked_to() {
    let (world, mount) = writable().await;
    mount.create("", "f", 1).await.unwrap();
    let write = async |offset: u64, set| {
        let mut change = writing(1, offset, b"data");
        if let Change::Write { after, .. } = &mut change {
            after.set = Some(set);
        }
        call(&mount, asking(ROOT, change), b"data").await
    };
    let at = |secs| Some(SetTime::At(Timestamp::new(secs, 5).unwrap()));
    let set = AttrChange {
        mode: Some(0o4711),
        uid: Some(77),
        modified: at(1000),
        ..AttrChange::default()
    };
    let attr = attr(write(0, set).await.unwrap()).unwrap();
    assert_eq!((attr.size, attr.mode, attr.uid), (4, 0o4711, 77));
    assert_eq!(attr.modified, Timestamp::new(1000, 5).unwrap());
    let there = std::fs::metadata(world.at("f")).unwrap();
    assert_eq!((there.mtime(), there.mode() & 0o7777), (1000, 0o4711));
    // What cannot be set takes no bytes away; the length is none of it.
    let nobody = AttrChange {
        uid: Some(u32::MAX),
        ..AttrChange::default()
    };
    let cut = AttrChange {
        size: Some(0),
        ..AttrChange::default()
    };
    for (offset, set) in [(4, nobody), (8, cut)] {
        let Ok(Reply::Unset { attr, fault }) = write(offset, set).await else {
            panic!("it was set");
        };
        assert_eq!((attr.size, fault), (offset + 4, Fault::Invalid));
        assert!(attr.modified > Timestamp::new(1000, 5).unwrap());
    }
    assert_eq!(std::fs::read(world.at("f")).unwrap(), b"datadatadata");
}

#[tokio::test]
async fn create_opens_what_is_there_as_it_was_asked() {
    let (world, mount) = writable().await;
    world.write("f", "content");
    let with = |exclusive, truncate| Change::Create {
        dir: node(""),
        name: name("f"),
        mode: 0o600,
        exclusive,
        truncate,
        open: OpenId(5),
    };
    assert_eq!(mount.change(with(true, true)).await, Err(Fault::Exists));
    let opened = made(mount.change(with(false, false)).await.unwrap()).unwrap();
    assert_eq!(opened.size, 7);
    let cut = made(mount.change(with(false, true)).await.unwrap()).unwrap();
    assert_eq!((cut.size, cut.id), (0, opened.id));
    // What is no regular file is not opened, not even looked into.
    fs::create_dir(world.at("dir")).unwrap();
    symlink("f", world.at("link")).unwrap();
    mount
        .change(making("", "fifo", NewNode::Fifo))
        .await
        .unwrap();
    for (entry, fault) in [
        ("dir", Fault::IsDirectory),
        ("link", Fault::Stale),
        ("fifo", Fault::WrongKind),
    ] {
        let refused = mount.create("", entry, 6).await;
        assert_eq!(refused, Err(fault), "{entry}");
        if entry != "link" {
            assert_eq!(mount.open(node(entry), 6).await, Err(fault), "{entry}");
        }
    }
    assert_eq!(mount.open(node("link"), 6).await, Err(Fault::WrongKind));
}

#[tokio::test]
async fn a_file_without_a_name_lives_on_while_it_is_held() {
    let (world, mount) = writable().await;
    world.write("f", "content");
    let f = mount.lookup("", "f").await.unwrap();
    let left = mount.unlink("", "f", Some(9)).await.unwrap();
    assert_eq!(left.map(|left| (left.id, left.links)), Some((f.id, 0)));
    let gone = || expecting("f", f.id);
    mount.write(9, 7, b" and more").await.unwrap();
    let (_, bytes) = mount.read(gone(), 0, 99).await.unwrap();
    assert_eq!(bytes, b"content and more");
    assert_eq!(mount.getattr(gone()).await.unwrap().size, 16);
    let set = AttrChange {
        size: Some(2),
        mode: Some(0o600),
        ..AttrChange::default()
    };
    assert_eq!(mount.set(gone(), set).await.unwrap().size, 2);
    // Another under the same name is another.
    world.write("f", "new");
    assert_eq!(mount.read(gone(), 0, 99).await.unwrap().1, b"co");
    assert_eq!(mount.read(node("f"), 0, 99).await.unwrap().1, b"new");
    // It can be opened again, and goes with the last open.
    mount.open(gone(), 10).await.unwrap();
    for open in [OpenId(9), OpenId(10)] {
        mount
            .change(Change::Close { opens: vec![open] })
            .await
            .unwrap();
    }
    assert_eq!(mount.getattr(gone()).await, Err(Fault::Stale));
    // The same where a rename takes the name.
    let new = mount.lookup("", "f").await.unwrap();
    world.write("g", "g");
    let (_, other) = mount
        .rename(("", "g"), ("", "f"), RenameHow::Replace, Some(11))
        .await
        .unwrap();
    assert_eq!(other.unwrap().id, new.id);
    let (_, bytes) = mount.read(expecting("f", new.id), 0, 9).await.unwrap();
    assert_eq!(bytes, b"new");
    // What stays under another name is said to, and a failure holds nothing.
    fs::hard_link(world.at("f"), world.at("h")).unwrap();
    let left = mount.unlink("", "h", None).await.unwrap();
    assert_eq!(left.unwrap().links, 1);
    assert_eq!(mount.unlink("", "h", Some(12)).await, Err(Fault::NotFound));
    assert_eq!(mount.write(12, 0, b"x").await, Err(Fault::NotOpen));
}

#[tokio::test]
async fn space_is_allocated_and_freed() {
    let (world, mount) = writable().await;
    mount.create("", "f", 1).await.unwrap();
    mount.write(1, 0, &[7; 64 << 10]).await.unwrap();
    let allocate = |how, offset, len| {
        let (open, extent) = (OpenId(1), Extent::new(offset, len).unwrap());
        mount.change(Change::Allocate { open, extent, how })
    };
    let before = fs::metadata(world.at("f")).unwrap().blocks();
    let punched = allocate(Allocate::PunchHole, 4096, 32 << 10).await;
    let Ok(Reply::Attr(attr)) = punched else {
        assert_eq!(punched, Err(Fault::Unsupported), "this disk cannot");
        return;
    };
    assert_eq!(attr.size, 64 << 10);
    assert!(attr.blocks < before);
    let (_, bytes) = mount.read(node("f"), 0, 8192).await.unwrap();
    assert!(bytes[..4096].iter().all(|b| *b == 7) && bytes[4096..].iter().all(|b| *b == 0));
    let grown = attr_of(allocate(Allocate::Grow, 0, 128 << 10).await);
    assert_eq!(grown.size, 128 << 10);
    let kept = attr_of(allocate(Allocate::KeepSize, 0, 256 << 10).await);
    assert_eq!(kept.size, 128 << 10);
}

fn attr_of(reply: Result<Reply, Fault>) -> Attr {
    attr(reply.unwrap()).unwrap()
}

#[tokio::test]
async fn bytes_are_copied_within_the_host() {
    let (world, mount) = writable().await;
    world.write("from", "0123456789");
    mount.create("", "to", 1).await.unwrap();
    let copy = |from: &str, from_offset, offset, len| {
        mount.change(Change::Copy {
            from: node(from),
            from_offset,
            to: OpenId(1),
            extent: Extent::new(offset, len).unwrap(),
        })
    };
    let copied = |reply: Result<Reply, Fault>| match reply.unwrap() {
        Reply::Copied { len, attr } => (len, attr.size),
        other => panic!("{other:?}"),
    };
    assert_eq!(copied(copy("from", 2, 1, 4).await), (4, 5));
    assert_eq!(fs::read(world.at("to")).unwrap(), b"\x002345");
    assert_eq!(copied(copy("from", 8, 5, 1000).await), (2, 7), "it ends");
    assert_eq!(copied(copy("to", 1, 7, 4).await), (4, 11));
    assert_eq!(copy("to", 1, 3, 4).await, Err(Fault::Invalid), "overlap");
    assert_eq!(copy("", 0, 0, 4).await, Err(Fault::IsDirectory));
}

#[tokio::test]
async fn a_file_is_cut_as_it_is_opened_to_be_written() {
    let (world, mount) = writable().await;
    world.write("f", "content");
    let open = |access, truncate, open| {
        mount.change(Change::Open {
            node: node("f"),
            access,
            truncate,
            open: OpenId(open),
        })
    };
    assert_eq!(open(Access::Read, true, 0).await, Err(Fault::Invalid));
    let kept = attr_of(open(Access::ReadWrite, false, 1).await);
    assert_eq!(kept.size, 7);
    let cut = attr_of(open(Access::ReadWrite, true, 2).await);
    assert_eq!(cut.size, 0);
    assert_ne!(kept.version, cut.version);
    mount.write(2, 0, b"new").await.unwrap();
    assert_eq!(fs::read(world.at("f")).unwrap(), b"new");
}

#[tokio::test]
async fn opens_are_for_what_they_say_and_bounded() {
    let (world, mount) = writable().await;
    world.write("f", "x");
    let reading = Change::Open {
        truncate: false,
        node: node("f"),
        access: Access::Read,
        open: OpenId(0),
    };
    mount.change(reading).await.unwrap();
    assert_eq!(mount.write(0, 0, b"y").await, Err(Fault::NotOpen));
    let mut opened = 1;
    let refused = loop {
        match mount.open(node("f"), opened).await {
            Ok(_) => opened += 1,
            Err(fault) => break fault,
        }
        assert!(opened <= 4096);
    };
    assert_eq!(refused, Fault::Exhausted);
    // Others still open theirs; and what is closed makes room.
    let other = world.mount_as(2).await;
    let theirs = other.open(node("f"), 1).await;
    assert!(theirs.is_ok() || opened < 64, "{opened}: {theirs:?}");
    let open = OpenId(1);
    mount
        .change(Change::Close { opens: vec![open] })
        .await
        .unwrap();
    mount.open(node("f"), 1).await.unwrap();
    assert_eq!(mount.write(1, 0, b"y").await.unwrap().size, 1);
    assert_eq!(other.write(7, 0, b"y").await, Err(Fault::NotOpen));
}

#[tokio::test]
async fn a_file_that_may_only_be_written_is_written() {
    let (world, mount) = writable().await;
    world.write("f", "x");
    fs::set_permissions(world.at("f"), fs::Permissions::from_mode(0o200)).unwrap();
    mount.open(node("f"), 1).await.unwrap();
    mount.write(1, 1, b"y").await.unwrap();
    fs::set_permissions(world.at("f"), fs::Permissions::from_mode(0o400)).unwrap();
    // Who has it open goes on.
    mount.write(1, 2, b"z").await.unwrap();
    let file = fs::File::open(world.at("f")).unwrap();
    let mut bytes = [0; 3];
    file.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"xyz");
}

/// On a disk of one mebibyte: what does not fit is said, and what did is there.
#[test]
fn a_full_disk_says_so() {
    on_a_small_disk("ENOSPC", |world, mount| async move {
        mount.create("disk", "f", 1).await.unwrap();
        let mut written = 0;
        let full = loop {
            match mount.write(1, written, &[1; 64 << 10]).await {
                Ok(attr) => written = attr.size,
                Err(fault) => break fault,
            }
        };
        assert_eq!(full, Fault::NoSpace);
        let size = fs::metadata(world.at("disk/f")).unwrap().len();
        assert!(size >= written && written > 0);
        let appended = mount.append(1, &[2; 1 << 20]).await;
        assert_eq!(appended, Err(Fault::NoSpace));
        assert_eq!(fs::metadata(world.at("disk/f")).unwrap().len(), size);
        let (open, how) = (OpenId(1), Allocate::Grow);
        let extent = Extent::new(0, 8 << 20).unwrap();
        let grown = mount.change(Change::Allocate { open, extent, how }).await;
        assert_eq!(grown, Err(Fault::NoSpace));
        // A mount point stays, and nothing goes across.
        let remove = Change::RemoveDir {
            dir: node(""),
            name: name("disk"),
        };
        assert_eq!(mount.change(remove).await, Err(Fault::Busy));
        let across = mount.rename(("disk", "f"), ("", "f"), RenameHow::Replace, None);
        assert_eq!(across.await, Err(Fault::CrossDevice));
        // A copy does.
        mount.create("", "copy", 2).await.unwrap();
        let copy = Change::Copy {
            from: node("disk/f"),
            from_offset: 0,
            to: OpenId(2),
            extent: Extent::new(0, size).unwrap(),
        };
        let copied = mount.change(copy).await;
        assert!(matches!(copied, Ok(Reply::Copied { len, .. }) if len == size));
        assert!(fs::read(world.at("copy")).unwrap() == fs::read(world.at("disk/f")).unwrap());
    });
}

/// Runs `test` with a file system of one mebibyte mounted at `disk`, if this user may mount one.
fn on_a_small_disk<F: Future<Output = ()> + 'static>(
    what: &str,
    test: fn(std::sync::Arc<World>, Mount) -> F,
) {
    use rustix::mount::{
        MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
    };
    use rustix::thread::{UnshareFlags, unshare_unsafe};
    let what = what.to_owned();
    let alone = move || {
        // SAFETY: no descriptor table is unshared, and the runtime's threads are this one's children.
        let unshared = unsafe { unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS) };
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        if unshared.is_err() || mount_change("/", private).is_err() {
            eprintln!("skipped: {what} needs a file system to be mounted");
            return;
        }
        let world = std::sync::Arc::new(World::with(WRITABLE));
        let disk = world.at("disk");
        fs::create_dir(&disk).unwrap();
        mount("none", &disk, "tmpfs", MountFlags::empty(), c"size=1m").unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let mount = world.mount().await;
            test(world.clone(), mount).await;
        });
        drop(runtime);
        unmount(&disk, UnmountFlags::DETACH).unwrap();
    };
    std::thread::spawn(alone).join().unwrap();
}
