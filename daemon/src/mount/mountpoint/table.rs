//! The kernel's table of mounts (`/proc/self/mountinfo`, proc_pid_mountinfo(5)), parsed.
//!
//! Names in it are bytes with blank, tab, newline and backslash written as `\ooo`; anything that can
//! mount chooses some of those bytes, so every line is parsed strictly and a malformed one skipped.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// The file system type our mounts have.
pub const FS_TYPE: &str = "fuse.wormhole";

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountEntry {
    /// Device number, `major:minor`: also names the mount's readahead knob.
    pub device: (u32, u32),
    /// Where it is mounted.
    pub mountpoint: PathBuf,
    /// Type with its subtype.
    pub fs_type: String,
    /// What is mounted, as the file system calls it.
    pub source: OsString,
    /// Options of the superblock.
    pub options: String,
}

impl MountEntry {
    /// Whether it is one of ours.
    pub fn is_wormhole(&self) -> bool {
        self.fs_type == FS_TYPE
    }

    /// The user a FUSE mount belongs to.
    pub fn owner_uid(&self) -> Option<u32> {
        self.options
            .split(',')
            .find_map(|option| option.strip_prefix("user_id=")?.parse().ok())
    }
}

/// All mounts of this process's namespace, in the order they were made.
///
/// # Errors
/// If `/proc` is not mounted or not readable.
pub fn mounts() -> io::Result<Vec<MountEntry>> {
    Ok(parse(&std::fs::read("/proc/self/mountinfo")?))
}

/// What is mounted at exactly `path` (which must be canonical); the topmost if several are.
///
/// # Errors
/// As [`mounts`].
pub fn mount_at(path: &Path) -> io::Result<Option<MountEntry>> {
    Ok(mounts()?
        .into_iter()
        .rev()
        .find(|entry| entry.mountpoint == path))
}

fn parse(table: &[u8]) -> Vec<MountEntry> {
    table
        .split(|b| *b == b'\n')
        .filter_map(parse_line)
        .collect()
}

/// `36 35 98:0 /root /mount/point rw,noatime master:1 - type source options`
fn parse_line(line: &[u8]) -> Option<MountEntry> {
    let mut fields = line.split(|b| *b == b' ');
    let device = std::str::from_utf8(fields.nth(2)?).ok()?;
    let (major, minor) = device.split_once(':')?;
    let mountpoint = fields.nth(1)?;
    // Optional fields of any number end with a lone dash.
    fields.find(|field| *field == b"-")?;
    let fs_type = fields.next()?;
    let source = fields.next()?;
    let options = fields.next().unwrap_or_default();
    Some(MountEntry {
        device: (major.parse().ok()?, minor.parse().ok()?),
        mountpoint: PathBuf::from(OsString::from_vec(unescape(mountpoint))),
        fs_type: String::from_utf8(unescape(fs_type)).ok()?,
        source: OsString::from_vec(unescape(source)),
        options: String::from_utf8_lossy(options).into_owned(),
    })
}

/// Undoes `\ooo`; a backslash that begins no such escape stands for itself.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        match (first, tail) {
            (
                b'\\',
                [
                    a @ b'0'..=b'3',
                    b @ b'0'..=b'7',
                    c @ b'0'..=b'7',
                    after @ ..,
                ],
            ) => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_line() {
        let entries = parse(
            b"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 shared:7 - ext3 /dev/root rw,errors=continue\n\
              40 36 0:52 / /home/a/mnt rw,nosuid,nodev - fuse.wormhole wormhole@h ro,user_id=1000,group_id=1000\n",
        );
        assert_eq!(entries.len(), 2);
        assert_eq!(entries[0].mountpoint, Path::new("/mnt2"));
        assert_eq!(entries[0].device, (98, 0));
        assert!(!entries[0].is_wormhole());
        assert_eq!(entries[0].owner_uid(), None);
        assert!(entries[1].is_wormhole());
        assert_eq!(entries[1].owner_uid(), Some(1000));
        assert_eq!(entries[1].source, "wormhole@h");
    }

    #[test]
    fn octal_escapes_become_bytes() {
        let entries =
            parse(b"1 0 0:5 / /a\\040b\\011\\012\\134x\\777\\04 rw - fuse.wormhole s rw\n");
        assert_eq!(
            entries[0].mountpoint.as_os_str().as_encoded_bytes(),
            b"/a b\t\n\\x\\777\\04"
        );
    }

    #[test]
    fn malformed_lines_are_skipped() {
        for line in [
            &b""[..],
            b"1",
            b"1 0 0:5 / /a rw",
            b"1 0 x:5 / /a rw - t s o",
            b"1 0 05 / /a rw - t s o",
            b"1 0 0:5 / /a rw -",
            b"1 0 0:5 / /a rw - \xff\xfe s o",
        ] {
            assert_eq!(parse(line), [], "{}", line.escape_ascii());
        }
    }

    #[test]
    fn an_empty_source_is_read_as_such() {
        let entries = parse(b"1 0 0:5 / /a rw - tmpfs  rw");
        assert_eq!(entries[0].source, "");
        assert_eq!(entries[0].options, "rw");
    }

    #[test]
    fn the_real_table_holds_proc() {
        assert_eq!(
            mount_at(Path::new("/proc")).unwrap().unwrap().fs_type,
            "proc"
        );
        assert_eq!(mount_at(Path::new("/proc/self")).unwrap(), None);
    }
}
