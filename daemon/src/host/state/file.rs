//! The file of one share: read with suspicion, replaced as a whole, locked.

use super::StateError;
use crate::host::limits::STATE_BYTES_MAX;
use crate::host::tickets::TicketRecord;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Of a share whose tickets are all to look.
const FORMAT_READING: u32 = 1;
/// Tickets may say that they are to change as well. A version that knows only the first format refuses
/// it with the advice to update, rather than call the file damaged.
const FORMAT_WRITING: u32 = 2;

/// The earliest format that can say what is in `tickets`.
pub(super) fn format_for(tickets: &[TicketRecord]) -> u32 {
    if tickets.iter().any(TicketRecord::writes) {
        FORMAT_WRITING
    } else {
        FORMAT_READING
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stored {
    /// As [`format_for`] says.
    pub(super) format: u32,
    /// In hex.
    pub(super) share: String,
    /// Control characters escaped; for people, and against a mix-up.
    pub(super) path: String,
    pub(super) name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) port: Option<u16>,
    pub(super) tickets: Vec<TicketRecord>,
}

/// Read first, so that a later format is recognised as one whatever else it holds.
#[derive(Deserialize)]
struct FormatOnly {
    format: u32,
}

/// What is in the file; `None` if there is none.
pub(super) fn load(path: &Path) -> Result<Option<Stored>, StateError> {
    let told = |e| io_error(path, e);
    let mut text = Vec::new();
    match File::open(path) {
        Ok(file) => file
            .take(STATE_BYTES_MAX + 1)
            .read_to_end(&mut text)
            .map_err(told)?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(told(e)),
    };
    let corrupt = || StateError::Corrupt(shown(path));
    if text.len() as u64 > STATE_BYTES_MAX {
        return Err(corrupt());
    }
    let FormatOnly { format } = serde_json::from_slice(&text).map_err(|_| corrupt())?;
    if !(FORMAT_READING..=FORMAT_WRITING).contains(&format) {
        return Err(StateError::UnknownFormat {
            path: shown(path),
            format,
        });
    }
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|_| corrupt())
}

/// Puts `stored` in the file's place, whole or not at all.
pub(super) fn save(path: &Path, stored: &Stored) -> io::Result<()> {
    let mut text = serde_json::to_vec_pretty(stored)?;
    text.push(b'\n');
    // The directory is private and the share locked: nobody else writes this name.
    let beside = path.with_extension("tmp");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    match path.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

/// Locks the share against other hosts for as long as the file is open.
pub(super) fn lock(path: &Path) -> Result<File, StateError> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|e| io_error(path, e))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(StateError::InUse),
        Err(e) => Err(io_error(path, e.into())),
    }
}

/// What the disk said of `path`.
pub(super) fn io_error(path: &Path, source: io::Error) -> StateError {
    StateError::Io {
        path: shown(path),
        source,
    }
}

/// A path as a message shows it: control characters escaped.
pub(super) fn shown(path: &Path) -> String {
    path.as_os_str().as_bytes().escape_ascii().to_string()
}
