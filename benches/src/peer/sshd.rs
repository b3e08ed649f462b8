//! A throw-away SSH server for one folder of the lab, with keys of its own.
//!
//! It knows one user, the one who runs the bench, by one key, and speaks SFTP only: no shell is started, and
//! so none of the user's start-up files. Neither it nor its clients read the configuration of this machine
//! or of the user.

use super::{LOOK_EVERY, PeerError, Site, Unavailable, late};
use crate::process::{self, Child, PATIENCE};
use rustix::net::{self, AddressFamily, SocketFlags, SocketType};
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Where sshd, started by root, locks up what has not logged in yet. Compiled into it.
const PRIVILEGE_SEPARATION: &str = "/run/sshd";
/// How long making a key, or telling a version, may take.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// A running server; ends when dropped.
pub(super) struct Sshd {
    child: Child,
    /// Holds `address` against all who take any free port.
    _port: OwnedFd,
    pub(super) address: SocketAddr,
    pub(super) user: String,
    /// The user's private key.
    pub(super) key: PathBuf,
    /// The server's public key, as a client keeps it.
    pub(super) known_hosts: PathBuf,
}

impl Sshd {
    /// Starts a server on the host's end, with all its files in `folder`.
    pub(super) fn start(site: &Site, folder: &Path) -> Result<Self, PeerError> {
        let sshd = process::which("sshd").ok_or_else(|| missing("sshd"))?;
        let ip = site.host.address();
        let (port, address) = site.host.within(|| reserve(ip))??;
        let (host_key, key) = (folder.join("host_key"), folder.join("user_key"));
        make_key(&host_key)?;
        make_key(&key)?;
        fs::copy(key.with_extension("pub"), folder.join("authorized_keys"))?;
        let known_hosts = folder.join("known_hosts");
        let public = fs::read_to_string(host_key.with_extension("pub"))?;
        fs::write(&known_hosts, format!("[{ip}]:{} {public}", address.port()))?;
        make_privilege_separation()?;
        let configuration = folder.join("sshd_config");
        fs::write(&configuration, configured(folder, address))?;
        let mut command = Command::new(sshd);
        command.args(["-D", "-e", "-f"]).arg(&configuration);
        let child = Child::spawn(&site.host, "sshd", folder, &mut command, false)?;
        let mut server = Self {
            child,
            _port: port,
            address,
            user: user()?,
            key,
            known_hosts,
        };
        server.wait(site)?;
        Ok(server)
    }

    /// Waits until it accepts connections.
    fn wait(&mut self, site: &Site) -> Result<(), PeerError> {
        let deadline = Instant::now() + PATIENCE;
        while site
            .host
            .within(|| TcpStream::connect(self.address))?
            .is_err()
        {
            if let Some(status) = self.child.ended() {
                return Err(self.child.failure(format!("ended with {status}")).into());
            }
            if Instant::now() > deadline {
                let problem = late("not ready", PATIENCE).to_string();
                return Err(self.child.failure(problem).into());
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }
}

/// A free port of `ip`, and what keeps it from being given to others. A server that allows the address
/// to be reused, as sshd does, may listen there all the same, as long as nobody else does (socket(7)).
fn reserve(ip: IpAddr) -> io::Result<(OwnedFd, SocketAddr)> {
    let any = SocketAddr::new(ip, 0);
    let family = match ip {
        IpAddr::V4(_) => AddressFamily::INET,
        IpAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    net::sockopt::set_socket_reuseaddr(&socket, true)?;
    net::bind(&socket, &any)?;
    let address = SocketAddr::try_from(net::getsockname(&socket)?)?;
    Ok((socket, address))
}

/// The configuration of a server at `address` whose keys are in `folder`.
fn configured(folder: &Path, address: SocketAddr) -> String {
    let (folder, pam) = (folder.display(), if is_locked() { "yes" } else { "no" });
    let (ip, port) = (address.ip(), address.port());
    format!(
        "ListenAddress {ip}\n\
         Port {port}\n\
         HostKey \"{folder}/host_key\"\n\
         AuthorizedKeysFile \"{folder}/authorized_keys\"\n\
         PidFile none\n\
         StrictModes no\n\
         UsePAM {pam}\n\
         PermitRootLogin yes\n\
         PasswordAuthentication no\n\
         KbdInteractiveAuthentication no\n\
         UseDNS no\n\
         MaxStartups 64\n\
         Subsystem sftp internal-sftp\n\
         ForceCommand internal-sftp\n"
    )
}

/// Whether the user's password is locked, as that of root is on many desktops: sshd then lets nobody in
/// by itself, and has to leave the question to PAM.
fn is_locked() -> bool {
    let shadow = fs::read_to_string("/etc/shadow").unwrap_or_default();
    let user = user().unwrap_or_default();
    let mut entries = shadow.lines().filter_map(|line| line.split_once(':'));
    entries.any(|(name, rest)| name == user && rest.starts_with('!'))
}

fn make_key(path: &Path) -> Result<(), PeerError> {
    let program = process::which("ssh-keygen").ok_or_else(|| missing("ssh-keygen"))?;
    let mut command = Command::new(program);
    command.args([
        "-q",
        "-t",
        "ed25519",
        "-N",
        "",
        "-C",
        "wormhole bench",
        "-f",
    ]);
    let output = process::run(command.arg(path), ANSWER_MAX)?;
    if output.status.success() {
        return Ok(());
    }
    Err(PeerError::Program {
        program: "ssh-keygen".to_owned(),
        problem: format!("ended with {}", output.status),
        log: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// The folder may be missing where sshd was never started as a service.
fn make_privilege_separation() -> io::Result<()> {
    let path = Path::new(PRIVILEGE_SEPARATION);
    if !rustix::process::geteuid().is_root() || path.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path).map_err(|error| {
        let problem = format!("sshd needs {PRIVILEGE_SEPARATION}, which cannot be made: {error}");
        io::Error::new(error.kind(), problem)
    })
}

/// The name of the user who runs this.
fn user() -> io::Result<String> {
    let output = process::run(Command::new("id").arg("-un"), ANSWER_MAX)?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn missing(program: &str) -> PeerError {
    PeerError::Late(format!("there is no program {program}"))
}

/// Whether a server can run here; the version of OpenSSH if so.
pub(super) fn version() -> Result<String, Unavailable> {
    for program in ["sshd", "ssh-keygen", "ssh"] {
        if process::which(program).is_none() {
            return Err(Unavailable {
                reason: format!("there is no program {program}"),
                install: Some("apt-get install openssh-server openssh-client".to_owned()),
            });
        }
    }
    let unavailable = |reason: String| Unavailable {
        reason,
        install: None,
    };
    if rustix::process::geteuid().is_root() {
        let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        let groups = fs::read_to_string("/proc/self/setgroups").unwrap_or_default();
        if !can_change_users(&map, &groups) {
            let reason = "sshd cannot change users in this user namespace; run as root";
            return Err(unavailable(reason.to_owned()));
        }
        make_privilege_separation().map_err(|error| unavailable(error.to_string()))?;
    }
    let output = process::run(Command::new("ssh").arg("-V"), ANSWER_MAX)
        .map_err(|error| unavailable(error.to_string()))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let version = said.split([',', ' ', '\n']).next().unwrap_or_default();
    Ok(version.to_owned())
}

/// Whether there are more users here than the one who made the namespace.
fn can_change_users(uid_map: &str, setgroups: &str) -> bool {
    let counts = uid_map.lines().filter_map(|line| {
        let count = line.split_whitespace().nth(2)?;
        count.parse::<u64>().ok()
    });
    counts.sum::<u64>() > 65_535 && setgroups.trim() == "allow"
}

/// As programs write it that join it with a port by a colon.
pub(super) fn bracketed(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::{can_change_users, reserve};
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    #[test]
    fn a_reserved_port_can_be_listened_at_once() {
        let (_port, address) = reserve(Ipv4Addr::LOCALHOST.into()).expect("a port");
        TcpStream::connect(address).expect_err("nobody listens");
        let _server = TcpListener::bind(address).expect("with the address reused");
        TcpStream::connect(address).expect("somebody listens");
        TcpListener::bind(address).expect_err("one is there");
    }

    #[test]
    fn a_namespace_with_one_user_is_not_enough() {
        assert!(can_change_users(
            "         0          0 4294967295\n",
            "allow\n"
        ));
        assert!(can_change_users("0 1000 1\n1 100000 65536\n", "allow\n"));
        assert!(!can_change_users("0 1000 1\n", "deny\n"));
        assert!(!can_change_users("0 1000 1\n1 100000 65536\n", "deny\n"));
    }
}
