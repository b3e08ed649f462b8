//! Changes under way: which names they touch, and who has to hear of them before they are answered.
//!
//! A change opens a window before its first effect, and closes it when all events of its effects were read. What
//! was marked for other mounts in between is what it has to wait for; a little too much, never too little. Of
//! what happens to the names it touches its own mount is not told: its answer, looked at after the window, says
//! it all. A name is expected to come or go once, though: if it does so more often somebody else was at it as
//! well, and the mount is told after all.

use super::super::watch::Happened;
use super::queue::Number;
use super::table::MountKey;
use std::collections::HashMap;
use tokio::time::Instant;
use wormhole_protocol::{FileId, RelPath};

/// Which change.
pub(super) type WindowId = u64;

/// A path that is about to be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Touch {
    /// Where.
    pub(in super::super) path: RelPath,
    /// How often its name comes or goes.
    pub(in super::super) names: u32,
    /// It is only closed: nothing is changed.
    pub(in super::super) closes: bool,
}

/// A push somebody waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Wait {
    /// To which mount.
    pub(super) mount: MountKey,
    /// Which time it listened.
    pub(super) hearing: u64,
    /// Its number.
    pub(super) number: Number,
    /// The mount believes nothing any more from then on, unless it has heard of it.
    pub(super) until: Instant,
}

/// Who alone touches a path.
#[derive(Debug)]
pub(super) struct By {
    /// Which mount.
    pub(super) mount: MountKey,
    path: RelPath,
    what: Happened,
}

/// What a window leaves behind: its mount, names to tell it of after all, and whom to wait for.
pub(super) type Closed = (MountKey, Vec<(FileId, RelPath)>, Vec<Wait>);

/// The changes under way.
#[derive(Debug, Default)]
pub(super) struct Touches {
    next: WindowId,
    windows: HashMap<WindowId, Window>,
    by_path: HashMap<RelPath, Vec<(MountKey, WindowId)>>,
}

#[derive(Debug)]
struct Window {
    mount: MountKey,
    touches: Vec<Touched>,
    waits: Vec<Wait>,
}

#[derive(Debug)]
struct Touched {
    touch: Touch,
    /// How often its name came or went.
    seen: u32,
    /// In which directory, once that was more than it should.
    excess: Option<FileId>,
}

impl Touches {
    /// Whether nothing is being changed.
    pub(super) fn is_empty(&self) -> bool {
        self.by_path.is_empty()
    }

    /// Opens a window.
    pub(super) fn begin(&mut self, mount: MountKey, touches: Vec<Touch>) -> WindowId {
        self.next += 1;
        for touch in &touches {
            let of_path = self.by_path.entry(touch.path.clone()).or_default();
            of_path.push((mount, self.next));
        }
        let touched = |touch| Touched {
            touch,
            seen: 0,
            excess: None,
        };
        let window = Window {
            mount,
            touches: touches.into_iter().map(touched).collect(),
            waits: Vec::new(),
        };
        self.windows.insert(self.next, window);
        self.next
    }

    /// Closes a window.
    pub(super) fn end(&mut self, id: WindowId) -> Option<Closed> {
        let window = self.windows.remove(&id)?;
        let mut again = Vec::new();
        for touched in window.touches {
            let path = touched.touch.path;
            if let Some(of_path) = self.by_path.get_mut(&path) {
                of_path.retain(|(_, window)| *window != id);
                if of_path.is_empty() {
                    self.by_path.remove(&path);
                }
            }
            if let Some(dir) = touched.excess {
                again.push((dir, path));
            }
        }
        Some((window.mount, again, window.waits))
    }

    /// Who alone is doing to `path` what `what` could come of.
    pub(super) fn by(&self, path: RelPath, what: Happened) -> Option<By> {
        let of_path = self.by_path.get(&path)?;
        let (mount, _) = *of_path.first()?;
        let alone = of_path.iter().all(|(other, _)| *other == mount);
        let changes = |(_, window): &(_, WindowId)| {
            let touches = self.windows.get(window).map(|w| &w.touches);
            touches.is_some_and(|touches| {
                let mut of_path = touches.iter().filter(|t| t.touch.path == path);
                of_path.any(|t| !t.touch.closes || what == Happened::Closed)
            })
        };
        (alone && of_path.iter().any(changes)).then_some(By { mount, path, what })
    }

    /// Something in `dir` was not told to the mount that touches it.
    pub(super) fn suppressed(&mut self, by: &By, dir: FileId) {
        if by.what != Happened::Named {
            return;
        }
        let windows = self.by_path.get(&by.path).into_iter().flatten();
        let mut last = None;
        for (_, id) in windows {
            let Some(window) = self.windows.get_mut(id) else {
                continue;
            };
            let of_path = window.touches.iter_mut();
            for touched in of_path.filter(|t| t.touch.path == by.path) {
                if touched.seen < touched.touch.names {
                    touched.seen += 1;
                    return;
                }
                last = Some(*id);
            }
        }
        let window = last.and_then(|id| self.windows.get_mut(&id));
        let touched = window.and_then(|w| w.touches.iter_mut().find(|t| t.touch.path == by.path));
        if let Some(touched) = touched {
            touched.excess = Some(dir);
        }
    }

    /// A push was marked: it is to be waited for by every other mount's change that is under way.
    pub(super) fn wait(&mut self, wait: &Wait) {
        let others = self.windows.values_mut();
        for window in others.filter(|window| window.mount != wait.mount) {
            let same = |w: &&mut Wait| w.mount == wait.mount && w.hearing == wait.hearing;
            match window.waits.iter_mut().find(same) {
                Some(known) => {
                    known.number = known.number.max(wait.number);
                    known.until = known.until.max(wait.until);
                }
                None => window.waits.push(wait.clone()),
            }
        }
    }
}
