//! Wormhole: host a folder, mount it from afar.
//!
//! The roof of the workspace: the host role ([`host`]), the mount role ([`mount`]), the transport
//! between them ([`transport`]) and the command line ([`cli`]). The two roles never import each other;
//! they meet at the seam in [`rpc`].

pub mod host;
pub mod mount;
pub mod rpc;
pub mod transport;
