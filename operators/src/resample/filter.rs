//! A windowed sinc filter between two rates, one set of taps for each place between two samples.

use std::f64::consts::PI;

/// Zero crossings of the sinc on either side.
const CROSSINGS: f64 = 64.0;
/// Where the filter has fallen by half, as a share of the lower half rate.
const CUTOFF: f64 = 0.945;
/// Of the Kaiser window: 120 dB.
const BETA: f64 = 12.0;
/// Places between two samples of the lower rate that have taps of their own. Rates whose ratio needs more get a
/// mean of two. A filter that falls `n`-fold is `n` times as long and as smooth, so it has `n` times fewer
/// phases: whatever the rates, its table has about 150,000 taps.
const PHASES: u64 = 1024;
/// Sums that are kept apart in a product of taps and samples, so that the order of additions is fixed and
/// still as wide as a processor's registers.
const LANES: usize = 16;

pub(super) struct Filter {
    /// The ratio of the rates, without common factors.
    from: u64,
    to: u64,
    phases: u64,
    /// Of each phase, a multiple of [`LANES`].
    taps: usize,
    /// Phase by phase, with one behind the last that is the first moved by a sample.
    table: Vec<f32>,
}

impl Filter {
    /// Neither rate is 0.
    pub(super) fn new(from: u32, to: u32) -> Self {
        let common = u64::from(divisor(from, to));
        let (from, to) = (u64::from(from) / common, u64::from(to) / common);
        let cutoff = CUTOFF * (to as f64 / from as f64).min(1.0);
        let half = (CROSSINGS / cutoff).ceil();
        let taps = (2 * half as usize + 1).next_multiple_of(LANES);
        let smooth =
            (u128::from(PHASES) * u128::from(to)).div_ceil(u128::from(from.max(to))) as u64;
        let phases = to.min(smooth);
        let highest = bessel(BETA);
        let window = |x: f64| {
            let inside = 1.0 - (x / half).powi(2);
            if inside > 0.0 { bessel(BETA * inside.sqrt()) / highest } else { 0.0 }
        };
        let mut table = Vec::with_capacity(taps * (phases as usize + 1));
        for phase in 0..=phases {
            let place = phase as f64 / phases as f64;
            // Tap 0 meets the sample `taps / 2 - 1` before the place's.
            let distance = |tap: usize| tap as f64 - (taps / 2 - 1) as f64 - place;
            let weigh = |tap| sinc(distance(tap) * cutoff) * window(distance(tap));
            let weights: Vec<f64> = (0..taps).map(weigh).collect();
            // What does not move stays as it is, whatever the phase.
            let sum: f64 = weights.iter().sum();
            table.extend(weights.iter().map(|weight| (weight / sum) as f32));
        }
        Self { from, to, phases, taps, table }
    }

    /// Numbers in its table.
    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.table.len()
    }

    /// Frames that so many frames become.
    pub(super) fn length(&self, frames: u64) -> u64 {
        (u128::from(frames) * u128::from(self.to)).div_ceil(u128::from(self.from)) as u64
    }

    /// Filters one channel. Before and behind it there is silence.
    pub(super) fn run<'a>(&self, samples: &[f32], out: impl Iterator<Item = &'a mut f32>) {
        let before = self.taps / 2 - 1;
        let mut padded = vec![0.0; before];
        padded.extend_from_slice(samples);
        padded.resize(padded.len() + self.taps, 0.0);
        let (mut whole, mut part) = (0usize, 0u64);
        for out in out {
            let samples = padded.get(whole..whole + self.taps).unwrap_or_default();
            let phase = part * self.phases / self.to;
            let between = part * self.phases % self.to;
            let mut sum = product(samples, self.of(phase));
            if between > 0 {
                let share = between as f32 / self.to as f32;
                sum += share * (product(samples, self.of(phase + 1)) - sum);
            }
            *out = sum;
            part += self.from;
            whole += (part / self.to) as usize;
            part %= self.to;
        }
    }

    fn of(&self, phase: u64) -> &[f32] {
        let start = phase as usize * self.taps;
        self.table.get(start..start + self.taps).unwrap_or_default()
    }
}

fn product(samples: &[f32], taps: &[f32]) -> f32 {
    let mut sums = [0f32; LANES];
    let pairs = samples.as_chunks::<LANES>().0.iter().zip(taps.as_chunks::<LANES>().0);
    for (samples, taps) in pairs {
        for ((sum, sample), tap) in sums.iter_mut().zip(samples).zip(taps) {
            *sum += sample * tap;
        }
    }
    sums.iter().sum()
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 { 1.0 } else { (PI * x).sin() / (PI * x) }
}

/// The modified Bessel function of the first kind and order 0, which Kaiser's window is made of.
fn bessel(x: f64) -> f64 {
    let (mut sum, mut term, mut k) = (1.0, 1.0, 1.0);
    while term > sum * 1e-17 {
        term *= (x / 2.0 / k).powi(2);
        sum += term;
        k += 1.0;
    }
    sum
}

fn divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { divisor(b, a % b) }
}
