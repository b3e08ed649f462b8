//! The attacks, one test each.

use super::raw::{endpoint, every_request, read_request};
use super::*;
use std::time::Duration;
use wormhole_protocol::codec::Wire;

/// The same every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % below.max(1)
    }

    /// Random bytes, or a valid frame with something wrong.
    fn frame(&mut self, valid: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = valid[self.roll(valid.len())].clone();
        match self.roll(5) {
            0 => {
                let len = self.roll(300);
                (0..len).map(|_| self.roll(256) as u8).collect()
            }
            1 => {
                bytes.truncate(self.roll(bytes.len()));
                bytes
            }
            2 => {
                for _ in 0..=self.roll(4) {
                    let at = self.roll(bytes.len());
                    bytes[at] ^= 1 << self.roll(8);
                }
                bytes
            }
            3 => {
                bytes.extend((0..self.roll(64)).map(|i| i as u8));
                bytes
            }
            _ => {
                let prefix = [0, 1, 1 << 16, i32::MAX as u32, u32::MAX][self.roll(5)];
                bytes[..4].copy_from_slice(&prefix.to_le_bytes());
                bytes
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_expired_and_foreign_tickets_are_told_apart() {
    let mut victim = Victim::start(&[]);
    let mut wrong = victim.ticket.clone();
    wrong.secret = Secret::from_bytes([7; 16]);
    let told =
        |result: Result<(QuicRemote, Welcome), ConnectError>| result.map(|_| ()).unwrap_err();
    assert_eq!(told(dial(&wrong).await), ConnectError::UnknownTicket);
    let mut foreign = victim.ticket.clone();
    foreign.host = HostKey([3; 32]);
    assert_eq!(told(dial(&foreign).await), ConnectError::WrongHost);
    victim.is_well().await;
    // However slow the machine, it lets in until its time is over and says so from then on.
    let mut brief = Victim::start(&["--expires", "1s"]);
    loop {
        match brief.dial().await {
            Ok(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            Err(error) => break assert_eq!(error, ConnectError::Expired),
        }
    }
    assert!(brief.child.try_wait().unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_is_worth_nothing_on_another_connection() {
    let mut victim = Victim::start(&[]);
    let (one, other) = (victim.raw().await, victim.raw().await);
    let reply = other.greet(&one.hello()).await;
    assert_eq!(reply, Some(HelloReply::Refused(Refusal::UnknownTicket)));
    let mut mutated = one.hello();
    mutated.proof.0[31] ^= 1;
    let reply = one.greet(&mutated).await;
    assert_eq!(reply, Some(HelloReply::Refused(Refusal::UnknownTicket)));
    victim.is_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_answered_before_the_hello() {
    let mut victim = Victim::start(&[]);
    for request in every_request() {
        let raw = victim.raw().await;
        let reply = match raw.say(&request.to_frame().unwrap()).await {
            Some(mut recv) => recv.read_to_end(1 << 20).await.unwrap_or_default(),
            None => Vec::new(),
        };
        // Nothing, or a refusal that says nothing.
        if let Some(body) = reply.get(4..) {
            let refused = HelloReply::from_body(body).unwrap();
            assert_eq!(
                refused,
                HelloReply::Refused(Refusal::Malformed),
                "{request:?}"
            );
        }
    }
    // A second stream does not open before the hello was answered.
    let raw = victim.raw().await;
    let _first = raw.open().await.unwrap();
    let second = tokio::time::timeout(Duration::from_millis(300), raw.open()).await;
    assert!(second.is_err(), "a second stream before the hello");
    victim.is_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_protocols_are_turned_away_in_the_handshake() {
    let mut victim = Victim::start(&[]);
    for alpn in [&b"h3"[..], b"wormhole/0", b"wormhole/2", b"x"] {
        let endpoint = endpoint(alpn, 1 << 20);
        let connecting = endpoint.connect(victim.ticket.addresses[0], "x").unwrap();
        assert!(connecting.await.is_err());
    }
    let raw = victim.raw().await;
    let mut hello = raw.hello();
    (hello.oldest, hello.newest) = (900, 901);
    let reply = raw.greet(&hello).await;
    assert!(matches!(
        reply,
        Some(HelloReply::Refused(Refusal::Version { .. }))
    ));
    victim.is_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_half_open_connections_keep_nobody_out() {
    let mut victim = Victim::start(&[]);
    let (remote, welcome) = victim.dial().await.unwrap();
    let attacker = endpoint(version::ALPN, 1 << 20);
    let mut idle = Vec::new();
    for _ in 0..1000 {
        // A handshake begun; nobody waits for its end, and no hello follows.
        idle.push(attacker.connect(victim.ticket.addresses[0], "x").unwrap());
        if idle.len() % 100 == 0 {
            behaves(&remote, &welcome).await;
        }
    }
    behaves(&remote, &welcome).await;
    drop(idle);
    attacker.close(0u32.into(), b"");
    attacker.wait_idle().await;
    // Those of one address make room within the host's patience with them.
    let mut again = victim.dial().await;
    for _ in 0..50 {
        if again.is_ok() {
            break;
        }
        again = victim.dial().await;
    }
    assert!(again.is_ok());
    victim.is_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_mutated_hellos() {
    let mut victim = Victim::start(&[]);
    let (remote, welcome) = victim.dial().await.unwrap();
    let mut dice = Dice(0x1234_5678_9abc_def1);
    let mut sent = 0;
    while sent < 10_000 {
        let endpoint = endpoint(version::ALPN, 1 << 20);
        // The stream a hello is expected on takes one frame a connection; the rest of what is sent on
        // it must be as harmless.
        for _ in 0..50 {
            let Ok(connection) = endpoint
                .connect(victim.ticket.addresses[0], "x")
                .unwrap()
                .await
            else {
                continue;
            };
            let valid = vec![random_hello(&mut dice).to_frame().unwrap()];
            if let Ok((mut send, _recv)) = connection.open_bi().await {
                for _ in 0..20 {
                    let frame = dice.frame(&valid);
                    sent += 1;
                    if send.write_all(&frame).await.is_err() {
                        break;
                    }
                }
                let _ = send.finish();
            }
            connection.close(0u32.into(), b"");
        }
        behaves(&remote, &welcome).await;
    }
    victim.is_well().await;
}

fn random_hello(dice: &mut Dice) -> Hello {
    Hello {
        oldest: dice.roll(3) as u16,
        newest: dice.roll(1000) as u16,
        features: Features(dice.roll(usize::MAX) as u64),
        ticket: TicketId([dice.roll(256) as u8; 8]),
        proof: Proof([dice.roll(256) as u8; 32]),
        mount: MountId([dice.roll(256) as u8; 16]),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_mutated_requests() {
    let mut victim = Victim::start(&[]);
    let (remote, welcome) = victim.dial().await.unwrap();
    let valid: Vec<_> = every_request()
        .iter()
        .map(|request| request.to_frame().unwrap())
        .collect();
    let mut dice = Dice(0xfeed_beef_1234_5679);
    let mut sent = 0;
    let mut raw = victim.raw().await.enter().await;
    while sent < 10_000 {
        let frame = dice.frame(&valid);
        sent += 1;
        // A malformed one ends the session; the next comes in a new one.
        match raw.say(&frame).await {
            Some(mut recv) => drop(recv.read_to_end(1 << 20).await),
            None => {
                raw.endpoint.close(0u32.into(), b"");
                raw = victim.raw().await.enter().await;
            }
        }
        if sent % 1000 == 0 {
            behaves(&remote, &welcome).await;
        }
    }
    victim.is_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_opens_streams_and_never_reads_starves_nobody() {
    let mut victim = Victim::start(&[]);
    let (remote, welcome) = victim.dial().await.unwrap();
    // Wide open windows that are never drained, and closed ones.
    for window in [1 << 30, 4096] {
        let raw = raw::Raw::with_window(&victim.ticket, window)
            .await
            .enter()
            .await;
        let frame = read_request("large", limits::READ_BYTES_MAX)
            .to_frame()
            .unwrap();
        let mut held = Vec::new();
        for _ in 0..200 {
            let said = tokio::time::timeout(Duration::from_secs(2), raw.say(&frame)).await;
            match said {
                Ok(Some(recv)) => held.push(recv),
                _ => break,
            }
        }
        assert!(held.len() > 10);
        for _ in 0..20 {
            behaves(&remote, &welcome).await;
        }
        assert!(victim.resident_kib() < RESIDENT_KIB_MAX);
    }
    victim.is_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unfinished_request_frames_hold_nobody_up() {
    let mut victim = Victim::start(&[]);
    let (remote, welcome) = victim.dial().await.unwrap();
    let raw = victim.raw().await.enter().await;
    let mut held = Vec::new();
    for _ in 0..250 {
        let Some((mut send, recv)) = raw.open().await else {
            break;
        };
        // The longest frame there is, less its last byte.
        let mut frame = vec![0; limits::REQUEST_BYTES_MAX + 3];
        frame[..4].copy_from_slice(&(limits::REQUEST_BYTES_MAX as u32).to_le_bytes());
        send.write_all(&frame).await.unwrap();
        held.push((send, recv));
    }
    behaves(&remote, &welcome).await;
    victim.is_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_opened_and_reset_for_ever_cost_nobody_else() {
    let mut victim = Victim::start(&[]);
    let (remote, welcome) = victim.dial().await.unwrap();
    let raw = victim.raw().await.enter().await;
    let frame = read_request("large", 1 << 20).to_frame().unwrap();
    for turn in 0..5000 {
        let Some((mut send, mut recv)) = raw.open().await else {
            break;
        };
        let _ = send.write_all(&frame).await;
        let _ = send.reset(0u32.into());
        let _ = recv.stop(0u32.into());
        if turn % 500 == 0 {
            behaves(&remote, &welcome).await;
        }
    }
    victim.is_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_killed_and_restarted_tells_old_connections_at_once() {
    let mut victim = Victim::start(&[]);
    let (remote, welcome) = victim.dial().await.unwrap();
    behaves(&remote, &welcome).await;
    victim.child.kill().unwrap();
    victim.child.wait().unwrap();
    let address = victim.ticket.addresses[0].to_string();
    let (child, ticket) = host(
        &victim.dir.path().join("share"),
        &victim.dir.path().join("state"),
        &address,
        &[],
    );
    victim.child = child;
    assert_eq!(
        ticket.to_string(),
        victim.ticket.to_string(),
        "the ticket stays good"
    );
    // The first packet of the old connection is answered by a stateless reset, long before the idle
    // timeout of 12 s would notice.
    let lost = remote.call(Request::StatFs);
    let lost = tokio::time::timeout(Duration::from_secs(8), lost).await;
    assert!(lost.expect("noticed by reset, not by silence").is_err());
    victim.is_well().await;
}
