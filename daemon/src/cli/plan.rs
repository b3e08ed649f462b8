//! From what was typed to what is to be done: flags and options to a checked plan.
//!
//! A flag outweighs the `-o` option of the same name; both outweigh the default.

use super::flags::{CachePlace, HostFlags, MountFlags};
use super::host::powers::Powers;
use super::options::{Caller, MountOptions};
use super::ticket_source::TicketSource;
use crate::config::{self, Folder, HostPlan, L2Plan, MountPlan, places};
use crate::host::ShareRules;
use anyhow::{Context, bail};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use wormhole_protocol::limits::TICKET_ADDRESSES_MAX;
use wormhole_protocol::{Access, Name, ShareId};

/// The plan of `wormhole host`, run by a process of such `powers`.
pub(super) fn host(flags: HostFlags, powers: Powers) -> anyhow::Result<HostPlan> {
    if flags.folders.len() > config::FOLDERS_MAX {
        bail!("at most {} folders", config::FOLDERS_MAX);
    }
    if !flags.names.is_empty() && flags.names.len() != flags.folders.len() {
        bail!(
            "{} folders but {} names: give --name once per folder, in the same order",
            flags.folders.len(),
            flags.names.len()
        );
    }
    if flags.advertise.len() > TICKET_ADDRESSES_MAX {
        bail!("a ticket holds at most {TICKET_ADDRESSES_MAX} addresses");
    }
    if flags
        .expires
        .is_some_and(|time| time < Duration::from_secs(1))
    {
        bail!("--expires must be at least 1s");
    }
    let rules = share_rules(&flags, powers)?;
    let mut names = flags.names.into_iter();
    let folder = |path: PathBuf| {
        let name = names.next().map(share_name).transpose()?;
        Ok(Folder { path, name })
    };
    Ok(HostPlan {
        folders: flags
            .folders
            .into_iter()
            .map(folder)
            .collect::<anyhow::Result<_>>()?,
        listen: flags.listen,
        advertise: flags.advertise,
        expires: flags.expires,
        max_mounts: flags.max_mounts,
        ticket_access: if flags.ro { Access::Read } else { rules.access },
        rules,
        new_ticket: flags.new_ticket,
        json: flags.json,
        metrics: flags.metrics,
        state_dir: match flags.state_dir {
            Some(dir) => absolute(&dir)?,
            None => places::state_dir()?,
        },
    })
}

fn share_rules(flags: &HostFlags, powers: Powers) -> anyhow::Result<ShareRules> {
    for (given, flag) in [
        (flags.map_users, "--map-users"),
        (flags.allow_devices, "--allow-devices"),
    ] {
        if given && !flags.rw {
            bail!("{flag} is about what mounts make, and they make nothing without --rw: add it");
        }
    }
    if flags.map_users && !powers.root {
        bail!(
            "--map-users acts as the users of the mounting machines, which only root can: \
             run it as root (sudo), or leave it out and all belongs to you"
        );
    }
    if flags.allow_devices && !powers.make_devices {
        bail!(
            "--allow-devices makes device nodes, for which this process lacks CAP_MKNOD: \
             root has it, though not in every container"
        );
    }
    Ok(ShareRules {
        access: if flags.rw {
            Access::ReadWrite
        } else {
            Access::Read
        },
        map_users: flags.map_users,
        allow_devices: flags.allow_devices,
    })
}

fn share_name(name: OsString) -> anyhow::Result<Name> {
    let shown = name.as_bytes().escape_ascii().to_string();
    Name::new(name.into_vec()).with_context(|| format!("--name \"{shown}\""))
}

/// What `wormhole mount` is to do, and how.
pub(super) struct MountOrder {
    /// Where its ticket is.
    pub(super) ticket: TicketSource,
    /// What is to be done.
    pub(super) plan: MountPlan,
    /// Whether in the background.
    pub(super) daemon: bool,
}

/// The order behind `wormhole mount`. `environment` is the content of `WORMHOLE_TICKET`.
pub(super) fn mount(
    flags: MountFlags,
    caller: Caller,
    environment: Option<String>,
) -> anyhow::Result<MountOrder> {
    let options = MountOptions::parse(flags.options.iter().map(String::as_str), caller)?;
    let l2 = l2(&flags, &options)?;
    let file = flags.ticket_file.or(options.ticket_file);
    let (ticket, mountpoint) = ticket_and_mountpoint(&flags.places, file, environment)?;
    let plan = MountPlan {
        mountpoint: absolute(&mountpoint)?.into(),
        l1_bytes: config::l1_bytes(
            flags
                .l1_size
                .or(options.l1_bytes)
                .unwrap_or(config::L1_BYTES_DEFAULT),
        )?,
        l2,
        write_buffer_bytes: config::write_buffer_bytes(
            flags
                .write_buffer
                .or(options.write_buffer_bytes)
                .unwrap_or(config::WRITE_BUFFER_BYTES_DEFAULT),
        )?,
        durability: flags.durability.or(options.durability).unwrap_or_default(),
        read_only: flags.ro || options.read_only,
        attr_ttl: flags
            .attr_ttl
            .or(options.attr_ttl)
            .map(config::attr_ttl)
            .transpose()?,
        prefetch_metadata: flags
            .prefetch_metadata
            .or(options.prefetch_metadata)
            .unwrap_or_default(),
        timeout: config::timeout(
            flags
                .timeout
                .or(options.timeout)
                .unwrap_or(config::TIMEOUT_DEFAULT),
        )?,
        owner: flags.owner.or(options.owner).unwrap_or_default(),
        allow_other: flags.allow_other || options.allow_other,
        nonempty: options.nonempty,
        noexec: options.noexec,
        passthrough: !(flags.no_passthrough || options.no_passthrough),
        metrics: flags.metrics.or(options.metrics),
    };
    Ok(MountOrder {
        ticket,
        plan,
        daemon: flags.daemon,
    })
}

fn l2(flags: &MountFlags, options: &MountOptions) -> anyhow::Result<Option<L2Plan>> {
    let bytes = flags.l2_size.or(options.l2_bytes);
    let dir = flags.cache_dir.as_ref().or(options.cache_dir.as_ref());
    if flags.no_l2 || options.no_l2 {
        if bytes.is_some() || dir.is_some() {
            bail!("no disk cache (no_l2), but also its size or directory: leave one out");
        }
        return Ok(None);
    }
    Ok(Some(L2Plan {
        root: cache_dir(dir.map(PathBuf::as_path))?.into(),
        budget_bytes: config::l2_bytes(bytes.unwrap_or(config::L2_BYTES_DEFAULT))?,
    }))
}

fn ticket_and_mountpoint(
    places: &[OsString],
    file: Option<PathBuf>,
    environment: Option<String>,
) -> anyhow::Result<(TicketSource, PathBuf)> {
    let (typed, mountpoint) = match places {
        [mountpoint] => (None, mountpoint),
        [ticket, mountpoint] => {
            let text = ticket.to_str().context("the ticket is not text")?;
            (Some(text), mountpoint)
        }
        _ => bail!("a ticket and a mount point are needed"),
    };
    if typed.is_none() && resembles_ticket(mountpoint) {
        bail!("the mount point is missing: wormhole mount TICKET MOUNTPOINT");
    }
    if mountpoint.is_empty() {
        bail!("the mount point is empty");
    }
    let source = TicketSource::choose(typed, file.as_deref(), environment)?;
    Ok((source, PathBuf::from(mountpoint)))
}

/// Whether an argument looks like a ticket rather than a path or a subcommand.
pub(super) fn resembles_ticket(argument: &OsString) -> bool {
    let bytes = argument.as_bytes();
    bytes.len() > 32
        && bytes[..3].eq_ignore_ascii_case(b"wh1")
        && bytes.iter().all(u8::is_ascii_alphanumeric)
}

/// The directory of the disk cache.
pub(super) fn cache_dir(dir: Option<&Path>) -> anyhow::Result<PathBuf> {
    match dir {
        Some(dir) => absolute(dir),
        None => places::cache_dir(),
    }
}

impl CachePlace {
    /// The directory meant.
    pub(super) fn root(&self) -> anyhow::Result<PathBuf> {
        cache_dir(self.cache_dir.as_deref())
    }
}

fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("path \"{}\"", path.display()))
}

/// Reads a share's id: 32 hex digits.
pub(super) fn share_id(text: &str) -> Result<ShareId, String> {
    let malformed = || "a share's id is 32 hex digits; `wormhole status` shows it".to_owned();
    if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(malformed());
    }
    let number = u128::from_str_radix(text, 16).map_err(|_| malformed())?;
    Ok(ShareId(number.to_be_bytes()))
}

#[cfg(test)]
mod tests;
