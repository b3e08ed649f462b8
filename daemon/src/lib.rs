//! Wormhole: host a folder, mount it from afar.
//!
//! The roof of the workspace: the host role ([`host`]), the mount role ([`mount`]), the transport
//! between them ([`transport`]) and the command line ([`cli`]). The two roles never import each other;
//! they meet at the seam in [`rpc`].

pub mod cli;
pub mod config;
pub mod control;
pub mod heap;
pub mod host;
pub mod metrics;
pub mod mount;
pub mod path_text;
pub mod rpc;
pub mod shutdown;
pub mod status;
pub mod transport;
