//! Mapped files, and files that have lost their names.

use super::pair::{Pair, errno};
use super::*;
use rustix::mm::{MapFlags, MsyncFlags, ProtFlags, mmap, msync, munmap};
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::process::{Command, Stdio};

const LEN: usize = 1 << 20;

fn open(path: &Path) -> File {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true);
    options.open(path).unwrap()
}

/// Where a process of [`act`] is told what to do.
const ACTS: &str = "WORMHOLE_TEST_MAPS";

/// No test: maps a file and stores a pattern in it. A process of its own, because one that unmaps what it serves
/// itself waits for itself.
#[test]
#[ignore = "run by others as a process of its own"]
fn act() {
    let Ok(acts) = std::env::var(ACTS) else {
        return;
    };
    let mut words = acts.splitn(4, ' ');
    let mut number = || words.next().unwrap().parse::<i32>().unwrap();
    let (flags, seed) = (number(), number());
    let then = words.next().unwrap();
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(flags);
    let file = options.open(words.next().unwrap()).unwrap();
    let (prot, how) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
    // SAFETY: the kernel picks a free place, nobody cuts the file, and what is mapped is used for as long only.
    unsafe {
        let at = mmap(std::ptr::null_mut(), LEN, prot, how, &file, 0).unwrap();
        drop(file);
        let bytes = std::slice::from_raw_parts_mut(at.cast::<u8>(), LEN);
        bytes.copy_from_slice(&pattern(seed as u64, LEN));
        match then {
            "msync" => msync(at, LEN, MsyncFlags::SYNC).unwrap(),
            "munmap" => munmap(at, LEN).unwrap(),
            _ => return,
        }
    }
    println!("map: done");
    let _ = std::io::stdin().read(&mut [0]);
}

/// Has `path` mapped and filled, and then `msync`ed, `munmap`ped, or left to the end of the process; looks
/// at it when that is done.
fn mapped(path: &Path, flags: i32, seed: i32, then: &str, look: impl FnOnce()) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["mapped::act", "--exact", "--ignored", "--nocapture"])
        .env(ACTS, format!("{flags} {seed} {then} {}", path.display()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    if then == "exit" {
        lines.for_each(drop);
        assert!(child.wait().unwrap().success());
        return look();
    }
    let mut lines = lines.map(Result::unwrap);
    assert!(lines.any(|line| line.ends_with("map: done")));
    look();
    drop(child.stdin.take());
    lines.for_each(drop);
    assert!(child.wait().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_in_mapped_memory_is_on_the_host_when_it_was_synced_or_unmapped() {
    let work = |a: &Path, b: &Path, share: &Path| {
        let mut seed = 0;
        for flags in [0, libc::O_DIRECT, libc::O_APPEND] {
            for then in ["msync", "munmap", "exit"] {
                seed += 1;
                fs::write(a.join("file"), vec![0; LEN]).unwrap();
                mapped(&a.join("file"), flags, seed, then, || {
                    let is_there = || {
                        let there = fs::read(share.join("file")).unwrap();
                        there == pattern(seed as u64, LEN)
                    };
                    // What is unmapped after its last descriptor was closed goes there by itself.
                    for _ in 0..500 {
                        if then == "msync" || is_there() {
                            break;
                        }
                        std::thread::sleep(std::time::Duration::from_millis(10));
                    }
                    assert!(is_there(), "{flags:o} {then}");
                    let other = fs::read(b.join("file")).unwrap();
                    assert!(other == pattern(seed as u64, LEN));
                });
                // And what is written over it by calls, here or there, shows to those who read.
                let file = open(&a.join("file"));
                file.write_all_at(b"by call", 5000).unwrap();
                drop(file);
                assert_eq!(
                    &fs::read(share.join("file")).unwrap()[5000..5007],
                    b"by call"
                );
            }
        }
    };
    Pair::new().await.run(work).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_without_a_name_is_read_written_and_looked_at() {
    let work = |a: &Path, _: &Path, share: &Path| {
        for has_dirty_data in [false, true] {
            let file = open(&a.join("file"));
            file.write_all_at(&pattern(1, 100_000), 0).unwrap();
            if !has_dirty_data {
                file.sync_all().unwrap();
            }
            fs::remove_file(a.join("file")).unwrap();
            assert!(!share.join("file").exists() && !a.join("file").exists());
            let meta = file.metadata().unwrap();
            assert_eq!((meta.nlink(), meta.len()), (0, 100_000));
            let mut got = vec![0; 100_000];
            file.read_exact_at(&mut got, 0).unwrap();
            assert!(got == pattern(1, 100_000));
            file.write_all_at(&pattern(2, 50_000), 80_000).unwrap();
            file.sync_all().unwrap();
            assert_eq!(file.metadata().unwrap().len(), 130_000);
            file.set_len(90_000).unwrap();
            assert_eq!(file.metadata().unwrap().len(), 90_000);
            file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))
                .unwrap();
            got.truncate(10_000);
            file.read_exact_at(&mut got, 80_000).unwrap();
            assert!(got == pattern(2, 50_000)[..10_000]);
            // Another file under its name is another file.
            fs::write(a.join("file"), "other").unwrap();
            assert_eq!(file.metadata().unwrap().len(), 90_000);
            assert_eq!(fs::read(a.join("file")).unwrap(), b"other");
            fs::remove_file(a.join("file")).unwrap();
        }
    };
    Pair::new().await.run(work).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_only_read_outlives_its_name() {
    let work = |a: &Path, _: &Path, share: &Path| {
        fs::write(share.join("file"), pattern(1, 500_000)).unwrap();
        // Never read before its name goes, by unlink and by rename.
        for replaced in [false, true] {
            let file = File::open(a.join("file")).unwrap();
            fs::write(a.join("new"), "new").unwrap();
            match replaced {
                true => fs::rename(a.join("new"), a.join("file")).unwrap(),
                false => fs::remove_file(a.join("file")).unwrap(),
            }
            let mut got = Vec::new();
            (&file).read_to_end(&mut got).unwrap();
            assert!(got == pattern(1, 500_000));
            assert_eq!(file.metadata().unwrap().len(), 500_000);
            drop(file);
            fs::write(share.join("file"), pattern(1, 500_000)).unwrap();
        }
    };
    Pair::new().await.run(work).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_the_other_mount_unlinked_stays_with_who_has_it_open() {
    let work = |a: &Path, b: &Path, _: &Path| {
        for replaced in [false, true] {
            let mut writer = open(&a.join("file"));
            writer.write_all(&pattern(1, 10_000)).unwrap();
            writer.sync_all().unwrap();
            let reader = File::open(a.join("file")).unwrap();
            fs::write(b.join("new"), "new").unwrap();
            match replaced {
                true => fs::rename(b.join("new"), b.join("file")).unwrap(),
                false => fs::remove_file(b.join("file")).unwrap(),
            }
            writer.write_all(&pattern(2, 10_000)).unwrap();
            writer.sync_all().unwrap();
            let mut got = vec![0; 20_000];
            reader.read_exact_at(&mut got, 0).unwrap();
            assert!(got == [pattern(1, 10_000), pattern(2, 10_000)].concat());
            assert_eq!(writer.metadata().unwrap().len(), 20_000);
            drop((reader, writer));
            match replaced {
                true => assert_eq!(fs::read(a.join("file")).unwrap(), b"new"),
                false => assert_eq!(errno(File::open(a.join("file"))), libc::ENOENT),
            }
        }
    };
    Pair::new().await.run(work).await;
}
