//! Which pictures the page has, and what is in them.

use super::super::chart::{self, Bar, COLUMN, Curve, PAGE, PHONE, Rule, Strip};
use super::super::style::Ink;
use super::super::table::{Cell, Row, Table, find};
use super::super::{LIMIT, SUBJECT, figure};
use super::escaped;
use crate::record::{Entry, Run};
use crate::workload::WORKLOADS;
use std::fmt::Write;

/// Throughputs that the link bounds.
const OVER_THE_LINK: [&str; 4] = ["seq-read-cold", "parallel-4", "concurrent-10", "write-seq"];
/// The sequential read has a picture across the page.
const TIMELINE: &str = "seq-read-cold";
/// How to read bars.
const BARS: &str = "A bar is the median, | a single round, ▶ a bar that goes on beyond the edge.";
/// How to read dots.
const DOTS: &str = "A dot is one operation, ◆ the median, | the 95th percentile, ◀ and ▶ what lies beyond \
                    the edge. Left is better; the scale is logarithmic: equal steps are equal factors.";
/// Samples of a rate are few: each is shown.
const SAMPLES_SHOWN_MAX: usize = 40;

pub(super) fn write(page: &mut String, run: &Run, peers: &[String]) {
    let table = Table::new(run);
    let ink = |name: &str| {
        let at = peers.iter().position(|peer| peer == name).unwrap_or(0);
        Ink::of_peer(name, at)
    };
    group(page, "Throughput against the link", BARS, |page| {
        timeline(page, run, &table, &ink);
        for row in table
            .rows
            .iter()
            .filter(|row| OVER_THE_LINK.contains(&row.workload))
        {
            rates(page, run, row, &ink);
        }
    });
    group(page, "Latency", DOTS, |page| {
        for row in table.rows.iter().filter(|row| row.unit == "ms") {
            latencies(page, run, row, &ink);
        }
    });
    group(
        page,
        "Files, small reads, and reading again",
        BARS,
        |page| {
            for row in &table.rows {
                if row.unit != "ms" && !OVER_THE_LINK.contains(&row.workload) {
                    rates(page, run, row, &ink);
                }
            }
        },
    );
}

/// A heading and its pictures, if there are any.
fn group(page: &mut String, title: &str, legend: &str, write: impl FnOnce(&mut String)) {
    let mut pictures = String::new();
    write(&mut pictures);
    if !pictures.is_empty() {
        let _ = writeln!(
            page,
            "<h3>{title}</h3>\n<p class=\"note\">{legend}</p>\n<div class=\"charts\">\n{pictures}</div>"
        );
    }
}

fn picture(
    page: &mut String,
    title: &str,
    about: &str,
    width: u32,
    draw: impl Fn(u32) -> Option<String>,
) {
    let (Some(wide), Some(narrow)) = (draw(width), draw(PHONE)) else {
        return;
    };
    let class = if width == PAGE { " class=\"full\"" } else { "" };
    let _ = writeln!(
        page,
        "<figure{class}><figcaption><strong>{}</strong><span>{}</span></figcaption>\n\
         <div class=\"wide\">{wide}</div><div class=\"narrow\">{narrow}</div></figure>",
        escaped(title),
        escaped(about)
    );
}

fn about(workload: &str) -> &str {
    let known = WORKLOADS.iter().find(|known| known.name == workload);
    known.map_or("", |known| known.about)
}

fn direction(row: &Row<'_>) -> &'static str {
    match row.better {
        crate::record::Better::Higher => "longer is better",
        crate::record::Better::Lower => "shorter is better",
    }
}

fn latencies(page: &mut String, run: &Run, row: &Row<'_>, ink: &dyn Fn(&str) -> Ink) {
    let strips: Vec<Strip> = row
        .cells
        .iter()
        .flatten()
        .filter(|cell| !cell.entry.samples.is_empty())
        .map(|cell| Strip {
            name: cell.entry.peer.clone(),
            ink: ink(&cell.entry.peer),
            samples: cell.entry.samples.clone(),
            p50: cell.entry.p50,
            p95: cell.entry.p95,
            words: words(cell),
            may_leave: cell.entry.peer == LIMIT,
        })
        .collect();
    let rule = (run.link.rtt_ms > 0.0).then_some(("one round trip", run.link.rtt_ms));
    let title = format!(
        "{} on {}: milliseconds of each peer",
        row.workload, run.profile
    );
    let about = format!("{}.", capital(about(row.workload)));
    picture(page, row.workload, &about, COLUMN, |width| {
        chart::strips(&title, &strips, rule, width)
    });
}

fn rates(page: &mut String, run: &Run, row: &Row<'_>, ink: &dyn Fn(&str) -> Ink) {
    let over_the_link = OVER_THE_LINK.contains(&row.workload);
    let cells = row.cells.iter().flatten();
    let bars: Vec<Bar> = cells
        .map(|cell| Bar {
            name: cell.entry.peer.clone(),
            ink: ink(&cell.entry.peer),
            value: cell.entry.p50,
            words: words(cell),
            samples: few(cell.entry),
            may_leave: cell.entry.peer == LIMIT,
        })
        .collect();
    let rules = if over_the_link {
        rules(run)
    } else {
        Vec::new()
    };
    let title = format!(
        "{} on {}: {} of each peer",
        row.workload, run.profile, row.unit
    );
    let about = format!(
        "{}. In {}; {}.",
        capital(about(row.workload)),
        row.unit,
        direction(row)
    );
    picture(page, row.workload, &about, COLUMN, |width| {
        chart::bars(&title, &bars, &rules, width)
    });
}

fn few(entry: &Entry) -> Vec<f64> {
    if entry.samples.len() > SAMPLES_SHOWN_MAX {
        return Vec::new();
    }
    entry.samples.clone()
}

/// What plain transfers got on the link, in MB/s.
fn rules(run: &Run) -> Vec<Rule> {
    let link = Rule {
        name: "link".to_owned(),
        value: run.link.rate_mbit / 8.0,
    };
    let raw = run.raw.iter().map(|raw| Rule {
        name: format!("raw {}", raw.protocol.to_uppercase()),
        value: raw.mbit / 8.0,
    });
    std::iter::once(link)
        .chain(raw)
        .filter(|rule| rule.value > 0.0 && rule.value.is_finite())
        .take(3)
        .collect()
}

/// The value, how far behind, and what went wrong.
fn words(cell: &Cell<'_>) -> String {
    let mut words = cell.value().unwrap_or_else(|| "nothing".to_owned());
    if cell.best {
        words.push_str(" ★ best");
    } else if let Some(ratio) = cell.ratio.filter(|ratio| *ratio >= 1.0) {
        let _ = write!(words, ", {} as slow", figure::times(ratio));
    }
    if let Some(remark) = cell.remark() {
        let _ = write!(words, " ({remark})");
    }
    words
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect()
    })
}

fn timeline(page: &mut String, run: &Run, table: &Table<'_>, ink: &dyn Fn(&str) -> Ink) {
    let peers = table.peers.iter().filter(|peer| **peer != LIMIT);
    let mut curves: Vec<Curve> = peers
        .filter_map(|peer| find(run, peer, TIMELINE))
        .filter(|entry| entry.timeline.len() > 1)
        .map(|entry| Curve {
            name: entry.peer.clone(),
            ink: ink(&entry.peer),
            points: entry.timeline.clone(),
        })
        .collect();
    // Wormhole is drawn last, above the others.
    curves.sort_by_key(|curve| curve.name == SUBJECT);
    let title = format!(
        "A cold sequential read on {}: megabytes over time",
        run.profile
    );
    let about =
        "Megabytes read of a file never touched, over seconds; first round. Steeper is better.";
    picture(page, "A cold sequential read", about, PAGE, |width| {
        chart::lines(&title, &curves, run.link.rate_mbit / 8.0, width)
    });
}
