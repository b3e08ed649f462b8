//! The runtime directory: where the processes of a user find each other.
//!
//! `$XDG_RUNTIME_DIR/wormhole`; without one, `/run/wormhole` for root and `/tmp/wormhole-UID` for
//! others. In `/tmp` anybody may have made that name first, so the directory is used only if it is a
//! real directory, ours, and closed to everyone else.
//!
//! Files in it are `ROLE-PID.sock` (status sockets), `ROLE-PID.control` (where mounts take orders) and
//! `ROLE-PID.log` (logs of daemons). Those of dead
//! processes are swept when somebody looks.

use rustix::process::{Pid, test_kill_process};
use std::ffi::OsStr;
use std::fs::{DirBuilder, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Most processes looked at.
pub const PROCESSES_MAX: usize = 1024;
/// How long the log of a dead process is kept.
const LOG_KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// The runtime directory of this user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeDir {
    path: PathBuf,
    /// Whether dead processes' files are removed: only where nobody else can plant names.
    own: bool,
}

impl RuntimeDir {
    /// Opens it, making it if need be.
    ///
    /// # Errors
    /// If it cannot be made, or belongs to somebody else.
    pub fn open() -> io::Result<Self> {
        let uid = rustix::process::geteuid();
        let xdg = std::env::var_os("XDG_RUNTIME_DIR");
        Self::open_at(location(xdg.as_deref(), uid.as_raw()))
    }

    /// Opens, or makes, the one at `path`; for tests.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_at(path: PathBuf) -> io::Result<Self> {
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        // Not following: a symlink somebody planted is no directory.
        let found = std::fs::symlink_metadata(&path)?;
        let own = rustix::process::geteuid().as_raw();
        if let Some(fault) = unsafe_for(own, &found) {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("{} {fault}: not used", path.display()),
            ));
        }
        if found.mode() & 0o077 != 0 {
            std::fs::set_permissions(&path, Permissions::from_mode(0o700))?;
        }
        Ok(Self { path, own: true })
    }

    /// The directories whose processes this user may ask: its own and, for root, everyone's.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_all() -> io::Result<Vec<Self>> {
        let mut all = vec![Self::open()?];
        if rustix::process::geteuid().is_root() {
            let users = foreign(Path::new("/run/user"), "", "wormhole");
            let without_xdg = foreign(Path::new("/tmp"), "wormhole-", "");
            for dir in users.into_iter().chain(without_xdg) {
                if all.iter().all(|known| known.path != dir.path) {
                    all.push(dir);
                }
            }
        }
        Ok(all)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes a socket nobody listens on.
    pub(super) fn sweep(&self, socket: &Path) {
        if self.own {
            let _ = std::fs::remove_file(socket);
        }
    }

    /// The status socket of a process.
    pub fn socket(&self, role: &str, pid: u32) -> PathBuf {
        self.path.join(format!("{role}-{pid}.sock"))
    }

    /// The control socket of a process.
    pub fn control(&self, role: &str, pid: u32) -> PathBuf {
        self.path.join(format!("{role}-{pid}.control"))
    }

    /// The log of a daemon.
    pub fn log(&self, role: &str, pid: u32) -> PathBuf {
        self.path.join(format!("{role}-{pid}.log"))
    }

    /// The status sockets of living processes, by process id. Sockets of dead ones are removed, and
    /// their logs when they are old, but not in another user's directory.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn sockets(&self) -> io::Result<Vec<(u32, PathBuf)>> {
        let mut living = Vec::new();
        for entry in std::fs::read_dir(&self.path)?.flatten() {
            let path = entry.path();
            let Some(pid) = pid_of(&path) else { continue };
            let kind = path.extension().and_then(OsStr::to_str);
            match (kind, is_alive(pid)) {
                (Some("sock"), true) if living.len() < PROCESSES_MAX => living.push((pid, path)),
                _ if !self.own => {}
                (Some("sock" | "control"), false) => drop(std::fs::remove_file(path)),
                (Some("log" | "old"), false) if is_old(&entry.metadata()) => {
                    drop(std::fs::remove_file(path));
                }
                _ => {}
            }
        }
        living.sort();
        Ok(living)
    }
}

fn location(xdg_runtime_dir: Option<&OsStr>, uid: u32) -> PathBuf {
    // The XDG specification has relative paths ignored.
    match xdg_runtime_dir.map(Path::new) {
        Some(dir) if dir.is_absolute() && dir.is_dir() => dir.join("wormhole"),
        _ if uid == 0 => PathBuf::from("/run/wormhole"),
        _ => PathBuf::from(format!("/tmp/wormhole-{uid}")),
    }
}

/// The runtime directories of other users: `base/PREFIX<uid>/inner`, if they belong to that uid.
fn foreign(base: &Path, prefix: &str, inner: &str) -> Vec<RuntimeDir> {
    let Ok(entries) = std::fs::read_dir(base) else {
        return Vec::new();
    };
    let of_user = |name: &OsStr| name.to_str()?.strip_prefix(prefix)?.parse::<u32>().ok();
    entries
        .flatten()
        .filter_map(|entry| Some((of_user(&entry.file_name())?, entry.path().join(inner))))
        .filter(|(uid, path)| {
            std::fs::symlink_metadata(path).is_ok_and(|found| unsafe_for(*uid, &found).is_none())
        })
        .take(PROCESSES_MAX)
        .map(|(_, path)| RuntimeDir { path, own: false })
        .collect()
}

fn unsafe_for(own_uid: u32, found: &Metadata) -> Option<&'static str> {
    if !found.is_dir() {
        Some("is not a directory")
    } else if found.uid() != own_uid {
        Some("belongs to another user")
    } else {
        None
    }
}

/// `mount-123.sock`, `host-7.log.old`: the number.
fn pid_of(path: &Path) -> Option<u32> {
    let name = path.file_name()?.to_str()?;
    let (role, rest) = name.split_once('-')?;
    let (pid, _) = rest.split_once('.')?;
    (matches!(role, "mount" | "host") && !pid.starts_with('+')).then(|| pid.parse().ok())?
}

fn is_alive(pid: u32) -> bool {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return false;
    };
    test_kill_process(pid) != Err(rustix::io::Errno::SRCH)
}

fn is_old(metadata: &io::Result<Metadata>) -> bool {
    let age = |found: &Metadata| {
        SystemTime::now()
            .duration_since(found.modified().ok()?)
            .ok()
    };
    metadata
        .as_ref()
        .is_ok_and(|found| age(found).is_some_and(|age| age > LOG_KEPT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_it_is() {
        let xdg = tempfile::tempdir().unwrap();
        let set = Some(xdg.path().as_os_str());
        assert_eq!(location(set, 0), xdg.path().join("wormhole"));
        for unusable in [
            None,
            Some(OsStr::new("relative")),
            Some(OsStr::new("/no/such")),
        ] {
            assert_eq!(location(unusable, 0), Path::new("/run/wormhole"));
            assert_eq!(location(unusable, 7), Path::new("/tmp/wormhole-7"));
        }
    }

    #[test]
    fn it_is_made_private_and_kept_so() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("wormhole");
        RuntimeDir::open_at(path.clone()).unwrap();
        let mode = || std::fs::metadata(&path).unwrap().mode() & 0o777;
        assert_eq!(mode(), 0o700);
        std::fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
        RuntimeDir::open_at(path.clone()).unwrap();
        assert_eq!(mode(), 0o700);
    }

    #[test]
    fn a_planted_symlink_or_a_foreign_owner_is_refused() {
        let tmp = tempfile::tempdir().unwrap();
        let link = tmp.path().join("link");
        std::os::unix::fs::symlink(tmp.path(), &link).unwrap();
        assert!(RuntimeDir::open_at(link).is_err());
        let found = std::fs::symlink_metadata(tmp.path()).unwrap();
        assert!(unsafe_for(found.uid(), &found).is_none());
        assert!(unsafe_for(found.uid() + 1, &found).is_some());
    }

    #[test]
    fn sockets_of_the_dead_are_removed_and_other_files_left() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = RuntimeDir::open_at(tmp.path().join("wormhole")).unwrap();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let dead = dir.socket("mount", child.id());
        let own = dir.socket("host", std::process::id());
        let dead_control = dir.control("mount", child.id());
        let fresh_log = dir.log("mount", child.id());
        let other = dir.path().join("notes-1.sock");
        for file in [&dead, &dead_control, &own, &fresh_log, &other] {
            std::fs::write(file, "").unwrap();
        }
        assert_eq!(dir.sockets().unwrap(), [(std::process::id(), own.clone())]);
        assert!(!dead.exists() && !dead_control.exists());
        assert!(own.exists() && fresh_log.exists() && other.exists());
    }

    #[test]
    fn others_directories_are_found_by_their_owner_and_never_swept() {
        let base = tempfile::tempdir().unwrap();
        let own = rustix::process::geteuid().as_raw();
        for name in [format!("w-{own}"), format!("w-{}", own + 1), "w-x".into()] {
            std::fs::create_dir(base.path().join(name)).unwrap();
        }
        let found = foreign(base.path(), "w-", "");
        assert_eq!(found.len(), 1);
        assert!(!found[0].own);
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let dead = found[0].socket("mount", child.id());
        std::fs::write(&dead, "").unwrap();
        assert_eq!(found[0].sockets().unwrap(), []);
        found[0].sweep(&dead);
        assert!(dead.exists());
    }

    #[test]
    fn names_that_are_not_ours_have_no_pid() {
        assert_eq!(pid_of(Path::new("/x/mount-12.sock")), Some(12));
        assert_eq!(pid_of(Path::new("/x/mount-12.log.old")), Some(12));
        for name in [
            "mount-.sock",
            "mount-x.sock",
            "mount--1.sock",
            "mount-+1.sock",
            "host",
        ] {
            assert_eq!(pid_of(Path::new(name)), None, "{name}");
        }
        assert!(!is_alive(0) && !is_alive(u32::MAX));
    }
}
