//! A mount as a program sees it, by names; does what a kernel would do between a program and the file system.

use super::world::Door;
use std::sync::Arc;
use wormhole::mount::error::FsError;
use wormhole::mount::handles::{HandleId, OpenHow};
use wormhole::mount::inodes::Ino;
use wormhole::mount::link::Link;
use wormhole::mount::vfs::{CreateHow, Vfs};
use wormhole_protocol::{
    Attr, AttrChange, Caller, Fault, FileKind, LockOwner, RenameHow, SyncWhat,
};

const CALLER: Caller = Caller { uid: 0, gid: 0 };
const OWNER: LockOwner = LockOwner(1);

/// An open file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Open {
    pub(crate) handle: HandleId,
    ino: Ino,
}

pub(crate) struct Mount {
    pub(crate) vfs: Arc<Vfs>,
    pub(crate) door: Arc<Door>,
    pub(crate) link: Arc<Link>,
}

type Done<T> = Result<T, FsError>;

fn how(appends: bool, truncates: bool) -> OpenHow {
    OpenHow {
        writes: true,
        appends,
        truncates,
        ..OpenHow::default()
    }
}

impl Mount {
    pub(crate) fn new((vfs, door, link): (Arc<Vfs>, Arc<Door>, Arc<Link>)) -> Self {
        Self { vfs, door, link }
    }

    /// Where a name leads; [`Fault::NotFound`] if nowhere.
    async fn look(&self, dir: Ino, name: &str) -> Done<(Ino, Attr)> {
        match self.vfs.lookup(dir, name.as_bytes()).await? {
            Ok(found) => Ok((found.node.ino, found.attr)),
            Err(_) => Err(FsError::Fault(Fault::NotFound)),
        }
    }

    /// The directory of this name in the root; the root itself for none.
    pub(crate) async fn dir(&self, name: &str) -> Done<Ino> {
        if name.is_empty() {
            return Ok(Ino::ROOT);
        }
        let (ino, attr) = self.look(Ino::ROOT, name).await?;
        match attr.kind {
            FileKind::Directory => Ok(ino),
            _ => Err(FsError::Fault(Fault::NotDirectory)),
        }
    }

    pub(crate) async fn stat(&self, dir: &str, name: &str) -> Done<Attr> {
        let (ino, _) = self.look(self.dir(dir).await?, name).await?;
        Ok(self.vfs.getattr(ino, None).await?.0)
    }

    pub(crate) async fn create(
        &self,
        dir: &str,
        name: &str,
        exclusive: bool,
        truncate: bool,
    ) -> Done<Open> {
        let create = CreateHow {
            mode: 0o644,
            exclusive,
            truncate,
        };
        let dir = self.dir(dir).await?;
        let (found, opened) = self
            .vfs
            .create(CALLER, dir, name.as_bytes(), create, how(false, false))
            .await?;
        Ok(Open {
            handle: opened.handle,
            ino: found.node.ino,
        })
    }

    pub(crate) async fn open(
        &self,
        dir: &str,
        name: &str,
        (appends, truncates): (bool, bool),
    ) -> Done<Open> {
        let (ino, attr) = self.look(self.dir(dir).await?, name).await?;
        if attr.kind == FileKind::Directory {
            return Err(FsError::Fault(Fault::IsDirectory));
        }
        let opened = self.vfs.open(CALLER, ino, how(appends, truncates)).await?;
        Ok(Open {
            handle: opened.handle,
            ino,
        })
    }

    pub(crate) async fn write(&self, open: Open, offset: usize, data: &[u8]) -> Done<()> {
        self.vfs.write(open.handle, offset as u64, data).await
    }

    /// Looks first whether the file has changed, as a kernel does before it reads from its cache.
    pub(crate) async fn read(&self, open: Open, offset: usize, len: usize) -> Done<Vec<u8>> {
        self.vfs.getattr(open.ino, Some(open.handle)).await?;
        let mut bytes = Vec::new();
        while bytes.len() < len {
            let at = (offset + bytes.len()) as u64;
            let rest = (len - bytes.len()) as u64;
            let piece = self.vfs.read(open.handle, at, rest).await?;
            if piece.is_empty() {
                break;
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }

    /// All of a file, opened to be read.
    pub(crate) async fn read_all(&self, dir: &str, name: &str) -> Done<Vec<u8>> {
        let (ino, _) = self.look(self.dir(dir).await?, name).await?;
        let opened = self.vfs.open(CALLER, ino, OpenHow::default()).await?;
        let open = Open {
            handle: opened.handle,
            ino,
        };
        let bytes = self.read(open, 0, 1 << 22).await;
        self.close(open).await?;
        bytes
    }

    pub(crate) async fn flush(&self, open: Open) -> Done<()> {
        self.vfs.flush(open.handle, OWNER).await
    }

    pub(crate) async fn close(&self, open: Open) -> Done<()> {
        let done = self.flush(open).await;
        self.vfs.release(open.handle);
        done
    }

    pub(crate) async fn sync(&self, open: Open) -> Done<()> {
        self.vfs.fsync(open.handle, SyncWhat::All).await
    }

    pub(crate) async fn stat_open(&self, open: Open) -> Done<Attr> {
        Ok(self.vfs.getattr(open.ino, Some(open.handle)).await?.0)
    }

    pub(crate) async fn truncate_open(&self, open: Open, size: usize) -> Done<Attr> {
        let set = AttrChange {
            size: Some(size as u64),
            ..AttrChange::default()
        };
        Ok(self.vfs.setattr(CALLER, open.ino, set).await?.0)
    }

    pub(crate) async fn truncate(&self, dir: &str, name: &str, size: usize) -> Done<Attr> {
        let (ino, attr) = self.look(self.dir(dir).await?, name).await?;
        if attr.kind == FileKind::Directory {
            return Err(FsError::Fault(Fault::IsDirectory));
        }
        let set = AttrChange {
            size: Some(size as u64),
            ..AttrChange::default()
        };
        Ok(self.vfs.setattr(CALLER, ino, set).await?.0)
    }

    pub(crate) async fn rename(
        &self,
        from: (&str, &str),
        to: (&str, &str),
        how: RenameHow,
    ) -> Done<()> {
        let (from_dir, to_dir) = (self.dir(from.0).await?, self.dir(to.0).await?);
        let from = (from_dir, from.1.as_bytes());
        let to = (to_dir, to.1.as_bytes());
        self.vfs.rename(CALLER, from, to, how).await
    }

    pub(crate) async fn unlink(&self, dir: &str, name: &str) -> Done<()> {
        let dir = self.dir(dir).await?;
        // The kernel looks up first.
        self.look(dir, name).await?;
        self.vfs.unlink(CALLER, dir, name.as_bytes()).await
    }

    pub(crate) async fn remove_dir(&self, dir: &str, name: &str) -> Done<()> {
        let dir = self.dir(dir).await?;
        self.vfs.remove_dir(CALLER, dir, name.as_bytes()).await
    }

    pub(crate) async fn make_dir(&self, dir: &str, name: &str) -> Done<()> {
        let dir = self.dir(dir).await?;
        let made = self.vfs.make_dir(CALLER, dir, name.as_bytes(), 0o755).await;
        made.map(drop)
    }

    pub(crate) async fn link(&self, from: (&str, &str), to: (&str, &str)) -> Done<()> {
        let (ino, attr) = self.look(self.dir(from.0).await?, from.1).await?;
        if attr.kind == FileKind::Directory {
            return Err(FsError::Fault(Fault::NotPermitted));
        }
        let dir = self.dir(to.0).await?;
        let made = self.vfs.link(CALLER, ino, dir, to.1.as_bytes()).await;
        made.map(drop)
    }

    /// The names in a directory, in order.
    pub(crate) async fn list(&self, dir: &str) -> Done<Vec<String>> {
        let handle = self.vfs.opendir(self.dir(dir).await?)?;
        let (mut names, mut offset) = (Vec::new(), 0);
        loop {
            let page = self.vfs.readdir(handle, offset).await?;
            let Some((last, _)) = page.entries.last() else {
                break;
            };
            offset = *last;
            for (_, listed) in &page.entries {
                names.push(listed.entry.name.to_string());
            }
        }
        self.vfs.release(handle);
        names.sort();
        Ok(names)
    }
}
