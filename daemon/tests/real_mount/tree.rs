//! A varied tree compares equal through the mount: names, kinds, sizes, modes, times, content.

use super::*;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use wormhole::mount::fuse::Owner;

const SIZES: [usize; 12] = [
    0, 1, 4095, 4096, 4097, 12_345, 65_536, 131_071, 131_072, 131_073, 300_000, 10_240,
];

/// 5,000 files in 50 directories, and everything odd a folder can hold.
fn varied(root: &Path) {
    for dir in 0..50 {
        let dir_path = root.join(format!("dir {dir:02}"));
        fs::create_dir(&dir_path).unwrap();
        for file in 0..100usize {
            let name = match file % 5 {
                0 => OsString::from(format!("plain{file}")),
                1 => OsString::from(format!("with space {file}")),
                2 => OsString::from(format!("new\nline{file}")),
                3 => OsString::from_vec([b"invalid\xff\xfe", file.to_string().as_bytes()].concat()),
                _ => OsString::from(format!("{file:0>255}")),
            };
            let path = dir_path.join(name);
            let size = SIZES[(dir * 7 + file) % SIZES.len()];
            fs::write(&path, pattern((dir * 100 + file) as u64, size)).unwrap();
            let mode = [0o644, 0o600, 0o755, 0o444][file % 4];
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            set_mtime(
                &path,
                (file as i64 - 50) * 1_000_003,
                123_456_789 + file as i64,
            );
        }
    }
    fs::write(root.join("large"), pattern(77, 5 << 20)).unwrap();
    let sparse = fs::File::create(root.join("sparse")).unwrap();
    sparse.set_len(5 << 30).unwrap();
    use std::os::unix::fs::FileExt;
    sparse.write_all_at(b"island", 3 << 30).unwrap();
    symlink("large", root.join("link in")).unwrap();
    symlink("/etc/hostname", root.join("link out")).unwrap();
    symlink("loop", root.join("loop")).unwrap();
    symlink("nothing", root.join("dangling")).unwrap();
    fs::hard_link(root.join("large"), root.join("hard link")).unwrap();
    for (name, kind) in [
        ("fifo", rustix::fs::FileType::Fifo),
        ("socket", rustix::fs::FileType::Socket),
    ] {
        let path = root.join(name);
        rustix::fs::mknodat(rustix::fs::CWD, path, kind, 0o644.into(), 0).unwrap();
    }
}

fn set_mtime(path: &Path, secs: i64, nanos: i64) {
    let time = rustix::fs::Timespec {
        tv_sec: secs,
        tv_nsec: nanos,
    };
    let times = rustix::fs::Timestamps {
        last_access: time,
        last_modification: time,
    };
    rustix::fs::utimensat(
        rustix::fs::CWD,
        path,
        &times,
        rustix::fs::AtFlags::SYMLINK_NOFOLLOW,
    )
    .unwrap();
}

/// Everything that must be equal of a node.
#[derive(Debug, PartialEq)]
struct Seen {
    mode: u32,
    size: u64,
    mtime: (i64, i64),
    links: u64,
    owner: (u32, u32),
    inode: u64,
    target: Option<PathBuf>,
    content: Option<blake3::Hash>,
}

fn walk(root: &Path) -> BTreeMap<Vec<u8>, Seen> {
    let mut seen = BTreeMap::new();
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let kind = meta.file_type();
            let content = (kind.is_file() && meta.len() < 1 << 30).then(|| {
                let mut hasher = blake3::Hasher::new();
                hasher
                    .update_reader(fs::File::open(&path).unwrap())
                    .unwrap();
                hasher.finalize()
            });
            if kind.is_dir() {
                dirs.push(path.clone());
            }
            let relative = path.strip_prefix(root).unwrap();
            let key = relative.as_os_str().as_bytes().to_vec();
            seen.insert(
                key,
                Seen {
                    mode: meta.mode(),
                    size: if kind.is_dir() { 0 } else { meta.len() },
                    mtime: (meta.mtime(), meta.mtime_nsec()),
                    links: meta.nlink(),
                    owner: (meta.uid(), meta.gid()),
                    inode: meta.ino(),
                    target: kind.is_symlink().then(|| fs::read_link(&path).unwrap()),
                    content,
                },
            );
        }
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn a_varied_tree_compares_equal() {
    let stage = Stage::new(&Options::default(), varied).await;
    let (share, mnt) = (stage.share(), stage.mnt());
    blocking(move || {
        let (there, here) = (walk(&share), walk(&mnt));
        assert_eq!(there.len(), here.len());
        for ((path, there), (path_here, here)) in there.iter().zip(&here) {
            let name = path.escape_ascii();
            assert_eq!(path, path_here);
            assert_eq!(there, here, "{name}");
        }
        assert!(there.len() > 5050);
        assert!(
            fs::symlink_metadata(mnt.join("fifo"))
                .unwrap()
                .file_type()
                .is_fifo()
        );
        assert_eq!(
            fs::read(mnt.join("loop")).unwrap_err().raw_os_error(),
            Some(libc::ELOOP)
        );
        use std::os::unix::fs::FileExt;
        let sparse = fs::File::open(mnt.join("sparse")).unwrap();
        assert_eq!(sparse.metadata().unwrap().len(), 5 << 30);
        let mut around = [1; 4096];
        sparse.read_exact_at(&mut around, (3 << 30) - 100).unwrap();
        assert_eq!(&around[100..106], b"island");
        assert!(around[..100].iter().chain(&around[106..]).all(|b| *b == 0));
    })
    .await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_belong_to_the_mounting_user_unless_told_otherwise() {
    let fill = |root: &Path| {
        fs::write(root.join("file"), "x").unwrap();
        std::os::unix::fs::chown(root.join("file"), Some(4321), Some(8765)).unwrap();
    };
    if !rustix::process::geteuid().is_root() {
        println!("files_belong_to_the_mounting_user_unless_told_otherwise did not run: needs root");
        return;
    }
    let mine = Options {
        owner: Owner::Mounter { uid: 12, gid: 34 },
        ..Options::default()
    };
    for (options, expected) in [(Options::default(), (4321, 8765)), (mine, (12, 34))] {
        let stage = Stage::new(&options, fill).await;
        let path = stage.mnt().join("file");
        let meta = blocking(move || fs::metadata(path).unwrap()).await;
        assert_eq!((meta.uid(), meta.gid()), expected);
        stage.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_of_100_000_entries_is_listed_whole_in_one_request() {
    let fill = |root: &Path| {
        for i in 0..100_000 {
            fs::File::create(root.join(format!("entry-{i:06}"))).unwrap();
        }
    };
    let stage = Stage::new(&Options::default(), fill).await;
    let mnt = stage.mnt();
    let names = blocking(move || {
        let entries = fs::read_dir(mnt).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    })
    .await;
    assert_eq!(names.len(), 100_000);
    assert!(
        names
            .iter()
            .zip(0..)
            .all(|(name, i)| *name == *format!("entry-{i:06}"))
    );
    assert_eq!(stage.mounted().snapshot().remote.list, 1);
    stage.end().await;
}
