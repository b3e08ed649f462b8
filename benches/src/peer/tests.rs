//! Every peer that this machine has: it serves, mounts and reads; it ends when asked to, when killed,
//! and when dropped; and it leaves nothing behind.
//!
//! A peer that cannot run here is named with the reason. Where the kernel has NFS, all of its tests run
//! as root in a network of their own:
//! `unshare -n sh -c 'ip link set lo up; WORMHOLE_TEST_OWN_NETWORK=1 cargo test -p wormhole-benches nfs'`

use super::{Custom, Mounted, Peer, Served, Site, all, fuse, wait};
use crate::mounts::is_mounted;
use crate::procfs::{self, Identity};
use crate::program;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;
use wormhole_netem::LinkEnd;

/// Far beyond what any of them needs: the disk may be busy with something else.
const LIMIT: Duration = Duration::from_secs(300);

/// A peer that serves and is mounted, and all processes it had then.
struct Trial {
    // In the order in which they have to end.
    mounted: Option<Box<dyn Mounted>>,
    served: Option<Box<dyn Served>>,
    site: Site,
    folder: TempDir,
    processes: Vec<Identity>,
}

impl Trial {
    /// `None` if the peer cannot run here.
    fn begin(peer: &dyn Peer) -> Option<Self> {
        let site = Site {
            host: LinkEnd::here(),
            mount: LinkEnd::here(),
            program: program::find().expect("the program under test"),
        };
        let info = peer.info(&site);
        if !info.available {
            let reason = info.reason.expect("a reason");
            eprintln!("peer {} did not run: {reason}", peer.name());
            return None;
        }
        assert!(!info.version.is_empty() && !info.durability.is_empty());
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["share", "server", "mnt", "client"] {
            fs::create_dir(folder.path().join(name)).expect("a new folder");
        }
        fs::write(folder.path().join("share/file"), content()).expect("a file");
        fs::write(folder.path().join("share/other"), content()).expect("a file");
        let path = |name: &str| folder.path().join(name);
        let served = peer.serve(&site, &path("share"), &path("server"));
        let mut served = served.unwrap_or_else(|e| panic!("{}: {e}", peer.name()));
        let mounted = served.mount(&site, &path("mnt"), &path("client"));
        let mut mounted = mounted.unwrap_or_else(|e| panic!("{}: {e}", peer.name()));
        wait(mounted.as_mut(), LIMIT).unwrap_or_else(|e| panic!("{}: {e}", peer.name()));
        let roots = [served.processes(), mounted.processes()].concat();
        let tree = procfs::tree(&roots);
        Some(Self {
            processes: tree.iter().map(|process| process.identity).collect(),
            mounted: Some(mounted),
            served: Some(served),
            site,
            folder,
        })
    }

    fn root(&self) -> PathBuf {
        let mounted = self.mounted.as_ref().expect("not ended yet");
        mounted.root().to_path_buf()
    }

    fn read_back(&self) {
        let root = self.root();
        assert_eq!(fs::read(root.join("file")).expect("a file"), content());
        let entries = fs::read_dir(&root).expect("a folder");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        let mut names: Vec<_> = names.collect();
        names.sort();
        assert_eq!(names, ["file", "other"]);
    }

    fn unmount(&mut self) {
        let mounted = self.mounted.take().expect("not ended yet");
        mounted.unmount().expect("it unmounts when asked to");
        assert!(!is_mounted(&self.folder.path().join("mnt")));
    }

    /// Ends what has not ended, and looks for what is left.
    fn end(mut self) {
        self.mounted = None;
        self.served = None;
        assert!(!is_mounted(&self.folder.path().join("mnt")));
        let left: Vec<_> = self.processes.iter().filter(|p| p.is_alive()).collect();
        assert!(left.is_empty(), "{left:?} still run");
    }
}

fn content() -> Vec<u8> {
    (0..300_000_u32).flat_map(u32::to_le_bytes).collect()
}

/// Reads, unmounts, mounts again with a fresh cache, and ends by dropping.
fn serves_twice(peer: &dyn Peer) {
    let Some(mut trial) = Trial::begin(peer) else {
        return;
    };
    trial.read_back();
    if peer.writes() {
        writes(&trial);
    }
    trial.unmount();
    let path = |name: &str| trial.folder.path().join(name);
    fs::create_dir(path("client-2")).expect("a new folder");
    let served = trial.served.as_mut().expect("not ended yet");
    let again = served.mount(&trial.site, &path("mnt"), &path("client-2"));
    let mut again = again.expect("a second mount");
    wait(again.as_mut(), LIMIT).expect("a second mount");
    let tree = procfs::tree(&again.processes());
    trial.processes.extend(tree.iter().map(|p| p.identity));
    trial.mounted = Some(again);
    trial.read_back();
    trial.end();
}

/// What was written can be read again through the mount, and is gone when it is removed.
fn writes(trial: &Trial) {
    let path = trial.root().join("written");
    fs::write(&path, b"words").expect("it writes");
    assert_eq!(fs::read(&path).expect("a file"), b"words");
    fs::remove_file(&path).expect("it removes");
}

/// Kills a mount while somebody waits in it for a server that does not answer.
fn dies_at_once(peer: &dyn Peer) {
    let Some(mut trial) = Trial::begin(peer) else {
        return;
    };
    let served = trial.served.as_ref().expect("not ended yet");
    for process in procfs::tree(&served.processes()) {
        let pid = i32::try_from(process.identity.pid).ok();
        let pid = pid.and_then(Pid::from_raw).expect("a process");
        // One that has ended since, as a connection's that was over, is as silent as one that is stopped.
        match kill_process(pid, Signal::STOP) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => panic!("{error}"),
        }
    }
    let file = trial.root().join("other");
    let reader = std::thread::spawn(move || fs::read(file));
    trial.mounted.as_mut().expect("not ended yet").kill();
    assert!(reader.join().expect("it ended").is_err());
    trial.end();
}

fn named(name: &str) -> Box<dyn Peer> {
    let peer = all().into_iter().find(|peer| peer.name() == name);
    peer.expect("a peer of this name")
}

macro_rules! peers {
    ($($test:ident $name:literal)*) => {$(
        mod $test {
            #[test]
            fn serves_twice() {
                super::serves_twice(super::named($name).as_ref());
            }

            #[test]
            fn dies_at_once() {
                super::dies_at_once(super::named($name).as_ref());
            }
        }
    )*};
}

peers! {
    wormhole "wormhole"
    sshfs "sshfs"
    sshfs_tuned "sshfs-tuned"
    rclone "rclone"
}

/// One test, since there is one server in a network, and others would miss what it shares.
#[test]
fn nfs() {
    serves_twice(named("nfs").as_ref());
    serves_twice(named("nfs-nconnect4").as_ref());
    nfs_serves_two();
    if std::env::var_os("WORMHOLE_TEST_OWN_NETWORK").is_some() {
        nfs_dies_at_once();
    } else {
        eprintln!("nfs_dies_at_once did not run: it takes the loopback interface down; see above");
    }
}

/// Two folders of one server: the end of one leaves the other alone.
fn nfs_serves_two() {
    let Some(mut first) = Trial::begin(named("nfs").as_ref()) else {
        return;
    };
    first.unmount();
    let second = Trial::begin(named("nfs-nconnect4").as_ref()).expect("as the first");
    let server = |trial: &Trial| trial.served.as_ref().map(|served| served.processes());
    assert_eq!(server(&first), server(&second));
    // The last to end looks whether the server has.
    first.processes.clear();
    first.end();
    second.read_back();
    second.end();
}

/// The kernel's server cannot be stopped as a process can, so the link goes.
fn nfs_dies_at_once() {
    let Some(mut trial) = Trial::begin(named("nfs").as_ref()) else {
        return;
    };
    let link = |state| {
        let arguments = ["link", "set", "lo", state];
        let status = Command::new("ip").args(arguments).status();
        assert!(status.expect("ip").success());
    };
    link("down");
    let file = trial.root().join("other");
    let reader = std::thread::spawn(move || fs::read(file));
    trial.mounted.as_mut().expect("not ended yet").kill();
    assert!(reader.join().expect("it ended").is_err());
    link("up");
    trial.end();
}

#[test]
fn local_is_the_share_itself() {
    serves_twice(named("local").as_ref());
}

/// A peer of the user's, whose commands are `rest` of its description.
fn custom(rest: &str) -> Box<dyn Peer> {
    let text = format!("[peer.mine]\nversion = ['echo', '1']\nwrites = true\n{rest}");
    let mut peers = Custom::parse(&text).expect("a peer");
    Box::new(peers.remove(0))
}

/// Mounts with sshfs, `options` of it, and an SFTP server that it starts itself in place of ssh.
fn custom_with_sshfs(serve: &str, options: &str) {
    if let Err(why) = fuse() {
        eprintln!("the test of a user's peer did not run: {}", why.reason);
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let server = folder.path().join("server");
    let programs = [
        "/usr/lib/openssh/sftp-server",
        "/usr/libexec/openssh/sftp-server",
    ];
    let Some(program) = programs
        .iter()
        .find(|path| fs::exists(path).is_ok_and(|is| is))
    else {
        eprintln!("the test of a user's peer did not run: there is no sftp-server");
        return;
    };
    fs::write(&server, format!("#!/bin/sh\nexec {program}\n")).expect("a script");
    let executable = PermissionsExt::from_mode(0o755);
    fs::set_permissions(&server, executable).expect("a script");
    let ssh = format!("ssh_command={}", server.display());
    let peer = custom(&format!(
        "serve = {serve}\n\
         ready = ['test', '-d', '{{share}}']\n\
         mount = ['sshfs', {options} '-o', '{ssh}', 'x:{{share}}', '{{mountpoint}}']\n"
    ));
    serves_twice(peer.as_ref());
}

#[test]
fn a_peer_of_the_user_s_may_stay_in_the_foreground() {
    custom_with_sshfs("['sleep', '1000']", "'-f',");
}

#[test]
fn a_peer_of_the_user_s_may_go_on_in_the_background() {
    custom_with_sshfs("['sh', '-c', 'sleep 1000 &']", "");
}

#[test]
fn a_peer_of_the_user_s_needs_no_processes() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("the test of a bind mount did not run: it needs root");
        return;
    }
    let peer = custom(
        "mount = ['mount', '--bind', '{share}', '{mountpoint}']\n\
         unmount = ['umount', '{mountpoint}']\n",
    );
    serves_twice(peer.as_ref());
}

#[test]
fn a_mount_that_fails_says_why() {
    let peer = custom("mount = ['sh', '-c', 'echo no such luck >&2; exit 3']\n");
    let folder = tempfile::tempdir().expect("a folder");
    let site = Site {
        host: LinkEnd::here(),
        mount: LinkEnd::here(),
        program: PathBuf::new(),
    };
    let mut served = peer
        .serve(&site, folder.path(), folder.path())
        .expect("nothing to start");
    let path = folder.path().join("mnt");
    fs::create_dir(&path).expect("a new folder");
    let mut mounted = served
        .mount(&site, &path, folder.path())
        .expect("it starts");
    let error = wait(mounted.as_mut(), LIMIT)
        .expect_err("it fails")
        .to_string();
    assert!(
        error.contains("exit status: 3") && error.contains("no such luck"),
        "{error}"
    );
}

#[test]
fn a_peer_that_lacks_its_program_or_fails_its_check_says_so() {
    let site = Site {
        host: LinkEnd::here(),
        mount: LinkEnd::here(),
        program: PathBuf::new(),
    };
    let info = custom("mount = ['no-such-program-at-all']\ninstall = 'get it'\n").info(&site);
    assert_eq!(
        info.reason.as_deref(),
        Some("there is no program no-such-program-at-all")
    );
    assert_eq!(info.install.as_deref(), Some("get it"));
    let check = "mount = ['sh']\ncheck = ['sh', '-c', 'echo a; echo too old; exit 1']\n";
    let info = custom(check).info(&site);
    assert_eq!(
        (info.available, info.reason.as_deref()),
        (false, Some("too old"))
    );
}
