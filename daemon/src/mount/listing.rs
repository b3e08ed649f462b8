//! Directory contents: streamed in, read while they arrive, believed for a while.
//!
//! A listing is one request; its entries come with attributes. Readers wait for the entry they are at,
//! not for the end. The stream is not drawn further than [`AHEAD_ENTRIES`] past the last reader, so a
//! listing nobody reads to its end costs little. A complete listing answers lookups, negative ones
//! too, for as long as its entries are believed; a host that says that it has not changed begins that
//! time anew. What this mount changes, and what the host tells of changes, is put into it as it happens.
//!
//! Locks: `entries`, `heard`; neither while the other is held, nor across an await.

use super::beliefs::Told;
use super::error::FsError;
use super::heard::Heard;
use super::lease::Terms;
use crate::rpc::{Answer, CallError, Payload};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tokio::io::AsyncReadExt;
use tokio::sync::watch;
use tokio::time::Instant;
use wormhole_protocol::codec::{Wire, body_len};
use wormhole_protocol::limits::{FRAME_PREFIX_BYTES, LIST_DIGEST_ENTRIES_MAX, LIST_ENTRIES_MAX};
use wormhole_protocol::{Attr, Entry, ListFrame, ListingDigest, ListingDigester, Name};

/// Entries drawn ahead of the reader. Large, because a listing left waiting holds a stream at the host,
/// which takes it back after a while: a slow `find` must not lose its place in any but huge directories.
const AHEAD_ENTRIES: usize = 256 * 1024;
/// Places in a listing that names have left, beyond as many as there are names: then it is of no more use.
const GONE_MAX: usize = 4096;

/// An entry, and when the host told of it.
#[derive(Clone)]
pub struct Listed {
    /// The entry.
    pub entry: Arc<Entry>,
    /// When it was asked for, and arrived.
    pub heard: Heard,
    /// The name was taken away since; it only keeps its number.
    pub gone: bool,
}

/// How far a listing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Arriving(usize),
    Complete(usize),
    Failed(FsError),
}

#[derive(Default)]
struct Entries {
    listed: Vec<Listed>,
    by_name: HashMap<Name, usize>,
    /// Names that were given or taken since the listing was asked for; what arrives of them is older.
    later: HashMap<Name, Instant>,
    /// Names of which nobody knows where they lead.
    unknown: HashSet<Name>,
    /// Of these entries, once it was asked for.
    digest: Option<Option<ListingDigest>>,
}

impl Entries {
    fn push(&mut self, entry: Entry, heard: Heard) {
        self.by_name.insert(entry.name.clone(), self.listed.len());
        self.listed.push(Listed {
            entry: Arc::new(entry),
            heard,
            gone: false,
        });
    }

    fn remove(&mut self, name: &Name) {
        if let Some(number) = self.by_name.remove(name) {
            self.listed[number].gone = true;
        }
    }
}

/// The entries of one directory, as they arrive.
pub struct Listing {
    asked: Instant,
    /// When it was asked for and began to arrive, or was last asked for and found unchanged.
    heard: Mutex<Heard>,
    entries: Mutex<Entries>,
    progress: watch::Sender<Progress>,
    /// Highest entry a reader asked for.
    wanted: watch::Sender<usize>,
}

impl Listing {
    /// A listing that draws from `answer` in a task of its own, which ends when the last reference to
    /// the listing goes or its stream does.
    pub fn start(answer: Answer, heard: Heard) -> Arc<Self> {
        let listing = Arc::new(Self {
            asked: heard.asked,
            heard: Mutex::new(heard),
            entries: Mutex::default(),
            progress: watch::Sender::new(Progress::Arriving(0)),
            wanted: watch::Sender::new(0),
        });
        let weak = Arc::downgrade(&listing);
        let mut wanted = listing.wanted.subscribe();
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
                let more = wanted.wait_for(|wanted| total < wanted + AHEAD_ENTRIES);
                if more.await.is_err() {
                    return;
                }
            }
        });
        listing
    }

    /// The listing of a directory that was made when this was asked, and so held nothing.
    pub fn empty(asked: Instant) -> Arc<Self> {
        Arc::new(Self {
            asked,
            heard: Mutex::new(asked.into()),
            entries: Mutex::default(),
            progress: watch::Sender::new(Progress::Complete(0)),
            wanted: watch::Sender::new(0),
        })
    }

    /// Adds a frame; the number of entries so far, or `None` if that was the end.
    fn take(&self, frame: Result<ListFrame, CallError>) -> Option<usize> {
        let heard = Heard::since(self.asked).leased(self.heard().leased);
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => {
                self.progress.send_replace(Progress::Failed(error.into()));
                return None;
            }
        };
        let total = {
            let mut entries = self.entries.lock();
            for entry in frame.entries {
                // A host that names an entry twice is not believed the second time.
                let known = entries.by_name.contains_key(&entry.name);
                if !known && !entries.later.contains_key(&entry.name) {
                    entries.push(entry, heard);
                }
            }
            entries.listed.len()
        };
        let progress = match (frame.last, total > LIST_ENTRIES_MAX) {
            (_, true) => Progress::Failed(FsError::Io),
            (true, _) => Progress::Complete(total),
            (false, _) => Progress::Arriving(total),
        };
        self.progress.send_replace(progress);
        matches!(progress, Progress::Arriving(_)).then_some(total)
    }

    /// Up to `max` entries from number `from` on; empty at the end. Waits for the first of them only.
    ///
    /// # Errors
    /// What broke the stream, once the entries before the break are used up.
    pub async fn page(&self, from: usize, max: usize) -> Result<Vec<Listed>, FsError> {
        self.wanted.send_if_modified(|wanted| {
            let further = from + max > *wanted;
            *wanted = (*wanted).max(from + max);
            further
        });
        let mut progress = self.progress.subscribe();
        let arrived = progress
            .wait_for(|progress| !matches!(progress, Progress::Arriving(n) if *n <= from))
            .await
            .map(|progress| *progress);
        let listed = {
            let entries = self.entries.lock();
            let end = entries.listed.len().min(from.saturating_add(max));
            entries.listed.get(from..end).unwrap_or_default().to_vec()
        };
        let confirmed = self.heard();
        let listed = listed.into_iter().map(|listed| Listed {
            heard: listed.heard.later(confirmed),
            ..listed
        });
        let listed: Vec<_> = listed.collect();
        match arrived {
            Ok(Progress::Failed(error)) if listed.is_empty() => Err(error),
            _ => Ok(listed),
        }
    }

    /// What a complete and still believed listing says of `name`; `None` = ask the host.
    pub fn find(&self, name: &Name, terms: &Terms) -> Option<Told> {
        if !self.is_complete() {
            return None;
        }
        let whole = self.heard();
        let entries = self.entries.lock();
        if entries.unknown.contains(name) {
            return None;
        }
        let listed = entries.by_name.get(name).map(|at| &entries.listed[*at]);
        let heard = listed.map_or(whole, |listed| listed.heard.later(whole));
        // What is in it may have been told later than the rest; what is not in it was told with the rest.
        let told = Told::new(listed.map(|listed| listed.entry.attr), heard);
        terms.believes(whole).then_some(told)
    }

    /// Where `name` led when it was last told, believed or not; none if that is not known.
    pub fn last_known(&self, name: &Name) -> Option<Option<Attr>> {
        let entries = self.entries.lock();
        if !self.is_complete() || entries.unknown.contains(name) {
            return None;
        }
        let listed = entries.by_name.get(name).map(|at| &entries.listed[*at]);
        Some(listed.map(|listed| listed.entry.attr))
    }

    /// When it was asked for.
    pub fn asked(&self) -> Instant {
        self.asked
    }

    /// `name` leads there now, or nowhere: this mount changed it, or the host told.
    pub fn set(&self, name: &Name, attr: Option<Attr>, heard: Heard) {
        let mut entries = self.entries.lock();
        let at = heard.told;
        if entries.later.get(name).is_some_and(|known| *known > at) {
            return;
        }
        entries.later.insert(name.clone(), at);
        entries.unknown.remove(name);
        entries.digest = None;
        let number = entries.by_name.get(name).copied();
        let is_same = |attr: &Attr| {
            let listed = number.and_then(|number| entries.listed.get(number));
            listed.is_some_and(|listed| listed.entry.attr.id == attr.id)
        };
        match (attr, number) {
            // The same file: it keeps its number.
            (Some(attr), Some(number)) if is_same(&attr) => {
                let entry = Entry {
                    name: name.clone(),
                    attr,
                };
                entries.listed[number].entry = Arc::new(entry);
                entries.listed[number].heard = heard;
            }
            (Some(attr), _) => {
                entries.remove(name);
                let name = name.clone();
                entries.push(Entry { name, attr }, heard);
            }
            (None, _) => entries.remove(name),
        }
    }

    /// The attributes of what `name` leads to have changed; if it leads elsewhere, nothing has.
    pub fn update(&self, name: &Name, attr: &Attr, heard: Heard) {
        let mut entries = self.entries.lock();
        let Some(number) = entries.by_name.get(name).copied() else {
            return;
        };
        if entries.listed[number].entry.attr.id == attr.id {
            let entry = Entry {
                name: name.clone(),
                attr: *attr,
            };
            entries.listed[number].entry = Arc::new(entry);
            entries.listed[number].heard = heard;
            entries.digest = None;
        }
    }

    /// Nobody knows where `name` leads: it is to be asked for.
    pub fn doubt(&self, name: &Name, at: Instant) {
        let mut entries = self.entries.lock();
        entries.later.insert(name.clone(), at);
        entries.unknown.insert(name.clone());
        entries.digest = None;
    }

    /// The host has answered where `name` leads, which was not known.
    pub fn settle(&self, name: &Name, attr: Option<Attr>, heard: Heard) {
        let is_unknown = self.entries.lock().unknown.contains(name);
        if is_unknown {
            self.set(name, attr, heard);
        }
    }

    /// Whether names have come and gone in it so often that a new one is better.
    pub fn is_worn(&self) -> bool {
        let entries = self.entries.lock();
        entries.listed.len() > 2 * entries.by_name.len() + GONE_MAX
    }

    fn is_complete(&self) -> bool {
        matches!(*self.progress.borrow(), Progress::Complete(_))
    }

    /// Whether it is complete and all of it still believed.
    pub fn is_believed(&self, terms: &Terms) -> bool {
        self.is_complete() && terms.believes(self.heard()) && self.is_known()
    }

    /// Whether its beginning is still believed, so that a reader may join while it arrives.
    pub fn is_joinable(&self, terms: &Terms) -> bool {
        !matches!(*self.progress.borrow(), Progress::Failed(_))
            && terms.believes(self.heard())
            && self.is_known()
    }

    /// Whether it is known where all names lead.
    fn is_known(&self) -> bool {
        self.entries.lock().unknown.is_empty()
    }

    /// When all of it was asked for and told.
    pub fn heard(&self) -> Heard {
        *self.heard.lock()
    }

    /// The host said, when asked so, that nothing has changed.
    pub fn confirm(&self, heard: Heard) {
        let mut known = self.heard.lock();
        *known = known.later(heard);
    }

    /// The digest of a complete listing that is not too long for one.
    pub fn digest(&self) -> Option<ListingDigest> {
        let mut entries = self.entries.lock();
        if !self.is_complete()
            || entries.by_name.len() > LIST_DIGEST_ENTRIES_MAX
            || !entries.unknown.is_empty()
        {
            return None;
        }
        if entries.digest.is_none() {
            let mut digester = ListingDigester::default();
            for listed in entries.listed.iter().filter(|listed| !listed.gone) {
                digester.add(&listed.entry);
            }
            entries.digest = Some(digester.finish());
        }
        entries.digest.flatten()
    }

    /// Waits until all of it is here. False if it broke off, or has more than `most` entries.
    pub async fn is_whole(&self, most: usize) -> bool {
        let mut progress = self.progress.subscribe();
        let settled = progress
            .wait_for(|progress| !matches!(progress, Progress::Arriving(n) if *n <= most))
            .await;
        matches!(settled.as_deref(), Ok(Progress::Complete(n)) if *n <= most)
    }

    /// How many entries have arrived.
    pub fn arrived(&self) -> usize {
        self.entries.lock().listed.len()
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
