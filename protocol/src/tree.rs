//! A whole tree of directories with all entries, in one answer.
//!
//! [`crate::Request::Tree`] is answered by [`crate::Reply::Tree`] and then by one stream of zstd (RFC 8878),
//! whose plain text is [`TreeFrame`]s, each with its length prefix. Directories come breadth first, beginning
//! with the one that was asked for: each before those in it, one after the other. One that cannot be read is
//! left out; one that cannot be read to its end is broken off by the next, or by the end, and worth nothing.
//!
//! One stream, because names, owners and times repeat from one directory to the next. Its pieces are flushed,
//! so that what was sent can be used.
//!
//! [`TreeEncoder`] makes the bytes, [`TreeDecoder`] reads them. The decoder never holds more plain text than
//! the frame it is at, a window of [`crate::limits::TREE_WINDOW_LOG`] and one block of zstd; and it counts
//! what it was given against what was asked for, so that no answer goes on for ever.

mod decode;
mod encode;

pub use decode::{TreeDecoder, TreeError};
pub use encode::TreeEncoder;

use crate::attr::Attr;
use crate::codec::{Decode, Encode};
use crate::message::Entry;
use crate::name::RelPath;

/// A piece of a tree.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum TreeFrame {
    /// A directory begins.
    Directory {
        /// Where it is beneath the share root.
        path: RelPath,
        /// Its attributes, from before its first entry was read.
        attr: Attr,
        /// It is leased, from before anything of it was looked at ([`crate::Leased`]).
        leased: bool,
        /// Its first entries, in the host's order.
        entries: Vec<Entry>,
        /// These are all.
        last: bool,
    },
    /// More of the same directory.
    More {
        /// The entries.
        entries: Vec<Entry>,
        /// There are no more.
        last: bool,
    },
    /// The end.
    End {
        /// Nothing beneath the directory is missing, but what cannot be read.
        whole: bool,
    },
}

impl TreeFrame {
    /// How many entries it has.
    pub fn entries_len(&self) -> usize {
        match self {
            Self::Directory { entries, .. } | Self::More { entries, .. } => entries.len(),
            Self::End { .. } => 0,
        }
    }
}
