//! The host role from its gate to the disk, in one process: no socket, no kernel mount.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod access;
mod bounds;
mod bulk;
mod changes;
mod changes_bounds;
mod changes_content;
mod changes_names;
mod changes_once;
mod changes_owner;
mod changes_wire;
mod gate;
mod hostile;
mod leases;
mod leases_changes;
mod leases_content;
mod list;
mod locks;
mod nodes;
#[path = "../support/page_cache.rs"]
mod page_cache;
mod read;
mod reserved;
mod vouch;
mod world;
