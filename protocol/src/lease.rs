//! Leases: what a host promises to tell of, and how it tells.
//!
//! A session that asks [`crate::Request::Listen`] is granted leases with the answers to what it looks up and lists
//! ([`Leased`]). A lease is of one directory. While a mount holds it, it may believe what it was told under it:
//! - which names there are in the directory, and which are not;
//! - the attributes of its entries that are no directories and have one link;
//! - the attributes of the directory itself.
//!
//! A change of any of these is told on the stream of the listening session, in order ([`Push`]), and the mount
//! says how far it has heard ([`crate::Request::Heard`]), once its kernel has been told. A host does not answer a
//! change before the other mounts that hold a lease on what it touches have heard of it, or their leases have
//! ended.
//!
//! Term: a mount's leases end a term after it *sent* the last `Listen` or `Heard` that was answered, and it
//! may believe them again after a `Heard` only once it has taken all pushes up to the one the answer
//! names. The host counts the term from when it received that, so its count ends later.
//!
//! Crossings: an answer to what was asked before a push about the same directory arrived may be older than
//! that push. It is not believed beyond the one who asked.
//!
//! After Gray and Cheriton, "Leases: an efficient fault-tolerant mechanism for distributed file cache
//! consistency" (SOSP 1989).

use crate::attr::{Attr, FileKind};
use crate::codec::{Decode, Encode};
use crate::id::FileId;
use crate::limits::PUSH_CONTENT_BYTES_MAX;
use crate::name::Name;

/// An answer that holds until a push says otherwise: the directory that was asked about is leased.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Leased {
    /// As [`crate::Reply::Attr`]. After a lookup the directory it was asked of is leased; after a `Getattr` of
    /// a directory that directory, of anything else the one it is in.
    Attr(Attr),
    /// There is nothing of that name; in place of [`crate::Fault::NotFound`].
    Absent,
    /// As [`crate::Reply::Listing`].
    Listing(Attr),
    /// As [`crate::Reply::Unchanged`].
    Unchanged(Attr),
}

/// One word of a host to a session that listens; a frame.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Push {
    /// Its number: higher than the last one's. What a later push makes superfluous is not sent, so there are
    /// gaps.
    pub number: u64,
    /// What happened.
    pub news: News,
}

impl Push {
    /// How many raw bytes follow the frame, file by file in the order of the names; none if it says what cannot be:
    /// bytes of something that is no file, or too many.
    pub fn content_lens(&self) -> Option<Vec<usize>> {
        let News::Entries { names, .. } = &self.news else {
            return Some(Vec::new());
        };
        let brought = names.iter().filter(|news| news.brings);
        let lens: Option<Vec<_>> = brought.map(NameNews::content_len).collect();
        let lens = lens?;
        let total = lens
            .iter()
            .try_fold(0_usize, |sum, len| sum.checked_add(*len));
        (total? <= PUSH_CONTENT_BYTES_MAX).then_some(lens)
    }
}

/// What a push tells.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum News {
    /// A leased directory is as follows now, as far as named. The lease goes on.
    Entries {
        /// Which directory.
        dir: FileId,
        /// Its attributes, if they may have changed.
        attr: Option<Attr>,
        /// Names that may lead elsewhere than before, or to a file with other attributes.
        names: Vec<NameNews>,
    },
    /// The lease of a directory has ended.
    Over {
        /// Which.
        dir: FileId,
    },
    /// All leases of the session have ended: the host lost count of what changed.
    AllOver,
    /// Another mount is about to look into a directory: the lease of it goes on, but not as the sole one
    /// ([`crate::reserve`]).
    Shared {
        /// Which.
        dir: FileId,
    },
}

/// Where a name leads now.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct NameNews {
    /// The name.
    pub name: Name,
    /// The attributes of what it leads to; none if there is nothing.
    pub attr: Option<Attr>,
    /// All bytes of the file follow the frame, raw, of the version these attributes have.
    pub brings: bool,
}

impl NameNews {
    fn content_len(&self) -> Option<usize> {
        let attr = self.attr.filter(|attr| attr.kind == FileKind::File)?;
        usize::try_from(attr.size).ok()
    }
}

/// A file a mount has read lately: when the host next tells that it has changed, its bytes are welcome at once.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub struct WantedName {
    /// The directory, which is leased.
    pub dir: FileId,
    /// The name in it; whatever file has it by then.
    pub name: Name,
    /// Unless it is longer.
    pub bytes_max: u32,
}
