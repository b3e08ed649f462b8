//! Finding a host by its ticket: races the addresses, pins the key, proves the secret.

use super::code;
use super::endpoint::ClientEndpoint;
use super::frame::{FrameError, read_frame};
use super::identity::client_crypto;
use super::remote::QuicRemote;
use super::tuning;
use crate::rpc::{Connect, ConnectFailure, Remote};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use quinn::{ClientConfig, Connection};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use wormhole_protocol::codec::Wire;
use wormhole_protocol::ticket::EXPORTER_LABEL;
use wormhole_protocol::{
    Features, Hello, HelloReply, MountId, Refusal, ShareId, Ticket, Welcome, WireVersion,
};

/// Between the starts of attempts at different addresses (RFC 8305 calls it connection attempt delay).
const STAGGER: Duration = Duration::from_millis(150);
/// For the word that a mount leaves to be sent.
const GOODBYE_MAX: Duration = Duration::from_millis(100);
/// One attempt, hello included.
const ATTEMPT_MAX: Duration = Duration::from_secs(10);

/// Why there is no session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// No address of the ticket answered.
    #[error(
        "no answer from the host at {addresses}: {last}. Is `wormhole host` running there, and does a firewall let UDP through?"
    )]
    Unreachable {
        /// What was tried.
        addresses: String,
        /// What the last attempt said.
        last: String,
    },
    /// Another host answered.
    #[error(
        "wrong host: what answered at the ticket's address is not the host that issued the ticket. Get a new ticket from the host, and do not trust the network between"
    )]
    WrongHost,
    /// The host does not know the ticket.
    #[error(
        "wrong ticket: the host does not know it. It may have been revoked, or belong to another share; get a new one from `wormhole host`"
    )]
    UnknownTicket,
    /// The ticket was good once.
    #[error("the ticket has expired: get a new one from `wormhole host`")]
    Expired,
    /// As many mounts as the ticket allows.
    #[error(
        "the ticket is in use by as many mounts as it allows: unmount one, or get another ticket"
    )]
    TooManyMounts,
    /// No common version.
    #[error(
        "the host speaks Wormhole protocol {oldest} to {newest}, which this version does not: update the older of the two"
    )]
    Version {
        /// Oldest the host speaks.
        oldest: u16,
        /// Newest the host speaks.
        newest: u16,
    },
    /// The host has no room.
    #[error(
        "the host is busy: it serves as many mounts as it can, or is being asked with wrong tickets; try again later"
    )]
    Busy,
    /// The host said nonsense.
    #[error("what answered does not speak Wormhole's protocol properly")]
    Violation,
    /// This machine cannot make connections.
    #[error("cannot open a UDP socket: {0}")]
    Local(String),
}

impl ConnectError {
    /// Whether trying again soon is of no use.
    pub fn is_final(&self) -> bool {
        match self {
            Self::WrongHost | Self::UnknownTicket | Self::Expired | Self::Version { .. } => true,
            Self::Unreachable { .. }
            | Self::TooManyMounts
            | Self::Busy
            | Self::Violation
            | Self::Local(_) => false,
        }
    }
}

/// Connects to the host of one ticket, again and again as needed.
pub struct Dialer {
    ticket: Ticket,
    mount: MountId,
    endpoint: ClientEndpoint,
}

impl Dialer {
    /// A dialer for `ticket`, as the mount `mount`.
    ///
    /// # Errors
    /// [`ConnectError::Local`] if there is no socket to be had.
    pub fn new(ticket: Ticket, mount: MountId) -> Result<Self, ConnectError> {
        let endpoint =
            ClientEndpoint::bind().map_err(|error| ConnectError::Local(error.to_string()))?;
        Ok(Self {
            ticket,
            mount,
            endpoint,
        })
    }

    /// One attempt at all addresses.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn dial(&self) -> Result<(QuicRemote, Welcome), ConnectError> {
        let mut attempts: FuturesUnordered<_> = self
            .ticket
            .addresses
            .iter()
            .zip(0u32..)
            .map(|(address, turn)| async move {
                tokio::time::sleep(STAGGER * turn).await;
                tokio::time::timeout(ATTEMPT_MAX, self.attempt(*address))
                    .await
                    .unwrap_or_else(|_| Err(self.unreachable("no answer in time")))
            })
            .collect();
        let mut failure = self.unreachable("no address");
        while let Some(attempt) = attempts.next().await {
            match attempt {
                Ok(session) => return Ok(session),
                // What a host said tells more than that another address is silent.
                Err(ConnectError::Unreachable { .. })
                    if !matches!(failure, ConnectError::Unreachable { .. }) => {}
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    async fn attempt(&self, address: SocketAddr) -> Result<(QuicRemote, Welcome), ConnectError> {
        let connection = self.handshake(address).await?;
        match self.hello(&connection).await {
            Ok(HelloReply::Welcome(mut welcome)) if speaks(&welcome) => {
                welcome.share = self.own_share(welcome.share);
                Ok((QuicRemote::new(connection), welcome))
            }
            Ok(HelloReply::Welcome(_)) | Err(FrameError::Codec) => {
                connection.close(code::VIOLATION, b"malformed hello reply");
                Err(ConnectError::Violation)
            }
            Ok(HelloReply::Refused(refusal)) => {
                connection.close(code::DONE, b"");
                Err(refused(refusal))
            }
            Err(FrameError::Reset(_) | FrameError::Lost) => {
                let reason = connection.close_reason();
                let reason = reason.map_or("the host hung up".to_owned(), |r| r.to_string());
                Err(self.unreachable(&reason))
            }
        }
    }

    async fn handshake(&self, address: SocketAddr) -> Result<Connection, ConnectError> {
        let endpoint = self
            .endpoint
            .quinn(&address)
            .ok_or_else(|| self.unreachable("this machine has no such kind of address"))?;
        let (crypto, mismatch) = client_crypto(self.ticket.host)
            .map_err(|error| ConnectError::Local(error.to_string()))?;
        let mut config = ClientConfig::new(Arc::new(crypto));
        config.transport_config(tuning::mount_transport());
        let connecting = endpoint
            .connect_with(config, address, "wormhole")
            .map_err(|error| self.unreachable(&error.to_string()))?;
        connecting.await.map_err(|error| {
            if mismatch.load(SeqCst) {
                ConnectError::WrongHost
            } else {
                self.unreachable(&error.to_string())
            }
        })
    }

    async fn hello(&self, connection: &Connection) -> Result<HelloReply, FrameError> {
        let mut binding = [0; 32];
        connection
            .export_keying_material(&mut binding, EXPORTER_LABEL, &[])
            .map_err(|_| FrameError::Lost)?;
        let hello = Hello {
            oldest: WireVersion::OLDEST.number(),
            newest: WireVersion::NEWEST.number(),
            features: Features::SUPPORTED,
            ticket: self.ticket.secret.id(),
            proof: self.ticket.secret.prove(&binding, self.mount),
            mount: self.mount,
        };
        let (mut send, recv) = connection.open_bi().await.map_err(|_| FrameError::Lost)?;
        let sent = send.write_all(&hello.to_frame()?).await;
        sent.map_err(|_| FrameError::Lost)?;
        let _ = send.finish();
        read_frame(&mut recv.into()).await
    }

    /// The share's identity as this machine knows it: bound to the host's key, since a host chooses the
    /// identity it names, and must not reach another's in the caches by naming that.
    fn own_share(&self, named: ShareId) -> ShareId {
        let mut hasher = blake3::Hasher::new_derive_key("wormhole 2026-11 share of a host");
        hasher.update(&self.ticket.host.0).update(&named.0);
        let mut own = [0; 16];
        hasher.finalize_xof().fill(&mut own);
        ShareId(own)
    }

    fn unreachable(&self, last: &str) -> ConnectError {
        let addresses: Vec<_> = self
            .ticket
            .addresses
            .iter()
            .map(|a| a.to_string())
            .collect();
        ConnectError::Unreachable {
            addresses: addresses.join(", "),
            last: last.to_owned(),
        }
    }
}

impl Connect for Dialer {
    fn connect(&self) -> BoxFuture<'_, Result<(Arc<dyn Remote>, Welcome), ConnectFailure>> {
        async move {
            match self.dial().await {
                Ok((remote, welcome)) => Ok((Arc::new(remote) as Arc<dyn Remote>, welcome)),
                Err(error) => Err(ConnectFailure {
                    message: error.to_string(),
                    is_final: error.is_final(),
                }),
            }
        }
        .boxed()
    }

    fn say_goodbye(&self) -> BoxFuture<'_, ()> {
        async move {
            // The word is sent at once; quinn would go on to wait for stragglers.
            let _ = tokio::time::timeout(GOODBYE_MAX, self.endpoint.wait_idle()).await;
        }
        .boxed()
    }
}

/// Whether the host chose a version this build offered.
fn speaks(welcome: &Welcome) -> bool {
    WireVersion::common(welcome.version, welcome.version).is_some()
}

fn refused(refusal: Refusal) -> ConnectError {
    match refusal {
        Refusal::UnknownTicket => ConnectError::UnknownTicket,
        Refusal::Expired => ConnectError::Expired,
        Refusal::TooManyMounts => ConnectError::TooManyMounts,
        Refusal::Version { oldest, newest } => ConnectError::Version { oldest, newest },
        Refusal::Busy => ConnectError::Busy,
        Refusal::Malformed => ConnectError::Violation,
    }
}
