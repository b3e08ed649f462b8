//! From a path in a request to a descriptor: always beneath the share root, following nothing.
//!
//! The kernel resolves each path in one call (`openat2(2)`), starting at the root's descriptor, with
//! - `RESOLVE_BENEATH`: never above the root, whatever is renamed meanwhile;
//! - `RESOLVE_NO_SYMLINKS`: a symlink in the middle of a path is an error. Symlinks travel as data,
//!   and a mount never sends a path through one;
//! - `RESOLVE_NO_MAGICLINKS`: never through what `/proc` fakes.
//!
//! What comes out is an `O_PATH` descriptor: it pins the node, but opens nothing, so a FIFO cannot
//! block and a device is not touched. To read, the *same* node is opened again through `/proc/self/fd`
//! of a descriptor of our own, after its kind was checked.
//!
//! Mount points beneath the share are crossed as plain directories: what the owner mounted there, the
//! owner shares. `..` does not occur: [`RelPath`] cannot hold it.

use super::fault;
use super::limits::{HIDDEN_MAX, RESOLVE_TRIES};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, ResolveFlags, chmodat, linkat, open, openat, openat2,
};
use rustix::io::Errno;
use std::ffi::CStr;
use std::path::Path;
use wormhole_protocol::{Fault, RelPath};

const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);
const LOOK: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The root of a share, from which all paths are resolved.
#[derive(Debug)]
pub(super) struct Root {
    root: OwnedFd,
    /// `/proc/self/fd`, held open: what is mounted over `/proc` later does not matter. It belongs to
    /// this process: a root must be opened after any fork.
    proc_fds: OwnedFd,
    hidden: Vec<RelPath>,
}

impl Root {
    /// Opens the directory at `path`, which must be canonical.
    ///
    /// # Errors
    /// What `open(2)` says; `NOSYS` if the kernel has no openat2 (or a sandbox forbids it), `NODEV`
    /// if there is no `/proc`.
    pub(super) fn open(path: &Path) -> Result<Self, Errno> {
        let root = openat2(
            CWD,
            path,
            LOOK | OFlags::DIRECTORY,
            Mode::empty(),
            ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS,
        )
        // Sandboxes of old forbid calls they do not know with EPERM.
        .map_err(|e| if e == Errno::PERM { Errno::NOSYS } else { e })?;
        let proc_fds = open(
            "/proc/self/fd",
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(|_| Errno::NODEV)?;
        Ok(Self {
            root,
            proc_fds,
            hidden: Vec::new(),
        })
    }

    /// The root directory (`O_PATH`).
    pub(super) fn fd(&self) -> &OwnedFd {
        &self.root
    }

    /// Hides `path` and all beneath it: to mounts it does not exist. False if too much is hidden.
    pub(super) fn hide(&mut self, path: RelPath) -> bool {
        if self.hidden.contains(&path) {
            return true;
        }
        let room = self.hidden.len() < HIDDEN_MAX;
        if room {
            self.hidden.push(path);
        }
        room
    }

    /// The node at `path`, as an `O_PATH` descriptor; a symlink itself if it is one.
    ///
    /// # Errors
    /// [`Fault::Stale`] if a symlink is in the way; else what the kernel says.
    pub(super) fn node(&self, path: &RelPath) -> Result<OwnedFd, Fault> {
        if self.hides(path.as_bytes()) {
            return Err(Fault::NotFound);
        }
        let path = if path.is_root() {
            b"."
        } else {
            path.as_bytes()
        };
        resolve(&self.root, path, LOOK).map_err(fault::of)
    }

    /// Whether the entry `name` of directory `dir` is hidden.
    pub(super) fn hides_entry(&self, dir: &RelPath, name: &[u8]) -> bool {
        self.hidden.iter().any(|hidden| {
            let rest = if dir.is_root() {
                Some(hidden.as_bytes())
            } else {
                hidden
                    .as_bytes()
                    .strip_prefix(dir.as_bytes())
                    .and_then(|rest| rest.strip_prefix(b"/"))
            };
            rest == Some(name)
        })
    }

    /// Whether something beneath the directory at `path` is hidden: if it moved, that would show.
    pub(super) fn hides_beneath(&self, path: &RelPath) -> bool {
        self.hidden.iter().any(|hidden| {
            let rest = hidden.as_bytes().strip_prefix(path.as_bytes());
            path.is_root() || rest.is_some_and(|rest| rest.first() == Some(&b'/'))
        })
    }

    fn hides(&self, path: &[u8]) -> bool {
        self.hidden.iter().any(|hidden| {
            path.strip_prefix(hidden.as_bytes())
                .is_some_and(|rest| rest.first().is_none_or(|b| *b == b'/'))
        })
    }

    /// The entry `name`, one component, of directory `dir`, as an `O_PATH` descriptor; a symlink itself.
    pub(super) fn entry(dir: &OwnedFd, name: &CStr) -> Result<OwnedFd, Errno> {
        resolve(dir, name.to_bytes(), LOOK)
    }

    /// Opens the regular file behind `node` for reading. The caller has checked that it is one:
    /// opening anything else could block or act.
    pub(super) fn reopen_file(&self, node: &OwnedFd) -> Result<OwnedFd, Errno> {
        self.reopen_for(node, OFlags::RDONLY)
    }

    /// The same, for what `access` says.
    pub(super) fn reopen_for(&self, node: &OwnedFd, access: OFlags) -> Result<OwnedFd, Errno> {
        let name = node.as_raw_fd().to_string();
        let flags = access | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        without_atime(flags, |flags| {
            openat(&self.proc_fds, name.as_str(), flags, Mode::empty())
        })
    }

    /// Sets the mode of `node` itself, which is no symlink.
    pub(super) fn set_mode(&self, node: &OwnedFd, mode: Mode) -> Result<(), Errno> {
        let name = node.as_raw_fd().to_string();
        chmodat(&self.proc_fds, name.as_str(), mode, AtFlags::empty())
    }

    /// Gives `node` itself, which is no symlink, the name `name` in `dir`.
    pub(super) fn link(&self, node: &OwnedFd, dir: &OwnedFd, name: &CStr) -> Result<(), Errno> {
        let from = node.as_raw_fd().to_string();
        let flags = AtFlags::SYMLINK_FOLLOW;
        linkat(&self.proc_fds, from.as_str(), dir, name, flags)
    }

    /// Opens the directory behind `node` for listing.
    pub(super) fn reopen_dir(&self, node: &OwnedFd) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        without_atime(flags, |flags| resolve(node, b".", flags))
    }

    /// A path that leads the kernel to `node` itself, for calls that know no descriptors.
    pub(super) fn proc_path(node: &impl AsFd) -> String {
        format!("/proc/self/fd/{}", node.as_fd().as_raw_fd())
    }
}

fn resolve(dir: impl AsFd, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    for _ in 0..RESOLVE_TRIES {
        match openat2(dir.as_fd(), path, flags, Mode::empty(), BENEATH) {
            // A rename or mount raced with the resolution, so the kernel could not vouch for it.
            Err(Errno::AGAIN | Errno::INTR) => {}
            done => return done,
        }
    }
    Err(Errno::AGAIN)
}

/// Reading through the host should not count as access, but only owners may ask for that.
fn without_atime(
    flags: OFlags,
    open: impl Fn(OFlags) -> Result<OwnedFd, Errno>,
) -> Result<OwnedFd, Errno> {
    match open(flags | OFlags::NOATIME) {
        Err(Errno::PERM) => open(flags),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn path(bytes: &str) -> RelPath {
        RelPath::new(bytes).unwrap()
    }

    #[test]
    fn nothing_is_followed() {
        let outer = tempfile::tempdir().unwrap();
        fs::write(outer.path().join("secret"), "x").unwrap();
        let dir = outer.path().join("share");
        fs::create_dir_all(dir.join("real")).unwrap();
        fs::write(dir.join("real/file"), "y").unwrap();
        symlink("real", dir.join("inner")).unwrap();
        symlink("..", dir.join("up")).unwrap();
        symlink("/", dir.join("slash")).unwrap();
        symlink("/proc/self/cwd", dir.join("magic")).unwrap();
        symlink("loop", dir.join("loop")).unwrap();
        let root = Root::open(&dir.canonicalize().unwrap()).unwrap();
        assert!(root.node(&path("real/file")).is_ok());
        assert!(root.node(&RelPath::root()).is_ok());
        for through in ["inner/file", "up/secret", "slash/etc", "magic/x", "loop/x"] {
            assert_eq!(
                root.node(&path(through)).err(),
                Some(Fault::Stale),
                "{through}"
            );
        }
        // The links themselves are there to be looked at.
        for link in ["inner", "up", "slash", "magic", "loop"] {
            assert!(root.node(&path(link)).is_ok(), "{link}");
        }
        assert_eq!(
            root.node(&path("real/file/x")).err(),
            Some(Fault::NotDirectory)
        );
        assert_eq!(root.node(&path("gone")).err(), Some(Fault::NotFound));
    }

    #[test]
    fn hidden_paths_do_not_exist() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/state/x")).unwrap();
        fs::create_dir_all(dir.path().join("a/stateful")).unwrap();
        let mut root = Root::open(&dir.path().canonicalize().unwrap()).unwrap();
        assert!(root.hide(path("a/state")));
        assert!(root.node(&path("a")).is_ok());
        assert!(root.node(&path("a/stateful")).is_ok());
        assert_eq!(root.node(&path("a/state")).err(), Some(Fault::NotFound));
        assert_eq!(root.node(&path("a/state/x")).err(), Some(Fault::NotFound));
        assert!(root.hides_entry(&path("a"), b"state"));
        assert!(!root.hides_entry(&path("a"), b"stateful"));
        assert!(!root.hides_entry(&RelPath::root(), b"state"));
    }
}
