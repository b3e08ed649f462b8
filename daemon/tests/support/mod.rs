//! Doubles for in-process tests: a host whose files are made up, and a link that can be cut.
//
//! Each test binary uses what it needs of these.
#![allow(dead_code, unreachable_pub, reason = "shared by several test binaries")]

pub mod distant;
pub mod door;
pub mod fake;
pub mod world;
