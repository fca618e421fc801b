//! `kind = "evaluate"`: what every setting of every codec does to each record.
//!
//! A row comes out for each record, with its media left out and a list of **points** in their place: one for each
//! setting, of at least eight steps of every ladder. A point says how many bytes are stored (container included), how
//! like the original the record comes back ([`metric`]), how well the task's model does on it, and what
//! encoding and decoding took of a processor. A setting that cannot hold the record has a point of nulls.
//!
//! The loss of the task is **Q_infer**, never anything else: a model that was trained on originals and is asked about
//! what comes back ([`q_train`](fn@q_train) and [`q_latent`] are other questions). It is paired: the score of the original stands in the row (`score`), that of each setting in its
//! point.
//!
//! With `models`, two or more networks that were trained on such records, a point also says how far apart original and
//! what comes back are for these ([`FeatureDistance`]). How their layers are weighed is
//! decided once for the run, from the first records, and stands in its log and report.
//!
//! Rows depend on the records alone, with the exception of `encode_seconds` and `decode_seconds`, which are another
//! number every time: with them (`times = true`) the operator is `live`, without them `pure`.
//!
//! `anabranch evaluate JOB` runs such a job and draws what its table says, with [`Summary`].
//!
//! ```
//! use anabranch_operators::evaluate::{EvaluateOptions, Summary};
//! use anabranch_operators::codec::{Facts, Media};
//! use anabranch_pipelines::operator::{Allocation, Context};
//! use anabranch_pipelines::record::{Modality, media};
//! use arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray};
//! use arrow::datatypes::Schema;
//! use std::sync::Arc;
//!
//! let options: EvaluateOptions = serde_json::from_str(r#"{ "column": "image", "codecs": ["png", "jpeg"] }"#)?;
//! let pixels = [90; 16 * 16 * 3];
//! let mut fields = vec![media::field("image", Modality::Image, media::State::Decoded)];
//! fields.extend(media::fact_fields("image", Modality::Image));
//! let columns: Vec<ArrayRef> = vec![
//!     Arc::new(media::column(vec![Some(&pixels)], vec![None])),
//!     Arc::new(StringArray::from(vec!["raw"])),
//!     Arc::new(Int32Array::from(vec![16])),
//!     Arc::new(Int32Array::from(vec![16])),
//!     Arc::new(Int32Array::from(vec![3])),
//! ];
//! let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?;
//! let outcome = options.build()?.invoke(batch, &Allocation::PLAIN, &Context::plain())?;
//!
//! let mut summary = Summary::default();
//! summary.add(&outcome.records)?;
//! let png = &summary.settings()[0];
//! assert_eq!(png.name(), "png");
//! assert_eq!(png.metrics["psnr"].mean(), f64::INFINITY);
//! assert!(summary.html("One grey picture").contains("<svg"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::HashMap;
use std::sync::Arc;

use anabranch_pipelines::graph::{SchemaError, nearest};
use anabranch_pipelines::operator::{
    Allocation, Class, Context, Growth, Journaled, Operator, OperatorError, Outcome,
};
use anabranch_pipelines::record::{Modality, media};
use anabranch_pipelines::source::BatchSize;
use arrow::array::{ArrayRef, Float64Builder, Int64Builder, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use serde::{Deserialize, Serialize};

use crate::OptionsError;
use crate::auto::answers::{self, Answers};
use crate::auto::ladder;
use crate::codec::{Media, Setting};
use crate::derived::Derived;
use crate::metric::{self, FeatureDistance, MetricError};
use crate::rewrite::{self, Column};
use crate::round_trip::RoundTrip;
use crate::task::{Labels, Right, Task, TaskOptions};

mod compare;
mod html;
mod networks;
mod plot;
mod point;
mod q_train;
mod summary;
#[cfg(test)]
mod tests;

pub use crate::brightness::latent_samples;
pub use compare::{Correlation, bd_rate, correlation};
pub use networks::{NetworkOptions, Weighting};
use point::{Point, Points};
pub use q_train::{
    Labelled, Proxy, ProxyError, SeedLoss, accuracy, q_latent, q_train, trained, trained_accuracy,
};
pub use summary::{Mean, Summary, Tried};

/// The column of points.
pub const POINTS: &str = "points";
/// The column of scores of originals.
pub const SCORE: &str = "score";
/// The column of bytes of samples.
pub const RAW_BYTES: &str = "raw_bytes";

/// Options of `kind = "evaluate"`: what every setting of every codec does to each record.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EvaluateOptions {
    /// The column: decoded pictures or sounds.
    pub column: String,
    /// The codecs, e.g. `["jpeg", "webp"]`; all that there are for what the column holds unless said otherwise.
    #[serde(default)]
    pub codecs: Option<Vec<String>>,
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

/// Compares an original with what came back.
type Compare = fn(&Media<'_>, &Media<'_>) -> Result<f64, MetricError>;

const PICTURES: [(&str, Compare); 4] = [
    ("psnr", metric::psnr),
    ("ssim", metric::ssim),
    ("ms_ssim", metric::ms_ssim),
    ("ssimulacra2", metric::ssimulacra2),
];
const SOUNDS: [(&str, Compare); 2] =
    [("si_sdr", metric::si_sdr), ("log_spectral_distance", metric::log_spectral_distance)];

/// The metric that has networks.
const FEATURE_DISTANCE: &str = "feature_distance";

/// Bytes of a point: its numbers, and its codec's name.
const POINT: usize = 136;

impl EvaluateOptions {
    /// The operator.
    ///
    /// # Errors
    /// When there is no such codec, metric or task, or the task's model cannot be read.
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
        let most = match &self.codecs {
            Some(_) => {
                let of = |modality| ladder::settings(modality, self.codecs.as_deref());
                of(Modality::Image).or_else(|_| of(Modality::Audio))?.len()
            }
            None => ladder::settings(Modality::Image, None)?.len(),
        };
        let task = self.task.as_ref().map(TaskOptions::build).transpose()?;
        self.task = self.task.map(TaskOptions::sealed).transpose()?;
        Ok(Arc::new(Evaluate {
            options: Arc::new(self),
            task,
            features,
            weighed: false,
            most,
            plan: Derived::default(),
        }))
    }
}

struct Evaluate {
    options: Arc<EvaluateOptions>,
    task: Option<Arc<dyn Task>>,
    features: Option<FeatureDistance>,
    /// Whether it was decided how the layers of its networks are weighed.
    weighed: bool,
    /// Settings at most, as far as is known without the column.
    most: usize,
    plan: Derived<Plan>,
}

/// What follows from the columns of the input.
#[derive(Clone)]
struct Plan {
    modality: Modality,
    settings: Arc<[Setting]>,
    metrics: Arc<[(&'static str, Compare)]>,
    /// Of the metrics, that of features included.
    names: Arc<[&'static str]>,
    schema: SchemaRef,
}

impl Evaluate {
    fn plan(&self, input: &SchemaRef) -> Result<Plan, SchemaError> {
        let column = &self.options.column;
        let modality = Modality::of(SchemaError::require(input, column)?);
        let modality = modality.filter(|modality| *modality == Modality::Audio);
        let modality = modality.unwrap_or(Modality::Image);
        SchemaError::require_media(input, column, modality, Some(media::State::Decoded))?;
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
        let settings =
            ladder::settings(modality, self.options.codecs.as_deref()).map_err(mismatch)?;
        let known: &[(&'static str, Compare)] =
            if modality == Modality::Image { &PICTURES } else { &SOUNDS };
        let wanted = |name: &str| {
            self.options.metrics.as_ref().is_none_or(|names| names.iter().any(|n| n == name))
        };
        let metrics: Arc<[_]> = known.iter().filter(|(name, _)| wanted(name)).copied().collect();
        // Right answers that are media have said what they had to, like the records' own.
        let media = [Some(column), label.filter(|_| self.labels() == Labels::Media)];
        let media: Vec<&String> = media.into_iter().flatten().collect();
        let facts = media.iter().flat_map(|column| media::fact_fields(column, modality));
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

    /// What right answers are, if there is a task.
    fn labels(&self) -> Labels {
        self.task.as_ref().map_or(Labels::Classes, |task| task.labels())
    }

    /// The points of a record.
    fn points(
        &self,
        plan: &Plan,
        media: &Media<'_>,
        task: Option<(&Arc<dyn Task>, Option<Right<'_>>)>,
        room: &mut RoundTrip,
    ) -> Vec<Point> {
        let features = self.features.as_ref();
        let seen = features.and_then(|of| Some((of, of.seen(media).ok()?)));
        let point = |setting: &Setting| {
            let mut point =
                Point { codec: setting.codec.name(), step: setting.step(), ..Point::default() };
            let Ok(facts) = room.go(*setting, media) else { return point };
            point.bytes = i64::try_from(room.bytes.len()).ok();
            if self.options.times {
                point.seconds = [room.encode, room.decode].map(|time| Some(time.as_secs_f64()));
            }
            let back = room.media(facts);
            let compare = |(_, compare): &(&str, Compare)| compare(media, &back).ok();
            point.metrics = plan.metrics.iter().map(compare).collect();
            if features.is_some() {
                let distance = seen.as_ref().and_then(|(of, seen)| of.to(seen, &back).ok());
                point.metrics.push(distance);
            }
            let outcome = task.and_then(|(task, right)| task.outcomes(&[back], &[right]).pop());
            // What the model cannot take any more it gets wrong.
            point.score = outcome.map(|outcome| outcome.map_or(0.0, |outcome| outcome.score));
            point
        };
        plan.settings.iter().map(point).collect()
    }
}

impl Operator for Evaluate {
    fn kind(&self) -> &'static str {
        "evaluate"
    }

    fn options(&self) -> serde_json::Value {
        serde_json::to_value(self.options.as_ref()).unwrap_or_default()
    }

    fn class(&self) -> Class {
        match self.journaled() {
            _ if self.options.times => Class::Live,
            Some(_) => Class::Journaled,
            None => Class::Pure,
        }
    }

    fn output(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, SchemaError> {
        let [input] = inputs else {
            return Err(SchemaError::Mismatch("evaluate reads one input".into()));
        };
        Ok(self.plan(input)?.schema)
    }

    fn growth(&self) -> Growth {
        Growth { factor: 1.0, per_record: self.most * POINT + 64 }
    }

    fn invoke(
        &self,
        batch: RecordBatch,
        _: &Allocation,
        context: &Context,
    ) -> Result<Outcome, OperatorError> {
        if self.journaled().is_some() {
            let message = "it was not decided yet how the layers of `models` are weighed";
            return Err(OperatorError::Failed(message.to_owned()));
        }
        let input = batch.schema();
        let plan = self.plan.of(&input, || self.plan(&input))?;
        let column = Column::of(&batch, &self.options.column, plan.modality);
        let label = self.options.task.as_ref().and_then(|task| task.label.as_deref());
        let answers = match &self.task {
            Some(task) => Answers::of(&batch, label, task.as_ref())?,
            None => Answers::Unknown,
        };
        let mut points = Points::new(plan.names.iter().copied(), batch.num_rows());
        let (mut raw, mut scores) = (Int64Builder::new(), Float64Builder::new());
        let mut room = RoundTrip::default();
        let mut cancelled = Ok(());
        let outcome = Outcome::keeping(&batch, |row| {
            cancelled = std::mem::replace(&mut cancelled, Ok(())).and(context.check_cancelled());
            let media = column.samples(row)?.filter(|_| cancelled.is_ok());
            let Some(media) = media else {
                raw.append_null();
                scores.append_null();
                points.add(None);
                return Ok(());
            };
            let mut right = answers.right(row)?;
            // A record without a label says nothing of the task.
            let task = self.task.as_ref().filter(|_| label.is_none() || right.is_some());
            let original = task.and_then(|task| task.outcomes(&[media], &[right]).pop());
            let original = original.transpose()?;
            let answer = original.and_then(|outcome| outcome.answer);
            right = right.or(answer.map(Right::Class));
            raw.append_option(i64::try_from(media.samples.len()).ok());
            scores.append_option(original.map(|outcome| outcome.score));
            points.add(Some(self.points(&plan, &media, task.map(|task| (task, right)), &mut room)));
            Ok(())
        })?;
        cancelled?;
        let mut columns: HashMap<String, ArrayRef> = HashMap::from([
            (RAW_BYTES.to_owned(), Arc::new(raw.finish()) as ArrayRef),
            (POINTS.to_owned(), points.finish()?),
        ]);
        if self.task.is_some() {
            columns.insert(SCORE.to_owned(), Arc::new(scores.finish()));
        }
        let Outcome { records, refused } = outcome;
        Ok(Outcome { records: rewrite::replace(&records, &plan.schema, &columns)?, refused })
    }

    fn journaled(&self) -> Option<&dyn Journaled> {
        let waits = self.features.is_some() && !self.weighed;
        waits.then_some(self as &dyn Journaled)
    }
}

impl Journaled for Evaluate {
    fn sample(&self) -> BatchSize {
        BatchSize { records: networks::RECORDS, bytes: 256 << 20 }
    }

    fn decide(&self, sample: &[RecordBatch]) -> Result<Vec<u8>, OperatorError> {
        let mut pairs = Vec::new();
        for batch in sample {
            let plan = self.plan(&batch.schema())?;
            let column = Column::of(batch, &self.options.column, plan.modality);
            for row in 0..batch.num_rows() {
                let (Some(features), Ok(Some(media))) = (&self.features, column.samples(row))
                else {
                    continue;
                };
                pairs.extend(networks::pairs(features, &plan.settings, &media, row));
            }
        }
        let weighting = self.features.as_ref().map(|features| Weighting::of(features, &pairs));
        serde_json::to_vec_pretty(&weighting).map_err(|e| OperatorError::Failed(e.to_string()))
    }

    fn decided(&self, decision: &[u8]) -> Result<Arc<dyn Operator>, OperatorError> {
        let foreign =
            |e: String| OperatorError::Failed(format!("the decision on weights of layers: {e}"));
        let weighting: Weighting =
            serde_json::from_slice(decision).map_err(|e| foreign(e.to_string()))?;
        let weighed = |of: &FeatureDistance| of.weighed(&weighting.networks);
        let features = self.features.as_ref().map(weighed).transpose();
        Ok(Arc::new(Self {
            options: Arc::clone(&self.options),
            task: self.task.clone(),
            features: features.map_err(|e| foreign(e.to_string()))?,
            weighed: true,
            most: self.most,
            plan: Derived::default(),
        }))
    }
}
