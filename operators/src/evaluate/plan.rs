//! What follows from the columns of the input: the settings that are tried, and the columns of the output.

use std::sync::Arc;

use anabranch_pipelines::graph::SchemaError;
use anabranch_pipelines::record::{Modality, media};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::operator::Evaluate;
use super::texts::Codecs;
use super::{POINTS, RAW_BYTES, SCORE, point};
use crate::OptionsError;
use crate::auto::{answers, ladder};
use crate::codec::{Media, Setting};
use crate::metric::{self, MetricError};
use crate::task::Labels;
use crate::utf8;

/// Compares an original with what came back.
pub(super) type Compare = fn(&Media<'_>, &Media<'_>) -> Result<f64, MetricError>;

pub(super) const PICTURES: [(&str, Compare); 4] = [
    ("psnr", metric::psnr),
    ("ssim", metric::ssim),
    ("ms_ssim", metric::ms_ssim),
    ("ssimulacra2", metric::ssimulacra2),
];
pub(super) const SOUNDS: [(&str, Compare); 2] =
    [("si_sdr", metric::si_sdr), ("log_spectral_distance", metric::log_spectral_distance)];

/// The metric that has networks.
pub(super) const FEATURE_DISTANCE: &str = "feature_distance";

/// What follows from the columns of the input.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) modality: Modality,
    pub(super) settings: Arc<[Setting]>,
    pub(super) metrics: Arc<[(&'static str, Compare)]>,
    /// Of the metrics, that of features included.
    pub(super) names: Arc<[&'static str]>,
    pub(super) schema: SchemaRef,
}

impl Evaluate {
    pub(super) fn plan(&self, input: &SchemaRef) -> Result<Plan, SchemaError> {
        let column = &self.options.column;
        let field = SchemaError::require(input, column)?;
        let modality = match Modality::of(field) {
            _ if field.data_type() == &DataType::Utf8 => Modality::Text,
            Some(modality) => modality,
            None => {
                return Err(SchemaError::Unfit {
                    column: column.clone(),
                    found: format!("of type {}", field.data_type()),
                    expected: "decoded pictures or sounds, or text".to_owned(),
                    hint: String::new(),
                });
            }
        };
        match modality {
            Modality::Text => {
                if self.options.metrics.as_ref().is_some_and(|names| !names.is_empty()) {
                    let message = format!(
                        "`metrics` compare pictures or sounds, and `{column}` holds text, which comes back as it was"
                    );
                    return Err(SchemaError::Mismatch(message));
                }
                utf8::require(input, column, "`evaluate` compresses texts")?;
            }
            _ => {
                SchemaError::require_media(input, column, modality, Some(media::State::Decoded))?;
                if self.options.dictionary.is_some() {
                    let message =
                        format!("`dictionary` is for texts, and `{column}` holds {modality}");
                    return Err(SchemaError::Mismatch(message));
                }
            }
        }
        if let Some(task) = self.task.as_ref().filter(|task| task.modality() != modality) {
            let (name, other) = (task.name(), task.modality());
            let message =
                format!("the task `{name}` is about {other}, and `{column}` holds {modality}");
            return Err(SchemaError::Mismatch(message));
        }
        if let Some(of) = self.features.as_ref().filter(|of| of.modality() != modality) {
            let of = of.modality();
            let message = format!("`models` are about {of}, and `{column}` holds {modality}");
            return Err(SchemaError::Mismatch(message));
        }
        let label = self.options.task.as_ref().and_then(|task| task.label.as_ref());
        if let (Some(label), Some(task)) = (label, &self.task) {
            answers::check(input, label, task.as_ref())?;
        }
        let mismatch = |e: OptionsError| SchemaError::Mismatch(e.0);
        let codecs = self.options.codecs.as_deref();
        let (settings, known): (_, &[(&'static str, Compare)]) = match modality {
            Modality::Text if self.latent.is_some() => {
                let message = format!("`latent` is a codec of media, and `{column}` holds text");
                return Err(SchemaError::Mismatch(message));
            }
            Modality::Text => (Codecs::named(codecs).map(|_| Vec::new()), &[]),
            Modality::Audio => (ladder::settings(modality, codecs, self.latent), &SOUNDS),
            _ => (ladder::settings(modality, codecs, self.latent), &PICTURES),
        };
        let settings = settings.map_err(mismatch)?;
        let wanted = |name: &str| {
            self.options.metrics.as_ref().is_none_or(|names| names.iter().any(|n| n == name))
        };
        let metrics: Arc<[_]> = known.iter().filter(|(name, _)| wanted(name)).copied().collect();
        // Right answers that are media have said what they had to, like the records' own.
        let media = [Some(column), label.filter(|_| self.labels() == Labels::Media)];
        let media: Vec<&String> = media.into_iter().flatten().collect();
        let facts = media.iter().flat_map(|column| match modality {
            Modality::Text => Vec::new(),
            _ => media::fact_fields(column, modality),
        });
        let facts: Vec<_> = facts.collect();
        let gone =
            |name: &String| media.contains(&name) || facts.iter().any(|fact| fact.name() == name);
        let mut fields: Vec<Arc<Field>> =
            input.fields().iter().filter(|field| !gone(field.name())).cloned().collect();
        let names = metrics.iter().map(|(name, _)| *name);
        let names: Arc<[&'static str]> =
            names.chain(self.features.as_ref().map(|_| FEATURE_DISTANCE)).collect();
        let mut new = vec![Field::new(RAW_BYTES, DataType::Int64, true)];
        new.extend(self.task.as_ref().map(|_| Field::new(SCORE, DataType::Float64, true)));
        new.push(Field::new(POINTS, point::list(names.iter().copied()), true));
        for field in new {
            if fields.iter().any(|other| other.name() == field.name()) {
                let message =
                    format!("there is a column `{}` already; `select` it away", field.name());
                return Err(SchemaError::Mismatch(message));
            }
            fields.push(Arc::new(field));
        }
        Ok(Plan {
            modality,
            settings: settings.into(),
            metrics,
            names,
            schema: Arc::new(Schema::new(fields)),
        })
    }
}
