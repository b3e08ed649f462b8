//! Listings: complete, streamed, bounded.

use crate::world::{World, expecting, name, node};
use std::collections::HashSet;
use std::fs::{self, File};
use wormhole_protocol::limits::{LIST_DIGEST_ENTRIES_MAX, LIST_FRAME_ENTRIES_MAX};
use wormhole_protocol::{Fault, ListingDigest};

#[tokio::test]
async fn an_empty_directory_is_one_last_frame() {
    let world = World::new();
    let mount = world.mount().await;
    let (attr, frames) = mount.frames(node("")).await.unwrap();
    assert_eq!(attr.id, world.service.share().identity());
    assert!(matches!(&frames[..], [f] if f.last && f.entries.is_empty()));
}

#[tokio::test]
async fn a_hundred_thousand_entries_stream_in_bounded_memory() {
    const COUNT: usize = 100_000;
    let world = World::new();
    for i in 0..COUNT {
        File::create(world.at(format!("{i:0>20}"))).unwrap();
    }
    let mount = world.mount().await;
    let mut listing = mount.begin_list(node("")).await.unwrap();
    let (mut names, mut sizes, mut most) = (HashSet::new(), Vec::new(), 0);
    while let Some(frame) = listing.next().await.unwrap() {
        sizes.push(frame.entries.len());
        most = most.max(world.sessions()[0].buffer_bytes);
        names.extend(frame.entries.into_iter().map(|e| e.name));
    }
    assert_eq!(names.len(), COUNT);
    assert!((0..COUNT).all(|i| names.contains(&name(format!("{i:0>20}")))));
    assert!((1..=32).contains(&sizes[0]), "a reader starts early");
    assert!(sizes.iter().all(|n| *n <= LIST_FRAME_ENTRIES_MAX));
    assert!(most <= 640 << 10, "{most} bytes");
    assert_eq!(world.counters().entries, COUNT as u64);
}

#[tokio::test]
async fn entries_that_vanish_are_left_out() {
    let world = World::new();
    for i in 0..5000 {
        File::create(world.at(format!("{i}"))).unwrap();
    }
    let mount = world.mount().await;
    let mut listing = mount.begin_list(node("")).await.unwrap();
    let mut seen = HashSet::new();
    let first = listing.next().await.unwrap().unwrap();
    seen.extend(first.entries.into_iter().map(|e| e.name));
    for i in 0..5000 {
        let _ = fs::remove_file(world.at(format!("{i}")));
    }
    while let Some(frame) = listing.next().await.unwrap() {
        for entry in frame.entries {
            assert!(seen.insert(entry.name), "each once");
        }
    }
    // What was on its way is all there can be.
    assert!(seen.len() < 3000, "{}", seen.len());
    assert_eq!(mount.names("").await, Vec::<Vec<u8>>::new());
    assert_eq!(world.counters().entries_skipped, 0);
}

#[tokio::test]
async fn a_directory_that_leaves_the_share_is_listed_no_further() {
    let world = World::new();
    fs::create_dir(world.at("d")).unwrap();
    for i in 0..5000 {
        File::create(world.at(format!("d/{i}"))).unwrap();
    }
    let mount = world.mount().await;
    let id = mount.lookup("", "d").await.unwrap().id;
    let mut listing = mount.begin_list(expecting("d", id)).await.unwrap();
    listing.next().await.unwrap().unwrap();
    fs::rename(world.at("d"), world.outside("moved")).unwrap();
    File::create(world.outside("moved/secret")).unwrap();
    let broken = loop {
        match listing.next().await {
            Ok(Some(frame)) => assert!(frame.entries.iter().all(|e| e.name != name("secret"))),
            Ok(None) => panic!("listed to its end"),
            Err(fault) => break fault,
        }
    };
    assert_eq!(broken, Fault::Stale);
    assert_eq!(mount.list("d").await.unwrap_err(), Fault::NotFound);
}

#[tokio::test]
async fn a_removed_directory_ends() {
    let world = World::new();
    fs::create_dir(world.at("d")).unwrap();
    for i in 0..2000 {
        File::create(world.at(format!("d/{i}"))).unwrap();
    }
    let mount = world.mount().await;
    let mut listing = mount.begin_list(node("d")).await.unwrap();
    fs::remove_dir_all(world.at("d")).unwrap();
    let ended = loop {
        match listing.next().await {
            Ok(Some(_)) => {}
            ended => break ended.map(|_| ()),
        }
    };
    assert_eq!(ended, Err(Fault::Stale));
}

#[tokio::test]
async fn a_listing_that_still_holds_is_not_sent_again() {
    sent_only_if_changed(1000).await;
}

#[tokio::test]
async fn a_long_listing_that_still_holds_is_not_sent_again() {
    sent_only_if_changed(9000).await;
}

async fn sent_only_if_changed(count: usize) {
    let world = World::new();
    for i in 0..count {
        File::create(world.at(format!("{i}"))).unwrap();
    }
    let mount = world.mount().await;
    // A file written a moment ago has another version at every look, so the first may differ.
    let known = loop {
        let (entries, known) = mount.list_with_digest("").await;
        assert_eq!(entries, count);
        if mount.list_unless(node(""), known).await.unwrap().is_none() {
            break known;
        }
    };
    let sent = || (world.counters().entries, world.sessions()[0].bytes);
    let before = sent();
    let unchanged = mount.list_unless(node(""), known).await.unwrap();
    assert!(unchanged.is_none());
    assert_eq!(sent(), before, "not an entry");
    assert_eq!(world.sessions()[0].buffer_bytes, 0);

    fs::rename(world.at("7"), world.at("seven")).unwrap();
    let renamed = mount.list_unless(node(""), known).await.unwrap().unwrap();
    assert_eq!(renamed.len(), count);
    assert!(renamed.contains(&name("seven")) && !renamed.contains(&name("7")));
    fs::rename(world.at("seven"), world.at("7")).unwrap();
    fs::write(world.at("3"), "changed").unwrap();
    let written = mount.list_unless(node(""), known).await.unwrap();
    assert_eq!(written.map(|names| names.len()), Some(count));
    fs::remove_file(world.at("3")).unwrap();
    let removed = mount.list_unless(node(""), known).await.unwrap();
    assert_eq!(removed.map(|names| names.len()), Some(count - 1));
}

#[tokio::test]
async fn a_directory_too_long_for_a_digest_is_sent_whatever_the_mount_knows() {
    const COUNT: usize = LIST_DIGEST_ENTRIES_MAX + 1;
    let world = World::new();
    fs::create_dir(world.at("d")).unwrap();
    for i in 0..COUNT {
        File::create(world.at(format!("d/{i}"))).unwrap();
    }
    let mount = world.mount().await;
    let known = ListingDigest([0; 32]);
    let names = mount.list_unless(node("d"), known).await.unwrap().unwrap();
    assert_eq!(names.len(), COUNT);
    let missing = mount.list_unless(node("nowhere"), known).await;
    assert_eq!(missing, Err(Fault::NotFound));
}
