//! What a linear decoder leaves out: a small convolutional network from the latents of a neighbourhood to a correction
//! of its coefficients.
//!
//! ```text
//! h = enter(value(q))               taps
//! h = h + mix(relu(spatial(h)))     taps, then one position; as often as there are blocks
//! correction = leave(relu(h))       one position
//! ```
//!
//! Taps are the 3 x 3 positions around one in pictures, three in a row of sounds; what is outside is zero. A correction
//! is rounded and added to what the synthesis gives, in units of coefficients.
//!
//! Weights are `f32`, and sums of floats depend on their order: the same record gives the same samples on one machine,
//! and on another they may differ in the last place. What is stored is integers and does not depend on it.

use super::compand::value;
use super::{Kind, LatentError};
use crate::kernel::{Matrix, multiply};

/// Positions that are worked on at once.
const POSITIONS: usize = 512;
/// Numbers of a position inside of a network, at most, and its blocks.
const MOST_WIDTH: usize = 1024;
const MOST_BLOCKS: usize = 64;

/// A layer: of each tap, weights `[out, in]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// `[taps, out, in]`.
    pub weight: Vec<f32>,
    /// `[out]`.
    pub bias: Vec<f32>,
}

/// A block: around every position, then at it.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// With taps.
    pub spatial: Layer,
    /// Without.
    pub mix: Layer,
}

/// A residual decoder.
#[derive(Debug, Clone, PartialEq)]
pub struct Residual {
    /// From the channels of the latents, with taps.
    pub enter: Layer,
    /// One after the other.
    pub blocks: Vec<Block>,
    /// To all coefficients of a block, without taps.
    pub leave: Layer,
}

/// How far away taps are, in rows and in positions of a row. Positions of a sound are rows of one.
pub(crate) fn taps(kind: Kind) -> Vec<(isize, isize)> {
    let beside = match kind {
        Kind::Picture => -1..=1,
        Kind::Sound => 0..=0,
    };
    (-1..=1).flat_map(|down| beside.clone().map(move |right| (down, right))).collect()
}

impl Layer {
    fn fits(&self, taps: usize, inputs: usize, outputs: usize) -> bool {
        self.bias.len() == outputs
            && self.weight.len() == taps * inputs * outputs
            && self.weight.iter().chain(&self.bias).all(|x| x.is_finite())
    }
}

impl Residual {
    /// Whether the layers fit each other, and a codec of so many channels and coefficients.
    pub(super) fn check(
        &self,
        kind: Kind,
        channels: usize,
        bands: usize,
    ) -> Result<(), LatentError> {
        let (taps, width) = (taps(kind).len(), self.enter.bias.len());
        let fits = (1..=MOST_WIDTH).contains(&width)
            && self.blocks.len() <= MOST_BLOCKS
            && self.enter.fits(taps, channels, width)
            && self.leave.fits(1, width, bands)
            && self.blocks.iter().all(|block| {
                block.spatial.fits(taps, width, width) && block.mix.fits(1, width, width)
            });
        if fits {
            return Ok(());
        }
        let what = format!(
            "the layers of its decoder do not fit each other, {channels} channels and {bands} coefficients, or \
             hold what is no number"
        );
        Err(LatentError::Artifact { what })
    }

    /// Leaves the correction of every coefficient in the scratch, for latents `[channels, rows, across]`.
    pub(super) fn correct(
        &self,
        kind: Kind,
        latents: &[i8],
        (rows, across): (usize, usize),
        scratch: &mut Scratch,
    ) {
        let field = Field::new(kind, rows, across);
        let width = self.enter.bias.len();
        let channels = latents.len() / (rows * across).max(1);
        let Scratch { inputs, hidden, inner, out } = scratch;
        field.clear(inputs, channels);
        for (plane, latents) in
            inputs.chunks_exact_mut(field.length).zip(latents.chunks_exact((rows * across).max(1)))
        {
            let lines = plane.get_mut(field.first..).unwrap_or_default();
            for (line, latents) in lines.chunks_mut(field.pitch).zip(latents.chunks_exact(across)) {
                line.iter_mut().zip(latents).for_each(|(to, q)| *to = value(*q) as f32);
            }
        }
        let around = taps(kind);
        let here = [(0, 0)];
        field.clear(hidden, width);
        field.clear(inner, width);
        field.layer(&self.enter, &around, inputs, hidden, false);
        field.outside(hidden, false);
        for block in &self.blocks {
            field.layer(&block.spatial, &around, hidden, inner, false);
            field.outside(inner, true);
            field.layer(&block.mix, &here, inner, hidden, true);
            field.outside(hidden, false);
        }
        field.outside(hidden, true);
        field.clear(out, self.leave.bias.len());
        field.layer(&self.leave, &here, hidden, out, false);
        scratch.out.truncate(self.leave.bias.len() * field.length);
    }

    /// The corrections of each coefficient, row by row of positions.
    pub(super) fn lines(
        kind: Kind,
        (rows, across): (usize, usize),
        scratch: &Scratch,
    ) -> impl Iterator<Item = impl Iterator<Item = &[f32]>> {
        let Field { length, first, pitch, .. } = Field::new(kind, rows, across);
        scratch.out.chunks_exact(length).map(move |plane| {
            let lines = plane.get(first..).unwrap_or_default().chunks(pitch.max(1)).take(rows);
            lines.map(move |line| line.get(..across).unwrap_or_default())
        })
    }
}

/// Room that is used again from record to record: planes of positions with zeros around them.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    inputs: Vec<f32>,
    hidden: Vec<f32>,
    inner: Vec<f32>,
    out: Vec<f32>,
}

/// Where positions stand in a plane that has a row of zeros above and below, and one between rows.
#[derive(Clone, Copy)]
struct Field {
    rows: usize,
    across: usize,
    pitch: usize,
    first: usize,
    length: usize,
}

impl Field {
    fn new(kind: Kind, rows: usize, across: usize) -> Self {
        let beside = usize::from(kind == Kind::Picture);
        let pitch = across + beside;
        let first = pitch + beside;
        Self { rows, across, pitch, first, length: (rows + 2) * pitch + 2 * beside }
    }

    /// Positions, with what stands between rows.
    fn count(&self) -> usize {
        self.rows * self.pitch
    }

    fn clear(&self, planes: &mut Vec<f32>, count: usize) {
        planes.clear();
        planes.resize(count * self.length, 0.0);
    }

    /// Makes what is outside zero again, and where `relu` what is negative.
    fn outside(&self, planes: &mut [f32], relu: bool) {
        for plane in planes.chunks_exact_mut(self.length) {
            let lines = plane.get_mut(self.first..).unwrap_or_default();
            for line in lines.chunks_mut(self.pitch).take(self.rows) {
                let (inside, outside) = line.split_at_mut(self.across.min(line.len()));
                if relu {
                    inside.iter_mut().for_each(|x| *x = x.max(0.0));
                }
                outside.fill(0.0);
            }
        }
    }

    /// `to = layer(from)`, or `to += layer(from)`.
    fn layer(
        &self,
        layer: &Layer,
        taps: &[(isize, isize)],
        from: &[f32],
        to: &mut [f32],
        add: bool,
    ) {
        let (inputs, outputs) = (from.len() / self.length, layer.bias.len());
        for start in (0..self.count()).step_by(POSITIONS) {
            let count = POSITIONS.min(self.count() - start);
            let start = self.first + start;
            for (plane, bias) in to.chunks_exact_mut(self.length).zip(&layer.bias) {
                let line = plane.get_mut(start..start + count).unwrap_or_default();
                line.iter_mut().for_each(|x| *x = if add { *x + bias } else { *bias });
            }
            let weights = layer.weight.chunks_exact((inputs * outputs).max(1));
            for ((down, right), weights) in taps.iter().zip(weights) {
                let at = start as isize + down * self.pitch as isize + right;
                let from = from.get(usize::try_from(at).unwrap_or_default()..).unwrap_or_default();
                let from = Matrix::strided(from, inputs, count, self.length);
                let to = to.get_mut(start..).unwrap_or_default();
                multiply(to, self.length, Matrix::new(weights, outputs, inputs), from, 1.0, true);
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::random::Random;

    /// A decoder of random weights.
    pub(in super::super) fn random(
        kind: Kind,
        channels: usize,
        bands: usize,
        seed: u64,
    ) -> Residual {
        let (mut random, width) = (Random::new(seed), 5);
        let mut layer = |taps: usize, inputs: usize, outputs: usize| Layer {
            weight: random.normals(taps * inputs * outputs, 0.2),
            bias: random.normals(outputs, 0.3),
        };
        let taps = taps(kind).len();
        Residual {
            enter: layer(taps, channels, width),
            blocks: (0..2)
                .map(|_| Block { spatial: layer(taps, width, width), mix: layer(1, width, width) })
                .collect(),
            leave: layer(1, width, bands),
        }
    }

    /// `[inputs][rows][across]` to the same of outputs, as the definition says.
    fn plainly(
        layer: &Layer,
        taps: &[(isize, isize)],
        from: &[Vec<Vec<f32>>],
    ) -> Vec<Vec<Vec<f32>>> {
        let (rows, across) = (from[0].len() as isize, from[0][0].len() as isize);
        let (inputs, outputs) = (from.len(), layer.bias.len());
        let at = |o: usize, y: isize, x: isize| {
            let mut sum = layer.bias[o];
            for (t, (down, right)) in taps.iter().enumerate() {
                let (y, x) = (y + down, x + right);
                if (0..rows).contains(&y) && (0..across).contains(&x) {
                    for (i, plane) in from.iter().enumerate() {
                        sum += layer.weight[(t * outputs + o) * inputs + i]
                            * plane[y as usize][x as usize];
                    }
                }
            }
            sum
        };
        (0..outputs)
            .map(|o| (0..rows).map(|y| (0..across).map(|x| at(o, y, x)).collect()).collect())
            .collect()
    }

    fn relu(planes: &[Vec<Vec<f32>>]) -> Vec<Vec<Vec<f32>>> {
        let line = |line: &Vec<f32>| line.iter().map(|x| x.max(0.0)).collect();
        planes.iter().map(|plane| plane.iter().map(line).collect()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn it_gives_what_the_definition_says(
            sound in any::<bool>(),
            rows in 1_usize..40,
            across in 1_usize..40,
            seed in 0_u64..1000,
        ) {
            let (kind, across) = if sound { (Kind::Sound, 1) } else { (Kind::Picture, across) };
            let (channels, bands) = (3, 4);
            let decoder = random(kind, channels, bands, seed);
            decoder.check(kind, channels, bands).unwrap();
            let mut random = Random::new(seed + 1);
            let latents: Vec<i8> =
                (0..channels * rows * across).map(|_| random.below(9) as i8 - 4).collect();
            let planes: Vec<Vec<Vec<f32>>> = latents
                .chunks(rows * across)
                .map(|plane| {
                    plane.chunks(across).map(|l| l.iter().map(|q| f32::from(*q)).collect()).collect()
                })
                .collect();
            let (taps, here) = (taps(kind), [(0, 0)]);
            let mut hidden = plainly(&decoder.enter, &taps, &planes);
            for block in &decoder.blocks {
                let inner = relu(&plainly(&block.spatial, &taps, &hidden));
                let more = plainly(&block.mix, &here, &inner);
                for (to, from) in hidden.iter_mut().flatten().flatten().zip(more.iter().flatten().flatten()) {
                    *to += from;
                }
            }
            let expected = plainly(&decoder.leave, &here, &relu(&hidden));
            let mut scratch = Scratch::default();
            // Room that something else was in.
            decoder.correct(kind, &vec![3; channels * 77 * across], (77, across), &mut scratch);
            decoder.correct(kind, &latents, (rows, across), &mut scratch);
            let found: Vec<f32> =
                Residual::lines(kind, (rows, across), &scratch).flatten().flatten().copied().collect();
            let expected: Vec<f32> = expected.into_iter().flatten().flatten().collect();
            prop_assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(&expected) {
                prop_assert!((found - expected).abs() < 1e-3 * (1.0 + expected.abs()), "{} {}", found, expected);
            }
        }
    }
}
