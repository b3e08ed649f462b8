//! Terms and what is under them, in virtual time.

use super::*;
use tokio::time::{advance, sleep};

const TERM: Duration = Duration::from_secs(10);
const TTL: Duration = Duration::from_secs(1);
const RTT: Duration = Duration::from_millis(100);

fn dir(inode: u64) -> FileId {
    FileId {
        device: 1,
        inode,
        birth: 0,
    }
}

/// Leases of a session that was asked for at `sent`, answered a round trip later.
async fn listening() -> (Leases, Instant) {
    let leases = Leases::default();
    let sent = Instant::now();
    leases.begin(sent);
    sleep(RTT).await;
    leases.listening(sent, TERM, Instant::now());
    (leases, sent)
}

async fn grant(leases: &Leases, of: FileId) -> Instant {
    let asked = Instant::now();
    sleep(RTT).await;
    leases.granted(of, asked, Instant::now());
    asked
}

fn is_held(leases: &Leases, of: FileId) -> bool {
    let now = Instant::now();
    leases.held(of, now).is_some_and(|held| now < held.until)
}

#[tokio::test(start_paused = true)]
async fn the_term_counts_from_when_was_asked() {
    let (leases, sent) = listening().await;
    let asked = grant(&leases, dir(1)).await;
    let held = leases.held(dir(1), Instant::now()).unwrap();
    assert_eq!((held.since, held.until), (asked, sent + TERM));
    assert!(!is_held(&leases, dir(2)));
    advance(TERM - RTT * 2 - Duration::from_millis(1)).await;
    assert!(is_held(&leases, dir(1)));
    advance(Duration::from_millis(1)).await;
    assert!(!is_held(&leases, dir(1)));
}

#[tokio::test(start_paused = true)]
async fn an_answer_renews_the_term_once_all_that_was_said_is_applied() {
    let (leases, first) = listening().await;
    grant(&leases, dir(1)).await;
    let until = |leases: &Leases| leases.held(dir(1), Instant::now()).unwrap().until;
    let sent = Instant::now();
    sleep(RTT).await;
    leases.heard(sent, 2, Instant::now());
    assert_eq!(until(&leases), first + TERM);
    leases.applied(1, Instant::now());
    assert_eq!(until(&leases), first + TERM);
    leases.applied(2, Instant::now());
    assert_eq!(until(&leases), sent + TERM);
    // Answers that come in another order do not shorten it.
    let later = Instant::now();
    sleep(RTT).await;
    leases.heard(later, 2, Instant::now());
    leases.heard(sent, 2, Instant::now());
    assert_eq!(until(&leases), later + TERM);
}

#[tokio::test(start_paused = true)]
async fn a_mount_in_use_renews_and_an_idle_one_does_not() {
    let (leases, sent) = listening().await;
    // Nothing is leased: there is nothing to renew.
    assert_eq!(leases.next_heartbeat(Instant::now()), None);
    grant(&leases, dir(1)).await;
    let due = leases.next_heartbeat(Instant::now()).unwrap();
    assert_eq!(due, sent + TERM / 3);
    let mut renewed = 0;
    let begun = Instant::now();
    while let Some(due) = leases.next_heartbeat(Instant::now()) {
        tokio::time::sleep_until(due).await;
        let sent = Instant::now();
        leases.heard(sent, 0, sent);
        renewed += 1;
        assert!(renewed < 100);
    }
    // Nobody used it meanwhile.
    assert!(begun.elapsed() <= IDLE);
    assert!(renewed >= IDLE.as_secs() / TERM.as_secs());
    advance(TERM).await;
    assert!(!is_held(&leases, dir(1)));
}

#[tokio::test(start_paused = true)]
async fn one_question_makes_all_good_again_after_a_pause() {
    let (leases, _) = listening().await;
    let asked = grant(&leases, dir(1)).await;
    grant(&leases, dir(2)).await;
    advance(IDLE * 10).await;
    assert!(!is_held(&leases, dir(1)));
    // There is nothing to wait for where nothing is leased.
    assert!(!leases.revive(dir(3), TERM).await);
    let revive = async { assert!(leases.revive(dir(1), TERM).await) };
    let answer = async {
        let mut changes = leases.changes();
        while leases.next_heartbeat(Instant::now()).is_none() {
            changes.changed().await.unwrap();
        }
        leases.asking();
        let sent = Instant::now();
        sleep(RTT).await;
        leases.heard(sent, 0, Instant::now());
    };
    let begun = Instant::now();
    tokio::join!(revive, answer);
    assert_eq!(begun.elapsed(), RTT);
    assert_eq!(leases.held(dir(1), Instant::now()).unwrap().since, asked);
    assert!(is_held(&leases, dir(2)));
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_host_that_does_not_answer_waits_so_long() {
    let (leases, _) = listening().await;
    grant(&leases, dir(1)).await;
    advance(TERM).await;
    let begun = Instant::now();
    leases.revive(dir(1), RTT).await;
    assert_eq!(begun.elapsed(), RTT);
    // Without a session nobody waits.
    leases.lost();
    assert!(!leases.revive(dir(1), RTT).await);
}

#[tokio::test(start_paused = true)]
async fn what_ended_is_not_brought_back_by_answers_under_way() {
    let (leases, _) = listening().await;
    let asked = grant(&leases, dir(1)).await;
    leases.over(dir(1), Instant::now());
    assert!(!is_held(&leases, dir(1)));
    leases.granted(dir(1), asked, Instant::now());
    assert!(!is_held(&leases, dir(1)));
    advance(RTT).await;
    grant(&leases, dir(1)).await;
    grant(&leases, dir(2)).await;
    assert!(is_held(&leases, dir(1)) && is_held(&leases, dir(2)));
    advance(RTT).await;
    leases.all_over(Instant::now());
    assert!(!is_held(&leases, dir(1)) && !is_held(&leases, dir(2)));
}

#[tokio::test(start_paused = true)]
async fn a_lost_session_is_believed_to_the_end_of_its_term_and_the_next_begins_anew() {
    let (leases, sent) = listening().await;
    let asked = grant(&leases, dir(1)).await;
    leases.lost();
    assert_eq!(leases.next_heartbeat(Instant::now()), None);
    assert_eq!(
        leases.held(dir(1), Instant::now()).unwrap().until,
        sent + TERM
    );
    leases.begin(Instant::now());
    assert!(!is_held(&leases, dir(1)));
    advance(RTT).await;
    leases.listening(Instant::now(), TERM, Instant::now());
    // An answer of the old session, on its way since.
    leases.granted(dir(1), asked, Instant::now());
    assert!(!is_held(&leases, dir(1)));
}

#[tokio::test(start_paused = true)]
async fn what_was_asked_under_a_lease_is_believed_as_long_as_it_lasts() {
    let (leases, _) = listening().await;
    let before = Heard::since(Instant::now());
    advance(RTT).await;
    let asked = grant(&leases, dir(1)).await;
    let first = Heard::since(asked).leased(true);
    assert!(!leases.covers(dir(1), asked));
    advance(RTT).await;
    assert!(leases.covers(dir(1), Instant::now()));
    advance(TTL * 2).await;
    let terms = |of| Terms {
        now: Instant::now(),
        ttl: TTL,
        held: leases.held(of, Instant::now()),
    };
    let here = terms(dir(1));
    assert!(here.believes(first) && here.is_leased(first) && !here.is_old(first));
    let left = here.held.unwrap().until - here.now;
    assert_eq!(here.kernel_ttl(first), left - KERNEL_LATE);
    let late = Terms {
        now: here.now + left - KERNEL_LATE / 2,
        ..here
    };
    assert!(late.is_leased(first) && late.kernel_ttl(first).is_zero());
    // What was told before the lease, or of another directory, is not under it.
    assert!(!here.believes(before.leased(true)) && !here.believes(before));
    assert!(!terms(dir(2)).believes(first));
    let fresh = Heard::since(Instant::now());
    assert!(terms(dir(2)).believes(fresh) && !terms(dir(2)).is_leased(fresh));
    assert_eq!(terms(dir(2)).kernel_ttl(fresh), TTL / 2);
    // What was told under a lease that lapsed is believed for the short term, under one that ended not at all.
    let asked = Instant::now();
    leases.granted(dir(1), asked, asked);
    let last = Heard::since(asked).leased(true);
    advance(TTL / 2).await;
    let mut lapsed = terms(dir(1));
    lapsed.held = lapsed.held.map(|held| Held {
        until: lapsed.now,
        ..held
    });
    assert!(lapsed.believes(last) && !lapsed.is_leased(last) && !lapsed.believes(first));
    leases.over(dir(1), Instant::now());
    assert!(!terms(dir(1)).believes(last));
}

#[tokio::test(start_paused = true)]
async fn what_is_leased_is_asked_again_now_and_then() {
    let now = Instant::now();
    let heard = Heard::from(now).leased(true);
    let after = |age| Terms {
        now: now + age,
        ttl: TTL,
        held: Some(Held {
            since: now,
            until: now + RENEWED_AFTER * 10,
        }),
    };
    assert!(!after(RENEWED_AFTER - TTL).is_old(heard));
    assert!(after(RENEWED_AFTER).is_old(heard) && after(RENEWED_AFTER).believes(heard));
}

#[test]
fn a_lease_covers_files_with_one_name_and_its_own_directory() {
    use wormhole_protocol::{ContentVersion, Timestamp};
    let attr = |kind, links| Attr {
        id: dir(7),
        kind,
        mode: 0,
        links,
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
    };
    let within = Some(dir(1));
    assert_eq!(covered_by(&attr(FileKind::File, 1), within), within);
    assert_eq!(covered_by(&attr(FileKind::File, 2), within), None);
    assert_eq!(
        covered_by(&attr(FileKind::Directory, 3), within),
        Some(dir(7))
    );
    assert_eq!(
        covered_by(&attr(FileKind::Directory, 3), None),
        Some(dir(7))
    );
}
