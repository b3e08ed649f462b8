//! What a command line means, checked once.
//!
//! Flags and `-o` options ([`crate::cli`]) say what was typed; the plans here say what is to be done.
//! They are immutable, hold absolute paths, and have no field that nothing obeys. A plan travels as
//! JSON to the daemon process, so that no flag is written down twice.
//!
//! No plan holds a secret: the ticket is handed on beside it.

pub mod places;
pub mod units;

use crate::host::ShareRules;
use crate::mount::beliefs::PrefetchMetadata;
use crate::mount::durability::Durability;
use crate::path_text::PathText;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;
use wormhole_protocol::{Access, Name};

/// UDP port a host tries first.
pub const DEFAULT_PORT: u16 = 7117;
/// Memory cache, if not told otherwise.
pub const L1_BYTES_DEFAULT: u64 = 256 << 20;
/// Smallest memory cache: less cannot hold what one reader has under way.
pub const L1_BYTES_MIN: u64 = 1 << 20;
/// Memory for dirty data, if not told otherwise.
pub const WRITE_BUFFER_BYTES_DEFAULT: u64 = 64 << 20;
/// Least memory for dirty data: a few segments, so that one travels while the next is gathered.
pub const WRITE_BUFFER_BYTES_MIN: u64 = 4 << 20;
/// Disk cache, if not told otherwise.
pub const L2_BYTES_DEFAULT: u64 = 10 << 30;
/// Smallest disk cache.
pub const L2_BYTES_MIN: u64 = 16 << 20;
/// Largest cache of either kind; beyond it, a figure is a slip of the keyboard.
pub const CACHE_BYTES_MAX: u64 = 1 << 50;
/// Longest time they may be.
pub const ATTR_TTL_MAX: Duration = Duration::from_secs(24 * 3600);
/// How long requests wait for a lost host.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
/// Shortest time they may.
pub const TIMEOUT_MIN: Duration = Duration::from_millis(100);
/// Longest time they may.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 3600);
/// Most folders of one host.
pub const FOLDERS_MAX: usize = 64;

/// A figure outside of what makes sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be between {least} and {most}")]
pub struct OutOfRange {
    what: &'static str,
    least: String,
    most: String,
}

/// What `wormhole host` is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPlan {
    /// What is shared; at least one.
    pub folders: Vec<Folder>,
    /// Where to listen; anywhere if `None`.
    pub listen: Option<Address>,
    /// Addresses for the ticket; found out if empty.
    pub advertise: Vec<Address>,
    /// What new tickets allow.
    pub expires: Option<Duration>,
    /// How many mounts at once.
    pub max_mounts: Option<u32>,
    /// What their holders may do, as far as the rules allow it.
    pub ticket_access: Access,
    /// What any mount may do at the most.
    pub rules: ShareRules,
    /// Whether tickets given out before end.
    pub new_ticket: bool,
    /// One JSON object instead of a text for people.
    pub json: bool,
    /// Where metrics are served.
    pub metrics: Option<SocketAddr>,
    /// Where identity and tickets are kept.
    pub state_dir: PathBuf,
}

/// A folder to share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// Where it is.
    pub path: PathBuf,
    /// What mounts see it as; its own name if `None`.
    pub name: Option<Name>,
}

/// An IP address with or without a port: `192.0.2.1`, `192.0.2.1:7117`, `::1`, `[::1]:7117`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub ip: IpAddr,
    /// The port, if one was named.
    pub port: Option<u16>,
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
        if let Ok(ip) = bare.unwrap_or(text).parse() {
            return Ok(Self { ip, port: None });
        }
        text.parse::<SocketAddr>()
            .map(|address| Self {
                ip: address.ip(),
                port: Some(address.port()),
            })
            .map_err(|_| {
                "not an IP address with an optional port, as 192.0.2.1:7117 or [2001:db8::1]:7117"
                    .to_owned()
            })
    }
}

/// As whom files appear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum OwnerMode {
    /// As the user who mounts.
    #[default]
    Me,
    /// With the numbers the host gives.
    Host,
}

/// What `wormhole mount` is to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountPlan {
    /// Where; canonical once [`crate::mount::mountpoint::prepare`] has seen it.
    pub mountpoint: PathText,
    /// Budget of the memory cache.
    pub l1_bytes: u64,
    /// The disk cache, if there is to be one.
    pub l2: Option<L2Plan>,
    /// Memory for what was written and is not on the host yet.
    pub write_buffer_bytes: u64,
    /// When programs are told that what they changed is done.
    pub durability: Durability,
    /// Whether nothing may be changed, whatever the ticket allows.
    pub read_only: bool,
    /// How long attributes and names are believed; `None` is what suits the path.
    pub attr_ttl: Option<Duration>,
    /// What is fetched of names and attributes before anybody asks.
    pub prefetch_metadata: PrefetchMetadata,
    /// How long requests wait for a lost host.
    pub timeout: Duration,
    /// As whom files appear.
    pub owner: OwnerMode,
    /// Whether other users may look.
    pub allow_other: bool,
    /// Whether the kernel may read files that are wholly in the disk cache by itself.
    pub passthrough: bool,
    /// Whether the mount may hide files.
    pub nonempty: bool,
    /// Whether programs in it may not be started.
    pub noexec: bool,
    /// Where metrics are served.
    pub metrics: Option<SocketAddr>,
}

/// A disk cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct L2Plan {
    /// Its directory.
    pub root: PathText,
    /// Its budget.
    pub budget_bytes: u64,
}

/// Checks the size of the memory cache.
///
/// # Errors
/// [`OutOfRange`].
pub fn l1_bytes(bytes: u64) -> Result<u64, OutOfRange> {
    size_in("the memory cache (l1-size)", bytes, L1_BYTES_MIN)
}

/// Checks the memory for dirty data.
///
/// # Errors
/// [`OutOfRange`].
pub fn write_buffer_bytes(bytes: u64) -> Result<u64, OutOfRange> {
    size_in(
        "the memory for what is being written (write-buffer)",
        bytes,
        WRITE_BUFFER_BYTES_MIN,
    )
}

/// Checks the size of the disk cache.
///
/// # Errors
/// [`OutOfRange`].
pub fn l2_bytes(bytes: u64) -> Result<u64, OutOfRange> {
    size_in("the disk cache (l2-size)", bytes, L2_BYTES_MIN)
}

/// Checks how long attributes are believed.
///
/// # Errors
/// [`OutOfRange`].
pub fn attr_ttl(ttl: Duration) -> Result<Duration, OutOfRange> {
    time_in("attr-ttl", ttl, Duration::ZERO, ATTR_TTL_MAX)
}

/// Checks how long requests wait.
///
/// # Errors
/// [`OutOfRange`].
pub fn timeout(timeout: Duration) -> Result<Duration, OutOfRange> {
    time_in("timeout", timeout, TIMEOUT_MIN, TIMEOUT_MAX)
}

fn size_in(what: &'static str, bytes: u64, least: u64) -> Result<u64, OutOfRange> {
    if (least..=CACHE_BYTES_MAX).contains(&bytes) {
        return Ok(bytes);
    }
    Err(OutOfRange {
        what,
        least: units::show_bytes(least),
        most: units::show_bytes(CACHE_BYTES_MAX),
    })
}

fn time_in(
    what: &'static str,
    time: Duration,
    least: Duration,
    most: Duration,
) -> Result<Duration, OutOfRange> {
    if (least..=most).contains(&time) {
        return Ok(time);
    }
    Err(OutOfRange {
        what,
        least: humantime::format_duration(least).to_string(),
        most: humantime::format_duration(most).to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_with_and_without_a_port() {
        let read = |text: &str| {
            let address: Address = text.parse().unwrap();
            (address.ip.to_string(), address.port)
        };
        assert_eq!(read("192.0.2.1"), ("192.0.2.1".into(), None));
        assert_eq!(read("192.0.2.1:0"), ("192.0.2.1".into(), Some(0)));
        assert_eq!(read("::1"), ("::1".into(), None));
        assert_eq!(read("[::1]"), ("::1".into(), None));
        assert_eq!(read("[::1]:7117"), ("::1".into(), Some(7117)));
        for wrong in [
            "",
            "host",
            "1.2.3",
            "1.2.3.4:",
            "1.2.3.4:99999",
            "[::1]:x",
            "[]",
        ] {
            assert!(wrong.parse::<Address>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn figures_out_of_range_are_named() {
        let error = l1_bytes(4096).unwrap_err().to_string();
        assert!(
            error.contains("l1-size") && error.contains("1 MiB"),
            "{error}"
        );
        assert!(l2_bytes(1 << 20).is_err() && l2_bytes(u64::MAX).is_err());
        assert!(timeout(Duration::ZERO).is_err() && timeout(TIMEOUT_MAX).is_ok());
        assert!(attr_ttl(Duration::ZERO).is_ok());
        assert!(attr_ttl(Duration::MAX).is_err());
    }

    #[test]
    fn a_plan_survives_the_way_to_the_daemon() {
        use std::os::unix::ffi::OsStrExt;
        let plan = MountPlan {
            mountpoint: std::ffi::OsStr::from_bytes(b"/m\xff\n,x").into(),
            l1_bytes: 7,
            l2: Some(L2Plan {
                root: "/c".into(),
                budget_bytes: 9,
            }),
            write_buffer_bytes: 11 << 20,
            durability: Durability::Memory,
            read_only: true,
            attr_ttl: Some(Duration::from_millis(1500)),
            prefetch_metadata: PrefetchMetadata::All,
            timeout: Duration::from_secs(3),
            owner: OwnerMode::Host,
            allow_other: true,
            passthrough: false,
            nonempty: true,
            noexec: true,
            metrics: Some("127.0.0.1:9".parse().unwrap()),
        };
        let json = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<MountPlan>(&json).unwrap(), plan);
    }
}
