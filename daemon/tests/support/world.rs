//! A host and mounts in this process, over QUIC on loopback, with real FUSE mounts.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use wormhole::host::{Gate, HostState, Share, SystemClock, TicketLimits};
use wormhole::mount::fuse::{FuseOptions, Owner};
use wormhole::mount::{MountConfig, Mounted};
use wormhole::transport::{Dialer, Identity, ServerEndpoint, server};
use wormhole_cache::DiskConfig;
use wormhole_protocol::{Epoch, MountId, Ticket};

/// A host that serves one folder.
pub struct Host {
    pub ticket: Ticket,
    pub address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: Option<JoinHandle<()>>,
}

impl Host {
    /// Serves `folder` at `address` with the state in `state`.
    pub async fn start(folder: &Path, state: &Path, address: &str) -> Self {
        let identity = Identity::load_or_create(state).unwrap();
        let host_state = HostState::open(state).unwrap();
        let share = Share::open(folder, Share::name_for(folder)).unwrap();
        let share_state = host_state.share(&share).unwrap();
        let secret = share_state.issue(TicketLimits::default(), 0).unwrap();
        let gate = Arc::new(Gate::new(Epoch(rand()), Arc::new(SystemClock::default())));
        gate.add_share(share, share_state).unwrap();
        let endpoint = ServerEndpoint::bind(address.parse().unwrap(), &identity).unwrap();
        let address = endpoint.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(server::serve(endpoint, gate, Arc::default(), async move {
            let _ = stopped.await;
        }));
        let ticket = Ticket {
            host: identity.host_key(),
            secret,
            addresses: vec![address],
        };
        Self {
            ticket,
            address,
            stop: Some(stop),
            task: Some(task),
        }
    }

    pub async fn stop(mut self) {
        drop(self.stop.take());
        self.task.take().unwrap().await.unwrap();
    }
}

/// How a test mounts.
#[derive(Clone)]
pub struct Options {
    pub l1_bytes: u64,
    pub l2: Option<PathBuf>,
    pub attr_ttl: Duration,
    pub timeout: Duration,
    pub owner: Owner,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            l1_bytes: 256 << 20,
            l2: None,
            attr_ttl: Duration::from_secs(1),
            timeout: Duration::from_secs(30),
            owner: Owner::Host,
        }
    }
}

/// Mounts the share of `ticket` at `mountpoint`.
pub async fn mount(ticket: &Ticket, mountpoint: &Path, options: &Options) -> Mounted {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&rand().to_le_bytes());
    let dialer = Dialer::new(ticket.clone(), MountId(id)).unwrap();
    let config = MountConfig {
        mountpoint: mountpoint.to_owned(),
        l1_bytes: options.l1_bytes,
        l2: options.l2.clone().map(|root| DiskConfig {
            root,
            budget_bytes: 10 << 30,
        }),
        attr_ttl: Some(options.attr_ttl),
        timeout: options.timeout,
        fuse: FuseOptions {
            fs_name: "wormhole-test".into(),
            owner: options.owner,
            allow_other: false,
            noexec: false,
            threads: 2,
        },
    };
    Mounted::start(config, Arc::new(dialer)).await.unwrap()
}

pub fn rand() -> u64 {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).unwrap();
    u64::from_le_bytes(bytes)
}
