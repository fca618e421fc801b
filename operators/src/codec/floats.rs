//! Samples of sound as floats, which is what filters and lossy codecs work on.

use super::Pcm;

impl Pcm {
    /// Twice the span from zero to the largest sample, so that the smallest integer is -1.
    const fn scale(self) -> f64 {
        match self {
            Self::S16 => 32_768.0,
            Self::S24 => 8_388_608.0,
            Self::S32 => 2_147_483_648.0,
            Self::F32 => 1.0,
        }
    }

    /// Samples as floats; integers are scaled to -1 to 1, of 32 bits the lowest are lost.
    pub fn floats(self, samples: &[u8]) -> Vec<f32> {
        let scale = (1.0 / self.scale()) as f32;
        match self.integers(samples) {
            Some(integers) => integers.into_iter().map(|sample| sample as f32 * scale).collect(),
            None => samples.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        }
    }

    /// Appends floats; integers are rounded, and what is louder than they hold is clipped.
    pub fn extend(self, floats: impl IntoIterator<Item = f32>, samples: &mut Vec<u8>) {
        let scale = self.scale();
        let integer =
            |float: f32| (f64::from(float) * scale).round().clamp(-scale, scale - 1.0) as i32;
        match self {
            Self::F32 => samples.extend(floats.into_iter().flat_map(f32::to_le_bytes)),
            Self::S16 => samples
                .extend(floats.into_iter().flat_map(|float| (integer(float) as i16).to_le_bytes())),
            _ => floats.into_iter().for_each(|float| self.push(integer(float), samples)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn louder_than_it_holds_is_clipped_and_nothing_becomes_zero() {
        let mut samples = Vec::new();
        Pcm::S16.extend([-2.0, -1.0, 0.0, 1.0, 2.0, f32::NAN], &mut samples);
        let clipped = vec![-32_768, -32_768, 0, 32_767, 32_767, 0];
        assert_eq!(Pcm::S16.integers(&samples), Some(clipped));
        samples.clear();
        Pcm::F32.extend([-2.0, 2.0], &mut samples);
        assert_eq!(Pcm::F32.floats(&samples), [-2.0, 2.0]);
    }

    proptest! {
        #[test]
        fn sixteen_and_twenty_four_bits_come_back_exactly(values in proptest::collection::vec(-8_388_608..8_388_608, 0..50)) {
            for format in [Pcm::S16, Pcm::S24] {
                let mut samples = Vec::new();
                let shift = if format == Pcm::S16 { 8 } else { 0 };
                values.iter().for_each(|value| format.push(value >> shift, &mut samples));
                let mut again = Vec::new();
                format.extend(format.floats(&samples), &mut again);
                prop_assert_eq!(again, samples);
            }
        }
    }
}
