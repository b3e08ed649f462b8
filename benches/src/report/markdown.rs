//! The report as Markdown with GitHub's tables, for documents and comments.

use super::table::{Cell, Table, mishaps};
use super::{figure, summary};
use crate::record::Run;
use std::fmt::Write;

/// The report of `runs`, a section each.
pub fn render(runs: &[Run]) -> String {
    let mut text = String::new();
    for run in runs {
        if !text.is_empty() {
            text.push('\n');
        }
        section(&mut text, run);
    }
    text
}

// Writing to a string cannot fail, so the results of `writeln!` below are dropped.
fn section(text: &mut String, run: &Run) {
    let _ = writeln!(text, "## {}\n", safe(&run.profile));
    for line in summary::lines(run) {
        let _ = writeln!(text, "- {}", safe(&line));
    }
    text.push('\n');
    facts(text, run);
    results(text, run);
    costs(text, run);
    peers(text, run);
    remarks(text, run);
}

fn facts(text: &mut String, run: &Run) {
    let link = &run.link;
    let place = &run.environment;
    let mut rows = vec![
        ("Link, asked".to_owned(), figure::link_asked(link)),
        ("Link, measured".to_owned(), figure::link_measured(link)),
        ("Emulation".to_owned(), figure::emulation(link)),
        (
            "Congestion control".to_owned(),
            format!(
                "TCP {}, Wormhole {}",
                link.tcp_congestion_control, link.quic_congestion_control
            ),
        ),
    ];
    for raw in &run.raw {
        rows.push((
            format!("Raw {}", raw.protocol.to_uppercase()),
            figure::raw_link(raw),
        ));
    }
    rows.push((
        "Machine".to_owned(),
        format!(
            "{}, {} cores, {}, Linux {}, {}, Wormhole {}",
            place.cpu,
            place.cores,
            figure::bytes(place.memory_bytes),
            place.kernel,
            place.file_system,
            place.wormhole
        ),
    ));
    rows.push((
        "Run".to_owned(),
        format!(
            "{}, {} rounds, {}",
            run.started,
            run.rounds,
            figure::span(run.seconds)
        ),
    ));
    rows.push(("Again".to_owned(), run.command.join(" ")));
    text.push_str("| | |\n|---|---|\n");
    for (name, fact) in rows {
        let _ = writeln!(text, "| {} | {} |", safe(&name), safe(&fact));
    }
    text.push('\n');
}

fn results(text: &mut String, run: &Run) {
    let table = Table::new(run);
    head(text, "workload", &table.peers);
    for row in &table.rows {
        let cells = row.cells.iter().map(|cell| result(cell.as_ref()));
        line(text, row.workload, cells);
    }
    text.push_str(
        "\nMedians; **bold** and `*`: best of its row; 2.00x: twice as slow as the best; p95: 95 % of the \
         operations were no slower. `local`, the bare file system, is the limit and does not compete.\n\n",
    );
}

fn result(cell: Option<&Cell<'_>>) -> String {
    let Some(cell) = cell else {
        return "–".to_owned();
    };
    let mut words = match cell.value() {
        Some(value) if cell.best => format!("**{value}** `*`"),
        Some(value) => value,
        None => "–".to_owned(),
    };
    if let Some(ratio) = cell.ratio.filter(|_| !cell.best) {
        let _ = write!(words, " {}", figure::times(ratio));
    }
    if let Some(p95) = cell.p95() {
        let _ = write!(words, ", p95 {p95}");
    }
    if let Some(remark) = cell.remark() {
        let _ = write!(words, " ({remark})");
    }
    words
}

fn costs(text: &mut String, run: &Run) {
    let table = Table::new(run);
    if !run.results.iter().any(|entry| entry.cost.is_some()) {
        return;
    }
    head(text, "CPU s, peak memory (client + server)", &table.peers);
    for row in &table.rows {
        let cells = row.cells.iter().map(|cell| {
            let cost = cell.as_ref().and_then(|cell| cell.entry.cost);
            cost.map_or_else(
                || "–".to_owned(),
                |cost| {
                    format!(
                        "{} + {} s, {} + {}",
                        figure::number(cost.client_cpu_s),
                        figure::number(cost.server_cpu_s),
                        figure::bytes(cost.client_peak_bytes),
                        figure::bytes(cost.server_peak_bytes)
                    )
                },
            )
        });
        line(text, row.workload, cells);
    }
    text.push('\n');
}

fn head(text: &mut String, first: &str, peers: &[&str]) {
    line(text, first, peers.iter().map(|peer| safe(peer)));
    let _ = writeln!(text, "|---|{}", "---|".repeat(peers.len()));
}

fn line(text: &mut String, first: &str, cells: impl Iterator<Item = String>) {
    let cells: Vec<String> = cells.collect();
    let _ = writeln!(text, "| {} | {} |", safe(first), cells.join(" | "));
}

fn peers(text: &mut String, run: &Run) {
    for peer in run.peers.iter().filter(|peer| peer.available) {
        let settings = match peer.settings.as_slice() {
            [] => "as it comes".to_owned(),
            settings => settings.join(", "),
        };
        let line = format!("{}; {settings}; {}", peer.version, peer.durability);
        let _ = writeln!(text, "- {}: {}", safe(&peer.name), safe(&line));
    }
    for peer in run.peers.iter().filter(|peer| !peer.available) {
        let reason = peer.reason.as_deref().unwrap_or("no reason known");
        let _ = write!(
            text,
            "- {} is not available: {}",
            safe(&peer.name),
            safe(reason)
        );
        if let Some(install) = &peer.install {
            let _ = write!(text, "; to have it: {}", safe(install));
        }
        text.push('\n');
    }
}

fn remarks(text: &mut String, run: &Run) {
    for (peer, workload, reason) in mishaps(run) {
        let _ = writeln!(
            text,
            "- {}, {}: {}",
            safe(peer),
            safe(&workload),
            safe(&reason)
        );
    }
    for warning in &run.warnings {
        let _ = writeln!(text, "- **Warning**: {}", safe(warning));
    }
}

/// `text` in one line, with nothing that Markdown or the HTML in it would take for its own.
fn safe(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in super::terminal::plain(text).chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            // An `@` would call for somebody.
            '@' => safe.push_str("&#64;"),
            '|' | '*' | '_' | '`' | '[' | ']' | '\\' | '#' | '~' | '!' => {
                safe.push('\\');
                safe.push(c);
            }
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn tables_are_whole() {
        let run = sample::wan_poor();
        let text = render(std::slice::from_ref(&run));
        let columns = Table::new(&run).peers.len() + 1;
        let rows: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with("| seq-read"))
            .collect();
        assert_eq!(rows.len(), 6, "three of results, three of costs");
        for row in rows {
            assert_eq!(row.matches(" |").count(), columns, "{row}");
        }
        assert!(text.contains("MB/s** `*`"));
        assert!(text.contains("(timed out at 37 %)"));
        assert!(text.contains("nfs is not available: this kernel has no NFS client"));
        assert!(text.contains("wormhole bench --profile wan-poor"));
    }

    #[test]
    fn each_run_has_a_section() {
        let text = render(&sample::runs());
        assert_eq!(
            text.matches("\n## ").count() + usize::from(text.starts_with("## ")),
            2
        );
    }

    #[test]
    fn hostile_text_stays_text() {
        let mut run = sample::wan_poor();
        let hostile = "a|b <script>x</script> [l](http://x) @all\n# h `c`";
        run.results[0].peer = hostile.into();
        run.warnings = vec![hostile.into()];
        run.peers[5].reason = Some(hostile.into());
        let text = render(&[run]);
        for raw in ["<script", "a|b", "[l]", "@all", "\n# h", " `c`"] {
            assert!(!text.contains(raw), "{raw}");
        }
    }
}
