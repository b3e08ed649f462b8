//! What runs on this machine, for `wormhole status`.
//!
//! Each host and mount process listens on a socket of its own in a private directory
//! ([`directory`]), and answers every connection with one JSON object ([`report`]) and nothing else:
//! there is nothing to ask, so there is nothing to attack. Only the same user and root are answered.
//!
//! Nothing secret is in a report: no ticket, no secret, no key but the host's public one.

pub mod directory;
pub mod report;
pub mod socket;

pub use directory::RuntimeDir;
pub use report::{HostReport, MountReport, Report, Role};
pub use socket::StatusSocket;
