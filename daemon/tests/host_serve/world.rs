//! A share in a temporary place, its gate, and mounts without a network.

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use wormhole::host::{
    Gate, HostState, ManualClock, Service, SessionSnapshot, Share, ShareRules, TicketLimits,
};
use wormhole::rpc::loopback::Loopback;
use wormhole::rpc::{Admission, CallError, Gate as _, Remote, Serve, Sink, SinkClosed};
use wormhole_protocol::codec::{Wire, body_len};
use wormhole_protocol::{
    Attr, ByteRange, Entry, Epoch, Fault, Features, FileId, Hello, ListFrame, ListingDigest,
    ListingDigester, MountId, Name, NodeRef, ReadUrgency, Refusal, RelPath, Reply, Request, Secret,
    WireVersion,
};

/// So soon after a change its file has no version that lasts, whatever ticks the kernel counts times in.
pub(crate) const UNSETTLED: std::time::Duration = std::time::Duration::from_millis(30);

/// When the tests' clock begins.
pub(crate) const NOW: u64 = 1_800_000_000;
/// What the TLS session would have exported.
pub(crate) const BINDING: [u8; 32] = [9; 32];

pub(crate) struct World {
    pub(crate) gate: Arc<Gate>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) service: Arc<Service>,
    pub(crate) secret: Secret,
    rules: ShareRules,
    dir: Arc<TempDir>,
}

impl World {
    /// An empty share, to be read.
    pub(crate) fn new() -> Self {
        Self::with(ShareRules::default())
    }

    /// An empty share under `rules`.
    pub(crate) fn with(rules: ShareRules) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("share")).unwrap();
        Self::over(Arc::new(dir), 1, rules)
    }

    /// An empty share of a host that watches at most so many directories.
    pub(crate) fn watching(most: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("share")).unwrap();
        let clock = Arc::new(ManualClock::new(NOW));
        let gate = Gate::new(Epoch(1), clock.clone()).watching(most);
        Self::behind(gate, clock, Arc::new(dir), ShareRules::default())
    }

    fn over(dir: Arc<TempDir>, epoch: u64, rules: ShareRules) -> Self {
        let clock = Arc::new(ManualClock::new(NOW));
        let gate = Gate::new(Epoch(epoch), clock.clone());
        Self::behind(gate, clock, dir, rules)
    }

    fn behind(gate: Gate, clock: Arc<ManualClock>, dir: Arc<TempDir>, rules: ShareRules) -> Self {
        let gate = Arc::new(gate);
        let service = add_share(&gate, &dir, "share", rules);
        // A ticket that leaves it to the rules.
        let limits = TicketLimits {
            access: rules.access,
            ..TicketLimits::default()
        };
        let secret = service.state().issue(limits, NOW).unwrap();
        Self {
            gate,
            clock,
            service,
            secret,
            rules,
            dir,
        }
    }

    /// The host ends and begins again.
    pub(crate) fn restart(self) -> Self {
        let (dir, rules) = (self.dir.clone(), self.rules);
        drop(self);
        Self::over(dir, 2, rules)
    }

    /// Serves another folder, `name`, through the same gate.
    pub(crate) fn add_share(&self, name: &str) -> Arc<Service> {
        std::fs::create_dir(self.outside(name)).unwrap();
        add_share(&self.gate, &self.dir, name, self.rules)
    }

    /// A path beside the share.
    pub(crate) fn outside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A path in the share.
    pub(crate) fn at(&self, path: impl AsRef<std::path::Path>) -> PathBuf {
        self.dir.path().join("share").join(path)
    }

    pub(crate) fn write(&self, path: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.at(path), bytes).unwrap();
    }

    pub(crate) fn hello(&self, mount: u8) -> Hello {
        hello(&self.secret, mount)
    }

    pub(crate) async fn admit(&self, hello: &Hello) -> Result<Admission, Refusal> {
        self.gate.admit(hello, &BINDING).await
    }

    pub(crate) async fn session(&self, mount: u8) -> Arc<dyn Serve> {
        self.admit(&self.hello(mount)).await.unwrap().session
    }

    pub(crate) async fn mount(&self) -> Mount {
        self.mount_as(1).await
    }

    pub(crate) async fn mount_as(&self, mount: u8) -> Mount {
        Mount(Loopback::new(self.session(mount).await))
    }

    pub(crate) fn sessions(&self) -> Vec<SessionSnapshot> {
        self.gate.snapshot().shares.swap_remove(0).sessions
    }

    pub(crate) fn counters(&self) -> wormhole::host::CountersSnapshot {
        self.gate.snapshot().shares.swap_remove(0).counters
    }
}

fn add_share(gate: &Gate, dir: &TempDir, name: &str, rules: ShareRules) -> Arc<Service> {
    let path = dir.path().join(name);
    let share = Share::open(&path, Share::name_for(&path)).unwrap();
    let state = HostState::open(&dir.path().join("state")).unwrap();
    let state = state.share(&share).unwrap();
    gate.add_share_with(share, state, rules).unwrap()
}

pub(crate) fn hello(secret: &Secret, mount: u8) -> Hello {
    let mount = MountId([mount; 16]);
    Hello {
        oldest: WireVersion::OLDEST.number(),
        newest: WireVersion::NEWEST.number(),
        features: Features(u64::MAX),
        ticket: secret.id(),
        proof: secret.prove(&BINDING, mount),
        mount,
    }
}

pub(crate) fn name(bytes: impl AsRef<[u8]>) -> Name {
    Name::new(bytes.as_ref()).unwrap()
}

pub(crate) fn node(path: impl AsRef<[u8]>) -> NodeRef {
    NodeRef {
        path: RelPath::new(path.as_ref()).unwrap(),
        expect: None,
    }
}

pub(crate) fn expecting(path: impl AsRef<[u8]>, id: FileId) -> NodeRef {
    NodeRef {
        expect: Some(id),
        ..node(path)
    }
}

pub(crate) fn read(node: NodeRef, offset: u64, len: u64) -> Request {
    Request::Read {
        node,
        range: ByteRange::new(offset, len).unwrap(),
        urgency: ReadUrgency::Demand,
    }
}

/// What a mount sees of the host.
pub(crate) struct Mount(pub(crate) Loopback);

impl Mount {
    pub(crate) async fn call(&self, request: Request) -> Result<Reply, Fault> {
        match self.0.call(request).await {
            Ok(answer) => Ok(answer.reply),
            Err(CallError::Fault(fault)) => Err(fault),
            Err(other) => panic!("{other}"),
        }
    }

    pub(crate) async fn attr(&self, request: Request) -> Result<Attr, Fault> {
        match self.call(request).await? {
            Reply::Attr(attr) => Ok(attr),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn getattr(&self, node: NodeRef) -> Result<Attr, Fault> {
        self.attr(Request::Getattr { node }).await
    }

    pub(crate) async fn lookup(&self, dir: &str, entry: impl AsRef<[u8]>) -> Result<Attr, Fault> {
        let (dir, name) = (node(dir), name(entry));
        self.attr(Request::Lookup { dir, name }).await
    }

    /// A read and all of its payload.
    pub(crate) async fn read(
        &self,
        node: NodeRef,
        offset: u64,
        len: u64,
    ) -> Result<(Attr, Vec<u8>), Fault> {
        match self.0.call(read(node, offset, len)).await {
            Ok(mut answer) => {
                let Reply::Data { attr, len } = answer.reply else {
                    panic!("{:?}", answer.reply)
                };
                let mut bytes = Vec::new();
                match answer.payload.read_to_end(&mut bytes).await {
                    Ok(_) => {
                        assert_eq!(bytes.len() as u64, len, "exactly what was announced");
                        Ok((attr, bytes))
                    }
                    Err(e) => match CallError::from_io(&e) {
                        CallError::Fault(fault) => Err(fault),
                        other => panic!("{other}"),
                    },
                }
            }
            Err(CallError::Fault(fault)) => Err(fault),
            Err(other) => panic!("{other}"),
        }
    }

    /// All frames of a listing.
    pub(crate) async fn frames(&self, dir: NodeRef) -> Result<(Attr, Vec<ListFrame>), Fault> {
        let mut listing = self.begin_list(dir).await?;
        let mut frames = Vec::new();
        while let Some(frame) = listing.next().await? {
            frames.push(frame);
        }
        Ok((listing.attr, frames))
    }

    pub(crate) async fn begin_list(&self, dir: NodeRef) -> Result<Frames, Fault> {
        let begun = self.begin_list_unless(dir, None).await?;
        Ok(begun.expect("nothing was known"))
    }

    /// A listing; none if it is the one that is known.
    async fn begin_list_unless(
        &self,
        dir: NodeRef,
        known: Option<ListingDigest>,
    ) -> Result<Option<Frames>, Fault> {
        match self.0.call(Request::List { dir, known }).await {
            Ok(answer) => match answer.reply {
                Reply::Listing(attr) => Ok(Some(Frames {
                    attr,
                    payload: answer.payload,
                    ended: false,
                })),
                Reply::Unchanged(_) => Ok(None),
                other => panic!("{other:?}"),
            },
            Err(CallError::Fault(fault)) => Err(fault),
            Err(other) => panic!("{other}"),
        }
    }

    /// The names of a directory, unless its listing is the one that is known.
    pub(crate) async fn list_unless(
        &self,
        dir: NodeRef,
        known: ListingDigest,
    ) -> Result<Option<HashSet<Name>>, Fault> {
        let Some(mut listing) = self.begin_list_unless(dir, Some(known)).await? else {
            return Ok(None);
        };
        let mut names = HashSet::new();
        while let Some(frame) = listing.next().await? {
            names.extend(frame.entries.into_iter().map(|entry| entry.name));
        }
        Ok(Some(names))
    }

    /// How many entries a directory has, and the digest of its listing.
    pub(crate) async fn list_with_digest(&self, dir: &str) -> (usize, ListingDigest) {
        let entries = self.list(dir).await.unwrap();
        let mut digester = ListingDigester::default();
        for entry in &entries {
            digester.add(entry);
        }
        (entries.len(), digester.finish().expect("not too many"))
    }

    pub(crate) async fn list(&self, dir: &str) -> Result<Vec<Entry>, Fault> {
        let (_, frames) = self.frames(node(dir)).await?;
        Ok(frames.into_iter().flat_map(|f| f.entries).collect())
    }

    pub(crate) async fn names(&self, dir: &str) -> Vec<Vec<u8>> {
        let entries = self.list(dir).await.unwrap();
        let mut names: Vec<_> = entries.iter().map(|e| e.name.as_bytes().to_vec()).collect();
        names.sort();
        names
    }
}

/// A listing under way.
pub(crate) struct Frames {
    pub(crate) attr: Attr,
    payload: wormhole::rpc::Payload,
    ended: bool,
}

impl Frames {
    /// The next frame; `None` after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<ListFrame>, Fault> {
        let mut prefix = [0; 4];
        if let Err(e) = self.payload.read_exact(&mut prefix).await {
            if let CallError::Fault(fault) = CallError::from_io(&e) {
                return Err(fault);
            }
            assert!(self.ended, "a listing ends with a last frame");
            return Ok(None);
        }
        assert!(!self.ended, "nothing after the last frame");
        let mut body = vec![0; body_len::<ListFrame>(prefix).unwrap()];
        self.payload.read_exact(&mut body).await.unwrap();
        let frame = ListFrame::from_body(&body).unwrap();
        self.ended = frame.last;
        Ok(Some(frame))
    }
}

/// A mount that takes `takes` pieces, keeps them (as a transport does until they are acknowledged),
/// and then reads nothing more.
pub(crate) struct Stuck {
    pub(crate) takes: usize,
    pub(crate) kept: Vec<Bytes>,
    pub(crate) reply: Option<Reply>,
    pub(crate) aborted: Option<Fault>,
}

impl Stuck {
    pub(crate) fn after(takes: usize) -> Self {
        Self {
            takes,
            kept: Vec::new(),
            reply: None,
            aborted: None,
        }
    }
}

impl Sink for Stuck {
    fn reply(&mut self, reply: Reply) -> BoxFuture<'_, Result<(), SinkClosed>> {
        self.reply = Some(reply);
        std::future::ready(Ok(())).boxed()
    }

    fn send(&mut self, bytes: Bytes) -> BoxFuture<'_, Result<(), SinkClosed>> {
        async move {
            if self.kept.len() >= self.takes {
                std::future::pending::<()>().await;
            }
            self.kept.push(bytes);
            Ok(())
        }
        .boxed()
    }

    fn abort(&mut self, fault: Fault) {
        self.aborted = Some(fault);
    }

    fn prioritize(&mut self, _priority: i32) {}
}
