//! Looking after disk caches without a mount: what there is, whether it is sound, making room.
//!
//! Everything that changes a share's directory owns it first. A share in use by a live process is left
//! alone and named in the report.

use crate::disk::content::{Content, OpenFailure};
use crate::disk::layout::{FoundSlot, SharePaths, unhex};
use crate::disk::share::{Owned, owner};
use crate::disk::table::nanos_of;
use crate::disk::{DiskError, file, pack, scan};
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
    Pack { number: u32, contents: u64 },
}

#[derive(Debug, Clone, Copy)]
struct Held {
    item: Item,
    bytes: u64,
    used_nanos: u64,
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
            }
            progress(&report);
        }
    }
    Ok(report)
}

/// Removes the cache of one share, or of all.
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
        file::remove(&owned.paths.format())?;
        // Last, so that nobody can own a directory that is half gone.
        file::remove(&owned.paths.lock())?;
        // What is not ours in there stays, and the directory with it.
        let _ = std::fs::remove_dir(&owned.paths.dir);
    }
    Ok(report)
}

/// Removes what was not used for `older_than`, then the least recently used until all shares together
/// take at most `to_bytes`. Small contents go together with those they are packed with.
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
            if held.is_some() {
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
        }
    }

    fn remove(&self, paths: &SharePaths) -> io::Result<()> {
        match self.item {
            Item::Content(digest) => {
                file::remove(&paths.index(&digest))?;
                file::remove(&paths.data(&digest))
            }
            Item::Pack { number, .. } => file::remove(&paths.pack(number)),
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
    let mut items = Vec::new();
    scan::contents(paths, &mut |found| {
        items.push(Held {
            item: Item::Content(found.digest),
            bytes: found.bytes,
            used_nanos: found.used_nanos,
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
        });
    }
    Ok(items)
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
mod tests {
    use super::*;
    use crate::disk::tests::{SHARE, key, open, read, store, true_chunk};
    use crate::disk::{Disk, DiskConfig};
    use std::os::unix::fs::FileExt;
    use tempfile::TempDir;
    use wormhole_protocol::BlockMask;

    const SIZE: u64 = 300_000;
    const OTHER: ShareId = ShareId([2; 16]);

    /// Three contents and five packed ones.
    fn filled(root: &Path) -> Disk {
        let disk = open(root);
        for file in 0..3 {
            (0..3).for_each(|index| store(&disk, file, SIZE, index, BlockMask::FULL));
            disk.flush();
        }
        (10..15).for_each(|file| store(&disk, file, 9000, 0, BlockMask::FULL));
        disk.flush();
        disk
    }

    fn fill_other(root: &Path) {
        let config = DiskConfig {
            root: root.to_owned(),
            budget_bytes: 1 << 30,
        };
        let disk = Disk::open(config, OTHER).unwrap();
        let mut key = key(1);
        key.share = OTHER;
        let chunk = true_chunk(1, SIZE, 0, BlockMask::FULL);
        assert!(disk.store(&key, SIZE, ChunkIndex(0), chunk));
    }

    fn age(root: &Path, file: u64, secs: u64) {
        let index = SharePaths::new(root, SHARE).index(&key(file).digest());
        let then = SystemTime::now() - Duration::from_secs(secs);
        file::open(&index).unwrap().set_modified(then).unwrap();
    }

    #[test]
    fn nothing_there_is_fine() {
        let dir = TempDir::new().unwrap();
        let root = dir.path().join("absent");
        assert!(report(&root).unwrap().is_empty());
        assert_eq!(verify(&root, None, &mut |_| ()).unwrap().checked, 0);
        assert_eq!(clear(&root, None).unwrap().removed_bytes, 0);
        assert_eq!(gc(&root, None, Some(0)).unwrap().removed_bytes, 0);
    }

    #[test]
    fn a_report_tells_what_there_is_and_who_uses_it() {
        let dir = TempDir::new().unwrap();
        let disk = filled(dir.path());
        fill_other(dir.path());
        std::fs::create_dir(dir.path().join("not a share")).unwrap();
        age(dir.path(), 0, 5000);
        let reports = report(dir.path()).unwrap();
        assert_eq!(reports.len(), 2);
        assert_eq!(reports[0].share, SHARE.to_string());
        assert_eq!(reports[0].contents, 8);
        assert_eq!(reports[0].in_use_by, Some(std::process::id()));
        assert_eq!(reports[0].bytes, disk.stats().resident_bytes);
        let age = reports[0].newest_access.unwrap() - reports[0].oldest_access.unwrap();
        assert!((4999..5100).contains(&age), "{age}");
        assert_eq!((reports[1].contents, reports[1].in_use_by), (1, None));
    }

    #[test]
    fn verifying_drops_what_is_damaged() {
        let dir = TempDir::new().unwrap();
        drop(filled(dir.path()));
        let mut calls = 0;
        let sound = verify(dir.path(), None, &mut |_| calls += 1).unwrap();
        assert_eq!((sound.checked, sound.corrupt, calls), (14, 0, 4));
        assert_eq!(sound.bytes, 3 * SIZE + 5 * 9000);

        let paths = SharePaths::new(dir.path(), SHARE);
        let data = file::open(&paths.data(&key(0).digest())).unwrap();
        data.write_all_at(b"garbage", 140_000).unwrap();
        let index = file::open(&paths.index(&key(1).digest())).unwrap();
        index.write_all_at(b"garbage", 20).unwrap();
        let pack = file::open(&paths.pack(0)).unwrap();
        pack.write_all_at(b"garbage", 200).unwrap();
        let report = verify(dir.path(), Some(SHARE), &mut |_| ()).unwrap();
        assert_eq!((report.checked, report.corrupt), (11, 3));
        let again = verify(dir.path(), None, &mut |_| ()).unwrap();
        assert_eq!((again.checked, again.corrupt), (9, 0));

        let disk = open(dir.path());
        assert_eq!(read(&disk, 0, SIZE, 0), BlockMask::FULL);
        assert_eq!(read(&disk, 0, SIZE, 1), BlockMask::EMPTY);
        assert_eq!(read(&disk, 1, SIZE, 0), BlockMask::EMPTY);
        let packed = (10..15).filter(|file| !read(&disk, *file, 9000, 0).is_empty());
        assert_eq!(packed.count(), 4);
        assert_eq!(disk.stats().corrupt, 0);
    }

    #[test]
    fn shares_in_use_are_left_alone_and_named() {
        let dir = TempDir::new().unwrap();
        let disk = filled(dir.path());
        fill_other(dir.path());
        let skipped = vec![Skipped {
            share: SHARE.to_string(),
            in_use_by: std::process::id(),
        }];
        let verified = verify(dir.path(), None, &mut |_| ()).unwrap();
        assert_eq!((verified.checked, &verified.skipped), (1, &skipped));
        let swept = gc(dir.path(), Some(Duration::ZERO), None).unwrap();
        assert_eq!((swept.removed_contents, &swept.skipped), (1, &skipped));
        let cleared = clear(dir.path(), None).unwrap();
        assert_eq!(cleared.skipped, skipped);
        assert_eq!(read(&disk, 0, SIZE, 0), BlockMask::FULL);
        assert_eq!(
            report(dir.path()).unwrap().len(),
            1,
            "the other one is gone"
        );
    }

    #[test]
    fn clearing_one_share_leaves_the_other() {
        let dir = TempDir::new().unwrap();
        drop(filled(dir.path()));
        fill_other(dir.path());
        let before = report(dir.path()).unwrap();
        let swept = clear(dir.path(), Some(SHARE)).unwrap();
        assert_eq!(
            (swept.removed_bytes, swept.removed_contents),
            (before[0].bytes, 8)
        );
        let after = report(dir.path()).unwrap();
        assert_eq!((after.len(), &after[0].share), (1, &OTHER.to_string()));
        assert!(!dir.path().join(SHARE.to_string()).exists());
        let disk = open(dir.path());
        assert_eq!(read(&disk, 0, SIZE, 0), BlockMask::EMPTY);
    }

    #[test]
    fn collecting_goes_by_age_and_by_bytes() {
        let dir = TempDir::new().unwrap();
        drop(filled(dir.path()));
        age(dir.path(), 0, 7200);
        age(dir.path(), 2, 3600);
        let untouched = gc(dir.path(), None, None).unwrap();
        assert_eq!(untouched.removed_contents, 0);
        let old = gc(dir.path(), Some(Duration::from_secs(5000)), None).unwrap();
        assert_eq!(old.removed_contents, 1);
        let left = report(dir.path()).unwrap()[0].bytes;
        let shrunk = gc(dir.path(), None, Some(left - 1)).unwrap();
        assert_eq!(shrunk.removed_contents, 1);
        let disk = open(dir.path());
        let there = [0, 1, 2].map(|file| !read(&disk, file, SIZE, 0).is_empty());
        assert_eq!(there, [false, true, false]);
        drop(disk);
        gc(dir.path(), None, Some(0)).unwrap();
        assert_eq!(report(dir.path()).unwrap()[0].bytes, 0);
    }
}
