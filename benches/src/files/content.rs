//! What files are made of: bytes from a seed, that cannot be compressed or that compress as text does.

use crate::record::Data;
use crate::tree::Random;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

const PIECE_BYTES: usize = 1 << 20;
/// The words of a text. Few of them make most of it, as in prose and in code.
const WORDS: usize = 512;
/// Bits that choose a word: one of [`WORDS`], twice, of which a common one comes out.
const WORD_BITS: u32 = 9;

/// Makes files of content.
pub(crate) struct Writer {
    data: Data,
    words: Vec<String>,
    piece: Vec<u8>,
}

impl Writer {
    pub(crate) fn new(data: Data) -> Self {
        Self {
            data,
            words: match data {
                Data::Random => Vec::new(),
                Data::Text => words(),
            },
            piece: Vec::new(),
        }
    }

    /// Makes a file of `bytes` bytes that follow from `seed`.
    pub(crate) fn create(&mut self, path: &Path, bytes: u64, seed: u64) -> io::Result<()> {
        let mut file = File::create_new(path)?;
        let mut random = Random(seed);
        let mut left = bytes;
        while left > 0 {
            let want = usize::try_from(left)
                .unwrap_or(PIECE_BYTES)
                .min(PIECE_BYTES);
            file.write_all(self.next(want, &mut random))?;
            left -= want as u64;
        }
        Ok(())
    }

    /// The next `want` bytes of what `random` leads to.
    pub(crate) fn next(&mut self, want: usize, random: &mut Random) -> &[u8] {
        match self.data {
            // Much faster than what it is written to: it is part of what is timed when a mount is
            // written to.
            Data::Random => {
                self.piece.resize(want.next_multiple_of(8), 0);
                for number in self.piece.chunks_exact_mut(8) {
                    number.copy_from_slice(&random.number().to_le_bytes());
                }
            }
            Data::Text => {
                self.piece.clear();
                while self.piece.len() < want {
                    line(&mut self.piece, &self.words, random);
                }
            }
        }
        &self.piece[..want]
    }
}

/// A line of nine words.
fn line(text: &mut Vec<u8>, words: &[String], random: &mut Random) {
    const MASK: u64 = (1 << WORD_BITS) - 1;
    for _ in 0..3 {
        let mut bits = random.number();
        for _ in 0..3 {
            let rank = ((bits & MASK) * ((bits >> WORD_BITS) & MASK)) >> WORD_BITS;
            let word = usize::try_from(rank).unwrap_or(0);
            text.extend_from_slice(words[word].as_bytes());
            text.push(b' ');
            bits >>= 2 * WORD_BITS;
        }
    }
    text.push(b'\n');
}

/// Words one can pronounce, the same on every machine.
fn words() -> Vec<String> {
    const SYLLABLES: [&str; 16] = [
        "an", "be", "con", "de", "er", "for", "ing", "la", "men", "no", "per", "re", "si", "ter",
        "un", "ver",
    ];
    let mut random = Random(0);
    (0..WORDS)
        .map(|_| {
            let bits = random.number();
            (0..2 + bits % 3)
                .map(|i| SYLLABLES[usize::try_from((bits >> (8 + 4 * i)) & 15).unwrap_or(0)])
                .collect()
        })
        .collect()
}

/// A seed for what is called `name`, that differs from those of other names.
pub(crate) fn seed_of(seed: u64, name: &str) -> u64 {
    // FNV-1a, then one step of the stream to spread what it yields.
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    Random(seed ^ hash).number()
}
