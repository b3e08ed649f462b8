//! What eviction must leave alone: contents that are pinned, and contents whose file the kernel reads.
//!
//! Together they take at most a part of the budget, so that there is always something to evict. Whoever
//! lets the kernel read a content's file holds it first; the writer evicts a content only after it has
//! said so here, so neither can happen in the middle of the other.
//!
//! Lock: `state`, for moments only; `saving` before it, across writing the file of pins.

use crate::disk::layout::SharePaths;
use crate::disk::limits::{PIN_NAME_BYTES_MAX, PINNED_CONTENTS_MAX, PINS_MAX, UNPINNED_PART};
use crate::disk::pins::{self, PinnedContent, Pins};
use crate::key::ContentDigest;
use parking_lot::Mutex;
use serde::Serialize;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;

/// Why something could not be pinned.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// It would take more than pins may.
    #[error(
        "it takes {wanted_bytes} bytes, and of the {limit_bytes} that pins may take {pinned_bytes} are taken"
    )]
    NoRoom {
        /// What it would take.
        wanted_bytes: u64,
        /// What other pins take.
        pinned_bytes: u64,
        /// What all pins may take.
        limit_bytes: u64,
    },
    /// More pins or more files than can be remembered.
    #[error("at most {PINS_MAX} pins of {PINNED_CONTENTS_MAX} files together can be remembered")]
    TooMany,
    /// The pins could not be written down.
    #[error("the list of pins cannot be written: {0}")]
    Io(#[from] io::Error),
}

/// A pin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PinReport {
    /// Its name.
    pub name: Vec<u8>,
    /// Contents it names.
    pub contents: u64,
    /// The room they take when all of them are here.
    pub bytes: u64,
    /// Whether the budget has room for it; if not, its contents may be evicted.
    pub fits: bool,
}

/// What pins take of the budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PinRoom {
    /// What they take.
    pub pinned_bytes: u64,
    /// What they may take.
    pub limit_bytes: u64,
}

/// What may not be evicted.
pub(crate) struct Guard {
    paths: SharePaths,
    limit_bytes: u64,
    saving: Mutex<()>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    pins: Pins,
    /// Of the pins that fit.
    pinned: HashMap<ContentDigest, u64>,
    pinned_bytes: u64,
    /// Contents the kernel reads: how many hold them, and their room.
    held: HashMap<ContentDigest, (usize, u64)>,
    evicting: Option<ContentDigest>,
}

impl State {
    /// The contents of all pins but those beyond `limit`, each once, and whether each pin fits.
    fn admit(pins: &Pins, limit: u64) -> (HashMap<ContentDigest, u64>, u64, Vec<bool>) {
        let (mut pinned, mut bytes, mut fits) = (HashMap::new(), 0_u64, Vec::new());
        for contents in pins.values() {
            let new: Vec<_> = contents
                .iter()
                .filter(|content| !pinned.contains_key(&content.digest))
                .collect();
            let more: u64 = new.iter().map(|c| c.room()).fold(0, u64::saturating_add);
            let fit = bytes.saturating_add(more) <= limit;
            if fit {
                bytes += more;
                pinned.extend(new.into_iter().map(|c| (c.digest, c.room())));
            }
            fits.push(fit);
        }
        (pinned, bytes, fits)
    }

    fn held_unpinned_bytes(&self) -> u64 {
        let unpinned = |(digest, _): &(&ContentDigest, _)| !self.pinned.contains_key(digest);
        let held = self.held.iter().filter(unpinned);
        held.map(|(_, (_, room))| room).sum()
    }
}

impl Guard {
    /// With the pins that were remembered. `damaged` is called if they cannot be believed.
    pub(crate) fn open(
        paths: SharePaths,
        budget_bytes: u64,
        damaged: impl FnOnce(),
    ) -> io::Result<Self> {
        let limit_bytes = budget_bytes - budget_bytes / UNPINNED_PART;
        let pins = pins::load(&paths)?.unwrap_or_else(|()| {
            damaged();
            Pins::new()
        });
        let (pinned, pinned_bytes, _) = State::admit(&pins, limit_bytes);
        Ok(Self {
            paths,
            limit_bytes,
            saving: Mutex::default(),
            state: Mutex::new(State {
                pins,
                pinned,
                pinned_bytes,
                ..State::default()
            }),
        })
    }

    pub(crate) fn is_pinned(&self, digest: &ContentDigest) -> bool {
        self.state.lock().pinned.contains_key(digest)
    }

    pub(crate) fn room(&self) -> PinRoom {
        PinRoom {
            pinned_bytes: self.state.lock().pinned_bytes,
            limit_bytes: self.limit_bytes,
        }
    }

    pub(crate) fn reports(&self) -> Vec<PinReport> {
        let state = self.state.lock();
        let (_, _, fits) = State::admit(&state.pins, self.limit_bytes);
        let report =
            |((name, contents), fits): ((&Vec<u8>, &Vec<PinnedContent>), bool)| PinReport {
                name: name.clone(),
                contents: contents.len() as u64,
                bytes: contents.iter().map(PinnedContent::room).sum(),
                fits,
            };
        state.pins.iter().zip(fits).map(report).collect()
    }

    /// Pins `contents` under `name`, in place of what was pinned under it. Blocks the thread.
    pub(crate) fn pin(
        &self,
        name: &[u8],
        mut contents: Vec<PinnedContent>,
    ) -> Result<(), PinError> {
        contents.sort_unstable();
        contents.dedup_by_key(|content| content.digest);
        let _saving = self.saving.lock();
        let mut pins = self.state.lock().pins.clone();
        let before = pins.remove(name);
        if before.as_ref() == Some(&contents) {
            return Ok(());
        }
        let (_, pinned_bytes, fitted) = State::admit(&pins, self.limit_bytes);
        let wanted_bytes = contents
            .iter()
            .map(PinnedContent::room)
            .fold(0, u64::saturating_add);
        pins.insert(name.to_vec(), contents);
        let named: usize = pins.values().map(Vec::len).sum();
        if pins.len() > PINS_MAX || named > PINNED_CONTENTS_MAX || name.len() > PIN_NAME_BYTES_MAX {
            return Err(PinError::TooMany);
        }
        let (_, _, fits) = State::admit(&pins, self.limit_bytes);
        // Neither may it be too large, nor push out another that fitted.
        let unfit = |fits: &[bool]| fits.iter().filter(|fit| !**fit).count();
        let at = pins.keys().position(|known| known == name);
        if at.is_none_or(|at| !fits[at]) || unfit(&fits) > unfit(&fitted) {
            return Err(PinError::NoRoom {
                wanted_bytes,
                pinned_bytes,
                limit_bytes: self.limit_bytes,
            });
        }
        self.replace(pins)
    }

    /// Unpins what was pinned under `name`; whether anything was. Blocks the thread.
    pub(crate) fn unpin(&self, name: &[u8]) -> Result<bool, PinError> {
        let _saving = self.saving.lock();
        let mut pins = self.state.lock().pins.clone();
        if pins.remove(name).is_none() {
            return Ok(false);
        }
        self.replace(pins)?;
        Ok(true)
    }

    fn replace(&self, pins: Pins) -> Result<(), PinError> {
        pins::save(&self.paths, &pins)?;
        let (pinned, pinned_bytes, _) = State::admit(&pins, self.limit_bytes);
        let mut state = self.state.lock();
        state.pins = pins;
        state.pinned = pinned;
        state.pinned_bytes = pinned_bytes;
        Ok(())
    }

    /// Keeps a content from being evicted until the hold is dropped; `None` if it is being evicted, or if
    /// too much is held already.
    pub(crate) fn hold(self: &Arc<Self>, content: PinnedContent) -> Option<Hold> {
        let mut state = self.state.lock();
        if state.evicting == Some(content.digest) {
            return None;
        }
        match state.held.get_mut(&content.digest) {
            Some((holders, _)) => *holders += 1,
            None => {
                let pinned = state.pinned.contains_key(&content.digest);
                let more = if pinned { 0 } else { content.room() };
                let taken = state.pinned_bytes + state.held_unpinned_bytes();
                if taken.saturating_add(more) > self.limit_bytes {
                    return None;
                }
                state.held.insert(content.digest, (1, content.room()));
            }
        }
        Some(Hold {
            guard: self.clone(),
            digest: content.digest,
        })
    }

    /// The writer is about to evict a content; `None` if it must not.
    pub(crate) fn begin_eviction(&self, digest: ContentDigest) -> Option<Evicting<'_>> {
        let mut state = self.state.lock();
        if state.pinned.contains_key(&digest) || state.held.contains_key(&digest) {
            return None;
        }
        state.evicting = Some(digest);
        Some(Evicting(self))
    }
}

/// A content is being evicted for as long as this lives.
pub(crate) struct Evicting<'a>(&'a Guard);

impl Drop for Evicting<'_> {
    fn drop(&mut self) {
        self.0.state.lock().evicting = None;
    }
}

/// A content is not evicted for as long as this lives.
pub(crate) struct Hold {
    guard: Arc<Guard>,
    digest: ContentDigest,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut state = self.guard.state.lock();
        if let Some((holders, _)) = state.held.get_mut(&self.digest) {
            *holders -= 1;
            if *holders == 0 {
                state.held.remove(&self.digest);
            }
        }
    }
}
