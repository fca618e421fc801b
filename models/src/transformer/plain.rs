//! The layers of a transformer in plain tensor operations, for backends without kernels.

use burn::tensor::{Int, Tensor, TensorData, activation};

use crate::artifact::architecture::NORM_EPSILON;

pub(super) fn norm<const D: usize>(x: Tensor<D>, gain: Tensor<1>, bias: Tensor<1>) -> Tensor<D> {
    let centred = x.clone() - x.mean_dim(D - 1);
    let variance = (centred.clone() * centred.clone()).mean_dim(D - 1);
    centred / (variance + NORM_EPSILON).sqrt() * gain.unsqueeze::<D>() + bias.unsqueeze::<D>()
}

/// `x W^T`.
pub(super) fn linear<const D: usize>(x: Tensor<D>, weight: Tensor<2>) -> Tensor<D> {
    x.matmul(weight.transpose().unsqueeze::<D>())
}

pub(super) fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let cubed = x.clone() * x.clone() * x.clone();
    let inner = (x.clone() + cubed * 0.044_715) * std::f32::consts::FRAC_2_PI.sqrt();
    x * 0.5 * (inner.tanh() + 1.0)
}

/// `qkv [batch, tokens, 3 width]` to `[batch, tokens, width]`.
pub(super) fn attention(qkv: Tensor<3>, heads: usize, causal: bool) -> Tensor<3> {
    let [batch, tokens, triple] = qkv.dims();
    let width = triple / 3;
    let head = width / heads.max(1);
    let part = |i: usize| {
        let part = qkv.clone().narrow(2, i * width, width);
        part.reshape([batch, tokens, heads, head]).swap_dims(1, 2)
    };
    let scores = part(0).matmul(part(1).transpose()) / (head as f32).sqrt();
    let scores = if causal {
        let hidden: Vec<f32> = (0..tokens * tokens)
            .map(|i| if i % tokens > i / tokens { -1e30 } else { 0.0 })
            .collect();
        scores
            + Tensor::<4>::from_data(TensorData::new(hidden, [1, 1, tokens, tokens]), &qkv.device())
    } else {
        scores
    };
    let mixed = activation::softmax(scores, 3).matmul(part(2));
    mixed.swap_dims(1, 2).reshape([batch, tokens, width])
}

pub(super) fn cross_entropy(logits: Tensor<2>, targets: &[u32]) -> Tensor<1> {
    let targets: Vec<i64> = targets.iter().map(|t| i64::from(*t)).collect();
    let rows = targets.len();
    let index = TensorData::new(targets, [rows, 1]);
    let index = Tensor::<2, Int>::from_data(index, &logits.device());
    activation::log_softmax(logits, 1).gather(1, index).mean().neg()
}

/// `max(x, 0) - x t + ln(1 + exp(-|x|))`, which overflows nowhere.
pub(super) fn binary_cross_entropy(logits: Tensor<2>, targets: Vec<f32>) -> Tensor<1> {
    let targets = TensorData::new(targets, logits.dims());
    let targets = Tensor::<2>::from_data(targets, &logits.device());
    let unsure = logits.clone().abs().neg().exp().log1p();
    (activation::relu(logits.clone()) - logits * targets + unsure).mean()
}

pub(super) fn gather(table: Tensor<2>, ids: &[u32]) -> Tensor<2> {
    let ids: Vec<i64> = ids.iter().map(|id| i64::from(*id)).collect();
    let ids = Tensor::<1, Int>::from_data(TensorData::from(ids.as_slice()), &table.device());
    table.select(0, ids)
}
