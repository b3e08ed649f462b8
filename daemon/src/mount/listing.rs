//! Directory contents: streamed in, read while they arrive, believed for a while.
//!
//! A listing is one request; its entries come with attributes. Readers wait for the entry they are at,
//! not for the end. The stream is not drawn further than [`AHEAD_ENTRIES`] past the last reader, so a
//! listing nobody reads to its end costs little. A complete listing answers lookups, negative ones
//! too, for as long as its entries are believed; a host that says that it has not changed begins that
//! time anew.
//!
//! Locks: `entries`, `told`; neither while the other is held, nor across an await.

use super::beliefs::Told;
use super::error::FsError;
use super::heard::Heard;
use crate::rpc::{Answer, CallError, Payload};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::sync::watch;
use tokio::time::Instant;
use wormhole_protocol::codec::{Wire, body_len};
use wormhole_protocol::limits::{FRAME_PREFIX_BYTES, LIST_DIGEST_ENTRIES_MAX, LIST_ENTRIES_MAX};
use wormhole_protocol::{Attr, Entry, ListFrame, ListingDigest, ListingDigester, Name};

/// Entries drawn ahead of the reader. Large, because a listing left waiting holds a stream at the host,
/// which takes it back after a while: a slow `find` must not lose its place in any but huge directories.
const AHEAD_ENTRIES: usize = 256 * 1024;

/// An entry, and when the host told of it.
#[derive(Clone)]
pub struct Listed {
    /// The entry.
    pub entry: Arc<Entry>,
    /// When it arrived.
    pub told: Instant,
    /// When the listing was asked for.
    pub asked: Instant,
    /// This mount has taken the name away since; it only keeps its number.
    pub gone: bool,
}

impl Listed {
    /// When it was asked and told.
    pub fn heard(&self) -> Heard {
        Heard {
            asked: self.asked,
            told: self.told,
        }
    }
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
    /// Names this mount gave or took since the listing was asked for; what arrives of them is older.
    own: HashMap<Name, Instant>,
}

impl Entries {
    fn push(&mut self, entry: Entry, heard: Heard) {
        self.by_name.insert(entry.name.clone(), self.listed.len());
        self.listed.push(Listed {
            entry: Arc::new(entry),
            told: heard.told,
            asked: heard.asked,
            gone: false,
        });
    }
}

/// The entries of one directory, as they arrive.
pub struct Listing {
    asked: Instant,
    /// When it began to arrive, or was last asked for and found unchanged.
    told: Mutex<Instant>,
    digest: OnceLock<Option<ListingDigest>>,
    entries: Mutex<Entries>,
    progress: watch::Sender<Progress>,
    /// Highest entry a reader asked for.
    wanted: watch::Sender<usize>,
}

impl Listing {
    /// A listing that draws from `answer` in a task of its own, which ends when the last reference to
    /// the listing goes or its stream does.
    pub fn start(answer: Answer, asked: Instant) -> Arc<Self> {
        let listing = Arc::new(Self {
            asked,
            told: Mutex::new(Instant::now()),
            digest: OnceLock::new(),
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
            told: Mutex::new(asked),
            digest: OnceLock::new(),
            entries: Mutex::default(),
            progress: watch::Sender::new(Progress::Complete(0)),
            wanted: watch::Sender::new(0),
        })
    }

    /// Adds a frame; the number of entries so far, or `None` if that was the end.
    fn take(&self, frame: Result<ListFrame, CallError>) -> Option<usize> {
        let heard = Heard::since(self.asked);
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
                if !known && !entries.own.contains_key(&entry.name) {
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
        let confirmed = self.told();
        let listed = listed.into_iter().map(|listed| Listed {
            told: listed.told.max(confirmed),
            ..listed
        });
        let listed: Vec<_> = listed.collect();
        match arrived {
            Ok(Progress::Failed(error)) if listed.is_empty() => Err(error),
            _ => Ok(listed),
        }
    }

    /// What a complete and still believed listing says of `name`; `None` = ask the host.
    pub fn find(&self, name: &Name, ttl: Duration, now: Instant) -> Option<Told> {
        if !self.is_believed(ttl, now) {
            return None;
        }
        let told = self.told();
        let entries = self.entries.lock();
        let listed = entries.by_name.get(name).map(|at| &entries.listed[*at]);
        Some(Told {
            attr: listed.map(|listed| listed.entry.attr),
            at: listed.map_or(told, |listed| listed.told.max(told)),
            asked: listed.map_or(self.asked, |listed| listed.asked),
        })
    }

    /// When it was asked for.
    pub fn asked(&self) -> Instant {
        self.asked
    }

    /// This mount has given `name` to a node, or taken it away.
    pub fn set(&self, name: &Name, attr: Option<Attr>, at: Instant) {
        let mut entries = self.entries.lock();
        if entries.own.get(name).is_some_and(|known| *known > at) {
            return;
        }
        entries.own.insert(name.clone(), at);
        if let Some(number) = entries.by_name.remove(name) {
            entries.listed[number].gone = true;
        }
        if let Some(attr) = attr {
            let name = name.clone();
            entries.push(Entry { name, attr }, at.into());
        }
    }

    /// Whether it is complete and all of it still believed.
    pub fn is_believed(&self, ttl: Duration, now: Instant) -> bool {
        matches!(*self.progress.borrow(), Progress::Complete(_))
            && now.saturating_duration_since(self.told()) < ttl
    }

    /// Whether its beginning is still believed, so that a reader may join while it arrives.
    pub fn is_joinable(&self, ttl: Duration, now: Instant) -> bool {
        !matches!(*self.progress.borrow(), Progress::Failed(_))
            && now.saturating_duration_since(self.told()) < ttl
    }

    /// Since when all of it is believed.
    pub fn told(&self) -> Instant {
        *self.told.lock()
    }

    /// The host said, when asked at `asked`, that nothing has changed.
    pub fn confirm(&self, asked: Instant) {
        let mut told = self.told.lock();
        *told = (*told).max(asked);
    }

    /// The digest of a complete listing that is not too long for one.
    pub fn digest(&self) -> Option<ListingDigest> {
        if !matches!(*self.progress.borrow(), Progress::Complete(n) if n <= LIST_DIGEST_ENTRIES_MAX)
        {
            return None;
        }
        *self.digest.get_or_init(|| {
            let entries = self.entries.lock().listed.clone();
            let mut digester = ListingDigester::default();
            for listed in entries {
                digester.add(&listed.entry);
            }
            digester.finish()
        })
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
