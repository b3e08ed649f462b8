//! Filling replies: pages of directories, extended attributes.

use super::super::error::FsError;
use super::super::vfs::Page;
use super::Skin;
use super::convert::{self, errno, file_type};
use fuser::{FileAttr, Generation, INodeNo, ReplyDirectory, ReplyDirectoryPlus, ReplyXattr};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

/// getxattr(2) and listxattr(2) ask for the size first, with a buffer of none.
pub(super) fn answer_xattr(result: Result<Vec<u8>, FsError>, size: u32, reply: ReplyXattr) {
    let result = result.and_then(|value| {
        let len = u32::try_from(value.len()).map_err(|_| FsError::Range)?;
        if size > 0 && len > size {
            return Err(FsError::Range);
        }
        Ok((value, len))
    });
    match result {
        Ok((_, len)) if size == 0 => reply.size(len),
        Ok((value, _)) => reply.data(&value),
        Err(error) => reply.error(errno(error)),
    }
}

impl Skin {
    pub(super) fn fill(&self, page: &Page, reply: &mut ReplyDirectory) {
        use fuser::FileType::Directory;
        if page.dots {
            let parent = self.vfs.parent(&page.dir);
            let _ = reply.add(INodeNo(page.dir.ino.0), 1, Directory, ".");
            let _ = reply.add(INodeNo(parent.0), 2, Directory, "..");
        }
        for (offset, listed) in &page.entries {
            let entry = &listed.entry;
            let name = OsStr::from_bytes(entry.name.as_bytes());
            let ino = INodeNo(entry.attr.id.inode);
            if reply.add(ino, *offset, file_type(entry.attr.kind), name) {
                break;
            }
        }
    }

    pub(super) fn fill_plus(&self, page: &Page, reply: &mut ReplyDirectoryPlus) {
        if page.dots {
            let mut dot = self.nothing();
            for (offset, name, ino) in [
                (1, ".", page.dir.ino),
                (2, "..", self.vfs.parent(&page.dir)),
            ] {
                dot.ino = INodeNo(ino.0);
                let _ = reply.add(dot.ino, offset, name, &Duration::ZERO, &dot, Generation(0));
            }
        }
        for (offset, listed) in &page.entries {
            // An entry that cannot be true is left out.
            let Ok(found) = self.vfs.show(&page.dir, listed) else {
                continue;
            };
            let (attr, generation) = self.entry(&found);
            let name = OsStr::from_bytes(listed.entry.name.as_bytes());
            let ttl = self.vfs.ttl_on_page(&page.dir, &found);
            if reply.add(attr.ino, *offset, name, &ttl, &attr, generation) {
                // It did not fit, so the kernel never heard of it.
                self.vfs.forget(found.node.ino, 1);
                break;
            }
        }
    }

    /// Attributes of nothing, where the reply wants some but the kernel ignores them.
    pub(super) fn nothing(&self) -> FileAttr {
        convert::nothing()
    }
}
