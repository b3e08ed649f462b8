//! Reserved files and sole leases: made by a mount before it asks, and seen by nobody in between.

use crate::changes::{ROOT, WRITABLE, asking, body_len, call, creating, making_dir, renaming};
use crate::leases::Listener;
use crate::page_cache::{is_on_disk, unwritten_pages};
use crate::world::{Mount, World, name, node};
use futures_util::FutureExt;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use wormhole::host::ShareRules;
use wormhole_protocol::limits::RESERVED_FILES_MAX;
use wormhole_protocol::{
    Access, AfterWrite, Attr, AttrChange, Change, Fault, FileId, Named, NewFile, News, OpenId,
    RenameHow, Reply, Request, SetTime, SyncWhat, Timestamp,
};

const TERM: Duration = Duration::from_secs(10);

impl Mount {
    async fn reserve(&self, dir: &str, count: u8) -> Result<Vec<Attr>, Fault> {
        let dir = node(dir);
        match self.call(Request::Reserve { dir, count }).await? {
            Reply::Reserved(files) => Ok(files),
            other => panic!("{other:?}"),
        }
    }

    async fn name_reserved(&self, new: NewFile, bytes: &[u8]) -> Result<Named, Fault> {
        let len = body_len(bytes);
        let change = Change::NameReserved(NewFile { len, ..new });
        match call(self, asking(ROOT, change), bytes).await? {
            Reply::Named(named) => Ok(named),
            other => panic!("{other:?}"),
        }
    }
}

fn naming(dir: &str, entry: &str, file: FileId, open: u64) -> NewFile {
    NewFile {
        dir: node(dir),
        name: name(entry),
        mode: 0o640,
        file,
        open: OpenId(open),
        refill: 0,
        offset: 0,
        len: body_len(b""),
        after: AfterWrite::NOTHING,
    }
}

/// A mount that holds directory `d` alone, and files reserved in it.
async fn alone(world: &World, mount: u8, count: u8) -> (Listener, Vec<Attr>) {
    let _ = fs::create_dir(world.at("d"));
    let holder = Listener::new(world, mount).await;
    assert!(holder.look("d", "none").await.1);
    let files = holder.mount.reserve("d", count).await.unwrap();
    assert_eq!(files.len(), usize::from(count));
    (holder, files)
}

#[tokio::test]
async fn a_new_file_is_made_durable_if_asked_to() {
    let world = World::with(WRITABLE);
    let (holder, files) = alone(&world, 1, 2).await;
    for (n, sync) in [None, Some(SyncWhat::All)].into_iter().enumerate() {
        let entry = format!("f{n}");
        let new = NewFile {
            after: AfterWrite { set: None, sync },
            ..naming("d", &entry, files[n].id, n as u64)
        };
        let named = holder.mount.name_reserved(new, b"bytes").await.unwrap();
        assert_eq!((named.attr.size, named.unwritten), (5, None));
        let path = world.at("d").join(&entry);
        match sync {
            None => assert_ne!(unwritten_pages(&path), Some(0)),
            Some(_) => assert!(is_on_disk(&path, "a_new_file_is_made_durable_if_asked_to")),
        }
    }
}

#[tokio::test]
async fn a_new_file_has_its_attributes_set_if_asked_to() {
    let world = World::with(WRITABLE);
    let (holder, files) = alone(&world, 1, 2).await;
    let set = |uid| AttrChange {
        mode: Some(0o4604),
        uid: Some(uid),
        modified: Some(SetTime::At(Timestamp::new(1000, 5).unwrap())),
        ..AttrChange::default()
    };
    for (n, uid, unset) in [(0, 77, None), (1, u32::MAX, Some(Fault::Invalid))] {
        let entry = format!("f{n}");
        let new = NewFile {
            after: AfterWrite {
                set: Some(set(uid)),
                sync: None,
            },
            ..naming("d", &entry, files[n].id, n as u64)
        };
        let named = holder.mount.name_reserved(new, b"bytes").await.unwrap();
        assert_eq!((named.unwritten, named.unset), (None, unset));
        let there = fs::metadata(world.at("d").join(&entry)).unwrap();
        assert_eq!(
            (there.len(), there.mtime()),
            (5, named.attr.modified.secs())
        );
        if unset.is_none() {
            assert_eq!((there.uid(), there.mtime()), (77, 1000));
            assert_eq!(there.mode() & 0o7777, 0o4604);
        }
    }
}

#[tokio::test]
async fn a_reserved_file_gets_its_name_and_its_first_bytes_in_one_change() {
    let world = World::with(WRITABLE);
    let (mut holder, files) = alone(&world, 1, 2).await;
    assert!(fs::read_dir(world.at("d")).unwrap().next().is_none());
    sleep(Duration::from_millis(30)).await;
    let new = NewFile {
        refill: 3,
        offset: 1,
        ..naming("d", "f", files[0].id, 7)
    };
    let named = holder.mount.name_reserved(new, b"bytes").await.unwrap();
    let on_disk = fs::metadata(world.at("d/f")).unwrap();
    assert_eq!(
        named.attr.id, files[0].id,
        "it is the one that was reserved"
    );
    assert_eq!(on_disk.ino(), files[0].id.inode);
    assert_eq!(on_disk.permissions().mode() & 0o7777, 0o640);
    assert_eq!((on_disk.uid(), on_disk.nlink()), (files[0].uid, 1));
    assert_eq!(fs::read(world.at("d/f")).unwrap(), b"\0bytes");
    assert!(named.attr.modified > files[0].modified, "it is new");
    assert_eq!(named.unwritten, None);
    assert_eq!(
        named.dir.id.inode,
        fs::metadata(world.at("d")).unwrap().ino()
    );
    // It is open, and watched as any other.
    holder.mount.write(7, 6, b"!").await.unwrap();
    assert_eq!(fs::read(world.at("d/f")).unwrap(), b"\0bytes!");
    fs::write(world.at("d/f"), "other").unwrap();
    assert_eq!(holder.told("f").await["f"].unwrap().size, 5);
    // More were reserved in its place; none of them serves twice.
    assert_eq!(named.reserved.len(), 3);
    let again = naming("d", "g", files[0].id, 8);
    assert_eq!(
        holder.mount.name_reserved(again, b"").await,
        Err(Fault::NotOpen)
    );
    let next = naming("d", "g", named.reserved[2].id, 8);
    holder.mount.name_reserved(next, b"").await.unwrap();
    assert_eq!(fs::metadata(world.at("d/g")).unwrap().len(), 0);
}

#[tokio::test]
async fn a_directory_that_is_made_comes_with_a_lease_and_files() {
    let world = World::with(WRITABLE);
    let make = |entry: &str| {
        let mut change = making_dir("", entry, 0o750);
        if let Change::MakeDir { reserve, .. } = &mut change {
            *reserve = 2;
        }
        asking(ROOT, change)
    };
    let made = async |mount: &Mount, entry: &str| match call(mount, make(entry), b"").await.unwrap()
    {
        Reply::MadeDir(made) => made,
        other => panic!("{other:?}"),
    };
    let mut holder = Listener::new(&world, 1).await;
    let d = made(&holder.mount, "d").await;
    assert!(d.leased);
    assert_eq!((d.attr.mode, d.reserved.len()), (0o750, 2));
    assert_eq!(d.attr.id.inode, fs::metadata(world.at("d")).unwrap().ino());
    let new = naming("d", "f", d.reserved[0].id, 7);
    holder.mount.name_reserved(new, b"bytes").await.unwrap();
    fs::write(world.at("d/theirs"), "").unwrap();
    assert!(holder.told("theirs").await["theirs"].is_some());
    let other = Listener::new(&world, 2).await;
    let looked = shared_before(&mut holder, other.look("d", "f")).await;
    assert_eq!(looked.0.unwrap().size, 5);
    // Who does not listen is promised nothing.
    let deaf = made(&world.mount_as(3).await, "e").await;
    assert_eq!((deaf.leased, deaf.reserved.len()), (false, 0));
}

#[tokio::test]
async fn what_a_program_of_the_host_has_made_meanwhile_stays() {
    let world = World::with(WRITABLE);
    let (holder, files) = alone(&world, 1, 1).await;
    world.write("d/f", "mine");
    let new = naming("d", "f", files[0].id, 7);
    let done = holder.mount.name_reserved(new, b"bytes").await;
    assert_eq!(done, Err(Fault::Exists));
    assert_eq!(fs::read(world.at("d/f")).unwrap(), b"mine");
    let other = naming("d", "g", files[0].id, 7);
    holder.mount.name_reserved(other, b"bytes").await.unwrap();
    assert_eq!(fs::read(world.at("d/g")).unwrap(), b"bytes");
}

/// Does `asked` of another mount, which must not be answered before the holder has heard that it is not alone.
async fn shared_before<T>(holder: &mut Listener, asked: impl Future<Output = T>) -> T {
    tokio::pin!(asked);
    let push = tokio::select! {
        _ = &mut asked => panic!("the holder has not heard"),
        push = holder.push() => push,
    };
    assert!(matches!(push.news, News::Shared { .. }), "{push:?}");
    sleep(Duration::from_millis(30)).await;
    assert!(asked.as_mut().now_or_never().is_none());
    holder.heard(push.number).await;
    loop {
        let push = tokio::select! {
            done = &mut asked => return done,
            push = holder.push() => push,
        };
        holder.heard(push.number).await;
    }
}

#[tokio::test]
async fn nobody_else_looks_or_changes_anything_there_before_the_holder_has_heard() {
    for what in 0..6 {
        let world = World::with(WRITABLE);
        let (mut holder, files) = alone(&world, 1, 2).await;
        let other = world.mount_as(2).await;
        fs::create_dir(world.at("x")).unwrap();
        // Elsewhere it is nobody's business.
        other.create("x", "f", 1).await.unwrap();
        let _ = other.list("x").await.unwrap();
        match what {
            0 => drop(shared_before(&mut holder, other.lookup("d", "f")).await),
            1 => drop(shared_before(&mut holder, other.getattr(node("d"))).await),
            2 => drop(shared_before(&mut holder, other.list("d")).await),
            3 => drop(shared_before(&mut holder, other.create("d", "f", 2)).await),
            4 => {
                let change = renaming(("x", "f"), ("d", "f"), RenameHow::Replace, None);
                drop(shared_before(&mut holder, other.change(change)).await);
            }
            _ => {
                let change = renaming(("", "d"), ("", "e"), RenameHow::Replace, None);
                drop(shared_before(&mut holder, other.change(change)).await);
            }
        }
        // The holder has said that all it made was answered: it is to make no more, and gets no more.
        let more = holder.mount.reserve("d", 1).await.unwrap_or_default();
        assert_eq!(more, [], "{what}");
        let new = NewFile {
            refill: 4,
            ..naming("d", "late", files[0].id, 9)
        };
        if let Ok(named) = holder.mount.name_reserved(new, b"").await {
            assert_eq!(named.reserved, []);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_holder_is_waited_for_until_its_lease_ends() {
    let world = World::with(WRITABLE);
    let began = Instant::now();
    let (holder, files) = alone(&world, 1, 1).await;
    let other = world.mount_as(2).await;
    let create = Change::Create {
        dir: node("d"),
        name: name("f"),
        mode: 0o644,
        exclusive: true,
        truncate: false,
        open: OpenId(1),
    };
    other.change(create).await.unwrap();
    assert!(began.elapsed() >= TERM - Duration::from_millis(100));
    let new = naming("d", "f", files[0].id, 7);
    let late = holder.mount.name_reserved(new, b"").await;
    assert_eq!(late, Err(Fault::Exists), "one has made it");
}

#[tokio::test]
async fn a_holder_that_says_goodbye_or_listens_anew_is_not_waited_for() {
    let world = World::with(WRITABLE);
    let (holder, _) = alone(&world, 1, 1).await;
    let again = Listener::new(&world, 1).await;
    let other = world.mount_as(2).await;
    let looked = tokio::time::timeout(TERM / 2, other.lookup("d", "f")).await;
    assert_eq!(looked.unwrap(), Err(Fault::NotFound));
    drop((holder, again));
}

#[tokio::test]
async fn only_who_is_alone_gets_files_and_nobody_where_they_would_be_others() {
    let world = World::with(WRITABLE);
    fs::create_dir(world.at("d")).unwrap();
    let one = Listener::new(&world, 1).await;
    assert_eq!(one.mount.reserve("d", 1).await.unwrap(), [], "no lease");
    assert!(one.look("d", "f").await.1);
    let other = Listener::new(&world, 2).await;
    assert!(other.look("d", "f").await.1);
    assert_eq!(one.mount.reserve("d", 1).await.unwrap(), [], "not alone");
    let plain = world.mount_as(3).await;
    assert_eq!(plain.reserve("d", 1).await.unwrap(), [], "does not listen");
    let maps = World::with(ShareRules {
        map_users: true,
        ..WRITABLE
    });
    fs::create_dir(maps.at("d")).unwrap();
    let one = Listener::new(&maps, 1).await;
    assert!(one.look("d", "f").await.1);
    assert_eq!(one.mount.reserve("d", 1).await.unwrap(), [], "of its users");
    let reads = World::with(ShareRules {
        access: Access::Read,
        ..WRITABLE
    });
    fs::create_dir(reads.at("d")).unwrap();
    let one = Listener::new(&reads, 1).await;
    assert!(one.look("d", "f").await.1);
    assert_eq!(one.mount.reserve("d", 1).await, Err(Fault::ReadOnly));
}

#[tokio::test]
async fn reserved_files_are_bounded_and_their_mounts_own() {
    let world = World::with(WRITABLE);
    let (holder, files) = alone(&world, 1, RESERVED_FILES_MAX).await;
    let other = world.mount_as(2).await;
    fs::create_dir(world.at("x")).unwrap();
    let stolen = naming("x", "f", files[0].id, 1);
    assert_eq!(other.name_reserved(stolen, b"").await, Err(Fault::NotOpen));
    let elsewhere = naming("x", "f", files[0].id, 1);
    let done = holder.mount.name_reserved(elsewhere, b"").await;
    assert_eq!(done, Err(Fault::NotOpen), "it was reserved in another");
    let beyond = NewFile {
        offset: u64::MAX,
        ..naming("d", "f", files[0].id, 1)
    };
    let done = holder.mount.name_reserved(beyond, b"x").await;
    assert_eq!(done, Err(Fault::FileTooLarge));
    let mut count = files.len();
    loop {
        let more = holder.mount.reserve("d", RESERVED_FILES_MAX).await.unwrap();
        if more.is_empty() {
            break;
        }
        count += more.len();
        assert!(count <= 1280);
    }
    assert_eq!(count, 1280);
    // What is reserved is not in the way of what is made as ever.
    holder
        .mount
        .change(creating("d", "plain", 0o600, 2))
        .await
        .unwrap();
    drop(holder);
}
