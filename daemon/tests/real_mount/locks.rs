//! Locks of programs: seen by the other mount and on the host, waited for, and gone with whoever held them.

use super::pair::{Pair, errno};
use super::*;
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// How long somebody is watched who should go on waiting.
const WHILE: Duration = Duration::from_millis(400);
/// Where a process of [`act`] is told what to do.
const ACTS: &str = "WORMHOLE_TEST_ACTS";

/// Commands and types of record locks, for `fcntl`.
const OFD_SET: libc::c_int = libc::F_OFD_SETLK;
const OFD_GET: libc::c_int = libc::F_OFD_GETLK;
const SET: libc::c_int = libc::F_SETLK;
const SET_WAIT: libc::c_int = libc::F_SETLKW;
const GET: libc::c_int = libc::F_GETLK;
const WRITE: libc::c_int = libc::F_WRLCK;
const READ: libc::c_int = libc::F_RDLCK;
const NONE: libc::c_int = libc::F_UNLCK;

/// One record lock call; what it says of a conflict.
fn record(
    file: &File,
    command: libc::c_int,
    kind: libc::c_int,
    from: i64,
    len: i64,
) -> io::Result<libc::flock> {
    // SAFETY: all zeros is a value of this plain structure.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    (lock.l_start, lock.l_len) = (from, len);
    // SAFETY: the descriptor is open, and the structure lives through the call.
    match unsafe { libc::fcntl(file.as_raw_fd(), command, &mut lock) } {
        0 => Ok(lock),
        _ => Err(io::Error::last_os_error()),
    }
}

fn open(path: &Path) -> File {
    let mut options = File::options();
    options.read(true).write(true).create(true);
    options.open(path).unwrap()
}

fn try_flock(file: &File, how: FlockOperation) -> io::Result<()> {
    Ok(flock(file, how)?)
}

/// A process of its own that takes a lock, says so, and holds it until it is told to end.
struct Holder(Child);

impl Holder {
    /// `kind` is `flock` or `record`; waits if `wait`.
    fn spawn(kind: &str, path: &Path, wait: bool) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["locks::act", "--exact", "--ignored", "--nocapture"])
            .env(ACTS, format!("{kind} {wait} {}", path.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self(child)
    }

    /// What it says next.
    fn says(&mut self) -> String {
        let out = self.0.stdout.as_mut().unwrap();
        let mut line = String::new();
        let mut byte = [0];
        while out.read(&mut byte).unwrap() == 1 {
            if byte[0] == b'\n' {
                if line.starts_with("lock: ") {
                    return line;
                }
                line.clear();
            } else {
                line.push(byte[0].into());
            }
        }
        line
    }

    fn holding(kind: &str, path: &Path) -> Self {
        let mut holder = Self::spawn(kind, path, true);
        assert_eq!(holder.says(), "lock: asked");
        assert_eq!(holder.says(), "lock: held");
        holder
    }

    fn pid(&self) -> libc::pid_t {
        self.0.id() as libc::pid_t
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    fn end(mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

static SIGNALS: AtomicUsize = AtomicUsize::new(0);

extern "C" fn on_signal(_: libc::c_int) {
    SIGNALS.fetch_add(1, SeqCst);
}

/// No test: what a [`Holder`] runs.
#[test]
#[ignore = "run by others as a process of its own"]
fn act() {
    let Ok(acts) = std::env::var(ACTS) else {
        return;
    };
    let mut words = acts.splitn(3, ' ');
    let (kind, wait) = (words.next().unwrap(), words.next().unwrap() == "true");
    let file = open(Path::new(words.next().unwrap()));
    // SAFETY: the handler only counts; without SA_RESTART a call that waits is broken off.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_signal as *const () as usize;
        libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut());
    }
    println!("lock: asked");
    let done = match (kind, wait) {
        ("flock", true) => try_flock(&file, FlockOperation::LockExclusive),
        ("flock", false) => try_flock(&file, FlockOperation::NonBlockingLockExclusive),
        (_, true) => record(&file, SET_WAIT, WRITE, 0, 0).map(drop),
        (_, false) => record(&file, SET, WRITE, 0, 0).map(drop),
    };
    match done {
        Ok(()) => println!("lock: held"),
        Err(error) => println!("lock: {}", error.raw_os_error().unwrap()),
    }
    io::stdout().flush().unwrap();
    let _ = BufReader::new(io::stdin()).read_line(&mut String::new());
}

/// Waits until a lock can be had.
fn soon(mut take: impl FnMut() -> io::Result<()>) {
    let until = Instant::now() + Duration::from_secs(10);
    while let Err(error) = take() {
        assert!(Instant::now() < until, "{error}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flock_excludes_the_other_mount_and_the_host() {
    let work = |a: &Path, b: &Path, share: &Path| {
        use FlockOperation::*;
        let here = open(&a.join("file"));
        let others = [
            open(&a.join("file")),
            open(&b.join("file")),
            open(&share.join("file")),
        ];
        try_flock(&here, LockExclusive).unwrap();
        for other in &others {
            let taken = try_flock(other, NonBlockingLockExclusive);
            assert_eq!(errno(taken), libc::EWOULDBLOCK);
            let taken = try_flock(other, NonBlockingLockShared);
            assert_eq!(errno(taken), libc::EWOULDBLOCK);
        }
        // It becomes a shared one; those go together.
        try_flock(&here, LockShared).unwrap();
        for other in &others {
            try_flock(other, NonBlockingLockShared).unwrap();
        }
        assert_eq!(
            errno(try_flock(&here, NonBlockingLockExclusive)),
            libc::EWOULDBLOCK
        );
        drop(others);
        soon(|| try_flock(&here, NonBlockingLockExclusive));
        try_flock(&here, Unlock).unwrap();
        let there = open(&share.join("file"));
        try_flock(&there, NonBlockingLockExclusive).unwrap();
        assert_eq!(
            errno(try_flock(&here, NonBlockingLockShared)),
            libc::EWOULDBLOCK
        );
    };
    Pair::new().await.run(work).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn record_locks_exclude_by_range_in_the_other_mount_and_on_the_host() {
    let work = |a: &Path, b: &Path, share: &Path| {
        let here = open(&a.join("file"));
        record(&here, SET, WRITE, 100, 100).unwrap();
        // The host's kernel shows the mount's locks; so another open file there is in the way.
        for other in [&open(&b.join("file")), &open(&share.join("file"))] {
            let taken = record(other, OFD_SET, WRITE, 150, 1);
            assert_eq!(errno(taken), libc::EAGAIN);
            let seen = record(other, OFD_GET, READ, 0, 0).unwrap();
            assert_eq!(seen.l_type, WRITE as libc::c_short);
            assert_eq!((seen.l_start, seen.l_len), (100, 100));
            record(other, OFD_SET, WRITE, 0, 100).unwrap();
            record(other, OFD_SET, WRITE, 200, 0).unwrap();
            record(other, OFD_SET, NONE, 0, 0).unwrap();
        }
        // A part is given up.
        record(&here, SET, NONE, 120, 10).unwrap();
        let there = open(&b.join("file"));
        record(&there, OFD_SET, WRITE, 120, 10).unwrap();
        assert_eq!(errno(record(&there, OFD_SET, WRITE, 119, 2)), libc::EAGAIN);
        let seen = record(&here, GET, WRITE, 110, 100).unwrap();
        assert_eq!((seen.l_start, seen.l_len), (120, 10));
        assert_eq!(errno(record(&here, SET, READ, 125, 1)), libc::EAGAIN);
    };
    Pair::new().await.run(work).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn locks_of_open_files_belong_to_these() {
    let work = |a: &Path, b: &Path, _: &Path| {
        let (one, two) = (open(&a.join("file")), open(&a.join("file")));
        record(&one, OFD_SET, WRITE, 0, 10).unwrap();
        assert_eq!(errno(record(&two, OFD_SET, WRITE, 5, 10)), libc::EAGAIN);
        record(&two, OFD_SET, READ, 10, 10).unwrap();
        let there = open(&b.join("file"));
        assert_eq!(errno(record(&there, OFD_SET, READ, 0, 1)), libc::EAGAIN);
        record(&there, OFD_SET, READ, 10, 10).unwrap();
        // Another descriptor of the file that is closed takes none of them along.
        drop(two);
        assert_eq!(errno(record(&there, OFD_SET, READ, 0, 1)), libc::EAGAIN);
        drop(one);
        soon(|| record(&there, OFD_SET, WRITE, 0, 0).map(drop));
    };
    Pair::new().await.run(work).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn record_locks_of_a_process_go_when_it_closes_any_descriptor_of_the_file() {
    let work = |a: &Path, b: &Path, _: &Path| {
        let (one, two) = (open(&a.join("file")), open(&a.join("file")));
        record(&one, SET, WRITE, 0, 0).unwrap();
        let there = open(&b.join("file"));
        assert_eq!(errno(record(&there, OFD_SET, READ, 0, 1)), libc::EAGAIN);
        drop(two);
        // At the close, not some time after it.
        record(&there, OFD_SET, WRITE, 0, 0).unwrap();
        drop(one);
    };
    Pair::new().await.run(work).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_gives_locks_up() {
    let work = |a: &Path, b: &Path, share: &Path| {
        for round in 0..10 {
            let here = open(&a.join("file"));
            try_flock(&here, FlockOperation::LockExclusive).unwrap();
            // The other kind of lock of who had the file before may go a little later.
            soon(|| record(&here, OFD_SET, WRITE, 0, 0).map(drop));
            drop(here);
            let there = open(&[b, share][round % 2].join("file"));
            soon(|| try_flock(&there, FlockOperation::NonBlockingLockExclusive));
            soon(|| record(&there, OFD_SET, WRITE, 0, 0).map(drop));
        }
    };
    Pair::new().await.run(work).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_holds_a_lock_and_is_killed_holds_it_no_more() {
    let work = |a: &Path, b: &Path, share: &Path| {
        for kind in ["flock", "record"] {
            let holder = Holder::holding(kind, &a.join("file"));
            for mnt in [a, b, share] {
                let mut other = Holder::spawn(kind, &mnt.join("file"), false);
                other.says();
                assert_eq!(other.says(), format!("lock: {}", libc::EAGAIN), "{kind}");
                other.end();
            }
            holder.kill();
            let other = open(&b.join("file"));
            soon(|| match kind {
                "flock" => try_flock(&other, FlockOperation::NonBlockingLockExclusive),
                _ => record(&other, SET, WRITE, 0, 0).map(drop),
            });
        }
    };
    Pair::new().await.run(work).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_lock_gets_it_when_it_is_given_up() {
    let work = |a: &Path, b: &Path, share: &Path| {
        for kind in ["flock", "record"] {
            for (from, to) in [(a, b), (a, a), (share, b), (b, share)] {
                let (from, to) = (from.join("file"), to.join("file"));
                let holder = Holder::holding(kind, &from);
                let mut waiting = Holder::spawn(kind, &to, true);
                assert_eq!(waiting.says(), "lock: asked");
                std::thread::sleep(WHILE);
                assert!(waiting.0.try_wait().unwrap().is_none());
                let since = Instant::now();
                holder.end();
                assert_eq!(waiting.says(), "lock: held", "{kind}");
                assert!(since.elapsed() < Duration::from_secs(5));
                waiting.end();
            }
        }
    };
    Pair::new().await.run(work).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_lock_can_be_interrupted_and_killed() {
    let work = |a: &Path, b: &Path, _: &Path| {
        for kind in ["flock", "record"] {
            let holder = Holder::holding(kind, &b.join("file"));
            let mut waiting = Holder::spawn(kind, &a.join("file"), true);
            assert_eq!(waiting.says(), "lock: asked");
            std::thread::sleep(WHILE);
            // The test harness runs `act` in a thread: the signal must find that one.
            for task in fs::read_dir(format!("/proc/{}/task", waiting.pid())).unwrap() {
                let task = task.unwrap().file_name().into_string().unwrap();
                let task: libc::pid_t = task.parse().unwrap();
                // SAFETY: a signal to a thread of our own child.
                unsafe { libc::syscall(libc::SYS_tgkill, waiting.pid(), task, libc::SIGUSR1) };
            }
            let since = Instant::now();
            assert_eq!(waiting.says(), format!("lock: {}", libc::EINTR), "{kind}");
            assert!(since.elapsed() < Duration::from_secs(5));
            waiting.end();
            let mut waiting = Holder::spawn(kind, &a.join("file"), true);
            assert_eq!(waiting.says(), "lock: asked");
            std::thread::sleep(WHILE);
            let since = Instant::now();
            waiting.kill();
            assert!(since.elapsed() < Duration::from_secs(5));
            // Who gave up waiting does not get it afterwards.
            holder.end();
            std::thread::sleep(WHILE);
            let other = Holder::holding(kind, &b.join("file"));
            other.end();
        }
    };
    Pair::new().await.run(work).await;
}
