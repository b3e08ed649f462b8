//! The small files of one directory, and its directories, as listed.

use super::pattern::{Order, Pattern};
use crate::mount::listing::Listing;
use std::collections::HashMap;
use wormhole_protocol::limits::READ_MANY_FILE_BYTES_MAX;
use wormhole_protocol::{Attr, ContentVersion, Entry, FileId, FileKind, Name};

/// Entries of a directory that is looked through.
const ENTRIES_MAX: usize = 16 * 1024;

/// A file that may be fetched among others.
#[derive(Debug, Clone)]
pub(super) struct SmallFile {
    pub(super) name: Name,
    pub(super) id: FileId,
    pub(super) version: ContentVersion,
    pub(super) size: u32,
}

impl SmallFile {
    /// The file, if it is one: neither empty nor large.
    pub(super) fn of(name: &Name, attr: &Attr) -> Option<Self> {
        let size = u32::try_from(attr.size).ok()?;
        let is_small = (1..=READ_MANY_FILE_BYTES_MAX).contains(&(size as usize));
        (attr.kind == FileKind::File && is_small).then(|| Self {
            name: name.clone(),
            id: attr.id,
            version: attr.version,
            size,
        })
    }
}

/// What is known of a directory.
pub(super) struct Table {
    pub(super) pattern: Pattern,
    pub(super) files: Vec<SmallFile>,
    numbers: HashMap<FileId, u32>,
    /// In the order of the listing.
    dirs: Vec<(Name, Attr)>,
}

impl Table {
    /// Of entries in the order of the listing.
    pub(super) fn new(entries: impl IntoIterator<Item = Entry>) -> Self {
        let mut files = Vec::new();
        let mut dirs = Vec::new();
        for Entry { name, attr } in entries {
            if attr.kind == FileKind::Directory {
                dirs.push((name, attr));
            } else {
                files.extend(SmallFile::of(&name, &attr));
            }
        }
        let mut by_name: Vec<u32> = (0..).take(files.len()).collect();
        by_name.sort_unstable_by(|a, b| files[*a as usize].name.cmp(&files[*b as usize].name));
        let sizes = files.iter().map(|file| file.size).collect();
        let numbers = (0..).zip(&files).map(|(number, file)| (file.id, number));
        Self {
            pattern: Pattern::new(sizes, by_name),
            numbers: numbers.collect(),
            dirs,
            files,
        }
    }

    /// Of a listing that is there; none if it has too many entries, or broke off.
    pub(super) async fn of(listing: &Listing) -> Option<Self> {
        if !listing.is_whole(ENTRIES_MAX).await {
            return None;
        }
        let listed = listing.page(0, ENTRIES_MAX).await.ok()?.listed;
        Some(Self::new(listed.into_iter().map(|listed| listed.entry)))
    }

    /// The number of a file in the version it has here.
    pub(super) fn number(&self, id: FileId, version: ContentVersion) -> Option<u32> {
        let number = *self.numbers.get(&id)?;
        (self.files[number as usize].version == version).then_some(number)
    }

    /// The directory after `name` in `order`, or the first.
    pub(super) fn dir_after(&self, name: Option<&Name>, order: Order) -> Option<&(Name, Attr)> {
        match (order, name) {
            (Order::Listing, None) => self.dirs.first(),
            (Order::Listing, Some(name)) => {
                let at = self.dirs.iter().position(|(known, _)| known == name)?;
                self.dirs.get(at + 1)
            }
            (Order::Name, name) => {
                let later = self
                    .dirs
                    .iter()
                    .filter(|(n, _)| name.is_none_or(|name| n > name));
                later.min_by(|(a, _), (b, _)| a.cmp(b))
            }
        }
    }
}
