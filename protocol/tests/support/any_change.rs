//! Strategies that make any request that came with writing, for [`super`].

use super::{file_id, link_target, name, node, number, timestamp, xattr_name};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use wormhole_protocol::limits::{CLOSE_MAX, OFFSET_MAX, RESERVED_FILES_MAX, WRITE_BYTES_MAX};
use wormhole_protocol::{
    Access, AfterWrite, Allocate, AttrChange, BodyLen, Caller, Change, Extent, Lock, LockConflict,
    LockKind, LockMode, LockOwner, LockRange, NewFile, NewNode, OpenId, RenameHow, Request,
    SeekWhat, Seq, SetTime, SyncWhat, XattrHow,
};

/// Any access.
pub(crate) fn access() -> impl Strategy<Value = Access> {
    select(vec![Access::Read, Access::ReadWrite])
}

/// Any lock in the way.
pub(crate) fn conflict() -> impl Strategy<Value = LockConflict> {
    (lock_range(), lock_mode()).prop_map(|(range, mode)| LockConflict { range, mode })
}

/// Any change, seek or request about a lock.
pub(crate) fn change_request() -> impl Strategy<Value = Request> {
    let asked = (number(), number(), any::<[u32; 2]>(), change()).prop_map(
        |(seq, settled, [uid, gid], change)| Request::Change {
            seq: Seq(seq),
            settled: Seq(settled),
            caller: Caller { uid, gid },
            change,
        },
    );
    let what = select(vec![SeekWhat::Data, SeekWhat::Hole]);
    prop_oneof![
        8 => asked.boxed(),
        1 => (node(), number(), what)
            .prop_map(|(node, offset, what)| Request::Seek { node, offset, what }),
        1 => (lock(), lock_mode(), any::<bool>())
            .prop_map(|(lock, mode, wait)| Request::Lock { lock, mode, wait }),
        1 => lock().prop_map(|lock| Request::Unlock { lock }),
        1 => (open(), owner()).prop_map(|(open, owner)| Request::UnlockAll { open, owner }),
        1 => (lock(), lock_mode()).prop_map(|(lock, mode)| Request::TestLock { lock, mode }),
    ]
}

fn open() -> impl Strategy<Value = OpenId> {
    number().prop_map(OpenId)
}

fn owner() -> impl Strategy<Value = LockOwner> {
    number().prop_map(LockOwner)
}

fn body_len() -> impl Strategy<Value = BodyLen> {
    let max = u32::try_from(WRITE_BYTES_MAX).expect("4 MiB");
    prop_oneof![0..=max, Just(max)].prop_map(|bytes| BodyLen::new(bytes).expect("at most 4 MiB"))
}

fn extent() -> impl Strategy<Value = Extent> {
    (1..=OFFSET_MAX)
        .prop_flat_map(|len| (0..=OFFSET_MAX - len, Just(len)))
        .prop_map(|(offset, len)| Extent::new(offset, len).expect("ends within off_t"))
}

fn lock_range() -> impl Strategy<Value = LockRange> {
    let some = (0..=OFFSET_MAX)
        .prop_flat_map(|first| (Just(first), first..=OFFSET_MAX))
        .prop_map(|(first, last)| LockRange::new(first, last).expect("first before last"));
    prop_oneof![4 => some, 1 => Just(LockRange::ALL)]
}

fn lock_mode() -> impl Strategy<Value = LockMode> {
    select(vec![LockMode::Shared, LockMode::Exclusive])
}

fn lock() -> impl Strategy<Value = Lock> {
    let kind = select(vec![LockKind::Record, LockKind::Flock]);
    (open(), owner(), kind, lock_range()).prop_map(|(open, owner, kind, range)| Lock {
        open,
        owner,
        kind,
        range,
    })
}

/// Boxed, for a value of all alternatives at once would be too much for a test's stack.
fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        open_change().boxed(),
        content_change().boxed(),
        attribute_change().boxed(),
        new_name().boxed(),
        old_name().boxed(),
    ]
}

fn open_change() -> impl Strategy<Value = Change> {
    let create = (
        node(),
        name(),
        any::<u16>(),
        any::<bool>(),
        any::<bool>(),
        open(),
    );
    prop_oneof![
        (node(), access(), any::<bool>(), open()).prop_map(|(node, access, truncate, open)| {
            Change::Open {
                node,
                access,
                truncate,
                open,
            }
        }),
        create.prop_map(
            |(dir, name, mode, exclusive, truncate, open)| Change::Create {
                dir,
                name,
                mode,
                exclusive,
                truncate,
                open,
            }
        ),
        proptest::collection::vec(open(), 0..=CLOSE_MAX).prop_map(|opens| Change::Close { opens }),
        new_file().prop_map(Change::NameReserved),
    ]
}

fn new_file() -> impl Strategy<Value = NewFile> {
    let place = (node(), name(), any::<u16>(), file_id(), open());
    let first = (number(), body_len(), after_write());
    (place, 0..=RESERVED_FILES_MAX, first).prop_map(
        |((dir, name, mode, file, open), refill, (offset, len, after))| NewFile {
            dir,
            name,
            mode,
            file,
            open,
            refill,
            offset,
            len,
            after,
        },
    )
}

fn after_write() -> impl Strategy<Value = AfterWrite> {
    (option::of(attr_change()), option::of(sync_what()))
        .prop_map(|(set, sync)| AfterWrite { set, sync })
}

fn sync_what() -> impl Strategy<Value = SyncWhat> {
    select(vec![SyncWhat::All, SyncWhat::Data])
}

fn content_change() -> impl Strategy<Value = Change> {
    use Allocate as A;
    let ways = select(vec![
        A::Grow,
        A::KeepSize,
        A::PunchHole,
        A::Zero,
        A::ZeroKeepSize,
    ]);
    let after = after_write();
    prop_oneof![
        (open(), number(), body_len(), after).prop_map(|(open, offset, len, after)| {
            Change::Write {
                open,
                offset,
                len,
                after,
            }
        }),
        (open(), body_len()).prop_map(|(open, len)| Change::Append { open, len }),
        (open(), extent(), ways).prop_map(|(open, extent, how)| Change::Allocate {
            open,
            extent,
            how,
        }),
        (node(), number(), open(), extent()).prop_map(|(from, from_offset, to, extent)| {
            Change::Copy {
                from,
                from_offset,
                to,
                extent,
            }
        }),
        (open(), sync_what()).prop_map(|(open, what)| Change::Sync { open, what }),
        node().prop_map(|dir| Change::SyncDir { dir }),
    ]
}

fn attribute_change() -> impl Strategy<Value = Change> {
    let how = select(vec![XattrHow::Set, XattrHow::Create, XattrHow::Replace]);
    prop_oneof![
        (node(), attr_change()).prop_map(|(node, set)| Change::SetAttr { node, set }),
        (node(), xattr_name(), how, body_len()).prop_map(|(node, name, how, len)| {
            Change::SetXattr {
                node,
                name,
                how,
                len,
            }
        }),
        (node(), xattr_name()).prop_map(|(node, name)| Change::RemoveXattr { node, name }),
    ]
}

fn attr_change() -> impl Strategy<Value = AttrChange> {
    let time = || prop_oneof![Just(SetTime::Now), timestamp().prop_map(SetTime::At)];
    (
        option::of(any::<u16>()),
        option::of(any::<u32>()),
        option::of(any::<u32>()),
        option::of(number()),
        option::of(time()),
        option::of(time()),
    )
        .prop_map(|(mode, uid, gid, size, accessed, modified)| AttrChange {
            mode,
            uid,
            gid,
            size,
            accessed,
            modified,
        })
}

fn new_name() -> impl Strategy<Value = Change> {
    let kind = prop_oneof![
        Just(NewNode::File),
        Just(NewNode::Fifo),
        Just(NewNode::Socket),
        number().prop_map(NewNode::CharDevice),
        number().prop_map(NewNode::BlockDevice),
    ];
    prop_oneof![
        (node(), name(), any::<u16>(), 0..=RESERVED_FILES_MAX).prop_map(
            |(dir, name, mode, reserve)| Change::MakeDir {
                reserve,
                dir,
                name,
                mode,
            }
        ),
        (node(), name(), any::<u16>(), kind).prop_map(|(dir, name, mode, kind)| {
            Change::MakeNode {
                dir,
                name,
                mode,
                kind,
            }
        }),
        (node(), name(), link_target()).prop_map(|(dir, name, target)| Change::Symlink {
            dir,
            name,
            target,
        }),
        (node(), node(), name()).prop_map(|(node, dir, name)| Change::Link { node, dir, name }),
    ]
}

fn old_name() -> impl Strategy<Value = Change> {
    let how = select(vec![
        RenameHow::Replace,
        RenameHow::NoReplace,
        RenameHow::Exchange,
    ]);
    let rename = ((node(), name()), (node(), name()), how, option::of(open()));
    prop_oneof![
        (node(), name(), option::of(open())).prop_map(|(dir, name, keep)| Change::Unlink {
            dir,
            name,
            keep,
        }),
        (node(), name()).prop_map(|(dir, name)| Change::RemoveDir { dir, name }),
        rename.prop_map(
            |((from, from_name), (to, to_name), how, keep)| Change::Rename {
                from,
                from_name,
                to,
                to_name,
                how,
                keep,
            }
        ),
    ]
}
