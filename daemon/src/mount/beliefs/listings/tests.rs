//! What is kept of listings, and what it takes.

use super::*;
use crate::mount::inodes::{Ino, Inodes};
use crate::rpc::Answer;
use tokio::time::Instant;
use wormhole_protocol::codec::Wire;
use wormhole_protocol::limits::LIST_FRAME_ENTRIES_MAX;
use wormhole_protocol::{Attr, ContentVersion, Entry, FileKind, ListFrame, Name, Reply, Timestamp};

fn attr(kind: FileKind, inode: u64) -> Attr {
    let secs = 1_700_000_000 + inode.cast_signed() % 100_000;
    let time = |nanos| Timestamp::new(secs, nanos).unwrap();
    Attr {
        id: FileId {
            device: 0xfe00,
            inode,
            birth: 1_700_000_000_000_000_000 + inode * 1001,
        },
        kind,
        mode: 0o644,
        links: 1,
        uid: 1000,
        gid: 1000,
        rdev: 0,
        size: inode * 10,
        blocks: 24,
        accessed: time(123_456_789),
        modified: time(23_456_789),
        changed: time(23_456_790),
        xattrs: false,
        version: ContentVersion(
            *blake3::hash(&inode.to_le_bytes())
                .as_bytes()
                .first_chunk()
                .unwrap(),
        ),
    }
}

fn dir(inode: u64) -> Arc<Node> {
    Inodes::new(attr(FileKind::Directory, inode), Instant::now())
        .get(Ino::ROOT)
        .unwrap()
}

fn name(number: u64) -> Name {
    Name::new(format!("file-{number:08}.rs")).unwrap()
}

/// A listing of `count` files, as it arrives.
async fn listing(first: u64, count: u64) -> Arc<Listing> {
    let numbers: Vec<_> = (first..first + count).collect();
    let mut payload = Vec::new();
    let pieces = numbers.chunks(LIST_FRAME_ENTRIES_MAX);
    let last = pieces.len().saturating_sub(1);
    for (i, numbers) in pieces.enumerate() {
        let entry = |number: &u64| Entry {
            name: name(*number),
            attr: attr(FileKind::File, *number),
        };
        let entries = numbers.iter().map(entry).collect();
        let frame = ListFrame {
            entries,
            last: i == last,
        };
        payload.extend(frame.to_frame().unwrap());
    }
    let answer = Answer {
        reply: Reply::Listing(attr(FileKind::Directory, 1)),
        payload: Box::new(std::io::Cursor::new(payload)),
    };
    let listing = Listing::start(answer, Instant::now().into());
    // A reader at its end, who has all of it drawn.
    listing.page(numbers.len() - 1, 1).await.unwrap();
    assert!(listing.is_whole(usize::MAX).await);
    listing
}

#[tokio::test]
async fn those_used_longest_ago_make_room() {
    let one = listing(1, 100).await.bytes() + PLACE_BYTES;
    let listings = Listings::with_room(10 * one + one / 2, Arc::default());
    let dirs: Vec<_> = (1..=20).map(dir).collect();
    for (i, dir) in (0u64..).zip(&dirs) {
        listings.put(dir, listing(i * 100, 100).await);
        assert!(listings.get(dirs[0].id).is_some(), "the one in use stays");
    }
    let kept = dirs.iter().filter(|dir| listings.get(dir.id).is_some());
    assert_eq!(kept.count(), 10);
    assert!(listings.get(dirs[19].id).is_some());
    assert!(listings.get(dirs[5].id).is_none());
    for dir in &dirs {
        listings.remove(dir.id);
    }
    assert_eq!(listings.kept.lock().bytes, 0);
}

#[tokio::test]
async fn the_newest_is_kept_however_large() {
    let listings = Listings::with_room(1, Arc::default());
    let dir = dir(1);
    listings.put(&dir, listing(1, 1000).await);
    assert!(listings.get(dir.id).is_some());
}

#[tokio::test]
async fn what_changes_in_a_listing_counts() {
    let listings = Listings::new(Arc::default());
    let dir = dir(1);
    listings.put(&dir, listing(0, 10).await);
    let before = listings.kept.lock().bytes;
    let kept = listings.get(dir.id).unwrap();
    for number in 100..200 {
        let attr = attr(FileKind::File, number);
        kept.set(&name(number), Some(attr), Instant::now().into());
    }
    kept.set(&name(5), None, Instant::now().into());
    assert_eq!(kept.page(0, 1000).await.unwrap().listed.len(), 109);
    listings.get(dir.id).unwrap();
    assert!(listings.kept.lock().bytes > before + 100 * 20);
}

/// Bytes this process holds in memory.
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * rustix::param::page_size()
}

async fn bytes_of(dirs: u64, entries: u64) -> (usize, usize) {
    let listings = Listings::new(Arc::default());
    let before = resident_bytes();
    for i in 0..dirs {
        listings.put(&dir(i + 1), listing(i * entries, entries).await);
    }
    assert_eq!(
        listings.kept.lock().recent.len() as u64,
        dirs,
        "all are kept"
    );
    let counted = listings.kept.lock().bytes;
    (counted, resident_bytes().saturating_sub(before))
}

#[tokio::test]
async fn an_entry_takes_some_hundred_bytes() {
    let (counted, _) = bytes_of(200, 100).await;
    assert!(counted / 20_000 < 120, "{}", counted / 20_000);
}

/// The promise of a mount's memory, measured: `cargo test --release -- --ignored --nocapture a_million`.
#[tokio::test]
#[ignore = "measures the process; run alone"]
async fn a_million_entries_take_less_than_250_mb() {
    for (dirs, entries) in [(1, 1_000_000), (10_000, 100), (100_000, 10)] {
        let (counted, resident) = bytes_of(dirs, entries).await;
        println!("{dirs} directories of {entries}: counted {counted}, resident {resident}");
        assert!(resident < 250_000_000);
    }
}
