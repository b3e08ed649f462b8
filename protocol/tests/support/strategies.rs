//! Strategies that make any value of any wire type, edges more often than chance would.

mod any_change;

use any_change::{access, change_request, conflict};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use wormhole_protocol::limits::{
    OFFSET_MAX, READ_BYTES_MAX, READ_MANY_FILE_BYTES_MAX, RESERVED_FILES_MAX, TREE_ENTRIES_MAX,
};
use wormhole_protocol::{
    Attr, ByteRange, BytesDigest, ContentVersion, Entry, Epoch, Fault, Features, FileFrame, FileId,
    FileKind, FileWanted, Hello, HelloReply, KnownContent, KnownListing, Leased, LinkTarget,
    ListFrame, ListingDigest, MadeDir, MountId, Name, NameNews, Named, News, NodeRef, Proof, Push,
    ReadUrgency, Refusal, RelPath, Reply, Request, SessionLimits, ShareId, StatFs, TicketId,
    Timestamp, TreeFrame, Verdict, WantedName, Welcome, WrittenFile, XattrName,
};

/// Any u64; the edges of variable-length integers come often.
fn number() -> impl Strategy<Value = u64> {
    const EDGES: [u64; 10] = [
        0,
        1,
        250,
        251,
        u16::MAX as u64,
        u16::MAX as u64 + 1,
        u32::MAX as u64,
        u32::MAX as u64 + 1,
        i64::MAX as u64,
        u64::MAX,
    ];
    prop_oneof![select(&EDGES[..]), any::<u64>()]
}

/// Any name, of at most `max` bytes.
fn name_up_to(max: usize) -> impl Strategy<Value = Name> {
    let byte = any::<u8>().prop_map(|b| if matches!(b, 0 | b'/') { b'_' } else { b });
    vec(byte, 1..=max).prop_map(|mut bytes| {
        if matches!(bytes.as_slice(), b"." | b"..") {
            bytes[0] = b'_';
        }
        Name::new(bytes).expect("made valid above")
    })
}

/// Any name.
pub(crate) fn name() -> impl Strategy<Value = Name> {
    prop_oneof![4 => name_up_to(12), 1 => name_up_to(255)]
}

/// Any path, the root included.
pub(crate) fn path() -> impl Strategy<Value = RelPath> {
    prop_oneof![
        4 => vec(name_up_to(8), 0..6),
        1 => vec(name_up_to(255), 0..=15),
    ]
    .prop_map(|names| {
        names.iter().fold(RelPath::root(), |dir, name| {
            dir.join(name).expect("15 names of 255 bytes fit")
        })
    })
}

fn link_target() -> impl Strategy<Value = LinkTarget> {
    prop_oneof![4 => vec(1..=255u8, 1..40), 1 => vec(1..=255u8, 1..=4095)]
        .prop_map(|bytes| LinkTarget::new(bytes).expect("no NUL, not empty"))
}

fn xattr_name() -> impl Strategy<Value = XattrName> {
    let user = vec(1..=255u8, 1..=250).prop_map(|rest| [b"user.".as_slice(), &rest].concat());
    let acls = ["system.posix_acl_access", "system.posix_acl_default"];
    prop_oneof![4 => user, 1 => select(acls.to_vec()).prop_map(|name| name.as_bytes().to_vec())]
        .prop_map(|name| XattrName::new(name).expect("valid"))
}

fn file_id() -> impl Strategy<Value = FileId> {
    (number(), number(), number()).prop_map(|(device, inode, birth)| FileId {
        device,
        inode,
        birth,
    })
}

fn node() -> impl Strategy<Value = NodeRef> {
    (path(), option::of(file_id())).prop_map(|(path, expect)| NodeRef { path, expect })
}

fn timestamp() -> impl Strategy<Value = Timestamp> {
    (any::<i64>(), 0..1_000_000_000u32)
        .prop_map(|(secs, nanos)| Timestamp::new(secs, nanos).expect("nanoseconds below 10^9"))
}

/// Any range.
pub(crate) fn range() -> impl Strategy<Value = ByteRange> {
    (1..=READ_BYTES_MAX)
        .prop_flat_map(|len| (0..=OFFSET_MAX - len, Just(len)))
        .prop_map(|(offset, len)| ByteRange::new(offset, len).expect("ends within off_t"))
}

fn kind() -> impl Strategy<Value = FileKind> {
    use FileKind as K;
    select(vec![
        K::File,
        K::Directory,
        K::Symlink,
        K::Fifo,
        K::Socket,
        K::CharDevice,
        K::BlockDevice,
    ])
}

fn attr() -> impl Strategy<Value = Attr> {
    (
        (file_id(), kind(), any::<u16>(), any::<[u32; 3]>()),
        (number(), number(), number()),
        (timestamp(), timestamp(), timestamp()),
        (any::<bool>(), any::<[u8; 16]>()),
    )
        .prop_map(|(node, sizes, times, (xattrs, version))| Attr {
            id: node.0,
            kind: node.1,
            mode: node.2,
            links: node.3[0],
            uid: node.3[1],
            gid: node.3[2],
            rdev: sizes.0,
            size: sizes.1,
            blocks: sizes.2,
            accessed: times.0,
            modified: times.1,
            changed: times.2,
            xattrs,
            version: ContentVersion(version),
        })
        .boxed()
}

/// Any hello.
pub(crate) fn hello() -> impl Strategy<Value = Hello> {
    (
        any::<[u16; 2]>(),
        number(),
        any::<[u8; 8]>(),
        any::<[u8; 32]>(),
        any::<[u8; 16]>(),
    )
        .prop_map(|([oldest, newest], features, ticket, proof, mount)| Hello {
            oldest,
            newest,
            features: Features(features),
            ticket: TicketId(ticket),
            proof: Proof(proof),
            mount: MountId(mount),
        })
}

/// Any answer to a hello.
pub(crate) fn hello_reply() -> impl Strategy<Value = HelloReply> {
    let refusal = prop_oneof![
        Just(Refusal::UnknownTicket),
        Just(Refusal::Expired),
        Just(Refusal::TooManyMounts),
        any::<[u16; 2]>().prop_map(|[oldest, newest]| Refusal::Version { oldest, newest }),
        Just(Refusal::Busy),
        Just(Refusal::Malformed),
    ];
    let welcome = (
        any::<u16>(),
        (number(), number(), number()),
        any::<[u32; 2]>(),
        any::<[u8; 16]>(),
        name(),
        (access(), any::<[bool; 2]>()),
        attr(),
    )
        .prop_map(
            |(version, numbers, maxima, share, name, (access, flags), root)| Welcome {
                version,
                features: Features(numbers.0),
                share: ShareId(share),
                name,
                epoch: Epoch(numbers.1),
                limits: SessionLimits {
                    requests_max: maxima[0],
                    read_bytes_max: numbers.2,
                    opens_max: maxima[1],
                },
                access,
                resumed: flags[0],
                maps_users: flags[1],
                root,
            },
        );
    prop_oneof![
        refusal.prop_map(HelloReply::Refused),
        welcome.prop_map(HelloReply::Welcome),
    ]
}

fn file_wanted() -> impl Strategy<Value = FileWanted> {
    let known = (file_id(), any::<[u8; 16]>()).prop_map(|(file, version)| KnownContent {
        file,
        version: ContentVersion(version),
    });
    (name(), option::of(known)).prop_map(|(name, known)| FileWanted { name, known })
}

fn known_listing((dir, digest): (NodeRef, [u8; 32])) -> KnownListing {
    let digest = ListingDigest(digest);
    KnownListing { dir, digest }
}

fn verdict() -> impl Strategy<Value = Verdict> {
    let holds = (attr(), any::<bool>()).prop_map(|(attr, leased)| Verdict::Holds { attr, leased });
    prop_oneof![holds, Just(Verdict::Changed)]
}

/// What became of any file.
pub(crate) fn file_frame() -> impl Strategy<Value = FileFrame> {
    let most = u32::try_from(READ_MANY_FILE_BYTES_MAX).expect("fits");
    let content =
        (option::of(attr()), 0..=most).prop_map(|(attr, len)| FileFrame::Content { attr, len });
    prop_oneof![content, select(Fault::ALL).prop_map(FileFrame::Not)]
}

fn entry() -> impl Strategy<Value = Entry> {
    (name(), attr()).prop_map(|(name, attr)| Entry { name, attr })
}

/// Any piece of a tree.
pub(crate) fn tree_frame() -> impl Strategy<Value = TreeFrame> {
    let begins = (path(), attr(), any::<[bool; 2]>(), vec(entry(), 0..20));
    prop_oneof![
        begins.prop_map(
            |(path, attr, [leased, last], entries)| TreeFrame::Directory {
                path,
                attr,
                leased,
                entries,
                last
            }
        ),
        (vec(entry(), 0..20), any::<bool>())
            .prop_map(|(entries, last)| TreeFrame::More { entries, last }),
        any::<bool>().prop_map(|whole| TreeFrame::End { whole }),
    ]
}

fn written_file() -> impl Strategy<Value = WrittenFile> {
    (node(), number(), any::<[u8; 32]>()).prop_map(|(node, size, digest)| WrittenFile {
        node,
        size,
        digest: BytesDigest(digest),
    })
}

/// Any request.
pub(crate) fn request() -> impl Strategy<Value = Request> {
    let urgency = select(vec![ReadUrgency::Demand, ReadUrgency::Ahead]);
    prop_oneof![
        (node(), name()).prop_map(|(dir, name)| Request::Lookup { dir, name }),
        node().prop_map(|node| Request::Getattr { node }),
        node().prop_map(|node| Request::Readlink { node }),
        (node(), option::of(any::<[u8; 32]>())).prop_map(|(dir, known)| Request::List {
            dir,
            known: known.map(ListingDigest),
        }),
        (node(), range(), urgency).prop_map(|(node, range, urgency)| Request::Read {
            node,
            range,
            urgency,
        }),
        Just(Request::StatFs),
        (node(), xattr_name()).prop_map(|(node, name)| Request::GetXattr { node, name }),
        node().prop_map(|node| Request::ListXattr { node }),
        (node(), vec(file_wanted(), 0..20))
            .prop_map(|(dir, files)| Request::ReadMany { dir, files })
            .boxed(),
        (node(), 0..=TREE_ENTRIES_MAX)
            .prop_map(|(dir, entries_max)| Request::Tree { dir, entries_max }),
        (node(), 0..=RESERVED_FILES_MAX)
            .prop_map(|(dir, count)| Request::Reserve { dir, count })
            .boxed(),
        change_request().boxed(),
        Just(Request::Listen),
        (number(), vec(wanted_name(), 0..20))
            .prop_map(|(through, wanted)| Request::Heard { through, wanted })
            .boxed(),
        vec(written_file(), 0..20)
            .prop_map(|files| Request::Vouch { files })
            .boxed(),
        vec((node(), any::<[u8; 32]>()), 0..20).prop_map(|listings| Request::Revalidate {
            listings: listings.into_iter().map(known_listing).collect(),
        }),
    ]
}

/// Any reply.
pub(crate) fn reply() -> impl Strategy<Value = Reply> {
    let statfs = (any::<[u32; 3]>(), vec(number(), 5)).prop_map(|(small, large)| StatFs {
        fragment_bytes: small[0],
        block_bytes: small[1],
        name_bytes_max: small[2],
        blocks: large[0],
        blocks_free: large[1],
        blocks_available: large[2],
        files: large[3],
        files_free: large[4],
    });
    prop_oneof![
        select(Fault::ALL).prop_map(Reply::Fault),
        attr().prop_map(Reply::Attr),
        link_target().prop_map(Reply::Link),
        attr().prop_map(Reply::Listing),
        (attr(), number()).prop_map(|(attr, len)| Reply::Data { attr, len }),
        statfs.prop_map(Reply::StatFs),
        vec(any::<u8>(), 0..2000).prop_map(Reply::Xattr),
        vec(xattr_name(), 0..20).prop_map(Reply::XattrNames),
        attr().prop_map(Reply::Unchanged),
        attr().prop_map(Reply::Many),
        Just(Reply::Tree),
        change_reply().boxed(),
        leased().prop_map(|answer| Reply::Leased { answer }),
        any::<u32>().prop_map(|term_ms| Reply::Listening { term_ms }),
        number().prop_map(|pushed| Reply::Heard { pushed }),
        vec(verdict(), 0..20).prop_map(Reply::Revalidated),
        vec(option::of(attr()), 0..20).prop_map(Reply::Vouched),
    ]
}

/// Any reply to a change, a seek or about a lock.
fn change_reply() -> impl Strategy<Value = Reply> {
    prop_oneof![
        Just(Reply::Done),
        (attr(), attr()).prop_map(|(attr, dir)| Reply::Made { attr, dir }),
        (attr(), option::of(attr())).prop_map(|(dir, left)| Reply::Removed { dir, left }),
        (attr(), attr(), attr(), option::of(attr())).prop_map(|(attr, from, to, other)| {
            Reply::Renamed {
                attr,
                from,
                to,
                other,
            }
        }),
        (number(), attr()).prop_map(|(offset, attr)| Reply::Appended { offset, attr }),
        (number(), attr()).prop_map(|(len, attr)| Reply::Copied { len, attr }),
        number().prop_map(Reply::Offset),
        option::of(conflict()).prop_map(Reply::Conflict),
        vec(attr(), 0..4).prop_map(Reply::Reserved),
        (
            attr(),
            attr(),
            option::of(select(Fault::ALL)),
            option::of(select(Fault::ALL)),
            vec(attr(), 0..4)
        )
            .prop_map(|(attr, dir, unwritten, unset, reserved)| {
                Reply::Named(Named {
                    attr,
                    dir,
                    unwritten,
                    unset,
                    reserved,
                })
            }),
        (attr(), select(Fault::ALL)).prop_map(|(attr, fault)| Reply::Unset { attr, fault }),
        (attr(), attr(), any::<bool>(), vec(attr(), 0..4)).prop_map(
            |(attr, dir, leased, reserved)| {
                Reply::MadeDir(MadeDir {
                    attr,
                    dir,
                    leased,
                    reserved,
                })
            }
        ),
    ]
}

fn leased() -> impl Strategy<Value = Leased> {
    prop_oneof![
        attr().prop_map(Leased::Attr),
        Just(Leased::Absent),
        attr().prop_map(Leased::Listing),
        attr().prop_map(Leased::Unchanged),
    ]
}

fn wanted_name() -> impl Strategy<Value = WantedName> {
    (file_id(), name(), any::<u32>()).prop_map(|(dir, name, bytes_max)| WantedName {
        dir,
        name,
        bytes_max,
    })
}

/// Any push.
pub(crate) fn push() -> impl Strategy<Value = Push> {
    let names = (name(), option::of(attr())).prop_map(|(name, attr)| NameNews {
        name,
        attr,
        brings: false,
    });
    let news = prop_oneof![
        (file_id(), option::of(attr()), vec(names, 0..12))
            .prop_map(|(dir, attr, names)| News::Entries { dir, attr, names }),
        file_id().prop_map(|dir| News::Over { dir }),
        Just(News::AllOver),
        file_id().prop_map(|dir| News::Shared { dir }),
    ];
    (number(), news).prop_map(|(number, news)| Push { number, news })
}

/// Any frame of a listing.
pub(crate) fn list_frame() -> impl Strategy<Value = ListFrame> {
    let entry = (name(), attr()).prop_map(|(name, attr)| Entry { name, attr });
    (vec(entry, 0..12), any::<bool>()).prop_map(|(entries, last)| ListFrame { entries, last })
}
