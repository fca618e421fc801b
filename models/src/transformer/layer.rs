//! Layers shared by embeddings, blocks and heads: each is a kernel on the CPU and plain tensor
//! operations elsewhere.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};

use super::plain;
use crate::kernel::{self, bits::BinaryEntropy, entropy::Entropy, gather::Gather, linear, norm};
use crate::random::Random;

/// The deviation of weights at the start (GPT-2, nanoGPT).
pub(super) const DEVIATION: f32 = 0.02;

/// Layer normalisation with gain and bias.
#[derive(Module, Debug)]
pub struct Norm {
    /// `[width]`, ones at the start.
    pub gain: Param<Tensor<1>>,
    /// `[width]`, zeros at the start.
    pub bias: Param<Tensor<1>>,
}

impl Norm {
    pub(super) fn new(width: usize, device: &Device) -> Self {
        Self { gain: constant(1.0, width, device), bias: constant(0.0, width, device) }
    }

    /// Normalises the last dimension.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let (gain, bias) = (self.gain.val(), self.bias.val());
        if kernel::native(&x) {
            let inputs = [x.into_dispatch(), gain.into_dispatch(), bias.into_dispatch()];
            return kernel::apply(norm::Norm, inputs);
        }
        plain::norm(x, gain, bias)
    }
}

/// A linear layer with bias.
#[derive(Module, Debug)]
pub struct Affine {
    /// `[out, in]`.
    pub weight: Param<Tensor<2>>,
    /// `[out]`, zeros at the start.
    pub bias: Param<Tensor<1>>,
}

impl Affine {
    pub(super) fn new(
        [inputs, outputs]: [usize; 2],
        deviation: f32,
        random: &mut Random,
        device: &Device,
    ) -> Self {
        let weight = normal([outputs, inputs], deviation, random, device);
        Self { weight, bias: constant(0.0, outputs, device) }
    }

    /// `x W^T + b`.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        add_bias(linear(x, self.weight.val()), self.bias.val())
    }
}

/// `x W^T` for a weight `[out, in]`.
pub(super) fn linear<const D: usize>(x: Tensor<D>, weight: Tensor<2>) -> Tensor<D> {
    if kernel::native(&x) {
        let linear = linear::Linear { transposed: false };
        return kernel::apply(linear, [x.into_dispatch(), weight.into_dispatch()]);
    }
    plain::linear(x, weight)
}

pub(super) fn add_bias<const D: usize>(x: Tensor<D>, bias: Tensor<1>) -> Tensor<D> {
    if kernel::native(&x) {
        return kernel::apply(linear::Bias, [x.into_dispatch(), bias.into_dispatch()]);
    }
    x + bias.unsqueeze::<D>()
}

/// Rows of `table [entries, width]`: `[ids, width]`. Every id is below the number of entries.
pub(super) fn gather(table: Tensor<2>, ids: &[u32]) -> Tensor<2> {
    if kernel::native(&table) {
        let gather = Gather { indices: ids.to_vec(), shape: vec![ids.len()] };
        return kernel::apply(gather, [table.into_dispatch()]);
    }
    plain::gather(table, ids)
}

/// The mean cross entropy in nats of logits `[rows, classes]` against one class per row, shape `[1]`.
///
/// ```
/// use anabranch_models::transformer::cross_entropy;
/// use burn::tensor::{Device, Tensor};
///
/// let logits = Tensor::<2>::from_floats([[0.0, 0.0, 0.0, 0.0]], &Device::flex());
/// let loss = cross_entropy(logits, &[2]).into_scalar::<f32>();
/// assert!((loss - 4_f32.ln()).abs() < 1e-6);
/// ```
///
/// # Panics
///
/// When a class is not below the number of classes, or the number of rows is another.
pub fn cross_entropy(logits: Tensor<2>, targets: &[u32]) -> Tensor<1> {
    let [rows, classes] = logits.dims();
    assert!(rows == targets.len(), "{rows} rows of logits for {} targets", targets.len());
    assert!(targets.iter().all(|t| (*t as usize) < classes), "a target is not below {classes}");
    if kernel::native(&logits) {
        let entropy = Entropy { targets: targets.to_vec() };
        return kernel::apply(entropy, [logits.into_dispatch()]);
    }
    plain::cross_entropy(logits, targets)
}

/// The mean cross entropy in nats of logits `[rows, bits]` against a bit (0 or 1) each, shape `[1]`.
///
/// ```
/// use anabranch_models::transformer::binary_cross_entropy;
/// use burn::tensor::{Device, Tensor};
///
/// let logits = Tensor::<2>::from_floats([[0.0, -20.0]], &Device::flex());
/// // One bit is not known at all, the other is known to be 0.
/// let loss = binary_cross_entropy(logits, &[1, 0]).into_scalar::<f32>();
/// assert!((loss - 2_f32.ln() / 2.0).abs() < 1e-6);
/// ```
///
/// # Panics
///
/// When a target is neither 0 nor 1, or there is not one for each logit.
pub fn binary_cross_entropy(logits: Tensor<2>, targets: &[u32]) -> Tensor<1> {
    let [rows, bits] = logits.dims();
    assert!(rows * bits == targets.len(), "{rows} x {bits} logits for {} bits", targets.len());
    assert!(targets.iter().all(|t| *t < 2), "a target is neither 0 nor 1");
    let targets: Vec<f32> = targets.iter().map(|t| *t as f32).collect();
    if kernel::native(&logits) {
        return kernel::apply(BinaryEntropy { targets }, [logits.into_dispatch()]);
    }
    plain::binary_cross_entropy(logits, targets)
}

pub(super) fn normal<const D: usize>(
    shape: [usize; D],
    deviation: f32,
    random: &mut Random,
    device: &Device,
) -> Param<Tensor<D>> {
    let values = random.normals(shape.iter().product(), deviation);
    Param::from_data(TensorData::new(values, shape), device)
}

pub(super) fn constant(value: f32, width: usize, device: &Device) -> Param<Tensor<1>> {
    Param::from_data(TensorData::new(vec![value; width], [width]), device)
}
