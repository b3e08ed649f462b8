//! Values to bytes and back: the only place that knows bincode.
//!
//! A frame is a length (u32, little endian) and a body of that many bytes. Each kind of frame has a
//! limit of its own ([`Wire::BYTES_MAX`]), checked before anything is allocated; the decoder's memory is
//! limited to twice that. Counts have limits too, kept in both directions, so that whatever can be
//! sent can be read. A body must be used up to its last byte.
//!
//! Format: bincode 2 `standard()` (variable-length integers, little endian). Never used on disk.

use crate::change::Change;
use crate::lease::{News, Push};
use crate::limits::{
    CLOSE_MAX, FILE_FRAME_BYTES_MAX, FRAME_PREFIX_BYTES, HEARD_WANTED_MAX, HELLO_BYTES_MAX,
    HELLO_REPLY_BYTES_MAX, LIST_FRAME_BYTES_MAX, LIST_FRAME_ENTRIES_MAX, PUSH_BYTES_MAX,
    PUSH_NAMES_MAX, READ_MANY_FILE_BYTES_MAX, READ_MANY_FILES_MAX, REPLY_BYTES_MAX,
    REQUEST_BYTES_MAX, RESERVED_FILES_MAX, REVALIDATE_DIRS_MAX, TREE_ENTRIES_MAX,
    TREE_FRAME_BYTES_MAX, VOUCH_FILES_MAX, XATTR_NAMES_MAX, XATTR_VALUE_BYTES_MAX,
};
use crate::many::FileFrame;
use crate::message::{Hello, HelloReply, ListFrame, Reply, Request};
use crate::tree::TreeFrame;

pub(crate) use bincode::{Decode, Encode};

/// Why a frame could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The frame is, or claims to be, larger than its kind allows.
    #[error("frame of {bytes} bytes exceeds the limit of {limit}")]
    TooLarge {
        /// Claimed length.
        bytes: usize,
        /// Limit of this kind of frame.
        limit: usize,
    },
    /// The body is no value of this kind.
    #[error("malformed frame")]
    Malformed,
    /// The body went on after the value.
    #[error("{0} bytes after the end of the value")]
    Trailing(usize),
}

/// A kind of frame.
pub trait Wire: Sized {
    /// Longest body, in bytes.
    const BYTES_MAX: usize;

    /// The frame: length prefix and body.
    ///
    /// # Errors
    /// [`CodecError::TooLarge`] if the body exceeds [`Self::BYTES_MAX`]; [`CodecError::Malformed`] if
    /// the value holds more items than [`crate::limits`] allows.
    fn to_frame(&self) -> Result<Vec<u8>, CodecError>;

    /// Reads a body, the bytes behind the length prefix.
    ///
    /// # Errors
    /// Any [`CodecError`]; never panics, whatever the bytes.
    fn from_body(body: &[u8]) -> Result<Self, CodecError>;
}

/// The length of the body that follows `prefix`.
///
/// # Errors
/// [`CodecError::TooLarge`] if it exceeds the limit of `T`.
pub fn body_len<T: Wire>(prefix: [u8; FRAME_PREFIX_BYTES]) -> Result<usize, CodecError> {
    let bytes = u32::from_le_bytes(prefix) as usize;
    if bytes > T::BYTES_MAX {
        return Err(CodecError::TooLarge {
            bytes,
            limit: T::BYTES_MAX,
        });
    }
    Ok(bytes)
}

macro_rules! wire {
    ($($type:ty: $limit:expr, $counts:expr;)*) => {$(
        impl Wire for $type {
            const BYTES_MAX: usize = $limit;

            fn to_frame(&self) -> Result<Vec<u8>, CodecError> {
                let within_counts: fn(&Self) -> bool = $counts;
                if !within_counts(self) {
                    return Err(CodecError::Malformed);
                }
                frame_of(self, $limit)
            }

            fn from_body(body: &[u8]) -> Result<Self, CodecError> {
                if body.len() > $limit {
                    return Err(CodecError::TooLarge { bytes: body.len(), limit: $limit });
                }
                // Twice: bincode counts every integer at its full width, lengths at eight bytes, though
                // most take one on the wire. A full list of short names is more than its frame.
                let config = bincode::config::standard().with_limit::<{ 2 * $limit }>();
                let within_counts: fn(&Self) -> bool = $counts;
                match bincode::decode_from_slice(body, config) {
                    Ok((value, _)) if !within_counts(&value) => Err(CodecError::Malformed),
                    Ok((value, used)) if used == body.len() => Ok(value),
                    Ok((_, used)) => Err(CodecError::Trailing(body.len() - used)),
                    Err(_) => Err(CodecError::Malformed),
                }
            }
        }
    )*};
}

wire! {
    Hello: HELLO_BYTES_MAX, |_| true;
    HelloReply: HELLO_REPLY_BYTES_MAX, |_| true;
    Request: REQUEST_BYTES_MAX, |request| match request {
        Request::Revalidate { listings } => listings.len() <= REVALIDATE_DIRS_MAX,
        Request::Tree { entries_max, .. } => *entries_max <= TREE_ENTRIES_MAX,
        Request::ReadMany { files, .. } => files.len() <= READ_MANY_FILES_MAX,
        Request::Heard { wanted, .. } => wanted.len() <= HEARD_WANTED_MAX,
        Request::Reserve { count, .. } => *count <= RESERVED_FILES_MAX,
        Request::Vouch { files } => files.len() <= VOUCH_FILES_MAX,
        Request::Change { change: Change::NameReserved(new), .. } => {
            new.refill <= RESERVED_FILES_MAX
        }
        Request::Change { change: Change::MakeDir { reserve, .. }, .. } => {
            *reserve <= RESERVED_FILES_MAX
        }
        Request::Change { change: Change::Close { opens }, .. } => opens.len() <= CLOSE_MAX,
        _ => true,
    };
    Reply: REPLY_BYTES_MAX, |reply| match reply {
        Reply::Xattr(value) => value.len() <= XATTR_VALUE_BYTES_MAX,
        Reply::XattrNames(names) => names.len() <= XATTR_NAMES_MAX,
        Reply::Revalidated(verdicts) => verdicts.len() <= REVALIDATE_DIRS_MAX,
        Reply::Reserved(files) => files.len() <= RESERVED_FILES_MAX.into(),
        Reply::Vouched(files) => files.len() <= VOUCH_FILES_MAX,
        Reply::Named(named) => named.reserved.len() <= RESERVED_FILES_MAX.into(),
        Reply::MadeDir(made) => made.reserved.len() <= RESERVED_FILES_MAX.into(),
        _ => true,
    };
    TreeFrame: TREE_FRAME_BYTES_MAX, |frame| frame.entries_len() <= LIST_FRAME_ENTRIES_MAX;
    ListFrame: LIST_FRAME_BYTES_MAX, |frame| frame.entries.len() <= LIST_FRAME_ENTRIES_MAX;
    Push: PUSH_BYTES_MAX, |push| match &push.news {
        News::Entries { names, .. } => {
            names.len() <= PUSH_NAMES_MAX && push.content_lens().is_some()
        }
        _ => true,
    };
    FileFrame: FILE_FRAME_BYTES_MAX, |frame| match frame {
        FileFrame::Content { len, .. } => *len as usize <= READ_MANY_FILE_BYTES_MAX,
        FileFrame::Not(_) => true,
    };
}

/// Writes the wire form of `value`, without a length.
pub(crate) fn encode_into<T: Encode>(
    value: &T,
    into: &mut impl std::io::Write,
) -> Result<(), CodecError> {
    bincode::encode_into_std_write(value, into, bincode::config::standard())
        .map(|_| ())
        .map_err(|_| CodecError::Malformed)
}

fn frame_of<T: Encode>(value: &T, limit: usize) -> Result<Vec<u8>, CodecError> {
    let mut frame = vec![0; FRAME_PREFIX_BYTES];
    encode_into(value, &mut frame)?;
    let bytes = frame.len() - FRAME_PREFIX_BYTES;
    match u32::try_from(bytes) {
        Ok(prefix) if bytes <= limit => {
            frame[..FRAME_PREFIX_BYTES].copy_from_slice(&prefix.to_le_bytes());
            Ok(frame)
        }
        _ => Err(CodecError::TooLarge { bytes, limit }),
    }
}

/// Gives a type that wraps a checked raw value its wire form: the raw value, checked on decode.
macro_rules! validated {
    ($type:ty, $raw:ty, $as_raw:expr) => {
        impl $crate::codec::Encode for $type {
            fn encode<E: $crate::codec::Encoder>(
                &self,
                encoder: &mut E,
            ) -> Result<(), $crate::codec::EncodeError> {
                let as_raw: fn(&$type) -> &$raw = $as_raw;
                $crate::codec::Encode::encode(as_raw(self), encoder)
            }
        }
        impl<C> $crate::codec::Decode<C> for $type {
            fn decode<D: $crate::codec::Decoder<Context = C>>(
                decoder: &mut D,
            ) -> Result<Self, $crate::codec::DecodeError> {
                let raw = <$raw as $crate::codec::Decode<C>>::decode(decoder)?;
                <$type>::try_from(raw).map_err(|_| {
                    $crate::codec::DecodeError::Other(concat!("invalid ", stringify!($type)))
                })
            }
        }
        // Derived types ask for both forms; nothing here borrows from the frame.
        impl<'de, C> $crate::codec::BorrowDecode<'de, C> for $type {
            fn borrow_decode<D: $crate::codec::BorrowDecoder<'de, Context = C>>(
                decoder: &mut D,
            ) -> Result<Self, $crate::codec::DecodeError> {
                <$type as $crate::codec::Decode<C>>::decode(decoder)
            }
        }
    };
}
pub(crate) use bincode::BorrowDecode;
pub(crate) use bincode::de::{BorrowDecoder, Decoder};
pub(crate) use bincode::enc::Encoder;
pub(crate) use bincode::error::{DecodeError, EncodeError};
pub(crate) use validated;
