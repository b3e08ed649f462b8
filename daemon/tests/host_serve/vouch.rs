//! Whether files hold what a mount wrote to them: only what is certain is vouched for.

use crate::world::{Mount, World, expecting, node};
use std::fs;
use std::time::{Duration, Instant};
use wormhole_protocol::limits::{VOUCH_BYTES_MAX, VOUCH_FILES_MAX};
use wormhole_protocol::{Attr, BytesDigest, Fault, NodeRef, Reply, Request, WrittenFile};

fn written(node: NodeRef, bytes: &[u8]) -> WrittenFile {
    WrittenFile {
        node,
        size: bytes.len() as u64,
        digest: BytesDigest::of([bytes]),
    }
}

async fn vouch(mount: &Mount, files: Vec<WrittenFile>) -> Result<Vec<Option<Attr>>, Fault> {
    match mount.call(Request::Vouch { files }).await? {
        Reply::Vouched(vouched) => Ok(vouched),
        other => panic!("{other:?}"),
    }
}

/// Waits until what was just written has one version only.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(100)).await;
}

#[tokio::test]
async fn files_that_hold_what_was_written_are_vouched_for_in_their_version() {
    let world = World::new();
    // Longer than what is read at once; and of some others, as many as may be asked about.
    let large = vec![7; 3_000_000];
    world.write("large", &large);
    for i in 1..VOUCH_FILES_MAX {
        world.write(&format!("f{i}"), vec![1; i]);
    }
    settle().await;
    let mount = world.mount().await;
    let id = mount.lookup("", "large").await.unwrap().id;
    let mut files = vec![written(expecting("large", id), &large)];
    files.extend((1..VOUCH_FILES_MAX).map(|i| written(node(format!("f{i}")), &vec![1; i])));
    for (vouched, file) in vouch(&mount, files.clone())
        .await
        .unwrap()
        .iter()
        .zip(files)
    {
        let attr = mount.getattr(file.node).await.unwrap();
        assert_eq!(vouched.unwrap().version, attr.version);
        assert_eq!(vouched.unwrap().size, file.size);
    }
    assert_eq!(world.counters().requests["vouch"], 1);
}

#[tokio::test]
async fn of_what_is_otherwise_nothing_is_said() {
    let world = World::new();
    for file in ["same", "other", "longer", "shorter", "another"] {
        world.write(file, "content");
    }
    fs::create_dir(world.at("dir")).unwrap();
    std::os::unix::fs::symlink("same", world.at("link")).unwrap();
    settle().await;
    let mount = world.mount().await;
    let id = mount.lookup("", "same").await.unwrap().id;
    let files = vec![
        written(node("same"), b"content"),
        written(node("other"), b"CONTENT"),
        written(node("longer"), b"conten"),
        written(node("shorter"), b"contents"),
        written(expecting("another", id), b"content"),
        written(node("none"), b"content"),
        written(node("dir"), b""),
        written(node("link"), b"content"),
    ];
    let vouched = vouch(&mount, files).await.unwrap();
    let is_vouched_for: Vec<_> = vouched.iter().map(Option::is_some).collect();
    let mut expected = vec![false; 8];
    expected[0] = true;
    assert_eq!(is_vouched_for, expected);
}

#[tokio::test]
async fn what_changed_a_moment_ago_is_not_vouched_for() {
    let world = World::new();
    let mount = world.mount().await;
    loop {
        let begun = Instant::now();
        world.write("f", "content");
        let vouched = vouch(&mount, vec![written(node("f"), b"content")]).await;
        // On a busy machine it may settle meanwhile.
        if begun.elapsed() < crate::world::UNSETTLED {
            assert_eq!(vouched, Ok(vec![None]));
            break;
        }
    }
}

#[tokio::test]
async fn more_than_is_read_for_one_answer_is_refused() {
    let world = World::new();
    let mount = world.mount().await;
    let file = |size| WrittenFile {
        size,
        ..written(node("f"), b"")
    };
    for sizes in [vec![VOUCH_BYTES_MAX, 1], vec![u64::MAX, u64::MAX]] {
        let files = sizes.into_iter().map(file).collect();
        assert_eq!(vouch(&mount, files).await, Err(Fault::TooLarge));
    }
    let vouched = vouch(&mount, vec![file(VOUCH_BYTES_MAX)]).await;
    assert_eq!(vouched, Ok(vec![None]));
}
