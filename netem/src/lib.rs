//! Bad links on demand.
//!
//! So far this names the links that results are reported for ([`profile`]); emulating them comes
//! with the benchmarks that need it. The crate knows nothing of Wormhole.

#![warn(missing_docs)]

pub mod profile;

pub use profile::{Profile, UnknownProfile};
