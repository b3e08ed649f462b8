//! What a mount counts. Plain atomics; the metrics room gives them their public names.

use serde::Serialize;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! counters {
    ($(#[$outer:meta])* $live:ident / $shown:ident { $($(#[$doc:meta])* $field:ident),* $(,)? }) => {
        $(#[$outer])*
        #[derive(Default)]
        pub struct $live { $($(#[$doc])* pub $field: AtomicU64),* }

        /// The figures at one moment.
        #[derive(Debug, Clone, Default, Serialize)]
        pub struct $shown { $($(#[$doc])* pub $field: u64),* }

        impl $live {
            /// The figures now.
            pub fn snapshot(&self) -> $shown {
                $shown { $($field: self.$field.load(Relaxed)),* }
            }
        }
    };
}

counters! {
    /// Requests of the kernel, by kind.
    FuseStats / FuseSnapshot {
        /// FUSE_LOOKUP.
        lookup,
        /// FUSE_GETATTR.
        getattr,
        /// FUSE_READLINK.
        readlink,
        /// FUSE_OPEN.
        open,
        /// FUSE_READ.
        read,
        /// FUSE_OPENDIR.
        opendir,
        /// FUSE_READDIR and FUSE_READDIRPLUS.
        readdir,
        /// FUSE_STATFS.
        statfs,
        /// FUSE_GETXATTR and FUSE_LISTXATTR.
        xattr,
        /// FUSE_WRITE.
        write,
        /// FUSE_FLUSH.
        flush,
        /// FUSE_FSYNC and FUSE_FSYNCDIR.
        fsync,
        /// FUSE_CREATE, FUSE_MKDIR, FUSE_MKNOD, FUSE_SYMLINK and FUSE_LINK.
        make,
        /// FUSE_UNLINK and FUSE_RMDIR.
        remove,
        /// FUSE_RENAME2.
        rename,
        /// FUSE_SETATTR, FUSE_SETXATTR and FUSE_REMOVEXATTR.
        set,
        /// FUSE_FALLOCATE and FUSE_COPY_FILE_RANGE.
        allocate,
        /// FUSE_LSEEK.
        seek,
        /// FUSE_GETLK, FUSE_SETLK and FUSE_SETLKW.
        lock,
        /// Requests that are being worked on.
        in_flight,
        /// Requests given up because their caller was killed.
        killed,
    }
}

counters! {
    /// Requests to the host, by kind.
    RemoteStats / RemoteSnapshot {
        /// Lookup.
        lookup,
        /// Getattr.
        getattr,
        /// Readlink.
        readlink,
        /// List.
        list,
        /// Tree: a directory and all beneath it.
        tree,
        /// Read that someone waited for.
        read,
        /// Read ahead of need.
        read_ahead,
        /// Small files of a directory, ahead of need.
        read_many,
        /// StatFs.
        statfs,
        /// GetXattr and ListXattr.
        xattr,
        /// Seek.
        seek,
        /// Lookup, Getattr or List nobody waited for: what is believed, renewed before its term ends.
        renewal,
    }
}

counters! {
    /// Leases.
    LeaseStats / LeaseCounts {
        /// What the host told unasked.
        pushes,
        /// Names it told of.
        names,
        /// How often it was told how far this mount has heard.
        heard,
        /// Leases the host ended: of a directory, or all.
        ended,
        /// How often the kernel was told to forget where names lead.
        names_forgotten,
    }
}

counters! {
    /// Changing.
    ChangeStats / ChangeSnapshot {
        /// Changes asked of the host.
        changes,
        /// Changes it answered, or that were given up.
        answered,
        /// Requests for locks.
        locks,
    }
}

counters! {
    /// Reading.
    ReadStats / ReadSnapshot {
        /// Bytes given to the kernel.
        served_bytes,
        /// File bytes that came from the host.
        fetched_bytes,
        /// File bytes asked of the host ahead of need.
        ahead_bytes,
        /// File bytes that came from the disk cache.
        disk_bytes,
        /// File bytes under way.
        pending_bytes,
        /// Fetches cancelled because the reader went elsewhere.
        cancelled,
        /// Reads answered past the caches because the file kept changing.
        direct,
    }
}

counters! {
    /// Small files fetched in bulk.
    BulkStats / BulkSnapshot {
        /// Files that came.
        fetched_files,
        /// Their bytes.
        fetched_bytes,
        /// Files that were read after they had been asked for.
        used_files,
        /// Their bytes. What came and is not among them was fetched in vain, so far.
        used_bytes,
        /// Files that the host did not send: changed, gone, or not to be read.
        refused_files,
    }
}

counters! {
    /// Files that were written here whole.
    OwnBytesStats / OwnBytesSnapshot {
        /// Files the host was asked about.
        asked_files,
        /// Files it vouched for: what was written is in the caches.
        kept_files,
        /// Their bytes.
        kept_bytes,
        /// Bytes of files made or emptied here that were read from what was written to them.
        read_bytes,
    }
}

counters! {
    /// Dirty data.
    BufferStats / BufferSnapshot {
        /// Bytes taken from the kernel.
        taken_bytes,
        /// Bytes taken that the host has not answered.
        dirty_bytes,
        /// Bytes the host has written.
        written_bytes,
        /// Segments sent.
        segments,
        /// Segments that failed; what was in them is lost.
        failed,
        /// Writes that had to wait for room.
        waits,
    }
}

/// Adds to a counter.
pub(super) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Relaxed);
}

/// Takes from a gauge.
pub(super) fn sub(counter: &AtomicU64, n: u64) {
    counter.fetch_sub(n, Relaxed);
}
