//! The next token by chance: temperature, the most likely ones only, and a seed.

use super::EngineError;

/// How a token is drawn from logits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Logits are divided by it; 0 always takes the most likely token.
    pub temperature: f32,
    /// Only so many of the most likely tokens are drawn from.
    pub top_k: Option<usize>,
    /// The seed: equal seeds give equal text.
    pub seed: u64,
}

/// Draws tokens.
#[derive(Debug)]
pub(super) struct Sampler {
    sampling: Sampling,
    state: u64,
}

impl Sampler {
    pub(super) fn new(sampling: Sampling) -> Result<Self, EngineError> {
        let Sampling { temperature, top_k, seed } = sampling;
        if !(temperature.is_finite() && temperature >= 0.0) {
            let (what, found) = ("temperature", temperature.to_string());
            return Err(EngineError::Sampling { what, found, wanted: "it must be 0 or more" });
        }
        if top_k == Some(0) {
            let (what, found) = ("top_k", "0".to_owned());
            return Err(EngineError::Sampling { what, found, wanted: "it must be 1 or more" });
        }
        Ok(Self { sampling, state: seed })
    }

    /// A token of finite logits. Of equal ones the first is the more likely.
    pub(super) fn draw(&mut self, logits: &[f32]) -> u32 {
        let mut tokens = (0..).zip(logits.iter().copied()).collect::<Vec<(u32, f32)>>();
        tokens.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        let Some((best, largest)) = tokens.first().copied() else { return 0 };
        if self.sampling.temperature == 0.0 {
            return best;
        }
        tokens.truncate(self.sampling.top_k.unwrap_or(usize::MAX));
        let temperature = f64::from(self.sampling.temperature);
        let weight = |logit: f32| ((f64::from(logit) - f64::from(largest)) / temperature).exp();
        let total = tokens.iter().map(|(_, logit)| weight(*logit)).sum::<f64>();
        let mut left = self.uniform() * total;
        for (token, logit) in &tokens {
            left -= weight(*logit);
            if left < 0.0 {
                return *token;
            }
        }
        best
    }

    /// From 0 up to 1 (SplitMix64).
    fn uniform(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ self.state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ mixed >> 31) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_as_often_as_they_are_likely() {
        let sampling = Sampling { temperature: 2.0, top_k: Some(3), seed: 7 };
        let mut sampler = Sampler::new(sampling).unwrap();
        // Of weights 1, 2, 4 at this temperature; the last is not among the three.
        let logit = |weight: f32| 2.0 * weight.ln();
        let logits = [logit(1.0), logit(2.0), logit(4.0), logit(0.5)];
        let mut counts = [0_u32; 4];
        for _ in 0..70_000 {
            counts[sampler.draw(&logits) as usize] += 1;
        }
        for (count, expected) in counts.into_iter().zip([10_000_u32, 20_000, 40_000, 0]) {
            assert!(count.abs_diff(expected) < 600, "{counts:?}");
        }
    }

    #[test]
    fn settings_out_of_range_say_so() {
        let error = |temperature, top_k| {
            Sampler::new(Sampling { temperature, top_k, seed: 0 }).unwrap_err().to_string()
        };
        assert_eq!(error(-1.0, None), "temperature is -1; it must be 0 or more");
        assert_eq!(error(f32::NAN, None), "temperature is NaN; it must be 0 or more");
        assert_eq!(error(1.0, Some(0)), "top_k is 0; it must be 1 or more");
        let greedy = Sampling { temperature: 0.0, top_k: None, seed: 0 };
        assert_eq!(Sampler::new(greedy).unwrap().draw(&[0.0, 3.0, 3.0, 1.0]), 1);
    }
}
