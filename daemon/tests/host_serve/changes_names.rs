//! Names: directories made and removed, renames; and extended attributes, names of another kind.

use crate::changes::{ROOT, asking, body_len, call, writable, xattr};
use crate::world::{name, node};
use std::fs;
use wormhole_protocol::{BodyLen, Change, Fault, RenameHow, Reply, Request, XattrHow};

#[tokio::test]
async fn directories_are_made_and_removed_when_empty() {
    let (world, mount) = writable().await;
    mount.make_dir("", "d").await.unwrap();
    mount.make_dir("d", "e").await.unwrap();
    assert_eq!(mount.make_dir("", "d").await, Err(Fault::Exists));
    let remove = |dir: &str, entry: &str| Change::RemoveDir {
        dir: node(dir),
        name: name(entry),
    };
    assert_eq!(mount.change(remove("", "d")).await, Err(Fault::NotEmpty));
    assert_eq!(mount.unlink("", "d", None).await, Err(Fault::IsDirectory));
    world.write("f", "x");
    assert_eq!(
        mount.change(remove("", "f")).await,
        Err(Fault::NotDirectory)
    );
    mount.change(remove("d", "e")).await.unwrap();
    mount.change(remove("", "d")).await.unwrap();
    assert_eq!(mount.change(remove("", "d")).await, Err(Fault::NotFound));
    assert_eq!(mount.create("f", "x", 1).await, Err(Fault::NotDirectory));
    assert_eq!(mount.create("gone", "x", 1).await, Err(Fault::NotFound));
}

#[tokio::test]
async fn renames_do_what_they_say() {
    let (world, mount) = writable().await;
    world.write("a", "a");
    world.write("b", "b");
    fs::create_dir_all(world.at("d/full")).unwrap();
    fs::create_dir(world.at("empty")).unwrap();
    let rename = |from, to, how| mount.rename(("", from), ("", to), how, None);
    let kept = rename("a", "b", RenameHow::NoReplace).await;
    assert_eq!(kept, Err(Fault::Exists));
    let (attr, other) = rename("a", "b", RenameHow::Exchange).await.unwrap();
    assert_eq!(fs::read(world.at("a")).unwrap(), b"b");
    let other = other.unwrap();
    assert_ne!(attr.id, other.id);
    let (attr, gone) = rename("a", "b", RenameHow::Replace).await.unwrap();
    assert_eq!((attr.id, gone), (other.id, None));
    assert_eq!(
        rename("empty", "d", RenameHow::Replace).await,
        Err(Fault::NotEmpty)
    );
    assert_eq!(
        rename("b", "d", RenameHow::Replace).await,
        Err(Fault::IsDirectory)
    );
    assert_eq!(
        rename("d", "b", RenameHow::Replace).await,
        Err(Fault::NotDirectory)
    );
    let within = mount.rename(("", "d"), ("d", "x"), RenameHow::Replace, None);
    assert_eq!(within.await, Err(Fault::Invalid));
    assert_eq!(
        rename("gone", "x", RenameHow::Replace).await,
        Err(Fault::NotFound)
    );
    let into = mount.rename(("", "b"), ("d", "b"), RenameHow::NoReplace, None);
    into.await.unwrap();
    assert_eq!(fs::read(world.at("d/b")).unwrap(), b"b");
}

#[tokio::test]
async fn extended_attributes_are_set_and_removed() {
    let (world, mount) = writable().await;
    world.write("f", "x");
    let set = |how, value: &'static [u8]| {
        let change = Change::SetXattr {
            node: node("f"),
            name: xattr("user.x"),
            how,
            len: body_len(value),
        };
        call(&mount, asking(ROOT, change), value)
    };
    let replaced = set(XattrHow::Replace, b"1").await;
    if replaced == Err(Fault::Unsupported) {
        return; // This disk keeps none.
    }
    assert_eq!(replaced, Err(Fault::NoAttribute));
    assert!(matches!(
        set(XattrHow::Create, b"1").await,
        Ok(Reply::Attr(_))
    ));
    assert_eq!(set(XattrHow::Create, b"2").await, Err(Fault::Exists));
    assert!(matches!(set(XattrHow::Set, b"").await, Ok(Reply::Attr(_))));
    assert!(matches!(
        set(XattrHow::Set, b"three").await,
        Ok(Reply::Attr(_))
    ));
    let read = mount.call(Request::GetXattr {
        node: node("f"),
        name: xattr("user.x"),
    });
    assert_eq!(read.await, Ok(Reply::Xattr(b"three".to_vec())));
    let remove = || Change::RemoveXattr {
        node: node("f"),
        name: xattr("user.x"),
    };
    assert!(matches!(mount.change(remove()).await, Ok(Reply::Attr(_))));
    assert_eq!(mount.change(remove()).await, Err(Fault::NoAttribute));
    let large = Change::SetXattr {
        node: node("f"),
        name: xattr("user.x"),
        how: XattrHow::Set,
        len: BodyLen::new(64 * 1024 + 1).unwrap(),
    };
    assert_eq!(mount.change(large).await, Err(Fault::TooLarge));
}
