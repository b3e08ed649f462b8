//! What the bare transport carries: a measuring tool for `wormhole bench`.
//!
//! One end streams bytes, the other counts them, with exactly the sockets, keys and settings a host
//! and a mount use ([`super::endpoint`], [`super::tuning`]) and nothing of the file system above them.
//! So "percent of the raw link" has an honest 100 %.
//!
//! ```text
//! Meter   connection, proof ->            Source
//!         order: bulk       ->   bytes without end, until the meter stops the stream
//!         order: exchange   ->   so many bytes, and the end of the stream
//!         order: figures    ->   what the sender knows of the path, as JSON
//! ```
//!
//! Invariants
//! - Nobody gets a byte who does not prove that he holds the key, bound to this TLS session as a
//!   ticket's proof is; nothing else is served.
//! - Connections, streams, samples and times are bounded, and every task ends with its connection.
//!
//! Not here: emulated links (`netem`), the command line (`cli::bench_link`).

mod figures;
mod meter;
mod source;

pub use figures::{SenderFigures, SenderSample};
pub use meter::{Meter, Received};
pub use source::serve;

use quinn::{Connection, ReadExactError, WriteError};
use std::fmt;
use std::io;
use std::str::FromStr;
use std::time::Duration;
use wormhole_protocol::limits::TICKET_SECRET_BYTES;
use wormhole_protocol::ticket::EXPORTER_LABEL;
use wormhole_protocol::{HostKey, MountId, Proof, Secret};

/// Longest transfer.
pub const TRANSFER_MAX: Duration = Duration::from_secs(600);
/// Most exchanges of one run.
pub const EXCHANGES_MAX: u32 = 10_000;
/// Largest answer of an exchange.
pub const EXCHANGE_BYTES_MAX: u32 = 64 * 1024;

/// Bytes of an order: its kind and its argument.
const ORDER_BYTES: usize = 5;
/// What a source answers to a good proof.
const WELCOME: u8 = b'w';
const KEY_BYTES: usize = 32 + TICKET_SECRET_BYTES;

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum BulkError {
    /// This machine gives no socket, randomness or key.
    #[error("cannot make a socket or a key: {0}")]
    Local(#[from] io::Error),
    /// Nobody answered, or the connection broke.
    #[error("the other end is gone or never answered ({0}): is `bench-link serve` running there?")]
    Lost(String),
    /// What answered holds another key.
    #[error("what answered holds another key: use the key that `bench-link serve` printed")]
    WrongHost,
    /// What answered does not follow the rules above.
    #[error("what answered is no `bench-link serve` of this version, or knows another key")]
    Violation,
    /// Not a key.
    #[error("a key has {} hexadecimal digits, as `bench-link serve` printed them", 2 * KEY_BYTES)]
    NotAKey,
}

impl From<ReadExactError> for BulkError {
    fn from(error: ReadExactError) -> Self {
        match error {
            ReadExactError::FinishedEarly(_) => Self::Violation,
            ReadExactError::ReadError(error) => Self::Lost(error.to_string()),
        }
    }
}

impl From<WriteError> for BulkError {
    fn from(error: WriteError) -> Self {
        Self::Lost(error.to_string())
    }
}

/// Who the source is, and the secret that lets a meter in. Lives as long as the source.
#[derive(Clone)]
pub struct BulkKey {
    host: HostKey,
    secret: Secret,
}

impl BulkKey {
    /// A key with a fresh secret for the source `host`.
    ///
    /// # Errors
    /// If the system gives no randomness.
    pub fn generate(host: HostKey) -> io::Result<Self> {
        let mut secret = [0; TICKET_SECRET_BYTES];
        getrandom::fill(&mut secret).map_err(io::Error::other)?;
        Ok(Self {
            host,
            secret: Secret::from_bytes(secret),
        })
    }

    fn proof(&self, connection: &Connection) -> Option<(Proof, [u8; 32])> {
        let mut binding = [0; 32];
        connection
            .export_keying_material(&mut binding, EXPORTER_LABEL, b"bulk")
            .ok()?;
        Some((self.secret.prove(&binding, MOUNT), binding))
    }
}

/// Nobody is mounted: the proof needs some name.
const MOUNT: MountId = MountId([0; 16]);

impl fmt::Display for BulkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.host.0.iter().chain(self.secret.expose());
        bytes.into_iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for BulkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BulkKey({:?}, ..)", self.host)
    }
}

impl FromStr for BulkKey {
    type Err = BulkError;

    fn from_str(text: &str) -> Result<Self, BulkError> {
        let mut bytes = [0; KEY_BYTES];
        if !text.is_ascii() || text.len() != 2 * KEY_BYTES {
            return Err(BulkError::NotAKey);
        }
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| BulkError::NotAKey)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| BulkError::NotAKey)?;
        }
        let (mut host, mut secret) = ([0; 32], [0; TICKET_SECRET_BYTES]);
        host.copy_from_slice(&bytes[..32]);
        secret.copy_from_slice(&bytes[32..]);
        Ok(Self {
            host: HostKey(host),
            secret: Secret::from_bytes(secret),
        })
    }
}

/// What a meter asks for on a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// Bytes until the stream is stopped; the path is looked at each so many milliseconds.
    Bulk { interval_ms: u32 },
    /// So many bytes.
    Exchange { len_bytes: u32 },
    /// What is known of the path.
    Figures,
}

impl Order {
    fn to_bytes(self) -> [u8; ORDER_BYTES] {
        let (kind, argument) = match self {
            Self::Bulk { interval_ms } => (1, interval_ms),
            Self::Exchange { len_bytes } => (2, len_bytes),
            Self::Figures => (3, 0),
        };
        let [a, b, c, d] = argument.to_le_bytes();
        [kind, a, b, c, d]
    }

    fn from_bytes([kind, a, b, c, d]: [u8; ORDER_BYTES]) -> Option<Self> {
        let argument = u32::from_le_bytes([a, b, c, d]);
        match kind {
            1 => Some(Self::Bulk {
                interval_ms: argument,
            }),
            2 if argument <= EXCHANGE_BYTES_MAX => Some(Self::Exchange {
                len_bytes: argument,
            }),
            3 => Some(Self::Figures),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
