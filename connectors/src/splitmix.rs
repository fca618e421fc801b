//! SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014): numbers that look random
//! and follow from a key alone, the same on every machine.

/// What the state of the generator grows by.
pub(crate) const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The generator's output function.
pub(crate) const fn finish(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// 64 bits, well mixed: the generator's first number from this state.
pub(crate) const fn mix(value: u64) -> u64 {
    finish(value.wrapping_add(STEP))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_reference() {
        // The first three from the state 1234567, as other implementations give them.
        let mut state = 1_234_567_u64;
        let mut next = || {
            let number = mix(state);
            state = state.wrapping_add(STEP);
            number
        };
        let numbers = [next(), next(), next()];
        assert_eq!(
            numbers,
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }
}
