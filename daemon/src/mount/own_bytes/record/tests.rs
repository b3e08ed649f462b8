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
        Next::Ask(wholes, _) => wholes,
        Next::Rest(_) => panic!("not due yet"),
        Next::Nothing => vec![],
    }
}

fn empty(since: Instant) -> Complete {
    Complete { since, unasked: 0 }
}

fn write(records: &mut Records, node: &Arc<Node>, at: usize, data: &[u8]) {
    let mark = records.change(node, at == 0);
    records.changed(node, mark, &Changed::Written(at as u64, data));
}

#[derive(Debug, Clone)]
enum Step {
    Write(usize, Vec<u8>),
    Append(Vec<u8>),
    Cut(usize),
}

fn step() -> impl Strategy<Value = Step> {
    // Near the edges of chunks, mostly.
    let place = prop_oneof![
        0_usize..10,
        CHUNK_BYTES - 5..CHUNK_BYTES + 5,
        2 * CHUNK_BYTES - 5..2 * CHUNK_BYTES + 5,
    ];
    let len = prop_oneof![1_usize..10, CHUNK_BYTES - 5..2 * CHUNK_BYTES + 5];
    prop_oneof![
        6 => (place.clone(), len.clone(), any::<u8>()).prop_map(|(at, len, byte)| Step::Write(at, vec![byte; len])),
        1 => (len, any::<u8>()).prop_map(|(len, byte)| Step::Append(vec![byte; len])),
        2 => place.prop_map(Step::Cut),
        1 => Just(Step::Cut(0)),
    ]
}

/// What is known of a file, and whether it was empty when that began.
#[derive(Clone, Default)]
struct Model(Option<(Vec<u8>, bool)>);

impl Model {
    fn put(&mut self, at: usize, data: &[u8]) {
        if at == 0 && self.0.is_none() {
            self.0 = Some((vec![], false));
        }
        self.0 = self
            .0
            .take()
            .filter(|(bytes, complete)| *complete || at <= bytes.len());
        if let Some((bytes, _)) = &mut self.0 {
            bytes.resize(bytes.len().max(at + data.len()), 0);
            bytes[at..at + data.len()].copy_from_slice(data);
        }
    }

    fn cut(&mut self, size: usize) {
        if size == 0 {
            self.0 = Some((vec![], true));
        }
        self.0 = self
            .0
            .take()
            .filter(|(bytes, complete)| *complete || size <= bytes.len());
        if let Some((bytes, _)) = &mut self.0 {
            bytes.resize(size, 0);
        }
    }
}

proptest! {
    #[test]
    fn what_is_read_and_asked_about_is_what_was_written(is_new in any::<bool>(), steps in vec(step(), 1..12)) {
        let (_inodes, nodes) = nodes(1);
        let (node, now) = (&nodes[0], Instant::now());
        // More than all steps write.
        let mut records = Records::new(16 << 20);
        let mut model = Model::default();
        if is_new {
            records.begin(node, empty(now));
            model.cut(0);
        }
        for step in steps {
            match step {
                Step::Write(at, data) => {
                    write(&mut records, node, at, &data);
                    model.put(at, &data);
                }
                Step::Append(data) => {
                    let end = model.0.as_ref().map_or(7, |(bytes, _)| bytes.len());
                    let mark = records.change(node, false);
                    records.changed(node, mark, &Changed::Appended(end as u64, &data));
                    if model.0.is_some() {
                        model.put(end, &data);
                    }
                }
                Step::Cut(size) => {
                    let mark = records.change(node, size == 0);
                    records.changed(node, mark, &Changed::Cut(size as u64, now));
                    model.cut(size);
                }
            }
            let known = model.0.as_ref();
            prop_assert_eq!(records.bytes, known.map_or(0, |(bytes, _)| bytes.len()));
            let complete = records.complete(node);
            prop_assert_eq!(complete.is_some(), known.is_some_and(|(_, complete)| *complete));
            if let (Some(complete), Some((bytes, _))) = (complete, known) {
                for (from, len) in [(0, usize::MAX), (5, CHUNK_BYTES), (CHUNK_BYTES - 1, 2)] {
                    let read = records.read(node, complete, from as u64, len as u64);
                    let from = from.min(bytes.len());
                    let until = from.saturating_add(len).min(bytes.len());
                    prop_assert!(read.as_deref() == Some(&bytes[from..until]));
                }
            }
        }
        let bytes = model.0.map(|(bytes, _)| bytes).filter(|bytes| !bytes.is_empty());
        prop_assert_eq!(records.closed(node.id, now), bytes.is_some());
        let wholes = asked(records.next(now + REST));
        prop_assert_eq!(wholes.len(), usize::from(bytes.is_some()));
        for whole in wholes {
            let bytes = bytes.clone().unwrap_or_default();
            prop_assert_eq!(whole.pieces.digest(), BytesDigest::of([&bytes[..]]));
            let whole = records.answered(node.id, whole.number).unwrap();
            let chunks: Vec<_> = Arc::unwrap_or_clone(whole.pieces).into_chunks().collect();
            prop_assert!(chunks.iter().rev().skip(1).all(|chunk| chunk.len() == CHUNK_BYTES));
            prop_assert_eq!(chunks.concat(), bytes);
            prop_assert_eq!(records.bytes, 0);
        }
    }
}

#[test]
fn of_changes_that_overlap_nobody_knows_which_came_last() {
    let (_inodes, nodes) = nodes(1);
    let (node, now) = (&nodes[0], Instant::now());
    let mut records = Records::new(BYTES_MAX);
    records.begin(node, empty(now));
    let (a, b) = (records.change(node, true), records.change(node, true));
    records.changed(node, b, &Changed::Written(0, b"b"));
    assert_eq!(records.complete(node), None, "one is still under way");
    records.changed(node, a, &Changed::Written(0, b"a"));
    assert_eq!(records.complete(node), None);
    // Until it was empty once more, and nothing else under way.
    let cut = records.change(node, true);
    records.changed(node, cut, &Changed::Cut(0, now));
    assert!(records.complete(node).is_some());
    let (cut, write) = (records.change(node, true), records.change(node, true));
    records.changed(node, write, &Changed::Written(0, b"b"));
    records.changed(node, cut, &Changed::Cut(0, now));
    assert_eq!(records.complete(node), None);
}

#[test]
fn what_the_host_says_while_a_file_is_being_emptied_is_not_overheard() {
    let (_inodes, nodes) = nodes(1);
    let (node, now) = (&nodes[0], Instant::now());
    let mut records = Records::new(BYTES_MAX);
    let cut = records.change(node, true);
    node.doubt(now);
    records.changed(node, cut, &Changed::Cut(0, now));
    let known = records.complete(node).unwrap();
    assert_ne!(known.unasked, node.unasked());
}

#[test]
fn what_ended_nobody_knows_how_is_forgotten_and_so_is_what_began_meanwhile() {
    let (_inodes, nodes) = nodes(1);
    let (node, now) = (&nodes[0], Instant::now());
    let mut records = Records::new(BYTES_MAX);
    records.begin(node, empty(now));
    let mark = records.change(node, false);
    records.changed(node, mark, &Changed::Otherwise);
    assert!(records.files.is_empty());
    let mark = records.change(node, false);
    records.begin(node, empty(now));
    records.changed(node, mark, &Changed::Written(7, b"x"));
    assert!(records.files.is_empty());
    // Somebody else was faster at the end.
    records.begin(node, empty(now));
    let mark = records.change(node, false);
    records.changed(node, mark, &Changed::Appended(3, b"x"));
    assert!(records.files.is_empty() && records.order.is_empty());
}

#[test]
fn what_is_open_or_was_closed_a_moment_ago_is_not_asked_about() {
    let (_inodes, nodes) = nodes(2);
    let (now, mut records) = (Instant::now(), Records::new(BYTES_MAX));
    for node in &nodes {
        write(&mut records, node, 0, b"content");
    }
    assert!(matches!(records.next(now), Next::Nothing));
    assert!(records.closed(nodes[0].id, now));
    assert!(matches!(records.next(now), Next::Rest(due) if due == now + REST));
    // Written once more.
    write(&mut records, &nodes[0], 7, b"more");
    assert!(asked(records.next(now + REST)).is_empty());
    assert!(records.closed(nodes[0].id, now));
    let wholes = asked(records.next(now + REST));
    assert_eq!(wholes[0].pieces.bytes(), 11);
    assert_eq!(wholes.len(), 1);
}

#[test]
fn what_could_not_be_said_is_asked_once_more_unless_it_was_written_since() {
    let (_inodes, nodes) = nodes(1);
    let (now, mut records) = (Instant::now(), Records::new(BYTES_MAX));
    write(&mut records, &nodes[0], 0, b"content");
    records.closed(nodes[0].id, now);
    let whole = asked(records.next(now + REST)).remove(0);
    records.again(whole.node.id, whole.number, now);
    assert!(matches!(records.next(now + REST), Next::Rest(due) if due == now + RESTS[1]));
    let whole = asked(records.next(now + RESTS[1])).remove(0);
    records.again(whole.node.id, whole.number, now);
    assert!(matches!(records.next(now + RESTS[1]), Next::Nothing));
    assert_eq!(records.bytes, 0);

    write(&mut records, &nodes[0], 0, b"content");
    records.closed(nodes[0].id, now);
    let whole = asked(records.next(now + REST)).remove(0);
    write(&mut records, &nodes[0], 0, b"newer");
    records.again(whole.node.id, whole.number, now);
    assert!(records.answered(whole.node.id, whole.number).is_none());
    assert_eq!(records.bytes, 7);
}

#[test]
fn the_oldest_go_when_there_are_too_many_or_too_much() {
    let count = FILES_MAX as u64 + 2;
    let (_inodes, nodes) = nodes(count);
    let mut records = Records::new(BYTES_MAX);
    for node in &nodes {
        write(&mut records, node, 0, b"1");
    }
    assert_eq!(records.bytes, FILES_MAX);
    assert!(!records.closed(nodes[1].id, Instant::now()));
    assert!(records.closed(nodes[2].id, Instant::now()));
    write(&mut records, &nodes[0], 0, &vec![1; BYTES_MAX]);
    assert_eq!((records.bytes, records.files.len()), (BYTES_MAX, 1));
    // One alone is too much.
    write(&mut records, &nodes[0], BYTES_MAX, b"1");
    assert_eq!((records.bytes, records.order.len()), (0, 0));
}

#[test]
fn no_more_is_asked_at_once_than_the_host_reads() {
    let (_inodes, nodes) = nodes(100);
    let (now, mut records) = (Instant::now(), Records::new(usize::MAX));
    for (i, node) in nodes.iter().enumerate() {
        let bytes = if i < 3 { FILE_BYTES_MAX } else { 1 };
        write(&mut records, node, 0, &vec![1; bytes]);
        records.closed(node.id, now);
    }
    let counts: Vec<_> = std::iter::from_fn(|| {
        let wholes = asked(records.next(now + REST));
        (!wholes.is_empty()).then_some(wholes.len())
    })
    .collect();
    assert_eq!(counts, [2, VOUCH_FILES_MAX, 100 - 2 - VOUCH_FILES_MAX]);
}
