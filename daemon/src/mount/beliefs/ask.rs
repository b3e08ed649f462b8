//! Asking the host for names, attributes and listings, and what its answers are worth.

use super::{Beliefs, Leads, Told};
use crate::mount::error::FsError;
use crate::mount::heard::Heard;
use crate::mount::inodes::Node;
use crate::mount::listing::{Listed, Listing, Stretch};
use crate::mount::stats::{RemoteStats, add};
use crate::rpc::{Answer, CallError};
use futures_util::{StreamExt, stream};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use tokio::time::Instant;
use wormhole_protocol::{Entry, Fault, FileId, FileKind, Leased, Name, Reply, Request};

/// Names in doubt that are asked for at once, for one page.
const DOUBTS_AT_ONCE: usize = 16;

/// What the host said to a question about names or attributes.
pub(super) struct Said {
    /// The answer, which may be under no lease all the same.
    pub(super) what: Leased,
    /// Whether it is under one.
    pub(super) leased: bool,
}

impl Said {
    /// Of an answer; a host that says that there is nothing has answered, too.
    pub(super) fn of(answer: &Result<Answer, CallError>) -> Result<Self, CallError> {
        let (what, leased) = match answer {
            Ok(answer) => match &answer.reply {
                Reply::Attr(attr) => (Leased::Attr(*attr), false),
                Reply::Listing(attr) => (Leased::Listing(*attr), false),
                Reply::Unchanged(attr) => (Leased::Unchanged(*attr), false),
                Reply::Leased { answer, .. } => (answer.clone(), true),
                _ => return Err(CallError::Violation),
            },
            Err(error) => return Err(*error),
        };
        Ok(Self { what, leased })
    }
}

impl Beliefs {
    /// Asks the host, and counts it.
    ///
    /// # Errors
    /// What the host answered.
    pub async fn ask(
        &self,
        request: Request,
        counter: fn(&RemoteStats) -> &AtomicU64,
    ) -> Result<Answer, FsError> {
        add(counter(&self.stats), 1);
        Ok(self.remote.call(request).await?)
    }

    async fn ask_said(
        &self,
        request: Request,
        counter: fn(&RemoteStats) -> &AtomicU64,
    ) -> (Result<Said, CallError>, Result<Answer, CallError>) {
        add(counter(&self.stats), 1);
        let answer = self.remote.call(request).await;
        (Said::of(&answer), answer)
    }

    /// Whether what was just answered about `dir` is under a lease: it came under one, or was asked when
    /// there was one already.
    pub(super) fn is_leased_answer(&self, dir: FileId, asked: Instant, leased: bool) -> bool {
        if leased {
            self.leases.granted(dir, asked, Instant::now());
        }
        (leased || self.leases.covers(dir, asked))
            && self.doubts.allow(dir, asked)
            && !self.own.forgotten(asked)
    }

    /// Where `name` in `dir` leads, as the host says.
    pub(super) async fn ask_name(&self, dir: &Arc<Node>, name: &Name) -> Result<Told, FsError> {
        let request = Request::Lookup {
            dir: dir.reference()?,
            name: name.clone(),
        };
        let asked = Instant::now();
        let (said, _) = self.ask_said(request, |stats| &stats.lookup).await;
        let (attr, leased) = match said {
            Ok(Said {
                what: Leased::Attr(attr),
                leased,
            }) => (Some(attr), leased),
            Ok(Said {
                what: Leased::Absent,
                leased,
            }) => (None, leased),
            Err(CallError::Fault(Fault::NotFound)) => (None, false),
            Ok(_) => return Err(FsError::Io),
            Err(error) => return Err(error.into()),
        };
        let leased = self.is_leased_answer(dir.id, asked, leased);
        let told = Told::new(attr, Heard::since(asked).leased(leased));
        Ok(self.take_name(dir, name, told))
    }

    /// Takes an answer about a name. What is known better is returned in its place.
    pub(super) fn take_name(&self, dir: &Node, name: &Name, told: Told) -> Told {
        if told.attr.is_none() {
            self.absences.note(dir.id);
        }
        let asked = told.heard.asked;
        match self.own.name_since(dir.id, name, asked) {
            Some(known) => match known.leads {
                Leads::To(attr) => {
                    let leased = self.leases.covers(dir.id, known.at);
                    Told::new(attr, Heard::from(known.at).leased(leased))
                }
                // Good for who asked, and for nobody else.
                Leads::Unknown => told,
            },
            None => {
                if !self.ttl.is_zero() && self.doubts.allow(dir.id, asked) {
                    self.names.answered(dir.id, name, told);
                    if let Some(listing) = self.listings.get(dir.id) {
                        listing.settle(name, told.attr, told.heard);
                    }
                }
                told
            }
        }
    }

    /// The attributes of a node, as the host says.
    pub(super) async fn ask_attr(
        &self,
        node: &Arc<Node>,
    ) -> Result<wormhole_protocol::Attr, FsError> {
        let request = Request::Getattr {
            node: node.reference()?,
        };
        let place = node.place().map(|(dir, _)| dir.id);
        let asked = Instant::now();
        let (said, _) = self.ask_said(request, |stats| &stats.getattr).await;
        let said = said.map_err(|error| gone_is_stale(error.into()));
        let said = said.inspect_err(|error| {
            if *error == FsError::Stale {
                self.disbelieve(node);
            }
        })?;
        match said.what {
            Leased::Attr(attr) if attr.id == node.id => {
                let dir = match attr.kind {
                    FileKind::Directory => Some(attr.id),
                    _ => place,
                };
                let leased = dir.is_some_and(|dir| self.is_leased_answer(dir, asked, said.leased));
                let is_covered = attr.kind == FileKind::Directory || attr.links == 1;
                node.learn(&attr, Heard::since(asked).leased(leased && is_covered));
                // Not `attr`: a change of ours may have been answered meanwhile.
                Ok(node.attr())
            }
            _ => Err(FsError::Io),
        }
    }

    /// The listing of a directory, as the host says.
    pub(super) async fn ask_listing(&self, dir: &Arc<Node>) -> Result<Arc<Listing>, FsError> {
        let request = Request::List {
            dir: dir.reference()?,
            known: None,
        };
        let asked = Instant::now();
        let (said, answer) = self.ask_said(request, |stats| &stats.list).await;
        let said = said.map_err(|error| gone_is_stale(error.into()))?;
        let Leased::Listing(attr) = said.what else {
            return Err(FsError::Io);
        };
        let leased = self.is_leased_answer(dir.id, asked, said.leased);
        let heard = Heard::since(asked).leased(leased);
        dir.learn(&attr, heard);
        let listing = Listing::start(answer?, heard);
        if self.doubts.allow(dir.id, asked) {
            self.listings.put(dir, listing.clone());
        }
        self.amend(dir, &listing);
        Ok(listing)
    }
}

impl Beliefs {
    /// Up to `max` entries of a listing from number `from` on; none at the end. Names in doubt are asked for:
    /// a reader must not miss one because it was just told of.
    ///
    /// # Errors
    /// What broke the listing, or what the host answered.
    pub async fn page(
        &self,
        dir: &Arc<Node>,
        listing: &Listing,
        mut from: usize,
        max: usize,
    ) -> Result<Vec<Listed>, FsError> {
        loop {
            let Stretch {
                mut listed,
                unknown,
            } = listing.page(from, max).await?;
            let Some((last, _)) = unknown.last() else {
                return Ok(listed);
            };
            from = last.saturating_add(1);
            let mut asked = stream::iter(unknown)
                .map(|(number, name)| self.find_out(dir, number, name))
                .buffered(DOUBTS_AT_ONCE);
            while let Some(found) = asked.next().await {
                listed.extend(found?);
            }
            if !listed.is_empty() {
                listed.sort_unstable_by_key(|listed| listed.number);
                return Ok(listed);
            }
        }
    }

    async fn find_out(
        &self,
        dir: &Arc<Node>,
        number: usize,
        name: Name,
    ) -> Result<Option<Listed>, FsError> {
        let told = self.ask_name(dir, &name).await?;
        Ok(told.attr.map(|attr| Listed {
            number,
            entry: Entry { name, attr },
            heard: told.heard,
        }))
    }

    /// The listing kept of a directory, believed or not.
    pub fn listing_kept(&self, dir: FileId) -> Option<Arc<Listing>> {
        self.listings.peek(dir)
    }

    /// Gives a listing what has changed since it was asked for.
    pub(super) fn amend(&self, dir: &Node, listing: &Listing) {
        self.amend_id(dir.id, listing);
    }

    pub(super) fn amend_id(&self, dir: FileId, listing: &Listing) {
        for (name, known) in self.own.names_since(dir, listing.asked()) {
            match known.leads {
                Leads::To(attr) => {
                    let leased = self.leases.covers(dir, known.at);
                    listing.set(&name, attr, Heard::from(known.at).leased(leased));
                }
                Leads::Unknown => listing.doubt(&name, known.at),
            }
        }
    }
}

/// A node the kernel holds is not where it was: the kernel must look again, whatever the host finds
/// at its old name.
pub(in crate::mount) fn gone_is_stale(error: FsError) -> FsError {
    match error {
        FsError::Fault(Fault::NotFound | Fault::NotDirectory | Fault::Loop) => FsError::Stale,
        other => other,
    }
}
