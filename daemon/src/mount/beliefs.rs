//! What is believed of names and attributes, and how it stays fresh while it is in use.
//!
//! What the host told under a lease is believed while the lease lasts: it speaks before that changes
//! ([`news`](self), `lease`). Everything else is believed for a term, `attr_ttl`; then it is asked again, and
//! whoever looks waits. So that nobody has to, such belief that is used in the second half of its term is
//! renewed in the background ([`renewal`]). The kernel is told to believe only the first half: it comes back in
//! the second, is answered from here, and that use starts the renewal. What nobody uses is not renewed.
//! Who asks for a second name in a directory will ask for more ([`evidence`]): its listing is fetched.
//!
//! The bound stays the term: nothing is shown that the host told longer ago, unless it is leased. What a renewal
//! brings counts from when it was asked, so that an answer which crossed later news on its way does not undo them.
//!
//! Not here: nodes and their numbers (`inodes`), the entries of a listing (`listing`).
//!
//! What is found to be wrong is believed no longer, nor is any answer that was asked before ([`doubts`]): it
//! may be as old.
//!
//! Locks: `under_way`, and those of `names`, `listings`, `anchors`, `evidence`, `own`, `absences`, `unseen` and
//! `doubts`; none while another is held.

mod ask;
mod directories;
mod doubts;
mod evidence;
mod former;
mod listings;
mod names;
mod news;
mod own;
mod renewal;
mod survey;
mod trees;

use super::error::FsError;
use super::heard::Heard;
use super::inodes::Node;
use super::lease::{Leases, Terms};
use super::listing::Listing;
use super::notify::Notify;
use super::stats::RemoteStats;
use crate::rpc::Remote;
pub(super) use ask::gone_is_stale;
use directories::Directories;
use doubts::Doubts;
use evidence::Evidence;
use former::Former;
use listings::Listings;
use names::Names;
pub use names::Told;
use own::{By, Leads, Own};
use parking_lot::Mutex;
use renewal::UnderWay;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use survey::Anchors;
use tokio::sync::watch;
use tokio::time::Instant;
pub use trees::PrefetchMetadata;
use trees::Trees;
use wormhole_protocol::{Attr, FileId, FileKind, Name};

/// How long somebody waits for leases that ran out for want of use, before he asks for what he wants himself.
const REVIVAL_MAX: Duration = Duration::from_secs(2);

/// What the kernel may believe of a name.
pub struct Shown {
    /// The attributes of what it leads to, if they are believed.
    pub attr: Option<Attr>,
    /// How much longer these.
    pub ttl: Duration,
    /// How much longer that it leads there.
    pub name_ttl: Duration,
}

/// What a mount believes of its host's names.
pub struct Beliefs {
    ttl: Duration,
    remote: Arc<dyn Remote>,
    stats: Arc<RemoteStats>,
    leases: Arc<Leases>,
    names: Names,
    listings: Listings,
    evidence: Evidence,
    own: Own,
    doubts: Doubts,
    /// Where the kernel was told that some name is not there, so that it may still believe so.
    absences: Directories,
    trees: Trees,
    former: Former,
    anchors: Anchors,
    /// Who tells the kernel.
    notify: OnceLock<Arc<dyn Notify>>,
    under_way: Mutex<UnderWay>,
    /// A renewal has come to its end.
    renewed: watch::Sender<()>,
}

impl Beliefs {
    /// Nothing is believed yet; what will be, is for `ttl`, or while there is a lease.
    pub fn new(
        ttl: Duration,
        remote: Arc<dyn Remote>,
        stats: Arc<RemoteStats>,
        leases: Arc<Leases>,
    ) -> Arc<Self> {
        let names = Names::default();
        Arc::new(Self {
            ttl,
            remote,
            stats,
            leases,
            listings: Listings::new(names.unseen.clone()),
            names,
            evidence: Evidence::default(),
            own: Own::default(),
            doubts: Doubts::default(),
            absences: Directories::default(),
            trees: Trees::default(),
            former: Former::default(),
            anchors: Anchors::default(),
            notify: OnceLock::new(),
            under_way: Mutex::default(),
            renewed: watch::Sender::new(()),
        })
    }

    /// Names who tells the kernel; once.
    pub fn notify_by(&self, notify: Arc<dyn Notify>) {
        let _ = self.notify.set(notify);
    }

    /// Whether the kernel can be told to forget names, so that it may keep them as long as they are leased.
    fn kernel_forgets(&self) -> bool {
        self.notify
            .get()
            .is_some_and(|notify| notify.forgets_names())
    }

    /// How long what is under no lease is believed.
    pub fn short_term(&self) -> Duration {
        self.ttl
    }

    /// Whether the kernel forgets a node's name before it may lead elsewhere.
    pub fn guards_name(&self, node: &Node) -> bool {
        let dir = node.place().map(|(dir, _)| dir.id);
        self.kernel_forgets() && dir.is_some_and(|dir| self.terms(dir).held.is_some())
    }

    /// Whether everything is asked anew, always.
    pub fn believes_nothing(&self) -> bool {
        self.ttl.is_zero()
    }

    /// The kernel is about to forget all names.
    pub fn kernel_forgot_names(&self) {
        self.absences.forget();
        self.names.unseen.forget();
    }

    /// What holds for a directory now.
    fn terms(&self, dir: FileId) -> Terms {
        self.terms_of(Some(dir))
    }

    /// What holds for the attributes of a node now.
    fn attr_terms(&self, node: &Node) -> Terms {
        self.terms_of(node.covered_by())
    }

    fn terms_of(&self, covered_by: Option<FileId>) -> Terms {
        let now = Instant::now();
        Terms {
            now,
            ttl: self.ttl,
            held: covered_by.and_then(|dir| self.leases.held(dir, now)),
        }
    }

    /// How much longer the kernel may believe where a name of `dir` leads, which was heard so.
    pub fn name_ttl(&self, dir: &Node, name: &Name, heard: Heard) -> Duration {
        self.name_ttl_on(&self.terms(dir.id), dir, name, heard)
    }

    fn name_ttl_on(&self, terms: &Terms, dir: &Node, name: &Name, heard: Heard) -> Duration {
        let crossed = self.own.name_since(dir.id, name, heard.asked);
        if crossed.is_some_and(|known| known.leads == Leads::Unknown)
            || terms.is_leased(heard) && !self.kernel_forgets()
        {
            return Duration::ZERO;
        }
        terms.kernel_ttl(heard)
    }

    /// How much longer the kernel may believe the attributes of a node.
    pub fn attr_ttl(&self, node: &Node) -> Duration {
        let (_, ttl) = attr_on(&self.attr_terms(node), node);
        ttl
    }

    /// What the kernel is told of a node that was found as `name` in `dir`, as was heard so.
    pub fn shown(&self, dir: &Node, name: &Name, heard: Heard, node: &Node) -> Shown {
        let terms = self.terms(dir.id);
        let name_ttl = self.name_ttl_on(&terms, dir, name, heard);
        let (attr, ttl) = match node.covered_by() {
            Some(covered_by) if covered_by == dir.id => attr_on(&terms, node),
            covered_by => attr_on(&self.terms_of(covered_by), node),
        };
        Shown {
            attr,
            ttl,
            name_ttl,
        }
    }

    /// Where `name` in `dir` leads: as believed, else as the host says now.
    ///
    /// # Errors
    /// What the host answered.
    pub async fn lookup(self: &Arc<Self>, dir: &Arc<Node>, name: &Name) -> Result<Told, FsError> {
        let mut believed = self.believed(dir, name);
        if believed.is_none()
            && self.was_leased(dir.id, name)
            && self.leases.revive(dir.id, REVIVAL_MAX).await
        {
            believed = self.believed(dir, name);
        }
        if believed.is_none() && self.relist(dir).await {
            believed = self.believed(dir, name);
        }
        let Some(told) = believed else {
            self.suspect(dir, name);
            return self.ask_name(dir, name).await;
        };
        if self.terms(dir.id).is_old(told.heard) {
            self.renew(dir, name);
        }
        if told.attr.is_none() && self.absences.note(dir.id) {
            // Whoever is told since that there is such a name sees that the kernel knows of none.
            if let Some(now) = self.believed(dir, name) {
                return Ok(now);
            }
            return self.ask_name(dir, name).await;
        }
        Ok(told)
    }

    /// Whether something is known of a name that was told under a lease, be that over or not.
    fn was_leased(&self, dir: FileId, name: &Name) -> bool {
        let listing = self.listings.get(dir);
        listing.is_some_and(|listing| listing.heard().leased)
            || self
                .names
                .get(dir, name)
                .is_some_and(|told| told.heard.leased)
    }

    /// What is believed of a node's attributes.
    pub fn known_attr(&self, node: &Node) -> Option<Attr> {
        node.fresh_attr(&self.attr_terms(node))
    }

    /// Attributes of a node: as believed, else as the host says now.
    ///
    /// # Errors
    /// [`FsError::Stale`] if it is no longer where it was.
    pub async fn attr(self: &Arc<Self>, node: &Arc<Node>) -> Result<Attr, FsError> {
        let is_old = self.attr_terms(node).is_old(node.heard());
        if is_old || self.known_attr(node).is_none() {
            self.refresh(node);
        }
        if let Some(attr) = self.known_attr(node) {
            return Ok(attr);
        }
        if let Some(dir) = node.covered_by()
            && node.heard().leased
            && self.leases.revive(dir, REVIVAL_MAX).await
        {
            self.refresh(node);
        }
        if self.known_attr(node).is_none() && self.relist(node).await {
            // It is a directory, and its own attributes come with its entries.
            self.learn_dir(node, &node.attr());
        }
        if self.known_attr(node).is_none()
            && let Some((dir, _)) = node.place()
            && self.relist(&dir).await
        {
            self.refresh(node);
        }
        match self.known_attr(node) {
            Some(attr) => Ok(attr),
            None => self.ask_attr(node).await,
        }
    }

    /// The listing of a directory: the present one while it is believed, else a new one.
    ///
    /// # Errors
    /// What the host answered.
    pub async fn list(self: &Arc<Self>, dir: &Arc<Node>) -> Result<Arc<Listing>, FsError> {
        let mut known = self.listings.get(dir.id);
        if known.is_none() {
            self.former.read().await;
            known = self.listings.get(dir.id);
        }
        if self.joinable(dir).is_none() && known.is_some_and(|known| known.heard().leased) {
            self.leases.revive(dir.id, REVIVAL_MAX).await;
        }
        if let Some(listing) = self.joinable(dir) {
            if self.terms(dir.id).is_old(listing.heard()) && self.is_renewable(dir.id, &listing) {
                self.fetch_listing(dir, Some(listing.clone()));
            }
            return Ok(listing);
        }
        if self.relist(dir).await
            && let Some(listing) = self.joinable(dir)
        {
            return Ok(listing);
        }
        if let Some(listing) = self.list_with_tree(dir).await {
            return Ok(listing);
        }
        self.ask_listing(dir).await
    }

    fn joinable(&self, dir: &Node) -> Option<Arc<Listing>> {
        let listing = self.listings.get(dir.id)?;
        let is_joinable = listing.is_joinable(&self.terms(dir.id)) && !listing.is_worn();
        is_joinable.then_some(listing)
    }

    /// Takes note that a change of ours, asked for at `asked`, has given `name` to a node, or taken it from one,
    /// and of the directory's attributes after it.
    pub fn renamed(
        &self,
        dir: &Arc<Node>,
        name: &Name,
        attr: Option<Attr>,
        dir_attr: Option<&Attr>,
        asked: Instant,
    ) {
        let now = Instant::now();
        match dir_attr {
            Some(dir_attr) => {
                dir.learn_change(dir_attr, self.of_change(Some(dir.id), asked));
                // The kernel may forget the node; what it is found by again, an entry of the directory it is in,
                // knows nothing of changes in it.
                self.own.attr(&dir.attr(), now, By::Us);
            }
            None => dir.doubt(now),
        }
        let crossed = self.is_crossed(dir.id, name, asked);
        if let Some(attr) = &attr {
            self.own.attr(attr, now, By::Us);
            self.forget_dir_attr(attr);
        }
        if crossed {
            return self.doubt_name(dir.id, name, now);
        }
        let heard = self.of_change(Some(dir.id), asked);
        self.own.name(dir.id, name, Leads::To(attr), now, By::Us);
        self.names.put(dir.id, name, Told::new(attr, heard));
        if let Some(listing) = self.listings.get(dir.id) {
            listing.set(name, attr, heard);
            self.listings.touch();
        }
    }

    /// Whether the host has spoken of a name since a change of ours to it was asked for: which of the two is later,
    /// nobody knows.
    pub fn is_crossed(&self, dir: FileId, name: &Name, asked: Instant) -> bool {
        let known = self.own.name_since(dir, name, asked);
        known.is_some_and(|known| known.by == By::Host)
    }

    /// How the answer was heard, just now, to a change of ours that was asked for at `asked` and concerns what the
    /// lease of `dir` covers.
    pub fn of_change(&self, dir: Option<FileId>, asked: Instant) -> Heard {
        let leased = dir.is_some_and(|dir| self.is_leased_answer(dir, asked, false));
        Heard::from(Instant::now()).leased(leased)
    }

    /// Whether nobody else can have changed a file since then without this mount being told: its directory has been
    /// under a lease all along, and is now.
    pub fn is_leased_since(&self, node: &Node, since: Instant) -> bool {
        let terms = self.attr_terms(node);
        let dir = node.covered_by();
        terms.is_leased(Heard::from(since).leased(true))
            && dir.is_some_and(|dir| self.is_leased_answer(dir, since, false))
    }

    /// Nobody knows where a name leads: it is to be asked for.
    fn doubt_name(&self, dir: FileId, name: &Name, now: Instant) {
        self.own.name(dir, name, Leads::Unknown, now, By::Host);
        self.names.remove(dir, name);
        if let Some(listing) = self.listings.get(dir) {
            listing.doubt(name, now);
        }
    }

    /// What is believed of a name now; of two sayings the later one.
    fn believed(&self, dir: &Node, name: &Name) -> Option<Told> {
        let terms = self.terms(dir.id);
        let listed = self
            .listings
            .get(dir.id)
            .and_then(|listing| listing.find(name, &terms));
        let named = self.names.get(dir.id, name);
        let named = named.filter(|told| terms.believes(told.heard));
        match (listed, named) {
            (Some(listed), Some(named)) if named.heard.told > listed.heard.told => Some(named),
            (None, named) => named,
            (listed, _) => listed,
        }
    }

    /// Gives a node what was heard of its name since its attributes were told; if that is nothing new
    /// and they are still believed, renews them.
    fn refresh(self: &Arc<Self>, node: &Arc<Node>) {
        let Some((dir, name)) = node.place() else {
            if self.known_attr(node).is_some() {
                self.renew_root(node);
            }
            return;
        };
        match self.believed(&dir, &name) {
            Some(told) if told.heard.told > node.told() => match told.attr {
                Some(attr) if attr.id == node.id => {
                    node.learn(&attr, self.of_entry(&attr, told.heard))
                }
                // Something else is there now, or nothing: only the host knows more.
                _ => node.doubt(Instant::now()),
            },
            _ => {}
        }
        let terms = self.attr_terms(node);
        if terms.is_old(node.heard()) && node.fresh_attr(&terms).is_some() {
            self.renew(&dir, &name);
        }
    }

    /// How the attributes of an entry were heard, if the entry was heard so: the lease of its directory does not
    /// cover all. What a directory within it is told of is not put into the entry, so only an answer about
    /// itself is under its lease.
    pub fn of_entry(&self, attr: &Attr, heard: Heard) -> Heard {
        let is_covered = attr.kind != FileKind::Directory && attr.links == 1;
        heard.leased(heard.leased && is_covered)
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
        let terms = self.terms(dir.id);
        let listing = self.listings.get(dir.id);
        if listing.is_some_and(|listing| listing.find(&name, &terms).is_some()) {
            self.listings.remove(dir.id);
        }
    }
}

/// The attributes of a node if they are believed, and how much longer the kernel may believe them.
fn attr_on(terms: &Terms, node: &Node) -> (Option<Attr>, Duration) {
    let attr = node.fresh_attr(terms);
    // What is written here and not yet there will change them.
    let ttl = match attr {
        Some(_) if node.is_clean() => terms.kernel_ttl(node.heard()),
        _ => Duration::ZERO,
    };
    (attr, ttl)
}
