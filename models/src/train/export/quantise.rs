//! From trained numbers to integers.

use burn::tensor::Tensor;

use super::{Precision, le};
use crate::lut::{Bits, Rows};

/// Steps of the grid per unit of the norm's output.
pub(super) const STEPS: f32 = 32.0;
/// The grid's number for zero.
pub(super) const ZERO: f32 = 128.0;

/// A value on the grid.
pub(super) fn grid(x: f32) -> u8 {
    ((x * STEPS).round_ties_even() + ZERO).clamp(0.0, 255.0) as u8
}

/// The threshold on the grid: `q > t` where `x > threshold`, up to the grid's step.
fn threshold(threshold: f32) -> u8 {
    (threshold * STEPS + ZERO).floor().clamp(0.0, 255.0) as u8
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.inner().into_data().convert::<f32>().try_into_vec::<f32>().unwrap_or_default()
}

/// A scale per group of values: `stride` apart in `by_column`, else consecutive.
struct Scaled {
    integers: Vec<i8>,
    scales: Vec<f32>,
}

/// Integers with one scale per column.
fn by_column(values: &[f32], columns: usize, largest: f32) -> Scaled {
    let mut scales = vec![0.0_f32; columns];
    for row in values.chunks_exact(columns.max(1)) {
        for (scale, value) in scales.iter_mut().zip(row) {
            *scale = scale.max(value.abs());
        }
    }
    for scale in &mut scales {
        // A column of zeros keeps a scale that divides.
        *scale = if *scale > 0.0 { *scale / largest } else { 1.0 };
    }
    let rows = values.chunks_exact(columns.max(1));
    let integers = rows
        .flat_map(|row| row.iter().zip(&scales).map(|(value, scale)| integer(value / scale)))
        .collect();
    Scaled { integers, scales }
}

fn integer(value: f32) -> i8 {
    value.round_ties_even().clamp(-127.0, 127.0) as i8
}

/// One tensor of a block of rows.
pub(super) fn rows(rows: &Rows, what: &str, precision: Precision) -> Option<Vec<u8>> {
    let table = || {
        let table = rows.rows();
        let [.., width] = table.dims();
        by_column(&values(table), width, precision.largest())
    };
    let projection = || {
        let projection = rows.projection.as_ref()?.val();
        let [wires, width] = projection.dims();
        // A scale per wire is one per column of the transposed matrix.
        let turned = by_column(&values(projection.transpose()), wires, 127.0);
        Some((turned, wires, width))
    };
    Some(match what {
        "wires" => {
            let features = rows.features()?;
            le(features.iter().map(|f| (*f as u16).to_le_bytes()))
        }
        "projection" => {
            let (turned, wires, width) = projection()?;
            let at = |i: usize| turned.integers.get(i % width * wires + i / width).copied();
            (0..wires * width).map(|i| at(i).unwrap_or(0).cast_unsigned()).collect()
        }
        "projection_scale" => le(projection()?.0.scales.iter().map(|s| s.to_le_bytes())),
        "thresholds" => match projection() {
            None => values(rows.thresholds.val()).into_iter().map(threshold).collect(),
            Some((turned, ..)) => {
                let thresholds = values(rows.thresholds.val());
                let pairs = thresholds.iter().zip(&turned.scales);
                // scale * dot / 32 > threshold, and the dot product is whole.
                le(pairs.map(|(t, scale)| ((t * STEPS / scale).floor() as i32).to_le_bytes()))
            }
        },
        "table" => table().integers.into_iter().map(i8::cast_unsigned).collect(),
        "scale" => le(table().scales.iter().map(|s| s.to_le_bytes())),
        "bias" => le(values(rows.bias.val()).iter().map(|b| b.to_le_bytes())),
        _ => return None,
    })
}

/// One tensor of a block of bits.
pub(super) fn bits(bits: &Bits, what: &str, precision: Precision) -> Option<Vec<u8>> {
    let output = || {
        let output = bits.output.val();
        let [_, width] = output.dims();
        (by_column(&values(output), width, precision.largest()), width)
    };
    Some(match what {
        "thresholds" => values(bits.luts.thresholds.val()).into_iter().map(threshold).collect(),
        "output" => output().0.integers.into_iter().map(i8::cast_unsigned).collect(),
        "scale" => le(output().0.scales.iter().map(|s| s.to_le_bytes())),
        "bias" => {
            // Training centres bits to -1/2 and 1/2; the engine adds rows of set bits alone.
            let (Scaled { integers, scales }, width) = output();
            let mut sums = vec![0_i64; width];
            for row in integers.chunks_exact(width.max(1)) {
                for (sum, value) in sums.iter_mut().zip(row) {
                    *sum += i64::from(*value);
                }
            }
            let bias = values(bits.bias.val());
            let folded = bias.iter().zip(sums.iter().zip(&scales));
            le(folded.map(|(bias, (sum, scale))| (bias - 0.5 * *sum as f32 * scale).to_le_bytes()))
        }
        _ => {
            let (layer, what) = what.split_once('.')?;
            let layer = bits.luts.layers.get(layer.parse::<usize>().ok()?)?;
            match what {
                "wires" => le(layer.wires().iter().map(|w| w.to_le_bytes())),
                "table" => {
                    let table = layer.table.val();
                    let [_, entries] = table.dims();
                    let table = values(table);
                    let words = table.chunks(entries).flat_map(|table| table.chunks(64));
                    le(words.map(|word| {
                        let set = word.iter().enumerate().filter(|(_, v)| **v > 0.0);
                        set.fold(0_u64, |word, (bit, _)| word | 1 << bit).to_le_bytes()
                    }))
                }
                _ => return None,
            }
        }
    })
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn a_threshold_on_the_grid_is_half_a_step_from_the_trained_one_at_most() {
        for t in [-3.9_f32, -1.0, -0.013, 0.0, 0.4, 2.71] {
            let on_grid = threshold(t);
            for i in -1000..1000 {
                let x = i as f32 * 0.004;
                if (x - t).abs() > 1.0 / STEPS {
                    assert_eq!(grid(x) > on_grid, x > t, "{x} against {t}");
                }
            }
        }
        assert_eq!([grid(-9.0), grid(0.0), grid(9.0)], [0, 128, 255]);
        assert_eq!([grid(0.5 / 32.0), grid(1.5 / 32.0)], [128, 130], "ties go to even numbers");
    }

    #[test]
    fn columns_have_their_own_scale() {
        let Scaled { integers, scales } = by_column(&[1.0, 0.0, -2.0, 0.0], 2, 127.0);
        assert_eq!(integers, [64, 0, -127, 0]);
        assert_eq!(scales, [2.0 / 127.0, 1.0]);
    }
}
