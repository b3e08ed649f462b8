//! Nodes that are being made, and what is being made beneath a name.

use super::{DEPTH_MAX, Node};
use crate::mount::early::Making;
use crate::mount::error::FsError;
use crate::mount::opens::HostOpen;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use wormhole_protocol::Name;

impl Node {
    /// It is being made; said once.
    pub fn make_by(&self, making: Arc<Making>) {
        self.made_here();
        let _ = self.making.set(making);
    }

    /// It will have these permission bits.
    pub fn guess_mode(&self, mode: u16) {
        self.belief.lock().attr.mode = mode;
    }

    /// How it is being made, if the host has not answered yet.
    pub fn making(&self) -> Option<&Arc<Making>> {
        self.making.get().filter(|making| !making.is_over())
    }

    /// This mount has made it, or is making it.
    pub fn made_here(&self) {
        self.ours.store(true, Relaxed);
    }

    /// Whether it did, so that it may set its attributes.
    pub fn is_ours(&self) -> bool {
        self.ours.load(Relaxed) && self.unmade().is_none()
    }

    /// Why there is no such file, if it was made early and could not be.
    pub fn unmade(&self) -> Option<FsError> {
        self.making.get()?.error()
    }

    /// What the host has open in its place.
    pub fn remade(&self) -> Option<&Arc<HostOpen>> {
        self.making.get()?.remade()
    }

    /// The node that has its name at the host: another, if it was remade.
    pub fn at_host(self: &Arc<Self>) -> &Arc<Self> {
        self.remade().map_or(self, |open| &open.node)
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
