//! What a mount does when `wormhole warm`, `pin`, `unpin`, `watch` or `drain` ask it to.

use crate::control::{ControlSocket, Listener, Order, Word, socket::Tell};
use crate::mount::Mounted;
use crate::mount::pins::Pins;
use crate::mount::vfs::Vfs;
use crate::mount::warm::{Progress, Warmer, Warmth};
use crate::mount::watch::{self, Event};
use crate::path_text::PathText;
use crate::status::RuntimeDir;
use futures_util::FutureExt;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::mpsc;

/// Between two words about how far it is.
const PROGRESS_PAUSE: Duration = Duration::from_millis(100);
/// Events that may wait to be told.
const EVENTS_MAX: usize = 256;

/// Listens for orders to a mount; that it cannot is no reason not to mount.
pub(super) fn bind(mounted: &Arc<Mounted>) -> Option<ControlSocket> {
    // Weak: an order must not keep a mount from ending.
    let mounted: Weak<Mounted> = Arc::downgrade(mounted);
    let listener: Listener = Arc::new(move |order, tell| {
        let able = match mounted.upgrade() {
            Some(mounted) => Ok(Able {
                vfs: mounted.vfs().clone(),
                pins: mounted.pins().clone(),
            }),
            None => Err("the mount is ending".to_owned()),
        };
        async move {
            let end = match able {
                Ok(able) => able.carry_out(&order, &tell).await,
                Err(why) => Err(why),
            };
            let word = end.unwrap_or_else(|why| Word::Failed { why });
            // Nobody may be listening any more.
            let _ = tell.send(word).await;
        }
        .boxed()
    });
    let bound = RuntimeDir::open().and_then(|dir| ControlSocket::bind(&dir, "mount", listener));
    bound
        .inspect_err(|error| tracing::warn!("nothing can be pinned or fetched ahead: {error}"))
        .ok()
}

/// What carries orders out.
struct Able {
    vfs: Arc<Vfs>,
    pins: Arc<Pins>,
}

impl Able {
    async fn carry_out(&self, order: &Order, tell: &Tell) -> Result<Word, String> {
        match order {
            Order::Watch { path } => Err(watch(&self.vfs, path, tell).await),
            Order::Drain => Ok(drain(&self.vfs, tell).await),
            Order::Warm { .. } | Order::Pin { .. } | Order::Unpin { .. } => {
                let warmer = Warmer::new(&self.vfs).map_err(|error| error.to_string())?;
                let done = carry_out(&warmer, &self.pins, order, tell).await;
                done.map(Word::Done)
            }
        }
    }
}

/// Waits, however long it takes, until the host has everything; says what was lost.
async fn drain(vfs: &Vfs, tell: &Tell) -> Word {
    let drained = async { while !vfs.drain(PROGRESS_PAUSE).await {} };
    let telling = async {
        loop {
            tokio::time::sleep(PROGRESS_PAUSE).await;
            let word = Word::Draining {
                changes: vfs.pending().snapshot().changes,
                bytes: vfs.write_buffer().stats().dirty_bytes,
                connected: vfs.is_connected(),
            };
            let _ = tell.send(word).await;
        }
    };
    tokio::select! {
        () = drained => {}
        () = telling => {}
    }
    let (lost, losses) = vfs.pending().tell_losses();
    Word::Drained { lost, losses }
}

/// Tells what changes; ends with the reason why it cannot go on.
async fn watch(vfs: &Arc<Vfs>, path: &PathText, tell: &Tell) -> String {
    let (events, mut heard) = mpsc::channel(EVENTS_MAX);
    let watching = watch::watch(vfs, path, events);
    let telling = async {
        while let Some(event) = heard.recv().await {
            let word = match event {
                Event::Ready { directories, names } => Word::Watching { directories, names },
                Event::Change { what, path, kind } => Word::Change {
                    what,
                    path: path.into(),
                    kind,
                },
            };
            if tell.send(word).await.is_err() {
                return;
            }
        }
    };
    // What happened before the end is told before it.
    let (ended, ()) = tokio::join!(watching, telling);
    match ended {
        Ok(never) => match never {},
        Err(error) => error.to_string(),
    }
}

async fn carry_out(
    warmer: &Warmer,
    pins: &Pins,
    order: &Order,
    tell: &Tell,
) -> Result<Warmth, String> {
    let progress = Progress::default();
    let work = async {
        match order {
            Order::Warm { path, check } => warm(warmer, path, *check, &progress).await,
            Order::Pin { path } => {
                let pinned = pins.pin(warmer, path, &progress).await;
                pinned.map_err(|error| error.to_string())
            }
            Order::Unpin { path } => {
                let unpinned = pins.unpin(warmer, path).await;
                unpinned.map_err(|error| error.to_string())
            }
            Order::Watch { .. } | Order::Drain => Err("this brings nothing".to_owned()),
        }
    };
    tokio::select! {
        done = work => done.map(|()| progress.snapshot()),
        never = tell_progress(&progress, tell) => match never {},
    }
}

async fn warm(
    warmer: &Warmer,
    path: &PathText,
    check: bool,
    progress: &Progress,
) -> Result<(), String> {
    let surveyed = warmer.check(path, progress).await;
    surveyed.map_err(|error| error.to_string())?;
    if check {
        return Ok(());
    }
    let room = warmer.require_room(&progress.snapshot());
    room.map_err(|error| error.to_string())?;
    let brought = warmer.bring(path, progress).await;
    brought.map(drop).map_err(|error| error.to_string())
}

async fn tell_progress(progress: &Progress, tell: &Tell) -> std::convert::Infallible {
    let mut told = None;
    loop {
        tokio::time::sleep(PROGRESS_PAUSE).await;
        let now = progress.snapshot();
        if told.as_ref() != Some(&now) {
            // Whoever does not listen any more will be noticed where the connection is.
            let _ = tell.send(Word::Progress(now.clone())).await;
            told = Some(now);
        }
    }
}
