//! A run in words: where Wormhole is ahead of the others, where it is behind, where it is level.
//!
//! Both are said in the same way. "Level" is what cannot be told from chance, by the rule of
//! [`slowdown`](crate::compare::slowdown), or is less than a twentieth.

use super::table::{find, slowness};
use super::{LIMIT, SUBJECT, figure};
use crate::compare::slowdown::Slowdown;
use crate::record::{Entry, Run, State};
use crate::workload::WORKLOADS;

/// A difference below this is of no interest to anybody.
const LEVEL: f64 = 1.05;

/// How Wormhole stands at one workload against the best of the others.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// The workload.
    pub workload: String,
    /// Which of both is ahead.
    pub place: Place,
    /// How many times as slow the one behind is; none if it did not finish.
    pub times: Option<f64>,
    /// In words.
    pub words: String,
}

/// Ahead, level or behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Wormhole is faster than every other.
    Ahead,
    /// No difference worth the word.
    Level,
    /// Somebody is faster than Wormhole.
    Behind,
}

/// Wormhole's standing at each workload where there is another to compare with, widest gap first.
pub fn standings(run: &Run) -> Vec<Standing> {
    let mut found: Vec<Standing> = WORKLOADS
        .iter()
        .filter_map(|workload| standing(run, workload.name))
        .collect();
    let gap = |standing: &Standing| standing.times.unwrap_or(f64::INFINITY);
    found.sort_by(|a, b| gap(b).total_cmp(&gap(a)));
    found
}

fn standing(run: &Run, workload: &str) -> Option<Standing> {
    let ours = find(run, SUBJECT, workload)?;
    let best = best_other(run, workload);
    match (finished(ours), best) {
        (true, Some(other)) => Some(against(ours, other)),
        (true, None) => alone(run, ours),
        (false, Some(other)) => Some(unfinished(ours, other)),
        (false, None) => None,
    }
}

fn finished(entry: &Entry) -> bool {
    entry.state == State::Ok && entry.p50.is_some()
}

fn others<'a>(run: &'a Run, workload: &'a str) -> impl Iterator<Item = &'a Entry> {
    run.results.iter().filter(move |entry| {
        entry.workload == workload && entry.peer != SUBJECT && entry.peer != LIMIT
    })
}

fn best_other<'a>(run: &'a Run, workload: &'a str) -> Option<&'a Entry> {
    others(run, workload)
        .filter(|entry| finished(entry))
        .min_by(|a, b| cost(a).total_cmp(&cost(b)))
}

/// More is worse.
fn cost(entry: &Entry) -> f64 {
    let p50 = entry.p50.unwrap_or(f64::INFINITY);
    match entry.better {
        crate::record::Better::Lower => p50,
        crate::record::Better::Higher => -p50,
    }
}

fn value(entry: &Entry) -> String {
    entry.p50.map_or_else(
        || "nothing".to_owned(),
        |p50| figure::quantity(p50, &entry.unit),
    )
}

fn against(ours: &Entry, other: &Entry) -> Standing {
    let sure = Slowdown::between(other, ours);
    let slow = ours
        .p50
        .zip(other.p50)
        .and_then(|(ours_p50, other_p50)| slowness(ours.better, ours_p50, other_p50));
    let place = match &sure {
        Some(sure) if sure.low > 1.0 && sure.estimate > LEVEL => Place::Behind,
        Some(sure) if sure.high < 1.0 && sure.estimate < 1.0 / LEVEL => Place::Ahead,
        Some(_) => Place::Level,
        None => by_median(ours, other),
    };
    let times = slow.map(|slow| slow.max(1.0 / slow));
    let both = format!("{} against {} of {}", value(ours), value(other), other.peer);
    let words = match (place, times) {
        (Place::Level, _) | (_, None) => format!("{}: {both}", ours.workload),
        (Place::Ahead, Some(times)) => {
            format!(
                "{}: {both}, {} as fast",
                ours.workload,
                figure::times(times)
            )
        }
        (Place::Behind, Some(times)) => {
            format!(
                "{}: {both}, {} as slow",
                ours.workload,
                figure::times(times)
            )
        }
    };
    Standing {
        workload: ours.workload.clone(),
        place,
        times: match place {
            Place::Level => Some(1.0),
            _ => times,
        },
        words,
    }
}

/// Without samples, as in a file somebody thinned.
fn by_median(ours: &Entry, other: &Entry) -> Place {
    match cost(ours).total_cmp(&cost(other)) {
        std::cmp::Ordering::Less => Place::Ahead,
        std::cmp::Ordering::Equal => Place::Level,
        std::cmp::Ordering::Greater => Place::Behind,
    }
}

/// The only one to finish, if there were others who tried.
fn alone(run: &Run, ours: &Entry) -> Option<Standing> {
    let tried = others(run, &ours.workload)
        .any(|entry| matches!(entry.state, State::Timeout | State::Failed));
    tried.then(|| Standing {
        workload: ours.workload.clone(),
        place: Place::Ahead,
        times: None,
        words: format!("{}: {}, and no other finished", ours.workload, value(ours)),
    })
}

fn unfinished(ours: &Entry, other: &Entry) -> Standing {
    let reason = match (&ours.reason, ours.state) {
        (Some(reason), _) => reason.clone(),
        (None, State::Timeout) => "it timed out".to_owned(),
        (None, State::Unavailable) => "it cannot".to_owned(),
        (None, _) => "it failed".to_owned(),
    };
    Standing {
        workload: ours.workload.clone(),
        place: Place::Behind,
        times: None,
        words: format!(
            "{}: no result ({reason}), against {} of {}",
            ours.workload,
            value(other),
            other.peer
        ),
    }
}

/// The first sentence: the sequential read, as a share of the link and against the best other.
pub fn headline(run: &Run) -> String {
    let place = format!("On {} ({})", run.profile, figure::link_asked(&run.link));
    let Some(ours) = find(run, SUBJECT, "seq-read-cold") else {
        return format!("{place} no cold sequential read of Wormhole was measured.");
    };
    if !finished(ours) {
        let reason = ours.reason.as_deref().unwrap_or("no reason known");
        return format!("{place} Wormhole did not finish its cold sequential read: {reason}.");
    }
    let share = ours.of_link_pct.map_or_else(String::new, |share| {
        format!(", {} of the link", figure::percent(share))
    });
    let rest = match standing(run, "seq-read-cold") {
        Some(standing) => compared(run, &standing),
        None => String::new(),
    };
    format!(
        "{place} Wormhole reads a file it never saw at {}{share}{rest}.",
        value(ours)
    )
}

fn compared(run: &Run, standing: &Standing) -> String {
    let Some(other) = best_other(run, "seq-read-cold") else {
        return "; no other peer finished".to_owned();
    };
    let name = format!("{} ({})", other.peer, value(other));
    let times = standing.times.map_or_else(String::new, figure::times);
    match standing.place {
        Place::Ahead => format!(": {times} as fast as the next best, {name}"),
        Place::Level => format!(", level with {name}"),
        Place::Behind => format!(": {times} as slow as the best, {name}"),
    }
}

/// `Ahead in 12 of 20 workloads, level in 3, behind in 5.`
pub fn tally(run: &Run) -> Option<String> {
    let standings = standings(run);
    let count = |place| standings.iter().filter(|s| s.place == place).count();
    (!standings.is_empty()).then(|| {
        format!(
            "Of {} workloads, Wormhole is ahead of every other peer in {}, level with the best in {}, behind in {}.",
            standings.len(),
            count(Place::Ahead),
            count(Place::Level),
            count(Place::Behind)
        )
    })
}

/// The summary as sentences.
pub fn lines(run: &Run) -> Vec<String> {
    let mut lines = vec![headline(run)];
    lines.extend(tally(run));
    let standings = standings(run);
    for (place, word) in [(Place::Ahead, "Ahead"), (Place::Behind, "Behind")] {
        let those = standings.iter().filter(|s| s.place == place);
        lines.extend(those.map(|standing| format!("{word} in {}", standing.words)));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn what_is_lost_is_said_as_loudly_as_what_is_won() {
        let run = sample::wan_poor();
        let standings = standings(&run);
        let places: Vec<(&str, Place)> = standings
            .iter()
            .map(|standing| (standing.workload.as_str(), standing.place))
            .collect();
        assert!(
            places.contains(&("seq-read-cold", Place::Ahead)),
            "{places:?}"
        );
        assert!(places.contains(&("first-byte-cold", Place::Ahead)));
        assert!(
            places.contains(&("seq-read-again", Place::Level)),
            "{places:?}"
        );
        assert!(places.contains(&("create-fsync", Place::Behind)));
        let lines = lines(&run).join("\n");
        for standing in standings.iter().filter(|s| s.place != Place::Level) {
            assert!(lines.contains(&standing.words), "{}", standing.words);
        }
    }

    #[test]
    fn a_slow_wormhole_is_called_slow() {
        let run = sample::again(&sample::wan_poor(), 1, 20.0, |entry| entry.peer == SUBJECT);
        let headline = headline(&run);
        assert!(
            headline.contains("as slow as the best, sshfs-tuned"),
            "{headline}"
        );
        let behind = standings(&run)
            .iter()
            .filter(|s| s.place == Place::Behind)
            .count();
        assert!(behind > 10, "{behind}");
    }

    #[test]
    fn who_does_not_finish_is_behind_and_who_alone_does_is_ahead() {
        let mut run = sample::wan_poor();
        for entry in run.results.iter_mut().filter(|e| e.workload == "walk-cold") {
            let finishes = entry.peer == SUBJECT;
            entry.state = if finishes { State::Ok } else { State::Timeout };
        }
        let found = standing(&run, "walk-cold").expect("a standing");
        assert_eq!((found.place, found.times), (Place::Ahead, None));
        for entry in run
            .results
            .iter_mut()
            .filter(|e| e.workload == "seq-read-cold")
        {
            let ours = entry.peer == SUBJECT;
            entry.state = if ours { State::Failed } else { State::Ok };
            entry.reason = Some("the mount hung".into());
        }
        assert!(headline(&run).contains("did not finish its cold sequential read: the mount hung"));
        assert_eq!(
            standing(&run, "seq-read-cold").expect("one").place,
            Place::Behind
        );
    }

    #[test]
    fn without_others_there_is_nothing_to_boast_of() {
        let mut run = sample::wan_poor();
        run.results
            .retain(|entry| entry.peer == SUBJECT || entry.peer == LIMIT);
        assert!(standings(&run).is_empty() && tally(&run).is_none());
        run.results.clear();
        assert!(headline(&run).contains("no cold sequential read of Wormhole"));
    }
}
