//! What is done to a node later, and that the node stays until it is.

use super::{Ino, Inodes, Node};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use std::sync::Arc;

/// The end of what is done later.
pub(in crate::mount) type Late = Shared<BoxFuture<'static, ()>>;

/// Keeps a node in the table, as a lookup of the kernel does.
pub struct Hold {
    inodes: Arc<Inodes>,
    ino: Ino,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.inodes.forget(self.ino, 1);
    }
}

impl Inodes {
    /// Counts a lookup of a node, if whoever looks its file up finds it; whether so.
    pub fn count(&self, node: &Arc<Node>) -> bool {
        self.table.lock().count(node)
    }

    /// Keeps `node` where whoever looks its file up finds it, though the kernel may forget it.
    pub fn hold(self: &Arc<Self>, node: &Arc<Node>) -> Option<Hold> {
        self.count(node).then(|| Hold {
            inodes: self.clone(),
            ino: node.ino,
        })
    }
}

impl Node {
    /// Does `work` in the background, after all that was put off before. Must be called within the runtime.
    pub(in crate::mount) fn put_off(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut late = self.late.lock();
        let before = late.take();
        let next = async move {
            if let Some(before) = before {
                before.await;
            }
            work.await;
        };
        let next = next.boxed().shared();
        tokio::spawn(next.clone());
        *late = Some(next);
    }

    /// The end of what was put off, if there still is any.
    pub(in crate::mount) fn late(&self) -> Option<Late> {
        let mut late = self.late.lock();
        if late.as_ref().is_some_and(|late| late.peek().is_some()) {
            *late = None;
        }
        late.clone()
    }
}
