//! What the comparison must notice.

use super::super::tree::generate;
use super::*;
use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

/// A tree, and a copy of it that stands for the mount.
struct Twins {
    dir: tempfile::TempDir,
}

impl Twins {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        generate(&dir.path().join("a"), 8 << 20, 3, &mut |_| true).unwrap();
        let twins = Self { dir };
        let copied = Command::new("cp")
            .arg("-a")
            .args([twins.folder(), twins.mount()])
            .status();
        assert!(copied.unwrap().success());
        twins
    }

    fn folder(&self) -> PathBuf {
        self.dir.path().join("a")
    }

    fn mount(&self) -> PathBuf {
        self.dir.path().join("b")
    }

    fn compare(&self) -> Outcome {
        let shutdown = Shutdown::manual();
        let listing = Listing::of(&self.folder(), &shutdown).unwrap();
        let bar = ProgressBar::hidden();
        compare(&listing, &self.mount(), Pass::Warm, &shutdown, &bar)
    }
}

/// Gives a symlink itself the times it had.
fn set_own_times(link: &Path, meta: &std::fs::Metadata) {
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
    use std::os::unix::fs::MetadataExt;
    let time = Timespec {
        tv_sec: meta.mtime(),
        tv_nsec: meta.mtime_nsec(),
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    utimensat(CWD, link, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

#[test]
fn a_true_copy_has_no_differences() {
    let twins = Twins::new();
    let outcome = twins.compare();
    assert_eq!(outcome.mismatches, Vec::<String>::new());
    assert_eq!(outcome.bytes, 8 << 20);
    assert!(outcome.bytes_per_sec() > 0.0);
}

#[test]
fn every_kind_of_difference_is_found() {
    use std::os::unix::fs::FileExt;
    type Change = fn(&Path);
    let change: [(&str, Change); 7] = [
        ("differs at byte 131072", |b| {
            let file = File::options()
                .write(true)
                .open(b.join("edges/131073-bytes"))
                .unwrap();
            let modified = file.metadata().unwrap().modified().unwrap();
            let mut last = [0];
            let read = File::open(b.join("edges/131073-bytes")).unwrap();
            read.read_exact_at(&mut last, 131_072).unwrap();
            file.write_all_at(&[!last[0]], 131_072).unwrap();
            file.set_modified(modified).unwrap();
        }),
        ("has size", |b| {
            let file = File::options()
                .write(true)
                .open(b.join("edges/4096-bytes"))
                .unwrap();
            file.set_len(4095).unwrap();
        }),
        ("has mode", |b| {
            set_permissions(b.join("edges/0-bytes"), Permissions::from_mode(0o777)).unwrap();
        }),
        ("was modified at", |b| {
            let file = File::open(b.join("edges/1-bytes")).unwrap();
            file.set_modified(std::time::SystemTime::UNIX_EPOCH)
                .unwrap();
        }),
        ("points to", |b| {
            let link = b.join("links/in");
            let meta = link.symlink_metadata().unwrap();
            std::fs::remove_file(&link).unwrap();
            symlink("../edges/1-bytez", &link).unwrap();
            set_own_times(&link, &meta);
        }),
        ("only in the folder", |b| {
            std::fs::remove_file(b.join("names/-rf")).unwrap()
        }),
        ("only in the mount", |b| {
            std::fs::write(b.join("names/!first"), "").unwrap()
        }),
    ];
    let twins = Twins::new();
    for (expected, change) in change {
        let before = twins.compare().mismatches;
        // A directory's own time changes with its entries: set back, so that the names show.
        let times: Vec<_> = ["names", "links"]
            .map(|d| twins.mount().join(d))
            .into_iter()
            .map(|d| (d.metadata().unwrap().modified().unwrap(), d))
            .collect();
        change(&twins.mount());
        for (time, directory) in times {
            File::open(directory).unwrap().set_modified(time).unwrap();
        }
        let mut after = twins.compare().mismatches;
        after.retain(|mismatch| !before.contains(mismatch));
        assert!(
            after.iter().any(|m| m.contains(expected)),
            "{expected}: {after:?}"
        );
    }
}

#[test]
fn the_end_can_be_asked_for() {
    let twins = Twins::new();
    let shutdown = Shutdown::manual();
    let listing = Listing::of(&twins.folder(), &shutdown).unwrap();
    shutdown.request();
    assert!(Listing::of(&twins.folder(), &shutdown).is_err());
    let bar = ProgressBar::hidden();
    let outcome = compare(&listing, &twins.mount(), Pass::Cold, &shutdown, &bar);
    assert_eq!(outcome.bytes, 0);
}
