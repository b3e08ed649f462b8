//! Telling the kernel what it must not believe any more.
//!
//! The kernel may wait, within such a call, for requests it has under way on the same inode. So it is called
//! from one thread that does nothing else: never from one that answers requests, and under no lock (known to
//! dead-lock otherwise).

use super::inodes::Ino;
use futures_util::future::BoxFuture;

/// What it is to forget of an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forget {
    /// Attributes.
    Attributes,
    /// Attributes and all pages: they are of an old version.
    Pages,
}

/// Who tells the kernel.
pub trait Notify: Send + Sync {
    /// Resolves when it is forgotten, or when nobody can be told any more.
    fn forget(&self, ino: Ino, what: Forget) -> BoxFuture<'_, ()>;
}
