//! What it means that a change is done, as a mount tells its programs.

use super::changes::Patience;
use serde::{Deserialize, Serialize};
use std::fmt;

/// When programs are told that what they changed is done. `fsync` always means the host's disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Durability {
    /// When the host has applied it: `close` waits for what was written.
    #[default]
    Strict,
    /// When it is in this mount's memory, as on a local disk; the host follows.
    Memory,
}

impl Durability {
    /// How long what was written waits for a lost host.
    pub fn patience(self) -> Patience {
        match self {
            Self::Strict => Patience::OfPrograms,
            Self::Memory => Patience::Endless,
        }
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Strict => "strict",
            Self::Memory => "memory",
        })
    }
}
