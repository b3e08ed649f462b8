//! Handing files of the disk cache to the kernel: one registration for all opens of an inode.
//!
//! Lock: `open`, across the call that registers a file, which does not wait for requests.

use super::Skin;
use crate::mount::inodes::Ino;
use crate::mount::vfs::Opened;
use fuser::{BackingId, Errno, FileHandle, FopenFlags, ReplyOpen};
use parking_lot::Mutex;
use rustix::io::Errno as SystemError;
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Weak};
use wormhole_cache::Whole;

/// The files that are registered with the kernel.
#[derive(Default)]
pub(super) struct Backings {
    open: Mutex<HashMap<Ino, Registered>>,
}

struct Registered {
    /// Alive for as long as anyone has it open.
    whole: Weak<Whole>,
    id: Arc<BackingId>,
}

impl Backings {
    /// The registration of `whole` for `ino`, made with `register` if there is none.
    fn get(
        &self,
        ino: Ino,
        whole: &Arc<Whole>,
        register: impl FnOnce() -> io::Result<BackingId>,
    ) -> io::Result<Arc<BackingId>> {
        let mut open = self.open.lock();
        if let Some(known) = open.get(&ino)
            && std::ptr::eq(known.whole.as_ptr(), Arc::as_ptr(whole))
        {
            return Ok(known.id.clone());
        }
        let id = Arc::new(register()?);
        let registered = Registered {
            whole: Arc::downgrade(whole),
            id: id.clone(),
        };
        open.insert(ino, registered);
        Ok(id)
    }

    /// Gives up the registrations of files nobody has open any more.
    pub(super) fn sweep(&self) {
        let mut open = self.open.lock();
        open.retain(|_, registered| registered.whole.strong_count() > 0);
    }
}

impl Skin {
    /// Answers an open: with a file the kernel reads by itself, if there is one.
    pub(super) fn answer_opened(
        &self,
        ino: Ino,
        opened: &Opened,
        flags: FopenFlags,
        reply: ReplyOpen,
    ) {
        let handle = FileHandle(opened.handle.0);
        let Some(whole) = &opened.whole else {
            return reply.opened(handle, flags);
        };
        let id = self
            .backings
            .get(ino, whole, || reply.open_backing(whole.as_ref()));
        match id {
            Ok(id) => {
                // Pages of this inode are not used; the flag to keep them does not go with the other.
                let flags = flags.difference(FopenFlags::FOPEN_KEEP_CACHE);
                reply.opened_passthrough(handle, flags, &id);
            }
            Err(error) => {
                self.vfs.passthrough().refuse(&refusal(&error));
                self.vfs.release(opened.handle);
                // The kernel looks once more, and is answered without.
                reply.error(Errno::ESTALE);
            }
        }
    }
}

fn refusal(error: &io::Error) -> String {
    let is = |errno: SystemError| error.raw_os_error() == Some(errno.raw_os_error());
    if is(SystemError::PERM) {
        "only root may (CAP_SYS_ADMIN)".to_owned()
    } else if is(SystemError::LOOP) {
        "the disk cache lies on a file system that is stacked on another".to_owned()
    } else {
        format!("the kernel would not take a file: {error}")
    }
}
