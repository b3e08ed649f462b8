//! Luck that can be repeated.
//!
//! SplitMix64 (Steele, Lea, Flood 2014): one addition, two multiplications, eight bytes of state, and
//! good by every common battery of tests. Written out here because published runs name their seed: no
//! update of a dependency may change what a seed means. Not for secrets.

use super::Direction;

/// A sequence of numbers that its seed decides.
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    /// Independent streams of one direction: for losses, for jitter.
    pub(super) fn streams(seed: u64, direction: Direction) -> [Self; 2] {
        let mut root = Self(seed);
        let forth = [Self(root.next()), Self(root.next())];
        let back = [Self(root.next()), Self(root.next())];
        match direction {
            Direction::Forth => forth,
            Direction::Back => back,
        }
    }

    #[inline]
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Evenly from nothing to `max`, both included. The unevenness of multiplying instead of dividing
    /// is below one in 2^64 / `max`.
    #[inline]
    pub(super) fn up_to(&mut self, max: u64) -> u64 {
        let scaled = u128::from(self.next()) * (u128::from(max) + 1);
        // The upper half of a product of less than 2^64 and at most 2^64.
        (scaled >> 64) as u64
    }

    /// Whether something of this chance happens.
    #[inline]
    pub(super) fn happens(&mut self, chance: Chance) -> bool {
        (self.next() >> 1) < chance.0
    }
}

/// How likely something is, in 2^63rds: never and always are exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chance(u64);

impl Chance {
    /// So many of a million; more than a million is always.
    pub(super) fn of_a_million(ppm: u32) -> Self {
        let of = u128::from(ppm.min(1_000_000)) << 63;
        #[expect(clippy::cast_possible_truncation, reason = "at most 2^63")]
        Self((of / 1_000_000) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_means_the_same_for_ever() {
        // The published vector of SplitMix64 for the seed 1234567.
        let mut random = Random(1_234_567);
        assert_eq!(
            [random.next(), random.next(), random.next()],
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423
            ]
        );
    }

    #[test]
    fn streams_differ() {
        let mut firsts: Vec<u64> = [Direction::Forth, Direction::Back]
            .into_iter()
            .flat_map(|direction| Random::streams(7, direction))
            .map(|mut stream| stream.next())
            .collect();
        firsts.sort_unstable();
        firsts.dedup();
        assert_eq!(firsts.len(), 4);
    }

    #[test]
    fn never_and_always_are_exact() {
        let mut random = Random(1);
        assert!((0..10_000).all(|_| !random.happens(Chance::of_a_million(0))));
        assert!((0..10_000).all(|_| random.happens(Chance::of_a_million(1_000_000))));
        assert_eq!(Chance::of_a_million(2_000_000), Chance(1 << 63));
        assert_eq!(Chance::of_a_million(500_000), Chance(1 << 62));
    }

    #[test]
    fn a_range_has_both_its_ends_and_is_even() {
        let mut random = Random(2);
        let mut seen = [0_u32; 5];
        for _ in 0..50_000 {
            seen[usize::try_from(random.up_to(4)).unwrap()] += 1;
        }
        assert!(seen.iter().all(|n| (9_700..10_300).contains(n)), "{seen:?}");
        assert_eq!(random.up_to(0), 0);
        assert!((0..100).any(|_| random.up_to(u64::MAX) > u64::MAX / 2));
    }
}
