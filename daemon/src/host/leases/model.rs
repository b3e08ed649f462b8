//! The table in the hands of a made-up disk, made-up mounts and a made-up network, in any order of events.
//!
//! The disk is one number for each name in each directory. Mounts look, believe, change and are told as real
//! ones do; answers, pushes and acknowledgements arrive when the test says so. Whatever the order: who may
//! believe something believes what is there, or what was there when the last change began that is not answered
//! yet, or what only a program of the host changed and is still under way to be told.

use super::super::watch::{Event, Happened, WatchId, Watching};
use super::queue::Due;
use super::table::{Allowance, MountKey, Table};
use super::touch::{Touch, Wait};
use proptest::prelude::*;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::File;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;
use wormhole_protocol::{FileId, MountId, Name, RelPath, TicketId};

const TERM: Duration = super::super::limits::LEASE_TERM;
const MOUNTS: usize = 3;
const DIRS: u64 = 2;
const NAMES: usize = 2;

type Place = (u64, usize);

/// The kernel: which directories are watched, and what it has not told yet.
#[derive(Clone, Default)]
struct Kernel {
    next: Arc<AtomicI32>,
    watched: Arc<Mutex<HashMap<WatchId, u64>>>,
    /// Which directory the next watch is of.
    looked_at: Arc<Mutex<u64>>,
    events: Arc<Mutex<VecDeque<Event>>>,
}

impl Watching for Kernel {
    fn add(&self, _: &OwnedFd) -> Result<WatchId, Errno> {
        let dir = *self.looked_at.lock().unwrap();
        let mut watched = self.watched.lock().unwrap();
        if let Some((watch, _)) = watched.iter().find(|(_, of)| **of == dir) {
            return Ok(*watch);
        }
        let watch = self.next.fetch_add(1, Ordering::Relaxed);
        watched.insert(watch, dir);
        Ok(watch)
    }

    fn remove(&self, watch: WatchId) {
        self.watched.lock().unwrap().remove(&watch);
    }
}

impl Kernel {
    fn changed(&self, (dir, name): Place) {
        let watched = self.watched.lock().unwrap();
        for (watch, _) in watched.iter().filter(|(_, of)| **of == dir) {
            self.events.lock().unwrap().push_back(Event::Name {
                watch: *watch,
                name: format!("n{name}").into(),
                what: Happened::Changed,
            });
        }
    }
}

/// What a mount believes of a name: the number, and when it was asked.
#[derive(Default)]
struct Mount {
    hearing: u64,
    /// With the moment it was asked, or told.
    believes: BTreeMap<Place, (u64, u64)>,
    /// Directories, and since when.
    leased: BTreeMap<u64, u64>,
    /// When the change was asked whose answer was applied last.
    changed: BTreeMap<Place, u64>,
    /// When a push about a directory arrived last.
    doubted: BTreeMap<u64, u64>,
    until: Option<Instant>,
    /// The lease goes on once this was taken.
    unless: Option<(u64, Instant)>,
    taken: u64,
    /// Answers under way: when asked, where, what.
    answers: VecDeque<(u64, Place, u64, bool)>,
    pushes: VecDeque<(u64, Told)>,
}

impl Mount {
    /// What was asked later counts.
    fn believe(&mut self, place: Place, value: u64, asked: u64) {
        let known = self.believes.entry(place).or_insert((value, asked));
        if known.1 <= asked {
            *known = (value, asked);
        }
    }
}

#[derive(Clone, Debug)]
enum Told {
    Now(Vec<(Place, u64)>),
    Over(u64),
    AllOver,
}

/// A change under way.
struct Change {
    asked: u64,
    mount: usize,
    place: Place,
    waits: Vec<Wait>,
    /// What was there before, and what the answer says.
    before: u64,
    after: u64,
}

struct World {
    kernel: Kernel,
    table: Table<Kernel>,
    disk: BTreeMap<Place, u64>,
    mounts: Vec<Mount>,
    changes: Vec<Change>,
    now: Instant,
    step: u64,
    node: OwnedFd,
}

#[derive(Clone, Debug)]
enum Step {
    Look(usize, Place),
    Change(usize, Place),
    /// The kernel tells nobody of it; the host says where it is, if it knows.
    Untold(usize, Place, bool),
    Local(Place),
    Drain,
    Answer(usize),
    Make(usize),
    Push(usize),
    Hear(usize),
    Settle,
    Pass(u64),
    Overflow,
    Anew(usize),
}

fn key(mount: usize) -> MountKey {
    (
        TicketId([1; 8]),
        MountId([u8::try_from(mount).unwrap(); 16]),
    )
}

fn id(dir: u64) -> FileId {
    FileId {
        device: 1,
        inode: dir,
        birth: 0,
    }
}

fn path(dir: u64) -> RelPath {
    RelPath::new(format!("d{dir}")).unwrap()
}

fn name(name: usize) -> Name {
    Name::new(format!("n{name}")).unwrap()
}

impl World {
    fn new() -> Self {
        let kernel = Kernel::default();
        let now = Instant::now();
        let mut world = Self {
            table: Table::new(kernel.clone(), Arc::new(Allowance::new(8))),
            kernel,
            disk: BTreeMap::new(),
            mounts: (0..MOUNTS).map(|_| Mount::default()).collect(),
            changes: Vec::new(),
            now,
            step: 0,
            node: File::open("/dev/null").unwrap().into(),
        };
        for mount in 0..MOUNTS {
            world.anew(mount);
        }
        world
    }

    fn anew(&mut self, mount: usize) {
        let (hearing, _) = self.table.listen(key(mount), 1, self.now);
        self.mounts[mount] = Mount {
            hearing,
            until: Some(self.now + TERM),
            ..Mount::default()
        };
    }

    fn drain(&mut self) {
        let events: Vec<_> = self.kernel.events.lock().unwrap().drain(..).collect();
        for event in events {
            self.table.event(event, self.now);
        }
    }

    fn value(&self, place: Place) -> u64 {
        self.disk.get(&place).copied().unwrap_or(0)
    }

    fn write(&mut self, place: Place) {
        *self.disk.entry(place).or_default() += 1;
        self.kernel.changed(place);
    }

    fn take(&mut self, step: Step) {
        self.step += 1;
        match step {
            Step::Look(mount, place) => {
                *self.kernel.looked_at.lock().unwrap() = place.0;
                let at = (&path(place.0), &self.node);
                let leased = self.table.grant(key(mount), 1, id(place.0), at, self.now);
                let value = self.value(place);
                let answer = (self.step, place, value, leased);
                self.mounts[mount].answers.push_back(answer);
            }
            Step::Change(mount, place) => {
                let path = path(place.0).join(&name(place.1)).unwrap();
                let touch = Touch {
                    path,
                    names: 0,
                    closes: false,
                };
                self.change(mount, place, vec![touch], |world| world.write(place));
            }
            Step::Untold(mount, place, known) => self.change(mount, place, Vec::new(), |world| {
                *world.disk.entry(place).or_default() += 1;
                let (table, now) = (&mut world.table, world.now);
                if known {
                    table.mark(id(place.0), &name(place.1), None, now);
                } else {
                    table.end_all(now);
                }
            }),
            Step::Local(place) => self.write(place),
            Step::Drain => self.drain(),
            Step::Answer(mount) => self.answer(mount),
            Step::Make(mount) => self.make(mount),
            Step::Push(mount) => self.push(mount),
            Step::Hear(mount) => self.hear(mount),
            Step::Settle => self.settle(),
            Step::Pass(secs) => {
                self.now += Duration::from_secs(secs);
                self.table.sweep(self.now);
            }
            Step::Overflow => {
                self.kernel.events.lock().unwrap().clear();
                self.table.event(Event::Overflow, self.now);
            }
            Step::Anew(mount) => {
                self.changes.retain(|change| change.mount != mount);
                self.anew(mount);
            }
        }
    }

    fn change(
        &mut self,
        mount: usize,
        place: Place,
        touches: Vec<Touch>,
        change: impl FnOnce(&mut Self),
    ) {
        let before = self.value(place);
        let window = self.table.begin(key(mount), touches);
        change(self);
        self.drain();
        let waits = self.table.end(window, self.now);
        let after = self.value(place);
        let asked = self.step;
        self.changes.push(Change {
            asked,
            mount,
            place,
            waits,
            before,
            after,
        });
    }

    fn answer(&mut self, mount: usize) {
        let Some((asked, place, value, leased)) = self.mounts[mount].answers.pop_front() else {
            return;
        };
        let (step, mount) = (self.step, &mut self.mounts[mount]);
        let later = |at: Option<&u64>| at.is_some_and(|at| *at > asked);
        let crossed = later(mount.doubted.get(&place.0)) || later(mount.changed.get(&place));
        if leased && !crossed {
            mount.leased.entry(place.0).or_insert(step);
            mount.believe(place, value, asked);
        }
    }

    /// The host makes the next push.
    fn make(&mut self, mount: usize) {
        let hearing = self.mounts[mount].hearing;
        let Some(Some((number, due, _))) = self.table.take(key(mount), hearing) else {
            return;
        };
        let told = match due {
            Due::AllOver => Told::AllOver,
            Due::Over(dir) => Told::Over(dir.inode),
            Due::Shared(_) => unreachable!("nobody has a sole lease"),
            Due::Of { dir, names, .. } => {
                let of = |n: &Name| (0..NAMES).find(|i| name(*i) == *n).unwrap();
                let places = names.iter().map(|n| (dir.inode, of(n)));
                Told::Now(places.map(|place| (place, self.value(place))).collect())
            }
        };
        self.mounts[mount].pushes.push_back((number, told));
    }

    fn push(&mut self, mount: usize) {
        let (step, mount) = (self.step, &mut self.mounts[mount]);
        let Some((number, told)) = mount.pushes.pop_front() else {
            return;
        };
        assert!(number > mount.taken, "numbers rise");
        mount.taken = number;
        match told {
            Told::Now(values) => {
                for (place, value) in values {
                    mount.doubted.insert(place.0, step);
                    mount.believes.insert(place, (value, step));
                }
            }
            Told::Over(dir) => {
                mount.doubted.insert(dir, step);
                mount.leased.remove(&dir);
                mount.believes.retain(|place, _| place.0 != dir);
            }
            Told::AllOver => {
                mount.doubted.extend((0..DIRS).map(|dir| (dir, step)));
                mount.leased.clear();
                mount.believes.clear();
            }
        }
        if let Some((last, until)) = mount.unless
            && last <= number
        {
            mount.until = Some(until);
            mount.unless = None;
        }
    }

    /// The mount says how far it has heard; request and answer take no time, which is what matters least.
    fn hear(&mut self, mount: usize) {
        let through = self.mounts[mount].taken;
        let pushed = self.table.heard(key(mount), 1, through, self.now).unwrap();
        let until = self.now + TERM;
        let mount = &mut self.mounts[mount];
        if pushed <= mount.taken {
            mount.until = Some(until);
            mount.unless = None;
        } else {
            mount.unless = Some((pushed, until));
        }
    }

    /// Changes nobody has to wait for any more are answered.
    fn settle(&mut self) {
        let (table, now) = (&self.table, self.now);
        let pending = |change: &Change| change.waits.iter().any(|wait| table.pending(wait, now));
        let (pending, settled): (Vec<_>, Vec<_>) = self.changes.drain(..).partition(pending);
        self.changes = pending;
        let waits = settled.iter().flat_map(|change| &change.waits);
        waits.for_each(|wait| self.table.in_vain(wait, now));
        for change in settled {
            let by = &mut self.mounts[change.mount];
            let later = |at: Option<&u64>| at.is_some_and(|at| *at > change.asked);
            let since = by.leased.get(&change.place.0);
            if later(by.doubted.get(&change.place.0)) || since.is_none_or(|at| *at > change.asked) {
                // It may be older than what was told, or than the lease: to be asked anew.
                by.believes.remove(&change.place);
            } else if !later(by.changed.get(&change.place)) {
                by.believe(change.place, change.after, change.asked);
            }
            let changed = by.changed.entry(change.place).or_default();
            *changed = change.asked.max(*changed);
            // Whoever believes something after this believes nothing from before the change.
            for (n, mount) in self.mounts.iter().enumerate() {
                let holds = mount.until.is_some_and(|until| until > now);
                let believes = mount.believes.get(&change.place);
                if n != change.mount && holds && mount.leased.contains_key(&change.place.0) {
                    assert!(
                        believes.is_none_or(|(value, _)| *value > change.before),
                        "mount {n} believes {believes:?} at {:?}, and more than {} was answered",
                        change.place,
                        change.before
                    );
                }
            }
        }
    }

    /// All is delivered: whoever believes something believes what is there, or nothing.
    fn come_to_rest(&mut self) {
        self.drain();
        for mount in 0..MOUNTS {
            while !self.mounts[mount].answers.is_empty() {
                self.answer(mount);
            }
            self.make(mount);
            while self.table.held_by(key(mount), 1).1 > 0 || !self.mounts[mount].pushes.is_empty() {
                self.make(mount);
                self.push(mount);
            }
            self.hear(mount);
        }
        self.settle();
        assert!(self.changes.is_empty(), "nobody is waited for");
        for (n, mount) in self.mounts.iter().enumerate() {
            for (place, (value, _)) in &mount.believes {
                if mount.leased.contains_key(&place.0) {
                    assert_eq!(*value, self.value(*place), "mount {n} at {place:?}");
                }
            }
        }
    }
}

fn place() -> impl Strategy<Value = Place> {
    (0..DIRS, 0..NAMES)
}

fn step() -> impl Strategy<Value = Step> {
    let mount = || 0..MOUNTS;
    prop_oneof![
        6 => (mount(), place()).prop_map(|(m, p)| Step::Look(m, p)),
        6 => (mount(), place()).prop_map(|(m, p)| Step::Change(m, p)),
        1 => (mount(), place(), any::<bool>()).prop_map(|(m, p, known)| Step::Untold(m, p, known)),
        3 => place().prop_map(Step::Local),
        3 => Just(Step::Drain),
        8 => mount().prop_map(Step::Answer),
        8 => mount().prop_map(Step::Make),
        8 => mount().prop_map(Step::Push),
        6 => mount().prop_map(Step::Hear),
        8 => Just(Step::Settle),
        2 => (1..7_u64).prop_map(Step::Pass),
        1 => Just(Step::Overflow),
        1 => mount().prop_map(Step::Anew),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn nobody_believes_what_is_not_true_longer_than_promised(
        steps in prop::collection::vec(step(), 1..120)
    ) {
        let mut world = World::new();
        for step in steps {
            world.take(step);
        }
        world.come_to_rest();
        // Nothing is left behind.
        for mount in 0..MOUNTS {
            world.table.leave(key(mount), 1);
        }
        prop_assert!(world.kernel.watched.lock().unwrap().is_empty());
        prop_assert_eq!((world.table.mounts(), world.table.watches()), (0, 0));
    }
}
