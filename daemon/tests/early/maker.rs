//! A mount that makes files in a directory of a real host in this process.

use crate::world::{Door, World};
use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::sleep;
use wormhole::mount::durability::Durability;
use wormhole::mount::error::FsError;
use wormhole::mount::handles::{HandleId, OpenHow};
use wormhole::mount::inodes::Ino;
use wormhole::mount::link::Link;
use wormhole::mount::vfs::{CreateHow, Vfs};
use wormhole_protocol::{Caller, LockOwner};

pub(crate) const CALLER: Caller = Caller { uid: 0, gid: 0 };
pub(crate) const RTT: Duration = Duration::from_millis(100);

/// A mount, and a directory in which it makes files.
pub(crate) struct Maker {
    pub(crate) vfs: Arc<Vfs>,
    pub(crate) door: Arc<Door>,
    _link: Arc<Link>,
}

/// A file being made.
#[derive(Clone, Copy)]
pub(crate) struct New {
    pub(crate) handle: HandleId,
    pub(crate) ino: Ino,
}

impl Maker {
    pub(crate) async fn new(world: &World, number: u8) -> Self {
        Self::with(world, number, Durability::Strict).await
    }

    pub(crate) async fn with(world: &World, number: u8, durability: Durability) -> Self {
        let (vfs, door, link) = world.mount(number, true, durability).await;
        // It listens by then.
        sleep(Duration::from_millis(50)).await;
        Self {
            vfs,
            door,
            _link: link,
        }
    }

    pub(crate) async fn dir(&self, name: &str) -> Ino {
        let found = self.vfs.lookup(Ino::ROOT, name.as_bytes()).await;
        found.unwrap().unwrap().node.ino
    }

    /// Knows what is in a directory, and has files in stock there.
    pub(crate) async fn prepared(&self, name: &str) -> Ino {
        let dir = self.dir(name).await;
        self.names(dir).await;
        for _ in 0..2 {
            let first = format!("first-{}", self.vfs.opens().number().0);
            let first = self.create(dir, &first, true).await.unwrap();
            self.close(first).await.unwrap();
        }
        sleep(Duration::from_millis(50)).await;
        dir
    }

    pub(crate) async fn names(&self, dir: Ino) -> Vec<String> {
        let handle = self.vfs.opendir(dir).unwrap();
        let page = self.vfs.readdir(handle, 0).await.unwrap();
        self.vfs.release(handle);
        let name = |name: &[u8]| String::from_utf8(name.to_vec()).unwrap();
        let names = page.entries.iter();
        names.map(|(_, l)| name(l.entry.name.as_bytes())).collect()
    }

    pub(crate) async fn create(
        &self,
        dir: Ino,
        name: &str,
        exclusive: bool,
    ) -> Result<New, FsError> {
        let create = CreateHow {
            mode: 0o640,
            exclusive,
            truncate: false,
        };
        let how = OpenHow {
            writes: true,
            ..OpenHow::default()
        };
        let created = self.vfs.create(CALLER, dir, name.as_bytes(), create, how);
        let (found, opened) = created.await?;
        Ok(New {
            handle: opened.handle,
            ino: found.node.ino,
        })
    }

    pub(crate) async fn write(&self, file: New, text: &str) -> Result<(), FsError> {
        self.vfs.write(file.handle, 0, text.as_bytes()).await
    }

    pub(crate) async fn close(&self, file: New) -> Result<(), FsError> {
        let flushed = self.vfs.flush(file.handle, LockOwner(1)).await;
        self.vfs.release(file.handle);
        flushed
    }

    pub(crate) async fn make(&self, dir: Ino, name: &str, text: &str) -> Result<(), FsError> {
        let file = self.create(dir, name, true).await?;
        self.write(file, text).await?;
        self.close(file).await
    }

    pub(crate) fn far(&self, rtt: Duration) {
        let millis = u64::try_from(rtt.as_millis()).unwrap();
        self.door.delay_ms.store(millis, Ordering::Relaxed);
    }
}

pub(crate) fn world_with(dirs: &[&str]) -> World {
    let world = World::new();
    for dir in dirs {
        fs::create_dir(world.folder().join(dir)).unwrap();
    }
    world
}
