//! Files a mount wrote: whether the host has just these bytes, so that it need not send them.
//!
//! What a mount writes it has, and reads again before long. But what the answers to its writes say of the file is of
//! no use to its caches: a program on the host may have written in between, and nobody would know. So some time later
//! the mount names such a file with a digest of what it wrote ([`crate::Request::Vouch`]); the host reads the file,
//! and if it holds just that, says of which version these bytes are.

use crate::codec::{Decode, Encode};
use crate::message::NodeRef;

/// BLAKE3 of all bytes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub struct BytesDigest(pub [u8; 32]);

impl BytesDigest {
    /// Of a file that consists of `pieces`.
    pub fn of<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hasher = blake3::Hasher::new();
        for piece in pieces {
            hasher.update(piece);
        }
        Self(hasher.finalize().into())
    }
}

/// A file of which a mount wrote all bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub struct WrittenFile {
    /// Which.
    pub node: NodeRef,
    /// Its length in bytes, at most [`crate::limits::VOUCH_BYTES_MAX`] for all files of a request together.
    pub size: u64,
    /// Of its bytes.
    pub digest: BytesDigest,
}
