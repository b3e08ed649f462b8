//! What it costs to move packets, so that it can be taken off the delay of the link.
//!
//! A thread that sleeps runs again some time after there is reason to: tens of microseconds on a
//! virtual machine, which is much beside the half millisecond of a fast link's delay. Before a link
//! carries its first packet, its thread measures on itself
//! - `waking`: from another thread's word, that there is something, to running again;
//! - `timer`: from the time a sleep was to end at to running again.
//!
//! Of each the tenth percentile counts: what practically every packet costs. So what is taken off is less
//! than what was added, and nothing is delivered early.

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::{read, write};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Sleeps that are timed, of either kind.
const SAMPLES: usize = 64;
/// How long each is: about the delay of a fast link.
const NAP: Duration = Duration::from_micros(400);
/// What costs more than this is not the machine's own way but somebody in the way.
const BELIEVED_MAX: Duration = Duration::from_micros(100);

/// What a packet waits for the thread that moves it. Nothing, by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct OwnCost {
    /// Until the sleeping thread has noticed it.
    pub(super) waking: Duration,
    /// Beyond its time, until the sleeping thread has noticed that.
    pub(super) timer: Duration,
}

impl OwnCost {
    /// Measures the calling thread, for some 50 ms.
    pub(super) fn measure() -> io::Result<Self> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self {
            waking: believed(wakings(&bell)?),
            timer: believed(naps(&bell)?),
        })
    }

    /// All of it.
    pub(super) fn sum(self) -> Duration {
        self.waking + self.timer
    }
}

/// How late naps end.
fn naps(bell: &OwnedFd) -> io::Result<Vec<Duration>> {
    let timeout = Timespec {
        tv_sec: 0,
        tv_nsec: NAP.subsec_nanos().into(),
    };
    (0..SAMPLES)
        .map(|_| {
            let began = Instant::now();
            poll(&mut [PollFd::new(bell, PollFlags::IN)], Some(&timeout))?;
            Ok(began.elapsed().saturating_sub(NAP))
        })
        .collect()
}

/// How long it takes to hear the bell.
fn wakings(bell: &OwnedFd) -> io::Result<Vec<Duration>> {
    let began = Instant::now();
    let now = || u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
    let rung = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..SAMPLES {
                std::thread::sleep(NAP);
                rung.store(now(), Ordering::SeqCst);
                // Cannot fail: it is never counted up to its end.
                let _ = write(bell, &1u64.to_ne_bytes());
            }
        });
        let mut heard = Vec::with_capacity(SAMPLES);
        let mut rings = 0;
        while rings < SAMPLES as u64 {
            poll(&mut [PollFd::new(bell, PollFlags::IN)], None)?;
            heard.push(Duration::from_nanos(
                now().saturating_sub(rung.load(Ordering::SeqCst)),
            ));
            let mut count = [0; 8];
            read(bell, &mut count)?;
            rings += u64::from_ne_bytes(count);
        }
        Ok(heard)
    })
}

/// The tenth percentile.
fn believed(mut samples: Vec<Duration>) -> Duration {
    samples.sort_unstable();
    let low = samples.get(samples.len() / 10).copied();
    low.unwrap_or_default().min(BELIEVED_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nearly_every_packet_costs_is_believed() {
        let micros = |us: &[u64]| us.iter().copied().map(Duration::from_micros).collect();
        assert_eq!(believed(Vec::new()), Duration::ZERO);
        assert_eq!(believed(micros(&[30])), Duration::from_micros(30));
        let few = micros(&[90, 2, 40, 30, 20, 50, 60, 70, 80, 900]);
        assert_eq!(believed(few), Duration::from_micros(20));
        assert_eq!(believed(micros(&[4000; 20])), BELIEVED_MAX);
    }

    #[test]
    fn a_machine_costs_something() {
        let cost = OwnCost::measure().unwrap();
        assert!(cost.timer > Duration::ZERO && cost.waking > Duration::ZERO);
        assert!(cost.sum() <= BELIEVED_MAX * 2);
    }
}
