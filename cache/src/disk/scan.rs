//! Learns what an earlier run left, in the background. Reads do not need it; eviction does.

use crate::disk::file;
use crate::disk::inner::Inner;
use crate::disk::layout::{SharePaths, unhex};
use crate::disk::table::nanos_of;
use crate::key::ContentDigest;
use std::io;

/// Fills the table, then has the writer look at the budget.
pub(crate) fn run(inner: &Inner) {
    inner.packs.scan(|| inner.queue.is_closed());
    let walked = contents(&inner.paths, &mut |found| {
        inner
            .table
            .found(found.digest, found.bytes, found.used_nanos);
        !inner.queue.is_closed()
    });
    if let Err(error) = walked {
        tracing::warn!(%error, "cannot look through the disk cache");
    }
    inner.queue.evict();
}

/// A content with files of its own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FoundContent {
    pub(crate) digest: ContentDigest,
    pub(crate) bytes: u64,
    pub(crate) used_nanos: u64,
}

/// Visits every content of a share until `visit` says false. What vanishes meanwhile is skipped.
pub(crate) fn contents(
    paths: &SharePaths,
    visit: &mut dyn FnMut(FoundContent) -> bool,
) -> io::Result<()> {
    for group in read_dir(&paths.data_dir())? {
        let group = group?;
        let Some(head) = group.file_name().to_str().map(str::to_owned) else {
            continue;
        };
        for entry in read_dir(&group.path())? {
            let name = entry?.file_name();
            let Some((tail, kind)) = name.to_str().and_then(|name| name.split_once('.')) else {
                continue;
            };
            let Some(digest) = unhex(&format!("{head}{tail}")).map(ContentDigest) else {
                continue;
            };
            if let Some(found) = look(paths, digest, kind)
                && !visit(found)
            {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Looks at a content once, though it has two files.
fn look(paths: &SharePaths, digest: ContentDigest, kind: &str) -> Option<FoundContent> {
    let data = std::fs::symlink_metadata(paths.data(&digest)).ok();
    let index = std::fs::symlink_metadata(paths.index(&digest)).ok();
    let bytes = [&data, &index].into_iter().flatten().map(file::room).sum();
    let used_nanos = match (&index, kind) {
        (Some(index), "index") => index.modified().map_or(0, nanos_of),
        // Bytes whose index is gone: of no use, first to be evicted.
        (None, "data") => 0,
        _ => return None,
    };
    data.or(index)?;
    Some(FoundContent {
        digest,
        bytes,
        used_nanos,
    })
}

fn read_dir(
    path: &std::path::Path,
) -> io::Result<Box<dyn Iterator<Item = io::Result<std::fs::DirEntry>>>> {
    match std::fs::read_dir(path) {
        Ok(entries) => Ok(Box::new(entries)),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                Ok(Box::new(std::iter::empty()))
            }
            _ => Err(error),
        },
    }
}
