//! What the kernel has of a file in memory, so that tests see whether it was made durable.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;

/// Number of `cachestat(2)`, since Linux 6.5; the same on every architecture.
const CACHESTAT: libc::c_long = 451;

/// Pages of a file that are not on the disk yet; `None` if this kernel does not say.
pub(crate) fn unwritten_pages(file: &Path) -> Option<u64> {
    let file = File::open(file).expect("it is there");
    // All of the file.
    let range = [0_u64; 2];
    // Cached, dirty, being written, evicted, evicted lately.
    let mut pages = [0_u64; 5];
    // SAFETY: both point to what lives longer than the call, of the sizes the kernel reads and writes.
    let done = unsafe {
        libc::syscall(
            CACHESTAT,
            file.as_raw_fd(),
            range.as_ptr(),
            pages.as_mut_ptr(),
            0_u32,
        )
    };
    (done == 0).then_some(pages[1] + pages[2])
}

/// Whether a file is on the disk; true where that cannot be told, which is said.
pub(crate) fn is_on_disk(file: &Path, test: &str) -> bool {
    let unwritten = unwritten_pages(file);
    if unwritten.is_none() {
        eprintln!(
            "{test} did not run as meant: this kernel does not tell which pages are on the disk"
        );
    }
    unwritten.is_none_or(|pages| pages == 0)
}
