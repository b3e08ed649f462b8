//! Who may come in: from a hello to a session, or a refusal.
//!
//! One gate stands before all shares of the process; the ticket decides which one a mount gets.
//! Nothing about any share is told, and no disk touched, before the mount has proved that it holds a
//! ticket's secret on this very TLS session. An unknown ticket and a wrong proof are not told apart,
//! neither by the answer nor by the work done for it; only who proves a ticket learns that it has
//! expired or is full.
//!
//! Failed proofs beyond a few per second are answered `Busy`, so that guessing yields nothing worth
//! having and nothing worth logging. A right proof is never turned away for the failures of others:
//! a secret of 128 bits is not guessed, but a gate that can be shut by guessing would be.
//!
//! Lock: `shares` and `failures`, leaves.

use super::bucket::Bucket;
use super::clock::Clock;
use super::limits::{FAILURES_BURST, FAILURES_PER_SEC, HELD_OPENS_MAX, SESSIONS_MAX, SHARES_MAX};
use super::resources::Resources;
use super::rules::ShareRules;
use super::seats::Seats;
use super::service::{Service, ShareSnapshot, short};
use super::session::Session;
use super::share::{Share, ShareError};
use super::state::ShareState;
use super::tickets::Ticket;
use crate::rpc::{self, Admission};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::{Mutex, RwLock};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use wormhole_protocol::limits::{READ_BYTES_MAX, SESSION_REQUESTS_MAX, TICKET_SECRET_BYTES};
use wormhole_protocol::{
    Epoch, Features, Hello, Refusal, Secret, SessionLimits, Welcome, WireVersion,
};

/// Why a share cannot be added.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// It would show the host's secrets, and they cannot be hidden.
    #[error(transparent)]
    Share(#[from] ShareError),
    /// Too many shares.
    #[error("one host serves at most {SHARES_MAX} folders")]
    TooManyShares,
}

/// All of the host at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct GateSnapshot {
    /// Its shares.
    pub shares: Vec<ShareSnapshot>,
    /// Sessions that live.
    pub sessions: usize,
    /// Hellos refused since the start, by reason.
    pub refusals: BTreeMap<&'static str, u64>,
}

/// The gate of a host process.
pub struct Gate {
    epoch: Epoch,
    clock: Arc<dyn Clock>,
    resources: Arc<Resources>,
    seats: Arc<Seats>,
    shares: RwLock<Vec<Arc<Service>>>,
    failures: Mutex<Bucket>,
    refusals: Mutex<BTreeMap<&'static str, u64>>,
    /// Verified against when there is no such ticket, for the time it takes.
    nobody: Secret,
}

impl Gate {
    /// For one life of the host, which `epoch` (chosen at random) tells from others. Half of the
    /// file descriptors the process may have now will be used: raise the limit before.
    pub fn new(epoch: Epoch, clock: Arc<dyn Clock>) -> Self {
        Self {
            epoch,
            resources: Arc::new(Resources::new(epoch)),
            seats: Seats::new(clock.clone()),
            clock,
            shares: RwLock::default(),
            failures: Mutex::new(Bucket::new(FAILURES_BURST, FAILURES_PER_SEC)),
            refusals: Mutex::default(),
            nobody: Secret::from_bytes([0; TICKET_SECRET_BYTES]),
        }
    }

    /// Watches at most so many directories for mounts; fewer where the user may watch fewer.
    #[must_use]
    pub fn watching(mut self, most: usize) -> Self {
        self.resources = Arc::new(Resources::watching(self.epoch, most));
        self
    }

    /// Serves `share`, to be read, to holders of the tickets in `state`. The state directory, if it lies in the
    /// share, is hidden from mounts.
    ///
    /// # Errors
    /// [`GateError`].
    pub fn add_share(&self, share: Share, state: ShareState) -> Result<Arc<Service>, GateError> {
        self.add_share_with(share, state, ShareRules::default())
    }

    /// The same, under `rules`.
    ///
    /// # Errors
    /// [`GateError`].
    pub fn add_share_with(
        &self,
        mut share: Share,
        state: ShareState,
        rules: ShareRules,
    ) -> Result<Arc<Service>, GateError> {
        for dir in state.dirs() {
            share.hide(dir)?;
        }
        let service = Arc::new(Service::new(share, state, rules, self.resources.clone()));
        let mut shares = self.shares.write();
        if shares.len() >= SHARES_MAX {
            return Err(GateError::TooManyShares);
        }
        shares.push(service.clone());
        Ok(service)
    }

    /// The shares, in the order they were added.
    pub fn shares(&self) -> Vec<Arc<Service>> {
        self.shares.read().clone()
    }

    /// From now on nobody is admitted ([`Refusal::Busy`]), and no request begun
    /// ([`wormhole_protocol::Fault::Closing`]); what runs may finish.
    pub fn close(&self) {
        self.resources.close();
    }

    /// The host now.
    pub fn snapshot(&self) -> GateSnapshot {
        let now = self.clock.unix_secs();
        let free = self.resources.sessions.available_permits();
        GateSnapshot {
            shares: self.shares().iter().map(|s| s.snapshot(now)).collect(),
            sessions: SESSIONS_MAX - free,
            refusals: self.refusals.lock().clone(),
        }
    }

    async fn decide(&self, hello: &Hello, binding: &[u8; 32]) -> Result<Admission, Refusal> {
        if self.resources.closing() {
            return Err(Refusal::Busy);
        }
        let version = negotiate(hello)?;
        let (service, ticket) = self.prove(hello, binding)?;
        if !ticket.good_at(self.clock.unix_secs()) {
            return Err(Refusal::Expired);
        }
        let place = self.resources.sessions.clone().try_acquire_owned();
        let place = place.map_err(|_| Refusal::Busy)?;
        let seat = match ticket.limits.max_mounts {
            Some(max) => {
                let seat = self.seats.take(ticket.id, max, hello.mount);
                let seat = seat.ok_or(Refusal::TooManyMounts)?;
                // Should the rest fail, nobody sat here.
                seat.keep(false);
                Some(seat)
            }
            None => None,
        };
        let looked_at = service.clone();
        let root = tokio::task::spawn_blocking(move || looked_at.root_attr()).await;
        let root = root.ok().and_then(Result::ok).ok_or(Refusal::Busy)?;
        if let Some(seat) = &seat {
            seat.keep(true);
        }
        let clock = self.clock.clone();
        let session = Session::begin(&service, ticket, hello.mount, clock, seat, place);
        let access = session.access();
        let welcome = Welcome {
            version: version.number(),
            features: Features::SUPPORTED.common(hello.features),
            share: service.id(),
            name: service.share().name().clone(),
            epoch: self.epoch,
            limits: SessionLimits {
                requests_max: SESSION_REQUESTS_MAX,
                read_bytes_max: READ_BYTES_MAX,
                opens_max: u32::try_from(HELD_OPENS_MAX).unwrap_or(u32::MAX),
            },
            access,
            resumed: session.resumed(),
            maps_users: access.writes() && service.rules().map_users,
            root,
        };
        tracing::info!(share = %welcome.name, mount = %short(hello.mount), "mount admitted");
        Ok(Admission {
            welcome,
            session: Arc::new(session),
        })
    }

    /// The ticket whose secret the mount holds, and its share.
    fn prove(
        &self,
        hello: &Hello,
        binding: &[u8; 32],
    ) -> Result<(Arc<Service>, Arc<Ticket>), Refusal> {
        let found = self.shares.read().iter().find_map(|service| {
            let ticket = service.state().find(hello.ticket)?;
            Some((service.clone(), ticket))
        });
        let secret = found.as_ref().map_or(&self.nobody, |(_, t)| &t.secret);
        let proved = secret.verify(binding, hello.mount, &hello.proof);
        match found {
            Some(found) if proved => Ok(found),
            _ if self.failures.lock().take(self.clock.monotonic()) => {
                tracing::warn!(ticket = %hello.ticket, "a mount came with an unknown ticket or a wrong proof");
                Err(Refusal::UnknownTicket)
            }
            _ => Err(Refusal::Busy),
        }
    }

    fn count(&self, refusal: Refusal) {
        let reason = match refusal {
            Refusal::UnknownTicket => "unknown_ticket",
            Refusal::Expired => "expired",
            Refusal::TooManyMounts => "too_many_mounts",
            Refusal::Version { .. } => "version",
            Refusal::Busy => "busy",
            Refusal::Malformed => "malformed",
        };
        *self.refusals.lock().entry(reason).or_default() += 1;
    }
}

impl rpc::Gate for Gate {
    fn admit<'a>(
        &'a self,
        hello: &'a Hello,
        binding: &'a [u8; 32],
    ) -> BoxFuture<'a, Result<Admission, Refusal>> {
        self.decide(hello, binding)
            .inspect(|decided| {
                if let Err(refusal) = decided {
                    self.count(*refusal);
                }
            })
            .boxed()
    }
}

fn negotiate(hello: &Hello) -> Result<WireVersion, Refusal> {
    if hello.oldest > hello.newest {
        return Err(Refusal::Malformed);
    }
    WireVersion::common(hello.oldest, hello.newest).ok_or(Refusal::Version {
        oldest: WireVersion::OLDEST.number(),
        newest: WireVersion::NEWEST.number(),
    })
}
