//! Learns the codec from the first records, once for the run.

use std::sync::Arc;

use anabranch_models::latent::{Fit, Options, Training};
use anabranch_pipelines::graph::SchemaError;
use anabranch_pipelines::operator::{
    Allocation, Context, Growth, Journaled, Operator, OperatorError, Outcome,
};
use anabranch_pipelines::source::BatchSize;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::{Encode, GROWTH, LatentLearning, Source, output};
use crate::EncodeOptions;
use crate::codec::{Latent, with_samples};
use crate::rewrite::Column;

/// Bytes of media that a codec is learned from, at most.
const SAMPLE: usize = 48 << 20;

pub(super) struct Learn {
    options: EncodeOptions,
    learning: LatentLearning,
}

impl Learn {
    pub(super) fn new(options: EncodeOptions, learning: LatentLearning) -> Self {
        Self { options, learning }
    }
}

impl Operator for Learn {
    fn kind(&self) -> &'static str {
        "encode"
    }

    fn options(&self) -> serde_json::Value {
        serde_json::to_value(&self.options).unwrap_or_default()
    }

    fn output(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, SchemaError> {
        output(&self.options.column, inputs).map(|(schema, _)| schema)
    }

    fn growth(&self) -> Growth {
        GROWTH
    }

    fn invoke(
        &self,
        _: RecordBatch,
        _: &Allocation,
        _: &Context,
    ) -> Result<Outcome, OperatorError> {
        Err(OperatorError::Failed("its codec was not decided on yet".to_owned()))
    }

    fn journaled(&self) -> Option<&dyn Journaled> {
        Some(self)
    }
}

impl Journaled for Learn {
    fn sample(&self) -> BatchSize {
        BatchSize { records: usize::MAX, bytes: SAMPLE }
    }

    fn decide(&self, sample: &[RecordBatch]) -> Result<Vec<u8>, OperatorError> {
        let LatentLearning { channels, step, levels, gradient_steps, decoder, seed } =
            self.learning;
        let channels = channels.map_or(0, usize::from);
        let training = Training { steps: gradient_steps.into(), decoder, seed: seed.unwrap_or(1) };
        let levels = levels.map(usize::from);
        let mut fit = Fit::new(Options { channels, step, levels, training });
        let (mut taken, mut refused) = (0, None);
        for batch in sample {
            let name = &self.options.column;
            let (_, modality) = output(name, &[batch.schema()])?;
            let column = Column::of(batch, name, modality);
            for row in 0..batch.num_rows() {
                // Records that cannot be coded are refused one by one later.
                let Ok(Some(media)) = column.samples(row) else { continue };
                match with_samples(&media, |samples| fit.add(samples)) {
                    Ok(()) => taken += 1,
                    Err(error) => refused = Some(error),
                }
            }
        }
        let failed = |error: &dyn std::fmt::Display| {
            OperatorError::Failed(format!("no latent codec can be learned: {error}"))
        };
        match (taken, refused) {
            (0, Some(error)) => Err(failed(&error)),
            (0, None) => Ok(Vec::new()),
            _ => fit.finish().and_then(|codec| codec.to_bytes()).map_err(|e| failed(&e)),
        }
    }

    fn decided(&self, decision: &[u8]) -> Result<Arc<dyn Operator>, OperatorError> {
        let wrong = |e| OperatorError::Failed(format!("its decision is no latent codec: {e}"));
        let source = match decision {
            [] => Source::Nothing,
            file => Source::Known(Arc::new(Latent::from_bytes(file).map_err(wrong)?)),
        };
        Ok(Arc::new(Encode::new(self.options.clone(), source)))
    }
}
