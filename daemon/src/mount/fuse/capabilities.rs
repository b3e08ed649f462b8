//! What the kernel is asked for when a mount begins.

use fuser::{InitFlags, KernelConfig};

/// Largest read the kernel sends: 1 MiB, `fs.fuse.max_pages_limit` of 256 pages.
const REQUEST_BYTES_MAX: u32 = 1024 * 1024;
/// Reads ahead the kernel may have under way.
const BACKGROUND_MAX: u16 = 64;
/// How many file systems deep the files are that the kernel reads by itself.
const STACK_DEPTH: u32 = 1;

/// Asks for what this file system can use.
pub(super) fn request_capabilities(config: &mut KernelConfig, writes: bool, host_owners: bool) {
    let wanted = [
        InitFlags::FUSE_ASYNC_READ,
        InitFlags::FUSE_PARALLEL_DIROPS,
        // Always with attributes: they came with the listing, and spare a lookup each.
        InitFlags::FUSE_DO_READDIRPLUS,
        // A symlink's target changes only with its identity.
        InitFlags::FUSE_CACHE_SYMLINKS,
        // Pages go when attributes say that the file changed.
        InitFlags::FUSE_AUTO_INVAL_DATA,
        // Who opens a file to write it anew does so in one request.
        InitFlags::FUSE_ATOMIC_O_TRUNC,
        // Files that are open past the page cache can be mapped, as they can on a disk.
        InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP,
    ];
    // Locks are the host's, so that other mounts see them; whoever only reads has them here.
    let locks = [InitFlags::FUSE_POSIX_LOCKS, InitFlags::FUSE_FLOCK_LOCKS];
    let locks = locks.into_iter().filter(|_| writes);
    // Where the host's owners are shown, its access control lists mean something as well.
    let acls = host_owners.then_some(InitFlags::FUSE_POSIX_ACL);
    for flag in wanted.into_iter().chain(locks).chain(acls) {
        // An old kernel without one of them is slower, or knows less; it is not wrong.
        let _ = config.add_capabilities(flag);
    }
    let _ = config.set_max_write(REQUEST_BYTES_MAX);
    let _ = config.set_max_background(BACKGROUND_MAX);
}

/// Asks to hand files over to the kernel; or says why that cannot be.
pub(super) fn request_passthrough(config: &mut KernelConfig) -> Result<(), &'static str> {
    if !rustix::process::geteuid().is_root() {
        return Err("only root may (CAP_SYS_ADMIN)");
    }
    let able = config.add_capabilities(InitFlags::FUSE_PASSTHROUGH);
    able.map_err(|_| "the kernel cannot (Linux 6.9 and later can)")?;
    // Files of the disk cache may lie on any file system that is not itself stacked on another.
    let stacked = config.set_max_stack_depth(STACK_DEPTH);
    stacked
        .map(drop)
        .map_err(|_| "the kernel allows no stacking")
}
