//! Telling a mount what changes under its leases: the stream of pushes, and what it has heard of it.
//!
//! What is to be told waits as marks (`leases`). A push is made only when it can leave, from what is on the
//! disk at that moment, and so is at least as new as what it tells of.
//!
//! A directory is looked at where it was when it was leased, beneath the share's root. If it is there no longer it
//! may have left the share, and nothing more is told of it than that its lease is over. What is hidden from
//! mounts is hidden here as well.

use super::fault;
use super::leases::{Due, Ear};
use super::limits::LEASE_TERM;
use super::meta;
use super::session::{Class, Core};
use crate::rpc::{Sink, SinkClosed};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::ffi::CString;
use std::sync::Arc;
use wormhole_protocol::codec::Wire;
use wormhole_protocol::{Attr, Fault, FileId, Name, NameNews, News, Push, RelPath, Reply};

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
        let Ok(news) = news.await else { break };
        if let News::Over { dir } = &news {
            ear.end(*dir, number);
        }
        let Ok(frame) = (Push { number, news }).to_frame() else {
            break;
        };
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

/// What there is to say of what was marked.
fn look(core: &Core, due: Due, path: Option<RelPath>) -> News {
    match due {
        Due::AllOver => News::AllOver,
        Due::Over(dir) => News::Over { dir },
        Due::Of { dir, itself, names } => {
            let path = path.ok_or(Fault::NotFound);
            let entries = |path| core.with_descriptors(|| entries(core, dir, path, itself, &names));
            // Whatever keeps us from looking, it is not ours to tell.
            let looked = path.as_ref().map_err(|fault| *fault).and_then(entries);
            looked.unwrap_or(News::Over { dir })
        }
    }
}

fn entries(
    core: &Core,
    dir: FileId,
    path: &RelPath,
    itself: bool,
    names: &BTreeSet<Name>,
) -> Result<News, Fault> {
    let root = core.service.share().root();
    let node = root.node(path)?;
    let now = meta::now();
    let stx = meta::stat_expected(&node, Some(dir))?;
    let attr = core.resources().versions.attr(&stx, now)?;
    let shown = names
        .iter()
        .filter(|name| !root.hides_entry(path, name.as_bytes()));
    let told = shown.map(|name| {
        let attr = entry(core, &node, name)?;
        let name = name.clone();
        Ok(NameNews { name, attr })
    });
    let names = told.collect::<Result<_, Fault>>()?;
    // What was looked at is told only if it still lies in the share.
    meta::stat_expected(root.node(path)?, Some(dir))?;
    Ok(News::Entries {
        dir,
        attr: itself.then_some(attr),
        names,
    })
}

fn entry(core: &Core, dir: &OwnedFd, name: &Name) -> Result<Option<Attr>, Fault> {
    let name = CString::new(name.as_bytes()).map_err(|_| Fault::Invalid)?;
    let now = meta::now();
    match meta::stat_entry(dir, &name) {
        Ok(stx) => core.resources().versions.attr(&stx, now).map(Some),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(fault::of(e)),
    }
}
