//! A world of its own for a lab: processes, mounts and networks that end with it.
//!
//! A program that wants a lab starts itself once more, as process 1 of new namespaces:
//!
//! ```text
//! program (outside)            waits, passes signals on
//!   └── program (inside)       process 1 of a PID namespace; its own mounts, its own networks
//!         └── everything it starts
//! ```
//!
//! When process 1 ends, however it ends, the kernel ends every process inside, and with the last one
//! go the mounts and the networks. Process 1 in turn is killed by the kernel when the outer process
//! dies. So `kill -9` on any of them leaves nothing behind but files.
//!
//! Root needs nothing else. Other users get a user namespace first, in which they are root, where the
//! kernel permits that.

use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, geteuid, getgid, getpid, getuid, pidfd_open, wait,
};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use std::ffi::CStr;
use std::io;
use std::os::fd::OwnedFd;
use std::process::{Command, ExitStatus};

/// Why there is no sandbox.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// Namespaces need root, or user namespaces.
    #[error(
        "emulating a link needs namespaces of its own, and the kernel refuses them to this user ({0}): run it as root (sudo), or let an administrator allow unprivileged user namespaces"
    )]
    Refused(io::Error),
    /// Its first process could not be started.
    #[error("starting the lab's first process: {0}")]
    Start(io::Error),
    /// A step inside failed.
    #[error("setting up the lab's own {what}: {error}")]
    Inside {
        /// What was set up.
        what: &'static str,
        /// What the system said.
        error: io::Error,
    },
    /// Not started as process 1.
    #[error("this is for a lab's own first process: it is not to be run by hand")]
    NotFirst,
}

/// Makes this process one that may make namespaces. Call it before any thread is started.
///
/// # Errors
/// [`SandboxError::Refused`].
pub fn claim() -> Result<(), SandboxError> {
    if geteuid().is_root() {
        return Ok(());
    }
    become_root_of_a_user_namespace().map_err(SandboxError::Refused)
}

/// Runs `command` as the first process of a sandbox, which is to call [`enter`], and waits for its end.
/// `started` gets a handle that stays good for signals as long as it is kept.
///
/// The calling thread must live until then, for its end is the sandbox's end, and it must have no
/// other business: it can start no threads any more.
///
/// # Errors
/// [`SandboxError::Refused`]; [`SandboxError::Start`].
pub fn run(
    command: &mut Command,
    started: impl FnOnce(OwnedFd),
) -> Result<ExitStatus, SandboxError> {
    unshare(UnshareFlags::NEWPID).map_err(SandboxError::Refused)?;
    let mut child = command.spawn().map_err(SandboxError::Start)?;
    let handle = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())
        .map_err(|error| SandboxError::Start(error.into()))?;
    started(handle);
    child.wait().map_err(SandboxError::Start)
}

/// The first steps of a sandbox's first process.
///
/// # Errors
/// [`SandboxError`].
pub fn enter() -> Result<(), SandboxError> {
    if getpid().as_raw_nonzero().get() != 1 {
        return Err(SandboxError::NotFirst);
    }
    let inside = |what| move |error: io::Error| SandboxError::Inside { what, error };
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(io::Error::from)
        .map_err(inside("end"))?;
    unshare(UnshareFlags::NEWNS | UnshareFlags::NEWNET | UnshareFlags::NEWIPC)
        .map_err(inside("namespaces"))?;
    mounts().map_err(inside("mounts"))
}

/// Starts `command`, does nothing else but bury what dies in the sandbox, as is the duty of process 1
/// (orphans become its children), and returns the exit code of `command`; 128 and the number of the signal
/// if one ended it, as shells do.
///
/// # Errors
/// If it cannot be started.
pub fn supervise(command: &mut Command) -> io::Result<i32> {
    let child = Pid::from_child(&command.spawn()?);
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((dead, status))) if dead == child => {
                let killed = || status.terminating_signal().map(|signal| 128 + signal);
                return Ok(status.exit_status().or_else(killed).unwrap_or(1));
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn mounts() -> io::Result<()> {
    // What is mounted here stays here.
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )?;
    mount("proc", "/proc", "proc", restricted(), None::<&CStr>)?;
    // Programs keep sockets and process ids in here, and those of the machine are none of the lab's.
    mount("tmpfs", "/run", "tmpfs", restricted(), Some(c"mode=755"))?;
    std::fs::create_dir("/run/netns")
}

fn restricted() -> MountFlags {
    MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC
}

fn become_root_of_a_user_namespace() -> io::Result<()> {
    let (uid, gid) = (getuid(), getgid());
    unshare(UnshareFlags::NEWUSER)?;
    // A map of groups may only be written by whoever gave up changing them (user_namespaces(7)).
    std::fs::write("/proc/self/setgroups", "deny")?;
    std::fs::write("/proc/self/uid_map", format!("0 {} 1", uid.as_raw()))?;
    std::fs::write("/proc/self/gid_map", format!("0 {} 1", gid.as_raw()))
}

pub(crate) fn unshare(flags: UnshareFlags) -> io::Result<()> {
    debug_assert!(!flags.contains(UnshareFlags::FILES));
    // SAFETY: it is unsafe for CLONE_FILES alone, which would leave other threads' descriptors
    // without a meaning; none of the flags used here is that.
    Ok(unsafe { unshare_unsafe(flags) }?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_enters_a_sandbox_that_is_none() {
        assert!(matches!(enter(), Err(SandboxError::NotFirst)));
    }
}
