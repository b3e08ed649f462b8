//! A source and a meter over loopback.

use super::*;
use crate::transport::{Identity, ServerEndpoint};
use std::net::SocketAddr;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

struct Running {
    address: SocketAddr,
    key: BulkKey,
    end: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

fn start() -> Running {
    let identity = Identity::ephemeral().unwrap();
    let key = BulkKey::generate(identity.host_key()).unwrap();
    let endpoint = ServerEndpoint::bind("127.0.0.1:0".parse().unwrap(), &identity).unwrap();
    let address = endpoint.local_addr().unwrap();
    let (end, ended) = oneshot::channel();
    let serving = serve(endpoint, key.clone(), async {
        let _ = ended.await;
    });
    Running {
        address,
        key,
        end,
        task: tokio::spawn(serving),
    }
}

#[tokio::test]
async fn a_transfer_is_counted_at_both_ends() {
    let running = start();
    let meter = Meter::connect(running.address, &running.key).await.unwrap();
    let (long, interval) = (Duration::from_millis(300), Duration::from_millis(50));
    let received = meter.receive(long, interval).await.unwrap();
    assert!(received.bytes > 0 && received.took >= long);
    assert!(received.timeline.len() >= 2, "{:?}", received.timeline);
    assert_eq!(
        received.timeline.last().map(|(_, b)| *b),
        Some(received.bytes)
    );
    assert!(
        received
            .timeline
            .windows(2)
            .all(|w| w[0].0 < w[1].0 && w[0].1 <= w[1].1)
    );
    let sender = meter.figures().await.unwrap();
    assert_eq!(sender.controller, "steady");
    assert!(sender.sent_bytes > received.bytes, "{sender:?}");
    assert!(!sender.samples.is_empty());
    meter.close().await;
    running.end.send(()).unwrap();
    running.task.await.unwrap();
}

#[tokio::test]
async fn exchanges_are_answered_in_full() {
    let running = start();
    let meter = Meter::connect(running.address, &running.key).await.unwrap();
    for len in [0, 4096, EXCHANGE_BYTES_MAX] {
        assert!(meter.exchange(len).await.unwrap() > Duration::ZERO);
    }
}

#[tokio::test]
async fn without_the_key_nobody_gets_in() {
    let running = start();
    let other = BulkKey::generate(running.key.host).unwrap();
    let refused = Meter::connect(running.address, &other).await;
    assert!(matches!(refused.err(), Some(BulkError::Violation)));
    let stranger = Identity::ephemeral().unwrap();
    let stranger = BulkKey::generate(stranger.host_key()).unwrap();
    let refused = Meter::connect(running.address, &stranger).await;
    assert!(matches!(refused.err(), Some(BulkError::WrongHost)));
    assert!(Meter::connect(running.address, &running.key).await.is_ok());
}

#[test]
fn keys_and_orders_read_back() {
    let key = BulkKey::generate(HostKey([7; 32])).unwrap();
    let read: BulkKey = key.to_string().parse().unwrap();
    assert_eq!(read.to_string(), key.to_string());
    assert!(!format!("{key:?}").contains(&key.to_string()[64..]));
    for wrong in ["", "00", &"g".repeat(96), &"é".repeat(48), &"0".repeat(98)] {
        assert!(wrong.parse::<BulkKey>().is_err(), "{wrong}");
    }
    for order in [
        Order::Bulk { interval_ms: 100 },
        Order::Exchange { len_bytes: 4096 },
        Order::Figures,
    ] {
        assert_eq!(Order::from_bytes(order.to_bytes()), Some(order));
    }
    let too_long = Order::Exchange {
        len_bytes: EXCHANGE_BYTES_MAX + 1,
    };
    assert_eq!(Order::from_bytes(too_long.to_bytes()), None);
    assert_eq!(Order::from_bytes([9, 0, 0, 0, 0]), None);
}
