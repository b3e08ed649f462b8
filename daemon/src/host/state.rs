//! What the host remembers of its shares between runs: identity, tickets, last port.
//!
//! One JSON file per share in `shares/` beneath the state directory, named by a hash of the share's
//! canonical path and name: the same folder served under the same name is the same share again. The
//! directory is private (0700), the files too (0600): they hold ticket secrets, in hex.
//!
//! A file is replaced as a whole (written beside it, synced, renamed, directory synced), so a crash
//! leaves the old or the new one. A file that makes no sense is never overwritten: its tickets may be
//! out in the world. A lock file beside each is held while the share is served; a second host of the
//! same share is refused.
//!
//! Lock: `record`, held while the file is written: callers are the command line at start and end,
//! never a request. Admitting reads it for a moment.

mod file;

use super::share::Share;
use super::tickets::{Book, Ticket, TicketLimits, TicketSnapshot, hex, unhex};
use file::{Stored, format_for, io_error, load, lock, save, shown};
use parking_lot::Mutex;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use wormhole_protocol::limits::TICKET_SECRET_BYTES;
use wormhole_protocol::{Secret, ShareId, TicketId};

/// Why the state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The disk.
    #[error("cannot use the state in {path}: {source}")]
    Io {
        /// File or directory.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The directory belongs to someone else, who could read the secrets in it.
    #[error("{0} belongs to another user: ticket secrets cannot be kept there")]
    ForeignDirectory(String),
    /// Damaged.
    #[error(
        "{0} is damaged: it holds the tickets of a share. Restore it, or move it away to begin anew (tickets given out then no longer work)"
    )]
    Corrupt(String),
    /// Written by a later version.
    #[error("{path} has format {format}, which this version of Wormhole does not know: update it")]
    UnknownFormat {
        /// File.
        path: String,
        /// Its format.
        format: u32,
    },
    /// Served already.
    #[error("another `wormhole host` is serving this folder under this name")]
    InUse,
    /// No room for another ticket.
    #[error("{0}")]
    TooManyTickets(String),
    /// The system gives no random bytes.
    #[error("the system gave no random bytes for a secret: {0}")]
    Random(String),
}

/// The state directory of a host.
#[derive(Debug)]
pub struct HostState {
    dir: PathBuf,
    shares: PathBuf,
}

/// What is remembered of one share; locked against other hosts while it exists.
#[derive(Debug)]
pub struct ShareState {
    id: ShareId,
    /// The state directory, and what is in it of ours.
    dirs: [PathBuf; 2],
    file: PathBuf,
    share_path: String,
    share_name: String,
    record: Mutex<Record>,
    _lock: File,
}

#[derive(Debug, Clone, Default)]
struct Record {
    port: Option<u16>,
    book: Book,
}

impl HostState {
    /// Opens, or makes, the state in `dir`.
    ///
    /// # Errors
    /// [`StateError::Io`], [`StateError::ForeignDirectory`].
    pub fn open(dir: &Path) -> Result<Self, StateError> {
        let made = |path: &Path| {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
            made.and_then(|()| path.canonicalize())
                .map_err(|e| io_error(path, e))
        };
        // The directory may be anything the user named; only the one beneath it is ours to close.
        let dir = made(dir)?;
        let shares = made(&dir.join("shares"))?;
        let told = |e| io_error(&shares, e);
        let meta = fs::metadata(&shares).map_err(told)?;
        if meta.uid() != rustix::process::geteuid().as_raw() {
            return Err(StateError::ForeignDirectory(shown(&shares)));
        }
        if meta.mode() & 0o077 != 0 {
            fs::set_permissions(&shares, Permissions::from_mode(0o700)).map_err(told)?;
        }
        Ok(Self { dir, shares })
    }

    /// What is remembered of `share`, or a new identity for it.
    ///
    /// # Errors
    /// [`StateError::InUse`] if another host has it; [`StateError::Corrupt`] and
    /// [`StateError::UnknownFormat`], which change nothing on disk; [`StateError::Io`].
    pub fn share(&self, share: &Share) -> Result<ShareState, StateError> {
        let path = share.path().as_os_str().as_bytes();
        let mut hasher = blake3::Hasher::new_derive_key("wormhole 2026-11 host share state");
        hasher.update(path).update(&[0]);
        hasher.update(share.name().as_bytes());
        let key = hex(&hasher.finalize().as_bytes()[..16]);
        let lock = lock(&self.shares.join(format!("{key}.lock")))?;
        let file = self.shares.join(format!("{key}.json"));
        let (share_path, share_name) = (path.escape_ascii().to_string(), share.name().to_string());
        let (id, record) = match load(&file)? {
            Some(stored) => {
                let corrupt = || StateError::Corrupt(shown(&file));
                if (&stored.path, &stored.name) != (&share_path, &share_name) {
                    return Err(corrupt());
                }
                let id = ShareId(unhex(&stored.share).ok_or_else(corrupt)?);
                let book = Book::from_records(&stored.tickets).ok_or_else(corrupt)?;
                let port = stored.port;
                (id, Record { port, book })
            }
            None => (ShareId(random()?), Record::default()),
        };
        let state = ShareState {
            id,
            dirs: [self.dir.clone(), self.shares.clone()],
            file,
            share_path,
            share_name,
            record: Mutex::new(record),
            _lock: lock,
        };
        // The identity must be the same next time, whether or not a ticket is issued.
        state.change(|record| Ok(record.clone()))?;
        Ok(state)
    }
}

impl ShareState {
    /// The share's identity.
    pub fn id(&self) -> ShareId {
        self.id
    }

    /// The port the share was last served on.
    pub fn port(&self) -> Option<u16> {
        self.record.lock().port
    }

    /// Remembers the port.
    ///
    /// # Errors
    /// [`StateError::Io`].
    pub fn set_port(&self, port: u16) -> Result<(), StateError> {
        self.change(|record| {
            Ok(Record {
                port: Some(port),
                ..record.clone()
            })
        })
    }

    /// The secret of a ticket that allows `limits`: without limits the share's default ticket for that
    /// access, the same each time until it is revoked; else a new one. `now` is in seconds since 1970.
    ///
    /// # Errors
    /// [`StateError`]; then nothing was issued.
    pub fn issue(&self, limits: TicketLimits, now: u64) -> Result<Secret, StateError> {
        if limits.is_unlimited()
            && let Some(ticket) = self.record.lock().book.default_ticket(limits.access)
        {
            return Ok(ticket.secret.clone());
        }
        let secret = Secret::from_bytes(random::<TICKET_SECRET_BYTES>()?);
        self.change(|record| {
            let mut record = record.clone();
            let issued = record.book.issue(secret.clone(), limits, now);
            issued.map_err(|full| StateError::TooManyTickets(full.to_string()))?;
            Ok(record)
        })?;
        Ok(secret)
    }

    /// Ends every ticket of the share; sessions they let in are denied from now on.
    ///
    /// # Errors
    /// [`StateError::Io`]: the tickets are ended for this run, but may be back after a restart.
    pub fn revoke_all(&self) -> Result<(), StateError> {
        let book = self.record.lock().book.clone();
        book.revoke();
        self.change(|record| {
            Ok(Record {
                book: Book::emptied(),
                ..record.clone()
            })
        })
    }

    /// The tickets, without their secrets. `now` is in seconds since 1970.
    pub fn tickets(&self, now: u64) -> Vec<TicketSnapshot> {
        self.record.lock().book.snapshot(now)
    }

    /// Where secrets lie: what no share may show.
    pub(super) fn dirs(&self) -> &[PathBuf] {
        &self.dirs
    }

    /// The ticket named `id`, expired or not.
    pub(super) fn find(&self, id: TicketId) -> Option<Arc<Ticket>> {
        self.record.lock().book.find(id).cloned()
    }

    /// Puts what `changed` makes of the record on disk, then in its place.
    fn change(
        &self,
        changed: impl FnOnce(&Record) -> Result<Record, StateError>,
    ) -> Result<(), StateError> {
        let mut record = self.record.lock();
        let new = changed(&record)?;
        let tickets = new.book.records();
        let stored = Stored {
            format: format_for(&tickets),
            share: self.id.to_string(),
            path: self.share_path.clone(),
            name: self.share_name.clone(),
            port: new.port,
            tickets,
        };
        save(&self.file, &stored).map_err(|e| io_error(&self.file, e))?;
        *record = new;
        Ok(())
    }
}

fn random<const N: usize>() -> Result<[u8; N], StateError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|e| StateError::Random(e.to_string()))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wormhole_protocol::{Access, Name};

    struct Place {
        dir: tempfile::TempDir,
    }

    impl Place {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir(dir.path().join("share")).unwrap();
            Self { dir }
        }

        fn state(&self) -> HostState {
            HostState::open(&self.dir.path().join("state")).unwrap()
        }

        fn share(&self, name: &str) -> Share {
            Share::open(&self.dir.path().join("share"), Name::new(name).unwrap()).unwrap()
        }

        fn open(&self) -> Result<ShareState, StateError> {
            self.state().share(&self.share("docs"))
        }

        fn file(&self) -> PathBuf {
            let files = fs::read_dir(self.dir.path().join("state/shares")).unwrap();
            files
                .map(|f| f.unwrap().path())
                .find(|f| f.extension().is_some_and(|e| e == "json"))
                .unwrap()
        }
    }

    #[test]
    fn a_share_is_found_again_with_its_tickets_and_port() {
        let place = Place::new();
        let first = place.open().unwrap();
        let (id, free) = (first.id(), TicketLimits::default());
        assert_eq!(first.port(), None);
        let ticket = first.issue(free, 10).unwrap();
        assert_eq!(first.issue(free, 11).unwrap(), ticket);
        let limits = TicketLimits {
            expires: Some(99),
            max_mounts: Some(2),
            access: Access::ReadWrite,
        };
        let limited = first.issue(limits, 12).unwrap();
        assert_ne!(limited, first.issue(limits, 12).unwrap());
        first.set_port(4433).unwrap();
        drop(first);
        let second = place.open().unwrap();
        assert_eq!((second.id(), second.port()), (id, Some(4433)));
        assert_eq!(second.issue(free, 20).unwrap(), ticket);
        assert_eq!(second.find(limited.id()).unwrap().limits, limits);
        let other = place.state().share(&place.share("other name")).unwrap();
        assert_ne!(other.id(), id);
        second.revoke_all().unwrap();
        drop(second);
        let third = place.open().unwrap();
        assert!(third.find(ticket.id()).is_none() && third.find(limited.id()).is_none());
        assert_ne!(third.issue(free, 30).unwrap(), ticket);
        assert_eq!((third.id(), third.port()), (id, Some(4433)));
    }

    #[test]
    fn either_access_has_its_lasting_ticket_and_earlier_versions_are_told() {
        let place = Place::new();
        let read = TicketLimits::default();
        let write = TicketLimits {
            access: Access::ReadWrite,
            ..read
        };
        let first = place.open().unwrap();
        let to_read = first.issue(read, 1).unwrap();
        let text = fs::read_to_string(place.file()).unwrap();
        assert!(text.contains("\"format\": 1"), "as it ever was: {text}");
        let to_write = first.issue(write, 2).unwrap();
        assert_ne!(to_read, to_write);
        let text = fs::read_to_string(place.file()).unwrap();
        assert!(text.contains("\"format\": 2"), "{text}");
        drop(first);
        let second = place.open().unwrap();
        assert_eq!(second.issue(read, 3).unwrap(), to_read);
        assert_eq!(second.issue(write, 3).unwrap(), to_write);
        let access = |secret: &Secret| second.find(secret.id()).unwrap().access();
        assert_eq!(access(&to_read), Access::Read);
        assert_eq!(access(&to_write), Access::ReadWrite);
        second.revoke_all().unwrap();
        assert!(second.find(to_write.id()).is_none(), "both kinds end");
    }

    #[test]
    fn one_host_per_share() {
        let place = Place::new();
        let first = place.open().unwrap();
        assert!(matches!(place.open(), Err(StateError::InUse)));
        drop(first);
        place.open().unwrap();
    }

    #[test]
    fn files_are_private() {
        let place = Place::new();
        let dir = place.dir.path().join("state");
        let shares = dir.join("shares");
        fs::create_dir_all(&shares).unwrap();
        for dir in [&dir, &shares] {
            fs::set_permissions(dir, Permissions::from_mode(0o755)).unwrap();
        }
        let state = place.open().unwrap();
        state.issue(TicketLimits::default(), 0).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(&dir), mode(&shares)), (0o755, 0o700));
        for file in fs::read_dir(&shares).unwrap() {
            assert_eq!(mode(&file.unwrap().path()), 0o600);
        }
        let secret = state.issue(TicketLimits::default(), 0).unwrap();
        assert!(!format!("{state:?}").contains(&hex(secret.expose())));
        let fresh = place.dir.path().join("fresh/deep");
        HostState::open(&fresh).unwrap();
        assert_eq!(mode(&fresh), 0o700);
    }

    #[test]
    fn what_makes_no_sense_is_refused_and_left_alone() {
        let place = Place::new();
        drop(place.open().unwrap());
        let good = fs::read_to_string(place.file()).unwrap();
        let later = good.replace("\"format\": 1", "\"format\": 3, \"new\": []");
        let too_long = format!("{good}{}", " ".repeat(2 << 20));
        let cases = [
            "",
            "{}",
            "[1, 2",
            &good[..good.len() / 2],
            &good.replace("share\": \"", "share\": \"zz"),
            &good.replace("docs", "dogs"),
            &too_long,
        ];
        for text in cases {
            fs::write(place.file(), text).unwrap();
            assert!(
                matches!(place.open(), Err(StateError::Corrupt(_))),
                "{text:.200}"
            );
            assert_eq!(fs::read_to_string(place.file()).unwrap(), text);
        }
        fs::write(place.file(), later).unwrap();
        let refusal = place.open().unwrap_err();
        assert!(matches!(
            refusal,
            StateError::UnknownFormat { format: 3, .. }
        ));
        fs::write(place.file(), good).unwrap();
        place.open().unwrap();
    }

    #[test]
    fn a_crash_between_writing_and_renaming_leaves_the_old_state() {
        let place = Place::new();
        let state = place.open().unwrap();
        let (id, file) = (state.id(), place.file());
        drop(state);
        fs::write(file.with_extension("tmp"), "half a fi").unwrap();
        assert_eq!(place.open().unwrap().id(), id);
    }

    #[test]
    fn a_ticket_that_could_not_be_kept_is_not_issued() {
        let place = Place::new();
        let state = place.open().unwrap();
        // A directory in the way of the new file, which even root cannot write over.
        fs::create_dir(place.file().with_extension("tmp")).unwrap();
        let failed = state.issue(TicketLimits::default(), 0);
        assert!(matches!(failed, Err(StateError::Io { .. })));
        assert!(state.tickets(0).is_empty());
    }
}
