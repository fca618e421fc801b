//! How often each difference occurs, by channel and context, as it was counted when the codec was made.

use super::context::{CONTEXTS, Predictor, contexts};
use super::{ESCAPE, LatentError, Shape, TOTAL};

/// Symbols of a distribution: differences by their bits, -128 standing for the escape.
pub const SYMBOLS: usize = 256;

/// The distributions of all channels. Each adds up to 4096, and none lacks the escape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distributions {
    predictors: Vec<Predictor>,
    frequencies: Vec<u16>,
}

impl Distributions {
    /// Distributions of as many channels as there are predictors: `[channels, CONTEXTS, SYMBOLS]`.
    ///
    /// # Errors
    /// A length that does not fit, frequencies that do not add up to 4096, a distribution without the escape.
    pub fn new(predictors: Vec<Predictor>, frequencies: Vec<u16>) -> Result<Self, LatentError> {
        let expected = predictors.len() * CONTEXTS * SYMBOLS;
        let wrong = |what: String| Err(LatentError::Distributions { what });
        if predictors.is_empty() || frequencies.len() != expected {
            let (found, channels) = (frequencies.len(), predictors.len());
            return wrong(format!("there are {found} frequencies for {channels} channels"));
        }
        for (at, one) in frequencies.chunks_exact(SYMBOLS).enumerate() {
            let (channel, context) = (at / CONTEXTS, at % CONTEXTS);
            let sum: u32 = one.iter().map(|frequency| u32::from(*frequency)).sum();
            if sum != TOTAL {
                return wrong(format!(
                    "those of channel {channel} in context {context} add up to {sum}, not {TOTAL}"
                ));
            }
            if one.get(usize::from(ESCAPE.cast_unsigned())).is_none_or(|escape| *escape == 0) {
                return wrong(format!("channel {channel} has no escape in context {context}"));
            }
        }
        Ok(Self { predictors, frequencies })
    }

    /// How each channel is predicted.
    pub fn predictors(&self) -> &[Predictor] {
        &self.predictors
    }

    /// Frequencies, `[channels, CONTEXTS, SYMBOLS]`.
    pub fn frequencies(&self) -> &[u16] {
        &self.frequencies
    }
}

/// Counts the differences of examples.
pub(crate) struct Counts {
    channels: usize,
    /// Of each predictor and channel: how often each difference occurs.
    rough: Vec<[u64; SYMBOLS]>,
    examples: Vec<(Vec<i8>, Shape)>,
}

impl Counts {
    pub(crate) fn new(channels: usize) -> Self {
        let rough = vec![[0; SYMBOLS]; channels * Predictor::ALL.len()];
        Self { channels, rough, examples: Vec::new() }
    }

    /// Counts the latents of a record.
    pub(crate) fn add(&mut self, latents: Vec<i8>, shape: Shape) {
        let plane = (shape.rows * shape.across).max(1);
        let mut differences = vec![0; plane];
        let each = self.rough.chunks_exact_mut(Predictor::ALL.len());
        for (counts, latents) in each.zip(latents.chunks_exact(plane)) {
            for (counts, predictor) in counts.iter_mut().zip(Predictor::ALL) {
                predictor.differences(latents, shape.across, &mut differences);
                count(&differences, counts);
            }
        }
        self.examples.push((latents, shape));
    }

    /// The distributions, with the predictor of each channel that leaves the least to code.
    ///
    /// # Errors
    /// No channels.
    pub(crate) fn finish(self) -> Result<Distributions, LatentError> {
        let best = self.rough.chunks_exact(Predictor::ALL.len()).map(|counts| {
            let entropies = counts.iter().map(bits).zip(Predictor::ALL);
            let least = entropies.min_by(|(a, _), (b, _)| a.total_cmp(b));
            least.map_or(Predictor::Nothing, |(_, predictor)| predictor)
        });
        let predictors: Vec<Predictor> = best.collect();
        let mut counts = vec![[0_u64; SYMBOLS]; self.channels * CONTEXTS];
        for (latents, shape) in &self.examples {
            let (plane, across) = ((shape.rows * shape.across).max(1), shape.across.max(1));
            let (mut room, mut row_contexts) = (vec![0; across + 2], vec![0; across]);
            let mut before = Vec::new();
            let channels = counts.chunks_exact_mut(CONTEXTS).zip(&predictors);
            for ((counts, predictor), latents) in channels.zip(latents.chunks_exact(plane)) {
                let mut differences = vec![0; plane];
                predictor.differences(latents, across, &mut differences);
                let mut above: &[i8] = &[];
                for (y, row) in differences.chunks_exact(across).enumerate() {
                    let before: &[i8] =
                        before.get(y * across..(y + 1) * across).unwrap_or_default();
                    contexts(above, before, &mut room, &mut row_contexts);
                    for (difference, context) in row.iter().zip(&row_contexts) {
                        let counts = counts.get_mut(usize::from(*context));
                        let symbol = usize::from(difference.cast_unsigned());
                        if let Some(count) = counts.and_then(|counts| counts.get_mut(symbol)) {
                            *count += 1;
                        }
                    }
                    above = row;
                }
                before = differences;
            }
        }
        let frequencies = counts.chunks_exact(CONTEXTS).flat_map(|contexts| {
            let mut all = [0_u64; SYMBOLS];
            for counts in contexts {
                all.iter_mut().zip(counts).for_each(|(all, count)| *all += count);
            }
            contexts.iter().flat_map(move |counts| frequencies(counts, &all))
        });
        Distributions::new(predictors, frequencies.collect())
    }
}

fn count(differences: &[i8], counts: &mut [u64; SYMBOLS]) {
    for difference in differences {
        if let Some(count) = counts.get_mut(usize::from(difference.cast_unsigned())) {
            *count += 1;
        }
    }
}

/// Bits that all that was counted takes at its order-0 entropy.
fn bits(counts: &[u64; SYMBOLS]) -> f64 {
    let total: u64 = counts.iter().sum();
    let part = |count: &u64| match *count {
        0 => 0.0,
        count => count as f64 * (total as f64 / count as f64).log2(),
    };
    counts.iter().map(part).sum()
}

/// How much the distribution over all contexts counts in that of one, in symbols.
const PRIOR: f64 = 24.0;

/// Frequencies that add up to 4096 and have the escape. What occurred gets at least 1 where that is no more than
/// an escape would cost; the rest is escaped.
fn frequencies(counts: &[u64; SYMBOLS], all: &[u64; SYMBOLS]) -> [u16; SYMBOLS] {
    let escape = usize::from(ESCAPE.cast_unsigned());
    let total = all.iter().sum::<u64>().max(1) as f64;
    let share = |(count, all): (&u64, &u64)| *count as f64 + PRIOR * (*all as f64) / total;
    let weights: Vec<f64> = counts.iter().zip(all).map(share).collect();
    let sum: f64 = weights.iter().sum::<f64>().max(1e-9);
    let mut frequencies = [0_u16; SYMBOLS];
    let room = f64::from(TOTAL - 1);
    for (at, (frequency, weight)) in frequencies.iter_mut().zip(&weights).enumerate() {
        let exact = weight / sum * room;
        // Rarer than a quarter of a slot: an escape costs less than a slot that is never used.
        *frequency = if at == escape || exact < 0.25 { 0 } else { (exact.round() as u16).max(1) };
    }
    if let Some(frequency) = frequencies.get_mut(escape) {
        *frequency = 1;
    }
    let given: u32 = frequencies.iter().map(|frequency| u32::from(*frequency)).sum();
    // What rounding left is the most frequent symbol's; what it gave too much is taken from the most frequent.
    for surplus in (0..given.saturating_sub(TOTAL).max(1)).rev() {
        let left = (TOTAL + surplus).saturating_sub(given) as u16;
        if let Some(most) = frequencies.iter_mut().max() {
            *most = if given > TOTAL { *most - 1 } else { *most + left };
        }
    }
    frequencies
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequencies_add_up_whatever_was_counted() {
        let mut random = crate::random::Random::new(4);
        for kinds in [0, 1, 2, 40, 256] {
            let (mut counts, mut all) = ([0; SYMBOLS], [0; SYMBOLS]);
            for at in 0..kinds {
                counts[at] = random.below(50) as u64;
                all[at] = counts[at] + random.below(5000) as u64;
            }
            let found = frequencies(&counts, &all);
            assert_eq!(found.iter().map(|f| u32::from(*f)).sum::<u32>(), TOTAL, "{kinds}");
            assert!(found[128] >= 1);
        }
    }

    #[test]
    fn distributions_that_do_not_add_up_or_lack_the_escape_are_refused() {
        let one = |zero: u16, escape: u16| {
            let mut all = vec![0; CONTEXTS * SYMBOLS];
            for one in all.chunks_exact_mut(SYMBOLS) {
                (one[0], one[128]) = (zero, escape);
            }
            Distributions::new(vec![Predictor::Nothing], all)
        };
        assert!(one(4095, 1).is_ok());
        assert!(one(4096, 0).is_err() && one(4095, 2).is_err());
        assert!(Distributions::new(vec![Predictor::Nothing], vec![0; 10]).is_err());
        assert!(Distributions::new(Vec::new(), Vec::new()).is_err());
    }
}
