//! Frames over a stream: length checked before anything is allocated.

use quinn::{ReadExactError, RecvStream};
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

/// Reads one frame.
pub(super) async fn read_frame<T: Wire>(stream: &mut RecvStream) -> Result<T, FrameError> {
    let mut prefix = [0; FRAME_PREFIX_BYTES];
    stream.read_exact(&mut prefix).await?;
    let mut body = vec![0; body_len::<T>(prefix)?];
    stream.read_exact(&mut body).await?;
    Ok(T::from_body(&body)?)
}
