//! The space of files: allocated, freed, looked for, copied on the host, and used up.

use super::pair::{Pair, errno, strict, writable};
use super::*;
use rustix::fs::{FallocateFlags, SeekFrom, copy_file_range, fallocate, seek};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::process::Command;

const BLOCK: u64 = 4096;

fn create(path: &Path) -> File {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(true);
    options.open(path).unwrap()
}

fn allocate(file: &File, flags: FallocateFlags, offset: u64, len: u64) -> io::Result<()> {
    Ok(fallocate(file, flags, offset, len)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn space_is_allocated_punched_and_zeroed() {
    let work = |a: &Path, b: &Path, share: &Path| {
        let keep = FallocateFlags::KEEP_SIZE;
        let file = create(&a.join("file"));
        allocate(&file, FallocateFlags::empty(), 0, 16 * BLOCK).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 16 * BLOCK);
        assert!(file.metadata().unwrap().blocks() >= 16 * 8);
        allocate(&file, keep, 16 * BLOCK, 16 * BLOCK).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 16 * BLOCK);
        assert!(fs::metadata(share.join("file")).unwrap().blocks() >= 32 * 8);
        // Written and not sent when the hole is made.
        let mut model = pattern(1, 16 * BLOCK as usize);
        file.write_all_at(&model, 0).unwrap();
        allocate(
            &file,
            FallocateFlags::PUNCH_HOLE | keep,
            2 * BLOCK,
            4 * BLOCK,
        )
        .unwrap();
        model[2 * BLOCK as usize..6 * BLOCK as usize].fill(0);
        let read = |mnt: &Path| fs::read(mnt.join("file")).unwrap();
        assert!(read(a) == model && read(b) == model && read(share) == model);
        // At no boundary, and past the end.
        match allocate(&file, FallocateFlags::ZERO_RANGE, 14 * BLOCK + 7, 4 * BLOCK) {
            Ok(()) => {
                model.truncate(14 * BLOCK as usize + 7);
                model.resize(18 * BLOCK as usize + 7, 0);
            }
            // Not every file system can: then it says so.
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EOPNOTSUPP)),
        }
        assert!(read(a) == model && read(b) == model && read(share) == model);
        let long = allocate(&file, FallocateFlags::COLLAPSE_RANGE, 0, BLOCK);
        assert_eq!(errno(long), libc::EOPNOTSUPP);
    };
    Pair::new().await.run(work).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn data_and_holes_are_where_they_are_on_the_host() {
    let work = |a: &Path, b: &Path, share: &Path| {
        let file = create(&a.join("file"));
        file.set_len(1 << 20).unwrap();
        file.write_all_at(&[1; 4096], 256 << 10).unwrap();
        file.write_all_at(&[1; 4096], 768 << 10).unwrap();
        // What was written here and not sent counts.
        let map = |file: &File| {
            let mut at = 0;
            let mut found = Vec::new();
            while let Ok(data) = seek(file, SeekFrom::Data(at)) {
                at = seek(file, SeekFrom::Hole(data)).unwrap();
                found.push((data, at));
            }
            found
        };
        let here = map(&file);
        let there = map(&File::open(share.join("file")).unwrap());
        assert_eq!(here, there);
        assert_eq!(map(&File::open(b.join("file")).unwrap()), there);
        assert_eq!(here.len(), 2, "{here:?}");
        let beyond = seek(&file, SeekFrom::Data(2 << 20));
        assert_eq!(beyond, Err(rustix::io::Errno::NXIO));
        let none = seek(&file, SeekFrom::Data(900 << 10));
        assert_eq!(none, Err(rustix::io::Errno::NXIO));
        assert_eq!(seek(&file, SeekFrom::Hole(900 << 10)), Ok(900 << 10));
        // `cp` keeps the holes.
        let copied = Command::new("cp")
            .args(["--sparse=auto", "--reflink=never", "file", "copy"])
            .current_dir(a)
            .status();
        assert!(copied.unwrap().success());
        let blocks = fs::metadata(share.join("copy")).unwrap().blocks();
        assert!(blocks * 512 < 512 << 10, "{blocks} blocks");
        assert!(fs::read(share.join("copy")).unwrap() == fs::read(a.join("file")).unwrap());
    };
    Pair::new().await.run(work).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copying_within_the_share_moves_no_bytes() {
    const LEN: usize = 8 << 20;
    let pair = Pair::new().await;
    let (a, share) = (pair.a(), pair.share());
    fs::write(share.join("from"), pattern(1, LEN)).unwrap();
    let work = move || {
        let (from, to) = (File::open(a.join("from")).unwrap(), create(&a.join("to")));
        let (mut at, mut there) = (1000, 500);
        while at < LEN as u64 {
            let copied = copy_file_range(&from, Some(&mut at), &to, Some(&mut there), LEN).unwrap();
            assert!(copied > 0);
        }
        assert_eq!(to.metadata().unwrap().len(), (LEN - 500) as u64);
        let end = copy_file_range(&from, Some(&mut at), &to, Some(&mut there), 10);
        assert_eq!(end, Ok(0));
        let copied = fs::read(share.join("to")).unwrap();
        assert!(copied[500..] == pattern(1, LEN)[1000..]);
        assert!(copied[..500].iter().all(|byte| *byte == 0));
    };
    blocking(work).await;
    let snapshot = pair.mounted(0).snapshot();
    assert_eq!(snapshot.read.fetched_bytes, 0);
    assert_eq!(snapshot.write.taken_bytes, 0);
    // The same within one file, of what was written a moment ago.
    let (a, share) = (pair.a(), pair.share());
    blocking(move || {
        let file = create(&a.join("self"));
        file.write_all_at(&pattern(2, 100_000), 0).unwrap();
        let (mut at, mut there) = (0, 200_000);
        let copied = copy_file_range(&file, Some(&mut at), &file, Some(&mut there), 100_000);
        assert_eq!(copied, Ok(100_000));
        let whole = fs::read(share.join("self")).unwrap();
        assert!(whole[200_000..] == pattern(2, 100_000));
        let mut got = vec![0; 100_000];
        file.read_exact_at(&mut got, 200_000).unwrap();
        assert!(got == pattern(2, 100_000));
    })
    .await;
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_of_the_file_system_are_the_hosts() {
    let work = |a: &Path, _: &Path, share: &Path| {
        let (here, there) = (
            rustix::fs::statvfs(a).unwrap(),
            rustix::fs::statvfs(share).unwrap(),
        );
        assert_eq!(here.f_frsize, there.f_frsize);
        assert_eq!(here.f_blocks, there.f_blocks);
        assert_eq!(here.f_files, there.f_files);
        assert_eq!(here.f_namemax, there.f_namemax);
        let off = here.f_bavail.abs_diff(there.f_bavail) * here.f_frsize;
        assert!(off < 4 << 30, "others write as well, but not so much");
    };
    Pair::new().await.run(work).await;
}

/// A file system of so many bytes, unmounted when dropped.
struct Small(PathBuf);

impl Small {
    /// Mounted at `at`; `None` for who may not.
    fn mount(at: &Path, bytes: u64) -> Option<Self> {
        fs::create_dir(at).unwrap();
        let size = format!("size={bytes}");
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(at)
            .status()
            .unwrap();
        done.success().then(|| Self(at.to_owned()))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_at_the_write_the_close_or_the_sync() {
    let dir = tempfile::tempdir().unwrap();
    let share = dir.path().join("share");
    let Some(small) = Small::mount(&share, 1 << 20) else {
        return;
    };
    let pair = Pair::over(dir, share, &strict(), writable()).await;
    let close = |file: File| {
        let fd = std::os::fd::IntoRawFd::into_raw_fd(file);
        // SAFETY: the descriptor was just taken out of its owner.
        match unsafe { libc::close(fd) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    pair.run(move |a, b, share| {
        for round in 0..3 {
            // Told by write or close.
            let mut file = create(&a.join("big"));
            let mut failed = file.write_all(&pattern(1, 3 << 20)).err();
            failed = failed.or(close(file).err());
            assert_eq!(
                failed.unwrap().raw_os_error(),
                Some(libc::ENOSPC),
                "{round}"
            );
            // Told by write or sync, and once.
            let mut file = create(&b.join("big"));
            let mut failed = file.write_all(&pattern(1, 3 << 20)).err();
            failed = failed.or(file.sync_all().err());
            assert_eq!(
                failed.unwrap().raw_os_error(),
                Some(libc::ENOSPC),
                "{round}"
            );
            file.set_len(0).unwrap();
            assert_eq!(close(file).map_err(|e| e.to_string()), Ok(()));
            // What does not fit at once is told at once.
            let file = create(&a.join("big"));
            let no_room = allocate(&file, FallocateFlags::empty(), 0, 8 << 20);
            assert_eq!(errno(no_room), libc::ENOSPC);
            drop(file);
            fs::remove_file(b.join("big")).unwrap();
            // And there is room again.
            fs::write(a.join("fits"), pattern(2, 500_000)).unwrap();
            assert!(fs::read(share.join("fits")).unwrap() == pattern(2, 500_000));
        }
    })
    .await;
    drop(small);
}
