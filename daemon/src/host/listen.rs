//! Telling a mount what changes under its leases: the stream of pushes, and what it has heard of it.
//!
//! What is to be told waits as marks (`leases`). A push is made only when it can leave, from what is on the
//! disk at that moment, and so is at least as new as what it tells of.
//!
//! A directory is looked at where it was when it was leased, beneath the share's root. If it is there no longer it
//! may have left the share, and nothing more is told of it than that its lease is over. What is hidden from
//! mounts is hidden here as well.
//!
//! Small files the mount has read lately (`wanted`) come whole, behind the frame that tells of them, in the
//! version that tells: their stamps are the same before and after they were read. What is just being written
//! is told of without, and so is what would make the next push wait for too long.

use super::fault;
use super::leases::{Due, Ear};
use super::limits::LEASE_TERM;
use super::meta::{self, Stamp};
use super::read::read_at;
use super::resolve::Root;
use super::session::{Class, Core};
use crate::rpc::{Sink, SinkClosed};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::ffi::CString;
use std::sync::Arc;
use wormhole_protocol::codec::Wire;
use wormhole_protocol::limits::PUSH_CONTENT_BYTES_MAX;
use wormhole_protocol::{
    Attr, Fault, FileId, FileKind, Name, NameNews, News, Push, RelPath, Reply,
};

/// Tells a mount what changes under its leases, until it or its ticket goes.
pub(super) async fn serve(core: &Arc<Core>, sink: &mut dyn Sink) -> Result<(), SinkClosed> {
    let leases = core.service.leases();
    let allowance = &core.resources().watches;
    let Some(ear) = leases.listen(core.key(), core.number, allowance) else {
        return core.reply(sink, Reply::Fault(Fault::Exhausted)).await;
    };
    let term_ms = u32::try_from(LEASE_TERM.as_millis()).unwrap_or(u32::MAX);
    core.reply(sink, Reply::Listening { term_ms }).await?;
    tokio::select! {
        told = tell(core, &ear, sink) => told,
        // Nobody is to wait for a stream that never ends by itself.
        () = core.resources().closed() => Ok(()),
    }
}

async fn tell(core: &Arc<Core>, ear: &Ear, sink: &mut dyn Sink) -> Result<(), SinkClosed> {
    while let Some(told) = ear.next().await {
        if core.barred().is_some() {
            break;
        }
        let (number, due, path) = told;
        let slot = core.slot(Class::Small).await;
        let news = core.on_disk(&slot, move |core| look(core, due, path));
        let Ok((news, content)) = news.await else {
            break;
        };
        if let News::Over { dir } = &news {
            ear.end(*dir, number);
        }
        let Ok(mut frame) = (Push { number, news }).to_frame() else {
            break;
        };
        frame.extend(content);
        core.send(sink, frame.into()).await?;
    }
    Ok(())
}

/// A mount says how far it has heard.
pub(super) async fn heard(
    core: &Arc<Core>,
    through: u64,
    sink: &mut dyn Sink,
) -> Result<(), SinkClosed> {
    let leases = core.service.leases();
    let pushed = leases.heard(core.key(), core.number, through);
    let reply = pushed.map_or(Reply::Fault(Fault::Invalid), |pushed| Reply::Heard {
        pushed,
    });
    core.reply(sink, reply).await
}

/// What there is to say of what was marked, and the bytes that belong to it.
fn look(core: &Core, due: Due, path: Option<RelPath>) -> (News, Vec<u8>) {
    match due {
        Due::AllOver => (News::AllOver, Vec::new()),
        Due::Over(dir) => (News::Over { dir }, Vec::new()),
        Due::Shared(dir) => (News::Shared { dir }, Vec::new()),
        Due::Of { dir, itself, names } => {
            let path = path.ok_or(Fault::NotFound);
            let entries = |path| core.with_descriptors(|| entries(core, dir, path, itself, &names));
            // Whatever keeps us from looking, it is not ours to tell.
            let looked = path.as_ref().map_err(|fault| *fault).and_then(entries);
            looked.unwrap_or((News::Over { dir }, Vec::new()))
        }
    }
}

fn entries(
    core: &Core,
    dir: FileId,
    path: &RelPath,
    itself: bool,
    names: &BTreeSet<Name>,
) -> Result<(News, Vec<u8>), Fault> {
    let root = core.service.share().root();
    let node = root.node(path)?;
    let now = meta::now();
    let stx = meta::stat_expected(&node, Some(dir))?;
    let attr = core.resources().versions.attr(&node, &stx, now)?;
    let shown = names
        .iter()
        .filter(|name| !root.hides_entry(path, name.as_bytes()));
    let mut content = Vec::new();
    let told = shown.map(|name| {
        let brought = brought(core, (dir, &node), name, &mut content);
        let brings = brought.is_some();
        let attr = match brought {
            Some(attr) => Some(attr),
            None => entry(core, &node, name)?,
        };
        let name = name.clone();
        Ok(NameNews { name, attr, brings })
    });
    let names = told.collect::<Result<_, Fault>>()?;
    // What was looked at is told only if it still lies in the share.
    meta::stat_expected(root.node(path)?, Some(dir))?;
    let attr = itself.then_some(attr);
    Ok((News::Entries { dir, attr, names }, content))
}

/// The attributes of a file the mount wants to have whole; its bytes are behind `content` then. None if it is not
/// wanted or cannot be had at once.
fn brought(
    core: &Core,
    (id, dir): (FileId, &OwnedFd),
    name: &Name,
    content: &mut Vec<u8>,
) -> Option<Attr> {
    let most = core.wanted.bytes_max(id, name)?;
    let most = most.min(PUSH_CONTENT_BYTES_MAX - content.len());
    let before = content.len();
    match whole(core, dir, name, most, content) {
        Ok(attr) => {
            core.wanted.brought(id, name);
            Some(attr)
        }
        Err(_) => {
            content.truncate(before);
            None
        }
    }
}

fn whole(
    core: &Core,
    dir: &OwnedFd,
    name: &Name,
    most: usize,
    content: &mut Vec<u8>,
) -> Result<Attr, Fault> {
    let name = CString::new(name.as_bytes()).map_err(|_| Fault::Invalid)?;
    let node = Root::entry(dir, &name).map_err(fault::of)?;
    let now = meta::now();
    let stx = meta::stat(&node).map_err(fault::of)?;
    if meta::kind(&stx) != Some(FileKind::File) {
        return Err(Fault::WrongKind);
    }
    let len = usize::try_from(stx.stx_size).unwrap_or(usize::MAX);
    if len > most {
        return Err(Fault::TooLarge);
    }
    let root = core.service.share().root();
    let fd = root.reopen_file(&node).map_err(fault::of)?;
    let from = content.len();
    content.resize(from + len, 0);
    let got = read_at(&fd, &mut content[from..], 0)?;
    if got < len || Stamp::of(&meta::stat(&fd).map_err(fault::of)?) != Stamp::of(&stx) {
        return Err(Fault::Changed);
    }
    core.resources().versions.attr(&fd, &stx, now)
}

fn entry(core: &Core, dir: &OwnedFd, name: &Name) -> Result<Option<Attr>, Fault> {
    let name = CString::new(name.as_bytes()).map_err(|_| Fault::Invalid)?;
    let now = meta::now();
    match meta::stat_entry(dir, &name) {
        Ok(stx) => core
            .resources()
            .versions
            .entry_attr((dir, &name), &stx, now)
            .map(Some),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(fault::of(e)),
    }
}
