//! Workloads, and what they run against.
//!
//! What `wormhole bench` does is here: an [`order`] becomes a [`run`] over an emulated link ([`site`]),
//! which is tested first ([`selftest`], [`raw`]). The run has every [`peer`] do every [`workload`] on fresh
//! [`files`], as many as the link is good for ([`sizes`]), each in a process of its own ([`worker`]), and
//! notes what comes of it ([`stats`], [`usage`], [`record`]).
//!
//! The benchmarks in `benches/` are for criterion. What they share is here, too: the program under
//! test ([`program`]), a host and a mount of it as processes of their own ([`pair`]), files with known
//! content ([`tree`]) and how much of everything ([`scale`]).
//!
//! This crate knows nothing of the daemon but its command line: it measures what a user gets.

pub mod baseline;
pub mod compare;
pub mod files;
pub mod history;
pub mod mounts;
pub mod order;
mod pages;
pub mod pair;
pub mod peer;
mod process;
mod procfs;
pub mod program;
pub mod raw;
pub mod record;
pub mod report;
mod room;
pub mod run;
pub mod scale;
pub mod scratch;
pub mod selftest;
pub mod site;
pub mod sizes;
pub mod stats;
pub mod tree;
pub mod usage;
pub mod worker;
pub mod workload;

/// The links, for whoever orders one.
pub use wormhole_netem as netem;
