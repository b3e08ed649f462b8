//! The segments of one file: how writes become segments, and which of them may be sent. Pure.
//!
//! Segments are numbered as they begin. A write goes into the newest segment if it continues it, or over
//! bytes of a segment that was not sent, if nothing newer lies over them there; else it begins a segment.
//! A segment never grows once it was sent or another one has begun.
//!
//! A segment is *sealed* when it need not wait for more, and may be sent as soon as every older segment it
//! overlaps was answered: it counts them, and they know it. So two that overlap are never under way at
//! once, and whether a segment may go is known without looking at the others.
//!
//! Not here: tasks, time, memory of other files (`writer`, `buffer`).

use std::collections::{BTreeMap, BTreeSet};
use wormhole_protocol::{AfterWrite, SyncWhat};

/// Sizes and counts, so that tests can have small ones.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) segment_bytes: usize,
    pub(super) page_bytes: usize,
    pub(super) in_flight_max: usize,
}

/// The number of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SegmentId(u64);

/// What became of the head of a write.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Taken {
    /// Bytes that were taken.
    pub(super) bytes: usize,
    /// Of those, bytes that were not dirty before.
    pub(super) dirtied: usize,
    /// Pages of memory they cost; never more than the bytes have, rounded up.
    pub(super) pages: usize,
    /// They began a segment.
    pub(super) begun: bool,
}

/// A segment to be sent.
#[derive(Debug)]
pub(super) struct Sending<R> {
    pub(super) id: SegmentId,
    pub(super) offset: u64,
    pub(super) data: Vec<u8>,
    pub(super) route: R,
    /// What is to be done to the file then.
    pub(super) after: AfterWrite,
}

/// What an answered segment had taken.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Freed {
    pub(super) bytes: usize,
    pub(super) pages: usize,
}

struct Segment<R> {
    offset: u64,
    len: usize,
    /// `None` once it was sent.
    data: Option<Vec<u8>>,
    sealed: bool,
    /// Older segments it overlaps.
    behind: usize,
    /// Newer segments that overlap it.
    before: Vec<SegmentId>,
    route: R,
    after: AfterWrite,
}

impl<R> Segment<R> {
    fn end(&self) -> u64 {
        self.offset + self.len as u64
    }

    fn overlaps(&self, from: u64, until: u64) -> bool {
        self.offset < until && from < self.end()
    }
}

/// The segments of a file that are not answered.
pub(super) struct Dirty<R> {
    bounds: Bounds,
    segments: BTreeMap<SegmentId, Segment<R>>,
    /// Where they begin.
    starts: BTreeSet<(u64, SegmentId)>,
    /// Those that may be sent.
    ready: BTreeSet<SegmentId>,
    in_flight: usize,
    next: u64,
    /// Where the last write ended: one that goes on there belongs to a long one.
    last_end: u64,
    /// An empty buffer for the next whole segment.
    spare: Option<Vec<u8>>,
}

impl<R: Clone + PartialEq> Dirty<R> {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            segments: BTreeMap::new(),
            starts: BTreeSet::new(),
            ready: BTreeSet::new(),
            in_flight: 0,
            next: 0,
            last_end: 0,
            spare: None,
        }
    }

    /// Gives a buffer with room for a segment, to be used if the next write begins one.
    pub(super) fn lend(&mut self, spare: Option<Vec<u8>>) {
        self.spare = spare;
    }

    /// Takes back what was [lent](Self::lend), if it was not used.
    pub(super) fn unused(&mut self) -> Option<Vec<u8>> {
        self.spare.take()
    }

    /// Takes the head of a write that is not empty, at least a byte of it.
    pub(super) fn take(&mut self, route: &R, offset: u64, data: &[u8]) -> Taken {
        let taken = match self.overwrite(route, offset, data) {
            Some(taken) => taken,
            None => match self.append(route, offset, data) {
                Some(taken) => taken,
                None => self.begin(route, offset, data),
            },
        };
        self.last_end = offset + taken.bytes as u64;
        taken
    }

    /// Writes over bytes that were not sent.
    fn overwrite(&mut self, route: &R, offset: u64, data: &[u8]) -> Option<Taken> {
        let until = offset + data.len() as u64;
        let newest = self.overlapping(offset, until).map(|(id, _)| id).max()?;
        let segment = self.segments.get_mut(&newest)?;
        if segment.route != *route || segment.after.set.is_some() {
            return None;
        }
        let from = usize::try_from(offset.checked_sub(segment.offset)?).ok()?;
        let bytes = segment.len.checked_sub(from)?.min(data.len());
        segment.data.as_mut()?[from..from + bytes].copy_from_slice(&data[..bytes]);
        Some(Taken {
            bytes,
            dirtied: 0,
            pages: 0,
            begun: false,
        })
    }

    /// Continues the newest segment.
    fn append(&mut self, route: &R, offset: u64, data: &[u8]) -> Option<Taken> {
        let (&id, newest) = self.segments.last_key_value()?;
        let (begin, len) = (newest.offset, newest.len);
        let bytes = data.len().min(self.bounds.segment_bytes - len);
        if bytes == 0 || newest.end() != offset || newest.data.is_none() || newest.route != *route {
            return None;
        }
        // What is written after attributes were set leaves its own times.
        if newest.after.set.is_some() {
            return None;
        }
        let until = offset + bytes as u64;
        // Those it overlapped before know it already.
        let met = self.overlapping(offset, until);
        let met: Vec<_> = met
            .filter(|(_, s)| !s.overlaps(begin, offset))
            .map(|(id, _)| id)
            .collect();
        self.queue_behind(id, &met);
        let is_full = len + bytes == self.bounds.segment_bytes;
        let segment = self.segments.get_mut(&id)?;
        let buf = segment.data.as_mut()?;
        if buf.capacity() < len + bytes {
            buf.reserve_exact(self.bounds.segment_bytes - len);
        }
        buf.extend_from_slice(&data[..bytes]);
        segment.len += bytes;
        if is_full {
            self.seal_one(id);
        }
        Some(Taken {
            bytes,
            dirtied: bytes,
            pages: self.pages(len + bytes) - self.pages(len),
            begun: false,
        })
    }

    /// Begins a segment; the one before waits for nothing more.
    fn begin(&mut self, route: &R, offset: u64, data: &[u8]) -> Taken {
        self.seal();
        let bytes = data.len().min(self.bounds.segment_bytes);
        let met: Vec<_> = self
            .overlapping(offset, offset + bytes as u64)
            .map(|(id, _)| id)
            .collect();
        let id = SegmentId(self.next);
        self.next += 1;
        let goes_on = self.last_end == offset && offset > 0;
        let mut buf = if goes_on || bytes == self.bounds.segment_bytes {
            let spare = self.spare.take();
            spare.unwrap_or_else(|| Vec::with_capacity(self.bounds.segment_bytes))
        } else {
            Vec::with_capacity(bytes)
        };
        buf.extend_from_slice(&data[..bytes]);
        let segment = Segment {
            offset,
            len: bytes,
            data: Some(buf),
            sealed: false,
            behind: 0,
            before: Vec::new(),
            route: route.clone(),
            after: AfterWrite::NOTHING,
        };
        self.segments.insert(id, segment);
        self.starts.insert((offset, id));
        self.queue_behind(id, &met);
        if bytes == self.bounds.segment_bytes {
            self.seal_one(id);
        }
        Taken {
            bytes,
            dirtied: bytes,
            pages: self.pages(bytes),
            begun: true,
        }
    }

    /// Lets `id` wait for the segments `met`.
    fn queue_behind(&mut self, id: SegmentId, met: &[SegmentId]) {
        if met.is_empty() {
            return;
        }
        for older in met {
            if let Some(older) = self.segments.get_mut(older) {
                older.before.push(id);
            }
        }
        if let Some(segment) = self.segments.get_mut(&id) {
            segment.behind += met.len();
        }
        self.ready.remove(&id);
    }

    /// Nothing need be waited for any more: everything shall be sent.
    pub(super) fn seal(&mut self) {
        if let Some((&id, newest)) = self.segments.last_key_value()
            && !newest.sealed
        {
            self.seal_one(id);
        }
    }

    fn seal_one(&mut self, id: SegmentId) {
        let Some(segment) = self.segments.get_mut(&id) else {
            return;
        };
        segment.sealed = true;
        if segment.behind == 0 && segment.data.is_some() {
            self.ready.insert(id);
        }
    }

    /// The next segment to be sent, if one may be.
    pub(super) fn send(&mut self) -> Option<Sending<R>> {
        if self.in_flight >= self.bounds.in_flight_max {
            return None;
        }
        let id = self.ready.pop_first()?;
        let segment = self.segments.get_mut(&id)?;
        let mut data = segment.data.take()?;
        self.in_flight += 1;
        // Room that was made for more than came would be memory nobody counts.
        if data.capacity() > 2 * data.len() {
            data.shrink_to_fit();
        }
        Some(Sending {
            id,
            offset: segment.offset,
            data,
            route: segment.route.clone(),
            after: segment.after,
        })
    }

    /// Whether attributes are to be set after one of the segments.
    pub(super) fn sets_attributes(&self) -> bool {
        let mut segments = self.segments.values();
        segments.any(|segment| segment.after.set.is_some())
    }

    /// Has something done after the only segment there is, if that was not sent and goes where `suits`: which it is. Not
    /// where attributes are set already.
    pub(super) fn after_only(
        &mut self,
        suits: impl FnOnce(&R) -> bool,
        after: AfterWrite,
    ) -> Option<SegmentId> {
        let mut segments = self.segments.iter_mut();
        let (&id, only) = segments.next()?;
        if segments.next().is_some() || only.data.is_none() || !suits(&only.route) {
            return None;
        }
        match (only.after.set, after.set) {
            (Some(_), Some(_)) => return None,
            (known, set) => only.after.set = known.or(set),
        }
        if only.after.sync != Some(SyncWhat::All) {
            only.after.sync = after.sync.or(only.after.sync);
        }
        Some(id)
    }

    /// A segment that was sent was answered, well or not: it is no longer ours.
    pub(super) fn answered(&mut self, id: SegmentId) -> Freed {
        let Some(segment) = self.segments.remove(&id) else {
            return Freed::default();
        };
        self.in_flight -= 1;
        self.starts.remove(&(segment.offset, id));
        for newer in segment.before {
            let Some(waiting) = self.segments.get_mut(&newer) else {
                continue;
            };
            waiting.behind -= 1;
            if waiting.behind == 0 && waiting.sealed {
                self.ready.insert(newer);
            }
        }
        Freed {
            bytes: segment.len,
            pages: self.pages(segment.len),
        }
    }

    /// Gives up everything, sent or not.
    pub(super) fn clear(&mut self) -> Freed {
        let mut freed = Freed::default();
        for segment in self.segments.values() {
            freed.bytes += segment.len;
            freed.pages += self.pages(segment.len);
        }
        self.segments.clear();
        self.starts.clear();
        self.ready.clear();
        self.in_flight = 0;
        freed
    }

    pub(super) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Whether a segment could be sent now.
    pub(super) fn can_send(&self) -> bool {
        self.in_flight < self.bounds.in_flight_max && !self.ready.is_empty()
    }

    /// Whether a segment waits for more.
    pub(super) fn is_open(&self) -> bool {
        self.segments
            .last_key_value()
            .is_some_and(|(_, newest)| !newest.sealed)
    }

    /// The newest segment: all that was written so far is in it or in older ones.
    pub(super) fn newest(&self) -> Option<SegmentId> {
        self.segments.last_key_value().map(|(id, _)| *id)
    }

    /// Whether a segment up to `newest` is left.
    pub(super) fn has_until(&self, newest: SegmentId) -> bool {
        self.segments
            .first_key_value()
            .is_some_and(|(oldest, _)| *oldest <= newest)
    }

    /// One past the last dirty byte.
    pub(super) fn end(&self) -> Option<u64> {
        let (last_start, _) = *self.starts.last()?;
        self.overlapping(last_start, u64::MAX)
            .map(|(_, segment)| segment.end())
            .max()
    }

    /// Whether a byte of `from..until` is dirty.
    pub(super) fn overlaps(&self, from: u64, until: u64) -> bool {
        self.overlapping(from, until).next().is_some()
    }

    fn overlapping(&self, from: u64, until: u64) -> impl Iterator<Item = (SegmentId, &Segment<R>)> {
        // None is longer than that, so none that begins earlier gets here.
        let first = from.saturating_sub(self.bounds.segment_bytes as u64);
        self.starts
            .range((first, SegmentId(0))..(until, SegmentId(0)))
            .filter_map(|(_, id)| Some((*id, self.segments.get(id)?)))
            .filter(move |(_, segment)| segment.overlaps(from, until))
    }

    fn pages(&self, bytes: usize) -> usize {
        bytes.div_ceil(self.bounds.page_bytes)
    }
}

#[cfg(test)]
mod tests;
