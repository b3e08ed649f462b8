//! Every kind of node, looked at.

use crate::changes::writable;
use crate::world::{World, expecting, name, node};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use wormhole_protocol::{
    Change, Fault, FileKind, LinkTarget, RenameHow, Reply, Request, XattrName,
};

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// One of each; device nodes only if this user may make them.
fn one_of_each(world: &World) -> Vec<(&'static str, FileKind)> {
    world.write("file", "content");
    fs::create_dir(world.at("dir")).unwrap();
    symlink("file", world.at("link")).unwrap();
    mknodat(CWD, world.at("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    drop(UnixListener::bind(world.at("socket")).unwrap());
    let mut nodes = vec![
        ("file", FileKind::File),
        ("dir", FileKind::Directory),
        ("link", FileKind::Symlink),
        ("fifo", FileKind::Fifo),
        ("socket", FileKind::Socket),
    ];
    let null = rustix::fs::makedev(1, 3);
    let made = mknodat(
        CWD,
        world.at("char"),
        FileType::CharacterDevice,
        Mode::RUSR,
        null,
    );
    if made.is_ok() {
        nodes.push(("char", FileKind::CharDevice));
        let loop0 = rustix::fs::makedev(7, 0);
        mknodat(
            CWD,
            world.at("block"),
            FileType::BlockDevice,
            Mode::RUSR,
            loop0,
        )
        .unwrap();
        nodes.push(("block", FileKind::BlockDevice));
    }
    nodes
}

#[tokio::test]
async fn special_files_are_listed_and_never_opened() {
    let world = World::new();
    let nodes = one_of_each(&world);
    let mount = world.mount().await;
    let listed = mount.list("").await.unwrap();
    assert_eq!(listed.len(), nodes.len());
    for (at, kind) in nodes {
        let attr = mount.lookup("", at).await.unwrap();
        assert_eq!(attr.kind, kind);
        let meta = fs::symlink_metadata(world.at(at)).unwrap();
        assert_eq!((attr.id.inode, attr.size), (meta.ino(), meta.size()));
        assert_eq!(
            attr.rdev,
            if attr.kind == FileKind::Directory {
                0
            } else {
                meta.rdev()
            }
        );
        let entry = listed.iter().find(|e| e.name == name(at)).unwrap();
        assert_eq!(entry.attr.id, attr.id);
        assert_eq!(entry.attr.kind, kind);
        assert_eq!(
            mount.getattr(expecting(at, attr.id)).await.unwrap().id,
            attr.id
        );
        // A FIFO without a writer would block whoever opened it.
        let read = mount.read(node(at), 0, 10).await.map(|(_, bytes)| bytes);
        match kind {
            FileKind::File => assert_eq!(read.unwrap(), b"content"),
            FileKind::Directory => assert_eq!(read, Err(Fault::IsDirectory)),
            _ => assert_eq!(read, Err(Fault::WrongKind), "{at}"),
        }
        let link = mount.call(Request::Readlink { node: node(at) }).await;
        if kind == FileKind::Symlink {
            assert_eq!(link, Ok(Reply::Link(LinkTarget::new(*b"file").unwrap())));
        } else {
            assert_eq!(link, Err(Fault::WrongKind));
        }
        if kind != FileKind::Directory {
            assert_eq!(mount.list(at).await.unwrap_err(), Fault::NotDirectory);
            assert_eq!(mount.lookup(at, "x").await, Err(Fault::NotDirectory));
        }
        let names = mount.call(Request::ListXattr { node: node(at) }).await;
        assert_eq!(names, Ok(Reply::XattrNames(Vec::new())));
    }
}

#[tokio::test]
async fn names_are_bytes() {
    let world = World::new();
    let long = vec![b'n'; 255];
    let names: [&[u8]; 6] = [
        b"a space",
        b"new\nline",
        b"\xff\xfe invalid",
        b"-rf",
        b"\x1b[31m",
        &long,
    ];
    for (i, name) in (0_u8..).zip(&names) {
        fs::write(world.at(std::ffi::OsStr::from_bytes(name)), [i]).unwrap();
    }
    let mount = world.mount().await;
    let mut sorted = names.map(<[u8]>::to_vec).to_vec();
    sorted.sort();
    assert_eq!(mount.names("").await, sorted);
    for (i, name) in (0_u8..).zip(&names) {
        let attr = mount.lookup("", name).await.unwrap();
        let (_, bytes) = mount.read(expecting(name, attr.id), 0, 9).await.unwrap();
        assert_eq!(bytes, [i]);
    }
}

#[tokio::test]
async fn symlinks_travel_as_data() {
    let world = World::new();
    fs::write(world.outside("secret"), "secret").unwrap();
    fs::create_dir(world.at("dir")).unwrap();
    world.write("dir/file", "inside");
    let long = "x/".repeat(2047);
    let targets = [
        "dir",
        "/etc/passwd",
        "../secret",
        "self",
        "no such",
        "/proc/self/cwd",
        &long,
    ];
    for (i, target) in targets.iter().enumerate() {
        symlink(target, world.at(format!("l{i}"))).unwrap();
    }
    symlink("self", world.at("self")).unwrap();
    let mount = world.mount().await;
    for (i, target) in targets.iter().enumerate() {
        let at = format!("l{i}");
        let attr = mount.lookup("", &at).await.unwrap();
        assert_eq!(attr.kind, FileKind::Symlink);
        assert_eq!(attr.size, target.len() as u64);
        let link = mount
            .call(Request::Readlink {
                node: expecting(&at, attr.id),
            })
            .await;
        assert_eq!(
            link,
            Ok(Reply::Link(LinkTarget::new(target.as_bytes()).unwrap()))
        );
        // Neither followed at the end of a path nor in its middle.
        assert_eq!(
            mount.read(node(&at), 0, 9).await.unwrap_err(),
            Fault::WrongKind
        );
        assert_eq!(mount.list(&at).await.unwrap_err(), Fault::NotDirectory);
        let through = format!("{at}/file");
        assert_eq!(mount.getattr(node(&through)).await, Err(Fault::Stale));
        assert_eq!(
            mount.read(node(&through), 0, 9).await.unwrap_err(),
            Fault::Stale
        );
    }
}

/// A mount opens what it believes in without a word; another may replace or remove it before the first read.
#[tokio::test]
async fn a_file_that_another_mount_replaced_or_removed_can_be_read_for_a_moment() {
    let (world, mount) = writable().await;
    let reader = world.mount_as(2).await;
    for replaced in [true, false] {
        world.write("a", "first");
        world.write("new", "second");
        let id = reader.getattr(node("a")).await.unwrap().id;
        if replaced {
            let renamed = mount.rename(("", "new"), ("", "a"), RenameHow::Replace, None);
            renamed.await.unwrap();
        } else {
            let (dir, name, keep) = (node(""), name("a"), None);
            let unlink = Change::Unlink { dir, name, keep };
            mount.change(unlink).await.unwrap();
        }
        let a = expecting("a", id);
        assert!(reader.getattr(a.clone()).await.is_err(), "it says so");
        let (_, bytes) = reader.read(a, 0, 9).await.unwrap();
        assert_eq!(bytes, b"first");
    }
}

#[tokio::test]
async fn a_node_that_is_another_is_stale() {
    let world = World::new();
    world.write("a", "first");
    fs::create_dir(world.at("d")).unwrap();
    let mount = world.mount().await;
    let a = mount.getattr(node("a")).await.unwrap();
    let d = mount.lookup("", "d").await.unwrap();
    world.write("new", "second");
    fs::rename(world.at("new"), world.at("a")).unwrap();
    fs::rename(world.at("d"), world.at("old")).unwrap();
    fs::create_dir(world.at("d")).unwrap();
    let (a, d) = (expecting("a", a.id), expecting("d", d.id));
    assert_eq!(mount.getattr(a.clone()).await, Err(Fault::Stale));
    assert_eq!(mount.read(a.clone(), 0, 9).await.unwrap_err(), Fault::Stale);
    assert_eq!(mount.frames(d.clone()).await.unwrap_err(), Fault::Stale);
    let requests = [
        Request::Readlink { node: a.clone() },
        Request::ListXattr { node: a.clone() },
        Request::GetXattr {
            node: a,
            name: XattrName::new(*b"user.x").unwrap(),
        },
        Request::Lookup {
            dir: d,
            name: name("x"),
        },
    ];
    for request in requests {
        assert_eq!(mount.call(request).await, Err(Fault::Stale));
    }
    assert_eq!(mount.lookup("", "gone").await, Err(Fault::NotFound));
    assert_eq!(
        mount.getattr(node("gone/deeper")).await,
        Err(Fault::NotFound)
    );
}

#[tokio::test]
async fn only_user_attributes_travel() {
    let world = World::new();
    world.write("f", "x");
    fs::create_dir(world.at("d")).unwrap();
    let set = |at: &str, name: &str, value: &[u8]| {
        rustix::fs::setxattr(world.at(at), name, value, rustix::fs::XattrFlags::empty())
    };
    if set("f", "user.empty", b"").is_err() {
        return; // This file system keeps none.
    }
    let large = vec![7; 3000];
    set("f", "user.large", &large).unwrap();
    set("d", "user.dir", b"\0raw").unwrap();
    if is_root() {
        set("f", "trusted.hidden", b"x").unwrap();
        set("f", "security.hidden", b"x").unwrap();
    }
    let mount = world.mount().await;
    let get = async |at: &str, name: &str| {
        let name = XattrName::new(name).unwrap();
        mount
            .call(Request::GetXattr {
                node: node(at),
                name,
            })
            .await
    };
    let mut names = match mount.call(Request::ListXattr { node: node("f") }).await {
        Ok(Reply::XattrNames(names)) => names,
        other => panic!("{other:?}"),
    };
    names.sort();
    let names: Vec<_> = names.iter().map(XattrName::as_bytes).collect();
    assert_eq!(names, [&b"user.empty"[..], b"user.large"]);
    assert_eq!(get("f", "user.empty").await, Ok(Reply::Xattr(Vec::new())));
    assert_eq!(get("f", "user.large").await, Ok(Reply::Xattr(large)));
    assert_eq!(
        get("d", "user.dir").await,
        Ok(Reply::Xattr(b"\0raw".to_vec()))
    );
    assert_eq!(get("f", "user.none").await, Err(Fault::NoAttribute));
}

#[tokio::test]
async fn attributes_say_whether_there_are_extended_ones() {
    let world = World::new();
    for name in ["none", "small", "many", "hidden"] {
        world.write(name, "x");
    }
    std::os::unix::fs::symlink("small", world.at("link")).unwrap();
    let set = |at: &str, name: &str, value: &[u8]| {
        rustix::fs::setxattr(world.at(at), name, value, rustix::fs::XattrFlags::empty())
    };
    if set("small", "user.x", b"").is_err() {
        return; // This file system keeps none.
    }
    for n in 0..20 {
        set("many", &format!("user.a-name-of-some-length-{n}"), b"").unwrap();
    }
    if is_root() {
        set("hidden", "trusted.hidden", b"x").unwrap();
    }
    let mount = world.mount().await;
    let entries = mount.list("").await.unwrap();
    let mut seen: Vec<_> = entries
        .iter()
        .map(|e| (e.name.as_bytes(), e.attr.xattrs))
        .collect();
    seen.sort();
    let expected: [(&[u8], bool); 5] = [
        (b"hidden", false),
        (b"link", false),
        (b"many", true),
        (b"none", false),
        (b"small", true),
    ];
    assert_eq!(seen, expected);
    for (name, xattrs) in expected {
        let name = std::str::from_utf8(name).unwrap();
        assert_eq!(
            mount.lookup("", name).await.unwrap().xattrs,
            xattrs,
            "{name}"
        );
        assert_eq!(
            mount.getattr(node(name)).await.unwrap().xattrs,
            xattrs,
            "{name}"
        );
    }
}

#[tokio::test]
async fn the_file_system_has_its_figures() {
    let world = World::new();
    let mount = world.mount().await;
    let Ok(Reply::StatFs(figures)) = mount.call(Request::StatFs).await else {
        panic!("no figures")
    };
    let own = rustix::fs::statvfs(world.at("")).unwrap();
    assert_eq!(u64::from(figures.fragment_bytes), own.f_frsize);
    assert_eq!((figures.blocks, figures.files), (own.f_blocks, own.f_files));
    assert_eq!(u64::from(figures.name_bytes_max), own.f_namemax);
}

#[test]
fn what_the_user_may_not_read_is_denied() {
    let world = World::new();
    world.write("secret", "x");
    fs::create_dir(world.at("closed")).unwrap();
    world.write("closed/file", "x");
    for path in ["secret", "closed"] {
        fs::set_permissions(world.at(path), fs::Permissions::from_mode(0o0)).unwrap();
    }
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.enable_all();
    if is_root() {
        fs::set_permissions(world.outside(""), fs::Permissions::from_mode(0o755)).unwrap();
        runtime.on_thread_start(|| {
            // SAFETY: changes the file system identity of the calling thread only.
            unsafe { libc::setfsuid(65534) };
        });
    }
    let runtime = runtime.build().unwrap();
    let world = std::sync::Arc::new(world);
    let inner = world.clone();
    let checks = async move {
        let mount = inner.mount().await;
        assert_eq!(
            mount.read(node("secret"), 0, 9).await.unwrap_err(),
            Fault::Denied
        );
        assert_eq!(mount.list("closed").await.unwrap_err(), Fault::Denied);
        assert_eq!(mount.lookup("closed", "file").await, Err(Fault::Denied));
        assert_eq!(mount.getattr(node("closed/file")).await, Err(Fault::Denied));
        // Their attributes are no secret: the directory that lists them may be read.
        assert_eq!(mount.getattr(node("secret")).await.unwrap().mode, 0);
        assert_eq!(
            mount.names("").await,
            [b"closed".to_vec(), b"secret".to_vec()]
        );
    };
    runtime.block_on(async { tokio::spawn(checks).await.unwrap() });
    fs::set_permissions(world.at("closed"), fs::Permissions::from_mode(0o700)).unwrap();
}
