//! The report as one page: nothing is loaded, nothing is executed, everything is in it.
//!
//! What a person wants comes first: where Wormhole is ahead and where it is behind, in equal boxes.
//! Then pictures, tables, and what it takes to believe and to repeat them.
//!
//! Invariants
//! - Every text that is not written here goes through [`escaped`].
//! - The page names no address: a policy in its head forbids loading, should something slip through.

mod method;
mod pictures;
mod tables;

use super::summary::{self, Place, Standing};
use super::table::Table;
use super::{LIMIT, SUBJECT, figure, style};
use crate::record::Run;
use std::fmt::Write;

/// The page of `runs`.
pub fn render(runs: &[Run]) -> String {
    let mut page = head(runs);
    for (number, run) in runs.iter().enumerate() {
        section(&mut page, run, number, &peers(runs));
    }
    method::write(&mut page, runs);
    page.push_str("</main>\n</body>\n</html>\n");
    page
}

/// `text` for any place in a page: content or attribute.
pub(super) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            // Neither controls nor what turns the direction of writing has business here.
            c if c.is_control() && c != '\n' => safe.push('\u{fffd}'),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}

/// All peers of all runs, so that each has one colour on the page.
fn peers(runs: &[Run]) -> Vec<String> {
    let mut names: Vec<String> = vec![SUBJECT.to_owned()];
    for name in runs.iter().flat_map(|run| Table::new(run).peers) {
        if !names.iter().any(|known| known == name) && name != LIMIT {
            names.push(name.to_owned());
        }
    }
    names
}

fn head(runs: &[Run]) -> String {
    let profiles: Vec<&str> = runs.iter().map(|run| run.profile.as_str()).collect();
    let title = escaped(&format!("Wormhole benchmark: {}", profiles.join(", ")));
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>{title}</title>\n<style>{}</style>\n</head>\n<body>\n<header>\n<h1>How Wormhole fares</h1>\n",
        style::sheet()
    );
    if let Some(run) = runs.first() {
        let _ = writeln!(
            page,
            "<p class=\"faint\">Wormhole {} beside {}, on the very same link. Measured {}.</p>",
            escaped(&run.environment.wormhole),
            escaped(&others(runs)),
            escaped(&run.started)
        );
    }
    if runs.len() > 1 {
        page.push_str("<nav aria-label=\"Profiles\"><ul>\n");
        for (number, run) in runs.iter().enumerate() {
            let name = escaped(&run.profile);
            let link = escaped(&figure::link_asked(&run.link));
            let _ = writeln!(
                page,
                "<li><a href=\"#run{number}\">{name}</a> <span class=\"faint\">{link}</span></li>"
            );
        }
        page.push_str("</ul></nav>\n");
    }
    page.push_str("</header>\n<main>\n");
    page
}

fn others(runs: &[Run]) -> String {
    let names: Vec<String> = peers(runs).into_iter().skip(1).collect();
    match names.split_last() {
        None => "no other peer".to_owned(),
        Some((only, [])) => only.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    }
}

fn section(page: &mut String, run: &Run, number: usize, peers: &[String]) {
    let _ = writeln!(
        page,
        "<section class=\"run\" id=\"run{number}\" aria-labelledby=\"run{number}h\">\n\
         <h2 id=\"run{number}h\">{}</h2>\n<p class=\"faint\">{}</p>\n<p class=\"lead\">{}</p>",
        escaped(&run.profile),
        escaped(&figure::link_asked(&run.link)),
        escaped(&summary::headline(run))
    );
    if let Some(tally) = summary::tally(run) {
        let _ = writeln!(page, "<p>{}</p>", escaped(&tally));
    }
    warnings(page, run);
    sides(page, run);
    pictures::write(page, run, peers);
    tables::write(page, run);
    page.push_str("</section>\n");
}

fn warnings(page: &mut String, run: &Run) {
    if run.warnings.is_empty() {
        return;
    }
    page.push_str("<ul class=\"warnings\" aria-label=\"Warnings\">\n");
    for warning in &run.warnings {
        let _ = writeln!(
            page,
            "<li><strong>Warning:</strong> {}</li>",
            escaped(warning)
        );
    }
    page.push_str("</ul>\n");
}

/// Where Wormhole is ahead and where it is behind, side by side.
fn sides(page: &mut String, run: &Run) {
    let standings = summary::standings(run);
    if standings.is_empty() {
        return;
    }
    page.push_str("<div class=\"sides\">\n");
    side(
        page,
        "ahead",
        "▲ Wormhole is ahead",
        &standings,
        Place::Ahead,
    );
    side(
        page,
        "behind",
        "▼ Wormhole is behind",
        &standings,
        Place::Behind,
    );
    page.push_str("</div>\n");
    let level: Vec<&str> = standings
        .iter()
        .filter(|standing| standing.place == Place::Level)
        .map(|standing| standing.workload.as_str())
        .collect();
    if !level.is_empty() {
        let _ = writeln!(
            page,
            "<p class=\"note\" style=\"margin-top:.75rem\">Level, or too close to tell: {}.</p>",
            escaped(&level.join(", "))
        );
    }
}

fn side(page: &mut String, class: &str, title: &str, standings: &[Standing], place: Place) {
    let _ = writeln!(page, "<div class=\"side {class}\"><h4>{title}</h4>");
    let those: Vec<&Standing> = standings.iter().filter(|s| s.place == place).collect();
    if those.is_empty() {
        page.push_str("<p>Nowhere.</p></div>\n");
        return;
    }
    page.push_str("<ul>\n");
    for standing in those {
        let (name, rest) = standing
            .words
            .split_once(": ")
            .unwrap_or((&standing.workload, &standing.words));
        let _ = writeln!(
            page,
            "<li><strong>{}</strong>: {}</li>",
            escaped(name),
            escaped(rest)
        );
    }
    page.push_str("</ul></div>\n");
}

#[cfg(test)]
mod tests;
