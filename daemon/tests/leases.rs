//! Leases as a mount uses them: what is believed while the host speaks, what is no longer when it has spoken, and
//! what happens between sessions. The host is made up and far away; time is virtual.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and its numbers are small"
)]

mod support;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::distant::Distant;
use support::door::Door;
use support::fake::{FakeHost, attr};
use tokio::time::{Instant, sleep};
use wormhole::mount::handles::OpenHow;
use wormhole::mount::inodes::Ino;
use wormhole::mount::link::Link;
use wormhole::mount::notify::{Forget, Notify};
use wormhole::mount::vfs::{Vfs, VfsConfig};
use wormhole::rpc::Remote;
use wormhole_protocol::*;

const CALLER: Caller = Caller { uid: 0, gid: 0 };
const RTT: Duration = Duration::from_millis(150);
const TTL: Duration = Duration::from_secs(1);
const TERM: Duration = Duration::from_secs(10);
/// Longer than a term, and shorter than a mount counts as idle.
const LONG: Duration = Duration::from_secs(30);

/// Takes note of what the kernel would be told.
#[derive(Default)]
struct Kernel(Mutex<Vec<Forget>>);

impl Kernel {
    fn take(&self) -> Forget {
        let mut all = Forget::default();
        for told in self.0.lock().unwrap().drain(..) {
            all.names |= told.names;
            all.attributes.extend(told.attributes);
            all.pages.extend(told.pages);
        }
        all
    }
}

impl Notify for Kernel {
    fn forget(&self, what: Forget) -> BoxFuture<'_, ()> {
        self.0.lock().unwrap().push(what);
        std::future::ready(()).boxed()
    }

    fn forget_pages(&self, _: Ino) -> BoxFuture<'_, ()> {
        std::future::ready(()).boxed()
    }

    fn forgets_names(&self) -> bool {
        true
    }
}

struct World {
    host: Arc<FakeHost>,
    vfs: Vfs,
    kernel: Arc<Kernel>,
}

impl World {
    /// A mount that listens, of a host with a directory `d` and three files in it.
    async fn new() -> Self {
        let host = leasing_host();
        let remote = Arc::new(Distant::new(&host, RTT));
        Self::over(host, remote, TTL).await
    }

    async fn over(host: Arc<FakeHost>, remote: Arc<dyn Remote>, attr_ttl: Duration) -> Self {
        let config = VfsConfig {
            attr_ttl,
            timeout: Duration::from_secs(30),
            l1_bytes: 64 << 20,
            write_buffer_bytes: 64 << 20,
            access: Access::ReadWrite,
        };
        let vfs = Vfs::new(config, ShareId([1; 16]), host.root(), remote, None);
        let kernel: Arc<Kernel> = Arc::default();
        vfs.notify_by(kernel.clone());
        vfs.listen();
        sleep(RTT * 2).await;
        kernel.take();
        Self { host, vfs, kernel }
    }

    async fn find(&self, dir: Ino, name: &str) -> Option<Ino> {
        let found = self.vfs.lookup(dir, name.as_bytes()).await.unwrap();
        found.ok().map(|found| found.node.ino)
    }

    async fn size(&self, ino: Ino) -> u64 {
        self.vfs.getattr(ino, None).await.unwrap().0.size
    }

    async fn list(&self, dir: Ino) -> Vec<String> {
        let handle = self.vfs.opendir(dir).unwrap();
        let mut names = Vec::new();
        let mut offset = 0;
        loop {
            let page = self.vfs.readdir(handle, offset).await.unwrap();
            let Some((last, _)) = page.entries.last() else {
                break;
            };
            offset = *last;
            let listed = page.entries.iter().map(|(_, listed)| &listed.entry.name);
            names.extend(listed.map(|name| name.to_string()));
        }
        self.vfs.release(handle);
        names.sort();
        names
    }

    /// The numbers of `d` and its file `a`, after `d` was listed.
    async fn listed(&self) -> (Ino, Ino) {
        let dir = self.find(Ino::ROOT, "d").await.unwrap();
        self.list(dir).await;
        let file = self.find(dir, "a").await.unwrap();
        // Leases that began with these answers are renewed with the next question.
        sleep(RTT * 2).await;
        self.kernel.take();
        (dir, file)
    }

    /// Questions about names and attributes so far.
    fn asked(&self) -> usize {
        self.host.count(|request| {
            matches!(
                request,
                Request::Lookup { .. } | Request::Getattr { .. } | Request::List { .. }
            )
        })
    }
}

/// A host with a directory `d` and three files in it.
fn leasing_host() -> Arc<FakeHost> {
    let host = FakeHost::new();
    host.give_leases();
    host.put("d", attr(2, FileKind::Directory, 0, 1), 0);
    for (name, inode) in [("d/a", 3), ("d/b", 4), ("d/c", 5)] {
        host.put(name, attr(inode, FileKind::File, 10, 1), inode);
    }
    host
}

async fn took<T>(work: impl Future<Output = T>) -> Duration {
    let begun = Instant::now();
    work.await;
    begun.elapsed()
}

#[tokio::test(start_paused = true)]
async fn what_is_leased_is_believed_as_long_as_it_is_used_and_costs_a_question_now_and_then() {
    let world = World::new().await;
    let (dir, file) = world.listed().await;
    let asked = world.asked();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(600) {
        let look = async {
            assert_eq!(world.find(dir, "a").await, Some(file));
            assert_eq!(world.find(dir, "b").await.map(|ino| ino.0), Some(4));
            assert_eq!(world.find(dir, "none").await, None);
            assert_eq!(world.list(dir).await, ["a", "b", "c"]);
            assert_eq!(world.size(file).await, 10);
            world.vfs.getattr(dir, None).await.unwrap();
            let opened = world.vfs.open(CALLER, file, OpenHow::default()).await;
            world.vfs.release(opened.unwrap().handle);
        };
        assert_eq!(
            took(look).await,
            Duration::ZERO,
            "after {:?}",
            begun.elapsed()
        );
        sleep(Duration::from_millis(700)).await;
    }
    // Once in a while it is asked after all: hosts do not notice everything.
    let again = world.asked() - asked;
    assert!((1..=6).contains(&again), "{again}");
    let renewed = world.host.count(|r| matches!(r, Request::Heard { .. }));
    assert!((150..=200).contains(&renewed), "{renewed}");
}

#[tokio::test(start_paused = true)]
async fn the_kernel_believes_what_is_leased_to_the_end_of_the_term() {
    let world = World::new().await;
    let (dir, file) = world.listed().await;
    let found = world.vfs.lookup(dir, b"a").await.unwrap().ok().unwrap();
    assert!(found.ttl > TERM / 2 && found.ttl == found.name_ttl);
    let absent = world.vfs.lookup(dir, b"x").await.unwrap().err().unwrap();
    assert!(absent > TERM / 2 && absent <= TERM);
    let (_, ttl) = world.vfs.getattr(file, None).await.unwrap();
    assert!(ttl > TERM / 2);
    // The name of a directory is leased with the one it is in, its attributes are not.
    world
        .host
        .put("d/sub", attr(9, FileKind::Directory, 0, 1), 0);
    world.host.tell_of("d", &["sub"]).await;
    sleep(TTL * 2).await;
    let sub = world.vfs.lookup(dir, b"sub").await.unwrap().ok().unwrap();
    assert!(sub.name_ttl > TERM / 2 && sub.ttl.is_zero());
}

#[tokio::test(start_paused = true)]
async fn what_the_host_tells_is_known_without_a_question() {
    let world = World::new().await;
    let (dir, file) = world.listed().await;
    world.find(dir, "new").await;
    let asked = world.asked();
    // Made, changed and removed at the host.
    world.host.put("d/new", attr(7, FileKind::File, 70, 1), 7);
    world.host.put("d/a", attr(3, FileKind::File, 30, 2), 3);
    world.host.remove("d/b");
    world.host.tell_of("d", &["new", "a", "b"]).await;
    assert_eq!(world.find(dir, "new").await, Some(Ino(7)));
    assert_eq!(world.find(dir, "a").await, Some(file));
    assert_eq!(world.size(file).await, 30);
    assert_eq!(world.find(dir, "b").await, None);
    assert_eq!(world.list(dir).await, ["a", "c", "new"]);
    assert_eq!(world.asked(), asked);
    let told = world.kernel.take();
    assert!(told.names && told.attributes.contains(&dir));
    assert!(told.attributes.contains(&file) || told.pages.contains(&file));
}

#[tokio::test(start_paused = true)]
async fn the_kernel_forgets_names_only_if_they_may_lead_elsewhere_for_it() {
    let world = World::new().await;
    let (dir, file) = world.listed().await;
    // Attributes alone.
    world.host.put("d/a", attr(3, FileKind::File, 30, 1), 3);
    world.host.tell_of("d", &["a"]).await;
    let told = world.kernel.take();
    assert!(!told.names && told.attributes.contains(&file) && told.pages.is_empty());
    // A name the kernel cannot have heard of.
    world.host.put("d/new", attr(7, FileKind::File, 70, 1), 7);
    world.host.tell_of("d", &["new"]).await;
    assert!(!world.kernel.take().names);
    // One that it was told is not there.
    assert_eq!(world.find(dir, "other").await, None);
    world.host.put("d/other", attr(8, FileKind::File, 70, 1), 8);
    world.host.tell_of("d", &["other"]).await;
    assert!(world.kernel.take().names);
    // One that went, one that came in its place.
    world.host.remove("d/new");
    world.host.tell_of("d", &["new"]).await;
    assert!(world.kernel.take().names);
    world.host.put("d/c", attr(11, FileKind::File, 1, 1), 11);
    world.host.tell_of("d", &["c"]).await;
    let told = world.kernel.take();
    assert!(told.names);
    assert_eq!(world.find(dir, "c").await, Some(Ino(11)));
    // Another content: its pages are of no use any more.
    let opened = world
        .vfs
        .open(CALLER, file, OpenHow::default())
        .await
        .unwrap();
    world.host.put("d/a", attr(3, FileKind::File, 30, 9), 3);
    world.host.tell_of("d", &["a"]).await;
    assert_eq!(world.kernel.take().pages, [file]);
    world.vfs.release(opened.handle);
    let opened = world
        .vfs
        .open(CALLER, file, OpenHow::default())
        .await
        .unwrap();
    assert!(!opened.keep_cache);
}

#[tokio::test(start_paused = true)]
async fn new_content_is_read_after_the_host_told_of_it() {
    let world = World::new().await;
    let (_, file) = world.listed().await;
    let read = async || {
        let opened = world.vfs.open(CALLER, file, OpenHow::default()).await;
        let handle = opened.unwrap().handle;
        let bytes = world.vfs.read(handle, 0, 100).await.unwrap();
        world.vfs.release(handle);
        bytes
    };
    let old = read().await;
    assert_eq!(took(read()).await, Duration::ZERO);
    world.host.put("d/a", attr(3, FileKind::File, 20, 2), 77);
    world.host.tell_of("d", &["a"]).await;
    let new = read().await;
    assert!(new != old && new.len() == 20);
    assert_eq!(new[..], support::fake::bytes_at(77, 0, 20)[..]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_news_overtook_is_not_believed() {
    let world = World::new().await;
    let dir = world.find(Ino::ROOT, "d").await.unwrap();
    world.find(dir, "a").await;
    sleep(RTT * 2).await;
    // The question is answered before the change, and arrives after what tells of it.
    let late = world.host.delay_next_answer(RTT * 4);
    let (found, ()) = tokio::join!(world.find(dir, "b"), async {
        late.await;
        world.host.remove("d/b");
        world.host.tell_of("d", &["b"]).await;
    });
    assert_eq!(found, None);
    assert_eq!(world.find(dir, "b").await, None);
    sleep(TTL).await;
    assert_eq!(world.find(dir, "b").await, None);
    // Of a listing, too.
    let late = world.host.delay_next_answer(RTT * 4);
    let (_, ()) = tokio::join!(world.list(dir), async {
        late.await;
        world.host.remove("d/c");
        world.host.put("d/n", attr(12, FileKind::File, 1, 1), 12);
        world.host.tell_of("d", &["c", "n"]).await;
    });
    assert_eq!(world.list(dir).await, ["a", "n"]);
    assert_eq!(world.find(dir, "c").await, None);
    assert_eq!(world.find(dir, "n").await, Some(Ino(12)));
}

#[tokio::test(start_paused = true)]
async fn news_that_may_be_older_than_a_change_of_ours_are_asked_again() {
    let world = World::new().await;
    let (dir, _) = world.listed().await;
    let before = world.host.attr_of("d/b").unwrap();
    world.vfs.unlink(CALLER, dir, b"b").await.unwrap();
    // Sent before it was removed, and on its way since.
    let number = world.host.tell(News::Entries {
        dir: world.host.attr_of("d").unwrap().id,
        attr: None,
        names: vec![NameNews {
            name: Name::new("b").unwrap(),
            attr: Some(before),
        }],
    });
    world.host.wait_heard(number).await;
    let asked = world.asked();
    assert_eq!(world.find(dir, "b").await, None);
    assert!(world.asked() > asked);
    let asked = world.asked();
    sleep(LONG / 2).await;
    assert_eq!(world.find(dir, "b").await, None);
    assert_eq!(world.list(dir).await, ["a", "c"]);
    assert_eq!(world.asked(), asked);
}

#[tokio::test(start_paused = true)]
async fn own_changes_are_under_the_lease_of_their_directory() {
    let world = World::new().await;
    let (dir, file) = world.listed().await;
    let made = world
        .vfs
        .make_dir(CALLER, dir, b"sub", 0o755)
        .await
        .unwrap();
    world.vfs.unlink(CALLER, dir, b"c").await.unwrap();
    let to = (dir, &b"moved"[..]);
    let how = RenameHow::Replace;
    world
        .vfs
        .rename(CALLER, (dir, b"a"), to, how)
        .await
        .unwrap();
    let asked = world.asked();
    sleep(LONG).await;
    // The term may have run out for want of use.
    world.find(dir, "b").await;
    let look = async {
        assert_eq!(world.find(dir, "sub").await, Some(made.node.ino));
        assert_eq!(world.find(dir, "c").await, None);
        assert_eq!(world.find(dir, "a").await, None);
        assert_eq!(world.find(dir, "moved").await, Some(file));
        assert_eq!(world.list(dir).await, ["b", "moved", "sub"]);
        assert_eq!(world.size(file).await, 10);
    };
    assert_eq!(took(look).await, Duration::ZERO);
    assert_eq!(world.asked(), asked);
}

#[tokio::test(start_paused = true)]
async fn an_idle_mount_is_silent_and_one_question_makes_all_good_again() {
    let world = World::new().await;
    let (dir, file) = world.listed().await;
    sleep(Duration::from_secs(120)).await;
    let before = world.host.requests.lock().unwrap().len();
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(world.host.requests.lock().unwrap().len(), before);
    // What changed meanwhile was told all the same.
    world.host.remove("d/b");
    world.host.tell_of("d", &["b"]).await;
    sleep(TERM * 2).await;
    let asked = world.asked();
    let look = async {
        tokio::join!(
            async { assert_eq!(world.find(dir, "a").await, Some(file)) },
            async { assert_eq!(world.find(dir, "b").await, None) },
            async { assert_eq!(world.size(file).await, 10) },
        );
        assert_eq!(world.list(dir).await, ["a", "c"]);
    };
    assert_eq!(took(look).await, RTT);
    assert_eq!(world.asked(), asked);
}

#[tokio::test(start_paused = true)]
async fn what_was_under_a_lease_that_ended_is_believed_no_more() {
    let world = World::new().await;
    let (dir, file) = world.listed().await;
    let id = world.host.attr_of("d").unwrap().id;
    world.host.remove("d/b");
    let number = world.host.tell(News::Over { dir: id });
    world.host.wait_heard(number).await;
    let told = world.kernel.take();
    assert!(told.names && told.attributes.contains(&file) && told.attributes.contains(&dir));
    assert_eq!(world.find(dir, "b").await, None);
    assert_eq!(world.size(file).await, 10);
    // Asking began the next.
    let asked = world.asked();
    sleep(LONG / 2).await;
    assert_eq!(world.list(dir).await, ["a", "c"]);
    assert_eq!(world.asked(), asked);
    world.host.remove("d/c");
    let number = world.host.tell(News::AllOver);
    world.host.wait_heard(number).await;
    let told = world.kernel.take();
    assert!(told.names && told.attributes.contains(&file));
    assert_eq!(world.find(dir, "c").await, None);
}

#[tokio::test(start_paused = true)]
async fn what_the_host_cannot_notice_is_found_within_ten_minutes_of_use() {
    let world = World::new().await;
    let (_, file) = world.listed().await;
    // Nothing is told of it.
    world.host.put("d/a", attr(3, FileKind::File, 99, 2), 3);
    let begun = Instant::now();
    while world.size(file).await != 99 {
        assert!(begun.elapsed() < Duration::from_secs(600));
        sleep(TTL).await;
    }
    assert!(begun.elapsed() > LONG);
}

#[tokio::test(start_paused = true)]
async fn with_a_term_of_nothing_there_are_no_leases() {
    let host = FakeHost::new();
    host.give_leases();
    host.put("f", attr(3, FileKind::File, 10, 1), 3);
    let remote = Arc::new(Distant::new(&host, RTT));
    let world = World::over(host, remote, Duration::ZERO).await;
    for _ in 0..3 {
        let found = world
            .vfs
            .lookup(Ino::ROOT, b"f")
            .await
            .unwrap()
            .ok()
            .unwrap();
        assert!(found.ttl.is_zero() && found.name_ttl.is_zero());
    }
    assert_eq!(world.asked(), 3);
    assert_eq!(world.host.count(|r| matches!(r, Request::Listen)), 0);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_tells_nobody_is_believed_for_the_short_term() {
    let host = FakeHost::new();
    host.put("f", attr(3, FileKind::File, 10, 1), 3);
    let remote = Arc::new(Distant::new(&host, RTT));
    let world = World::over(host, remote, TTL).await;
    world.find(Ino::ROOT, "f").await.unwrap();
    sleep(TTL).await;
    world.host.remove("f");
    assert_eq!(world.find(Ino::ROOT, "f").await, None);
    assert_eq!(world.host.count(|r| matches!(r, Request::Listen)), 1);
    assert!(!world.vfs.leases().snapshot().live);
}

#[tokio::test(start_paused = true)]
async fn the_next_session_is_asked_once_for_each_directory_whether_it_still_holds() {
    let host = leasing_host();
    let door = Door::new(&host);
    let (link, _) = Link::open(door.clone(), LONG).await.unwrap();
    let world = World::over(host.clone(), link, TTL).await;
    let (dir, file) = world.listed().await;
    sleep(TTL).await;
    let lists = |known: bool| {
        world.host.count(
            |r| matches!(r, Request::List { known: digest, .. } if digest.is_some() == known),
        )
    };
    let (asked, listed) = (world.asked(), lists(false));
    world.host.remove("d/b");
    door.cut();
    sleep(RTT).await;
    let told = world.kernel.take();
    assert!(told.names && told.attributes.contains(&file) && told.attributes.contains(&dir));
    assert_eq!(world.find(dir, "b").await, None);
    assert_eq!(world.find(dir, "a").await, Some(file));
    assert_eq!(world.size(file).await, 10);
    assert_eq!(world.list(dir).await, ["a", "c"]);
    assert_eq!((world.asked(), lists(true)), (asked + 1, 1));
    // If nothing has changed, nothing is sent.
    let sent = host.entries_sent.load(std::sync::atomic::Ordering::SeqCst);
    door.cut();
    sleep(RTT).await;
    assert_eq!(world.list(dir).await, ["a", "c"]);
    assert_eq!(world.size(file).await, 10);
    assert_eq!(
        host.entries_sent.load(std::sync::atomic::Ordering::SeqCst),
        sent
    );
    assert_eq!(
        (world.asked(), lists(true), lists(false)),
        (asked + 2, 2, listed)
    );
    // And it is under a lease again.
    sleep(TERM / 2).await;
    assert_eq!(world.find(dir, "a").await, Some(file));
    assert_eq!(world.asked(), asked + 2);
}

/// The way to a host that can go dark: what is asked waits, and is answered to nobody.
struct Dark {
    host: Distant,
    dark: tokio::sync::watch::Sender<bool>,
}

impl Remote for Dark {
    fn call_with(
        &self,
        request: Request,
        body: wormhole::rpc::Body,
    ) -> BoxFuture<'_, Result<wormhole::rpc::Answer, wormhole::rpc::CallError>> {
        async move {
            let _ = self.dark.subscribe().wait_for(|dark| !dark).await;
            self.host.call_with(request, body).await
        }
        .boxed()
    }

    fn path(&self) -> wormhole::rpc::PathEstimate {
        self.host.path()
    }

    fn closed(&self) -> BoxFuture<'_, ()> {
        self.host.closed()
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_leased_is_believed_for_a_term_after_the_host_was_last_heard_and_no_longer() {
    let host = leasing_host();
    let remote = Arc::new(Dark {
        host: Distant::new(&host, RTT),
        dark: tokio::sync::watch::Sender::new(false),
    });
    let world = World::over(host, remote.clone(), TTL).await;
    let (dir, _) = world.listed().await;
    remote.dark.send_replace(true);
    world.host.remove("d/b");
    let begun = Instant::now();
    let mut last = begun;
    while let Ok(found) = tokio::time::timeout(RTT * 20, world.find(dir, "b")).await {
        assert!(found.is_some());
        last = Instant::now();
        sleep(RTT).await;
    }
    assert!(last - begun > TERM / 2 && last - begun < TERM);
    remote.dark.send_replace(false);
    sleep(RTT * 4).await;
    assert_eq!(world.find(dir, "b").await, None);
}

#[tokio::test(start_paused = true)]
async fn a_directory_the_kernel_forgot_has_the_times_our_changes_gave_it() {
    let world = World::new().await;
    world.list(Ino::ROOT).await;
    let (dir, _) = world.listed().await;
    // Making a directory in it changes it, of which the listing it is in knows nothing.
    world.host.put("d", attr(2, FileKind::Directory, 77, 1), 0);
    let made = world
        .vfs
        .make_dir(CALLER, dir, b"sub", 0o755)
        .await
        .unwrap();
    assert_eq!(world.size(dir).await, 77);
    world.vfs.forget(made.node.ino, 1);
    drop(made);
    world.vfs.forget(dir, 1000);
    for _ in 0..2 {
        let found = world.find(Ino::ROOT, "d").await.unwrap();
        assert_eq!(world.size(found).await, 77);
        world.vfs.forget(found, 1000);
        sleep(TTL * 2).await;
    }
}
