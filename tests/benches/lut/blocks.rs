//! Feed-forwards alone, those of all layers in turn.

use anabranch_models::artifact::Artifact;
use anabranch_models::engine::feed_forward::Scratch;
use anabranch_models::engine::{Gpt, Level, Options};

use crate::{least, noise, rounds};

/// Tokens of a batch, and tokens one by one of a repeat.
const TOKENS: usize = 512;

/// A model whose feed-forwards are measured.
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    gpt: Gpt,
    layers: usize,
}

impl Contender {
    pub(crate) fn new(name: &'static str, artifact: &Artifact, int8: bool) -> Self {
        let options = Options { int8, ..Options::default() };
        let gpt = Gpt::load_with(artifact, options).unwrap_or_else(|error| panic!("{error}"));
        Self { name, gpt, layers: artifact.architecture().layers }
    }

    /// Nanoseconds of one block for a token, in calls of so many tokens.
    fn time(&self, per_call: usize) -> f64 {
        let level = Level::detect();
        let blocks = (0..self.layers).map(|layer| self.gpt.feed_forward(layer));
        let blocks = blocks.collect::<Option<Vec<_>>>().unwrap();
        let stride = blocks[0].stride();
        let fresh = noise(TOKENS * stride);
        let mut x = fresh.clone();
        let mut scratch = Scratch::default();
        let seconds = least(|| {
            for x in x.chunks_mut(per_call * stride) {
                for block in &blocks {
                    block.add(level, x, &mut scratch);
                }
            }
        });
        assert!(x.iter().all(|x| x.is_finite()));
        1e9 * seconds / (TOKENS * self.layers) as f64
    }
}

/// Nanoseconds of each contender: in a batch, and one by one.
pub(crate) fn measure(contenders: &[Contender]) -> Vec<[f64; 2]> {
    let mut times = vec![[f64::INFINITY; 2]; contenders.len()];
    for _ in 0..rounds() {
        for (contender, times) in contenders.iter().zip(&mut times) {
            times[0] = times[0].min(contender.time(TOKENS));
            times[1] = times[1].min(contender.time(1));
        }
    }
    times
}
