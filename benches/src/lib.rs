//! Workloads, and a laboratory to run them in.
//!
//! The benchmarks proper are in `benches/`, for criterion. What they share is here: the program under
//! test ([`program`]), a host and a mount of it as processes of their own ([`lab`]), files with known
//! content ([`tree`]) and how much of everything ([`scale`]).
//!
//! This crate knows nothing of the daemon but its command line: it measures what a user gets.

pub mod lab;
pub mod program;
pub mod scale;
pub mod tree;
