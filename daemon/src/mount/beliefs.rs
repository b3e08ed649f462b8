//! What is believed of names and attributes, and how it stays fresh while it is in use.
//!
//! What the host told is believed for a term, `attr_ttl`; then it is asked again, and whoever looks
//! waits. So that nobody has to, belief that is used in the second half of its term is renewed in the
//! background ([`renewal`]). The kernel is told to believe only the first half: it comes back in the
//! second, is answered from here, and that use starts the renewal. What nobody uses is not renewed.
//! Who asks for a second name in a directory will ask for more ([`evidence`]): its listing is fetched.
//!
//! The bound stays the term: nothing is shown that the host told longer ago. What a renewal brings counts
//! from when it was asked, so that an answer which crossed later news on its way does not undo them.
//!
//! Not here: nodes and their numbers (`inodes`), the entries of a listing (`listing`).
//!
//! What is found to be wrong is believed no longer, nor is any answer that was asked before ([`doubts`]): it
//! may be as old.
//!
//! Locks: `under_way`, and those of `names`, `listings`, `evidence` and `doubts`; none while another is held.

mod doubts;
mod evidence;
mod listings;
mod names;
mod own;
mod renewal;

use super::error::FsError;
use super::heard::Heard;
use super::inodes::Node;
use super::listing::Listing;
use super::stats::{RemoteStats, add};
use crate::rpc::{Answer, Remote};
use doubts::Doubts;
use evidence::Evidence;
use listings::Listings;
use names::Names;
pub use names::Told;
use own::Own;
use parking_lot::Mutex;
use renewal::UnderWay;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::time::Instant;
use wormhole_protocol::{Attr, Fault, FileId, Name, Reply, Request};

/// What a mount believes of its host's names.
pub struct Beliefs {
    ttl: Duration,
    remote: Arc<dyn Remote>,
    stats: Arc<RemoteStats>,
    names: Names,
    listings: Listings,
    evidence: Evidence,
    own: Own,
    doubts: Doubts,
    under_way: Mutex<UnderWay>,
}

impl Beliefs {
    /// Nothing is believed yet; what will be, is for `ttl`.
    pub fn new(ttl: Duration, remote: Arc<dyn Remote>, stats: Arc<RemoteStats>) -> Arc<Self> {
        Arc::new(Self {
            ttl,
            remote,
            stats,
            names: Names::default(),
            listings: Listings::default(),
            evidence: Evidence::default(),
            own: Own::default(),
            doubts: Doubts::default(),
            under_way: Mutex::default(),
        })
    }

    /// How much longer the kernel may believe what was told at `told`: until half the term is over, then
    /// a quarter of what is left. So it comes back in time for a renewal, and again soon after one.
    pub fn kernel_ttl(&self, told: Instant) -> Duration {
        let age = Instant::now().saturating_duration_since(told);
        let first_half = (self.ttl / 2).saturating_sub(age);
        first_half.max(self.ttl.saturating_sub(age) / 4)
    }

    /// Where `name` in `dir` leads: as believed, else as the host says now.
    ///
    /// # Errors
    /// What the host answered.
    pub async fn lookup(self: &Arc<Self>, dir: &Arc<Node>, name: &Name) -> Result<Told, FsError> {
        let now = Instant::now();
        let Some(told) = self.believed(dir, name, now) else {
            self.suspect(dir, name, now);
            return self.ask_name(dir, name).await;
        };
        if self.is_old(told.at, now) {
            self.renew(dir, name);
        }
        Ok(told)
    }

    /// What is believed of a node's attributes.
    pub fn known_attr(&self, node: &Node) -> Option<Attr> {
        node.fresh_attr(self.ttl, Instant::now())
    }

    /// Attributes of a node: as believed, else as the host says now.
    ///
    /// # Errors
    /// [`FsError::Stale`] if it is no longer where it was.
    pub async fn attr(self: &Arc<Self>, node: &Arc<Node>) -> Result<Attr, FsError> {
        let now = Instant::now();
        if self.is_old(node.told(), now) {
            self.refresh(node, now);
        }
        match node.fresh_attr(self.ttl, now) {
            Some(attr) => Ok(attr),
            None => self.ask_attr(node).await,
        }
    }

    /// The listing of a directory: the present one while it is believed, else a new one.
    ///
    /// # Errors
    /// What the host answered.
    pub async fn list(self: &Arc<Self>, dir: &Arc<Node>) -> Result<Arc<Listing>, FsError> {
        let now = Instant::now();
        if let Some(listing) = self.listings.get(dir)
            && listing.is_joinable(self.ttl, now)
        {
            if self.is_old(listing.told(), now) && self.is_renewable(&listing, now) {
                self.fetch_listing(dir, Some(listing.clone()));
            }
            return Ok(listing);
        }
        let request = Request::List {
            dir: dir.reference()?,
            known: None,
        };
        let asked = Instant::now();
        let answer = self.ask(request, |stats| &stats.list).await;
        let answer = answer.map_err(gone_is_stale)?;
        let Reply::Listing(attr) = &answer.reply else {
            return Err(FsError::Io);
        };
        dir.learn(attr, Heard::since(asked));
        let listing = Listing::start(answer, asked);
        self.amend(dir, &listing);
        if self.doubts.allow(dir.id, asked) {
            self.listings.put(dir, listing.clone(), self.ttl);
        }
        Ok(listing)
    }

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

    async fn ask_name(&self, dir: &Arc<Node>, name: &Name) -> Result<Told, FsError> {
        let request = Request::Lookup {
            dir: dir.reference()?,
            name: name.clone(),
        };
        let asked = Instant::now();
        let attr = match self.ask(request, |stats| &stats.lookup).await {
            Ok(Answer {
                reply: Reply::Attr(attr),
                ..
            }) => Some(attr),
            Ok(_) => return Err(FsError::Io),
            Err(FsError::Fault(Fault::NotFound)) => None,
            Err(error) => return Err(error),
        };
        let told = Told::new(attr, Heard::since(asked));
        if !self.ttl.is_zero() && self.doubts.allow(dir.id, asked) {
            self.names.put(dir.id, name, told);
        }
        Ok(told)
    }

    async fn ask_attr(&self, node: &Arc<Node>) -> Result<Attr, FsError> {
        let request = Request::Getattr {
            node: node.reference()?,
        };
        let asked = Instant::now();
        let answer = self.ask(request, |stats| &stats.getattr).await;
        let answer = answer.map_err(gone_is_stale).inspect_err(|error| {
            if *error == FsError::Stale {
                self.disbelieve(node);
            }
        })?;
        match answer.reply {
            Reply::Attr(attr) if attr.id == node.id => {
                node.learn(&attr, Heard::since(asked));
                // Not `attr`: a change of ours may have been answered meanwhile.
                Ok(node.attr())
            }
            _ => Err(FsError::Io),
        }
    }

    /// Takes note that a change of ours has given `name` to a node, or taken it from one, and of the
    /// directory's attributes after it.
    pub fn renamed(
        &self,
        dir: &Arc<Node>,
        name: &Name,
        attr: Option<Attr>,
        dir_attr: Option<&Attr>,
    ) {
        let now = Instant::now();
        match dir_attr {
            Some(dir_attr) => dir.learn_change(dir_attr, now),
            None => dir.doubt(now),
        }
        self.own.name(dir.id, name, attr, now);
        if let Some(attr) = &attr {
            self.own.attr(attr, now);
        }
        self.names.put(dir.id, name, Told::new(attr, now));
        if let Some(listing) = self.listings.get(dir) {
            listing.set(name, attr, now);
        }
    }

    /// Takes note that a change of ours, asked for at `asked`, has made this directory: there is nothing in it,
    /// and whoever fills it need not ask for each name whether there is.
    pub fn made_dir(&self, dir: &Node, asked: Instant) {
        let listing = Listing::empty(asked);
        // The kernel cannot know it yet, so nothing of ours is in it.
        self.listings.put(dir, listing, self.ttl);
    }

    /// Takes note of attributes that came with an answer to a change of ours.
    pub fn changed(&self, attr: &Attr) {
        self.own.attr(attr, Instant::now());
    }

    /// The attributes of a node as this mount left them, if the others were asked for before.
    pub fn own_attr(&self, id: FileId, asked: Instant) -> Option<(Attr, Instant)> {
        self.own.attr_since(id, asked)
    }

    /// Gives a listing what was changed here since it was asked for.
    fn amend(&self, dir: &Node, listing: &Listing) {
        for (name, attr, at) in self.own.names_since(dir.id, listing.asked()) {
            listing.set(&name, attr, at);
        }
    }

    /// What is believed of a name now; of two sayings the later one.
    fn believed(&self, dir: &Node, name: &Name, now: Instant) -> Option<Told> {
        let listed = self
            .listings
            .get(dir)
            .and_then(|listing| listing.find(name, self.ttl, now));
        let named = self
            .names
            .get(dir.id, name)
            .filter(|told| now.saturating_duration_since(told.at) < self.ttl);
        match (listed, named) {
            (Some(listed), Some(named)) if named.at > listed.at => Some(named),
            (None, named) => named,
            (listed, _) => listed,
        }
    }

    /// Whether the first half of the term is over.
    fn is_old(&self, told: Instant, now: Instant) -> bool {
        now.saturating_duration_since(told) >= self.ttl / 2
    }

    /// Gives a node what was heard of its name since its attributes were told; if that is nothing new
    /// and they are still believed, renews them.
    fn refresh(self: &Arc<Self>, node: &Arc<Node>, now: Instant) {
        let Some((dir, name)) = node.place() else {
            if node.fresh_attr(self.ttl, now).is_some() {
                self.renew_root(node);
            }
            return;
        };
        match self.believed(&dir, &name, now) {
            Some(told) if told.at > node.told() => match told.attr {
                Some(attr) if attr.id == node.id => node.learn(&attr, told.heard()),
                // Something else is there now, or nothing: only the host knows more.
                _ => node.doubt(now),
            },
            _ => {}
        }
        if self.is_old(node.told(), now) && node.fresh_attr(self.ttl, now).is_some() {
            self.renew(&dir, &name);
        }
    }

    /// A node is not where it was: whatever is believed to be there was told before, and is no longer.
    /// The kernel asks once more and no further.
    pub fn disbelieve(&self, node: &Arc<Node>) {
        let now = Instant::now();
        node.doubt(now);
        let Some((dir, name)) = node.place() else {
            return;
        };
        self.doubts.note(dir.id, now);
        self.names.remove(dir.id, &name);
        let listing = self.listings.get(&dir);
        if listing.is_some_and(|listing| listing.find(&name, self.ttl, now).is_some()) {
            self.listings.remove(&dir);
        }
    }
}

/// A node the kernel holds is not where it was: the kernel must look again, whatever the host finds
/// at its old name.
pub(super) fn gone_is_stale(error: FsError) -> FsError {
    match error {
        FsError::Fault(Fault::NotFound | Fault::NotDirectory | Fault::Loop) => FsError::Stale,
        other => other,
    }
}
