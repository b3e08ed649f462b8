//! Ending on request: the first SIGINT, SIGTERM or SIGHUP asks, the second one insists.
//!
//! A [`Shutdown`] can be cloned and awaited anywhere; it stays requested once it is. What to do about
//! it is the business of whoever owns something.

use std::io;
use std::sync::Arc;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// A way to be asked, by the name and number of its signal.
#[derive(Debug, Clone, Copy)]
struct Asked {
    name: &'static str,
    number: u8,
}

const INTERRUPT: Asked = Asked {
    name: "SIGINT",
    number: 2,
};
const TERMINATE: Asked = Asked {
    name: "SIGTERM",
    number: 15,
};
const HANGUP: Asked = Asked {
    name: "SIGHUP",
    number: 1,
};

impl Asked {
    /// What a process that ends because of it exits with, as shells report it.
    fn exit_code(self) -> u8 {
        128 + self.number
    }
}

/// Whether the process has been asked to end.
#[derive(Debug, Clone)]
pub struct Shutdown {
    asked: watch::Receiver<Option<Asked>>,
    // Keeps the channel open for shutdowns that no signal ends.
    asking: Arc<watch::Sender<Option<Asked>>>,
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
            let first = signals.next().await;
            tracing::info!("{}: ending; once more to end at once", first.name);
            asking.send_replace(Some(first));
            let second = signals.next().await;
            last_act();
            std::process::exit(second.exit_code().into());
        });
        Ok(shutdown)
    }

    /// One that only [`Self::request`] triggers.
    pub fn manual() -> Self {
        let (asking, asked) = watch::channel(None);
        Self {
            asked,
            asking: Arc::new(asking),
        }
    }

    /// Asks the process to end, as SIGTERM would.
    pub fn request(&self) {
        self.asking.send_replace(Some(TERMINATE));
    }

    /// Whether it has been asked.
    pub fn is_requested(&self) -> bool {
        self.exit_code().is_some()
    }

    /// Once it has been asked, the exit code that tells by what: 130 for SIGINT, 143 for SIGTERM.
    pub fn exit_code(&self) -> Option<u8> {
        self.asked.borrow().map(Asked::exit_code)
    }

    /// Resolves when it has been asked.
    pub async fn requested(&self) {
        let mut asked = self.asked.clone();
        // The sender lives as long as `self`, so this cannot fail.
        let _ = asked.wait_for(Option::is_some).await;
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

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.interrupt.recv() => INTERRUPT,
            _ = self.terminate.recv() => TERMINATE,
            _ = self.hangup.recv() => HANGUP,
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
        assert!(!shutdown.is_requested() && shutdown.exit_code().is_none());
        shutdown.request();
        waiting.await.unwrap();
        assert!(shutdown.is_requested());
        assert_eq!(shutdown.exit_code(), Some(143));
        shutdown.requested().await;
    }

    #[tokio::test]
    async fn the_first_signal_asks() {
        // SIGHUP: the test harness itself does not use it.
        let shutdown = Shutdown::install(|| ()).unwrap();
        let own = rustix::process::getpid();
        rustix::process::kill_process(own, rustix::process::Signal::HUP).unwrap();
        shutdown.requested().await;
        assert_eq!(shutdown.exit_code(), Some(129));
    }
}
