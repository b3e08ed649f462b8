//! Parallel: one file in four parts at once, and ten files at once.
//!
//! [`crew`] is how every workload with threads works: the threads do operations and count, this thread
//! reports.

use super::sequential::read_bytes;
use super::stage::{Stage, Turn};
use crate::files::layout::{CONCURRENT, LARGE, concurrent};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

const PARTS: u64 = 4;
/// How often the one that reports looks at the count.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A piece of a file.
struct Part {
    path: PathBuf,
    from: u64,
    to: u64,
}

pub(super) fn run_parts(turn: &mut Turn<'_>) {
    let job = turn.job;
    let whole = job.sizes.parallel_file_bytes;
    let parts = (0..PARTS).map(|i| Part {
        path: job.folder.join(LARGE),
        from: whole * i / PARTS,
        to: whole * (i + 1) / PARTS,
    });
    read(turn, "parallel-4", &parts.collect::<Vec<_>>());
}

pub(super) fn run_files(turn: &mut Turn<'_>) {
    let job = turn.job;
    let files = (0..CONCURRENT).map(|i| Part {
        path: job.folder.join(concurrent(i)),
        from: 0,
        to: job.sizes.concurrent_file_bytes,
    });
    read(turn, "concurrent-10", &files.collect::<Vec<_>>());
}

fn read(turn: &mut Turn<'_>, name: &str, parts: &[Part]) {
    turn.stage(name, 1.0, |stage| {
        let whole = parts.iter().map(|part| part.to - part.from).sum();
        let until = stage.until();
        let next = AtomicUsize::new(0);
        let done = crew(stage, parts.len(), whole, |done| {
            match parts.get(next.fetch_add(1, Ordering::Relaxed)) {
                Some(part) => read_part(part, until, done),
                None => Ok(()),
            }
        })?;
        Ok(stage.end_at(done, whole))
    });
}

fn read_part(part: &Part, until: Instant, done: &dyn Fn(u64)) -> io::Result<()> {
    let file = File::open(&part.path)?;
    let mut piece = vec![0; read_bytes(part.to - part.from)];
    let mut at = part.from;
    while at < part.to && Instant::now() < until {
        let want = usize::try_from(part.to - at)
            .unwrap_or(piece.len())
            .min(piece.len());
        match file.read_at(&mut piece[..want], at)? {
            0 => return Err(io::Error::other("the file is shorter than it should be")),
            read => {
                at += read as u64;
                done(read as u64);
            }
        }
    }
    Ok(())
}

/// Has `threads` threads do `work` at once, and reports how much of `whole` they have done. Each counts
/// what it has done by calling what `work` is given. Returns how much they did in all.
pub(super) fn crew(
    stage: &mut Stage<'_>,
    threads: usize,
    whole: u64,
    work: impl Fn(&dyn Fn(u64)) -> io::Result<()> + Sync,
) -> io::Result<u64> {
    let count = AtomicU64::new(0);
    let done = |more| {
        count.fetch_add(more, Ordering::Relaxed);
    };
    stage.start_clock();
    std::thread::scope(|scope| {
        let (ended_in, ended) = channel();
        for _ in 0..threads {
            let (ended_in, work, done) = (ended_in.clone(), &work, &done);
            std::thread::Builder::new().spawn_scoped(scope, move || {
                // The receiver outlives every thread.
                let _ = ended_in.send(work(done));
            })?;
        }
        drop(ended_in);
        let mut result = Ok(());
        loop {
            match ended.recv_timeout(LOOK_EVERY) {
                Ok(end) => result = result.and(end),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            stage.amount(count.load(Ordering::Relaxed), whole);
        }
        result
    })?;
    Ok(count.into_inner())
}
