//! Whether something is mounted within the mount.
//!
//! When the kernel forgets names, it takes a directory for another when it finds it again, and whatever was
//! mounted on it is unmounted. So it is not told to while there is such a mount; names are then looked up at each
//! use (`beliefs`).
//!
//! One thread waits for changes of the mount table; it ends when this is dropped.

use crate::mount::mountpoint::table::mounts;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// Whether something is mounted within the mount.
pub(super) struct Nested {
    is_nested: Arc<AtomicBool>,
    end: Arc<OwnedFd>,
}

impl Nested {
    /// Watches `mountpoint`.
    pub(super) fn watch(mountpoint: &Path) -> io::Result<Self> {
        let nested = Self {
            is_nested: Arc::default(),
            end: Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?),
        };
        let (is_nested, end) = (nested.is_nested.clone(), nested.end.clone());
        // The table shows it without symlinks. (Asking the mount itself would wait for who asks.)
        let at = match (mountpoint.parent(), mountpoint.file_name()) {
            (Some(parent), Some(name)) => parent.canonicalize()?.join(name),
            _ => PathBuf::from(mountpoint),
        };
        let table = File::open("/proc/self/mountinfo")?;
        std::thread::Builder::new()
            .name("fuse-nested".into())
            .spawn(move || follow(table, &at, &is_nested, &end))?;
        Ok(nested)
    }

    /// Whether something is.
    pub(super) fn is_nested(&self) -> bool {
        self.is_nested.load(SeqCst)
    }
}

impl Drop for Nested {
    fn drop(&mut self) {
        // Fails only if it was done before.
        let _ = rustix::io::write(&*self.end, &1_u64.to_ne_bytes());
    }
}

fn follow(table: File, at: &Path, is_nested: &AtomicBool, end: &OwnedFd) {
    loop {
        // What changes from here on is seen by the next poll.
        is_nested.store(has_mounts_within(at), SeqCst);
        let mut waits = [
            PollFd::new(&table, PollFlags::PRI),
            PollFd::new(end, PollFlags::IN),
        ];
        match poll(&mut waits, None) {
            Ok(_) if !waits[1].revents().is_empty() => return,
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

fn has_mounts_within(at: &Path) -> bool {
    // Who cannot see the table cannot mount either.
    let mounts = mounts().unwrap_or_default();
    let mut within = mounts.iter().map(|entry| &entry.mountpoint);
    within.any(|path| path != at && path.starts_with(at))
}
