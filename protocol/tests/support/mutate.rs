//! Bytes a peer might send to do harm: random ones, and valid ones with something changed.

/// SplitMix64: a seeded stream of numbers, the same on every machine.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).expect("below a usize")
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}

/// Ways to write a length: as bincode's variable-length integers, right and overlong, and cut short.
pub(crate) fn lengths() -> Vec<Vec<u8>> {
    const LENGTHS: [u64; 9] = [
        0,
        1,
        255,
        1 << 16,
        (1 << 31) - 1,
        (1 << 32) - 1,
        1 << 63,
        (1 << 63) - 1,
        u64::MAX,
    ];
    let mut all = vec![
        vec![251],
        vec![252, 1],
        vec![253, 1, 2],
        vec![254],
        vec![255],
    ];
    for length in LENGTHS {
        let bytes = length.to_le_bytes();
        all.push([&[253], bytes.as_slice()].concat());
        all.push([&[254], bytes.as_slice(), &[0; 8]].concat());
        if let Ok(short) = u32::try_from(length) {
            all.push([&[252], short.to_le_bytes().as_slice()].concat());
        }
        if let Ok(short) = u16::try_from(length) {
            all.push([&[251], short.to_le_bytes().as_slice()].concat());
        }
        if let Ok(short @ 0..=250) = u8::try_from(length) {
            all.push(vec![short]);
        }
    }
    all
}

/// Case `random` of an endless series: purely random bytes, or one of `valid` with some damage.
pub(crate) fn hostile(random: &mut Random, valid: &[Vec<u8>], lengths: &[Vec<u8>]) -> Vec<u8> {
    if random.below(4) == 0 {
        let len = random.below(64);
        return (0..len).map(|_| random.byte()).collect();
    }
    let mut bytes = valid[random.below(valid.len())].clone();
    for _ in 0..=random.below(3) {
        damage(random, &mut bytes, valid, lengths);
    }
    bytes
}

fn damage(random: &mut Random, bytes: &mut Vec<u8>, valid: &[Vec<u8>], lengths: &[Vec<u8>]) {
    let at = random.below(bytes.len() + 1);
    match random.below(6) {
        0 => bytes.truncate(at),
        1 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
        2 if at < bytes.len() => bytes[at] = random.byte(),
        3 => {
            let length = lengths[random.below(lengths.len())].iter().copied();
            let end = (at + random.below(2)).min(bytes.len());
            bytes.splice(at..end, length);
        }
        4 => bytes.insert(at, random.byte()),
        _ => {
            let other = &valid[random.below(valid.len())];
            bytes.truncate(at);
            bytes.extend_from_slice(&other[random.below(other.len() + 1)..]);
        }
    }
}
