//! Extended attributes as the kernel asks for them.
//!
//! Access control lists name users by number. Where all files are shown as the mounting user's these mean nobody, so there
//! are none: programs that look for them with every file (`ls -l`) or copy them (`cp -a`) are told so at once.

use super::Skin;
use super::convert::{caller, xattr_how};
use super::replies::answer_xattr;
use crate::mount::inodes::Ino;
use fuser::{Errno, ReplyEmpty, ReplyXattr, Request};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use wormhole_protocol::XattrName;

impl Skin {
    /// Whether a name is that of a list which is not shown.
    fn hides(&self, name: &[u8]) -> bool {
        !self.shows_host_owners() && XattrName::new(name).is_ok_and(|name| name.is_acl())
    }

    pub(super) fn attribute_value(
        &self,
        request: &Request,
        ino: Ino,
        name: &OsStr,
        size: u32,
        reply: ReplyXattr,
    ) {
        let vfs = self.vfs.clone();
        let name = name.as_bytes().to_vec();
        if self.hides(&name) {
            return reply.error(Errno::EOPNOTSUPP);
        }
        let operation = async move { vfs.getxattr(ino, &name).await };
        self.answer(request, &self.stats.xattr, operation, move |result| {
            answer_xattr(result, size, reply);
        });
    }

    pub(super) fn attribute_names(
        &self,
        request: &Request,
        ino: Ino,
        size: u32,
        reply: ReplyXattr,
    ) {
        let (vfs, skin) = (self.vfs.clone(), self.clone());
        let operation = async move {
            let names = vfs.listxattr(ino).await?;
            let mut list = Vec::new();
            for name in names.iter().filter(|name| !skin.hides(name.as_bytes())) {
                list.extend_from_slice(name.as_bytes());
                list.push(0);
            }
            Ok(list)
        };
        self.answer(request, &self.stats.xattr, operation, move |result| {
            answer_xattr(result, size, reply);
        });
    }

    pub(super) fn set_attribute(
        &self,
        request: &Request,
        ino: Ino,
        (name, value): (&OsStr, &[u8]),
        flags: i32,
        reply: ReplyEmpty,
    ) {
        let Some(how) = xattr_how(flags) else {
            return reply.error(Errno::EINVAL);
        };
        let (vfs, caller) = (self.vfs.clone(), caller(request));
        let (name, value) = (name.as_bytes().to_vec(), value.to_vec());
        if self.hides(&name) {
            return reply.error(Errno::EOPNOTSUPP);
        }
        let operation = async move { vfs.setxattr(caller, ino, &name, &value, how).await };
        self.answer_empty(request, &self.stats.set, operation, reply);
    }

    pub(super) fn remove_attribute(
        &self,
        request: &Request,
        ino: Ino,
        name: &OsStr,
        reply: ReplyEmpty,
    ) {
        let (vfs, caller, name) = (self.vfs.clone(), caller(request), name.as_bytes().to_vec());
        if self.hides(&name) {
            return reply.error(Errno::EOPNOTSUPP);
        }
        let operation = async move { vfs.removexattr(caller, ino, &name).await };
        self.answer_empty(request, &self.stats.set, operation, reply);
    }
}
