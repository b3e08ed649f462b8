//! The C library's heap, as this program uses it. Not an allocator.
//!
//! glibc gives threads heaps of their own (malloc(3), "arenas"), and a heap keeps what was freed below what is
//! in use. Chunks are read by one thread, kept in the memory cache, and freed by another: each heap would grow
//! to the size of that cache (a mount with 256 MiB of it took 640 MB when it read from its disk cache). Small
//! blocks come from what each thread has aside, and seldom meet the one lock.

/// Has all threads share one heap; those that have one of their own already keep it. Nothing where the C
/// library is another.
pub fn share_one() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes numbers only.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}
