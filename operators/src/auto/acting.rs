//! What a decision comes to while records are stored.

use std::collections::HashMap;
use std::sync::Arc;

use anabranch_pipelines::record::RecordId;
use arrow::datatypes::{DataType, Field};
use sha2::{Digest, Sha256};

use super::treatment::{Treatment, logits};
use super::{Auto, Share};
use crate::codec::{Media, Setting};
use crate::round_trip::RoundTrip;
use crate::task::{Outcome, Task};
use crate::watch;

/// How each record is stored, and which are watched.
#[derive(Clone)]
pub(crate) struct Acting {
    task: Arc<dyn Task>,
    labelled: bool,
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

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Kept {
    /// The name of its codec.
    pub(crate) codec: &'static str,
    /// What the setting that was decided on would lose of it, if it is one of the watched.
    pub(crate) loss: Option<f64>,
}

impl Acting {
    pub(super) fn new(auto: &Auto, treatment: Treatment) -> Self {
        let shadow = auto.options.shadow.map(|share| Shadow {
            share,
            lossless: auto.lossless,
            max_loss: auto.rule.max_loss,
            confidence: auto.rule.confidence,
        });
        let labelled = auto.options.label.is_some();
        Self { task: Arc::clone(&auto.task), labelled, treatment, shadow }
    }

    /// What most records are stored with.
    pub(crate) fn setting(&self) -> Setting {
        self.treatment.setting
    }

    /// The column of losses of a media column, where records are watched. It says what may be lost, for the operator
    /// `watch`.
    pub(crate) fn losses(&self, column: &str) -> Option<Field> {
        let Shadow { max_loss, confidence, .. } = self.shadow?;
        let metadata = HashMap::from([
            (watch::MAX_LOSS_KEY.to_owned(), max_loss.to_string()),
            (watch::CONFIDENCE_KEY.to_owned(), confidence.to_string()),
        ]);
        let name = format!("{column}_shadow_loss");
        Some(Field::new(name, DataType::Float64, true).with_metadata(metadata))
    }

    /// Appends the bytes of a record. `right` is its label, if it has one.
    ///
    /// # Errors
    /// When the codec cannot hold the record, as a sentence.
    pub(crate) fn store(
        &self,
        id: Option<RecordId>,
        media: &Media<'_>,
        right: Option<u32>,
        room: &mut RoundTrip,
        bytes: &mut Vec<u8>,
    ) -> Result<Kept, String> {
        let encode = |setting: Setting, bytes: &mut Vec<u8>| {
            setting.encode(media, bytes).map(|()| setting.codec.name()).map_err(|e| e.to_string())
        };
        if let Some(shadow) = self.shadow.filter(|shadow| shadow.falls_on(id)) {
            let loss = self.loss(media, right, room);
            return Ok(Kept { codec: encode(shadow.lossless, bytes)?, loss });
        }
        if self.treatment.protection.is_none() {
            return Ok(Kept { codec: encode(self.treatment.setting, bytes)?, loss: None });
        }
        let original = logits(self.task.as_ref(), media);
        let gone = self.treatment.go(self.task.as_ref(), media, original.as_deref(), room)?;
        bytes.extend_from_slice(&room.bytes);
        Ok(Kept { codec: gone.setting.codec.name(), loss: None })
    }

    /// What is lost of a record, as the decision reckoned: a record that does not come back is lost. `None` when
    /// nobody knows the right answer, or the model cannot take the original.
    fn loss(&self, media: &Media<'_>, right: Option<u32>, room: &mut RoundTrip) -> Option<f64> {
        if self.labelled && right.is_none() {
            return None;
        }
        let task = self.task.as_ref();
        let before = logits(task, media)?;
        let original = Outcome::of(&before, right);
        let right = right.or(original.answer);
        let gone = self.treatment.go(task, media, Some(&before), room).ok();
        let after = gone.and_then(|gone| logits(task, &room.media(gone.facts)));
        Some(after.map_or(1.0, |after| original.score - Outcome::of(&after, right).score))
    }
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
