//! sshfs, as it comes and tuned, against a private sshd.

use super::mount::ProgramMount;
use super::sshd::{self, Sshd};
use super::{Mounted, Peer, PeerError, Served, Site, Unavailable, describe, version_of};
use crate::process::Child;
use crate::record::PeerInfo;
use std::fs;
use std::path::Path;
use std::process::Command;

/// The host, in ssh's configuration.
const ALIAS: &str = "bench";
/// What makes it fast on links of all kinds.
const TUNED: &str = "max_conns=4,compression=no,kernel_cache";
/// The fastest cipher where processors have AES in hardware.
const CIPHER: &str = "aes128-gcm@openssh.com";

/// See the module.
pub(super) struct Sshfs {
    tuned: bool,
}

impl Sshfs {
    /// Without any option.
    pub(super) const PLAIN: Self = Self { tuned: false };
    /// With all that helps.
    pub(super) const TUNED: Self = Self { tuned: true };
}

impl Peer for Sshfs {
    fn name(&self) -> &'static str {
        if self.tuned { "sshfs-tuned" } else { "sshfs" }
    }

    fn info(&self, _site: &Site) -> PeerInfo {
        let tuned = format!("-o {TUNED}");
        let cipher = format!("Ciphers {CIPHER}");
        let server = "server: sshd with internal-sftp";
        let settings = if self.tuned {
            [tuned.as_str(), cipher.as_str(), server]
        } else {
            ["no -o options", "OpenSSH's default cipher", server]
        };
        let durability =
            "close: in the server's page cache; fsync: on the server's disk (fsync@openssh.com)";
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
            source: format!("{ALIAS}:{}", share.display()),
            tuned: self.tuned,
        }))
    }
}

fn version() -> Result<String, Unavailable> {
    let hint = Some("apt-get install sshfs openssh-server");
    let sshfs = version_of("sshfs", "--version", hint)?;
    super::fuse()?;
    Ok(format!("{sshfs}, {}", sshd::version()?))
}

/// A running sshd, for sshfs.
struct Server {
    sshd: Sshd,
    source: String,
    tuned: bool,
}

impl Server {
    /// All that ssh needs to connect, and nothing that makes it faster or slower unless tuned.
    fn configuration(&self) -> String {
        let mut text = format!(
            "Host {ALIAS}\n\
             HostName {}\n\
             Port {}\n\
             User {}\n\
             IdentityFile \"{}\"\n\
             IdentitiesOnly yes\n\
             IdentityAgent none\n\
             UserKnownHostsFile \"{}\"\n\
             GlobalKnownHostsFile /dev/null\n\
             StrictHostKeyChecking yes\n\
             BatchMode yes\n",
            self.sshd.address.ip(),
            self.sshd.address.port(),
            self.sshd.user,
            self.sshd.key.display(),
            self.sshd.known_hosts.display(),
        );
        if self.tuned {
            text.push_str(&format!("Ciphers {CIPHER}\n"));
        }
        text
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
        let configuration = folder.join("ssh_config");
        fs::write(&configuration, self.configuration())?;
        let mut command = Command::new("sshfs");
        command.arg("-f").arg("-F").arg(&configuration);
        if self.tuned {
            command.args(["-o", TUNED]);
        }
        command.arg(&self.source).arg(path);
        let child = Child::spawn(&site.mount, "sshfs", folder, &mut command, false)?;
        Ok(Box::new(ProgramMount::new(path, child)?))
    }
}
