//! How much of everything: enough to measure, or just enough to see that it works.
//!
//! Criterion runs each benchmark once, without measuring, unless `cargo bench` says `--bench` (and
//! nobody says `--test`). Then a gigabyte of test data would be a waste.

/// The size of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Each benchmark once, on little data.
    Smoke,
    /// A measurement.
    Full,
}

impl Scale {
    /// What criterion will do with the arguments of this process.
    pub fn of_this_run() -> Self {
        Self::of(std::env::args())
    }

    fn of(args: impl Iterator<Item = String>) -> Self {
        let (mut bench, mut test) = (false, false);
        for arg in args {
            bench |= arg == "--bench";
            test |= arg == "--test";
        }
        if bench && !test {
            Self::Full
        } else {
            Self::Smoke
        }
    }

    /// `full` when measuring, else `smoke`.
    pub fn pick<T>(self, full: T, smoke: T) -> T {
        match self {
            Self::Full => full,
            Self::Smoke => smoke,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Scale;

    #[test]
    fn only_cargo_bench_measures() {
        let of = |args: &[&str]| Scale::of(args.iter().map(|a| (*a).to_owned()));
        assert_eq!(of(&["latency", "--bench"]), Scale::Full);
        assert_eq!(of(&["latency", "cold", "--bench"]), Scale::Full);
        assert_eq!(of(&["latency"]), Scale::Smoke);
        assert_eq!(of(&["latency", "--bench", "--test"]), Scale::Smoke);
    }
}
