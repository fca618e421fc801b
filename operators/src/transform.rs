//! What operators have in common that make other samples of each record's samples.

use std::sync::Arc;

use anabranch_pipelines::graph::SchemaError;
use anabranch_pipelines::operator::{
    Allocation, Context, Growth, Operator, OperatorError, Outcome,
};
use anabranch_pipelines::record::{ID, Modality, RecordId, media};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::codec::{Facts, Media, Pcm};
use crate::derived::Derived;
use crate::rewrite::{self, Column, Expected, Rewritten};

/// Makes other samples of the samples of one record.
pub(crate) trait Transform: Send + Sync + 'static {
    /// As of the operator.
    fn kind(&self) -> &'static str;

    /// As of the operator.
    fn options(&self) -> serde_json::Value;

    /// The decoded column.
    fn column(&self) -> &str;

    /// What the column holds.
    fn modality(&self) -> Modality;

    /// As of the operator.
    fn growth(&self) -> Growth;

    /// Whether it needs to know which record it is.
    fn needs_id(&self) -> bool {
        false
    }

    /// Appends the new samples and says what they are. The id is there if it was asked for.
    fn apply(
        &self,
        media: &Media<'_>,
        id: Option<RecordId>,
        samples: &mut Vec<u8>,
    ) -> Result<Facts, String>;
}

/// A transform as an operator.
pub(crate) fn operator(transform: impl Transform) -> Arc<dyn Operator> {
    Arc::new(Each { transform, schema: Derived::default(), samples: Expected::default() })
}

struct Each<T> {
    transform: T,
    schema: Derived<SchemaRef>,
    samples: Expected,
}

impl<T: Transform> Operator for Each<T> {
    fn kind(&self) -> &'static str {
        self.transform.kind()
    }

    fn options(&self) -> serde_json::Value {
        self.transform.options()
    }

    fn output(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, SchemaError> {
        let [input] = inputs else {
            return Err(SchemaError::Mismatch(format!("{} reads one input", self.kind())));
        };
        let (column, modality) = (self.transform.column(), self.transform.modality());
        SchemaError::require_media(input, column, modality, Some(media::State::Decoded))?;
        if self.transform.needs_id() {
            SchemaError::require(input, ID)?;
        }
        Ok(rewrite::schema(input, column, modality, media::State::Decoded))
    }

    fn growth(&self) -> Growth {
        self.transform.growth()
    }

    fn invoke(
        &self,
        batch: RecordBatch,
        _: &Allocation,
        _: &Context,
    ) -> Result<Outcome, OperatorError> {
        let (name, modality) = (self.transform.column(), self.transform.modality());
        let input = batch.schema();
        let schema = self.schema.of(&input, || self.output(&[Arc::clone(&input)]))?;
        let column = Column::of(&batch, name, modality);
        rewrite::column(&batch, name, modality, &schema, &self.samples, |row, samples| {
            let Some(media) = column.samples(row)? else { return Ok(None) };
            let id = self.transform.needs_id().then(|| RecordId::of_row(&batch, row)).flatten();
            let facts = self.transform.apply(&media, id, samples)?;
            Ok(Some(Rewritten { encoding: facts.encoding(), facts: Some(facts) }))
        })
    }
}

/// The facts of a sound.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sound {
    pub(crate) format: Pcm,
    pub(crate) rate: u32,
    pub(crate) channels: u16,
    pub(crate) frames: u64,
}

impl Sound {
    /// # Errors
    /// When it is a picture, or has no channels.
    pub(crate) fn of(media: &Media<'_>) -> Result<Self, String> {
        match media.facts {
            Facts::Audio { channels: 0, .. } => Err("it has no channels".to_owned()),
            Facts::Audio { format, rate, channels, frames } => {
                Ok(Self { format, rate, channels, frames })
            }
            Facts::Image { .. } => Err("it is no sound".to_owned()),
        }
    }

    /// Bytes of a frame.
    pub(crate) fn frame(&self) -> usize {
        usize::from(self.channels) * self.format.bytes()
    }

    pub(crate) const fn facts(self) -> Facts {
        let Self { format, rate, channels, frames } = self;
        Facts::Audio { format, rate, channels, frames }
    }
}
