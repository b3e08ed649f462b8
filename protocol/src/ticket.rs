//! Tickets: where a host is, who it is, and the secret that lets a mount in.
//!
//! A ticket is one string in bech32m (BIP 350): prefix `wh`, lower-case letters and digits without
//! `1 b i o` behind the separator, a checksum that finds every change of up to three characters.
//! Upper case reads the same. It is a bearer secret: who has it can mount the share.
//!
//! The secret never travels. Its id (a hash) names the ticket; a proof (a keyed hash over a value
//! exported from the TLS session, RFC 8446 section 7.5) shows that the mount holds it, and is worth
//! nothing on any other connection.

use crate::codec::{Decode, Encode};
use crate::id::MountId;
use crate::limits::{TICKET_ADDRESSES_MAX, TICKET_CHARS_MAX, TICKET_SECRET_BYTES};
use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32m, Hrp};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use subtle::ConstantTimeEq;

const PREFIX: &str = "wh";
const FORMAT: u8 = 1;

/// Label of the value both sides export from the TLS session to bind a [`Proof`] to it.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-wormhole-ticket-1";

/// The public half of a host's ed25519 identity. Pinning the key itself is its fingerprint: it is as
/// short as a hash of it would be, and needs no trust in the hash.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct HostKey(pub [u8; 32]);

impl fmt::Display for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostKey({self})")
    }
}

/// The secret of a ticket. Shows itself to nobody: its `Debug` is redacted.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; TICKET_SECRET_BYTES]);

impl Secret {
    /// A secret of random bytes, which the caller draws from the operating system.
    pub const fn from_bytes(bytes: [u8; TICKET_SECRET_BYTES]) -> Self {
        Self(bytes)
    }

    /// The raw bytes, for the host's own state file.
    pub const fn expose(&self) -> &[u8; TICKET_SECRET_BYTES] {
        &self.0
    }

    /// The id by which a mount names its ticket.
    pub fn id(&self) -> TicketId {
        let hash = blake3::derive_key("wormhole 2026-11 ticket id", &self.0);
        let mut id = [0; 8];
        id.copy_from_slice(&hash[..8]);
        TicketId(id)
    }

    /// Proves possession on the TLS session that exported `binding`, for one mount.
    pub fn prove(&self, binding: &[u8; 32], mount: MountId) -> Proof {
        let key = blake3::derive_key("wormhole 2026-11 ticket proof", &self.0);
        let mut hasher = blake3::Hasher::new_keyed(&key);
        hasher.update(binding).update(&mount.0);
        Proof(*hasher.finalize().as_bytes())
    }

    /// Whether `proof` was made with this secret; takes the same time for any wrong one.
    pub fn verify(&self, binding: &[u8; 32], mount: MountId, proof: &Proof) -> bool {
        self.prove(binding, mount).0.ct_eq(&proof.0).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Names a ticket without giving it away.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub struct TicketId(pub [u8; 8]);

impl fmt::Display for TicketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for TicketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TicketId({self})")
    }
}

/// Possession of a secret, on one TLS session.
#[derive(Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Proof(pub [u8; 32]);

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proof(..)")
    }
}

/// Why a string is no ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// Nothing like a ticket.
    #[error(
        "this is not a Wormhole ticket: one starts with \"wh1\", as `wormhole host` printed it"
    )]
    NotATicket,
    /// A ticket with a wrong, missing or extra character.
    #[error(
        "the ticket has a typo: its checksum does not match. Copy it again, whole, from where `wormhole host` printed it"
    )]
    Typo,
    /// Well-formed, but of a format this build does not know.
    #[error("the ticket has format {0}, which this version of Wormhole does not know: update it")]
    UnknownFormat(u8),
    /// The checksum holds, but the content is no ticket.
    #[error("the ticket's content is malformed")]
    Malformed,
}

/// A ticket. `Display` shows it whole, secret included; `Debug` does not.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket {
    /// Who the host is.
    pub host: HostKey,
    /// The secret that lets a mount in.
    pub secret: Secret,
    /// Where the host may be reached; 1 to 8.
    pub addresses: Vec<SocketAddr>,
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("host", &self.host)
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hrp = Hrp::parse_unchecked(PREFIX);
        bech32::encode_lower_to_fmt::<Bech32m, _>(f, hrp, &self.to_bytes()).map_err(|_| fmt::Error)
    }
}

impl FromStr for Ticket {
    type Err = TicketError;

    fn from_str(text: &str) -> Result<Self, TicketError> {
        let text = text.trim();
        if text.len() > TICKET_CHARS_MAX || !resembles_ticket(text) {
            return Err(TicketError::NotATicket);
        }
        let text = text.to_ascii_lowercase();
        let checked = CheckedHrpstring::new::<Bech32m>(&text).map_err(|_| TicketError::Typo)?;
        if checked.hrp() != Hrp::parse_unchecked(PREFIX) {
            return Err(TicketError::Typo);
        }
        Self::from_bytes(&checked.byte_iter().collect::<Vec<_>>())
    }
}

impl Ticket {
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![FORMAT];
        bytes.extend_from_slice(&self.host.0);
        bytes.extend_from_slice(&self.secret.0);
        for address in self.addresses.iter().take(TICKET_ADDRESSES_MAX) {
            match address.ip() {
                IpAddr::V4(ip) => {
                    bytes.push(4);
                    bytes.extend_from_slice(&ip.octets());
                }
                IpAddr::V6(ip) => {
                    bytes.push(6);
                    bytes.extend_from_slice(&ip.octets());
                }
            }
            bytes.extend_from_slice(&address.port().to_be_bytes());
        }
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, TicketError> {
        let (&format, rest) = bytes.split_first().ok_or(TicketError::Malformed)?;
        if format != FORMAT {
            return Err(TicketError::UnknownFormat(format));
        }
        let (host, rest) = rest.split_first_chunk().ok_or(TicketError::Malformed)?;
        let (secret, mut rest) = rest.split_first_chunk().ok_or(TicketError::Malformed)?;
        let mut addresses = Vec::new();
        while !rest.is_empty() {
            let address;
            (address, rest) = take_address(rest).ok_or(TicketError::Malformed)?;
            addresses.push(address);
        }
        if addresses.is_empty() || addresses.len() > TICKET_ADDRESSES_MAX {
            return Err(TicketError::Malformed);
        }
        Ok(Self {
            host: HostKey(*host),
            secret: Secret(*secret),
            addresses,
        })
    }
}

fn take_address(bytes: &[u8]) -> Option<(SocketAddr, &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (ip, rest) = match tag {
        4 => {
            let (octets, rest) = rest.split_first_chunk::<4>()?;
            (IpAddr::from(Ipv4Addr::from(*octets)), rest)
        }
        6 => {
            let (octets, rest) = rest.split_first_chunk::<16>()?;
            (IpAddr::from(Ipv6Addr::from(*octets)), rest)
        }
        _ => return None,
    };
    let (port, rest) = rest.split_first_chunk::<2>()?;
    Some((SocketAddr::new(ip, u16::from_be_bytes(*port)), rest))
}

/// Whether the user meant a ticket: right prefix give or take a character, or long and unspaced.
fn resembles_ticket(text: &str) -> bool {
    let text = text.as_bytes();
    let starts = text.len() >= 3
        && b"wh1"
            .iter()
            .zip(text)
            .filter(|(a, b)| **a == b.to_ascii_lowercase())
            .count()
            >= 2;
    starts && text.len() > 8
}
