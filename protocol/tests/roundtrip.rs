//! Whatever can be said arrives as it was said: encode, decode, compare, for any value of any kind.

#[path = "support/strategies.rs"]
mod strategies;

use proptest::prelude::*;
use std::fmt::Debug;
use wormhole_protocol::codec::{CodecError, Wire, body_len};
use wormhole_protocol::limits::{
    CLOSE_MAX, FRAME_PREFIX_BYTES, LIST_FRAME_ENTRIES_MAX, PUSH_NAMES_MAX, READ_MANY_FILES_MAX,
    REPLY_BYTES_MAX, XATTR_NAMES_MAX, XATTR_VALUE_BYTES_MAX,
};
use wormhole_protocol::{
    Attr, Caller, Change, ContentVersion, Entry, FileFrame, FileId, FileKind, FileWanted,
    KnownContent, LinkTarget, ListFrame, Name, NameNews, News, NodeRef, OpenId, Push, RelPath,
    RenameHow, Reply, Request, Seq, Timestamp, XattrName,
};

fn returns<T: Wire + PartialEq + Debug>(value: &T) {
    let frame = value.to_frame().expect("within limits");
    let (prefix, body) = frame
        .split_first_chunk::<FRAME_PREFIX_BYTES>()
        .expect("a prefix");
    assert_eq!(body_len::<T>(*prefix), Ok(body.len()));
    // Not `assert_eq`: the largest values would fill the screen.
    assert!(T::from_body(body).as_ref() == Ok(value));
}

proptest! {
    #[test]
    fn any_hello_returns(value in strategies::hello()) {
        returns(&value);
    }

    #[test]
    fn any_hello_reply_returns(value in strategies::hello_reply()) {
        returns(&value);
    }

    #[test]
    fn any_request_returns(value in strategies::request()) {
        returns(&value);
    }

    #[test]
    fn any_reply_returns(value in strategies::reply()) {
        returns(&value);
    }

    #[test]
    fn any_push_returns(value in strategies::push()) {
        returns(&value);
    }

    #[test]
    fn any_list_frame_returns(value in strategies::list_frame()) {
        returns(&value);
    }

    #[test]
    fn any_file_frame_returns(value in strategies::file_frame()) {
        returns(&value);
    }

    #[test]
    fn any_tree_frame_returns(value in strategies::tree_frame()) {
        returns(&value);
    }
}

#[test]
fn the_largest_push_returns() {
    let longest = longest_entry();
    let names = NameNews {
        name: longest.name,
        attr: Some(longest.attr),
        brings: false,
    };
    returns(&Push {
        number: u64::MAX,
        news: News::Entries {
            dir: longest.attr.id,
            attr: Some(longest.attr),
            names: vec![names; PUSH_NAMES_MAX],
        },
    });
}

/// Attributes whose encoding is the longest there is.
fn longest_attr() -> Attr {
    let time = Timestamp::new(i64::MIN, 999_999_999).expect("a valid time");
    Attr {
        id: FileId {
            device: u64::MAX,
            inode: u64::MAX,
            birth: u64::MAX,
        },
        kind: FileKind::BlockDevice,
        mode: u16::MAX,
        links: u32::MAX,
        uid: u32::MAX,
        gid: u32::MAX,
        rdev: u64::MAX,
        size: u64::MAX,
        blocks: u64::MAX,
        accessed: time,
        modified: time,
        changed: time,
        xattrs: false,
        version: ContentVersion([0xff; 16]),
    }
}

fn longest_entry() -> Entry {
    Entry {
        name: Name::new([b'n'; 255]).expect("255 bytes"),
        attr: longest_attr(),
    }
}

#[test]
fn the_largest_listing_frame_returns() {
    returns(&ListFrame {
        entries: vec![longest_entry(); LIST_FRAME_ENTRIES_MAX],
        last: true,
    });
}

/// A node whose encoding is the longest there is.
fn longest_node() -> NodeRef {
    // 16 names of 255 bytes and their 15 slashes are exactly 4,095 bytes.
    let path = vec![vec![b'p'; 255]; 16].join(&b'/');
    NodeRef {
        path: RelPath::new(path).expect("4,095 bytes"),
        expect: Some(longest_attr().id),
    }
}

fn longest_change(change: Change) -> Request {
    Request::Change {
        seq: Seq(u64::MAX),
        settled: Seq(u64::MAX),
        caller: Caller {
            uid: u32::MAX,
            gid: u32::MAX,
        },
        change,
    }
}

#[test]
fn the_longest_requests_return() {
    let name = longest_entry().name;
    returns(&Request::Lookup {
        dir: longest_node(),
        name: name.clone(),
    });
    returns(&longest_change(Change::Rename {
        from: longest_node(),
        from_name: name.clone(),
        to: longest_node(),
        to_name: name.clone(),
        how: RenameHow::Exchange,
        keep: Some(OpenId(u64::MAX)),
    }));
    returns(&longest_change(Change::Symlink {
        dir: longest_node(),
        name: name.clone(),
        target: LinkTarget::new([b't'; 4095]).expect("4,095 bytes"),
    }));
    returns(&longest_change(Change::Link {
        node: longest_node(),
        dir: longest_node(),
        name,
    }));
}

fn file_wanted(name: &[u8]) -> FileWanted {
    let Attr { id, version, .. } = longest_attr();
    FileWanted {
        name: Name::new(name).expect("a valid name"),
        known: Some(KnownContent { file: id, version }),
    }
}

#[test]
fn as_many_files_as_can_be_asked_for_return() {
    returns(&Request::ReadMany {
        dir: longest_node(),
        files: vec![file_wanted(b"n"); 200],
    });
    let root = NodeRef {
        path: RelPath::root(),
        expect: None,
    };
    let ask = |count| Request::ReadMany {
        dir: root.clone(),
        files: vec![file_wanted(b"short.rs"); count],
    };
    returns(&ask(READ_MANY_FILES_MAX));
    let too_many = ask(READ_MANY_FILES_MAX + 1);
    assert_eq!(too_many.to_frame(), Err(CodecError::Malformed));
    returns(&FileFrame::Content {
        attr: Some(longest_attr()),
        len: 128 * 1024,
    });
    let too_long = FileFrame::Content {
        attr: None,
        len: 128 * 1024 + 1,
    };
    assert_eq!(too_long.to_frame(), Err(CodecError::Malformed));
}

#[test]
fn as_many_opens_as_can_be_closed_at_once_return() {
    let close = |count| Request::Change {
        seq: Seq(u64::MAX),
        settled: Seq(u64::MAX),
        caller: Caller {
            uid: u32::MAX,
            gid: u32::MAX,
        },
        change: Change::Close {
            opens: vec![OpenId(u64::MAX); count],
        },
    };
    returns(&close(CLOSE_MAX));
    assert_eq!(close(CLOSE_MAX + 1).to_frame(), Err(CodecError::Malformed));
}

#[test]
fn the_longest_link_and_xattr_return() {
    returns(&Reply::Link(
        LinkTarget::new([b't'; 4095]).expect("4,095 bytes"),
    ));
    returns(&Reply::Xattr(vec![0xff; XATTR_VALUE_BYTES_MAX]));
}

/// Linux gives at most 64 KiB of attribute names (`XATTR_LIST_MAX`), each with its NUL.
#[test]
fn the_longest_lists_of_xattr_names_return() {
    for name_bytes in [6, 10, 63, 67, 255] {
        let count = XATTR_NAMES_MAX.min(64 * 1024 / (name_bytes + 1));
        let name = [b"user.".as_slice(), &vec![b'x'; name_bytes - 5]].concat();
        let name = XattrName::new(name).expect("a valid xattr name");
        returns(&Reply::XattrNames(vec![name; count]));
    }
}

#[test]
fn what_exceeds_its_limit_is_not_sent() {
    let name = XattrName::new([b"user.".as_slice(), &[b'x'; 250]].concat()).expect("255 bytes");
    assert!(matches!(
        Reply::XattrNames(vec![name.clone(); XATTR_NAMES_MAX]).to_frame(),
        Err(CodecError::TooLarge { bytes, limit }) if bytes > limit && limit == REPLY_BYTES_MAX
    ));
    let short = XattrName::new(b"user.x".as_slice()).expect("6 bytes");
    let too_many: [Reply; 2] = [
        Reply::XattrNames(vec![short; XATTR_NAMES_MAX + 1]),
        Reply::Xattr(vec![0; XATTR_VALUE_BYTES_MAX + 1]),
    ];
    for reply in too_many {
        assert_eq!(reply.to_frame(), Err(CodecError::Malformed));
    }
    let frame = ListFrame {
        entries: vec![longest_entry(); LIST_FRAME_ENTRIES_MAX + 1],
        last: false,
    };
    assert_eq!(frame.to_frame(), Err(CodecError::Malformed));
}

#[test]
fn what_exceeds_its_count_is_not_accepted() {
    // One value more than allowed, and few enough bytes.
    let value = vec![b'v'; XATTR_VALUE_BYTES_MAX + 1];
    let length = u32::try_from(value.len()).expect("small").to_le_bytes();
    let body = [&[6, 252], length.as_slice(), &value].concat();
    assert_eq!(Reply::from_body(&body), Err(CodecError::Malformed));

    let entry = ListFrame {
        entries: vec![longest_entry()],
        last: false,
    };
    let entry = entry.to_frame().expect("within limits");
    let entry = &entry[FRAME_PREFIX_BYTES + 1..entry.len() - 1];
    let count = u16::try_from(LIST_FRAME_ENTRIES_MAX + 1).expect("small");
    let mut body = vec![251];
    body.extend_from_slice(&count.to_le_bytes());
    body.extend_from_slice(&entry.repeat(count.into()));
    body.push(0);
    assert_eq!(ListFrame::from_body(&body), Err(CodecError::Malformed));
}
