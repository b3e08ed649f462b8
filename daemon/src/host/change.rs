//! Changes: everything a mount may do to a share but look at it.
//!
//! Life of a change: its answer, if it has one, is given again ([`Answers`]). Else it waits for a slot of its
//! class and for memory, takes in all the bytes behind it, and is begun: from then on it is a task of its own
//! that runs to its end, whether or not its connection lives, and leaves its answer. What is dropped before is
//! as if never asked; so no byte reaches the disk from a body that may never be complete, and none late,
//! after the mount has sent the same again over another connection and gone on.
//!
//! Parts: [`content`] (files and their bytes), [`copy`], [`names`] (entries of directories), [`reserved`], [`attrs`];
//! [`place`] finds an entry to be changed, [`owner`] says whose a new node is, [`act`] who else has to hear of it.
//!
//! Invariants
//! - Whatever changes names an open descriptor, or a directory's and one component, and follows nothing.
//! - What is hidden from mounts can be neither made, changed, removed, nor moved out of hiding.
//! - A mount that acts for its users does so only where the owner of the share said so
//!   ([`super::ShareRules::map_users`]).

mod act;
mod answers;
mod attrs;
mod content;
mod copy;
mod names;
mod owner;
mod place;
mod reserved;

pub(super) use answers::Answers;

use super::budget::{Grant, Purpose};
use super::counters::add;
use super::leases::{Scope, Wait};
use super::session::{Class, Core, Slot};
use crate::rpc::{Sink, SinkClosed, Source, priority};
use act::Act;
use answers::Arrival;
pub(super) use owner::has_default_acl;
use std::sync::Arc;
use wormhole_protocol::limits::XATTR_VALUE_BYTES_MAX;
use wormhole_protocol::{Caller, Change, Fault, NewFile, OpenId, Reply, Seq};

/// A change as it was asked.
pub(super) struct Asked {
    /// Its number.
    pub(super) seq: Seq,
    /// All before this are settled.
    pub(super) settled: Seq,
    /// On whose behalf.
    pub(super) caller: Caller,
    /// What.
    pub(super) change: Change,
}

/// More bytes than these take their time to be written.
const BRIEF_BYTES_MAX: usize = 64 * 1024;
/// And so many files are closed in it.
const BRIEF_CLOSES_MAX: usize = 4;

/// The bytes behind a change, and leave to hold them.
struct Body {
    bytes: Vec<u8>,
    _memory: Option<Grant>,
}

/// Why there is no body.
enum NoBody {
    /// Nobody is there any more.
    Gone,
    /// It is not what was announced, or may not be.
    Refused(Fault),
}

/// Answers a change.
pub(super) async fn serve(
    core: &Arc<Core>,
    asked: Asked,
    source: &mut dyn Source,
    sink: &mut dyn Sink,
) -> Result<(), SinkClosed> {
    sink.prioritize(priority::META);
    let reply = match core.held.answers.arrive(asked.seq, asked.settled) {
        Ok(Arrival::Known(pending)) => pending.answer().await,
        Ok(Arrival::New) => match begin(core, asked, source).await {
            Ok(reply) => reply,
            Err(NoBody::Gone) => return Err(SinkClosed),
            Err(NoBody::Refused(fault)) => Reply::Fault(fault),
        },
        Err(fault) => Reply::Fault(fault),
    };
    core.reply(sink, reply).await
}

/// The answer to a change that was begun before; none if it was not.
pub(super) async fn known(core: &Core, seq: Seq, settled: Seq) -> Option<Reply> {
    match core.held.answers.arrive(seq, settled) {
        Ok(Arrival::Known(pending)) => Some(pending.answer().await),
        Ok(Arrival::New) => None,
        Err(fault) => Some(Reply::Fault(fault)),
    }
}

/// Takes in what belongs to a change, and does it unless another arrival was first.
async fn begin(core: &Arc<Core>, asked: Asked, source: &mut dyn Source) -> Result<Reply, NoBody> {
    // Whoever waits for another mount takes up nothing that that one may be waiting for.
    let leases = core.service.leases();
    let scope = match &asked.change {
        Change::Write { open, after, .. } if after.set.is_some() => {
            // It changes what a name shows, as SetAttr does.
            let path = core
                .held
                .open(*open)
                .ok()
                .and_then(|open| open.path.clone());
            path.map(Scope::of_node).unwrap_or_default()
        }
        change => Scope::of_change(change),
    };
    let visit = leases.enter(core.key(), scope, true).await;
    let slot = core.slot(class(&asked.change)).await;
    let body = take_in(core, &asked.change, source).await?;
    let begun = core.held.answers.begin(asked.seq);
    let (duty, pending) = begun.map_err(NoBody::Refused)?;
    if let Some(duty) = duty {
        let core = core.clone();
        tokio::spawn(async move {
            let _visit = visit;
            let done = run(&core, slot, asked, body).await;
            duty.answer(done.unwrap_or_else(Reply::Fault));
        });
    }
    Ok(pending.answer().await)
}

/// Changes that take long have slots of their own, and so have those with many bytes.
fn class(change: &Change) -> Class {
    match change {
        Change::Write { after, .. } if after.sync.is_some() => Class::Slow,
        Change::Sync { .. }
        | Change::SyncDir { .. }
        | Change::Allocate { .. }
        | Change::Copy { .. } => Class::Slow,
        Change::Write { .. } | Change::Append { .. } => Class::Write,
        _ => Class::Change,
    }
}

/// Whether a change mostly takes microseconds. What may free the blocks of a large file does not.
fn is_brief(change: &Change) -> bool {
    match change {
        Change::Open {
            truncate: false, ..
        }
        | Change::Create {
            truncate: false, ..
        }
        | Change::MakeDir { .. }
        | Change::MakeNode { .. }
        | Change::Symlink { .. }
        | Change::Link { .. } => true,
        Change::Close { opens } => opens.len() <= BRIEF_CLOSES_MAX,
        Change::Write { after, .. } | Change::NameReserved(NewFile { after, .. }) => {
            after.sync.is_none() && change.body_len() <= BRIEF_BYTES_MAX
        }
        Change::Append { .. } => change.body_len() <= BRIEF_BYTES_MAX,
        _ => false,
    }
}

/// Gathers the bytes behind `change`: exactly as many as were announced.
async fn take_in(
    core: &Arc<Core>,
    change: &Change,
    source: &mut dyn Source,
) -> Result<Body, NoBody> {
    let announced = change.body_len();
    if matches!(change, Change::SetXattr { .. }) && announced > XATTR_VALUE_BYTES_MAX {
        return Err(NoBody::Refused(Fault::TooLarge));
    }
    if announced == 0 {
        return Ok(Body {
            bytes: Vec::new(),
            _memory: None,
        });
    }
    let memory = core.memory(announced, Purpose::Write).await;
    // The memory becomes real only as bytes come.
    let mut bytes = Vec::with_capacity(announced);
    let mut pieces = Vec::new();
    loop {
        source.next(&mut pieces).await.map_err(|_| NoBody::Gone)?;
        if pieces.is_empty() {
            break;
        }
        let before = bytes.len();
        // Copied, not kept: a piece may be a small part of what it keeps in memory.
        for piece in pieces.drain(..) {
            if piece.len() > announced - bytes.len() {
                return Err(NoBody::Refused(Fault::Invalid));
            }
            bytes.extend_from_slice(&piece);
        }
        let count = (bytes.len() - before) as u64;
        add(&core.received, count);
        add(&core.service.counters().received_bytes, count);
    }
    if bytes.len() < announced {
        return Err(NoBody::Refused(Fault::Invalid));
    }
    Ok(Body {
        bytes,
        _memory: Some(memory),
    })
}

/// Does a change.
async fn run(core: &Arc<Core>, slot: Slot, asked: Asked, body: Body) -> Result<Reply, Fault> {
    let Asked { caller, change, .. } = asked;
    match change {
        Change::Copy {
            from,
            from_offset,
            to,
            extent,
        } => copy::run(core, slot, caller, from, from_offset, to, extent).await,
        change => {
            let brief = is_brief(&change);
            let work = move |core: &Core| apply(core, caller, &change, &body.bytes);
            let (done, waits) = if brief {
                core.briefly_on_disk(&slot, work).await?
            } else {
                core.on_disk(&slot, work).await?
            };
            // What waits for other mounts takes up no room.
            drop(slot);
            core.service.leases().wait(waits).await;
            done
        }
    }
}

/// What came of a change, and who has to hear of it before it is answered.
type Applied = (Result<Reply, Fault>, Vec<Wait>);

/// Does what is done in one go; if the disk is full, once more without what is only kept for late readers.
/// Blocks.
fn apply(core: &Core, caller: Caller, change: &Change, bytes: &[u8]) -> Applied {
    if let Change::Close { opens } = change {
        return close(core, caller, opens);
    }
    let apply = || {
        let act = Act::begin(core, caller, change);
        let done = try_to_apply(core, &act, change, bytes);
        (done, act.into_waits())
    };
    match apply() {
        (Err(Fault::NoSpace | Fault::Quota), _)
            // A part of what was to be appended may be there already.
            if core.service.departed().clear() && !matches!(change, Change::Append { .. }) =>
        {
            apply()
        }
        done => done,
    }
}

/// Closes what is open under each of these numbers.
fn close(core: &Core, caller: Caller, opens: &[OpenId]) -> Applied {
    let mut waits = Vec::new();
    for open in opens {
        let act = Act::closing(core, caller, *open);
        core.held.close(*open);
        act.done();
        waits.extend(act.into_waits());
    }
    (Ok(Reply::Done), waits)
}

fn try_to_apply(core: &Core, act: &Act<'_>, change: &Change, bytes: &[u8]) -> Result<Reply, Fault> {
    match change {
        Change::Open { .. }
        | Change::Create { .. }
        | Change::Write { .. }
        | Change::Append { .. }
        | Change::Allocate { .. }
        | Change::Sync { .. }
        | Change::SyncDir { .. } => content::apply(core, act, change, bytes),
        Change::NameReserved(new) => reserved::name(core, act, new, bytes),
        Change::SetAttr { .. } | Change::SetXattr { .. } | Change::RemoveXattr { .. } => {
            attrs::apply(core, act, change, bytes)
        }
        Change::MakeDir { .. }
        | Change::MakeNode { .. }
        | Change::Symlink { .. }
        | Change::Link { .. }
        | Change::Unlink { .. }
        | Change::RemoveDir { .. }
        | Change::Rename { .. } => names::apply(core, act, change),
        // In steps, and not here.
        Change::Close { .. } | Change::Copy { .. } => Err(Fault::Invalid),
    }
}
