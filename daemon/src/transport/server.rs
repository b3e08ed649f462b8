//! Letting mounts in, and running their requests.
//!
//! Life of a connection: accepted within bounds, a handshake and a hello within [`HELLO_MAX`], then one
//! task for each stream until the connection ends. Before it was let in a peer has one stream, may send
//! one small frame, and learns nothing. Every task is owned by its connection's, and that by
//! [`serve`], which waits for all at the end.

mod stream;

use super::code;
use super::endpoint::ServerEndpoint;
use super::frame::read_frame;
use super::tail::Tail;
use super::tuning;
use crate::rpc::{Gate, Serve};
use parking_lot::Mutex;
use quinn::{Connection, ConnectionError, Incoming};
use serde::Serialize;
use std::collections::HashMap;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use wormhole_protocol::codec::Wire;
use wormhole_protocol::ticket::EXPORTER_LABEL;
use wormhole_protocol::{Hello, HelloReply, Refusal};

/// Handshake and hello together.
const HELLO_MAX: Duration = Duration::from_secs(5);
/// Connections that were not let in yet, in all and from one address.
const KNOCKING_MAX: usize = 64;
const KNOCKING_MAX_PER_ADDRESS: usize = 16;
/// From so many on, an address must prove that it receives what is sent to it (RFC 9000 section 8.1).
const KNOCKING_CALM: usize = 16;
/// Connections in all.
const CONNECTIONS_MAX: usize = 256;
/// How long running requests may go on once the host ends.
const GRACE: Duration = Duration::from_secs(1);

/// What the doorstep counts.
#[derive(Default)]
pub struct ServerStats {
    accepted: AtomicU64,
    refused: AtomicU64,
    admitted: AtomicU64,
    violations: AtomicU64,
    /// Connections that were let in and live, by quinn's number; bounded by [`CONNECTIONS_MAX`].
    peers: Mutex<HashMap<usize, Connection>>,
}

/// The figures at one moment.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ServerSnapshot {
    /// Connections that were looked at.
    pub accepted: u64,
    /// Turned away: too many, too slow, or a wrong hello.
    pub refused: u64,
    /// Let in.
    pub admitted: u64,
    /// Closed for breaking the protocol.
    pub violations: u64,
    /// Connections that live, in the order of their addresses.
    pub peers: Vec<PeerSnapshot>,
}

/// A connection at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PeerSnapshot {
    /// The other end.
    pub address: SocketAddr,
    /// Smoothed round-trip time.
    pub rtt_us: u64,
    /// UDP bytes received.
    pub wire_bytes_in: u64,
    /// UDP bytes sent.
    pub wire_bytes_out: u64,
    /// Packets of ours that were lost.
    pub lost_packets: u64,
}

impl ServerStats {
    /// The figures now.
    pub fn snapshot(&self) -> ServerSnapshot {
        ServerSnapshot {
            accepted: self.accepted.load(Relaxed),
            refused: self.refused.load(Relaxed),
            admitted: self.admitted.load(Relaxed),
            violations: self.violations.load(Relaxed),
            peers: self.peers(),
        }
    }

    fn peers(&self) -> Vec<PeerSnapshot> {
        let connections: Vec<_> = self.peers.lock().values().cloned().collect();
        let mut peers: Vec<_> = connections.iter().map(peer).collect();
        peers.sort_by_key(|peer| peer.address);
        peers
    }

    /// Lists a connection until the guard goes.
    fn list(&self, connection: &Connection) -> Listed<'_> {
        let key = connection.stable_id();
        self.peers.lock().insert(key, connection.clone());
        Listed { stats: self, key }
    }
}

fn peer(connection: &Connection) -> PeerSnapshot {
    let stats = connection.stats();
    PeerSnapshot {
        address: connection.remote_address(),
        rtt_us: u64::try_from(stats.path.rtt.as_micros()).unwrap_or(u64::MAX),
        wire_bytes_in: stats.udp_rx.bytes,
        wire_bytes_out: stats.udp_tx.bytes,
        lost_packets: stats.path.lost_packets,
    }
}

/// A connection that is shown.
struct Listed<'a> {
    stats: &'a ServerStats,
    key: usize,
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        self.stats.peers.lock().remove(&self.key);
    }
}

/// Serves until `shutdown` resolves; then says goodbye to every mount and waits for what is running.
pub async fn serve(
    endpoint: ServerEndpoint,
    gate: Arc<dyn Gate>,
    stats: Arc<ServerStats>,
    shutdown: impl Future<Output = ()>,
) {
    let doorstep = Arc::new(Doorstep {
        gate,
        stats,
        knocking: Arc::new(Semaphore::new(KNOCKING_MAX)),
        connections: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        addresses: Mutex::default(),
    });
    let (closing, watch_closing) = watch::channel(false);
    let mut tasks = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            incoming = endpoint.quinn().accept() => {
                let Some(incoming) = incoming else { break };
                if let Some((incoming, places)) = doorstep.place(incoming) {
                    let doorstep = doorstep.clone();
                    let closing = watch_closing.clone();
                    tasks.spawn(async move { doorstep.attend(incoming, places, closing).await });
                }
            }
            Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
        }
    }
    closing.send_replace(true);
    let ended = async { while tasks.join_next().await.is_some() {} };
    if timeout(2 * GRACE, ended).await.is_err() {
        tasks.shutdown().await;
    }
    endpoint.quinn().close(code::DONE, b"the host ends");
    let _ = timeout(GRACE, endpoint.quinn().wait_idle()).await;
}

struct Doorstep {
    gate: Arc<dyn Gate>,
    stats: Arc<ServerStats>,
    knocking: Arc<Semaphore>,
    connections: Arc<Semaphore>,
    /// Connections not let in yet, by address.
    addresses: Mutex<HashMap<IpAddr, usize>>,
}

/// What a connection takes up.
struct Places {
    knocking: Knocking,
    connection: OwnedSemaphorePermit,
}

struct Knocking {
    doorstep: Arc<Doorstep>,
    address: IpAddr,
    _place: OwnedSemaphorePermit,
}

impl Drop for Knocking {
    fn drop(&mut self) {
        let mut addresses = self.doorstep.addresses.lock();
        if let Some(count) = addresses.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                addresses.remove(&self.address);
            }
        }
    }
}

impl Doorstep {
    /// Finds a place for a connection, or turns it away.
    fn place(self: &Arc<Self>, incoming: Incoming) -> Option<(Incoming, Places)> {
        let taken = KNOCKING_MAX - self.knocking.available_permits();
        if taken >= KNOCKING_CALM && !incoming.remote_address_validated() && incoming.may_retry() {
            // Costs us one packet and no memory; a forged address never comes back.
            let _ = incoming.retry();
            return None;
        }
        let address = incoming.remote_address().ip();
        let places = self.take_places(address);
        if places.is_none() {
            self.stats.refused.fetch_add(1, Relaxed);
            incoming.refuse();
            return None;
        }
        places.map(|places| (incoming, places))
    }

    fn take_places(self: &Arc<Self>, address: IpAddr) -> Option<Places> {
        let connection = self.connections.clone().try_acquire_owned().ok()?;
        let place = self.knocking.clone().try_acquire_owned().ok()?;
        let mut addresses = self.addresses.lock();
        let count = addresses.entry(address).or_default();
        if *count >= KNOCKING_MAX_PER_ADDRESS {
            return None;
        }
        *count += 1;
        Some(Places {
            knocking: Knocking {
                doorstep: self.clone(),
                address,
                _place: place,
            },
            connection,
        })
    }

    async fn attend(&self, incoming: Incoming, places: Places, closing: watch::Receiver<bool>) {
        self.stats.accepted.fetch_add(1, Relaxed);
        let Places {
            knocking,
            connection: _held,
        } = places;
        let Ok(connecting) = incoming.accept() else {
            return;
        };
        let entering = async {
            let connection = connecting.await.ok()?;
            // From now on, so that nobody piles up datagrams before he was let in.
            let tail = Arc::new(Tail::follow(&connection));
            let session = self.enter(&connection).await;
            Some((connection, session, tail))
        };
        let Ok(entered) = timeout(HELLO_MAX, entering).await else {
            // Dropping the connection's last handle closes it.
            self.stats.refused.fetch_add(1, Relaxed);
            return;
        };
        let Some((connection, session, tail)) = entered else {
            self.stats.refused.fetch_add(1, Relaxed);
            return;
        };
        drop(knocking);
        match session {
            Some(session) => {
                self.stats.admitted.fetch_add(1, Relaxed);
                let _listed = self.stats.list(&connection);
                self.run(&connection, session, tail, closing).await;
            }
            None => {
                self.stats.refused.fetch_add(1, Relaxed);
                // The refusal is on its way; the mount closes when it has read it.
                let _ = timeout(HELLO_MAX, connection.closed()).await;
                connection.close(code::REFUSED, b"");
            }
        }
    }

    /// The hello. `None` if the peer was not let in.
    async fn enter(&self, connection: &Connection) -> Option<Arc<dyn Serve>> {
        let (mut send, recv) = connection.accept_bi().await.ok()?;
        let mut binding = [0; 32];
        connection
            .export_keying_material(&mut binding, EXPORTER_LABEL, &[])
            .ok()?;
        let admitted = match read_frame::<Hello>(&mut recv.into()).await {
            Ok(hello) => self.gate.admit(&hello, &binding).await,
            Err(_) => Err(Refusal::Malformed),
        };
        let (reply, session) = match admitted {
            Ok(admission) => {
                let writes = admission.welcome.access.writes();
                connection.set_receive_window(tuning::admitted_bytes(writes));
                connection.set_max_concurrent_bi_streams(tuning::admitted_streams());
                let reply = HelloReply::Welcome(admission.welcome);
                (reply, Some(admission.session))
            }
            Err(refusal) => (HelloReply::Refused(refusal), None),
        };
        send.write_all(&reply.to_frame().ok()?).await.ok()?;
        let _ = send.finish();
        session
    }

    /// Runs the requests of a session until its connection ends or the host does.
    async fn run(
        &self,
        connection: &Connection,
        session: Arc<dyn Serve>,
        tail: Arc<Tail>,
        mut closing: watch::Receiver<bool>,
    ) {
        let mut requests = JoinSet::new();
        loop {
            tokio::select! {
                () = host_closing(&mut closing) => {
                    let ended = async { while requests.join_next().await.is_some() {} };
                    let _ = timeout(GRACE, ended).await;
                    connection.close(code::DONE, b"the host ends");
                    break;
                }
                stream = connection.accept_bi() => {
                    let Ok((send, recv)) = stream else { break };
                    let (session, tail) = (session.clone(), tail.clone());
                    requests.spawn(stream::run(send, recv.into(), session, tail));
                }
                Some(ended) = requests.join_next(), if !requests.is_empty() => {
                    if matches!(ended, Ok(Err(stream::Violation))) {
                        self.stats.violations.fetch_add(1, Relaxed);
                        connection.close(code::VIOLATION, b"malformed request");
                        break;
                    }
                }
            }
        }
        // A mount that leaves on purpose says so with its code; whoever takes its place does not wait for what it
        // left behind.
        if let Some(ConnectionError::ApplicationClosed(close)) = connection.close_reason()
            && close.error_code == code::DONE
        {
            session.goodbye();
        }
        requests.shutdown().await;
    }
}

async fn host_closing(closing: &mut watch::Receiver<bool>) {
    // An error means that `serve` is gone, which is the end as well.
    let _ = closing.wait_for(|closing| *closing).await;
}
