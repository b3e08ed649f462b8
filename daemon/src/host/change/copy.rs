//! Copying within the host, in steps, so that a host which ends need not wait for the last byte.

use super::super::budget::Purpose;
use super::super::fault;
use super::super::find::find;
use super::super::held::Open;
use super::super::limits::{COPY_BUFFER_BYTES, COPY_STEP_BYTES};
use super::super::session::{Core, Slot};
use super::act::Act;
use super::content::write_at;
use super::owner;
use rustix::fd::OwnedFd;
use rustix::fs::copy_file_range;
use rustix::io::{Errno, pread};
use std::sync::Arc;
use wormhole_protocol::limits::OFFSET_MAX;
use wormhole_protocol::{Caller, Extent, Fault, NodeRef, OpenId, Reply};

/// The two ends of a copy.
#[derive(Clone)]
struct Ends {
    from: Arc<OwnedFd>,
    to: Arc<Open>,
}

/// Copies `extent.len()` bytes, fewer if the source ends before.
pub(super) async fn run(
    core: &Arc<Core>,
    slot: Slot,
    caller: Caller,
    from: NodeRef,
    from_offset: u64,
    to: OpenId,
    extent: Extent,
) -> Result<Reply, Fault> {
    let ends = core.on_disk(&slot, move |core| {
        ends(core, &from, from_offset, to, extent)
    });
    let ends = ends.await??;
    let (mut done, mut waits) = (0, Vec::new());
    while done < extent.len() {
        if core.resources().closing() {
            return Err(Fault::Closing);
        }
        let (at, left) = (
            (from_offset + done, extent.offset() + done),
            extent.len() - done,
        );
        let step = ends.clone();
        let copied = core.on_disk(&slot, move |core| {
            let act = Act::writing(core, caller, to);
            let copied = by_kernel(&step, at, left);
            act.through(&step.to.fd, step.to.path.as_ref());
            act.done();
            (copied, act.into_waits())
        });
        let (copied, heard_by) = copied.await?;
        waits.extend(heard_by);
        let copied = match copied {
            // Across file systems, or on one that cannot: the bytes go through this process.
            Err(Errno::XDEV | Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => {
                let _memory = core.memory(COPY_BUFFER_BYTES, Purpose::Write).await;
                let step = ends.clone();
                let copied = core.on_disk(&slot, move |core| {
                    let act = Act::writing(core, caller, to);
                    let copied = by_hand(&step, at, left);
                    act.through(&step.to.fd, step.to.path.as_ref());
                    act.done();
                    (copied, act.into_waits())
                });
                let (copied, heard_by) = copied.await?;
                waits.extend(heard_by);
                copied?
            }
            copied => copied.map_err(fault::of_change)?,
        };
        if copied == 0 {
            break;
        }
        done += copied;
    }
    let written = core.on_disk(&slot, move |core| {
        let act = Act::writing(core, caller, to);
        let attr = owner::after_writing(core, &act, &ends.to);
        (attr, act.into_waits())
    });
    let (attr, heard_by) = written.await?;
    waits.extend(heard_by);
    drop(slot);
    core.service.leases().wait(waits).await;
    let attr = attr?;
    Ok(Reply::Copied { len: done, attr })
}

fn ends(
    core: &Core,
    from: &NodeRef,
    from_offset: u64,
    to: OpenId,
    extent: Extent,
) -> Result<Ends, Fault> {
    let to = core.held.writable(to)?;
    let from_end = from_offset.checked_add(extent.len());
    let from_end = from_end.filter(|end| *end <= OFFSET_MAX);
    let from_end = from_end.ok_or(Fault::Invalid)?;
    if let Some(open) = from.expect.and_then(|id| core.held.readable_of(id)) {
        refuse_overlap(open.id == to.id, (from_offset, from_end), extent)?;
        let from = open.fd.clone();
        return Ok(Ends { from, to });
    }
    let found = core.with_descriptors(|| find(core, from))?;
    found.is_file()?;
    refuse_overlap(found.id() == to.id, (from_offset, from_end), extent)?;
    let root = core.service.share().root();
    let from = core.with_descriptors(|| root.reopen_file(&found.fd).map_err(fault::of))?;
    Ok(Ends {
        from: Arc::new(from),
        to,
    })
}

fn refuse_overlap(same: bool, from: (u64, u64), to: Extent) -> Result<(), Fault> {
    if same && from.0 < to.end() && to.offset() < from.1 {
        Err(Fault::Invalid)
    } else {
        Ok(())
    }
}

fn by_kernel(ends: &Ends, at: (u64, u64), left: u64) -> Result<u64, Errno> {
    let (mut from, mut to) = at;
    let len = usize::try_from(left).unwrap_or(usize::MAX);
    let len = len.min(COPY_STEP_BYTES);
    loop {
        match copy_file_range(&ends.from, Some(&mut from), &ends.to.fd, Some(&mut to), len) {
            Ok(n) => return Ok(n as u64),
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
}

fn by_hand(ends: &Ends, at: (u64, u64), left: u64) -> Result<u64, Fault> {
    let len = usize::try_from(left).unwrap_or(usize::MAX);
    let mut buffer = vec![0; len.min(COPY_BUFFER_BYTES)];
    let got = loop {
        match pread(&ends.from, buffer.as_mut_slice(), at.0) {
            Ok(n) => break n,
            Err(Errno::INTR) => {}
            Err(e) => return Err(fault::of(e)),
        }
    };
    write_at(&ends.to.fd, &buffer[..got], at.1)?;
    Ok(got as u64)
}
