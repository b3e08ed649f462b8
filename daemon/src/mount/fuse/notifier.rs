//! The threads that tell the kernel (see [`Notify`]): one for what it forgets without waiting, one for pages.
//!
//! Queues are bounded: who finds one full waits. Pages of one inode are told once, however many ask before it
//! is done. The threads end when the last sender does, with the file system.

use super::nested::Nested;
use crate::mount::inodes::Ino;
use crate::mount::notify::{Forget, Notify};
use fuser::{INodeNo, Notifier};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Calls that may wait for a thread.
const QUEUE_MAX: usize = 1024;
/// `FUSE_NOTIFY_INC_EPOCH` of linux/fuse.h, which fuser does not know: every name is of an older epoch then.
const NOTIFY_INC_EPOCH: i32 = 8;

struct Call {
    what: Forget,
    done: oneshot::Sender<()>,
}

struct PagesCall {
    ino: Ino,
    done: Option<oneshot::Sender<()>>,
}

/// Hands calls to the threads.
pub(super) struct KernelNotify {
    calls: mpsc::Sender<Call>,
    pages: mpsc::Sender<PagesCall>,
    forgets_names: bool,
    nested: Arc<Nested>,
}

/// Has the kernel forget where names lead.
struct Names(OwnedFd);

impl Names {
    /// # Errors
    /// `EINVAL` from a kernel that cannot, before Linux 6.16.
    fn forget(&self) -> io::Result<()> {
        // `struct fuse_out_header`: its length, the code, and no request it would answer.
        let mut header = [0; 16];
        header[..4].copy_from_slice(&16_u32.to_ne_bytes());
        header[4..8].copy_from_slice(&NOTIFY_INC_EPOCH.to_ne_bytes());
        rustix::io::write(&self.0, &header)?;
        Ok(())
    }
}

impl KernelNotify {
    /// Starts the threads. `device` is a descriptor of the one the file system is attached with.
    pub(super) fn start(notifier: Notifier, device: OwnedFd, nested: Nested) -> io::Result<Self> {
        let nested = Arc::new(nested);
        let names = Names(device);
        let forgets_names = names.forget().is_ok();
        if !forgets_names {
            tracing::info!(
                "this kernel cannot be told of names (before Linux 6.16), and asks for each"
            );
        }
        let notifier = Arc::new(notifier);
        let pages = start_pages(notifier.clone())?;
        let (calls, mut queue) = mpsc::channel::<Call>(QUEUE_MAX);
        let (later, within) = (pages.downgrade(), nested.clone());
        std::thread::Builder::new()
            .name("fuse-notify".into())
            .spawn(move || {
                while let Some(Call { what, done }) = queue.blocking_recv() {
                    if what.names
                        && forgets_names
                        && !within.is_nested()
                        && let Err(error) = names.forget()
                    {
                        tracing::debug!("the kernel was not told of names: {error}");
                    }
                    for ino in what.attributes.iter().chain(&what.pages) {
                        // A negative offset means no pages.
                        forget(&notifier, *ino, -1);
                    }
                    let _ = done.send(());
                    let Some(pages) = later.upgrade() else { return };
                    for ino in what.pages {
                        let _ = pages.blocking_send(PagesCall { ino, done: None });
                    }
                }
            })?;
        Ok(Self {
            calls,
            pages,
            forgets_names,
            nested,
        })
    }
}

fn start_pages(notifier: Arc<Notifier>) -> io::Result<mpsc::Sender<PagesCall>> {
    let (calls, mut queue) = mpsc::channel::<PagesCall>(QUEUE_MAX);
    std::thread::Builder::new()
        .name("fuse-pages".into())
        .spawn(move || {
            let mut batch = Vec::new();
            while queue.blocking_recv_many(&mut batch, QUEUE_MAX) > 0 {
                batch.sort_by_key(|call| call.ino);
                for calls in batch.chunk_by(|a, b| a.ino == b.ino) {
                    forget(&notifier, calls[0].ino, 0);
                }
                for call in batch.drain(..) {
                    let _ = call.done.map(|done| done.send(()));
                }
            }
        })?;
    Ok(calls)
}

/// A node the kernel has forgotten is as good as told.
fn forget(notifier: &Notifier, ino: Ino, offset: i64) {
    if let Err(error) = notifier.inval_inode(INodeNo(ino.0), offset, 0) {
        tracing::debug!("the kernel was not told of an inode: {error}");
    }
}

impl Notify for KernelNotify {
    fn forget(&self, what: Forget) -> BoxFuture<'_, ()> {
        async move {
            let (done, told) = oneshot::channel();
            if self.calls.send(Call { what, done }).await.is_ok() {
                let _ = told.await;
            }
        }
        .boxed()
    }

    fn forget_pages(&self, ino: Ino) -> BoxFuture<'_, ()> {
        async move {
            let (done, told) = oneshot::channel();
            let done = Some(done);
            if self.pages.send(PagesCall { ino, done }).await.is_ok() {
                let _ = told.await;
            }
        }
        .boxed()
    }

    fn forgets_names(&self) -> bool {
        self.forgets_names && !self.nested.is_nested()
    }
}
