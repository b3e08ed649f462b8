//! `wormhole unmount`: returns when what programs were told is done is on the host, the mount is gone and its process
//! has ended.

use super::flags::UnmountFlags;
use super::place::Place;
use super::{Failure, drain};
use crate::mount::durability::Durability;
use crate::mount::mountpoint::table::{self, MountEntry};
use crate::mount::mountpoint::{self, HOLDERS_MAX, Unmount};
use crate::path_text::PathText;
use crate::status::report::Role;
use crate::status::{RuntimeDir, socket};
use anyhow::{Context, anyhow, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long the mount may take to go, and its process to end.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at the mount table.
const PAUSE: Duration = Duration::from_millis(20);

/// Runs the command.
pub(super) fn run(flags: &UnmountFlags) -> Result<(), Failure> {
    let how = match (flags.force, flags.lazy) {
        (true, _) => Unmount::Force,
        (_, true) => Unmount::Lazy,
        _ => Unmount::Clean,
    };
    let shown = PathText::from(flags.mountpoint.as_path());
    let place = mountpoint::resolve(&flags.mountpoint).with_context(|| shown.to_string())?;
    let entry = table::mount_at(&place).context("reading the mount table")?;
    let own = rustix::process::geteuid().as_raw();
    let entry = ours(&place, entry, own)?;
    // Before: afterwards its socket may be gone. Not for a lazy one, which does not wait for it.
    let server = match how {
        Unmount::Lazy => None,
        _ => server_of(&place),
    };
    let drained = match (&server, how) {
        (Some(server), Unmount::Clean) if server.is_behind => drained(&place, &shown)?,
        _ => Ok(()),
    };
    if let Err(error) = mountpoint::unmount(&place, how) {
        return Err(explain(error, &place).into());
    }
    wait_until_gone(&entry)?;
    // Taken away lazily, it is served until the last file in it is closed.
    if let Some(server) = server {
        wait_until_ended(&server)?;
    }
    Ok(drained?)
}

/// Waits until the host has everything. What was lost is no reason not to unmount; that it takes too long for the user
/// is.
fn drained(place: &Path, shown: &PathText) -> Result<anyhow::Result<()>, Failure> {
    match drain::drain(&Place::of(place)?) {
        Ok(()) => Ok(Ok(())),
        Err(Failure::Stopped(code, _)) => Err(Failure::Stopped(
            code,
            anyhow!(
                "{shown} is still mounted: not all that was written is on the host. --lazy goes on sending"
            ),
        )),
        Err(Failure::Failed(error) | Failure::Usage(error)) => Ok(Err(error)),
    }
}

/// Checks that what is mounted there is for this command and user.
fn ours(place: &Path, entry: Option<MountEntry>, own_uid: u32) -> anyhow::Result<MountEntry> {
    let shown = PathText::from(place);
    let Some(entry) = entry else {
        bail!("nothing is mounted at {shown}");
    };
    if !entry.is_wormhole() {
        let fs_type = entry.fs_type.escape_default();
        bail!("what is mounted at {shown} is not Wormhole's but {fs_type}: use umount");
    }
    match entry.owner_uid() {
        Some(uid) if own_uid != 0 && uid != own_uid => {
            bail!("the mount at {shown} belongs to the user with the number {uid}")
        }
        _ => Ok(entry),
    }
}

/// The process behind a mount; held by descriptor, so that its number cannot come to mean another.
struct Server {
    pid: u32,
    fd: OwnedFd,
    /// Programs may have been told of more than the host has done.
    is_behind: bool,
}

fn server_of(place: &Path) -> Option<Server> {
    let found = socket::ask_all(&RuntimeDir::open_all().ok()?).ok()?;
    let (pid, is_behind) = found.reports.iter().find_map(|report| match &report.role {
        Role::Mount(mount) if mount.mountpoint.0 == place => Some((
            report.pid,
            mount.durability == Durability::Memory.to_string(),
        )),
        _ => None,
    })?;
    let raw = Pid::from_raw(i32::try_from(pid).ok()?)?;
    let fd = pidfd_open(raw, PidfdFlags::empty()).ok()?;
    Some(Server { pid, fd, is_behind })
}

fn explain(error: io::Error, place: &Path) -> anyhow::Error {
    let shown = PathText::from(place);
    if error.kind() != io::ErrorKind::ResourceBusy {
        return anyhow::Error::new(error).context(format!("unmounting {shown}"));
    }
    let holders = mountpoint::holders(place);
    let mut names: Vec<_> = holders
        .iter()
        .map(|holder| format!("{} ({})", holder.name, holder.pid))
        .collect();
    if names.len() == HOLDERS_MAX {
        names.push("...".to_owned());
    }
    let who = if names.is_empty() {
        "by a program of another user".to_owned()
    } else {
        format!("by {}", names.join(", "))
    };
    anyhow::anyhow!("{shown} is in use {who}. End it, or use --lazy")
}

fn wait_until_gone(entry: &MountEntry) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let is_there = || {
        let mounts = table::mounts()?;
        let same = |e: &MountEntry| e.device == entry.device && e.mountpoint == entry.mountpoint;
        Ok::<_, io::Error>(mounts.iter().any(same))
    };
    while is_there()? {
        if Instant::now() >= deadline {
            bail!("it is still mounted; try --force");
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

fn wait_until_ended(server: &Server) -> anyhow::Result<()> {
    let mut fds = [PollFd::new(&server.fd, PollFlags::IN)];
    let patience = Timespec::try_from(PATIENCE)?;
    if poll(&mut fds, Some(&patience))? == 0 {
        bail!(
            "it is unmounted, but process {} has not ended yet",
            server.pid
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(fs_type: &str, options: &str) -> MountEntry {
        MountEntry {
            device: (0, 9),
            mountpoint: "/m".into(),
            fs_type: fs_type.into(),
            source: "s".into(),
            options: options.into(),
        }
    }

    #[test]
    fn only_our_own_mounts_are_unmounted() {
        let own = entry(table::FS_TYPE, "ro,user_id=7,group_id=7");
        let check = |entry, uid| ours(Path::new("/m"), entry, uid).map_err(|e| e.to_string());
        assert!(check(Some(own.clone()), 7).is_ok());
        assert!(check(Some(own.clone()), 0).is_ok());
        assert!(check(Some(own), 8).unwrap_err().contains("number 7"));
        assert!(check(None, 7).unwrap_err().contains("nothing is mounted"));
        let foreign = check(Some(entry("ext4", "rw")), 0).unwrap_err();
        assert!(foreign.contains("ext4") && foreign.contains("umount"));
    }

    #[test]
    fn busy_names_who() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().canonicalize().unwrap();
        let _open = std::fs::File::create(place.join("f")).unwrap();
        let text = explain(io::ErrorKind::ResourceBusy.into(), &place).to_string();
        assert!(
            text.contains(&format!("({})", std::process::id())),
            "{text}"
        );
        let text = format!(
            "{:#}",
            explain(io::ErrorKind::PermissionDenied.into(), &place)
        );
        assert!(text.contains("permission denied"), "{text}");
    }

    #[test]
    fn the_end_of_a_process_is_waited_for() {
        let mut child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let pid = Pid::from_child(&child);
        let server = Server {
            pid: child.id(),
            is_behind: false,
            fd: pidfd_open(pid, PidfdFlags::empty()).unwrap(),
        };
        drop(child.stdin.take());
        wait_until_ended(&server).unwrap();
        assert!(child.try_wait().unwrap().is_some());
    }

    #[test]
    fn a_mount_that_is_not_there_is_gone() {
        wait_until_gone(&entry(table::FS_TYPE, "ro")).unwrap();
    }
}
