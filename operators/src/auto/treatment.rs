//! What is done with each record: a setting, and a better one for those that it moves most.

use serde::{Deserialize, Serialize};

use super::Share;
use super::pilot::Order;
use crate::codec::{Facts, Latent, Media, Setting};
use crate::round_trip::RoundTrip;
use crate::task::{Task, moved};

/// What is done with each record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Treatment {
    pub(super) setting: Setting,
    pub(super) protection: Option<Protection>,
}

/// Which records are protected, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Protection {
    /// Those that the setting moves farther than this, in logits.
    pub(super) threshold: f64,
    /// What they are stored with.
    pub(super) better: Setting,
}

/// How a record came back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gone {
    /// What it is stored with.
    pub(super) setting: Setting,
    pub(super) facts: Facts,
    /// Whether that is the better setting.
    pub(super) protected: bool,
}

/// A record of the pilot, and what the model makes of it.
#[derive(Clone, Copy)]
pub(super) struct Example<'a> {
    pub(super) media: Media<'a>,
    pub(super) logits: &'a [f32],
}

/// What is done to protect records, as it stands in a decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Protected {
    /// The share that was asked for.
    pub share: Share,
    /// How far the setting moves a record's logits at most, in the root mean square; beyond it the record is protected.
    pub threshold: f64,
    /// The codec that protected records are stored with.
    pub codec: String,
    /// The step of its ladder.
    pub step: Option<u16>,
    /// Records that the setting was tested on.
    pub tested: u64,
    /// Those of them that were protected.
    pub protected: u64,
}

impl Treatment {
    /// The setting for all.
    pub(super) const fn plain(setting: Setting) -> Self {
        Self { setting, protection: None }
    }

    /// Encodes a record and decodes it again, into the room, as often as it takes to know its setting: that setting,
    /// and what comes back. `original` are the logits of the record as it is. What has none, or none any more when it
    /// comes back, is protected.
    ///
    /// # Errors
    /// When the codec cannot hold the record, as a sentence.
    pub(super) fn go(
        &self,
        task: &dyn Task,
        media: &Media<'_>,
        original: Option<&[f32]>,
        room: &mut RoundTrip,
    ) -> Result<Gone, String> {
        let first = room.go(self.setting, media);
        let Some(Protection { threshold, better }) = self.protection else {
            return Ok(Gone { setting: self.setting, facts: first?, protected: false });
        };
        let far = |facts: Facts| Some(moved(original?, &logits(task, &room.media(facts))?));
        match first.ok().and_then(|facts| Some((facts, far(facts)?))) {
            Some((facts, far)) if far <= threshold => {
                Ok(Gone { setting: self.setting, facts, protected: false })
            }
            _ => {
                let facts = room.go(better, media)?;
                Ok(Gone { setting: better, facts, protected: true })
            }
        }
    }
}

/// The logits of one record; `None` when the model cannot take it.
pub(super) fn logits(task: &dyn Task, media: &Media<'_>) -> Option<Vec<f32>> {
    task.logits(std::slice::from_ref(media)).pop()?.ok()
}

/// The treatment by setting `at` of the order, which protects so large a share of records with the setting before it,
/// and the bytes that it stores of the examples. The threshold is the largest movement of an example that is not among
/// that share.
pub(super) fn protecting(
    order: &Order,
    at: usize,
    share: Share,
    task: &dyn Task,
    examples: &[Example<'_>],
) -> Option<(Treatment, u64)> {
    let setting = order.lossy.get(at)?.setting;
    let before = at.checked_sub(1).and_then(|before| order.lossy.get(before));
    let better = before.unwrap_or(&order.lossless).setting;
    let mut room = RoundTrip::default();
    let gone = examples.iter().map(|example| {
        let facts = room.go(setting, &example.media).ok();
        let back = facts.and_then(|facts| logits(task, &room.media(facts)));
        let far = back.map_or(f64::INFINITY, |back| moved(example.logits, &back));
        (far, room.bytes.len() as u64)
    });
    let gone: Vec<(f64, u64)> = gone.collect();
    let mut far: Vec<f64> = gone.iter().map(|(far, _)| *far).collect();
    far.sort_by(|one, other| other.total_cmp(one));
    // Rounded up: a share of few records is one of them rather than none.
    let count = (share.0 * far.len() as f64).ceil() as usize;
    let threshold = far.get(count).or(far.last()).copied().filter(|far| far.is_finite())?;
    let mut bytes = 0;
    for (example, (far, small)) in examples.iter().zip(&gone) {
        bytes += match *far > threshold {
            true => room.go(better, &example.media).map_or(*small, |_| room.bytes.len() as u64),
            false => *small,
        };
    }
    Some((Treatment { setting, protection: Some(Protection { threshold, better }) }, bytes))
}

impl Protected {
    pub(super) fn new(of: &Protection, share: Share, tested: u64, protected: u64) -> Self {
        let Protection { threshold, better } = *of;
        let codec = better.codec.name().to_owned();
        Self { share, threshold, codec, step: better.step(), tested, protected }
    }

    pub(super) fn protection(&self, latent: Option<&'static Latent>) -> Result<Protection, String> {
        let better = super::decision::setting(&self.codec, self.step, latent)?;
        Ok(Protection { threshold: self.threshold, better })
    }
}
