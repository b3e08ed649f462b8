//! Each change, and what it answers.

use crate::world::{Mount, World, expecting, name, node};
use bytes::Bytes;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::atomic::{AtomicU64, Ordering};
use wormhole::host::ShareRules;
use wormhole::rpc::{Body, CallError, Remote};
use wormhole_protocol::limits::OFFSET_MAX;
use wormhole_protocol::{
    Access, AfterWrite, Allocate, Attr, AttrChange, BodyLen, Caller, Change, Extent, Fault,
    FileKind, MadeDir, NewNode, NodeRef, OpenId, RenameHow, Reply, Request, Seq, SetTime, SyncWhat,
    Timestamp, XattrHow, XattrName,
};

/// A share that mounts may change.
pub(crate) const WRITABLE: ShareRules = ShareRules {
    access: Access::ReadWrite,
    map_users: false,
    allow_devices: false,
};

pub(crate) const ROOT: Caller = Caller { uid: 0, gid: 0 };

static NEXT: AtomicU64 = AtomicU64::new(1);

/// A number no other change has.
pub(crate) fn seq() -> Seq {
    Seq(NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Few of a test's changes are under way at once: all but the latest are settled.
pub(crate) fn asking(caller: Caller, change: Change) -> Request {
    let seq = seq();
    Request::Change {
        seq,
        settled: Seq(seq.0.saturating_sub(500)),
        caller,
        change,
    }
}

pub(crate) async fn call(mount: &Mount, request: Request, body: &[u8]) -> Result<Reply, Fault> {
    let body = Body::from(Bytes::copy_from_slice(body));
    match mount.0.call_with(request, body).await {
        Ok(answer) => Ok(answer.reply),
        Err(CallError::Fault(fault)) => Err(fault),
        Err(other) => panic!("{other}"),
    }
}

impl Mount {
    pub(crate) async fn change(&self, change: Change) -> Result<Reply, Fault> {
        self.change_as(ROOT, change).await
    }

    pub(crate) async fn change_as(&self, caller: Caller, change: Change) -> Result<Reply, Fault> {
        self.call(asking(caller, change)).await
    }

    pub(crate) async fn open(&self, node: NodeRef, open: u64) -> Result<Attr, Fault> {
        let access = Access::ReadWrite;
        let open = OpenId(open);
        attr(
            self.change(Change::Open {
                truncate: false,
                node,
                access,
                open,
            })
            .await?,
        )
    }

    pub(crate) async fn create(&self, dir: &str, entry: &str, open: u64) -> Result<Attr, Fault> {
        made(self.change(creating(dir, entry, 0o644, open)).await?)
    }

    pub(crate) async fn write(&self, open: u64, offset: u64, bytes: &[u8]) -> Result<Attr, Fault> {
        let change = writing(open, offset, bytes);
        attr(call(self, asking(ROOT, change), bytes).await?)
    }

    pub(crate) async fn append(&self, open: u64, bytes: &[u8]) -> Result<u64, Fault> {
        let (open, len) = (OpenId(open), body_len(bytes));
        let asked = asking(ROOT, Change::Append { open, len });
        match call(self, asked, bytes).await? {
            Reply::Appended { offset, .. } => Ok(offset),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn set(&self, node: NodeRef, set: AttrChange) -> Result<Attr, Fault> {
        attr(self.change(Change::SetAttr { node, set }).await?)
    }

    pub(crate) async fn make_dir(&self, dir: &str, entry: &str) -> Result<Attr, Fault> {
        made(self.change(making_dir(dir, entry, 0o755)).await?)
    }

    pub(crate) async fn unlink(
        &self,
        dir: &str,
        entry: &str,
        keep: Option<u64>,
    ) -> Result<Option<Attr>, Fault> {
        let change = Change::Unlink {
            dir: node(dir),
            name: name(entry),
            keep: keep.map(OpenId),
        };
        match self.change(change).await? {
            Reply::Removed { left, .. } => Ok(left),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn rename(
        &self,
        from: (&str, &str),
        to: (&str, &str),
        how: RenameHow,
        keep: Option<u64>,
    ) -> Result<(Attr, Option<Attr>), Fault> {
        let change = renaming(from, to, how, keep);
        match self.change(change).await? {
            Reply::Renamed { attr, other, .. } => Ok((attr, other)),
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn attr(reply: Reply) -> Result<Attr, Fault> {
    match reply {
        Reply::Attr(attr) => Ok(attr),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn made(reply: Reply) -> Result<Attr, Fault> {
    match reply {
        Reply::Made { attr, .. } | Reply::MadeDir(MadeDir { attr, .. }) => Ok(attr),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn body_len(bytes: &[u8]) -> BodyLen {
    BodyLen::new(u32::try_from(bytes.len()).unwrap()).unwrap()
}

pub(crate) fn creating(dir: &str, entry: &str, mode: u16, open: u64) -> Change {
    Change::Create {
        dir: node(dir),
        name: name(entry),
        mode,
        exclusive: false,
        truncate: false,
        open: OpenId(open),
    }
}

pub(crate) fn writing(open: u64, offset: u64, bytes: &[u8]) -> Change {
    Change::Write {
        open: OpenId(open),
        offset,
        len: body_len(bytes),
        after: AfterWrite::NOTHING,
    }
}

pub(crate) fn making_dir(dir: &str, entry: &str, mode: u16) -> Change {
    Change::MakeDir {
        dir: node(dir),
        name: name(entry),
        mode,
        reserve: 0,
    }
}

pub(crate) fn making(dir: &str, entry: &str, kind: NewNode) -> Change {
    Change::MakeNode {
        dir: node(dir),
        name: name(entry),
        mode: 0o664,
        kind,
    }
}

pub(crate) fn linking(dir: &str, entry: &str, target: &str) -> Change {
    Change::Symlink {
        dir: node(dir),
        name: name(entry),
        target: wormhole_protocol::LinkTarget::new(target).unwrap(),
    }
}

pub(crate) fn renaming(
    from: (&str, &str),
    to: (&str, &str),
    how: RenameHow,
    keep: Option<u64>,
) -> Change {
    Change::Rename {
        from: node(from.0),
        from_name: name(from.1),
        to: node(to.0),
        to_name: name(to.1),
        how,
        keep: keep.map(OpenId),
    }
}

pub(crate) fn xattr(entry: &str) -> XattrName {
    XattrName::new(entry.as_bytes()).unwrap()
}

pub(crate) async fn writable() -> (World, Mount) {
    let world = World::with(WRITABLE);
    let mount = world.mount().await;
    (world, mount)
}

#[tokio::test]
async fn a_writable_share_says_so_and_a_plain_one_refuses_every_change() {
    let welcome = |world: World| async move {
        let admission = world.admit(&world.hello(1)).await.unwrap();
        (admission.welcome.access, admission.welcome.maps_users)
    };
    let told = welcome(World::with(WRITABLE)).await;
    assert_eq!(told, (Access::ReadWrite, false));
    assert_eq!(welcome(World::new()).await, (Access::Read, false));
    let world = World::new();
    world.write("f", "x");
    let mount = world.mount().await;
    for change in every_change() {
        let refused = mount.change(change.clone()).await;
        assert_eq!(refused, Err(Fault::ReadOnly), "{change:?}");
    }
    assert_eq!(fs::read(world.at("f")).unwrap(), b"x");
    assert_eq!(fs::read_dir(world.at("")).unwrap().count(), 1);
}

/// One of each kind, all of which would do something to a share with a file `f`.
fn every_change() -> Vec<Change> {
    let (f, open) = (node("f"), OpenId(1));
    let access = Access::ReadWrite;
    let set = AttrChange {
        size: Some(0),
        ..AttrChange::default()
    };
    let extent = Extent::new(0, 1).unwrap();
    vec![
        Change::Open {
            truncate: false,
            node: f.clone(),
            access,
            open,
        },
        creating("", "n", 0o644, 1),
        Change::Close { opens: vec![open] },
        writing(1, 0, b"y"),
        Change::Append {
            open,
            len: body_len(b"y"),
        },
        Change::Allocate {
            open,
            extent,
            how: Allocate::Grow,
        },
        Change::Copy {
            from: f.clone(),
            from_offset: 0,
            to: open,
            extent,
        },
        Change::Sync {
            open,
            what: SyncWhat::All,
        },
        Change::SyncDir { dir: node("") },
        Change::SetAttr {
            node: f.clone(),
            set,
        },
        making_dir("", "n", 0o755),
        making("", "n", NewNode::File),
        linking("", "n", "f"),
        Change::Link {
            node: f.clone(),
            dir: node(""),
            name: name("n"),
        },
        Change::Unlink {
            dir: node(""),
            name: name("f"),
            keep: None,
        },
        Change::RemoveDir {
            dir: node(""),
            name: name("f"),
        },
        renaming(("", "f"), ("", "n"), RenameHow::Replace, None),
        Change::SetXattr {
            node: f.clone(),
            name: xattr("user.x"),
            how: XattrHow::Set,
            len: body_len(b"y"),
        },
        Change::RemoveXattr {
            node: f,
            name: xattr("user.x"),
        },
    ]
}

/// The modes that were asked for, whatever the umask of the host's process.
#[tokio::test]
async fn modes_are_what_was_asked() {
    let (world, mount) = writable().await;
    let mode = |entry: &str| fs::symlink_metadata(world.at(entry)).unwrap().mode() & 0o7777;
    let create = creating("", "f", 0o666, 1);
    assert_eq!(
        made(mount.change(create).await.unwrap()).unwrap().mode,
        0o666
    );
    assert_eq!(mode("f"), 0o666);
    mount.change(creating("", "g", 0o000, 2)).await.unwrap();
    assert_eq!(mode("g"), 0);
    mount.write(2, 0, b"x").await.unwrap();
    mount.change(making_dir("", "d", 0o777)).await.unwrap();
    assert_eq!(mode("d"), 0o777);
    for (entry, kind) in [
        ("file", NewNode::File),
        ("fifo", NewNode::Fifo),
        ("socket", NewNode::Socket),
    ] {
        mount.change(making("", entry, kind)).await.unwrap();
        assert_eq!(mode(entry), 0o664, "{entry}");
    }
    let device = making("", "null", NewNode::CharDevice(0x103));
    assert_eq!(mount.change(device).await, Err(Fault::NotPermitted));
    // A directory that hands its group down hands the bit down as well.
    fs::set_permissions(world.at("d"), fs::Permissions::from_mode(0o2777)).unwrap();
    mount.change(making_dir("d", "e", 0o750)).await.unwrap();
    assert_eq!(mode("d/e"), 0o2750);
}

#[tokio::test]
async fn attributes_are_set_as_asked() {
    let (world, mount) = writable().await;
    world.write("f", "content");
    let at = |secs, nanos| SetTime::At(Timestamp::new(secs, nanos).unwrap());
    let set = AttrChange {
        mode: Some(0o4751),
        size: Some(3),
        accessed: Some(at(-5, 250_000_001)),
        modified: Some(at(1_700_000_000, 999_999_999)),
        ..AttrChange::default()
    };
    let attr = mount.set(node("f"), set).await.unwrap();
    assert_eq!((attr.mode, attr.size), (0o4751, 3));
    assert_eq!(attr.accessed, Timestamp::new(-5, 250_000_001).unwrap());
    let modified = Timestamp::new(1_700_000_000, 999_999_999).unwrap();
    assert_eq!(attr.modified, modified);
    // What is not named stays.
    let set = AttrChange {
        accessed: Some(SetTime::Now),
        ..AttrChange::default()
    };
    let attr = mount.set(node("f"), set).await.unwrap();
    assert!(attr.accessed.secs() > 1_700_000_000);
    assert_eq!((attr.modified, attr.mode), (modified, 0o4751));
    let sized = |size| AttrChange {
        size: Some(size),
        ..AttrChange::default()
    };
    let far = mount.set(node("f"), sized(OFFSET_MAX + 1)).await;
    assert_eq!(far, Err(Fault::FileTooLarge));
    let root = mount.set(node(""), sized(0)).await;
    assert_eq!(root, Err(Fault::IsDirectory));
    let nobody = AttrChange {
        uid: Some(u32::MAX),
        ..AttrChange::default()
    };
    assert_eq!(mount.set(node("f"), nobody).await, Err(Fault::Invalid));
}

#[tokio::test]
async fn a_symlink_is_changed_itself() {
    let (world, mount) = writable().await;
    world.write("f", "content");
    mount.change(linking("", "link", "f")).await.unwrap();
    let before = fs::metadata(world.at("f")).unwrap();
    let set = AttrChange {
        modified: Some(SetTime::At(Timestamp::new(12, 34).unwrap())),
        uid: Some(rustix::process::geteuid().as_raw()),
        ..AttrChange::default()
    };
    let attr = mount.set(node("link"), set).await.unwrap();
    assert_eq!(attr.kind, FileKind::Symlink);
    assert_eq!(attr.modified, Timestamp::new(12, 34).unwrap());
    let mode = AttrChange {
        mode: Some(0o777),
        ..AttrChange::default()
    };
    assert_eq!(mount.set(node("link"), mode).await, Err(Fault::Unsupported));
    let cut = AttrChange {
        size: Some(0),
        ..AttrChange::default()
    };
    assert_eq!(mount.set(node("link"), cut).await, Err(Fault::Invalid));
    let after = fs::metadata(world.at("f")).unwrap();
    assert_eq!(
        (after.mtime(), after.mode(), after.len()),
        (before.mtime(), before.mode(), 7)
    );
    // A second name of the link is one of the link, not of the file.
    let link = Change::Link {
        node: node("link"),
        dir: node(""),
        name: name("again"),
    };
    let again = made(mount.change(link).await.unwrap()).unwrap();
    assert_eq!((again.id, again.links), (attr.id, 2));
    assert_eq!(fs::read_link(world.at("again")).unwrap().as_os_str(), "f");
    assert_eq!(
        mount.unlink("", "link", None).await.unwrap().unwrap().links,
        1
    );
    assert!(world.at("f").exists());
}

#[tokio::test]
async fn links_are_of_exactly_the_node() {
    let (world, mount) = writable().await;
    world.write("f", "content");
    let f = mount.lookup("", "f").await.unwrap();
    let link = |entry: &str, to: NodeRef| Change::Link {
        node: to,
        dir: node(""),
        name: name(entry),
    };
    let linked = mount.change(link("g", expecting("f", f.id))).await.unwrap();
    assert_eq!(made(linked).unwrap().links, 2);
    let present = mount.change(link("g", node("f"))).await;
    assert_eq!(present, Err(Fault::Exists));
    assert_eq!(
        mount.change(link("r", node(""))).await,
        Err(Fault::NotPermitted)
    );
    world.write("other", "x");
    let other = mount.change(link("h", expecting("other", f.id))).await;
    assert_eq!(other, Err(Fault::Stale));
}
