//! A share: a folder with a name, open and fit to be served.

use super::limits::HIDDEN_MAX;
use super::meta;
use super::resolve::Root;
use rustix::fs::{FsWord, fstatfs};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use wormhole_protocol::{FileId, Name, RelPath};

/// File systems whose files are calls into the kernel, not bytes on a disk (statfs(2)): `/proc`,
/// `/sys`, debugfs, tracefs.
const PSEUDO: [FsWord; 4] = [0x9fa0, 0x6265_6572, 0x6462_6720, 0x7472_6163];

/// A path as a message shows it: control characters escaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownPath(PathBuf);

impl fmt::Display for ShownPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.as_os_str().as_bytes().escape_ascii())
    }
}

/// Why a folder cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ShareError {
    /// Nothing there.
    #[error("there is no folder {0}")]
    NotFound(ShownPath),
    /// Not a folder.
    #[error("{0} is not a folder: only folders can be hosted")]
    NotDirectory(ShownPath),
    /// This user may not read it.
    #[error("you may not read the folder {0}")]
    Denied(ShownPath),
    /// A file system of the kernel's own.
    #[error("{0} belongs to the kernel (like /proc): it cannot be hosted")]
    Pseudo(ShownPath),
    /// No openat2.
    #[error(
        "this kernel cannot confine paths to the folder (openat2 is missing; Linux 5.6 or newer has it, unless a sandbox forbids it): refusing to host"
    )]
    KernelTooOld,
    /// No /proc.
    #[error("/proc is not mounted: files cannot be opened safely without it")]
    NoProc,
    /// It would give away the host's own secrets.
    #[error("{0} is where Wormhole keeps its own secrets: it cannot be hosted")]
    HoldsState(ShownPath),
    /// Anything else.
    #[error("cannot host {0}: {1}")]
    Io(ShownPath, #[source] io::Error),
}

/// A folder that is served.
#[derive(Debug)]
pub struct Share {
    name: Name,
    path: PathBuf,
    root: Root,
    identity: FileId,
}

impl Share {
    /// Opens the folder at `path` (symlinks in it are followed once, now) to be served as `name`.
    ///
    /// # Errors
    /// [`ShareError`], each with a sentence for the user.
    pub fn open(path: &Path, name: Name) -> Result<Self, ShareError> {
        let asked = ShownPath(path.to_owned());
        let path = path.canonicalize().map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => ShareError::NotFound(asked.clone()),
            io::ErrorKind::PermissionDenied => ShareError::Denied(asked.clone()),
            io::ErrorKind::NotADirectory => ShareError::NotDirectory(asked.clone()),
            _ => ShareError::Io(asked.clone(), e),
        })?;
        let told = |e: Errno| match e {
            Errno::NOTDIR => ShareError::NotDirectory(asked.clone()),
            Errno::NOENT => ShareError::NotFound(asked.clone()),
            Errno::ACCESS => ShareError::Denied(asked.clone()),
            Errno::NOSYS => ShareError::KernelTooOld,
            Errno::NODEV => ShareError::NoProc,
            e => ShareError::Io(asked.clone(), e.into()),
        };
        let root = Root::open(&path).map_err(told)?;
        if PSEUDO.contains(&fstatfs(root.fd()).map_err(told)?.f_type) {
            return Err(ShareError::Pseudo(asked));
        }
        // A folder that cannot be listed is better refused now than found empty by every mount.
        root.reopen_dir(root.fd()).map_err(told)?;
        let identity = meta::file_id(&meta::stat(root.fd()).map_err(told)?);
        Ok(Self {
            name,
            path,
            root,
            identity,
        })
    }

    /// The name a folder gets when the user gave none: its own, or `root` for `/`.
    pub fn name_for(path: &Path) -> Name {
        let own = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        own.file_name()
            .map(OsStr::as_bytes)
            .and_then(|own| Name::new(own).ok())
            .unwrap_or_else(|| Name::new(*b"root").expect("`root` is a plain name"))
    }

    /// Its name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Its canonical path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Identity of its root directory.
    pub fn identity(&self) -> FileId {
        self.identity
    }

    /// Hides what is at `secret` from mounts, if it lies beneath this share: hosting a home directory
    /// must not hand out the host's key and tickets that are kept in it. At most 8 paths.
    ///
    /// # Errors
    /// [`ShareError::HoldsState`] if the share itself is `secret`; [`ShareError::Io`] if `secret`
    /// cannot be found, or too many are hidden.
    pub fn hide(&mut self, secret: &Path) -> Result<(), ShareError> {
        let shown = || ShownPath(secret.to_owned());
        let canonical = secret
            .canonicalize()
            .map_err(|e| ShareError::Io(shown(), e))?;
        if self.path == canonical {
            return Err(ShareError::HoldsState(ShownPath(self.path.clone())));
        }
        let Ok(beneath) = canonical.strip_prefix(&self.path) else {
            return Ok(());
        };
        let told = |text: &str| ShareError::Io(shown(), io::Error::other(text.to_owned()));
        let beneath = RelPath::new(beneath.as_os_str().as_bytes())
            .map_err(|e| told(&format!("cannot be hidden from mounts: {e}")))?;
        if !self.root.hide(beneath) {
            return Err(told(&format!("more than {HIDDEN_MAX} paths to hide")));
        }
        Ok(())
    }

    /// Where its paths are resolved.
    pub(super) fn root(&self) -> &Root {
        &self.root
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn name() -> Name {
        Name::new(*b"x").unwrap()
    }

    #[test]
    fn what_cannot_be_served_is_refused_with_its_reason() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file\n");
        fs::write(&file, "").unwrap();
        let refusal = |path: &Path| Share::open(path, name()).unwrap_err();
        assert!(matches!(
            refusal(&dir.path().join("gone")),
            ShareError::NotFound(_)
        ));
        let error = refusal(&file);
        assert!(matches!(error, ShareError::NotDirectory(_)));
        assert!(
            !error.to_string().contains('\n'),
            "control characters are escaped"
        );
        assert!(matches!(
            refusal(&file.join("below")),
            ShareError::NotDirectory(_)
        ));
        assert!(matches!(refusal(Path::new("/proc")), ShareError::Pseudo(_)));
        assert!(matches!(
            refusal(Path::new("/proc/self/fd")),
            ShareError::Pseudo(_)
        ));
    }

    #[test]
    fn a_symlink_to_a_folder_is_followed_once_and_names_come_from_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().join("real");
        fs::create_dir(&real).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("real", &link).unwrap();
        let share = Share::open(&link, Share::name_for(&link)).unwrap();
        assert_eq!(share.path(), real.canonicalize().unwrap());
        assert_eq!(share.name().as_bytes(), b"real");
        assert_eq!(Share::name_for(Path::new("/")).as_bytes(), b"root");
    }

    #[test]
    fn secrets_are_hidden_or_the_share_refused() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("home/.state");
        fs::create_dir_all(&state).unwrap();
        let mut home = Share::open(&dir.path().join("home"), name()).unwrap();
        home.hide(&state).unwrap();
        let hidden = RelPath::new(*b".state").unwrap();
        assert!(home.root().node(&hidden).is_err());
        let mut itself = Share::open(&state, name()).unwrap();
        assert!(matches!(
            itself.hide(&state),
            Err(ShareError::HoldsState(_))
        ));
        let other = dir.path().join("other");
        fs::create_dir(&other).unwrap();
        Share::open(&other, name()).unwrap().hide(&state).unwrap();
    }
}
