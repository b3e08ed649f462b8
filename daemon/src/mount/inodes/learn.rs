//! What a node learns: from answers to questions, from answers to changes of ours, and from what the host tells
//! unasked; and what of it is older than what is known.

use super::node::Node;
use crate::mount::heard::Heard;
use std::sync::atomic::Ordering::Relaxed;
use tokio::time::Instant;
use wormhole_protocol::Attr;

impl Node {
    /// Takes what the host says now. An answer about another file, or an older one, changes nothing, nor
    /// one to a question from before a change of ours was answered, or the host spoke unasked.
    pub fn learn(&self, attr: &Attr, heard: impl Into<Heard>) {
        self.learn_answer(attr, heard.into(), false);
    }

    /// Takes what came with bytes of the file. What was asked for after its attributes had been told under a
    /// lease is under the same, if there still is that one, be it of another version: one of a file that
    /// changed a moment ago is good for one answer, but who gave it speaks before it changes once more.
    pub fn learn_content(&self, attr: &Attr, heard: Heard) {
        self.learn_answer(attr, heard, true);
    }

    fn learn_answer(&self, attr: &Attr, heard: Heard, has_content: bool) {
        let mut belief = self.belief.lock();
        let settled = belief.own.max(belief.news);
        if settled.is_some_and(|settled| heard.asked < settled) {
            return;
        }
        let doubted = belief.doubted;
        if attr.id != self.id
            || heard.told < belief.heard.told
            || doubted.is_some_and(|doubted| heard.told < doubted)
        {
            return;
        }
        // Nothing new was said of what the host promised to speak of, or it was seen later under the same promise.
        let later = has_content && attr.links == 1 && heard.asked >= belief.heard.told;
        let stays =
            belief.heard.leased && doubted.is_none() && (later || is_same(&belief.attr, attr));
        belief.heard = if stays && !heard.leased {
            Heard {
                told: heard.told,
                ..belief.heard
            }
        } else {
            heard.leased(heard.leased && doubted.is_none_or(|doubted| heard.asked > doubted))
        };
        belief.attr = *attr;
        belief.doubted = None;
    }

    /// Takes what the host said in answer to a change of ours. Answers may overtake each other: of two the
    /// one with the later change time counts, of equal ones the longer file, since a write never shortens.
    pub fn learn_change(&self, attr: &Attr, heard: impl Into<Heard>) {
        self.learn_own(attr, heard.into(), true);
    }

    /// Takes what the host said of it in answer to a change with which nothing else was under way.
    pub fn learn_alone(&self, attr: &Attr, heard: impl Into<Heard>) {
        self.learn_own(attr, heard.into(), false);
    }

    fn learn_own(&self, attr: &Attr, heard: Heard, may_be_overtaken: bool) {
        let mut belief = self.belief.lock();
        if attr.id != self.id {
            return;
        }
        let known = (belief.attr.changed, belief.attr.size);
        if !may_be_overtaken || (attr.changed, attr.size) >= known {
            belief.attr = *attr;
        }
        let told = if may_be_overtaken {
            heard.told.max(belief.heard.told)
        } else {
            heard.told
        };
        // Believed from its answer on, as what was asked then.
        belief.heard = Heard {
            asked: told,
            told,
            leased: heard.leased,
        };
        belief.own = Some(told);
        // The host spoke of it while this was under way: which of the two is later, nobody knows.
        let crossed = belief.news.is_some_and(|news| news >= heard.asked);
        belief.doubted = crossed.then_some(told);
    }

    /// Takes what the host said of it unasked. Of changes of ours since `crossing` it may not know: then only
    /// what is certainly later is believed.
    pub fn learn_news(&self, attr: &Attr, now: Instant, crossing: Instant) {
        let mut belief = self.belief.lock();
        if attr.id != self.id {
            return;
        }
        self.unasked.fetch_add(1, Relaxed);
        let may_cross = belief.own.is_some_and(|own| own >= crossing);
        belief.news = Some(now);
        if may_cross && attr.changed <= belief.attr.changed && !is_same(&belief.attr, attr) {
            belief.doubted = Some(now);
            return;
        }
        belief.attr = *attr;
        belief.heard = Heard::from(now).leased(true);
        belief.doubted = None;
    }

    /// Stops believing the attributes until they are told again.
    pub fn doubt(&self, now: Instant) {
        self.unasked.fetch_add(1, Relaxed);
        self.belief.lock().doubted = Some(now);
    }
}

/// Whether attributes are equal but for the access time, of which the host does not speak.
pub(in crate::mount) fn is_same(a: &Attr, b: &Attr) -> bool {
    let b = Attr {
        accessed: a.accessed,
        ..*b
    };
    *a == b
}
