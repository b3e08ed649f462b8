//! Who comes in, to which share, and for how long.

use crate::world::{BINDING, Mount, NOW, World, hello, node};
use std::time::Duration;
use wormhole::host::{HostState, Share, StateError, TicketLimits};
use wormhole::rpc::Gate as _;
use wormhole::rpc::loopback::Loopback;
use wormhole_protocol::limits::{READ_BYTES_MAX, SESSION_REQUESTS_MAX};
use wormhole_protocol::{Epoch, Fault, Features, MountId, Proof, Refusal, Secret, TicketId};

fn limited(expires: Option<u64>, max_mounts: Option<u32>) -> TicketLimits {
    TicketLimits {
        expires,
        max_mounts,
        ..TicketLimits::default()
    }
}

#[tokio::test]
async fn a_welcome_says_what_the_first_stat_needs() {
    let world = World::new();
    let welcome = world.admit(&world.hello(1)).await.unwrap().welcome;
    assert_eq!(welcome.version, 6);
    assert_eq!(
        welcome.features,
        Features::SUPPORTED,
        "unknown ones are dropped"
    );
    assert_eq!(welcome.share, world.service.id());
    assert_eq!(welcome.name.as_bytes(), b"share");
    assert_eq!(welcome.epoch, Epoch(1));
    assert_eq!(welcome.limits.requests_max, SESSION_REQUESTS_MAX);
    assert_eq!(welcome.limits.read_bytes_max, READ_BYTES_MAX);
    assert_eq!(welcome.root.id, world.service.share().identity());
}

#[tokio::test]
async fn only_the_right_proof_comes_in() {
    let world = World::new();
    let good = world.hello(1);
    let stranger = Secret::from_bytes([3; 16]);
    let mut wrong = vec![hello(&stranger, 1)];
    // The right ticket named, but its secret not held, or held elsewhere.
    for proof in [
        stranger.prove(&BINDING, good.mount),
        world.secret.prove(&[0; 32], good.mount),
        world.secret.prove(&BINDING, MountId([2; 16])),
        Proof([0; 32]),
    ] {
        wrong.push(wormhole_protocol::Hello {
            proof,
            ..good.clone()
        });
    }
    let mut other_id = good.clone();
    other_id.ticket = TicketId([0; 8]);
    wrong.push(other_id);
    for hello in &wrong {
        assert_eq!(world.admit(hello).await.err(), Some(Refusal::UnknownTicket));
    }
    // On another TLS session the proof is worth nothing.
    let replayed = world.gate.admit(&good, &[8; 32]).await;
    assert_eq!(replayed.err(), Some(Refusal::UnknownTicket));
    assert!(world.admit(&good).await.is_ok());
}

#[tokio::test]
async fn no_bit_of_a_proof_may_differ_and_guessing_shuts_nobody_out() {
    let world = World::new();
    let good = world.hello(1);
    let (mut told, mut busy) = (0, 0);
    for bit in 0..256 {
        let mut mutated = good.clone();
        mutated.proof.0[bit / 8] ^= 1 << (bit % 8);
        match world.admit(&mutated).await.err().unwrap() {
            Refusal::UnknownTicket => told += 1,
            Refusal::Busy => busy += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((told, busy), (32, 224), "answered up to a rate");
    assert!(world.admit(&good).await.is_ok());
    world.clock.advance(Duration::from_secs(1));
    let mut wrong = good.clone();
    wrong.proof.0[0] ^= 1;
    assert_eq!(
        world.admit(&wrong).await.err(),
        Some(Refusal::UnknownTicket)
    );
    let refusals = world.gate.snapshot().refusals;
    assert_eq!((refusals["unknown_ticket"], refusals["busy"]), (33, 224));
}

#[tokio::test]
async fn versions_are_negotiated() {
    let world = World::new();
    let offering = |oldest, newest| wormhole_protocol::Hello {
        oldest,
        newest,
        ..world.hello(1)
    };
    for (oldest, newest) in [(6, 6), (0, 6), (6, 900), (1, u16::MAX)] {
        let welcome = world
            .admit(&offering(oldest, newest))
            .await
            .unwrap()
            .welcome;
        assert_eq!(welcome.version, 6);
    }
    let none = Refusal::Version {
        oldest: 6,
        newest: 6,
    };
    for (oldest, newest) in [(0, 0), (1, 5), (7, u16::MAX)] {
        assert_eq!(
            world.admit(&offering(oldest, newest)).await.err(),
            Some(none)
        );
    }
    assert_eq!(
        world.admit(&offering(3, 2)).await.err(),
        Some(Refusal::Malformed)
    );
}

#[tokio::test]
async fn a_ticket_ends_when_it_expires_and_only_its_holder_is_told() {
    let world = World::new();
    let state = world.service.state();
    let secret = state.issue(limited(Some(NOW + 60), None), NOW).unwrap();
    let session = world.admit(&hello(&secret, 1)).await.unwrap().session;
    let mount = Mount(Loopback::new(session));
    assert!(mount.getattr(node("")).await.is_ok());
    world.clock.advance(Duration::from_secs(60));
    assert_eq!(
        world.admit(&hello(&secret, 1)).await.err(),
        Some(Refusal::Expired)
    );
    assert_eq!(
        mount.getattr(node("")).await,
        Err(Fault::Denied),
        "the session ends too"
    );
    let mut guess = hello(&secret, 1);
    guess.proof.0[31] ^= 1;
    assert_eq!(
        world.admit(&guess).await.err(),
        Some(Refusal::UnknownTicket)
    );
    assert!(world.admit(&world.hello(1)).await.is_ok(), "others go on");
}

#[tokio::test]
async fn revoked_tickets_end_with_their_sessions() {
    let world = World::new();
    let mount = world.mount().await;
    mount.getattr(node("")).await.unwrap();
    world.service.state().revoke_all().unwrap();
    assert_eq!(mount.getattr(node("")).await, Err(Fault::Denied));
    assert_eq!(mount.list("").await.unwrap_err(), Fault::Denied);
    assert_eq!(
        world.admit(&world.hello(1)).await.err(),
        Some(Refusal::UnknownTicket)
    );
    let new = world
        .service
        .state()
        .issue(TicketLimits::default(), NOW)
        .unwrap();
    assert!(world.admit(&hello(&new, 1)).await.is_ok());
}

#[tokio::test]
async fn so_many_mounts_and_no_more() {
    let world = World::new();
    let two = world
        .service
        .state()
        .issue(limited(None, Some(2)), NOW)
        .unwrap();
    let admit = async |mount| world.admit(&hello(&two, mount)).await.map(|a| a.session);
    let (first, second) = (admit(1).await.unwrap(), admit(2).await.unwrap());
    assert_eq!(admit(3).await.err(), Some(Refusal::TooManyMounts));
    // A reconnect takes its own seat, whether or not the old session was found dead.
    let first_again = admit(1).await.unwrap();
    drop(first);
    drop(first_again);
    assert_eq!(
        admit(3).await.err(),
        Some(Refusal::TooManyMounts),
        "kept for its return"
    );
    let first = admit(1).await.unwrap();
    drop(first);
    world.clock.advance(Duration::from_secs(60));
    let third = admit(3).await.unwrap();
    assert_eq!(admit(1).await.err(), Some(Refusal::TooManyMounts));
    // A goodbye frees the seat at once.
    third.goodbye();
    drop(third);
    assert!(admit(4).await.is_ok());
    drop(second);
}

#[tokio::test]
async fn a_restarted_host_takes_its_mounts_back() {
    let world = World::new();
    world.write("f", "x");
    let (id, secret) = (world.service.id(), world.secret.clone());
    let before = world.mount().await.getattr(node("f")).await.unwrap();
    world.service.state().set_port(4433).unwrap();
    let world = world.restart();
    assert_eq!(world.secret, secret);
    let admission = world.admit(&hello(&secret, 1)).await.unwrap();
    assert_eq!(admission.welcome.share, id);
    assert_eq!(admission.welcome.epoch, Epoch(2));
    assert_eq!(world.service.state().port(), Some(4433));
    let after = world.mount().await.getattr(node("f")).await.unwrap();
    assert_eq!(after.id, before.id);
}

#[tokio::test]
async fn the_ticket_decides_which_share() {
    let world = World::new();
    world.write("here", "x");
    let other = world.add_share("other");
    let second = other.state().issue(TicketLimits::default(), NOW).unwrap();
    let session = world.admit(&hello(&second, 1)).await.unwrap().session;
    let mount = Mount(Loopback::new(session));
    assert_eq!(mount.getattr(node("here")).await, Err(Fault::NotFound));
    assert!(world.mount().await.getattr(node("here")).await.is_ok());
    let twice = Share::open(&world.at(""), Share::name_for(&world.at(""))).unwrap();
    let state = HostState::open(&world.outside("state")).unwrap();
    assert!(matches!(state.share(&twice), Err(StateError::InUse)));
}

#[tokio::test]
async fn sessions_are_bounded_and_leave_their_place() {
    let world = World::new();
    let mut sessions = Vec::new();
    for mount in 0..64 {
        sessions.push(world.session(mount).await);
    }
    assert_eq!(
        world.admit(&world.hello(99)).await.err(),
        Some(Refusal::Busy)
    );
    assert_eq!(world.gate.snapshot().sessions, 64);
    sessions.pop();
    assert!(world.admit(&world.hello(99)).await.is_ok());
    drop(sessions);
    assert_eq!(world.gate.snapshot().sessions, 0);
    assert!(world.sessions().is_empty());
}

#[tokio::test]
async fn a_closing_host_begins_nothing_more() {
    let world = World::new();
    let mount = world.mount().await;
    world.gate.close();
    assert_eq!(mount.getattr(node("")).await, Err(Fault::Closing));
    assert_eq!(
        world.admit(&world.hello(2)).await.err(),
        Some(Refusal::Busy)
    );
}

#[tokio::test]
async fn the_snapshot_tells_what_goes_on_and_no_secret() {
    let world = World::new();
    world.write("f", vec![1; 5000]);
    let state = world.service.state();
    state.issue(limited(Some(NOW + 5), Some(3)), NOW).unwrap();
    let mount = world.mount_as(0xab).await;
    mount.read(node("f"), 0, 5000).await.unwrap();
    mount.lookup("", "gone").await.unwrap_err();
    world.clock.advance(Duration::from_secs(9));
    let snapshot = world.gate.snapshot();
    let share = &snapshot.shares[0];
    assert_eq!(share.counters.requests["read"], 1);
    assert_eq!(share.counters.requests["lookup"], 1);
    assert_eq!(share.counters.faults["NotFound"], 1);
    assert_eq!(share.counters.payload_bytes, 5000);
    assert_eq!(share.counters.in_flight, 0);
    let session = &share.sessions[0];
    assert_eq!((&session.mount[..], session.since), ("abababab", NOW));
    assert_eq!(
        (session.requests, session.bytes, session.open_files),
        (2, 5000, 1)
    );
    assert!(share.tickets[0].default && share.tickets[1].expired);
    let json = serde_json::to_string(&snapshot).unwrap();
    let secret: String = world
        .secret
        .expose()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    assert!(!json.contains(&secret));
}

#[tokio::test]
async fn the_state_directory_cannot_be_hosted_itself() {
    let world = World::new();
    let state = HostState::open(&world.outside("state")).unwrap();
    for path in ["state", "state/shares"] {
        let path = world.outside(path);
        let share = Share::open(&path, Share::name_for(&path)).unwrap();
        let kept = state.share(&share).unwrap();
        assert!(world.gate.add_share(share, kept).is_err());
    }
}
