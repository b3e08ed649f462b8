//! Bytes to frames, whatever the bytes.

use super::TreeFrame;
use crate::codec::{CodecError, Wire, body_len};
use crate::limits::{FRAME_PREFIX_BYTES, TREE_FRAMES_SPARE, TREE_WINDOW_LOG};
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

/// Why bytes are no tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// They are no zstd, or one that needs more memory than is allowed.
    #[error("no stream of zstd")]
    Compression,
    /// A frame in them is none.
    #[error(transparent)]
    Frame(#[from] CodecError),
    /// A directory goes on that never began or has ended, or anything does after the end.
    #[error("directories out of order")]
    Order,
    /// More than was asked for.
    #[error("more than was asked for")]
    TooMuch,
    /// They go on after the end.
    #[error("bytes after the end")]
    Trailing,
}

/// Where in a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Between,
    Directory,
    Ended,
}

/// Reads the bytes of a tree.
pub struct TreeDecoder {
    zstd: Decoder<'static>,
    /// The frame being read: its prefix, then its body.
    plain: Vec<u8>,
    place: Place,
    /// The stream of zstd has ended.
    compressed_ended: bool,
    /// Entries that may come.
    entries_left: usize,
    /// Frames that may come.
    frames_left: usize,
}

impl TreeDecoder {
    /// A decoder for one answer of at most so many entries.
    ///
    /// # Errors
    /// [`TreeError::Compression`] if there is no memory for it.
    pub fn open(entries_max: usize) -> Result<Self, TreeError> {
        let mut zstd = Decoder::new().map_err(|_| TreeError::Compression)?;
        let window = DParameter::WindowLogMax(TREE_WINDOW_LOG);
        let limited = zstd.set_parameter(window);
        limited.map_err(|_| TreeError::Compression)?;
        Ok(Self {
            zstd,
            plain: Vec::new(),
            place: Place::Between,
            compressed_ended: false,
            entries_left: entries_max,
            // Each directory is an entry of another, but for the first.
            frames_left: entries_max.saturating_mul(2) + TREE_FRAMES_SPARE,
        })
    }

    /// The next frame in `input`, which is drawn from as far as was needed; `None` if more is needed.
    ///
    /// # Errors
    /// Any [`TreeError`]: nothing that follows can be read.
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Option<TreeFrame>, TreeError> {
        loop {
            let wanted = self.wanted()?;
            if self.plain.len() == wanted && wanted > FRAME_PREFIX_BYTES {
                return self.frame().map(Some);
            }
            if !self.fill(wanted, input)? {
                return Ok(None);
            }
        }
    }

    /// Whether all was read that was announced.
    pub fn is_at_end(&self) -> bool {
        self.place == Place::Ended && self.plain.is_empty()
    }

    /// How many bytes of plain text the present frame has, as far as is known.
    fn wanted(&self) -> Result<usize, TreeError> {
        match self.plain.first_chunk::<FRAME_PREFIX_BYTES>() {
            None => Ok(FRAME_PREFIX_BYTES),
            // A frame has at least the number of its variant.
            Some(prefix) => match body_len::<TreeFrame>(*prefix)? {
                0 => Err(CodecError::Malformed.into()),
                len => Ok(FRAME_PREFIX_BYTES + len),
            },
        }
    }

    /// Draws plain text until the frame has `wanted` bytes of it. False if the input did not suffice.
    fn fill(&mut self, wanted: usize, input: &mut &[u8]) -> Result<bool, TreeError> {
        while self.plain.len() < wanted {
            if self.compressed_ended {
                return if input.is_empty() {
                    Ok(false)
                } else {
                    Err(TreeError::Trailing)
                };
            }
            let have = self.plain.len();
            self.plain.resize(wanted, 0);
            let mut from = InBuffer::around(input);
            let mut to = OutBuffer::around(&mut self.plain[have..]);
            let hint = self.zstd.run(&mut from, &mut to);
            let (read, written) = (from.pos(), to.pos());
            self.plain.truncate(have + written);
            *input = &input[read..];
            if hint.map_err(|_| TreeError::Compression)? == 0 {
                self.compressed_ended = true;
            } else if read == 0 && written == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The frame that was read, if it may be here.
    fn frame(&mut self) -> Result<TreeFrame, TreeError> {
        let frame = TreeFrame::from_body(&self.plain[FRAME_PREFIX_BYTES..])?;
        self.plain.clear();
        let to = match (&frame, self.place) {
            (_, Place::Ended) | (TreeFrame::More { .. }, Place::Between) => {
                return Err(TreeError::Order);
            }
            // What could not be read to its end is broken off anywhere.
            (TreeFrame::End { .. }, _) => Place::Ended,
            (TreeFrame::Directory { last, .. } | TreeFrame::More { last, .. }, _) => {
                if *last {
                    Place::Between
                } else {
                    Place::Directory
                }
            }
        };
        self.place = to;
        let entries_left = self.entries_left.checked_sub(frame.entries_len());
        let frames_left = self.frames_left.checked_sub(1);
        self.entries_left = entries_left.ok_or(TreeError::TooMuch)?;
        self.frames_left = frames_left.ok_or(TreeError::TooMuch)?;
        Ok(frame)
    }
}
