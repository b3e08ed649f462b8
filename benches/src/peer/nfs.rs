//! NFSv4.2 of the kernel, server and client, over one connection and over four.
//!
//! What the kernel does is no process's cost: both sides count almost nothing. Two mounts that exist at
//! the same time share their connections, so peers of this kind are mounted one after the other.

mod server;

use super::mount::ProgramMount;
use super::sshd::bracketed;
use super::{Mounted, Peer, PeerError, Served, Site, Unavailable, describe, version_of};
use crate::process::{self, Child, PATIENCE};
use crate::record::PeerInfo;
use crate::room::Room;
use server::Export;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// What brings all programs.
const INSTALL: &str = "apt-get install nfs-kernel-server nfs-common";
/// How long the kernel may take to load a module.
const MODULE_MAX: Duration = Duration::from_secs(20);

/// See the module.
pub(super) struct Nfs {
    connections: u32,
}

impl Nfs {
    /// One connection, as it comes.
    pub(super) const PLAIN: Self = Self { connections: 1 };
    /// Four connections.
    pub(super) const FOUR: Self = Self { connections: 4 };

    /// For `mount -o`. Without `sec=sys` the client would look for Kerberos first.
    fn options(&self) -> String {
        let connections = self.connections;
        format!("vers=4.2,proto=tcp,sec=sys,nconnect={connections}")
    }
}

impl Peer for Nfs {
    fn name(&self) -> &'static str {
        if self.connections == 1 {
            "nfs"
        } else {
            "nfs-nconnect4"
        }
    }

    fn info(&self, _site: &Site) -> PeerInfo {
        let settings = [
            format!("client: -o {}", self.options()),
            format!(
                "server: {} threads, export {}",
                server::THREADS,
                server::OPTIONS
            ),
        ];
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        let durability = "close and fsync: on the server's disk (export option sync)";
        describe(self.name(), version(), &settings, durability)
    }

    fn writes(&self) -> bool {
        true
    }

    fn serve(
        &self,
        site: &Site,
        share: &Path,
        folder: &Path,
    ) -> Result<Box<dyn Served>, PeerError> {
        let export = Export::new(site, share, folder)?;
        Ok(Box::new(Server {
            source: format!("{}:/{}", bracketed(site.host.address()), export.number),
            options: self.options(),
            export,
        }))
    }
}

fn version() -> Result<String, Unavailable> {
    let unavailable = |reason: String, install: Option<&str>| Unavailable {
        reason,
        install: install.map(str::to_owned),
    };
    let release = rustix::system::uname();
    let release = release.release().to_string_lossy();
    for (file_system, module, role) in [("nfs4", "nfsv4", "client"), ("nfsd", "nfsd", "server")] {
        if !is_known(file_system) {
            load(module);
        }
        if !is_known(file_system) {
            let reason = format!("this kernel ({release}) has no NFS {role} ({module})");
            return Err(unavailable(reason, None));
        }
    }
    for program in ["mount.nfs4", "rpc.nfsd", "exportfs", "rpc.mountd"] {
        if process::which(program).is_none() {
            let reason = format!("there is no program {program}");
            return Err(unavailable(reason, Some(INSTALL)));
        }
    }
    if !rustix::process::geteuid().is_root() || !is_initial_user_namespace() {
        let reason = "the kernel lets only the machine's root mount NFS";
        return Err(unavailable(reason.to_owned(), None));
    }
    let tools = version_of("mount.nfs4", "-V", Some(INSTALL))?;
    Ok(format!("Linux {release}, {tools}"))
}

/// Whether the kernel has this file system by now.
fn is_known(file_system: &str) -> bool {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    known
        .lines()
        .any(|line| line.split_whitespace().next_back() == Some(file_system))
}

fn load(module: &str) {
    if let Some(modprobe) = process::which("modprobe") {
        // Whether it helped is seen in the list of file systems.
        let _ = process::run(Command::new(modprobe).args(["-q", module]), MODULE_MAX);
    }
}

fn is_initial_user_namespace() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// A folder that is exported.
struct Server {
    export: Export,
    source: String,
    options: String,
}

impl Served for Server {
    fn processes(&self) -> Vec<u32> {
        self.export.processes()
    }

    fn mount(
        &mut self,
        site: &Site,
        path: &Path,
        folder: &Path,
    ) -> Result<Box<dyn Mounted>, PeerError> {
        let program = process::which("mount.nfs4").unwrap_or_else(|| "mount.nfs4".into());
        let mut command = Command::new(program);
        command.arg(&self.source).arg(path);
        command.args(["-o", &self.options]);
        let child = Child::spawn(&site.mount, "mount-nfs", folder, &mut command, false)?;
        let (room, path) = (Room::of(&site.mount)?, path.canonicalize()?);
        let mount = ProgramMount::new(&path, child)?.in_kernel();
        Ok(Box::new(
            mount.left_by(Box::new(move || leave(&room, &path))),
        ))
    }
}

/// Unmounts by a program, since the kernel may wait for the server meanwhile, and only a process can be
/// killed out of that.
fn leave(room: &Room, path: &PathBuf) -> io::Result<()> {
    let mut command = Command::new("umount");
    command.arg(path);
    let output = room.within(|| process::run(&mut command, PATIENCE))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(said.trim().to_owned()))
}
