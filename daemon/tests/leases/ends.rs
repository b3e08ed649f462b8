//! How a lease ends, and what comes after it: silence, another session, the end of a term.

use super::*;

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
async fn of_a_long_directory_whose_lease_ended_the_host_is_asked_whether_it_has_changed() {
    const FILES: u64 = 5000;
    let world = World::new().await;
    let host = &world.host;
    for file in 0..FILES - 3 {
        let attr = attr(1000 + file, FileKind::File, 10, 1);
        host.put(&format!("d/f{file}"), attr, 0);
    }
    let (dir, _) = world.listed().await;
    let id = host.attr_of("d").unwrap().id;
    let over = async || {
        let number = host.tell(News::Over { dir: id });
        host.wait_heard(number).await;
    };
    assert_eq!(host.entries_sent.load(SeqCst), FILES);
    over().await;
    // One question is answered for all of it.
    assert!(world.find(dir, "f7").await.is_some());
    let asked = world.asked();
    assert!(world.find(dir, "f8").await.is_some());
    assert_eq!(world.list(dir).await.len() as u64, FILES);
    assert_eq!(
        (world.asked(), host.entries_sent.load(SeqCst)),
        (asked, FILES)
    );
    // What has changed comes to whoever lists it, and not for the sake of a name.
    host.remove("d/f8");
    over().await;
    assert!(world.find(dir, "f7").await.is_some());
    assert_eq!(world.find(dir, "f8").await, None);
    assert_eq!(host.entries_sent.load(SeqCst), FILES);
    assert_eq!(world.list(dir).await.len() as u64, FILES - 1);
    assert_eq!(host.entries_sent.load(SeqCst), 2 * FILES - 1);
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
async fn the_next_session_is_asked_once_for_all_directories_whether_they_still_hold() {
    let host = leasing_host();
    let door = Door::new(&host);
    let (link, _) = Link::open(door.clone(), LONG).await.unwrap();
    let world = World::over(host.clone(), link, TTL).await;
    let (dir, file) = world.listed().await;
    sleep(TTL).await;
    world.list(Ino::ROOT).await;
    let lists = || world.host.count(|r| matches!(r, Request::List { .. }));
    let at_once = || {
        world
            .host
            .count(|r| matches!(r, Request::Revalidate { .. }))
    };
    let (asked, listed) = (world.asked(), lists());
    world.host.remove("d/b");
    door.cut();
    sleep(RTT).await;
    let told = world.kernel.take();
    assert!(told.names && told.attributes.contains(&file) && told.attributes.contains(&dir));
    assert_eq!(world.find(dir, "b").await, None);
    assert_eq!(world.find(dir, "a").await, Some(file));
    assert_eq!(world.size(file).await, 10);
    assert_eq!(world.list(dir).await, ["a", "c"]);
    // The root is as it was; the other came anew.
    assert_eq!(world.list(Ino::ROOT).await, ["d"]);
    assert_eq!(
        (world.asked(), lists(), at_once()),
        (asked + 1, listed + 1, 1)
    );
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
    assert_eq!(world.list(Ino::ROOT).await, ["d"]);
    assert_eq!((world.asked(), at_once()), (asked + 1, 2));
    // And it is under a lease again.
    sleep(TERM / 2).await;
    assert_eq!(world.find(dir, "a").await, Some(file));
    assert_eq!(world.asked(), asked + 1);
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
