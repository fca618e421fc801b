//! The spectral regulariser.

use burn::tensor::Tensor;

use super::plain;
use super::spectrum::Spectrum;
use crate::kernel;

/// The squared Walsh-Hadamard coefficients of tables, order by order of interaction: the sum over
/// nodes and subsets `s` of inputs of `|s| * (2^-n * sum over addresses of +-entry)^2`, shape `[1]`.
///
/// `tables [nodes, 2^n, width]`. Added to the loss it pulls tables towards functions of few inputs,
/// so that an address which no sample visits inherits from its neighbours. Weighted by order:
/// without a weight it would be plain weight decay, by Parseval's identity.
pub fn spectral_penalty(tables: Tensor<3>) -> Tensor<1> {
    let [_, entries, _] = tables.dims();
    let coefficients = if kernel::native(&tables) {
        kernel::apply::<_, 1, 3>(Spectrum { damping: 1.0 }, [tables.into_dispatch()])
    } else {
        plain::spectrum(tables, 1.0)
    };
    let device = coefficients.device();
    let orders: Vec<f32> = (0..entries)
        .map(|subset| subset.count_ones() as f32 / (entries * entries) as f32)
        .collect();
    let orders = Tensor::<1>::from_floats(orders.as_slice(), &device).reshape([1, entries, 1]);
    (coefficients.clone() * coefficients * orders).sum()
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    #[test]
    fn a_function_of_one_input_costs_less_than_parity() {
        let penalty = |entry: fn(usize) -> f32| {
            let values: Vec<f32> = (0..16).map(entry).collect();
            let table =
                Tensor::<3>::from_data(TensorData::new(values, [1, 16, 1]), &Device::flex());
            spectral_penalty(table).into_scalar::<f32>()
        };
        assert_eq!(penalty(|_| 3.0), 0.0);
        assert_eq!(penalty(|a| if a & 4 > 0 { 1.0 } else { -1.0 }), 1.0);
        assert_eq!(penalty(|a| if a.count_ones() % 2 == 0 { 1.0 } else { -1.0 }), 4.0);
    }
}
