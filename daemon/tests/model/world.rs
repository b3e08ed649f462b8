//! A real host in this process, and connections to it that can be cut.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::watch;
use wormhole::host::{Gate, HostState, Share, ShareRules, ShareState, SystemClock, TicketLimits};
use wormhole::mount::durability::Durability;
use wormhole::mount::link::Link;
use wormhole::mount::opens::Opens;
use wormhole::mount::vfs::{Vfs, VfsConfig};
use wormhole::rpc::loopback::Loopback;
use wormhole::rpc::{
    Answer, Body, CallError, Connect, ConnectFailure, Connected, Gate as _, PathEstimate, Remote,
};
use wormhole_protocol::{Access, Epoch, Features, Hello, MountId, Request, Secret, WireVersion};

/// What the TLS session would have exported.
const BINDING: [u8; 32] = [9; 32];

/// A host that serves an empty folder to be written.
pub(crate) struct World {
    dir: TempDir,
    gate: Arc<Mutex<Arc<Gate>>>,
    secret: Secret,
}

impl World {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("share");
        std::fs::create_dir(&folder).unwrap();
        let share = Share::open(&folder, Share::name_for(&folder)).unwrap();
        let state = HostState::open(&dir.path().join("state")).unwrap();
        let state = state.share(&share).unwrap();
        let limits = TicketLimits {
            access: Access::ReadWrite,
            ..TicketLimits::default()
        };
        let secret = state.issue(limits, 0).unwrap();
        let gate = Mutex::new(gate(share, state, 1));
        Self {
            dir,
            gate: Arc::new(gate),
            secret,
        }
    }

    /// The host ends and begins anew, once the sessions with it, which have to be cut, are over.
    #[allow(dead_code, reason = "not all who have this module restart it")]
    pub(crate) async fn restart(&self) {
        let none = Gate::new(Epoch(2), Arc::new(SystemClock::default()));
        *self.gate.lock().unwrap() = Arc::new(none);
        let share = || Share::open(&self.folder(), Share::name_for(&self.folder())).unwrap();
        let state = loop {
            let state = HostState::open(&self.dir.path().join("state")).unwrap();
            match state.share(&share()) {
                Ok(state) => break state,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        };
        *self.gate.lock().unwrap() = gate(share(), state, 3);
    }

    /// The folder.
    pub(crate) fn folder(&self) -> PathBuf {
        self.dir.path().join("share")
    }

    /// A mount, and the door it goes through. It believes what is leased, or nothing.
    pub(crate) async fn mount(
        &self,
        number: u8,
        leases: bool,
        durability: Durability,
    ) -> (Arc<Vfs>, Arc<Door>, Arc<Link>) {
        let door = Arc::new(Door {
            gate: self.gate.clone(),
            secret: self.secret.clone(),
            mount: MountId([number; 16]),
            way: Mutex::default(),
            delay_ms: Arc::default(),
            is_shut: AtomicBool::new(false),
        });
        let timeout = Duration::from_secs(20);
        let (link, welcome) = Link::open(door.clone(), timeout).await.unwrap();
        assert!(welcome.access.writes());
        let config = VfsConfig {
            // What is under no lease is over before it can be used.
            attr_ttl: Duration::from_nanos(leases.into()),
            timeout,
            l1_bytes: 8 << 20,
            write_buffer_bytes: 1 << 20,
            durability,
            access: welcome.access,
        };
        let vfs = Vfs::new(config, welcome.share, welcome.root, link.clone(), None);
        let vfs = Arc::new(vfs);
        let opens: std::sync::Weak<Opens> = Arc::downgrade(vfs.opens());
        link.reclaim_by(opens);
        vfs.listen();
        (vfs, door, link)
    }
}

fn gate(share: Share, state: ShareState, epoch: u64) -> Arc<Gate> {
    let gate = Gate::new(Epoch(epoch), Arc::new(SystemClock::default()));
    let rules = ShareRules {
        access: Access::ReadWrite,
        ..ShareRules::default()
    };
    gate.add_share_with(share, state, rules).unwrap();
    Arc::new(gate)
}

/// The way of one mount to the host.
pub(crate) struct Door {
    gate: Arc<Mutex<Arc<Gate>>>,
    secret: Secret,
    mount: MountId,
    way: Mutex<Option<Arc<Way>>>,
    /// How long each call takes.
    pub(crate) delay_ms: Arc<AtomicU64>,
    /// Nobody gets in.
    pub(crate) is_shut: AtomicBool,
}

impl Door {
    /// Ends the present session: what waits for an answer gets none.
    pub(crate) fn cut(&self) {
        if let Some(way) = self.way.lock().unwrap().take() {
            way.cut.send_replace(true);
        }
    }
}

impl Connect for Door {
    fn connect(&self) -> BoxFuture<'_, Result<Connected, ConnectFailure>> {
        async move {
            let hello = Hello {
                oldest: WireVersion::OLDEST.number(),
                newest: WireVersion::NEWEST.number(),
                features: Features(u64::MAX),
                ticket: self.secret.id(),
                proof: self.secret.prove(&BINDING, self.mount),
                mount: self.mount,
            };
            if self.is_shut.load(Ordering::Relaxed) {
                return Err(ConnectFailure {
                    message: "shut".to_owned(),
                    is_final: false,
                });
            }
            let gate = self.gate.lock().unwrap().clone();
            let admission = gate.admit(&hello, &BINDING).await.unwrap();
            let way = Arc::new(Way {
                host: Loopback::new(admission.session),
                cut: watch::Sender::new(false),
                delay_ms: self.delay_ms.clone(),
            });
            let before = self.way.lock().unwrap().replace(way.clone());
            assert!(before.is_none_or(|way| *way.cut.borrow()));
            Ok((way as Arc<dyn Remote>, admission.welcome))
        }
        .boxed()
    }
}

/// A session that can be cut.
struct Way {
    host: Loopback,
    cut: watch::Sender<bool>,
    delay_ms: Arc<AtomicU64>,
}

impl Remote for Way {
    fn call_with(&self, request: Request, body: Body) -> BoxFuture<'_, Result<Answer, CallError>> {
        let delay = Duration::from_millis(self.delay_ms.load(Ordering::Relaxed));
        let answered = async move {
            if !delay.is_zero() {
                tokio::time::sleep(delay / 2).await;
            }
            let answer = self.host.call_with(request, body).await;
            if !delay.is_zero() {
                tokio::time::sleep(delay / 2).await;
            }
            answer
        };
        async move {
            tokio::select! {
                biased;
                () = self.closed() => Err(CallError::Link),
                answer = answered => answer,
            }
        }
        .boxed()
    }

    fn path(&self) -> PathEstimate {
        self.host.path()
    }

    fn closed(&self) -> BoxFuture<'_, ()> {
        async move {
            let _ = self.cut.subscribe().wait_for(|cut| *cut).await;
        }
        .boxed()
    }
}
