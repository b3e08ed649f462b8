//! Runs in files: JSON that other programs can read, and that a report can be made from again.
//!
//! One run is one object; several are `{"schema": 1, "runs": [..]}`. A file appears whole or not at
//! all. What is read is checked, since files come from elsewhere: their size, their schema, and that
//! every number is one.

use crate::record::{Entry, Link, RawLink, Run, SCHEMA};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Largest file that is read: a full run of many peers on all profiles is a few MiB.
pub const FILE_BYTES_MAX: u64 = 64 << 20;
/// Most runs in one file.
pub const RUNS_MAX: usize = 1000;

/// Why a report was not written or read.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// The file system.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not what this reads.
    #[error("{}: {problem}", path.display())]
    Form {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        problem: String,
    },
}

#[derive(Serialize)]
struct ManyRef<'a> {
    schema: u32,
    runs: &'a [Run],
}

#[derive(Deserialize)]
struct Many {
    runs: Vec<Run>,
}

/// What every form of the file has.
#[derive(Deserialize)]
struct Head {
    schema: Option<u64>,
    runs: Option<serde::de::IgnoredAny>,
}

/// Writes `runs` to `path`: whole, or not at all.
///
/// # Errors
/// [`JsonError`]; also if there is no run, or a number in one is not finite.
pub fn write(path: &Path, runs: &[Run]) -> Result<(), JsonError> {
    check(runs).map_err(|problem| form(path, problem))?;
    let mut text = match runs {
        [run] => serde_json::to_string_pretty(run),
        runs => serde_json::to_string_pretty(&ManyRef {
            schema: SCHEMA,
            runs,
        }),
    }
    .map_err(|error| form(path, error.to_string()))?;
    text.push('\n');
    replace(path, text.as_bytes()).map_err(|source| io_error(path, source))
}

/// Puts a file with `content` at `path` in one step: readers see the old one or the new one.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut file = tempfile::Builder::new()
        .prefix(".wormhole-bench-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(folder)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

/// Reads the runs in the file at `path`, of either form.
///
/// # Errors
/// [`JsonError`]; also for a file of another schema, or one that is too large.
pub fn read(path: &Path) -> Result<Vec<Run>, JsonError> {
    let text = read_limited(path).map_err(|source| io_error(path, source))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        let limit = FILE_BYTES_MAX >> 20;
        return Err(form(
            path,
            format!("larger than {limit} MiB, so not a benchmark report"),
        ));
    }
    parse(&text).map_err(|problem| form(path, problem))
}

fn read_limited(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?
        .take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut text)?;
    Ok(text)
}

fn parse(text: &[u8]) -> Result<Vec<Run>, String> {
    let not_ours = |error: serde_json::Error| format!("not a report of `wormhole bench`: {error}");
    let head: Head = serde_json::from_slice(text).map_err(not_ours)?;
    match head.schema {
        Some(schema) if schema == u64::from(SCHEMA) => {}
        Some(schema) => {
            return Err(format!(
                "has schema {schema}, and this version of Wormhole reads schema {SCHEMA}; measure again"
            ));
        }
        None => return Err("not a report of `wormhole bench`: it has no \"schema\"".to_owned()),
    }
    let runs = if head.runs.is_some() {
        serde_json::from_slice::<Many>(text).map_err(not_ours)?.runs
    } else {
        vec![serde_json::from_slice(text).map_err(not_ours)?]
    };
    check(&runs)?;
    Ok(runs)
}

fn check(runs: &[Run]) -> Result<(), String> {
    if runs.is_empty() {
        return Err("holds no run".to_owned());
    }
    if runs.len() > RUNS_MAX {
        return Err(format!("holds more than {RUNS_MAX} runs"));
    }
    for run in runs {
        if run.schema != SCHEMA {
            return Err(format!(
                "a run in it has schema {}, not {SCHEMA}",
                run.schema
            ));
        }
        if !numbers_are_finite(run) {
            return Err(format!(
                "the run on {:?} has a number that is none",
                run.profile
            ));
        }
    }
    Ok(())
}

/// JSON has no words for infinity and "not a number"; they would come back as "not measured".
fn numbers_are_finite(run: &Run) -> bool {
    [run.seconds, run.environment.load]
        .iter()
        .all(|n| n.is_finite())
        && link_is_finite(&run.link)
        && run.raw.iter().all(raw_is_finite)
        && run.results.iter().all(entry_is_finite)
}

fn link_is_finite(link: &Link) -> bool {
    let single = [
        link.asked_rtt_ms,
        link.asked_loss_pct,
        link.asked_jitter_ms,
        link.rtt_ms,
        link.rate_mbit,
        link.loss_pct,
        link.asked_rate_mbit.unwrap_or(0.0),
    ];
    let each = link.rate_each_mbit.iter().chain(&link.loss_each_pct);
    single.iter().chain(each).all(|n| n.is_finite())
}

fn raw_is_finite(raw: &RawLink) -> bool {
    let rest = [
        raw.mbit,
        raw.retransmitted_pct.unwrap_or(0.0),
        raw.loaded_rtt_ms.unwrap_or(0.0),
    ];
    raw.samples_mbit.iter().chain(&rest).all(|n| n.is_finite())
}

fn entry_is_finite(entry: &Entry) -> bool {
    let cost = entry.cost.unwrap_or_default();
    let rest = [
        entry.p50.unwrap_or(0.0),
        entry.p95.unwrap_or(0.0),
        entry.p99.unwrap_or(0.0),
        entry.max.unwrap_or(0.0),
        entry.of_link_pct.unwrap_or(0.0),
        cost.client_cpu_s,
        cost.server_cpu_s,
    ];
    let timeline = entry.timeline.iter().flat_map(|(at, bytes)| [at, bytes]);
    entry
        .samples
        .iter()
        .chain(&rest)
        .chain(timeline)
        .all(|n| n.is_finite())
}

fn form(path: &Path, problem: String) -> JsonError {
    JsonError::Form {
        path: path.to_path_buf(),
        problem,
    }
}

fn io_error(path: &Path, source: io::Error) -> JsonError {
    JsonError::Io {
        path: path.to_path_buf(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn one_run_and_several_read_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("report.json");
        for runs in [vec![sample::wan_poor()], sample::runs()] {
            write(&path, &runs).expect("written");
            assert!(read(&path).expect("read") == runs);
        }
        let files = std::fs::read_dir(folder.path()).expect("a folder").count();
        assert_eq!(files, 1, "nothing but the report is left");
    }

    #[test]
    fn one_run_is_one_object_with_the_promised_words() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("report.json");
        write(&path, &[sample::wan_poor()]).expect("written");
        let text = std::fs::read_to_string(&path).expect("text");
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(value["schema"], 1);
        assert_eq!(value["profile"], "wan-poor");
        for key in ["backend", "rtt_ms", "rate_mbit", "loss_pct"] {
            assert!(!value["link"][key].is_null(), "{key}");
        }
        let words = [
            "peer", "workload", "unit", "samples", "p50", "p95", "p99", "max", "state", "reason",
        ];
        for word in words {
            assert!(value["results"][0].get(word).is_some(), "{word}");
        }
    }

    #[test]
    fn what_is_no_report_is_refused_with_the_reason() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.json");
        let cases = [
            ("", "not a report"),
            ("{}", "no \"schema\""),
            ("[1]", "not a report"),
            (r#"{"schema": 2, "profile": "lan"}"#, "schema 2"),
            (r#"{"schema": 1, "runs": []}"#, "holds no run"),
            (r#"{"schema": 1}"#, "missing field"),
            (r#"{"schema": 1, "runs": [{"schema": 1}]}"#, "missing field"),
        ];
        for (text, problem) in cases {
            std::fs::write(&path, text).expect("written");
            let error = read(&path).expect_err("refused").to_string();
            assert!(error.contains(problem), "{text}: {error}");
        }
        assert!(matches!(
            read(&folder.path().join("none")),
            Err(JsonError::Io { .. })
        ));
    }

    #[test]
    fn a_number_that_is_none_is_not_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.json");
        let mut run = sample::wan_poor();
        run.results[0].p99 = Some(f64::NAN);
        assert!(write(&path, &[run]).is_err());
        assert!(!path.exists());
    }

    #[test]
    fn a_file_too_large_is_not_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.json");
        let file = File::create(&path).expect("a file");
        file.set_len(FILE_BYTES_MAX + 1).expect("sparse");
        let error = read(&path).expect_err("refused").to_string();
        assert!(error.contains("larger than 64 MiB"), "{error}");
    }
}
