//! Reading in every manner programs read.

use super::*;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::Command;

const LEN: usize = 24 * 1024 * 1024 + 1234;

fn one_file(root: &Path) {
    std::fs::write(root.join("file"), pattern(1, LEN)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn thirty_two_threads_read_at_random() {
    let stage = Stage::new(&Options::default(), one_file).await;
    let path = stage.mnt().join("file");
    blocking(move || {
        let expected = pattern(1, LEN);
        std::thread::scope(|scope| {
            for thread in 0..32u64 {
                let (path, expected) = (&path, &expected);
                scope.spawn(move || {
                    let file = File::open(path).unwrap();
                    let mut state = thread + 1;
                    for _ in 0..60 {
                        state = state
                            .wrapping_mul(6_364_136_223_846_793_005)
                            .wrapping_add(1442);
                        let offset = (state >> 20) as usize % LEN;
                        let len = (1 + (state >> 11) as usize % 200_000).min(LEN - offset);
                        let mut buf = vec![0; len];
                        file.read_exact_at(&mut buf, offset as u64).unwrap();
                        assert!(buf == expected[offset..offset + len], "at {offset}");
                    }
                });
            }
        });
    })
    .await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mapped_memory_shows_the_file() {
    let stage = Stage::new(&Options::default(), one_file).await;
    let path = stage.mnt().join("file");
    blocking(move || {
        let file = File::open(path).unwrap();
        use rustix::mm::{MapFlags, ProtFlags};
        // SAFETY: a fresh mapping of a file nobody changes while it is mapped.
        let mapped = unsafe {
            let address = rustix::mm::mmap(
                std::ptr::null_mut(),
                LEN,
                ProtFlags::READ,
                MapFlags::SHARED,
                &file,
                0,
            )
            .unwrap();
            std::slice::from_raw_parts(address.cast::<u8>(), LEN)
        };
        let expected = pattern(1, LEN);
        for page in (0..LEN).step_by(4096).rev().step_by(97) {
            assert_eq!(mapped[page], expected[page]);
        }
        assert!(mapped == expected);
        // SAFETY: `mapped` is not used any more.
        unsafe { rustix::mm::munmap(mapped.as_ptr().cast_mut().cast(), LEN).unwrap() };
    })
    .await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn git_clones_from_the_mount() {
    if Command::new("git").arg("--version").output().is_err() {
        println!("git_clones_from_the_mount did not run: git is not installed");
        return;
    }
    let git = |dir: &Path, args: &[&str]| {
        let done = Command::new("git")
            .args(["-c", "user.name=t", "-c", "user.email=t@example.org"])
            .args(["-c", "safe.directory=*"])
            .args(args)
            .current_dir(dir)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_COUNT", "1")
            .env("GIT_CONFIG_KEY_0", "safe.directory")
            .env("GIT_CONFIG_VALUE_0", "*")
            .output()
            .unwrap();
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
        String::from_utf8(done.stdout).unwrap()
    };
    let fill = move |root: &Path| {
        git(root, &["init", "-q", "repo"]);
        let repo = root.join("repo");
        for i in 0..200 {
            std::fs::write(repo.join(format!("file{i}")), pattern(i, 3000)).unwrap();
        }
        git(&repo, &["add", "."]);
        git(&repo, &["commit", "-qm", "all"]);
    };
    let stage = Stage::new(&Options::default(), fill).await;
    let (mnt, out) = (stage.mnt(), stage.dir.path().join("clone"));
    blocking(move || {
        git(
            out.parent().unwrap(),
            &[
                "clone",
                "-q",
                mnt.join("repo").to_str().unwrap(),
                out.to_str().unwrap(),
            ],
        );
        assert_eq!(git(&out, &["log", "--oneline"]).lines().count(), 1);
        assert_eq!(std::fs::read(out.join("file7")).unwrap(), pattern(7, 3000));
        assert_eq!(git(&mnt.join("repo"), &["status", "--porcelain"]), "");
    })
    .await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn extended_attributes_of_users_travel_and_others_do_not() {
    let set = std::cell::Cell::new(true);
    let fill = |root: &Path| {
        std::fs::write(root.join("file"), "x").unwrap();
        let flags = rustix::fs::XattrFlags::empty();
        let path = root.join("file");
        let done = rustix::fs::setxattr(&path, "user.color", b"green", flags);
        let _ = rustix::fs::setxattr(&path, "trusted.secret", b"no", flags);
        set.set(done.is_ok());
    };
    let stage = Stage::new(&Options::default(), fill).await;
    if !set.get() {
        println!(
            "extended_attributes_of_users_travel_and_others_do_not did not run: \
             the temporary directory's file system has no user attributes"
        );
        return stage.end().await;
    }
    let path = stage.mnt().join("file");
    blocking(move || {
        let mut value = [0; 64];
        let len = rustix::fs::getxattr(&path, "user.color", &mut value).unwrap();
        assert_eq!(&value[..len], b"green");
        let len = rustix::fs::listxattr(&path, &mut value[..]).unwrap();
        assert_eq!(&value[..len], b"user.color\0");
        let refused = rustix::fs::getxattr(&path, "trusted.secret", &mut value);
        assert_eq!(refused, Err(rustix::io::Errno::NODATA));
    })
    .await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_can_be_written_and_statfs_shows_the_hosts_disk() {
    let stage = Stage::new(&Options::default(), one_file).await;
    let (mnt, share) = (stage.mnt(), stage.share());
    blocking(move || {
        let refused = |result: std::io::Result<()>| {
            assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EROFS));
        };
        refused(std::fs::write(mnt.join("new"), "x"));
        refused(std::fs::remove_file(mnt.join("file")));
        refused(std::fs::create_dir(mnt.join("dir")));
        refused(File::options().write(true).open(mnt.join("file")).map(drop));
        let there = rustix::fs::statvfs(&share).unwrap();
        let here = rustix::fs::statvfs(&mnt).unwrap();
        assert_eq!(
            (here.f_blocks, here.f_frsize),
            (there.f_blocks, there.f_frsize)
        );
    })
    .await;
    stage.end().await;
}
