//! Virtual time: ends, the two directions of a link between them, and what happens when.

use super::cubic::{Cubic, SEGMENT_BYTES};
use super::link::{Way, Wire};
use super::quic::{Ask, Fetch, QuicEnd, Task};
use bytes::BytesMut;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

/// How far a host's disk is ahead of the mount.
const AHEAD_BYTES: u64 = 4 * 1024 * 1024;
/// Between looks at the senders.
const SAMPLE_SECS: f64 = 0.01;

/// What is on the way.
enum Load {
    Quic(Vec<u8>),
    /// A segment's number, or the acknowledgement of it.
    Tcp(u64),
}

enum What {
    Deliver {
        to: usize,
        load: Load,
    },
    /// Its own wish, good only while it has not changed its mind.
    Wake {
        who: usize,
    },
    /// Somebody else's.
    Nudge {
        who: usize,
    },
}

struct Happening {
    at: f64,
    turn: u64,
    what: What,
}

impl PartialEq for Happening {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Happening {}
impl PartialOrd for Happening {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Happening {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at
            .total_cmp(&other.at)
            .then(self.turn.cmp(&other.turn))
    }
}

enum Body {
    Quic(Box<QuicEnd>),
    TcpSender(Cubic),
    TcpReceiver,
}

struct End {
    body: Body,
    /// The other end's place.
    peer: usize,
    /// Whether what it sends goes down (from hosts to mounts).
    down: bool,
    wake: f64,
}

/// How one flow did.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flow {
    /// Seconds since the world began, bytes until then.
    pub(crate) timeline: Vec<(f64, u64)>,
    /// Smoothed round-trip times of the sender, in seconds, while it ran.
    pub(crate) rtts: Vec<(f64, f64)>,
}

impl Flow {
    /// Mean rate in Mbit/s between two times.
    pub(crate) fn mbit(&self, from: f64, to: f64) -> f64 {
        let until = |t: f64| {
            let at = self.timeline.partition_point(|(at, _)| *at <= t);
            at.checked_sub(1).map_or(0, |i| self.timeline[i].1)
        };
        (until(to) - until(from)) as f64 * 8.0 / 1e6 / (to - from)
    }

    /// Mean smoothed round-trip time from a time on, in seconds.
    pub(crate) fn rtt_mean(&self, from: f64) -> f64 {
        let rtts: Vec<_> = self.rtts.iter().filter(|(t, _)| *t >= from).collect();
        rtts.iter().map(|(_, rtt)| rtt).sum::<f64>() / rtts.len().max(1) as f64
    }
}

/// A link with ends at both sides.
pub(crate) struct World {
    epoch: Instant,
    now: f64,
    turn: u64,
    happenings: BinaryHeap<Reverse<Happening>>,
    ends: Vec<End>,
    pub(crate) down: Wire,
    pub(crate) up: Wire,
    /// Hosts and their processors: what comes to them is looked at only at whole multiples of this.
    pub(crate) starved: Option<f64>,
    /// Whether hosts have nothing more to send.
    pub(crate) resting: bool,
    seed: u64,
}

impl World {
    pub(crate) fn new(way: Way, seed: u64) -> Self {
        Self {
            epoch: Instant::now(),
            now: 0.0,
            turn: 0,
            happenings: BinaryHeap::new(),
            ends: Vec::new(),
            down: Wire::new(way, 2 * seed),
            up: Wire::new(way, 2 * seed + 1),
            starved: None,
            resting: false,
            seed,
        }
    }

    fn instant(&self, at: f64) -> Instant {
        self.epoch + Duration::from_secs_f64(at)
    }

    /// A mount that reads without end from a host of its own. The mount's place.
    pub(crate) fn fetch(&mut self) -> usize {
        self.quic(Task::Fetch(Fetch::default()))
    }

    /// A mount that asks and waits, with pauses.
    pub(crate) fn ask(&mut self, pause: Duration) -> usize {
        self.quic(Task::Ask(Ask::new(pause)))
    }

    fn quic(&mut self, task: Task) -> usize {
        let place = self.ends.len();
        let (now, seed) = (self.instant(self.now), self.seed * 31 + place as u64);
        self.add(Body::Quic(Box::new(QuicEnd::host(seed))), place + 1, true);
        self.add(
            Body::Quic(Box::new(QuicEnd::mount(now, seed, task))),
            place,
            false,
        );
        place + 1
    }

    /// A TCP flow down. The sender's place.
    pub(crate) fn tcp(&mut self) -> usize {
        let place = self.ends.len();
        self.add(Body::TcpReceiver, place + 1, false);
        self.add(Body::TcpSender(Cubic::new(self.now)), place, true);
        place + 1
    }

    fn add(&mut self, body: Body, peer: usize, down: bool) {
        self.ends.push(End {
            body,
            peer,
            down,
            wake: f64::INFINITY,
        });
        self.at(
            self.now,
            What::Nudge {
                who: self.ends.len() - 1,
            },
        );
    }

    /// The host of the mount at `place`.
    pub(crate) fn host(&mut self, place: usize) -> &mut QuicEnd {
        let peer = self.ends[place].peer;
        match &mut self.ends[peer].body {
            Body::Quic(end) => end,
            _ => panic!("no host"),
        }
    }

    pub(crate) fn task(&self, place: usize) -> &Task {
        match &self.ends[place].body {
            Body::Quic(end) => &end.task,
            _ => panic!("no mount"),
        }
    }

    /// When the read of the mount at `place` began, in seconds.
    pub(crate) fn begun(&self, place: usize) -> f64 {
        match self.task(place) {
            Task::Fetch(fetch) => {
                let begun = fetch.begun.expect("a connection");
                begun.duration_since(self.epoch).as_secs_f64()
            }
            _ => panic!("no read"),
        }
    }

    fn delivered(&self, place: usize) -> u64 {
        match &self.ends[place].body {
            Body::Quic(end) => match &end.task {
                Task::Fetch(fetch) => fetch.bytes,
                _ => 0,
            },
            Body::TcpSender(cubic) => cubic.delivered,
            Body::TcpReceiver => 0,
        }
    }

    fn at(&mut self, at: f64, what: What) {
        self.turn += 1;
        let happening = Happening {
            at,
            turn: self.turn,
            what,
        };
        self.happenings.push(Reverse(happening));
    }

    /// Lets time pass until `end`; notes how the flows at `places` do.
    pub(crate) fn run(&mut self, end: f64, places: &[usize], flows: &mut [Flow]) {
        let mut sample = (self.now / SAMPLE_SECS).ceil() * SAMPLE_SECS;
        while let Some(Reverse(next)) = self.happenings.peek() {
            let at = next.at;
            while sample <= at.min(end) {
                self.look(sample, places, flows);
                sample += SAMPLE_SECS;
            }
            if at > end {
                break;
            }
            let Some(Reverse(happening)) = self.happenings.pop() else {
                break;
            };
            self.now = self.now.max(at);
            match happening.what {
                What::Deliver { to, load } => self.deliver(to, load),
                What::Wake { who } if at != self.ends[who].wake => {}
                What::Wake { who } => {
                    self.ends[who].wake = f64::INFINITY;
                    self.wake(who);
                }
                What::Nudge { who } => self.wake(who),
            }
        }
        self.now = end;
    }

    fn look(&mut self, at: f64, places: &[usize], flows: &mut [Flow]) {
        for (place, flow) in places.iter().zip(flows) {
            self.read_ahead(at, *place);
            flow.timeline.push((at, self.delivered(*place)));
            let peer = self.ends[*place].peer;
            if let Body::Quic(end) = &self.ends[peer].body
                && let Some(connection) = end.connection()
            {
                let path = connection.stats().path;
                flow.rtts.push((at, path.rtt.as_secs_f64()));
            }
        }
    }

    /// A host's disk stays ahead of what its mount has got.
    fn read_ahead(&mut self, at: f64, place: usize) {
        let (delivered, resting) = (self.delivered(place), self.resting);
        let peer = self.ends[place].peer;
        if let Body::Quic(end) = &mut self.ends[peer].body
            && !resting
        {
            end.readable = delivered + AHEAD_BYTES;
            self.at(at, What::Nudge { who: peer });
        }
    }

    fn wake(&mut self, who: usize) {
        let now = self.instant(self.now);
        let mut out = Vec::new();
        if let Body::Quic(end) = &mut self.ends[who].body {
            end.drive(now, &mut out);
        }
        self.send(who, out);
    }

    fn deliver(&mut self, to: usize, load: Load) {
        let now = self.instant(self.now);
        let mut out = Vec::new();
        match (&mut self.ends[to].body, load) {
            (Body::Quic(end), Load::Quic(data)) => {
                end.receive(now, BytesMut::from(&data[..]), &mut out);
            }
            (Body::TcpReceiver, Load::Tcp(number)) => {
                let peer = self.ends[to].peer;
                if let Some(at) = self.up.send(self.now, 24) {
                    self.at(
                        at,
                        What::Deliver {
                            to: peer,
                            load: Load::Tcp(number),
                        },
                    );
                }
            }
            (Body::TcpSender(cubic), Load::Tcp(number)) => cubic.acked(self.now, number),
            _ => panic!("a packet went astray"),
        }
        self.send(to, out);
    }

    /// Puts on the wire what `who` has made, and notes when it wants to be woken.
    fn send(&mut self, who: usize, out: Vec<Vec<u8>>) {
        let (peer, down) = (self.ends[who].peer, self.ends[who].down);
        let wire = if down { &mut self.down } else { &mut self.up };
        let mut arrivals: Vec<(f64, Load)> = out
            .into_iter()
            .filter_map(|data| Some((wire.send(self.now, data.len())?, Load::Quic(data))))
            .collect();
        let next = match &mut self.ends[who].body {
            Body::Quic(end) => end.next().map_or(f64::INFINITY, |at| {
                at.duration_since(self.epoch).as_secs_f64()
            }),
            Body::TcpSender(cubic) => {
                let sent = cubic.send(self.now);
                arrivals.extend(sent.into_iter().filter_map(|number| {
                    Some((wire.send(self.now, SEGMENT_BYTES + 24)?, Load::Tcp(number)))
                }));
                self.now + 0.2
            }
            Body::TcpReceiver => f64::INFINITY,
        };
        for (at, load) in arrivals {
            let at = if down { at } else { self.attended(at) };
            self.at(at, What::Deliver { to: peer, load });
        }
        let next = if down { self.attended(next) } else { next };
        // A wake-up in the past would never let time pass.
        let next = next.max(self.now + 1e-6);
        if next != self.ends[who].wake {
            self.ends[who].wake = next;
            if next.is_finite() {
                self.at(next, What::Wake { who });
            }
        }
    }

    /// When a host gets to it.
    fn attended(&self, at: f64) -> f64 {
        match self.starved {
            Some(quantum) if at.is_finite() => (at / quantum).ceil() * quantum,
            _ => at,
        }
    }
}
