//! The options, and what they have to be.

use std::sync::Arc;

use anabranch_pipelines::graph::nearest;
use anabranch_pipelines::operator::Operator;
use anabranch_pipelines::quantity::ByteSize;
use anabranch_pipelines::record::Modality;
use serde::{Deserialize, Serialize};

use super::networks::{self, NetworkOptions};
use super::operator::Evaluate;
use super::plan::{FEATURE_DISTANCE, PICTURES, SOUNDS};
use super::texts::{self, Codecs, Levels};
use crate::auto::ladder;
use crate::codec::Codec;
use crate::derived::Derived;
use crate::task::TaskOptions;
use crate::{LatentFile, OptionsError};

/// Options of `kind = "evaluate"`: what every setting of every codec does to each record.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EvaluateOptions {
    /// The column: decoded pictures or sounds, or texts.
    pub column: String,
    /// The codecs, e.g. `["jpeg", "webp"]`; all that there are for what the column holds unless said otherwise. Those of
    /// texts are `"zstd"` and `"bzip2"`.
    #[serde(default)]
    pub codecs: Option<Vec<String>>,
    /// A latent codec that is tried beside them, with all of its channels and with fewer, e.g.
    /// `{ artifact = "photos.latent" }`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latent: Option<LatentFile>,
    /// For texts: the largest dictionary that is trained on the first of them, e.g. `"64KiB"`, with which zstd is tried
    /// too, as `"zstd_dictionary"`. It stands once in a table and is not among the bytes of records. Where the
    /// first texts are too few for one there is none. Of records that are
    /// few it knows much by heart, so that they look smaller than others will be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub dictionary: Option<ByteSize>,
    /// Which are computed: for pictures `"psnr"`, `"ssim"`, `"ms_ssim"` and `"ssimulacra2"`, for sounds `"si_sdr"` and
    /// `"log_spectral_distance"`; all of them unless said otherwise.
    #[serde(default)]
    pub metrics: Option<Vec<String>>,
    /// Networks that were trained on such records, two or more, e.g.
    /// `[{ model = "models/a" }, { model = "models/b" }]`: the distance of their features is computed too, as
    /// `"feature_distance"`. A picture that is larger than a network takes is looked at in up to 64 pieces. Two of the
    /// same sizes and the same seed are one network.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<NetworkOptions>,
    /// A task, whose outcome on what comes back is compared with that on the original.
    #[serde(default)]
    pub task: Option<TaskOptions>,
    /// Whether processor times are written, which are another number every time.
    #[serde(default = "yes")]
    pub times: bool,
}

const fn yes() -> bool {
    true
}

impl EvaluateOptions {
    /// The operator.
    ///
    /// # Errors
    /// When there is no such codec, metric or task, the task's model or the latent codec cannot be read, or options do not
    /// go together.
    pub fn build(mut self) -> Result<Arc<dyn Operator>, OptionsError> {
        let features = networks::read(&mut self.models)?;
        let all = || PICTURES.iter().chain(&SOUNDS).map(|(name, _)| *name);
        for name in self.metrics.iter().flatten() {
            if name == FEATURE_DISTANCE {
                match features {
                    Some(_) => continue,
                    None => {
                        let message = format!(
                            "the metric {name:?} needs networks: `models = [{{ model = .. }}, {{ model = .. }}]`"
                        );
                        return Err(OptionsError(message));
                    }
                }
            }
            if !all().any(|metric| metric == name) {
                let near = nearest(name, all());
                let hint = near.map(|n| format!(" (did you mean {n:?}?)")).unwrap_or_default();
                let names = all().collect::<Vec<_>>().join(", ");
                let message = format!("there is no metric {name:?}{hint}; there are {names}");
                return Err(OptionsError(message));
            }
        }
        let latent = self.latent.as_mut().map(LatentFile::read).transpose()?;
        let latent = latent.map(|(codec, _)| codec);
        if self.codecs.as_ref().is_some_and(Vec::is_empty) && latent.is_none() {
            return Err(OptionsError("`codecs` names none: leave it out for all".to_owned()));
        }
        let codecs = self.codecs.as_deref();
        let of_media = |modality| {
            let latent = latent.filter(|latent| latent.modality() == modality);
            ladder::settings(modality, codecs, latent).map(|settings| settings.len())
        };
        let of_texts = Codecs::named(codecs);
        let media = [Modality::Image, Modality::Audio].map(of_media);
        let most = match media.iter().flatten().max() {
            Some(most) => (*most).max(of_texts.as_ref().map_or(0, |_| texts::SETTINGS)),
            None if codecs.into_iter().flatten().any(|name| texts::is_of_texts(name)) => {
                of_texts.as_ref().map(|_| texts::SETTINGS).map_err(Clone::clone)?
            }
            None => media.into_iter().next().unwrap_or(Ok(0))?,
        };
        self.dictionary = self.dictionary.filter(|size| size.0 > 0);
        let without = match (&of_texts, &features) {
            _ if self.dictionary.is_none() => None,
            (_, Some(_)) => Some("`models` are for pictures or sounds"),
            (Ok(Codecs { zstd: true, .. }), None) => None,
            _ => Some("`codecs` does not name \"zstd\""),
        };
        if let Some(why) = without {
            return Err(OptionsError(format!(
                "`dictionary` is for texts and \"zstd\", and {why}: leave one out"
            )));
        }
        let levels = of_texts.ok().map(|codecs| Levels::new(codecs, &[])).transpose();
        let levels = levels.map_err(|e| OptionsError(e.to_string()))?.map(Arc::new);
        let task = self.task.as_ref().map(TaskOptions::build).transpose()?;
        self.task = self.task.map(TaskOptions::sealed).transpose()?;
        Ok(Arc::new(Evaluate {
            options: Arc::new(self),
            task,
            features,
            decided: false,
            latent,
            most,
            levels,
            plan: Derived::default(),
        }))
    }
}
