//! What fuser calls: each request handed to where it is answered.
//!
//! The whole trait in one place, and nothing else: what looks is answered in `looks`, what changes in `changes`.

use super::Skin;
use super::capabilities::{request_capabilities, request_passthrough};
use super::convert::{
    allocate_how, caller, errno, permission_bits, rename_how, set_time, what_to_sync,
};
use crate::mount::handles::HandleId;
use crate::mount::inodes::Ino;
use crate::mount::stats::add;
use fuser::{
    AccessFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, FopenFlags, INodeNo,
    KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyLock, ReplyLseek, ReplyOpen,
    ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::SystemTime;
use wormhole_protocol::AttrChange;

impl Filesystem for Skin {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        request_capabilities(config, self.writes(), self.shows_host_owners());
        if let Err(why) = request_passthrough(config) {
            self.vfs.passthrough().refuse(why);
        }
        Ok(())
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.look_up(request, Ino(parent.0), name, reply);
    }

    fn forget(&self, _request: &Request, ino: INodeNo, lookups: u64) {
        self.vfs.forget(Ino(ino.0), lookups);
    }

    fn getattr(
        &self,
        request: &Request,
        ino: INodeNo,
        handle: Option<FileHandle>,
        reply: ReplyAttr,
    ) {
        let handle = handle.map(|handle| HandleId(handle.0));
        self.attributes(request, Ino(ino.0), handle, reply);
    }

    fn readlink(&self, request: &Request, ino: INodeNo, reply: ReplyData) {
        self.link_target(request, Ino(ino.0), reply);
    }

    fn open(&self, request: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        self.open_file(request, Ino(ino.0), flags.0, reply);
    }

    fn read(
        &self,
        request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.read_bytes(request, HandleId(handle.0), offset, size, reply);
    }

    fn write(
        &self,
        request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let handle = HandleId(handle.0);
        if write_flags.contains(WriteFlags::FUSE_WRITE_CACHE) {
            self.take_back(request, handle, offset, data, reply);
        } else {
            self.take_written(request, handle, offset, data, reply);
        }
    }

    fn flush(
        &self,
        request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        let (vfs, handle) = (self.vfs.clone(), HandleId(handle.0));
        let owner = wormhole_protocol::LockOwner(owner.0);
        let operation = async move { vfs.flush(handle, owner).await };
        self.answer_empty(request, &self.stats.flush, operation, reply);
    }

    fn release(
        &self,
        _request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.vfs.release(HandleId(handle.0));
        self.backings.sweep();
        reply.ok();
    }

    fn fsync(
        &self,
        request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        data_only: bool,
        reply: ReplyEmpty,
    ) {
        let (vfs, handle) = (self.vfs.clone(), HandleId(handle.0));
        let operation = async move { vfs.fsync(handle, what_to_sync(data_only)).await };
        self.answer_empty(request, &self.stats.fsync, operation, reply);
    }

    fn fsyncdir(
        &self,
        request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        _data_only: bool,
        reply: ReplyEmpty,
    ) {
        let (vfs, handle) = (self.vfs.clone(), HandleId(handle.0));
        let operation = async move { vfs.fsync_dir(handle).await };
        self.answer_empty(request, &self.stats.fsync, operation, reply);
    }

    fn opendir(&self, _request: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        add(&self.stats.opendir, 1);
        match self.vfs.opendir(Ino(ino.0)) {
            Ok(handle) => reply.opened(FileHandle(handle.0), FopenFlags::empty()),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn readdir(
        &self,
        request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        reply: ReplyDirectory,
    ) {
        self.read_names(request, HandleId(handle.0), offset, reply);
    }

    fn readdirplus(
        &self,
        request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        reply: ReplyDirectoryPlus,
    ) {
        self.read_entries(request, HandleId(handle.0), offset, reply);
    }

    fn releasedir(
        &self,
        _request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.vfs.release(HandleId(handle.0));
        reply.ok();
    }

    fn statfs(&self, request: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        self.figures(request, reply);
    }

    fn getxattr(
        &self,
        request: &Request,
        ino: INodeNo,
        name: &OsStr,
        size: u32,
        reply: ReplyXattr,
    ) {
        self.attribute_value(request, Ino(ino.0), name, size, reply);
    }

    fn listxattr(&self, request: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        self.attribute_names(request, Ino(ino.0), size, reply);
    }

    /// Whether a program may, the host decides when it does; the kernel checks modes where it was told to.
    fn access(&self, _request: &Request, _ino: INodeNo, _mask: AccessFlags, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn setattr(
        &self,
        request: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        accessed: Option<TimeOrNow>,
        modified: Option<TimeOrNow>,
        _changed: Option<SystemTime>,
        _handle: Option<FileHandle>,
        _created: Option<SystemTime>,
        _checked: Option<SystemTime>,
        _backed_up: Option<SystemTime>,
        _flags: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let set = AttrChange {
            mode: mode.map(permission_bits),
            uid,
            gid,
            size,
            accessed: accessed.map(set_time),
            modified: modified.map(set_time),
        };
        self.set_attributes(request, Ino(ino.0), set, reply);
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        self.create_file(request, Ino(parent.0), name, mode, flags, reply);
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        device: u32,
        reply: ReplyEntry,
    ) {
        self.make_node(request, Ino(parent.0), name, mode, device, reply);
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        let (vfs, caller, name) = (self.vfs.clone(), caller(request), bytes(name));
        let (dir, mode) = (Ino(parent.0), permission_bits(mode));
        let operation = async move { vfs.make_dir(caller, dir, &name, mode).await };
        self.answer_made(request, operation, reply);
    }

    fn symlink(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let (vfs, caller, name) = (self.vfs.clone(), caller(request), bytes(name));
        let (dir, target) = (Ino(parent.0), bytes(target.as_os_str()));
        let operation = async move { vfs.symlink(caller, dir, &name, &target).await };
        self.answer_made(request, operation, reply);
    }

    fn link(
        &self,
        request: &Request,
        ino: INodeNo,
        parent: INodeNo,
        name: &OsStr,
        reply: ReplyEntry,
    ) {
        let (vfs, caller, name) = (self.vfs.clone(), caller(request), bytes(name));
        let (node, dir) = (Ino(ino.0), Ino(parent.0));
        let operation = async move { vfs.link(caller, node, dir, &name).await };
        self.answer_made(request, operation, reply);
    }

    fn unlink(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (vfs, caller, name) = (self.vfs.clone(), caller(request), bytes(name));
        let operation = async move { vfs.unlink(caller, Ino(parent.0), &name).await };
        self.answer_empty(request, &self.stats.remove, operation, reply);
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (vfs, caller, name) = (self.vfs.clone(), caller(request), bytes(name));
        let operation = async move { vfs.remove_dir(caller, Ino(parent.0), &name).await };
        self.answer_empty(request, &self.stats.remove, operation, reply);
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let Some(how) = rename_how(flags) else {
            return reply.error(Errno::EINVAL);
        };
        let (vfs, caller) = (self.vfs.clone(), caller(request));
        let (from, to) = (Ino(parent.0), Ino(new_parent.0));
        let (name, new_name) = (bytes(name), bytes(new_name));
        let operation = async move {
            vfs.rename(caller, (from, &name), (to, &new_name), how)
                .await
        };
        self.answer_empty(request, &self.stats.rename, operation, reply);
    }

    fn setxattr(
        &self,
        request: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        self.set_attribute(request, Ino(ino.0), (name, value), flags, reply);
    }

    fn removexattr(&self, request: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.remove_attribute(request, Ino(ino.0), name, reply);
    }

    fn fallocate(
        &self,
        request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let Some(how) = allocate_how(mode) else {
            return reply.error(Errno::EOPNOTSUPP);
        };
        let (vfs, handle) = (self.vfs.clone(), HandleId(handle.0));
        let operation = async move { vfs.allocate(handle, offset, length, how).await };
        self.answer_empty(request, &self.stats.allocate, operation, reply);
    }

    fn lseek(
        &self,
        request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        self.seek(request, HandleId(handle.0), offset, whence, reply);
    }

    fn copy_file_range(
        &self,
        request: &Request,
        _from: INodeNo,
        from_handle: FileHandle,
        from_offset: u64,
        _to: INodeNo,
        to_handle: FileHandle,
        to_offset: u64,
        len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let from = (HandleId(from_handle.0), from_offset);
        let to = (HandleId(to_handle.0), to_offset);
        self.copy_range(request, from, to, len, reply);
    }

    fn getlk(
        &self,
        request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        owner: LockOwner,
        start: u64,
        end: u64,
        mode: i32,
        _pid: u32,
        reply: ReplyLock,
    ) {
        self.test_lock(
            request,
            HandleId(handle.0),
            (owner.0, start, end),
            mode,
            reply,
        );
    }

    fn setlk(
        &self,
        request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        owner: LockOwner,
        start: u64,
        end: u64,
        mode: i32,
        _pid: u32,
        sleep: bool,
        reply: ReplyEmpty,
    ) {
        let range = (owner.0, start, end);
        self.set_lock(request, HandleId(handle.0), range, mode, sleep, reply);
    }
}

fn bytes(name: &OsStr) -> Vec<u8> {
    name.as_bytes().to_vec()
}
