//! Many small files of one directory, whole, one after another in one answer.
//!
//! The files are opened and read in the order the mount wants them, a batch at a time on the blocking pool:
//! while the transport takes one batch the next is being read. A few are opened before their turn, and the disk
//! is told, so that it works on several at a time. All of it is read ahead of need: it has the slots, the memory
//! and the priority of that, so that a read somebody waits for overtakes it.
//!
//! Invariants
//! - Each file asked for has its frame, in order; exactly the announced number of bytes follows it.
//! - All bytes of a file belong to one version: its stamps are the same before and after. What is not of the
//!   version the mount knows is not read at all.
//! - Nothing but a regular file is opened: what an entry is was checked before, through `O_PATH`.
//! - A directory that is no longer where it was asked for breaks the answer off ([`Fault::Stale`]).

use super::budget::Purpose;
use super::fault;
use super::limits::{FIRST_BATCH_BYTES, OPENED_AHEAD_MAX, SEGMENT_BYTES};
use super::meta::{self, Stamp};
use super::pool::{Buffer, Pool};
use super::read::read_at;
use super::resolve::Root;
use super::session::{Class, Core, Slot};
use crate::rpc::{Sink, SinkClosed};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::try_join;
use rustix::fd::OwnedFd;
use rustix::fs::{Advice, fadvise};
use std::collections::VecDeque;
use std::ffi::CString;
use std::num::NonZeroU64;
use std::sync::Arc;
use wormhole_protocol::codec::Wire;
use wormhole_protocol::limits::{
    FILE_FRAME_BYTES_MAX, FRAME_PREFIX_BYTES, READ_MANY_FILE_BYTES_MAX,
};
use wormhole_protocol::{Attr, Fault, FileFrame, FileId, FileKind, FileWanted, NodeRef, Reply};

/// What one more file may need of a batch.
const FILE_BYTES_MAX: usize = FRAME_PREFIX_BYTES + FILE_FRAME_BYTES_MAX + READ_MANY_FILE_BYTES_MAX;
const _: () = assert!(FIRST_BATCH_BYTES + FILE_BYTES_MAX <= SEGMENT_BYTES);

/// The files that are left.
struct Work {
    dir: NodeRef,
    id: FileId,
    fd: OwnedFd,
    files: std::vec::IntoIter<FileWanted>,
    /// The next of them, taken out and opened; or why they cannot be sent.
    opened: VecDeque<Result<Opened, Fault>>,
}

impl Work {
    fn is_done(&self) -> bool {
        self.opened.is_empty() && self.files.as_slice().is_empty()
    }
}

/// A file of the version that is wanted, about to be read.
struct Opened {
    fd: OwnedFd,
    stamp: Stamp,
    len: usize,
    /// If the mount does not know them.
    attr: Option<Attr>,
}

/// Answers a request for many files.
pub(super) async fn serve(
    core: &Arc<Core>,
    dir: NodeRef,
    files: Vec<FileWanted>,
    sink: &mut dyn Sink,
) -> Result<(), SinkClosed> {
    let slot = &core.slot(Class::Ahead).await;
    let begun = core.on_disk(slot, move |core| {
        core.with_descriptors(|| begin(core, &dir))
            .map(|(fd, attr)| (dir, fd, attr))
    });
    match begun.await.and_then(|begun| begun) {
        Ok((dir, fd, attr)) => {
            core.reply(sink, Reply::Many(attr)).await?;
            let files = files.into_iter();
            let id = attr.id;
            let work = Box::new(Work {
                dir,
                id,
                fd,
                files,
                opened: VecDeque::with_capacity(OPENED_AHEAD_MAX),
            });
            stream(core, slot, work, sink).await
        }
        Err(fault) => core.reply(sink, Reply::Fault(fault)).await,
    }
}

/// Sends each batch while the next is being read.
async fn stream(
    core: &Arc<Core>,
    slot: &Slot,
    work: Box<Work>,
    sink: &mut dyn Sink,
) -> Result<(), SinkClosed> {
    let read = |mut work: Box<Work>, enough: usize| async move {
        let grant = core
            .memory(Pool::size_of(SEGMENT_BYTES), Purpose::Ahead)
            .await;
        let buffer = core.resources().pool.buffer(SEGMENT_BYTES, grant);
        core.on_disk(slot, move |core| {
            let batch = batch(core, &mut work, buffer, enough)?;
            Ok((work, batch))
        })
        .await?
    };
    let mut done = read(work, FIRST_BATCH_BYTES).await;
    loop {
        let (work, batch) = match done {
            Ok(done) => done,
            Err(fault) => {
                core.abort(sink, fault);
                return Ok(());
            }
        };
        if work.is_done() {
            return core.send(sink, batch).await;
        }
        let next = read(work, SEGMENT_BYTES);
        ((), done) = try_join(core.send(&mut *sink, batch), next.map(Ok)).await?;
    }
}

fn begin(core: &Core, dir: &NodeRef) -> Result<(OwnedFd, Attr), Fault> {
    let fd = core.service.share().root().node(&dir.path)?;
    let now = meta::now();
    let stx = meta::stat_expected(&fd, dir.expect)?;
    if meta::kind(&stx) != Some(FileKind::Directory) {
        return Err(Fault::NotDirectory);
    }
    let attr = core.resources().versions.attr(&fd, &stx, now)?;
    Ok((fd, attr))
}

/// Frames and bytes of the next files, until there are `enough` or another might not fit.
fn batch(core: &Core, work: &mut Work, mut buffer: Buffer, enough: usize) -> Result<Bytes, Fault> {
    let space = buffer.space();
    let mut used = 0;
    while used < enough && used + FILE_BYTES_MAX <= space.len() {
        open_ahead(core, work);
        let Some(opened) = work.opened.pop_front() else {
            break;
        };
        let room = &mut space[used..];
        used += match opened.and_then(|file| take(&file, room)) {
            Ok(bytes) => bytes,
            Err(fault) => put(&FileFrame::Not(fault), room)?,
        };
    }
    // What was read is sent only if it still lies in the share.
    let there = core
        .with_descriptors(|| core.service.share().root().node(&work.dir.path))
        .and_then(|node| meta::stat_expected(node, Some(work.id)));
    match there {
        Ok(_) => Ok(buffer.freeze(used)),
        Err(Fault::Exhausted) => Err(Fault::Exhausted),
        Err(_) => Err(Fault::Stale),
    }
}

/// Opens the next files.
fn open_ahead(core: &Core, work: &mut Work) {
    while work.opened.len() < OPENED_AHEAD_MAX
        && let Some(wanted) = work.files.as_slice().first()
    {
        let opened = core.with_descriptors(|| open(core, work, wanted));
        // There may be a descriptor for it when those in hand are closed.
        if matches!(opened, Err(Fault::Exhausted)) && !work.opened.is_empty() {
            return;
        }
        work.files.next();
        work.opened.push_back(opened);
    }
}

/// Opens a file if it is what is wanted, and has the disk begin with it.
fn open(core: &Core, work: &Work, wanted: &FileWanted) -> Result<Opened, Fault> {
    let root = core.service.share().root();
    if root.hides_entry(&work.dir.path, wanted.name.as_bytes()) {
        return Err(Fault::NotFound);
    }
    let name = CString::new(wanted.name.as_bytes()).map_err(|_| Fault::Invalid)?;
    let node = Root::entry(&work.fd, &name).map_err(fault::of)?;
    let now = meta::now();
    let stx = meta::stat_expected(&node, wanted.known.map(|known| known.file))?;
    if meta::kind(&stx) != Some(FileKind::File) {
        return Err(Fault::WrongKind);
    }
    let (stamp, versions) = (Stamp::of(&stx), &core.resources().versions);
    let attr = match wanted.known {
        Some(known) if known.version == versions.of(&stamp, now) => None,
        Some(_) => return Err(Fault::Changed),
        None => Some(versions.attr(&node, &stx, now)?),
    };
    let len = usize::try_from(stx.stx_size).unwrap_or(usize::MAX);
    if len > READ_MANY_FILE_BYTES_MAX {
        return Err(Fault::TooLarge);
    }
    let fd = root.reopen_file(&node).map_err(fault::of)?;
    if let Some(bytes) = NonZeroU64::new(stx.stx_size) {
        // A hint: without it the file is read when its turn comes.
        let _ = fadvise(&fd, 0, Some(bytes), Advice::WillNeed);
    }
    Ok(Opened {
        fd,
        stamp,
        len,
        attr,
    })
}

/// Puts a file into `room`; how many bytes it took.
fn take(file: &Opened, room: &mut [u8]) -> Result<usize, Fault> {
    let frame = FileFrame::Content {
        attr: file.attr,
        len: u32::try_from(file.len).map_err(|_| Fault::TooLarge)?,
    };
    let head = put(&frame, room)?;
    let got = read_at(&file.fd, &mut room[head..head + file.len], 0)?;
    if Stamp::of(&meta::stat(&file.fd).map_err(fault::of)?) != file.stamp {
        return Err(Fault::Changed);
    }
    if got < file.len {
        // Shorter than it says, and nobody changed it: a broken disk, or no real file.
        return Err(Fault::Io);
    }
    Ok(head + file.len)
}

/// Puts a frame at the beginning of `room`.
fn put(frame: &FileFrame, room: &mut [u8]) -> Result<usize, Fault> {
    let bytes = frame.to_frame().map_err(|_| Fault::Io)?;
    room[..bytes.len()].copy_from_slice(&bytes);
    Ok(bytes.len())
}
