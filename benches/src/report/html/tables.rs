//! The tables of a run: results, costs, peers, the link, the machine.

use super::super::figure;
use super::super::table::{Cell, Table, mishaps};
use super::escaped;
use crate::record::{PeerInfo, Run, State};
use std::fmt::Write;

pub(super) fn write(page: &mut String, run: &Run) {
    let table = Table::new(run);
    page.push_str("<h3>All results</h3>\n");
    results(page, run, &table);
    troubles(page, run);
    costs(page, run, &table);
    page.push_str("<h3>Who was measured</h3>\n");
    peers(page, run);
    page.push_str("<h3>Link and machine</h3>\n");
    facts(page, run);
    page.push_str("<h3>Measure it again</h3>\n");
    let command: Vec<String> = run.command.iter().map(|word| quoted(word)).collect();
    let _ = writeln!(
        page,
        "<pre><code>{}</code></pre>",
        escaped(&command.join(" "))
    );
}

/// A word as a shell would take it.
fn quoted(word: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./,:=%+@".contains(&b);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

fn open(page: &mut String, label: &str, caption: &str, columns: &[&str]) {
    let _ = write!(
        page,
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{}\"><table class=\"grid\"><caption>{}</caption><thead><tr><th scope=\"col\">Workload</th>",
        escaped(label),
        escaped(caption)
    );
    for column in columns {
        let _ = write!(page, "<th scope=\"col\">{}</th>", escaped(column));
    }
    page.push_str("</tr></thead><tbody>\n");
}

fn results(page: &mut String, run: &Run, table: &Table<'_>) {
    let caption = "Medians. ★ best of its row; 2.00x: twice as slow as the best; p95: 95 % of the \
                   operations were no slower. “local”, the bare file system, is the limit and does not compete.";
    open(
        page,
        &format!("Results on {}", run.profile),
        caption,
        &table.peers,
    );
    for row in &table.rows {
        let _ = write!(page, "<tr><th scope=\"row\">{}</th>", escaped(row.workload));
        for cell in &row.cells {
            result(page, cell.as_ref());
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</tbody></table></div>\n");
}

fn result(page: &mut String, cell: Option<&Cell<'_>>) {
    let Some(cell) = cell else {
        page.push_str("<td>–</td>");
        return;
    };
    let class = match cell.entry.state {
        State::Timeout | State::Failed => " class=\"mishap\"",
        _ if cell.best => " class=\"best\"",
        _ => "",
    };
    let value = cell.value().unwrap_or_else(|| "–".to_owned());
    let _ = write!(
        page,
        "<td{class}><span class=\"value\">{}</span>",
        escaped(&value)
    );
    if cell.best {
        page.push_str(" <span aria-label=\"best\">★</span>");
    } else if let Some(ratio) = cell.ratio {
        let _ = write!(
            page,
            " <span class=\"faint\">{}</span>",
            figure::times(ratio)
        );
    }
    let share = cell
        .entry
        .of_link_pct
        .filter(|share| *share <= 120.0)
        .map(|share| format!("{} of link", figure::percent(share)));
    let p95 = cell.p95().map(|p95| format!("p95 {p95}"));
    let small: Vec<String> = [cell.remark(), p95, share].into_iter().flatten().collect();
    if !small.is_empty() {
        let _ = write!(page, "<small>{}</small>", escaped(&small.join(", ")));
    }
    page.push_str("</td>");
}

fn troubles(page: &mut String, run: &Run) {
    let troubles = mishaps(run);
    if troubles.is_empty() {
        return;
    }
    page.push_str("<h3>What did not go well</h3>\n<ul>\n");
    for (peer, workload, reason) in troubles {
        let _ = writeln!(
            page,
            "<li><strong>{}</strong>, {}: {}</li>",
            escaped(peer),
            escaped(&workload),
            escaped(&reason)
        );
    }
    page.push_str("</ul>\n");
}

fn costs(page: &mut String, run: &Run, table: &Table<'_>) {
    if !run.results.iter().any(|entry| entry.cost.is_some()) {
        return;
    }
    page.push_str("<h3>What it cost</h3>\n");
    let caption = "Processor seconds and peak memory over all rounds: client + server. What the kernel \
                   does in threads of its own (NFS) is not in it.";
    open(
        page,
        &format!("Costs on {}", run.profile),
        caption,
        &table.peers,
    );
    for row in &table.rows {
        let _ = write!(page, "<tr><th scope=\"row\">{}</th>", escaped(row.workload));
        for cell in &row.cells {
            match cell.as_ref().and_then(|cell| cell.entry.cost) {
                Some(cost) => {
                    let _ = write!(
                        page,
                        "<td>{} + {} s<small>{} + {}</small></td>",
                        figure::number(cost.client_cpu_s),
                        figure::number(cost.server_cpu_s),
                        figure::bytes(cost.client_peak_bytes),
                        figure::bytes(cost.server_peak_bytes)
                    );
                }
                None => page.push_str("<td>–</td>"),
            }
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</tbody></table></div>\n");
}

fn peers(page: &mut String, run: &Run) {
    let _ = writeln!(
        page,
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{}\"><table><thead><tr><th scope=\"col\">Peer</th><th scope=\"col\">Version</th><th scope=\"col\">Settings</th><th scope=\"col\">What is safe when</th></tr></thead><tbody>",
        escaped(&format!("Peers on {}", run.profile))
    );
    for peer in &run.peers {
        let _ = write!(page, "<tr><th scope=\"row\">{}</th>", escaped(&peer.name));
        if peer.available {
            measured(page, peer);
        } else {
            absent(page, peer);
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</tbody></table></div>\n");
}

fn measured(page: &mut String, peer: &PeerInfo) {
    let settings = match peer.settings.as_slice() {
        [] => "as it comes".to_owned(),
        settings => settings.join(", "),
    };
    for text in [&peer.version, &settings, &peer.durability] {
        let _ = write!(page, "<td>{}</td>", escaped(text));
    }
}

fn absent(page: &mut String, peer: &PeerInfo) {
    let reason = peer.reason.as_deref().unwrap_or("no reason known");
    let _ = write!(page, "<td colspan=\"3\">Not measured: {}", escaped(reason));
    if let Some(install) = &peer.install {
        let _ = write!(
            page,
            "<small>To have it: <code>{}</code></small>",
            escaped(install)
        );
    }
    page.push_str("</td>");
}

fn facts(page: &mut String, run: &Run) {
    let (link, place) = (&run.link, &run.environment);
    let each = |pair: [f64; 2]| {
        format!(
            "{} and {}",
            figure::number(pair[0]),
            figure::number(pair[1])
        )
    };
    let mut rows = vec![
        ("Asked for".to_owned(), figure::link_asked(link)),
        ("Self-test measured".to_owned(), figure::link_measured(link)),
        (
            "Towards host and mount".to_owned(),
            format!(
                "{} Mbit/s, {} % loss",
                each(link.rate_each_mbit),
                each(link.loss_each_pct)
            ),
        ),
        ("Emulated by".to_owned(), figure::emulation(link)),
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
    let drops = if place.drops_page_cache {
        "dropped"
    } else {
        "could not be dropped"
    };
    rows.extend([
        (
            "Machine".to_owned(),
            format!(
                "{}, {} cores, {}",
                place.cpu,
                place.cores,
                figure::bytes(place.memory_bytes)
            ),
        ),
        (
            "System".to_owned(),
            format!(
                "Linux {}, {}, page cache {drops}, load {}",
                place.kernel,
                place.file_system,
                figure::number(place.load)
            ),
        ),
        (
            "Run".to_owned(),
            format!(
                "{}, {:?}, {} rounds, {:?} data, seed {}, took {}",
                run.started,
                run.mode,
                run.rounds,
                run.data,
                run.seed,
                figure::span(run.seconds)
            ),
        ),
    ]);
    page.push_str("<dl>\n");
    for (name, fact) in rows {
        let _ = writeln!(
            page,
            "<dt>{}</dt><dd>{}</dd>",
            escaped(&name),
            escaped(&fact)
        );
    }
    page.push_str("</dl>\n");
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn commands_can_be_pasted() {
        assert_eq!(quoted("--profile=wan-poor"), "--profile=wan-poor");
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's"), "'it'\\''s'");
        assert_eq!(quoted(""), "''");
    }
}
