//! Requests that only look: answers to them, in fuser's words.

use super::Skin;
use super::convert::{errno, file_attr};
use crate::mount::handles::HandleId;
use crate::mount::inodes::Ino;
use fuser::{
    Errno, Generation, INodeNo, ReplyAttr, ReplyData, ReplyDirectory, ReplyDirectoryPlus,
    ReplyEntry, ReplyStatfs, Request,
};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// The number of no node: in an entry it makes the kernel remember that there is none.
const INODE_NONE: INodeNo = INodeNo(0);

impl Skin {
    pub(super) fn look_up(&self, request: &Request, dir: Ino, name: &OsStr, reply: ReplyEntry) {
        let (vfs, skin) = (self.vfs.clone(), self.clone());
        let name = name.as_bytes().to_vec();
        let operation = async move { vfs.lookup(dir, &name).await };
        self.answer(request, &self.stats.lookup, operation, move |result| {
            match result {
                Ok(Ok(found)) => {
                    let (attr, generation) = skin.entry(&found);
                    reply.entry_with_ttls(&found.ttl, &found.name_ttl, &attr, generation);
                }
                // Inode 0 tells the kernel to remember that there is nothing.
                Ok(Err(ttl)) if !ttl.is_zero() => {
                    let mut nothing = skin.nothing();
                    nothing.ino = INODE_NONE;
                    reply.entry(&ttl, &nothing, Generation(0));
                }
                Ok(Err(_)) => reply.error(Errno::ENOENT),
                Err(error) => reply.error(errno(error)),
            }
        });
    }

    pub(super) fn attributes(
        &self,
        request: &Request,
        ino: Ino,
        handle: Option<HandleId>,
        reply: ReplyAttr,
    ) {
        let (vfs, owner) = (self.vfs.clone(), self.owner);
        let operation = async move { vfs.getattr(ino, handle).await };
        self.answer(
            request,
            &self.stats.getattr,
            operation,
            move |result| match result {
                Ok((attr, ttl)) => reply.attr(&ttl, &file_attr(ino, &attr, owner)),
                Err(error) => reply.error(errno(error)),
            },
        );
    }

    pub(super) fn link_target(&self, request: &Request, ino: Ino, reply: ReplyData) {
        let vfs = self.vfs.clone();
        let operation = async move { vfs.readlink(ino).await };
        self.answer(
            request,
            &self.stats.readlink,
            operation,
            move |result| match result {
                Ok(target) => reply.data(target.as_bytes()),
                Err(error) => reply.error(errno(error)),
            },
        );
    }

    pub(super) fn read_bytes(
        &self,
        request: &Request,
        handle: HandleId,
        offset: u64,
        size: u32,
        reply: ReplyData,
    ) {
        let vfs = self.vfs.clone();
        let operation = async move { vfs.read(handle, offset, size.into()).await };
        self.answer(
            request,
            &self.stats.read,
            operation,
            move |result| match result {
                Ok(bytes) => reply.data(&bytes),
                Err(error) => reply.error(errno(error)),
            },
        );
    }

    pub(super) fn read_names(
        &self,
        request: &Request,
        handle: HandleId,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let (vfs, skin) = (self.vfs.clone(), self.clone());
        let operation = async move { vfs.readdir(handle, offset).await };
        self.answer(
            request,
            &self.stats.readdir,
            operation,
            move |result| match result {
                Ok(page) => {
                    skin.fill(&page, &mut reply);
                    reply.ok();
                }
                Err(error) => reply.error(errno(error)),
            },
        );
    }

    pub(super) fn read_entries(
        &self,
        request: &Request,
        handle: HandleId,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let (vfs, skin) = (self.vfs.clone(), self.clone());
        let operation = async move { vfs.readdir(handle, offset).await };
        self.answer(
            request,
            &self.stats.readdir,
            operation,
            move |result| match result {
                Ok(page) => {
                    skin.fill_plus(&page, &mut reply);
                    reply.ok();
                }
                Err(error) => reply.error(errno(error)),
            },
        );
    }

    pub(super) fn figures(&self, request: &Request, reply: ReplyStatfs) {
        let vfs = self.vfs.clone();
        let operation = async move { vfs.statfs().await };
        self.answer(
            request,
            &self.stats.statfs,
            operation,
            move |result| match result {
                Ok(s) => reply.statfs(
                    s.blocks,
                    s.blocks_free,
                    s.blocks_available,
                    s.files,
                    s.files_free,
                    s.block_bytes,
                    s.name_bytes_max,
                    s.fragment_bytes,
                ),
                Err(error) => reply.error(errno(error)),
            },
        );
    }
}
