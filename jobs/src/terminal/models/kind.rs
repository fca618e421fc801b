//! What a model is, in a few words.

use anabranch_models::artifact::architecture::{
    Architecture, Bits, FeedForward, Head, Inputs, Rows, Wires,
};

use crate::terminal::number::{count, plural};

/// `GPT 4x128`: layers and width.
pub(super) fn kind(architecture: &Architecture) -> String {
    let Architecture { layers, width, .. } = architecture;
    let name = match (&architecture.inputs, architecture.head) {
        (Inputs::Tokens { .. }, Head::NextToken) => "GPT",
        (Inputs::Tokens { .. }, Head::Classes(_) | Head::Masks(_)) => "text classifier",
        (Inputs::Image(_), _) => "ViT",
        (Inputs::Modalities { .. }, _) => "encoder",
    };
    format!("{name} {layers}x{width}")
}

/// What goes in and comes out.
pub(super) fn task(architecture: &Architecture) -> String {
    let text = |vocabulary: usize, length: usize| {
        let (length, vocabulary) = (count(length as u64), count(vocabulary as u64));
        format!("texts of at most {length} tokens, {vocabulary} different ones")
    };
    let image = |height: usize, width: usize, channels: usize, patch: usize| {
        let channels = plural(channels as u64, "channel");
        format!("pictures of {width} x {height} pixels, {channels}, in patches of {patch}")
    };
    let inputs = match &architecture.inputs {
        Inputs::Tokens { vocabulary, context } => text(*vocabulary, *context),
        Inputs::Image(it) => image(it.height, it.width, it.channels, it.patch),
        Inputs::Modalities { image: picture, audio, text: tokens } => {
            let picture = picture.map(|it| image(it.height, it.width, it.channels, it.patch));
            let audio = audio.map(|it| {
                let (frames, bands) =
                    (plural(it.frames as u64, "frame"), plural(it.bands as u64, "band"));
                format!("spectra of {frames} and {bands}")
            });
            let tokens = tokens.map(|it| text(it.vocabulary, it.length));
            [picture, audio, tokens].into_iter().flatten().collect::<Vec<_>>().join("; ")
        }
    };
    match architecture.head {
        Head::NextToken => format!("{inputs}; the next token"),
        Head::Classes(classes) => format!("{inputs}; {classes} classes"),
        Head::Masks(bits) => format!("{inputs}; masks of {bits} bits for each token"),
    }
}

/// The second half of its blocks.
pub(super) fn feed_forward(feed_forward: &FeedForward) -> String {
    match feed_forward {
        FeedForward::None => "none".to_owned(),
        FeedForward::Mlp { hidden } => format!("MLP of {hidden}"),
        FeedForward::Bits(Bits { levels, nodes, inputs }) => {
            let nodes = nodes.iter().map(usize::to_string).collect::<Vec<_>>().join(" and ");
            format!("{nodes} 1-bit tables of {inputs} inputs, {levels} thresholds")
        }
        FeedForward::Rows(Rows { nodes, inputs, wires }) => {
            let wires = match wires {
                Wires::Axis => "one feature to a wire",
                Wires::Projected => "projected wires",
            };
            format!("{nodes} tables of rows, {inputs} inputs, {wires}")
        }
    }
}
