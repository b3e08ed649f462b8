//! An entry of a directory in few bytes: some 80 for a name of a dozen letters, where the decoded
//! [`Entry`] takes three times that and two allocations.
//!
//! A record is the length of the name, the name, and the attributes: integers in groups of seven bits
//! (LEB128), identity and owner left out where they are those of the directory's first entry, times as
//! what they differ by from the last change of the node. A record without attributes is a name that leads
//! to nothing.
//!
//! It is what a mount keeps in memory and on disk; it never travels. Whatever the bytes, reading them
//! yields a valid value or none, and never panics.

use wormhole_protocol::{Attr, ContentVersion, FileId, FileKind, Name, Timestamp};

/// What entries of one directory have in common more often than not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Base {
    pub(super) device: u64,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Base {
    pub(super) fn of(attr: &Attr) -> Self {
        Self {
            device: attr.id.device,
            uid: attr.uid,
            gid: attr.gid,
        }
    }
}

/// First byte of the attributes: a kind, what is left out, and what is yes or no.
const KIND: u8 = 0b0000_0111;
const ABSENT: u8 = 0b0000_1000;
const OTHER_BASE: u8 = 0b0001_0000;
const IS_DEVICE: u8 = 0b0010_0000;
const XATTRS: u8 = 0b0100_0000;
const KNOWN: u8 = KIND | ABSENT | OTHER_BASE | IS_DEVICE | XATTRS;

const KINDS: [FileKind; 7] = [
    FileKind::File,
    FileKind::Directory,
    FileKind::Symlink,
    FileKind::Fifo,
    FileKind::Socket,
    FileKind::CharDevice,
    FileKind::BlockDevice,
];

/// Appends the record of `name`.
pub(super) fn put(out: &mut Vec<u8>, name: &Name, attr: Option<&Attr>, base: Base) {
    let name = name.as_bytes();
    debug_assert!(u8::try_from(name.len()).is_ok());
    out.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
    out.extend_from_slice(name);
    match attr {
        Some(attr) => put_attr(out, attr, base),
        None => out.push(ABSENT),
    }
}

/// Appends attributes alone.
pub(super) fn put_attr(out: &mut Vec<u8>, attr: &Attr, base: Base) {
    let other_base = Base::of(attr) != base;
    let is_device = attr.rdev != 0;
    let kind = KINDS.iter().position(|kind| *kind == attr.kind);
    let kind = u8::try_from(kind.unwrap_or(0)).unwrap_or(0);
    let flag = |set: bool, bit: u8| if set { bit } else { 0 };
    let left_out = flag(other_base, OTHER_BASE) | flag(is_device, IS_DEVICE);
    out.push(kind | left_out | flag(attr.xattrs, XATTRS));
    if other_base {
        put_int(out, attr.id.device);
        put_int(out, attr.uid.into());
        put_int(out, attr.gid.into());
    }
    if is_device {
        put_int(out, attr.rdev);
    }
    put_int(out, attr.id.inode);
    put_int(out, attr.mode.into());
    put_int(out, attr.links.into());
    put_int(out, attr.size);
    put_int(out, attr.blocks);
    put_time(out, attr.changed, Timestamp::EPOCH);
    put_time(out, attr.modified, attr.changed);
    put_time(out, attr.accessed, attr.changed);
    // Most files are born, written and changed in one second.
    let born = attr.id.birth.wrapping_sub(nanos_of(attr.changed));
    put_int(out, zigzag(born.cast_signed()));
    out.extend_from_slice(&attr.version.0);
}

/// The name of the record `bytes` begins with, and what stands behind it.
pub(super) fn name(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(*len))
}

/// Whether the record `bytes` begins with is a directory's.
pub(super) fn is_directory(bytes: &[u8]) -> bool {
    let head = name(bytes).and_then(|(_, behind)| behind.first());
    let is_it = |head: &u8| {
        let kind = KINDS.get(usize::from(head & KIND));
        head & ABSENT == 0 && kind == Some(&FileKind::Directory)
    };
    head.is_some_and(is_it)
}

/// The attributes behind a name, and what stands behind them; `None` within if the name leads to nothing.
pub(super) fn attr(mut bytes: &[u8], base: Base) -> Option<(Option<Attr>, &[u8])> {
    let from = &mut bytes;
    let head = take(from, 1)?[0];
    if head == ABSENT {
        return Some((None, bytes));
    }
    if head & !KNOWN != 0 || head & ABSENT != 0 {
        return None;
    }
    let kind = *KINDS.get(usize::from(head & KIND))?;
    let base = if head & OTHER_BASE == 0 {
        base
    } else {
        Base {
            device: int(from)?,
            uid: u32::try_from(int(from)?).ok()?,
            gid: u32::try_from(int(from)?).ok()?,
        }
    };
    let rdev = if head & IS_DEVICE == 0 { 0 } else { int(from)? };
    let inode = int(from)?;
    let mode = u16::try_from(int(from)?).ok()?;
    let links = u32::try_from(int(from)?).ok()?;
    let size = int(from)?;
    let blocks = int(from)?;
    let changed = time(from, Timestamp::EPOCH)?;
    let modified = time(from, changed)?;
    let accessed = time(from, changed)?;
    let born = unzigzag(int(from)?).cast_unsigned();
    let attr = Attr {
        id: FileId {
            device: base.device,
            inode,
            birth: born.wrapping_add(nanos_of(changed)),
        },
        kind,
        mode,
        links,
        uid: base.uid,
        gid: base.gid,
        rdev,
        size,
        blocks,
        accessed,
        modified,
        changed,
        xattrs: head & XATTRS != 0,
        version: ContentVersion(take(from, 16)?.try_into().ok()?),
    };
    Some((Some(attr), bytes))
}

fn take<'a>(from: &mut &'a [u8], n: usize) -> Option<&'a [u8]> {
    let (taken, rest) = from.split_at_checked(n)?;
    *from = rest;
    Some(taken)
}

pub(super) fn put_int(out: &mut Vec<u8>, mut value: u64) {
    while let 0x80.. = value {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push((value & 0x7f) as u8);
}

pub(super) fn int(from: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(from, 1)?[0];
        let group = u64::from(byte & 0x7f);
        if shift == 63 && group > 1 {
            return None;
        }
        value |= group << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn put_time(out: &mut Vec<u8>, time: Timestamp, from: Timestamp) {
    let secs = time.secs().wrapping_sub(from.secs());
    put_int(out, zigzag(secs));
    put_int(out, u64::from(time.nanos() ^ from.nanos()));
}

fn time(bytes: &mut &[u8], from: Timestamp) -> Option<Timestamp> {
    let secs = unzigzag(int(bytes)?).wrapping_add(from.secs());
    let nanos = u32::try_from(int(bytes)?).ok()? ^ from.nanos();
    Timestamp::new(secs, nanos)
}

/// Nanoseconds since 1970, as far as they fit, as identities carry them.
fn nanos_of(time: Timestamp) -> u64 {
    let secs = time.secs().cast_unsigned();
    secs.wrapping_mul(1_000_000_000)
        .wrapping_add(u64::from(time.nanos()))
}

/// Small numbers of either sign become small numbers.
fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

#[cfg(test)]
mod tests;
