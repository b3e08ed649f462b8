//! Who changes and looks: a program on a mount, and one on the host.

use crate::Field;
use crate::record::{Record, Seen, Turn};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Between changes of a program on the host, so that states get old enough to be judged.
const LOCAL_PAUSE: Duration = Duration::from_millis(40);

/// How often in a row a file may be replaced on the host while it is being opened.
const REPLACED_MAX: usize = 20;

/// Numbers that look random, the same in each run.
struct Dice(u64);

impl Dice {
    /// One of `0..sides` (splitmix64).
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % sides as u64).unwrap()
    }
}

/// A program on a mount: changes, and looks at everything.
pub(crate) struct Mounter<'a> {
    field: &'a Field,
    hand: Hand,
}

impl<'a> Mounter<'a> {
    pub(crate) fn new(field: &'a Field, at: &Path, seed: u64) -> Self {
        let hand = Hand::new(at, seed);
        Self { field, hand }
    }

    pub(crate) fn act(mut self) {
        while !self.field.stopped() {
            let number = self.hand.dice.roll(self.field.remote.len());
            if self.hand.dice.roll(4) == 0 {
                self.change(number);
            } else {
                let (remote, local) = (&self.field.remote, &self.field.local);
                let records = if self.hand.dice.roll(2) == 0 {
                    remote
                } else {
                    local
                };
                self.look(&records[number]);
            }
        }
    }

    fn change(&mut self, number: usize) {
        let Some(turn) = self.field.remote[number].take_turn() else {
            return;
        };
        let record = &self.field.remote[number];
        let outcome = self.hand.change(record, &turn);
        let tally = &self.field.tally;
        tally.count(&tally.changes, outcome);
    }

    fn look(&mut self, record: &Record) {
        let floor = record.floor();
        let way = self.hand.dice.roll(4);
        let mut seen = self.hand.look(record, way);
        for _ in 0..REPLACED_MAX {
            if seen == Seen::Replaced && record.is_local() {
                seen = self.hand.look(record, way);
            }
        }
        let verdict = record
            .judge(floor, &seen)
            .map_err(|why| format!("{}, way {way}: {why}", self.hand.root.display()));
        let tally = &self.field.tally;
        tally.count(&tally.looks, verdict);
    }
}

/// A program on the host: changes.
pub(crate) struct Local<'a> {
    field: &'a Field,
    hand: Hand,
}

impl<'a> Local<'a> {
    pub(crate) fn new(field: &'a Field, share: &Path, seed: u64) -> Self {
        let hand = Hand::new(share, 1000 + seed);
        Self { field, hand }
    }

    pub(crate) fn act(mut self) {
        while !self.field.stopped() {
            let number = self.hand.dice.roll(self.field.local.len());
            let record = &self.field.local[number];
            if let Some(turn) = record.take_turn() {
                let outcome = self.hand.change(record, &turn);
                let tally = &self.field.tally;
                tally.count(&tally.local_changes, outcome);
            }
            std::thread::sleep(LOCAL_PAUSE);
        }
    }
}

/// What a program does with a folder, wherever it is.
struct Hand {
    root: PathBuf,
    seed: u64,
    dice: Dice,
}

impl Hand {
    fn new(root: &Path, seed: u64) -> Self {
        Self {
            root: root.to_owned(),
            seed,
            dice: Dice(seed),
        }
    }

    fn change(&mut self, record: &Record, turn: &Turn<'_>) -> Result<(), String> {
        let path = self.root.join(&record.name);
        let done = match (turn.exists(), self.dice.roll(4)) {
            (false, 0) => {
                let bytes = record.contents(turn.begin(true, self.does("replaces")));
                self.replace(&path, &bytes)
            }
            (false, _) => {
                let bytes = record.contents(turn.begin(true, self.does("makes")));
                create(&path, &bytes)
            }
            (true, 0) => {
                turn.begin(false, self.does("removes"));
                std::fs::remove_file(&path)
            }
            (true, 1) => {
                let bytes = record.contents(turn.begin(true, self.does("rewrites")));
                std::fs::write(&path, bytes)
            }
            (true, _) => {
                let bytes = record.contents(turn.begin(true, self.does("replaces")));
                self.replace(&path, &bytes)
            }
        };
        turn.done();
        done.map_err(|error| format!("changing {}: {error}", path.display()))
    }

    fn does(&self, what: &str) -> String {
        format!("{} {what}", self.seed)
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
        let beside = path.with_extension(format!("new{}", self.seed));
        std::fs::write(&beside, bytes)?;
        std::fs::rename(&beside, path)
    }

    fn look(&mut self, record: &Record, way: usize) -> Seen {
        let path = self.root.join(&record.name);
        let seen = match way {
            0 => std::fs::metadata(&path).map(|metadata| Seen::Size(metadata.len())),
            1 => is_listed(&path).map(|listed| if listed { Seen::Present } else { Seen::Absent }),
            _ => read(&path).map(Seen::Bytes),
        };
        seen.unwrap_or_else(|error| match error.kind() {
            ErrorKind::NotFound => Seen::Absent,
            ErrorKind::StaleNetworkFileHandle => Seen::Replaced,
            _ => Seen::Error(error.to_string()),
        })
    }
}

fn create(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(bytes)
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn is_listed(path: &Path) -> std::io::Result<bool> {
    for entry in std::fs::read_dir(path.parent().unwrap())? {
        if Some(entry?.file_name().as_os_str()) == path.file_name() {
            return Ok(true);
        }
    }
    Ok(false)
}
