//! Two mounts, and programs beside them, who want locks on the same file.

use super::*;
use crate::host::limits::{LOCK_POLL_MAX, LOCK_WAIT_MAX};
use crate::host::meta;
use crate::host::resources::Resources;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::NamedTempFile;
use wormhole_protocol::Access;
use wormhole_protocol::Epoch;
use wormhole_protocol::limits::OFFSET_MAX;

use LockMode::{Exclusive, Shared};

const OPEN: OpenId = OpenId(1);

fn file() -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(&[0; 1000]).unwrap();
    file
}

fn held() -> Arc<Held> {
    Arc::new(Held::new(&Resources::new(Epoch(1))))
}

/// Opens the file for a mount as `number`.
fn open_at(held: &Held, path: &Path, number: OpenId, access: Access) {
    let file = File::options()
        .read(true)
        .write(access.writes())
        .open(path)
        .unwrap();
    let fd: OwnedFd = file.into();
    let id = meta::file_id(&meta::stat(&fd).unwrap());
    let room = held.room().unwrap();
    held.hold(number, Open::new(id, fd, access, true, room));
}

/// A mount that has the file open for writing.
fn mount(file: &NamedTempFile) -> Arc<Held> {
    let held = held();
    open_at(&held, file.path(), OPEN, Access::ReadWrite);
    held
}

fn record(owner: u64, first: u64, last: u64) -> Lock {
    Lock {
        open: OPEN,
        owner: LockOwner(owner),
        kind: LockKind::Record,
        range: LockRange::new(first, last).unwrap(),
    }
}

fn flocked(open: OpenId, owner: u64) -> Lock {
    Lock {
        open,
        owner: LockOwner(owner),
        kind: LockKind::Flock,
        range: LockRange::ALL,
    }
}

fn take(held: &Held, lock: Lock, mode: LockMode) -> Result<(), Fault> {
    held.locks().take(held, &lock, mode)
}

fn give(held: &Held, lock: Lock) {
    held.locks().give(held, &lock).unwrap();
}

/// The range and mode of what is in the way.
fn conflict(held: &Held, lock: Lock, mode: LockMode) -> Option<(u64, u64, LockMode)> {
    let found = held.locks().conflict(held, &lock, mode).unwrap();
    found.map(|c| (c.range.first(), c.range.last(), c.mode))
}

fn id_of(held: &Held) -> FileId {
    held.open(OPEN).unwrap().id
}

#[test]
fn two_mounts_exclude_each_other_where_their_ranges_meet() {
    let file = file();
    let (a, b) = (mount(&file), mount(&file));
    take(&a, record(1, 0, 99), Exclusive).unwrap();
    assert_eq!(take(&b, record(1, 99, 99), Shared), Err(Fault::Locked));
    assert_eq!(take(&b, record(1, 99, 120), Exclusive), Err(Fault::Locked));
    take(&b, record(1, 100, 199), Exclusive).unwrap();
    assert_eq!(
        take(&a, record(1, 0, OFFSET_MAX), Exclusive),
        Err(Fault::Locked)
    );
    give(&b, record(1, 100, 199));
    take(&a, record(1, 0, OFFSET_MAX), Exclusive).unwrap();
    assert_eq!(
        take(&b, record(1, OFFSET_MAX, OFFSET_MAX), Shared),
        Err(Fault::Locked),
        "to the end is to the very end"
    );
}

#[test]
fn owners_of_one_mount_exclude_each_other_and_none_himself() {
    let file = file();
    let a = mount(&file);
    take(&a, record(1, 0, 99), Exclusive).unwrap();
    assert_eq!(take(&a, record(2, 50, 50), Shared), Err(Fault::Locked));
    // Asking again is how a mount makes sure after it lost its link.
    take(&a, record(1, 0, 99), Exclusive).unwrap();
    take(&a, record(1, 20, 120), Exclusive).unwrap();
}

#[test]
fn shared_locks_go_together_and_one_alone_can_become_exclusive() {
    let file = file();
    let (a, b) = (mount(&file), mount(&file));
    take(&a, record(1, 0, 99), Shared).unwrap();
    take(&b, record(1, 0, 99), Shared).unwrap();
    assert_eq!(take(&a, record(1, 0, 99), Exclusive), Err(Fault::Locked));
    assert_eq!(
        conflict(&b, record(1, 0, 0), Exclusive),
        Some((0, 99, Shared)),
        "what could not be made exclusive is shared as before"
    );
    give(&b, record(1, 0, 99));
    take(&a, record(1, 0, 99), Exclusive).unwrap();
    assert_eq!(take(&b, record(1, 0, 0), Shared), Err(Fault::Locked));
    take(&a, record(1, 0, 99), Shared).unwrap();
    take(&b, record(1, 0, 0), Shared).unwrap();
}

#[test]
fn a_part_that_is_given_up_splits_a_range_and_a_part_that_is_added_merges_two() {
    let file = file();
    let (a, b) = (mount(&file), mount(&file));
    take(&a, record(1, 0, 99), Exclusive).unwrap();
    give(&a, record(1, 40, 59));
    take(&b, record(1, 40, 59), Exclusive).unwrap();
    let in_the_way = |first| conflict(&b, record(1, first, 200), Exclusive);
    assert_eq!(in_the_way(0), Some((0, 39, Exclusive)));
    assert_eq!(in_the_way(40), Some((60, 99, Exclusive)));
    give(&b, record(1, 40, 59));
    take(&a, record(1, 40, 59), Exclusive).unwrap();
    assert_eq!(in_the_way(30), Some((0, 99, Exclusive)), "one again");
    take(&a, record(1, 60, 99), Shared).unwrap();
    assert_eq!(in_the_way(70), Some((60, 99, Shared)));
}

#[test]
fn a_test_tells_range_and_mode_and_takes_nothing() {
    let file = file();
    let (a, b) = (mount(&file), mount(&file));
    assert_eq!(conflict(&b, record(7, 0, OFFSET_MAX), Exclusive), None);
    take(&a, record(1, 10, OFFSET_MAX), Shared).unwrap();
    assert_eq!(conflict(&b, record(7, 0, 500), Shared), None);
    assert_eq!(
        conflict(&b, record(7, 0, 500), Exclusive),
        Some((10, OFFSET_MAX, Shared))
    );
    assert_eq!(conflict(&b, record(7, 0, 9), Exclusive), None);
    assert_eq!(conflict(&a, record(1, 0, 500), Exclusive), None, "his own");
    assert!(conflict(&a, record(2, 0, 500), Exclusive).is_some());
    assert!(b.locks().is_empty());
    let flock = flocked(OPEN, 1);
    assert_eq!(b.locks().conflict(&b, &flock, Shared), Err(Fault::Invalid));
}

#[test]
fn flocks_exclude_each_other_and_not_records() {
    let file = file();
    let (a, b) = (mount(&file), mount(&file));
    take(&a, flocked(OPEN, 1), Exclusive).unwrap();
    take(&a, flocked(OPEN, 1), Exclusive).unwrap();
    assert_eq!(take(&b, flocked(OPEN, 1), Shared), Err(Fault::Locked));
    take(&b, record(1, 0, OFFSET_MAX), Exclusive).unwrap();
    // Another open file of the same mount.
    open_at(&a, file.path(), OpenId(2), Access::Read);
    assert_eq!(take(&a, flocked(OpenId(2), 2), Shared), Err(Fault::Locked));
    take(&a, flocked(OPEN, 1), Shared).unwrap();
    take(&a, flocked(OpenId(2), 2), Shared).unwrap();
    assert_eq!(take(&b, flocked(OPEN, 1), Exclusive), Err(Fault::Locked));
    give(&a, flocked(OPEN, 1));
    give(&a, flocked(OpenId(2), 2));
    take(&b, flocked(OPEN, 1), Exclusive).unwrap();
}

#[test]
fn an_exclusive_record_needs_an_open_for_writing_and_a_flock_does_not() {
    let file = file();
    let a = held();
    open_at(&a, file.path(), OPEN, Access::Read);
    assert_eq!(take(&a, record(1, 0, 9), Exclusive), Err(Fault::Invalid));
    take(&a, record(1, 0, 9), Shared).unwrap();
    take(&a, flocked(OPEN, 1), Exclusive).unwrap();
    // The owner opens the file again, to write: his lock can become exclusive.
    open_at(&a, file.path(), OpenId(2), Access::ReadWrite);
    let more = Lock {
        open: OpenId(2),
        ..record(1, 0, 9)
    };
    take(&a, more, Exclusive).unwrap();
    let b = mount(&file);
    assert_eq!(take(&b, record(1, 0, 0), Shared), Err(Fault::Locked));
}

#[test]
fn what_ends_takes_its_locks_with_it() {
    let file = file();
    let (a, b) = (mount(&file), mount(&file));
    let free = |what: &str| {
        // A program that another test is starting has all that is open here until it begins, locks and all.
        let began = Instant::now();
        let mut taken = take(&b, record(9, 0, OFFSET_MAX), Exclusive);
        while taken == Err(Fault::Locked) && began.elapsed() < Duration::from_secs(10) {
            std::thread::yield_now();
            taken = take(&b, record(9, 0, OFFSET_MAX), Exclusive);
        }
        taken.unwrap_or_else(|e| panic!("{what}: {e:?}"));
        give(&b, record(9, 0, OFFSET_MAX));
        assert!(b.locks().is_empty());
    };
    // An owner, all at once and his own alone.
    take(&a, record(1, 0, 9), Exclusive).unwrap();
    take(&a, record(1, 20, 29), Shared).unwrap();
    take(&a, record(2, 40, 49), Exclusive).unwrap();
    a.locks().give_all(id_of(&a), LockOwner(1));
    assert_eq!(
        conflict(&b, record(1, 0, OFFSET_MAX), Exclusive),
        Some((40, 49, Exclusive))
    );
    a.locks().give_all(id_of(&a), LockOwner(2));
    free("owners");
    // The last open of a file, not the one before.
    open_at(&a, file.path(), OpenId(2), Access::ReadWrite);
    take(&a, record(1, 0, 9), Exclusive).unwrap();
    take(&a, flocked(OPEN, 1), Exclusive).unwrap();
    a.close(OPEN);
    take(&b, flocked(OPEN, 1), Exclusive).unwrap();
    assert_eq!(take(&b, record(1, 0, 0), Shared), Err(Fault::Locked));
    assert_eq!(take(&a, record(1, 0, 0), Shared), Err(Fault::NotOpen));
    a.close(OpenId(2));
    give(&b, flocked(OPEN, 1));
    free("opens");
    // The mount.
    open_at(&a, file.path(), OPEN, Access::ReadWrite);
    take(&a, record(1, 0, 9), Exclusive).unwrap();
    drop(a);
    free("the mount");
}

#[test]
fn a_try_that_failed_leaves_nothing_open_and_owners_are_bounded() {
    let file = file();
    let (a, b) = (mount(&file), mount(&file));
    take(&a, record(1, 0, 9), Exclusive).unwrap();
    assert_eq!(take(&b, record(1, 0, 9), Shared), Err(Fault::Locked));
    assert!(b.locks().is_empty());
    for owner in 0..LOCK_OWNERS_MAX as u64 {
        take(&b, record(owner, 100 + owner, 100 + owner), Shared).unwrap();
    }
    assert_eq!(
        take(&b, record(5000, 50, 50), Shared),
        Err(Fault::Exhausted)
    );
    take(&b, record(7, 50, 50), Shared).unwrap();
    b.locks().give_all(id_of(&b), LockOwner(7));
    take(&b, record(5000, 50, 50), Shared).unwrap();
}

#[test]
fn a_file_without_a_name_can_be_locked() {
    let file = file();
    let (a, b) = (mount(&file), mount(&file));
    std::fs::remove_file(file.path()).unwrap();
    take(&a, record(1, 0, 9), Exclusive).unwrap();
    assert_eq!(take(&b, record(1, 0, 9), Shared), Err(Fault::Locked));
}

/// A program of the host with a lock it took by fcntl(2) or flock(2); killed at the end.
struct Program(Child);

impl Program {
    fn locking(path: &Path, call: &str) -> Self {
        let script = format!(
            "import fcntl, sys\nf = open(sys.argv[1], 'r+b')\n{call}\nprint('ready', flush=True)\nsys.stdin.read()"
        );
        let mut child = Command::new("python3")
            .args(["-c", &script])
            .arg(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self(child)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn programs_of_the_host_see_the_locks_of_mounts_and_mounts_theirs() {
    let file = file();
    let a = mount(&file);
    let program = Program::locking(
        file.path(),
        "fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 20)",
    );
    assert_eq!(take(&a, record(1, 0, 20), Shared), Err(Fault::Locked));
    assert_eq!(
        conflict(&a, record(1, 0, 99), Shared),
        Some((20, 29, Exclusive))
    );
    take(&a, record(1, 0, 19), Exclusive).unwrap();
    drop(program);
    take(&a, record(1, 0, 99), Exclusive).unwrap();
    take(&a, flocked(OPEN, 1), Exclusive).unwrap();
    let tries = "
for lock in (fcntl.lockf, fcntl.flock):
    try:
        lock(f, fcntl.LOCK_SH | fcntl.LOCK_NB)
        raise SystemExit('got it')
    except BlockingIOError:
        pass";
    drop(Program::locking(file.path(), tries));
}

/// Tries as a request that waits does.
async fn wait_for(held: &Arc<Held>, lock: Lock, mode: LockMode) -> Result<(), Fault> {
    let attempt = || std::future::ready(take(held, lock, mode));
    wait::until_granted(&held.locks().waiting, attempt).await
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_woken_when_another_mount_gives_up_its_lock() {
    let file = file();
    let (a, b) = (mount(&file), mount(&file));
    for end in 0..4 {
        if end > 0 {
            a.close(OPEN);
            open_at(&a, file.path(), OPEN, Access::ReadWrite);
        }
        take(&a, record(1, 0, 9), Exclusive).unwrap();
        let waiting = tokio::spawn({
            let b = b.clone();
            async move { wait_for(&b, record(1, 0, 9), Exclusive).await }
        });
        // Long enough for the next try of its own to be far off.
        tokio::time::sleep(Duration::from_millis(1300)).await;
        assert!(!waiting.is_finished());
        match end {
            0 => give(&a, record(1, 0, 9)),
            1 => give(&a, record(1, 0, OFFSET_MAX)),
            2 => a.locks().give_all(id_of(&a), LockOwner(1)),
            _ => a.close(OPEN),
        }
        // Nothing but the wake can have helped: no time goes by.
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        assert!(waiting.is_finished(), "way {end}");
        waiting.await.unwrap().unwrap();
        b.locks().give_all(id_of(&b), LockOwner(1));
    }
}

#[tokio::test]
async fn who_waits_for_a_program_of_the_host_gets_the_lock_soon_after_it() {
    let file = file();
    let a = mount(&file);
    let program = Program::locking(file.path(), "fcntl.flock(f, fcntl.LOCK_EX)");
    let begun = Instant::now();
    let ending = async {
        tokio::time::sleep(Duration::from_millis(400)).await;
        drop(program);
    };
    let (granted, ()) = tokio::join!(wait_for(&a, flocked(OPEN, 1), Exclusive), ending);
    granted.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(400));
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_after_a_while_or_when_it_is_dropped_and_leaves_nothing() {
    let file = file();
    let (a, b) = (mount(&file), mount(&file));
    take(&a, record(1, 0, 9), Exclusive).unwrap();
    let begun = tokio::time::Instant::now();
    assert_eq!(
        wait_for(&b, record(1, 0, 9), Shared).await,
        Err(Fault::Locked)
    );
    assert!(begun.elapsed() >= LOCK_WAIT_MAX);
    assert!(begun.elapsed() < LOCK_WAIT_MAX + Duration::from_millis(20));
    let wait = wait_for(&b, record(1, 0, 9), Shared);
    let broken_off = tokio::time::timeout(Duration::from_secs(1), wait).await;
    assert!(broken_off.is_err());
    give(&a, record(1, 0, 9));
    assert!(b.locks().is_empty());
    assert_eq!(conflict(&a, record(2, 0, 9), Exclusive), None);
    assert_eq!(b.locks().waiting.available_permits(), LOCK_WAITS_MAX);
}

#[tokio::test(start_paused = true)]
async fn only_so_many_wait_and_the_others_are_told_soon() {
    let file = file();
    let (a, b) = (mount(&file), mount(&file));
    take(&a, flocked(OPEN, 1), Exclusive).unwrap();
    let waits: Vec<_> = (0..LOCK_WAITS_MAX)
        .map(|_| {
            let b = b.clone();
            tokio::spawn(async move { wait_for(&b, flocked(OPEN, 1), Exclusive).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(1)).await;
    let begun = tokio::time::Instant::now();
    let told = wait_for(&b, flocked(OPEN, 1), Exclusive).await;
    assert_eq!(told, Err(Fault::Locked));
    assert!(begun.elapsed() >= LOCK_POLL_MAX, "not for ever anew");
    assert!(begun.elapsed() < LOCK_POLL_MAX + Duration::from_millis(20));
    a.close(OPEN);
    for wait in waits {
        wait.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_wait_for_what_is_closed_meanwhile_ends() {
    let file = file();
    let (a, b) = (mount(&file), mount(&file));
    take(&a, flocked(OPEN, 1), Exclusive).unwrap();
    let closing = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        b.close(OPEN);
    };
    let (told, ()) = tokio::join!(wait_for(&b, flocked(OPEN, 1), Exclusive), closing);
    assert_eq!(told, Err(Fault::NotOpen));
}

#[test]
fn locks_taken_while_others_end_are_either_there_or_refused() {
    let file = file();
    let (a, b) = (mount(&file), mount(&file));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..2000 {
                a.locks().give_all(id_of(&a), LockOwner(1));
            }
        });
        for _ in 0..2000 {
            take(&a, record(1, 0, 9), Exclusive).unwrap();
        }
    });
    take(&a, record(1, 0, 9), Exclusive).unwrap();
    assert_eq!(take(&b, record(1, 0, 9), Shared), Err(Fault::Locked));
}
