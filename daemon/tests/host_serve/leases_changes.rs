//! Changes by mounts, and leases of others: nobody is answered before those have heard.

use crate::changes::{ROOT, WRITABLE, asking, body_len, call, making_dir, xattr};
use crate::leases::{Listener, listen};
use crate::world::{Mount, World, expecting, name, node};
use futures_util::FutureExt;
use std::fs;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use wormhole_protocol::{
    AttrChange, Change, Extent, Fault, News, OpenId, RenameHow, Reply, Request, XattrHow,
};

const TERM: Duration = Duration::from_secs(10);

/// A change, done by one mount while another that holds leases hears of it and says so. What was told.
async fn heard_of<T>(
    change: impl Future<Output = T>,
    listener: &mut Listener,
) -> (T, Vec<(String, bool)>) {
    tokio::pin!(change);
    let mut told = Vec::new();
    loop {
        let push = tokio::select! {
            done = &mut change => return (done, told),
            push = listener.push() => push,
        };
        // Until this is heard, nobody is answered.
        sleep(Duration::from_millis(20)).await;
        assert!(change.as_mut().now_or_never().is_none(), "{push:?}");
        if let News::Entries { names, .. } = push.news {
            for news in names {
                let name = String::from_utf8(news.name.as_bytes().to_vec()).unwrap();
                told.push((name, news.attr.is_some()));
            }
        }
        listener.heard(push.number).await;
    }
}

fn names(told: &[(String, bool)]) -> Vec<(&str, bool)> {
    let mut names: Vec<_> = told.iter().map(|(n, there)| (n.as_str(), *there)).collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[tokio::test]
async fn every_kind_of_change_is_answered_only_when_others_have_heard_of_it() {
    let world = World::with(WRITABLE);
    world.write("f", "12345678");
    let file = fs::metadata(world.at("f")).unwrap();
    let mut other = Listener::new(&world, 2).await;
    assert!(other.look("", "f").await.1);
    let one = world.mount_as(1).await;
    let id = one.lookup("", "f").await.unwrap().id;
    let at = |entry: &str| expecting(entry, id);

    let (made, told) = heard_of(one.create("", "new", 1), &mut other).await;
    made.unwrap();
    assert_eq!(names(&told), [("new", true)]);
    let (done, told) = heard_of(one.write(1, 0, b"x"), &mut other).await;
    assert_eq!(done.unwrap().size, 1);
    assert_eq!(names(&told), [("new", true)]);
    let (done, told) = heard_of(one.append(1, b"x"), &mut other).await;
    assert_eq!((done.unwrap(), names(&told)), (1, vec![("new", true)]));
    let copy = Change::Copy {
        from: at("f"),
        from_offset: 0,
        to: OpenId(1),
        extent: Extent::new(0, file.len()).unwrap(),
    };
    let (done, told) = heard_of(one.change(copy), &mut other).await;
    assert!(matches!(done, Ok(Reply::Copied { len: 8, .. })), "{done:?}");
    assert_eq!(names(&told), [("new", true)]);
    let mode = AttrChange {
        mode: Some(0o600),
        ..AttrChange::default()
    };
    let (done, told) = heard_of(one.set(at("f"), mode), &mut other).await;
    assert_eq!(
        (done.unwrap().mode, names(&told)),
        (0o600, vec![("f", true)])
    );
    let (done, told) = heard_of(one.change(making_dir("", "d", 0o755)), &mut other).await;
    done.unwrap();
    assert_eq!(names(&told), [("d", true)]);
    let renaming = one.rename(("", "f"), ("", "g"), RenameHow::Replace, None);
    let (done, told) = heard_of(renaming, &mut other).await;
    done.unwrap();
    assert_eq!(names(&told), [("f", false), ("g", true)]);
    let (done, told) = heard_of(one.unlink("", "g", None), &mut other).await;
    done.unwrap();
    assert_eq!(names(&told), [("g", false)]);
    let remove = Change::RemoveDir {
        dir: node(""),
        name: name("d"),
    };
    let (done, told) = heard_of(one.change(remove), &mut other).await;
    done.unwrap();
    assert_eq!(names(&told), [("d", false)]);
}

#[tokio::test]
async fn what_others_do_not_hold_is_changed_without_waiting() {
    let world = World::with(WRITABLE);
    for dir in ["a", "b"] {
        fs::create_dir(world.at(dir)).unwrap();
    }
    let other = Listener::new(&world, 2).await;
    assert!(other.look("a", "f").await.1);
    let one = world.mount_as(1).await;
    // Never heard of, and not to be waited for: this test has no patience.
    let created = tokio::time::timeout(TERM / 2, one.create("b", "f", 1)).await;
    created.unwrap().unwrap();
    assert_eq!(other.heard(0).await, 0);
}

#[tokio::test]
async fn a_mount_alone_is_told_nothing_of_its_own_changes() {
    let world = World::with(WRITABLE);
    let mut one = Listener::new(&world, 1).await;
    assert!(one.look("", "f").await.1);
    let mount = &one.mount;
    for n in 0..20 {
        let file = format!("f{n}");
        mount.create("", &file, n).await.unwrap();
        mount.write(n, 0, b"x").await.unwrap();
        mount.append(n, b"y").await.unwrap();
        let open = OpenId(n);
        mount
            .change(Change::Close { opens: vec![open] })
            .await
            .unwrap();
        let new = format!("g{n}");
        let renamed = mount.rename(("", &file), ("", &new), RenameHow::Replace, None);
        renamed.await.unwrap();
        let mode = AttrChange {
            mode: Some(0o600),
            ..AttrChange::default()
        };
        mount.set(node(&new), mode).await.unwrap();
        mount.make_dir("", "d").await.unwrap();
        let dir = Request::Getattr { node: node("d") };
        mount.call(dir).await.unwrap();
        let remove = Change::RemoveDir {
            dir: node(""),
            name: name("d"),
        };
        mount.change(remove).await.unwrap();
        mount.unlink("", &new, None).await.unwrap();
    }
    assert_eq!(one.heard(0).await, 0, "nothing was pushed");
    // What others do it is told of, and of what it does to that as well: it might be told too late else.
    world.write("mark", "");
    let told = one.told("mark").await;
    assert!(!told.contains_key("f0"), "{told:?}");
    one.mount.create("", "f", 1).await.unwrap();
    assert!(one.told("f").await["f"].is_some());
}

#[tokio::test]
async fn what_somebody_else_does_to_a_name_at_the_same_time_is_told() {
    let world = World::with(WRITABLE);
    let mut one = Listener::new(&world, 1).await;
    assert!(one.look("", "f").await.1);
    let path = world.at("f");
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let local = std::thread::spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            let _ = fs::write(&path, "local");
            let _ = fs::remove_file(&path);
        }
    });
    for n in 0..500 {
        let _ = one.mount.create("", "f", n).await;
        let _ = one.mount.unlink("", "f", None).await;
    }
    stop.store(true, Ordering::Relaxed);
    local.join().unwrap();
    // Whatever was told last is true, or nothing was and our own last answer is.
    fs::write(world.at("f"), "end").unwrap();
    loop {
        let told = one.told("f").await;
        if told["f"].is_some_and(|attr| attr.size == 3) {
            break;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_does_not_say_that_it_heard_is_waited_for_until_its_lease_ends() {
    let world = World::with(WRITABLE);
    let mut other = Listener::new(&world, 2).await;
    assert!(other.look("", "f").await.1);
    let one = world.mount_as(1).await;
    sleep(TERM / 2).await;
    other.heard(0).await;
    let since = Instant::now();
    // Only those pushes count that say so: being there is not enough.
    let (made, ()) = tokio::join!(one.create("", "f", 1), async {
        let push = other.push().await;
        sleep(TERM / 2).await;
        assert_eq!(other.heard(0).await, push.number);
    });
    made.unwrap();
    let waited = since.elapsed();
    assert!(waited >= TERM - Duration::from_millis(100), "{waited:?}");
    assert!(waited < TERM + Duration::from_secs(1), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn who_lets_others_wait_in_vain_loses_its_leases_and_holds_up_nobody_else() {
    let world = World::with(WRITABLE);
    let mut other = Listener::new(&world, 2).await;
    assert!(other.look("", "f").await.1);
    let one = world.mount_as(1).await;
    // It is there, asks and is answered, but never says that it heard anything.
    let is_there = async {
        loop {
            other.heard(0).await;
            sleep(TERM / 4).await;
        }
    };
    let since = Instant::now();
    let changes = async {
        for n in 0..20 {
            one.create("", &format!("f{n}"), n).await.unwrap();
        }
    };
    tokio::select! {
        () = changes => {}
        () = is_there => {}
    }
    let waited = since.elapsed();
    assert!(waited < 2 * TERM + Duration::from_secs(1), "{waited:?}");
    let mut last = other.push().await;
    while last.news != News::AllOver {
        last = other.push().await;
    }
    // With that it may come back, after a while.
    other.heard(last.number).await;
    assert!(!other.look("", "f").await.1);
    sleep(Duration::from_secs(61)).await;
    assert!(other.look("", "f").await.1);
    assert_eq!(world.gate.snapshot().shares[0].leases.fenced, 1);
}

#[tokio::test(start_paused = true)]
async fn who_is_not_heard_of_delays_nobody_and_loses_nothing() {
    let world = World::with(WRITABLE);
    let mut other = Listener::new(&world, 2).await;
    assert!(other.look("", "f").await.1);
    let one = world.mount_as(1).await;
    sleep(TERM * 6).await;
    let since = Instant::now();
    one.create("", "f", 1).await.unwrap();
    one.unlink("", "f", None).await.unwrap();
    one.create("", "g", 2).await.unwrap();
    assert!(since.elapsed() < Duration::from_secs(1));
    // It has been told all the same, and with that its lease is good again.
    let pushed = other.heard(0).await;
    assert!(pushed > 0);
    let mut last = 0;
    let mut told = Vec::new();
    while last < pushed {
        let push = other.push().await;
        last = push.number;
        let News::Entries { names, .. } = push.news else {
            panic!("{push:?}");
        };
        told.extend(names);
    }
    assert!(
        told.iter()
            .any(|news| news.name == name("g") && news.attr.is_some())
    );
    let since = Instant::now();
    let (made, ()) = tokio::join!(one.create("", "h", 3), async {
        let push = other.push().await;
        sleep(Duration::from_secs(3)).await;
        other.heard(push.number).await;
    });
    made.unwrap();
    assert!(since.elapsed() >= Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn whose_link_is_lost_is_waited_for_until_its_lease_ends_and_who_left_is_not() {
    let world = World::with(WRITABLE);
    let one = world.mount_as(1).await;
    for leaves in [false, true] {
        let session = world.session(2).await;
        let other = crate::world::Mount(wormhole::rpc::loopback::Loopback::new(session.clone()));
        let pushes = listen(&other).await;
        let dir = Request::Getattr { node: node("") };
        other.call(dir).await.unwrap();
        drop(pushes);
        if leaves {
            session.goodbye();
        }
        drop((other, session));
        let since = Instant::now();
        let entry = format!("f{leaves}");
        one.create("", &entry, 1).await.unwrap();
        let waited = since.elapsed();
        if leaves {
            assert!(waited < Duration::from_secs(1), "{waited:?}");
        } else {
            assert!(waited > TERM - Duration::from_secs(1), "{waited:?}");
            assert!(waited < TERM + Duration::from_secs(1), "{waited:?}");
        }
    }
    // Nothing is left of either.
    sleep(TERM * 2).await;
    assert_eq!(world.gate.snapshot().shares[0].leases.watches, 0);
}

#[tokio::test]
async fn a_mount_does_not_wait_for_its_own_older_session() {
    let world = World::with(WRITABLE);
    let older = Listener::new(&world, 1).await;
    assert!(older.look("", "f").await.1);
    // It was not noticed yet that the link is lost.
    let one = world.mount_as(1).await;
    let created = tokio::time::timeout(TERM / 2, one.create("", "f", 1)).await;
    created.unwrap().unwrap();
}

#[tokio::test]
async fn sessions_that_only_look_listen_as_well() {
    let world = World::new();
    world.write("f", "");
    let mut one = Listener::new(&world, 1).await;
    assert!(one.look("", "f").await.1);
    let created = one.mount.create("", "g", 1).await;
    assert_eq!(created, Err(Fault::ReadOnly));
    world.write("f", "x");
    assert_eq!(one.told("f").await["f"].unwrap().size, 1);
}

/// A mount that writes to a file which lost the name it was opened by, `a/f`, and has another, `b/g`; and one that
/// knows it by that.
async fn open_without_its_name(linked_here: bool) -> (World, Mount, Listener) {
    let world = World::with(WRITABLE);
    for dir in ["a", "b", "c"] {
        fs::create_dir(world.at(dir)).unwrap();
    }
    let one = world.mount_as(1).await;
    let id = one.create("a", "f", 1).await.unwrap().id;
    if linked_here {
        let link = Change::Link {
            node: expecting("a/f", id),
            dir: node("b"),
            name: name("g"),
        };
        one.change(link).await.unwrap();
    } else {
        fs::hard_link(world.at("a/f"), world.at("b/g")).unwrap();
    }
    one.unlink("a", "f", None).await.unwrap();
    let other = Listener::new(&world, 2).await;
    (world, one, other)
}

#[tokio::test]
async fn what_is_open_under_a_removed_name_is_told_of_under_the_one_that_is_left() {
    let (world, one, mut other) = open_without_its_name(true).await;
    assert!(other.look("b", "g").await.1 && other.look("c", "x").await.1);
    let id = one.lookup("b", "g").await.unwrap().id;
    let (done, told) = heard_of(one.write(1, 0, b"x"), &mut other).await;
    assert_eq!((done.unwrap().size, names(&told)), (1, vec![("g", true)]));
    let (done, told) = heard_of(one.append(1, b"x"), &mut other).await;
    assert_eq!((done.unwrap(), names(&told)), (1, vec![("g", true)]));
    let length = AttrChange {
        size: Some(7),
        ..AttrChange::default()
    };
    let set = one.set(expecting("b/g", id), length);
    let (done, told) = heard_of(set, &mut other).await;
    assert_eq!((done.unwrap().size, names(&told)), (7, vec![("g", true)]));
    let set = Change::SetXattr {
        node: expecting("b/g", id),
        name: xattr("user.x"),
        how: XattrHow::Set,
        len: body_len(b"y"),
    };
    let set = call(&one, asking(ROOT, set), b"y");
    let (done, told) = heard_of(set, &mut other).await;
    done.unwrap();
    assert_eq!(names(&told), [("g", true)]);
    // Wherever it goes.
    let moving = one.rename(("b", "g"), ("c", "x"), RenameHow::Replace, None);
    let (done, _) = heard_of(moving, &mut other).await;
    done.unwrap();
    let (done, told) = heard_of(one.write(1, 9, b"x"), &mut other).await;
    assert_eq!((done.unwrap().size, names(&told)), (10, vec![("x", true)]));
    let leases = world.gate.snapshot().shares[0].leases;
    assert_eq!(leases.watches, 2, "all leases go on");
}

#[tokio::test]
async fn what_is_open_and_nobody_knows_where_is_promised_to_nobody() {
    let (_world, one, mut other) = open_without_its_name(false).await;
    // As if it had been seen in a listing of these: who was told of what there is not noted.
    assert!(other.look("b", "none").await.1);
    let (written, push) = tokio::join!(one.write(1, 0, b"x"), async {
        let push = other.push().await;
        other.heard(push.number).await;
        push
    });
    assert_eq!((written.unwrap().size, push.news), (1, News::AllOver));
    // From then on it is known by the name it is found under.
    let (attr, leased) = other.look("b", "g").await;
    assert_eq!((attr.unwrap().size, leased), (1, true));
    let (done, told) = heard_of(one.write(1, 1, b"x"), &mut other).await;
    assert_eq!((done.unwrap().size, names(&told)), (2, vec![("g", true)]));
}
