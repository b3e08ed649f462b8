//! How many times as slow, and how sure that is.
//!
//! The slowdown is the ratio of the medians, turned so that more than 1 is worse. Its interval is
//! found by the percentile bootstrap (Efron and Tibshirani, *An Introduction to the Bootstrap*, 1993,
//! chapter 13): both sides are drawn again from their own samples, with replacement, and the middle
//! 99 % of the ratios are the interval. The generator is seeded from the samples, so the same files give the
//! same answer.
//!
//! The bootstrap knows nothing of what moves a whole run (another guest on the machine, another
//! placement in memory), so the interval is widened by [`DRIFT`] on both sides.
//!
//! With fewer than [`FEW`] samples on a side there is nothing to draw from. Then the interval reaches
//! from the best now against the worst then, to the worst now against the best then; and if a side has
//! but one sample, which shows no spread at all, by [`ALONE`] farther on both sides.
//!
//! Tiny numbers are not trusted: each unit has a grain that is added to both sides ([`grain`]), so that
//! nothing doubles from 2 to 4 µs, and 1 late frame is not infinitely many times none.

use crate::record::{Better, Entry};

/// How far two runs of the same program may be apart as a whole.
pub const DRIFT: f64 = 1.05;
/// Fewer samples than this cannot be drawn from.
pub const FEW: usize = 3;
/// How far a single sample may be from the median of many.
pub const ALONE: f64 = 1.15;
/// Times both sides are drawn again.
const DRAWS: usize = 1000;
/// More samples are thinned to this many, evenly by rank; that widens the interval.
const SAMPLES_MAX: usize = 101;
/// Left out of the interval on each side, of a thousand draws: 99 % are in it.
const TAIL: usize = 5;
/// Where seeds begin; any number will do, as long as it stays.
const SEED: u64 = 0x776f_726d_686f_6c65;

/// A slowdown: more than 1 is worse.
#[derive(Debug, Clone, PartialEq)]
pub struct Slowdown {
    /// The ratio of the medians.
    pub estimate: f64,
    /// It is hardly less.
    pub low: f64,
    /// It is hardly more.
    pub high: f64,
    /// Logarithms of what was drawn, for means over several.
    pub(crate) draws: Vec<f64>,
}

impl Slowdown {
    /// From `old` to `new`, whose unit is the same; none without samples.
    pub fn between(old: &Entry, new: &Entry) -> Option<Self> {
        let old_costs = costs(old)?;
        let new_costs = costs(new)?;
        Some(if old_costs.len().min(new_costs.len()) < FEW {
            of_few(&old_costs, &new_costs)
        } else {
            of_many(&old_costs, &new_costs)
        })
    }

    /// The geometric mean of several.
    pub fn mean(of: &[&Self]) -> Option<Self> {
        if of.is_empty() {
            return None;
        }
        let count = count(of.len());
        let mean = |value: &dyn Fn(&Self) -> f64| of.iter().map(|s| value(s)).sum::<f64>() / count;
        let draws: Vec<f64> = (0..DRAWS).map(|at| mean(&|s| s.draws[at])).collect();
        let estimate = mean(&|s| s.estimate.ln()).exp();
        Some(Self::from_draws(estimate, draws))
    }

    /// The same if the machine as a whole became `times` as slow.
    #[must_use]
    pub fn relieved(&self, times: f64) -> Self {
        Self {
            estimate: self.estimate / times,
            low: self.low / times,
            high: self.high / times,
            draws: self.draws.iter().map(|draw| draw - times.ln()).collect(),
        }
    }

    fn from_draws(estimate: f64, draws: Vec<f64>) -> Self {
        let mut sorted = draws.clone();
        sorted.sort_by(f64::total_cmp);
        Self {
            estimate,
            low: sorted[TAIL].exp().min(estimate) / DRIFT,
            high: sorted[DRAWS - 1 - TAIL].exp().max(estimate) * DRIFT,
            draws,
        }
    }
}

/// Below this a number of this unit means little.
fn grain(unit: &str) -> f64 {
    match unit {
        // A wake-up of a sleeping thread on a busy machine.
        "ms" => 0.05,
        // A second of film.
        "frames" => 24.0,
        _ => 0.0,
    }
}

/// Samples as costs: more is worse, none is zero; sorted, thinned.
fn costs(entry: &Entry) -> Option<Vec<f64>> {
    let grain = grain(&entry.unit);
    let mut costs: Vec<f64> = entry
        .samples
        .iter()
        .map(|sample| match entry.better {
            Better::Lower => sample + grain,
            Better::Higher => 1.0 / sample,
        })
        // A rate of zero, and a time of less, say nothing.
        .filter(|cost| cost.is_finite() && *cost > 0.0)
        .collect();
    if costs.is_empty() {
        return None;
    }
    costs.sort_by(f64::total_cmp);
    Some(thinned(costs))
}

fn thinned(sorted: Vec<f64>) -> Vec<f64> {
    if sorted.len() <= SAMPLES_MAX {
        return sorted;
    }
    let last = sorted.len() - 1;
    (0..SAMPLES_MAX)
        .map(|at| sorted[at * last / (SAMPLES_MAX - 1)])
        .collect()
}

fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        sorted[middle]
    } else {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    }
}

fn of_few(old: &[f64], new: &[f64]) -> Slowdown {
    let alone = if old.len().min(new.len()) == 1 {
        ALONE
    } else {
        1.0
    };
    let estimate = median(new) / median(old);
    // A mean over several must not take a single sample at its word.
    let towards_one = if estimate > 1.0 {
        (estimate / alone).max(1.0)
    } else {
        (estimate * alone).min(1.0)
    };
    Slowdown {
        estimate,
        low: new[0] / old[old.len() - 1] / alone,
        high: new[new.len() - 1] / old[0] * alone,
        draws: vec![towards_one.ln(); DRAWS],
    }
}

fn of_many(old: &[f64], new: &[f64]) -> Slowdown {
    let mut dice = Dice(seed(old, new));
    let mut scratch = Vec::new();
    let draws = (0..DRAWS)
        .map(|_| {
            let then = dice.median_of(old, &mut scratch);
            let now = dice.median_of(new, &mut scratch);
            (now / then).ln()
        })
        .collect();
    Slowdown::from_draws(median(new) / median(old), draws)
}

/// Follows from the samples: the draws of two rows must be independent, or a mean over many rows would
/// be no surer than one.
fn seed(old: &[f64], new: &[f64]) -> u64 {
    let mix = |seed: u64, sample: &f64| Dice(seed ^ sample.to_bits()).next();
    old.iter().chain(new).fold(SEED, mix)
}

#[expect(clippy::cast_precision_loss, reason = "a number of rows")]
fn count(rows: usize) -> f64 {
    rows as f64
}

/// splitmix64 (Steele, Lea, Flood, OOPSLA 2014): small, and good enough to draw lots with.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `bound`, which is small.
    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap_or(0)
    }

    /// The median of as many as there are, drawn with replacement. `sorted` is, so it is enough to sort
    /// places.
    fn median_of(&mut self, sorted: &[f64], places: &mut Vec<usize>) -> f64 {
        places.clear();
        places.extend((0..sorted.len()).map(|_| self.below(sorted.len())));
        places.sort_unstable();
        let middle = places.len() / 2;
        if places.len() % 2 == 1 {
            sorted[places[middle]]
        } else {
            f64::midpoint(sorted[places[middle - 1]], sorted[places[middle]])
        }
    }
}
