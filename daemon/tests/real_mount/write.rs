//! What is written in a mount: it is on the host at the close, and seen by the other mount at its next open.

use super::pair::{Pair, errno, writable};
use super::*;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::sync::{Arc, Barrier};

fn open(flags: i32) -> OpenOptions {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(true)
        .custom_flags(flags);
    options
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_closed_is_on_the_host_and_read_by_the_other_mount_at_its_next_open() {
    let work = |a: &Path, b: &Path, share: &Path| {
        for (round, len) in [0usize, 1, 4095, 4097, 1 << 20, (5 << 20) + 3]
            .into_iter()
            .enumerate()
        {
            let bytes = pattern(round as u64, len);
            fs::write(a.join("file"), &bytes).unwrap();
            assert!(fs::read(share.join("file")).unwrap() == bytes, "host {len}");
            assert!(fs::read(b.join("file")).unwrap() == bytes, "other {len}");
            assert_eq!(fs::metadata(b.join("file")).unwrap().len(), len as u64);
            // And back.
            let bytes = pattern(100 + round as u64, len / 2 + 1);
            fs::write(b.join("file"), &bytes).unwrap();
            assert!(fs::read(a.join("file")).unwrap() == bytes, "back {len}");
        }
    };
    Pair::new().await.run(work).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_closed_is_read_by_the_other_mount_after_its_term() {
    let term = std::time::Duration::from_millis(300);
    let options = Options {
        attr_ttl: term,
        ..Options::default()
    };
    let pair = Pair::with(&options, writable()).await;
    pair.run(move |a, b, _| {
        for round in 0..5 {
            let bytes = pattern(round, 100_000 + round as usize);
            fs::write(a.join("file"), &bytes).unwrap();
            std::thread::sleep(term);
            assert!(fs::read(b.join("file")).unwrap() == bytes, "round {round}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mount_reads_what_it_has_not_sent_yet() {
    let work = |a: &Path, _: &Path, _: &Path| {
        let mut file = open(0).open(a.join("file")).unwrap();
        let bytes = pattern(1, 300_000);
        for (i, piece) in bytes.chunks(777).enumerate() {
            file.write_all(piece).unwrap();
            if i % 50 == 0 {
                let end = (i * 777 + piece.len()) as u64;
                assert_eq!(file.metadata().unwrap().len(), end);
                let mut got = vec![0; piece.len()];
                file.read_exact_at(&mut got, (i * 777) as u64).unwrap();
                assert!(got == piece, "piece {i}");
            }
        }
        assert!(fs::read(a.join("file")).unwrap() == bytes);
        // Over what is there, at random places, and through another descriptor.
        let other = File::open(a.join("file")).unwrap();
        let mut model = bytes;
        for round in 0..200usize {
            let at = round * 7919 % 290_000;
            let piece = pattern(round as u64, 1 + round * 37 % 9000);
            file.write_all_at(&piece, at as u64).unwrap();
            model[at..at + piece.len()].copy_from_slice(&piece);
            let mut got = vec![0; 20_000.min(model.len() - at)];
            other.read_exact_at(&mut got, at as u64).unwrap();
            assert!(got == model[at..at + got.len()], "round {round}");
        }
    };
    Pair::new().await.run(work).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_mounts_that_create_exclusively_one_does() {
    let pair = Pair::new().await;
    pair.run(|a, b, share| {
        for round in 0..50 {
            let barrier = Arc::new(Barrier::new(2));
            let name = format!("file{round}");
            let threads = [a, b].map(|mnt| {
                let (barrier, path) = (barrier.clone(), mnt.join(&name));
                std::thread::spawn(move || {
                    barrier.wait();
                    OpenOptions::new().write(true).create_new(true).open(path)
                })
            });
            let made = threads.map(|t| t.join().unwrap());
            let errors: Vec<_> = made.iter().filter_map(|m| m.as_ref().err()).collect();
            assert_eq!(errors.len(), 1, "{made:?}");
            assert_eq!(errors[0].raw_os_error(), Some(libc::EEXIST));
            assert!(share.join(&name).exists());
        }
        // Also where the kernel believes that there is none.
        assert!(!a.join("late").exists());
        fs::write(b.join("late"), "theirs").unwrap();
        let late = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(a.join("late"));
        assert_eq!(errno(late), libc::EEXIST);
        // And without O_EXCL what is there is opened, not cut.
        let mut text = String::new();
        let mut file = open(0).open(a.join("late")).unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "theirs");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn appending_from_two_mounts_and_the_host_loses_no_byte() {
    const LINES: usize = 400;
    let work = |a: &Path, b: &Path, share: &Path| {
        fs::write(share.join("log"), "").unwrap();
        let threads: Vec<_> = [a, b, a, b, share]
            .iter()
            .enumerate()
            .map(|(writer, mnt)| {
                let path = mnt.join("log");
                std::thread::spawn(move || {
                    let mut file = OpenOptions::new().append(true).open(path).unwrap();
                    for line in 0..LINES {
                        let pad = "x".repeat(line % 50);
                        file.write_all(format!("{writer} {line} {pad}\n").as_bytes())
                            .unwrap();
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        for mnt in [share, a, b] {
            let text = fs::read_to_string(mnt.join("log")).unwrap();
            let mut next = [0; 5];
            for line in text.lines() {
                let mut words = line.split(' ');
                let writer: usize = words.next().unwrap().parse().unwrap();
                let number: usize = words.next().unwrap().parse().unwrap();
                assert_eq!(number, next[writer], "in order, each once: {line} {mnt:?}");
                assert_eq!(words.next().unwrap().len(), number % 50, "{line} {mnt:?}");
                next[writer] += 1;
            }
            assert_eq!(next, [LINES; 5]);
        }
    };
    Pair::new().await.run(work).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn truncating_at_open_empties_the_file_for_everybody() {
    let work = |a: &Path, b: &Path, share: &Path| {
        fs::write(a.join("file"), pattern(1, 50_000)).unwrap();
        assert_eq!(fs::read(b.join("file")).unwrap().len(), 50_000);
        let file = OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(b.join("file"))
            .unwrap();
        assert_eq!(file.metadata().unwrap().len(), 0);
        for mnt in [share, a, b] {
            assert_eq!(fs::metadata(mnt.join("file")).unwrap().len(), 0);
            assert_eq!(fs::read(mnt.join("file")).unwrap(), b"");
        }
    };
    Pair::new().await.run(work).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn truncating_both_ways_shows_zeros_where_nothing_was_written() {
    let work = |a: &Path, b: &Path, share: &Path| {
        let file = open(0).open(a.join("file")).unwrap();
        file.write_all_at(&pattern(1, 10_000), 0).unwrap();
        // Not sent yet, and cut off.
        file.set_len(5_000).unwrap();
        file.set_len(9_000).unwrap();
        let expected = [&pattern(1, 5_000)[..], &[0; 4_000]].concat();
        let mut got = Vec::new();
        (&file).read_to_end(&mut got).unwrap();
        assert!(got == expected);
        for mnt in [share, a, b] {
            assert!(fs::read(mnt.join("file")).unwrap() == expected);
        }
        // By name, in the other mount; seen through the descriptor at the next fstat.
        let other = OpenOptions::new().write(true).open(b.join("file"));
        other.unwrap().set_len(3).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 3);
        let mut small = [0; 10];
        assert_eq!(file.read_at(&mut small, 0).unwrap(), 3);
        // Writing after the end leaves a hole.
        file.write_all_at(b"end", 100_000).unwrap();
        drop(file);
        let whole = fs::read(share.join("file")).unwrap();
        assert_eq!(whole.len(), 100_003);
        assert!(whole[3..100_000].iter().all(|byte| *byte == 0));
    };
    Pair::new().await.run(work).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_beyond_four_gigabytes_land_where_they_were_meant() {
    let work = |a: &Path, b: &Path, share: &Path| {
        let far = (5u64 << 30) + 17;
        let file = open(0).open(a.join("file")).unwrap();
        file.write_all_at(&pattern(1, 70_000), far).unwrap();
        file.write_all_at(b"head", 0).unwrap();
        drop(file);
        let meta = fs::metadata(share.join("file")).unwrap();
        assert_eq!(meta.len(), far + 70_000);
        assert!(meta.blocks() * 512 < 1 << 20, "the rest is a hole");
        let file = File::open(b.join("file")).unwrap();
        let mut got = vec![0; 70_000];
        file.read_exact_at(&mut got, far).unwrap();
        assert!(got == pattern(1, 70_000));
        // Beyond what any file system holds.
        let file = open(0).open(a.join("file")).unwrap();
        let beyond = file.write_at(b"x", i64::MAX as u64);
        assert!(matches!(errno(beyond), libc::EFBIG | libc::EINVAL));
    };
    Pair::new().await.run(work).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn synchronous_writes_are_on_the_host_when_they_return() {
    let pair = Pair::new().await;
    let (a, share) = (pair.a(), pair.share());
    const WRITES: u64 = 10;
    for flag in [
        libc::O_DSYNC | libc::O_DIRECT,
        libc::O_DSYNC | libc::O_APPEND,
        libc::O_DSYNC,
        libc::O_SYNC,
    ] {
        let before = pair.mounted(0).snapshot();
        let (a, share) = (a.clone(), share.clone());
        blocking(move || {
            let file = open(flag).truncate(true).open(a.join("file")).unwrap();
            for i in 0..WRITES {
                file.write_all_at(&pattern(i, 4096), i * 4096).unwrap();
                // Not closed, not synced: there all the same.
                let there = fs::read(share.join("file")).unwrap();
                assert_eq!(there.len() as u64, (i + 1) * 4096);
                assert!(there[i as usize * 4096..] == pattern(i, 4096));
            }
        })
        .await;
        let after = pair.mounted(0).snapshot();
        let kernel_asked = after.fuse.fsync - before.fuse.fsync;
        assert_eq!(after.fuse.write - before.fuse.write, WRITES);
        let gathered = if flag & libc::O_APPEND == 0 {
            WRITES
        } else {
            0
        };
        assert_eq!(after.write.segments - before.write.segments, gathered);
        // Create or truncation, close; and for each write its bytes, which take the sync along, but at the end; and what
        // the kernel asks for besides.
        let changes = after.changes.changes - before.changes.changes;
        let least = 2 * WRITES - gathered;
        assert!(
            (least..=least + kernel_asked + 4).contains(&changes),
            "{changes} changes, {kernel_asked} syncs of the kernel"
        );
    }
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn synchronous_appends_are_done_once() {
    let pair = Pair::new().await;
    pair.run(|a, _, share| {
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .custom_flags(libc::O_DSYNC)
            .open(a.join("log"))
            .unwrap();
        let mut all = String::new();
        for i in 0..50 {
            file.write_all(format!("{i}\n").as_bytes()).unwrap();
            all += &format!("{i}\n");
            assert_eq!(fs::read_to_string(share.join("log")).unwrap(), all);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn direct_writes_and_reads_pass_the_page_cache() {
    let work = |a: &Path, b: &Path, share: &Path| {
        let file = open(libc::O_DIRECT).open(a.join("file")).unwrap();
        // Direct I/O wants aligned memory on most file systems; here any will do.
        file.write_all_at(&pattern(1, 1 << 20), 0).unwrap();
        file.write_all_at(&pattern(2, 4096), 8192).unwrap();
        let mut expected = pattern(1, 1 << 20);
        expected[8192..12288].copy_from_slice(&pattern(2, 4096));
        let mut got = vec![0; 1 << 20];
        file.read_exact_at(&mut got, 0).unwrap();
        assert!(got == expected);
        // Changed elsewhere, and seen through the same descriptor.
        let there = OpenOptions::new().write(true).open(b.join("file")).unwrap();
        there.write_all_at(&pattern(3, 4096), 0).unwrap();
        drop(there);
        let mut got = vec![0; 4096];
        file.read_exact_at(&mut got, 0).unwrap();
        assert!(got == pattern(3, 4096));
        drop(file);
        assert!(fs::read(share.join("file")).unwrap()[..4096] == pattern(3, 4096));
    };
    Pair::new().await.run(work).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn syncing_brings_the_data_to_the_host_before_any_close() {
    let work = |a: &Path, b: &Path, share: &Path| {
        let mut file = open(0).open(a.join("file")).unwrap();
        file.write_all(&pattern(1, 3_000_000)).unwrap();
        file.sync_all().unwrap();
        assert!(fs::read(share.join("file")).unwrap() == pattern(1, 3_000_000));
        file.seek(SeekFrom::Start(5)).unwrap();
        file.write_all(b"new").unwrap();
        file.sync_data().unwrap();
        assert_eq!(&fs::read(b.join("file")).unwrap()[5..8], b"new");
        // Names, too; and a descriptor that only reads can be synced as well.
        File::open(a).unwrap().sync_all().unwrap();
        File::open(a.join("file")).unwrap().sync_all().unwrap();
        rustix::fs::syncfs(File::open(a).unwrap()).unwrap();
    };
    Pair::new().await.run(work).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_umask_is_honoured() {
    let pair = Pair::new().await;
    pair.run(|a, _, share| {
        let script = "umask 027; touch file; mkdir dir; mkfifo pipe";
        let done = std::process::Command::new("sh")
            .args(["-c", script])
            .current_dir(a)
            .status();
        assert!(done.unwrap().success());
        for (name, mode) in [("file", 0o640), ("dir", 0o750), ("pipe", 0o640)] {
            for mnt in [a, share] {
                let meta = fs::symlink_metadata(mnt.join(name)).unwrap();
                assert_eq!(meta.permissions().mode() & 0o7777, mode, "{name}");
            }
        }
    })
    .await;
}
