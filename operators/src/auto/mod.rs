//! `codec = { auto = "classify", .. }`: the cheapest setting that costs a task less than is allowed.
//!
//! ```toml
//! [operator.chosen]
//! kind = "encode"
//! column = "image"
//! codec = { auto = "classify", model = "models/digits", label = "label", max_loss = "1%", confidence = 0.95 }
//! inputs = ["decode"]
//! ```
//!
//! It is a decision of the run, taken once, before data moves, from records of the first part (`job.part` makes it
//! larger), in an order that their ids give. A fifth of them, the *pilot*, puts the settings of all codecs in order:
//! what is both larger and farther off than another is left out. The others decide, and the pilot has no say any
//! more: from the best setting to the cheapest, each is shown to lose less than `max_loss` of accuracy (a share of all records)
//! with the stated confidence, and no class more than `class_loss`, until one is not ([`walk`](crate::choose::walk())).
//! The last before that one is taken. What cannot be told keeps the safer setting: with fewer records than a decision
//! needs, or a model that answers the same class to everything, nothing is lost at all.
//!
//! Sounds are judged by a model of their spectra: `spectrum = { rate = 8000 }` says how they become these, and `codecs`
//! are those for sounds.
//!
//! `auto = "segment"` and `auto = "separate"` judge pictures and sounds by models that are right by degrees (see
//! [`task`](crate::task)): a loss is what the score of a record falls by, and `label` is a column of decoded media, the
//! masks of the pictures or the voices in the sounds. There are no classes to look at by themselves. Such a model says
//! nothing of what is lost when its answers do not hang on the records: when it draws nothing, everything, or always
//! the same, when nothing that it draws is ever right, or when records are all alike. So other answers are put in the
//! place of its own: those to other records of the pilot, everything, nothing. Unless each of these costs more than
//! `max_loss`, nothing is lost at all.
//!
//! A latent codec takes part when its file is given, `latent = { artifact = ".." }`, with all of its channels and with
//! fewer: a job with `codec = "latent"` learns one and leaves it in its run log.
//!
//! With `protect = "5%"` the records whose answers move most get the next better setting: of the pilot 5 % move
//! farther than a threshold, which the decision keeps. What is then tested, and stored, is the setting with that
//! protection. It goes by the logits of classes, which `classify` alone has. It is off unless asked for, since every record is decoded and shown to the model once more while it is
//! stored; which setting a record got stands in `image_encoding` and in its own bytes, which say all that decoding needs.
//!
//! With `shadow = "0.5%"` that share of records, by a hash of their ids, is stored without loss, and the column
//! `image_shadow_loss` says what the chosen setting would have lost of each: the operator `watch` raises an alarm when
//! that comes to too much.
//!
//! The loss is Q_infer: a model that was trained on originals, asked about what comes back.
//!
//! The decision, with every step, its interval and its number of records, stands in the run log of the table,
//! `_anabranch/runs/RUN/decisions/OPERATOR`, in the report of the run, and in `anabranch inspect`.

use std::sync::Arc;

use anabranch_pipelines::record::Modality;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::choose::Rule;
use crate::codec::{Latent, Setting};
use crate::task::{Labels, Spectra, Task, TaskOptions};
use crate::{LatentFile, OptionsError};

mod acting;
pub(crate) mod answers;
mod decide;
pub(crate) mod decision;
pub(crate) mod ladder;
mod operator;
mod pilot;
mod share;
mod storing;
#[cfg(test)]
mod tests;
mod treatment;

pub(crate) use acting::Acting;
#[cfg(test)]
pub(crate) use decide::Sampled;
pub use decision::{Decision, NamedStep, Sizes};
pub(crate) use operator::Choosing;
pub use share::Share;
pub(crate) use storing::Storing;
pub use treatment::Protected;
use treatment::Treatment;

/// A codec, or how one is chosen.
#[derive(Debug, Clone, Serialize, schemars::JsonSchema)]
#[serde(untagged)]
pub enum CodecOption {
    /// The name of a codec.
    Named(String),
    /// The cheapest setting whose loss is small enough.
    Auto(Box<AutoOptions>),
}

/// How a codec is chosen: the cheapest setting whose loss on a task is below a bound.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AutoOptions {
    /// The task that codecs are judged by: `"classify"`, pictures or sounds by a model of classes; `"segment"`, pictures
    /// by a model that draws masks of what is in them; or `"separate"`, sounds by a model that tells which parts of
    /// their spectra are the voice.
    pub auto: String,
    /// The model: the folder of an artifact, with `card.json` and `weights.safetensors`.
    pub model: String,
    /// The SHA-256 of its `card.json`; taken when the job starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// The column of right answers. For `"classify"` whole numbers from 0; without it, what the model answers to the
    /// original is right, and every changed answer is a loss. For `"segment"` decoded pictures, white where there is
    /// something, and for `"separate"` decoded sounds, the voices by themselves; these two need it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The model is asked about sounds, which become its spectra so; `"separate"` needs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spectrum: Option<Spectra>,
    /// How much accuracy may be lost, as a share of all records: from 90% right to 89% is `"1%"`, the default. For
    /// `"segment"` and `"separate"` how much the mean score may fall, which is from 0 to 1. It is shown of records like
    /// those of the first part (`job.part`).
    #[serde(default = "max_loss")]
    pub max_loss: Share,
    /// The share that each class may lose; five times `max_loss` unless said otherwise. Classes of few records are
    /// looked at together. For `"classify"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_loss: Option<Share>,
    /// How sure that must be. Default 0.95.
    #[serde(default = "confidence")]
    pub confidence: f64,
    /// The codecs that are tried; unless said otherwise all that there are for what the column holds and other programs
    /// read too (`"opus_packets"` has to be named).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub codecs: Option<Vec<String>>,
    /// A latent codec that is tried beside them, with all of its channels and with fewer, e.g.
    /// `{ artifact = "photos.latent" }`. Where it is chosen, the decision holds the file, and `decode`
    /// finds it there by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latent: Option<LatentFile>,
    /// For `"classify"`: the share of records, those whose answers move most, that get the next better setting, e.g.
    /// `"5%"`. What is shown to lose little is then the setting with that protection. None unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protect: Option<Share>,
    /// The share of records, drawn by a hash of their ids, that are stored without loss, e.g. `"0.5%"`. A column
    /// `image_shadow_loss` (of the column `image`) says of each what the setting would have lost, for the operator
    /// `watch`. None unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<Share>,
}

const fn max_loss() -> Share {
    Share(0.01)
}

const fn confidence() -> f64 {
    0.95
}

/// `class_loss`, of `max_loss`.
const CLASS_FACTOR: f64 = 5.0;

impl CodecOption {
    /// The name, unless one is to be chosen.
    pub(crate) fn named(&self) -> Result<&str, &AutoOptions> {
        match self {
            Self::Named(name) => Ok(name),
            Self::Auto(options) => Err(options),
        }
    }
}

impl From<&str> for CodecOption {
    fn from(name: &str) -> Self {
        Self::Named(name.to_owned())
    }
}

// Not derived, so that what is wrong with a table is told of the table.
impl<'de> Deserialize<'de> for CodecOption {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = CodecOption;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("the name of a codec, or a table with `auto`")
            }

            fn visit_str<E>(self, name: &str) -> Result<CodecOption, E> {
                Ok(CodecOption::Named(name.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<CodecOption, A::Error> {
                let options = AutoOptions::deserialize(MapAccessDeserializer::new(map))?;
                Ok(CodecOption::Auto(Box::new(options)))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// What a decision is taken with.
pub(crate) struct Auto {
    /// With the hash of the model.
    options: AutoOptions,
    task: Arc<dyn Task>,
    rule: Rule,
    settings: Vec<Setting>,
    latent: Option<&'static Latent>,
    /// The content of its file.
    latent_file: Vec<u8>,
    /// The first of them that loses nothing: what is asked of the operator before there is a decision.
    pub(crate) lossless: Setting,
}

impl Auto {
    /// # Errors
    /// When an option is out of range, or the task's model cannot be read.
    pub(crate) fn new(mut options: AutoOptions) -> Result<Self, OptionsError> {
        let max_loss = options.max_loss;
        if !(max_loss.0 > 0.0 && max_loss.0 < 1.0) {
            let message =
                format!("`max_loss = \"{max_loss}\"`: it is more than 0% and less than 100%");
            return Err(OptionsError(message));
        }
        let class_loss = options.class_loss.unwrap_or(Share((CLASS_FACTOR * max_loss.0).min(0.5)));
        if !(class_loss.0 > 0.0 && class_loss.0 < 1.0) {
            let message =
                format!("`class_loss = \"{class_loss}\"`: it is more than 0% and less than 100%");
            return Err(OptionsError(message));
        }
        let confidence = options.confidence;
        if !(0.5..1.0).contains(&confidence) {
            return Err(OptionsError(format!(
                "`confidence = {confidence}`: it is 0.5 to less than 1"
            )));
        }
        for (name, share) in [("protect", options.protect), ("shadow", options.shadow)] {
            if let Some(share) = share.filter(|share| !(share.0 > 0.0 && share.0 <= 0.5)) {
                let message = format!("`{name} = \"{share}\"`: it is more than 0% and at most 50%");
                return Err(OptionsError(message));
            }
        }
        let task = TaskOptions {
            kind: options.auto.clone(),
            model: options.model.clone(),
            sha256: options.sha256.clone(),
            label: options.label.clone(),
            spectrum: options.spectrum,
            tokenizer: None,
        };
        let judge = task.build()?;
        if judge.modality() == Modality::Text {
            let message = "no codec of texts loses anything, so that there is nothing to judge by a task; say \
                           `codec = \"zstd\"`";
            return Err(OptionsError(message.to_owned()));
        }
        if judge.labels() == Labels::Media {
            let of_classes = [
                ("protect", "how far the answers of classes move", options.protect),
                ("class_loss", "the classes of records", options.class_loss),
            ];
            if let Some((name, by, _)) = of_classes.iter().find(|(_, _, there)| there.is_some()) {
                let message = format!(
                    "`{name}` goes by {by}, and the task \"{}\" has no classes; leave it out",
                    judge.name()
                );
                return Err(OptionsError(message));
            }
        }
        let latent = options.latent.as_mut().map(LatentFile::read).transpose()?;
        let (latent, latent_file) =
            latent.map(|(codec, file)| (Some(codec), file)).unwrap_or_default();
        let settings = ladder::settings(judge.modality(), options.codecs.as_deref(), latent)?;
        let Some(lossless) = settings.iter().copied().find(Setting::lossless) else {
            let names = options.codecs.unwrap_or_default().join(", ");
            return Err(OptionsError(format!(
                "`codecs` names none that can lose nothing ({names}), which is what is taken when nothing else can \
                 be shown to be good; add \"png\" or \"flac\""
            )));
        };
        options.sha256 = task.sealed()?.sha256;
        let rule = Rule { max_loss: max_loss.0, class_loss: class_loss.0, confidence };
        Ok(Self { options, task: judge, rule, settings, latent, latent_file, lossless })
    }

    /// What is done before there is a decision, which has the same columns as what is done then.
    pub(crate) fn undecided(&self) -> Acting {
        Acting::new(self, Treatment::plain(self.lossless))
    }

    /// What a decision comes to.
    ///
    /// # Errors
    /// When this program has no such codec, or the decision is about another latent codec.
    pub(crate) fn acting(&self, decision: &Decision) -> Result<Acting, String> {
        let hash = |file: Option<&LatentFile>| file.and_then(|file| file.sha256.clone());
        let (said, here) = (hash(decision.latent.as_ref()), hash(self.options.latent.as_ref()));
        if said != here {
            let told = |hash: Option<String>| hash.unwrap_or_else(|| "none".to_owned());
            let (said, here) = (told(said), told(here));
            return Err(format!("it tried the latent codec {said}, and this job names {here}"));
        }
        let protected = decision.protected.as_ref();
        let protection = protected.map(|of| of.protection(self.latent)).transpose()?;
        let setting = decision.setting(self.latent)?;
        Ok(Acting::new(self, Treatment { setting, protection }))
    }

    /// The options, with the hash of the model.
    pub(crate) fn options(&self) -> &AutoOptions {
        &self.options
    }

    pub(crate) fn modality(&self) -> Modality {
        self.task.modality()
    }
}
