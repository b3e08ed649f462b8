//! Trees: directories with all entries, breadth first, in one compressed answer.
//!
//! The walk reads directories on the blocking pool, a batch at a time; while the transport takes one batch the
//! next is made. The first directory leaves by itself and early, because somebody waits for it; from then on the
//! answer has the lowest priority of all, so that whatever else the mount asks overtakes it.
//!
//! Each directory is looked at as by a listing of its own: beneath the root, nothing followed, leased before it
//! is looked at. What cannot be read is left out.
//!
//! Bounds: entries, by what was asked for; directories that wait for their turn, in number and in bytes of
//! their paths; an encoder for each of a few answers of a session. Beyond them the answer says that it is not
//! whole.

use super::budget::Purpose;
use super::counters::add;
use super::limits::{TREE_BATCH_BYTES, TREE_GRANT_BYTES, TREE_QUEUE_BYTES_MAX, TREE_QUEUE_MAX};
use super::list::{self, Listing, Seen};
use super::session::{Class, Core, Slot};
use crate::rpc::{Sink, SinkClosed, priority};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::try_join;
use std::collections::VecDeque;
use std::sync::Arc;
use wormhole_protocol::limits::LIST_FRAME_ENTRIES_MAX;
use wormhole_protocol::{
    Attr, Entry, Fault, FileId, FileKind, NodeRef, RelPath, Reply, TreeEncoder, TreeFrame,
};

/// A directory being walked.
struct Open {
    path: RelPath,
    attr: Attr,
    listing: Box<Listing>,
    /// Its first frame was made.
    begun: bool,
}

/// What is left of a walk.
struct Walk {
    open: Option<Open>,
    queue: VecDeque<(RelPath, FileId)>,
    queue_bytes: usize,
    entries_left: usize,
    whole: bool,
    encoder: TreeEncoder,
}

/// Some of a tree, as bytes.
struct Batch {
    bytes: Vec<u8>,
    entries: u64,
    skipped: u64,
    last: bool,
}

/// Answers a request for a tree.
pub(super) async fn serve(
    core: &Arc<Core>,
    dir: NodeRef,
    entries_max: u32,
    sink: &mut dyn Sink,
) -> Result<(), SinkClosed> {
    sink.prioritize(priority::LISTING);
    let slot = &core.slot(Class::Tree).await;
    let begun = core.on_disk(slot, move |core| Walk::begin(core, dir, entries_max));
    match begun.await.and_then(|begun| begun) {
        Ok(walk) => {
            core.reply(sink, Reply::Tree).await?;
            stream(core, slot, Box::new(walk), sink).await
        }
        Err(fault) => core.reply(sink, Reply::Fault(fault)).await,
    }
}

/// Sends each batch while the next is being made.
async fn stream(
    core: &Arc<Core>,
    slot: &Slot,
    walk: Box<Walk>,
    sink: &mut dyn Sink,
) -> Result<(), SinkClosed> {
    let make = |mut walk: Box<Walk>, enough: usize| async move {
        let memory = core.memory(TREE_GRANT_BYTES, Purpose::Ahead).await;
        core.on_disk(slot, move |core| {
            let batch = walk.batch(core, enough)?;
            Ok((walk, batch, memory))
        })
        .await?
    };
    let mut made = make(walk, 1).await;
    loop {
        let (walk, batch, memory) = match made {
            Ok(made) => made,
            Err(fault) => {
                core.abort(sink, fault);
                return Ok(());
            }
        };
        let counters = core.service.counters();
        add(&counters.entries, batch.entries);
        add(&counters.entries_skipped, batch.skipped);
        let piece = Bytes::from(batch.bytes);
        if batch.last {
            let sent = core.send(sink, piece).await;
            drop(memory);
            return sent;
        }
        let next = make(walk, TREE_BATCH_BYTES);
        ((), made) = try_join(core.send(&mut *sink, piece), next.map(Ok)).await?;
        drop(memory);
        sink.prioritize(priority::BACKGROUND);
    }
}

impl Walk {
    fn begin(core: &Core, dir: NodeRef, entries_max: u32) -> Result<Self, Fault> {
        let (attr, listing) = core.with_descriptors(|| list::open(core, &dir))?;
        Ok(Self {
            open: Some(Open {
                path: dir.path,
                attr,
                listing,
                begun: false,
            }),
            queue: VecDeque::new(),
            queue_bytes: 0,
            entries_left: usize::try_from(entries_max).unwrap_or(usize::MAX),
            whole: true,
            encoder: TreeEncoder::open().map_err(|_| Fault::Exhausted)?,
        })
    }

    /// Frames until there is `enough` plain text, as bytes.
    fn batch(&mut self, core: &Core, enough: usize) -> Result<Batch, Fault> {
        let (mut entries, mut skipped) = (0, 0);
        let mut last = false;
        while !last && self.encoder.plain_bytes() < enough {
            if core.resources().closing() {
                return Err(Fault::Closing);
            }
            let seen = self.step(core)?;
            last = seen.is_none();
            if let Some((found, passed_over)) = seen {
                entries += found;
                skipped += passed_over;
            }
        }
        let bytes = if last {
            let frame = TreeFrame::End { whole: self.whole };
            self.encoder.push(&frame).map_err(|_| Fault::Io)?;
            self.encoder.finish()
        } else {
            self.encoder.flush()
        };
        Ok(Batch {
            bytes: bytes.map_err(|_| Fault::Io)?,
            entries,
            skipped,
            last,
        })
    }

    /// The next frame: how many entries it has, and how many were passed over. None at the end.
    fn step(&mut self, core: &Core) -> Result<Option<(u64, u64)>, Fault> {
        let Some(mut open) = self.open.take().or_else(|| self.next(core)) else {
            return Ok(None);
        };
        let most = self.entries_left.min(LIST_FRAME_ENTRIES_MAX);
        if most == 0 {
            self.whole = false;
            return Ok(None);
        }
        let seen = match list::look(core, &mut open.listing, most) {
            Ok(seen) => seen,
            Err(fault @ (Fault::Closing | Fault::Exhausted)) => return Err(fault),
            // It was moved or removed meanwhile: the next directory breaks it off.
            Err(_) => return Ok(Some((0, 0))),
        };
        let Seen {
            entries,
            skipped,
            last,
        } = seen;
        let found = entries.len();
        self.entries_left -= found;
        self.note_directories(&open.path, &entries);
        let frame = if open.begun {
            TreeFrame::More { entries, last }
        } else {
            TreeFrame::Directory {
                path: open.path.clone(),
                attr: open.attr,
                leased: open.listing.leased,
                entries,
                last,
            }
        };
        self.encoder.push(&frame).map_err(|_| Fault::TooLarge)?;
        if !last {
            open.begun = true;
            self.open = Some(open);
        }
        Ok(Some((found as u64, skipped)))
    }

    /// Opens the next directory whose turn it is and that can be read.
    fn next(&mut self, core: &Core) -> Option<Open> {
        // What is not there any more, or may not be read, is left out.
        while let Some((path, id)) = self.queue.pop_front() {
            self.queue_bytes -= path.as_bytes().len();
            let dir = NodeRef {
                path,
                expect: Some(id),
            };
            if let Ok((attr, listing)) = core.with_descriptors(|| list::open(core, &dir)) {
                return Some(Open {
                    path: dir.path,
                    attr,
                    listing,
                    begun: false,
                });
            }
        }
        None
    }

    fn note_directories(&mut self, path: &RelPath, entries: &[Entry]) {
        let is_dir = |entry: &&Entry| entry.attr.kind == FileKind::Directory;
        for entry in entries.iter().filter(is_dir) {
            let Ok(path) = path.join(&entry.name) else {
                self.whole = false;
                continue;
            };
            let bytes = self.queue_bytes + path.as_bytes().len();
            if self.queue.len() >= TREE_QUEUE_MAX || bytes > TREE_QUEUE_BYTES_MAX {
                self.whole = false;
                continue;
            }
            self.queue_bytes = bytes;
            self.queue.push_back((path, entry.attr.id));
        }
    }
}
