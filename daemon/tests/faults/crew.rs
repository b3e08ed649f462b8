//! Writers at work.

use super::account::Account;
use super::writers::{Writer, files, log, slots, stream};
use super::{PATIENCE, Stage};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc;
use std::time::Instant;

/// Threads that write until they are told to stop.
pub(crate) struct Crew {
    stop: Arc<AtomicBool>,
    accounts: mpsc::Receiver<Account>,
    count: usize,
}

impl Crew {
    /// All ways to write at once, in `dir`.
    pub(crate) fn at(dir: &Path) -> Self {
        Self::of(
            dir,
            &[
                ("files-a", files),
                ("files-b", files),
                ("stream", stream),
                ("slots", slots),
                ("log", log),
            ],
        )
    }

    /// Some writers, by name.
    pub(crate) fn of(dir: &Path, writers: &[(&'static str, Writer)]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (send, accounts) = mpsc::channel();
        for (who, writer) in writers {
            let (dir, who, writer) = (dir.to_path_buf(), *who, *writer);
            let (stop, send) = (stop.clone(), send.clone());
            std::thread::spawn(move || {
                let mut account = Account::default();
                writer(&dir, who, &stop, &mut account);
                let _ = send.send(account);
            });
        }
        Self {
            stop,
            accounts,
            count: writers.len(),
        }
    }

    /// Ends the work.
    pub(crate) fn rest(self) -> Accounts {
        self.stop.store(true, SeqCst);
        let next = |_| self.accounts.recv_timeout(PATIENCE);
        Accounts(
            (0..self.count)
                .map(|_| next(()))
                .map(|a| a.expect("a writer hangs"))
                .collect(),
        )
    }
}

/// What all of a crew were told.
pub(crate) struct Accounts(Vec<Account>);

impl Accounts {
    /// Every promise was kept, as seen on the host's disk and, if it is there, through the mount.
    pub(crate) fn check(&self, stage: &Stage) {
        self.check_in(stage, "");
    }

    /// The same, of work done in the folder `sub`.
    pub(crate) fn check_in(&self, stage: &Stage, sub: &str) {
        let mut places = vec![stage.share().join(sub)];
        if stage.is_mounted() {
            places.push(stage.mnt().join(sub));
        }
        for place in places {
            let broken: Vec<String> = self.0.iter().flat_map(|a| a.broken(&place)).collect();
            assert!(
                broken.is_empty(),
                "{} promises broken in {}:\n{}\nerrors of the writers: {:?}",
                broken.len(),
                place.display(),
                broken[..broken.len().min(20)].join("\n"),
                self.errors(),
            );
        }
    }

    /// Enough was promised for the test to mean something.
    pub(crate) fn at_least(&self, promises: usize) {
        let made: usize = self.0.iter().map(Account::len).sum();
        assert!(
            made >= promises,
            "only {made} promises; errors: {:?}",
            self.errors()
        );
    }

    /// Each writer has been told something since.
    pub(crate) fn went_on_after(&self, moment: Instant) {
        for (index, account) in self.0.iter().enumerate() {
            assert!(
                account.last.is_some_and(|last| last > moment),
                "writer {index} did not go on; errors: {:?}",
                self.errors()
            );
        }
    }

    /// No writer has noticed anything.
    pub(crate) fn without_errors(&self) {
        assert_eq!(self.errors(), Vec::<&str>::new());
    }

    /// Some of the errors.
    pub(crate) fn errors(&self) -> Vec<&str> {
        let errors = self.0.iter().flat_map(|a| a.errors.iter().take(5));
        errors.map(|(_, text)| text.as_str()).collect()
    }

    /// When errors came.
    pub(crate) fn error_times(&self) -> Vec<Instant> {
        let errors = self.0.iter().flat_map(|a| &a.errors);
        errors.map(|(at, _)| *at).collect()
    }
}

/// On a plain folder all is well, and whatever is then spoilt is noticed.
#[test]
fn a_broken_promise_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let crew = Crew::at(dir.path());
    super::sleep(0.2);
    let accounts = crew.rest();
    let broken = || -> Vec<String> {
        let all = accounts.0.iter();
        all.flat_map(|account| account.broken(dir.path())).collect()
    };
    assert_eq!(broken(), Vec::<String>::new());
    accounts.without_errors();
    accounts.at_least(20);
    let spoil = |name: &str, change: fn(&mut Vec<u8>)| {
        let path = dir.path().join(name);
        let good = std::fs::read(&path).unwrap();
        let mut bad = good.clone();
        change(&mut bad);
        std::fs::write(&path, bad).unwrap();
        assert!(!broken().is_empty(), "{name}");
        std::fs::write(&path, good).unwrap();
    };
    spoil("files-a-3", |bytes| bytes.truncate(4095));
    spoil("files-b-5", |bytes| bytes[199_999] ^= 1);
    spoil("stream-0", |bytes| bytes[500_000] = !bytes[500_000]);
    spoil("slots", |bytes| bytes[4096 + 100] ^= 1);
    spoil("log", |bytes| bytes.extend_from_within(..64));
    spoil("log", |bytes| drop(bytes.drain(64..128)));
    std::fs::remove_file(dir.path().join("files-a-0")).unwrap();
    assert_eq!(broken().len(), 1);
}
