//! Tensors of an artifact in the form that kernels take.

use super::EngineError;
use super::kernels::linear::Matrix;
use super::kernels::norm::Norm;
use crate::artifact::{Artifact, Values};

/// The tensors whose names begin alike.
#[derive(Clone)]
pub(super) struct Tensors<'a> {
    artifact: &'a Artifact,
    prefix: String,
}

impl<'a> Tensors<'a> {
    pub(super) fn new(artifact: &'a Artifact) -> Self {
        Self { artifact, prefix: String::new() }
    }

    /// Those whose names go on like this.
    pub(super) fn under(&self, part: impl std::fmt::Display) -> Self {
        Self { artifact: self.artifact, prefix: format!("{}{part}.", self.prefix) }
    }

    /// The elements of a tensor of a kind.
    pub(super) fn get<T: Kind>(&self, name: &str) -> Result<&'a [T], EngineError> {
        let name = format!("{}{name}", self.prefix);
        let tensor = self.artifact.tensor(&name)?;
        T::of(tensor.values()).ok_or(EngineError::Tensor { name })
    }

    /// Floats, filled up with zeros to whole lanes.
    pub(super) fn lanes(&self, name: &str) -> Result<Vec<f32>, EngineError> {
        Ok(lanes(self.get(name)?))
    }

    /// A matrix `[out, in]`.
    pub(super) fn matrix(&self, name: &str, inputs: usize) -> Result<Matrix, EngineError> {
        Ok(Matrix::pack(self.get(name)?, inputs))
    }

    /// A norm.
    pub(super) fn norm(&self, name: &str) -> Result<Norm, EngineError> {
        let tensors = self.under(name);
        let width = tensors.get::<f32>("gain")?.len();
        Ok(Norm { width, gain: tensors.lanes("gain")?, bias: tensors.lanes("bias")? })
    }
}

/// Floats, filled up with zeros to whole lanes.
pub(super) fn lanes(values: &[f32]) -> Vec<f32> {
    let mut values = values.to_vec();
    values.resize(values.len().next_multiple_of(16), 0.0);
    values
}

/// Elements of a kind.
pub(super) trait Kind: Sized {
    fn of(values: &Values) -> Option<&[Self]>;
}

macro_rules! kinds {
    ($($kind:ident $type:ty),*) => {
        $(impl Kind for $type {
            fn of(values: &Values) -> Option<&[Self]> {
                match values {
                    Values::$kind(values) => Some(values),
                    _ => None,
                }
            }
        })*
    };
}

kinds!(F32 f32, U8 u8, I8 i8, U16 u16, U32 u32, I32 i32, U64 u64);
