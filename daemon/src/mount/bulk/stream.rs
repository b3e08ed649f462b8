//! One stream: files of a directory that come one after another, from the disk cache or the host.
//!
//! Each file is given to the caches, and to whoever waits for it, as soon as it has come whole. A stream ends
//! early when the link is lost, or when nobody reads small files any more: what it owes is then nobody's, and
//! who waits asks for himself.

use super::table::SmallFile;
use super::{Bulk, UnderWay};
use crate::mount::inodes::Node;
use crate::mount::stats::add;
use crate::rpc::{CallError, Payload};
use bytes::{Buf, Bytes, BytesMut};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use tokio::io::AsyncReadExt;
use tokio::time::timeout;
use wormhole_protocol::codec::{Wire, body_len};
use wormhole_protocol::limits::{FRAME_PREFIX_BYTES, READ_MANY_FILES_MAX, REQUEST_BYTES_MAX};
use wormhole_protocol::{
    Fault, FileFrame, FileId, FileWanted, KnownContent, NodeRef, Reply, Request,
};

/// Bytes taken from the connection at once.
const TAKE_BYTES: usize = 128 * 1024;
/// What a file needs in a request besides its name, and a request besides its files and its path.
const WANTED_BYTES: usize = 64;
const REQUEST_HEAD_BYTES: usize = 128;
/// Files looked up in the disk cache at a time.
const DISK_FILES: usize = 32;

/// Files of one directory that are to come, by number, in order.
pub(super) struct Batch {
    pub(super) dir: Arc<Node>,
    pub(super) files: Vec<(u32, SmallFile)>,
}

/// What a stream owes; given back when it ends, or never begins.
pub(super) struct Owed {
    bulk: Weak<Bulk>,
    dir: Arc<Node>,
    files: VecDeque<(u32, SmallFile)>,
    /// Those that are to be looked for in the disk cache first.
    perhaps_on_disk: Vec<FileId>,
    /// Whether what is given back may be asked for again.
    again: bool,
    /// Bytes that have come.
    come_bytes: Arc<AtomicU64>,
}

impl Owed {
    /// A batch whose files are under way in the table of `bulk`, some of them `perhaps_on_disk`.
    pub(super) fn new(
        bulk: Weak<Bulk>,
        batch: Batch,
        perhaps_on_disk: Vec<FileId>,
        come_bytes: Arc<AtomicU64>,
    ) -> Self {
        Self {
            bulk,
            dir: batch.dir,
            files: batch.files.into(),
            perhaps_on_disk,
            again: true,
            come_bytes,
        }
    }

    fn bytes(&self) -> u64 {
        self.files
            .iter()
            .map(|(_, file)| u64::from(file.size))
            .sum()
    }

    /// As many files as fit a request.
    fn request(&self, dir: NodeRef) -> Request {
        let mut bytes = REQUEST_HEAD_BYTES + dir.path.as_bytes().len();
        let fits = |file: &SmallFile| {
            bytes += WANTED_BYTES + file.name.as_bytes().len();
            bytes <= REQUEST_BYTES_MAX
        };
        let files = self.files.iter().map(|(_, file)| file);
        let wanted = files.take(READ_MANY_FILES_MAX).scan(fits, |fits, file| {
            fits(file).then(|| FileWanted {
                name: file.name.clone(),
                known: Some(KnownContent {
                    file: file.id,
                    version: file.version,
                }),
            })
        });
        let files = wanted.collect();
        Request::ReadMany { dir, files }
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        let Some(bulk) = self.bulk.upgrade() else {
            return;
        };
        for file in &self.files {
            // Dropped with no lock held: it wakes who waits.
            let given_up = bulk.under_way.lock().remove(&file.1.id);
            drop(given_up);
            bulk.dirs.lock().failed(self.dir.id, file, self.again);
        }
    }
}

/// Brings what is owed.
pub(super) async fn run(mut owed: Owed) {
    let Some(bulk) = owed.bulk.upgrade() else {
        return;
    };
    let _pending = bulk.fetcher.pending(owed.bytes());
    take_from_disk(&bulk, &mut owed).await;
    while !owed.files.is_empty() && !bulk.is_given_up(&owed) {
        match ask(&bulk, &mut owed).await {
            Ok(()) => {}
            Err(CallError::Fault(_) | CallError::Violation) => {
                owed.again = false;
                return;
            }
            Err(_) => return,
        }
    }
}

impl Bulk {
    /// Whether nobody wants what a stream owes.
    fn is_given_up(&self, owed: &Owed) -> bool {
        if !self.is_idle() {
            return false;
        }
        let under_way = self.under_way.lock();
        let mut files = owed
            .files
            .iter()
            .filter_map(|(_, file)| under_way.get(&file.id));
        !files.any(|file| file.whole.has_waiters())
    }
}

/// Takes what the disk cache has; the rest stays owed.
async fn take_from_disk(bulk: &Arc<Bulk>, owed: &mut Owed) {
    let files = std::mem::take(&mut owed.perhaps_on_disk);
    for ids in files.chunks(DISK_FILES) {
        let mut places = HashMap::new();
        let mut wholes = Vec::new();
        for id in ids {
            let taken = bulk.under_way.lock().remove(id);
            if let Some(UnderWay {
                whole,
                before_bytes,
                ..
            }) = taken
            {
                places.insert(*id, before_bytes);
                wholes.push(whole);
            }
        }
        for whole in bulk.fetcher.bring_from_disk(wholes).await {
            let id = whole.file();
            let before_bytes = places.remove(&id).unwrap_or_default();
            let come_bytes = owed.come_bytes.clone();
            let under_way = UnderWay {
                whole,
                before_bytes,
                come_bytes,
            };
            bulk.under_way.lock().insert(id, under_way);
        }
        // What found no way back has come.
        owed.files.retain(|(_, file)| {
            let has_come = places.contains_key(&file.id);
            if has_come {
                owed.come_bytes.fetch_add(file.size.into(), Relaxed);
            }
            !has_come
        });
    }
}

/// Asks for as many of the files as fit a request, and takes them.
async fn ask(bulk: &Arc<Bulk>, owed: &mut Owed) -> Result<(), CallError> {
    let dir = owed.dir.reference();
    let dir = dir.map_err(|_| CallError::Fault(Fault::NameTooLong))?;
    let request = owed.request(dir);
    let Request::ReadMany { files, .. } = &request else {
        return Err(CallError::Violation);
    };
    let count = files.len();
    // A call waits for a connection; readers of these files had better ask for themselves then.
    if !bulk.remote.is_connected() {
        return Err(CallError::Link);
    }
    add(&bulk.fetcher.remote_stats.read_many, 1);
    let answer = timeout(bulk.patience(), bulk.remote.call(request)).await;
    let answer = answer.map_err(|_| CallError::TimedOut)??;
    let Reply::Many(_) = answer.reply else {
        return Err(CallError::Violation);
    };
    let mut incoming = Incoming {
        payload: answer.payload,
        buffer: BytesMut::new(),
    };
    for _ in 0..count {
        let frame = incoming.frame().await?;
        let Some((_, file)) = owed.files.front() else {
            return Err(CallError::Violation);
        };
        let bytes = match frame {
            FileFrame::Content { len, .. } if len == file.size => Some(incoming.bytes(len).await?),
            // It is of the version that was asked for, so it cannot be longer or shorter.
            FileFrame::Content { .. } => return Err(CallError::Violation),
            FileFrame::Not(_) => None,
        };
        take(bulk, owed, bytes);
        if bulk.is_given_up(owed) {
            return Ok(());
        }
    }
    Ok(())
}

/// The next file has come, or will not.
fn take(bulk: &Bulk, owed: &mut Owed, bytes: Option<Bytes>) {
    let Some(file) = owed.files.pop_front() else {
        return;
    };
    // None if its reader would not wait for it.
    let under_way = bulk.under_way.lock().remove(&file.1.id);
    owed.come_bytes.fetch_add(file.1.size.into(), Relaxed);
    match bytes {
        Some(bytes) => {
            add(&bulk.stats.fetched_files, 1);
            add(&bulk.stats.fetched_bytes, bytes.len() as u64);
            if let Some(under_way) = under_way {
                bulk.fetcher.bring(under_way.whole, bytes);
            }
        }
        None => {
            add(&bulk.stats.refused_files, 1);
            bulk.dirs.lock().failed(owed.dir.id, &file, false);
        }
    }
}

/// What comes from the host.
struct Incoming {
    payload: Payload,
    buffer: BytesMut,
}

impl Incoming {
    async fn frame(&mut self) -> Result<FileFrame, CallError> {
        self.fill(FRAME_PREFIX_BYTES).await?;
        let mut prefix = [0; FRAME_PREFIX_BYTES];
        self.buffer.copy_to_slice(&mut prefix);
        let len = body_len::<FileFrame>(prefix).map_err(|_| CallError::Violation)?;
        self.fill(len).await?;
        let frame = FileFrame::from_body(&self.buffer[..len]);
        self.buffer.advance(len);
        frame.map_err(|_| CallError::Violation)
    }

    /// Copied, so that a file which stays in memory keeps nothing else there.
    async fn bytes(&mut self, len: u32) -> Result<Bytes, CallError> {
        let len = usize::try_from(len).map_err(|_| CallError::Violation)?;
        self.fill(len).await?;
        let bytes = Bytes::copy_from_slice(&self.buffer[..len]);
        self.buffer.advance(len);
        Ok(bytes)
    }

    /// Waits for at least `len` bytes.
    async fn fill(&mut self, len: usize) -> Result<(), CallError> {
        while self.buffer.len() < len {
            self.buffer.reserve(TAKE_BYTES);
            match self.payload.read_buf(&mut self.buffer).await {
                Ok(0) => return Err(CallError::Link),
                Ok(_) => {}
                Err(error) => return Err(CallError::from_io(&error)),
            }
        }
        Ok(())
    }
}
