//! Listings as bytes, for a mount that comes back.
//!
//! ```text
//! the directory: device, inode, birth; how many entries
//! of the entries: device, uid and gid they share; then each as in `pack`
//! ```
//! Integers as in `pack`. Only listings that a host can be asked about by their digest are saved: complete ones
//! that are not too long. What is read back is believed by nobody until the host has said, of the digest of just
//! what was read, that it holds. Whatever the bytes, reading them yields valid listings or none, and never panics.

use super::entries::Entries;
use super::pack::{self, Base};
use super::{Inner, Listing, Standing, State, digest};
use crate::mount::heard::Heard;
use parking_lot::Mutex;
use std::sync::Arc;
use wormhole_protocol::limits::LIST_DIGEST_ENTRIES_MAX;
use wormhole_protocol::{Entry, FileId, Name};

impl Listing {
    /// The host said that it does not hold: it is not asked about again.
    pub fn outdate(&self) {
        let mut inner = self.inner.lock();
        inner.standing = Standing::Outdated;
        inner.digest.forget();
    }

    /// Whether the host said that it does not hold.
    pub fn is_outdated(&self) -> bool {
        self.inner.lock().standing == Standing::Outdated
    }

    /// The directories in it, if it is complete.
    pub fn directories(&self) -> Vec<(Name, FileId)> {
        let inner = self.inner.lock();
        if !inner.is_complete() {
            return Vec::new();
        }
        inner.entries.directories()
    }

    /// Appends this listing of `dir`; false if it is none that can be asked about.
    pub(in crate::mount) fn save(&self, dir: FileId, out: &mut Vec<u8>) -> bool {
        let inner = self.inner.lock();
        let entries = &inner.entries;
        let is_sound = inner.is_complete()
            && inner.standing != Standing::Outdated
            && entries.is_known()
            && entries.live() <= LIST_DIGEST_ENTRIES_MAX;
        if !is_sound {
            return false;
        }
        for part in [dir.device, dir.inode, dir.birth, entries.live() as u64] {
            pack::put_int(out, part);
        }
        let mut base = None;
        for number in 0..entries.len() {
            let Some((name, present)) = entries.get(number) else {
                continue;
            };
            let Some(attr) = present.attr else {
                continue;
            };
            let base = *base.get_or_insert_with(|| {
                let base = Base::of(&attr);
                for part in [base.device, base.uid.into(), base.gid.into()] {
                    pack::put_int(out, part);
                }
                base
            });
            pack::put(out, &name, Some(&attr), base);
        }
        true
    }

    /// The listing that `bytes` begin with, and of which directory, as heard of long ago; none if they make no
    /// sense.
    pub(in crate::mount) fn load(bytes: &mut &[u8], heard: Heard) -> Option<(FileId, Arc<Self>)> {
        let dir = FileId {
            device: pack::int(bytes)?,
            inode: pack::int(bytes)?,
            birth: pack::int(bytes)?,
        };
        let count = usize::try_from(pack::int(bytes)?).ok()?;
        if count > LIST_DIGEST_ENTRIES_MAX {
            return None;
        }
        let mut entries = Entries::default();
        if count > 0 {
            let base = Base {
                device: pack::int(bytes)?,
                uid: u32::try_from(pack::int(bytes)?).ok()?,
                gid: u32::try_from(pack::int(bytes)?).ok()?,
            };
            for _ in 0..count {
                let (name, behind) = pack::name(bytes)?;
                let (attr, behind) = pack::attr(behind, base)?;
                let entry = Entry {
                    name: Name::new(name).ok()?,
                    attr: attr?,
                };
                entries.push(&entry, heard);
                *bytes = behind;
            }
        }
        // A name that is there twice was counted twice.
        if entries.live() != count {
            return None;
        }
        entries.shrink();
        let listing = Self {
            asked: heard.asked,
            inner: Mutex::new(Inner {
                heard,
                state: State::Complete,
                standing: Standing::Remembered,
                entries,
                own_attr: None,
                digest: digest::Kept::default(),
            }),
        };
        Some((dir, Arc::new(listing)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;
    use wormhole_protocol::{Attr, ContentVersion, FileKind, ListFrame, Timestamp};

    const DIR: FileId = FileId {
        device: 1,
        inode: u64::MAX,
        birth: 3,
    };

    fn attr(inode: u64) -> Attr {
        Attr {
            id: FileId {
                device: 1,
                inode,
                birth: 9,
            },
            kind: match inode % 2 {
                0 => FileKind::File,
                _ => FileKind::Directory,
            },
            mode: 0o644,
            links: 1,
            uid: 1000,
            gid: 1000,
            rdev: 0,
            size: inode,
            blocks: 8,
            accessed: Timestamp::EPOCH,
            modified: Timestamp::EPOCH,
            changed: Timestamp::EPOCH,
            xattrs: false,
            version: ContentVersion([5; 16]),
        }
    }

    fn name(inode: u64) -> Name {
        Name::new(format!("name-{inode}")).unwrap()
    }

    fn listing(count: u64) -> Arc<Listing> {
        let listing = Listing::fed(Instant::now().into(), None);
        let entries = (0..count).map(|inode| Entry {
            name: name(inode),
            attr: attr(inode),
        });
        listing.feed(Ok(ListFrame {
            entries: entries.collect(),
            last: true,
        }));
        listing
    }

    fn bytes(listing: &Listing) -> Vec<u8> {
        let mut bytes = Vec::new();
        assert!(listing.save(DIR, &mut bytes));
        bytes
    }

    #[test]
    fn a_listing_comes_back_as_it_is_now() {
        let heard = Heard::from(Instant::now());
        for count in [0, 1, 20] {
            let before = listing(count);
            before.set(&name(0), None, heard);
            before.set(&name(99), Some(attr(99)), heard);
            let mut bytes = bytes(&before);
            bytes.extend(b"rest");
            let rest = &mut bytes.as_slice();
            let (dir, after) = Listing::load(rest, heard).unwrap();
            assert_eq!((dir, *rest), (DIR, &b"rest"[..]));
            assert_eq!(before.digest(), after.digest());
            assert_eq!(before.directories(), after.directories());
        }
    }

    #[test]
    fn what_cannot_be_asked_about_is_not_saved() {
        let now = Instant::now();
        let mut out = Vec::new();
        let doubted = listing(3);
        doubted.doubt(&name(1), now);
        let outdated = listing(3);
        outdated.outdate();
        let long = listing(LIST_DIGEST_ENTRIES_MAX as u64 + 1);
        let arriving = Listing::fed(now.into(), None);
        for listing in [doubted, outdated, long, arriving] {
            assert!(!listing.save(DIR, &mut out));
        }
        assert!(out.is_empty());
    }

    #[test]
    fn whatever_the_bytes_nothing_panics() {
        let heard = Heard::from(Instant::now());
        let sound = bytes(&listing(20));
        for len in 0..sound.len() {
            assert!(Listing::load(&mut &sound[..len], heard).is_none(), "{len}");
        }
        for bit in 0..sound.len() * 8 {
            let mut bad = sound.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            // What it yields is another listing, which the host will not know.
            if let Some((_, listing)) = Listing::load(&mut bad.as_slice(), heard) {
                listing.digest();
            }
        }
        let mut twice = Vec::new();
        for part in [1, 2, 3, 2, 1, 0, 0] {
            pack::put_int(&mut twice, part);
        }
        let base = Base {
            device: 1,
            uid: 0,
            gid: 0,
        };
        for _ in 0..2 {
            pack::put(&mut twice, &name(1), Some(&attr(1)), base);
        }
        assert!(Listing::load(&mut twice.as_slice(), heard).is_none());
    }
}
