//! Samples of pictures as the numbers that models take.

/// From -1 (0) to 1 (255). What a model was trained on is what it must be given when it runs.
pub(crate) fn brightness(samples: &[u8]) -> impl Iterator<Item = f32> + '_ {
    samples.iter().map(|sample| f32::from(*sample) / 127.5 - 1.0)
}

#[cfg(test)]
mod tests {
    use super::brightness;

    #[test]
    fn samples_are_spread_around_zero() {
        assert_eq!(brightness(&[0, 255]).collect::<Vec<_>>(), [-1.0, 1.0]);
    }
}
