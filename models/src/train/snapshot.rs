//! A training as bytes: weights, moments, steps and random state.

use std::collections::{BTreeMap, HashMap};

use burn::module::Module;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::adam::Moments;
use super::parameters::{self, Parameter};
use super::trainer::Trainer;
use crate::random::Random;

/// The layout of snapshots; another number is another layout.
const FORMAT: u32 = 1;
/// The metadata entry of [`Said`].
const SAID: &str = "anabranch";

/// What a snapshot says beside its tensors.
#[derive(Serialize, Deserialize)]
struct Said {
    format: u32,
    step: u64,
    random: u64,
    /// Updates that each parameter got.
    updates: BTreeMap<String, u64>,
}

/// Why a snapshot is of no use.
#[derive(Debug, Error)]
pub enum SnapshotError {
    /// Bytes that are no snapshot, or a damaged one.
    #[error("the snapshot does not read as safetensors: {0}")]
    Damaged(#[from] safetensors::SafeTensorError),
    /// A snapshot without what it must say.
    #[error(
        "the snapshot does not say at which step it was taken; it is damaged or not of a training"
    )]
    Unsaid,
    /// A snapshot of another layout.
    #[error("the snapshot has format {0}, this program reads {FORMAT}")]
    Format(u32),
    /// A snapshot of another model.
    #[error(
        "the snapshot and the model differ at {name}: {reason}; restore into the architecture that was saved"
    )]
    Foreign {
        /// Which tensor.
        name: String,
        /// How they differ.
        reason: String,
    },
}

impl<M: Module> Trainer<M> {
    /// All that the next step depends on, but for the options and the batches.
    ///
    /// # Errors
    ///
    /// When the tensors cannot be written, which their sizes alone could cause.
    pub fn snapshot(&self) -> Result<Vec<u8>, SnapshotError> {
        let mut tensors = Vec::new();
        for (path, Parameter { values, shape }) in parameters::parameters(&self.model) {
            if let Some((_, moments)) = self.moments.get(&path) {
                tensors.push((format!("first.{path}"), shape.clone(), bytes(&moments.first)));
                tensors.push((format!("second.{path}"), shape.clone(), bytes(&moments.second)));
            }
            tensors.push((format!("value.{path}"), shape, bytes(&values)));
        }
        let mut views = Vec::with_capacity(tensors.len());
        for (name, shape, bytes) in &tensors {
            views.push((name, TensorView::new(Dtype::F32, shape.clone(), bytes)?));
        }
        let updates = self.moments.iter().map(|(path, (updates, _))| (path.clone(), *updates));
        let said = Said {
            format: FORMAT,
            step: self.step,
            random: self.random.state(),
            updates: updates.collect(),
        };
        // One entry: the metadata's own order is not the same from run to run.
        let said = serde_json::to_string(&said).map_err(|_| SnapshotError::Unsaid)?;
        let said = HashMap::from([(SAID.to_owned(), said)]);
        Ok(safetensors::serialize(views, Some(said))?)
    }

    /// Continues where a snapshot was taken: the next steps are bit for bit those that would have
    /// followed.
    ///
    /// # Errors
    ///
    /// When the bytes are no snapshot of this model; then the trainer is as it was.
    pub fn restore(&mut self, snapshot: &[u8]) -> Result<(), SnapshotError> {
        let (_, header) = SafeTensors::read_metadata(snapshot)?;
        let said = header.metadata().as_ref().and_then(|said| said.get(SAID));
        let said = said.and_then(|said| serde_json::from_str::<Said>(said).ok());
        let Said { format, step, random, updates } = said.ok_or(SnapshotError::Unsaid)?;
        if format != FORMAT {
            return Err(SnapshotError::Format(format));
        }
        let tensors = SafeTensors::deserialize(snapshot)?;
        let model = parameters::parameters(&self.model);
        let mut values = BTreeMap::new();
        for (path, parameter) in &model {
            values.insert(path.clone(), read(&tensors, "value", path, &parameter.shape)?);
        }
        let mut moments = BTreeMap::new();
        for (path, count) in updates {
            let foreign = || SnapshotError::Foreign {
                name: path.clone(),
                reason: "the model has no such parameter".to_owned(),
            };
            let shape = &model.get(&path).ok_or_else(foreign)?.shape;
            let first = read(&tensors, "first", &path, shape)?;
            let second = read(&tensors, "second", &path, shape)?;
            moments.insert(path, (count, Moments { first, second }));
        }
        let surplus = tensors
            .names()
            .into_iter()
            .find(|name| name.strip_prefix("value.").is_some_and(|path| !model.contains_key(path)));
        if let Some(name) = surplus {
            let reason = "the model has no such parameter".to_owned();
            return Err(SnapshotError::Foreign { name: name.to_owned(), reason });
        }
        self.model = parameters::change(self.model.clone(), |path, to| {
            values.get(path).is_some_and(|from| {
                to.copy_from_slice(from);
                true
            })
        });
        (self.step, self.random, self.moments) = (step, Random::resume(random), moments);
        Ok(())
    }
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn read(
    tensors: &SafeTensors<'_>,
    part: &str,
    path: &str,
    shape: &[usize],
) -> Result<Vec<f32>, SnapshotError> {
    let name = format!("{part}.{path}");
    let foreign = |reason: String| SnapshotError::Foreign { name: name.clone(), reason };
    let tensor =
        tensors.tensor(&name).map_err(|_| foreign("it is missing in the snapshot".to_owned()))?;
    if tensor.dtype() != Dtype::F32 || tensor.shape() != shape {
        let found = (tensor.dtype(), tensor.shape());
        return Err(foreign(format!("it is {found:?} there and f32 {shape:?} here")));
    }
    let (chunks, _) = tensor.data().as_chunks::<4>();
    Ok(chunks.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
}
