//! The thread that tells the kernel (see [`Notify`]).
//!
//! Its queue is bounded: who finds it full waits. Two who want the same are both told; that happens seldom
//! enough. It ends when the last sender does, with the file system.

use crate::mount::inodes::Ino;
use crate::mount::notify::{Forget, Notify};
use fuser::{INodeNo, Notifier};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::io;
use tokio::sync::{mpsc, oneshot};

/// Calls that may wait for the thread.
const QUEUE_MAX: usize = 1024;

struct Call {
    ino: Ino,
    what: Forget,
    done: oneshot::Sender<()>,
}

/// Hands calls to the thread.
pub(super) struct KernelNotify {
    calls: mpsc::Sender<Call>,
}

impl KernelNotify {
    /// Starts the thread.
    pub(super) fn start(notifier: Notifier) -> io::Result<Self> {
        let (calls, mut queue) = mpsc::channel::<Call>(QUEUE_MAX);
        std::thread::Builder::new()
            .name("fuse-notify".into())
            .spawn(move || {
                while let Some(call) = queue.blocking_recv() {
                    // A negative offset means no pages, a length of 0 all to the end.
                    let offset = match call.what {
                        Forget::Attributes => -1,
                        Forget::Pages => 0,
                    };
                    // A node the kernel has forgotten is ENOENT, and as good as told.
                    if let Err(error) = notifier.inval_inode(INodeNo(call.ino.0), offset, 0) {
                        tracing::debug!("the kernel was not told of an inode: {error}");
                    }
                    let _ = call.done.send(());
                }
            })?;
        Ok(Self { calls })
    }
}

impl Notify for KernelNotify {
    fn forget(&self, ino: Ino, what: Forget) -> BoxFuture<'_, ()> {
        async move {
            let (done, told) = oneshot::channel();
            if self.calls.send(Call { ino, what, done }).await.is_ok() {
                let _ = told.await;
            }
        }
        .boxed()
    }
}
