//! Models to show in tests.

use anabranch_models::artifact::architecture::{
    Architecture, FeedForward, Head, ImageTokens, Inputs, Rows, Wires,
};
use anabranch_models::artifact::{Accuracy, Artifact, Card};
use anabranch_models::engine::example;
use anabranch_operators::infer::shelf::Opened;

use crate::cli::ModelSeen;

fn seen(place: &str, architecture: &Architecture, edit: impl FnOnce(&mut Card)) -> ModelSeen {
    let random = example::random(architecture).unwrap();
    let mut card = Card::new("", architecture.clone());
    edit(&mut card);
    let artifact = Artifact::new(card, random.tensors().clone()).unwrap();
    let bytes = 2_000 + artifact.card().files.values().map(|file| file.bytes).sum::<u64>();
    let opened = Opened { artifact, sha256: "5f0c9a12".repeat(8), bytes };
    ModelSeen::whole(place.to_owned(), opened)
}

fn of_digits(place: &str, accuracy: f64, feed_forward: FeedForward) -> ModelSeen {
    let image = ImageTokens { height: 28, width: 28, channels: 1, patch: 7 };
    let architecture = Architecture {
        width: 32,
        heads: 4,
        layers: 2,
        inputs: Inputs::Image(image),
        head: Head::Classes(10),
        feed_forward,
    };
    seen(place, &architecture, |card| {
        card.name = "digits".to_owned();
        card.training.steps = 2_000;
        card.training.seed = 7;
        card.training.tasks = vec!["digits".to_owned()];
        card.training.data_commit = "mnist-table, version 3".to_owned();
        card.accuracy.push(Accuracy {
            task: "digits".to_owned(),
            measure: "accuracy".to_owned(),
            value: accuracy,
            interval: [accuracy - 0.004, accuracy + 0.004],
            examples: 10_000,
        });
    })
}

/// A classifier with tables.
pub(super) fn digits(place: &str, accuracy: f64) -> ModelSeen {
    let rows = Rows { nodes: 64, inputs: 6, wires: Wires::Axis };
    of_digits(place, accuracy, FeedForward::Rows(rows))
}

/// The same without any.
pub(super) fn without_feed_forward(place: &str, accuracy: f64) -> ModelSeen {
    of_digits(place, accuracy, FeedForward::None)
}

/// A model of texts of which little is known.
pub(super) fn shakespeare(place: &str) -> ModelSeen {
    let architecture = Architecture {
        width: 32,
        heads: 4,
        layers: 2,
        inputs: Inputs::Tokens { vocabulary: 65, context: 64 },
        head: Head::NextToken,
        feed_forward: FeedForward::Mlp { hidden: 128 },
    };
    seen(place, &architecture, |card| card.name = "text".to_owned())
}
