//! A comparison as text for a terminal.

use super::{Row, Verdict, rows, warnings};
use crate::record::Run;
use crate::report::figure;
use crate::report::terminal::{Paint, columns, plain};

/// Two sets of runs side by side: every peer and workload, ratio and verdict.
pub fn render(old: &[Run], new: &[Run], width: usize, colour: bool) -> String {
    let rows = rows(old, new);
    let mut text = table(&rows, width, Paint(colour));
    text.push_str(&counts(&rows));
    for warning in warnings(old, new) {
        text.push_str(&format!("warning: {}\n", plain(&warning)));
    }
    text
}

/// The table alone, one for each profile.
pub(crate) fn table(rows: &[Row], width: usize, paint: Paint) -> String {
    let mut text = String::new();
    let mut profiles: Vec<&str> = Vec::new();
    for row in rows {
        if !profiles.contains(&row.profile.as_str()) {
            profiles.push(&row.profile);
        }
    }
    for profile in profiles {
        text.push_str(&format!("{}\n", paint.bold(&plain(profile))));
        let head = [
            "peer",
            "workload",
            "then",
            "now",
            "times as slow",
            "verdict",
        ];
        let mut lines = vec![head.map(str::to_owned).to_vec()];
        let mut notes = Vec::new();
        for row in rows.iter().filter(|row| row.profile == profile) {
            lines.push(cells(row));
            if !row.note.is_empty() {
                notes.push(format!(
                    "  {}, {}: {}\n",
                    plain(&row.peer),
                    plain(&row.workload),
                    plain(&row.note)
                ));
            }
        }
        text.push_str(&columns(&lines, width, &|cell| paint.verdict(cell)));
        text.extend(notes);
        text.push('\n');
    }
    text
}

fn cells(row: &Row) -> Vec<String> {
    let dash = || "-".to_owned();
    let ratio = row.slowdown.as_ref().map(|slowdown| {
        format!(
            "{} ({}-{})",
            figure::number(slowdown.estimate),
            figure::number(slowdown.low),
            figure::number(slowdown.high)
        )
    });
    vec![
        plain(&row.peer),
        plain(&row.workload),
        row.old.as_deref().map_or_else(dash, plain),
        row.new.as_deref().map_or_else(dash, plain),
        ratio.unwrap_or_else(dash),
        row.verdict.words().to_owned(),
    ]
}

fn counts(rows: &[Row]) -> String {
    let count = |verdict| rows.iter().filter(|row| row.verdict == verdict).count();
    format!(
        "{} faster, {} slower, {} within noise, {} not comparable\n\
         (times as slow: ratio of medians, in parentheses its 99 % confidence interval)\n",
        count(Verdict::Faster),
        count(Verdict::Slower),
        count(Verdict::Noise),
        count(Verdict::NotComparable)
    )
}
