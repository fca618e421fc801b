//! The block whose tables hold rows: `bias + sum over nodes of table[node][address]`.

use std::sync::Arc;

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};

use super::address::Wires;
use super::choose::{self, Candidates};
use super::spectrum::Spectrum;
use super::sum::RowSum;
use super::{FEWEST_INPUTS, MOST_INPUTS, Surrogate, Wiring, plain};
use crate::kernel::{self, linear::Linear};
use crate::random::Random;

/// The sizes of a block and how it starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowsOptions {
    /// Features in and out.
    pub width: usize,
    /// Nodes: so many rows are added.
    pub nodes: usize,
    /// Wires per node, 2 to 8: a table has `2^inputs` rows.
    pub inputs: usize,
    /// Whether a wire reads a learned projection of all features instead of one of them.
    pub projected: bool,
    /// Whether tables are learned in the Walsh-Hadamard basis, with this damping per order: 1/2
    /// helped projected wires in short runs.
    pub damping: Option<f32>,
    /// The deviation of the rows at the start. All nodes' rows are added, so it is to be small beside what the block
    /// reads: 0.02 learned worse by 0.01 nats in a small GPT.
    pub deviation: f32,
}

impl Default for RowsOptions {
    fn default() -> Self {
        Self { width: 128, nodes: 64, inputs: 6, projected: false, damping: None, deviation: 0.002 }
    }
}

/// Tables of rows over binary features: a feed-forward block without multiplications when its wires
/// are features ("axis"), with one small product when they are projections.
#[derive(Module, Debug)]
pub struct Rows {
    /// `[wires, width]`, when wires are projections.
    pub projection: Option<Param<Tensor<2>>>,
    /// `[wires, choices]`, when the wiring is learned.
    pub scores: Option<Param<Tensor<2>>>,
    /// One threshold per wire.
    pub thresholds: Param<Tensor<1>>,
    /// `[nodes, 2^inputs, width]`: rows, or their coefficients when tables are damped.
    pub table: Param<Tensor<3>>,
    /// `[width]`.
    pub bias: Param<Tensor<1>>,
    #[module(skip)]
    wiring: Wiring,
    #[module(skip)]
    damping: Option<f32>,
}

impl Rows {
    /// A new block. `wiring` says which features the wires read; projected wires ignore it.
    ///
    /// Thresholds start spread over the range where layer normalisation puts its output, so that
    /// the bits of a node differ from the first step on.
    ///
    /// # Panics
    ///
    /// When a node has not 2 to 8 inputs, or the wiring another number of wires than all nodes.
    pub fn new(
        options: &RowsOptions,
        wiring: &Wiring,
        random: &mut Random,
        device: &Device,
    ) -> Self {
        let RowsOptions { width, nodes, inputs, projected, damping, deviation } = *options;
        let wires = nodes * inputs;
        assert!((FEWEST_INPUTS..=MOST_INPUTS).contains(&inputs), "{inputs} inputs of a node");
        assert!(projected || wiring.wires() == wires, "{} wires for {wires}", wiring.wires());
        let (spread, wiring) =
            if projected { (0.49, Wiring::straight(wires)) } else { (0.7, wiring.clone()) };
        // A table of coefficients sums 2^n of them in every entry.
        let deviation = match damping {
            Some(_) => deviation / ((1_u32 << inputs) as f32).sqrt(),
            None => deviation,
        };
        let parameter = |values: Vec<f32>, shape: &[usize]| TensorData::new(values, shape.to_vec());
        let projection = projected.then(|| {
            let values = random.normals(wires * width, 1.0 / (width as f32).sqrt());
            Param::from_data(parameter(values, &[wires, width]), device)
        });
        let scores = (wiring.choices() > 1).then(|| {
            let values = choose::scores(&wiring, random);
            Param::from_data(parameter(values, &[wires, wiring.choices()]), device)
        });
        let thresholds = parameter(random.normals(wires, spread), &[wires]);
        let table = random.normals((nodes * width) << inputs, deviation);
        let table = parameter(table, &[nodes, 1 << inputs, width]);
        Self {
            projection,
            scores,
            thresholds: Param::from_data(thresholds, device),
            table: Param::from_data(table, device),
            bias: Param::from_data(parameter(vec![0.0; width], &[width]), device),
            wiring,
            damping,
        }
    }

    /// `[rows, width]` to `[rows, width]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let x = match &self.projection {
            Some(projection) => project(x, projection.val()),
            None => x,
        };
        let straight = || Arc::clone(Wiring::straight(self.wiring.wires()).candidates());
        let Some(scores) = &self.scores else {
            let wires = Wires {
                features: Arc::clone(self.wiring.candidates()),
                thresholds: straight(),
                inputs: self.inputs(),
                surrogate: Surrogate::Triangle,
            };
            return row_sum(x, self.thresholds.val(), self.rows(), self.bias.val(), wires);
        };
        // Candidates differ in the feature; they share the wire's threshold.
        let choices = self.wiring.choices();
        let shared = (0..self.wiring.candidates().len()).map(|i| (i / choices) as u32).collect();
        let candidates = Candidates {
            features: Arc::clone(self.wiring.candidates()),
            thresholds: shared,
            choices,
        };
        let zero = Tensor::zeros([1], &x.device());
        let z = choose::choose(x, self.thresholds.val(), scores.val(), candidates);
        let wires = Wires {
            features: straight(),
            thresholds: vec![0; self.wiring.wires()].into(),
            inputs: self.inputs(),
            surrogate: Surrogate::Identity,
        };
        row_sum(z, zero, self.rows(), self.bias.val(), wires)
    }

    /// The rows that are added: the tables, transformed from their coefficients when damped.
    pub fn rows(&self) -> Tensor<3> {
        match self.damping {
            None => self.table.val(),
            Some(damping) => spectrum(self.table.val(), damping),
        }
    }

    /// Which feature each wire reads now; `None` when wires are projections.
    pub fn features(&self) -> Option<Vec<u32>> {
        if self.projection.is_some() {
            return None;
        }
        let scores =
            self.scores.as_ref().and_then(|s| s.val().into_data().try_to_vec::<f32>().ok());
        Some(match scores {
            Some(scores) => choose::chosen(&self.wiring, &scores),
            None => self.wiring.candidates().to_vec(),
        })
    }

    fn inputs(&self) -> usize {
        let [_, entries, _] = self.table.lazy_shape().dims::<3>();
        entries.trailing_zeros() as usize
    }
}

fn project(x: Tensor<2>, projection: Tensor<2>) -> Tensor<2> {
    if kernel::native(&x) {
        let linear = Linear { transposed: false };
        return kernel::apply(linear, [x.into_dispatch(), projection.into_dispatch()]);
    }
    x.matmul(projection.transpose())
}

fn row_sum(
    x: Tensor<2>,
    thresholds: Tensor<1>,
    table: Tensor<3>,
    bias: Tensor<1>,
    wires: Wires,
) -> Tensor<2> {
    if kernel::native(&x) {
        let inputs = [
            x.into_dispatch(),
            thresholds.into_dispatch(),
            table.into_dispatch(),
            bias.into_dispatch(),
        ];
        return kernel::apply(RowSum { wires }, inputs);
    }
    plain::row_sum(x, thresholds, table, bias, &wires)
}

fn spectrum(coefficients: Tensor<3>, damping: f32) -> Tensor<3> {
    if kernel::native(&coefficients) {
        return kernel::apply(Spectrum { damping }, [coefficients.into_dispatch()]);
    }
    plain::spectrum(coefficients, damping)
}
