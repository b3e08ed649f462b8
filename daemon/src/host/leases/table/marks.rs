//! What happens to leased directories, marked for those who are to be told.

use super::super::super::limits::WATCH_KEPT_MIN;
use super::super::super::watch::{Event, Happened, Watching};
use super::super::touch::{By, Wait};
use super::{Holding, MountKey, Table};
use std::collections::HashSet;
use tokio::time::Instant;
use wormhole_protocol::{FileId, Name};

/// What is marked.
pub(super) enum Mark {
    Name(Name, Happened),
    Itself,
    Over,
}

impl<W: Watching> Table<W> {
    /// Ends the leases of the directory that was granted longest ago, so that there will be room for another.
    pub(super) fn evict(&mut self, now: Instant) {
        let Some((id, dir)) = self.dirs.peek_lru() else {
            return;
        };
        if now.saturating_duration_since(dir.granted) < WATCH_KEPT_MIN {
            return;
        }
        let id = *id;
        self.counted.evicted += 1;
        // Once is enough, until all have heard of it.
        if let Some(dir) = self.dirs.get_mut(&id) {
            dir.granted = now;
        }
        self.mark_for(id, now, &Mark::Over, |_, _, _| true);
        self.release_lapsed(now);
    }

    /// Something happened.
    pub(in super::super) fn event(&mut self, event: Event, now: Instant) {
        match event {
            Event::Name { watch, name, what } => {
                let id = self.by_watch.get(&watch).copied();
                if let (Some(id), Ok(name)) = (id, Name::new(name)) {
                    let by = self.touched(id, Some(&name), what);
                    self.mark_unless_own(id, now, by, &Mark::Name(name, what));
                }
            }
            Event::Itself(watch) => {
                if let Some(id) = self.by_watch.get(&watch).copied() {
                    let by = self.touched(id, None, Happened::Changed);
                    self.mark_unless_own(id, now, by, &Mark::Itself);
                }
            }
            Event::Ended(watch) => {
                if let Some(id) = self.by_watch.remove(&watch) {
                    // Who removed it knows.
                    let by = self.touched(id, None, Happened::Changed);
                    let by = by.map(|by| by.mount);
                    self.mark_for(id, now, &Mark::Over, |holder, _, _| Some(holder) != by);
                    self.dirs.pop(&id);
                    self.allowance.give();
                }
            }
            Event::Overflow => self.overflow(now),
        }
    }

    /// Marks a name as changed, of which no watch tells, for all `but` one.
    pub(in super::super) fn mark(
        &mut self,
        id: FileId,
        name: &Name,
        but: Option<MountKey>,
        now: Instant,
    ) {
        let mark = Mark::Name(name.clone(), Happened::Changed);
        self.mark_for(id, now, &mark, |holder, _, _| Some(holder) != but);
    }

    /// Ends all leases: something changes nobody knows where.
    pub(in super::super) fn end_all(&mut self, now: Instant) {
        let holders: HashSet<_> = self
            .dirs
            .iter()
            .flat_map(|(_, dir)| &dir.holdings)
            .filter(|(_, holding)| !holding.over)
            .map(|(key, _)| *key)
            .collect();
        for key in holders {
            if let Some(mount) = self.mounts.get_mut(&key) {
                mount.queue.all_over();
                mount.wake.notify_one();
            }
        }
        let ids: Vec<_> = self.dirs.iter().map(|(id, _)| *id).collect();
        for id in ids {
            self.mark_for(id, now, &Mark::Over, |_, _, _| true);
        }
    }

    /// Who alone is changing a name in a directory, or the directory.
    fn touched(&self, id: FileId, name: Option<&Name>, what: Happened) -> Option<By> {
        if self.touches.is_empty() {
            return None;
        }
        let path = &self.dirs.peek(&id)?.path;
        let path = name.map_or_else(|| Some(path.clone()), |name| path.join(name).ok())?;
        self.touches.by(path, what)
    }

    /// Marks what happened in a directory. Who alone is changing it learns what became of it from its answer,
    /// unless older news is still under way, which would then come last: be it of another directory, for a
    /// name in it may be this one.
    fn mark_unless_own(&mut self, id: FileId, now: Instant, by: Option<By>, mark: &Mark) {
        let mut quiet = false;
        self.mark_for(id, now, mark, |holder, holding, settled| {
            let own = by.as_ref().is_some_and(|by| by.mount == holder);
            let silent = own && settled && !holding.over;
            quiet |= silent;
            !silent
        });
        if let Some(by) = by
            && quiet
        {
            self.touches.suppressed(&by, id);
        }
    }

    /// Marks what happened in a directory for all its holders that `tell` lets.
    pub(super) fn mark_for(
        &mut self,
        id: FileId,
        now: Instant,
        mark: &Mark,
        mut tell: impl FnMut(MountKey, &Holding, bool) -> bool,
    ) {
        let Some(dir) = self.dirs.peek_mut(&id) else {
            return;
        };
        for (key, holding) in &mut dir.holdings {
            let Some(mount) = self.mounts.get_mut(key) else {
                continue;
            };
            let settled = mount.acked >= mount.queue.last();
            if !tell(*key, holding, settled) {
                continue;
            }
            if !holding.over {
                holding.last = match mark {
                    Mark::Name(name, what) => {
                        let itself = *what == Happened::Named;
                        mount.queue.mark(id, Some(name.clone()), itself)
                    }
                    Mark::Itself => mount.queue.mark(id, None, true),
                    Mark::Over => mount.queue.over(id),
                };
                if let Some(end) = mount.queue.end_of(id) {
                    holding.over = true;
                    mount.ending.insert(holding.last, end);
                }
                mount.wake.notify_one();
            }
            if mount.until > now {
                self.touches.wait(&Wait {
                    mount: *key,
                    hearing: mount.hearing,
                    number: holding.last,
                    until: mount.until,
                });
            }
        }
    }

    /// Events were lost: nothing can be promised of what was watched.
    fn overflow(&mut self, now: Instant) {
        self.counted.overflows += 1;
        self.end_all(now);
        for (_, dir) in self.dirs.iter_mut() {
            dir.unsure = true;
        }
    }
}
