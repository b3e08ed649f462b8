//! Whose a file is and what it says of itself: modes, owners, times, extended attributes.

use super::pair::{Pair, errno, owned, strict, writable};
use super::*;
use rustix::fs::{
    AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, XattrFlags, getxattr, lgetxattr,
    listxattr, removexattr, setxattr, utimensat,
};
use rustix::io::Errno;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use wormhole::host::ShareRules;
use wormhole::mount::fuse::Owner;

/// Where Linux keeps a file's access control list.
const ACL: &str = "system.posix_acl_access";
/// A user who is nobody in particular.
const STRANGER: u32 = 54_321;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

#[tokio::test(flavor = "multi_thread")]
async fn modes_are_the_hosts() {
    let pair = Pair::with(&owned(), writable()).await;
    pair.run(|a, b, share| {
        fs::write(a.join("file"), "").unwrap();
        for bits in [0o600, 0o444, 0o4755, 0o2711, 0o1777, 0o000] {
            fs::set_permissions(a.join("file"), Permissions::from_mode(bits)).unwrap();
            for mnt in [a, b, share] {
                assert_eq!(mode(&mnt.join("file")), bits, "{bits:o}");
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_default_files_are_the_mounters_and_cannot_be_given_away() {
    let pair = Pair::with(&owned(), writable()).await;
    pair.run(|a, _, share| {
        fs::write(a.join("file"), "").unwrap();
        let (uid, gid) = (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        );
        let meta = fs::metadata(a.join("file")).unwrap();
        assert_eq!((meta.uid(), meta.gid()), (uid, gid));
        // To oneself is what they are already.
        chown(a.join("file"), Some(uid), Some(gid)).unwrap();
        chown(a.join("file"), None, Some(gid)).unwrap();
        let away = chown(a.join("file"), Some(uid + 1), None);
        assert_eq!(errno(away), libc::EPERM);
        let away = chown(a.join("file"), Some(uid), Some(gid + 1));
        assert_eq!(errno(away), libc::EPERM);
        let there = fs::metadata(share.join("file")).unwrap();
        assert_eq!((there.uid(), there.gid()), (uid, gid));
    })
    .await;
}

/// Runs a shell script in `dir` as the stranger; what it printed and whether it succeeded.
fn as_stranger(dir: &Path, script: &str) -> (bool, String) {
    let done = Command::new("sh")
        .args(["-c", script])
        .current_dir(dir)
        .uid(STRANGER)
        .gid(STRANGER)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    let text = [done.stdout, done.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    (done.status.success(), text)
}

#[tokio::test(flavor = "multi_thread")]
async fn with_mapped_users_a_new_file_is_the_callers_and_modes_are_checked() {
    if !is_root() {
        return;
    }
    let options = Options {
        allow_other: true,
        ..strict()
    };
    let rules = ShareRules {
        map_users: true,
        ..writable()
    };
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    let share = dir.path().join("share");
    fs::create_dir(&share).unwrap();
    let pair = Pair::over(dir, share, &options, rules).await;
    pair.run(|a, b, share| {
        fs::set_permissions(a, Permissions::from_mode(0o1777)).unwrap();
        let made = "touch file && mkdir dir && ln -s file soft && mkfifo pipe && echo x > dir/in";
        let (ok, text) = as_stranger(a, made);
        assert!(ok, "{text}");
        for name in ["file", "dir", "soft", "pipe", "dir/in"] {
            for mnt in [a, b, share] {
                let meta = fs::symlink_metadata(mnt.join(name)).unwrap();
                assert_eq!((meta.uid(), meta.gid()), (STRANGER, STRANGER), "{name}");
            }
        }
        // The group of a directory that is setgid goes on to what is made in it.
        fs::create_dir(a.join("team")).unwrap();
        chown(a.join("team"), Some(STRANGER), Some(777)).unwrap();
        fs::set_permissions(a.join("team"), Permissions::from_mode(0o2775)).unwrap();
        let (ok, text) = as_stranger(a, "touch team/file && mkdir team/dir");
        assert!(ok, "{text}");
        assert_eq!(fs::metadata(share.join("team/file")).unwrap().gid(), 777);
        assert_eq!(mode(&share.join("team/dir")) & 0o2000, 0o2000);
        // What is root's, a stranger cannot change.
        fs::write(a.join("mine"), "x").unwrap();
        fs::set_permissions(a.join("mine"), Permissions::from_mode(0o644)).unwrap();
        for script in [
            "echo y > mine",
            "chmod 777 mine",
            "chown 54321 mine",
            "rm -f mine",
            "touch -d 2001-01-01 mine",
        ] {
            let (ok, text) = as_stranger(a, script);
            assert!(!ok, "{script}: {text}");
        }
        // Giving away is root's to do.
        let (ok, _) = as_stranger(a, "chown 1 file");
        assert!(!ok);
        chown(a.join("file"), Some(1), Some(2)).unwrap();
        let there = fs::metadata(share.join("file")).unwrap();
        assert_eq!((there.uid(), there.gid()), (1, 2));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writing_takes_set_id_bits_away() {
    if !is_root() {
        return;
    }
    let options = Options {
        allow_other: true,
        ..strict()
    };
    let rules = ShareRules {
        map_users: true,
        ..writable()
    };
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    let share = dir.path().join("share");
    fs::create_dir(&share).unwrap();
    let pair = Pair::over(dir, share, &options, rules).await;
    pair.run(|a, _, share| {
        fs::set_permissions(a, Permissions::from_mode(0o1777)).unwrap();
        let scripts = [
            "echo y >> file",
            "truncate -s 100 file",
            "echo z > file",
            "dd if=/dev/zero of=file oflag=direct conv=notrunc bs=4096 count=1",
            "fallocate -l 9000 file",
        ];
        for script in scripts {
            fs::write(a.join("file"), "x").unwrap();
            chown(a.join("file"), Some(STRANGER), Some(STRANGER)).unwrap();
            fs::set_permissions(a.join("file"), Permissions::from_mode(0o6777)).unwrap();
            let (ok, text) = as_stranger(a, script);
            assert!(ok, "{text}");
            for mnt in [a, share] {
                assert_eq!(mode(&mnt.join("file")), 0o777, "{script}");
            }
        }
        // As does a change of owner.
        fs::set_permissions(a.join("file"), Permissions::from_mode(0o4755)).unwrap();
        chown(a.join("file"), Some(1), None).unwrap();
        assert_eq!(mode(&share.join("file")), 0o755);
    })
    .await;
}

fn times(path: &Path) -> [(i64, i64); 2] {
    let meta = fs::symlink_metadata(path).unwrap();
    [
        (meta.atime(), meta.atime_nsec()),
        (meta.mtime(), meta.mtime_nsec()),
    ]
}

fn set_times(path: &Path, accessed: (i64, i64), modified: (i64, i64)) {
    let spec = |(tv_sec, tv_nsec)| Timespec { tv_sec, tv_nsec };
    let times = Timestamps {
        last_access: spec(accessed),
        last_modification: spec(modified),
    };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn times_are_set_to_the_nanosecond_also_before_1970() {
    let work = |a: &Path, b: &Path, share: &Path| {
        let file = a.join("file");
        fs::write(&file, "x").unwrap();
        let everywhere = |expected: [(i64, i64); 2]| {
            for mnt in [a, b, share] {
                assert_eq!(times(&mnt.join("file")), expected, "{mnt:?}");
            }
        };
        for (accessed, modified) in [
            ((1_234_567_890, 123_456_789), (1_000_000_000, 1)),
            ((-1, 999_999_999), (-2, 1)),
            ((-1_000_000, 500_000_000), (0, 0)),
            ((0, 1), (-1, 0)),
            ((-1, 500_000_000), (-86_400, 0)),
        ] {
            set_times(&file, accessed, modified);
            everywhere([accessed, modified]);
        }
        set_times(&file, (5, 5), (6, 6));
        set_times(&file, (0, UTIME_OMIT), (7, 7));
        everywhere([(5, 5), (7, 7)]);
        set_times(&file, (8, 8), (0, UTIME_OMIT));
        everywhere([(8, 8), (7, 7)]);
        let before = std::time::SystemTime::now() - std::time::Duration::from_secs(5);
        set_times(&file, (9, 9), (0, UTIME_NOW));
        assert_eq!(times(&file)[0], (9, 9));
        assert!(fs::metadata(&file).unwrap().modified().unwrap() > before);
        // What is written afterwards moves it on; what was written before does not.
        let open = fs::File::options().append(false).write(true).open(&file);
        let open = open.unwrap();
        std::os::unix::fs::FileExt::write_all_at(&open, b"late", 0).unwrap();
        set_times(&file, (1, 1), (2, 2));
        drop(open);
        assert_eq!(times(&share.join("file"))[1], (2, 2));
    };
    Pair::new().await.run(work).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_to_a_symlink_leaves_its_target_alone() {
    let work = |a: &Path, b: &Path, share: &Path| {
        fs::write(a.join("file"), "x").unwrap();
        symlink("file", a.join("soft")).unwrap();
        symlink("nowhere", a.join("dangling")).unwrap();
        set_times(&a.join("file"), (1, 1), (1, 1));
        let before = fs::metadata(share.join("file")).unwrap();
        set_times(&a.join("soft"), (10, 20), (30, 40));
        set_times(&a.join("dangling"), (-10, 20), (30, 40));
        for mnt in [b, share] {
            assert_eq!(times(&mnt.join("soft")), [(10, 20), (30, 40)]);
            assert_eq!(times(&mnt.join("dangling")), [(-10, 20), (30, 40)]);
            assert_eq!(times(&mnt.join("file")), [(1, 1), (1, 1)]);
        }
        lchown(a.join("soft"), Some(before.uid()), Some(before.gid())).unwrap();
        let after = fs::metadata(share.join("file")).unwrap();
        assert_eq!(after.ctime_nsec(), before.ctime_nsec());
        assert_eq!(fs::read_link(b.join("soft")).unwrap(), Path::new("file"));
    };
    Pair::new().await.run(work).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn extended_attributes_are_set_listed_and_removed() {
    let work = |a: &Path, b: &Path, share: &Path| {
        let (file, other) = (a.join("file"), b.join("file"));
        fs::write(&file, "x").unwrap();
        if setxattr(share.join("file"), "user.try", b"", XattrFlags::empty()).is_err() {
            return;
        }
        let set = |name: &str, value: &[u8], flags| setxattr(&file, name, value, flags);
        let get = |path: &Path, name: &str| {
            let mut value = vec![0; 70_000];
            getxattr(path, name, &mut value[..]).map(|len| value[..len].to_vec())
        };
        // It is known to have none, until it has.
        removexattr(share.join("file"), "user.try").unwrap();
        while get(&other, "user.try") != Err(Errno::NODATA) {}
        assert_eq!(get(&other, "user.one"), Err(Errno::NODATA));
        set("user.one", b"1", XattrFlags::CREATE).unwrap();
        assert_eq!(get(&other, "user.one").unwrap(), b"1");
        setxattr(share.join("file"), "user.try", b"", XattrFlags::empty()).unwrap();
        assert_eq!(set("user.one", b"2", XattrFlags::CREATE), Err(Errno::EXIST));
        set("user.one", b"22", XattrFlags::REPLACE).unwrap();
        assert_eq!(
            set("user.two", b"2", XattrFlags::REPLACE),
            Err(Errno::NODATA)
        );
        set("user.two", &[0, 255, 0], XattrFlags::empty()).unwrap();
        set("user.empty", b"", XattrFlags::empty()).unwrap();
        for path in [&file, &other, &share.join("file")] {
            assert_eq!(get(path, "user.one").unwrap(), b"22");
            assert_eq!(get(path, "user.two").unwrap(), [0, 255, 0]);
            assert_eq!(get(path, "user.empty").unwrap(), b"");
            assert_eq!(get(path, "user.none"), Err(Errno::NODATA));
        }
        let mut small = [0; 1];
        assert_eq!(
            getxattr(&file, "user.one", &mut small[..]),
            Err(Errno::RANGE)
        );
        let mut list = vec![0; 1000];
        let len = listxattr(&other, &mut list[..]).unwrap();
        let mut names: Vec<_> = list[..len]
            .split(|b| *b == 0)
            .filter(|n| !n.is_empty())
            .collect();
        names.sort();
        assert_eq!(
            names,
            [&b"user.empty"[..], b"user.one", b"user.try", b"user.two"]
        );
        removexattr(&other, "user.one").unwrap();
        assert_eq!(get(&file, "user.one"), Err(Errno::NODATA));
        assert_eq!(removexattr(&file, "user.one"), Err(Errno::NODATA));
        symlink("file", a.join("soft")).unwrap();
        let of_link = lgetxattr(a.join("soft"), "user.two", &mut [0u8; 10][..]);
        assert!(of_link.is_err());
        // Other kinds do not travel.
        let refused = set("trusted.x", b"1", XattrFlags::empty());
        assert_eq!(refused, Err(Errno::OPNOTSUPP));
    };
    Pair::new().await.run(work).await;
}

fn run(dir: &Path, script: &str) -> io::Result<String> {
    let done = Command::new("sh")
        .args(["-c", script])
        .current_dir(dir)
        .output()?;
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    if done.status.success() {
        return Ok(text);
    }
    Err(io::Error::other(
        String::from_utf8_lossy(&done.stderr).into_owned(),
    ))
}

#[tokio::test(flavor = "multi_thread")]
async fn access_control_lists_travel_where_the_hosts_owners_are_shown() {
    let work = |a: &Path, b: &Path, share: &Path| {
        fs::write(share.join("try"), "").unwrap();
        if run(share, "setfacl -m u:12345:rw try").is_err() {
            return;
        }
        fs::write(a.join("file"), "x").unwrap();
        run(a, "setfacl -m u:12345:rw,m::rwx file").unwrap();
        for mnt in [a, b, share] {
            let text = run(mnt, "getfacl -n file").unwrap();
            assert!(text.contains("user:12345:rw-"), "{text}");
            assert_eq!(mode(&mnt.join("file")) & 0o070, 0o070, "the mask shows");
        }
        run(
            a,
            "mkdir dir && setfacl -d -m u:12345:rwx dir && touch dir/in",
        )
        .unwrap();
        let text = run(share, "getfacl -n dir/in").unwrap();
        assert!(text.contains("user:12345:rwx"), "inherited: {text}");
        run(b, "setfacl -b file").unwrap();
        let text = run(a, "getfacl -n file").unwrap();
        assert!(!text.contains("12345"), "{text}");
    };
    Pair::new().await.run(work).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_host_is_asked_for_extended_attributes_of_those_that_have_some() {
    let options = Options {
        owner: Owner::Host,
        ..Options::default()
    };
    let fill = |root: &Path| {
        for n in 0..20 {
            fs::write(root.join(format!("f{n}")), "x").unwrap();
        }
        run(root, "setfattr -n user.color -v green f7").unwrap();
    };
    let stage = Stage::new(&options, fill).await;
    let mnt = stage.mnt();
    let out = tempfile::tempdir().unwrap();
    let copy = out.path().join("copy");
    blocking(move || {
        run(&mnt, "ls -l").unwrap();
        run(&mnt, &format!("cp -a . {}", copy.display())).unwrap();
        let copied = run(&copy, "getfattr -d *").unwrap();
        assert_eq!(copied, "# file: f7\nuser.color=\"green\"\n\n");
    })
    .await;
    // Names and values, of their length and themselves, by either program: but of one file.
    let asked = stage.mounted().snapshot().remote.xattr;
    assert!((1..=10).contains(&asked), "{asked}");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_hosts_owners_there_are_no_access_control_lists_and_nobody_asks_for_them() {
    let options = Options {
        owner: Owner::Mounter { uid: 0, gid: 0 },
        ..Options::default()
    };
    let fill = |root: &Path| {
        for n in 0..20 {
            fs::write(root.join(format!("f{n}")), "x").unwrap();
        }
    };
    let stage = Stage::new(&options, fill).await;
    let mnt = stage.mnt();
    blocking(move || {
        let listed = run(&mnt, "ls -l").unwrap();
        assert_eq!(listed.lines().count(), 21);
        let got = getxattr(mnt.join("f1"), ACL, &mut [0_u8; 64]);
        assert_eq!(got, Err(Errno::OPNOTSUPP));
    })
    .await;
    assert_eq!(stage.mounted().snapshot().remote.xattr, 0);
    stage.end().await;
    let work = |a: &Path, _: &Path, share: &Path| {
        let file = a.join("file");
        fs::write(&file, "x").unwrap();
        let set = setxattr(&file, ACL, &[2, 0, 0, 0], XattrFlags::empty());
        assert_eq!(set, Err(Errno::OPNOTSUPP));
        assert_eq!(removexattr(&file, ACL), Err(Errno::OPNOTSUPP));
        // One that a program on the host has given is not listed.
        if run(share, "setfacl -m u:12345:rw file").is_ok() {
            let len = listxattr(&file, &mut [0_u8; 256]);
            assert_eq!(len, Ok(0));
        }
    };
    Pair::with(&options, writable()).await.run(work).await;
}
