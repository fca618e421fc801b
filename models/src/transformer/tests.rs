use burn::tensor::{Device, Gradients, Tensor, TensorData};
use proptest::prelude::*;

use super::{
    Input, InputError, Modality, Start, Transformer, binary_cross_entropy, cross_entropy, layer,
    plain,
};
use crate::artifact::architecture::{
    Architecture, AudioTokens, Bits, FeedForward, Head, ImageTokens, Inputs, Rows, TextTokens,
    Wires,
};
use crate::kernel::{self, attention::Attention, mlp::Mlp, norm::Norm};
use crate::random::Random;

fn leaf<const D: usize>(shape: [usize; D], random: &mut Random) -> Tensor<D> {
    let values = random.normals(shape.iter().product(), 1.0);
    let device = Device::flex().autodiff();
    Tensor::from_data(TensorData::new(values, shape), &device).require_grad()
}

fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec::<f32>().unwrap()
}

/// The gradients of a random scalar of `out`.
fn backward<const D: usize>(out: &Tensor<D>, seed: u64) -> Gradients {
    let weights = leaf(out.dims(), &mut Random::new(seed)).detach();
    (out.clone() * weights).sum().backward()
}

fn close(what: &str, found: Vec<f32>, expected: Vec<f32>) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let size = expected.iter().fold(1.0_f32, |a, b| a.max(b.abs()));
    for (i, (a, b)) in found.iter().zip(&expected).enumerate() {
        assert!((a - b).abs() <= 1e-5 * size, "{what}[{i}] is {a}, not {b}");
    }
}

macro_rules! same_gradients {
    ($what:expr, $fused:expr, $plain:expr, [$($leaf:ident),*]) => {
        let (fused, plain) = ($fused, $plain);
        let (g, h) = (backward(&fused, 9), backward(&plain, 9));
        close($what, numbers(fused.inner()), numbers(plain.inner()));
        $(close(
            &format!("{} by {}", $what, stringify!($leaf)),
            numbers($leaf.grad(&g).unwrap()),
            numbers($leaf.grad(&h).unwrap()),
        );)*
    };
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn kernels_agree_with_plain_operations(
        batch in 1_usize..4, tokens in 1_usize..20, heads in 1_usize..4, head in 1_usize..9,
        hidden in 1_usize..40, causal: bool, seed: u64,
    ) {
        let random = &mut Random::new(seed);
        let width = heads * head;
        let qkv = leaf([batch, tokens, 3 * width], random);
        same_gradients!(
            "attention",
            kernel::apply::<_, 1, 3>(Attention { heads, causal }, [qkv.clone().into_dispatch()]),
            plain::attention(qkv.clone(), heads, causal),
            [qkv]
        );
        let x = leaf([batch * tokens, width + 7], random);
        let (gain, bias) = (leaf([width + 7], random), leaf([width + 7], random));
        let inputs = [x.clone().into_dispatch(), gain.clone().into_dispatch(), bias.clone().into_dispatch()];
        same_gradients!(
            "norm",
            kernel::apply::<_, 3, 2>(Norm, inputs),
            plain::norm(x.clone(), gain.clone(), bias.clone()),
            [x, gain, bias]
        );
        let (up, a) = (leaf([hidden, width + 7], random), leaf([hidden], random));
        let (down, b) = (leaf([width + 7, hidden], random), leaf([width + 7], random));
        let inputs = [
            x.clone().into_dispatch(),
            up.clone().into_dispatch(),
            a.clone().into_dispatch(),
            down.clone().into_dispatch(),
            b.clone().into_dispatch(),
        ];
        let inner = plain::linear(x.clone(), up.clone()) + a.clone().unsqueeze::<2>();
        same_gradients!(
            "mlp",
            kernel::apply::<_, 5, 2>(Mlp, inputs),
            plain::linear(plain::gelu(inner), down.clone()) + b.clone().unsqueeze::<2>(),
            [x, up, a, down, b]
        );
        same_gradients!(
            "linear",
            layer::linear(x.clone(), up.clone()),
            plain::linear(x.clone(), up.clone()),
            [x, up]
        );
        let targets: Vec<u32> =
            (0..batch * tokens).map(|_| random.below(width + 7) as u32).collect();
        same_gradients!(
            "cross entropy",
            cross_entropy(x.clone(), &targets),
            plain::cross_entropy(x.clone(), &targets),
            [x]
        );
        // Logits as far out as those of a model that is sure.
        let sure = leaf([batch * tokens, width + 7], random) * 30.0;
        let sure = sure.detach().require_grad();
        let bits: Vec<u32> = (0..batch * tokens * (width + 7)).map(|_| random.below(2) as u32).collect();
        same_gradients!(
            "binary cross entropy",
            binary_cross_entropy(sure.clone(), &bits),
            plain::binary_cross_entropy(sure.clone(), bits.iter().map(|bit| *bit as f32).collect()),
            [sure]
        );
        let ids: Vec<u32> = (0..30).map(|_| random.below(hidden) as u32).collect();
        same_gradients!("gather", layer::gather(up.clone(), &ids), plain::gather(up.clone(), &ids), [up]);
    }
}

fn gpt(feed_forward: FeedForward) -> Architecture {
    Architecture {
        width: 16,
        heads: 2,
        layers: 2,
        inputs: Inputs::Tokens { vocabulary: 7, context: 6 },
        head: Head::NextToken,
        feed_forward,
    }
}

fn feed_forwards() -> Vec<FeedForward> {
    let rows = |wires| FeedForward::Rows(Rows { nodes: 5, inputs: 3, wires });
    vec![
        FeedForward::None,
        FeedForward::Mlp { hidden: 32 },
        rows(Wires::Axis),
        rows(Wires::Projected),
        FeedForward::Bits(Bits { levels: 3, nodes: vec![40], inputs: 4 }),
        FeedForward::Bits(Bits { levels: 3, nodes: vec![20, 40], inputs: 2 }),
    ]
}

#[test]
fn a_token_does_not_see_what_follows_whatever_the_feed_forward() {
    for feed_forward in feed_forwards() {
        for choices in [1, 4] {
            let start = Start { damping: Some(0.5), choices, ..Start::default() };
            let model =
                Transformer::new(&gpt(feed_forward.clone()), &start, 3, &Device::flex()).unwrap();
            let logits = |last| {
                let ids = vec![1, 2, 3, last];
                numbers(model.forward(&Input::Tokens { ids, length: 4 }).unwrap())
            };
            let (a, b) = (logits(4), logits(5));
            assert_eq!(a[..21], b[..21], "{feed_forward:?}");
            assert_ne!(a[21..], b[21..], "{feed_forward:?}");
        }
    }
}

#[test]
fn every_parameter_of_every_feed_forward_gets_a_gradient() {
    for feed_forward in feed_forwards() {
        for choices in [1, 4] {
            let start = Start { damping: Some(0.5), choices, ..Start::default() };
            let device = Device::flex().autodiff();
            let model = Transformer::new(&gpt(feed_forward.clone()), &start, 3, &device).unwrap();
            let input = Input::Tokens { ids: vec![1, 2, 3, 4, 5, 6], length: 6 };
            let mut g = model.loss(&input, &[2, 3, 4, 5, 6, 0]).unwrap().backward();
            let found = crate::train::gradients_of(&model, &mut g);
            for name in crate::train::parameters(&model).keys() {
                let gradient = found.get(name).unwrap_or_else(|| panic!("{name} has none"));
                assert!(gradient.iter().any(|v| *v != 0.0), "{name} of {feed_forward:?} is zero");
            }
        }
    }
}

#[test]
fn models_that_differ_in_their_feed_forward_start_alike() {
    let weights = |feed_forward| {
        let model =
            Transformer::new(&gpt(feed_forward), &Start::default(), 3, &Device::flex()).unwrap();
        let mut all = crate::train::parameters(&model);
        all.retain(|name, _| !["mlp", "rows", "norm2"].iter().any(|part| name.contains(part)));
        all
    };
    let rows = FeedForward::Rows(Rows { nodes: 5, inputs: 3, wires: Wires::Axis });
    assert_eq!(weights(FeedForward::Mlp { hidden: 9 }), weights(rows));
}

#[test]
fn a_picture_becomes_logits_of_classes() {
    let architecture = Architecture {
        inputs: Inputs::Image(ImageTokens { height: 8, width: 4, channels: 3, patch: 2 }),
        head: Head::Classes(5),
        ..gpt(FeedForward::Mlp { hidden: 8 })
    };
    let model = Transformer::new(&architecture, &Start::default(), 1, &Device::flex()).unwrap();
    let mut pixels = Random::new(1).normals(2 * 96, 1.0);
    let before = numbers(model.forward(&Input::Images(pixels.clone())).unwrap());
    assert_eq!(before.len(), 10);
    pixels[95] += 1.0;
    let after = numbers(model.forward(&Input::Images(pixels.clone())).unwrap());
    assert_ne!(before[..5], after[..5], "the last pixel of the first picture reaches its class");
    assert_eq!(before[5..], after[5..], "and no other");
    pixels.pop();
    let error = model.forward(&Input::Images(pixels)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "191 values of images are no whole batch; the model takes 96 per record"
    );
}

#[test]
fn a_picture_becomes_logits_of_the_bits_of_each_patch() {
    let architecture = Architecture {
        inputs: Inputs::Image(ImageTokens { height: 8, width: 4, channels: 3, patch: 2 }),
        head: Head::Masks(5),
        ..gpt(FeedForward::None)
    };
    let model = Transformer::new(&architecture, &Start::default(), 1, &Device::flex()).unwrap();
    let input = Input::Images(Random::new(1).normals(2 * 96, 1.0));
    let logits = model.forward(&input).unwrap();
    assert_eq!(logits.dims(), [2 * architecture.answers(), 5]);
    let patch = numbers(logits.narrow(0, 9, 1));
    // What the head makes of a patch depends on it more than on the others.
    let mut alone = model.clone();
    alone.blocks.clear();
    let pixels = Random::new(1).normals(2 * 96, 1.0);
    let mut other = pixels.clone();
    other[0] += 1.0;
    let [before, after] =
        [pixels, other].map(|p| numbers(alone.forward(&Input::Images(p)).unwrap()));
    assert_ne!(before[..5], after[..5]);
    assert_eq!(before[5..], after[5..]);
    assert!(patch.iter().all(|logit| logit.is_finite()));
    let loss = model.loss(&input, &[1; 16 * 5]).unwrap().into_scalar::<f32>();
    assert!((loss - 2_f32.ln()).abs() < 0.2, "{loss}");
    let refused = |targets: &[u32]| model.loss(&input, targets).unwrap_err();
    assert!(matches!(refused(&[1; 16]), InputError::Targets { found: 16, expected: 80 }));
    let mut bits = [0; 80];
    bits[7] = 2;
    assert!(matches!(refused(&bits), InputError::Target { target: 2, row: 7, classes: 2 }));
}

#[test]
fn an_encoder_takes_any_subset_of_its_modalities() {
    let architecture = Architecture {
        inputs: Inputs::Modalities {
            image: Some(ImageTokens { height: 4, width: 4, channels: 1, patch: 2 }),
            audio: Some(AudioTokens { bands: 3, frames: 4, frames_per_token: 2 }),
            text: Some(TextTokens { vocabulary: 9, length: 5 }),
        },
        head: Head::Classes(4),
        ..gpt(FeedForward::Mlp { hidden: 8 })
    };
    let model = Transformer::new(&architecture, &Start::default(), 1, &Device::flex()).unwrap();
    let whole = Input::Modalities {
        batch: 2,
        image: Some(Random::new(1).normals(32, 1.0)),
        audio: Some(Random::new(2).normals(24, 1.0)),
        text: Some(vec![1, 2, 3, 4, 5, 8, 7, 6, 5, 4]),
    };
    let mut seen = vec![numbers(model.forward(&whole).unwrap())];
    for dropped in [Modality::Image, Modality::Audio, Modality::Text] {
        let input = whole.clone().without(dropped);
        seen.push(numbers(model.forward(&input).unwrap()));
        for also in [Modality::Image, Modality::Audio, Modality::Text] {
            seen.push(numbers(model.forward(&input.clone().without(also)).unwrap()));
        }
    }
    assert!(seen.iter().all(|logits| logits.len() == 8 && logits.iter().all(|v| v.is_finite())));
    let distinct: std::collections::HashSet<String> =
        seen.iter().map(|logits| format!("{logits:?}")).collect();
    assert_eq!(distinct.len(), 7, "one answer per subset that is not empty");
    let nothing = Input::Modalities { batch: 2, image: None, audio: None, text: None };
    assert_eq!(model.forward(&nothing).unwrap_err(), InputError::Nothing);
}

#[test]
fn what_a_model_cannot_take_is_named() {
    let architecture = gpt(FeedForward::None);
    let model = Transformer::new(&architecture, &Start::default(), 1, &Device::flex()).unwrap();
    let message = |input| model.forward(&input).unwrap_err().to_string();
    assert_eq!(
        message(Input::Tokens { ids: vec![0, 1, 2, 9], length: 2 }),
        "token 9 at position 1 of row 1 is not below the vocabulary's 7"
    );
    assert_eq!(
        message(Input::Tokens { ids: vec![0; 9], length: 9 }),
        "rows of 9 tokens do not fit a model of 6; cut or pad them"
    );
    assert_eq!(message(Input::Images(vec![0.0])), "the model takes tokens, not images");
    assert_eq!(message(Input::Tokens { ids: vec![], length: 2 }), InputError::Empty.to_string());
    let input = Input::Tokens { ids: vec![0, 1], length: 2 };
    assert_eq!(
        model.loss(&input, &[1, 7]).unwrap_err().to_string(),
        "target 7 of row 1 is no class of the 7 that the model knows"
    );
    assert!(matches!(model.loss(&input, &[1]), Err(InputError::Targets { found: 1, expected: 2 })));
}
