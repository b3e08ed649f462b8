//! One sample of everything said of trees, for [`super`].

use super::{Sample, attr, file_id, name, node};
use wormhole_protocol::{Entry, FileKind, RelPath, Request, TreeFrame};

/// Every request about trees.
pub(crate) fn requests() -> Vec<Sample<Request>> {
    let dir = node(b"src/deep", Some(file_id()));
    let request = Request::Tree {
        dir,
        entries_max: 50_000,
    };
    vec![("tree", request)]
}

/// Every kind of frame.
pub(super) fn tree_frames() -> Vec<Sample<TreeFrame>> {
    let entry = |name_bytes: &[u8], kind| Entry {
        name: name(name_bytes),
        attr: attr(kind),
    };
    let begins = |path: &[u8], entries, last| TreeFrame::Directory {
        path: RelPath::new(path).expect("a valid path"),
        attr: attr(FileKind::Directory),
        leased: last,
        entries,
        last,
    };
    let entries = vec![
        entry(b"a", FileKind::File),
        entry(b"d", FileKind::Directory),
    ];
    vec![
        ("tree frame: root", begins(b"", entries.clone(), false)),
        (
            "tree frame: empty directory",
            begins(b"src/d", vec![], true),
        ),
        (
            "tree frame: more",
            TreeFrame::More {
                entries,
                last: true,
            },
        ),
        ("tree frame: end", TreeFrame::End { whole: true }),
    ]
}
