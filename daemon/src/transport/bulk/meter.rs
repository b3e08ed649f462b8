//! The end that counts: a mount without files.

use super::{BulkError, BulkKey, Order, SenderFigures, WELCOME};
use super::{EXCHANGE_BYTES_MAX, TRANSFER_MAX};
use crate::transport::identity::client_crypto;
use crate::transport::tail::Tail;
use crate::transport::{ClientEndpoint, code, tuning};
use quinn::{ClientConfig, Connection, ReadError, RecvStream};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout, timeout_at};

/// Handshake and proof together.
const CONNECT_MAX: Duration = Duration::from_secs(20);
/// For saying goodbye.
const GOODBYE_MAX: Duration = Duration::from_millis(100);
/// Between two entries of a timeline, at least, so that it stays short.
const INTERVAL_MIN: Duration = Duration::from_millis(10);
/// Longest figures; more are not read.
const FIGURES_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Pause after an exchange where the round-trip time says nothing useful.
const GAP_MIN: Duration = Duration::from_millis(1);
const GAP_MAX: Duration = Duration::from_secs(1);

/// What arrived of a transfer.
#[derive(Debug, Clone, PartialEq)]
pub struct Received {
    /// Payload bytes.
    pub bytes: u64,
    /// From the order to the last look.
    pub took: Duration,
    /// Time since the order, and bytes until then.
    pub timeline: Vec<(Duration, u64)>,
}

/// A connection to a source.
pub struct Meter {
    connection: Connection,
    tail: Tail,
    endpoint: ClientEndpoint,
}

impl Meter {
    /// Connects, and proves that it holds `key`.
    ///
    /// # Errors
    /// [`BulkError`].
    pub async fn connect(address: SocketAddr, key: &BulkKey) -> Result<Self, BulkError> {
        let endpoint = ClientEndpoint::bind()?;
        let connecting = async {
            let connection = handshake(&endpoint, address, key).await?;
            prove(&connection, key).await?;
            Ok::<_, BulkError>(connection)
        };
        let connection = timeout(CONNECT_MAX, connecting)
            .await
            .map_err(|_| BulkError::Lost("no answer in time".to_owned()))??;
        Ok(Self {
            tail: Tail::follow(&connection),
            connection,
            endpoint,
        })
    }

    /// Receives for `long`, at most [`TRANSFER_MAX`]; notes the count each `interval`.
    ///
    /// # Errors
    /// [`BulkError`].
    pub async fn receive(&self, long: Duration, interval: Duration) -> Result<Received, BulkError> {
        let interval = interval.max(INTERVAL_MIN);
        let interval_ms = u32::try_from(interval.as_millis()).unwrap_or(u32::MAX);
        let begun = Instant::now();
        let mut recv = self.order(Order::Bulk { interval_ms }).await?;
        let (mut bytes, mut timeline) = (0, vec![(Duration::ZERO, 0)]);
        let end = begun + long.min(TRANSFER_MAX);
        let mut next = begun + interval;
        loop {
            let until = next.min(end);
            // Whatever has arrived counts, in order or not: the link carried it.
            match timeout_at(until.into(), recv.read_chunk(usize::MAX, false)).await {
                Ok(Ok(Some(chunk))) => bytes += chunk.bytes.len() as u64,
                Ok(Ok(None)) => return Err(BulkError::Violation),
                Ok(Err(error)) => return Err(lost(&error)),
                Err(_) => {}
            }
            let now = Instant::now();
            if now >= until {
                timeline.push((now - begun, bytes));
                next += interval * intervals(now - next, interval);
            }
            if now >= end {
                break;
            }
        }
        let took = begun.elapsed();
        let _ = recv.stop(code::DONE);
        Ok(Received {
            bytes,
            took,
            timeline,
        })
    }

    /// Asks for `len_bytes` and waits for the last of them; then leaves the path idle for about a
    /// round trip. The time from asking to having.
    ///
    /// # Errors
    /// [`BulkError`].
    pub async fn exchange(&self, len_bytes: u32) -> Result<Duration, BulkError> {
        let len_bytes = len_bytes.min(EXCHANGE_BYTES_MAX);
        let begun = Instant::now();
        let mut recv = self.order(Order::Exchange { len_bytes }).await?;
        let answer = read_all(&mut recv, EXCHANGE_BYTES_MAX as usize).await?;
        let took = begun.elapsed();
        if answer.len() as u64 != u64::from(len_bytes) {
            return Err(BulkError::Violation);
        }
        sleep(self.min_rtt().clamp(GAP_MIN, GAP_MAX)).await;
        Ok(took)
    }

    /// What the source knows of the path.
    ///
    /// # Errors
    /// [`BulkError`].
    pub async fn figures(&self) -> Result<SenderFigures, BulkError> {
        let mut recv = self.order(Order::Figures).await?;
        let figures = read_all(&mut recv, FIGURES_BYTES_MAX).await?;
        serde_json::from_slice(&figures).map_err(|_| BulkError::Violation)
    }

    /// The lowest round-trip time this end saw.
    pub fn min_rtt(&self) -> Duration {
        self.connection.stats().path.min_rtt
    }

    /// Says goodbye.
    pub async fn close(self) {
        self.connection.close(code::DONE, b"");
        // The word is sent at once; quinn would go on to wait for stragglers.
        let _ = timeout(GOODBYE_MAX, self.endpoint.wait_idle()).await;
    }

    async fn order(&self, order: Order) -> Result<RecvStream, BulkError> {
        let opened = self.connection.open_bi().await;
        let (mut send, recv) = opened.map_err(|error| BulkError::Lost(error.to_string()))?;
        send.write_all(&order.to_bytes()).await?;
        let _ = send.finish();
        self.tail.spoken();
        Ok(recv)
    }
}

/// Whole intervals until the first one that has not passed by `late`.
fn intervals(late: Duration, interval: Duration) -> u32 {
    let passed = late.as_nanos() / interval.as_nanos().max(1);
    u32::try_from(passed).unwrap_or(u32::MAX - 1) + 1
}

async fn handshake(
    endpoint: &ClientEndpoint,
    address: SocketAddr,
    key: &BulkKey,
) -> Result<Connection, BulkError> {
    let endpoint = endpoint
        .quinn(&address)
        .ok_or_else(|| io::Error::other("this machine has no such kind of address"))?;
    let (crypto, mismatch) = client_crypto(key.host).map_err(io::Error::other)?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    config.transport_config(tuning::mount_transport());
    let connecting = endpoint
        .connect_with(config, address, "wormhole")
        .map_err(io::Error::other)?;
    connecting.await.map_err(|error| {
        if mismatch.load(SeqCst) {
            BulkError::WrongHost
        } else {
            BulkError::Lost(error.to_string())
        }
    })
}

async fn prove(connection: &Connection, key: &BulkKey) -> Result<(), BulkError> {
    let (proof, _) = key.proof(connection).ok_or(BulkError::Violation)?;
    let opened = connection.open_bi().await;
    let (mut send, mut recv) = opened.map_err(|error| BulkError::Lost(error.to_string()))?;
    send.write_all(&proof.0).await?;
    let _ = send.finish();
    let mut answer = [0];
    match recv.read_exact(&mut answer).await {
        Ok(()) if answer == [WELCOME] => Ok(()),
        // Refused: closed with a reason instead of a welcome.
        _ => Err(BulkError::Violation),
    }
}

async fn read_all(recv: &mut RecvStream, bytes_max: usize) -> Result<Vec<u8>, BulkError> {
    recv.read_to_end(bytes_max)
        .await
        .map_err(|error| match error {
            quinn::ReadToEndError::Read(error) => lost(&error),
            quinn::ReadToEndError::TooLong => BulkError::Violation,
        })
}

fn lost(error: &ReadError) -> BulkError {
    BulkError::Lost(error.to_string())
}
