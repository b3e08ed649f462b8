//! Standard output: results only, so that scripts can read them; everything else goes to stderr.

use serde::Serialize;
use std::io::{self, Write};

/// Prints text and a newline at once, even into a pipe. A reader that has seen enough (`| head`) is no
/// error.
///
/// # Errors
/// If it cannot be written: a full disk.
pub(super) fn line(text: &str) -> io::Result<()> {
    match write(io::stdout().lock(), text) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Prints a line of many; false once nobody reads them any more.
///
/// # Errors
/// As [`line`].
pub(super) fn next_line(text: &str) -> io::Result<bool> {
    match write(io::stdout().lock(), text) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        written => written.map(|()| true),
    }
}

fn write(mut out: impl Write, text: &str) -> io::Result<()> {
    out.write_all(text.as_bytes())?;
    out.write_all(b"\n")?;
    out.flush()
}

/// Prints one JSON object on one line.
///
/// # Errors
/// As [`line`].
pub(super) fn json(value: &impl Serialize) -> io::Result<()> {
    line(&serde_json::to_string(value)?)
}
