//! The page cache of this machine, which both ends of a lab share.
//!
//! In this crate's own unit tests nothing is dropped: it is the whole machine's, and what runs beside them would
//! have to wait for the disk.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

const DROP: &str = "/proc/sys/vm/drop_caches";

/// Forgets everything that is clean: pages, dentries, inodes. Whether that was permitted.
pub(crate) fn drop_all(folder: &Path) -> bool {
    // What is dirty could not be dropped; only this file system is of interest.
    (cfg!(test) || synced(folder).is_ok()) && ask(b"3").is_ok()
}

/// Forgets the clean pages of all files.
///
/// # Errors
/// Unless that is permitted.
pub(crate) fn drop_content() -> io::Result<()> {
    ask(b"1")
}

fn synced(folder: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(File::open(folder)?)?)
}

fn ask(what: &[u8]) -> io::Result<()> {
    let mut drop = OpenOptions::new().write(true).open(DROP)?;
    if cfg!(test) {
        Ok(())
    } else {
        drop.write_all(what)
    }
}
