//! A mount that only looks: every call that would change anything fails with EROFS, and changes nothing.

use super::pair::{Pair, errno, strict};
use super::*;
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, RenameFlags, Timespec, Timestamps, XattrFlags, mknodat,
    removexattr, renameat_with, setxattr, utimensat,
};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};

type Attempt = Box<dyn Fn(&Path) -> io::Result<()>>;

fn attempt(work: impl Fn(&Path) -> io::Result<()> + 'static) -> Attempt {
    Box::new(work)
}

/// Everything that changes something, by names in the directory it is given.
fn attempts() -> Vec<(&'static str, Attempt)> {
    let mode = Mode::from_raw_mode(0o644);
    let time = Timespec {
        tv_sec: 1,
        tv_nsec: 1,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    let none = XattrFlags::empty();
    vec![
        ("create", attempt(|d| fs::write(d.join("new"), ""))),
        (
            "truncate at open",
            attempt(|d| fs::write(d.join("file"), "")),
        ),
        (
            "open to write",
            attempt(|d| {
                OpenOptions::new()
                    .write(true)
                    .open(d.join("file"))
                    .map(drop)
            }),
        ),
        (
            "open to append",
            attempt(|d| {
                OpenOptions::new()
                    .append(true)
                    .open(d.join("file"))
                    .map(drop)
            }),
        ),
        (
            "truncate",
            attempt(|d| {
                let path = d.join("file").into_os_string().into_encoded_bytes();
                let path = std::ffi::CString::new(path)?;
                // SAFETY: the path is a string that lives through the call.
                match unsafe { libc::truncate(path.as_ptr(), 1) } {
                    0 => Ok(()),
                    _ => Err(io::Error::last_os_error()),
                }
            }),
        ),
        ("mkdir", attempt(|d| fs::create_dir(d.join("new")))),
        ("rmdir", attempt(|d| fs::remove_dir(d.join("dir")))),
        ("unlink", attempt(|d| fs::remove_file(d.join("file")))),
        ("symlink", attempt(|d| symlink("x", d.join("new")))),
        (
            "link",
            attempt(|d| fs::hard_link(d.join("file"), d.join("new"))),
        ),
        (
            "rename",
            attempt(|d| fs::rename(d.join("file"), d.join("new"))),
        ),
        (
            "exchange",
            attempt(|d| {
                let (a, b) = (d.join("file"), d.join("dir"));
                Ok(renameat_with(CWD, &a, CWD, &b, RenameFlags::EXCHANGE)?)
            }),
        ),
        (
            "mkfifo",
            attempt(move |d| Ok(mknodat(CWD, d.join("new"), FileType::Fifo, mode, 0)?)),
        ),
        (
            "chmod",
            attempt(|d| fs::set_permissions(d.join("file"), Permissions::from_mode(0o777))),
        ),
        (
            "chown",
            attempt(|d| chown(d.join("file"), Some(1), Some(1))),
        ),
        (
            "lchown",
            attempt(|d| lchown(d.join("soft"), Some(1), Some(1))),
        ),
        (
            "utimens",
            attempt(move |d| Ok(utimensat(CWD, d.join("file"), &times, AtFlags::empty())?)),
        ),
        (
            "setxattr",
            attempt(move |d| Ok(setxattr(d.join("file"), "user.a", b"1", none)?)),
        ),
        (
            "removexattr",
            attempt(|d| Ok(removexattr(d.join("file"), "user.a")?)),
        ),
    ]
}

fn fill(share: &Path) {
    fs::write(share.join("file"), "text").unwrap();
    fs::create_dir(share.join("dir")).unwrap();
    symlink("file", share.join("soft")).unwrap();
}

fn stamps(share: &Path) -> Vec<(String, u64, u32, i64, i64)> {
    let names = ["", "file", "dir", "soft"];
    let stamps = names.map(|name| {
        let meta = fs::symlink_metadata(share.join(name)).unwrap();
        let (secs, nanos) = (meta.ctime(), meta.ctime_nsec());
        (name.to_owned(), meta.len(), meta.mode(), secs, nanos)
    });
    stamps.into()
}

/// Where `mnt` is a mount of `share` that only looks.
fn refused(mnt: &Path, share: &Path) {
    let before = stamps(share);
    for (what, attempt) in attempts() {
        assert_eq!(errno(attempt(mnt)), libc::EROFS, "{what}");
    }
    assert_eq!(stamps(share), before);
    assert_eq!(fs::read_dir(share).unwrap().count(), 3);
    // What changes nothing works.
    File::open(mnt.join("file")).unwrap().sync_all().unwrap();
    File::open(mnt).unwrap().sync_all().unwrap();
    let file = File::open(mnt.join("file")).unwrap();
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
    assert_eq!(fs::read(mnt.join("file")).unwrap(), b"text");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_ticket_to_look_every_change_is_refused() {
    let mut pair = Pair::new().await;
    fill(&pair.share());
    pair.unmount(0).await;
    let ticket = pair.host().ticket_to_look.clone();
    pair.mount_with(0, &ticket, &strict()).await;
    assert!(!pair.mounted(0).access().writes());
    pair.run(|a, b, share| {
        refused(a, share);
        // Beside one that writes, whose changes it sees.
        fs::write(b.join("dir/new"), "seen").unwrap();
        assert_eq!(fs::read(a.join("dir/new")).unwrap(), b"seen");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_share_that_is_only_read_every_change_is_refused() {
    let stage = Stage::new(&strict(), fill).await;
    let (mnt, share) = (stage.mnt(), stage.share());
    blocking(move || refused(&mnt, &share)).await;
    stage.end().await;
}
