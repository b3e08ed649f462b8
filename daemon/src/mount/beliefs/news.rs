//! What the host tells unasked: put into all that is believed, and what the kernel must forget for it.
//!
//! What is told may cross with changes of this mount. A name or a file it changed lately is believed
//! as told only if that is certainly later; else it is asked for again.
//!
//! The kernel forgets names, all at once, only if one may lead elsewhere for it than it does: attributes that
//! changed, and names it cannot have heard of, cost it nothing. Whether this mount knew better by then does not
//! matter: the kernel may not have asked since (`unseen` of the names).

use super::{Beliefs, By, Leads, Told};
use crate::mount::heard::Heard;
use crate::mount::inodes::learn::is_same;
use crate::mount::inodes::{Inodes, Node};
use crate::mount::notify::Forget;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use wormhole_protocol::{Attr, FileId, FileKind, Name, NameNews};

/// For so long news may cross with a change of ours that has been answered: longer than a term, and than a
/// connection lives on which nothing arrives.
const CROSSING_MAX: Duration = Duration::from_secs(15);

/// Since when nothing may have changed in a directory whose entries the kernel may believe from a listing.
const QUIET: Duration = Duration::from_secs(10);

impl Beliefs {
    /// Takes what the host told of a directory that is leased; says what the kernel must forget.
    pub fn take_news(
        &self,
        inodes: &Inodes,
        dir: FileId,
        attr: Option<&Attr>,
        names: &[NameNews],
    ) -> Forget {
        let now = Instant::now();
        let mut forget = Forget::default();
        if let Some(attr) = attr.filter(|attr| attr.id == dir) {
            if let Some(listing) = self.listings.get(dir) {
                listing.set_own_attr(attr, Heard::from(now).leased(true));
            }
            self.take_attr(inodes, attr, now, &mut forget);
        }
        for news in names {
            self.take_name_news(inodes, dir, news, now, &mut forget);
        }
        if self.listings.get(dir).is_some_and(|kept| kept.is_worn()) {
            self.listings.remove(dir);
        }
        if forget.names {
            self.kernel_forgot_names();
        }
        self.listings.touch();
        forget
    }

    /// Whether the names of a directory have not changed lately. If they did they may again, just when the kernel
    /// takes a page of its entries: it would have these of the epoch in which it takes them, not of that in which
    /// it asked (`fuse_direntplus_link` of Linux), and not hear that they are old.
    pub fn is_quiet(&self, dir: FileId) -> bool {
        let since = Instant::now().checked_sub(QUIET);
        since.is_none_or(|since| !self.own.changed_since(dir, since))
    }

    fn take_name_news(
        &self,
        inodes: &Inodes,
        dir: FileId,
        news: &NameNews,
        now: Instant,
        forget: &mut Forget,
    ) {
        let name = &news.name;
        let before = self.last_known(dir, name);
        let is_sure = self.is_later(dir, news, now);
        if is_sure {
            let heard = Heard::from(now).leased(true);
            self.own
                .name(dir, name, Leads::To(news.attr), now, By::Host);
            self.names.put(dir, name, Told::new(news.attr, heard));
            if let Some(listing) = self.listings.get(dir) {
                listing.set(name, news.attr, heard);
            }
        } else {
            self.doubt_name(dir, name, now);
        }
        if let Some(attr) = &news.attr {
            self.take_attr(inodes, attr, now, forget);
        }
        let leads_to = |attr: Option<Attr>| attr.map(|attr| attr.id);
        let same = is_sure && before.is_some_and(|before| leads_to(before) == leads_to(news.attr));
        // What it was found to be by an answer that overtook this is new to the kernel.
        let unseen = self.names.unseen.may_include(dir);
        if same && !unseen {
            return;
        }
        // Not before: who finds the directory from here on finds the news in it.
        let node = inodes.by_id(dir);
        // What was there has lost a name at the least.
        if let Some(lost) = before.flatten().and_then(|attr| inodes.by_id(attr.id))
            && news.attr.is_none_or(|attr| attr.id != lost.id)
        {
            if is_at(&lost, dir, name) {
                lost.doubt(now);
            }
            if is_sure {
                lost.leave(dir, name);
            }
            forget.attributes.push(lost.ino);
        }
        if let Some(attr) = &news.attr
            && let (Some(found), Some(dir)) = (inodes.by_id(attr.id), &node)
            && is_sure
        {
            found.move_to(dir, name);
        }
        // The kernel knows no name of a directory it does not know. (Absences are shown before, not after, it
        // is looked whether they still hold.)
        let was_absent = before == Some(None);
        forget.names |= node.is_some() && (unseen || !was_absent || self.absences.may_include(dir));
    }

    /// Whether what is told of a name is certainly later than the last change of ours.
    fn is_later(&self, dir: FileId, news: &NameNews, now: Instant) -> bool {
        let Some(crossing) = now.checked_sub(CROSSING_MAX) else {
            return true;
        };
        if self.own.forgotten(crossing) {
            return false;
        }
        let known = self.own.name_since(dir, &news.name, crossing);
        let ours = known.filter(|known| known.ours >= Some(crossing));
        let leads_on = match (ours.map(|known| known.leads), news.attr) {
            (None, _) => true,
            (Some(Leads::To(Some(ours))), Some(theirs)) => ours.id == theirs.id,
            (Some(Leads::To(None)), None) => true,
            _ => false,
        };
        leads_on
            && news
                .attr
                .is_none_or(|attr| self.is_later_attr(&attr, crossing))
    }

    fn is_later_attr(&self, attr: &Attr, crossing: Instant) -> bool {
        match self.own.attr_since(attr.id, crossing) {
            Some((ours, _, By::Us)) => attr.changed > ours.changed || is_same(attr, &ours),
            _ => true,
        }
    }

    /// Takes attributes of a node, if the kernel knows it.
    fn take_attr(&self, inodes: &Inodes, attr: &Attr, now: Instant, forget: &mut Forget) {
        let crossing = now.checked_sub(CROSSING_MAX).unwrap_or(now);
        if self.is_later_attr(attr, crossing) {
            self.own.attr(attr, now, By::Host);
        }
        let Some(node) = inodes.by_id(attr.id) else {
            return;
        };
        // Of a sub-directory only the lease of its own tells.
        node.learn_news(attr, now, crossing);
        let is_other =
            attr.kind == FileKind::File && node.drop_kernel_version_unless(attr.version).is_some();
        if is_other {
            forget.pages.push(node.ino);
        } else {
            forget.attributes.push(node.ino);
        }
    }

    /// Where a name led when it was last told, believed or not; none if that is not known.
    fn last_known(&self, dir: FileId, name: &Name) -> Option<Option<Attr>> {
        let listed = self
            .listings
            .get(dir)
            .and_then(|listing| listing.last_known(name));
        let named = self.names.get(dir, name).map(|told| told.attr);
        match (listed, named) {
            // Of two that differ, neither is certain.
            (Some(listed), Some(named)) if listed.map(|a| a.id) != named.map(|a| a.id) => None,
            (Some(listed), _) => Some(listed),
            (None, named) => named,
        }
    }
}

fn is_at(node: &Arc<Node>, dir: FileId, name: &Name) -> bool {
    node.place()
        .is_some_and(|(parent, known)| parent.id == dir && known == *name)
}
