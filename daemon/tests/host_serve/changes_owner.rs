//! Whose new nodes are, and set-id bits, where a host acts for the users of its mounts: it must be root.

use crate::changes::{
    ROOT, asking, body_len, call, creating, linking, made, making, making_dir, writing,
};
use crate::world::{Mount, World, node};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use wormhole::host::ShareRules;
use wormhole_protocol::{
    Access, Allocate, AttrChange, Caller, Change, Extent, Fault, NewNode, OpenId, Reply, XattrHow,
    XattrName,
};

const MAPPED: ShareRules = ShareRules {
    access: Access::ReadWrite,
    map_users: true,
    allow_devices: true,
};
const USER: Caller = Caller {
    uid: 12_345,
    gid: 23_456,
};

/// A share that acts for its users, if this process may.
async fn mapped() -> Option<(World, Mount)> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: acting for users needs root");
        return None;
    }
    let world = World::with(MAPPED);
    let mount = world.mount().await;
    Some((world, mount))
}

fn owner(world: &World, entry: &str) -> (u32, u32) {
    let meta = fs::symlink_metadata(world.at(entry)).unwrap();
    (meta.uid(), meta.gid())
}

#[tokio::test]
async fn new_nodes_belong_to_their_makers() {
    let Some((world, mount)) = mapped().await else {
        return;
    };
    let admission = world.admit(&world.hello(1)).await.unwrap();
    assert!(admission.welcome.maps_users);
    let makes = [
        ("file", creating("", "file", 0o644, 1)),
        ("dir", making_dir("", "dir", 0o755)),
        ("fifo", making("", "fifo", NewNode::Fifo)),
        ("socket", making("", "socket", NewNode::Socket)),
        ("link", linking("", "link", "file")),
        ("null", making("", "null", NewNode::CharDevice(0x103))),
    ];
    for (entry, change) in makes {
        let attr = mount.change_as(USER, change).await;
        if entry == "null" && attr == Err(Fault::NotPermitted) {
            continue; // A container without the privilege.
        }
        let attr = made(attr.unwrap()).unwrap();
        assert_eq!((attr.uid, attr.gid), (USER.uid, USER.gid), "{entry}");
        assert_eq!(owner(&world, entry), (USER.uid, USER.gid), "{entry}");
    }
    // A directory that hands its group down.
    fs::set_permissions(world.at("dir"), fs::Permissions::from_mode(0o2775)).unwrap();
    let within = creating("dir", "file", 0o644, 2);
    let other = Caller { uid: 7, gid: 8 };
    mount.change_as(other, within).await.unwrap();
    assert_eq!(owner(&world, "dir/file"), (7, USER.gid));
    let nobody = Caller {
        uid: u32::MAX,
        gid: 0,
    };
    let refused = mount.change_as(nobody, making_dir("", "x", 0o755)).await;
    assert_eq!(refused, Err(Fault::Invalid));
    assert!(!world.at("x").exists());
}

#[tokio::test]
async fn set_id_bits_survive_their_making_and_go_with_a_write() {
    let Some((world, mount)) = mapped().await else {
        return;
    };
    let mode = || fs::metadata(world.at("f")).unwrap().mode() & 0o7777;
    mount
        .change_as(USER, creating("", "f", 0o6755, 1))
        .await
        .unwrap();
    assert_eq!(mode(), 0o6755);
    let write = || call(&mount, asking(USER, writing(1, 0, b"x")), b"x");
    write().await.unwrap();
    assert_eq!(mode(), 0o755);
    // Owner and mode in one: the mode is what was asked.
    let set = AttrChange {
        uid: Some(7),
        gid: Some(8),
        mode: Some(0o6711),
        ..AttrChange::default()
    };
    let attr = mount.set(node("f"), set).await.unwrap();
    assert_eq!((attr.uid, attr.gid, attr.mode), (7, 8, 0o6711));
    assert_eq!(owner(&world, "f"), (7, 8));
    let again = || {
        fs::set_permissions(world.at("f"), fs::Permissions::from_mode(0o6755)).unwrap();
    };
    again();
    let cut = AttrChange {
        size: Some(0),
        ..AttrChange::default()
    };
    let cut = Change::SetAttr {
        node: node("f"),
        set: cut,
    };
    mount.change_as(USER, cut).await.unwrap();
    assert_eq!(mode(), 0o755);
    again();
    let grow = Change::Allocate {
        open: OpenId(1),
        extent: Extent::new(0, 4096).unwrap(),
        how: Allocate::Grow,
    };
    if mount.change_as(USER, grow).await != Err(Fault::Unsupported) {
        assert_eq!(mode(), 0o755);
    }
    // Without a group that executes it, the bit means something else and stays.
    fs::set_permissions(world.at("f"), fs::Permissions::from_mode(0o2644)).unwrap();
    write().await.unwrap();
    assert_eq!(mode(), 0o2644);
    // Root may.
    again();
    let root = asking(ROOT, writing(1, 0, b"x"));
    call(&mount, root, b"x").await.unwrap();
    assert_eq!(mode() & 0o4000, 0o4000);
}

/// Without the rule, whom a mount names is nothing to the host.
#[tokio::test]
async fn a_host_that_maps_no_users_ignores_them() {
    let world = World::with(crate::changes::WRITABLE);
    let mount = world.mount().await;
    mount
        .change_as(USER, creating("", "f", 0o644, 1))
        .await
        .unwrap();
    let me = rustix::process::geteuid().as_raw();
    assert_eq!(owner(&world, "f").0, me);
    let nobody = Caller {
        uid: u32::MAX,
        gid: u32::MAX,
    };
    mount
        .change_as(nobody, making_dir("", "d", 0o755))
        .await
        .unwrap();
    assert_eq!(owner(&world, "d").0, me);
}

/// Where a directory says which permissions its new entries have, that is what they get.
#[tokio::test]
async fn a_default_acl_decides_about_modes() {
    let world = World::with(crate::changes::WRITABLE);
    let mount = world.mount().await;
    mount.make_dir("", "d").await.unwrap();
    // As the kernel keeps it (linux/posix_acl_xattr.h): owner rwx, group r-x, others nothing.
    let mut acl = 2_u32.to_le_bytes().to_vec();
    for (tag, bits) in [(0x01_u16, 7_u16), (0x04, 5), (0x20, 0)] {
        acl.extend(tag.to_le_bytes());
        acl.extend(bits.to_le_bytes());
        acl.extend(u32::MAX.to_le_bytes());
    }
    let set = Change::SetXattr {
        node: node("d"),
        name: XattrName::new(*b"system.posix_acl_default").unwrap(),
        how: XattrHow::Set,
        len: body_len(&acl),
    };
    match call(&mount, asking(ROOT, set), &acl).await {
        Err(Fault::Unsupported) => return, // This disk keeps none.
        Ok(Reply::Attr(attr)) => assert!(attr.xattrs),
        set => panic!("{set:?}"),
    }
    let file = mount.change(creating("d", "f", 0o666, 1)).await.unwrap();
    assert_eq!(made(file).unwrap().mode, 0o640);
    let dir = mount.change(making_dir("d", "e", 0o777)).await.unwrap();
    assert_eq!(made(dir).unwrap().mode, 0o750);
}
