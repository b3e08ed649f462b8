//! The end that streams bytes: a host without files.

use super::figures::Samples;
use super::{BulkKey, ORDER_BYTES, Order, TRANSFER_MAX, WELCOME};
use crate::transport::tail::Tail;
use crate::transport::{ServerEndpoint, code};
use bytes::Bytes;
use quinn::{Connection, Incoming, RecvStream, SendStream, VarInt};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;
use wormhole_protocol::Proof;

/// Connections at once; more are refused.
const CONNECTIONS_MAX: usize = 16;
/// Streams of one connection at once: bulk, figures, and what is being torn down.
const STREAMS_MAX: u32 = 8;
/// Handshake and proof together.
const HELLO_MAX: Duration = Duration::from_secs(10);
/// A connection's whole life: the longest transfer and its figures.
const LIFE_MAX: Duration = TRANSFER_MAX.saturating_add(Duration::from_secs(60));
/// Between two looks at the path, at least.
const INTERVAL_MIN: Duration = Duration::from_millis(10);
/// Bytes handed to the transport at once, as a host does with what it reads.
const PIECE_BYTES: usize = 64 * 1024;
/// How long goodbyes may take.
const GRACE: Duration = Duration::from_secs(1);

/// Serves until `shutdown` resolves.
pub async fn serve(endpoint: ServerEndpoint, key: BulkKey, shutdown: impl Future<Output = ()>) {
    let source = Arc::new(Source {
        key,
        // What is in it does not matter: on the wire it is encrypted.
        piece: Bytes::from(vec![0; PIECE_BYTES]),
    });
    let mut tasks = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            incoming = endpoint.quinn().accept() => {
                let Some(incoming) = incoming else { break };
                if tasks.len() >= CONNECTIONS_MAX {
                    incoming.refuse();
                    continue;
                }
                let source = source.clone();
                tasks.spawn(async move { timeout(LIFE_MAX, source.attend(incoming)).await });
            }
            Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
        }
    }
    endpoint.quinn().close(code::DONE, b"the source ends");
    tasks.shutdown().await;
    let _ = timeout(GRACE, endpoint.quinn().wait_idle()).await;
}

struct Source {
    key: BulkKey,
    piece: Bytes,
}

impl Source {
    async fn attend(self: Arc<Self>, incoming: Incoming) {
        let Ok(connecting) = incoming.accept() else {
            return;
        };
        let entering = async {
            let connection = connecting.await.ok()?;
            let tail = Arc::new(Tail::follow(&connection));
            let entered = self.enter(&connection).await;
            Some((connection, entered, tail))
        };
        match timeout(HELLO_MAX, entering).await {
            Ok(Some((connection, Some(()), tail))) => self.run(&connection, tail).await,
            Ok(Some((connection, None, _))) => connection.close(code::REFUSED, b"wrong key"),
            Ok(None) | Err(_) => {}
        }
    }

    /// The proof. `None` if there was no good one.
    async fn enter(&self, connection: &Connection) -> Option<()> {
        let (mut send, mut recv) = connection.accept_bi().await.ok()?;
        let mut proof = [0; 32];
        recv.read_exact(&mut proof).await.ok()?;
        let (_, binding) = self.key.proof(connection)?;
        let secret = &self.key.secret;
        if !secret.verify(&binding, super::MOUNT, &Proof(proof)) {
            return None;
        }
        connection.set_max_concurrent_bi_streams(VarInt::from_u32(STREAMS_MAX));
        send.write_all(&[WELCOME]).await.ok()?;
        let _ = send.finish();
        Some(())
    }

    async fn run(self: Arc<Self>, connection: &Connection, tail: Arc<Tail>) {
        let samples = Arc::new(Samples::default());
        let mut orders = JoinSet::new();
        loop {
            tokio::select! {
                stream = connection.accept_bi() => {
                    let Ok((send, recv)) = stream else { break };
                    let (source, samples) = (self.clone(), samples.clone());
                    let (connection, tail) = (connection.clone(), tail.clone());
                    orders.spawn(async move {
                        source.answer(send, recv, &connection, &samples).await?;
                        tail.spoken();
                        Some(())
                    });
                }
                Some(_) = orders.join_next(), if !orders.is_empty() => {}
            }
        }
        orders.shutdown().await;
    }

    /// Serves one stream. `None` if it broke off, or was no order: the stream ends by being dropped.
    async fn answer(
        &self,
        mut send: SendStream,
        mut recv: RecvStream,
        connection: &Connection,
        samples: &Samples,
    ) -> Option<()> {
        let mut order = [0; ORDER_BYTES];
        recv.read_exact(&mut order).await.ok()?;
        match Order::from_bytes(order)? {
            Order::Bulk { interval_ms } => {
                let interval = Duration::from_millis(interval_ms.into()).max(INTERVAL_MIN);
                tokio::select! {
                    () = self.pour(&mut send) => {}
                    () = samples.take(connection, interval) => {}
                    () = tokio::time::sleep(TRANSFER_MAX) => {}
                }
                // Nothing of it is wanted any more, on the way or not.
                let _ = send.reset(code::DONE);
            }
            Order::Exchange { len_bytes } => {
                let len = usize::try_from(len_bytes).ok()?.min(PIECE_BYTES);
                send.write_chunk(self.piece.slice(..len)).await.ok()?;
                let _ = send.finish();
            }
            Order::Figures => {
                let figures = serde_json::to_vec(&samples.figures(connection)).ok()?;
                send.write_all(&figures).await.ok()?;
                let _ = send.finish();
            }
        }
        Some(())
    }

    /// Writes until nobody takes it.
    async fn pour(&self, send: &mut SendStream) {
        while send.write_chunk(self.piece.clone()).await.is_ok() {}
    }
}
