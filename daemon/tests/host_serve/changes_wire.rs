//! Requests over QUIC: what many bytes behind them do to a connection, and what an answered one leaves behind.

use crate::changes::{ROOT, WRITABLE, asking, creating, writing};
use crate::world::{World, node};
use bytes::Bytes;
use futures_util::future::join_all;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::time::timeout;
use wormhole::host::ShareRules;
use wormhole::rpc::{Body, CallError, Remote};
use wormhole::transport::server::{self, ServerStats};
use wormhole::transport::{Dialer, Identity, QuicRemote, ServerEndpoint};
use wormhole_protocol::{ByteRange, Fault, MountId, ReadUrgency, Reply, Request, Ticket};

const SEGMENT_BYTES: usize = 1 << 20;

struct Wire {
    world: World,
    stats: Arc<ServerStats>,
    remote: QuicRemote,
}

/// A share behind a socket, and a mount of it.
async fn wire(rules: ShareRules) -> Wire {
    let world = World::with(rules);
    let identity = Identity::ephemeral().unwrap();
    let endpoint = ServerEndpoint::bind("127.0.0.1:0".parse().unwrap(), &identity).unwrap();
    let ticket = Ticket {
        host: identity.host_key(),
        secret: world.secret.clone(),
        addresses: vec![endpoint.local_addr().unwrap()],
    };
    let stats = Arc::<ServerStats>::default();
    let never = std::future::pending();
    tokio::spawn(server::serve(
        endpoint,
        world.gate.clone(),
        stats.clone(),
        never,
    ));
    let dialer = Dialer::new(ticket, MountId([1; 16])).unwrap();
    let (remote, _) = dialer.dial().await.unwrap();
    Wire {
        world,
        stats,
        remote,
    }
}

fn segment(number: u64) -> (Request, Body) {
    let byte = u8::try_from(number % 251).unwrap();
    let bytes = Bytes::from(vec![byte; SEGMENT_BYTES]);
    let change = writing(1, number * SEGMENT_BYTES as u64, &bytes);
    (asking(ROOT, change), Body::from(bytes))
}

/// Far more at once than windows and memory hold: all arrives, and small requests are answered meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writes_at_once_all_arrive_and_let_small_requests_pass() {
    let wire = wire(WRITABLE).await;
    let create = asking(ROOT, creating("", "f", 0o644, 1));
    wire.remote.call(create).await.unwrap();
    let uploads = join_all((0..150).map(|number| {
        let (request, body) = segment(number);
        wire.remote.call_with(request, body)
    }));
    let asked = async {
        let mut slowest = Duration::ZERO;
        for _ in 0..20 {
            let began = Instant::now();
            let look = Request::Getattr { node: node("") };
            wire.remote.call(look).await.unwrap();
            slowest = slowest.max(began.elapsed());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        slowest
    };
    let both = async { tokio::join!(uploads, asked) };
    let (written, slowest) = timeout(Duration::from_secs(60), both).await.unwrap();
    for answer in written {
        assert!(matches!(answer.map(|a| a.reply), Ok(Reply::Attr(_))));
    }
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    let bytes = fs::read(wire.world.at("f")).unwrap();
    assert_eq!(bytes.len(), 150 * SEGMENT_BYTES);
    for (number, segment) in (0_u64..).zip(bytes.chunks(SEGMENT_BYTES)) {
        assert!(segment.iter().all(|b| u64::from(*b) == number % 251));
    }
    let sessions = wire.world.sessions();
    assert_eq!(sessions[0].buffer_bytes, 0, "all memory was given back");
    assert_eq!(sessions[0].received, bytes.len() as u64);
    assert_eq!((sessions[0].writes, sessions[0].held_opens), (true, 1));
}

/// A host that refuses does not wait for the bytes.
#[tokio::test]
async fn a_reader_is_refused_before_its_bytes_have_come() {
    let wire = wire(ShareRules::default()).await;
    for number in 0..40 {
        let (request, body) = segment(number);
        let refused = wire.remote.call_with(request, body).await;
        let Err(CallError::Fault(fault)) = refused.map(|a| a.reply) else {
            panic!("it was not refused")
        };
        assert_eq!(fault, Fault::ReadOnly);
    }
    let look = Request::Getattr { node: node("") };
    assert!(wire.remote.call(look).await.is_ok());
}

#[tokio::test]
async fn more_bytes_than_announced_end_the_connection() {
    let wire = wire(WRITABLE).await;
    let create = asking(ROOT, creating("", "f", 0o644, 1));
    wire.remote.call(create).await.unwrap();
    let short = Body::from(Bytes::from_static(b"123"));
    let request = || asking(ROOT, writing(1, 0, b"12345678"));
    let refused = wire.remote.call_with(request(), short).await;
    let fault = refused.map(|a| a.reply).unwrap_err();
    assert_eq!(fault, CallError::Fault(Fault::Invalid));
    let long = Body::from(Bytes::from_static(b"123456789"));
    assert!(wire.remote.call_with(request(), long).await.is_err());
    timeout(Duration::from_secs(10), wire.remote.closed())
        .await
        .unwrap();
    assert_eq!(wire.stats.snapshot().violations, 1);
    assert_eq!(fs::metadata(wire.world.at("f")).unwrap().len(), 0);
}

fn reading(len: u64) -> Request {
    Request::Read {
        node: node("f"),
        range: ByteRange::new(0, len).unwrap(),
        urgency: ReadUrgency::Demand,
    }
}

/// A stream whose end nobody has seen is stopped, by a packet of its own.
#[tokio::test]
async fn streams_that_were_read_to_their_end_are_not_stopped() {
    let wire = wire(WRITABLE).await;
    fs::write(wire.world.at("f"), vec![7; 4096]).unwrap();
    let stops = |wire: &Wire| {
        let snapshot = wire.remote.snapshot();
        (snapshot.stops_out, snapshot.stops_in)
    };
    for number in 0..50 {
        let look = Request::Getattr { node: node("f") };
        wire.remote.call(look).await.unwrap();
        let mut payload = wire.remote.call(reading(4096)).await.unwrap().payload;
        payload.read_exact(&mut [0; 4096]).await.unwrap();
        let list = Request::List {
            dir: node(""),
            known: None,
        };
        let mut payload = wire.remote.call(list).await.unwrap().payload;
        payload.read_to_end(&mut Vec::new()).await.unwrap();
        let name = format!("f{number}");
        let create = asking(ROOT, creating("", &name, 0o644, number + 1));
        wire.remote.call(create).await.unwrap();
    }
    assert_eq!(stops(&wire), (0, 0));

    drop(wire.remote.call(reading(4096)).await.unwrap().payload);
    let look = Request::Getattr { node: node("f") };
    wire.remote.call(look).await.unwrap();
    assert_eq!(
        stops(&wire),
        (1, 0),
        "what is not wanted any more is stopped"
    );
}
