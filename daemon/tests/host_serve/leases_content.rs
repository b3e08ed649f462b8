//! Bytes of files that come with the news of their change.

use crate::leases::Listener;
use crate::world::{World, name, node};
use std::fs;
use wormhole_protocol::limits::PUSH_CONTENT_BYTES_MAX;
use wormhole_protocol::{Attr, FileId, News, WantedName};

fn wanted(dir: FileId, file: &str, bytes_max: usize) -> WantedName {
    WantedName {
        dir,
        name: name(file),
        bytes_max: u32::try_from(bytes_max).unwrap(),
    }
}

/// What is told next of `file`: its attributes, and its bytes if they come.
async fn next_of(listener: &mut Listener, file: &str) -> (Attr, Option<Vec<u8>>) {
    loop {
        let push = listener.push().await;
        let content = listener.content(&push).await;
        listener.heard(push.number).await;
        let News::Entries { names, .. } = push.news else {
            panic!("the lease goes on");
        };
        if let Some(news) = names.into_iter().find(|news| news.name == name(file)) {
            return (news.attr.unwrap(), news.brings.then_some(content));
        }
    }
}

async fn world() -> (World, Listener, FileId) {
    let world = World::new();
    fs::create_dir(world.at("d")).unwrap();
    world.write("d/f", "old");
    let listener = Listener::new(&world, 1).await;
    let dir = listener.leased(node("d")).await.unwrap().id;
    (world, listener, dir)
}

/// Puts a file in place of another, which is one event.
fn replace(world: &World, path: &str, bytes: &[u8]) {
    world.write("beside", bytes);
    fs::rename(world.at("beside"), world.at(path)).unwrap();
}

#[tokio::test]
async fn what_is_wanted_comes_with_the_news_of_its_next_two_changes() {
    let (world, mut listener, dir) = world().await;
    replace(&world, "d/f", b"nobody wants it");
    assert_eq!(next_of(&mut listener, "f").await.1, None);
    listener
        .heard_and_wants(0, vec![wanted(dir, "f", 1000)])
        .await;
    for bytes in [&b"first"[..], b"second"] {
        replace(&world, "d/f", bytes);
        let (attr, content) = next_of(&mut listener, "f").await;
        assert_eq!(content.as_deref(), Some(bytes));
        assert_eq!(attr.size, bytes.len() as u64);
    }
    replace(&world, "d/f", b"third");
    assert_eq!(next_of(&mut listener, "f").await.1, None);
}

#[tokio::test]
async fn what_is_too_long_or_no_file_is_told_of_alone() {
    let (world, mut listener, dir) = world().await;
    let most = PUSH_CONTENT_BYTES_MAX;
    let wants = |bytes| vec![wanted(dir, "f", bytes)];
    listener.heard_and_wants(0, wants(10)).await;
    replace(&world, "d/f", &[1; 11]);
    assert_eq!(next_of(&mut listener, "f").await.1, None);
    replace(&world, "d/f", &[2; 10]);
    assert_eq!(next_of(&mut listener, "f").await.1, Some(vec![2; 10]));
    listener.heard_and_wants(0, wants(2 * most)).await;
    replace(&world, "d/f", &vec![3; most + 1]);
    assert_eq!(next_of(&mut listener, "f").await.1, None);
    replace(&world, "d/f", &vec![4; most]);
    assert_eq!(next_of(&mut listener, "f").await.1, Some(vec![4; most]));
    // Where it would lead is nobody's business.
    world.write("secret", "x");
    std::os::unix::fs::symlink("../secret", world.at("link")).unwrap();
    fs::rename(world.at("link"), world.at("d/f")).unwrap();
    assert_eq!(next_of(&mut listener, "f").await.1, None);
}
