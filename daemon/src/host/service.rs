//! One share being served: what its sessions have in common, and who they are.

use super::counters::{Counters, CountersSnapshot, add, get};
use super::departed::Departed;
use super::fault;
use super::holdings::Holdings;
use super::leases::{LeaseSnapshot, Leases};
use super::meta;
use super::other_names::OtherNames;
use super::pace::Pace;
use super::resources::Resources;
use super::rules::{AccessWord, ShareRules};
use super::session::Core;
use super::share::Share;
use super::state::ShareState;
use super::tickets::TicketSnapshot;
use parking_lot::{Mutex, MutexGuard};
use serde::Serialize;
use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Weak};
use std::time::Instant;
use wormhole_protocol::{Attr, Fault, MountId, ShareId};

/// A share being served.
///
/// Locks: `renames`, before all others; `sessions`, leaf.
pub struct Service {
    share: Share,
    state: ShareState,
    rules: ShareRules,
    resources: Arc<Resources>,
    counters: Arc<Counters>,
    departed: Departed,
    other_names: OtherNames,
    pace: Pace,
    began: Instant,
    /// Held from the look at what a rename replaces to its end, so that just that is replaced.
    renames: Mutex<()>,
    sessions: Mutex<Sessions>,
    holdings: Arc<Holdings>,
    leases: Leases,
}

#[derive(Default)]
struct Sessions {
    next: u64,
    live: HashMap<u64, Weak<Core>>,
}

/// A share at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct ShareSnapshot {
    /// Its identity, in hex.
    pub id: String,
    /// Its name, control characters escaped.
    pub name: String,
    /// Its path, control characters escaped.
    pub path: String,
    /// What its mounts may do at the most.
    pub access: AccessWord,
    /// Who is there.
    pub sessions: Vec<SessionSnapshot>,
    /// Its tickets, without their secrets.
    pub tickets: Vec<TicketSnapshot>,
    /// Its counters.
    pub counters: CountersSnapshot,
    /// What its mounts may believe.
    pub leases: LeaseSnapshot,
}

/// A session at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct SessionSnapshot {
    /// First digits of the mount's id.
    pub mount: String,
    /// When it was admitted, seconds since 1970.
    pub since: u64,
    /// What it may do.
    pub access: AccessWord,
    /// Requests begun.
    pub requests: u64,
    /// Payload bytes handed to the transport.
    pub bytes: u64,
    /// Bytes behind its changes.
    pub received: u64,
    /// Whether it may change anything.
    pub writes: bool,
    /// Bytes of buffers it holds.
    pub buffer_bytes: usize,
    /// Files kept open for it.
    pub open_files: usize,
    /// Files its mount holds open.
    pub held_opens: usize,
    /// Directories it holds leases on.
    pub leases: usize,
    /// Pushes that wait for it.
    pub pushes_waiting: usize,
}

impl Service {
    pub(super) fn new(
        share: Share,
        state: ShareState,
        rules: ShareRules,
        resources: Arc<Resources>,
    ) -> Self {
        Self {
            share,
            state,
            rules,
            resources,
            counters: Arc::default(),
            departed: Departed::default(),
            other_names: OtherNames::default(),
            pace: Pace::default(),
            began: Instant::now(),
            renames: Mutex::default(),
            sessions: Mutex::default(),
            holdings: Arc::default(),
            leases: Leases::default(),
        }
    }

    /// How quick its disk is.
    pub(super) fn pace(&self) -> &Pace {
        &self.pace
    }

    /// When serving began.
    pub(super) fn began(&self) -> Instant {
        self.began
    }

    /// The folder.
    pub fn share(&self) -> &Share {
        &self.share
    }

    /// What is kept about it: tickets, port.
    pub fn state(&self) -> &ShareState {
        &self.state
    }

    /// Its identity.
    pub fn id(&self) -> ShareId {
        self.state.id()
    }

    /// What its mounts may do at the most.
    pub fn rules(&self) -> ShareRules {
        self.rules
    }

    pub(super) fn resources(&self) -> &Resources {
        &self.resources
    }

    /// What its mounts hold.
    pub(super) fn holdings(&self) -> &Arc<Holdings> {
        &self.holdings
    }

    /// What its mounts may believe.
    pub(super) fn leases(&self) -> &Leases {
        &self.leases
    }

    /// A number for a session that no other has.
    pub(super) fn number(&self) -> u64 {
        let mut sessions = self.sessions.lock();
        sessions.next += 1;
        sessions.next
    }

    /// One rename at a time.
    pub(super) fn renaming(&self) -> MutexGuard<'_, ()> {
        self.renames.lock()
    }

    /// Files that lost their names lately.
    pub(super) fn departed(&self) -> &Departed {
        &self.departed
    }

    /// Names of files that have several.
    pub(super) fn other_names(&self) -> &OtherNames {
        &self.other_names
    }

    pub(super) fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Attributes of the share root. Blocks.
    pub(super) fn root_attr(&self) -> Result<Attr, Fault> {
        let now = meta::now();
        let root = self.share.root().fd();
        let stx = meta::stat(root).map_err(fault::of)?;
        self.resources.versions.attr(root, &stx, now)
    }

    /// Lists a session until the guard goes.
    pub(super) fn register(self: &Arc<Self>, core: &Arc<Core>) -> Registered {
        add(&self.counters.sessions_total, 1);
        let key = core.number;
        let mut sessions = self.sessions.lock();
        sessions.live.insert(key, Arc::downgrade(core));
        Registered {
            service: self.clone(),
            key,
        }
    }

    /// The share now. `now` is in seconds since 1970.
    pub fn snapshot(&self, now: u64) -> ShareSnapshot {
        let live: Vec<_> = {
            let sessions = self.sessions.lock();
            sessions.live.values().filter_map(Weak::upgrade).collect()
        };
        let mut sessions: Vec<_> = live.iter().map(|core| session(core)).collect();
        sessions.sort_by(|a, b| (a.since, &a.mount).cmp(&(b.since, &b.mount)));
        let path = self.share.path().as_os_str().as_bytes();
        ShareSnapshot {
            id: self.id().to_string(),
            name: self.share.name().to_string(),
            path: path.escape_ascii().to_string(),
            access: self.rules.access.into(),
            sessions,
            tickets: self.state.tickets(now),
            counters: self.counters.snapshot(),
            leases: self.leases.snapshot(),
        }
    }
}

fn session(core: &Core) -> SessionSnapshot {
    let leases = core.service.leases();
    let (leases, pushes_waiting) = leases.of_session(core.key(), core.number);
    SessionSnapshot {
        mount: short(core.mount),
        since: core.since,
        access: core.access.into(),
        requests: get(&core.requests),
        bytes: get(&core.bytes),
        received: get(&core.received),
        writes: core.access.writes(),
        buffer_bytes: core.budget.held_bytes(),
        open_files: core.files.len(),
        held_opens: core.held.len(),
        leases,
        pushes_waiting,
    }
}

/// First digits of a mount's id.
pub(super) fn short(mount: MountId) -> String {
    let [a, b, c, d, ..] = mount.0;
    format!("{a:02x}{b:02x}{c:02x}{d:02x}")
}

/// A listed session.
pub(super) struct Registered {
    service: Arc<Service>,
    key: u64,
}

impl Drop for Registered {
    fn drop(&mut self) {
        let empty = {
            let mut sessions = self.service.sessions.lock();
            sessions.live.remove(&self.key);
            sessions.live.is_empty()
        };
        if empty {
            // An idle host keeps no buffers.
            self.service.resources.pool.clear();
        }
    }
}
