//! The mathematics of the LUT layers written down slowly in `f64`, to test kernels and plain
//! operations against.

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use proptest::prelude::*;

use super::address::Wires;
use super::choose::{self, Candidates};
use super::spectrum::Spectrum;
use super::sum::RowSum;
use super::table::BitTable;
use super::{Surrogate, Wiring, plain};
use crate::kernel;
use crate::random::Random;

/// One random problem: `width` is 1 for bit tables.
#[derive(Clone, Debug)]
struct Problem {
    rows: usize,
    values: usize,
    width: usize,
    wires: Wires,
    x: Vec<f32>,
    thresholds: Vec<f32>,
    table: Vec<f32>,
    bias: Vec<f32>,
    /// The gradient of the loss by the output.
    gradient: Vec<f32>,
}

/// Output and gradients: by x, thresholds, table.
type Found = [Vec<f64>; 4];

impl Problem {
    fn new(
        [rows, values, width, nodes, inputs]: [usize; 5],
        surrogate: Surrogate,
        seed: u64,
    ) -> Self {
        let mut random = Random::new(seed);
        let features = Wiring::permutations(values, nodes * inputs, &mut random);
        let limits = Wiring::permutations(nodes * inputs / 2 + 1, nodes * inputs, &mut random);
        Self {
            rows,
            values,
            width,
            x: random.normals(rows * values, 1.0),
            thresholds: random.normals(nodes * inputs / 2 + 1, 0.7),
            table: random.normals((nodes * width) << inputs, 1.0),
            bias: random.normals(width, 1.0),
            gradient: random.normals(rows * if width == 1 { nodes } else { width }, 1.0),
            wires: Wires {
                features: Arc::clone(features.candidates()),
                thresholds: Arc::clone(limits.candidates()),
                inputs,
                surrogate,
            },
        }
    }

    /// DWN's formula, as its CUDA kernel has it: for input k at address a the gradient is
    /// `0.5 * 0.75^(n-1) * sum over a' of s_k(a') * (1/3)^(bits other than k that differ) * <T[a'], g>`.
    fn slow(&self, bits: bool) -> Found {
        let n = self.wires.inputs;
        let (nodes, entries) = (self.wires.nodes(), 1_usize << n);
        let outputs = if bits { nodes } else { self.width };
        let mut out = vec![0.0; self.rows * outputs];
        let (mut by_x, mut by_threshold) =
            (vec![0.0; self.x.len()], vec![0.0; self.thresholds.len()]);
        let mut by_table = vec![0.0; self.table.len()];
        for row in 0..self.rows {
            if !bits {
                for c in 0..self.width {
                    out[row * outputs + c] = f64::from(self.bias[c]);
                }
            }
            for node in 0..nodes {
                let wire = |k: usize| node * n + k;
                let feature = |k: usize| self.wires.features[wire(k)] as usize;
                let limit = |k: usize| self.wires.thresholds[wire(k)] as usize;
                let z =
                    |k: usize| self.x[row * self.values + feature(k)] - self.thresholds[limit(k)];
                let address = (0..n).map(|k| usize::from(z(k) > 0.0) << k).sum::<usize>();
                let entry = |a: usize, c: usize| (node * entries + a) * self.width + c;
                let g = |c: usize| {
                    let at = if bits { row * outputs + node } else { row * outputs + c };
                    f64::from(self.gradient[at])
                };
                for c in 0..self.width {
                    let value = f64::from(self.table[entry(address, c)]);
                    if bits {
                        out[row * outputs + node] = if value > 0.0 { 0.5 } else { -0.5 };
                    } else {
                        out[row * outputs + c] += value;
                    }
                    by_table[entry(address, c)] += g(c);
                }
                for k in 0..n {
                    let mut step = 0.0;
                    for other in 0..entries {
                        let apart = ((address ^ other) & !(1 << k)).count_ones() as i32;
                        let sign = if other >> k & 1 == 1 { 1.0 } else { -1.0 };
                        let product = (0..self.width)
                            .map(|c| f64::from(self.table[entry(other, c)]) * g(c))
                            .sum::<f64>();
                        step += sign * (1.0_f64 / 3.0).powi(apart) * product;
                    }
                    step *= 0.5 * 0.75_f64.powi(n as i32 - 1);
                    let slope = match self.wires.surrogate {
                        Surrogate::Triangle => (1.0 - f64::from(z(k)).abs()).max(0.0),
                        Surrogate::Identity => 1.0,
                    };
                    by_x[row * self.values + feature(k)] += step * slope;
                    by_threshold[limit(k)] -= step * slope;
                }
            }
        }
        [out, by_x, by_threshold, by_table]
    }

    /// Kernel or plain operations through Burn's autodiff.
    fn burn(&self, bits: bool, fused: bool) -> Found {
        let device = Device::flex().autodiff();
        let n = self.wires.inputs;
        let nodes = self.wires.nodes();
        let x = tensor(&self.x, [self.rows, self.values], &device);
        let thresholds = tensor(&self.thresholds, [self.thresholds.len()], &device);
        let wires = self.wires.clone();
        let (out, by_table) = if bits {
            let table: Tensor<2> = tensor(&self.table, [nodes, 1 << n], &device);
            let inputs = [
                x.clone().into_dispatch(),
                thresholds.clone().into_dispatch(),
                table.clone().into_dispatch(),
            ];
            let out = if fused {
                kernel::apply(BitTable::new(wires), inputs)
            } else {
                plain::bit_table(x.clone(), thresholds.clone(), table.clone(), &wires)
            };
            (out, Box::new(move |g: &_| numbers(table.grad(g))) as Box<dyn Fn(&_) -> _>)
        } else {
            let table: Tensor<3> = tensor(&self.table, [nodes, 1 << n, self.width], &device);
            let bias: Tensor<1> = tensor(&self.bias, [self.width], &device);
            let inputs = [
                x.clone().into_dispatch(),
                thresholds.clone().into_dispatch(),
                table.clone().into_dispatch(),
                bias.clone().into_dispatch(),
            ];
            let out = if fused {
                kernel::apply(RowSum { wires }, inputs)
            } else {
                plain::row_sum(x.clone(), thresholds.clone(), table.clone(), bias, &wires)
            };
            (out, Box::new(move |g: &_| numbers(table.grad(g))) as Box<dyn Fn(&_) -> _>)
        };
        let weights: Tensor<2> =
            Tensor::from_data(TensorData::new(self.gradient.clone(), out.dims().to_vec()), &device);
        let gradients = (out.clone() * weights).sum().backward();
        [
            numbers(Some(out.inner())),
            numbers(x.grad(&gradients)),
            numbers(thresholds.grad(&gradients)),
            by_table(&gradients),
        ]
    }
}

fn tensor<const D: usize>(values: &[f32], shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), device).require_grad()
}

fn numbers<const D: usize>(tensor: Option<Tensor<D>>) -> Vec<f64> {
    let values = tensor.unwrap().into_data().try_to_vec::<f32>().unwrap();
    values.into_iter().map(f64::from).collect()
}

fn close(what: &str, found: &Found, expected: &Found) {
    let names = ["output", "gradient by x", "by thresholds", "by tables"];
    for ((name, found), expected) in names.iter().zip(found).zip(expected) {
        assert_eq!(found.len(), expected.len(), "{what}: {name}");
        let size = expected.iter().fold(1.0_f64, |a, b| a.max(b.abs()));
        for (i, (a, b)) in found.iter().zip(expected).enumerate() {
            assert!((a - b).abs() <= 1e-5 * size, "{what}: {name}[{i}] is {a}, not {b}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn row_tables_have_the_reference_gradient(
        rows in 1_usize..70, values in 1_usize..12, width in 1_usize..150, nodes in 1_usize..7,
        inputs in 2_usize..=8, identity: bool, seed: u64,
    ) {
        let surrogate = if identity { Surrogate::Identity } else { Surrogate::Triangle };
        let width = if inputs > 6 { width % 20 + 2 } else { width + 1 };
        let problem = Problem::new([rows, values, width, nodes, inputs], surrogate, seed);
        let expected = problem.slow(false);
        close("kernel", &problem.burn(false, true), &expected);
        close("plain", &problem.burn(false, false), &expected);
    }

    #[test]
    fn bit_tables_have_the_reference_gradient(
        rows in 1_usize..70, values in 1_usize..12, nodes in 1_usize..70, inputs in 2_usize..=8,
        identity: bool, seed: u64,
    ) {
        let surrogate = if identity { Surrogate::Identity } else { Surrogate::Triangle };
        let nodes = if inputs > 6 { nodes % 8 + 1 } else { nodes };
        let problem = Problem::new([rows, values, 1, nodes, inputs], surrogate, seed);
        let expected = problem.slow(true);
        close("kernel", &problem.burn(true, true), &expected);
        close("plain", &problem.burn(true, false), &expected);
    }

    #[test]
    fn learned_wiring_and_spectra_agree_with_plain_operations(
        rows in 1_usize..40, values in 2_usize..9, wires in 1_usize..30, choices in 2_usize..5,
        inputs in 2_u32..=6, seed: u64,
    ) {
        let mut random = Random::new(seed);
        let device = Device::flex().autodiff();
        let wiring = Wiring::learned(values, wires, choices, &mut random);
        let choices = wiring.choices();
        let limits = Wiring::permutations(5, wires * choices, &mut random);
        let candidates = Candidates {
            features: Arc::clone(wiring.candidates()),
            thresholds: Arc::clone(limits.candidates()),
            choices,
        };
        let x: Tensor<2> = tensor(&random.normals(rows * values, 1.0), [rows, values], &device);
        let limits: Tensor<1> = tensor(&random.normals(5, 0.5), [5], &device);
        let scores: Tensor<2> =
            tensor(&choose::scores(&wiring, &mut random), [wires, choices], &device);
        let weights: Tensor<2> = tensor(&random.normals(rows * wires, 1.0), [rows, wires], &device);
        let fused = choose::choose(x.clone(), limits.clone(), scores.clone(), candidates.clone());
        let plain = choose::plain(x.clone(), limits.clone(), scores.clone(), &candidates);
        let both = [fused, plain].map(|out| {
            let g = (out.clone() * weights.clone()).sum().backward();
            let [by_x, by_scores] = [x.grad(&g), scores.grad(&g)].map(numbers);
            [numbers(Some(out.inner())), by_x, numbers(limits.grad(&g)), by_scores]
        });
        close("choose", &both[0], &both[1]);

        let shape = [3, 1 << inputs, 5];
        let count = 15 << inputs;
        let table: Tensor<3> = tensor(&random.normals(count, 1.0), shape, &device);
        let weights: Tensor<3> = tensor(&random.normals(count, 1.0), shape, &device);
        let fused = kernel::apply(Spectrum { damping: 0.5 }, [table.clone().into_dispatch()]);
        let both = [fused, super::plain::spectrum(table.clone(), 0.5)].map(|out: Tensor<3>| {
            let g = (out.clone() * weights.clone()).sum().backward();
            [numbers(Some(out.inner())), numbers(table.grad(&g)), vec![], vec![]]
        });
        close("spectrum", &both[0], &both[1]);
    }
}

#[test]
fn one_and_two_threads_return_the_same_bits() {
    let rows = Problem::new([97, 20, 80, 9, 6], Surrogate::Triangle, 4);
    let bits = Problem::new([97, 20, 1, 75, 6], Surrogate::Triangle, 5);
    let [one, two] = [1, 2].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| [rows.burn(false, true), bits.burn(true, true)])
    });
    assert_eq!(one, two);
}

#[test]
fn the_smoothed_difference_is_half_the_gradient_of_the_multilinear_extension() {
    // At bits softened to 1/4 and 3/4, differentiated by one bit (DWN's README calls it a heuristic).
    let problem = Problem::new([1, 3, 1, 1, 3], Surrogate::Identity, 8);
    let [_, by_x, ..] = problem.slow(true);
    let soft = |k: usize| {
        let z = problem.x[problem.wires.features[k] as usize]
            - problem.thresholds[problem.wires.thresholds[k] as usize];
        if z > 0.0 { 0.75 } else { 0.25 }
    };
    let extension = |p: &[f64; 3]| -> f64 {
        (0..8)
            .map(|a| {
                let share = |k: usize| if a >> k & 1 == 1 { p[k] } else { 1.0 - p[k] };
                f64::from(problem.table[a]) * share(0) * share(1) * share(2)
            })
            .sum()
    };
    let at = [soft(0), soft(1), soft(2)];
    for k in 0..3 {
        let (mut high, mut low) = (at, at);
        (high[k], low[k]) = (1.0, 0.0);
        // The extension is linear in each bit, so the difference is the derivative.
        let derivative = extension(&high) - extension(&low);
        let feature = problem.wires.features[k] as usize;
        let expected = 0.5 * derivative * f64::from(problem.gradient[0]);
        assert!((by_x[feature] - expected).abs() < 1e-12, "{} {expected}", by_x[feature]);
    }
}
