//! Two machines and a bad link between them, on this machine.
//!
//! ```text
//! host 10.77.0.1 ───────── the link ───────── 10.77.0.2 mount
//! ```
//!
//! Both ends are network namespaces that hold nothing but their end of the link and a loopback
//! interface: nothing gets in or out. The emulation sits between them, never on an end, and sees single
//! packets. A lab lives inside a [`sandbox`](crate::sandbox), whose end is its end; names in it
//! (`/run/netns/host`) are seen by nobody else.

mod commands;
mod device;

use crate::link_end::{LinkEnd, inside};
use crate::profile::Profile;
use crate::sandbox::unshare;
use crate::{tc, tun};
pub use commands::CommandError;
use commands::ip;
use device::open_tun;
use rustix::fs::{Mode, OFlags, open};
use rustix::mount::mount_bind;
use rustix::thread::UnshareFlags;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::str::FromStr;
use std::time::Duration;

pub(crate) use commands::{ip as run_ip, tc as run_tc};

/// Address of the host's end.
pub const HOST_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// Address of the mount's end.
pub const MOUNT_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// Both, as a network.
const PREFIX_BITS: u8 = 24;
/// Largest packet of a link, IP headers included.
pub const MTU_BYTES: u32 = 1500;
/// The interface at either end.
pub(crate) const INTERFACE: &str = "link0";

/// How a link is emulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Backend {
    /// Nothing to emulate: a pair of virtual interfaces.
    Veth,
    /// The kernel: `tc` with netem and tbf, in a namespace between the ends.
    Tc,
    /// User space: a thread moves packets between two TUN devices.
    Tun,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Veth => "veth",
            Self::Tc => "tc",
            Self::Tun => "tun",
        })
    }
}

/// No backend has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no way to emulate a link is called \"{}\"; there are: tc, tun", .0.escape_debug())]
pub struct UnknownBackend(pub String);

impl FromStr for Backend {
    type Err = UnknownBackend;

    /// Those that can be asked for; veth is what a plain link gets.
    fn from_str(name: &str) -> Result<Self, UnknownBackend> {
        match name {
            "tc" => Ok(Self::Tc),
            "tun" => Ok(Self::Tun),
            _ => Err(UnknownBackend(name.to_owned())),
        }
    }
}

/// Why there is no lab.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// A network namespace could not be made.
    #[error("making a network namespace: {0}")]
    Namespace(io::Error),
    /// `ip` or `tc` failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// There is no TUN device to be had.
    #[error(
        "no TUN device: {0}. Is there a /dev/net/tun (`modprobe tun`), and may this user open it?"
    )]
    Tun(io::Error),
    /// The kernel has no netem.
    #[error(
        "this kernel cannot emulate links with tc ({0}). `modprobe sch_netem` may help; --link tun needs no kernel support"
    )]
    NoNetem(CommandError),
    /// Neither way works.
    #[error("this machine can emulate no link. With tc: {tc}. With tun: {tun}")]
    Neither {
        /// What was wrong with tc.
        tc: Box<LabError>,
        /// What was wrong with tun.
        tun: Box<LabError>,
    },
}

/// A link with two ends; gone when dropped, together with everything that still uses it.
pub struct Lab {
    host: LinkEnd,
    mount: LinkEnd,
    backend: Backend,
    // Dropped after the nodes: packets move while there are ends.
    link: Link,
}

/// What keeps a link alive.
enum Link {
    /// The namespaces alone.
    Kernel,
    Tun(tun::Mover),
}

impl Lab {
    /// Sets up a lab with `profile`'s link. Without a wish for a backend the kernel's own netem is taken
    /// where it exists, user space elsewhere. `seed` decides the fate of packets in user space; the
    /// kernel has its own dice.
    ///
    /// # Errors
    /// [`LabError`].
    pub fn open(profile: &Profile, wish: Option<Backend>, seed: u64) -> Result<Self, LabError> {
        if profile.is_plain() {
            return Self::plain();
        }
        match wish {
            Some(Backend::Tun) => Self::with_tun(profile, seed),
            Some(Backend::Tc | Backend::Veth) => Self::with_tc(profile),
            None => Self::with_tc(profile).or_else(|tc| {
                Self::with_tun(profile, seed).map_err(|tun| LabError::Neither {
                    tc: Box::new(tc),
                    tun: Box::new(tun),
                })
            }),
        }
    }

    /// Where the folder is.
    pub fn host(&self) -> &LinkEnd {
        &self.host
    }

    /// Where it is mounted.
    pub fn mount(&self) -> &LinkEnd {
        &self.mount
    }

    /// How the link is emulated.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// What the link did to packets so far, towards the mount and towards the host, where that is known.
    pub fn counters(&self) -> Option<[crate::shaper::Counters; 2]> {
        match &self.link {
            Link::Kernel => None,
            Link::Tun(mover) => Some(mover.counters()),
        }
    }

    /// What the emulation took off the delay of either direction, because it takes so long itself. `None`
    /// where it does not know.
    pub fn own_cost(&self) -> Option<Duration> {
        match &self.link {
            Link::Kernel => None,
            Link::Tun(mover) => Some(mover.own_cost()),
        }
    }

    fn plain() -> Result<Self, LabError> {
        let (host, mount) = (namespace("host")?, namespace("mount")?);
        ip(&format!(
            "link add {INTERFACE} netns host mtu {MTU_BYTES} type veth peer name {INTERFACE} netns mount mtu {MTU_BYTES}"
        ))?;
        Self::finish(host, mount, Backend::Veth, Link::Kernel)
    }

    fn with_tc(profile: &Profile) -> Result<Self, LabError> {
        let (host, mount) = (namespace("host")?, namespace("mount")?);
        namespace("middle")?;
        tc::set_up(profile)?;
        Self::finish(host, mount, Backend::Tc, Link::Kernel)
    }

    fn with_tun(profile: &Profile, seed: u64) -> Result<Self, LabError> {
        let (host, mount) = (namespace("host")?, namespace("mount")?);
        let open = |namespace: &OwnedFd| {
            inside(namespace, || open_tun(INTERFACE))
                .and_then(|done| done)
                .map_err(LabError::Tun)
        };
        let ends = [open(&host)?, open(&mount)?];
        for name in ["host", "mount"] {
            tun::configure(name)?;
        }
        let mover = tun::Mover::start(profile, seed, ends).map_err(LabError::Tun)?;
        Self::finish(host, mount, Backend::Tun, Link::Tun(mover))
    }

    fn finish(
        host: OwnedFd,
        mount: OwnedFd,
        backend: Backend,
        link: Link,
    ) -> Result<Self, LabError> {
        for (name, address) in [("host", HOST_ADDRESS), ("mount", MOUNT_ADDRESS)] {
            ip(&format!("-n {name} link set lo up"))?;
            ip(&format!(
                "-n {name} address add {address}/{PREFIX_BITS} dev {INTERFACE}"
            ))?;
            ip(&format!("-n {name} link set {INTERFACE} up"))?;
        }
        Ok(Self {
            host: LinkEnd::new(HOST_ADDRESS.into(), host),
            mount: LinkEnd::new(MOUNT_ADDRESS.into(), mount),
            backend,
            link,
        })
    }
}

/// A new network namespace, and a name for it in `/run/netns` that `ip` and `nsenter` know. An earlier
/// one of that name is given up.
fn namespace(name: &str) -> Result<OwnedFd, LabError> {
    let make = || -> io::Result<OwnedFd> {
        let path = format!("/run/netns/{name}");
        if std::fs::exists(&path)? {
            rustix::mount::unmount(&path, rustix::mount::UnmountFlags::DETACH)?;
        } else {
            std::fs::File::create(&path)?;
        }
        std::thread::scope(|scope| {
            let made = scope.spawn(|| {
                unshare(UnshareFlags::NEWNET)?;
                let own = "/proc/thread-self/ns/net";
                mount_bind(own, &path)?;
                Ok(open(own, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
            });
            made.join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    };
    make().map_err(LabError::Namespace)
}
