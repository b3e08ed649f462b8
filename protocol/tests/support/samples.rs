//! One value of every kind of message, fixed for ever: the golden bytes are of these.
//!
//! Each list is checked by an exhaustive `match`, so that a new variant does not compile until it
//! has a sample here. Never change a sample: add one.

mod changes;
mod leases;
mod trees;

use wormhole_protocol::{
    Access, Attr, ByteRange, BytesDigest, ContentVersion, Entry, Epoch, Fault, Features, FileFrame,
    FileId, FileKind, FileWanted, Hello, HelloReply, KnownContent, LinkTarget, ListFrame,
    ListingDigest, LockConflict, LockMode, LockRange, MadeDir, MountId, Name, Named, NodeRef,
    Proof, Push, ReadUrgency, Refusal, RelPath, Reply, Request, SessionLimits, ShareId, StatFs,
    TicketId, Timestamp, TreeFrame, Welcome, WrittenFile, XattrName,
};

/// A value and what the golden table calls it.
pub(crate) type Sample<T> = (&'static str, T);

fn file_id() -> FileId {
    FileId {
        device: 0x801,
        inode: 1_234_567,
        birth: 1_763_704_800_123_456_789,
    }
}

fn name(bytes: &[u8]) -> Name {
    Name::new(bytes).expect("a valid name")
}

fn node(path: &[u8], expect: Option<FileId>) -> NodeRef {
    NodeRef {
        path: RelPath::new(path).expect("a valid path"),
        expect,
    }
}

fn time(secs: i64, nanos: u32) -> Timestamp {
    Timestamp::new(secs, nanos).expect("nanoseconds below 10^9")
}

/// A regular file with a different value in every field.
pub(crate) fn attr(kind: FileKind) -> Attr {
    Attr {
        id: file_id(),
        kind,
        mode: 0o4755,
        links: 2,
        uid: 1000,
        gid: u32::MAX,
        rdev: 0x0103,
        size: 5 << 30,
        blocks: 8,
        accessed: time(1_763_704_801, 1),
        modified: time(-1, 999_999_999),
        changed: time(i64::MAX, 0),
        xattrs: true,
        version: ContentVersion(*b"0123456789abcdef"),
    }
}

/// The hello.
pub(crate) fn hellos() -> Vec<Sample<Hello>> {
    vec![(
        "hello",
        Hello {
            oldest: 1,
            newest: 300,
            features: Features(u64::MAX),
            ticket: TicketId(*b"ticketid"),
            proof: Proof([0xa5; 32]),
            mount: MountId([7; 16]),
        },
    )]
}

/// Every answer to a hello.
pub(crate) fn hello_replies() -> Vec<Sample<HelloReply>> {
    let welcome = HelloReply::Welcome(Welcome {
        version: 1,
        features: Features(0),
        share: ShareId([0x11; 16]),
        name: name(b"photos"),
        epoch: Epoch(42),
        limits: SessionLimits {
            requests_max: 256,
            read_bytes_max: 64 << 20,
            opens_max: 1024,
        },
        access: Access::ReadWrite,
        resumed: true,
        maps_users: false,
        root: attr(FileKind::Directory),
    });
    let refusals = [
        Refusal::UnknownTicket,
        Refusal::Expired,
        Refusal::TooManyMounts,
        Refusal::Version {
            oldest: 2,
            newest: 9,
        },
        Refusal::Busy,
        Refusal::Malformed,
    ];
    let mut samples = vec![("welcome", welcome)];
    samples.extend(refusals.into_iter().map(|refusal| {
        let label = match refusal {
            Refusal::UnknownTicket => "refused: unknown ticket",
            Refusal::Expired => "refused: expired",
            Refusal::TooManyMounts => "refused: too many mounts",
            Refusal::Version { .. } => "refused: version",
            Refusal::Busy => "refused: busy",
            Refusal::Malformed => "refused: malformed",
        };
        (label, HelloReply::Refused(refusal))
    }));
    samples
}

/// Every request.
pub(crate) fn requests() -> Vec<Sample<Request>> {
    let requests = vec![
        Request::Lookup {
            dir: node(b"", None),
            name: name(b"a \n\xff"),
        },
        Request::Getattr {
            node: node(b"a/b", Some(file_id())),
        },
        Request::Readlink {
            node: node(b"link", Some(file_id())),
        },
        Request::List {
            dir: node(b"deep/er", None),
            known: None,
        },
        Request::List {
            dir: node(b"deep/er", Some(file_id())),
            known: Some(ListingDigest([0xd1; 32])),
        },
        Request::Read {
            node: node(b"big.bin", Some(file_id())),
            range: ByteRange::new(131_072, 1 << 20).expect("a valid range"),
            urgency: ReadUrgency::Demand,
        },
        Request::Read {
            node: node(b"big.bin", None),
            range: ByteRange::new(i64::MAX as u64 - 1, 1).expect("the last byte a file can have"),
            urgency: ReadUrgency::Ahead,
        },
        Request::StatFs,
        Request::GetXattr {
            node: node(b"f", None),
            name: XattrName::new(b"user.mime_type".as_slice()).expect("a valid xattr name"),
        },
        Request::ListXattr {
            node: node(b"f", None),
        },
        Request::ReadMany {
            dir: node(b"src", Some(file_id())),
            files: files_wanted(),
        },
        Request::Vouch {
            files: vec![WrittenFile {
                node: node(b"out/a.o", Some(file_id())),
                size: 70_000,
                digest: BytesDigest([0xb3; 32]),
            }],
        },
    ];
    requests
        .into_iter()
        .map(|r| (request_label(&r), r))
        .chain(changes::requests())
        .chain(leases::requests())
        .chain(trees::requests())
        .collect()
}

fn files_wanted() -> Vec<FileWanted> {
    let known = KnownContent {
        file: file_id(),
        version: ContentVersion(*b"fedcba9876543210"),
    };
    vec![
        FileWanted {
            name: name(b"lib.rs"),
            known: Some(known),
        },
        FileWanted {
            name: name(b"\xff\n"),
            known: None,
        },
    ]
}

fn request_label(request: &Request) -> &'static str {
    match request {
        Request::Lookup { .. } => "lookup",
        Request::Getattr { .. } => "getattr",
        Request::Readlink { .. } => "readlink",
        Request::List { known: None, .. } => "list",
        Request::List { known: Some(_), .. } => "list: known",
        Request::Read { urgency, .. } => match urgency {
            ReadUrgency::Demand => "read: demand",
            ReadUrgency::Ahead => "read: ahead",
        },
        Request::StatFs => "statfs",
        Request::GetXattr { .. } => "getxattr",
        Request::ListXattr { .. } => "listxattr",
        Request::Revalidate { .. } => "revalidate",
        Request::ReadMany { .. } => "read many",
        Request::Vouch { .. } => "vouch",
        Request::Seek { .. }
        | Request::Change { .. }
        | Request::Lock { .. }
        | Request::Unlock { .. }
        | Request::UnlockAll { .. }
        | Request::TestLock { .. }
        | Request::Reserve { .. } => unreachable!("in changes.rs"),
        Request::Listen | Request::Heard { .. } => unreachable!("in leases.rs"),
        Request::Tree { .. } => unreachable!("in trees.rs"),
    }
}

/// Every reply, with every fault and every kind of node.
pub(crate) fn replies() -> Vec<Sample<Reply>> {
    let mut replies: Vec<Reply> = Fault::ALL.iter().copied().map(Reply::Fault).collect();
    replies.extend(kinds().into_iter().map(attr).map(Reply::Attr));
    replies.extend([
        Reply::Link(LinkTarget::new(b"../elsewhere/\xfe".as_slice()).expect("a valid target")),
        Reply::Listing(attr(FileKind::Directory)),
        Reply::Data {
            attr: attr(FileKind::File),
            len: 128 * 1024,
        },
        Reply::StatFs(StatFs {
            fragment_bytes: 4096,
            block_bytes: 1 << 20,
            blocks: 1 << 40,
            blocks_free: 250,
            blocks_available: 251,
            files: 65_536,
            files_free: u64::MAX,
            name_bytes_max: 255,
        }),
        Reply::Xattr(b"text/plain\0".to_vec()),
        Reply::XattrNames(vec![
            XattrName::new(b"user.a".as_slice()).expect("a valid xattr name"),
            XattrName::new(b"user.b.c".as_slice()).expect("a valid xattr name"),
        ]),
        Reply::Unchanged(attr(FileKind::Directory)),
        Reply::Many(attr(FileKind::Directory)),
        Reply::Tree,
    ]);
    replies.extend(change_replies());
    let labelled = replies.into_iter().map(|r| (reply_label(&r), r));
    labelled.chain(leases::replies()).collect()
}

/// What changes, seeks and locks are answered by.
fn change_replies() -> Vec<Reply> {
    let (file, dir) = (attr(FileKind::File), attr(FileKind::Directory));
    let renamed = |other| Reply::Renamed {
        attr: file,
        from: dir,
        to: dir,
        other,
    };
    let conflict = LockConflict {
        range: LockRange::new(1, 300).expect("first before last"),
        mode: LockMode::Shared,
    };
    vec![
        Reply::Done,
        Reply::Made { attr: file, dir },
        Reply::Removed { dir, left: None },
        Reply::Removed {
            dir,
            left: Some(file),
        },
        renamed(None),
        renamed(Some(file)),
        Reply::Appended {
            offset: 5 << 30,
            attr: file,
        },
        Reply::Copied {
            len: 70_000,
            attr: file,
        },
        Reply::Offset(i64::MAX as u64),
        Reply::Conflict(None),
        Reply::Conflict(Some(conflict)),
        Reply::Reserved(vec![file, file]),
        Reply::Named(Named {
            attr: file,
            dir,
            unwritten: Some(Fault::NoSpace),
            unset: None,
            reserved: vec![file],
        }),
        Reply::Vouched(vec![Some(file), None]),
        Reply::MadeDir(MadeDir {
            attr: dir,
            dir,
            leased: true,
            reserved: vec![file],
        }),
        Reply::Unset {
            attr: file,
            fault: Fault::NotPermitted,
        },
    ]
}

fn kinds() -> Vec<FileKind> {
    use FileKind as K;
    vec![
        K::File,
        K::Directory,
        K::Symlink,
        K::Fifo,
        K::Socket,
        K::CharDevice,
        K::BlockDevice,
    ]
}

fn reply_label(reply: &Reply) -> &'static str {
    match reply {
        Reply::Fault(fault) => fault_label(*fault),
        Reply::Attr(attr) => match attr.kind {
            FileKind::File => "attr: file",
            FileKind::Directory => "attr: directory",
            FileKind::Symlink => "attr: symlink",
            FileKind::Fifo => "attr: fifo",
            FileKind::Socket => "attr: socket",
            FileKind::CharDevice => "attr: character device",
            FileKind::BlockDevice => "attr: block device",
        },
        Reply::Link(_) => "link",
        Reply::Listing(_) => "listing",
        Reply::Data { .. } => "data",
        Reply::StatFs(_) => "statfs",
        Reply::Xattr(_) => "xattr",
        Reply::XattrNames(_) => "xattr names",
        Reply::Unchanged(_) => "unchanged",
        Reply::Done => "done",
        Reply::Made { .. } => "made",
        Reply::Removed { left: None, .. } => "removed: gone",
        Reply::Removed { left: Some(_), .. } => "removed: left",
        Reply::Renamed { other: None, .. } => "renamed",
        Reply::Renamed { other: Some(_), .. } => "renamed: other",
        Reply::Appended { .. } => "appended",
        Reply::Copied { .. } => "copied",
        Reply::Offset(_) => "offset",
        Reply::Unset { .. } => "unset",
        Reply::MadeDir(_) => "made directory",
        Reply::Reserved(_) => "reserved",
        Reply::Named(_) => "named",
        Reply::Vouched(_) => "vouched",
        Reply::Conflict(None) => "conflict: none",
        Reply::Conflict(Some(_)) => "conflict",
        Reply::Leased { .. } | Reply::Listening { .. } | Reply::Heard { .. } => {
            unreachable!("in leases.rs")
        }
        Reply::Revalidated(_) => "revalidated",
        Reply::Many(_) => "many",
        Reply::Tree => "tree",
    }
}

fn fault_label(fault: Fault) -> &'static str {
    match fault {
        Fault::NotFound => "fault: not found",
        Fault::Denied => "fault: denied",
        Fault::Stale => "fault: stale",
        Fault::NotDirectory => "fault: not a directory",
        Fault::IsDirectory => "fault: is a directory",
        Fault::WrongKind => "fault: wrong kind",
        Fault::NameTooLong => "fault: name too long",
        Fault::Loop => "fault: loop",
        Fault::Invalid => "fault: invalid",
        Fault::ReadOnly => "fault: read-only",
        Fault::Io => "fault: io",
        Fault::Exhausted => "fault: exhausted",
        Fault::NoAttribute => "fault: no attribute",
        Fault::TooLarge => "fault: too large",
        Fault::Unsupported => "fault: unsupported",
        Fault::Changed => "fault: changed",
        Fault::Closing => "fault: closing",
        Fault::Exists => "fault: exists",
        Fault::NotEmpty => "fault: not empty",
        Fault::NoSpace => "fault: no space",
        Fault::Quota => "fault: quota",
        Fault::FileTooLarge => "fault: file too large",
        Fault::CrossDevice => "fault: cross device",
        Fault::Busy => "fault: busy",
        Fault::TooManyLinks => "fault: too many links",
        Fault::TextBusy => "fault: text busy",
        Fault::Locked => "fault: locked",
        Fault::NotPermitted => "fault: not permitted",
        Fault::NoData => "fault: no data",
        Fault::NotOpen => "fault: not open",
        Fault::Settled => "fault: settled",
        Fault::Deadlock => "fault: deadlock",
    }
}

/// Frames of a listing: empty and last, full of variety and not.
pub(crate) fn list_frames() -> Vec<Sample<ListFrame>> {
    let entries = [
        b"plain".as_slice(),
        b"with space",
        b"\xff\xfe\n",
        &[b'x'; 255],
    ];
    vec![
        (
            "list frame: empty, last",
            ListFrame {
                entries: vec![],
                last: true,
            },
        ),
        (
            "list frame: four entries",
            ListFrame {
                entries: entries
                    .iter()
                    .zip(kinds())
                    .map(|(bytes, kind)| Entry {
                        name: name(bytes),
                        attr: attr(kind),
                    })
                    .collect(),
                last: false,
            },
        ),
    ]
}

/// Every push.
pub(crate) fn pushes() -> Vec<Sample<Push>> {
    leases::pushes()
}

/// Frames of files: with attributes and without, and each reason why there is none.
pub(crate) fn file_frames() -> Vec<Sample<FileFrame>> {
    let content = [
        FileFrame::Content {
            attr: Some(attr(FileKind::File)),
            len: 128 * 1024,
        },
        FileFrame::Content { attr: None, len: 0 },
    ];
    let faults = [
        Fault::NotFound,
        Fault::Stale,
        Fault::Changed,
        Fault::TooLarge,
        Fault::WrongKind,
        Fault::Denied,
    ];
    let label = |frame: &FileFrame| match frame {
        FileFrame::Content { attr: Some(_), .. } => "file frame: content with attributes",
        FileFrame::Content { attr: None, .. } => "file frame: content",
        FileFrame::Not(fault) => match fault {
            Fault::NotFound => "file frame: not found",
            Fault::Stale => "file frame: another",
            Fault::Changed => "file frame: changed",
            Fault::TooLarge => "file frame: too large",
            Fault::WrongKind => "file frame: no file",
            _ => "file frame: denied",
        },
    };
    let frames = content.into_iter().chain(faults.map(FileFrame::Not));
    frames.map(|frame| (label(&frame), frame)).collect()
}

/// Pieces of a tree.
pub(crate) fn tree_frames() -> Vec<Sample<TreeFrame>> {
    trees::tree_frames()
}
