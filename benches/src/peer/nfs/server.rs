//! The kernel's NFS server, one for each network namespace, and the folders it exports.
//!
//! It lives in a [`Room`] with mounts of its own: its state is in memory, the configuration of this
//! machine is hidden from its programs, and the file system that controls it is that of the room's
//! network. When the last process in the room and the last who can enter it are gone, however they
//! ended, the kernel unmounts that file system and stops the server.
//!
//! Exported folders appear beneath one root that holds nothing else, by number.

use crate::peer::sshd::bracketed;
use crate::peer::{LOOK_EVERY, PeerError, Site, late};
use crate::process::{self, Child, PATIENCE};
use crate::room::Room;
use rustix::fs::CWD;
use rustix::mount::{
    MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, mount_bind, move_mount,
    open_tree, unmount,
};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use wormhole_netem::LinkEnd;

/// As many as come by default.
pub(super) const THREADS: u32 = 8;
/// Of every folder. `sync` is the default: writes are on disk before they are acknowledged.
pub(super) const OPTIONS: &str = "rw,sync,no_root_squash,insecure,no_subtree_check";

/// Where the programs keep their state.
const STATE: &str = "/var/lib/nfs";
/// What is beneath the root of the server.
const ROOT: &str = "/var/lib/nfs/root";
/// Where the kernel is told what to do.
const CONTROL: &str = "/proc/fs/nfsd";
/// Where the kernel asks programs.
const PIPES: &str = "/var/lib/nfs/rpc_pipefs";
/// The least time a server waits for clients of an earlier life.
const GRACE_S: &str = "10";
/// How long `nfsdcld` may take to look out for the server.
const WATCH_MAX: Duration = Duration::from_secs(5);

/// A folder that is exported; no longer when dropped.
pub(super) struct Export {
    /// Its name beneath the root of the server.
    pub(super) number: u32,
    client: String,
    // Empty only while it is dropped.
    server: Option<Arc<Server>>,
}

impl Export {
    /// Exports `share` from the host's end to the mount's end. Starts a server if none runs, with its
    /// log in `folder`.
    pub(super) fn new(site: &Site, share: &Path, folder: &Path) -> Result<Self, PeerError> {
        let mut running = running();
        let network = site
            .host
            .within(|| fs::metadata("/proc/thread-self/ns/net"))??
            .ino();
        running.retain(|(_, server)| server.strong_count() > 0);
        let known = running.iter().find(|(other, _)| *other == network);
        let server = match known.and_then(|(_, server)| server.upgrade()) {
            Some(server) => server,
            None => {
                let server = Arc::new(Server::start(site, folder)?);
                running.push((network, Arc::downgrade(&server)));
                server
            }
        };
        let export = Self {
            number: server.exports.fetch_add(1, Ordering::Relaxed),
            client: bracketed(site.mount.address()),
            server: Some(server),
        };
        let tree = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        // Seen from here: the room may not know mounts made since it was furnished.
        let tree = open_tree(CWD, share, tree).map_err(io::Error::from)?;
        export.furnish(&tree)?;
        Ok(export)
    }

    fn furnish(&self, share: &OwnedFd) -> io::Result<()> {
        let Some(server) = &self.server else {
            return Ok(());
        };
        let path = self.path();
        server.room.within(|| {
            fs::create_dir(&path)?;
            move_mount(
                share,
                "",
                CWD,
                &path,
                MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
            )?;
            let options = format!("{OPTIONS},fsid={}", self.number);
            export(&options, &self.client, &path)
        })
    }

    fn path(&self) -> PathBuf {
        Path::new(ROOT).join(self.number.to_string())
    }

    pub(super) fn processes(&self) -> Vec<u32> {
        let servers = self.server.iter();
        let programs = servers.flat_map(|server| server.recovery.iter().chain([&server.mountd]));
        programs.map(Child::id).collect()
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        // Held until the server has ended, should this be its last folder: the next one starts only then.
        let _running = running();
        let Some(server) = self.server.take() else {
            return;
        };
        let path = self.path();
        let ended = server.room.within(|| {
            let name = format!("{}:{}", self.client, path.display());
            run("exportfs", &["-u", &name])?;
            Ok(unmount(&path, UnmountFlags::DETACH)?)
        });
        if let Err(error) = ended {
            eprintln!("export {}: {error}", self.number);
        }
    }
}

/// The servers of this process, by the number of their network namespace.
fn running() -> MutexGuard<'static, Vec<(u64, Weak<Server>)>> {
    static RUNNING: Mutex<Vec<(u64, Weak<Server>)>> = Mutex::new(Vec::new());
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running server.
struct Server {
    room: Room,
    mountd: Child,
    /// `nfsdcld`, which remembers clients.
    recovery: Option<Child>,
    /// The next number. The root is 0.
    exports: AtomicU32,
}

impl Server {
    fn start(site: &Site, folder: &Path) -> Result<Self, PeerError> {
        let room = Room::furnished(&site.host, furnish)?;
        let running = room.within(|| fs::read_to_string(control("threads")))?;
        if running.trim() != "0" {
            let problem = "an NFS server runs in this network already; stop it first";
            return Err(io::Error::other(problem).into());
        }
        let client = bracketed(site.mount.address());
        let root = OPTIONS.replace("rw", "ro") + ",fsid=0";
        room.within(|| export(&root, &client, Path::new(ROOT)))?;
        let start = |program: &str, arguments: &[&str]| {
            let path = process::which(program).unwrap_or_else(|| program.into());
            let mut command = Command::new(path);
            command.args(arguments);
            // Called in the room, whose network is the host's.
            Child::spawn(&LinkEnd::here(), program, folder, &mut command, false)
        };
        let mountd = room.within(|| start("rpc.mountd", &["--foreground", "-N", "3"]))?;
        let recovery = ["--foreground", "--pipefsdir", PIPES, "--storagedir", STATE];
        let recovery = room.within(|| {
            mount("rpc_pipefs", PIPES, "rpc_pipefs", MountFlags::empty(), None)?;
            let child = start("nfsdcld", &recovery)?;
            wait_until_it_watches(child.id());
            Ok(child)
        });
        let mut server = Self {
            room,
            mountd,
            // Not everybody has it, and it needs what not every kernel has; see `wait`.
            recovery: recovery.ok(),
            exports: AtomicU32::new(1),
        };
        let address = site.host.address().to_string();
        server.room.within(|| listen(&address))?;
        server.wait()?;
        Ok(server)
    }

    /// Waits until files can be opened. A server lets clients of an earlier life have theirs first, who
    /// do not exist here; with `nfsdcld` it knows that, and without it waits for them.
    fn wait(&mut self) -> Result<(), PeerError> {
        let deadline = Instant::now() + PATIENCE;
        let has_waited = |server: &Self| {
            let waited = server.room.within(|| fs::read(control("v4_end_grace")));
            waited.map(|answer| answer.starts_with(b"Y"))
        };
        while !has_waited(self)? {
            if let Some(status) = self.mountd.ended() {
                return Err(self.mountd.failure(format!("ended with {status}")).into());
            }
            if Instant::now() > deadline {
                return Err(self.mountd.failure(late("not ready", PATIENCE)).into());
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.room.within(|| run("rpc.nfsd", &["0"])) {
            eprintln!("the NFS server did not stop: {error}");
        }
        self.mountd.end();
    }
}

/// Waits until `nfsdcld` looks out for the pipe that the kernel makes when the server starts: the kernel
/// gives it up if nobody opens that soon.
fn wait_until_it_watches(pid: u32) {
    let deadline = Instant::now() + WATCH_MAX;
    let watches = || {
        let files = fs::read_dir(format!("/proc/{pid}/fdinfo"))
            .into_iter()
            .flatten();
        let mut texts = files
            .flatten()
            .flat_map(|file| fs::read_to_string(file.path()));
        texts.any(|text| text.contains("inotify wd:"))
    };
    while !watches() && Instant::now() < deadline {
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Makes the files of the room what a server needs.
fn furnish() -> io::Result<()> {
    let plain = MountFlags::NOSUID | MountFlags::NODEV;
    mount("nfsd", CONTROL, "nfsd", plain, None)?;
    mount("tmpfs", STATE, "tmpfs", plain, None)?;
    let state = Path::new(STATE);
    for folder in [
        "root",
        "v4recovery",
        "rpc_pipefs",
        "sm",
        "sm.bak",
        "no-folder",
    ] {
        fs::create_dir(state.join(folder))?;
    }
    for file in ["etab", "rmtab", "no-file"] {
        fs::write(state.join(file), "")?;
    }
    for file in ["/etc/exports", "/etc/nfs.conf", "/etc/nfs.conf.local"] {
        hide(Path::new(file), &state.join("no-file"))?;
    }
    for folder in ["/etc/exports.d", "/etc/nfs.conf.d"] {
        hide(Path::new(folder), &state.join("no-folder"))?;
    }
    Ok(())
}

/// Puts `nothing` over `path`, if that is there.
fn hide(path: &Path, nothing: &Path) -> io::Result<()> {
    if path.exists() {
        mount_bind(nothing, path)?;
    }
    Ok(())
}

fn control(file: &str) -> PathBuf {
    Path::new(CONTROL).join(file)
}

fn export(options: &str, client: &str, path: &Path) -> io::Result<()> {
    let name = format!("{client}:{}", path.display());
    run("exportfs", &["-i", "-o", options, &name])
}

/// Starts the kernel's threads.
fn listen(address: &str) -> io::Result<()> {
    let threads = THREADS.to_string();
    let versions = ["-N", "3", "-V", "4.2"];
    let waits = ["-G", GRACE_S, "-L", GRACE_S];
    let place = ["-H", address, &threads];
    run("rpc.nfsd", &[&versions[..], &waits, &place].concat())
}

/// Runs one of the server's programs to its end, in the room this thread is in.
fn run(program: &str, arguments: &[&str]) -> io::Result<()> {
    let path = process::which(program).unwrap_or_else(|| program.into());
    let output = process::run(Command::new(path).args(arguments), PATIENCE)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let problem = format!("{program}: {}: {}", output.status, said.trim());
    Err(io::Error::other(problem))
}
