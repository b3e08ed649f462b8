//! Renewals: asking again, in the background, before anyone has to wait.
//!
//! A renewal is started by a use of what it renews, never by the clock: an idle mount is silent. What
//! came with a listing is renewed with all of it, by one request that names its digest: if nothing has
//! changed, that is all the answer says. Else the old listing serves until the new one is complete.
//! What came alone is renewed alone, and so is what came with a long listing: that is drawn for whoever lists it only.
//!
//! There is at most one renewal for each name and directory, and a bounded number in all; beyond it
//! none is started, and what is believed runs out as it would without. One that fails changes nothing,
//! unless the host says that what was believed is no more. Renewals end with the beliefs they renew.

use super::ask::Said;
use super::{Beliefs, REVIVAL_MAX, Told};
use crate::mount::heard::Heard;
use crate::mount::inodes::Node;
use crate::mount::listing::Listing;
use crate::mount::stats::add;
use crate::rpc::{Answer, CallError};
use std::collections::HashSet;
use std::future::Future;
use std::sync::{Arc, Weak};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use wormhole_protocol::{Attr, Fault, FileId, Leased, Name, Request};

/// Renewals at once; of the requests a host lets a session have open, a quarter.
const RENEWALS_MAX: usize = 64;
/// Entries of a listing that is drawn though nobody lists the directory, at the most: on a slow link a longer one
/// would cost whoever reads more than it spares him.
const UNASKED_ENTRIES_MAX: usize = 4096;
/// Who waits for a listing waits to hear that it no longer holds, and for the new one.
const RELISTS_MAX: usize = 2;

/// What is being renewed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Subject {
    Root,
    Name(FileId, Name),
    Listing(FileId),
}

/// Renewals that are under way.
#[derive(Default)]
pub(super) struct UnderWay {
    subjects: HashSet<Subject>,
    tasks: JoinSet<()>,
}

impl Beliefs {
    /// Renews what is believed of a name: with the listing it came with, if that is still believed and
    /// not too long, else alone.
    pub(super) fn renew(self: &Arc<Self>, dir: &Arc<Node>, name: &Name) {
        match self.listings.get(dir.id) {
            Some(listing) if self.is_renewable(dir.id, &listing) => {
                self.fetch_listing(dir, Some(listing));
            }
            _ => self.renew_name(dir, name),
        }
    }

    /// Whether a listing is complete, believed, and not too long to be drawn unasked.
    pub(super) fn is_renewable(&self, dir: FileId, listing: &Listing) -> bool {
        listing.is_believed(&self.terms(dir)) && !Self::is_long(listing)
    }

    /// Whether a listing is so long that it is drawn only for whoever lists the directory.
    pub(super) fn is_long(listing: &Listing) -> bool {
        listing.arrived() > UNASKED_ENTRIES_MAX
    }

    /// Asks where a name leads now.
    fn renew_name(self: &Arc<Self>, dir: &Arc<Node>, name: &Name) {
        let Ok(reference) = dir.reference() else {
            return;
        };
        let request = Request::Lookup {
            dir: reference,
            name: name.clone(),
        };
        let subject = Subject::Name(dir.id, name.clone());
        let (dir, name) = (dir.clone(), name.clone());
        let (remote, weak) = (self.remote.clone(), Arc::downgrade(self));
        self.start(subject, async move {
            let asked = Instant::now();
            let answer = remote.call(request).await;
            if let Some(beliefs) = weak.upgrade() {
                beliefs.renewed_name(&dir, &name, asked, answer);
            }
        });
    }

    fn renewed_name(
        &self,
        dir: &Arc<Node>,
        name: &Name,
        asked: Instant,
        answer: Result<Answer, CallError>,
    ) {
        let (attr, leased) = match Said::of(&answer) {
            Ok(Said {
                what: Leased::Attr(attr),
                leased,
            }) => (Some(attr), leased),
            Ok(Said {
                what: Leased::Absent,
                leased,
            }) => (None, leased),
            Err(CallError::Fault(Fault::NotFound)) => (None, false),
            Err(error) if is_gone(error) => return self.forget_dir(dir),
            // Nothing was learnt. What is believed runs out, and then whoever looks is told.
            _ => return,
        };
        let leased = self.is_leased_answer(dir.id, asked, leased);
        self.take_name(
            dir,
            name,
            Told::new(attr, Heard::from(asked).leased(leased)),
        );
    }

    /// Asks for the attributes of the root, which has no name to look up.
    pub(super) fn renew_root(self: &Arc<Self>, root: &Arc<Node>) {
        let Ok(node) = root.reference() else {
            return;
        };
        let (root, remote, weak) = (root.clone(), self.remote.clone(), Arc::downgrade(self));
        self.start(Subject::Root, async move {
            let asked = Instant::now();
            let answer = remote.call(Request::Getattr { node }).await;
            if let (Ok(said), Some(beliefs)) = (Said::of(&answer), weak.upgrade())
                && let Leased::Attr(attr) = said.what
            {
                let leased = beliefs.is_leased_answer(root.id, asked, said.leased);
                root.learn(&attr, Heard::from(asked).leased(leased));
            }
        });
    }

    /// Takes note that a name must be asked for; if it is not the only one, fetches the listing, so that
    /// the next need not be.
    pub(super) fn suspect(self: &Arc<Self>, dir: &Arc<Node>, name: &Name) {
        if !self.evidence.note(dir.id, name, self.ttl, Instant::now()) {
            return;
        }
        match self.listings.get(dir.id) {
            // It is being fetched for a reader.
            Some(listing) if listing.is_joinable(&self.terms(dir.id)) => {}
            Some(listing) if Self::is_long(&listing) => {
                self.evidence.is_too_long(dir.id);
            }
            known => {
                if known.is_none() {
                    self.fetch_around(dir);
                }
                self.fetch_listing(dir, known);
            }
        }
    }

    /// Asks whether a listing that is known still holds, and for the present one if not.
    pub(super) fn fetch_listing(self: &Arc<Self>, dir: &Arc<Node>, listing: Option<Arc<Listing>>) {
        let Ok(reference) = dir.reference() else {
            return;
        };
        let (dir, remote, weak) = (dir.clone(), self.remote.clone(), Arc::downgrade(self));
        self.start(Subject::Listing(dir.id), async move {
            let request = Request::List {
                dir: reference,
                known: listing.as_ref().and_then(|listing| listing.digest()),
            };
            let asked = Instant::now();
            let answer = remote.call(request).await;
            let said = Said::of(&answer);
            let Some(beliefs) = weak.upgrade() else {
                return;
            };
            let is_leased = |leased| beliefs.is_leased_answer(dir.id, asked, leased);
            match said {
                Ok(Said {
                    what: Leased::Unchanged(attr),
                    leased,
                }) => {
                    let heard = Heard::from(asked).leased(is_leased(leased));
                    dir.learn(&attr, heard);
                    if let Some(listing) = listing {
                        listing.confirm(heard);
                    }
                }
                Ok(Said {
                    what: Leased::Listing(attr),
                    leased,
                }) => {
                    let heard = Heard::from(asked).leased(is_leased(leased));
                    dir.learn(&attr, heard);
                    let weak = Arc::downgrade(&beliefs);
                    drop(beliefs);
                    if let Ok(answer) = answer {
                        arrive(&dir, answer, heard, &weak).await;
                    }
                }
                Err(error) if is_gone(error) || error == CallError::Fault(Fault::NotFound) => {
                    beliefs.forget_dir(&dir);
                }
                _ => {}
            }
        });
    }

    /// The listing kept of a directory, believed or not, also if it is just coming.
    pub async fn listing_at_hand(&self, dir: &Node) -> Option<Arc<Listing>> {
        let mut renewed = self.renewed.subscribe();
        loop {
            let listing = self.listings.get(dir.id);
            if listing.is_some() || !self.is_coming(dir) {
                return listing;
            }
            renewed.changed().await.ok()?;
        }
    }

    /// Whether a listing of a directory is being fetched.
    fn is_coming(&self, dir: &Node) -> bool {
        let under_way = self.under_way.lock();
        under_way.subjects.contains(&Subject::Listing(dir.id))
    }

    /// A directory is not where it was, so nothing in it is.
    fn forget_dir(&self, dir: &Arc<Node>) {
        self.listings.remove(dir.id);
        self.names.remove_all(dir.id);
        self.disbelieve(dir);
    }

    /// Runs `renewal` unless its subject is being renewed, or too many are.
    pub(super) fn start(
        self: &Arc<Self>,
        subject: Subject,
        renewal: impl Future<Output = ()> + Send + 'static,
    ) {
        if !self.remote.is_connected() {
            return;
        }
        let mut under_way = self.under_way.lock();
        while under_way.tasks.try_join_next().is_some() {}
        if under_way.tasks.len() >= RENEWALS_MAX || !under_way.subjects.insert(subject.clone()) {
            return;
        }
        add(&self.stats.renewal, 1);
        let weak = Arc::downgrade(self);
        under_way.tasks.spawn(async move {
            renewal.await;
            if let Some(beliefs) = weak.upgrade() {
                beliefs.under_way.lock().subjects.remove(&subject);
                beliefs.renewed.send_replace(());
            }
        });
    }

    /// Has the host say whether a listing that was under a lease still holds, and waits for that, or for the new one if
    /// it is not long: one question for all its names. Whether there was one.
    pub(super) async fn relist(self: &Arc<Self>, dir: &Arc<Node>) -> bool {
        let subject = Subject::Listing(dir.id);
        let mut renewed = self.renewed.subscribe();
        for tries in 0..RELISTS_MAX {
            let Some(listing) = self.formerly_leased(dir.id) else {
                return tries > 0;
            };
            self.former.want().await;
            if Self::is_long(&listing) {
                self.verify_listing(dir, listing);
            } else {
                self.fetch_listing(dir, Some(listing));
            }
            let done = renewed.wait_for(|()| !self.under_way.lock().subjects.contains(&subject));
            // Who waits for longer asks for what he wants himself.
            if !matches!(timeout(REVIVAL_MAX, done).await, Ok(Ok(_))) {
                return false;
            }
        }
        true
    }

    /// Whether it is known, under a lease, that there is no such name.
    pub fn knows_absent(&self, dir: &Node, name: &Name) -> bool {
        let terms = self.terms(dir.id);
        let told = self.believed(dir, name);
        told.is_some_and(|told| told.attr.is_none() && terms.is_leased(told.heard))
    }

    /// What was last known that a name leads to.
    pub fn known(&self, dir: &Node, name: &Name) -> Option<Attr> {
        self.believed(dir, name)?.attr
    }

    /// What is known, under a lease, that a name leads to.
    pub fn known_leased(&self, dir: &Node, name: &Name) -> Option<Attr> {
        let terms = self.terms(dir.id);
        let told = self.believed(dir, name);
        told.filter(|told| terms.is_leased(told.heard))?.attr
    }

    /// Has the listing of a directory under a lease, if it is under none: one that was made here, for example.
    /// Not where single names are.
    pub async fn lease_listing(self: &Arc<Self>, dir: &Arc<Node>) {
        let now = Instant::now();
        let held = self.leases.held(dir.id, now);
        let listing = self.listings.get(dir.id);
        let leased = listing.as_ref().is_some_and(|known| known.heard().leased);
        if leased
            || listing.as_deref().is_some_and(Self::is_long)
            || listing.is_none() && held.is_some_and(|held| now < held.until)
        {
            return;
        }
        let subject = Subject::Listing(dir.id);
        let mut renewed = self.renewed.subscribe();
        self.fetch_listing(dir, listing);
        let done = renewed.wait_for(|()| !self.under_way.lock().subjects.contains(&subject));
        // Late, or not at all: then the next files are made as this one was.
        let _ = timeout(REVIVAL_MAX, done).await;
    }

    /// The listing of a directory, if it was told under a lease that is over.
    fn formerly_leased(&self, dir: FileId) -> Option<Arc<Listing>> {
        let listing = self.listings.get(dir)?;
        let can_be_asked =
            listing.has_digest() || listing.is_outdated() && !Self::is_long(&listing);
        (self.is_former(dir) && can_be_asked).then_some(listing)
    }

    /// Whether nobody asks about a listing yet; from now on somebody does.
    pub(super) fn claim_listing(&self, dir: FileId) -> bool {
        let mut under_way = self.under_way.lock();
        under_way.subjects.insert(Subject::Listing(dir))
    }

    /// Who asked about them has done so.
    pub(super) fn release_listings(&self, dirs: impl Iterator<Item = FileId>) {
        let mut under_way = self.under_way.lock();
        for dir in dirs {
            under_way.subjects.remove(&Subject::Listing(dir));
        }
        drop(under_way);
        self.renewed.send_replace(());
    }
}

/// Draws a listing, and has it take the place of the old one once it is complete.
async fn arrive(dir: &Arc<Node>, answer: Answer, heard: Heard, beliefs: &Weak<Beliefs>) {
    let listing = Listing::start(answer, heard);
    let is_whole = listing.is_whole(UNASKED_ENTRIES_MAX).await;
    let Some(beliefs) = beliefs.upgrade() else {
        return;
    };
    if !beliefs.doubts.allow(dir.id, heard.asked) {
        return;
    }
    if is_whole {
        beliefs.listings.renew(dir, listing.clone());
        // After it is there for whoever changes something, so that nothing is missed.
        beliefs.amend(dir, &listing);
    } else if Beliefs::is_long(&listing) {
        beliefs.evidence.is_too_long(dir.id);
    }
}

/// Whether the host said that another node is where one was believed to be.
fn is_gone(error: CallError) -> bool {
    use Fault::{Loop, NotDirectory, Stale};
    matches!(error, CallError::Fault(Stale | NotDirectory | Loop))
}
