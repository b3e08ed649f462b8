//! What is leased, and what is told of it when programs of the host change it.

use crate::world::{Mount, UNSETTLED, World, expecting, name, node};
use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use wormhole::host::{HostState, Share, TicketLimits};
use wormhole::rpc::loopback::Loopback;
use wormhole::rpc::{Payload, Remote};
use wormhole_protocol::codec::{Wire, body_len};
use wormhole_protocol::limits::REVALIDATE_DIRS_MAX;
use wormhole_protocol::{
    Attr, Fault, FileId, KnownListing, Leased, ListingDigester, NameNews, News, NodeRef, Push,
    Reply, Request, Verdict, WantedName,
};

fn heard_nothing() -> Request {
    Request::Heard {
        through: 0,
        wanted: Vec::new(),
    }
}

/// A mount that listens.
pub(crate) struct Listener {
    pub(crate) mount: Mount,
    pushes: Payload,
}

impl Listener {
    pub(crate) async fn new(world: &World, mount: u8) -> Self {
        let mount = world.mount_as(mount).await;
        let pushes = listen(&mount).await;
        Self { mount, pushes }
    }

    /// The next push.
    pub(crate) async fn push(&mut self) -> Push {
        let mut prefix = [0; 4];
        self.pushes.read_exact(&mut prefix).await.unwrap();
        let mut body = vec![0; body_len::<Push>(prefix).unwrap()];
        self.pushes.read_exact(&mut body).await.unwrap();
        Push::from_body(&body).unwrap()
    }

    /// The bytes behind a push.
    pub(crate) async fn content(&mut self, push: &Push) -> Vec<u8> {
        let mut content = vec![0; push.content_lens().unwrap().iter().sum()];
        self.pushes.read_exact(&mut content).await.unwrap();
        content
    }

    /// What is told until there is news of `until`: what was last said of each name.
    pub(crate) async fn told(&mut self, until: &str) -> BTreeMap<String, Option<Attr>> {
        let mut told = BTreeMap::new();
        while !told.contains_key(until) {
            let News::Entries { names, .. } = self.push().await.news else {
                panic!("the lease goes on");
            };
            for NameNews { name, attr, .. } in names {
                told.insert(String::from_utf8(name.as_bytes().to_vec()).unwrap(), attr);
            }
        }
        told
    }

    /// Says that all up to `through` was heard. The number of the last push made.
    pub(crate) async fn heard(&self, through: u64) -> u64 {
        self.heard_and_wants(through, Vec::new()).await
    }

    pub(crate) async fn heard_and_wants(&self, through: u64, wanted: Vec<WantedName>) -> u64 {
        match self
            .mount
            .call(Request::Heard { through, wanted })
            .await
            .unwrap()
        {
            Reply::Heard { pushed } => pushed,
            other => panic!("{other:?}"),
        }
    }

    /// What a lookup says; whether that is under a lease.
    pub(crate) async fn look(&self, dir: &str, entry: &str) -> (Option<Attr>, bool) {
        let (dir, name) = (node(dir), name(entry));
        match self.mount.call(Request::Lookup { dir, name }).await {
            Ok(Reply::Attr(attr)) => (Some(attr), false),
            Err(Fault::NotFound) => (None, false),
            Ok(Reply::Leased { answer, .. }) => match answer {
                Leased::Attr(attr) => (Some(attr), true),
                Leased::Absent => (None, true),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    /// Attributes, under a lease.
    pub(crate) async fn leased(&self, node: NodeRef) -> Option<Attr> {
        match self.mount.call(Request::Getattr { node }).await.unwrap() {
            Reply::Attr(_) => None,
            Reply::Leased {
                answer: Leased::Attr(attr),
                ..
            } => Some(attr),
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) async fn listen(mount: &Mount) -> Payload {
    let answer = mount.0.call(Request::Listen).await.unwrap();
    assert_eq!(answer.reply, Reply::Listening { term_ms: 10_000 });
    answer.payload
}

fn over(dir: FileId) -> News {
    News::Over { dir }
}

#[tokio::test]
async fn who_listens_is_granted_leases_and_who_does_not_is_not() {
    let world = World::new();
    fs::create_dir(world.at("d")).unwrap();
    let plain = world.mount_as(2).await;
    let listener = Listener::new(&world, 1).await;
    world.write("d/f", "x");
    let written = std::time::Instant::now();
    let file = plain.lookup("d", "f").await.unwrap();
    assert_eq!(plain.lookup("d", "none").await, Err(Fault::NotFound));
    // The answers are the same.
    let (attr, leased) = listener.look("d", "f").await;
    assert_eq!((attr.map(|a| a.id), leased), (Some(file.id), true));
    assert_eq!(listener.look("d", "none").await, (None, true));
    let dir = listener.leased(node("d")).await.unwrap();
    let attr = listener.leased(expecting("d/f", file.id)).await.unwrap();
    assert_eq!((attr.id, attr.size), (file.id, 1));
    assert!(listener.leased(node("")).await.is_some());
    let list = |known| Request::List {
        dir: expecting("d", dir.id),
        known,
    };
    let answered = listener.mount.call(list(None)).await.unwrap();
    let Reply::Leased {
        answer: Leased::Listing(attr),
        ..
    } = answered
    else {
        panic!("{answered:?}");
    };
    assert_eq!(attr.id, dir.id);
    let mut digester = ListingDigester::default();
    for entry in plain.list("d").await.unwrap() {
        digester.add(&entry);
    }
    // What has changed just now never looks the same twice; on a busy machine it may not be just now.
    let unsettled = written.elapsed() < UNSETTLED;
    tokio::time::sleep(Duration::from_millis(60)).await;
    let (_, digest) = plain.list_with_digest("d").await;
    assert!(!unsettled || Some(digest) != digester.finish());
    let answered = listener.mount.call(list(Some(digest))).await.unwrap();
    assert!(
        matches!(
            answered,
            Reply::Leased {
                answer: Leased::Unchanged(_),
                ..
            }
        ),
        "{answered:?}"
    );
    let share = world.gate.snapshot().shares.swap_remove(0);
    assert_eq!(share.counters.in_flight, 0, "who listens asks nothing");
    assert_eq!(share.leases.watches, 2);
    let leases: Vec<_> = share.sessions.iter().map(|s| s.leases).collect();
    assert_eq!(leases.iter().sum::<usize>(), 2);
}

#[tokio::test]
async fn what_programs_of_the_host_change_is_told() {
    let world = World::new();
    fs::create_dir_all(world.at("d/sub")).unwrap();
    world.write("d/f", "x");
    world.write("d/gone", "");
    world.write("elsewhere", "");
    let mut listener = Listener::new(&world, 1).await;
    let dir = listener.leased(node("d")).await.unwrap();
    world.write("d/f", "longer");
    let told = listener.told("f").await;
    assert_eq!(told["f"].unwrap().size, 6);
    fs::remove_file(world.at("d/gone")).unwrap();
    assert_eq!(listener.told("gone").await["gone"], None);
    // Of directories that were not looked into nothing is told, nor of reading.
    world.write("elsewhere", "y");
    world.write("d/sub/inner", "");
    fs::read(world.at("d/f")).unwrap();
    world.write("d/new", "");
    let push = listener.push().await;
    let News::Entries { dir: of, attr, .. } = push.news else {
        panic!("{push:?}");
    };
    assert_eq!(of, dir.id);
    assert_ne!(attr.unwrap().version, dir.version, "the directory changed");
    // What takes its place is told with it.
    fs::rename(world.at("elsewhere"), world.at("d/f")).unwrap();
    let told = listener.told("f").await;
    assert_eq!(told["f"].unwrap().size, 1);
}

#[tokio::test]
async fn a_directory_that_goes_or_moves_is_leased_no_longer_and_shows_nothing() {
    let world = World::new();
    fs::create_dir_all(world.at("d/moved")).unwrap();
    fs::create_dir_all(world.at("d/removed")).unwrap();
    let mut listener = Listener::new(&world, 1).await;
    let moved = listener.leased(node("d/moved")).await.unwrap();
    let removed = listener.leased(node("d/removed")).await.unwrap();
    fs::remove_dir(world.at("d/removed")).unwrap();
    assert_eq!(listener.push().await.news, over(removed.id));
    // Out of the share with it, and then a secret into it.
    fs::rename(world.at("d/moved"), world.outside("moved")).unwrap();
    fs::write(world.outside("moved/secret"), "x").unwrap();
    let push = listener.push().await;
    assert_eq!(push.news, over(moved.id));
    fs::write(world.outside("moved/another"), "x").unwrap();
    assert_eq!(listener.heard(push.number).await, push.number);
    assert_eq!(world.gate.snapshot().shares[0].leases.watches, 0);
}

#[tokio::test]
async fn what_is_hidden_is_not_told_of() {
    let world = World::new();
    // The parent of everything is shared, the host's state directory with it.
    let home = Share::open(&world.outside(""), name("home")).unwrap();
    let state = HostState::open(&world.outside("state")).unwrap();
    let state = state.share(&home).unwrap();
    let home = world.gate.add_share(home, state).unwrap();
    let secret = home.state().issue(TicketLimits::default(), 0).unwrap();
    let admitted = world.admit(&crate::world::hello(&secret, 5)).await.unwrap();
    let mount = Mount(Loopback::new(admitted.session));
    let pushes = listen(&mount).await;
    let mut listener = Listener { mount, pushes };
    assert_eq!(listener.look("", "state").await, (None, true));
    let state = world.outside("state");
    fs::rename(&state, world.outside("state2")).unwrap();
    fs::rename(world.outside("state2"), &state).unwrap();
    fs::write(world.outside("end"), "").unwrap();
    let told = listener.told("end").await;
    assert!(!told.contains_key("state"), "{told:?}");
}

#[tokio::test]
async fn more_than_can_be_told_ends_leases() {
    let world = World::new();
    for dir in ["many", "few"] {
        fs::create_dir(world.at(dir)).unwrap();
    }
    let mut listener = Listener::new(&world, 1).await;
    let many = listener.leased(node("many")).await.unwrap();
    listener.leased(node("few")).await.unwrap();
    // Nobody reads the stream meanwhile, and what it can take is little.
    world.write("few/first", "");
    for n in 0..300 {
        world.write(&format!("many/{n}"), "");
    }
    let mut last = listener.push().await;
    while last.news != over(many.id) {
        assert!(matches!(last.news, News::Entries { .. }), "{last:?}");
        last = listener.push().await;
    }
    listener.heard(last.number).await;
    assert_eq!(world.gate.snapshot().shares[0].leases.watches, 1);
    // The other one goes on, and this can be had again.
    world.write("few/second", "");
    assert!(listener.told("second").await["second"].is_some());
    assert!(listener.look("many", "7").await.1);
}

#[tokio::test]
async fn events_the_kernel_lost_end_all_leases() {
    let world = World::new();
    for dir in ["d", "other"] {
        fs::create_dir(world.at(dir)).unwrap();
    }
    let mut listener = Listener::new(&world, 1).await;
    listener.leased(node("d")).await.unwrap();
    listener.leased(node("other")).await.unwrap();
    let most = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let most: usize = most.trim().parse().unwrap();
    // Without giving the host a moment to read.
    let (a, b) = (world.at("d/a"), world.at("d/b"));
    fs::write(&a, "").unwrap();
    for _ in 0..most / 4 + 1 {
        fs::rename(&a, &b).unwrap();
        fs::rename(&b, &a).unwrap();
    }
    let push = listener.push().await;
    assert_eq!(push.news, News::AllOver);
    // What is asked anew is leased anew, and watched.
    assert!(listener.look("d", "a").await.1);
    listener.heard(push.number).await;
    world.write("d/a", "x");
    assert_eq!(listener.told("a").await["a"].unwrap().size, 1);
    let leases = world.gate.snapshot().shares[0].leases;
    assert_eq!((leases.overflows, leases.watches), (1, 1));
}

#[tokio::test]
async fn a_file_with_several_names_is_told_of_in_each_by_a_mount_that_links_it() {
    let world = World::with(crate::changes::WRITABLE);
    for dir in ["a", "b"] {
        fs::create_dir(world.at(dir)).unwrap();
    }
    world.write("a/f", "x");
    let mut listener = Listener::new(&world, 1).await;
    let (attr, _) = listener.look("a", "f").await;
    let other = world.mount_as(2).await;
    let link = wormhole_protocol::Change::Link {
        node: expecting("a/f", attr.unwrap().id),
        dir: node("b"),
        name: name("g"),
    };
    let (linked, push) = tokio::join!(other.change(link), async {
        let push = listener.push().await;
        listener.heard(push.number).await;
        push
    });
    linked.unwrap();
    let News::Entries { names, .. } = push.news else {
        panic!("{push:?}");
    };
    assert_eq!(names[0].name, name("f"));
    assert_eq!(names[0].attr.unwrap().links, 2);
}

#[tokio::test]
async fn who_listens_anew_has_no_leases_and_who_does_not_listen_is_told_so() {
    let world = World::new();
    let mut listener = Listener::new(&world, 1).await;
    assert!(listener.look("", "f").await.1);
    assert_eq!(world.gate.snapshot().shares[0].leases.watches, 1);
    let plain = world.mount_as(2).await;
    let heard = plain.call(heard_nothing()).await;
    assert_eq!(heard, Err(Fault::Invalid));
    // The same mount, connected anew: its old session may not be known dead.
    let anew = Listener::new(&world, 1).await;
    assert_eq!(world.gate.snapshot().shares[0].leases.watches, 0);
    let heard = listener.mount.call(heard_nothing()).await;
    assert_eq!(heard, Err(Fault::Invalid));
    assert!(!listener.look("", "f").await.1, "nothing is promised there");
    assert!(anew.look("", "f").await.1);
    let mut rest = Vec::new();
    listener.pushes.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"", "the old stream has ended");
}

#[tokio::test]
async fn listings_that_hold_are_leased_anew_in_one_request() {
    let world = World::new();
    let mut listings = Vec::new();
    for n in 0..REVALIDATE_DIRS_MAX {
        fs::create_dir(world.at(format!("d{n}"))).unwrap();
        world.write(&format!("d{n}/f"), "x");
    }
    tokio::time::sleep(Duration::from_millis(60)).await;
    let plain = world.mount_as(2).await;
    for n in 0..REVALIDATE_DIRS_MAX {
        let path = format!("d{n}");
        let (_, digest) = plain.list_with_digest(&path).await;
        let dir = node(&path);
        listings.push(KnownListing { dir, digest });
    }
    world.write("d1/f", "y");
    world.write("d2/new", "");
    fs::remove_dir_all(world.at("d3")).unwrap();
    let listener = Listener::new(&world, 1).await;
    let asked = Request::Revalidate { listings };
    let verdicts = |reply| match reply {
        Ok(Reply::Revalidated(verdicts)) => verdicts,
        other => panic!("{other:?}"),
    };
    for (mount, listens) in [(&plain, false), (&listener.mount, true)] {
        let told = verdicts(mount.call(asked.clone()).await);
        for (n, verdict) in told.iter().enumerate() {
            match verdict {
                Verdict::Holds { leased, .. } => assert_eq!(*leased, listens, "{n}"),
                Verdict::Changed => {}
            }
            let changed = matches!(verdict, Verdict::Changed);
            assert_eq!(changed, (1..=3).contains(&n), "{n}");
        }
    }
}

#[tokio::test]
async fn beyond_the_limit_on_watches_answers_promise_nothing_until_there_is_room() {
    let world = World::watching(2);
    for dir in ["a", "b", "c"] {
        fs::create_dir(world.at(dir)).unwrap();
    }
    let mut one = Listener::new(&world, 1).await;
    let other = Listener::new(&world, 2).await;
    assert!(one.look("a", "f").await.1);
    assert!(one.look("b", "f").await.1);
    assert!(other.look("b", "f").await.1, "watched already");
    // The answers are right all the same.
    world.write("c/f", "x");
    let (attr, leased) = one.look("c", "f").await;
    assert_eq!((attr.map(|attr| attr.size), leased), (Some(1), false));
    let list = Request::List {
        dir: node("c"),
        known: None,
    };
    assert!(matches!(one.mount.call(list).await, Ok(Reply::Listing(_))));
    assert!(one.leased(node("c")).await.is_none());
    // What is leased goes on.
    world.write("a/f", "");
    assert!(one.told("f").await["f"].is_some());
    let leases = world.gate.snapshot().shares[0].leases;
    assert_eq!((leases.watches, leases.refused, leases.evicted), (2, 3, 0));
    // A mount that leaves makes room.
    drop(one);
    let again = Listener::new(&world, 1).await;
    assert!(again.look("c", "f").await.1);
}

#[tokio::test(start_paused = true)]
async fn what_was_leased_longest_ago_makes_room() {
    let world = World::watching(1);
    for dir in ["a", "b"] {
        fs::create_dir(world.at(dir)).unwrap();
    }
    let mut one = Listener::new(&world, 1).await;
    let dir = one.leased(node("a")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(61)).await;
    one.heard(0).await;
    assert!(!one.look("b", "f").await.1, "not yet");
    let push = one.push().await;
    assert_eq!(push.news, over(dir.id));
    // Still believed, so still watched.
    assert!(!one.look("b", "f").await.1);
    one.heard(push.number).await;
    assert!(one.look("b", "f").await.1);
    assert_eq!(world.gate.snapshot().shares[0].leases.evicted, 1);
}

#[tokio::test]
async fn nothing_is_left_of_sessions_that_ended() {
    let world = World::watching(8);
    for dir in ["a", "b"] {
        fs::create_dir(world.at(dir)).unwrap();
    }
    for mount in 1..=20 {
        let session = world.session(mount).await;
        let listener = Mount(Loopback::new(session.clone()));
        let pushes = listen(&listener).await;
        for dir in ["", "a", "b"] {
            let dir = node(dir);
            listener.call(Request::Getattr { node: dir }).await.unwrap();
        }
        session.goodbye();
        drop((pushes, listener, session));
        let leases = world.gate.snapshot().shares[0].leases;
        assert_eq!(leases.watches, 0, "mount {mount}");
    }
}

#[tokio::test]
async fn a_host_that_ends_tells_nobody_any_more() {
    let world = World::new();
    let mut listener = Listener::new(&world, 1).await;
    assert!(listener.look("", "f").await.1);
    world.gate.close();
    let mut rest = Vec::new();
    listener.pushes.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"");
}
