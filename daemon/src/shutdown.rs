//! Ending on request: the first SIGINT, SIGTERM or SIGHUP asks, the second one insists.
//!
//! A [`Shutdown`] can be cloned and awaited anywhere; it stays requested once it is. What to do about
//! it is the business of whoever owns something.

use std::io;
use std::sync::Arc;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// The exit code after a second signal: 128 + SIGINT, as shells report it.
const INSISTED: i32 = 130;

/// Whether the process has been asked to end.
#[derive(Debug, Clone)]
pub struct Shutdown {
    asked: watch::Receiver<bool>,
    // Keeps the channel open for shutdowns that no signal ends.
    asking: Arc<watch::Sender<bool>>,
}

impl Shutdown {
    /// Catches the signals from now on. On the second one `last_act` runs and the process exits.
    ///
    /// # Errors
    /// If the handlers cannot be installed.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn install(last_act: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        let shutdown = Self::manual();
        let mut signals = Signals::new()?;
        let asking = shutdown.asking.clone();
        tokio::spawn(async move {
            let name = signals.next().await;
            tracing::info!("{name}: ending; once more to end at once");
            asking.send_replace(true);
            signals.next().await;
            last_act();
            std::process::exit(INSISTED);
        });
        Ok(shutdown)
    }

    /// One that only [`Self::request`] triggers.
    pub fn manual() -> Self {
        let (asking, asked) = watch::channel(false);
        Self {
            asked,
            asking: Arc::new(asking),
        }
    }

    /// Asks the process to end, as a signal would.
    pub fn request(&self) {
        self.asking.send_replace(true);
    }

    /// Whether it has been asked.
    pub fn is_requested(&self) -> bool {
        *self.asked.borrow()
    }

    /// Resolves when it has been asked.
    pub async fn requested(&self) {
        let mut asked = self.asked.clone();
        // The sender lives as long as `self`, so this cannot fail.
        let _ = asked.wait_for(|asked| *asked).await;
    }
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.hangup.recv() => "SIGHUP",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_reaches_every_clone_and_stays() {
        let shutdown = Shutdown::manual();
        let other = shutdown.clone();
        let waiting = tokio::spawn(async move { other.requested().await });
        assert!(!shutdown.is_requested());
        shutdown.request();
        waiting.await.unwrap();
        assert!(shutdown.is_requested());
        shutdown.requested().await;
    }

    #[tokio::test]
    async fn the_first_signal_asks() {
        // SIGHUP: the test harness itself does not use it.
        let shutdown = Shutdown::install(|| ()).unwrap();
        let own = rustix::process::getpid();
        rustix::process::kill_process(own, rustix::process::Signal::HUP).unwrap();
        shutdown.requested().await;
    }
}
