//! What is known of a file that is changed by one actor at a time: each of its states, when it was begun and when
//! the call that made it returned. A look is held against that.

use parking_lot::{Mutex, MutexGuard};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// Violations shown; one is enough to fail.
const VIOLATIONS_SHOWN: usize = 10;

/// A file, and all states it has been in.
pub(crate) struct Record {
    pub(crate) name: String,
    /// How long a change may take to be seen once it has returned.
    bound: Duration,
    /// Held by who changes it.
    turn: Mutex<()>,
    states: Mutex<Vec<State>>,
}

#[derive(Clone)]
struct State {
    exists: bool,
    /// Who did what.
    by: String,
    /// When the call that made it had returned.
    done: Option<Instant>,
}

/// What a look found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Nothing of that name.
    Absent,
    /// A file; nothing else is known.
    Present,
    /// A file of this size.
    Size(u64),
    /// Contents.
    Bytes(Vec<u8>),
    /// It was replaced between the open and the first read. Only a file that a program on the host replaced
    /// may be so, for whom nobody keeps it; and who opens it again gets the new one.
    Replaced,
    /// An error no look may have.
    Error(String),
}

/// A change under way.
pub(crate) struct Turn<'a> {
    record: &'a Record,
    _held: MutexGuard<'a, ()>,
}

impl Record {
    /// A file that is not there yet.
    pub(crate) fn new(name: String, bound: Duration) -> Self {
        let absent = State {
            exists: false,
            by: String::new(),
            done: Some(Instant::now()),
        };
        Self {
            name,
            bound,
            turn: Mutex::default(),
            states: Mutex::new(vec![absent]),
        }
    }

    /// Whether it is changed on the host.
    pub(crate) fn is_local(&self) -> bool {
        !self.bound.is_zero()
    }

    /// The right to change it, unless somebody else does.
    pub(crate) fn take_turn(&self) -> Option<Turn<'_>> {
        Some(Turn {
            record: self,
            _held: self.turn.try_lock()?,
        })
    }

    /// The contents in state `number`: its length and every line tell which.
    pub(crate) fn contents(&self, number: usize) -> Vec<u8> {
        let line = format!("{} {number}\n", self.name);
        let mut bytes = line.repeat(2 + number % 7).into_bytes();
        bytes.resize(bytes.len() + number % 997, b'.');
        bytes
    }

    /// The oldest state that may be seen by a look that begins now.
    pub(crate) fn floor(&self) -> usize {
        let now = Instant::now();
        let states = self.states.lock();
        let seen = states.iter().rposition(|state| {
            state
                .done
                .is_some_and(|done| now.duration_since(done) >= self.bound)
        });
        seen.unwrap_or(0)
    }

    /// Whether what was seen by a look that began at `floor` is allowed; else why not.
    pub(crate) fn judge(&self, floor: usize, seen: &Seen) -> Result<(), String> {
        let states = self.states.lock();
        let possible = floor..states.len();
        // While it changes, any mixture may be seen.
        let steady = possible.len() == 1;
        let fits = |number: usize| match seen {
            Seen::Absent => !states[number].exists,
            Seen::Present => states[number].exists,
            Seen::Size(size) => {
                states[number].exists && self.contents(number).len() as u64 == *size
            }
            Seen::Bytes(bytes) => states[number].exists && self.contents(number) == *bytes,
            Seen::Replaced | Seen::Error(_) => false,
        };
        let torn = !steady && matches!(seen, Seen::Size(_) | Seen::Bytes(_));
        if torn || possible.clone().any(fits) {
            return Ok(());
        }
        let shown = match seen {
            Seen::Bytes(bytes) => {
                let end = bytes.len().min(40);
                format!(
                    "{} bytes, {:?}",
                    bytes.len(),
                    bytes[..end].escape_ascii().to_string()
                )
            }
            other => format!("{other:?}"),
        };
        let before = states.len().saturating_sub(4);
        let lately: Vec<_> = states[before..].iter().map(|state| &*state.by).collect();
        Err(format!(
            "{}: saw {shown}, may be of {possible:?}; lately: {lately:?}",
            self.name,
        ))
    }
}

impl Turn<'_> {
    /// Whether the file is there.
    pub(crate) fn exists(&self) -> bool {
        let states = self.record.states.lock();
        states[states.len() - 1].exists
    }

    /// Begins the next state; its number.
    pub(crate) fn begin(&self, exists: bool, by: String) -> usize {
        let mut states = self.record.states.lock();
        states.push(State {
            exists,
            by,
            done: None,
        });
        states.len() - 1
    }

    /// The call that made the last state has returned.
    pub(crate) fn done(&self) {
        let mut states = self.record.states.lock();
        let last = states.len() - 1;
        states[last].done = Some(Instant::now());
    }
}

/// What was done, and what was wrong.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) changes: AtomicU64,
    pub(crate) local_changes: AtomicU64,
    pub(crate) looks: AtomicU64,
    spoilt: AtomicBool,
    violations: Mutex<Vec<String>>,
}

impl Tally {
    /// Counts one, and keeps what was wrong.
    pub(crate) fn count(&self, counter: &AtomicU64, outcome: Result<(), String>) {
        counter.fetch_add(1, SeqCst);
        if let Err(violation) = outcome {
            self.spoilt.store(true, SeqCst);
            let mut violations = self.violations.lock();
            if violations.len() < VIOLATIONS_SHOWN {
                violations.push(violation);
            }
        }
    }

    pub(crate) fn is_spoilt(&self) -> bool {
        self.spoilt.load(SeqCst)
    }

    pub(crate) fn assert_clean(&self) {
        let violations = self.violations.lock();
        assert!(violations.is_empty(), "{}", violations.join("\n"));
        for counter in [&self.changes, &self.local_changes, &self.looks] {
            assert!(counter.load(SeqCst) > 0, "nothing was tried: {self}");
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} changes through mounts, {} on the host, {} looks",
            self.changes.load(SeqCst),
            self.local_changes.load(SeqCst),
            self.looks.load(SeqCst),
        )
    }
}
