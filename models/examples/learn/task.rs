//! What is learned: data, the sizes of the models, batches that every contender sees alike.

use std::collections::BTreeMap;
use std::error::Error;

use anabranch_models::artifact::architecture::{Architecture, FeedForward, Head, Inputs};
use anabranch_models::random::Random;
use anabranch_models::train::{Batch, Windows};
use anabranch_models::transformer::Input;

use crate::data;
use crate::pictures::{self, Pictures};

/// A task with its data read.
pub(crate) struct Task {
    pub(crate) base: Architecture,
    /// Examples of a step.
    pub(crate) batch: usize,
    /// Steps between looks at the held-out examples.
    pub(crate) every: u64,
    pub(crate) held_out: Vec<Batch>,
    training: Training,
}

enum Training {
    Text { tokens: Vec<u32>, context: usize },
    Pictures(Pictures),
}

impl Task {
    pub(crate) fn read(name: &str) -> Result<Self, Box<dyn Error>> {
        match name {
            "shakespeare" => shakespeare(),
            "cifar10" => Ok(vision(pictures::cifar10()?, 8)),
            "fashion" => Ok(vision(pictures::fashion()?, 10)),
            _ => Err(format!("{name}: the tasks are shakespeare, cifar10 and fashion").into()),
        }
    }

    /// The next training batch; `random` is its own, so that contenders see the same batches.
    pub(crate) fn draw(&self, random: &mut Random) -> Result<Batch, Box<dyn Error>> {
        match &self.training {
            Training::Text { tokens, context } => {
                let windows = Windows { text: tokens, length: *context };
                windows.draw(self.batch, random).ok_or_else(|| "the text is too short".into())
            }
            Training::Pictures(pictures) => Ok(pictures.draw(self.batch, random)),
        }
    }
}

/// nanoGPT's configuration for processors, on characters; the last tenth of the text is held out, of which 960
/// evenly spaced windows are looked at.
fn shakespeare() -> Result<Task, Box<dyn Error>> {
    let text = std::fs::read(data().join("text/tinyshakespeare.txt"))?;
    let mut known: BTreeMap<u8, u32> = text.iter().map(|byte| (*byte, 0)).collect();
    for (token, (_, slot)) in known.iter_mut().enumerate() {
        *slot = token as u32;
    }
    let mut tokens: Vec<u32> = text.iter().filter_map(|byte| known.get(byte).copied()).collect();
    let held_out = tokens.split_off(tokens.len() * 9 / 10);
    let context = 64;
    let base = Architecture {
        width: 128,
        heads: 4,
        layers: 4,
        inputs: Inputs::Tokens { vocabulary: known.len(), context },
        head: Head::NextToken,
        feed_forward: FeedForward::None,
    };
    let all = Windows { text: &held_out, length: context }.evenly(960);
    let all = all.ok_or("the text is too short")?;
    let Input::Tokens { ids, length } = all.input else { return Err("windows are tokens".into()) };
    let parts = ids.chunks(48 * length).zip(all.targets.chunks(48 * length));
    let held_out = parts
        .map(|(ids, targets)| Batch {
            input: Input::Tokens { ids: ids.to_vec(), length },
            targets: targets.to_vec(),
        })
        .collect();
    Ok(Task { base, batch: 12, every: 250, held_out, training: Training::Text { tokens, context } })
}

/// A ViT 64 wide. With 4 blocks and smaller patches there is more to learn than these few thousand pictures teach in an
/// hour of one core: models without feed-forward are as good as those with MLPs then, and nothing can be compared.
fn vision(pictures: Pictures, patch: usize) -> Task {
    let base = Architecture {
        width: 64,
        heads: 4,
        layers: 2,
        inputs: Inputs::Image(pictures.tokens(patch)),
        head: Head::Classes(pictures.classes),
        feed_forward: FeedForward::None,
    };
    let held_out = pictures.held_out(125);
    Task { base, batch: 64, every: 500, held_out, training: Training::Pictures(pictures) }
}
