//! The link in user space: one thread that moves packets between two TUN devices.
//!
//! ```text
//! host ── TUN ──> shaper ──> delay line ──> TUN ── mount      and the same the other way
//! ```
//!
//! What a device has is read as soon as it is there. A sender's kernel takes it for a card and hands over
//! several packets of one flow at once, which [`offload`] cuts first. The shaper decides each packet's fate,
//! and the delay line holds it until its time. Between packets the thread sleeps in one `ppoll`, woken by a
//! packet or by the time of the next one due; it never spins. It asks the kernel for exact timers and, where
//! it may, for a real-time priority, so that a busy machine does not show up as a slower link.
//!
//! What the thread itself costs is measured first ([`own_cost`]) and taken off: a packet that woke it counts as
//! here since `waking` ago, and the timer for the next one due is set earlier by `timer`. A packet leaves at
//! its time or after it, never before. How late one may be is [`GRAIN_OF_DELAY`] of the delay: packets due
//! within that time of each other leave together, which spares a fast link most of the wake-ups.

mod offload;
mod own_cost;

use crate::delay_line::{DelayLine, Full};
use crate::lab::{INTERFACE, LabError, MTU_BYTES, run_ip};
use crate::moment::Moment;
use crate::profile::Profile;
use crate::shaper::{Counters, Direction, Shaper, Verdict};
use offload::{Batch, FRAME_BYTES_MAX, Frame, Note};
use own_cost::OwnCost;
use parking_lot::Mutex;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::{Errno, read, write};
use std::io;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Packets, or frames of several, that the kernel keeps for us while this thread is not running: at least
/// 60 ms of 1 Gbit/s.
const DEVICE_QUEUE_PACKETS: u32 = 5000;
/// As soon as so many packets were read in one turn, those due are looked at.
const TURN_PACKETS: usize = 64;
/// A wake-up may be later than due by this share of the one-way delay..
const GRAIN_OF_DELAY: u32 = 20;
/// ..and never by more than this.
const GRAIN_MAX: Duration = Duration::from_micros(500);
/// Fewer packets than this on the way leave each at its own time.
const MANY_PACKETS: usize = 8;
/// Bytes in flight and in the queue of one direction beyond the queue's own bound: 10 Gbit/s for 1 s.
const FLIGHT_BYTES_MAX: usize = 1 << 30;

/// Sets up the interface of `end`, whose device is open already.
pub(crate) fn configure(end: &str) -> Result<(), LabError> {
    run_ip(&format!(
        "-n {end} link set {INTERFACE} mtu {MTU_BYTES} txqueuelen {DEVICE_QUEUE_PACKETS}"
    ))?;
    Ok(())
}

/// The thread, while it lives.
pub(crate) struct Mover {
    quit: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
    counters: Arc<Mutex<[Counters; 2]>>,
    own_cost: Duration,
}

impl Mover {
    /// Moves packets between `ends`: the host's device and the mount's.
    pub(crate) fn start(profile: &Profile, seed: u64, ends: [OwnedFd; 2]) -> io::Result<Self> {
        let quit = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let counters = Arc::new(Mutex::new([Counters::default(); 2]));
        let mut link = Moving {
            began: Instant::now(),
            paths: [Direction::Forth, Direction::Back].map(|direction| Path {
                shaper: Shaper::new(profile, seed, direction),
                line: DelayLine::new(MTU_BYTES as usize, FLIGHT_BYTES_MAX),
            }),
            ends,
            frame: vec![0; FRAME_BYTES_MAX].into_boxed_slice(),
            frames: 0,
            batch: Batch::default(),
            own_cost: OwnCost::default(),
            looked: [Moment::START; 2],
            woken_by: [false; 2],
            grain: (profile.rtt / 2 / GRAIN_OF_DELAY).min(GRAIN_MAX),
            quit: quit.clone(),
            counters: counters.clone(),
        };
        let (tell, told) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("wormhole-link".to_owned())
            .spawn(move || {
                be_exact();
                link.own_cost = OwnCost::measure().unwrap_or_default();
                // Whoever starts it waits for this.
                let _ = tell.send(link.own_cost.sum());
                link.run();
            })?;
        Ok(Self {
            quit,
            thread: Some(thread),
            counters,
            // Without an answer the thread has ended, and so has the link.
            own_cost: told.recv().unwrap_or_default(),
        })
    }

    /// What is taken off the delay of either direction for the thread's own part in it.
    pub(crate) fn own_cost(&self) -> Duration {
        self.own_cost
    }

    pub(crate) fn counters(&self) -> [Counters; 2] {
        *self.counters.lock()
    }
}

impl Drop for Mover {
    fn drop(&mut self) {
        // Cannot fail: nobody else counts it up.
        let _ = write(&*self.quit, &1u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Timers to the nanosecond, and the processor as soon as there is something to do. Both are wishes.
fn be_exact() {
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
    // SAFETY: all zeros is a valid sched_param, and the calling thread exists.
    let done = unsafe {
        let mut param: libc::sched_param = std::mem::zeroed();
        param.sched_priority = 1;
        libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const param)
    };
    if done != 0 {
        tracing::debug!("no real-time priority for the link: it may be late under load");
    }
}

/// One direction.
struct Path {
    shaper: Shaper,
    line: DelayLine<Note>,
}

struct Moving {
    began: Instant,
    /// Towards the mount, towards the host.
    paths: [Path; 2],
    /// The host's device and the mount's: path 0 reads the first and writes the second.
    ends: [OwnedFd; 2],
    /// What is read into.
    frame: Box<[u8]>,
    /// Frames read so far.
    frames: u64,
    /// What is handed over next.
    batch: Batch,
    own_cost: OwnCost,
    /// When each device was last seen empty.
    looked: [Moment; 2],
    /// Whether the next packet of each device is what ended the last sleep.
    woken_by: [bool; 2],
    grain: Duration,
    quit: Arc<OwnedFd>,
    counters: Arc<Mutex<[Counters; 2]>>,
}

impl Moving {
    fn run(&mut self) {
        loop {
            let mut busy = false;
            for direction in 0..2 {
                busy |= self.take_in(direction);
                self.hand_out(direction);
            }
            if !busy && !self.sleep() {
                return;
            }
        }
    }

    fn now(&self) -> Moment {
        Moment::from(self.began.elapsed())
    }

    /// When a packet came that was read just now: one that ended a sleep lay there while the thread woke up,
    /// and none came before its device was last seen empty.
    fn arrival(&mut self, direction: usize) -> Moment {
        let now = self.now();
        if !std::mem::take(&mut self.woken_by[direction]) {
            return now;
        }
        let waited = (now - self.looked[direction]).min(self.own_cost.waking);
        Moment::from_nanos(now.nanos() - crate::moment::nanos(waited))
    }

    /// Reads a turn's worth of packets; whether there may be more.
    fn take_in(&mut self, direction: usize) -> bool {
        let mut packets = 0;
        while packets < TURN_PACKETS {
            let before = self.now();
            let length = match read(&self.ends[direction], &mut *self.frame) {
                Ok(length) => length,
                Err(error) => {
                    self.looked[direction] = before;
                    self.woken_by[direction] = false;
                    // Nothing there; or the interface is down, which the next sleep finds out.
                    return error == Errno::INTR;
                }
            };
            let came = self.arrival(direction);
            self.frames += 1;
            packets += self.offer(direction, came, length);
        }
        true
    }

    /// Decides about the packets of the frame that was read last, with `length` bytes; how many they are.
    fn offer(&mut self, direction: usize, came: Moment, length: usize) -> usize {
        let Path { shaper, line } = &mut self.paths[direction];
        let Some(frame) = Frame::parse(self.frames, self.frame.get(..length).unwrap_or_default())
        else {
            tracing::debug!("{length} bytes that are no packet");
            return 1;
        };
        for index in 0..frame.packets() {
            let Verdict::Deliver { at } = shaper.offer(came, frame.packet_bytes(index)) else {
                continue;
            };
            let mut packet = line.lend();
            if !frame.cut(index, &mut packet) {
                line.give_back(packet);
            } else if let Err(Full(packet)) = line.push(at, packet) {
                // A gigabyte of packets: then they are lost.
                line.give_back(packet);
            }
        }
        frame.packets()
    }

    /// Writes what is due.
    fn hand_out(&mut self, direction: usize) {
        let now = self.now();
        let line = &mut self.paths[direction].line;
        let mut next = line.pop_due(now);
        while let Some(packet) = next {
            self.batch.push(packet);
            next = line.pop_due(now);
            if next.as_ref().is_none_or(|next| !self.batch.takes(next)) {
                for packet in self.batch.write(&self.ends[1 - direction]) {
                    line.give_back(packet);
                }
            }
        }
    }

    /// Waits for a packet, for the time of the next one due, or for the end; whether to go on.
    fn sleep(&mut self) -> bool {
        *self.counters.lock() = [0, 1].map(|i: usize| self.paths[i].shaper.counters());
        let due = self
            .paths
            .iter()
            .filter_map(|path| path.line.next_due())
            .min();
        let timeout = due.map(|due| {
            // A single packet is worth its own wake-up; where there are many, they share one.
            let few = self.paths.iter().map(|path| path.line.len()).sum::<usize>() < MANY_PACKETS;
            let grain = if few { Duration::ZERO } else { self.grain };
            // Nothing if it is past.
            let wait = due + grain - self.now();
            // Waking up takes its time. What is left after an early one is waited for as it is: no spinning.
            let wait = match wait.checked_sub(self.own_cost.timer) {
                Some(sooner) if !sooner.is_zero() => sooner,
                _ => wait,
            };
            Timespec {
                tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: wait.subsec_nanos().into(),
            }
        });
        let mut polled = [
            PollFd::new(&self.ends[0], PollFlags::IN),
            PollFd::new(&self.ends[1], PollFlags::IN),
            PollFd::new(&*self.quit, PollFlags::IN),
        ];
        match poll(&mut polled, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {
                let [host, mount, quit] = polled.map(|fd| !fd.revents().is_empty());
                self.woken_by = [host, mount];
                !quit
            }
            Err(error) => {
                tracing::error!("the link ends: poll: {error}");
                false
            }
        }
    }
}
