//! A sound as a picture: time from left to right, frequency from below, loudness as light.

use realfft::RealFftPlanner;

use super::tile::{SIDE, Tile};

/// Samples in a window.
const WINDOW: usize = 512;
/// Decibels below the loudest that are still told from silence.
const RANGE: f32 = 80.0;

/// The spectrogram of mono samples between -1 and 1, as Hann windows spread over all of them.
pub fn spectrogram(samples: &[f32]) -> Tile {
    let transform = RealFftPlanner::<f32>::new().plan_fft_forward(WINDOW);
    let mut spectrum = transform.make_output_vec();
    let mut columns = Vec::with_capacity(SIDE);
    for column in 0..SIDE {
        let begin = samples.len().saturating_sub(WINDOW) * column / (SIDE - 1).max(1);
        let window = samples.get(begin..).unwrap_or_default().iter().copied();
        let mut window: Vec<f32> =
            window.chain(std::iter::repeat(0.0)).take(WINDOW).enumerate().map(hann).collect();
        // The lengths are those that the plan asks for.
        if transform.process(&mut window, &mut spectrum).is_err() {
            return Tile::empty();
        }
        let power = spectrum.iter().map(|bin| 10.0 * (bin.norm_sqr() + 1e-12).log10());
        columns.push(power.collect::<Vec<f32>>());
    }
    let loudest = columns.iter().flatten().copied().fold(f32::MIN, f32::max);
    let bins = WINDOW / 2;
    let mut tile = Tile::empty();
    for (line, row) in tile.pixels.chunks_exact_mut(SIDE * 3).zip(0..) {
        let bin = (SIDE - 1 - row) * bins / SIDE;
        for (pixel, column) in line.as_chunks_mut::<3>().0.iter_mut().zip(&columns) {
            let power = column.get(bin).copied().unwrap_or(f32::MIN);
            *pixel = light(1.0 + (power - loudest) / RANGE);
        }
    }
    tile
}

fn hann((at, sample): (usize, f32)) -> f32 {
    let angle = std::f32::consts::TAU * at as f32 / WINDOW as f32;
    sample * (0.5 - 0.5 * angle.cos())
}

/// From dark over violet and orange to light, for 0 to 1: readable without colours too.
fn light(value: f32) -> [u8; 3] {
    const STOPS: [[f32; 3]; 5] = [
        [0.0, 0.0, 16.0],
        [80.0, 18.0, 123.0],
        [182.0, 54.0, 121.0],
        [251.0, 136.0, 97.0],
        [252.0, 253.0, 191.0],
    ];
    let place = value.clamp(0.0, 1.0) * (STOPS.len() - 1) as f32;
    let stop = |at: usize| STOPS.get(at.min(STOPS.len() - 1)).copied().unwrap_or_default();
    let (low, high) = (stop(place as usize), stop(place as usize + 1));
    let part = place.fract();
    let mut colour = [0; 3];
    for ((colour, low), high) in colour.iter_mut().zip(low).zip(high) {
        *colour = (low + (high - low) * part) as u8;
    }
    colour
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The row that is lightest in a column.
    fn lightest(tile: &Tile, column: usize) -> usize {
        let light = |row: usize| {
            let at = (row * SIDE + column) * 3;
            tile.pixels[at..at + 3].iter().map(|sample| u32::from(*sample)).sum::<u32>()
        };
        (0..SIDE).max_by_key(|row| light(*row)).unwrap()
    }

    #[test]
    fn a_rising_tone_rises() {
        let tone = |at: usize| {
            let time = at as f32 / 16_000.0;
            (std::f32::consts::TAU * (500.0 + 3_000.0 * time) * time).sin()
        };
        let tile = spectrogram(&(0..16_000).map(tone).collect::<Vec<f32>>());
        let rows = [10, 80, 150].map(|column| lightest(&tile, column));
        assert!(rows[0] > rows[1] && rows[1] > rows[2], "{rows:?}");
    }

    #[test]
    fn silence_and_sounds_shorter_than_a_window_are_drawn() {
        assert_eq!(spectrogram(&[]).pixels.len(), SIDE * SIDE * 3);
        assert_eq!(spectrogram(&[0.5; 9]).pixels.len(), SIDE * SIDE * 3);
    }
}
