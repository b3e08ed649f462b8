//! Names given and taken in a mount: what each call does and how it fails, and what others see meanwhile.

use super::pair::{Pair, errno, strict, writable};
use super::*;
use rustix::fs::{AtFlags, CWD, FileType, Mode, RenameFlags, mknodat, renameat_with};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, symlink};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

fn rename(from: &Path, to: &Path, flags: RenameFlags) -> io::Result<()> {
    Ok(renameat_with(CWD, from, CWD, to, flags)?)
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn directories_are_made_filled_and_removed() {
    let work = |a: &Path, b: &Path, share: &Path| {
        fs::create_dir_all(a.join("x/y/z")).unwrap();
        fs::write(a.join("x/y/z/file"), "1").unwrap();
        assert_eq!(fs::read(b.join("x/y/z/file")).unwrap(), b"1");
        assert_eq!(errno(fs::create_dir(b.join("x"))), libc::EEXIST);
        assert_eq!(errno(fs::remove_dir(a.join("x/y"))), libc::ENOTEMPTY);
        assert_eq!(errno(fs::remove_file(a.join("x"))), libc::EISDIR);
        assert_eq!(errno(fs::remove_dir(a.join("x/y/z/file"))), libc::ENOTDIR);
        assert_eq!(fs::metadata(a.join("x")).unwrap().nlink(), 3);
        fs::remove_dir_all(b.join("x")).unwrap();
        assert!(!a.join("x").exists() && !share.join("x").exists());
        assert_eq!(fs::metadata(a).unwrap().nlink(), 2, "links of the root");
        // And made again under the same name, at once.
        for _ in 0..20 {
            fs::create_dir(a.join("x")).unwrap();
            fs::remove_dir(a.join("x")).unwrap();
        }
        // A directory that is open can be removed.
        fs::create_dir(a.join("open")).unwrap();
        let open = File::open(a.join("open")).unwrap();
        fs::remove_dir(a.join("open")).unwrap();
        drop(open);
    };
    Pair::new().await.run(work).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_arrive_as_themselves() {
    let work = |a: &Path, b: &Path, _: &Path| {
        let long = a.join("n".repeat(256));
        assert_eq!(errno(fs::write(&long, "")), libc::ENAMETOOLONG);
        assert_eq!(errno(fs::create_dir(&long)), libc::ENAMETOOLONG);
        assert_eq!(errno(fs::metadata(&long)), libc::ENAMETOOLONG);
        assert!(fs::write(a.join("n".repeat(255)), "").is_ok());
        symlink("loop", a.join("loop")).unwrap();
        assert_eq!(errno(File::open(a.join("loop"))), libc::ELOOP);
        fs::write(a.join("file"), "").unwrap();
        assert_eq!(errno(fs::write(a.join("file/x"), "")), libc::ENOTDIR);
        assert_eq!(errno(fs::write(a, "")), libc::EISDIR);
        assert_eq!(errno(fs::remove_file(a.join("none"))), libc::ENOENT);
        assert_eq!(errno(fs::remove_dir(a.join("none"))), libc::ENOENT);
        assert_eq!(errno(fs::write(a.join("none/x"), "")), libc::ENOENT);
        fs::create_dir(a.join("dir")).unwrap();
        assert_eq!(
            errno(fs::rename(a.join("dir"), a.join("dir/in"))),
            libc::EINVAL
        );
        assert_eq!(
            errno(fs::rename(a.join("file"), a.join("dir"))),
            libc::EISDIR
        );
        assert_eq!(
            errno(fs::rename(a.join("dir"), a.join("file"))),
            libc::ENOTDIR
        );
        fs::write(a.join("dir/x"), "").unwrap();
        fs::create_dir(a.join("other")).unwrap();
        assert_eq!(
            errno(fs::rename(a.join("other"), a.join("dir"))),
            libc::ENOTEMPTY
        );
        assert_eq!(
            errno(fs::rename(a.join("file"), b.join("moved"))),
            libc::EXDEV
        );
        assert_eq!(
            errno(fs::hard_link(a.join("file"), b.join("linked"))),
            libc::EXDEV
        );
        assert_eq!(
            errno(fs::hard_link(a.join("dir"), a.join("d2"))),
            libc::EPERM
        );
        assert_eq!(
            errno(fs::hard_link(a.join("file"), a.join("dir"))),
            libc::EEXIST
        );
        assert_eq!(errno(symlink("x", a.join("file"))), libc::EEXIST);
        assert_eq!(errno(fs::remove_dir(a)), libc::EBUSY);
        let mut unnamed = File::options();
        unnamed.write(true).custom_flags(libc::O_TMPFILE);
        assert_eq!(errno(unnamed.open(a)), libc::EOPNOTSUPP);
        // Known there, taken away elsewhere.
        assert!(a.join("dir/x").exists());
        fs::remove_file(b.join("dir/x")).unwrap();
        assert_eq!(errno(fs::remove_file(a.join("dir/x"))), libc::ENOENT);
    };
    Pair::new().await.run(work).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn renaming_replaces_refuses_or_exchanges() {
    let work = |a: &Path, b: &Path, share: &Path| {
        fs::write(a.join("one"), "1").unwrap();
        fs::write(a.join("two"), "2").unwrap();
        let (one, two) = (a.join("one"), a.join("two"));
        let refused = rename(&one, &two, RenameFlags::NOREPLACE);
        assert_eq!(errno(refused), libc::EEXIST);
        rename(&one, &two, RenameFlags::EXCHANGE).unwrap();
        for mnt in [a, b, share] {
            assert_eq!(fs::read(mnt.join("one")).unwrap(), b"2");
            assert_eq!(fs::read(mnt.join("two")).unwrap(), b"1");
        }
        rename(&one, &a.join("three"), RenameFlags::NOREPLACE).unwrap();
        assert_eq!(names(b), ["three", "two"]);
        assert_eq!(
            errno(rename(&one, &two, RenameFlags::EXCHANGE)),
            libc::ENOENT
        );
        // A file and a directory with something in it.
        fs::create_dir_all(a.join("dir")).unwrap();
        fs::write(a.join("dir/in"), "in").unwrap();
        rename(&two, &a.join("dir"), RenameFlags::EXCHANGE).unwrap();
        assert_eq!(fs::read(a.join("two/in")).unwrap(), b"in");
        assert_eq!(fs::read(b.join("two/in")).unwrap(), b"in");
        assert_eq!(fs::read(a.join("dir")).unwrap(), b"1");
        // Across directories, and directories themselves, with what is open in them.
        let file = File::open(a.join("two/in")).unwrap();
        fs::create_dir(a.join("deep")).unwrap();
        fs::rename(a.join("two"), a.join("deep/two")).unwrap();
        assert_eq!(fs::read(a.join("deep/two/in")).unwrap(), b"in");
        assert_eq!(file.metadata().unwrap().len(), 2);
        // Onto itself, and onto another name of the same file, nothing happens.
        fs::rename(a.join("three"), a.join("three")).unwrap();
        fs::hard_link(a.join("three"), a.join("four")).unwrap();
        fs::rename(a.join("three"), a.join("four")).unwrap();
        assert_eq!(names(a), ["deep", "dir", "four", "three"]);
        assert_eq!(names(b), names(share));
        let whiteout = rename(&a.join("three"), &a.join("w"), RenameFlags::WHITEOUT);
        assert_eq!(errno(whiteout), libc::EINVAL);
    };
    Pair::new().await.run(work).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_one_file_are_one_file() {
    let mut pair = Pair::new().await;
    let (a, b, share) = (pair.a(), pair.b(), pair.share());
    let inode = blocking(move || {
        fs::write(a.join("one"), "text").unwrap();
        fs::hard_link(a.join("one"), a.join("two")).unwrap();
        fs::create_dir(a.join("dir")).unwrap();
        fs::hard_link(b.join("two"), b.join("dir/three")).unwrap();
        let there = fs::metadata(share.join("one")).unwrap();
        assert_eq!(there.nlink(), 3);
        for mnt in [&a, &b] {
            for name in ["one", "two", "dir/three"] {
                let here = fs::metadata(mnt.join(name)).unwrap();
                assert_eq!((here.nlink(), here.ino()), (3, there.ino()), "{name}");
            }
        }
        fs::write(b.join("dir/three"), "changed").unwrap();
        assert_eq!(fs::read(a.join("one")).unwrap(), b"changed");
        fs::remove_file(a.join("two")).unwrap();
        assert_eq!(fs::metadata(a.join("one")).unwrap().nlink(), 2);
        assert_eq!(fs::metadata(b.join("one")).unwrap().nlink(), 2);
        // A symlink's names as well.
        symlink("one", a.join("soft")).unwrap();
        fs::hard_link(a.join("soft"), a.join("soft2")).unwrap();
        let soft = fs::symlink_metadata(b.join("soft2")).unwrap();
        assert_eq!(soft.nlink(), 2);
        assert!(soft.is_symlink());
        there.ino()
    })
    .await;
    pair.unmount(0).await;
    pair.mount(0, &strict()).await;
    pair.run(move |a, b, _| {
        for mnt in [a, b] {
            let here = fs::metadata(mnt.join("dir/three")).unwrap();
            assert_eq!((here.nlink(), here.ino()), (2, inode));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn archives_and_clones_keep_hard_links() {
    let work = |a: &Path, b: &Path, _: &Path| {
        fs::create_dir(a.join("src")).unwrap();
        for i in 0..20 {
            fs::write(a.join(format!("src/f{i}")), pattern(i, 5000)).unwrap();
            fs::hard_link(a.join(format!("src/f{i}")), a.join(format!("src/l{i}"))).unwrap();
        }
        let script = "set -e; tar cf archive src; mkdir out; tar xf archive -C out; \
             git -c init.defaultBranch=main init -q repo; cd repo; \
             git config user.email a@b; git config user.name a; cp -r ../src .; \
             git add .; git commit -qm one; git gc -q; git fsck --strict; cd ..; \
             git clone -q repo clone; cd clone; git fsck --strict; git status --porcelain";
        let done = std::process::Command::new("sh")
            .args(["-c", script])
            .current_dir(a)
            .output()
            .unwrap();
        assert!(done.status.success(), "{done:?}");
        assert!(done.stdout.is_empty(), "{done:?}");
        for i in 0..20 {
            let (one, two) = (format!("out/src/f{i}"), format!("out/src/l{i}"));
            let (one, two) = (fs::metadata(b.join(one)), fs::metadata(b.join(two)));
            assert_eq!(one.unwrap().ino(), two.unwrap().ino());
            let cloned = fs::read(b.join(format!("clone/src/l{i}"))).unwrap();
            assert!(cloned == pattern(i, 5000));
        }
    };
    Pair::new().await.run(work).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pipes_and_sockets_are_made_and_devices_only_when_allowed() {
    let work = |a: &Path, b: &Path, share: &Path| {
        let mode = Mode::from_raw_mode(0o644);
        let make = |name: &str, kind, device| -> io::Result<()> {
            Ok(mknodat(CWD, a.join(name), kind, mode, device)?)
        };
        make("pipe", FileType::Fifo, 0).unwrap();
        make("socket", FileType::Socket, 0).unwrap();
        make("plain", FileType::RegularFile, 0).unwrap();
        let null = rustix::fs::makedev(1, 3);
        assert_eq!(
            errno(make("null", FileType::CharacterDevice, null)),
            libc::EPERM
        );
        let disk = rustix::fs::makedev(7, 0);
        assert_eq!(
            errno(make("disk", FileType::BlockDevice, disk)),
            libc::EPERM
        );
        for mnt in [a, b, share] {
            let kind = |name| fs::symlink_metadata(mnt.join(name)).unwrap().file_type();
            assert!(kind("pipe").is_fifo());
            assert!(kind("socket").is_socket());
            assert!(kind("plain").is_file());
            assert_eq!(names(mnt).len(), 3);
        }
        // A pipe of a mount joins programs of the mounting machine.
        let path = a.join("pipe");
        let writer = std::thread::spawn(move || fs::write(path, "through").unwrap());
        assert_eq!(fs::read(a.join("pipe")).unwrap(), b"through");
        writer.join().unwrap();
        let listener = std::os::unix::net::UnixListener::bind(a.join("bound")).unwrap();
        std::os::unix::net::UnixStream::connect(a.join("bound")).unwrap();
        drop(listener);
        rustix::fs::unlinkat(CWD, b.join("pipe"), AtFlags::empty()).unwrap();
        assert!(!share.join("pipe").exists());
    };
    Pair::new().await.run(work).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_are_made_where_they_are_allowed() {
    let rules = wormhole::host::ShareRules {
        allow_devices: true,
        ..writable()
    };
    let pair = Pair::with(&strict(), rules).await;
    pair.run(|a, b, share| {
        let null = rustix::fs::makedev(1, 3);
        let mode = Mode::from_raw_mode(0o666);
        match mknodat(CWD, a.join("null"), FileType::CharacterDevice, mode, null) {
            // Only root may, here and there.
            Err(rustix::io::Errno::PERM) => return,
            made => made.unwrap(),
        }
        for mnt in [a, b, share] {
            let meta = fs::symlink_metadata(mnt.join("null")).unwrap();
            assert!(meta.file_type().is_char_device());
            assert_eq!(meta.rdev(), null);
        }
        // The mount is `nodev`.
        assert_eq!(errno(File::open(a.join("null"))), libc::EACCES);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_renamed_over_is_never_missing_nor_partial() {
    renamed_over_and_over(&strict()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_renamed_over_within_a_term_is_never_missing_nor_partial() {
    renamed_over_and_over(&Options::default()).await;
}

async fn renamed_over_and_over(options: &Options) {
    const LEN: usize = 20_000;
    let whole = |bytes: &[u8]| bytes.len() == LEN && bytes.iter().all(|byte| *byte == bytes[0]);
    let work = move |a: &Path, b: &Path, share: &Path| {
        fs::write(a.join("file"), vec![0; LEN]).unwrap();
        let done = Arc::new(AtomicBool::new(false));
        let readers: Vec<_> = [a, b, a, share]
            .map(|mnt| {
                let (path, done) = (mnt.join("file"), done.clone());
                std::thread::spawn(move || {
                    let mut reads = 0;
                    while !done.load(Relaxed) {
                        let bytes = fs::read(&path).unwrap();
                        assert!(whole(&bytes), "{} bytes", bytes.len());
                        assert_eq!(fs::metadata(&path).unwrap().len(), LEN as u64);
                        reads += 1;
                    }
                    reads
                })
            })
            .into();
        let writers: Vec<_> = [a, b]
            .map(|mnt| {
                let mnt = mnt.to_owned();
                std::thread::spawn(move || {
                    for round in 0..150u8 {
                        let aside = mnt.join(format!("aside-{}", mnt.ends_with("a")));
                        fs::write(&aside, vec![round; LEN]).unwrap();
                        File::open(&aside).unwrap().sync_all().unwrap();
                        fs::rename(&aside, mnt.join("file")).unwrap();
                    }
                })
            })
            .into();
        let written: Vec<_> = writers.into_iter().map(|w| w.join()).collect();
        done.store(true, Relaxed);
        for reader in readers {
            assert!(reader.join().unwrap() > 10);
        }
        assert!(written.iter().all(|w| w.is_ok()));
    };
    Pair::with(options, writable()).await.run(work).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn own_changes_are_seen_at_once_whatever_listings_are_under_way() {
    // A long term, so that what is believed would show.
    let options = Options {
        attr_ttl: Duration::from_secs(600),
        ..Options::default()
    };
    let pair = Pair::with(&options, writable()).await;
    pair.run(|a, _, _| {
        let done = Arc::new(AtomicBool::new(false));
        let (dir, stop) = (a.to_owned(), done.clone());
        let lister = std::thread::spawn(move || {
            while !stop.load(Relaxed) {
                names(&dir);
            }
        });
        for i in 0..300 {
            let (file, moved) = (a.join(format!("f{i}")), a.join(format!("m{i}")));
            fs::write(&file, format!("{i}")).unwrap();
            assert_eq!(
                fs::metadata(&file).unwrap().len(),
                format!("{i}").len() as u64
            );
            assert!(names(a).contains(&format!("f{i}")), "made, {i}");
            fs::rename(&file, &moved).unwrap();
            assert!(!file.exists() && moved.exists(), "{i}");
            let listed = names(a);
            assert!(listed.contains(&format!("m{i}")) && !listed.contains(&format!("f{i}")));
            if i % 2 == 0 {
                fs::remove_file(&moved).unwrap();
                assert!(!moved.exists());
                assert!(!names(a).contains(&format!("m{i}")), "removed, {i}");
            }
        }
        done.store(true, Relaxed);
        lister.join().unwrap();
        assert_eq!(names(a).len(), 150);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_is_being_removed_by_name_empties() {
    let pair = Pair::new().await;
    pair.run(|a, _, share| {
        // More than a page of a listing, removed while it is read: `rm -r` does that.
        fs::create_dir(a.join("dir")).unwrap();
        for i in 0..3000 {
            fs::write(share.join(format!("dir/f{i}")), "").unwrap();
        }
        let mut seen = 0;
        for entry in fs::read_dir(a.join("dir")).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
            seen += 1;
        }
        assert_eq!(seen, 3000);
        fs::remove_dir(a.join("dir")).unwrap();
        assert!(!share.join("dir").exists());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_lost_the_name_it_was_seen_under_last_is_read_under_another() {
    let pair = Pair::with(&Options::default(), writable()).await;
    pair.run(|a, _, _| {
        fs::create_dir(a.join("d")).unwrap();
        fs::write(a.join("kept"), b"content").unwrap();
        fs::metadata(a.join("kept")).unwrap();
        fs::hard_link(a.join("kept"), a.join("d/second")).unwrap();
        fs::remove_file(a.join("d/second")).unwrap();
        fs::remove_dir(a.join("d")).unwrap();
        assert_eq!(fs::read(a.join("kept")).unwrap(), b"content");
    })
    .await;
}
