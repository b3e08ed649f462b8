//! Frames to bytes.

use super::TreeFrame;
use crate::codec::{CodecError, Wire};
use crate::limits::{TREE_LEVEL, TREE_WINDOW_LOG};
use std::io::Write;
use zstd::stream::raw::CParameter;
use zstd::stream::write::Encoder;

/// Makes the bytes of a tree.
pub struct TreeEncoder {
    zstd: Encoder<'static, Vec<u8>>,
    plain_bytes: usize,
}

impl TreeEncoder {
    /// An encoder for one answer.
    ///
    /// # Errors
    /// [`std::io::Error`] if there is no memory for it.
    pub fn open() -> std::io::Result<Self> {
        let mut zstd = Encoder::new(Vec::new(), TREE_LEVEL)?;
        zstd.set_parameter(CParameter::WindowLog(TREE_WINDOW_LOG))?;
        zstd.include_contentsize(false)?;
        Ok(Self {
            zstd,
            plain_bytes: 0,
        })
    }

    /// Adds a frame.
    ///
    /// # Errors
    /// [`CodecError::TooLarge`] and [`CodecError::Malformed`] if it cannot be sent.
    pub fn push(&mut self, frame: &TreeFrame) -> Result<(), CodecError> {
        let plain = frame.to_frame()?;
        self.plain_bytes += plain.len();
        let written = self.zstd.write_all(&plain);
        written.map_err(|_| CodecError::Malformed)
    }

    /// Bytes of plain text since the last [`Self::flush`].
    pub fn plain_bytes(&self) -> usize {
        self.plain_bytes
    }

    /// The bytes of all that was added since the last time; whoever has them can read it.
    ///
    /// # Errors
    /// [`CodecError::Malformed`] if zstd failed.
    pub fn flush(&mut self) -> Result<Vec<u8>, CodecError> {
        self.plain_bytes = 0;
        self.zstd.flush().map_err(|_| CodecError::Malformed)?;
        Ok(std::mem::take(self.zstd.get_mut()))
    }

    /// The rest; nothing may be added afterwards.
    ///
    /// # Errors
    /// [`CodecError::Malformed`] if zstd failed.
    pub fn finish(&mut self) -> Result<Vec<u8>, CodecError> {
        self.zstd.do_finish().map_err(|_| CodecError::Malformed)?;
        Ok(std::mem::take(self.zstd.get_mut()))
    }
}
