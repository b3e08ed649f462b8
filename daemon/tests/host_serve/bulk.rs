//! Many small files in one answer: the right bytes of the right versions, in the order asked for.

use crate::world::{Mount, Stuck, UNSETTLED, World, expecting, name, node};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use wormhole::rpc::{CallError, Remote};
use wormhole_protocol::codec::{Wire, body_len};
use wormhole_protocol::limits::{READ_MANY_FILE_BYTES_MAX, READ_MANY_FILES_MAX};
use wormhole_protocol::{Fault, FileFrame, FileWanted, KnownContent, NodeRef, Reply, Request};

/// A file as its frame tells, and its bytes.
type Brought = (FileFrame, Vec<u8>);

async fn read_many(
    mount: &Mount,
    dir: NodeRef,
    files: Vec<FileWanted>,
) -> Result<Vec<Brought>, Fault> {
    let count = files.len();
    let mut answer = match mount.0.call(Request::ReadMany { dir, files }).await {
        Ok(answer) => answer,
        Err(CallError::Fault(fault)) => return Err(fault),
        Err(other) => panic!("{other}"),
    };
    assert!(matches!(answer.reply, Reply::Many(_)), "{:?}", answer.reply);
    let mut payload = Vec::new();
    if let Err(error) = answer.payload.read_to_end(&mut payload).await {
        match CallError::from_io(&error) {
            CallError::Fault(fault) => return Err(fault),
            other => panic!("{other}"),
        }
    }
    let mut rest = &payload[..];
    let mut brought = Vec::new();
    while let Some((prefix, after)) = rest.split_first_chunk() {
        let (body, after) = after.split_at(body_len::<FileFrame>(*prefix).unwrap());
        let frame = FileFrame::from_body(body).unwrap();
        let len = match &frame {
            FileFrame::Content { len, .. } => *len as usize,
            FileFrame::Not(_) => 0,
        };
        let (bytes, after) = after.split_at(len);
        brought.push((frame, bytes.to_vec()));
        rest = after;
    }
    assert_eq!(brought.len(), count, "a frame for each");
    Ok(brought)
}

fn unknown(entry: impl AsRef<[u8]>) -> FileWanted {
    FileWanted {
        name: name(entry),
        known: None,
    }
}

/// The files of a listing, each in the version it tells.
async fn known(mount: &Mount, dir: &str) -> Vec<FileWanted> {
    let listed = mount.list(dir).await.unwrap();
    let files = listed.into_iter().map(|entry| FileWanted {
        name: entry.name,
        known: Some(KnownContent {
            file: entry.attr.id,
            version: entry.attr.version,
        }),
    });
    files.collect()
}

/// Waits until what was just written has one version only.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(100)).await;
}

fn faults(brought: &[Brought]) -> Vec<Option<Fault>> {
    let fault = |(frame, _): &Brought| match frame {
        FileFrame::Not(fault) => Some(*fault),
        FileFrame::Content { .. } => None,
    };
    brought.iter().map(fault).collect()
}

#[tokio::test]
async fn as_many_files_as_may_be_asked_for_come_whole_and_in_order() {
    let world = World::new();
    fs::create_dir(world.at("d")).unwrap();
    let content = |i: usize| vec![u8::try_from(i % 251).unwrap(); i * 97 % 30_000];
    for i in 0..READ_MANY_FILES_MAX {
        world.write(&format!("d/f{i}"), content(i));
    }
    settle().await;
    let mount = world.mount().await;
    let mut files = known(&mount, "d").await;
    files.reverse();
    let dir = mount.lookup("", "d").await.unwrap();
    let brought = read_many(&mount, expecting("d", dir.id), files.clone()).await;
    for (wanted, (frame, bytes)) in files.iter().zip(brought.unwrap()) {
        let number = std::str::from_utf8(&wanted.name.as_bytes()[1..]).unwrap();
        let content = content(number.parse().unwrap());
        let len = u32::try_from(content.len()).unwrap();
        // The mount knows its attributes already.
        assert_eq!(frame, FileFrame::Content { attr: None, len });
        assert!(bytes == content, "{:?}", wanted.name);
    }
    assert_eq!(world.counters().requests["readmany"], 1);
}

#[tokio::test]
async fn files_nobody_knows_come_with_their_attributes() {
    let world = World::new();
    world.write("f", "content");
    world.write("empty", "");
    settle().await;
    let mount = world.mount().await;
    let files = vec![unknown("f"), unknown("empty")];
    let brought = read_many(&mount, node(""), files).await.unwrap();
    for ((frame, bytes), (at, content)) in
        brought.iter().zip([("f", &b"content"[..]), ("empty", b"")])
    {
        let FileFrame::Content { attr, len } = frame else {
            panic!("{frame:?}");
        };
        assert_eq!(*attr, Some(mount.getattr(node(at)).await.unwrap()));
        assert_eq!((*len as usize, &bytes[..]), (content.len(), content));
    }
}

#[tokio::test]
async fn what_cannot_be_brought_is_said_and_the_rest_comes() {
    let world = World::new();
    for file in ["changed", "replaced", "gone", "good", "denied"] {
        world.write(file, "before");
    }
    world.write("largest", vec![3; READ_MANY_FILE_BYTES_MAX]);
    world.write("large", vec![3; READ_MANY_FILE_BYTES_MAX + 1]);
    fs::create_dir(world.at("dir")).unwrap();
    std::os::unix::fs::symlink("good", world.at("link")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        world.at("fifo"),
        rustix::fs::FileType::Fifo,
        0o644.into(),
        0,
    )
    .unwrap();
    settle().await;
    let mount = world.mount().await;
    let files = known(&mount, "").await;
    world.write("changed", "after!");
    world.write("other", "before");
    fs::rename(world.at("other"), world.at("replaced")).unwrap();
    fs::remove_file(world.at("gone")).unwrap();
    let is_root = rustix::process::geteuid().is_root();
    let expected = |at: &[u8]| match at {
        b"changed" => Some(Fault::Changed),
        b"replaced" => Some(Fault::Stale),
        b"gone" => Some(Fault::NotFound),
        b"large" => Some(Fault::TooLarge),
        b"dir" | b"link" | b"fifo" => Some(Fault::WrongKind),
        b"denied" if !is_root => Some(Fault::Denied),
        _ => None,
    };
    if !is_root {
        fs::set_permissions(world.at("denied"), fs::Permissions::from_mode(0o000)).unwrap();
    }
    let brought = read_many(&mount, node(""), files.clone()).await.unwrap();
    for (wanted, fault) in files.iter().zip(faults(&brought)) {
        assert_eq!(fault, expected(wanted.name.as_bytes()), "{:?}", wanted.name);
    }
}

#[tokio::test]
async fn a_file_being_written_is_not_brought_as_a_version_it_had() {
    let world = World::new();
    let mount = world.mount().await;
    loop {
        let written = Instant::now();
        world.write("f", "1");
        // Not settled: the next look gives it another version.
        let files = known(&mount, "").await;
        let brought = read_many(&mount, node(""), files).await.unwrap();
        // On a busy machine it may settle meanwhile.
        if written.elapsed() < UNSETTLED {
            assert_eq!(faults(&brought), [Some(Fault::Changed)]);
            break;
        }
    }
}

#[tokio::test]
async fn a_directory_that_is_another_or_none_is_said_at_once() {
    let world = World::new();
    for dir in ["d", "e"] {
        fs::create_dir(world.at(dir)).unwrap();
    }
    world.write("f", "");
    let mount = world.mount().await;
    let of_e = mount.lookup("", "e").await.unwrap();
    for (dir, fault) in [
        (expecting("d", of_e.id), Fault::Stale),
        (node("f"), Fault::NotDirectory),
        (node("none"), Fault::NotFound),
    ] {
        assert_eq!(read_many(&mount, dir, vec![]).await, Err(fault));
    }
    assert_eq!(read_many(&mount, node("d"), vec![]).await, Ok(vec![]));
}

#[tokio::test]
async fn a_mount_that_does_not_take_it_holds_two_batches_at_most() {
    let world = World::new();
    for i in 0..100 {
        world.write(&format!("f{i}"), vec![1; 100_000]);
    }
    let session = world.session(1).await;
    let files = (0..100).map(|i| unknown(format!("f{i}"))).collect();
    let request = Request::ReadMany {
        dir: node(""),
        files,
    };
    let mut sink = Stuck::after(0);
    let mut source = ();
    let serving = session.serve(request, &mut source, &mut sink);
    let looked = tokio::time::timeout(Duration::from_millis(300), serving).await;
    assert!(looked.is_err(), "it waits for the mount");
    // Cancelled: all of it comes back.
    while world.sessions()[0].buffer_bytes > 0 || world.counters().in_flight > 0 {
        tokio::task::yield_now().await;
    }
}
