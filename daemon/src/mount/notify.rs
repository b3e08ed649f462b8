//! Telling the kernel what it must not believe any more.
//!
//! The kernel may wait, within such a call, for requests it has under way on the same inode, where pages are
//! concerned. So it is called from threads that do nothing else: never from one that answers requests, and
//! under no lock (known to dead-lock otherwise). Attributes and names it forgets without waiting for anything;
//! whoever must know that it did waits for these, and not for pages.
//!
//! There is a call to forget one name, which is not used: it takes the lock of the directory, which a change
//! that waits for this mount's answer may hold in another.

use super::inodes::Ino;
use futures_util::future::BoxFuture;

/// What it is to forget.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forget {
    /// Where names lead, all of them: each is looked up again when it is used.
    pub names: bool,
    /// Attributes of these.
    pub attributes: Vec<Ino>,
    /// All pages of these: they are of an old version.
    pub pages: Vec<Ino>,
}

impl Forget {
    /// Attributes of one.
    pub fn attributes_of(ino: Ino) -> Self {
        Self {
            attributes: vec![ino],
            ..Self::default()
        }
    }

    /// And that as well.
    pub fn add(&mut self, more: Self) {
        self.names |= more.names;
        self.attributes.extend(more.attributes);
        self.pages.extend(more.pages);
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        !self.names && self.attributes.is_empty() && self.pages.is_empty()
    }
}

/// Who tells the kernel.
pub trait Notify: Send + Sync {
    /// Resolves when names and attributes are forgotten, or when nobody can be told any more. Pages follow soon.
    fn forget(&self, what: Forget) -> BoxFuture<'_, ()>;

    /// Resolves when attributes and pages of an inode are forgotten, or when nobody can be told any more.
    fn forget_pages(&self, ino: Ino) -> BoxFuture<'_, ()>;

    /// Whether names can be forgotten: Linux 6.16 and later, and nothing is mounted within.
    fn forgets_names(&self) -> bool;
}
