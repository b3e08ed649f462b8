//! What a demo found, in words and in JSON.

use super::compare::{Listing, Outcome};
use crate::config::units::{show_bytes, show_latency, show_rate};
use crate::status::report::{CacheReport, MountReport};
use serde::Serialize;
use std::fmt::Write;

/// How long things took.
pub(super) struct Timing {
    /// From nothing to a mount that answers.
    pub(super) mounted_secs: f64,
    /// To the first block of a file never opened before.
    pub(super) first_byte_secs: Option<f64>,
}

/// What the mount said of itself, if it could be asked.
pub(super) struct Figures {
    pub(super) after_cold: Option<MountReport>,
    pub(super) after_warm: Option<MountReport>,
}

/// The result.
#[derive(Debug, Serialize)]
pub(super) struct DemoReport {
    pub(super) verified: bool,
    files: u64,
    directories: u64,
    symlinks: u64,
    bytes: u64,
    unreadable: u64,
    mounted_secs: f64,
    first_byte_secs: Option<f64>,
    cold_secs: f64,
    cold_bytes_per_sec: f64,
    warm_secs: f64,
    warm_bytes_per_sec: f64,
    /// File bytes the host sent, in each pass.
    cold_fetched_bytes: Option<u64>,
    warm_fetched_bytes: Option<u64>,
    /// Of the second pass alone.
    l1: Option<Hits>,
    l2: Option<Hits>,
    pub(super) mismatch_count: u64,
    mismatches: Vec<String>,
}

/// How often a cache had what was asked.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Hits {
    hits: u64,
    misses: u64,
}

impl Hits {
    /// Between two looks.
    fn between(before: &CacheReport, after: &CacheReport) -> Self {
        Self {
            hits: after.hits.saturating_sub(before.hits),
            misses: after.misses.saturating_sub(before.misses),
        }
    }
}

impl DemoReport {
    /// Puts together what was found.
    pub(super) fn new(
        listing: &Listing,
        timing: Timing,
        cold: &Outcome,
        warm: &Outcome,
        figures: Figures,
    ) -> Self {
        let mismatch_count = cold.mismatch_count + warm.mismatch_count;
        let both = figures.after_cold.as_ref().zip(figures.after_warm.as_ref());
        let mismatches = cold.mismatches.iter().chain(&warm.mismatches);
        Self {
            verified: mismatch_count == 0,
            files: listing.files(),
            directories: listing.directories(),
            symlinks: listing.symlinks(),
            bytes: cold.bytes,
            unreadable: cold.unreadable,
            mounted_secs: timing.mounted_secs,
            first_byte_secs: timing.first_byte_secs,
            cold_secs: cold.elapsed.as_secs_f64(),
            cold_bytes_per_sec: cold.bytes_per_sec(),
            warm_secs: warm.elapsed.as_secs_f64(),
            warm_bytes_per_sec: warm.bytes_per_sec(),
            cold_fetched_bytes: figures.after_cold.as_ref().map(|m| m.fetched_bytes),
            warm_fetched_bytes: both.map(|(a, b)| b.fetched_bytes.saturating_sub(a.fetched_bytes)),
            l1: both.map(|(a, b)| Hits::between(&a.l1, &b.l1)),
            l2: both.and_then(|(a, b)| Some(Hits::between(a.l2.as_ref()?, b.l2.as_ref()?))),
            mismatch_count,
            mismatches: mismatches.cloned().collect(),
        }
    }

    /// For people, without a newline at the end.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut text);
        text.truncate(text.trim_end().len());
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        for mismatch in &self.mismatches {
            writeln!(out, "DIFFERENT  {mismatch}")?;
        }
        let (files, size) = (self.files, show_bytes(self.bytes));
        match self.mismatch_count {
            0 => writeln!(
                out,
                "Verified   every byte of {size} in {files} files, twice; names, sizes, modes and times of {} directories and {} symlinks too",
                self.directories, self.symlinks
            )?,
            n => writeln!(out, "FAILED     {n} differences")?,
        }
        if self.unreadable > 0 {
            writeln!(
                out,
                "Refused    {} files that you may not read in the folder either",
                self.unreadable
            )?;
        }
        writeln!(out, "Mounted    in {}", show_latency(self.mounted_secs))?;
        if let Some(secs) = self.first_byte_secs {
            writeln!(
                out,
                "First byte {} after opening a file never read before",
                show_latency(secs)
            )?;
        }
        writeln!(
            out,
            "Cold       {}{}",
            show_rate(self.cold_bytes_per_sec),
            fetched(self.cold_fetched_bytes)
        )?;
        writeln!(
            out,
            "Again      {}{}",
            show_rate(self.warm_bytes_per_sec),
            fetched(self.warm_fetched_bytes)
        )?;
        for (name, hits) in [("Memory", &self.l1), ("Disk", &self.l2)] {
            if let Some(Hits { hits, misses }) = hits {
                let asked = hits + misses;
                writeln!(
                    out,
                    "{name:10} cache had {hits} of the {asked} chunks asked of it the second time"
                )?;
            }
        }
        Ok(())
    }
}

fn fetched(bytes: Option<u64>) -> String {
    bytes.map_or(String::new(), |bytes| {
        format!(", {} came from the host", show_bytes(bytes))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shutdown::Shutdown;
    use std::time::Duration;

    fn outcome(mismatches: &[&str]) -> Outcome {
        Outcome {
            bytes: 10_000_000,
            elapsed: Duration::from_secs(2),
            reading: Duration::from_secs(1),
            unreadable: 0,
            mismatch_count: mismatches.len() as u64,
            mismatches: mismatches.iter().map(ToString::to_string).collect(),
        }
    }

    fn mount(hits: u64, misses: u64, fetched_bytes: u64) -> Option<MountReport> {
        let l1 = CacheReport {
            hits,
            misses,
            ..CacheReport::default()
        };
        Some(MountReport {
            l1,
            fetched_bytes,
            ..MountReport::default()
        })
    }

    fn report(cold: &[&str], figures: Figures) -> DemoReport {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "x").unwrap();
        let listing = Listing::of(dir.path(), &Shutdown::manual()).unwrap();
        let timing = Timing {
            mounted_secs: 0.5,
            first_byte_secs: Some(0.002),
        };
        DemoReport::new(&listing, timing, &outcome(cold), &outcome(&[]), figures)
    }

    #[test]
    fn a_good_run() {
        let figures = Figures {
            after_cold: mount(1, 80, 10_000_000),
            after_warm: mount(78, 83, 10_000_000),
        };
        let report = report(&[], figures);
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["verified"], true);
        assert_eq!(json["files"], 1);
        assert_eq!(json["l1"], serde_json::json!({"hits": 77, "misses": 3}));
        assert_eq!(json["l2"], serde_json::Value::Null);
        assert_eq!(json["warm_fetched_bytes"], 0);
        let text = report.text();
        for part in ["Verified", "2.0 ms", "10.0 MB/s", "had 77 of the 80"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn a_bad_run_names_what_differs() {
        let figures = Figures {
            after_cold: None,
            after_warm: None,
        };
        let report = report(&["a/b: has size 1, in the mount 2"], figures);
        assert!(!report.verified && report.mismatch_count == 1);
        let text = report.text();
        assert!(text.contains("DIFFERENT  a/b: has size 1"), "{text}");
        assert!(
            text.contains("FAILED     1 differences") && !text.contains("Verified"),
            "{text}"
        );
    }
}
