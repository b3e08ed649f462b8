//! Frames over a stream: length checked before anything is allocated.

use futures_util::FutureExt;
use quinn::{ReadExactError, RecvStream};
use std::ops::{Deref, DerefMut};
use wormhole_protocol::codec::{CodecError, Wire, body_len};
use wormhole_protocol::limits::FRAME_PREFIX_BYTES;

/// Why no frame came.
#[derive(Debug)]
pub(super) enum FrameError {
    /// The peer reset the stream.
    Reset(quinn::VarInt),
    /// The stream ended early, or its connection did.
    Lost,
    /// Not a frame of this kind.
    Codec,
}

impl From<ReadExactError> for FrameError {
    fn from(error: ReadExactError) -> Self {
        match error {
            ReadExactError::ReadError(quinn::ReadError::Reset(code)) => Self::Reset(code),
            ReadExactError::FinishedEarly(_) => Self::Codec,
            ReadExactError::ReadError(_) => Self::Lost,
        }
    }
}

impl From<CodecError> for FrameError {
    fn from(_: CodecError) -> Self {
        Self::Codec
    }
}

/// A stream that is read no further than what is known to be in it.
///
/// Dropped after its last byte, it tells the peer nothing: the end, which as a rule came along with that byte, is
/// looked for first. A stream whose end nobody saw has the peer told to stop (STOP_SENDING, RFC 9000, section
/// 3.5), in a packet of its own that asks for yet another as acknowledgement.
pub(super) struct ReadStream(RecvStream);

impl From<RecvStream> for ReadStream {
    fn from(stream: RecvStream) -> Self {
        Self(stream)
    }
}

impl Deref for ReadStream {
    type Target = RecvStream;

    fn deref(&self) -> &RecvStream {
        &self.0
    }
}

impl DerefMut for ReadStream {
    fn deref_mut(&mut self) -> &mut RecvStream {
        &mut self.0
    }
}

impl Drop for ReadStream {
    fn drop(&mut self) {
        // Whatever else it brings is not wanted: then the peer is told.
        let _ = self.0.read_chunk(1, true).now_or_never();
    }
}

/// Reads one frame.
pub(super) async fn read_frame<T: Wire>(stream: &mut ReadStream) -> Result<T, FrameError> {
    let mut prefix = [0; FRAME_PREFIX_BYTES];
    stream.read_exact(&mut prefix).await?;
    let mut body = vec![0; body_len::<T>(prefix)?];
    stream.read_exact(&mut body).await?;
    Ok(T::from_body(&body)?)
}
