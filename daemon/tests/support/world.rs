//! A host and mounts in this process, over QUIC on loopback, with real FUSE mounts.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use wormhole::host::{Gate, HostState, Share, ShareRules, ShareState, SystemClock, TicketLimits};
use wormhole::mount::beliefs::PrefetchMetadata;
use wormhole::mount::durability::Durability;
use wormhole::mount::fuse::{FuseOptions, Owner};
use wormhole::mount::{MountConfig, Mounted};
use wormhole::transport::{Dialer, Identity, ServerEndpoint, server};
use wormhole_cache::DiskConfig;
use wormhole_protocol::{Access, Epoch, MountId, Secret, Ticket};

/// A host that serves one folder.
pub struct Host {
    /// Grants what the share's rules do.
    pub ticket: Ticket,
    /// Only to look.
    pub ticket_to_look: Ticket,
    pub address: SocketAddr,
    gate: Arc<Gate>,
    stop: Option<oneshot::Sender<()>>,
    task: Option<JoinHandle<()>>,
}

impl Host {
    /// Serves `folder`, to be read, at `address` with the state in `state`.
    pub async fn start(folder: &Path, state: &Path, address: &str) -> Self {
        Self::start_with(folder, state, address, ShareRules::default()).await
    }

    /// The same, under `rules`.
    pub async fn start_with(folder: &Path, state: &Path, address: &str, rules: ShareRules) -> Self {
        let identity = Identity::load_or_create(state).unwrap();
        let host_state = HostState::open(state).unwrap();
        let share = Share::open(folder, Share::name_for(folder)).unwrap();
        let share_state = host_state.share(&share).unwrap();
        let secret = issue(&share_state, rules.access);
        let secret_to_look = issue(&share_state, Access::Read);
        let gate = Arc::new(Gate::new(Epoch(rand()), Arc::new(SystemClock::default())));
        gate.add_share_with(share, share_state, rules).unwrap();
        let endpoint = ServerEndpoint::bind(address.parse().unwrap(), &identity).unwrap();
        let address = endpoint.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let served = gate.clone();
        let told = async move { drop(stopped.await) };
        let task = tokio::spawn(server::serve(endpoint, served, Arc::default(), told));
        let ticket = |secret| Ticket {
            host: identity.host_key(),
            secret,
            addresses: vec![address],
        };
        Self {
            ticket: ticket(secret),
            ticket_to_look: ticket(secret_to_look),
            address,
            gate,
            stop: Some(stop),
            task: Some(task),
        }
    }

    /// Directories it watches, because somebody has a lease on them.
    pub fn watches(&self) -> u64 {
        self.gate.snapshot().shares[0].leases.watches
    }

    pub async fn stop(mut self) {
        drop(self.stop.take());
        self.task.take().unwrap().await.unwrap();
    }
}

fn issue(state: &ShareState, access: Access) -> Secret {
    let limits = TicketLimits {
        access,
        ..TicketLimits::default()
    };
    state.issue(limits, 0).unwrap()
}

/// How a test mounts.
#[derive(Clone)]
pub struct Options {
    pub l1_bytes: u64,
    pub l2: Option<PathBuf>,
    pub attr_ttl: Duration,
    pub timeout: Duration,
    pub owner: Owner,
    pub allow_other: bool,
    pub write_buffer_bytes: u64,
    pub durability: Durability,
    pub passthrough: bool,
    pub prefetch_metadata: PrefetchMetadata,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            l1_bytes: 256 << 20,
            l2: None,
            attr_ttl: Duration::from_secs(1),
            timeout: Duration::from_secs(30),
            owner: Owner::Host,
            allow_other: false,
            write_buffer_bytes: 64 << 20,
            durability: Durability::Strict,
            passthrough: true,
            // Tests count what each walk asks.
            prefetch_metadata: PrefetchMetadata::Off,
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
        prefetch_metadata: options.prefetch_metadata,
        timeout: options.timeout,
        write_buffer_bytes: options.write_buffer_bytes,
        durability: options.durability,
        read_only: false,
        passthrough: options.passthrough,
        fuse: FuseOptions {
            fs_name: "wormhole-test".into(),
            owner: options.owner,
            allow_other: options.allow_other,
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
