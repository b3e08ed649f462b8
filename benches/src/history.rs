//! The history: one line of JSON for each run, and a picture of how Wormhole fared over time.
//!
//! The file only grows, by a single write each time, until it holds [`LINES_MAX`] lines; then the
//! oldest go. A line that a crash or a full disk left torn is passed over when reading, and closed
//! before the next is written. A lock file beside it keeps two runs that end at once apart.

use crate::record::{Better, Mode, Run, SCHEMA, State};
use crate::report::json::replace;
use crate::report::terminal::{columns, plain};
use crate::report::{SUBJECT, figure};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Lines that are kept: years of nightly runs.
pub const LINES_MAX: usize = 10_000;
/// Largest file that is read.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// Longest line that is written; a run has some 22 workloads.
const LINE_BYTES_MAX: usize = 6 << 10;
/// Most columns of a picture.
const POINTS_MAX: usize = 120;

/// One run, in short.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// [`SCHEMA`].
    pub schema: u32,
    /// When the run began: RFC 3339, UTC.
    pub time: String,
    /// Version of Wormhole.
    pub version: String,
    /// Name of the profile.
    pub profile: String,
    /// How thorough the run was.
    pub mode: Mode,
    /// Mbit/s of a raw transfer, by protocol.
    pub raw_mbit: BTreeMap<String, f64>,
    /// Wormhole's median by workload, of what ended well.
    pub p50: BTreeMap<String, Point>,
}

/// A median.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// The median.
    pub value: f64,
    /// Its unit.
    pub unit: String,
    /// Which way is better.
    pub better: Better,
}

/// The history could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The file system.
    #[error("the history {}: {source}", path.display())]
    Io {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Larger than it can have become by itself.
    #[error("the history {} is larger than {} MiB: move it away", .0.display(), FILE_BYTES_MAX >> 20)]
    Large(PathBuf),
    /// A run with more workloads than a line holds.
    #[error("this run is too long for a line of the history")]
    Long,
}

impl Line {
    /// What is remembered of `run`.
    pub fn new(run: &Run) -> Self {
        let ours = run
            .results
            .iter()
            .filter(|entry| entry.peer == SUBJECT && entry.state == State::Ok);
        Self {
            schema: SCHEMA,
            time: run.started.clone(),
            version: run.environment.wormhole.clone(),
            profile: run.profile.clone(),
            mode: run.mode,
            raw_mbit: run
                .raw
                .iter()
                .map(|raw| (raw.protocol.clone(), raw.mbit))
                .collect(),
            p50: ours
                .filter_map(|entry| {
                    let point = Point {
                        value: entry.p50?,
                        unit: entry.unit.clone(),
                        better: entry.better,
                    };
                    Some((entry.workload.clone(), point))
                })
                .collect(),
        }
    }
}

/// Adds `runs` to the history at `path`, which is made if need be.
///
/// # Errors
/// [`HistoryError`].
pub fn append(path: &Path, runs: &[Run]) -> Result<(), HistoryError> {
    let mut text = String::new();
    for run in runs {
        let line = serde_json::to_string(&Line::new(run)).map_err(|_| HistoryError::Long)?;
        if line.len() > LINE_BYTES_MAX {
            return Err(HistoryError::Long);
        }
        text.push_str(&line);
        text.push('\n');
    }
    append_text(path, &text).map_err(|source| io_error(path, source))?;
    shorten(path)
}

fn append_text(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let _lock = lock(path)?;
    let mut file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .open(path)?;
    let torn = ends_torn(&mut file)?;
    let closing = if torn { "\n" } else { "" };
    file.write_all(format!("{closing}{text}").as_bytes())
}

/// Held while the value lives.
fn lock(path: &Path) -> io::Result<File> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(PathBuf::from(name))?;
    flock(&file, FlockOperation::LockExclusive)?;
    Ok(file)
}

fn ends_torn(file: &mut File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

/// Lets the oldest lines go when there are too many; a tenth at once, so that it happens seldom.
fn shorten(path: &Path) -> Result<(), HistoryError> {
    let _lock = lock(path).map_err(|source| io_error(path, source))?;
    let text = text(path)?;
    let lines: Vec<&str> = text.lines().collect();
    if lines.len() <= LINES_MAX {
        return Ok(());
    }
    let mut kept = lines[lines.len() - LINES_MAX..].join("\n");
    kept.push('\n');
    replace(path, kept.as_bytes()).map_err(|source| io_error(path, source))
}

/// The history at `path`, oldest first; empty if there is none. Lines that are none, or of another
/// schema, are passed over.
///
/// # Errors
/// [`HistoryError`].
pub fn read(path: &Path) -> Result<Vec<Line>, HistoryError> {
    let text = text(path)?;
    let all: Vec<&str> = text.lines().collect();
    let newest = &all[all.len().saturating_sub(LINES_MAX)..];
    let lines = newest
        .iter()
        .filter_map(|line| serde_json::from_str::<Line>(line).ok());
    Ok(lines.filter(|line| line.schema == SCHEMA).collect())
}

fn text(path: &Path) -> Result<String, HistoryError> {
    let mut bytes = Vec::new();
    let read =
        File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
    match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(source) => Err(io_error(path, source)),
        Ok(read) if read as u64 > FILE_BYTES_MAX => Err(HistoryError::Large(path.to_path_buf())),
        // A torn line may end within a character.
        Ok(_) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
    }
}

fn io_error(path: &Path, source: io::Error) -> HistoryError {
    HistoryError::Io {
        path: path.to_path_buf(),
        source,
    }
}

/// The history as a picture for a terminal: a row for each workload, a bar for each run, the newest
/// right; profiles and modes apart, since their numbers are of different things.
pub fn render(history: &[Line], width: usize) -> String {
    if history.is_empty() {
        return "The history is empty: it grows with each run of `wormhole bench`.\n".to_owned();
    }
    let mut text = String::new();
    for (profile, mode) in groups(history) {
        let of_group = |line: &&Line| line.profile == profile && line.mode == mode;
        let lines: Vec<&Line> = history.iter().filter(of_group).collect();
        let (first, last) = (lines[0], lines[lines.len() - 1]);
        text.push_str(&format!(
            "{} ({mode:?}), {} runs, {} ({}) to {} ({})\n",
            plain(&profile),
            lines.len(),
            plain(&first.time),
            plain(&first.version),
            plain(&last.time),
            plain(&last.version)
        ));
        text.push_str(&pictures(&lines, width));
        text.push('\n');
    }
    text.push_str("A higher bar is a larger number: better for rates, worse for times.\n");
    text
}

/// Profiles and modes, in order of appearance.
fn groups(history: &[Line]) -> Vec<(String, Mode)> {
    let mut groups: Vec<(String, Mode)> = Vec::new();
    for line in history {
        if !groups
            .iter()
            .any(|(profile, mode)| *profile == line.profile && *mode == line.mode)
        {
            groups.push((line.profile.clone(), line.mode));
        }
    }
    groups
}

fn pictures(lines: &[&Line], width: usize) -> String {
    let room = width.saturating_sub(64).clamp(12, POINTS_MAX);
    let shown = &lines[lines.len().saturating_sub(room)..];
    let head = ["", "better", "lowest", "highest", "newest", "over time"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let mut names: Vec<&String> = shown.iter().flat_map(|line| line.p50.keys()).collect();
    names.sort();
    names.dedup();
    for name in names {
        let points: Vec<Option<&Point>> = shown.iter().map(|line| line.p50.get(name)).collect();
        rows.extend(picture(&plain(name), &points));
    }
    for protocol in ["tcp", "quic"] {
        let points: Vec<Option<Point>> = shown
            .iter()
            .map(|line| {
                line.raw_mbit.get(protocol).map(|mbit| Point {
                    value: *mbit,
                    unit: "Mbit/s".to_owned(),
                    better: Better::Higher,
                })
            })
            .collect();
        let points: Vec<Option<&Point>> = points.iter().map(Option::as_ref).collect();
        rows.extend(picture(&format!("raw {protocol}"), &points));
    }
    columns(&rows, width, &str::to_owned)
}

/// A row, if there is anything to show.
fn picture(name: &str, points: &[Option<&Point>]) -> Option<Vec<String>> {
    let last = points.iter().rev().flatten().next()?;
    let values = || points.iter().flatten().map(|point| point.value);
    let (low, high) = (
        values().fold(f64::MAX, f64::min),
        values().fold(f64::MIN, f64::max),
    );
    let shown = |value| figure::quantity(value, &plain(&last.unit));
    let better = match last.better {
        Better::Higher => "higher",
        Better::Lower => "lower",
    };
    Some(vec![
        name.to_owned(),
        better.to_owned(),
        shown(low),
        shown(high),
        shown(last.value),
        points
            .iter()
            .map(|point| bar(point.map(|p| p.value), low, high))
            .collect(),
    ])
}

/// A bar between the lowest and the highest; a space where nothing was measured.
fn bar(value: Option<f64>, low: f64, high: f64) -> char {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let Some(value) = value else {
        return ' ';
    };
    // All within a twentieth is flat: noise must not look like mountains.
    if high - low <= high.abs() * 0.05 {
        return BARS[3];
    }
    let height = (value - low) / (high - low) * 8.0;
    BARS.into_iter()
        .zip(1_u8..)
        .find(|(_, top)| height < f64::from(*top))
        .map_or(BARS[7], |(bar, _)| bar)
}

#[cfg(test)]
mod tests;
