//! A place that can be entered again later: a network namespace, and a mount namespace if need be.
//!
//! A [`LinkEnd`] is lent for the moment something is started; what has to be done there at the end goes
//! through a room. With a mount namespace of its own, a room hides files of this machine from the
//! programs in it, and whatever they mount is gone with the last of them.

use crate::mounts;
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use wormhole_netem::LinkEnd;

/// See the module.
#[derive(Debug)]
pub(crate) struct Room {
    network: File,
    mounts: Option<File>,
}

impl Room {
    /// The network of `end`, and the files of this process.
    pub(crate) fn of(end: &LinkEnd) -> io::Result<Self> {
        Ok(Self {
            network: end.within(network)??,
            mounts: None,
        })
    }

    /// The network of `end`, and a copy of this process's mounts, as `furnish` changes them.
    pub(crate) fn furnished(
        end: &LinkEnd,
        furnish: impl FnOnce() -> io::Result<()> + Send,
    ) -> io::Result<Self> {
        let network = end.within(network)??;
        let mounts = on_a_thread(|| {
            leave_shared_files(UnshareFlags::NEWNS)?;
            move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
            let recursively = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
            mount_change("/", recursively)?;
            forget_served()?;
            furnish()?;
            File::open("/proc/thread-self/ns/mnt")
        })?;
        Ok(Self {
            network,
            mounts: Some(mounts),
        })
    }

    /// Does `work` on a thread in this room; what it starts stays in there.
    pub(crate) fn within<T: Send>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send,
    ) -> io::Result<T> {
        on_a_thread(|| {
            move_into_link_name_space(self.network.as_fd(), Some(LinkNameSpaceType::Network))?;
            if let Some(mounts) = &self.mounts {
                leave_shared_files(UnshareFlags::FS)?;
                move_into_link_name_space(mounts.as_fd(), Some(LinkNameSpaceType::Mount))?;
            }
            work()
        })
    }
}

/// Leaves out what others serve: a copy of such a mount would keep its server running after everyone
/// else has unmounted it.
fn forget_served() -> io::Result<()> {
    let table = std::fs::read_to_string("/proc/thread-self/mountinfo")?;
    for (path, file_system) in table.lines().filter_map(mounts::entry) {
        let is_served = ["fuse", "nfs"]
            .iter()
            .any(|kind| file_system.starts_with(kind));
        if is_served && file_system != "nfsd" && path != Path::new("/") {
            // What is beneath one that has just gone is gone already.
            let _ = unmount(&path, UnmountFlags::DETACH);
        }
    }
    Ok(())
}

fn network() -> io::Result<File> {
    File::open("/proc/thread-self/ns/net")
}

fn on_a_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, work)?;
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Gives this thread what `flags` say of its own.
fn leave_shared_files(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: only `FILES` is dangerous, since it takes the table of descriptors away from the other
    // threads; it is not among the flags that the callers in this file pass.
    Ok(unsafe { unshare_unsafe(flags) }?)
}
