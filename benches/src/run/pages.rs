//! The page cache of this machine, which both ends of a lab share.

use std::fs;
use std::path::Path;

const DROP: &str = "/proc/sys/vm/drop_caches";

/// Forgets everything that is clean: pages, dentries, inodes. Whether that was permitted.
pub(super) fn drop_all(folder: &Path) -> bool {
    // What is dirty could not be dropped; only this file system is of interest.
    let synced = fs::File::open(folder).and_then(|file| Ok(rustix::fs::syncfs(file)?));
    synced.is_ok() && fs::write(DROP, "3").is_ok()
}
