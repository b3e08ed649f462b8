//! What a writer was promised, and whether it was kept.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Instant;

/// Bytes of a slot, and slots of a file.
pub(crate) const SLOT_BYTES: usize = 4096;
pub(crate) const SLOTS: usize = 32;
/// Bytes of a line of a log, newline included.
pub(crate) const LINE_BYTES: usize = 64;

/// Bytes nobody could mistake for others: a hash of what they are.
pub(crate) fn pattern(name: &str, number: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new()
        .update(name.as_bytes())
        .update(&number.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

pub(crate) fn slot(name: &str, number: u64) -> Vec<u8> {
    let mut bytes = pattern(name, number, SLOT_BYTES);
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes
}

pub(crate) fn line(number: u64) -> Vec<u8> {
    format!("{number:0>width$}\n", width = LINE_BYTES - 1).into_bytes()
}

/// All that one writer was told.
#[derive(Default)]
pub(crate) struct Account {
    /// Whole files that were closed, or fsynced and closed: name, length.
    pub(crate) files: Vec<(String, usize)>,
    /// Long files, each safe as far as this.
    pub(crate) streams: BTreeMap<String, usize>,
    /// Slots of files that are written over and over: the number that is safe, and the last one tried.
    pub(crate) slots: BTreeMap<(String, usize), (u64, u64)>,
    /// Lines of the logs that are safe.
    pub(crate) lines: BTreeMap<String, Vec<u64>>,
    /// When something was acknowledged last.
    pub(crate) last: Option<Instant>,
    /// Errors, each with the time and what was being done.
    pub(crate) errors: Vec<(Instant, String)>,
}

/// Which 4 KiB blocks are wrong, and whether they are zeros.
fn wrong_places(bytes: &[u8], wanted: &[u8]) -> String {
    let blocks = bytes.chunks(SLOT_BYTES).zip(wanted.chunks(SLOT_BYTES));
    let wrong = blocks.enumerate().filter(|(_, (is, should))| is != should);
    let wrong: Vec<_> = wrong
        .map(|(at, (is, _))| (at, is.iter().all(|byte| *byte == 0)))
        .collect();
    let zeros = wrong.iter().filter(|(_, zeros)| *zeros).count();
    format!(
        "{} blocks wrong, {zeros} of them zeros, from {:?} to {:?}",
        wrong.len(),
        wrong.first().map(|(at, _)| at),
        wrong.last().map(|(at, _)| at)
    )
}

impl Account {
    pub(crate) fn acknowledged(&mut self) {
        self.last = Some(Instant::now());
    }

    pub(crate) fn failed(&mut self, what: &str, error: &std::io::Error) {
        self.errors
            .push((Instant::now(), format!("{what}: {error}")));
    }

    /// How much was promised, in promises.
    pub(crate) fn len(&self) -> usize {
        self.files.len()
            + self.streams.values().map(|len| len >> 20).sum::<usize>()
            + self.slots.len()
            + self.lines.values().map(Vec::len).sum::<usize>()
    }

    /// Looks at what is in `dir`, and says what is missing or wrong.
    pub(crate) fn broken(&self, dir: &Path) -> Vec<String> {
        let mut broken = Vec::new();
        self.check_files(dir, &mut broken);
        self.check_streams(dir, &mut broken);
        self.check_slots(dir, &mut broken);
        self.check_lines(dir, &mut broken);
        broken
    }

    fn check_files(&self, dir: &Path, broken: &mut Vec<String>) {
        for (name, len) in &self.files {
            match fs::read(dir.join(name)) {
                Err(error) => broken.push(format!("{name}: {error}")),
                Ok(bytes) if bytes.len() != *len => {
                    broken.push(format!("{name}: {} bytes of {len}", bytes.len()));
                }
                Ok(bytes) if bytes != pattern(name, 0, *len) => {
                    broken.push(format!("{name}: other content"));
                }
                Ok(_) => {}
            }
        }
    }

    fn check_streams(&self, dir: &Path, broken: &mut Vec<String>) {
        for (name, len) in &self.streams {
            let bytes = match fs::read(dir.join(name)) {
                Ok(bytes) => bytes,
                Err(error) => {
                    broken.push(format!("{name}: {error}"));
                    continue;
                }
            };
            let wanted = pattern(name, 0, *len);
            if bytes.len() < *len {
                broken.push(format!("{name}: {} bytes of {len}", bytes.len()));
            } else if bytes[..*len] != wanted {
                let places = wrong_places(&bytes, &wanted);
                broken.push(format!("{name}, safe to {len}: {places}"));
            }
        }
    }

    fn check_slots(&self, dir: &Path, broken: &mut Vec<String>) {
        for ((name, at), (safe, tried)) in &self.slots {
            let start = at * SLOT_BYTES;
            let found = fs::read(dir.join(name)).unwrap_or_default();
            let found = found.get(start..start + SLOT_BYTES).unwrap_or_default();
            // What was under way when it went wrong may be there or not.
            let good = (*safe..=*tried).any(|number| match number {
                0 => found.iter().all(|byte| *byte == 0),
                _ => found == slot(name, number),
            });
            if !good {
                let number = found.first_chunk().map(|n| u64::from_le_bytes(*n));
                broken.push(format!(
                    "{name}, slot {at}: {number:?} instead of {safe}..={tried}"
                ));
            }
        }
    }

    /// Each line that is safe is there once, and none twice.
    fn check_lines(&self, dir: &Path, broken: &mut Vec<String>) {
        for (name, safe) in &self.lines {
            let bytes = fs::read(dir.join(name)).unwrap_or_default();
            let mut seen = BTreeSet::new();
            let mut in_order = Vec::new();
            for (at, text) in bytes.chunks(LINE_BYTES).enumerate() {
                let number = std::str::from_utf8(text)
                    .ok()
                    .and_then(|text| text.trim_end().parse().ok());
                match number {
                    Some(number) if line(number) == text => {
                        if !seen.insert(number) {
                            broken.push(format!("{name}: line {number} is there twice"));
                        }
                        in_order.push(number);
                    }
                    _ => broken.push(format!("{name}: line at {at} is torn")),
                }
            }
            let missing = safe.iter().filter(|number| !seen.contains(number)).count();
            if missing > 0 {
                broken.push(format!("{name}: {missing} lines of {} missing", safe.len()));
            }
            let safe: BTreeSet<u64> = safe.iter().copied().collect();
            in_order.retain(|number| safe.contains(number));
            if !in_order.is_sorted() {
                broken.push(format!("{name}: lines out of order"));
            }
        }
    }
}
