//! Walks through directories that exist only as tables.

use super::*;
use crate::mount::inodes::Inodes;
use std::collections::HashMap;
use wormhole_protocol::{Attr, ContentVersion, Entry, FileKind, Name, Timestamp};

const MIB: u64 = 1024 * 1024;
const FILES: u64 = 50;
const FILE_BYTES: u64 = 10 * 1024;

fn attr(inode: u64, kind: FileKind) -> Attr {
    Attr {
        id: FileId {
            device: 1,
            inode,
            birth: 0,
        },
        kind,
        mode: 0o644,
        links: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        size: FILE_BYTES,
        blocks: 0,
        accessed: Timestamp::EPOCH,
        modified: Timestamp::EPOCH,
        changed: Timestamp::EPOCH,
        xattrs: false,
        version: ContentVersion([0; 16]),
    }
}

fn name(number: u64) -> Name {
    Name::new(format!("{number:04}")).unwrap()
}

/// Directories of 50 files each, in a row.
struct World {
    dirs: WatchedDirs,
    nodes: Vec<Arc<Node>>,
    fetched: HashMap<FileId, u64>,
}

impl World {
    fn new(count: u64) -> Self {
        let root = Inodes::new(attr(1, FileKind::Directory), Instant::now());
        let node = |dir| {
            let attr = attr(1000 + dir, FileKind::Directory);
            Node::detached(root.root(), &name(dir), &attr)
        };
        Self {
            dirs: WatchedDirs::default(),
            nodes: (0..count).map(node).collect(),
            fetched: HashMap::new(),
        }
    }

    fn entry(&self, dir: u64, file: u64) -> Entry {
        Entry {
            name: name(file),
            attr: attr(10_000 + dir * FILES + file, FileKind::File),
        }
    }

    fn table(&self, dir: u64) -> Table {
        Table::new((0..FILES).map(|file| self.entry(dir, file)))
    }

    /// Reads a file and fetches what is said; true if it had been fetched.
    fn read(&mut self, dir: u64, file: u64) -> bool {
        let Entry { name, attr } = self.entry(dir, file);
        let small = SmallFile::of(&name, &attr).unwrap();
        let node = self.nodes[usize::try_from(dir).unwrap()].clone();
        let (seen, step) = self.dirs.observe(&node, &small, MIB, Instant::now());
        let advance = match step {
            Step::Nothing => false,
            Step::Prepare => {
                let table = self.table(dir);
                self.dirs.prepared(&node, Some(table), MIB)
            }
            Step::Advance => true,
        };
        if advance {
            self.advance(node.id);
        }
        seen == Some(Seen::Hit)
    }

    fn advance(&mut self, dir: FileId) {
        loop {
            let (batches, last) = self.dirs.plan(dir, MIB);
            for batch in batches {
                let bytes = batch.files.iter().map(|(_, f)| u64::from(f.size)).sum();
                self.dirs.fetching(bytes);
                *self.fetched.entry(batch.dir.id).or_default() += bytes;
            }
            let Some((last, _)) = last else { return };
            let next = last.id.inode - 1000 + 1;
            let node = self.nodes.get(usize::try_from(next).unwrap()).cloned();
            let next = node.map(|node| (node, self.table(next)));
            if !self.dirs.go_on(dir, last.id, next) {
                return;
            }
        }
    }

    fn fetched_bytes(&self) -> u64 {
        self.fetched.values().sum()
    }
}

#[test]
fn a_walk_is_fetched_ahead_into_the_next_directories() {
    let mut world = World::new(20);
    let mut missed = 0;
    for dir in 0..20 {
        for file in 0..FILES {
            missed += u32::from(!world.read(dir, file));
        }
    }
    assert_eq!(missed, 2);
    assert_eq!(world.fetched_bytes(), (20 * FILES - 2) * FILE_BYTES);
}

#[test]
fn where_nobody_goes_on_only_one_directory_is_fetched_until_half_of_it_was_read() {
    let mut world = World::new(20);
    for file in 0..FILES / 2 - 1 {
        world.read(0, file);
        assert_eq!(world.fetched.keys().count().min(2), usize::from(file > 0));
    }
    world.read(0, FILES / 2);
    assert!(world.fetched.len() > 1);
}

#[test]
fn what_is_fetched_and_not_read_stays_within_its_bound() {
    let mut world = World::new(200);
    let mut read = 0;
    for dir in 0..200 {
        for file in 0..6 {
            world.read(dir, file);
            read += FILE_BYTES;
            assert!(world.dirs.unread_bytes <= FREE_BYTES + read / UNREAD_PART);
        }
    }
    assert!(world.fetched_bytes() > MIB);
}

#[test]
fn files_of_other_versions_make_the_table_be_made_anew() {
    let mut world = World::new(1);
    for file in 0..3 {
        world.read(0, file);
    }
    let mut changed = attr(10_003, FileKind::File);
    changed.version = ContentVersion([9; 16]);
    let small = SmallFile::of(&name(3), &changed).unwrap();
    let node = world.nodes[0].clone();
    let now = Instant::now() + 2 * PREPARE_AGAIN;
    let mut observe = |small: &SmallFile| world.dirs.observe(&node, small, MIB, now);
    assert_eq!(observe(&small), (None, Step::Nothing));
    let other = SmallFile::of(&name(4), &attr(10_004, FileKind::File)).unwrap();
    assert_eq!(observe(&other), (None, Step::Prepare));
    assert_eq!(observe(&other), (None, Step::Nothing), "once");
}

#[test]
fn so_many_directories_and_files_are_watched_and_no_more() {
    let mut world = World::new(FILES_MAX as u64 / FILES + 100);
    for dir in 0..world.nodes.len() as u64 {
        for file in 0..2 {
            world.read(dir, file);
        }
        assert!(world.dirs.dirs.len() <= DIRS_MAX.get());
    }
    let files: usize = world
        .dirs
        .dirs
        .iter()
        .map(|(_, watched)| watched.files())
        .sum();
    assert!(files <= FILES_MAX);
}
