//! Whole models: texts at once, and token by token with keys and values kept.

use std::hint::black_box;

use anabranch_models::artifact::Artifact;
use anabranch_models::engine::{Gpt, Options};

use crate::{least, rounds};

/// Figures of a model against that of MLPs.
pub(crate) fn measure(judged: &Artifact, mlp: &Artifact) -> Vec<(String, f64, &'static str)> {
    let load = |artifact, int8| {
        let options = Options { int8, ..Options::default() };
        Gpt::load_with(artifact, options).unwrap_or_else(|error| panic!("{error}"))
    };
    let models = [load(judged, false), load(mlp, false), load(mlp, true)];
    let mut times = [[f64::INFINITY; 2]; 3];
    for _ in 0..rounds() {
        for (model, times) in models.iter().zip(&mut times) {
            times[0] = times[0].min(texts(model));
            times[1] = times[1].min(steps(model));
        }
    }
    let mut figures = Vec::new();
    for (name, [texts, steps]) in ["judged", "mlp_f32", "mlp_int8"].into_iter().zip(times) {
        figures.push((format!("model_{name}_b512_tokens_per_second"), 1.0 / texts, "tokens/s"));
        figures.push((format!("model_{name}_step_tokens_per_second"), 1.0 / steps, "tokens/s"));
    }
    let [ours, plain, int8] = times;
    figures.push(("model_vs_f32".to_owned(), plain[0] / ours[0], "x"));
    figures.push(("model_vs_int8".to_owned(), int8[0] / ours[0], "x"));
    figures.push(("model_step_vs_f32".to_owned(), plain[1] / ours[1], "x"));
    figures.push(("model_step_vs_int8".to_owned(), int8[1] / ours[1], "x"));
    figures
}

/// Seconds for a token of about 512 in whole texts.
fn texts(gpt: &Gpt) -> f64 {
    let text = text(gpt);
    let texts = vec![text.as_slice(); 512_usize.div_ceil(text.len())];
    let tokens = texts.len() * text.len();
    least(|| drop(black_box(gpt.logits(&texts).unwrap()))) / tokens as f64
}

/// Seconds for a token of a text that is read token by token.
fn steps(gpt: &Gpt) -> f64 {
    let text = text(gpt);
    let read = || {
        let mut state = gpt.start();
        for token in &text {
            drop(black_box(gpt.step(&mut state, *token).unwrap()));
        }
    };
    least(read) / text.len() as f64
}

fn text(gpt: &Gpt) -> Vec<u32> {
    let vocabulary = gpt.architecture().outputs().max(1) as u32;
    (0..gpt.context() as u32).map(|i| i.wrapping_mul(2_654_435_761) % vocabulary).collect()
}
