//! Trees fetched ahead: a real host in this process, and a mount that counts what it asks.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::collections::BTreeMap;
use std::fs;
use std::io::Cursor;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use wormhole::host::{Gate, HostState, Share, ShareRules, SystemClock, TicketLimits};
use wormhole::mount::beliefs::PrefetchMetadata;
use wormhole::mount::inodes::Ino;
use wormhole::mount::vfs::{Vfs, VfsConfig};
use wormhole::rpc::loopback::Loopback;
use wormhole::rpc::{Answer, Body, CallError, Gate as _, PathEstimate, Remote};
use wormhole_protocol::{
    Access, Attr, Epoch, Features, FileKind, Hello, MountId, NodeRef, RelPath, Reply, Request,
    Secret, ShareId, TreeDecoder, TreeEncoder, TreeFrame, WireVersion,
};

/// What the TLS session would have exported.
const BINDING: [u8; 32] = [9; 32];
/// So far away that a directory that is about to come is worth waiting for, however busy this machine is.
const FAR: Duration = Duration::from_secs(60);

/// A host, asked directly; each request is counted, and a tree may be made up.
struct Counting {
    host: Loopback,
    asked: Mutex<BTreeMap<&'static str, usize>>,
    tree: Mutex<Option<Vec<u8>>>,
}

impl Counting {
    fn asked(&self) -> BTreeMap<&'static str, usize> {
        self.asked.lock().unwrap().clone()
    }

    fn count(&self, kind: &str) -> usize {
        self.asked().get(kind).copied().unwrap_or(0)
    }
}

impl Remote for Counting {
    fn call_with(&self, request: Request, body: Body) -> BoxFuture<'_, Result<Answer, CallError>> {
        let kind = match &request {
            Request::List { .. } => "list",
            Request::Tree { .. } => "tree",
            Request::Listen | Request::Heard { .. } => return self.host.call_with(request, body),
            _ => "other",
        };
        *self.asked.lock().unwrap().entry(kind).or_default() += 1;
        let made_up = self.tree.lock().unwrap().clone();
        if let (Some(bytes), "tree") = (made_up, kind) {
            let payload = Box::new(Cursor::new(bytes));
            let reply = Reply::Tree;
            return std::future::ready(Ok(Answer { reply, payload })).boxed();
        }
        self.host.call_with(request, body)
    }

    fn path(&self) -> PathEstimate {
        PathEstimate {
            rtt: FAR,
            ..self.host.path()
        }
    }

    fn closed(&self) -> BoxFuture<'_, ()> {
        self.host.closed()
    }
}

struct World {
    dir: TempDir,
    gate: Gate,
    secret: Secret,
}

impl World {
    /// A share with 3 levels of directories, 40 in all, and 5 files in each.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("share");
        let mut level = vec![folder.clone()];
        for width in [3, 3, 3] {
            level = level
                .iter()
                .flat_map(|dir| (0..width).map(move |i| dir.join(format!("dir {i}"))))
                .collect();
            for dir in &level {
                fs::create_dir_all(dir).unwrap();
                for i in 0..5 {
                    fs::write(dir.join(format!("file {i}")), vec![7; i * 100]).unwrap();
                }
            }
        }
        let share = Share::open(&folder, Share::name_for(&folder)).unwrap();
        let state = HostState::open(&dir.path().join("state")).unwrap();
        let state = state.share(&share).unwrap();
        let secret = state.issue(TicketLimits::default(), 0).unwrap();
        let gate = Gate::new(Epoch(1), Arc::new(SystemClock::default()));
        gate.add_share_with(share, state, ShareRules::default())
            .unwrap();
        Self { dir, gate, secret }
    }

    fn folder(&self) -> PathBuf {
        self.dir.path().join("share")
    }

    async fn remote(&self) -> (Arc<Counting>, ShareId, Attr) {
        let mount = MountId([3; 16]);
        let hello = Hello {
            oldest: WireVersion::OLDEST.number(),
            newest: WireVersion::NEWEST.number(),
            features: Features(u64::MAX),
            ticket: self.secret.id(),
            proof: self.secret.prove(&BINDING, mount),
            mount,
        };
        let admission = self.gate.admit(&hello, &BINDING).await.unwrap();
        let remote = Counting {
            host: Loopback::new(admission.session),
            asked: Mutex::default(),
            tree: Mutex::default(),
        };
        let welcome = admission.welcome;
        (Arc::new(remote), welcome.share, welcome.root)
    }

    async fn mount(&self, how: PrefetchMetadata) -> (Arc<Counting>, Vfs) {
        let (remote, share, root) = self.remote().await;
        let config = VfsConfig {
            attr_ttl: Duration::from_secs(1),
            timeout: Duration::from_secs(20),
            l1_bytes: 1 << 20,
            write_buffer_bytes: 1 << 20,
            durability: Default::default(),
            access: Access::Read,
        };
        let vfs = Vfs::new(config, share, root, remote.clone(), None);
        vfs.listen();
        while vfs.leases().snapshot().term_ms.is_none() {
            tokio::task::yield_now().await;
        }
        vfs.prefetch_metadata(how);
        (remote, vfs)
    }
}

/// What there is: paths, kinds, sizes, numbers.
type Seen = BTreeMap<Vec<u8>, (bool, u64, u64)>;

fn on_disk(dir: &Path) -> Seen {
    fn walk(dir: &Path, root: &Path, seen: &mut Seen) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes();
            let size = if meta.is_dir() { 0 } else { meta.size() };
            seen.insert(name.to_vec(), (meta.is_dir(), size, meta.ino()));
            if meta.is_dir() {
                walk(&path, root, seen);
            }
        }
    }
    let mut seen = Seen::new();
    walk(dir, dir, &mut seen);
    seen
}

/// The same, through a mount: each directory is listed, each entry looked up and looked at.
async fn walk(vfs: &Vfs) -> Seen {
    let mut seen = Seen::new();
    let mut dirs = vec![(Ino::ROOT, Vec::new())];
    while let Some((ino, path)) = dirs.pop() {
        let handle = vfs.opendir(ino).unwrap();
        let mut offset = 0;
        loop {
            let page = vfs.readdir(handle, offset).await.unwrap();
            let Some((last, _)) = page.entries.last() else {
                break;
            };
            offset = *last;
            for (_, listed) in &page.entries {
                let name = listed.entry.name.as_bytes();
                let found = vfs.lookup(ino, name).await.unwrap();
                let Ok(found) = found else {
                    panic!("{} is listed and not there", listed.entry.name)
                };
                let (attr, _) = vfs.getattr(found.node.ino, None).await.unwrap();
                let path = [path.as_slice(), name].join(&b'/');
                let path = path.strip_prefix(b"/").unwrap_or(&path).to_vec();
                let is_dir = attr.kind == FileKind::Directory;
                let size = if is_dir { 0 } else { attr.size };
                seen.insert(path.clone(), (is_dir, size, attr.id.inode));
                if is_dir {
                    dirs.push((found.node.ino, path));
                }
            }
        }
    }
    seen
}

#[tokio::test]
async fn a_walk_of_a_new_mount_takes_one_request_and_another_none() {
    let world = World::new();
    let (remote, vfs) = world.mount(PrefetchMetadata::Lazy).await;
    assert_eq!(walk(&vfs).await, on_disk(&world.folder()));
    assert_eq!(remote.count("tree"), 1);
    assert_eq!(remote.count("list"), 0);
    // Longer than what is not leased is believed.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let asked = remote.asked();
    assert_eq!(walk(&vfs).await, on_disk(&world.folder()));
    assert_eq!(remote.asked(), asked, "nothing was asked");
}

#[tokio::test]
async fn names_looked_up_in_two_directories_bring_all_around_them() {
    let world = World::new();
    let (remote, vfs) = world.mount(PrefetchMetadata::Lazy).await;
    // Never listed: git and compilers come by name.
    for dir in ["dir 0", "dir 1"] {
        assert_eq!(
            remote.count("tree"),
            0,
            "one directory says nothing of others"
        );
        let dir = vfs.lookup(Ino::ROOT, dir.as_bytes()).await.unwrap();
        let dir = dir.expect("is there").node.ino;
        for i in 0..5 {
            let name = format!("file {i}");
            assert!(vfs.lookup(dir, name.as_bytes()).await.unwrap().is_ok());
        }
    }
    let asked = async {
        while remote.count("tree") == 0 {
            tokio::task::yield_now().await;
        }
    };
    let asked = tokio::time::timeout(Duration::from_secs(20), asked).await;
    asked.expect("what is around two directories is fetched");
    assert_eq!(walk(&vfs).await, on_disk(&world.folder()));
}

#[tokio::test]
async fn everything_comes_from_the_start_where_that_is_wanted() {
    let world = World::new();
    let (remote, vfs) = world.mount(PrefetchMetadata::All).await;
    while remote.count("tree") == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(walk(&vfs).await, on_disk(&world.folder()));
    assert_eq!(remote.count("tree"), 1);
    assert_eq!(remote.count("list"), 0);
}

#[tokio::test]
async fn nothing_is_fetched_ahead_where_that_is_not_wanted() {
    let world = World::new();
    let (remote, vfs) = world.mount(PrefetchMetadata::Off).await;
    assert_eq!(walk(&vfs).await, on_disk(&world.folder()));
    assert_eq!(remote.count("tree"), 0);
    assert_eq!(remote.count("list"), 40);
}

#[tokio::test]
async fn what_changes_in_a_fetched_tree_is_seen() {
    let world = World::new();
    let (_, vfs) = world.mount(PrefetchMetadata::Lazy).await;
    walk(&vfs).await;
    let dir = world.folder().join("dir 1/dir 2");
    fs::write(dir.join("new"), b"new").unwrap();
    fs::write(dir.join("file 3"), b"other").unwrap();
    fs::remove_file(dir.join("file 4")).unwrap();
    fs::create_dir(dir.join("deep")).unwrap();
    fs::write(dir.join("deep/inside"), b"x").unwrap();
    let seen = async {
        while walk(&vfs).await != on_disk(&world.folder()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), seen)
        .await
        .unwrap();
}

/// All frames of a tree.
async fn tree(remote: &Counting, entries_max: u32) -> Vec<TreeFrame> {
    let dir = NodeRef {
        path: RelPath::root(),
        expect: None,
    };
    let request = Request::Tree { dir, entries_max };
    let mut answer = remote.call(request).await.unwrap();
    assert_eq!(answer.reply, Reply::Tree);
    let mut bytes = Vec::new();
    answer.payload.read_to_end(&mut bytes).await.unwrap();
    let mut decoder = TreeDecoder::open(entries_max as usize).unwrap();
    let (mut input, mut frames) = (bytes.as_slice(), Vec::new());
    while let Some(frame) = decoder.next(&mut input).unwrap() {
        frames.push(frame);
    }
    assert!(decoder.is_at_end());
    frames
}

#[tokio::test]
async fn a_tree_is_breadth_first_and_within_its_budget() {
    let world = World::new();
    let (remote, ..) = world.remote().await;
    let frames = tree(&remote, 10_000).await;
    let depth = |frame: &TreeFrame| match frame {
        TreeFrame::Directory { path, .. } => Some(path.components().count()),
        _ => None,
    };
    let depths: Vec<_> = frames.iter().filter_map(depth).collect();
    assert_eq!(depths.len(), 40);
    assert!(depths.is_sorted());
    assert_eq!(frames.last(), Some(&TreeFrame::End { whole: true }));
    for most in [0, 1, 30, 31, 200] {
        let frames = tree(&remote, most).await;
        let entries: usize = frames.iter().map(TreeFrame::entries_len).sum();
        assert!(entries <= most as usize);
        assert_eq!(frames.last(), Some(&TreeFrame::End { whole: false }));
    }
}

#[tokio::test]
async fn what_a_host_makes_up_is_not_believed() {
    let world = World::new();
    let (plain, ..) = world.remote().await;
    let good = tree(&plain, 10_000).await;
    let TreeFrame::Directory { attr, entries, .. } = good[0].clone() else {
        panic!("a tree begins with a directory")
    };
    let directory = |path: &str, attr| TreeFrame::Directory {
        path: RelPath::new(path).unwrap(),
        attr,
        leased: true,
        entries: entries.clone(),
        last: true,
    };
    let elsewhere = Attr {
        id: entries[0].attr.id,
        ..attr
    };
    for frames in [
        // A directory nobody told of, and one that is another.
        vec![directory("not/there", attr), TreeFrame::End { whole: true }],
        vec![directory("", elsewhere)],
        vec![TreeFrame::End { whole: true }],
        vec![],
    ] {
        let mut encoder = TreeEncoder::open().unwrap();
        for frame in &frames {
            encoder.push(frame).unwrap();
        }
        let whole = encoder.finish().unwrap();
        for bytes in [
            whole.clone(),
            [whole.as_slice(), b"junk"].concat(),
            vec![1; 9],
        ] {
            let (remote, vfs) = world.mount(PrefetchMetadata::Lazy).await;
            *remote.tree.lock().unwrap() = Some(bytes);
            assert_eq!(walk(&vfs).await, on_disk(&world.folder()));
        }
    }
}
