//! Files and directories as the cache makes and reads them: private, never through a symlink.

use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, ReadWriteFlags};
use std::fs::{DirBuilder, File, Metadata};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt};
use std::path::Path;

const FILE_MODE: u32 = 0o600;
const DIR_MODE: u32 = 0o700;
/// `RWF_DONTCACHE` (Linux 6.14, <https://lwn.net/Articles/998783/>), which rustix does not name yet.
const DONT_CACHE: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x80);

/// Opens a file for reading and writing.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    open_with(path, OFlags::RDWR)
}

/// Opens a file for reading.
pub(crate) fn open_read(path: &Path) -> io::Result<File> {
    open_with(path, OFlags::RDONLY)
}

/// Makes a file that must not exist.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    open_with(path, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)
}

/// Opens a file, made if need be.
pub(crate) fn open_or_create(path: &Path) -> io::Result<File> {
    open_with(path, OFlags::RDWR | OFlags::CREATE)
}

fn open_with(path: &Path, flags: OFlags) -> io::Result<File> {
    // NONBLOCK: a FIFO planted under one of our names must not block an open.
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::open(
        path,
        flags,
        Mode::from_raw_mode(FILE_MODE),
    )?);
    Ok(file)
}

/// Removes a file; that it is gone already is fine.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes a directory and what is missing above it.
pub(crate) fn make_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(DIR_MODE)
        .create(path)
}

/// Bytes a file takes on disk.
pub(crate) fn room(metadata: &Metadata) -> u64 {
    metadata.blocks() * 512
}

/// Reads until `out` is full or the file ends; how much was read.
pub(crate) fn read_at(file: &File, out: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < out.len() {
        match file.read_at(&mut out[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// As [`read_at`] in one step, and only from memory: `None` if the disk would have to be asked, or if that cannot be
/// told.
pub(crate) fn read_at_hand(file: &File, out: &mut [u8], offset: u64) -> Option<usize> {
    let len = out.len();
    let mut slices = [IoSliceMut::new(out)];
    let read = rustix::io::preadv2(file, &mut slices, offset, ReadWriteFlags::NOWAIT).ok()?;
    // In between, the file may end, or the rest may not be in memory.
    (read == 0 || read == len).then_some(read)
}

/// Appends up to `len` bytes from `offset` on to `out`, which has the room; fewer if the file ends.
pub(crate) fn append_from(
    file: &File,
    offset: u64,
    len: usize,
    out: &mut Vec<u8>,
) -> io::Result<()> {
    let before = out.len();
    out.reserve_exact(len);
    while out.len() - before < len {
        let done = out.len() - before;
        // The spare room may be larger than what was asked for; no more than that is read.
        let spare = &mut out.spare_capacity_mut()[..len - done];
        let (read, _) = match rustix::io::pread(file, spare, offset + done as u64) {
            Ok((filled, rest)) => (filled.len(), rest),
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        if read == 0 {
            break;
        }
        // SAFETY: `pread` has initialised `read` bytes from the end of `out` on, within its capacity.
        unsafe { out.set_len(before + done + read) };
    }
    Ok(())
}

/// Writes all of `bytes`.
pub(crate) fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    file.write_all_at(bytes, offset)
}

/// Writes all of several slices, one after another.
pub(crate) fn write_all_at(
    file: &File,
    mut slices: &mut [IoSlice<'_>],
    mut offset: u64,
) -> io::Result<()> {
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        match rustix::io::pwritev(file, slices, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                offset += written as u64;
                IoSlice::advance_slices(&mut slices, written);
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// As [`write_all_at`], but the bytes start for the disk at once and their pages are free when they are there,
/// where kernel and file system can do that.
pub(crate) fn write_past_page_cache_at(
    file: &File,
    mut slices: &mut [IoSlice<'_>],
    offset: u64,
) -> io::Result<()> {
    // What this cannot write, for whatever reason, the plain way writes or says why not.
    let written = rustix::io::pwritev2(file, slices, offset, DONT_CACHE).unwrap_or(0);
    IoSlice::advance_slices(&mut slices, written);
    write_all_at(file, slices, offset + written as u64)
}
