//! What the kernel says about a node, in the words of the wire; and content versions.
//!
//! A [`ContentVersion`] is a hash of what the kernel stamps on a node: identity, size, modification
//! and change time. That alone would lie: a file system's clock ticks coarsely (milliseconds, whole
//! seconds on some), so two writes within one tick leave the same stamps. Therefore a node whose
//! change time is not yet safely past ("unsettled") gets a version with a counter in it: never the
//! same twice, so nothing cached under it is ever believed again. Once the clock has moved on,
//! any later write must leave another change time, and the version is the plain hash: the same for
//! every mount and across restarts of the host.
//!
//! The change time decides, because no program can set it. A modification time close to now
//! unsettles as well, for file systems that keep no change time; one far in the future (a badly
//! packed archive) does not.
//!
//! What this cannot see: one `write(2)` call that takes longer than [`SETTLE_NANOS`] (the kernel
//! stamps when it begins), stores through a shared mapping until the kernel writes them back, and
//! writes after the machine's clock was set back, landing on the old stamp to the nanosecond.

use super::xattrs;
use rustix::fd::AsFd;
use rustix::fs::{AtFlags, FileType, Statx, StatxFlags, StatxTimestamp, makedev, statx};
use rustix::io::Errno;
use std::ffi::CStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};
use wormhole_protocol::{Attr, ContentVersion, Epoch, Fault, FileId, FileKind, Timestamp};

/// How long after its change a node is unsettled: several ticks of the slowest kernel (10 ms).
const SETTLE_NANOS: i128 = 50_000_000;
/// The same where stamps seem to be whole seconds (ext3, FAT, some network file systems).
const SETTLE_COARSE_NANOS: i128 = 2_050_000_000;

const MASK: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::BTIME);

/// Stats the node behind `fd` (which may be `O_PATH`).
pub(super) fn stat(fd: impl AsFd) -> Result<Statx, Errno> {
    statx(fd, c"", AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT, MASK)
}

/// Stats the entry `name`, one component, of directory `dir`; a symlink itself.
pub(super) fn stat_entry(dir: impl AsFd, name: &CStr) -> Result<Statx, Errno> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    statx(dir, name, flags, MASK)
}

/// The identity of a node.
pub(super) fn file_id(stx: &Statx) -> FileId {
    let known = stx.stx_mask & StatxFlags::BTIME.bits() != 0;
    FileId {
        device: makedev(stx.stx_dev_major, stx.stx_dev_minor),
        inode: stx.stx_ino,
        birth: if known {
            let nanos = nanos(timestamp(&stx.stx_btime));
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "an opaque identity: the protocol says truncated"
            )]
            let birth = nanos as u64;
            birth
        } else {
            0
        },
    }
}

/// The kind of a node; `None` for what Linux has no name for.
pub(super) fn kind(stx: &Statx) -> Option<FileKind> {
    Some(match FileType::from_raw_mode(stx.stx_mode.into()) {
        FileType::RegularFile => FileKind::File,
        FileType::Directory => FileKind::Directory,
        FileType::Symlink => FileKind::Symlink,
        FileType::Fifo => FileKind::Fifo,
        FileType::Socket => FileKind::Socket,
        FileType::CharacterDevice => FileKind::CharDevice,
        FileType::BlockDevice => FileKind::BlockDevice,
        FileType::Unknown => return None,
    })
}

/// Stats the node behind `fd` and checks that it is the one the mount believes in.
///
/// # Errors
/// [`Fault::Stale`] if `expect` names another.
pub(super) fn stat_expected(fd: impl AsFd, expect: Option<FileId>) -> Result<Statx, Fault> {
    let stx = stat(fd).map_err(super::fault::of)?;
    match expect {
        Some(expect) if expect != file_id(&stx) => Err(Fault::Stale),
        _ => Ok(stx),
    }
}

/// What tells one state of a node's content from the next, as far as the kernel stamps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    id: FileId,
    size: u64,
    modified: Timestamp,
    changed: Timestamp,
}

impl Stamp {
    /// The stamp in `stx`.
    pub(super) fn of(stx: &Statx) -> Self {
        Self {
            id: file_id(stx),
            size: stx.stx_size,
            modified: timestamp(&stx.stx_mtime),
            changed: timestamp(&stx.stx_ctime),
        }
    }

    /// Whether any later change is sure to leave another stamp, the node having been looked at no
    /// earlier than `now`.
    pub(super) fn settled(&self, now: Timestamp) -> bool {
        let now = nanos(now);
        let window = |stamp: Timestamp| match stamp.nanos() {
            0 => SETTLE_COARSE_NANOS,
            _ => SETTLE_NANOS,
        };
        let since_change = now - nanos(self.changed);
        let since_write = now - nanos(self.modified);
        since_change >= window(self.changed) && since_write.abs() >= window(self.modified)
    }
}

/// The system's time, as file systems stamp it. To be read *before* the stat it judges.
pub(super) fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_secs())
        .ok()
        .and_then(|secs| Timestamp::new(secs, since.subsec_nanos()))
        .unwrap_or(Timestamp::EPOCH)
}

/// Gives content versions; one for the whole process.
#[derive(Debug)]
pub(super) struct Versions {
    epoch: Epoch,
    unsettled: AtomicU64,
}

impl Versions {
    /// For one life of the host, told from others by its epoch.
    pub(super) fn new(epoch: Epoch) -> Self {
        Self {
            epoch,
            unsettled: AtomicU64::new(0),
        }
    }

    /// The version of content stamped `stamp`, which was read no earlier than `now`.
    pub(super) fn of(&self, stamp: &Stamp, now: Timestamp) -> ContentVersion {
        let mut hasher = blake3::Hasher::new();
        for word in [
            stamp.id.device,
            stamp.id.inode,
            stamp.id.birth,
            stamp.size,
            stamp.modified.secs().cast_unsigned(),
            stamp.modified.nanos().into(),
            stamp.changed.secs().cast_unsigned(),
            stamp.changed.nanos().into(),
        ] {
            hasher.update(&word.to_le_bytes());
        }
        if !stamp.settled(now) {
            let count = self.unsettled.fetch_add(1, Ordering::Relaxed);
            hasher.update(&self.epoch.0.to_le_bytes());
            hasher.update(&count.to_le_bytes());
        }
        let mut version = [0; 16];
        version.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        ContentVersion(version)
    }

    /// The attributes of the node behind `fd` (which may be `O_PATH`), of which `stx` was read no earlier than `now`.
    ///
    /// # Errors
    /// [`Fault::Unsupported`] for a kind of node there is no word for.
    pub(super) fn attr(&self, fd: impl AsFd, stx: &Statx, now: Timestamp) -> Result<Attr, Fault> {
        let attr = self.of_stamps(stx, now)?;
        let xattrs = attr.kind != FileKind::Symlink && xattrs::any(fd);
        Ok(Attr { xattrs, ..attr })
    }

    /// The same of the entry `name`, one component, of directory `dir`.
    ///
    /// # Errors
    /// [`Fault::Unsupported`] for a kind of node there is no word for.
    pub(super) fn entry_attr(
        &self,
        (dir, name): (impl AsFd, &CStr),
        stx: &Statx,
        now: Timestamp,
    ) -> Result<Attr, Fault> {
        let attr = self.of_stamps(stx, now)?;
        let xattrs = attr.kind != FileKind::Symlink && xattrs::any_of_entry(dir, name);
        Ok(Attr { xattrs, ..attr })
    }

    fn of_stamps(&self, stx: &Statx, now: Timestamp) -> Result<Attr, Fault> {
        let kind = kind(stx).ok_or(Fault::Unsupported)?;
        let stamp = Stamp::of(stx);
        let device = matches!(kind, FileKind::CharDevice | FileKind::BlockDevice);
        Ok(Attr {
            id: stamp.id,
            kind,
            mode: stx.stx_mode & 0o7777,
            links: stx.stx_nlink,
            uid: stx.stx_uid,
            gid: stx.stx_gid,
            rdev: if device {
                makedev(stx.stx_rdev_major, stx.stx_rdev_minor)
            } else {
                0
            },
            size: stx.stx_size,
            blocks: stx.stx_blocks,
            accessed: timestamp(&stx.stx_atime),
            modified: stamp.modified,
            changed: stamp.changed,
            xattrs: false,
            version: self.of(&stamp, now),
        })
    }
}

/// A file system in user space can report nanoseconds out of range; they are cut.
fn timestamp(raw: &StatxTimestamp) -> Timestamp {
    Timestamp::new(raw.tv_sec, raw.tv_nsec.min(999_999_999)).unwrap_or(Timestamp::EPOCH)
}

fn nanos(t: Timestamp) -> i128 {
    i128::from(t.secs()) * 1_000_000_000 + i128::from(t.nanos())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn at(nanos: i128) -> Timestamp {
        let secs = i64::try_from(nanos.div_euclid(1_000_000_000)).unwrap();
        let rest = u32::try_from(nanos.rem_euclid(1_000_000_000)).unwrap();
        Timestamp::new(secs, rest).unwrap()
    }

    fn stamp(modified: i128, changed: i128) -> Stamp {
        Stamp {
            id: FileId {
                device: 1,
                inode: 2,
                birth: 3,
            },
            size: 4,
            modified: at(modified),
            changed: at(changed),
        }
    }

    const NOW: i128 = 1_800_000_000_000_000_123;
    const MS: i128 = 1_000_000;

    #[test]
    fn settled_only_when_no_later_write_can_leave_the_same_stamp() {
        let settled = |modified, changed| stamp(modified, changed).settled(at(NOW));
        let old = NOW - 3_600_000 * MS;
        assert!(settled(old, old));
        assert!(settled(NOW - 51 * MS, NOW - 51 * MS));
        assert!(!settled(NOW - 49 * MS, NOW - 49 * MS));
        assert!(!settled(old, NOW - 1), "just changed, mtime set back");
        assert!(!settled(old, NOW + 3_600_000 * MS), "changed in the future");
        assert!(!settled(NOW - 1, old), "no change time kept");
        assert!(!settled(NOW + 1, old));
        assert!(
            settled(NOW + 3_600_000 * MS, old),
            "mtime set into the future by a program"
        );
        // Whole seconds look like a coarse clock.
        let second = NOW - NOW % (1000 * MS);
        assert!(!stamp(second, second).settled(at(second + 1999 * MS)));
        assert!(stamp(second, second).settled(at(second + 2051 * MS)));
    }

    #[test]
    fn versions_of_settled_content_are_lasting_and_others_unique() {
        let (a, b) = (Versions::new(Epoch(1)), Versions::new(Epoch(2)));
        let old = stamp(0, 1);
        assert_eq!(a.of(&old, at(NOW)), a.of(&old, at(NOW + MS)));
        assert_eq!(a.of(&old, at(NOW)), b.of(&old, at(NOW)), "after a restart");
        assert_ne!(a.of(&old, at(NOW)), a.of(&stamp(0, 2), at(NOW)));
        assert_ne!(a.of(&old, at(NOW)), a.of(&stamp(-1, 1), at(NOW)));
        let fresh = stamp(NOW, NOW);
        let first = a.of(&fresh, at(NOW));
        assert_ne!(first, a.of(&fresh, at(NOW)));
        assert_ne!(first, b.of(&fresh, at(NOW)));
        assert_ne!(
            first,
            a.of(&fresh, at(NOW + 100 * MS)),
            "nor after settling"
        );
    }

    #[test]
    fn two_writes_within_one_tick_differ() {
        use std::os::unix::fs::FileExt;
        let dir = tempfile::tempdir().unwrap();
        let file = File::create(dir.path().join("f")).unwrap();
        let versions = Versions::new(Epoch(7));
        let mut seen = std::collections::HashSet::new();
        for i in 0..2000_u32 {
            file.write_all_at(&i.to_le_bytes(), 0).unwrap();
            let now = now();
            let stx = stat(&file).unwrap();
            assert!(seen.insert(versions.of(&Stamp::of(&stx), now)), "write {i}");
        }
    }

    #[test]
    fn attributes_are_what_the_kernel_says() {
        use std::os::unix::fs::{MetadataExt, PermissionsExt};
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, vec![1; 5000]).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o4751)).unwrap();
        // Before 1970, with nanoseconds.
        let modified = UNIX_EPOCH - std::time::Duration::new(5, 250_000_000);
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(modified).unwrap();
        let meta = std::fs::metadata(&path).unwrap();
        let stx = stat(&file).unwrap();
        let attr = Versions::new(Epoch(1)).attr(&file, &stx, now()).unwrap();
        assert_eq!(attr.kind, FileKind::File);
        assert_eq!(attr.mode, 0o4751);
        assert_eq!((attr.size, attr.blocks), (5000, meta.blocks()));
        assert_eq!((attr.id.device, attr.id.inode), (meta.dev(), meta.ino()));
        assert_eq!((attr.uid, attr.gid), (meta.uid(), meta.gid()));
        assert_eq!(attr.modified, Timestamp::new(-6, 750_000_000).unwrap());
        assert_eq!((attr.links, attr.rdev), (1, 0));
    }
}
