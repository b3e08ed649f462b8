//! Nodes that are being made, and what is being made beneath a name.

use super::{DEPTH_MAX, Node};
use crate::mount::early::Making;
use crate::mount::error::FsError;
use std::sync::Arc;
use wormhole_protocol::Name;

impl Node {
    /// It is being made; said once.
    pub fn make_by(&self, making: Arc<Making>) {
        let _ = self.making.set(making);
    }

    /// How it is being made, if the host has not answered yet.
    pub fn making(&self) -> Option<&Arc<Making>> {
        self.making.get().filter(|making| !making.is_over())
    }

    /// Why there is no such file, if it was made early and could not be.
    pub fn unmade(&self) -> Option<FsError> {
        self.making.get()?.error()
    }

    /// Whether it is what the entry `name` of `dir` leads to, or lies beneath that.
    pub fn is_beneath(self: &Arc<Self>, dir: &Arc<Self>, name: &Name) -> bool {
        let mut at = self.clone();
        for _ in 0..DEPTH_MAX {
            let Some((parent, known)) = at.place() else {
                return false;
            };
            if parent.id == dir.id && known == *name {
                return true;
            }
            at = parent;
        }
        true
    }
}
