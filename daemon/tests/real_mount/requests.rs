//! What operations cost in requests and bytes.

use super::pair::{Pair, writable};
use super::*;
use std::fs;
use std::os::unix::fs::FileExt;
use std::time::Duration;

/// Long enough that a slow machine does not turn a count into a race with the clock.
fn believing() -> Options {
    Options {
        attr_ttl: Duration::from_secs(600),
        ..Options::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn walking_10_000_files_in_100_directories_costs_a_listing_each_and_nothing_more() {
    let fill = |root: &Path| {
        for dir in 0..100 {
            let dir = root.join(format!("d{dir}"));
            fs::create_dir(&dir).unwrap();
            for file in 0..100 {
                fs::write(dir.join(format!("f{file}")), "x").unwrap();
            }
        }
    };
    let stage = Stage::new(&believing(), fill).await;
    let mnt = stage.mnt();
    let lines = blocking(move || {
        let found = std::process::Command::new("find")
            .arg(mnt)
            .arg("-ls")
            .output()
            .unwrap();
        assert!(found.status.success());
        found.stdout.split(|b| *b == b'\n').count() - 1
    })
    .await;
    assert_eq!(lines, 10_101);
    let remote = stage.mounted().snapshot().remote;
    assert!(remote.list <= 102, "{remote:?}");
    assert_eq!(
        (remote.lookup, remote.getattr, remote.read),
        (0, 0, 0),
        "{remote:?}"
    );
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random_4_kib_reads_fetch_at_most_8_kib_each() {
    const LEN: u64 = 256 << 20;
    let fill = |root: &Path| {
        fs::File::create(root.join("file"))
            .unwrap()
            .set_len(LEN)
            .unwrap();
    };
    let stage = Stage::new(&believing(), fill).await;
    let path = stage.mnt().join("file");
    const READS: u64 = 1000;
    blocking(move || {
        use std::os::unix::fs::FileExt;
        let file = fs::File::open(path).unwrap();
        let mut state = 7u64;
        for _ in 0..READS {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1442);
            let offset = (state >> 16) % (LEN / 4096) * 4096;
            file.read_exact_at(&mut [0; 4096], offset).unwrap();
        }
    })
    .await;
    let fetched = stage.mounted().snapshot().read.fetched_bytes;
    assert!(fetched <= READS * 8192, "{} bytes each", fetched / READS);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_read_of_a_listed_file_is_the_only_request() {
    let fill = |root: &Path| {
        fs::write(root.join("file"), pattern(1, 10_000)).unwrap();
        settle(root);
    };
    let stage = Stage::new(&believing(), fill).await;
    let mnt = stage.mnt();
    let list = mnt.clone();
    blocking(move || fs::read_dir(list).unwrap().for_each(|e| drop(e.unwrap()))).await;
    let before = stage.mounted().snapshot().remote;
    assert_eq!(
        blocking(move || fs::read(mnt.join("file")).unwrap().len()).await,
        10_000
    );
    let after = stage.mounted().snapshot().remote;
    assert_eq!(after.read - before.read, 1);
    assert_eq!(
        (after.lookup, after.getattr),
        (before.lookup, before.getattr)
    );
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn small_files_read_by_many_threads_come_in_bulk_whole_and_once() {
    const FILES: usize = 1000;
    let path = |i: usize| format!("d{}/f{i:04}", i / 100);
    let content = |i: usize| pattern(i as u64, 500 + i * 37 % 20_000);
    let fill = move |root: &Path| {
        for i in 0..FILES {
            if i % 100 == 0 {
                fs::create_dir(root.join(format!("d{}", i / 100))).unwrap();
            }
            fs::write(root.join(path(i)), content(i)).unwrap();
        }
        settle(root);
    };
    let stage = Stage::new(&believing(), fill).await;
    let mnt = stage.mnt();
    let read = move || {
        let next = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    loop {
                        let i = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        if i >= FILES {
                            return;
                        }
                        assert!(fs::read(mnt.join(path(i))).unwrap() == content(i), "{i}");
                    }
                });
            }
        });
    };
    blocking(read).await;
    let snapshot = stage.mounted().snapshot();
    let (remote, bulk) = (&snapshot.remote, &snapshot.bulk);
    assert!(remote.read <= 200, "{remote:?}");
    assert!(bulk.used_files >= 800, "{bulk:?}");
    // On a machine that is busy a reader may find a file far away in its stream, and ask for it itself.
    let all: usize = (0..FILES).map(|i| content(i).len()).sum();
    let (all, few) = (all as u64, all as u64 / 100);
    let unused = bulk.fetched_bytes.abs_diff(bulk.used_bytes);
    assert!(unused <= few, "{unused} bytes of {all} came in vain");
    let twice = snapshot.read.fetched_bytes - all;
    assert!(twice <= few, "{twice} bytes of {all} came twice");
    stage.end().await;
}

/// The kernel asks for the length before it reads from a file that was written to; programs that ask for the attributes are
/// told those of the host.
#[tokio::test(flavor = "multi_thread")]
async fn who_reads_what_is_being_written_asks_nobody_and_who_looks_at_it_is_told_what_the_host_says()
 {
    let mut pair = Pair::with(&believing(), writable()).await;
    pair.unmount(1).await;
    let (mnt, share) = (pair.a(), pair.share());
    blocking(move || {
        assert_eq!(fs::read_dir(&mnt).unwrap().count(), 0);
        let open = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(mnt.join("file"));
        let file = open.unwrap();
        let mut buffer = [0; 100];
        for n in 0..20_u64 {
            file.write_all_at(b"section", n * 10_000).unwrap();
            assert_eq!(file.read_at(&mut buffer, n * 10_000).unwrap(), 7);
            assert_eq!(file.read_at(&mut buffer, n * 10_000 / 2).unwrap().min(7), 7);
        }
        let (here, there) = (
            file.metadata().unwrap(),
            share.join("file").metadata().unwrap(),
        );
        assert_eq!(here.modified().unwrap(), there.modified().unwrap());
        assert_eq!((here.len(), there.len()), (190_007, 190_007));
    })
    .await;
    let remote = pair.mounted(0).snapshot().remote;
    assert_eq!(remote.read, 0, "{remote:?}");
    assert!(remote.getattr <= 2, "{remote:?}");
    pair.end().await;
}
