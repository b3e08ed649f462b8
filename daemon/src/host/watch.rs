//! Watching directories: what the kernel tells of them (`inotify(7)`).
//!
//! A watch belongs to a directory itself, wherever it is moved. It tells of names that come, go or change
//! places in it, and of changes of what these names lead to, whoever makes them. An event is in the queue
//! before the call that caused it returns: who reads the queue after a change has read of it.
//!
//! What it does not tell: reading (no access times); changes made on other machines, so that only file systems
//! of this machine are watched; changes of a file through a name in another directory; stores through a shared
//! mapping, until the file is closed.
//!
//! Not here: who wants to know (`leases`).

use super::resolve::Root;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::fs::{FsWord, fstatfs};
use rustix::io::Errno;
use std::mem::MaybeUninit;

/// What is listened for. Of a file that has lost its name nothing is told any more.
const WANTED: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::EXCL_UNLINK)
    .union(WatchFlags::ONLYDIR);
/// Names came or went: the directory itself changed with them.
const OF_NAMES: ReadFlags = ReadFlags::CREATE
    .union(ReadFlags::DELETE)
    .union(ReadFlags::MOVED_FROM)
    .union(ReadFlags::MOVED_TO);
/// No more will be told of the directory.
const ENDED: ReadFlags = ReadFlags::IGNORED
    .union(ReadFlags::DELETE_SELF)
    .union(ReadFlags::UNMOUNT);
/// For the events of one read.
const EVENTS_BYTES: usize = 32 * 1024;

/// File systems whose every change passes through this kernel (statfs(2)): ext2 to ext4, XFS, Btrfs, tmpfs,
/// ramfs, F2FS, bcachefs, ZFS, JFS, ReiserFS, NTFS (ntfs3), exFAT, FAT, SquashFS, EROFS, ISO 9660, UDF.
const LOCAL: [FsWord; 17] = [
    0xef53,
    0x5846_5342,
    0x9123_683e,
    0x0102_1994,
    0x8584_58f6,
    0xf2f5_2010,
    0xca45_1a4e,
    0x2fc1_2fc1,
    0x3153_464a,
    0x5265_4973,
    0x7366_746e,
    0x2011_bab0,
    0x4d44,
    0x7371_7368,
    0xe0f5_e1e2,
    0x9660,
    0x1501_3346,
];

/// The number the kernel gives a watch.
pub(super) type WatchId = i32;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// Something about a name in a watched directory.
    Name {
        /// Which watch.
        watch: WatchId,
        /// Which name.
        name: Vec<u8>,
        /// What of it.
        what: Happened,
    },
    /// Attributes of the watched directory itself.
    Itself(WatchId),
    /// The watch is over: the directory or its file system is gone, or the watch was removed.
    Ended(WatchId),
    /// Events were lost.
    Overflow,
}

/// What happened to a name, or to what it leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Happened {
    /// It came or went: the directory itself changed with it.
    Named,
    /// What it leads to changed.
    Changed,
    /// A descriptor was closed through which it may have been changed; only of what was stored through shared
    /// mappings this is news.
    Closed,
}

/// Sets watches, and takes them away.
pub(super) trait Watching: Send + 'static {
    /// Watches the directory behind `node`; watching one twice is watching it once, under one number.
    ///
    /// # Errors
    /// `NOSPC` if the user's limit is reached, `OPNOTSUPP` where not all changes would be seen.
    fn add(&self, node: &OwnedFd) -> Result<WatchId, Errno>;

    /// Ends a watch. Events of it may come once more.
    fn remove(&self, watch: WatchId);
}

/// The kernel's watches of this process, or a part of them.
#[derive(Debug)]
pub(super) struct Inotify {
    queue: OwnedFd,
}

impl Inotify {
    /// Nothing is watched yet.
    ///
    /// # Errors
    /// `MFILE` if the user has too many of these.
    pub(super) fn open() -> Result<Self, Errno> {
        let queue = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(Self { queue })
    }

    /// The same queue, to set watches.
    ///
    /// # Errors
    /// What `dup(2)` says.
    pub(super) fn try_clone(&self) -> Result<Self, Errno> {
        let queue = rustix::io::fcntl_dupfd_cloexec(&self.queue, 0)?;
        Ok(Self { queue })
    }

    /// Tells `heard` what has happened, up to now.
    pub(super) fn drain(&self, mut heard: impl FnMut(Event)) {
        let mut buffer = [MaybeUninit::uninit(); EVENTS_BYTES];
        let mut reader = Reader::new(self.queue.as_fd(), &mut buffer);
        loop {
            match reader.next() {
                Ok(raw) => heard(event(&raw)),
                Err(Errno::INTR) => {}
                // Nothing more; anything else the kernel has no reason for.
                Err(_) => return,
            }
        }
    }
}

impl From<Inotify> for OwnedFd {
    fn from(inotify: Inotify) -> Self {
        inotify.queue
    }
}

impl Watching for Inotify {
    fn add(&self, node: &OwnedFd) -> Result<WatchId, Errno> {
        if !LOCAL.contains(&fstatfs(node)?.f_type) {
            return Err(Errno::OPNOTSUPP);
        }
        inotify::add_watch(&self.queue, Root::proc_path(node), WANTED)
    }

    fn remove(&self, watch: WatchId) {
        // It may be gone already.
        let _ = inotify::remove_watch(&self.queue, watch);
    }
}

fn event(raw: &inotify::Event<'_>) -> Event {
    let (watch, what) = (raw.wd(), raw.events());
    if what.contains(ReadFlags::QUEUE_OVERFLOW) {
        Event::Overflow
    } else if what.intersects(ENDED) {
        Event::Ended(watch)
    } else if let Some(name) = raw.file_name() {
        Event::Name {
            watch,
            name: name.to_bytes().to_vec(),
            what: if what.intersects(OF_NAMES) {
                Happened::Named
            } else if what.intersects(ReadFlags::CLOSE_WRITE) {
                Happened::Closed
            } else {
                Happened::Changed
            },
        }
    } else {
        Event::Itself(watch)
    }
}

/// How many directories a user may watch, in all his processes; 0 if the kernel does not say.
pub(super) fn most_of_user() -> usize {
    let told = std::fs::read_to_string("/proc/sys/fs/inotify/max_user_watches");
    let told = told.ok().and_then(|text| text.trim().parse().ok());
    told.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{Mode, OFlags, open};
    use std::fs::{self, File};
    use std::os::unix::fs::{FileExt, PermissionsExt};
    use std::path::Path;

    fn look(dir: &Path) -> OwnedFd {
        open(dir, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap()
    }

    fn heard(inotify: &Inotify) -> Vec<Event> {
        let mut events = Vec::new();
        inotify.drain(|event| events.push(event));
        events.dedup();
        events
    }

    fn of(watch: WatchId, name: &str, what: Happened) -> Event {
        let name = name.into();
        Event::Name { watch, name, what }
    }

    #[test]
    fn what_happens_in_a_watched_directory_is_told_when_the_call_returns() {
        let temp = tempfile::tempdir().unwrap();
        let (dir, other) = (temp.path().join("d"), temp.path().join("other"));
        fs::create_dir(&dir).unwrap();
        let inotify = Inotify::open().unwrap();
        let watch = inotify.add(&look(&dir)).unwrap();
        assert_eq!(inotify.add(&look(&dir)), Ok(watch), "once");
        assert_eq!(heard(&inotify), []);
        let file = File::create(dir.join("f")).unwrap();
        assert_eq!(heard(&inotify), [of(watch, "f", Happened::Named)]);
        file.write_at(b"x", 0).unwrap();
        assert_eq!(heard(&inotify), [of(watch, "f", Happened::Changed)]);
        drop(file);
        assert_eq!(heard(&inotify), [of(watch, "f", Happened::Closed)]);
        fs::set_permissions(dir.join("f"), fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(heard(&inotify), [of(watch, "f", Happened::Changed)]);
        assert_eq!(fs::read(dir.join("f")).unwrap(), b"x");
        assert_eq!(heard(&inotify), [], "reading changes nothing");
        // It is the directory that is watched, not its path.
        fs::rename(&dir, &other).unwrap();
        fs::rename(other.join("f"), other.join("g")).unwrap();
        let both = [
            of(watch, "f", Happened::Named),
            of(watch, "g", Happened::Named),
        ];
        assert_eq!(heard(&inotify), both);
        fs::set_permissions(&other, fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(heard(&inotify), [Event::Itself(watch)]);
        fs::remove_file(other.join("g")).unwrap();
        fs::remove_dir(&other).unwrap();
        let events = heard(&inotify);
        assert_eq!(events.first(), Some(&of(watch, "g", Happened::Named)));
        assert_eq!(events.last(), Some(&Event::Ended(watch)));
    }

    #[test]
    fn what_is_not_watched_is_not_told() {
        let temp = tempfile::tempdir().unwrap();
        let inotify = Inotify::open().unwrap();
        let watch = inotify.add(&look(temp.path())).unwrap();
        let again = inotify.try_clone().unwrap();
        again.remove(watch);
        assert_eq!(heard(&inotify), [Event::Ended(watch)]);
        fs::write(temp.path().join("f"), "").unwrap();
        assert_eq!(heard(&inotify), []);
        again.remove(watch);
        // Neither files nor what other machines change.
        let file = inotify.add(&look(&temp.path().join("f")));
        assert_eq!(file, Err(Errno::NOTDIR));
        let proc = inotify.add(&look(Path::new("/proc")));
        assert_eq!(proc, Err(Errno::OPNOTSUPP));
        assert!(most_of_user() > 0);
    }

    #[test]
    fn events_that_were_lost_are_told_of() {
        let temp = tempfile::tempdir().unwrap();
        let inotify = Inotify::open().unwrap();
        inotify.add(&look(temp.path())).unwrap();
        let most = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
        let most: usize = most.trim().parse().unwrap();
        let (a, b) = (temp.path().join("a"), temp.path().join("b"));
        File::create(&a).unwrap();
        // Two events each, all different from the one before.
        for _ in 0..most / 4 + 1 {
            fs::rename(&a, &b).unwrap();
            fs::rename(&b, &a).unwrap();
        }
        assert_eq!(heard(&inotify).last(), Some(&Event::Overflow));
    }
}
