//! Baselines: runs kept under a name, and the gate that says whether something became slower.
//!
//! The gate looks at one peer, Wormhole unless told otherwise, and at a threshold such as 50 %, which
//! means: takes more than 1.5 times as long, or has less than 1/1.5 of the rate. It fails if
//! - the confidence interval of a row's slowdown lies wholly beyond the threshold (see
//!   [`slowdown`](crate::compare::slowdown) for what that is, also for few samples);
//! - something finished in the baseline and does not now;
//! - the interval of the geometric mean over a family, over a profile, or over everything lies beyond
//!   the threshold: a slow-down of everything does not hide in the noise of each;
//! - there is nothing to compare.
//!
//! If every other peer that crossed the same link surely became slower too, that is the machine's doing,
//! and the least of their slowdowns is taken off first; `local`, which does not cross the link, has no say.

use crate::compare::slowdown::Slowdown;
use crate::compare::{self, Row, Verdict};
use crate::record::Run;
use crate::report::json::{self, JsonError};
use crate::report::terminal::{Paint, plain};
use crate::report::{LIMIT, SUBJECT, figure};
use crate::workload::WORKLOADS;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Longest name.
const NAME_BYTES_MAX: usize = 64;
/// Most names an error lists.
const NAMES_SHOWN_MAX: usize = 20;

/// What a baseline is called: letters, digits, `.`, `_` and `-`, not beginning with `.` or `-`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(String);

/// Why something is no baseline, or none can be had.
#[derive(Debug, thiserror::Error)]
pub enum BaselineError {
    /// Not a name.
    #[error(
        "\"{}\" cannot be the name of a baseline: use up to {NAME_BYTES_MAX} letters, digits, '.', '_' and '-', beginning with a letter or digit",
        .0.escape_debug()
    )]
    Name(String),
    /// Not a threshold.
    #[error("\"{}\" is no threshold: write a percentage such as 50%", .0.escape_debug())]
    Threshold(String),
    /// There is none of this name.
    #[error("no baseline is called {name}; {known}; make one with --save-baseline {name}")]
    Unknown {
        /// The name.
        name: String,
        /// Those there are.
        known: String,
    },
    /// The folder of baselines.
    #[error("{}: {source}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Its file.
    #[error(transparent)]
    File(#[from] JsonError),
}

impl FromStr for Name {
    type Err = BaselineError;

    fn from_str(text: &str) -> Result<Self, BaselineError> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        let begins_well = text
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_alphanumeric());
        if begins_well && text.len() <= NAME_BYTES_MAX && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(BaselineError::Name(text.to_owned()))
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Name {
    fn file(&self, folder: &Path) -> PathBuf {
        folder.join(format!("{}.json", self.0))
    }
}

/// By how much slower is too slow: `50%` is 0.5.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Threshold(f64);

impl Threshold {
    /// The slowdown that is just allowed.
    pub fn factor(self) -> f64 {
        1.0 + self.0
    }
}

impl FromStr for Threshold {
    type Err = BaselineError;

    fn from_str(text: &str) -> Result<Self, BaselineError> {
        let digits = text.strip_suffix('%').filter(|rest| {
            rest.bytes().all(|b| b.is_ascii_digit() || b == b'.') && rest.len() <= 8
        });
        digits
            .and_then(|digits| digits.parse::<f64>().ok())
            .filter(|percent| *percent > 0.0 && *percent <= 10_000.0)
            .map(|percent| Self(percent / 100.0))
            .ok_or_else(|| BaselineError::Threshold(text.to_owned()))
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0 * 100.0)
    }
}

/// Keeps `runs` in `folder` as the baseline `name`, in place of an older one; says where.
///
/// # Errors
/// [`BaselineError`].
pub fn save(folder: &Path, name: &Name, runs: &[Run]) -> Result<PathBuf, BaselineError> {
    std::fs::create_dir_all(folder).map_err(|source| folder_error(folder, source))?;
    let path = name.file(folder);
    json::write(&path, runs)?;
    Ok(path)
}

/// The runs kept in `folder` as `name`.
///
/// # Errors
/// [`BaselineError`]; if there is none, it names those there are.
pub fn load(folder: &Path, name: &Name) -> Result<Vec<Run>, BaselineError> {
    let path = name.file(folder);
    if !path
        .try_exists()
        .map_err(|source| folder_error(folder, source))?
    {
        return Err(BaselineError::Unknown {
            name: name.to_string(),
            known: known(folder),
        });
    }
    Ok(json::read(&path)?)
}

fn known(folder: &Path) -> String {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| {
            let file = entry.file_name().into_string().ok()?;
            file.strip_suffix(".json")?.parse::<Name>().ok()
        })
        .map(|name| name.to_string())
        .collect();
    names.sort();
    names.truncate(NAMES_SHOWN_MAX);
    if names.is_empty() {
        return "there is none yet".to_owned();
    }
    format!("there are: {}", names.join(", "))
}

fn folder_error(path: &Path, source: std::io::Error) -> BaselineError {
    BaselineError::Folder {
        path: path.to_path_buf(),
        source,
    }
}

/// What the gate found.
#[derive(Debug)]
pub struct GateReport {
    /// The threshold it was held against.
    pub threshold: Threshold,
    /// The peer's rows.
    pub rows: Vec<Row>,
    /// Geometric means over several rows, by name.
    pub means: Vec<(String, Slowdown)>,
    /// What is too slow, a sentence each; empty if all is well.
    pub failed: Vec<String>,
    /// Reasons to doubt it.
    pub warnings: Vec<String>,
}

impl GateReport {
    /// Whether nothing became too slow.
    pub fn passed(&self) -> bool {
        self.failed.is_empty()
    }

    /// As text for a terminal.
    pub fn render(&self, width: usize, colour: bool) -> String {
        let mut text = compare::table(&self.rows, width, Paint(colour));
        for (name, mean) in &self.means {
            text.push_str(&format!("mean over {}: {}\n", plain(name), interval(mean)));
        }
        for warning in &self.warnings {
            text.push_str(&format!("warning: {}\n", plain(warning)));
        }
        for failure in &self.failed {
            text.push_str(&format!("TOO SLOW: {}\n", plain(failure)));
        }
        let verdict = if self.passed() { "passed" } else { "failed" };
        let paint = Paint(colour);
        text.push_str(&format!(
            "{}: nothing may be more than {} slower than the baseline\n",
            if self.passed() {
                paint.good(verdict)
            } else {
                paint.bad(verdict)
            },
            self.threshold
        ));
        text
    }
}

/// Whether Wormhole became slower than `baseline` by more than `threshold`.
pub fn gate(runs: &[Run], baseline: &[Run], threshold: Threshold) -> GateReport {
    gate_of(SUBJECT, runs, baseline, threshold)
}

/// The same for another peer.
pub fn gate_of(peer: &str, runs: &[Run], baseline: &[Run], threshold: Threshold) -> GateReport {
    let all = compare::rows(baseline, runs);
    let (mut rows, others): (Vec<Row>, Vec<Row>) =
        all.into_iter().partition(|row| row.peer == peer);
    for row in &mut rows {
        relieve(row, &others);
    }
    let means = means(&rows);
    let mut failed: Vec<String> = rows
        .iter()
        .filter_map(|row| too_slow(row, threshold))
        .collect();
    for (name, mean) in &means {
        if mean.low > threshold.factor() {
            failed.push(format!("the mean over {name}: {}", interval(mean)));
        }
    }
    if !rows.iter().any(|row| row.verdict != Verdict::NotComparable) {
        failed.push(nothing(peer, &rows));
    }
    let mut warnings = compare::warnings(baseline, runs);
    warnings.extend(not_compared(&rows));
    GateReport {
        threshold,
        rows,
        means,
        failed,
        warnings,
    }
}

fn nothing(peer: &str, rows: &[Row]) -> String {
    let why = rows
        .iter()
        .map(|row| row.note.as_str())
        .find(|note| !note.is_empty());
    format!(
        "nothing of {peer} can be compared with the baseline ({}); save it again with the same options",
        why.unwrap_or("it has no results")
    )
}

/// Rows that only one side has, or whose terms differ: said, since they are not watched.
fn not_compared(rows: &[Row]) -> Option<String> {
    let left_out: Vec<String> = rows
        .iter()
        .filter(|row| row.verdict == Verdict::NotComparable)
        .map(|row| format!("{} on {}", row.workload, row.profile))
        .collect();
    (!left_out.is_empty()).then(|| format!("not compared: {}", left_out.join(", ")))
}

/// Takes off what all others that crossed the link became slower by as well: the least of them, and
/// only if each is sure.
fn relieve(row: &mut Row, others: &[Row]) {
    let mut same = others
        .iter()
        .filter(|other| other.profile == row.profile && other.workload == row.workload)
        .filter(|other| other.peer != LIMIT && other.slowdown.is_some())
        .peekable();
    let any = same.peek().is_some();
    let shared = same.try_fold(f64::INFINITY, |least, other| {
        let slowdown = other
            .slowdown
            .as_ref()
            .filter(|slowdown| slowdown.low > 1.0)?;
        Some(least.min(slowdown.estimate))
    });
    let (Some(slowdown), Some(shared)) = (&mut row.slowdown, shared.filter(|_| any)) else {
        return;
    };
    *slowdown = slowdown.relieved(shared);
    row.note = format!(
        "every other peer became slower too, by {} at least, which is taken off",
        figure::times(shared)
    );
    if row.verdict == Verdict::Slower && slowdown.low <= 1.0 {
        row.verdict = Verdict::Noise;
    }
}

fn too_slow(row: &Row, threshold: Threshold) -> Option<String> {
    let place = format!("{} on {}", row.workload, row.profile);
    match &row.slowdown {
        Some(slowdown) if slowdown.low > threshold.factor() => {
            Some(format!("{place}: {}", interval(slowdown)))
        }
        None if row.verdict == Verdict::Slower => Some(format!("{place}: {}", row.note)),
        _ => None,
    }
}

fn interval(slowdown: &Slowdown) -> String {
    format!(
        "{} times as slow ({} to {})",
        figure::number(slowdown.estimate),
        figure::number(slowdown.low),
        figure::number(slowdown.high)
    )
}

/// Over each family, each profile, and everything: wherever there is more than one row.
fn means(rows: &[Row]) -> Vec<(String, Slowdown)> {
    let mut groups: Vec<(String, Vec<&Slowdown>)> = Vec::new();
    for row in rows {
        let Some(slowdown) = &row.slowdown else {
            continue;
        };
        let family = WORKLOADS.iter().find(|known| known.name == row.workload);
        let family = family.map(|known| format!("{} on {}", known.family.name(), row.profile));
        let wider = [format!("all on {}", row.profile), "everything".to_owned()];
        for name in family.into_iter().chain(wider) {
            match groups.iter_mut().find(|(known, _)| *known == name) {
                Some((_, group)) => group.push(slowdown),
                None => groups.push((name, vec![slowdown])),
            }
        }
    }
    groups
        .into_iter()
        .filter(|(_, group)| group.len() > 1)
        .filter_map(|(name, group)| Some((name, Slowdown::mean(&group)?)))
        .collect()
}

#[cfg(test)]
mod tests;
