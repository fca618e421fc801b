//! Differentiable operations that are written over slices, with their own backward pass.
//!
//! A chain of tensor operations writes every intermediate result to memory and reads it again in
//! the backward pass. The few places where that dominates a step (look-up tables, attention,
//! normalisation, the loss) are a [`Kernel`] instead: a forward function and a closed-form backward
//! function over `f32` slices. [`apply`] records it as **one** node of Burn's autodiff graph.
//!
//! Kernels run on `burn-flex`, the CPU backend. Every caller keeps the same mathematics in plain
//! tensor operations for the other backends and asks [`native`] which of the two to take.
//!
//! # Same bits for any number of threads
//!
//! Kernels are parallel with rayon over ranges that depend on shapes alone, each output element is
//! summed by one task in one order, and no atomics are used. So a training run depends on its seed,
//! not on the machine's number of cores.
//!
//! ```
//! use anabranch_models::kernel::{self, Kernel, Output, View};
//! use burn::tensor::{Device, Tensor};
//!
//! /// Squares every value.
//! #[derive(Debug)]
//! struct Square;
//!
//! impl Kernel<1> for Square {
//!     type Saved = ();
//!
//!     fn forward(&self, [x]: [View<'_>; 1], _tracked: bool) -> Output<()> {
//!         Output::new(x.values.iter().map(|v| v * v).collect(), x.shape, ())
//!     }
//!
//!     fn backward(
//!         &self,
//!         [x]: [View<'_>; 1],
//!         (): &(),
//!         gradient: View<'_>,
//!         _wanted: [bool; 1],
//!     ) -> [Option<Vec<f32>>; 1] {
//!         [Some(x.values.iter().zip(gradient.values).map(|(v, g)| 2.0 * v * g).collect())]
//!     }
//! }
//!
//! let x = Tensor::<1>::from_floats([1.0, -3.0], &Device::flex().autodiff()).require_grad();
//! let y: Tensor<1> = kernel::apply(Square, [x.clone().into_dispatch()]);
//! let gradients = y.sum().backward();
//! assert_eq!(x.grad(&gradients).unwrap().to_data().try_to_vec::<f32>().unwrap(), [2.0, -6.0]);
//! ```

pub(crate) mod attention;
pub(crate) mod bits;
pub(crate) mod entropy;
pub(crate) mod gather;
mod lanes;
pub(crate) mod linear;
mod matrix;
pub(crate) mod mlp;
pub(crate) mod norm;
mod record;

use std::fmt::Debug;

pub(crate) use lanes::{LANES, add, dot, exp, fold, lanes, sum, tanh};
pub(crate) use matrix::{Matrix, multiply, multiply_in_parallel, rows_of_task};
pub use record::{apply, native};

/// A tensor that a kernel reads: row-major values and their shape.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The values, row-major, without gaps.
    pub values: &'a [f32],
    /// The sizes of the dimensions.
    pub shape: &'a [usize],
}

impl View<'_> {
    /// The size of the last dimension (1 for a scalar).
    pub fn width(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// The number of rows when all dimensions but the last are one.
    pub fn rows(&self) -> usize {
        self.values.len() / self.width().max(1)
    }
}

/// What a forward pass returns.
#[derive(Debug)]
pub struct Output<S> {
    /// The values, row-major.
    pub values: Vec<f32>,
    /// Their shape.
    pub shape: Vec<usize>,
    /// What the backward pass needs beside inputs and gradient.
    pub saved: S,
}

impl<S> Output<S> {
    /// An output of the given shape.
    pub fn new(values: Vec<f32>, shape: &[usize], saved: S) -> Self {
        Self { values, shape: shape.to_vec(), saved }
    }
}

/// A differentiable operation of `N` float tensors.
///
/// Shapes are checked by the caller, which knows the names of what it passes; a kernel may panic
/// when they do not fit.
pub trait Kernel<const N: usize>: Debug + Send + Sync + 'static {
    /// What forward keeps for backward.
    type Saved: Debug + Send + Sync + 'static;

    /// The result. When `tracked` is false no backward pass follows and nothing need be saved.
    fn forward(&self, inputs: [View<'_>; N], tracked: bool) -> Output<Self::Saved>;

    /// The gradient of the loss by every input that is `wanted`, in the input's shape.
    fn backward(
        &self,
        inputs: [View<'_>; N],
        saved: &Self::Saved,
        gradient: View<'_>,
        wanted: [bool; N],
    ) -> [Option<Vec<f32>>; N];
}
