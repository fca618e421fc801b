//! What a decision comes to while records are stored.

use std::collections::HashMap;
use std::sync::Arc;

use anabranch_pipelines::graph::SchemaError;
use anabranch_pipelines::operator::OperatorError;
use anabranch_pipelines::record::RecordId;
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use sha2::{Digest, Sha256};

use super::answers::Answers;
use super::storing::Storing;
use super::treatment::{Treatment, logits};
use super::{Auto, Share};
use crate::codec::{Media, Setting};
use crate::original::{self, Original};
use crate::round_trip::RoundTrip;
use crate::task::{Outcome, Right, Task};
use crate::watch;

/// How each record is stored, and which are watched.
#[derive(Clone)]
pub(crate) struct Acting {
    task: Arc<dyn Task>,
    label: Option<String>,
    treatment: Treatment,
    shadow: Option<Shadow>,
}

/// Records that are stored without loss, so that the task can be asked about them at any time.
#[derive(Debug, Clone, Copy)]
struct Shadow {
    share: Share,
    lossless: Setting,
    max_loss: f64,
    confidence: f64,
}

/// A record that is to be stored.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record<'a> {
    pub(super) id: Option<RecordId>,
    pub(super) media: Media<'a>,
    /// What is right of it, if anybody knows.
    pub(super) right: Option<Right<'a>>,
    /// What it came in, if that may stay.
    pub(super) original: Option<Original<'a>>,
}

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Kept {
    /// The name of its encoding.
    pub(super) encoding: &'static str,
    /// What the setting that was decided on would lose of it, if it is one of the watched.
    pub(super) loss: Option<f64>,
}

impl Acting {
    pub(super) fn new(auto: &Auto, treatment: Treatment) -> Self {
        let shadow = auto.options.shadow.map(|share| Shadow {
            share,
            lossless: auto.lossless,
            max_loss: auto.rule.max_loss,
            confidence: auto.rule.confidence,
        });
        let label = auto.options.label.clone();
        Self { task: Arc::clone(&auto.task), label, treatment, shadow }
    }

    /// What most records are stored with.
    pub(crate) fn setting(&self) -> Setting {
        self.treatment.setting
    }

    /// The schema with the column of losses of a media column, where records are watched. That column says what may be
    /// lost, for the operator `watch`.
    ///
    /// # Errors
    /// When there is a column of its name.
    pub(crate) fn output(&self, schema: SchemaRef, column: &str) -> Result<SchemaRef, SchemaError> {
        let Some(Shadow { max_loss, confidence, .. }) = self.shadow else { return Ok(schema) };
        let metadata = HashMap::from([
            (watch::MAX_LOSS_KEY.to_owned(), max_loss.to_string()),
            (watch::CONFIDENCE_KEY.to_owned(), confidence.to_string()),
        ]);
        let losses = Field::new(losses(column), DataType::Float64, true).with_metadata(metadata);
        if schema.field_with_name(losses.name()).is_ok() {
            let message =
                format!("there is a column `{}` already; `select` it away", losses.name());
            return Err(SchemaError::Mismatch(message));
        }
        let fields = schema.fields().iter().cloned().chain([Arc::new(losses)]);
        Ok(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
    }

    /// Begins to store the records of a batch.
    ///
    /// # Errors
    /// When its column of right answers is none.
    pub(crate) fn storing<'a>(
        &'a self,
        batch: &'a RecordBatch,
    ) -> Result<Storing<'a>, OperatorError> {
        let answers = Answers::of(batch, self.label.as_deref(), self.task.as_ref())?;
        Ok(Storing::new(self, batch, answers))
    }

    /// Whether some records are watched.
    pub(super) fn watches(&self) -> bool {
        self.shadow.is_some()
    }

    /// Appends the bytes of a record. One that is watched is stored by the lossless setting; where originals may stay,
    /// its own stays like any other.
    ///
    /// # Errors
    /// When the codec cannot hold the record, as a sentence.
    pub(super) fn store(
        &self,
        record: &Record<'_>,
        room: &mut RoundTrip,
        bytes: &mut Vec<u8>,
    ) -> Result<Kept, String> {
        let Record { id, media, original, .. } = record;
        if let Some(shadow) = self.shadow.filter(|shadow| shadow.falls_on(*id)) {
            let loss = self.loss(record, room);
            let encoding = original::store(shadow.lossless, media, *original, bytes)?;
            return Ok(Kept { encoding, loss });
        }
        if self.treatment.protection.is_none() {
            let encoding = original::store(self.treatment.setting, media, *original, bytes)?;
            return Ok(Kept { encoding, loss: None });
        }
        let before = logits(self.task.as_ref(), media);
        let gone = self.treatment.go(self.task.as_ref(), media, before.as_deref(), room)?;
        let stays = original.filter(|original| original.stays(gone.setting, room.bytes.len()));
        let (encoding, stored) = match &stays {
            Some(original) => (original.encoding, original.bytes),
            None => (gone.setting.codec.name(), room.bytes.as_slice()),
        };
        bytes.extend_from_slice(stored);
        Ok(Kept { encoding, loss: None })
    }

    /// What is lost of a record, as the decision reckoned: a record that does not come back is lost, and one whose
    /// original would stay is not. `None` when nobody knows the right answer, or the model cannot take the original.
    fn loss(&self, record: &Record<'_>, room: &mut RoundTrip) -> Option<f64> {
        let Record { media, right, original, .. } = record;
        if self.label.is_some() && right.is_none() {
            return None;
        }
        let task = self.task.as_ref();
        let before = outcome(task, media, *right)?;
        let right = right.or(before.answer.map(Right::Class));
        let known = self.treatment.protection.and_then(|_| logits(task, media));
        let gone = self.treatment.go(task, media, known.as_deref(), room).ok();
        let stays = |setting| original.is_some_and(|of| of.stays(setting, room.bytes.len()));
        if gone.is_some_and(|gone| stays(gone.setting)) {
            return Some(0.0);
        }
        let after = gone.and_then(|gone| outcome(task, &room.media(gone.facts), right));
        Some(after.map_or(1.0, |after| before.score - after.score))
    }
}

/// The name of the column of losses of a media column.
pub(super) fn losses(column: &str) -> String {
    format!("{column}_shadow_loss")
}

/// The outcome of one record; `None` when the model cannot take it.
fn outcome(task: &dyn Task, media: &Media<'_>, right: Option<Right<'_>>) -> Option<Outcome> {
    task.outcomes(std::slice::from_ref(media), &[right]).pop()?.ok()
}

impl Shadow {
    /// Whether a record is one of the watched: by a hash of its id that nothing else goes by, above all not the order
    /// in which a decision looks at records.
    fn falls_on(&self, id: Option<RecordId>) -> bool {
        let Some(id) = id else { return false };
        let hash = Sha256::new().chain_update(b"shadow").chain_update(id.0).finalize();
        let first = hash.first_chunk().map_or(u64::MAX, |first| u64::from_be_bytes(*first));
        (first as f64) < self.share.0 * 2.0_f64.powi(64)
    }
}
