//! The host role from its gate to the disk, in one process: no socket, no kernel mount.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod bounds;
mod gate;
mod hostile;
mod list;
mod nodes;
mod read;
mod world;
