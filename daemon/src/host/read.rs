//! Ranged reads: a file's bytes as they come off the disk.
//!
//! Life of a read: find the file (among those open or held, else by path), read a small first segment, answer
//! with the header and that, then alternate: while the transport takes one segment the next is being
//! read. At most two segments of a read are in hand, all within the session's budget.
//!
//! Invariants
//! - Exactly the announced number of bytes follows a header, or the stream is broken off.
//! - All bytes of one reply belong to one version: the file's stamps are compared after each segment
//!   with those the header was made from. Any change since breaks the reply off
//!   ([`Fault::Changed`]); a change during the first segment only makes it read again.
//! - Only regular files are opened: what a node is was checked before, through `O_PATH`.

use super::budget::Purpose;
use super::counters::add;
use super::fault;
use super::find::find;
use super::limits::{FIRST_SEGMENT_BYTES, FIRST_SEGMENT_TRIES, SEGMENT_BYTES};
use super::meta::{self, Stamp};
use super::open::OpenFile;
use super::pool::{Buffer, Pool};
use super::session::{Class, Core, Slot};
use crate::rpc::{Sink, SinkClosed};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::try_join;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Advice, fadvise};
use rustix::io::{Errno, pread};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;
use wormhole_protocol::{Attr, ByteRange, Fault, FileId, NodeRef, ReadUrgency, Reply};

/// Reads of more bytes have other threads read them, while this one sends.
const BRIEF_BYTES_MAX: u64 = 64 * 1024;

/// The first segment, and what all others must belong to.
struct First {
    file: Arc<OpenFile>,
    stamp: Stamp,
    attr: Attr,
    /// Bytes of the whole answer.
    len: u64,
    bytes: Bytes,
}

/// Answers a read.
pub(super) async fn serve(
    core: &Arc<Core>,
    node: NodeRef,
    range: ByteRange,
    urgency: ReadUrgency,
    sink: &mut dyn Sink,
) -> Result<(), SinkClosed> {
    let (class, purpose) = match urgency {
        ReadUrgency::Demand => (Class::Demand, Purpose::Demand),
        ReadUrgency::Ahead => (Class::Ahead, Purpose::Ahead),
    };
    let slot = core.slot(class).await;
    let buffer = buffer(core, range.len(), FIRST_SEGMENT_BYTES, purpose).await;
    let work = move |core: &Core| {
        let file = core.with_descriptors(|| open(core, &node))?;
        read_first(core, file, range, buffer)
    };
    let first = if range.len() <= BRIEF_BYTES_MAX {
        core.briefly_on_disk(&slot, work).await
    } else {
        core.on_disk(&slot, work).await
    };
    let first = match first.and_then(|first| first) {
        Ok(first) => first,
        Err(fault) => return core.reply(sink, Reply::Fault(fault)).await,
    };
    let (attr, len) = (first.attr, first.len);
    core.reply(sink, Reply::Data { attr, len }).await?;
    let end = range.offset() + len;
    stream(core, &slot, first, range.offset(), end, purpose, sink).await
}

/// Sends what was read while reading on, until `end`.
async fn stream(
    core: &Arc<Core>,
    slot: &Slot,
    first: First,
    offset: u64,
    end: u64,
    purpose: Purpose,
    sink: &mut dyn Sink,
) -> Result<(), SinkClosed> {
    let First {
        file, stamp, bytes, ..
    } = first;
    let mut offset = offset + bytes.len() as u64;
    let mut in_hand = bytes;
    while !in_hand.is_empty() {
        let next = async {
            if offset == end {
                return Ok(Bytes::new());
            }
            let buffer = buffer(core, end - offset, SEGMENT_BYTES, purpose).await;
            let file = file.clone();
            core.on_disk(slot, move |_| read_next(&file, stamp, offset, buffer))
                .await?
        };
        let sending = core.send(&mut *sink, in_hand);
        // A sink that nobody reads any more ends this at once, whatever the disk does.
        let ((), next) = try_join(sending, next.map(Ok)).await?;
        match next {
            Ok(bytes) => {
                offset += bytes.len() as u64;
                in_hand = bytes;
            }
            Err(fault) => {
                core.abort(sink, fault);
                return Ok(());
            }
        }
    }
    Ok(())
}

/// A buffer for what is `left`, at most `most` bytes.
async fn buffer(core: &Arc<Core>, left: u64, most: usize, purpose: Purpose) -> Buffer {
    let bytes = usize::try_from(left).unwrap_or(usize::MAX).min(most);
    let grant = core.memory(Pool::size_of(bytes), purpose).await;
    core.resources().pool.buffer(bytes, grant)
}

/// The file a read is for: one this session has open, else the one at the path.
fn open(core: &Core, node: &NodeRef) -> Result<Arc<OpenFile>, Fault> {
    if let Some(file) = node.expect.and_then(|id| core.files.get(id)) {
        return Ok(file);
    }
    // What the mount holds open is read through just that, whatever has become of its name.
    if let Some(open) = node.expect.and_then(|id| core.held.readable_of(id)) {
        return Ok(Arc::new(OpenFile::new(open.fd.clone())));
    }
    let (id, path_fd) = match find(core, node) {
        Ok(found) => {
            found.is_file()?;
            (found.id(), found.fd)
        }
        Err(fault) => departed(core, node).ok_or(fault)?,
    };
    if let Some(file) = core.files.get(id) {
        return Ok(file);
    }
    let root = core.service.share().root();
    let fd = root.reopen_file(&path_fd).map_err(fault::of)?;
    let file = Arc::new(OpenFile::new(Arc::new(fd)));
    core.files.keep(id, &file);
    Ok(file)
}

/// A file that another mount has just taken the last name from.
fn departed(core: &Core, node: &NodeRef) -> Option<(FileId, Arc<OwnedFd>)> {
    let id = node.expect?;
    let fd = core.service.departed().get(id, Instant::now())?;
    Some((id, fd))
}

fn read_first(
    core: &Core,
    file: Arc<OpenFile>,
    range: ByteRange,
    mut buffer: Buffer,
) -> Result<First, Fault> {
    advise(&file, range);
    for _ in 0..FIRST_SEGMENT_TRIES {
        let now = meta::now();
        let before = meta::stat(&file.fd).map_err(fault::of)?;
        let stamp = Stamp::of(&before);
        let len = range.end().min(before.stx_size) - range.offset().min(before.stx_size);
        let want = usize::try_from(len).unwrap_or(usize::MAX);
        let space = buffer.space();
        let want = want.min(space.len());
        let got = read_at(&file.fd, &mut space[..want], range.offset())?;
        if Stamp::of(&meta::stat(&file.fd).map_err(fault::of)?) != stamp {
            add(&core.service.counters().rereads, 1);
            continue;
        }
        if got < want {
            // Shorter than it says, and nobody changed it: a broken disk, or no real file.
            return Err(Fault::Io);
        }
        let attr = core.resources().versions.attr(&file.fd, &before, now)?;
        return Ok(First {
            file,
            stamp,
            attr,
            len,
            bytes: buffer.freeze(want),
        });
    }
    Err(Fault::Changed)
}

fn read_next(
    file: &OpenFile,
    stamp: Stamp,
    offset: u64,
    mut buffer: Buffer,
) -> Result<Bytes, Fault> {
    let space = buffer.space();
    let want = space.len();
    let got = read_at(&file.fd, space, offset)?;
    // A writer stamps the file before it writes: bytes of another version were read only if the
    // stamps differ by now.
    if Stamp::of(&meta::stat(&file.fd).map_err(fault::of)?) != stamp {
        return Err(Fault::Changed);
    }
    if got < want {
        return Err(Fault::Io);
    }
    Ok(buffer.freeze(want))
}

/// Fills `space` from `offset`, but for the end of the file.
pub(super) fn read_at(fd: impl AsFd, space: &mut [u8], offset: u64) -> Result<usize, Fault> {
    let mut got = 0;
    while got < space.len() {
        match pread(fd.as_fd(), &mut space[got..], offset + got as u64) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(Errno::INTR) => {}
            Err(e) => return Err(fault::of(e)),
        }
    }
    Ok(got)
}

/// Tells the kernel, once, of a file that is read in long ranges: it then reads ahead twice as far.
fn advise(file: &OpenFile, range: ByteRange) {
    if range.len() > SEGMENT_BYTES as u64 && !file.sequential.swap(true, Ordering::Relaxed) {
        // Advice that is not taken costs nothing.
        let _ = fadvise(&file.fd, 0, None, Advice::Sequential);
    }
}
