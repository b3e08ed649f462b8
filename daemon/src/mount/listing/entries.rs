//! The entries of one directory, packed: records one behind the other, their offsets, and an index by
//! name once there are more than a handful.
//!
//! An entry has a number, by which a reader of the directory continues: a name keeps its number for as
//! long as the entries live, whatever becomes of it. What changed since the entries were told lies over
//! them, by number: other attributes, or that the name leads to nothing any more.

use super::pack::{self, Base};
use crate::mount::heard::Heard;
use hashbrown::HashTable;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::time::Duration;
use tokio::time::Instant;
use wormhole_protocol::{Attr, Entry, FileId, FileKind, Name};

/// Up to so many are looked through one by one: most directories are small, and an index has its price.
const UNINDEXED_MAX: usize = 12;
/// What arrived within so long counts from the first of it.
const RUN: Duration = Duration::from_millis(50);
/// Names that lead to nothing, beyond twice as many as there are others: then a new listing is better.
const GONE_MAX: usize = 4096;

/// Keyed, because names are the host's to choose.
static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// What became of a name since the entries were told.
#[derive(Clone, Copy)]
struct Later {
    attr: Option<Attr>,
    heard: Heard,
    /// When it was last said where the name leads, or that nobody knows.
    set: Option<Instant>,
    /// Nobody knows where it leads.
    is_unknown: bool,
}

/// A name at present.
pub(super) struct Present {
    /// What it leads to, as far as known.
    pub(super) attr: Option<Attr>,
    pub(super) heard: Heard,
    /// Nobody knows where it leads.
    pub(super) is_unknown: bool,
}

/// The entries of one directory.
#[derive(Default)]
pub(super) struct Entries {
    base: Option<Base>,
    records: Vec<u8>,
    starts: Vec<u32>,
    index: HashTable<u32>,
    /// When those from a number on were told.
    runs: Vec<(u32, Heard)>,
    #[expect(
        clippy::box_collection,
        reason = "most directories have none, and there are many"
    )]
    later: Option<Box<HashMap<u32, Later>>>,
    /// How many names lead to nothing.
    absent: usize,
    /// Of how many nobody knows where they lead.
    unknown: usize,
}

impl Entries {
    /// How many numbers were given, to names that lead to nothing as well.
    pub(super) fn len(&self) -> usize {
        self.starts.len()
    }

    /// How many names lead to something.
    pub(super) fn live(&self) -> usize {
        self.starts.len() - self.absent
    }

    /// Whether it is known where all names lead.
    pub(super) fn is_known(&self) -> bool {
        self.unknown == 0
    }

    /// Adds what the host told. Of a name that is known nothing is believed: a host names each once, and what
    /// was heard of it meanwhile is newer.
    pub(super) fn push(&mut self, entry: &Entry, heard: Heard) {
        if self.number(entry.name.as_bytes()).is_some() {
            return;
        }
        let Some(number) = self.append(&entry.name, Some(&entry.attr)) else {
            return;
        };
        let is_new_run = |(_, first): &(u32, Heard)| {
            first.asked != heard.asked
                || first.leased != heard.leased
                || heard.told.saturating_duration_since(first.told) > RUN
        };
        if self.runs.last().is_none_or(is_new_run) {
            self.runs.push((number, heard));
        }
    }

    /// Notes where `name` leads now, if to anything, unless something later is known.
    pub(super) fn set(&mut self, name: &Name, attr: Option<Attr>, heard: Heard) {
        self.change(name, |known| match known {
            Some(known) if known.set.is_some_and(|set| set > heard.told) => None,
            _ => Some(Later {
                attr,
                heard,
                set: Some(heard.told),
                is_unknown: false,
            }),
        });
    }

    /// Notes that nobody knows where `name` leads.
    pub(super) fn doubt(&mut self, name: &Name, at: Instant) {
        let present = self.find(name);
        let heard = present.as_ref().map_or(at.into(), |present| present.heard);
        let attr = present.and_then(|present| present.attr);
        self.change(name, |_| {
            Some(Later {
                attr,
                heard,
                set: Some(at),
                is_unknown: true,
            })
        });
    }

    /// Notes other attributes of what `name` leads to; false if it leads elsewhere.
    pub(super) fn update(&mut self, name: &Name, attr: &Attr, heard: Heard) -> bool {
        let present = self.find(name);
        let Some(present) = present.filter(|p| p.attr.is_some_and(|known| known.id == attr.id))
        else {
            return false;
        };
        self.change(name, |known| {
            Some(Later {
                attr: Some(*attr),
                heard,
                set: known.and_then(|known| known.set),
                is_unknown: present.is_unknown,
            })
        });
        true
    }

    /// Puts over a name what `later` makes of what lies over it now, if anything.
    fn change(&mut self, name: &Name, later: impl FnOnce(Option<&Later>) -> Option<Later>) {
        let known = self.number(name.as_bytes());
        let Some(number) = known.or_else(|| self.append(name, None)) else {
            return;
        };
        let was_absent = self.at(number).is_none_or(|known| known.attr.is_none());
        let over = self.later.get_or_insert_default();
        let was_unknown = over.get(&number).is_some_and(|known| known.is_unknown);
        let Some(later) = later(over.get(&number)) else {
            return;
        };
        over.insert(number, later);
        let (is_absent, is_unknown) = (later.attr.is_none(), later.is_unknown);
        self.absent = self.absent + usize::from(is_absent) - usize::from(was_absent);
        self.unknown = self.unknown + usize::from(is_unknown) - usize::from(was_unknown);
    }

    /// What is known of `name`; `None` if it never was here.
    pub(super) fn find(&self, name: &Name) -> Option<Present> {
        self.at(self.number(name.as_bytes())?)
    }

    /// The entry of a number: its name, and what is known of it.
    pub(super) fn get(&self, number: usize) -> Option<(Name, Present)> {
        let number = u32::try_from(number).ok()?;
        let (name, _) = pack::name(self.record(number)?)?;
        Some((Name::new(name).ok()?, self.at(number)?))
    }

    /// The directories among those that are there.
    pub(super) fn directories(&self) -> Vec<(Name, FileId)> {
        let numbers = 0..u32::try_from(self.starts.len()).unwrap_or(u32::MAX);
        let is_dir = |attr: &Attr| attr.kind == FileKind::Directory;
        let found = numbers.filter_map(|number| {
            let over = self.later.as_ref().and_then(|later| later.get(&number));
            // Most are files: not even looked into.
            if over.is_none() && !self.record(number).is_some_and(pack::is_directory) {
                return None;
            }
            let (name, present) = self.get(number as usize)?;
            let id = present.attr.filter(is_dir)?.id;
            Some((name, id))
        });
        found.collect()
    }

    /// Gives back what growing took too much.
    pub(super) fn shrink(&mut self) {
        self.records.shrink_to_fit();
        self.starts.shrink_to_fit();
        self.runs.shrink_to_fit();
        self.index
            .shrink_to_fit(|number| hash(name_at(&self.records, &self.starts, *number)));
    }

    /// Whether names have come and gone so often that a new listing is better.
    pub(super) fn is_worn(&self) -> bool {
        self.len() > 2 * self.live() + GONE_MAX
    }

    /// Bytes of memory taken.
    pub(super) fn bytes(&self) -> usize {
        let later = self.later.as_ref();
        self.records.capacity()
            + self.starts.capacity() * size_of::<u32>()
            + self.index.allocation_size()
            + self.runs.capacity() * size_of::<(u32, Heard)>()
            + later.map_or(0, |later| later.capacity() * size_of::<(u32, Later)>())
    }

    fn at(&self, number: u32) -> Option<Present> {
        if let Some(later) = self.later.as_ref().and_then(|later| later.get(&number)) {
            return Some(Present {
                attr: later.attr,
                heard: later.heard,
                is_unknown: later.is_unknown,
            });
        }
        Some(Present {
            attr: self.told(number)?,
            heard: self.heard(number)?,
            is_unknown: false,
        })
    }

    /// What was told of a number with the entries, whatever lies over it.
    fn told(&self, number: u32) -> Option<Option<Attr>> {
        let (_, behind) = pack::name(self.record(number)?)?;
        let (attr, _) = pack::attr(behind, self.base.unwrap_or_default())?;
        Some(attr)
    }

    /// The number under which `name` was told with these attributes, whatever lies over it.
    pub(super) fn record_of(&self, name: &Name, attr: &Attr) -> Option<u32> {
        let number = self.number(name.as_bytes())?;
        (self.told(number)? == Some(*attr)).then_some(number)
    }

    /// What was told under a number, whatever lies over it.
    pub(super) fn record_at(&self, number: u32) -> Option<(Name, Attr, Heard)> {
        let (name, _) = pack::name(self.record(number)?)?;
        Some((
            Name::new(name).ok()?,
            self.told(number)??,
            self.heard(number)?,
        ))
    }

    fn heard(&self, number: u32) -> Option<Heard> {
        let behind = self.runs.partition_point(|(first, _)| *first <= number);
        let run = self.runs.get(behind.checked_sub(1)?)?;
        Some(run.1)
    }

    fn record(&self, number: u32) -> Option<&[u8]> {
        let start = *self.starts.get(number as usize)?;
        self.records.get(start as usize..)
    }

    /// The number of a name; none if it never was here.
    fn number(&self, name: &[u8]) -> Option<u32> {
        let is_it = |number: &u32| name_at(&self.records, &self.starts, *number) == name;
        if self.index.is_empty() {
            let numbers = 0..u32::try_from(self.starts.len()).ok()?;
            return numbers.into_iter().find(is_it);
        }
        self.index.find(hash(name), is_it).copied()
    }

    /// Gives `name` a number. None if there are more names than can be told apart; a listing is given up
    /// long before.
    fn append(&mut self, name: &Name, attr: Option<&Attr>) -> Option<u32> {
        let start = u32::try_from(self.records.len()).ok()?;
        let number = u32::try_from(self.starts.len()).ok()?;
        let base = match (self.base, attr) {
            (Some(base), _) => base,
            (None, Some(attr)) => *self.base.insert(Base::of(attr)),
            (None, None) => Base::default(),
        };
        pack::put(&mut self.records, name, attr, base);
        self.starts.push(start);
        self.absent += usize::from(attr.is_none());
        let (records, starts) = (&self.records, &self.starts);
        let hash_of = |number: &u32| hash(name_at(records, starts, *number));
        if !self.index.is_empty() {
            let of_name = hash(name.as_bytes());
            self.index.insert_unique(of_name, number, hash_of);
        } else if starts.len() > UNINDEXED_MAX {
            for number in 0..=number {
                self.index.insert_unique(hash_of(&number), number, hash_of);
            }
        }
        Some(number)
    }
}

fn name_at<'a>(records: &'a [u8], starts: &[u32], number: u32) -> &'a [u8] {
    let start = starts.get(number as usize).copied().unwrap_or(u32::MAX);
    let record = records.get(start as usize..).and_then(pack::name);
    record.map_or(&[], |(name, _)| name)
}

fn hash(name: &[u8]) -> u64 {
    HASHER.hash_one(name)
}

#[cfg(test)]
mod tests;
