//! What a watch knows of names, and what makes a difference. No I/O here.

use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use wormhole_protocol::{Attr, ContentVersion, FileId, FileKind, Name, Timestamp};

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// A name is there that was not, or leads to something else.
    Created,
    /// A name is not there any more, or leads to something else; what was in it went with it.
    Removed,
    /// The content of a file is another.
    Modified,
    /// Mode, owner or times are others.
    Attributes,
}

/// What a name leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symlink.
    Symlink,
    /// Anything else.
    Other,
}

/// What is known of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    id: FileId,
    pub(super) kind: Kind,
    version: ContentVersion,
    owners: (u16, u32, u32),
    modified: Timestamp,
}

pub(super) type Names = HashMap<Name, Known>;

impl Known {
    pub(super) fn of(attr: &Attr) -> Self {
        Self {
            id: attr.id,
            kind: match attr.kind {
                FileKind::File => Kind::File,
                FileKind::Directory => Kind::Directory,
                FileKind::Symlink => Kind::Symlink,
                _ => Kind::Other,
            },
            version: attr.version,
            owners: (attr.mode, attr.uid, attr.gid),
            modified: attr.modified,
        }
    }

    /// What happened to it, if it is the same still.
    fn change(&self, now: &Self) -> Option<What> {
        // What happens in a directory is told where it happens.
        let is_dir = self.kind == Kind::Directory;
        if self.kind == Kind::File && self.version != now.version {
            Some(What::Modified)
        } else if self.owners != now.owners || (self.modified != now.modified && !is_dir) {
            Some(What::Attributes)
        } else {
            None
        }
    }
}

/// What happened between the two: removals first, so that a name that was replaced is removed and made.
pub(super) fn changes<'a>(before: &'a Names, now: &'a Names) -> Vec<(What, &'a Name, &'a Known)> {
    let is_same = |a: &Known, b: &Known| a.id == b.id && a.kind == b.kind;
    let stays = |name: &Name, known: &Known, other: &Names| {
        other.get(name).is_some_and(|other| is_same(known, other))
    };
    let gone = before
        .iter()
        .filter(|(name, known)| !stays(name, known, now));
    let mut changes: Vec<_> = gone
        .map(|(name, known)| (What::Removed, name, known))
        .collect();
    for (name, known) in now {
        let what = match before.get(name).filter(|before| is_same(before, known)) {
            Some(before) => before.change(known),
            None => Some(What::Created),
        };
        changes.extend(what.map(|what| (what, name, known)));
    }
    let order = |what: &What| *what != What::Removed;
    changes.sort_by(|a, b| (order(&a.0), a.1).cmp(&(order(&b.0), b.1)));
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attr(inode: u64, kind: FileKind, version: u8) -> Attr {
        Attr {
            id: FileId {
                device: 1,
                inode,
                birth: 0,
            },
            kind,
            mode: 0o644,
            links: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            size: 0,
            blocks: 0,
            accessed: Timestamp::EPOCH,
            modified: Timestamp::EPOCH,
            changed: Timestamp::EPOCH,
            xattrs: false,
            version: ContentVersion([version; 16]),
        }
    }

    fn names(names: &[(&str, Attr)]) -> Names {
        let known = names.iter().map(|(name, attr)| {
            let name = Name::new(name.as_bytes()).unwrap();
            (name, Known::of(attr))
        });
        known.collect()
    }

    #[test]
    fn differences_are_told_once_each_and_removals_first() {
        let file = |inode, version| attr(inode, FileKind::File, version);
        let dir = |inode, version| attr(inode, FileKind::Directory, version);
        let moded = Attr {
            mode: 0o600,
            ..file(5, 1)
        };
        let touched = Attr {
            modified: Timestamp::new(9, 0).unwrap(),
            accessed: Timestamp::new(9, 0).unwrap(),
            ..dir(6, 2)
        };
        let before = names(&[
            ("same", file(1, 1)),
            ("written", file(2, 1)),
            ("gone", file(3, 1)),
            ("replaced", file(4, 1)),
            ("mode", file(5, 1)),
            ("dir", dir(6, 1)),
        ]);
        let now = names(&[
            ("same", file(1, 1)),
            ("written", file(2, 2)),
            ("new", file(7, 1)),
            ("replaced", file(8, 1)),
            ("mode", moded),
            ("dir", touched),
        ]);
        let told = changes(&before, &now);
        let told: Vec<_> = told
            .iter()
            .map(|(what, name, _)| (*what, std::str::from_utf8(name.as_bytes()).unwrap()))
            .collect();
        assert_eq!(
            told,
            [
                (What::Removed, "gone"),
                (What::Removed, "replaced"),
                (What::Attributes, "mode"),
                (What::Created, "new"),
                (What::Created, "replaced"),
                (What::Modified, "written"),
            ]
        );
        assert!(changes(&now, &now).is_empty());
    }
}
