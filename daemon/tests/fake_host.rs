//! The made-up host itself, where tests of writing rely on it: that it does a change once, keeps what is open,
//! and forgets when told to.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and its numbers are small"
)]

mod support;

use std::sync::Arc;
use support::door::Door;
use support::fake::{FakeHost, attr, bytes_at};
use wormhole::rpc::{Answer, Body, CallError, Connect, Remote};
use wormhole_protocol::*;

fn change(seq: u64, change: Change) -> Request {
    Request::Change {
        seq: Seq(seq),
        settled: Seq(1),
        caller: Caller { uid: 0, gid: 0 },
        change,
    }
}

fn write(seq: u64, offset: u64, len: u32) -> Request {
    let len = BodyLen::new(len).unwrap();
    change(
        seq,
        Change::Write {
            open: OpenId(1),
            offset,
            len,
            after: AfterWrite::NOTHING,
        },
    )
}

fn body(bytes: &'static [u8]) -> Body {
    Body::from(bytes::Bytes::from_static(bytes))
}

fn node(host: &FakeHost, path: &str) -> NodeRef {
    NodeRef {
        path: RelPath::new(path).unwrap(),
        expect: host.attr_of(path).map(|attr| attr.id),
    }
}

fn name(name: &str) -> Name {
    Name::new(name).unwrap()
}

async fn reply(remote: &Arc<dyn Remote>, request: Request, body: Body) -> Reply {
    let answer = remote.call_with(request, body).await;
    answer.map(|Answer { reply, .. }| reply).unwrap()
}

async fn with_open_file() -> (Arc<FakeHost>, Arc<Door>, Arc<dyn Remote>) {
    let host = FakeHost::new();
    host.put("f", attr(2000, FileKind::File, 10, 1), 42);
    let door = Door::new(&host);
    let (remote, welcome) = door.connect().await.unwrap();
    assert!(!welcome.resumed);
    let open = Change::Open {
        truncate: false,
        node: node(&host, "f"),
        access: Access::ReadWrite,
        open: OpenId(1),
    };
    reply(&remote, change(1, open), Body::empty()).await;
    (host, door, remote)
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_is_done_once() {
    let (host, door, remote) = with_open_file().await;
    host.misbehaviour.lock().unwrap().lose_answer = Some(|c| matches!(c, Change::Write { .. }));
    let lost = remote.call_with(write(2, 8, 4), body(b"abcd")).await;
    assert_eq!(lost.err(), Some(CallError::Link));
    remote.closed().await;

    let (remote, welcome) = door.connect().await.unwrap();
    assert!(welcome.resumed);
    let again = reply(&remote, write(2, 8, 4), body(b"abcd")).await;
    assert!(matches!(again, Reply::Attr(attr) if attr.size == 12));
    assert_eq!(host.applied(|c| matches!(c, Change::Write { .. })), 1);
    assert_eq!(host.bytes("f")[..8], bytes_at(42, 0, 8));
    assert_eq!(host.bytes("f")[8..], *b"abcd");
}

#[tokio::test]
async fn the_second_write_fails_if_so_told() {
    let (host, _door, remote) = with_open_file().await;
    host.misbehaviour.lock().unwrap().fail_write = Some((2, Fault::NoSpace));
    reply(&remote, write(2, 0, 1), body(b"a")).await;
    let failed = remote.call_with(write(3, 1, 1), body(b"b")).await;
    assert_eq!(failed.err(), Some(CallError::Fault(Fault::NoSpace)));
    reply(&remote, write(4, 2, 1), body(b"c")).await;
    assert_eq!(host.bytes("f")[0], b'a');
    assert_eq!(host.bytes("f")[1], bytes_at(42, 1, 1)[0]);
    assert_eq!(host.bytes("f")[2], b'c');
}

#[tokio::test]
async fn what_is_open_outlives_its_name_and_its_directory_moves() {
    let (host, _door, remote) = with_open_file().await;
    let file = node(&host, "f");
    let root = node(&host, "");
    let dir = Change::MakeDir {
        reserve: 0,
        dir: root.clone(),
        name: name("d"),
        mode: 0o700,
    };
    reply(&remote, change(2, dir), Body::empty()).await;
    let into = Change::Rename {
        from: root.clone(),
        from_name: name("f"),
        to: node(&host, "d"),
        to_name: name("g"),
        how: RenameHow::Replace,
        keep: None,
    };
    reply(&remote, change(3, into), Body::empty()).await;
    let whole = Change::Rename {
        from: root.clone(),
        from_name: name("d"),
        to: root,
        to_name: name("e"),
        how: RenameHow::NoReplace,
        keep: None,
    };
    reply(&remote, change(4, whole), Body::empty()).await;
    assert_eq!(host.bytes("e/g"), bytes_at(42, 0, 10));

    let gone = Change::Unlink {
        dir: node(&host, "e"),
        name: name("g"),
        keep: None,
    };
    let removed = reply(&remote, change(5, gone), Body::empty()).await;
    assert!(matches!(removed, Reply::Removed { left: Some(left), .. } if left.links == 0));
    reply(&remote, write(6, 0, 1), body(b"x")).await;
    let seen = reply(
        &remote,
        Request::Getattr { node: file.clone() },
        Body::empty(),
    );
    assert!(matches!(seen.await, Reply::Attr(attr) if attr.size == 10));
    let close = change(
        7,
        Change::Close {
            opens: vec![OpenId(1)],
        },
    );
    reply(&remote, close, Body::empty()).await;
    let missing = remote.call(Request::Getattr { node: file }).await;
    assert_eq!(missing.err(), Some(CallError::Fault(Fault::NotFound)));
}

#[tokio::test]
async fn a_host_that_forgot_says_so() {
    let (host, door, remote) = with_open_file().await;
    door.cut();
    let cut = remote.call_with(write(2, 0, 1), body(b"a")).await;
    assert_eq!(cut.err(), Some(CallError::Link));
    host.forget();
    let (remote, welcome) = door.connect().await.unwrap();
    assert!(!welcome.resumed);
    let not_open = remote.call_with(write(3, 0, 1), body(b"a")).await;
    assert_eq!(not_open.err(), Some(CallError::Fault(Fault::NotOpen)));
    assert_eq!(door.sessions.load(std::sync::atomic::Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_made_file_is_appended_to_cut_and_refused_a_second_time() {
    let (host, _door, remote) = with_open_file().await;
    let create = |exclusive| Change::Create {
        dir: node(&host, ""),
        name: name("new"),
        mode: 0o600,
        exclusive,
        truncate: false,
        open: OpenId(1),
    };
    let made = reply(&remote, change(2, create(true)), Body::empty()).await;
    assert!(matches!(made, Reply::Made { attr, .. } if attr.size == 0 && attr.mode == 0o600));
    let again = remote.call(change(3, create(true))).await;
    assert_eq!(again.err(), Some(CallError::Fault(Fault::Exists)));
    for seq in 4..6 {
        let append = Change::Append {
            open: OpenId(1),
            len: BodyLen::new(3).unwrap(),
        };
        let appended = reply(&remote, change(seq, append), body(b"abc")).await;
        assert!(matches!(appended, Reply::Appended { offset, .. } if offset == (seq - 4) * 3));
    }
    let cut = Change::SetAttr {
        node: node(&host, "new"),
        set: AttrChange {
            size: Some(4),
            mode: Some(0o644),
            ..AttrChange::default()
        },
    };
    reply(&remote, change(6, cut), Body::empty()).await;
    assert_eq!(host.bytes("new"), b"abca");
    assert_eq!(host.attr_of("new").unwrap().mode, 0o644);
}

#[tokio::test]
async fn a_reader_is_refused_every_change() {
    let (host, _door, remote) = with_open_file().await;
    host.misbehaviour.lock().unwrap().read_only = true;
    let refused = remote.call_with(write(2, 0, 1), body(b"a")).await;
    assert_eq!(refused.err(), Some(CallError::Fault(Fault::ReadOnly)));
}
