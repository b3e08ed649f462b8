//! What a made-up host does when it is asked for changes: to its tree, once for each number.
//!
//! As a real host does, it resolves what it has open by identity, keeps files that have no name any more as
//! long as they are open, and keeps its answers. Unlike one it has no hard links, attributes, holes or locks.

mod names;

use super::{FakeFile, FakeHost, attr};
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use wormhole::rpc::{Sink, SinkClosed, Source};
use wormhole_protocol::*;

/// What is held for the mount, until the host forgets.
#[derive(Default)]
pub struct Held {
    pub opens: HashMap<OpenId, FileId>,
    /// Files without a name that are open.
    orphans: HashMap<FileId, FakeFile>,
    answers: HashMap<Seq, Reply>,
    settled: u64,
    /// A session began since it was empty.
    known: bool,
}

impl Held {
    /// The file of an identity, if it is open but has no name.
    pub(super) fn orphan(&self, id: FileId) -> Option<FakeFile> {
        self.orphans.get(&id).cloned()
    }

    pub(super) fn is_open(&self, id: FileId) -> bool {
        self.opens.values().any(|open| *open == id)
    }
}

impl FakeHost {
    /// The bytes of a file.
    pub fn bytes(&self, path: &str) -> Vec<u8> {
        let tree = self.tree.lock().unwrap();
        let file = &tree[path.as_bytes()];
        file.bytes(0, file.attr.size as usize)
    }

    /// The attributes of a path, if there is such a thing.
    pub fn attr_of(&self, path: &str) -> Option<Attr> {
        let tree = self.tree.lock().unwrap();
        tree.get(path.as_bytes()).map(|file| file.attr)
    }

    /// The attributes of what is open.
    pub(super) fn attr_of_open(&self, open: OpenId) -> Result<Attr, Fault> {
        let mut held = self.held.lock().unwrap();
        let mut tree = self.tree.lock().unwrap();
        let mut world = World {
            tree: &mut tree,
            held: &mut held,
            host: self,
        };
        world.open(open).map(|file| file.attr)
    }

    /// How many changes were done, not only asked for.
    pub fn applied(&self, what: impl Fn(&Change) -> bool) -> usize {
        let applied = self.applied.lock().unwrap();
        applied.iter().filter(|change| what(change)).count()
    }

    /// Forgets what it holds for the mount, as one that was restarted.
    pub fn forget(&self) {
        *self.held.lock().unwrap() = Held::default();
    }

    /// A session begins: whether it finds what was held before.
    pub fn resume(&self) -> bool {
        std::mem::replace(&mut self.held.lock().unwrap().known, true)
    }

    pub(super) async fn change(
        &self,
        (seq, settled): (Seq, Seq),
        change: Change,
        source: &mut dyn Source,
        sink: &mut dyn Sink,
    ) -> Result<(), SinkClosed> {
        if self.misbehaviour.lock().unwrap().read_only {
            return sink.reply(Reply::Fault(Fault::ReadOnly)).await;
        }
        let mut body = Vec::with_capacity(change.body_len());
        let mut pieces = Vec::new();
        while source.next(&mut pieces).await.is_ok() && !pieces.is_empty() {
            body.extend(pieces.drain(..).flatten());
        }
        // As if never asked.
        if body.len() < change.body_len() {
            return Err(SinkClosed);
        }
        let delay = self.misbehaviour.lock().unwrap().delay_changes;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let reply = self.once(seq, settled, &change, &body);
        if self.loses(&change) {
            return Ok(());
        }
        sink.reply(reply).await
    }

    /// Whether the connection is lost with the answer to this change.
    fn loses(&self, change: &Change) -> bool {
        let lose = &mut self.misbehaviour.lock().unwrap().lose_answer;
        let loses = lose.is_some_and(|which| which(change));
        if loses {
            *lose = None;
        }
        loses
    }

    /// Does the change, unless it was done; then it only says again what came of it.
    fn once(&self, seq: Seq, settled: Seq, change: &Change, body: &[u8]) -> Reply {
        let mut held = self.held.lock().unwrap();
        if let Some(reply) = held.answers.get(&seq) {
            return reply.clone();
        }
        if seq.0 < held.settled {
            return Reply::Fault(Fault::Settled);
        }
        held.settled = held.settled.max(settled.0);
        held.answers.retain(|kept, _| *kept >= settled);
        let reply = match self.injected(change) {
            Some(fault) => Reply::Fault(fault),
            None => {
                self.applied.lock().unwrap().push(change.clone());
                let mut tree = self.tree.lock().unwrap();
                let mut world = World {
                    tree: &mut tree,
                    held: &mut held,
                    host: self,
                };
                world.apply(change, body).unwrap_or_else(Reply::Fault)
            }
        };
        held.answers.insert(seq, reply.clone());
        reply
    }

    fn injected(&self, change: &Change) -> Option<Fault> {
        if !matches!(change, Change::Write { .. } | Change::Append { .. }) {
            return None;
        }
        let fail = &mut self.misbehaviour.lock().unwrap().fail_write;
        let (nth, fault) = (*fail)?;
        *fail = (nth > 1).then_some((nth - 1, fault));
        (nth <= 1).then_some(fault)
    }
}

/// The tree and what is held, while a change is being done.
struct World<'a> {
    tree: &'a mut BTreeMap<Vec<u8>, FakeFile>,
    held: &'a mut Held,
    host: &'a FakeHost,
}

impl World<'_> {
    fn apply(&mut self, change: &Change, body: &[u8]) -> Result<Reply, Fault> {
        match change {
            Change::Open { node, open, .. } => {
                let attr = self.node(node)?.attr;
                if attr.kind != FileKind::File {
                    return Err(Fault::WrongKind);
                }
                self.held.opens.insert(*open, attr.id);
                Ok(Reply::Attr(attr))
            }
            Change::Create {
                dir,
                name,
                mode,
                exclusive,
                truncate,
                open,
            } => self.create((dir, name), *mode, (*exclusive, *truncate), *open),
            Change::Close { opens } => {
                for open in opens {
                    if let Some(id) = self.held.opens.remove(open)
                        && !self.held.is_open(id)
                    {
                        self.held.orphans.remove(&id);
                    }
                }
                Ok(Reply::Done)
            }
            Change::Write {
                open,
                offset,
                after,
                ..
            } => {
                let written = self.write(*open, *offset, body)?;
                let host = self.host;
                Ok(match after.set {
                    Some(set) => Self::set_file(host, self.open(*open)?, &set),
                    None => written,
                })
            }
            Change::Append { open, .. } => {
                let offset = self.open(*open)?.attr.size;
                match self.write(*open, offset, body)? {
                    Reply::Attr(attr) => Ok(Reply::Appended { offset, attr }),
                    other => Ok(other),
                }
            }
            Change::Sync { open, .. } => self.open(*open).map(|_| Reply::Done),
            Change::SyncDir { dir } => self.node(dir).map(|_| Reply::Done),
            Change::SetAttr { node, set } => self.set(node, set),
            Change::MakeDir {
                dir, name, mode, ..
            } => match self.make(dir, name, FileKind::Directory, *mode)? {
                Reply::Made { attr, dir } => Ok(Reply::MadeDir(MadeDir {
                    attr,
                    dir,
                    leased: false,
                    reserved: Vec::new(),
                })),
                other => Ok(other),
            },
            Change::Symlink { dir, name, target } => {
                let made = self.make(dir, name, FileKind::Symlink, 0o777)?;
                let path = self.child(dir, name)?;
                let link = self.tree.get_mut(&path).ok_or(Fault::Io)?;
                link.target = Some(target.as_bytes().to_vec());
                Ok(made)
            }
            Change::Unlink { dir, name, keep } => self.unlink(dir, name, *keep),
            Change::RemoveDir { dir, name } => self.remove_dir(dir, name),
            Change::Rename {
                from,
                from_name,
                to,
                to_name,
                how,
                keep,
            } => self.rename((from, from_name), (to, to_name), *how, *keep),
            _ => Err(Fault::Unsupported),
        }
    }

    fn path(&self, node: &NodeRef) -> Result<Vec<u8>, Fault> {
        let path = node.path.as_bytes();
        let file = self.tree.get(path).ok_or(Fault::NotFound)?;
        match node.expect {
            Some(id) if id != file.attr.id => Err(Fault::Stale),
            _ => Ok(path.to_vec()),
        }
    }

    fn child(&self, dir: &NodeRef, name: &Name) -> Result<Vec<u8>, Fault> {
        let mut path = self.path(dir)?;
        if self.tree[&path].attr.kind != FileKind::Directory {
            return Err(Fault::NotDirectory);
        }
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name.as_bytes());
        Ok(path)
    }

    fn by_id(&mut self, id: FileId) -> Result<&mut FakeFile, Fault> {
        let named = self.tree.values_mut().find(|file| file.attr.id == id);
        let orphan = self.held.orphans.get_mut(&id);
        named.or(orphan).ok_or(Fault::Io)
    }

    fn open(&mut self, open: OpenId) -> Result<&mut FakeFile, Fault> {
        let id = *self.held.opens.get(&open).ok_or(Fault::NotOpen)?;
        self.by_id(id)
    }

    fn node(&mut self, node: &NodeRef) -> Result<&mut FakeFile, Fault> {
        match node.expect {
            Some(id) if self.held.is_open(id) => self.by_id(id),
            _ => {
                let path = self.path(node)?;
                self.tree.get_mut(&path).ok_or(Fault::NotFound)
            }
        }
    }

    /// The content, or the names in it, have changed.
    fn changed(host: &FakeHost, file: &mut FakeFile) {
        let version = host.versions.fetch_add(1, SeqCst);
        let now = Timestamp::new(version.cast_signed(), 0).unwrap();
        (file.attr.modified, file.attr.changed) = (now, now);
        file.attr.version.0[8..].copy_from_slice(&version.to_le_bytes());
        file.attr.blocks = file.attr.size.div_ceil(512);
    }

    /// An entry of `dir` has come or gone: its attributes now.
    fn changed_dir(&mut self, dir: &NodeRef) -> Result<Attr, Fault> {
        let path = self.path(dir)?;
        let file = self.tree.get_mut(&path).ok_or(Fault::NotFound)?;
        Self::changed(self.host, file);
        Ok(file.attr)
    }

    fn write(&mut self, open: OpenId, offset: u64, body: &[u8]) -> Result<Reply, Fault> {
        let host = self.host;
        let file = self.open(open)?;
        let end = offset + body.len() as u64;
        let data = file.data_mut(file.attr.size.max(end));
        data[offset as usize..end as usize].copy_from_slice(body);
        Self::changed(host, file);
        Ok(Reply::Attr(file.attr))
    }

    fn set(&mut self, node: &NodeRef, set: &AttrChange) -> Result<Reply, Fault> {
        let host = self.host;
        let file = self.node(node)?;
        Ok(Self::set_file(host, file, set))
    }

    fn set_file(host: &FakeHost, file: &mut FakeFile, set: &AttrChange) -> Reply {
        if let Some(size) = set.size {
            file.data_mut(size);
            Self::changed(host, file);
        }
        let now = host.versions.fetch_add(1, SeqCst);
        let now = Timestamp::new(now.cast_signed(), 0).unwrap();
        let time = |set: SetTime| match set {
            SetTime::Now => now,
            SetTime::At(at) => at,
        };
        let attr = &mut file.attr;
        attr.changed = now;
        attr.mode = set.mode.unwrap_or(attr.mode);
        attr.uid = set.uid.unwrap_or(attr.uid);
        attr.gid = set.gid.unwrap_or(attr.gid);
        attr.accessed = set.accessed.map_or(attr.accessed, time);
        attr.modified = set.modified.map_or(attr.modified, time);
        Reply::Attr(*attr)
    }

    fn create(
        &mut self,
        (dir, name): (&NodeRef, &Name),
        mode: u16,
        (exclusive, truncate): (bool, bool),
        open: OpenId,
    ) -> Result<Reply, Fault> {
        let (path, host) = (self.child(dir, name)?, self.host);
        let made = match self.tree.get_mut(&path) {
            None => self.make(dir, name, FileKind::File, mode)?,
            Some(_) if exclusive => return Err(Fault::Exists),
            Some(file) => {
                match file.attr.kind {
                    FileKind::File => {}
                    FileKind::Directory => return Err(Fault::IsDirectory),
                    FileKind::Symlink => return Err(Fault::Loop),
                    _ => return Err(Fault::WrongKind),
                }
                if truncate {
                    file.data_mut(0);
                    Self::changed(host, file);
                }
                let attr = file.attr;
                let dir = self.tree[&self.path(dir)?].attr;
                Reply::Made { attr, dir }
            }
        };
        if let Reply::Made { attr, .. } = &made {
            self.held.opens.insert(open, attr.id);
        }
        Ok(made)
    }

    fn make(
        &mut self,
        dir: &NodeRef,
        name: &Name,
        kind: FileKind,
        mode: u16,
    ) -> Result<Reply, Fault> {
        let path = self.child(dir, name)?;
        if self.tree.contains_key(&path) {
            return Err(Fault::Exists);
        }
        let inode = self.host.inodes.fetch_add(1, SeqCst);
        let mut file = FakeFile {
            attr: Attr {
                mode,
                ..attr(inode, kind, 0, 0)
            },
            seed: 0,
            target: None,
            data: Some(Arc::default()),
        };
        Self::changed(self.host, &mut file);
        let attr = file.attr;
        self.tree.insert(path, file);
        let dir = self.changed_dir(dir)?;
        Ok(Reply::Made { attr, dir })
    }
}

impl FakeFile {
    /// Bytes that are there: written ones, or made up.
    pub(super) fn bytes(&self, offset: u64, len: usize) -> Vec<u8> {
        match &self.data {
            Some(data) => data[offset as usize..offset as usize + len].to_vec(),
            None => super::bytes_at(self.seed, offset, len),
        }
    }

    pub(super) fn piece(&self, offset: u64, len: usize) -> Bytes {
        self.bytes(offset, len).into()
    }

    /// The bytes to be changed; from now on there are `size` of them, and they are no longer made up.
    fn data_mut(&mut self, size: u64) -> &mut Vec<u8> {
        if self.data.is_none() {
            let kept = self.attr.size.min(size) as usize;
            self.data = Some(Arc::new(super::bytes_at(self.seed, 0, kept)));
        }
        self.attr.size = size;
        let data = Arc::make_mut(self.data.get_or_insert_default());
        data.resize(size as usize, 0);
        data
    }
}
