//! The operator: settings are tried on each record, and before the run on a sample if something is to be decided.

use std::sync::Arc;

use anabranch_pipelines::graph::SchemaError;
use anabranch_pipelines::operator::{
    Allocation, Class, Context, Growth, Journaled, Operator, OperatorError, Outcome,
};
use anabranch_pipelines::record::Modality;
use anabranch_pipelines::source::BatchSize;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::networks::{self, Weighting};
use super::options::EvaluateOptions;
use super::plan::{Compare, Plan};
use super::point::Point;
use super::rows::Rows;
use super::texts::{Codecs, Levels};
use crate::auto::answers::Answers;
use crate::codec::{Latent, Media, Setting};
use crate::derived::Derived;
use crate::metric::FeatureDistance;
use crate::rewrite::Column;
use crate::round_trip::RoundTrip;
use crate::task::{Labels, Right, Task};
use crate::{text, utf8};

/// Bytes of a point: its numbers, and its codec's name.
const POINT: usize = 136;

pub(super) struct Evaluate {
    pub(super) options: Arc<EvaluateOptions>,
    pub(super) task: Option<Arc<dyn Task>>,
    pub(super) features: Option<FeatureDistance>,
    /// Whether it was decided how the layers of its networks are weighed, or what the dictionary is.
    pub(super) decided: bool,
    pub(super) latent: Option<&'static Latent>,
    /// For texts: the settings that are tried.
    pub(super) levels: Option<Arc<Levels>>,
    /// Settings at most, as far as is known without the column.
    pub(super) most: usize,
    pub(super) plan: Derived<Plan>,
}

impl Evaluate {
    /// The same operator, with what was decided.
    fn with(&self, features: Option<FeatureDistance>, levels: Option<Arc<Levels>>) -> Self {
        Self {
            options: Arc::clone(&self.options),
            task: self.task.clone(),
            features,
            decided: true,
            latent: self.latent,
            levels,
            most: self.most,
            plan: Derived::default(),
        }
    }

    /// The rows of texts.
    fn invoke_texts(
        &self,
        batch: &RecordBatch,
        plan: &Plan,
        context: &Context,
    ) -> Result<Outcome, OperatorError> {
        let none = || OperatorError::Failed("`codecs` names none for texts".to_owned());
        let levels = self.levels.as_ref().ok_or_else(none)?;
        let texts = utf8::of(batch, &self.options.column)?;
        let scored = |text: &str| {
            context.check_cancelled()?;
            let score = self.task.as_ref().and_then(|task| task.texts(&[text]).pop());
            Ok(score.transpose().map(|outcome| outcome.map(|outcome| outcome.score)))
        };
        let scores = texts.iter().map(|text| text.map(scored).transpose());
        let scores = scores.collect::<Result<Vec<_>, OperatorError>>()?;
        let of = |(text, score): (Option<_>, &Option<Result<_, _>>)| {
            Some((text?, *score.as_ref()?.as_ref().ok()?))
        };
        let all: Vec<(&str, Option<f64>)> = texts.iter().zip(&scores).filter_map(of).collect();
        let mut points = levels.points(&all, self.options.times, context)?.into_iter();
        let mut rows = Rows::new(plan, batch.num_rows());
        let mut scores = scores.into_iter();
        let outcome = Outcome::keeping(batch, |row| {
            match scores.next().flatten().transpose()? {
                Some(score) => rows.add(Some(texts.value(row).len()), score, points.next()),
                None => rows.add(None, None, None),
            }
            Ok(())
        })?;
        rows.finish(outcome, plan, self.task.is_some())
    }

    /// What right answers are, if there is a task.
    pub(super) fn labels(&self) -> Labels {
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
            let message = match self.features {
                Some(_) => "it was not decided yet how the layers of `models` are weighed",
                None => "its dictionary was not decided on yet",
            };
            return Err(OperatorError::Failed(message.to_owned()));
        }
        let input = batch.schema();
        let plan = self.plan.of(&input, || self.plan(&input))?;
        if plan.modality == Modality::Text {
            return self.invoke_texts(&batch, &plan, context);
        }
        let column = Column::of(&batch, &self.options.column, plan.modality);
        let label = self.options.task.as_ref().and_then(|task| task.label.as_deref());
        let answers = match &self.task {
            Some(task) => Answers::of(&batch, label, task.as_ref())?,
            None => Answers::Unknown,
        };
        let mut rows = Rows::new(&plan, batch.num_rows());
        let mut room = RoundTrip::default();
        let mut cancelled = Ok(());
        let outcome = Outcome::keeping(&batch, |row| {
            cancelled = std::mem::replace(&mut cancelled, Ok(())).and(context.check_cancelled());
            let media = column.samples(row)?.filter(|_| cancelled.is_ok());
            let Some(media) = media else {
                rows.add(None, None, None);
                return Ok(());
            };
            let mut right = answers.right(row)?;
            // A record without a label says nothing of the task.
            let task = self.task.as_ref().filter(|_| label.is_none() || right.is_some());
            let original = task.and_then(|task| task.outcomes(&[media], &[right]).pop());
            let original = original.transpose()?;
            let answer = original.and_then(|outcome| outcome.answer);
            right = right.or(answer.map(Right::Class));
            let points = self.points(&plan, &media, task.map(|task| (task, right)), &mut room);
            rows.add(Some(media.samples.len()), original.map(|of| of.score), Some(points));
            Ok(())
        })?;
        cancelled?;
        rows.finish(outcome, &plan, self.task.is_some())
    }

    fn journaled(&self) -> Option<&dyn Journaled> {
        let decides = self.features.is_some() || self.options.dictionary.is_some();
        (decides && !self.decided).then_some(self as &dyn Journaled)
    }
}

impl Journaled for Evaluate {
    fn sample(&self) -> BatchSize {
        match self.options.dictionary {
            Some(largest) => text::sample(largest.as_usize()),
            None => BatchSize { records: networks::RECORDS, bytes: 256 << 20 },
        }
    }

    fn decide(&self, sample: &[RecordBatch]) -> Result<Vec<u8>, OperatorError> {
        if let Some(largest) = self.options.dictionary {
            let mut texts: Vec<&[u8]> = Vec::new();
            for batch in sample {
                let column = utf8::of(batch, &self.options.column)?;
                texts.extend(column.iter().flatten().map(str::as_bytes));
            }
            return text::trained(&texts, largest.as_usize(), text::LEVEL);
        }
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
        if self.options.dictionary.is_some() {
            let codecs = Codecs::named(self.options.codecs.as_deref());
            let codecs = codecs.map_err(|e| OperatorError::Failed(e.0))?;
            let levels = Levels::new(codecs, decision)?;
            return Ok(Arc::new(self.with(None, Some(Arc::new(levels)))));
        }
        let foreign =
            |e: String| OperatorError::Failed(format!("the decision on weights of layers: {e}"));
        let weighting: Weighting =
            serde_json::from_slice(decision).map_err(|e| foreign(e.to_string()))?;
        let weighed = |of: &FeatureDistance| of.weighed(&weighting.networks);
        let features = self.features.as_ref().map(weighed).transpose();
        let features = features.map_err(|e| foreign(e.to_string()))?;
        Ok(Arc::new(self.with(features, self.levels.clone())))
    }
}
