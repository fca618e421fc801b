//! Objects of drawings.

use std::error::Error;
use std::path::Path;

use anabranch_models::artifact::architecture::{
    Architecture, FeedForward, Head, ImageTokens, Inputs,
};
use anabranch_operators::task::{Right, TaskOptions, lesson};
use serde_json::{Value, json};

use super::scenes::{self, PICTURE, SIDE, Scene};
use super::{RUN, SEED, Size};
use crate::network::Network;
use crate::part::{Found, Part, Runs};

pub(crate) struct Segment;

pub(crate) const FULL: Size = Size { steps: 1200, records: usize::MAX };
/// Pixels of a side of a patch.
const PATCH: usize = 10;
pub(crate) const WIDTH: usize = 48;
const CODECS: [&str; 4] = ["png", "webp", "jpeg", "qoi"];

/// A network that draws masks.
pub(crate) fn network(seed: u64, width: usize, steps: u64) -> Network {
    let image = ImageTokens { height: SIDE, width: SIDE, channels: 3, patch: PATCH };
    let architecture = Architecture {
        width,
        heads: 4,
        layers: 2,
        inputs: Inputs::Image(image),
        head: Head::Masks(PATCH * PATCH),
        feed_forward: FeedForward::Mlp { hidden: 2 * width },
    };
    Network { name: "objects", architecture, batch: 16, rate: 3e-3, steps, seed }
}

/// Trains a network on these and saves it into a folder. Gives its last loss.
pub(crate) fn train_on(
    scenes: &[Scene],
    network: &Network,
    folder: &Path,
) -> Result<f64, Box<dyn Error>> {
    network.train(folder, |random| {
        let scene = scenes.get(random.below(scenes.len())).ok_or("no record to train on")?;
        let lesson = lesson(&network.architecture, None, &scene.media(), &scene.right())?;
        Ok((lesson.values, lesson.bits))
    })
}

fn run(size: Size) -> Result<Value, Box<dyn Error>> {
    let [train, mut test] = scenes::all()?;
    test.truncate(size.records);
    let folder = tempfile::tempdir()?;
    let model = folder.path().join("model");
    let loss = train_on(&train, &network(SEED, WIDTH, size.steps), &model)?;
    let task = json!({ "kind": "segment", "model": model, "label": "mask" });
    let judge = serde_json::from_value::<TaskOptions>(task.clone())?.build()?;
    let media: Vec<_> = test.iter().map(Scene::media).collect();
    let right: Vec<_> = test.iter().map(Scene::right).collect();
    let known: Vec<_> = right.iter().map(|right| Some(Right::Media(*right))).collect();
    let outcomes = judge.outcomes(&media, &known).into_iter();
    let scores =
        outcomes.map(|outcome| Ok(outcome?.score)).collect::<Result<Vec<f64>, String>>()?;
    let mut found = super::sweep(&task, &CODECS, media, right)?;
    found.insert("trained".to_owned(), json!(train.len()));
    found.insert("raw".to_owned(), json!(PICTURE.bytes()));
    found.insert("training_loss".to_owned(), json!(loss));
    found.insert("score".to_owned(), json!(scores.iter().sum::<f64>() / scores.len() as f64));
    Ok(found.into())
}

impl Part for Segment {
    fn name(&self) -> &'static str {
        "segment"
    }

    fn runs(&self) -> Vec<String> {
        vec![RUN.to_owned()]
    }

    fn seeds(&self) -> Vec<u64> {
        vec![SEED]
    }

    fn run(&self, _: &str) -> Result<Value, Box<dyn Error>> {
        run(FULL)
    }

    fn tiny(&self) -> Option<Result<Value, Box<dyn Error>>> {
        Some(run(Size::TINY))
    }

    fn found(&self, runs: &Runs) -> Result<Found, Box<dyn Error>> {
        let of = |name: &str| {
            runs.get(RUN).map_or(f64::NAN, |run| run[name].as_f64().unwrap_or(f64::NAN))
        };
        let intro = format!(
            "## Segmentation\n\nBoxes of NLVR's drawings, {SIDE} x {SIDE} pixels, with masks of their objects drawn from \
             the descriptions; {} train, {} of other sentences test. A ViT of two blocks, 48 wide, decides on each pixel \
             ({} steps on originals); its score is the intersection of its drawing and the mask over their union (IoU), \
             the mean over records, {:.3} on originals.",
            of("trained"),
            of("records"),
            FULL.steps,
            of("score"),
        );
        super::found("segment", "IoU", &intro, runs)
    }

    fn near(&self, name: &str, recorded: f64, found: f64) -> bool {
        super::near(name, recorded, found)
    }
}
