//! The options behind `-o`, as fstab, mount(8) and mount.fuse3 hand them over.
//!
//! Ours say the same as the flags of `wormhole mount`. Of the generic ones, those that mount(8) deals
//! with itself are accepted and need nothing from us; those that would promise something that is not
//! kept are refused. The mount is always `nosuid` and `nodev`.

use crate::config::{OwnerMode, units};
use crate::mount::beliefs::PrefetchMetadata;
use crate::mount::durability::Durability;
use anyhow::{Context, bail};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Who hands the options over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Caller {
    /// Somebody who typed them after `wormhole mount`.
    Person,
    /// mount(8), which writes `rw` and mount.fuse3, which writes `dev,suid` where nothing was said.
    MountProgram {
        /// Options nobody knows are no error (`-s`).
        sloppy: bool,
    },
}

/// What the options say; `None` where they say nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct MountOptions {
    /// `l1_size=`
    pub(super) l1_bytes: Option<u64>,
    /// `l2_size=`
    pub(super) l2_bytes: Option<u64>,
    /// `cache_dir=`
    pub(super) cache_dir: Option<PathBuf>,
    /// `no_l2`
    pub(super) no_l2: bool,
    /// `attr_ttl=`
    pub(super) attr_ttl: Option<Duration>,
    /// `prefetch_metadata=`
    pub(super) prefetch_metadata: Option<PrefetchMetadata>,
    /// `timeout=`
    pub(super) timeout: Option<Duration>,
    /// `owner=`
    pub(super) owner: Option<OwnerMode>,
    /// `allow_other`
    pub(super) allow_other: bool,
    /// `no_passthrough`
    pub(super) no_passthrough: bool,
    /// `nonempty`
    pub(super) nonempty: bool,
    /// `noexec`
    pub(super) noexec: bool,
    /// `ticket_file=`
    pub(super) ticket_file: Option<PathBuf>,
    /// `metrics=`
    pub(super) metrics: Option<SocketAddr>,
    /// `ro`
    pub(super) read_only: bool,
    /// `write_buffer=`
    pub(super) write_buffer_bytes: Option<u64>,
    /// `durability=`
    pub(super) durability: Option<Durability>,
}

/// Dealt with by mount(8), systemd or the kernel, or without effect here.
const GENERIC: &[&str] = &[
    "",
    "defaults",
    "auto",
    "noauto",
    "nofail",
    "_netdev",
    "user",
    "nouser",
    "users",
    "nousers",
    "owner",
    "noowner",
    "group",
    "nogroup",
    "nosuid",
    "nodev",
    "atime",
    "noatime",
    "relatime",
    "norelatime",
    "strictatime",
    "nostrictatime",
    "diratime",
    "nodiratime",
    "lazytime",
    "nolazytime",
    "sync",
    "async",
    "dirsync",
    "silent",
    "loud",
    "default_permissions",
];

impl MountOptions {
    /// Reads comma-separated lists of options; the last of two that contradict each other counts.
    ///
    /// # Errors
    /// A sentence naming the option that is unknown, malformed or cannot be kept.
    pub(super) fn parse<'a>(
        lists: impl IntoIterator<Item = &'a str>,
        caller: Caller,
    ) -> anyhow::Result<Self> {
        let mut options = Self::default();
        for option in lists.into_iter().flat_map(|list| list.split(',')) {
            options
                .take(option, caller)
                .with_context(|| format!("mount option \"{}\"", option.escape_default()))?;
        }
        Ok(options)
    }

    fn take(&mut self, option: &str, caller: Caller) -> anyhow::Result<()> {
        match option.split_once('=') {
            Some((key, value)) => self.take_valued(key, value, caller),
            None => self.take_plain(option, caller),
        }
    }

    fn take_valued(&mut self, key: &str, value: &str, caller: Caller) -> anyhow::Result<()> {
        let told = anyhow::Error::msg;
        match key {
            "l1_size" => self.l1_bytes = Some(units::parse_bytes(value).map_err(told)?),
            "l2_size" => self.l2_bytes = Some(units::parse_bytes(value).map_err(told)?),
            "cache_dir" => self.cache_dir = Some(path(value)?),
            "write_buffer" => {
                self.write_buffer_bytes = Some(units::parse_bytes(value).map_err(told)?);
            }
            "durability" => {
                self.durability = Some(match value {
                    "strict" => Durability::Strict,
                    "memory" => Durability::Memory,
                    _ => bail!("is durability=strict or durability=memory"),
                });
            }
            "attr_ttl" => self.attr_ttl = Some(units::parse_time(value).map_err(told)?),
            "timeout" => self.timeout = Some(units::parse_time(value).map_err(told)?),
            "prefetch_metadata" => {
                self.prefetch_metadata = Some(match value {
                    "off" => PrefetchMetadata::Off,
                    "lazy" => PrefetchMetadata::Lazy,
                    "all" => PrefetchMetadata::All,
                    _ => bail!("is one of prefetch_metadata=off, =lazy and =all"),
                });
            }
            "owner" => {
                self.owner = Some(match value {
                    "me" => OwnerMode::Me,
                    "host" => OwnerMode::Host,
                    _ => bail!("is either owner=me or owner=host"),
                });
            }
            "ticket_file" => self.ticket_file = Some(path(value)?),
            "metrics" => self.metrics = Some(value.parse().context("needs ADDRESS:PORT")?),
            "comment" => {}
            key if is_private(key) => {}
            _ => return unknown(caller),
        }
        Ok(())
    }

    fn take_plain(&mut self, option: &str, caller: Caller) -> anyhow::Result<()> {
        match option {
            "no_l2" => self.no_l2 = true,
            "allow_other" => self.allow_other = true,
            "no_passthrough" => self.no_passthrough = true,
            "nonempty" => self.nonempty = true,
            "noexec" => self.noexec = true,
            "exec" => self.noexec = false,
            "ro" => self.read_only = true,
            "rw" => self.read_only = false,
            // mount.fuse3 adds these for root unasked, so they cannot be an error.
            "suid" | "dev" if caller != Caller::Person => {}
            "suid" | "dev" => bail!("is not possible: mounts are always nosuid and nodev"),
            "remount" => bail!("is not possible: unmount and mount again"),
            option if GENERIC.contains(&option) => {
                if matches!(option, "user" | "users" | "owner" | "group") {
                    // fstab(5): these imply noexec unless a later option says otherwise.
                    self.noexec = true;
                }
            }
            option if is_private(option) => {}
            _ => return unknown(caller),
        }
        Ok(())
    }
}

/// Comments, and what systemd and others read from fstab.
fn is_private(key: &str) -> bool {
    key.starts_with("x-") || key.starts_with("X-")
}

fn path(value: &str) -> anyhow::Result<PathBuf> {
    if value.is_empty() {
        bail!("needs a path");
    }
    Ok(PathBuf::from(value))
}

fn unknown(caller: Caller) -> anyhow::Result<()> {
    if caller == (Caller::MountProgram { sloppy: true }) {
        return Ok(());
    }
    bail!(
        "is unknown; known are l1_size= l2_size= cache_dir= no_l2 write_buffer= durability= \
         attr_ttl= prefetch_metadata= timeout= owner= allow_other no_passthrough nonempty noexec \
         ticket_file= metrics= ro rw"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROGRAM: Caller = Caller::MountProgram { sloppy: false };

    fn read(list: &str) -> MountOptions {
        MountOptions::parse([list], Caller::Person).unwrap()
    }

    fn refusal(list: &str, caller: Caller) -> String {
        format!("{:#}", MountOptions::parse([list], caller).unwrap_err())
    }

    #[test]
    fn each_of_ours_changes_one_thing() {
        let default = MountOptions::default;
        let cases = [
            (
                "l1_size=64M",
                MountOptions {
                    l1_bytes: Some(64 << 20),
                    ..default()
                },
            ),
            (
                "l2_size=1G",
                MountOptions {
                    l2_bytes: Some(1 << 30),
                    ..default()
                },
            ),
            (
                "cache_dir=/a=b",
                MountOptions {
                    cache_dir: Some("/a=b".into()),
                    ..default()
                },
            ),
            (
                "no_l2",
                MountOptions {
                    no_l2: true,
                    ..default()
                },
            ),
            (
                "attr_ttl=2",
                MountOptions {
                    attr_ttl: Some(Duration::from_secs(2)),
                    ..default()
                },
            ),
            (
                "timeout=1m",
                MountOptions {
                    timeout: Some(Duration::from_secs(60)),
                    ..default()
                },
            ),
            (
                "owner=host",
                MountOptions {
                    owner: Some(OwnerMode::Host),
                    ..default()
                },
            ),
            (
                "allow_other",
                MountOptions {
                    allow_other: true,
                    ..default()
                },
            ),
            (
                "no_passthrough",
                MountOptions {
                    no_passthrough: true,
                    ..default()
                },
            ),
            (
                "nonempty",
                MountOptions {
                    nonempty: true,
                    ..default()
                },
            ),
            (
                "noexec",
                MountOptions {
                    noexec: true,
                    ..default()
                },
            ),
            (
                "ticket_file=/t",
                MountOptions {
                    ticket_file: Some("/t".into()),
                    ..default()
                },
            ),
            (
                "metrics=[::1]:9",
                MountOptions {
                    metrics: Some("[::1]:9".parse().unwrap()),
                    ..default()
                },
            ),
        ];
        for (list, meant) in cases {
            assert_eq!(read(list), meant, "{list}");
        }
    }

    #[test]
    fn what_mount_deals_with_is_accepted() {
        let list = "rw,noauto,nofail,_netdev,nouser,x-systemd.automount,x-gvfs-show,\
                    X-mount.mkdir=0700,comment=a b,defaults,nosuid,nodev,noatime,";
        assert_eq!(read(list), MountOptions::default());
        assert!(read("user").noexec);
        assert!(!read("users,exec").noexec);
    }

    #[test]
    fn the_last_of_ro_and_rw_counts() {
        // What mount(8) and mount.fuse3 really pass.
        let given = MountOptions::parse(["rw,dev,suid"], PROGRAM).unwrap();
        assert!(!given.read_only);
        let given = MountOptions::parse(["rw", "ro,l1_size=8M"], PROGRAM).unwrap();
        assert!(given.read_only);
        assert!(!read("ro,rw").read_only);
        assert_eq!(read("write_buffer=8M").write_buffer_bytes, Some(8 << 20));
    }

    #[test]
    fn what_cannot_be_kept_is_refused_by_name() {
        for list in [
            "suid",
            "dev",
            "remount",
            "owner=root",
            "l1_size=x",
            "cache_dir=",
            "metrics=9",
        ] {
            let text = refusal(list, Caller::Person);
            assert!(text.contains(list), "{text}");
        }
        assert!(refusal("ro,l1size=1M", PROGRAM).contains("l1size=1M"));
        assert!(refusal("fsname=a", PROGRAM).contains("unknown"));
        assert!(refusal("a\x1b[2J", PROGRAM).contains("\\u{1b}"));
        let sloppy = Caller::MountProgram { sloppy: true };
        assert!(MountOptions::parse(["later=1,thing"], sloppy).is_ok());
    }
}
