//! One sample of every change and every request about locks, for [`super`].

use super::{Sample, file_id, name, node, time};
use wormhole_protocol::{
    Access, AfterWrite, Allocate, AttrChange, BodyLen, Caller, Change, Extent, FileId, LinkTarget,
    Lock, LockKind, LockMode, LockOwner, LockRange, NewFile, NewNode, NodeRef, OpenId, RenameHow,
    Request, SeekWhat, Seq, SetTime, SyncWhat, XattrHow, XattrName,
};

/// Every request that came with writing.
pub(crate) fn requests() -> Vec<Sample<Request>> {
    let mut requests = seeks();
    requests.extend(
        changes()
            .into_iter()
            .map(|change| (change_label(&change), asked(change))),
    );
    requests.extend(locks());
    requests.push((
        "reserve",
        Request::Reserve {
            dir: dir(),
            count: 4,
        },
    ));
    requests
}

fn asked(change: Change) -> Request {
    Request::Change {
        seq: Seq(1_000_000),
        settled: Seq(999_744),
        caller: Caller {
            uid: 1000,
            gid: u32::MAX,
        },
        change,
    }
}

fn dir() -> NodeRef {
    node(b"dir", Some(file_id()))
}

fn file() -> NodeRef {
    node(b"dir/file", Some(file_id()))
}

fn len(bytes: u32) -> BodyLen {
    BodyLen::new(bytes).expect("within the limit")
}

fn extent(offset: u64, len: u64) -> Extent {
    Extent::new(offset, len).expect("within off_t")
}

fn changes() -> Vec<Change> {
    let mut changes = opens();
    changes.extend(contents());
    changes.extend(attributes());
    changes.extend(new_names());
    changes.extend(old_names());
    changes
}

fn opens() -> Vec<Change> {
    let create = |exclusive, truncate| Change::Create {
        dir: dir(),
        name: name(b"new"),
        mode: 0o4751,
        exclusive,
        truncate,
        open: OpenId(7),
    };
    vec![
        Change::Open {
            truncate: false,
            node: file(),
            access: Access::Read,
            open: OpenId(0),
        },
        Change::Open {
            truncate: true,
            node: file(),
            access: Access::ReadWrite,
            open: OpenId(u64::MAX),
        },
        create(true, false),
        create(false, true),
        Change::Close { opens: Vec::new() },
        Change::Close {
            opens: vec![OpenId(251), OpenId(7)],
        },
        Change::NameReserved(NewFile {
            dir: dir(),
            name: name(b"new"),
            mode: 0o644,
            file: file_id(),
            open: OpenId(8),
            refill: 4,
            offset: 4096,
            len: len(10_240),
            after: AfterWrite {
                set: None,
                sync: Some(SyncWhat::All),
            },
        }),
    ]
}

fn contents() -> Vec<Change> {
    use Allocate as A;
    let mut changes = vec![
        Change::Write {
            open: OpenId(7),
            offset: 5 << 30,
            len: len(1 << 20),
            after: AfterWrite::NOTHING,
        },
        Change::Write {
            open: OpenId(7),
            offset: 0,
            len: len(12),
            after: AfterWrite {
                set: Some(AttrChange {
                    modified: Some(SetTime::Now),
                    ..AttrChange::default()
                }),
                sync: Some(SyncWhat::Data),
            },
        },
        Change::Append {
            open: OpenId(7),
            len: len(4 << 20),
        },
    ];
    let ways = [A::Grow, A::KeepSize, A::PunchHole, A::Zero, A::ZeroKeepSize];
    changes.extend(ways.map(|how| Change::Allocate {
        open: OpenId(7),
        extent: extent(4096, i64::MAX as u64 - 4096),
        how,
    }));
    changes.push(Change::Copy {
        from: node(b"source", None),
        from_offset: 300,
        to: OpenId(7),
        extent: extent(1 << 40, 70_000),
    });
    changes.extend([SyncWhat::All, SyncWhat::Data].map(|what| Change::Sync {
        open: OpenId(7),
        what,
    }));
    changes.push(Change::SyncDir { dir: dir() });
    changes
}

fn attributes() -> Vec<Change> {
    let all = AttrChange {
        mode: Some(0o7777),
        uid: Some(0),
        gid: Some(u32::MAX - 1),
        size: Some(i64::MAX as u64),
        accessed: Some(SetTime::Now),
        modified: Some(SetTime::At(time(-86_400, 999_999_999))),
    };
    let xattr = |name: &[u8]| XattrName::new(name).expect("a valid xattr name");
    let ways = [XattrHow::Set, XattrHow::Create, XattrHow::Replace];
    let mut changes = vec![
        Change::SetAttr {
            node: file(),
            set: AttrChange::default(),
        },
        Change::SetAttr {
            node: file(),
            set: all,
        },
    ];
    changes.extend(ways.map(|how| Change::SetXattr {
        node: file(),
        name: xattr(b"user.mime_type"),
        how,
        len: len(64 * 1024),
    }));
    changes.push(Change::RemoveXattr {
        node: file(),
        name: xattr(b"system.posix_acl_default"),
    });
    changes
}

fn new_names() -> Vec<Change> {
    use NewNode as N;
    let kinds = [
        N::File,
        N::Fifo,
        N::Socket,
        N::CharDevice(0x0103),
        N::BlockDevice(u64::MAX),
    ];
    let mut changes = vec![Change::MakeDir {
        dir: dir(),
        name: name(b"new"),
        mode: 0o2775,
        reserve: 1,
    }];
    changes.extend(kinds.map(|kind| Change::MakeNode {
        dir: dir(),
        name: name(b"new"),
        mode: 0o600,
        kind,
    }));
    changes.extend([
        Change::Symlink {
            dir: dir(),
            name: name(b"new"),
            target: LinkTarget::new(b"../elsewhere/\xfe".as_slice()).expect("a valid target"),
        },
        Change::Link {
            node: file(),
            dir: node(b"", None),
            name: name(b"new"),
        },
    ]);
    changes
}

fn old_names() -> Vec<Change> {
    let other = FileId {
        inode: 8,
        ..file_id()
    };
    let ways = [
        (RenameHow::Replace, Some(OpenId(9))),
        (RenameHow::NoReplace, None),
        (RenameHow::Exchange, None),
    ];
    let mut changes = vec![
        Change::Unlink {
            dir: dir(),
            name: name(b"old"),
            keep: None,
        },
        Change::Unlink {
            dir: dir(),
            name: name(b"old"),
            keep: Some(OpenId(9)),
        },
        Change::RemoveDir {
            dir: dir(),
            name: name(b"old"),
        },
    ];
    changes.extend(ways.map(|(how, keep)| Change::Rename {
        from: dir(),
        from_name: name(b"old"),
        to: node(b"elsewhere", Some(other)),
        to_name: name(b"new"),
        how,
        keep,
    }));
    changes
}

fn change_label(change: &Change) -> &'static str {
    match change {
        Change::Open { access, .. } => match access {
            Access::Read => "open: to read",
            Access::ReadWrite => "open: to write",
        },
        Change::Create { exclusive, .. } => match exclusive {
            true => "create: exclusive",
            false => "create: truncate",
        },
        Change::Close { opens } => match opens.is_empty() {
            true => "close: none",
            false => "close",
        },
        Change::NameReserved(_) => "name reserved",
        Change::Write {
            after: AfterWrite::NOTHING,
            ..
        } => "write",
        Change::Write { .. } => "write: and more",
        Change::Append { .. } => "append",
        Change::Allocate { how, .. } => match how {
            Allocate::Grow => "allocate: grow",
            Allocate::KeepSize => "allocate: keep size",
            Allocate::PunchHole => "allocate: punch hole",
            Allocate::Zero => "allocate: zero",
            Allocate::ZeroKeepSize => "allocate: zero, keep size",
        },
        Change::Copy { .. } => "copy",
        Change::Sync { what, .. } => match what {
            SyncWhat::All => "sync: all",
            SyncWhat::Data => "sync: data",
        },
        Change::SyncDir { .. } => "sync: directory",
        Change::SetAttr { set, .. } if *set == AttrChange::default() => "set: nothing",
        Change::SetAttr { .. } => "set: all",
        Change::SetXattr { how, .. } => match how {
            XattrHow::Set => "set xattr",
            XattrHow::Create => "set xattr: create",
            XattrHow::Replace => "set xattr: replace",
        },
        Change::RemoveXattr { .. } => "remove xattr",
        _ => name_label(change),
    }
}

/// The changes of names; [`change_label`] has all others.
fn name_label(change: &Change) -> &'static str {
    match change {
        Change::Open { .. }
        | Change::Create { .. }
        | Change::Close { .. }
        | Change::NameReserved(_)
        | Change::Write { .. }
        | Change::Append { .. }
        | Change::Allocate { .. }
        | Change::Copy { .. }
        | Change::Sync { .. }
        | Change::SyncDir { .. }
        | Change::SetAttr { .. }
        | Change::SetXattr { .. }
        | Change::RemoveXattr { .. } => unreachable!("no change of a name"),
        Change::MakeDir { .. } => "make directory",
        Change::MakeNode { kind, .. } => match kind {
            NewNode::File => "make node: file",
            NewNode::Fifo => "make node: fifo",
            NewNode::Socket => "make node: socket",
            NewNode::CharDevice(_) => "make node: character device",
            NewNode::BlockDevice(_) => "make node: block device",
        },
        Change::Symlink { .. } => "make symlink",
        Change::Link { .. } => "hard link",
        Change::Unlink { keep: None, .. } => "unlink",
        Change::Unlink { keep: Some(_), .. } => "unlink: keep",
        Change::RemoveDir { .. } => "remove directory",
        Change::Rename { how, .. } => match how {
            RenameHow::Replace => "rename: replace",
            RenameHow::NoReplace => "rename: no replace",
            RenameHow::Exchange => "rename: exchange",
        },
    }
}

fn seeks() -> Vec<Sample<Request>> {
    let seek = |what| Request::Seek {
        node: file(),
        offset: i64::MAX as u64,
        what,
    };
    [SeekWhat::Data, SeekWhat::Hole]
        .map(|what| match what {
            SeekWhat::Data => ("seek: data", seek(what)),
            SeekWhat::Hole => ("seek: hole", seek(what)),
        })
        .into()
}

fn locks() -> Vec<Sample<Request>> {
    let lock = |kind, range| Lock {
        open: OpenId(7),
        owner: LockOwner(0xfeed_beef_dead_cafe),
        kind,
        range,
    };
    let some = LockRange::new(4096, 8191).expect("first before last");
    vec![
        (
            "lock: record, shared",
            Request::Lock {
                lock: lock(LockKind::Record, some),
                mode: LockMode::Shared,
                wait: false,
            },
        ),
        (
            "lock: whole, exclusive, wait",
            Request::Lock {
                lock: lock(LockKind::Flock, LockRange::ALL),
                mode: LockMode::Exclusive,
                wait: true,
            },
        ),
        (
            "unlock",
            Request::Unlock {
                lock: lock(LockKind::Record, some),
            },
        ),
        (
            "unlock all",
            Request::UnlockAll {
                open: OpenId(7),
                owner: LockOwner(3),
            },
        ),
        (
            "test lock",
            Request::TestLock {
                lock: lock(LockKind::Record, some),
                mode: LockMode::Exclusive,
            },
        ),
    ]
}
