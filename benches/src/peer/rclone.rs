//! rclone, which mounts what it reaches by SFTP through a cache on disk, against a private sshd.

use super::mount::ProgramMount;
use super::sshd::{self, Sshd};
use super::{Mounted, Peer, PeerError, Served, Site, Unavailable, describe, version_of};
use crate::process::{self, Child};
use crate::record::PeerInfo;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

/// What users set who read large files.
const CACHE: [&str; 2] = ["--vfs-cache-mode", "full"];
/// Reads of one file that go on at once; not every version knows it.
const STREAMS: [&str; 2] = ["--vfs-read-chunk-streams", "4"];
/// How long it may take to list its flags.
const FLAGS_MAX: Duration = Duration::from_secs(20);

/// See the module.
pub(super) struct Rclone;

impl Peer for Rclone {
    fn name(&self) -> &'static str {
        "rclone"
    }

    fn info(&self, _site: &Site) -> PeerInfo {
        let streams = if knows_streams() {
            STREAMS.join(" ")
        } else {
            "no chunk streams: this version has none".to_owned()
        };
        let settings = [
            &CACHE.join(" "),
            streams.as_str(),
            "the cache on disk empty at first",
            "SFTP by rclone itself, no hashes; server: sshd with internal-sftp",
        ];
        let durability = "close and fsync: in the client's cache; sent to the server 5 s later";
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
        Ok(Box::new(Server {
            sshd: Sshd::start(site, folder)?,
            source: format!("bench:{}", share.display()),
        }))
    }
}

fn version() -> Result<String, Unavailable> {
    let hint = Some("apt-get install rclone openssh-server");
    let rclone = version_of("rclone", "version", hint)?;
    super::fuse()?;
    Ok(format!("{rclone}, {}", sshd::version()?))
}

/// Whether this version reads a file in several streams.
fn knows_streams() -> bool {
    static KNOWS: OnceLock<bool> = OnceLock::new();
    *KNOWS.get_or_init(|| {
        let mut command = Command::new("rclone");
        command.args(["mount", "--help"]);
        let output = process::run(&mut command, FLAGS_MAX);
        output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(STREAMS[0]))
    })
}

/// A running sshd, for rclone.
struct Server {
    sshd: Sshd,
    source: String,
}

impl Server {
    /// Without a shell on the other side, as many servers are: rclone would log in with one for the hash of
    /// every file, and wait for whatever that user's start-up files do.
    fn configuration(&self) -> String {
        format!(
            "[bench]\n\
             type = sftp\n\
             host = {}\n\
             port = {}\n\
             user = {}\n\
             key_file = {}\n\
             known_hosts_file = {}\n\
             shell_type = none\n\
             md5sum_command = none\n\
             sha1sum_command = none\n\
             disable_hashcheck = true\n",
            sshd::bracketed(self.sshd.address.ip()),
            self.sshd.address.port(),
            self.sshd.user,
            self.sshd.key.display(),
            self.sshd.known_hosts.display(),
        )
    }
}

impl Served for Server {
    fn processes(&self) -> Vec<u32> {
        vec![self.sshd.id()]
    }

    fn mount(
        &mut self,
        site: &Site,
        path: &Path,
        folder: &Path,
    ) -> Result<Box<dyn Mounted>, PeerError> {
        let configuration = folder.join("rclone.conf");
        fs::write(&configuration, self.configuration())?;
        let mut command = Command::new("rclone");
        command.arg("mount").args(CACHE);
        if knows_streams() {
            command.args(STREAMS);
        }
        command.arg("--config").arg(&configuration);
        command.arg("--cache-dir").arg(folder.join("cache"));
        command.arg(&self.source).arg(path);
        let child = Child::spawn(&site.mount, "rclone", folder, &mut command, false)?;
        Ok(Box::new(ProgramMount::new(path, child)?))
    }
}
