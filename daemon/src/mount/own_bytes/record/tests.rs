//! Tests of what is remembered: as much as a simple model says, and no more than may be.

use super::*;
use crate::mount::inodes::Inodes;
use proptest::collection::vec;
use proptest::prelude::*;
use wormhole_protocol::{Attr, ContentVersion, FileKind, Name, Timestamp};

const BYTES_MAX: usize = 1024 * 1024;

fn attr(inode: u64) -> Attr {
    Attr {
        id: FileId {
            device: 1,
            inode,
            birth: 0,
        },
        kind: if inode == 1 {
            FileKind::Directory
        } else {
            FileKind::File
        },
        mode: 0o600,
        links: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        size: 0,
        blocks: 0,
        accessed: Timestamp::EPOCH,
        modified: Timestamp::EPOCH,
        changed: Timestamp::EPOCH,
        xattrs: false,
        version: ContentVersion([0; 16]),
    }
}

fn nodes(count: u64) -> (Inodes, Vec<Arc<Node>>) {
    let inodes = Inodes::new(attr(1), Instant::now());
    let root = inodes.get(crate::mount::inodes::Ino::ROOT).unwrap();
    let node = |inode: u64| {
        let name = Name::new(inode.to_string()).unwrap();
        let node = inodes.remember(&root, &name, &attr(inode), Instant::now());
        node.unwrap()
    };
    let nodes = (2..2 + count).map(node).collect();
    (inodes, nodes)
}

fn asked(next: Next) -> Vec<Whole> {
    match next {
        Next::Ask(wholes) => wholes,
        Next::Rest(_) => panic!("not due yet"),
        Next::Nothing => vec![],
    }
}

#[derive(Debug, Clone)]
enum Step {
    Write(usize, Vec<u8>),
    Cut(usize),
}

fn step() -> impl Strategy<Value = Step> {
    // Near the edges of chunks, mostly.
    let place = prop_oneof![
        0_usize..10,
        CHUNK_BYTES - 5..CHUNK_BYTES + 5,
        2 * CHUNK_BYTES - 5..2 * CHUNK_BYTES + 5,
    ];
    let len = prop_oneof![0_usize..10, CHUNK_BYTES - 5..2 * CHUNK_BYTES + 5];
    prop_oneof![
        3 => (place.clone(), len, any::<u8>()).prop_map(|(at, len, byte)| Step::Write(at, vec![byte; len])),
        1 => place.prop_map(Step::Cut),
    ]
}

proptest! {
    #[test]
    fn what_is_asked_about_is_what_was_written(steps in vec(step(), 1..12)) {
        let (_inodes, nodes) = nodes(1);
        let node = &nodes[0];
        let mut records = Records::new(BYTES_MAX);
        let mut model: Option<Vec<u8>> = None;
        for step in steps {
            match step {
                Step::Write(at, data) => {
                    records.wrote(node, at as u64, &data);
                    if at == 0 && model.is_none() {
                        model = Some(vec![]);
                    }
                    // A hole: nothing is known any more.
                    model = model.filter(|model| at <= model.len());
                    if let Some(model) = &mut model {
                        let over = data.len().min(model.len() - at);
                        model.splice(at..at + over, data);
                    }
                }
                Step::Cut(size) => {
                    records.cut(node.id, size as u64);
                    model = model.filter(|model| size > 0 && size <= model.len());
                    if let Some(model) = &mut model {
                        model.truncate(size);
                    }
                }
            }
            prop_assert_eq!(records.bytes, model.as_ref().map_or(0, Vec::len));
        }
        let now = Instant::now();
        prop_assert_eq!(records.closed(node.id, now), model.is_some());
        let wholes = asked(records.next(now + REST[0]));
        prop_assert_eq!(wholes.len(), usize::from(model.is_some()));
        for whole in wholes {
            let model = model.take().unwrap_or_default();
            prop_assert_eq!(whole.pieces.digest(), BytesDigest::of([&model[..]]));
            let chunks: Vec<_> = whole.pieces.into_chunks().collect();
            prop_assert!(chunks.iter().rev().skip(1).all(|chunk| chunk.len() == CHUNK_BYTES));
            prop_assert_eq!(chunks.concat(), model);
        }
        prop_assert_eq!(records.bytes, 0);
    }
}

#[test]
fn what_is_open_or_was_closed_a_moment_ago_is_not_asked_about() {
    let (_inodes, nodes) = nodes(2);
    let (now, mut records) = (Instant::now(), Records::new(BYTES_MAX));
    for node in &nodes {
        records.wrote(node, 0, b"content");
    }
    assert!(matches!(records.next(now), Next::Nothing));
    assert!(records.closed(nodes[0].id, now));
    assert!(matches!(records.next(now), Next::Rest(due) if due == now + REST[0]));
    // Written once more.
    records.wrote(&nodes[0], 7, b"more");
    assert!(asked(records.next(now + REST[0])).is_empty());
    assert!(records.closed(nodes[0].id, now));
    let wholes = asked(records.next(now + REST[0]));
    assert_eq!(wholes[0].pieces.bytes(), 11);
    assert_eq!(wholes.len(), 1);
}

#[test]
fn what_could_not_be_said_is_asked_once_more_unless_it_was_written_since() {
    let (_inodes, nodes) = nodes(1);
    let (now, mut records) = (Instant::now(), Records::new(BYTES_MAX));
    records.wrote(&nodes[0], 0, b"content");
    records.closed(nodes[0].id, now);
    let whole = asked(records.next(now + REST[0])).remove(0);
    records.again(whole, now);
    assert!(matches!(records.next(now + REST[0]), Next::Rest(due) if due == now + REST[1]));
    let whole = asked(records.next(now + REST[1])).remove(0);
    records.again(whole, now);
    assert!(matches!(records.next(now + REST[1]), Next::Nothing));
    assert_eq!(records.bytes, 0);

    records.wrote(&nodes[0], 0, b"content");
    records.closed(nodes[0].id, now);
    let whole = asked(records.next(now + REST[0])).remove(0);
    records.wrote(&nodes[0], 0, b"newer");
    records.again(whole, now);
    assert_eq!(records.bytes, 5);
}

#[test]
fn the_oldest_go_when_there_are_too_many_or_too_much() {
    let count = FILES_MAX as u64 + 2;
    let (_inodes, nodes) = nodes(count);
    let mut records = Records::new(BYTES_MAX);
    for node in &nodes {
        records.wrote(node, 0, b"1");
    }
    assert_eq!(records.bytes, FILES_MAX);
    assert!(!records.closed(nodes[1].id, Instant::now()));
    assert!(records.closed(nodes[2].id, Instant::now()));
    records.wrote(&nodes[0], 0, &vec![1; BYTES_MAX]);
    assert_eq!((records.bytes, records.files.len()), (BYTES_MAX, 1));
    // One alone is too much.
    records.wrote(&nodes[0], BYTES_MAX as u64, b"1");
    assert_eq!((records.bytes, records.order.len()), (0, 0));
}

#[test]
fn no_more_is_asked_at_once_than_the_host_reads() {
    let (_inodes, nodes) = nodes(100);
    let (now, mut records) = (Instant::now(), Records::new(usize::MAX));
    for (i, node) in nodes.iter().enumerate() {
        let bytes = if i < 3 { FILE_BYTES_MAX } else { 1 };
        records.wrote(node, 0, &vec![1; bytes]);
        records.closed(node.id, now);
    }
    let counts: Vec<_> = std::iter::from_fn(|| {
        let wholes = asked(records.next(now + REST[0]));
        (!wholes.is_empty()).then_some(wholes.len())
    })
    .collect();
    assert_eq!(counts, [2, VOUCH_FILES_MAX, 100 - 2 - VOUCH_FILES_MAX]);
}
