//! Locks of the kernel: one file description's, never waited for.
//!
//! Record locks are of the open file description (`F_OFD_SETLK`, fcntl(2)): the kernel splits and merges
//! their ranges, and they conflict with those of every other description and with the classic ones of
//! processes. Those of one description never conflict with each other. They end with it.

use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use wormhole_protocol::limits::OFFSET_MAX;
use wormhole_protocol::{LockConflict, LockMode, LockRange};

/// Takes a record lock, or changes the mode of what is locked already.
///
/// # Errors
/// `AGAIN` if somebody has a part of it; `BADF` if the descriptor is not open for what the mode needs.
pub(super) fn lock_range(fd: &OwnedFd, range: LockRange, mode: LockMode) -> Result<(), Errno> {
    set(fd, range, type_of(mode))
}

/// Gives up the record locks of a range.
pub(super) fn unlock_range(fd: &OwnedFd, range: LockRange) -> Result<(), Errno> {
    set(fd, range, libc::F_UNLCK)
}

/// A lock of another description or process that is in the way of one, if any.
pub(super) fn conflict(
    fd: &OwnedFd,
    range: LockRange,
    mode: LockMode,
) -> Result<Option<LockConflict>, Errno> {
    let mut found = record(range, type_of(mode))?;
    control(fd, libc::F_OFD_GETLK, &mut found)?;
    let mode = match libc::c_int::from(found.l_type) {
        libc::F_UNLCK => return Ok(None),
        libc::F_RDLCK => LockMode::Shared,
        _ => LockMode::Exclusive,
    };
    // What no kernel answers is as good as "all of the file".
    let first = u64::try_from(found.l_start).unwrap_or(0);
    let last = match u64::try_from(found.l_len) {
        Ok(len @ 1..) => first.saturating_add(len - 1),
        _ => OFFSET_MAX,
    };
    let range = LockRange::new(first, last).unwrap_or(LockRange::ALL);
    Ok(Some(LockConflict { range, mode }))
}

/// Takes the lock of the whole file, or changes its mode. As on Linux, a change that fails has lost what
/// there was.
///
/// # Errors
/// `AGAIN` if somebody has it.
pub(super) fn lock_whole(fd: &OwnedFd, mode: LockMode) -> Result<(), Errno> {
    let how = match mode {
        LockMode::Shared => FlockOperation::NonBlockingLockShared,
        LockMode::Exclusive => FlockOperation::NonBlockingLockExclusive,
    };
    flock(fd, how)
}

/// Gives up the lock of the whole file.
pub(super) fn unlock_whole(fd: &OwnedFd) -> Result<(), Errno> {
    flock(fd, FlockOperation::NonBlockingUnlock)
}

fn type_of(mode: LockMode) -> libc::c_int {
    match mode {
        LockMode::Shared => libc::F_RDLCK,
        LockMode::Exclusive => libc::F_WRLCK,
    }
}

fn set(fd: &OwnedFd, range: LockRange, kind: libc::c_int) -> Result<(), Errno> {
    let done = control(fd, libc::F_OFD_SETLK, &mut record(range, kind)?);
    // POSIX allows either for "somebody has it".
    done.map_err(|e| if e == Errno::ACCESS { Errno::AGAIN } else { e })
}

fn record(range: LockRange, kind: libc::c_int) -> Result<libc::flock, Errno> {
    // Length 0 reaches to the end, wherever that comes to be.
    let len = match range.last() {
        OFFSET_MAX => 0,
        last => last - range.first() + 1,
    };
    // SAFETY: a plain C struct of integers, for which all zeros is a value; `l_pid` must be 0.
    let mut record: libc::flock = unsafe { std::mem::zeroed() };
    record.l_type = libc::c_short::try_from(kind).map_err(|_| Errno::INVAL)?;
    record.l_whence = libc::c_short::try_from(libc::SEEK_SET).map_err(|_| Errno::INVAL)?;
    record.l_start = range.first().try_into().map_err(|_| Errno::OVERFLOW)?;
    record.l_len = len.try_into().map_err(|_| Errno::OVERFLOW)?;
    Ok(record)
}

fn control(fd: &OwnedFd, command: libc::c_int, record: &mut libc::flock) -> Result<(), Errno> {
    loop {
        // SAFETY: the descriptor is open for the call, and both commands take a `flock` to read and write.
        let done = unsafe { libc::fcntl(fd.as_raw_fd(), command, &raw mut *record) };
        if done != -1 {
            return Ok(());
        }
        let error = std::io::Error::last_os_error();
        match Errno::from_io_error(&error).unwrap_or(Errno::IO) {
            Errno::INTR => {}
            other => return Err(other),
        }
    }
}
