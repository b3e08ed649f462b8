//! Listings: the entries of a directory with their attributes, streamed.
//!
//! Entries are read from the directory a few kilobytes at a time, looked at one by one relative to
//! its descriptor (nothing followed), and sent in frames. Memory does not grow with the directory: a
//! listing holds one buffer of names, the frame being made and the one being sent.
//!
//! A mount that has a listing names its digest. Then the directory is read once for its digest alone, and
//! if that is the same, nothing is sent; else it is read again from the start, to be sent. Only the first
//! entries of a directory with more than a digest covers are looked at twice.
//!
//! Left out: entries that vanish meanwhile, hidden ones, and (counted) those that cannot be looked
//! at or whose name is none a mount may use.
//!
//! A directory that is moved while it is listed is no longer what was asked for, and perhaps no
//! longer in the share: before each frame its path must still lead to it, else the listing is
//! broken off ([`Fault::Stale`]).

use super::budget::Purpose;
use super::counters::add;
use super::fault;
use super::limits::{FIRST_FRAME_ENTRIES, GETDENTS_BYTES, LIST_DIGEST_BYTES};
use super::meta;
use super::node::under_lease;
use super::session::{Class, Core, Slot};
use crate::rpc::{Sink, SinkClosed};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::try_join;
use rustix::fd::OwnedFd;
use rustix::fs::RawDir;
use rustix::io::Errno;
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::sync::Arc;
use wormhole_protocol::codec::Wire;
use wormhole_protocol::limits::{FRAME_PREFIX_BYTES, LIST_FRAME_BYTES_MAX, LIST_FRAME_ENTRIES_MAX};
use wormhole_protocol::{
    Attr, Entry, Fault, FileId, FileKind, KnownListing, Leased, ListFrame, ListingDigest,
    ListingDigester, Name, NodeRef, Reply, Verdict,
};

/// A directory being listed.
pub(super) struct Listing {
    /// The directory is leased.
    pub(super) leased: bool,
    dir: NodeRef,
    id: FileId,
    fd: OwnedFd,
    /// Names read but not yet sent, each with its final NUL; those before `next` are done.
    names: Vec<u8>,
    next: usize,
    /// Whether the kernel has no more names.
    ended: bool,
}

/// Some entries of a directory.
pub(super) struct Seen {
    pub(super) entries: Vec<Entry>,
    pub(super) skipped: u64,
    pub(super) last: bool,
}

/// Frames in the making: the listing comes back with each.
struct Made {
    listing: Box<Listing>,
    frame: Bytes,
    entries: usize,
    skipped: u64,
    last: bool,
}

/// Answers a listing.
pub(super) async fn serve(
    core: &Arc<Core>,
    dir: NodeRef,
    known: Option<ListingDigest>,
    sink: &mut dyn Sink,
) -> Result<(), SinkClosed> {
    let slot = &core.slot(Class::Listing).await;
    let begun = match known {
        Some(known) => begin_changed(core, slot, &dir, known).await,
        None => begin(core, slot, &dir).await.map(Begun::Listing),
    };
    match begun {
        Ok(Begun::Listing((attr, listing))) => {
            let reply = if listing.leased {
                under_lease(Leased::Listing(attr))
            } else {
                Reply::Listing(attr)
            };
            core.reply(sink, reply).await?;
            send_frames(core, slot, listing, sink).await
        }
        Ok(Begun::Unchanged(attr, true)) => {
            let reply = under_lease(Leased::Unchanged(attr));
            core.reply(sink, reply).await
        }
        Ok(Begun::Unchanged(attr, false)) => core.reply(sink, Reply::Unchanged(attr)).await,
        Err(fault) => core.reply(sink, Reply::Fault(fault)).await,
    }
}

/// Says which of many listings still hold. One after another: who wants it faster asks for several at once.
pub(super) async fn revalidate(
    core: &Arc<Core>,
    listings: Vec<KnownListing>,
    sink: &mut dyn Sink,
) -> Result<(), SinkClosed> {
    let slot = &core.slot(Class::Listing).await;
    let mut verdicts = Vec::with_capacity(listings.len());
    for KnownListing { dir, digest } in listings {
        verdicts.push(match verdict(core, slot, &dir, digest).await {
            Ok(verdict) => verdict,
            Err(fault @ (Fault::Closing | Fault::Exhausted)) => {
                return core.reply(sink, Reply::Fault(fault)).await;
            }
            Err(_) => Verdict::Changed,
        });
    }
    core.reply(sink, Reply::Revalidated(verdicts)).await
}

async fn verdict(
    core: &Arc<Core>,
    slot: &Slot,
    dir: &NodeRef,
    known: ListingDigest,
) -> Result<Verdict, Fault> {
    let (attr, listing) = begin(core, slot, dir).await?;
    let leased = listing.leased;
    let holds = digest(core, slot, listing).await? == Some(known);
    Ok(if holds {
        Verdict::Holds { attr, leased }
    } else {
        Verdict::Changed
    })
}

/// What there is to say of a directory.
enum Begun {
    Listing((Attr, Box<Listing>)),
    /// The listing is the one the mount has; whether the directory is leased.
    Unchanged(Attr, bool),
}

async fn begin(
    core: &Arc<Core>,
    slot: &Slot,
    dir: &NodeRef,
) -> Result<(Attr, Box<Listing>), Fault> {
    let dir = dir.clone();
    core.on_disk(slot, move |core| core.with_descriptors(|| open(core, &dir)))
        .await?
}

/// Begins a listing, unless its digest is `known`.
async fn begin_changed(
    core: &Arc<Core>,
    slot: &Slot,
    dir: &NodeRef,
    known: ListingDigest,
) -> Result<Begun, Fault> {
    let (attr, listing) = begin(core, slot, dir).await?;
    let leased = listing.leased;
    if digest(core, slot, listing).await? == Some(known) {
        return Ok(Begun::Unchanged(attr, leased));
    }
    // With attributes from before its own first entry is read.
    begin(core, slot, dir).await.map(Begun::Listing)
}

/// The digest of a listing; none if it has too many entries for one.
async fn digest(
    core: &Arc<Core>,
    slot: &Slot,
    mut listing: Box<Listing>,
) -> Result<Option<ListingDigest>, Fault> {
    let _memory = core.memory(LIST_DIGEST_BYTES, Purpose::Demand).await;
    let mut digester = ListingDigester::default();
    loop {
        let looked_at = core.on_disk(slot, move |core| {
            let seen = look(core, &mut listing, LIST_FRAME_ENTRIES_MAX)?;
            let more = seen.entries.iter().all(|entry| digester.add(entry)) && !seen.last;
            Ok((listing, digester, more))
        });
        let more;
        (listing, digester, more) = looked_at.await??;
        if !more {
            return Ok(digester.finish());
        }
    }
}

/// Sends the entries of a listing, making each frame while the one before is being sent.
async fn send_frames(
    core: &Arc<Core>,
    slot: &Slot,
    listing: Box<Listing>,
    sink: &mut dyn Sink,
) -> Result<(), SinkClosed> {
    let make = |listing: Box<Listing>, most: usize| async move {
        let memory = core.memory(LIST_FRAME_BYTES_MAX, Purpose::Demand).await;
        core.on_disk(slot, move |core| make_frame(core, listing, most))
            .await?
            .map(|made| (made, memory))
    };
    let mut made = make(listing, FIRST_FRAME_ENTRIES).await;
    loop {
        let (done, mut memory) = match made {
            Ok(made) => made,
            Err(fault) => {
                core.abort(sink, fault);
                return Ok(());
            }
        };
        let counters = core.service.counters();
        add(&counters.entries, done.entries as u64);
        add(&counters.entries_skipped, done.skipped);
        memory.shrink(done.frame.len());
        let piece = Bytes::from_owner(Counted {
            frame: done.frame,
            _memory: memory,
        });
        if done.last {
            return core.send(sink, piece).await;
        }
        let next = make(done.listing, LIST_FRAME_ENTRIES_MAX);
        ((), made) = try_join(core.send(&mut *sink, piece), next.map(Ok)).await?;
    }
}

/// A frame with the leave to hold it.
struct Counted {
    frame: Bytes,
    _memory: super::budget::Grant,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.frame
    }
}

/// Opens a directory to be listed, and leases it before it is looked at.
pub(super) fn open(core: &Core, dir: &NodeRef) -> Result<(Attr, Box<Listing>), Fault> {
    let root = core.service.share().root();
    let node = root.node(&dir.path)?;
    let mut now = meta::now();
    // Stats before the first entry is read: what changes meanwhile shows as a later version.
    let mut stx = meta::stat_expected(&node, dir.expect)?;
    if meta::kind(&stx) != Some(FileKind::Directory) {
        return Err(Fault::NotDirectory);
    }
    let leased = core.lease(&node, meta::file_id(&stx), &dir.path);
    if leased {
        now = meta::now();
        stx = meta::stat(&node).map_err(fault::of)?;
    }
    let attr = core.resources().versions.attr(&node, &stx, now)?;
    let listing = Listing {
        leased,
        dir: dir.clone(),
        id: attr.id,
        fd: root.reopen_dir(&node).map_err(fault::of)?,
        names: Vec::new(),
        next: 0,
        ended: false,
    };
    Ok((attr, Box::new(listing)))
}

fn make_frame(core: &Core, mut listing: Box<Listing>, most: usize) -> Result<Made, Fault> {
    let Seen {
        entries,
        skipped,
        last,
    } = look(core, &mut listing, most)?;
    let count = entries.len();
    let frame = ListFrame { entries, last }
        .to_frame()
        .map_err(|_| Fault::TooLarge)?;
    debug_assert!(frame.len() <= LIST_FRAME_BYTES_MAX + FRAME_PREFIX_BYTES);
    Ok(Made {
        listing,
        frame: frame.into(),
        entries: count,
        skipped,
        last,
    })
}

/// Looks at the next `most` names of a directory, which must still be where it was afterwards.
pub(super) fn look(core: &Core, listing: &mut Listing, most: usize) -> Result<Seen, Fault> {
    let mut entries = Vec::new();
    let mut skipped = 0;
    // Bounded in what is looked at, not in what is found: a directory of nothing but entries that
    // vanish still yields frames.
    for _ in 0..most {
        if !listing.fill()? {
            break;
        }
        match listing.entry(core) {
            Ok(Some(entry)) => entries.push(entry),
            Ok(None) => {}
            Err(_) => skipped += 1,
        }
    }
    let last = !listing.fill()?;
    let there = core
        .with_descriptors(|| core.service.share().root().node(&listing.dir.path))
        .and_then(|node| meta::stat_expected(node, Some(listing.id)));
    match there {
        Ok(_) => {}
        Err(Fault::Exhausted) => return Err(Fault::Exhausted),
        Err(_) => return Err(Fault::Stale),
    }
    Ok(Seen {
        entries,
        skipped,
        last,
    })
}

impl Listing {
    /// Makes sure that a name is at hand; false at the end of the directory.
    fn fill(&mut self) -> Result<bool, Fault> {
        while self.next == self.names.len() && !self.ended {
            self.names.clear();
            self.next = 0;
            let mut buffer = vec![MaybeUninit::uninit(); GETDENTS_BYTES];
            let mut raw = RawDir::new(&self.fd, &mut buffer);
            loop {
                match raw.next() {
                    Some(Ok(entry)) => {
                        let name = entry.file_name().to_bytes_with_nul();
                        if !matches!(name, b".\0" | b"..\0") {
                            self.names.extend_from_slice(name);
                        }
                    }
                    Some(Err(Errno::INTR)) => continue,
                    // The directory was removed while it was open: nothing more is in it.
                    Some(Err(Errno::NOENT)) | None => self.ended = true,
                    Some(Err(e)) => return Err(fault::of(e)),
                }
                if self.ended || raw.is_buffer_empty() {
                    break;
                }
            }
        }
        Ok(self.next < self.names.len())
    }

    /// The next entry, of which there must be one; `None` if it is not to be seen.
    fn entry(&mut self, core: &Core) -> Result<Option<Entry>, Fault> {
        let name = CStr::from_bytes_until_nul(&self.names[self.next..]).map_err(|_| Fault::Io)?;
        self.next += name.count_bytes() + 1;
        let root = core.service.share().root();
        if root.hides_entry(&self.dir.path, name.to_bytes()) {
            return Ok(None);
        }
        let checked = Name::new(name.to_bytes()).map_err(|_| Fault::Invalid)?;
        let now = meta::now();
        let stx = match meta::stat_entry(&self.fd, name) {
            Ok(stx) => stx,
            Err(Errno::NOENT) => return Ok(None),
            Err(e) => return Err(fault::of(e)),
        };
        let versions = &core.resources().versions;
        let attr = versions.entry_attr((&self.fd, name), &stx, now)?;
        Ok(Some(Entry {
            name: checked,
            attr,
        }))
    }
}
