//! The host's disk is full, or its folder is gone.

use super::*;
use std::io::{self, Write};

const DISK_BYTES: usize = 16 << 20;

/// A host whose share is a small disk of its own.
fn small_disk(test: &str) -> Option<Stage> {
    let on_tmpfs = |share: &Path| {
        Command::new("mount")
            .args(["-t", "tmpfs", "-o"])
            .arg(format!("size={DISK_BYTES}"))
            .arg("tmpfs")
            .arg(share)
            .status()
            .is_ok_and(|status| status.success())
    };
    let stage = Stage::on(on_tmpfs, &[]);
    if stage.is_none() {
        eprintln!("{test} did not run: no small disk can be mounted");
    }
    stage
}

/// Unmounts the disk, whatever becomes of the test.
struct Disk(PathBuf);

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Writes `len` bytes: when it fails, where, and how.
fn fill(path: &Path, len: usize) -> Result<(), (&'static str, io::Error)> {
    let mut file = fs::File::create(path).map_err(|error| ("open", error))?;
    for piece in account::pattern("fill", 0, len).chunks(128 << 10) {
        file.write_all(piece).map_err(|error| ("write", error))?;
    }
    file.sync_all().map_err(|error| ("fsync", error))
}

#[test]
fn a_full_disk_reaches_the_writer_and_what_was_safe_stays() {
    let Some(stage) = small_disk("a_full_disk_reaches_the_writer_and_what_was_safe_stays") else {
        return;
    };
    let _disk = Disk(stage.share());
    let mnt = stage.mnt();
    let crew = Crew::of(&mnt, &[("log", writers::log), ("slots", writers::slots)]);
    sleep(0.5);
    let path = mnt.join("big");
    let (at, error) = within("filling the disk", move || {
        fill(&path, 2 * DISK_BYTES).unwrap_err()
    });
    assert_eq!(error.kind(), io::ErrorKind::StorageFull, "at {at}: {error}");
    sleep(0.5);
    let full = Instant::now();
    let path = mnt.join("big");
    within("removing", move || fs::remove_file(path).unwrap());
    sleep(2.0);
    let accounts = crew.rest();
    accounts.check(&stage);
    accounts.went_on_after(full);
    for error in accounts.errors() {
        assert!(error.contains("No space"), "{error}");
    }
    // There is room again.
    let path = mnt.join("small");
    within("writing", move || fill(&path, DISK_BYTES / 4).unwrap());
    let small = fs::read(stage.share().join("small")).unwrap();
    assert!(small == account::pattern("fill", 0, DISK_BYTES / 4));
    stage.end();
}

/// A program that writes starts another, which closes what it inherited. The error is not the child's to take.
#[test]
fn an_error_is_told_to_the_parent_though_a_child_closed() {
    let Some(stage) = small_disk("an_error_is_told_to_the_parent_though_a_child_closed") else {
        return;
    };
    let _disk = Disk(stage.share());
    let path = stage.mnt().join("big");
    let told = within("writing too much", move || {
        let mut file = fs::File::create(path).unwrap();
        file.write_all(&vec![1; 2 * DISK_BYTES]).unwrap();
        assert!(Command::new("true").status().unwrap().success());
        file.sync_all()
    });
    let error = told.expect_err("the disk is full");
    assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{error}");
    stage.end();
}

/// Small files that are only closed: whoever is told it worked has his file.
#[test]
fn closing_tells_of_a_full_disk() {
    let Some(stage) = small_disk("closing_tells_of_a_full_disk") else {
        return;
    };
    let _disk = Disk(stage.share());
    let crew = Crew::of(
        &stage.mnt(),
        &[("a", writers::files), ("b", writers::files)],
    );
    sleep(6.0);
    let accounts = crew.rest();
    accounts.check(&stage);
    let errors = accounts.errors();
    assert!(!errors.is_empty(), "the disk was never full");
    for error in errors {
        assert!(error.contains("No space"), "{error}");
    }
    stage.end();
}

#[test]
fn a_folder_that_is_removed_fails_writers_and_hangs_nobody() {
    let stage = Stage::new(&[]);
    let mnt = stage.mnt();
    let crew = Crew::at(&mnt);
    sleep(1.5);
    // Writers make new files meanwhile: until nothing is left.
    until("the folder is removed", || {
        let _ = fs::remove_dir_all(stage.share());
        !stage.share().exists()
    });
    let removed = Instant::now();
    sleep(2.0);
    let accounts = crew.rest();
    let told = accounts.error_times();
    assert!(told.iter().any(|at| *at > removed), "nobody was told");
    let path = mnt.join("new");
    let error = within("making a file", move || fs::write(path, "x").unwrap_err());
    let errno = error.raw_os_error().unwrap();
    assert!(
        [libc::ENOENT, libc::ESTALE, libc::EIO].contains(&errno),
        "{error}"
    );
    within("looking", move || {
        let _ = fs::read_dir(&mnt).map(Iterator::count);
        let _ = fs::metadata(&mnt);
    });
    stage.end();
}
