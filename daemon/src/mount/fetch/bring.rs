//! Bringing content to the disk cache although nobody reads it.
//!
//! As reads ahead: after everything somebody waits for, and together with readers who want the same.

use super::flight::{Cancel, Flight, Outcome, OutcomeSlot};
use super::{Fetcher, FsError};
use crate::mount::inodes::Node;
use std::sync::Arc;
use wormhole_cache::ContentKey;
use wormhole_protocol::{Attr, BlockMask, ChunkIndex, ReadUrgency};

/// How bringing ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Brought {
    /// What could be had was handed to the disk cache.
    Handed,
    /// The file has another version now.
    Changed,
}

impl Fetcher {
    /// The name under which the bytes of a node are kept while its attributes are `attr`.
    pub fn key_of(&self, node: &Node, attr: &Attr) -> ContentKey {
        ContentKey {
            share: self.share,
            file: node.id,
            version: attr.version,
        }
    }

    /// Hands the blocks `wants` to the disk cache, as far as nobody else does; from the host what memory has
    /// not. Dropping the future cancels it.
    ///
    /// # Errors
    /// What the host answered.
    pub async fn bring_to_disk(
        self: &Arc<Self>,
        node: &Arc<Node>,
        attr: &Attr,
        wants: &[(ChunkIndex, BlockMask)],
    ) -> Result<Brought, FsError> {
        let content = self.content(node, attr);
        let mut mine = Vec::new();
        for (index, want) in wants {
            let key = content.chunk_key(*index);
            let mut missing = *want;
            if let Some(cached) = self.memory.get(&key)
                && !cached.mask().and(*want).is_empty()
            {
                missing = want.minus(cached.mask());
                if let Some(disk) = &self.disk {
                    disk.store(&content.key, attr.size, *index, cached);
                }
            }
            if !missing.is_empty() {
                mine.extend(self.claim(key, *index, missing));
            }
        }
        if mine.is_empty() {
            return Ok(Brought::Handed);
        }
        let (outcome, cancel) = (Arc::new(OutcomeSlot::default()), Cancel::default());
        let flight = Flight::new(
            self.clone(),
            content,
            mine,
            ReadUrgency::Ahead,
            cancel.subscribe(),
        );
        flight.run(outcome.clone()).await;
        match outcome.get() {
            Some(Outcome::Failed(error)) => Err(error),
            Some(Outcome::Changed | Outcome::Turned(_) | Outcome::Once(_)) => Ok(Brought::Changed),
            None => Ok(Brought::Handed),
        }
    }
}
