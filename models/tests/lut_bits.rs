//! `lut_bits`: the engine and Burn agree on every bit of the tables of a model that was trained and exported.
//!
//! The two compute norms and attention in `f32` and sum in different orders, so a feature that lies on the border
//! of two steps of the grid may fall to either side. What stands on the grid is integers: there, nothing differs.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

use anabranch_models::artifact::architecture::{
    Architecture, Bits, FeedForward, Head, Inputs, Rows, Wires,
};
use anabranch_models::artifact::{Artifact, Card, Tensor};
use anabranch_models::engine::{Gpt, Level, Options as Run};
use anabranch_models::train::export::{Precision, export, forward_on_grid};
use anabranch_models::train::{Options, Trainer, Windows};
use anabranch_models::transformer::{Input, Start, Transformer};
use burn::tensor::Device;

const CONTEXT: usize = 16;
const WIDTH: usize = 32;

/// A model that learned a little, and its artifact.
fn trained(feed_forward: FeedForward, choices: usize) -> (Transformer, Artifact, Vec<u32>) {
    let architecture = Architecture {
        width: WIDTH,
        heads: 2,
        layers: 2,
        inputs: Inputs::Tokens { vocabulary: 11, context: CONTEXT },
        head: Head::NextToken,
        feed_forward,
    };
    let text: Vec<u32> = (0..4_000_u32).map(|i| (i * i / 7 + i / 3) % 11).collect();
    let start = Start { damping: Some(0.5), choices, ..Start::default() };
    let device = Device::flex().autodiff();
    let model = Transformer::new(&architecture, &start, 3, &device).unwrap();
    let options = Options { rate: 5e-3, steps: 40, warm_up: 5, ..Options::default() };
    let mut trainer = Trainer::new(model, options);
    for _ in 0..40 {
        let windows = Windows { text: &text, length: CONTEXT };
        let batch = windows.draw(4, trainer.random()).unwrap();
        trainer.step(&batch).unwrap();
    }
    let model = trainer.trained();
    let tensors = export(&model, Precision::Int8).into_iter();
    let tensors = tensors.map(|t| (t.shape.name.clone(), Tensor::from_bytes(&t.shape, &t.bytes)));
    let artifact = Artifact::new(Card::new("trained", architecture), tensors.collect()).unwrap();
    (model, artifact, text)
}

fn agree(feed_forward: FeedForward, choices: usize) {
    let (model, artifact, text) = trained(feed_forward, choices);
    let ids = text[..64 * CONTEXT].to_vec();
    let input = Input::Tokens { ids: ids.clone(), length: CONTEXT };
    let burn = forward_on_grid(&model, &export(&model, Precision::Int8), &input).unwrap();
    let logits = burn.logits.into_data().try_into_vec::<f32>().unwrap();
    for level in Level::available() {
        let gpt = Gpt::load_with(&artifact, Run { level, int8: false }).unwrap();
        let (mut bits, mut differ) = (0, 0);
        for (layer, grid) in burn.grids.iter().enumerate() {
            let block = gpt.feed_forward(layer).unwrap();
            for (token, grid) in grid.chunks(WIDTH).enumerate() {
                for (found, expected) in
                    block.addresses(level, grid).iter().zip(&burn.addresses[layer])
                {
                    let nodes = found.len();
                    let expected = &expected[token * nodes..][..nodes];
                    for (found, expected) in found.iter().zip(expected) {
                        differ += (found ^ expected).count_ones();
                        bits += 1;
                    }
                }
            }
        }
        assert!(bits > 10_000, "{bits}");
        assert_eq!(differ, 0, "{level}: bits of {bits} addresses");

        let sequences: Vec<&[u32]> = ids.chunks(CONTEXT).collect();
        let grids = gpt.grids(&sequences).unwrap();
        let (mut values, mut moved) = (0, 0);
        for (found, expected) in grids.iter().flatten().zip(burn.grids.iter().flatten()) {
            values += 1;
            moved += usize::from(found != expected);
            assert!(found.abs_diff(*expected) <= 1, "{level}: {found} for {expected}");
        }
        assert_eq!(values, burn.grids.iter().map(Vec::len).sum::<usize>());
        assert!(moved * 2_000 <= values, "{level}: {moved} of {values} on the other side");

        let found = gpt.logits(&sequences).unwrap();
        assert_eq!(found.len(), logits.len());
        let (size, values) = (found.len() / sequences.len(), CONTEXT * WIDTH);
        let mut alike = 0;
        for (at, (found, expected)) in found.chunks(size).zip(logits.chunks(size)).enumerate() {
            let of = |grid: &[u8]| grid[at * values..][..values].to_vec();
            // A moved value may turn a bit of the next block, which adds another row.
            if grids.iter().zip(&burn.grids).all(|(a, b)| of(a) == of(b)) {
                alike += 1;
                let apart = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
                let apart = apart.fold(0.0, f32::max);
                assert!(apart <= 1e-4, "{level}: logits of sequence {at} are {apart} apart");
            }
        }
        assert!(alike * 2 > sequences.len(), "{level}: {alike} sequences without a moved value");
    }
}

#[test]
fn lut_bits_of_rows_on_features() {
    agree(FeedForward::Rows(Rows { nodes: 16, inputs: 6, wires: Wires::Axis }), 1);
}

#[test]
fn lut_bits_of_rows_with_learned_wires() {
    agree(FeedForward::Rows(Rows { nodes: 16, inputs: 4, wires: Wires::Axis }), 4);
}

#[test]
fn lut_bits_of_rows_on_projections() {
    agree(FeedForward::Rows(Rows { nodes: 16, inputs: 6, wires: Wires::Projected }), 1);
}

#[test]
fn lut_bits_of_one_bit_tables() {
    agree(FeedForward::Bits(Bits { levels: 4, nodes: vec![48, 64], inputs: 6 }), 1);
}
