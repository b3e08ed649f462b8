//! The link over connections that fail on cue; time stands still but for what is waited for.

use super::*;
use std::collections::VecDeque;
use tokio::sync::Notify;
use wormhole_protocol::*;

fn welcome(share: u8, epoch: u64) -> Welcome {
    Welcome {
        version: 1,
        features: Features(0),
        share: ShareId([share; 16]),
        name: Name::new("share").unwrap(),
        epoch: Epoch(epoch),
        limits: SessionLimits {
            requests_max: 1,
            read_bytes_max: 1,
            opens_max: 1,
        },
        access: Access::Read,
        resumed: false,
        maps_users: false,
        root: Attr {
            id: FileId {
                device: 1,
                inode: 2,
                birth: 3,
            },
            kind: FileKind::Directory,
            mode: 0,
            links: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            size: 0,
            blocks: 0,
            accessed: Timestamp::EPOCH,
            modified: Timestamp::EPOCH,
            changed: Timestamp::EPOCH,
            xattrs: false,
            version: ContentVersion([0; 16]),
        },
    }
}

/// Answers calls until it breaks.
#[derive(Default)]
struct Fragile {
    broken: Mutex<bool>,
    breaking: Notify,
    silent: bool,
}

impl Fragile {
    fn break_now(&self) {
        *self.broken.lock() = true;
        self.breaking.notify_waiters();
    }
}

impl Remote for Fragile {
    fn call_with(
        &self,
        _request: Request,
        _body: Body,
    ) -> BoxFuture<'_, Result<Answer, CallError>> {
        async move {
            if *self.broken.lock() {
                return Err(CallError::Link);
            }
            if self.silent {
                self.breaking.notified().await;
                return Err(CallError::Link);
            }
            Ok(Answer {
                reply: Reply::Xattr(vec![]),
                payload: Box::new(tokio::io::empty()),
            })
        }
        .boxed()
    }

    fn path(&self) -> PathEstimate {
        PathEstimate::default()
    }

    fn closed(&self) -> BoxFuture<'_, ()> {
        async move {
            let breaking = self.breaking.notified();
            if !*self.broken.lock() {
                breaking.await;
            }
        }
        .boxed()
    }
}

type Attempt = Result<(Arc<Fragile>, Welcome), ConnectFailure>;

/// Gives out prepared attempts; then fails for ever.
struct Script(Mutex<VecDeque<Attempt>>);

impl Script {
    fn of(attempts: impl IntoIterator<Item = Attempt>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(attempts.into_iter().collect())))
    }
}

fn failure(is_final: bool) -> ConnectFailure {
    ConnectFailure {
        message: "no".into(),
        is_final,
    }
}

impl Connect for Script {
    fn connect(&self) -> BoxFuture<'_, Result<(Arc<dyn Remote>, Welcome), ConnectFailure>> {
        let next = self.0.lock().pop_front().unwrap_or(Err(failure(false)));
        let next = next.map(|(remote, welcome)| (remote as Arc<dyn Remote>, welcome));
        futures_util::future::ready(next).boxed()
    }
}

const TIMEOUT: Duration = Duration::from_secs(30);

fn fragile() -> Arc<Fragile> {
    Arc::default()
}

#[tokio::test(start_paused = true)]
async fn a_call_during_an_outage_is_answered_by_the_next_session() {
    let first = fragile();
    let script = Script::of([
        Ok((first.clone(), welcome(1, 1))),
        Err(failure(false)),
        Err(failure(false)),
        Ok((fragile(), welcome(1, 2))),
    ]);
    let (link, _) = Link::open(script, TIMEOUT).await.unwrap();
    assert!(link.call(Request::StatFs).await.is_ok());
    first.break_now();
    assert!(link.call(Request::StatFs).await.is_ok());
    assert_eq!(link.epoch(), Epoch(2));
    assert_eq!(link.snapshot().reconnects, 1);
    assert!(link.snapshot().connected);
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_answer_was_lost_is_asked_again() {
    let first = Arc::new(Fragile {
        silent: true,
        ..Fragile::default()
    });
    let script = Script::of([
        Ok((first.clone(), welcome(1, 1))),
        Ok((fragile(), welcome(1, 1))),
    ]);
    let (link, _) = Link::open(script, TIMEOUT).await.unwrap();
    let call = tokio::spawn({
        let link = link.clone();
        async move { link.call(Request::StatFs).await.is_ok() }
    });
    tokio::task::yield_now().await;
    first.break_now();
    assert!(call.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_its_timeout_and_no_longer() {
    let first = fragile();
    let script = Script::of([Ok((first.clone(), welcome(1, 1)))]);
    let (link, _) = Link::open(script, TIMEOUT).await.unwrap();
    first.break_now();
    let started = Instant::now();
    let answer = link.call(Request::StatFs).await.map(|_| ());
    assert_eq!(answer, Err(CallError::TimedOut));
    assert_eq!(started.elapsed().as_secs(), TIMEOUT.as_secs());
    let snapshot = link.snapshot();
    assert!(!snapshot.connected);
    assert_eq!(snapshot.last_error.as_deref(), Some("no"));
}

#[tokio::test(start_paused = true)]
async fn a_host_that_never_answers_times_out_as_well() {
    let silent = Arc::new(Fragile {
        silent: true,
        ..Fragile::default()
    });
    let (link, _) = Link::open(Script::of([Ok((silent, welcome(1, 1)))]), TIMEOUT)
        .await
        .unwrap();
    let answer = link.call(Request::StatFs).await.map(|_| ());
    assert_eq!(answer, Err(CallError::TimedOut));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_fails_calls_at_once_and_may_be_mended() {
    let first = fragile();
    let script = Script::of([
        Ok((first.clone(), welcome(1, 1))),
        Err(failure(true)),
        Ok((fragile(), welcome(1, 2))),
    ]);
    let (link, _) = Link::open(script, TIMEOUT).await.unwrap();
    first.break_now();
    let started = Instant::now();
    assert!(link.call(Request::StatFs).await.is_err());
    assert!(started.elapsed() < Duration::from_secs(1));
    sleep(BACKOFF_REFUSED + Duration::from_secs(1)).await;
    assert!(link.call(Request::StatFs).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn another_share_behind_the_ticket_is_not_taken_for_ours() {
    let first = fragile();
    let script = Script::of([
        Ok((first.clone(), welcome(1, 1))),
        Ok((fragile(), welcome(2, 2))),
    ]);
    let (link, _) = Link::open(script, TIMEOUT).await.unwrap();
    first.break_now();
    let answer = link.call(Request::StatFs).await.map(|_| ());
    assert_eq!(answer, Err(CallError::TimedOut));
    assert!(
        link.snapshot()
            .last_error
            .unwrap()
            .contains("another share")
    );
}

#[tokio::test(start_paused = true)]
async fn closing_fails_whoever_waits() {
    let first = fragile();
    let script = Script::of([Ok((first.clone(), welcome(1, 1)))]);
    let (link, _) = Link::open(script, TIMEOUT).await.unwrap();
    first.break_now();
    let call = tokio::spawn({
        let link = link.clone();
        async move { link.call(Request::StatFs).await.is_err() }
    });
    tokio::task::yield_now().await;
    link.close().await;
    assert!(call.await.unwrap());
}
