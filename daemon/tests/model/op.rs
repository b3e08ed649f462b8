//! What is done: operations on few names, so that they meet.

use proptest::prelude::*;
use proptest::sample::select;
use wormhole_protocol::RenameHow;

/// Directories that names are in: the root, and two that may be there or not.
pub(crate) const DIRS: [&str; 3] = ["", "d0", "d1"];
/// Names; the last two are those of the directories, in the root.
pub(crate) const NAMES: [&str; 5] = ["a", "b", "c", "d0", "d1"];
/// Files a mount has open at most.
pub(crate) const SLOTS: usize = 3;
/// Bytes of a file, about.
pub(crate) const OFFSET_MAX: usize = 300_000;

/// A name in a directory: index into [`DIRS`] and [`NAMES`].
pub(crate) type At = (usize, usize);

#[derive(Debug, Clone)]
pub(crate) enum Op {
    Create {
        at: At,
        slot: usize,
        exclusive: bool,
        truncate: bool,
    },
    Open {
        at: At,
        slot: usize,
        appends: bool,
        truncates: bool,
    },
    Close {
        slot: usize,
    },
    Write {
        slot: usize,
        offset: usize,
        len: usize,
        seed: u8,
    },
    Read {
        slot: usize,
        offset: usize,
        len: usize,
    },
    Sync {
        slot: usize,
    },
    Truncate {
        at: At,
        size: usize,
    },
    TruncateOpen {
        slot: usize,
        size: usize,
    },
    Rename {
        from: At,
        to: At,
        how: RenameHow,
    },
    Unlink {
        at: At,
    },
    Link {
        from: At,
        to: At,
    },
    MakeDir {
        at: At,
    },
    RemoveDir {
        at: At,
    },
    List {
        dir: usize,
    },
    Stat {
        at: At,
    },
    StatOpen {
        slot: usize,
    },
}

/// When a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    Not,
    /// Before the operation.
    Before,
    /// While it runs, after so many turns of the scheduler.
    During(u8),
}

/// An operation of one of the mounts.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) mount: usize,
    pub(crate) op: Op,
    pub(crate) cut: Cut,
}

fn at() -> impl Strategy<Value = At> {
    (0..DIRS.len(), 0..NAMES.len()).prop_map(|(dir, name)| match dir {
        0 => (0, name),
        // Directories lie in the root only.
        dir => (dir, name % 3),
    })
}

fn size() -> impl Strategy<Value = usize> {
    prop_oneof![
        0..OFFSET_MAX,
        0..20usize,
        (0..20usize).prop_map(|n| 4096 + n - 10),
        (0..20usize).prop_map(|n| 131_072 + n - 10),
    ]
}

fn len() -> impl Strategy<Value = usize> {
    prop_oneof![1..70_000usize, 1..20usize, Just(4096), Just(0)]
}

fn how() -> impl Strategy<Value = RenameHow> {
    prop_oneof![
        2 => Just(RenameHow::Replace),
        1 => Just(RenameHow::NoReplace),
        1 => Just(RenameHow::Exchange),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let slot = || 0..SLOTS;
    prop_oneof![
        4 => (at(), slot(), any::<bool>(), any::<bool>()).prop_map(
            |(at, slot, exclusive, truncate)| Op::Create { at, slot, exclusive, truncate }
        ),
        3 => (at(), slot(), any::<bool>(), select(vec![false, false, true])).prop_map(
            |(at, slot, appends, truncates)| Op::Open { at, slot, appends, truncates }
        ),
        2 => slot().prop_map(|slot| Op::Close { slot }),
        6 => (slot(), size(), len(), any::<u8>())
            .prop_map(|(slot, offset, len, seed)| Op::Write { slot, offset, len, seed }),
        3 => (slot(), size(), len()).prop_map(|(slot, offset, len)| Op::Read { slot, offset, len }),
        1 => slot().prop_map(|slot| Op::Sync { slot }),
        1 => (at(), size()).prop_map(|(at, size)| Op::Truncate { at, size }),
        1 => (slot(), size()).prop_map(|(slot, size)| Op::TruncateOpen { slot, size }),
        4 => (at(), at(), how()).prop_map(|(from, to, how)| Op::Rename { from, to, how }),
        2 => at().prop_map(|at| Op::Unlink { at }),
        2 => (at(), at()).prop_map(|(from, to)| Op::Link { from, to }),
        2 => (3..NAMES.len()).prop_map(|name| Op::MakeDir { at: (0, name) }),
        1 => at().prop_map(|at| Op::RemoveDir { at }),
        1 => (0..DIRS.len()).prop_map(|dir| Op::List { dir }),
        1 => at().prop_map(|at| Op::Stat { at }),
        1 => slot().prop_map(|slot| Op::StatOpen { slot }),
    ]
}

/// An operation; if `cuts`, one in four has its connection cut.
pub(crate) fn step(cuts: bool) -> impl Strategy<Value = Step> {
    let cut = prop_oneof![
        if cuts { 6 } else { 1_000_000 } => Just(Cut::Not),
        1 => Just(Cut::Before),
        1 => (0..30u8).prop_map(Cut::During),
    ];
    (0..2usize, op(), cut).prop_map(move |(mount, op, cut)| {
        let cut = if cuts { cut } else { Cut::Not };
        Step { mount, op, cut }
    })
}

/// Sequences that are worth doing every time.
pub(crate) fn seeds() -> Vec<Vec<Step>> {
    let create = |name, slot| Op::Create {
        at: (0, name),
        slot,
        exclusive: false,
        truncate: false,
    };
    let write = |slot, offset, len| Op::Write {
        slot,
        offset,
        len,
        seed: 7,
    };
    let rename = |from, to, how| Op::Rename {
        from: (0, from),
        to: (0, to),
        how,
    };
    let step = |mount, op| Step {
        mount,
        op,
        cut: Cut::Not,
    };
    let cut = |mount, op| Step {
        mount,
        op,
        cut: Cut::During(3),
    };
    vec![
        // Saved as editors do, while the other mount has the old one open.
        vec![
            step(0, create(0, 0)),
            step(0, write(0, 0, 50_000)),
            step(1, create(0, 0)),
            step(0, create(1, 1)),
            step(0, write(1, 0, 60_000)),
            step(0, rename(1, 0, RenameHow::Replace)),
            step(1, write(0, 40_000, 20_000)),
            step(1, Op::StatOpen { slot: 0 }),
            step(1, Op::Stat { at: (0, 0) }),
        ],
        // One file renamed over another name of itself, which changes nothing.
        vec![
            step(0, create(0, 0)),
            step(
                0,
                Op::Link {
                    from: (0, 0),
                    to: (0, 1),
                },
            ),
            step(0, rename(1, 0, RenameHow::Replace)),
            step(0, Op::Stat { at: (0, 0) }),
            step(0, Op::Stat { at: (0, 1) }),
            step(0, write(0, 0, 10)),
            step(1, Op::Stat { at: (0, 1) }),
        ],
        // The same with the connection gone again and again.
        vec![
            cut(0, create(0, 0)),
            cut(0, write(0, 0, 70_000)),
            cut(0, Op::Sync { slot: 0 }),
            cut(0, Op::Unlink { at: (0, 0) }),
            cut(0, write(0, 100_000, 70_000)),
            cut(
                0,
                Op::Read {
                    slot: 0,
                    offset: 0,
                    len: 70_000,
                },
            ),
            cut(0, Op::StatOpen { slot: 0 }),
            cut(0, Op::Close { slot: 0 }),
        ],
        // Linked from a directory that was just made, and looked at through what is open.
        vec![
            step(0, Op::MakeDir { at: (0, 4) }),
            step(
                0,
                Op::Create {
                    at: (2, 2),
                    slot: 0,
                    exclusive: false,
                    truncate: false,
                },
            ),
            step(
                0,
                Op::Link {
                    from: (2, 2),
                    to: (0, 0),
                },
            ),
            step(0, Op::StatOpen { slot: 0 }),
        ],
        // Appended by both.
        vec![
            step(0, create(0, 0)),
            step(
                0,
                Op::Open {
                    at: (0, 0),
                    slot: 1,
                    appends: true,
                    truncates: false,
                },
            ),
            step(
                1,
                Op::Open {
                    at: (0, 0),
                    slot: 1,
                    appends: true,
                    truncates: false,
                },
            ),
            cut(0, write(1, 0, 1000)),
            cut(1, write(1, 0, 1000)),
            cut(0, write(1, 0, 5000)),
            step(1, Op::Stat { at: (0, 0) }),
        ],
    ]
}
