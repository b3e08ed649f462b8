//! Nodes that rest: what they take, and that they come back as they were.

use super::*;
use crate::mount::heard::Heard;
use crate::mount::inodes::Inodes;
use crate::mount::lease::Terms;
use std::collections::HashSet;
use wormhole_protocol::{Attr, ContentVersion, Entry, FileId, ListFrame, Name, Timestamp};

fn attr(kind: FileKind, inode: u64) -> Attr {
    Attr {
        id: FileId {
            device: 5,
            inode,
            birth: 7,
        },
        kind,
        mode: 0o644,
        links: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        size: inode,
        blocks: 8,
        accessed: Timestamp::EPOCH,
        modified: Timestamp::EPOCH,
        changed: Timestamp::EPOCH,
        xattrs: false,
        version: ContentVersion([3; 16]),
    }
}

fn name(inode: u64) -> Name {
    Name::new(format!("file-{inode:06}")).unwrap()
}

/// The first file.
const FIRST: u64 = 1000;

/// A root with `count` files, listed and looked up a second ago.
struct Walked {
    inodes: Inodes,
    listing: Arc<Listing>,
    count: u64,
}

impl Walked {
    async fn through(count: u64) -> Self {
        let inodes = Inodes::new(attr(FileKind::Directory, 2), Instant::now());
        let heard = Heard::from(Instant::now()).leased(true);
        let listing = Listing::fed(heard, None);
        let entries = (FIRST..FIRST + count).map(|inode| Entry {
            name: name(inode),
            attr: attr(FileKind::File, inode),
        });
        listing.feed(Ok(ListFrame {
            entries: entries.collect(),
            last: true,
        }));
        let walked = Self {
            inodes,
            listing,
            count,
        };
        for inode in FIRST..FIRST + count {
            walked.look_up(inode, heard);
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        walked
    }

    fn look_up(&self, inode: u64, heard: Heard) -> Arc<Node> {
        let root = self.inodes.root();
        let attr = attr(FileKind::File, inode);
        self.inodes
            .remember(root, &name(inode), &attr, heard)
            .unwrap()
    }

    fn rest(&self) {
        for _ in 0..2 * self.count {
            let listing = |_| Some(self.listing.clone());
            self.inodes.rest_surplus(listing);
        }
    }

    fn awake(&self) -> usize {
        self.inodes.table.lock().awake()
    }

    fn is_awake(&self, inode: u64) -> bool {
        let table = self.inodes.table.lock();
        matches!(table.get(Ino(inode)), Some(Slot::Awake(_)))
    }
}

#[test]
fn a_node_that_rests_takes_little() {
    assert!(size_of::<Slot>() <= 24);
    assert!(size_of::<Ino>() + size_of::<Slot>() <= 32);
}

#[tokio::test(start_paused = true)]
async fn of_many_files_looked_up_most_rest() {
    let walked = Walked::through(20_000).await;
    assert_eq!(walked.awake(), 20_001);
    walked.rest();
    assert_eq!(walked.awake(), AWAKE_MAX + 1);
    assert_eq!(walked.inodes.len(), 20_001);
    // The first were looked up longest ago.
    assert!(!walked.is_awake(FIRST));
}

#[tokio::test(start_paused = true)]
async fn a_node_comes_back_as_it_was() {
    let walked = Walked::through(AWAKE_MAX as u64 + 10).await;
    let before = walked.inodes.get(Ino(FIRST)).unwrap();
    before.take_kernel_version(ContentVersion([3; 16]));
    let (known, heard) = (before.attr(), before.heard());
    drop(before);
    walked.look_up(FIRST, heard);
    walked.rest();
    assert!(!walked.is_awake(FIRST));
    let node = walked.inodes.by_id(known.id).unwrap();
    assert!(walked.is_awake(FIRST));
    assert_eq!((node.attr(), node.heard()), (known, heard));
    assert_eq!(node.reference().unwrap().path.as_bytes(), b"file-001000");
    // The kernel's pages are still known to be of that version.
    assert!(node.take_kernel_version(ContentVersion([3; 16])));
    assert!(Arc::ptr_eq(&node, &walked.inodes.get(Ino(FIRST)).unwrap()));
    // Two lookups were counted.
    drop(node);
    walked.inodes.forget(Ino(FIRST), 1);
    assert!(walked.inodes.get(Ino(FIRST)).is_ok());
    walked.inodes.forget(Ino(FIRST), 1);
    assert!(walked.inodes.get(Ino(FIRST)).is_err());
}

#[tokio::test(start_paused = true)]
async fn the_kernel_forgets_nodes_that_rest() {
    let walked = Walked::through(AWAKE_MAX as u64 + 10).await;
    walked.rest();
    let len = walked.inodes.len();
    walked.inodes.forget(Ino(FIRST), 9);
    assert_eq!(walked.inodes.len(), len - 1);
    // And are told of with their directory.
    let dirs = HashSet::from([walked.inodes.root().id]);
    assert_eq!(walked.inodes.entries_of(&dirs).len(), len - 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_used_or_was_changed_stays_awake() {
    let walked = Walked::through(AWAKE_MAX as u64 + 10).await;
    let node = |inode| walked.inodes.get(Ino(inode)).unwrap();
    let held = node(FIRST);
    node(FIRST + 1).count_open();
    node(FIRST + 2).doubt(Instant::now());
    let mut news = attr(FileKind::File, FIRST + 3);
    news.size = 1 << 20;
    node(FIRST + 3).learn_news(&news, Instant::now(), Instant::now());
    let heard = Heard::from(Instant::now());
    // Longer than listed, and told just now.
    news.id.inode = FIRST + 4;
    node(FIRST + 4).learn(&news, heard);
    node(FIRST + 5).take_kernel_version(ContentVersion([4; 16]));
    tokio::time::advance(Duration::from_secs(1)).await;
    walked.rest();
    for inode in FIRST..FIRST + 6 {
        assert!(walked.is_awake(inode), "{inode}");
    }
    assert!(!walked.is_awake(FIRST + 6));
    assert_eq!(walked.awake(), AWAKE_MAX + 1);
    assert_eq!(held.attr().size, FIRST);
    // What is told of a node that rests is learnt.
    news.id.inode = FIRST + 6;
    let woken = walked.inodes.by_id(news.id).unwrap();
    woken.learn_news(&news, Instant::now(), Instant::now());
    assert_eq!(woken.attr().size, 1 << 20);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_believed_for_longer_than_its_listing() {
    let walked = Walked::through(AWAKE_MAX as u64 + 10).await;
    let listed = walked.inodes.get(Ino(FIRST)).unwrap().heard();
    let later = Heard::from(Instant::now()).leased(true);
    walked.look_up(FIRST, later);
    tokio::time::advance(Duration::from_secs(1)).await;
    walked.rest();
    let node = walked.inodes.get(Ino(FIRST)).unwrap();
    assert_eq!(node.heard(), listed);
    let terms = Terms {
        now: Instant::now(),
        ttl: Duration::from_secs(1),
        held: None,
    };
    assert!(node.fresh_attr(&terms).is_none());
}
