//! The report as text for a terminal of a given width, with or without colour.
//!
//! What matters is never said by colour alone: the best of a row has a `*`. Texts from elsewhere lose
//! their control characters, so that no peer's version repaints the screen.

use super::table::{Cell, Table, mishaps};
use super::{figure, summary};
use crate::record::Run;
use std::fmt::Write;

/// Narrowest text that is made; a narrower terminal wraps by itself.
const WIDTH_MIN: usize = 60;
/// Widest cell: longer text is cut.
const CELL_CHARS_MAX: usize = 60;

/// The report of one run, with lines of up to `width` characters where words allow it.
pub fn render(run: &Run, width: usize, colour: bool) -> String {
    let width = width.max(WIDTH_MIN);
    let paint = Paint(colour);
    let mut text = header(run, paint, width);
    text.push('\n');
    text.push_str(&results(run, width, paint));
    text.push_str(&costs(run, width, paint));
    text.push_str(&remarks(run, width, paint));
    text
}

/// Escape sequences, or none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paint(pub(crate) bool);

impl Paint {
    pub(crate) fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    pub(crate) fn good(self, text: &str) -> String {
        self.with("1;32", text)
    }

    pub(crate) fn bad(self, text: &str) -> String {
        self.with("31", text)
    }

    /// A verdict, by its words.
    pub(crate) fn verdict(self, text: &str) -> String {
        match text {
            "faster" => self.good(text),
            "slower" => self.bad(text),
            _ => text.to_owned(),
        }
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.0 {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}

/// `text` without what a terminal would obey.
pub(crate) fn plain(text: &str) -> String {
    let harmless = |c: char| match c {
        '\n' | '\t' => ' ',
        // Controls, and the marks that turn the direction of writing.
        c if c.is_control()
            || matches!(c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') =>
        {
            '?'
        }
        c => c,
    };
    text.chars().map(harmless).collect()
}

fn header(run: &Run, paint: Paint, width: usize) -> String {
    let link = &run.link;
    let mut facts = vec![
        ("asked", figure::link_asked(link)),
        ("measured", figure::link_measured(link)),
        ("link", format!("emulated by {}", figure::emulation(link))),
        (
            "congestion",
            format!(
                "TCP {}, Wormhole {}",
                link.tcp_congestion_control, link.quic_congestion_control
            ),
        ),
    ];
    for raw in &run.raw {
        let name = match raw.protocol.as_str() {
            "tcp" => "raw TCP",
            "quic" => "raw QUIC",
            other => other,
        };
        facts.push((name, figure::raw_link(raw)));
    }
    let place = &run.environment;
    facts.push((
        "machine",
        format!(
            "{}, {} cores, Linux {}",
            place.cpu, place.cores, place.kernel
        ),
    ));
    let mut text = format!(
        "{}\n",
        paint.bold(&format!("Profile {}", plain(&run.profile)))
    );
    for (name, fact) in facts {
        text.push_str(&paragraph(&format!("  {:<11}", plain(name)), &fact, width));
    }
    text
}

fn results(run: &Run, width: usize, paint: Paint) -> String {
    let table = Table::new(run);
    let mut columns = vec![
        std::iter::once(String::new())
            .chain(table.rows.iter().map(|row| plain(row.workload)))
            .collect::<Vec<String>>(),
    ];
    for (at, peer) in table.peers.iter().enumerate() {
        let cells = table.rows.iter().map(|row| cell(row.cells[at].as_ref()));
        columns.push(std::iter::once(plain(peer)).chain(cells).collect());
    }
    let mut text = side_by_side(columns, width, &|cell| emphasis(cell, paint));
    text.push_str(&paragraph(
        "",
        "Medians. *: best of its row; 2.00x: twice as slow as the best; p95: 95 % of the operations were \
         no slower; local, the bare file system, is the limit and does not compete.",
        width,
    ));
    text.push('\n');
    text
}

fn cell(cell: Option<&Cell<'_>>) -> String {
    let Some(cell) = cell else {
        return "-".to_owned();
    };
    let mut words = vec![cell.value().unwrap_or_else(|| "-".to_owned())];
    if cell.best {
        words.push("*".to_owned());
    } else if let Some(ratio) = cell.ratio {
        words.push(figure::times(ratio));
    }
    if let Some(p95) = cell.p95() {
        words.push(format!("p95 {p95}"));
    }
    if let Some(remark) = cell.remark() {
        words.push(format!("({remark})"));
    }
    words.join(" ")
}

fn emphasis(cell: &str, paint: Paint) -> String {
    let mishap = ["(timed out", "(failed", "(cannot"];
    if cell.split(' ').any(|word| word == "*") {
        paint.good(cell)
    } else if mishap.iter().any(|words| cell.contains(words)) {
        paint.bad(cell)
    } else {
        cell.to_owned()
    }
}

fn costs(run: &Run, width: usize, paint: Paint) -> String {
    let table = Table::new(run);
    let mut columns = vec![vec!["CPU s, peak memory".to_owned()]];
    columns.extend(table.peers.iter().map(|peer| vec![plain(peer)]));
    for row in &table.rows {
        let costs = row.cells.iter().map(|cell| cell.as_ref()?.entry.cost);
        let costs: Vec<_> = costs.collect();
        if costs.iter().all(Option::is_none) {
            continue;
        }
        columns[0].push(plain(row.workload));
        for (column, cost) in columns[1..].iter_mut().zip(costs) {
            column.push(cost.map_or_else(
                || "-".to_owned(),
                |cost| {
                    format!(
                        "{}+{} s {}+{}",
                        figure::number(cost.client_cpu_s),
                        figure::number(cost.server_cpu_s),
                        figure::bytes(cost.client_peak_bytes),
                        figure::bytes(cost.server_peak_bytes)
                    )
                },
            ));
        }
    }
    if columns[0].len() == 1 {
        return String::new();
    }
    let mut text = side_by_side(columns, width, &|cell| emphasis(cell, paint));
    text.push_str("Client + server, over all rounds.\n\n");
    text
}

fn remarks(run: &Run, width: usize, paint: Paint) -> String {
    let mut text = String::new();
    for line in summary::lines(run) {
        text.push_str(&paragraph("", &line, width));
    }
    for peer in run.peers.iter().filter(|peer| !peer.available) {
        let reason = peer.reason.as_deref().unwrap_or("no reason known");
        text.push_str(&paragraph(
            "",
            &format!("{} is not available: {reason}", peer.name),
            width,
        ));
        if let Some(install) = &peer.install {
            let _ = writeln!(text, "  to have it: {}", plain(install));
        }
    }
    for (peer, workload, reason) in mishaps(run) {
        text.push_str(&paragraph(
            "",
            &format!("{peer}, {workload}: {reason}"),
            width,
        ));
    }
    for warning in &run.warnings {
        let warning = paragraph("", &format!("warning: {warning}"), width);
        text.push_str(&paint.bad(warning.trim_end()));
        text.push('\n');
    }
    text
}

/// Words in lines of up to `width` characters, the first after `lead`, the others indented as far.
fn paragraph(lead: &str, words: &str, width: usize) -> String {
    let indent = lead.chars().count();
    let mut text = lead.to_owned();
    let mut used = indent;
    for word in plain(words).split_whitespace() {
        let length = word.chars().count();
        if used > indent && used + 1 + length > width {
            text.push('\n');
            text.push_str(&" ".repeat(indent.max(2)));
            used = indent.max(2);
        } else if used > indent {
            text.push(' ');
            used += 1;
        }
        text.push_str(word);
        used += length;
    }
    text.push('\n');
    text
}

/// Columns beside each other, the first repeated in each of as many tables as it takes.
fn side_by_side(columns: Vec<Vec<String>>, width: usize, paint: &dyn Fn(&str) -> String) -> String {
    let widths: Vec<usize> = columns.iter().map(|column| widest(column)).collect();
    let mut text = String::new();
    let mut next = 1;
    while next < columns.len() {
        let mut used = widths[0] + 2 + widths[next];
        let mut end = next + 1;
        while end < columns.len() && used + 2 + widths[end] <= width {
            used += 2 + widths[end];
            end += 1;
        }
        let lines: Vec<Vec<String>> = (0..columns[0].len())
            .map(|line| {
                let chosen = std::iter::once(&columns[0]).chain(&columns[next..end]);
                chosen.map(|column| column[line].clone()).collect()
            })
            .collect();
        text.push_str(&self::columns(&lines, width, paint));
        text.push('\n');
        next = end;
    }
    text
}

fn widest(column: &[String]) -> usize {
    let length = |cell: &String| cell.chars().count().min(CELL_CHARS_MAX);
    column.iter().map(length).max().unwrap_or(0)
}

/// Lines of cells in columns, the first line the head; cells are cut where the columns do not fit.
pub(crate) fn columns(
    lines: &[Vec<String>],
    width: usize,
    paint: &dyn Fn(&str) -> String,
) -> String {
    let count = lines.iter().map(Vec::len).max().unwrap_or(0);
    let mut widths: Vec<usize> = (0..count)
        .map(|at| {
            widest(
                &lines
                    .iter()
                    .filter_map(|line| line.get(at).cloned())
                    .collect::<Vec<_>>(),
            )
        })
        .collect();
    let gap = if widths.iter().sum::<usize>() + 2 * count > width {
        1
    } else {
        2
    };
    fit(
        &mut widths,
        width.saturating_sub(gap * count.saturating_sub(1)),
    );
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        let mut written = String::new();
        for (cell, room) in line.iter().zip(&widths) {
            let cell = cut(cell, *room);
            let padding = room - cell.chars().count() + gap;
            written.push_str(&paint(&cell));
            written.push_str(&" ".repeat(padding));
        }
        text.push_str(written.trim_end());
        text.push('\n');
        if number == 0 {
            let rule = widths.iter().map(|room| "-".repeat(*room));
            text.push_str(&rule.collect::<Vec<_>>().join(&" ".repeat(gap)));
            text.push('\n');
        }
    }
    text
}

/// Takes from the widest until the sum fits.
fn fit(widths: &mut [usize], room: usize) {
    while widths.iter().sum::<usize>() > room {
        match widths.iter_mut().max() {
            Some(widest) if *widest > 4 => *widest -= 1,
            _ => return,
        }
    }
}

fn cut(cell: &str, room: usize) -> String {
    if cell.chars().count() <= room {
        return cell.to_owned();
    }
    let mut text: String = cell.chars().take(room.saturating_sub(1)).collect();
    text.push('…');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn lines_fit_at_every_usual_width() {
        for run in sample::runs() {
            for width in [80, 100, 132, 200] {
                for line in render(&run, width, false).lines() {
                    assert!(line.chars().count() <= width, "{width}: {line}");
                }
            }
        }
    }

    #[test]
    fn every_peer_and_workload_is_there_and_the_best_is_marked() {
        let run = sample::wan_poor();
        let text = render(&run, 80, false);
        for entry in &run.results {
            assert!(text.contains(&entry.workload) && text.contains(&entry.peer));
        }
        let lines: Vec<&str> = text
            .lines()
            .filter(|l| l.starts_with("seq-read-cold "))
            .collect();
        assert!(
            lines.iter().any(|line| line.contains("MB/s *")),
            "{lines:?}"
        );
        assert!(text.contains("(timed out at 37 %)"));
        assert!(text.contains("nfs is not available: this kernel has no NFS client"));
        assert!(text.contains("to have it: apt-get install nfs-common nfs-kernel-server"));
        assert!(text.contains("raw QUIC") && text.contains("queue 610 KiB"));
    }

    #[test]
    fn colour_is_only_added() {
        let run = sample::wan_poor();
        let bare = render(&run, 100, false);
        assert!(!bare.contains('\u{1b}'));
        let mut painted = render(&run, 100, true);
        for code in ["1", "1;32", "31", "0"] {
            painted = painted.replace(&format!("\u{1b}[{code}m"), "");
        }
        assert_eq!(painted, bare);
    }

    #[test]
    fn nothing_from_elsewhere_commands_the_terminal() {
        let mut run = sample::wan_poor();
        let hostile = "\u{1b}]0;x\u{7}\u{202e}a\r\nb".to_owned();
        run.profile.clone_from(&hostile);
        run.warnings = vec![hostile.clone()];
        run.environment.cpu.clone_from(&hostile);
        run.results[0].peer.clone_from(&hostile);
        run.results[1].workload.clone_from(&hostile);
        run.peers[5].reason = Some(hostile.clone());
        run.peers[5].install = Some(hostile);
        let text = render(&run, 100, false);
        assert!(!text.contains(['\u{1b}', '\u{7}', '\r', '\u{202e}']));
    }

    #[test]
    fn an_empty_run_and_a_long_name_do_no_harm() {
        let mut run = sample::wan_poor();
        run.results.truncate(1);
        run.results[0].peer = "x".repeat(500);
        assert!(
            render(&run, 80, false)
                .lines()
                .all(|line| line.chars().count() <= 80)
        );
        run.results.clear();
        run.peers.clear();
        run.raw.clear();
        assert!(render(&run, 0, false).contains("Profile wan-poor"));
    }
}
