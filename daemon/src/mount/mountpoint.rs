//! The place where a share appears: checks before mounting, the readahead knob, unmounting.
//!
//! Every check here answers a mistake people make with a sentence that says what to do. None of them
//! is a security boundary: between check and mount the place may change, and then the kernel or
//! fusermount3 (which checks again, in a way that holds) refuses.
//!
//! Nothing here touches the inside of a mount that may hang: paths are resolved through their parent
//! first, and a mount that is looked at is looked at from a thread of its own.
//!
//! Not here: FUSE itself (`mount::fuse`), who serves a mount (`status`).

pub mod table;

use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;
use table::MountEntry;

/// How long a mount may take to show whether its process is still there.
const LIVENESS_WAIT: Duration = Duration::from_secs(1);
/// Longest name of the source of a mount we make.
const FS_NAME_CHARS_MAX: usize = 128;

/// Why nothing can be mounted there.
#[derive(Debug, thiserror::Error)]
pub enum MountpointError {
    /// There is nothing.
    #[error("{path} does not exist; create it first: mkdir -p {path}", path = .0.display())]
    Missing(PathBuf),
    /// There is something else.
    #[error("{} is not a directory", .0.display())]
    NotDirectory(PathBuf),
    /// mount.fuse3 opened the device itself.
    #[error(
        "{} is a FUSE device opened by mount(8): the option drop_privileges is not supported",
        .0.display()
    )]
    Descriptor(PathBuf),
    /// There are files in it, which the mount would hide.
    #[error(
        "{} is not empty: its files would be hidden while mounted. Use an empty directory, or -o nonempty",
        .0.display()
    )]
    NotEmpty(PathBuf),
    /// Another file system is there.
    #[error("{path} is already a mount point: {source_name} ({fs_type}) is mounted there. Unmount it first: {how}", path = .mountpoint.display())]
    AlreadyMounted {
        /// The place.
        mountpoint: PathBuf,
        /// What is mounted.
        source_name: String,
        /// Its type.
        fs_type: String,
        /// The command that unmounts it.
        how: String,
    },
    /// The kernel has no FUSE, or this container does not show it.
    #[error(
        "/dev/fuse is missing: load the kernel module (modprobe fuse); in a container, start it with --device /dev/fuse --cap-add SYS_ADMIN"
    )]
    NoDevice,
    /// An unprivileged user needs the helper.
    #[error(
        "fusermount3 is missing, which a user other than root needs: sudo apt-get install fuse3"
    )]
    NoHelper,
    /// The system forbids what was asked.
    #[error(
        "--allow-other needs a line \"user_allow_other\" in /etc/fuse.conf (or root): echo user_allow_other | sudo tee -a /etc/fuse.conf"
    )]
    AllowOtherForbidden,
    /// Something else.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The place.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
}

/// What [`prepare`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// The canonical path to mount at.
    pub path: PathBuf,
    /// Whether the remains of a mount whose process had died were taken away.
    pub removed_stale: bool,
}

/// Checks that a share may be mounted at `path`, and takes away the remains of a dead Wormhole mount.
///
/// # Errors
/// Each [`MountpointError`] but those of [`require_fuse`].
pub fn prepare(path: &Path, allow_nonempty: bool) -> Result<Prepared, MountpointError> {
    let failed = |source| MountpointError::Io {
        path: path.to_owned(),
        source,
    };
    if path.starts_with("/dev/fd") {
        return Err(MountpointError::Descriptor(path.to_owned()));
    }
    let place = match resolve(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(MountpointError::Missing(path.to_owned()));
        }
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            return Err(MountpointError::NotDirectory(path.to_owned()));
        }
        resolved => resolved.map_err(failed)?,
    };
    let mut removed_stale = false;
    // Dead mounts can lie on top of each other.
    while let Some(there) = table::mount_at(&place).map_err(failed)? {
        if !(there.is_wormhole() && is_stale(&place)) {
            return Err(already_mounted(&there));
        }
        unmount(&place, Unmount::Lazy).map_err(failed)?;
        removed_stale = true;
    }
    let metadata = std::fs::metadata(&place).map_err(failed)?;
    if !metadata.is_dir() {
        return Err(MountpointError::NotDirectory(place));
    }
    if !allow_nonempty && std::fs::read_dir(&place).map_err(failed)?.next().is_some() {
        return Err(MountpointError::NotEmpty(place));
    }
    Ok(Prepared {
        path: place,
        removed_stale,
    })
}

fn already_mounted(there: &MountEntry) -> MountpointError {
    let path = there.mountpoint.display();
    MountpointError::AlreadyMounted {
        mountpoint: there.mountpoint.clone(),
        source_name: there.source.as_bytes().escape_ascii().to_string(),
        fs_type: there.fs_type.escape_default().to_string(),
        how: if there.is_wormhole() {
            format!("wormhole unmount {path}")
        } else {
            format!("umount {path}")
        },
    }
}

/// The canonical form of `path`, found without touching what is mounted there if something is.
///
/// # Errors
/// Those of realpath(3).
pub fn resolve(path: &Path) -> io::Result<PathBuf> {
    let absolute = std::path::absolute(path)?;
    if let (Some(parent), Some(name)) = (absolute.parent(), absolute.file_name()) {
        let place = parent.canonicalize()?.join(name);
        if table::mount_at(&place)?.is_some() {
            return Ok(place);
        }
    }
    absolute.canonicalize()
}

/// Whether the process behind a FUSE mount is gone. A mount that does not answer in time is taken for
/// alive: its process exists, and waits for its host.
pub fn is_stale(mountpoint: &Path) -> bool {
    let (answer, answered) = mpsc::channel();
    let place = mountpoint.to_owned();
    // The thread may outlive this call; it ends with the answer it waits for.
    let looking = std::thread::Builder::new()
        .name("stale-look".into())
        .spawn(move || answer.send(rustix::fs::stat(&place).err()));
    looking.is_ok()
        && matches!(
            answered.recv_timeout(LIVENESS_WAIT),
            Ok(Some(Errno::NOTCONN))
        )
}

/// Checks that this user can mount FUSE file systems at all.
///
/// # Errors
/// [`MountpointError::NoDevice`], [`MountpointError::NoHelper`],
/// [`MountpointError::AllowOtherForbidden`].
pub fn require_fuse(allow_other: bool) -> Result<(), MountpointError> {
    if !Path::new("/dev/fuse").exists() {
        return Err(MountpointError::NoDevice);
    }
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    if fusermount().is_none() {
        return Err(MountpointError::NoHelper);
    }
    let conf = std::fs::read_to_string("/etc/fuse.conf").unwrap_or_default();
    if allow_other && !allows_other(&conf) {
        return Err(MountpointError::AllowOtherForbidden);
    }
    Ok(())
}

/// Whether a `/etc/fuse.conf` lets users open their mounts to others.
fn allows_other(conf: &str) -> bool {
    conf.lines().any(|line| line.trim() == "user_allow_other")
}

fn fusermount() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/bin", "/bin", "/usr/local/bin"].map(PathBuf::from))
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join("fusermount3"))
        .find(|file| {
            std::fs::metadata(file)
                .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
        })
}

/// A name for the source of a mount that cannot carry a mount option along: only letters, digits and
/// `@ . : - _ [ ] /` stay, anything else becomes `_`.
pub fn fs_name(wanted: &str) -> String {
    wanted
        .chars()
        .take(FS_NAME_CHARS_MAX)
        .map(|c| match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' => c,
            '@' | '.' | ':' | '-' | '_' | '[' | ']' | '/' => c,
            _ => '_',
        })
        .collect()
}

/// Sets how far the kernel reads ahead in the file system mounted at `mountpoint`, in KiB. Needs root.
///
/// # Errors
/// If nothing is mounted there, or the knob cannot be written.
pub fn set_read_ahead(mountpoint: &Path, kib: u32) -> io::Result<()> {
    let entry = table::mount_at(mountpoint)?.ok_or(io::ErrorKind::NotFound)?;
    let (major, minor) = entry.device;
    std::fs::write(
        format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb"),
        kib.to_string(),
    )
}

/// How hard to unmount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmount {
    /// Not while anything in it is open.
    Clean,
    /// At once from the tree, from the rest when nothing in it is open any more.
    Lazy,
    /// Break off every request first; then as [`Unmount::Lazy`].
    Force,
}

/// Unmounts what is mounted at the canonical path `mountpoint`; never follows a symlink there.
/// A user other than root does so through fusermount3, for whom [`Unmount::Force`] is as lazy.
///
/// # Errors
/// `ResourceBusy` if something in it is open and `how` is [`Unmount::Clean`]; others of umount2(2).
pub fn unmount(mountpoint: &Path, how: Unmount) -> io::Result<()> {
    let flags = UnmountFlags::NOFOLLOW;
    let done = match how {
        Unmount::Clean => rustix::mount::unmount(mountpoint, flags),
        Unmount::Lazy => rustix::mount::unmount(mountpoint, flags | UnmountFlags::DETACH),
        // The kernel aborts the connection even when it then answers that the mount is busy.
        Unmount::Force => rustix::mount::unmount(mountpoint, flags | UnmountFlags::FORCE)
            .or_else(|_| rustix::mount::unmount(mountpoint, flags | UnmountFlags::DETACH)),
    };
    match done {
        Err(Errno::PERM) => unmount_as_user(mountpoint, how),
        done => Ok(done?),
    }
}

fn unmount_as_user(mountpoint: &Path, how: Unmount) -> io::Result<()> {
    let helper = fusermount().ok_or_else(|| io::Error::other(MountpointError::NoHelper))?;
    let mut command = Command::new(helper);
    command.arg("-u");
    if how != Unmount::Clean {
        command.arg("-z");
    }
    let output = command
        .arg(OsStr::new("--"))
        .arg(mountpoint)
        .stdin(Stdio::null())
        .env("LC_ALL", "C")
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    let text = output.stderr.trim_ascii().escape_ascii().to_string();
    if text.contains("busy") {
        Err(io::Error::new(io::ErrorKind::ResourceBusy, text))
    } else {
        Err(io::Error::other(text))
    }
}

/// A process that keeps a mount busy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its id.
    pub pid: u32,
    /// Its name, control characters escaped.
    pub name: String,
}

/// Most holders that are named.
pub const HOLDERS_MAX: usize = 10;

/// The processes with a working directory, root, program or open file beneath `mountpoint`; at most
/// [`HOLDERS_MAX`], and only those this user may look at.
pub fn holders(mountpoint: &Path) -> Vec<Holder> {
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| holds(*pid, mountpoint))
        .take(HOLDERS_MAX)
        .map(|pid| Holder {
            pid,
            name: std::fs::read(format!("/proc/{pid}/comm"))
                .unwrap_or_default()
                .trim_ascii()
                .escape_ascii()
                .to_string(),
        })
        .collect()
}

fn holds(pid: u32, mountpoint: &Path) -> bool {
    // Reading these links asks the kernel for a name only; it does not enter the mount.
    let beneath =
        |link: PathBuf| std::fs::read_link(link).is_ok_and(|target| target.starts_with(mountpoint));
    let process = PathBuf::from(format!("/proc/{pid}"));
    let fixed: [OsString; 3] = ["cwd".into(), "root".into(), "exe".into()];
    fixed.iter().any(|link| beneath(process.join(link)))
        || std::fs::read_dir(process.join("fd"))
            .is_ok_and(|fds| fds.flatten().any(|fd| beneath(fd.path())))
}

#[cfg(test)]
mod tests;
