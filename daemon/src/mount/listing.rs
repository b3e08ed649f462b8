//! Directory contents: streamed in, read while they arrive, believed for a while.
//!
//! A listing is one request; its entries come with attributes. Readers wait for the entry they are at,
//! not for the end. The stream is not drawn further than [`AHEAD_ENTRIES`] past the last reader, so a
//! listing nobody reads to its end costs little. A complete listing answers lookups, negative ones
//! too, for as long as its entries are believed; a host that says that it has not changed begins that
//! time anew. What this mount changes, and what the host tells of changes, is put into it as it happens.
//!
//! Entries are kept packed ([`entries`]), and what only an arriving listing needs goes with its end: a mount
//! keeps a hundred thousand listings, and a million entries.
//!
//! Lock: `inner`, never across an await.

mod digest;
mod entries;
mod pack;
mod saved;

use super::beliefs::Told;
use super::error::FsError;
use super::heard::Heard;
use super::lease::Terms;
use crate::rpc::{Answer, CallError, Payload};
use entries::Entries;
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::io::AsyncReadExt;
use tokio::sync::watch;
use tokio::time::Instant;
use wormhole_protocol::codec::{Wire, body_len};
use wormhole_protocol::limits::{FRAME_PREFIX_BYTES, LIST_ENTRIES_MAX};
use wormhole_protocol::{Attr, Entry, ListFrame, Name};

/// Entries drawn ahead of the reader. Large, because a listing left waiting holds a stream at the host,
/// which takes it back after a while: a slow `find` must not lose its place in any but huge directories.
const AHEAD_ENTRIES: usize = 256 * 1024;
/// About what the stream of a listing takes while it arrives, buffers left aside.
const ARRIVAL_BYTES: usize = 4096;

/// An entry, and when the host told of it.
#[derive(Clone)]
pub struct Listed {
    /// Its number: a reader continues behind it.
    pub number: usize,
    /// The entry.
    pub entry: Entry,
    /// When it was asked for, and arrived.
    pub heard: Heard,
}

/// Some entries in a row.
#[derive(Default)]
pub struct Stretch {
    /// Those that are there.
    pub listed: Vec<Listed>,
    /// Numbers and names between them of which nobody knows whether they are.
    pub unknown: Vec<(usize, Name)>,
}

impl Stretch {
    fn is_empty(&self) -> bool {
        self.listed.is_empty() && self.unknown.is_empty()
    }
}

/// How far a listing is.
enum State {
    Arriving(Box<Arrival>),
    Complete,
    Failed(FsError),
}

/// What a listing is worth besides when it was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// The host told it, or said that it holds.
    Told,
    /// It is of an earlier life of this mount, and the host was not asked yet.
    Remembered,
    /// The host said that it does not hold.
    Outdated,
}

/// What readers and the stream tell each other; dropped with the end of the stream, which wakes them.
#[derive(Default)]
struct Arrival {
    /// How many entries there are.
    progress: watch::Sender<usize>,
    /// Highest entry a reader asked for.
    wanted: watch::Sender<usize>,
}

struct Inner {
    /// When it was asked for and began to arrive, or was last asked for and found unchanged.
    heard: Heard,
    state: State,
    standing: Standing,
    entries: Entries,
    /// Attributes of the directory itself, if they came under the same lease as its entries.
    own_attr: Option<Box<(Attr, Heard)>>,
    digest: digest::Kept,
}

/// The entries of one directory, as they arrive.
pub struct Listing {
    asked: Instant,
    inner: Mutex<Inner>,
}

impl Listing {
    fn new(heard: Heard, state: State) -> Arc<Self> {
        Arc::new(Self {
            asked: heard.asked,
            inner: Mutex::new(Inner {
                heard,
                state,
                standing: Standing::Told,
                entries: Entries::default(),
                own_attr: None,
                digest: digest::Kept::default(),
            }),
        })
    }

    /// A listing that draws from `answer` in a task of its own, which ends when the last reference to
    /// the listing goes or its stream does.
    pub fn start(answer: Answer, heard: Heard) -> Arc<Self> {
        let arrival = Arrival::default();
        let mut wanted = arrival.wanted.subscribe();
        let listing = Self::new(heard, State::Arriving(Box::new(arrival)));
        let weak = Arc::downgrade(&listing);
        let mut payload = answer.payload;
        tokio::spawn(async move {
            loop {
                let frame = tokio::select! {
                    frame = next_frame(&mut payload) => frame,
                    // The last reader left: dropping the payload cancels the listing at the host.
                    () = readers_left(&mut wanted) => return,
                };
                let Some(listing) = weak.upgrade() else {
                    return;
                };
                let Some(total) = listing.take(frame) else {
                    return;
                };
                drop(listing);
                let more = wanted.wait_for(|wanted| total < wanted.saturating_add(AHEAD_ENTRIES));
                if more.await.is_err() {
                    return;
                }
            }
        });
        listing
    }

    /// A listing whose entries are brought by [`Self::feed`]; with the directory's own attributes, if they are
    /// under the same lease.
    pub(super) fn fed(heard: Heard, own_attr: Option<Attr>) -> Arc<Self> {
        let listing = Self::new(heard, State::Arriving(Box::default()));
        listing.inner.lock().own_attr = own_attr.map(|attr| Box::new((attr, heard)));
        listing
    }

    /// More entries, or the reason why there will be no more.
    pub(super) fn feed(&self, frame: Result<ListFrame, CallError>) {
        self.take(frame);
    }

    /// The listing of a directory that was just made, and held nothing when that was heard.
    pub fn empty(heard: Heard) -> Arc<Self> {
        Self::new(heard, State::Complete)
    }

    /// Adds a frame; the number of entries so far, or `None` if that was the end.
    fn take(&self, frame: Result<ListFrame, CallError>) -> Option<usize> {
        let mut inner = self.inner.lock();
        let heard = Heard::since(self.asked).leased(inner.heard.leased);
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => {
                inner.state = State::Failed(error.into());
                return None;
            }
        };
        for entry in &frame.entries {
            inner.entries.push(entry, heard);
        }
        let total = inner.entries.len();
        if total > LIST_ENTRIES_MAX {
            inner.state = State::Failed(FsError::Io);
        } else if frame.last {
            inner.entries.shrink();
            inner.state = State::Complete;
        } else if let State::Arriving(arrival) = &inner.state {
            arrival.progress.send_replace(total);
            return Some(total);
        }
        None
    }

    /// Up to `max` entries from number `from` on; none at the end. Waits for the first of them only.
    ///
    /// # Errors
    /// What broke the stream, once the entries before the break are used up.
    pub async fn page(&self, from: usize, max: usize) -> Result<Stretch, FsError> {
        loop {
            let mut progress = {
                let inner = self.inner.lock();
                let stretch = inner.stretch(from, max);
                match &inner.state {
                    State::Failed(error) if stretch.is_empty() => return Err(*error),
                    State::Arriving(arrival) => {
                        arrival.want(from.saturating_add(max));
                        if !stretch.is_empty() {
                            return Ok(stretch);
                        }
                        arrival.progress.subscribe()
                    }
                    _ => return Ok(stretch),
                }
            };
            // More, or the end: both are seen above.
            let _ = progress.changed().await;
        }
    }

    /// What a complete and still believed listing says of `name`; `None` = ask the host.
    pub fn find(&self, name: &Name, terms: &Terms) -> Option<Told> {
        let inner = self.inner.lock();
        if !inner.is_complete() || !terms.believes(inner.heard) {
            return None;
        }
        match inner.entries.find(name) {
            Some(present) if present.is_unknown => None,
            // What is in it may have been told later than the rest; what is not in it was told with the rest.
            Some(present) if present.attr.is_some() => {
                let heard = present.heard.later(inner.heard);
                terms
                    .believes(heard)
                    .then(|| Told::new(present.attr, heard))
            }
            _ => Some(Told::new(None, inner.heard)),
        }
    }

    /// Where `name` led when it was last told, believed or not; none if that is not known.
    pub fn last_known(&self, name: &Name) -> Option<Option<Attr>> {
        let inner = self.inner.lock();
        if !inner.is_complete() || inner.standing == Standing::Remembered {
            return None;
        }
        match inner.entries.find(name) {
            Some(present) if present.is_unknown => None,
            Some(present) => Some(present.attr),
            None => Some(None),
        }
    }

    /// The number under which the host told of `name` with these attributes, whatever became of it since; none
    /// before all is here. It leads there for as long as the listing is.
    pub fn record_of(&self, name: &Name, attr: &Attr) -> Option<u32> {
        let inner = self.inner.lock();
        let number = inner.entries.record_of(name, attr);
        number.filter(|_| inner.is_complete())
    }

    /// What the host told under a number, and when.
    pub fn record(&self, number: u32) -> Option<(Name, Attr, Heard)> {
        self.inner.lock().entries.record_at(number)
    }

    /// Attributes of the directory itself, if they came under the same lease as its entries and nothing in it
    /// has changed since.
    pub(super) fn own_attr(&self) -> Option<(Attr, Heard)> {
        self.inner.lock().own_attr.as_deref().copied()
    }

    /// The directory itself has changed.
    pub(super) fn forget_own_attr(&self) {
        self.inner.lock().own_attr = None;
    }

    /// The directory itself has these attributes now.
    pub(super) fn set_own_attr(&self, attr: &Attr, heard: Heard) {
        self.inner.lock().own_attr = Some(Box::new((*attr, heard)));
    }

    /// When it was asked for.
    pub fn asked(&self) -> Instant {
        self.asked
    }

    /// `name` leads there now, or nowhere: this mount changed it, or the host told.
    pub fn set(&self, name: &Name, attr: Option<Attr>, heard: Heard) {
        let mut inner = self.inner.lock();
        inner.entries.set(name, attr, heard);
        inner.digest.forget();
        // Names were given or taken, so that the directory has changed as well.
        if inner
            .own_attr
            .as_ref()
            .is_some_and(|own| own.1.told < heard.told)
        {
            inner.own_attr = None;
        }
    }

    /// The attributes of what `name` leads to have changed; if it leads elsewhere, nothing has.
    pub fn update(&self, name: &Name, attr: &Attr, heard: Heard) {
        let mut inner = self.inner.lock();
        if inner.entries.update(name, attr, heard) {
            inner.digest.forget();
        }
    }

    /// Nobody knows where `name` leads: it is to be asked for.
    pub fn doubt(&self, name: &Name, at: Instant) {
        let mut inner = self.inner.lock();
        inner.entries.doubt(name, at);
        inner.digest.forget();
        inner.own_attr = None;
    }

    /// The host has answered where `name` leads, which was not known.
    pub fn settle(&self, name: &Name, attr: Option<Attr>, heard: Heard) {
        let mut inner = self.inner.lock();
        let known = inner.entries.find(name);
        if known.is_some_and(|known| known.is_unknown) {
            inner.entries.set(name, attr, heard);
            inner.digest.forget();
        }
    }

    /// Whether names have come and gone in it so often that a new one is better.
    pub fn is_worn(&self) -> bool {
        self.inner.lock().entries.is_worn()
    }

    /// Whether it is complete and all of it still believed.
    pub fn is_believed(&self, terms: &Terms) -> bool {
        let inner = self.inner.lock();
        inner.is_complete() && terms.believes(inner.heard) && inner.entries.is_known()
    }

    /// Whether its beginning is still believed, so that a reader may join while it arrives.
    pub fn is_joinable(&self, terms: &Terms) -> bool {
        let inner = self.inner.lock();
        !matches!(inner.state, State::Failed(_))
            && terms.believes(inner.heard)
            && inner.entries.is_known()
    }

    /// When all of it was asked for and told.
    pub fn heard(&self) -> Heard {
        self.inner.lock().heard
    }

    /// The host said, when asked so, that nothing has changed.
    pub fn confirm(&self, heard: Heard) {
        let mut inner = self.inner.lock();
        inner.heard = inner.heard.later(heard);
        inner.standing = Standing::Told;
    }

    /// Waits until all of it is here. False if it broke off, or has more than `most` entries.
    pub async fn is_whole(&self, most: usize) -> bool {
        loop {
            let mut progress = {
                let inner = self.inner.lock();
                match &inner.state {
                    _ if inner.entries.len() > most => return false,
                    State::Arriving(arrival) => arrival.progress.subscribe(),
                    State::Complete => return true,
                    State::Failed(_) => return false,
                }
            };
            let _ = progress.changed().await;
        }
    }

    /// How many entries have arrived.
    pub fn arrived(&self) -> usize {
        self.inner.lock().entries.len()
    }

    /// Bytes of memory it takes.
    pub(super) fn bytes(&self) -> usize {
        let inner = self.inner.lock();
        let arrival = match inner.state {
            State::Arriving(_) => ARRIVAL_BYTES,
            _ => 0,
        };
        size_of::<Self>() + inner.entries.bytes() + arrival
    }

    /// Whether more of it may come.
    pub(super) fn is_arriving(&self) -> bool {
        matches!(self.inner.lock().state, State::Arriving(_))
    }
}

impl Inner {
    fn is_complete(&self) -> bool {
        matches!(self.state, State::Complete)
    }

    /// The entries from number `from` on that lead to something, or may.
    fn stretch(&self, from: usize, max: usize) -> Stretch {
        let mut stretch = Stretch::default();
        for number in from..self.entries.len() {
            if stretch.listed.len() + stretch.unknown.len() >= max {
                break;
            }
            match self.entries.get(number) {
                Some((name, present)) if present.is_unknown => {
                    stretch.unknown.push((number, name));
                }
                Some((name, present)) => {
                    stretch.listed.extend(present.attr.map(|attr| Listed {
                        number,
                        entry: Entry { name, attr },
                        heard: present.heard.later(self.heard),
                    }));
                }
                None => {}
            }
        }
        stretch
    }
}

impl Arrival {
    /// A reader is about to read up to entry number `until`.
    fn want(&self, until: usize) {
        self.wanted.send_if_modified(|wanted| {
            let further = until > *wanted;
            *wanted = until.max(*wanted);
            further
        });
    }
}

/// Resolves when the listing itself, which holds the sender, has been dropped.
async fn readers_left(wanted: &mut watch::Receiver<usize>) {
    while wanted.changed().await.is_ok() {}
}

async fn next_frame(payload: &mut Payload) -> Result<ListFrame, CallError> {
    let mut prefix = [0; FRAME_PREFIX_BYTES];
    read_exact(payload, &mut prefix).await?;
    let len = body_len::<ListFrame>(prefix).map_err(|_| CallError::Violation)?;
    let mut body = vec![0; len];
    read_exact(payload, &mut body).await?;
    ListFrame::from_body(&body).map_err(|_| CallError::Violation)
}

async fn read_exact(payload: &mut Payload, buf: &mut [u8]) -> Result<(), CallError> {
    match payload.read_exact(buf).await {
        Ok(_) => Ok(()),
        Err(error) => Err(CallError::from_io(&error)),
    }
}
