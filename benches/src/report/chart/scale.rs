//! Where the lines of an axis go.

/// Round values from 0 to `high`, `count` of them at most.
pub(super) fn even(high: f64, count: usize) -> Vec<f64> {
    let count = f64::from(u8::try_from(count).unwrap_or(u8::MAX).max(1));
    if !high.is_normal() || high < 0.0 {
        return vec![0.0];
    }
    let decade = 10_f64.powf((high / count).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|step| step * decade)
        .find(|step| high / step <= count)
        .unwrap_or(high);
    let mut ticks = Vec::new();
    let mut at = 0.0;
    // Bounded by `count`, whatever rounding does.
    while at <= high * 1.000_001 && ticks.len() < 64 {
        ticks.push(at);
        at += step;
    }
    ticks
}

/// Round values between two positive ones, for a logarithmic axis, `count` of them at most.
pub(super) fn decades(low: f64, high: f64, count: usize) -> Vec<f64> {
    let mut best = Vec::new();
    for steps in [&[1.0, 2.0, 5.0][..], &[1.0, 3.0][..], &[1.0][..]] {
        best = powers(low, high, steps);
        if best.len() <= count {
            return best;
        }
    }
    let every = best.len().div_ceil(count.max(1));
    best.into_iter().step_by(every).collect()
}

fn powers(low: f64, high: f64, steps: &[f64]) -> Vec<f64> {
    let mut found = Vec::new();
    for decade in -12..=12 {
        for step in steps {
            let value = step * 10_f64.powi(decade);
            if value >= low && value <= high {
                found.push(value);
            }
        }
    }
    found
}
