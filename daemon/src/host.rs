//! The host role: everything between "a hello or a request arrived" and the disk.
//!
//! A [`Gate`] decides who may come in (ticket, proof, seats) and to which share; each admitted mount
//! gets a session, which answers its requests from the folder behind a [`Share`]. What must outlive
//! the process (share identity, tickets, port) is kept by [`HostState`].
//!
//! ```text
//! hello   -> gate -> tickets, seats -> session
//! request -> session -> resolve (openat2) -> meta | read | list | node | change -> sink
//! ```
//!
//! Invariants
//! - A path in a request is resolved beneath the share root by the kernel, following nothing.
//! - Only regular files and directories are ever opened; everything else is looked at through `O_PATH`.
//! - Whatever a session makes the host hold (bytes, descriptors, threads) is counted against bounds of
//!   its own and of the host (`limits`), and a part of the host's is set aside for every session.
//! - Secrets of tickets leave this room only through [`ShareState`] to who prints the ticket.
//!
//! Locks: each is private to its file, none is held across an await, and none is taken under another but as
//! `docs/ARCHITECTURE.md` says.
//!
//! Not here: sockets and TLS (`transport`), the host's key, the command line (`cli`).

mod bucket;
mod budget;
mod bulk;
mod change;
mod clock;
mod counters;
mod departed;
mod fault;
mod find;
mod gate;
mod held;
mod holdings;
mod leases;
mod limits;
mod list;
mod listen;
mod locks;
mod meta;
mod node;
mod open;
mod other_names;
mod pace;
mod pool;
mod read;
mod reserve;
mod resolve;
mod resources;
mod rules;
mod seats;
mod seek;
mod service;
mod session;
mod share;
mod state;
mod tickets;
mod tree;
mod vouch;
mod wanted;
mod watch;
mod xattrs;

pub use clock::{Clock, ManualClock, SystemClock};
pub use counters::CountersSnapshot;
pub use gate::{Gate, GateError, GateSnapshot};
pub use leases::LeaseSnapshot;
pub use rules::{AccessWord, ShareRules};
pub use service::{Service, SessionSnapshot, ShareSnapshot};
pub use share::{Share, ShareError};
pub use state::{HostState, ShareState, StateError};
pub use tickets::{TicketLimits, TicketSnapshot};
