//! Files the kernel reads from the disk cache by itself. Only root may have it so.

use super::pair::{Pair, strict, writable};
use super::*;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::{Duration, SystemTime};
use wormhole::mount::warm::Progress;

const LEN: usize = 3 * 1024 * 1024 + 77;

/// A file that was written long ago.
fn put(path: &Path, seed: u64) {
    fs::write(path, pattern(seed, LEN)).unwrap();
    let file = File::options().write(true).open(path).unwrap();
    let long_ago = SystemTime::now() - Duration::from_secs(3600);
    file.set_modified(long_ago).unwrap();
}

fn fill(root: &Path) {
    put(&root.join("file"), 1);
    settle(root);
}

fn options(cache: &Path) -> Options {
    Options {
        l2: Some(cache.to_owned()),
        attr_ttl: Duration::ZERO,
        ..Options::default()
    }
}

async fn warm(mounted: &Mounted) {
    let (warmer, progress) = (mounted.warmer().unwrap(), Progress::default());
    warmer.bring(Path::new("file"), &progress).await.unwrap();
}

/// Whether files are handed over here at all; says so if not.
fn is_able(mounted: &Mounted, test: &str) -> bool {
    let note = mounted.snapshot().passthrough.note;
    if let Some(note) = &note {
        eprintln!("{test} did not run as meant: {note}");
    }
    note.is_none()
}

fn reads(mounted: &Mounted) -> u64 {
    mounted.snapshot().fuse.read
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warmed_file_is_read_without_a_request() {
    let cache = tempfile::tempdir().unwrap();
    let mut stage = Stage::new(&options(cache.path()), fill).await;
    if !is_able(stage.mounted(), "a_warmed_file_is_read_without_a_request") {
        return stage.end().await;
    }
    for turn in 0..2 {
        warm(stage.mounted()).await;
        let path = stage.mnt().join("file");
        let file = blocking(move || {
            let mut file = File::open(path).unwrap();
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).unwrap();
            assert!(bytes == pattern(1, LEN));
            let mut piece = [0; 100];
            file.read_exact_at(&mut piece, 7777).unwrap();
            assert!(piece[..] == pattern(1, LEN)[7777..7877]);
            assert!(file.read_at(&mut piece, LEN as u64).unwrap() == 0);
            file
        });
        let file = file.await;
        let shown = stage.mounted().snapshot().passthrough;
        assert_eq!((reads(stage.mounted()), shown.opens, turn), (0, 1, turn));
        assert_eq!(shown.files, [Path::new("file")]);
        drop(file);
        stage.unmount().await;
        stage.remount(&options(cache.path())).await;
    }
    stage.unmount().await;
    let off = Options {
        passthrough: false,
        ..options(cache.path())
    };
    stage.remount(&off).await;
    let path = stage.mnt().join("file");
    blocking(move || assert!(fs::read(path).unwrap() == pattern(1, LEN))).await;
    assert!(reads(stage.mounted()) > 0);
    let note = stage.mounted().snapshot().passthrough.note;
    assert_eq!(note.as_deref(), Some("turned off"));
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changed_is_opened_in_its_new_version_beside_the_old_one() {
    let cache = tempfile::tempdir().unwrap();
    let stage = Stage::new(&options(cache.path()), fill).await;
    warm(stage.mounted()).await;
    let (mnt, share) = (stage.mnt(), stage.share());
    let able = is_able(stage.mounted(), "a_file_that_changed_is_opened");
    blocking(move || {
        let old = File::open(mnt.join("file")).unwrap();
        let number = old.metadata().unwrap().ino();
        for seed in 2..5 {
            fs::write(share.join("file"), pattern(seed, LEN)).unwrap();
            // Reading, writing alike.
            assert!(fs::read(mnt.join("file")).unwrap() == pattern(seed, LEN));
            let renumbered = fs::metadata(mnt.join("file")).unwrap().ino() != number;
            assert_eq!(renumbered, able);
        }
        let mut bytes = vec![0; LEN];
        old.read_exact_at(&mut bytes, 0).unwrap();
        let seed = if able { 1 } else { 4 };
        assert!(bytes == pattern(seed, LEN));
    })
    .await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_write_a_file_that_others_read_from_the_cache() {
    let cache = tempfile::tempdir().unwrap();
    let mut pair = Pair::with(&strict(), writable()).await;
    pair.unmount(0).await;
    put(&pair.share().join("file"), 1);
    pair.mount(0, &options(cache.path())).await;
    warm(pair.mounted(0)).await;
    let able = is_able(pair.mounted(0), "programs_write_a_file");
    let (a, share) = (pair.a(), pair.share());
    blocking(move || {
        let path = a.join("file");
        let old = File::open(&path).unwrap();
        let both = File::options().read(true).write(true).open(&path).unwrap();
        both.write_all_at(b"written", 5).unwrap();
        let mut got = [0; 7];
        both.read_exact_at(&mut got, 5).unwrap();
        assert_eq!(&got, b"written");
        drop(both);
        // Again, with everything that opens to write.
        drop(File::options().append(true).open(&path).unwrap());
        drop(
            File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path)
                .unwrap(),
        );
        File::open(&path)
            .unwrap()
            .read_exact_at(&mut got, 5)
            .unwrap();
        assert_eq!(&got, b"written");
        old.read_exact_at(&mut got, 5).unwrap();
        let seen = if able {
            &pattern(1, LEN)[5..12]
        } else {
            b"written"
        };
        assert_eq!(&got[..], seen);
        assert_eq!(&fs::read(share.join("file")).unwrap()[5..12], b"written");
        assert_eq!(old.metadata().unwrap().len(), LEN as u64);
        fs::write(&path, "short").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"short");
    })
    .await;
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_runs_and_a_file_is_mapped_from_the_cache() {
    let cache = tempfile::tempdir().unwrap();
    let stage = Stage::new(&options(cache.path()), |root| {
        let program = root.join("file");
        fs::copy("/proc/self/exe", &program).unwrap();
        let file = File::options().write(true).open(&program).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(3600))
            .unwrap();
        settle(root);
    })
    .await;
    warm(stage.mounted()).await;
    let path = stage.mnt().join("file");
    blocking(move || {
        let listed = std::process::Command::new(path)
            .arg("--list")
            .output()
            .unwrap();
        assert!(listed.status.success());
    })
    .await;
    let shown = stage.mounted().snapshot().passthrough;
    assert!(shown.opens > 0 || shown.note.is_some(), "{shown:?}");
    stage.end().await;
}
