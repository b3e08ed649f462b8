//! Says of files that a mount wrote whether they hold just that.
//!
//! Life of a request: the files are opened, read and hashed one after another on the blocking pool, ahead of need
//! as far as slots, memory and priority go. Nothing of them is sent.
//!
//! Invariants
//! - What is vouched for was read whole between two looks at the file's stamps, which were the same and are settled: no
//!   later change can leave the same version. Of a file that changed too short a time ago nothing is said.
//! - Nothing but a regular file is opened: what a node is was checked before, through `O_PATH`.
//! - A request reads at most [`VOUCH_BYTES_MAX`].

use super::budget::Purpose;
use super::fault;
use super::find::find;
use super::limits::SEGMENT_BYTES;
use super::meta::{self, Stamp};
use super::pool::{Buffer, Pool};
use super::read::read_at;
use super::session::{Class, Core};
use crate::rpc::{Sink, SinkClosed};
use std::sync::Arc;
use wormhole_protocol::limits::VOUCH_BYTES_MAX;
use wormhole_protocol::{Attr, BytesDigest, Fault, Reply, WrittenFile};

/// Answers a request to vouch for `files`.
pub(super) async fn serve(
    core: &Arc<Core>,
    files: Vec<WrittenFile>,
    sink: &mut dyn Sink,
) -> Result<(), SinkClosed> {
    let bytes = files
        .iter()
        .fold(0_u64, |sum, file| sum.saturating_add(file.size));
    if bytes > VOUCH_BYTES_MAX {
        return core.reply(sink, Reply::Fault(Fault::TooLarge)).await;
    }
    let slot = core.slot(Class::Ahead).await;
    let grant = core
        .memory(Pool::size_of(SEGMENT_BYTES), Purpose::Ahead)
        .await;
    let mut buffer = core.resources().pool.buffer(SEGMENT_BYTES, grant);
    let work = move |core: &Core| {
        let vouch = |file: &WrittenFile| vouch(core, file, &mut buffer).ok().flatten();
        files.iter().map(vouch).collect()
    };
    let vouched = core.on_disk(&slot, work).await;
    let reply = vouched.map_or_else(Reply::Fault, Reply::Vouched);
    core.reply(sink, reply).await
}

/// The attributes of a file that holds what it is said to.
fn vouch(core: &Core, file: &WrittenFile, buffer: &mut Buffer) -> Result<Option<Attr>, Fault> {
    let root = core.service.share().root();
    let fd = core.with_descriptors(|| {
        let found = find(core, &file.node)?;
        found.is_file()?;
        root.reopen_file(&found.fd).map_err(fault::of)
    })?;
    let now = meta::now();
    let before = meta::stat_expected(&fd, file.node.expect)?;
    let stamp = Stamp::of(&before);
    if before.stx_size != file.size || !stamp.settled(now) {
        return Ok(None);
    }
    let mut hasher = blake3::Hasher::new();
    let mut at = 0;
    while at < file.size {
        let space = buffer.space();
        let got = read_at(&fd, space, at)?;
        if got == 0 {
            break;
        }
        hasher.update(&space[..got]);
        at += got as u64;
    }
    let is_same = BytesDigest(hasher.finalize().into()) == file.digest;
    if !is_same || Stamp::of(&meta::stat(&fd).map_err(fault::of)?) != stamp {
        return Ok(None);
    }
    core.resources().versions.attr(&fd, &before, now).map(Some)
}
