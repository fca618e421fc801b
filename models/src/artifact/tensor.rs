//! A tensor in memory, row-major.

use std::borrow::Cow;

use safetensors::tensor::TensorView;
use safetensors::{Dtype as FileDtype, View};

use super::ArtifactError;
use super::architecture::{Dtype, TensorShape};

/// A tensor in memory, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    values: Values,
}

/// The elements of a tensor.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum Values {
    F32(Vec<f32>),
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    U64(Vec<u64>),
}

/// Calls a macro for each kind of elements.
macro_rules! for_each_kind {
    ($call:ident) => {
        $call!(F32 f32, U8 u8, I8 i8, U16 u16, U32 u32, I32 i32, U64 u64);
    };
}

macro_rules! conversions {
    ($($kind:ident $type:ty),*) => {
        $(impl From<Vec<$type>> for Values {
            fn from(values: Vec<$type>) -> Self {
                Self::$kind(values)
            }
        })*

        impl Values {
            /// What the elements are.
            #[must_use]
            pub fn dtype(&self) -> Dtype {
                match self {
                    $(Self::$kind(_) => Dtype::$kind),*
                }
            }

            /// How many elements.
            #[must_use]
            pub fn len(&self) -> usize {
                match self {
                    $(Self::$kind(values) => values.len()),*
                }
            }

            fn to_bytes(&self) -> Vec<u8> {
                match self {
                    $(Self::$kind(values) => {
                        values.iter().flat_map(|value| value.to_le_bytes()).collect()
                    })*
                }
            }

            fn from_bytes(dtype: Dtype, bytes: &[u8]) -> Self {
                match dtype {
                    $(Dtype::$kind => {
                        let (chunks, _) = bytes.as_chunks();
                        Self::$kind(chunks.iter().map(|chunk| <$type>::from_le_bytes(*chunk)).collect())
                    })*
                }
            }
        }

        fn of_file(dtype: FileDtype) -> Option<Dtype> {
            match dtype {
                $(FileDtype::$kind => Some(Dtype::$kind),)*
                _ => None,
            }
        }

        fn to_file(dtype: Dtype) -> FileDtype {
            match dtype {
                $(Dtype::$kind => FileDtype::$kind),*
            }
        }
    };
}

for_each_kind!(conversions);

impl Values {
    /// Whether there are no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Tensor {
    /// A tensor of this shape. Whether shape and elements agree is checked when an artifact is made of it.
    #[must_use]
    pub fn new(shape: &[usize], values: impl Into<Values>) -> Self {
        Self { shape: shape.to_vec(), values: values.into() }
    }

    /// A tensor whose elements are little-endian bytes. Whether there are as many as the shape says is checked when
    /// an artifact is made of it.
    #[must_use]
    pub fn from_bytes(shape: &TensorShape, bytes: &[u8]) -> Self {
        Self { shape: shape.shape.clone(), values: Values::from_bytes(shape.dtype, bytes) }
    }

    /// Its sizes.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Its elements.
    #[must_use]
    pub fn values(&self) -> &Values {
        &self.values
    }

    /// As it stands in a file.
    pub(super) fn of(name: &str, view: &TensorView<'_>) -> Result<Self, ArtifactError> {
        let Some(dtype) = of_file(view.dtype()) else {
            return Err(ArtifactError::Shape {
                name: name.to_owned(),
                found: format!("of {}", view.dtype()),
                expected: "f32 or integers of known width".to_owned(),
            });
        };
        let values = Values::from_bytes(dtype, view.data());
        Ok(Self { shape: view.shape().to_vec(), values })
    }
}

impl View for &Tensor {
    fn dtype(&self) -> FileDtype {
        to_file(self.values.dtype())
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned(self.values.to_bytes())
    }

    fn data_len(&self) -> usize {
        self.values.len() * self.values.dtype().bytes()
    }
}
