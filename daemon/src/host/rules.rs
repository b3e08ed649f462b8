//! What the owner of a share lets mounts do, and what is left of it for the holder of a ticket.

use super::tickets::Ticket;
use serde::{Deserialize, Serialize};
use std::fmt;
use wormhole_protocol::Access;

/// What mounts of a share may do at the most; a ticket may grant less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ShareRules {
    /// Look, or change as well.
    pub access: Access,
    /// New nodes belong to the user a mount names: the host must be root.
    pub map_users: bool,
    /// Device nodes can be made.
    pub allow_devices: bool,
}

/// What the holder of `ticket` may do where `rules` hold: what both allow.
pub(super) fn access_for(ticket: &Ticket, rules: ShareRules) -> Access {
    ticket.access().min(rules.access)
}

/// An access by the name that people, JSON and the state file know it by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AccessWord {
    /// Only look.
    #[default]
    ReadOnly,
    /// Look and change.
    ReadWrite,
}

impl AccessWord {
    /// Whether it is only to look.
    pub fn is_read_only(&self) -> bool {
        matches!(self, Self::ReadOnly)
    }
}

impl From<Access> for AccessWord {
    fn from(access: Access) -> Self {
        match access {
            Access::Read => Self::ReadOnly,
            Access::ReadWrite => Self::ReadWrite,
        }
    }
}

impl From<AccessWord> for Access {
    fn from(word: AccessWord) -> Self {
        match word {
            AccessWord::ReadOnly => Self::Read,
            AccessWord::ReadWrite => Self::ReadWrite,
        }
    }
}

impl fmt::Display for AccessWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReadOnly => "read-only",
            Self::ReadWrite => "read-write",
        })
    }
}
