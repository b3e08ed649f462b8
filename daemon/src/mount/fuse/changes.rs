//! Requests that change something: from fuser's words to the file system's, and back.

use super::Skin;
use super::convert::{Owner, caller, errno, file_attr, new_node, open_how, permission_bits};
use crate::mount::error::FsError;
use crate::mount::handles::{HandleId, OpenHow};
use crate::mount::inodes::Ino;
use crate::mount::killed::{interrupted, is_in_flock};
use crate::mount::stats::add;
use crate::mount::vfs::{CreateHow, Found, Opened, Wanted};
use fuser::{
    Errno, FileHandle, FopenFlags, ReplyAttr, ReplyCreate, ReplyEmpty, ReplyEntry, ReplyLock,
    ReplyLseek, ReplyOpen, ReplyWrite, Request,
};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::AtomicU64;
use wormhole_protocol::{AttrChange, Fault, LockKind, LockMode, LockOwner, LockRange, SeekWhat};

/// Owner, first and last byte.
type LockArguments = (u64, u64, u64);

impl Skin {
    /// Whether anything may be changed here.
    pub(super) fn writes(&self) -> bool {
        self.vfs.access().writes()
    }

    /// Whether files show the owners they have on the host.
    pub(super) fn shows_host_owners(&self) -> bool {
        matches!(self.owner, Owner::Host)
    }

    /// Answers with success or an error.
    pub(super) fn answer_empty(
        &self,
        request: &Request,
        counter: &AtomicU64,
        operation: impl Future<Output = Result<(), FsError>> + Send + 'static,
        reply: ReplyEmpty,
    ) {
        self.answer(request, counter, operation, move |result| match result {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(errno(error)),
        });
    }

    /// Answers with a node that was made.
    pub(super) fn answer_made(
        &self,
        request: &Request,
        operation: impl Future<Output = Result<Found, FsError>> + Send + 'static,
        reply: ReplyEntry,
    ) {
        let skin = self.clone();
        self.answer(
            request,
            &self.stats.make,
            operation,
            move |result| match result {
                Ok(found) => {
                    let (attr, generation) = skin.entry(&found);
                    reply.entry_with_ttls(&found.ttl, &found.name_ttl, &attr, generation);
                }
                Err(error) => reply.error(errno(error)),
            },
        );
    }

    pub(super) fn open_file(&self, request: &Request, ino: Ino, flags: i32, reply: ReplyOpen) {
        let (vfs, caller, how) = (self.vfs.clone(), caller(request), open_how(flags));
        // Where nothing can be written, nothing can be cut off either.
        let how = OpenHow {
            writes: how.writes || how.truncates,
            ..how
        };
        let (writes, skin) = (self.writes(), self.clone());
        let operation = async move { vfs.open(caller, ino, how).await };
        self.answer(request, &self.stats.open, operation, move |result| {
            match result {
                Ok(opened) => {
                    let mut flags = open_flags(&opened, how);
                    // Without locks and writes there is nothing to do at a close.
                    flags.set(FopenFlags::FOPEN_NOFLUSH, !writes);
                    skin.answer_opened(ino, &opened, flags, reply);
                }
                Err(error) => reply.error(errno(error)),
            }
        });
    }

    pub(super) fn create_file(
        &self,
        request: &Request,
        dir: Ino,
        name: &OsStr,
        mode: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let (vfs, skin, caller) = (self.vfs.clone(), self.clone(), caller(request));
        let (name, how) = (name.as_bytes().to_vec(), open_how(flags));
        let create = CreateHow {
            mode: permission_bits(mode),
            exclusive: flags & libc::O_EXCL != 0,
            truncate: flags & libc::O_TRUNC != 0,
        };
        let operation = async move { vfs.create(caller, dir, &name, create, how).await };
        self.answer(
            request,
            &self.stats.make,
            operation,
            move |result| match result {
                Ok((found, opened)) => {
                    let (attr, generation) = skin.entry(&found);
                    let flags = open_flags(&opened, how);
                    let handle = FileHandle(opened.handle.0);
                    reply.created(&found.ttl_of_both(), &attr, generation, handle, flags);
                }
                Err(error) => reply.error(errno(error)),
            },
        );
    }

    pub(super) fn make_node(
        &self,
        request: &Request,
        dir: Ino,
        name: &OsStr,
        mode: u32,
        device: u32,
        reply: ReplyEntry,
    ) {
        let Some(kind) = new_node(mode, device) else {
            return reply.error(Errno::EINVAL);
        };
        let (vfs, caller, name) = (self.vfs.clone(), caller(request), name.as_bytes().to_vec());
        let mode = permission_bits(mode);
        let operation = async move { vfs.make_node(caller, dir, &name, mode, kind).await };
        self.answer_made(request, operation, reply);
    }

    pub(super) fn set_attributes(
        &self,
        request: &Request,
        ino: Ino,
        set: AttrChange,
        reply: ReplyAttr,
    ) {
        let Some(set) = self.owned(set) else {
            return reply.error(Errno::EPERM);
        };
        let (vfs, caller, owner) = (self.vfs.clone(), caller(request), self.owner);
        let operation = async move { vfs.setattr(caller, ino, set).await };
        self.answer(
            request,
            &self.stats.set,
            operation,
            move |result| match result {
                Ok((attr, ttl)) => reply.attr(&ttl, &file_attr(ino, &attr, owner)),
                Err(error) => reply.error(errno(error)),
            },
        );
    }

    /// Where all files appear to be the mounter's, making them so changes nothing, and giving them to
    /// anybody else cannot be had.
    fn owned(&self, set: AttrChange) -> Option<AttrChange> {
        let Owner::Mounter { uid, gid } = self.owner else {
            return Some(set);
        };
        let stays = set.uid.is_none_or(|to| to == uid) && set.gid.is_none_or(|to| to == gid);
        stays.then_some(AttrChange {
            uid: None,
            gid: None,
            ..set
        })
    }

    /// Takes what a program wrote: at once where it is gathered and there is room, without another copy.
    pub(super) fn take_written(
        &self,
        request: &Request,
        handle: HandleId,
        offset: u64,
        data: &[u8],
        reply: ReplyWrite,
    ) {
        // The kernel sends at most a MiB.
        let len = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let finish = move |result| match result {
            Ok(()) => reply.written(len),
            Err(error) => reply.error(errno(error)),
        };
        {
            let _entered = self.runtime.enter();
            if let Some(done) = self.vfs.write_now(handle, offset, data) {
                add(&self.stats.write, 1);
                return finish(done);
            }
        }
        let (vfs, data) = (self.vfs.clone(), data.to_vec());
        let operation = async move { vfs.write(handle, offset, &data).await };
        self.answer(request, &self.stats.write, operation, finish);
    }

    /// Takes what the kernel had in its page cache.
    pub(super) fn take_back(
        &self,
        request: &Request,
        handle: HandleId,
        offset: u64,
        data: &[u8],
        reply: ReplyWrite,
    ) {
        let len = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let (vfs, data) = (self.vfs.clone(), data.to_vec());
        let operation = async move { vfs.write_back(handle, offset, &data).await };
        self.answer(
            request,
            &self.stats.write,
            operation,
            move |result| match result {
                Ok(()) => reply.written(len),
                Err(error) => reply.error(errno(error)),
            },
        );
    }

    pub(super) fn seek(
        &self,
        request: &Request,
        handle: HandleId,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let what = match whence {
            libc::SEEK_DATA => SeekWhat::Data,
            libc::SEEK_HOLE => SeekWhat::Hole,
            _ => return reply.error(Errno::EINVAL),
        };
        let Ok(offset) = u64::try_from(offset) else {
            return reply.error(Errno::ENXIO);
        };
        let vfs = self.vfs.clone();
        let operation = async move { vfs.seek(handle, offset, what).await };
        self.answer(request, &self.stats.seek, operation, move |result| {
            let offset = result.map(|offset| i64::try_from(offset).unwrap_or(i64::MAX));
            match offset {
                Ok(offset) => reply.offset(offset),
                Err(error) => reply.error(errno(error)),
            }
        });
    }

    pub(super) fn copy_range(
        &self,
        request: &Request,
        from: (HandleId, u64),
        to: (HandleId, u64),
        len: u64,
        reply: ReplyWrite,
    ) {
        let vfs = self.vfs.clone();
        let operation = async move { vfs.copy(from, to, len).await };
        self.answer(
            request,
            &self.stats.allocate,
            operation,
            move |result| match result {
                Ok(len) => reply.written(u32::try_from(len).unwrap_or(u32::MAX)),
                Err(error) => reply.error(errno(error)),
            },
        );
    }

    pub(super) fn set_lock(
        &self,
        request: &Request,
        handle: HandleId,
        arguments: LockArguments,
        mode: i32,
        wait: bool,
        reply: ReplyEmpty,
    ) {
        let Some(wanted) = wanted(request, arguments) else {
            return reply.error(Errno::EINVAL);
        };
        let (vfs, tid) = (self.vfs.clone(), request.pid());
        let operation = async move {
            let Some(mode) = lock_mode(mode) else {
                return vfs.unlock(handle, wanted).await;
            };
            tokio::select! {
                biased;
                locked = vfs.lock(handle, wanted, mode, wait) => locked,
                () = interrupted(tid), if wait => Err(FsError::Killed),
            }
        };
        self.answer_empty(request, &self.stats.lock, operation, reply);
    }

    pub(super) fn test_lock(
        &self,
        request: &Request,
        handle: HandleId,
        arguments: LockArguments,
        mode: i32,
        reply: ReplyLock,
    ) {
        let (Some(wanted), Some(mode)) = (wanted(request, arguments), lock_mode(mode)) else {
            return reply.error(Errno::EINVAL);
        };
        let vfs = self.vfs.clone();
        let operation = async move { vfs.test_lock(handle, wanted, mode).await };
        self.answer(request, &self.stats.lock, operation, move |result| {
            match result {
                Ok(None) => reply.locked(0, 0, libc::F_UNLCK, 0),
                // Whose process it is on which machine, nobody here can say.
                Ok(Some(conflict)) => {
                    let mode = match conflict.mode {
                        LockMode::Shared => libc::F_RDLCK,
                        LockMode::Exclusive => libc::F_WRLCK,
                    };
                    reply.locked(conflict.range.first(), conflict.range.last(), mode, 0);
                }
                Err(FsError::Fault(Fault::ReadOnly)) => reply.error(Errno::ENOLCK),
                Err(error) => reply.error(errno(error)),
            }
        });
    }
}

fn open_flags(opened: &Opened, how: OpenHow) -> FopenFlags {
    let mut flags = FopenFlags::empty();
    flags.set(FopenFlags::FOPEN_KEEP_CACHE, opened.keep_cache);
    flags.set(FopenFlags::FOPEN_DIRECT_IO, how.direct);
    flags
}

/// `None`: given up.
fn lock_mode(mode: i32) -> Option<LockMode> {
    match mode {
        libc::F_RDLCK => Some(LockMode::Shared),
        libc::F_WRLCK => Some(LockMode::Exclusive),
        _ => None,
    }
}

fn wanted(request: &Request, (owner, first, last): LockArguments) -> Option<Wanted> {
    let (kind, range) = if is_in_flock(request.pid()) {
        (LockKind::Flock, Some(LockRange::ALL))
    } else {
        (LockKind::Record, LockRange::new(first, last))
    };
    Some(Wanted {
        owner: LockOwner(owner),
        kind,
        range: range?,
    })
}
