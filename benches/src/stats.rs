//! Percentiles, and the rows they stand in.
//!
//! By nearest rank: a percentile is always a sample that was taken, never something between two. They
//! look to the worse side ([`Entry`]): ranks count from the best sample.

use crate::record::{Better, Entry, State};
use crate::workload::Workload;

/// The percentiles of some samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// What half of the samples reach.
    pub p50: f64,
    /// What 95 % of the samples reach.
    pub p95: f64,
    /// What 99 % of the samples reach.
    pub p99: f64,
    /// The worst.
    pub max: f64,
}

impl Spread {
    /// Of at least one sample, none of them NaN.
    pub fn of(samples: &[f64], better: Better) -> Option<Self> {
        let sorted = best_first(samples, better);
        let worst = *sorted.last()?;
        Some(Self {
            p50: ranked(&sorted, 50)?,
            p95: ranked(&sorted, 95)?,
            p99: ranked(&sorted, 99)?,
            max: worst,
        })
    }
}

/// The middle one, or the mean of the two in the middle.
pub fn median(samples: &[f64]) -> Option<f64> {
    let sorted = best_first(samples, Better::Lower);
    let upper = *sorted.get(sorted.len() / 2)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = *sorted.get(sorted.len() / 2 - 1)?;
    Some(f64::midpoint(lower, upper))
}

/// A row of these samples; what a link, costs or a timeline add is left out.
pub fn entry(
    peer: &str,
    workload: &Workload,
    samples: Vec<f64>,
    state: State,
    reason: Option<String>,
) -> Entry {
    let spread = Spread::of(&samples, workload.better);
    Entry {
        peer: peer.to_owned(),
        workload: workload.name.to_owned(),
        unit: workload.unit.to_owned(),
        better: workload.better,
        samples,
        p50: spread.map(|s| s.p50),
        p95: spread.map(|s| s.p95),
        p99: spread.map(|s| s.p99),
        max: spread.map(|s| s.max),
        state,
        reason,
        of_link_pct: None,
        cost: None,
        timeline: Vec::new(),
    }
}

fn best_first(samples: &[f64], better: Better) -> Vec<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    if better == Better::Higher {
        sorted.reverse();
    }
    sorted
}

/// The sample that `percent` of all are as good as or better than.
fn ranked(sorted: &[f64], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples_by_rank_on_the_worse_side() {
        let hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        let times = Spread::of(&hundred, Better::Lower).expect("samples");
        assert_eq!(
            times,
            Spread {
                p50: 50.0,
                p95: 95.0,
                p99: 99.0,
                max: 100.0
            }
        );
        let rates = Spread::of(&hundred, Better::Higher).expect("samples");
        assert_eq!(
            rates,
            Spread {
                p50: 51.0,
                p95: 6.0,
                p99: 2.0,
                max: 1.0
            }
        );
    }

    #[test]
    fn few_samples_have_percentiles_too() {
        for better in [Better::Lower, Better::Higher] {
            assert_eq!(Spread::of(&[], better), None);
            let one = Spread::of(&[7.0], better).expect("a sample");
            assert_eq!([one.p50, one.p95, one.p99, one.max], [7.0; 4]);
        }
        let ten: Vec<f64> = (1..=10).map(f64::from).collect();
        let spread = Spread::of(&ten, Better::Lower).expect("samples");
        assert_eq!([spread.p50, spread.p95, spread.max], [5.0, 10.0, 10.0]);
        let three = Spread::of(&[3.0, 1.0, 2.0], Better::Higher).expect("samples");
        assert_eq!([three.p50, three.p95, three.max], [2.0, 1.0, 1.0]);
    }

    #[test]
    fn a_median_is_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[4.0]), Some(4.0));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 9.0, 2.0]), Some(3.0));
    }

    #[test]
    fn a_row_without_samples_has_no_percentiles() {
        let workload = &crate::workload::WORKLOADS[0];
        let row = entry("nfs", workload, Vec::new(), State::Unavailable, None);
        assert_eq!(
            (row.p50, row.p95, row.p99, row.max),
            (None, None, None, None)
        );
        let row = entry("nfs", workload, vec![2.0, 1.0], State::Ok, None);
        assert_eq!((row.p50, row.max), (Some(1.0), Some(2.0)));
        assert_eq!(row.samples, [2.0, 1.0], "in the order taken");
    }
}
