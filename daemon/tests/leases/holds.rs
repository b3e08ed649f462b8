//! While a lease holds: what is believed, what news of the host change, and what a mount does itself.

use super::*;
use wormhole::mount::vfs::CreateHow;
use wormhole::rpc::{Answer, Body, CallError, PathEstimate};

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
async fn names_in_the_root_are_forgotten_like_any_others() {
    let world = World::new().await;
    world.list(Ino::ROOT).await;
    sleep(RTT * 2).await;
    world.kernel.take();
    let asked = world.asked();
    assert_eq!(world.find(Ino::ROOT, "none").await, None);
    world.host.put("none", attr(7, FileKind::File, 70, 1), 7);
    world.host.tell_of("", &["none"]).await;
    let told = world.kernel.take();
    assert!(told.names && told.attributes.contains(&Ino::ROOT));
    let file = world.find(Ino::ROOT, "none").await.unwrap();
    world.host.remove("none");
    world.host.tell_of("", &["none"]).await;
    let told = world.kernel.take();
    assert!(told.names && told.attributes.contains(&file));
    assert_eq!(world.find(Ino::ROOT, "none").await, None);
    assert_eq!(world.asked(), asked);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_finds_a_directory_again_while_news_arrive_is_told_or_finds_them() {
    let host = leasing_host();
    let remote = Arc::new(Distant::new(&host, Duration::ZERO));
    let world = World::over(host, remote, Duration::from_secs(3600)).await;
    let (dir, file) = world.listed().await;
    let id = world.vfs.lookup(Ino::ROOT, b"d").await.unwrap().ok();
    let id = id.unwrap().node.id;
    let news = |attr| NameNews {
        name: Name::new("x").unwrap(),
        attr,
        brings: false,
    };
    let made = attr(7, FileKind::File, 70, 1);
    // As long as the kernel knows something in it, the directory stays.
    world.vfs.forget(file, u64::MAX);
    let world = Arc::new(world);
    for round in 0..10_000 {
        world.vfs.take_news(id, None, &[news(None)]);
        assert_eq!(world.find(dir, "x").await, None);
        let finds = {
            let world = world.clone();
            tokio::spawn(async move {
                world.vfs.forget(dir, u64::MAX);
                let dir = world.find(Ino::ROOT, "d").await.unwrap();
                let found = world.find(dir, "x").await;
                world.vfs.forget(Ino(7), u64::MAX);
                found
            })
        };
        // Now sooner, now later.
        for _ in 0..round % 100 * 20 {
            std::hint::spin_loop();
        }
        let told = world.vfs.take_news(id, None, &[news(Some(made))]);
        let found = finds.await.unwrap();
        assert!(told.names || found.is_some(), "round {round}");
    }
}

#[tokio::test(start_paused = true)]
async fn where_names_change_the_kernel_believes_none_it_was_listed() {
    let world = World::new().await;
    let (dir, _) = world.listed().await;
    let ttl = async || {
        let handle = world.vfs.opendir(dir).unwrap();
        let page = world.vfs.readdir(handle, 0).await.unwrap();
        world.vfs.release(handle);
        let found = world.vfs.show(&page.dir, &page.entries[0].1).unwrap();
        world.vfs.ttl_on_page(&page.dir, &found)
    };
    let short = Duration::from_secs(1);
    assert_eq!(ttl().await, short);
    world.host.put("d/new", attr(7, FileKind::File, 70, 1), 7);
    world.host.tell_of("d", &["new"]).await;
    assert_eq!(ttl().await, Duration::ZERO);
    for _ in 0..8 {
        sleep(TERM / 4).await;
        ttl().await;
    }
    assert_eq!(ttl().await, short);
}

/// A lookup of the name in use for so long that it is asked for again in the background, after it was given to
/// another file of which the host has not told yet.
async fn renewed_before_the_news(world: &World, dir: Ino, name: &str, path: &str) {
    let before = world.find(dir, name).await;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(295) {
        assert_eq!(world.find(dir, name).await, before);
        sleep(TERM / 4).await;
    }
    world.host.put(path, attr(11, FileKind::File, 1, 1), 11);
    sleep(TERM / 2).await;
    assert_eq!(world.find(dir, name).await, before);
    sleep(RTT * 2).await;
    assert_eq!(world.find(dir, name).await, Some(Ino(11)), "renewed");
    world.kernel.take();
}

#[tokio::test(start_paused = true)]
async fn the_kernel_hears_of_news_that_an_answer_has_overtaken() {
    let world = World::new().await;
    let file = attr(10, FileKind::File, 1, 1);
    world.host.put("alone", file, 10);
    renewed_before_the_news(&world, Ino::ROOT, "alone", "alone").await;
    world.host.tell_of("", &["alone"]).await;
    assert!(world.kernel.take().names);
    assert_eq!(world.find(Ino::ROOT, "alone").await, Some(Ino(11)));

    let world = World::new().await;
    let (dir, _) = world.listed().await;
    renewed_before_the_news(&world, dir, "c", "d/c").await;
    let asked = world.asked();
    world.host.tell_of("d", &["c"]).await;
    assert!(world.kernel.take().names);
    assert_eq!(world.find(dir, "c").await, Some(Ino(11)));
    // Once is enough.
    world.host.put("d/c", attr(11, FileKind::File, 2, 1), 11);
    world.host.tell_of("d", &["c"]).await;
    assert!(!world.kernel.take().names);
    assert_eq!(world.asked(), asked);
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
            brings: false,
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

/// The answer to the first piece of a file that is written comes after all others.
struct Overtaken(Distant);

impl Remote for Overtaken {
    fn call_with(&self, request: Request, body: Body) -> BoxFuture<'_, Result<Answer, CallError>> {
        let is_first = matches!(
            &request,
            Request::Change {
                change: Change::Write { offset: 0, .. },
                ..
            }
        );
        async move {
            let answer = self.0.call_with(request, body).await;
            if is_first {
                sleep(RTT * 4).await;
            }
            answer
        }
        .boxed()
    }

    fn path(&self) -> PathEstimate {
        self.0.path()
    }

    fn closed(&self) -> BoxFuture<'_, ()> {
        self.0.closed()
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_written_stays_as_long_as_it_is_whatever_is_answered_last() {
    let host = leasing_host();
    let remote = Arc::new(Overtaken(Distant::new(&host, RTT)));
    let world = World::over(host, remote, TTL).await;
    let (dir, _) = world.listed().await;
    let create = CreateHow {
        mode: 0o644,
        exclusive: true,
        truncate: false,
    };
    let how = OpenHow {
        writes: true,
        ..OpenHow::default()
    };
    let vfs = &world.vfs;
    let (found, opened) = vfs.create(CALLER, dir, b"long", create, how).await.unwrap();
    let content = vec![7; 5 << 19];
    vfs.write(opened.handle, 0, &content).await.unwrap();
    vfs.flush(opened.handle, LockOwner(1)).await.unwrap();
    assert_eq!(world.size(found.node.ino).await, content.len() as u64);
    let again = vfs.lookup(dir, b"long").await.unwrap().ok().unwrap();
    assert_eq!(again.attr.size, content.len() as u64);
    let read = vfs.read(opened.handle, 0, 5 << 19).await.unwrap();
    assert_eq!(read.len(), content.len());
    assert_eq!(
        world.host.attr_of("d/long").unwrap().changed,
        again.attr.changed
    );
    vfs.release(opened.handle);
}

#[tokio::test(start_paused = true)]
async fn an_open_file_is_read_on_after_its_directory_was_forgotten_and_renamed() {
    let world = World::new().await;
    let (dir, file) = world.listed().await;
    let vfs = &world.vfs;
    let opened = vfs.open(CALLER, file, OpenHow::default()).await.unwrap();
    let other = world.find(dir, "b").await.unwrap();
    let kept = vfs.open(CALLER, other, OpenHow::default()).await.unwrap();
    // The kernel lets go of a directory as soon as it knows no name of it.
    vfs.forget(dir, 100);
    assert_eq!(world.find(Ino::ROOT, "d").await, Some(dir));
    vfs.unlink(CALLER, dir, b"b").await.unwrap();
    let renamed = vfs.rename(
        CALLER,
        (Ino::ROOT, b"d"),
        (Ino::ROOT, b"e"),
        RenameHow::Replace,
    );
    renamed.await.unwrap();
    assert_eq!(vfs.read(opened.handle, 0, 10).await.unwrap().len(), 10);
    assert_eq!(vfs.read(kept.handle, 0, 10).await.unwrap().len(), 10);
    vfs.release(opened.handle);
    vfs.release(kept.handle);
}
