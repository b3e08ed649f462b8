//! What the kernel does when it is told to forget: looks names up again, and nothing else breaks. The host is
//! made up.

use crate::blocking;
use crate::support::fake::{FakeHost, attr};
use std::fs;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use wormhole::mount::fuse::{self, FuseOptions, Owner};
use wormhole::mount::inodes::Ino;
use wormhole::mount::mountpoint::{Unmount, unmount};
use wormhole::mount::notify::Forget;
use wormhole::mount::vfs::{Vfs, VfsConfig};
use wormhole::rpc::loopback::Loopback;
use wormhole_protocol::{Access, FileKind, Name, NameNews, Request, ShareId};

/// A mount of a made-up host, that believes for ever.
struct Stage {
    host: Arc<FakeHost>,
    vfs: Arc<Vfs>,
    dir: TempDir,
    mount: Option<fuse::Mount>,
}

impl Stage {
    async fn new() -> Self {
        let host = FakeHost::new();
        host.put("d", attr(2, FileKind::Directory, 0, 1), 0);
        for (name, inode) in [("d/a", 3), ("d/b", 4)] {
            host.put(name, attr(inode, FileKind::File, 10, 1), inode);
        }
        let config = VfsConfig {
            attr_ttl: Duration::from_secs(3600),
            timeout: Duration::from_secs(30),
            l1_bytes: 64 << 20,
            write_buffer_bytes: 64 << 20,
            durability: Default::default(),
            access: Access::ReadWrite,
        };
        let remote = Arc::new(Loopback::new(host.clone()));
        let vfs = Arc::new(Vfs::new(
            config,
            ShareId([1; 16]),
            host.root(),
            remote,
            None,
        ));
        let dir = tempfile::tempdir().unwrap();
        let options = FuseOptions {
            fs_name: "wormhole-test".into(),
            owner: Owner::Host,
            allow_other: false,
            noexec: false,
            threads: 2,
        };
        let (served, at) = (vfs.clone(), dir.path().to_owned());
        let runtime = tokio::runtime::Handle::current();
        let mount =
            blocking(move || fuse::mount(served, Arc::default(), &at, &options, runtime).unwrap())
                .await;
        Self {
            host,
            vfs,
            dir,
            mount: Some(mount),
        }
    }

    fn mnt(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    /// The kernel forgets all names.
    async fn forget_names(&self) {
        let what = Forget {
            names: true,
            ..Forget::default()
        };
        self.vfs.notify().unwrap().forget(what).await;
    }

    /// Whether this kernel can be told of names.
    fn can(&self) -> bool {
        let can = self.vfs.notify().unwrap().forgets_names();
        if !can {
            eprintln!("skipped: this kernel cannot be told of names");
        }
        can
    }

    fn removals(&self) -> usize {
        self.host.count(|r| matches!(r, Request::Change { .. }))
    }

    async fn end(mut self) {
        let (mount, at) = (self.mount.take().unwrap(), self.mnt());
        blocking(move || {
            unmount(&at, Unmount::Lazy).unwrap();
            mount.join().unwrap();
        })
        .await;
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if self.mount.is_some() {
            let _ = Command::new("umount").arg("-l").arg(self.mnt()).status();
        }
    }
}

fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// Renames `d/a` to `d/c` at the host, and has the mount know, but not the kernel.
fn renamed_at_the_host(stage: &Stage) {
    let host = &stage.host;
    let moved = host.tree.lock().unwrap().remove(&b"d/a"[..]).unwrap();
    let attr = moved.attr;
    host.tree.lock().unwrap().insert(b"d/c".to_vec(), moved);
    let news = |name: &str, attr| NameNews {
        name: Name::new(name).unwrap(),
        attr,
        brings: false,
    };
    let dir = host.attr_of("d").unwrap().id;
    let forget = stage
        .vfs
        .take_news(dir, None, &[news("a", None), news("c", Some(attr))]);
    assert!(forget.names);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_the_kernel_was_told_to_forget_are_looked_up_again_and_none_before() {
    let stage = Stage::new().await;
    let mnt = stage.mnt();
    let (old, new) = (mnt.join("d/a"), mnt.join("d/c"));
    let look = || {
        let (old, new) = (old.clone(), new.clone());
        blocking(move || (exists(&old), exists(&new)))
    };
    assert_eq!(look().await, (true, false));
    renamed_at_the_host(&stage);
    assert_eq!(look().await, (true, false));
    if stage.can() {
        stage.forget_names().await;
        assert_eq!(look().await, (false, true));
    }
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn open_files_and_working_directories_outlive_forgotten_names() {
    let stage = Stage::new().await;
    let mnt = stage.mnt();
    let at = mnt.join("d");
    let (mut file, mut shell, mut lines) = blocking(move || {
        let file = fs::File::open(at.join("b")).unwrap();
        let mut shell = Command::new("sh")
            .current_dir(&at)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(shell.stdout.take().unwrap()).lines();
        (file, shell, lines)
    })
    .await;
    stage.forget_names().await;
    let expected = mnt.join("d");
    blocking(move || {
        let mut input = shell.stdin.take().unwrap();
        // Before anybody looks the directory up again, and after.
        for _ in 0..2 {
            writeln!(input, "/bin/pwd; ls; cat b | wc -c").unwrap();
            let mut next = || lines.next().unwrap().unwrap();
            assert_eq!(next(), expected.to_str().unwrap());
            assert_eq!([next(), next(), next()], ["a", "b", "10"]);
            assert!(exists(&expected.join("b")));
        }
        drop(input);
        assert!(shell.wait().unwrap().success());
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len(), 10);
    })
    .await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_system_mounted_within_outlives_forgotten_names() {
    let stage = Stage::new().await;
    let at = stage.mnt().join("d");
    let mounted = {
        let at = at.clone();
        blocking(move || {
            let mut mount = Command::new("mount");
            let mount = mount.args(["-t", "tmpfs", "none"]).arg(&at).status();
            mount.is_ok_and(|status| status.success())
        })
        .await
    };
    if mounted {
        // Seen by a thread that waits for the kernel to say so.
        while stage.vfs.notify().unwrap().forgets_names() {
            tokio::task::yield_now().await;
        }
        stage.forget_names().await;
        let kept = blocking(move || {
            let _ = exists(&at.join("x"));
            let kept = !exists(&at.join("a"));
            let _ = Command::new("umount").arg(&at).status();
            kept
        })
        .await;
        assert!(kept);
    }
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kernel_forgets_names_while_a_change_of_their_directory_waits() {
    let stage = Stage::new().await;
    stage.host.misbehaviour.lock().unwrap().delay_changes = Duration::from_secs(3);
    let at = stage.mnt().join("d");
    let ino = {
        use std::os::unix::fs::MetadataExt;
        let at = at.clone();
        let ino = blocking(move || fs::metadata(at).unwrap().ino()).await;
        Ino(ino)
    };
    let removing = tokio::task::spawn_blocking(move || fs::remove_file(at.join("a")));
    while stage.removals() == 0 {
        tokio::task::yield_now().await;
    }
    let begun = Instant::now();
    let what = Forget {
        names: true,
        attributes: vec![ino, Ino(3)],
        pages: vec![Ino(3)],
    };
    stage.vfs.notify().unwrap().forget(what).await;
    assert!(begun.elapsed() < Duration::from_secs(2));
    removing.await.unwrap().unwrap();
    stage.end().await;
}
