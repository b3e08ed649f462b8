//! What has been measured so far: a row for each peer and workload, over all rounds.

use crate::record::{Cost, Entry, State};
use crate::stats;
use crate::usage::Spent;
use crate::workload::{Family, Outcome, Workload};

/// The rows.
pub(super) struct Ledger {
    families: Vec<Family>,
    link_mbit: f64,
    rows: Vec<Row>,
}

struct Row {
    peer: String,
    workload: &'static Workload,
    samples: Vec<f64>,
    timeline: Vec<(f64, f64)>,
    state: State,
    reason: Option<String>,
    cost: Option<Cost>,
}

impl Ledger {
    pub(super) fn new(families: &[Family], link_mbit: f64) -> Self {
        Self {
            families: families.to_vec(),
            link_mbit,
            rows: Vec::new(),
        }
    }

    /// `peer` cannot run at all.
    pub(super) fn unavailable(&mut self, peer: &str, reason: &str) {
        for family in self.families.clone() {
            self.family(peer, family, State::Unavailable, reason);
        }
    }

    /// What `family` is at `peer`, all of it.
    pub(super) fn family(&mut self, peer: &str, family: Family, state: State, reason: &str) {
        for workload in family.workloads() {
            self.add(
                peer,
                Outcome {
                    workload,
                    samples: Vec::new(),
                    timeline: Vec::new(),
                    state,
                    reason: Some(reason.to_owned()),
                },
            );
        }
    }

    /// What came of one workload in one round.
    pub(super) fn add(&mut self, peer: &str, outcome: Outcome) {
        let row = self.row(peer, outcome.workload);
        row.samples.extend(outcome.samples);
        if row.timeline.is_empty() {
            row.timeline = outcome.timeline;
        }
        if severity(outcome.state) > severity(row.state) {
            row.state = outcome.state;
            row.reason = outcome.reason;
        }
    }

    /// What `family` cost `peer` in one round: the client's share and the server's. The workloads of a
    /// family run in one go, so each of its rows carries the cost of all.
    pub(super) fn cost(&mut self, peer: &str, family: Family, client: Spent, server: Spent) {
        for workload in family.workloads() {
            let cost = self.row(peer, workload).cost.get_or_insert_default();
            cost.client_cpu_s += client.cpu_s;
            cost.server_cpu_s += server.cpu_s;
            cost.client_peak_bytes = cost.client_peak_bytes.max(client.peak_bytes);
            cost.server_peak_bytes = cost.server_peak_bytes.max(server.peak_bytes);
        }
    }

    fn row(&mut self, peer: &str, workload: &'static Workload) -> &mut Row {
        let at = self
            .rows
            .iter()
            .position(|row| row.peer == peer && row.workload.name == workload.name);
        let at = at.unwrap_or_else(|| {
            self.rows.push(Row {
                peer: peer.to_owned(),
                workload,
                samples: Vec::new(),
                timeline: Vec::new(),
                state: State::Ok,
                reason: None,
                cost: None,
            });
            self.rows.len() - 1
        });
        &mut self.rows[at]
    }

    /// The results of a report.
    pub(super) fn entries(self) -> Vec<Entry> {
        let link_mbit = self.link_mbit;
        self.rows
            .into_iter()
            .map(|row| {
                let mut entry =
                    stats::entry(&row.peer, row.workload, row.samples, row.state, row.reason);
                if entry.unit == "MB/s" {
                    entry.of_link_pct = entry.p50.map(|mb| mb * 8.0 * 100.0 / link_mbit);
                }
                entry.cost = row.cost;
                entry.timeline = row.timeline;
                entry
            })
            .collect()
    }
}

/// The worst of all rounds is what a row says.
fn severity(state: State) -> u8 {
    match state {
        State::Ok => 0,
        State::Unavailable => 1,
        State::Timeout => 2,
        State::Failed => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(samples: &[f64], state: State) -> Outcome {
        Outcome {
            workload: Family::SeqRead.workloads().next().expect("a workload"),
            samples: samples.to_vec(),
            timeline: vec![(1.0, samples.first().copied().unwrap_or(0.0))],
            state,
            reason: (state != State::Ok).then(|| format!("{state:?}")),
        }
    }

    #[test]
    fn rounds_add_up_and_the_worst_state_stays() {
        let mut ledger = Ledger::new(&[Family::SeqRead], 80.0);
        ledger.add("a", outcome(&[8.0], State::Ok));
        ledger.add("a", outcome(&[2.0], State::Timeout));
        ledger.add("a", outcome(&[9.0], State::Ok));
        let spent = |cpu_s, peak_bytes| Spent { cpu_s, peak_bytes };
        ledger.cost("a", Family::SeqRead, spent(1.0, 5), spent(0.5, 7));
        ledger.cost("a", Family::SeqRead, spent(1.0, 3), spent(0.5, 9));
        ledger.unavailable("b", "not here");
        let entries = ledger.entries();
        let a = &entries[0];
        assert_eq!(a.samples, [8.0, 2.0, 9.0]);
        assert_eq!((a.p50, a.max), (Some(8.0), Some(2.0)));
        assert_eq!(a.of_link_pct, Some(80.0));
        assert_eq!(
            (a.state, a.reason.as_deref()),
            (State::Timeout, Some("Timeout"))
        );
        assert_eq!(a.timeline, [(1.0, 8.0)]);
        let cost = a.cost.expect("its cost");
        assert_eq!((cost.client_cpu_s, cost.server_cpu_s), (2.0, 1.0));
        assert_eq!((cost.client_peak_bytes, cost.server_peak_bytes), (5, 9));
        let b: Vec<_> = entries.iter().filter(|entry| entry.peer == "b").collect();
        assert_eq!(b.len(), Family::SeqRead.workloads().count());
        assert!(
            b.iter()
                .all(|entry| entry.state == State::Unavailable && entry.p50.is_none())
        );
    }
}
