//! Looking after disk caches without a mount: what there is, whether it is sound, making room.
//!
//! Everything that changes a share's directory owns it first. A share in use by a live process is left
//! alone and named in the report.

use crate::disk::content::{Content, OpenFailure};
use crate::disk::layout::{FoundSlot, SharePaths, unhex};
use crate::disk::share::{Owned, owner};
use crate::disk::table::nanos_of;
use crate::disk::tree::{self, TreeFile};
use crate::disk::{DiskError, file, pack, pins, scan};
use crate::key::ContentDigest;
use serde::Serialize;
use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};
use wormhole_protocol::{ChunkIndex, ShareId};

/// Chunks whose slots are looked at together.
const VERIFY_CHUNKS: usize = 64;

/// The cache of one share.
#[derive(Debug, Clone, Serialize)]
pub struct ShareReport {
    /// The share, in hexadecimal.
    pub share: String,
    /// Bytes taken on disk.
    pub bytes: u64,
    /// Contents held, in part or whole.
    pub contents: u64,
    /// Last use of the content used last, in seconds since 1970.
    pub newest_access: Option<u64>,
    /// Last use of the content used least recently.
    pub oldest_access: Option<u64>,
    /// The process that uses it now; 0 if it did not say which it is.
    pub in_use_by: Option<u32>,
}

/// A share that was left alone because it is in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// The share, in hexadecimal.
    pub share: String,
    /// The process that uses it; 0 if it did not say.
    pub in_use_by: u32,
}

/// What was verified.
#[derive(Debug, Clone, Default, Serialize)]
pub struct VerifyReport {
    /// Chunks read and compared with their hashes.
    pub checked: u64,
    /// Chunks, headers and packed contents that were damaged; they are gone now.
    pub corrupt: u64,
    /// Bytes compared.
    pub bytes: u64,
    /// Shares left alone.
    pub skipped: Vec<Skipped>,
}

/// What was removed.
#[derive(Debug, Clone, Default, Serialize)]
pub struct SweepReport {
    /// Bytes given back.
    pub removed_bytes: u64,
    /// Contents removed.
    pub removed_contents: u64,
    /// Shares left alone.
    pub skipped: Vec<Skipped>,
}

/// One thing that can be removed.
#[derive(Debug, Clone, Copy)]
enum Item {
    Content(ContentDigest),
    Pack {
        number: u32,
        contents: u64,
    },
    /// What is remembered of names and attributes.
    Tree,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    item: Item,
    bytes: u64,
    used_nanos: u64,
    /// It is pinned, or holds something that is.
    pinned: bool,
}

/// Figures of every share's cache under `root`; of none if there is no such directory.
pub fn report(root: &Path) -> io::Result<Vec<ShareReport>> {
    shares(root, None)?
        .into_iter()
        .map(|share| {
            let paths = SharePaths::new(root, share);
            let mut report = ShareReport {
                share: share.to_string(),
                bytes: 0,
                contents: 0,
                newest_access: None,
                oldest_access: None,
                in_use_by: owner(&paths)?,
            };
            for item in items(&paths)? {
                let secs = item.used_nanos / 1_000_000_000;
                report.bytes += item.bytes;
                report.contents += item.contents();
                report.newest_access = report.newest_access.max(Some(secs));
                report.oldest_access = Some(report.oldest_access.map_or(secs, |s| s.min(secs)));
            }
            Ok(report)
        })
        .collect()
}

/// Reads everything held, of one share or of all, and drops what is damaged. `progress` is called
/// after every content.
pub fn verify(
    root: &Path,
    share: Option<ShareId>,
    progress: &mut dyn FnMut(&VerifyReport),
) -> io::Result<VerifyReport> {
    let mut report = VerifyReport::default();
    for share in shares(root, share)? {
        let Some(owned) = own(root, share, &mut report.skipped)? else {
            continue;
        };
        for item in items(&owned.paths)? {
            match item.item {
                Item::Content(digest) => verify_content(&owned.paths, digest, &mut report)?,
                Item::Pack { number, .. } => verify_pack(&owned.paths, number, &mut report)?,
                Item::Tree => verify_tree(&owned.paths, share, &mut report)?,
            }
            progress(&report);
        }
    }
    Ok(report)
}

/// Removes the cache of one share, or of all, and its pins.
pub fn clear(root: &Path, share: Option<ShareId>) -> io::Result<SweepReport> {
    let mut report = SweepReport::default();
    for share in shares(root, share)? {
        let Some(owned) = own(root, share, &mut report.skipped)? else {
            continue;
        };
        for item in items(&owned.paths)? {
            report.add(&item);
        }
        for dir in [owned.paths.data_dir(), owned.paths.packs_dir()] {
            match std::fs::remove_dir_all(dir) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        tree::remove(&owned.paths)?;
        file::remove(&owned.paths.pins())?;
        file::remove(&owned.paths.format())?;
        // Last, so that nobody can own a directory that is half gone.
        file::remove(&owned.paths.lock())?;
        // What is not ours in there stays, and the directory with it.
        let _ = std::fs::remove_dir(&owned.paths.dir);
    }
    Ok(report)
}

/// Removes what was not used for `older_than`, then the least recently used until all shares together
/// take at most `to_bytes`. Small contents go together with those they are packed with. What is pinned
/// stays.
pub fn gc(
    root: &Path,
    older_than: Option<Duration>,
    to_bytes: Option<u64>,
) -> io::Result<SweepReport> {
    let mut report = SweepReport::default();
    let mut owned = Vec::new();
    let mut total = 0;
    let mut removable = Vec::new();
    for share in shares(root, None)? {
        let held = own(root, share, &mut report.skipped)?;
        let paths = SharePaths::new(root, share);
        for item in items(&paths)? {
            total += item.bytes;
            if held.is_some() && !item.pinned {
                removable.push((owned.len(), item));
            }
        }
        owned.extend(held);
    }
    removable.sort_unstable_by_key(|(_, item)| item.used_nanos);
    let oldest = older_than.map_or(0, |age| {
        SystemTime::now().checked_sub(age).map_or(0, nanos_of)
    });
    for (share, item) in removable {
        let too_old = item.used_nanos < oldest;
        let too_much = to_bytes.is_some_and(|most| total > most);
        if too_old || too_much {
            item.remove(&owned[share].paths)?;
            report.add(&item);
            total -= item.bytes;
        }
    }
    Ok(report)
}

impl Held {
    fn contents(&self) -> u64 {
        match self.item {
            Item::Content(_) => 1,
            Item::Pack { contents, .. } => contents,
            Item::Tree => 0,
        }
    }

    fn remove(&self, paths: &SharePaths) -> io::Result<()> {
        match self.item {
            Item::Content(digest) => {
                file::remove(&paths.index(&digest))?;
                file::remove(&paths.data(&digest))
            }
            Item::Pack { number, .. } => file::remove(&paths.pack(number)),
            Item::Tree => tree::remove(paths),
        }
    }
}

impl SweepReport {
    fn add(&mut self, item: &Held) {
        self.removed_bytes += item.bytes;
        self.removed_contents += item.contents();
    }
}

/// The shares under `root`, or the one asked for if it is there.
fn shares(root: &Path, only: Option<ShareId>) -> io::Result<Vec<ShareId>> {
    let entries = match std::fs::read_dir(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut shares = Vec::new();
    for entry in entries {
        let entry = entry?;
        let share = entry.file_name().to_str().and_then(unhex).map(ShareId);
        if let Some(share) = share
            && only.is_none_or(|only| only == share)
            && entry.file_type()?.is_dir()
        {
            shares.push(share);
        }
    }
    shares.sort_unstable();
    Ok(shares)
}

/// Owns a share's directory; `None`, and named in `skipped`, if somebody else does.
fn own(root: &Path, share: ShareId, skipped: &mut Vec<Skipped>) -> io::Result<Option<Owned>> {
    match Owned::lock(SharePaths::new(root, share)) {
        Ok(owned) => Ok(Some(owned)),
        Err(DiskError::InUse { pid }) => {
            skipped.push(Skipped {
                share: share.to_string(),
                in_use_by: pid,
            });
            Ok(None)
        }
        Err(DiskError::Io { source, .. }) => Err(source),
        Err(error @ DiskError::Format { .. }) => Err(io::Error::other(error)),
    }
}

fn items(paths: &SharePaths) -> io::Result<Vec<Held>> {
    let pins = pins::load(paths)?.unwrap_or_default();
    let pinned: HashSet<_> = pins.values().flatten().map(|c| c.digest).collect();
    let mut items = Vec::new();
    scan::contents(paths, &mut |found| {
        items.push(Held {
            item: Item::Content(found.digest),
            bytes: found.bytes,
            used_nanos: found.used_nanos,
            pinned: pinned.contains(&found.digest),
        });
        true
    })?;
    for (number, path) in pack::pack_files(paths)? {
        // A live owner may evict it between listing and opening.
        let file = match file::open_read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        };
        let mut digests = HashSet::new();
        pack::records(&file, |_, record| {
            if !record.is_dead() {
                digests.insert(record.digest);
            }
        })?;
        let metadata = file.metadata()?;
        items.push(Held {
            item: Item::Pack {
                number,
                contents: digests.len() as u64,
            },
            bytes: metadata.len(),
            used_nanos: metadata.modified().map_or(0, nanos_of),
            pinned: digests.iter().any(|digest| pinned.contains(digest)),
        });
    }
    if let Some(found) = tree::look(paths) {
        items.push(Held {
            item: Item::Tree,
            bytes: file::room(&found),
            used_nanos: found.modified().map_or(0, nanos_of),
            pinned: false,
        });
    }
    Ok(items)
}

fn verify_tree(paths: &SharePaths, share: ShareId, report: &mut VerifyReport) -> io::Result<()> {
    let (mut sections, mut bytes) = (0, 0);
    let end = tree::read(paths, share, &mut |section| {
        sections += 1;
        bytes += section.len() as u64;
        true
    })?;
    report.checked += sections;
    report.bytes += bytes;
    if end == TreeFile::Damaged {
        report.corrupt += 1;
        tree::remove(paths)?;
    }
    Ok(())
}

fn verify_content(
    paths: &SharePaths,
    digest: ContentDigest,
    report: &mut VerifyReport,
) -> io::Result<()> {
    let content = match Content::open_any(paths, digest) {
        Ok(content) => content,
        Err(OpenFailure::Io(error)) => return Err(error),
        Err(OpenFailure::Absent | OpenFailure::Foreign) => {
            report.corrupt += 1;
            file::remove(&paths.index(&digest))?;
            return file::remove(&paths.data(&digest));
        }
    };
    let chunks = content.chunks();
    let mut at = ChunkIndex(0);
    while let Some(first) = content.next_indexed(at)?.filter(|c| c.0 < chunks) {
        for (index, found) in (first.0..).zip(content.slots(first, VERIFY_CHUNKS)?) {
            if found == FoundSlot::Absent {
                continue;
            }
            report.checked += 1;
            let index = ChunkIndex(index);
            match content.chunk(index)? {
                Ok(chunk) => report.bytes += chunk.bytes() as u64,
                Err(()) => {
                    report.corrupt += 1;
                    content.write_slots(index, &[None])?;
                }
            }
        }
        at = ChunkIndex(first.0 + VERIFY_CHUNKS as u64);
    }
    Ok(())
}

fn verify_pack(paths: &SharePaths, number: u32, report: &mut VerifyReport) -> io::Result<()> {
    let file = file::open(&paths.pack(number))?;
    let mut found = Vec::new();
    let end = pack::records(&file, |offset, record| found.push((offset, record)))?;
    if end < file.metadata()?.len() {
        // What follows the last sound record cannot be reached any more.
        report.corrupt += 1;
        file.set_len(end)?;
    }
    for (offset, record) in found.into_iter().filter(|(_, record)| !record.is_dead()) {
        report.checked += 1;
        let read = pack::read_record(&file, offset, record.payload)?;
        match read.and_then(|(record, payload)| record.verify(payload)) {
            Some(chunk) => report.bytes += chunk.bytes() as u64,
            None => {
                report.corrupt += 1;
                pack::kill(&file, offset, record.payload, record.digest)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
