//! Programs that write, each in its own way, and keep account of what they are told.
//!
//! Each goes on until it is told to stop. After an error it begins again with another file, or where it was.

use super::account::{Account, SLOT_BYTES, SLOTS, line, pattern, slot};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::IntoRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

/// A way to write: where, under which name, until when, and the account.
pub(crate) type Writer = fn(&Path, &str, &AtomicBool, &mut Account);

/// Closes, and says whether that worked, which dropping does not.
fn close(file: File) -> io::Result<()> {
    // SAFETY: the descriptor is ours alone, and nobody uses it afterwards.
    match unsafe { libc::close(file.into_raw_fd()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Notes an error, and waits a moment before it is tried again.
fn note(account: &mut Account, what: &str, done: io::Result<()>) -> bool {
    match done {
        Ok(()) => {
            account.acknowledged();
            true
        }
        Err(error) => {
            account.failed(what, &error);
            std::thread::sleep(Duration::from_millis(50));
            false
        }
    }
}

/// Small files, each closed; every fourth is made durable first.
pub(crate) fn files(dir: &Path, who: &str, stop: &AtomicBool, account: &mut Account) {
    for number in 0.. {
        if stop.load(SeqCst) {
            return;
        }
        let name = format!("{who}-{number}");
        let len = [0, 1, 700, 4096, 30_000, 200_000][number % 6];
        let make = || {
            let mut file = File::create_new(dir.join(&name))?;
            for piece in pattern(&name, 0, len).chunks(16 << 10) {
                file.write_all(piece)?;
            }
            if number % 4 == 0 {
                file.sync_all()?;
            }
            close(file)
        };
        if note(account, &name, make()) {
            account.files.push((name, len));
        }
    }
}

/// Long files, made durable every MiB.
pub(crate) fn stream(dir: &Path, who: &str, stop: &AtomicBool, account: &mut Account) {
    const STEP: usize = 1 << 20;
    const LONGEST: usize = 48 << 20;
    for number in 0.. {
        let name = format!("{who}-{number}");
        let content = pattern(&name, 0, LONGEST);
        let write = |account: &mut Account| {
            let mut file = File::create_new(dir.join(&name))?;
            for (step, bytes) in content.chunks(STEP).enumerate() {
                for piece in bytes.chunks(64 << 10) {
                    file.write_all(piece)?;
                }
                file.sync_data()?;
                account.streams.insert(name.clone(), (step + 1) * STEP);
                account.acknowledged();
                if stop.load(SeqCst) {
                    break;
                }
            }
            close(file)
        };
        let done = write(account);
        note(account, &name, done);
        if stop.load(SeqCst) {
            return;
        }
    }
}

/// The same places over and over, each time with a higher number, made durable one by one.
pub(crate) fn slots(dir: &Path, who: &str, stop: &AtomicBool, account: &mut Account) {
    let mut number = 0;
    while !stop.load(SeqCst) {
        let mut write = |account: &mut Account| {
            let file = File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(dir.join(who))?;
            while !stop.load(SeqCst) {
                number += 1;
                let at = number as usize % SLOTS;
                let entry = account.slots.entry((who.to_owned(), at)).or_default();
                entry.1 = number;
                file.write_all_at(&slot(who, number), (at * SLOT_BYTES) as u64)?;
                file.sync_data()?;
                let entry = account.slots.entry((who.to_owned(), at)).or_default();
                *entry = (number, number);
                account.acknowledged();
            }
            close(file)
        };
        let done = write(account);
        note(account, who, done);
    }
}

/// Lines at the end of a log, each safe once it is written.
pub(crate) fn log(dir: &Path, who: &str, stop: &AtomicBool, account: &mut Account) {
    let mut number = 0;
    while !stop.load(SeqCst) {
        let mut write = |account: &mut Account| {
            let path = dir.join(who);
            let mut file = File::options().create(true).append(true).open(path)?;
            while !stop.load(SeqCst) {
                number += 1;
                let text = line(number);
                let len = file.write(&text)?;
                if len != text.len() {
                    return Err(io::Error::other("a short write"));
                }
                account
                    .lines
                    .entry(who.to_owned())
                    .or_default()
                    .push(number);
                account.acknowledged();
            }
            close(file)
        };
        let done = write(account);
        note(account, who, done);
    }
}
