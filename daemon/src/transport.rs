//! The transport: QUIC between a mount and a host, under the seams of [`crate::rpc`].
//!
//! - [`identity`]: the host's key; TLS by raw public keys (RFC 7250), no certificates.
//! - [`tuning`]: sockets, windows, timers, congestion control.
//! - [`endpoint`]: UDP sockets with all of that; [`socket`]: how they wait.
//! - [`server`]: lets mounts in through a `Gate`, and runs their requests.
//! - [`client`]: finds a host by its ticket and becomes a `Remote`.
//! - [`tail`]: makes the loss of a last packet noticed.
//! - [`bulk`]: measures what all of this carries without a file system.
//!
//! The only rooms that know quinn and rustls. Neither role is imported.

pub mod bulk;
pub mod client;
pub mod endpoint;
mod frame;
pub mod identity;
mod remote;
pub mod server;
mod socket;
mod tail;
pub mod tuning;

pub use client::{ConnectError, Dialer};
pub use endpoint::{ClientEndpoint, ServerEndpoint};
pub use identity::{Identity, IdentityError};
pub use remote::{QuicRemote, RemoteSnapshot};

/// Codes with which a connection is closed. Numbers are part of the wire and never reused.
mod code {
    use quinn::VarInt;

    /// The mount or host ends in good order.
    pub(super) const DONE: VarInt = VarInt::from_u32(0);
    /// The peer broke the protocol.
    pub(super) const VIOLATION: VarInt = VarInt::from_u32(1);
    /// The hello was refused; the reason went before.
    pub(super) const REFUSED: VarInt = VarInt::from_u32(2);
}
