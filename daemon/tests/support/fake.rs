//! A host whose tree lives in memory: serves requests, counts them, and misbehaves on demand.

mod bulk;
mod changes;
mod leases;

use changes::Held;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use tokio::sync::Semaphore;
use wormhole::rpc::{Serve, Sink, SinkClosed, Source};
use wormhole_protocol::*;

#[derive(Clone)]
pub struct FakeFile {
    pub attr: Attr,
    pub seed: u64,
    pub target: Option<Vec<u8>>,
    /// Its bytes, once they were written to; made up of `seed` until then.
    pub data: Option<Arc<Vec<u8>>>,
}

/// The byte at `offset` of the content `seed`: what tests compare with.
pub fn byte_at(seed: u64, offset: u64) -> u8 {
    let word = (offset / 8 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        ^ seed.wrapping_mul(0xff51_afd7_ed55_8ccd);
    (word >> ((offset % 8) * 8)) as u8
}

pub fn bytes_at(seed: u64, offset: u64, len: usize) -> Vec<u8> {
    (0..len as u64).map(|i| byte_at(seed, offset + i)).collect()
}

pub fn attr(inode: u64, kind: FileKind, size: u64, version: u8) -> Attr {
    Attr {
        id: FileId {
            device: 1,
            inode,
            birth: 7,
        },
        kind,
        mode: 0o755,
        links: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        size,
        blocks: size.div_ceil(512),
        accessed: Timestamp::EPOCH,
        modified: Timestamp::EPOCH,
        changed: Timestamp::EPOCH,
        xattrs: false,
        version: ContentVersion([version; 16]),
    }
}

/// Of a disk of 1,000 blocks.
fn figures() -> StatFs {
    StatFs {
        fragment_bytes: 4096,
        block_bytes: 4096,
        blocks: 1000,
        blocks_free: 500,
        blocks_available: 400,
        files: 100,
        files_free: 50,
        name_bytes_max: 255,
    }
}

#[derive(Default)]
pub struct Misbehaviour {
    /// Payload bytes after which reads break off with this fault.
    pub break_reads: Option<(u64, Fault)>,
    /// Announces and sends this many bytes too few.
    pub short_by: u64,
    /// Files that come in bulk pass only with a permit of the gate.
    pub hold_bulk: bool,
    /// Every read finds a new version.
    pub restless: bool,
    /// The n-th write from now on (1: the next) fails with this fault, and is not done.
    pub fail_write: Option<(u64, Fault)>,
    /// How long changes take, before they are done.
    pub delay_changes: Duration,
    /// The connection is lost after the first of such changes was done, before its answer.
    pub lose_answer: Option<fn(&Change) -> bool>,
    /// Refuses all changes.
    pub read_only: bool,
}

pub struct FakeHost {
    pub tree: Mutex<BTreeMap<Vec<u8>, FakeFile>>,
    pub requests: Mutex<Vec<Request>>,
    pub sent: AtomicU64,
    /// Entries of listings sent.
    pub entries_sent: AtomicU64,
    pub misbehaviour: Mutex<Misbehaviour>,
    /// Payload pieces of 4 KiB pass only with a permit, when gated.
    pub gate: Semaphore,
    pub gated: std::sync::atomic::AtomicBool,
    /// Serve futures running.
    pub running: Arc<AtomicUsize>,
    versions: AtomicU64,
    inodes: AtomicU64,
    /// What the mount holds.
    pub held: Mutex<Held>,
    /// Changes that were done, whatever came of them.
    pub applied: Mutex<Vec<Change>>,
    /// Whether leases are given, and to whom what is told.
    pub leases: leases::Telling,
}

pub const ROOT_INODE: u64 = 1000;

impl FakeHost {
    pub fn new() -> Arc<Self> {
        let host = Arc::new(Self {
            tree: Mutex::default(),
            requests: Mutex::default(),
            sent: AtomicU64::new(0),
            entries_sent: AtomicU64::new(0),
            misbehaviour: Mutex::default(),
            gate: Semaphore::new(0),
            gated: false.into(),
            running: Arc::default(),
            versions: AtomicU64::new(100),
            inodes: AtomicU64::new(1_000_000),
            held: Mutex::default(),
            applied: Mutex::default(),
            leases: leases::Telling::default(),
        });
        host.put("", attr(ROOT_INODE, FileKind::Directory, 0, 0), 0);
        host
    }

    pub fn put(&self, path: &str, attr: Attr, seed: u64) {
        let file = FakeFile {
            attr,
            seed,
            target: None,
            data: None,
        };
        self.tree
            .lock()
            .unwrap()
            .insert(path.as_bytes().to_vec(), file);
    }

    pub fn remove(&self, path: &str) {
        self.tree.lock().unwrap().remove(path.as_bytes());
    }

    pub fn root(&self) -> Attr {
        self.tree.lock().unwrap()[&b""[..]].attr
    }

    pub fn count(&self, what: impl Fn(&Request) -> bool) -> usize {
        self.requests
            .lock()
            .unwrap()
            .iter()
            .filter(|r| what(r))
            .count()
    }

    pub fn reads(&self) -> Vec<(u64, u64)> {
        let requests = self.requests.lock().unwrap();
        let reads = requests.iter().filter_map(|r| match r {
            Request::Read { range, .. } => Some((range.offset(), range.len())),
            _ => None,
        });
        reads.collect()
    }

    fn find(&self, node: &NodeRef) -> Result<FakeFile, Fault> {
        let held = self.held.lock().unwrap();
        let tree = self.tree.lock().unwrap();
        if let Some(id) = node.expect
            && held.is_open(id)
        {
            let named = tree.values().find(|file| file.attr.id == id).cloned();
            return named.or_else(|| held.orphan(id)).ok_or(Fault::Io);
        }
        let file = tree.get(node.path.as_bytes()).ok_or(Fault::NotFound)?;
        match node.expect {
            Some(id) if id != file.attr.id => Err(Fault::Stale),
            _ => Ok(file.clone()),
        }
    }

    fn list(&self, dir: &NodeRef) -> Result<(Attr, Vec<Entry>), Fault> {
        let attr = self.find(dir)?.attr;
        let mut prefix = dir.path.as_bytes().to_vec();
        if !prefix.is_empty() {
            prefix.push(b'/');
        }
        let tree = self.tree.lock().unwrap();
        let entries = tree.iter().filter_map(|(path, file)| {
            let name = path.strip_prefix(&prefix[..])?;
            let name = Name::new(name).ok()?;
            Some(Entry {
                name,
                attr: file.attr,
            })
        });
        Ok((attr, entries.collect()))
    }

    async fn answer(
        &self,
        request: Request,
        source: &mut dyn Source,
        sink: &mut dyn Sink,
    ) -> Result<(), SinkClosed> {
        let reply = match &request {
            Request::Lookup { dir, name } => match dir.path.join(name) {
                Ok(path) => self
                    .find(dir)
                    .and_then(|_| self.find(&NodeRef { path, expect: None }))
                    .map(|f| Reply::Attr(f.attr)),
                Err(_) => Err(Fault::NameTooLong),
            },
            Request::Getattr { node } => self.find(node).map(|f| Reply::Attr(f.attr)),
            Request::Readlink { node } => self.find(node).and_then(|f| {
                let target = f.target.ok_or(Fault::WrongKind)?;
                Ok(Reply::Link(LinkTarget::new(target).unwrap()))
            }),
            Request::List { dir, known } => match self.list(dir) {
                Ok((attr, entries)) if known.is_some() && digest(&entries) == *known => {
                    Ok(Reply::Unchanged(attr))
                }
                Ok((attr, entries)) => return self.send_list(attr, entries, sink).await,
                Err(fault) => Err(fault),
            },
            Request::StatFs => Ok(Reply::StatFs(figures())),
            Request::Read { node, range, .. } => match self.find(node) {
                Ok(file) => return self.send_read(file, *range, sink).await,
                Err(fault) => Err(fault),
            },
            Request::ReadMany { dir, files } => return self.send_many(dir, files, sink).await,
            Request::Change {
                seq,
                settled,
                change,
                ..
            } => {
                return self
                    .change((*seq, *settled), change.clone(), source, sink)
                    .await;
            }
            Request::Listen if self.leases.given() => return self.listen(sink).await,
            Request::Heard { through, wanted } if self.leases.given() => {
                Ok(self.leases.heard(*through, wanted))
            }
            Request::Revalidate { listings } if self.leases.given() => {
                let verdicts = listings.iter().map(|known| self.verdict(known));
                Ok(Reply::Revalidated(verdicts.collect()))
            }
            // Nobody else is there who could be in the way.
            Request::Lock { lock, .. } => self.attr_of_open(lock.open).map(Reply::Attr),
            Request::Unlock { .. } | Request::UnlockAll { .. } => Ok(Reply::Done),
            Request::TestLock { .. } => Ok(Reply::Conflict(None)),
            _ => Err(Fault::Unsupported),
        };
        let reply = reply.unwrap_or_else(Reply::Fault);
        let reply = self.leases.grant(&request, reply);
        self.leases.dawdle().await;
        sink.reply(reply).await
    }

    fn verdict(&self, known: &KnownListing) -> Verdict {
        match self.list(&known.dir) {
            Ok((attr, entries)) if digest(&entries) == Some(known.digest) => Verdict::Holds {
                attr,
                leased: self.leases.is_listened_to(),
            },
            _ => Verdict::Changed,
        }
    }

    async fn send_list(
        &self,
        attr: Attr,
        entries: Vec<Entry>,
        sink: &mut dyn Sink,
    ) -> Result<(), SinkClosed> {
        use wormhole_protocol::codec::Wire;
        let reply = self.leases.listing(attr);
        self.leases.dawdle().await;
        sink.reply(reply).await?;
        self.entries_sent.fetch_add(entries.len() as u64, SeqCst);
        let mut chunks = entries.chunks(limits::LIST_FRAME_ENTRIES_MAX).peekable();
        if chunks.peek().is_none() {
            let frame = ListFrame {
                entries: vec![],
                last: true,
            };
            return sink.send(frame.to_frame().unwrap().into()).await;
        }
        while let Some(chunk) = chunks.next() {
            let frame = ListFrame {
                entries: chunk.to_vec(),
                last: chunks.peek().is_none(),
            };
            sink.send(frame.to_frame().unwrap().into()).await?;
        }
        Ok(())
    }

    async fn send_read(
        &self,
        file: FakeFile,
        range: ByteRange,
        sink: &mut dyn Sink,
    ) -> Result<(), SinkClosed> {
        let (break_reads, short_by, restless) = {
            let m = self.misbehaviour.lock().unwrap();
            (m.break_reads, m.short_by, m.restless)
        };
        let mut attr = file.attr;
        if restless {
            attr.version.0[8..].copy_from_slice(&self.versions.fetch_add(1, SeqCst).to_le_bytes());
        }
        let len = range.end().min(attr.size).saturating_sub(range.offset());
        let len = len.saturating_sub(short_by);
        sink.reply(Reply::Data { attr, len }).await?;
        let mut at = 0;
        while at < len {
            if let Some((after, fault)) = break_reads
                && at >= after
            {
                self.misbehaviour.lock().unwrap().break_reads = None;
                sink.abort(fault);
                return Ok(());
            }
            if self.gated.load(SeqCst) {
                self.gate.acquire().await.unwrap().forget();
            }
            let n = (len - at).min(4096);
            sink.send(file.piece(range.offset() + at, n as usize))
                .await?;
            self.sent.fetch_add(n, SeqCst);
            at += n;
        }
        Ok(())
    }
}

fn digest(entries: &[Entry]) -> Option<ListingDigest> {
    let mut digester = ListingDigester::default();
    for entry in entries {
        digester.add(entry);
    }
    digester.finish()
}

struct Running(Arc<AtomicUsize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl Serve for FakeHost {
    fn serve<'a>(
        &'a self,
        request: Request,
        source: &'a mut dyn Source,
        sink: &'a mut dyn Sink,
    ) -> BoxFuture<'a, Result<(), SinkClosed>> {
        self.requests.lock().unwrap().push(request.clone());
        self.running.fetch_add(1, SeqCst);
        let running = Running(self.running.clone());
        async move {
            let _running = running;
            self.answer(request, source, sink).await
        }
        .boxed()
    }
}
