//! New files that need not wait for the host (`early`).

use super::content::CreateHow;
use super::{Found, Opened, Vfs};
use crate::mount::error::FsError;
use crate::mount::handles::OpenHow;
use crate::mount::inodes::Node;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use wormhole_protocol::{Access, Attr, AttrChange, Caller, Name};

/// Bits of a mode that are the host's to give.
const SPECIAL: u16 = !0o777;

impl Vfs {
    /// Makes a file before the host is asked, if that can be.
    pub(super) fn create_early(
        &self,
        caller: Caller,
        dir: &Arc<Node>,
        name: &Name,
        create: CreateHow,
        how: OpenHow,
    ) -> Option<Result<(Found, Opened), FsError>> {
        let plain = how.writes && !how.appends && !how.direct && how.syncs.is_none();
        if !plain || !self.access.writes() || create.mode & SPECIAL != 0 {
            return None;
        }
        // Programs of the host may take the same lock at the same time, and hold no lease.
        if create.exclusive && is_lock(name) {
            return None;
        }
        let id = self.opens.number();
        let Some(taken) = self.early.take(caller, dir, name, create.mode, id) else {
            self.early.want(dir);
            return None;
        };
        let attr = Attr {
            mode: create.mode,
            links: 1,
            ..taken.attr
        };
        let node = match self.inodes.remember(dir, name, &attr, Instant::now()) {
            Ok(node) => node,
            Err(error) => {
                self.early.give_up(&taken);
                return Some(Err(error));
            }
        };
        let Ok(way) = self.passthrough.open_otherwise(&node) else {
            self.early.give_up(&taken);
            self.forget(node.ino, 1);
            return Some(Err(FsError::Stale));
        };
        let host = self
            .opens
            .opened(caller, id, node.clone(), Access::ReadWrite);
        let began = Instant::now();
        self.early.begin(taken, &node, host.clone());
        // Nobody can have heard of it yet.
        self.own_bytes.begin(&node, began, node.unasked());
        let keep_cache = node.take_kernel_version(attr.version);
        let handle = self
            .handles
            .open_file(caller, node.clone(), how, Some(host), way);
        let opened = Opened {
            handle,
            keep_cache,
            whole: None,
        };
        // Whoever wants to know more is to ask, and waits.
        let found = Found {
            node,
            attr,
            ttl: Duration::ZERO,
            name_ttl: Duration::ZERO,
        };
        Some(Ok((found, opened)))
    }

    /// Gives a file that is about to be made other permission bits, if that is all that is to be set: what its attributes
    /// will be.
    pub(super) fn mode_before_made(caller: Caller, node: &Node, set: AttrChange) -> Option<Attr> {
        let mode = set.mode.filter(|mode| mode & SPECIAL == 0)?;
        let only = AttrChange {
            mode: Some(mode),
            ..AttrChange::default()
        };
        // One that goes along with what was written comes after it.
        let goes_along = node.writer().is_some_and(|writer| writer.sets_attributes());
        if set != only || goes_along || !node.making()?.set_mode(caller, mode) {
            return None;
        }
        node.guess_mode(mode);
        Some(node.with_dirty_size(node.attr()))
    }

    /// Attributes of a file that is being made and has nothing in it yet. What opens a file tends to look at it before the
    /// first write, and need not wait for the host: they are what they will be, but for the times, which are a guess.
    pub(super) fn attr_before_made(node: &Node) -> Option<Attr> {
        (node.making().is_some() && node.is_clean() && node.late().is_none()).then(|| node.attr())
    }
}

/// Whether a name looks like that of a lock.
fn is_lock(name: &Name) -> bool {
    let name = name.as_bytes().to_ascii_lowercase();
    [&b"lock"[..], b".lck", b".pid"]
        .iter()
        .any(|word| name.windows(word.len()).any(|part| part == *word))
}
