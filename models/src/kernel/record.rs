//! How a kernel becomes a node of Burn's autodiff graph on the CPU backend.

use std::fmt;
use std::sync::Arc;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{
    Autodiff, AutodiffBackend, BackendTensor, DispatchAutodiffContext, DispatchKindConversion,
    DispatchTensor, DispatchTensorKind, Flex, TensorMetadata,
};
use burn::tensor::{DType, Tensor, TensorData};

use super::{Kernel, View};

/// Autodiff over the CPU backend, every value of the forward pass kept.
type Tracked = Autodiff<Flex, NoCheckpointing>;

/// Whether kernels run where this tensor lives: on the CPU backend, in `f32`, without gradient
/// checkpointing.
///
/// ```
/// use burn::tensor::{Device, Tensor};
///
/// let x = Tensor::<1>::from_floats([1.0], &Device::flex());
/// assert!(anabranch_models::kernel::native(&x));
/// ```
pub fn native<const D: usize>(tensor: &Tensor<D>) -> bool {
    fn flex(kind: &DispatchTensorKind) -> bool {
        match kind {
            DispatchTensorKind::Flex(_) => true,
            DispatchTensorKind::Autodiff(inner) => flex(inner),
            #[allow(unreachable_patterns, reason = "another backend's feature adds variants")]
            _ => false,
        }
    }
    let tensor = tensor.clone().into_dispatch();
    let kept = match tensor.autodiff {
        DispatchAutodiffContext::Disabled => true,
        DispatchAutodiffContext::Enabled(strategy) => strategy == Default::default(),
    };
    kept && tensor.dtype() == DType::F32 && flex(&tensor.kind)
}

/// Runs a kernel and records it when one of the inputs is differentiated.
///
/// # Panics
///
/// When an input is not [`native`].
pub fn apply<K: Kernel<N>, const N: usize, const D: usize>(
    kernel: K,
    inputs: [DispatchTensor; N],
) -> Tensor<D> {
    let tracked = inputs.iter().any(|t| t.autodiff != DispatchAutodiffContext::Disabled);
    if !tracked {
        let inputs = inputs.map(plain);
        let (output, _) = run(&kernel, &inputs, false);
        return Tensor::from_dispatch(
            <DispatchTensor as DispatchKindConversion<Flex>>::from_backend(BackendTensor::Float(
                output,
            )),
        );
    }
    let inputs = inputs.map(lift);
    let nodes = inputs.each_ref().map(|t| t.node());
    let inputs = inputs.map(|t| contiguous(&t.into_primitive()));
    let output = match Node(std::marker::PhantomData)
        .prepare::<NoCheckpointing>(nodes)
        .compute_bound()
        .stateful()
    {
        OpsKind::Tracked(prepared) => {
            let (output, saved) = run(&kernel, &inputs, true);
            prepared.finish(State(Arc::new(Recorded { kernel, inputs, saved })), output)
        }
        OpsKind::UnTracked(prepared) => prepared.finish(run(&kernel, &inputs, false).0),
    };
    Tensor::from_dispatch(<DispatchTensor as DispatchKindConversion<Tracked>>::from_backend(
        BackendTensor::Float(output),
    ))
}

fn run<K: Kernel<N>, const N: usize>(
    kernel: &K,
    inputs: &[FlexTensor; N],
    tracked: bool,
) -> (FlexTensor, K::Saved) {
    let shapes = inputs.each_ref().map(|t| t.shape().to_vec());
    let output = kernel.forward(views(inputs, &shapes), tracked);
    (tensor(output.values, output.shape), output.saved)
}

fn views<'a, const N: usize>(
    inputs: &'a [FlexTensor; N],
    shapes: &'a [Vec<usize>; N],
) -> [View<'a>; N] {
    let mut shapes = shapes.iter();
    inputs.each_ref().map(|t| View {
        values: t.storage::<f32>(),
        shape: shapes.next().map_or(&[], |shape| shape),
    })
}

fn tensor(values: Vec<f32>, shape: Vec<usize>) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

fn contiguous(tensor: &FlexTensor) -> FlexTensor {
    tensor.to_contiguous()
}

fn plain(input: DispatchTensor) -> FlexTensor {
    match <DispatchTensor as DispatchKindConversion<Flex>>::try_into_backend(input) {
        Ok(tensor) => contiguous(&tensor.float()),
        Err(reason) => panic!("kernels run on the CPU backend only: {reason}"),
    }
}

fn lift(input: DispatchTensor) -> FloatTensor<Tracked> {
    if input.autodiff == DispatchAutodiffContext::Disabled {
        return Tracked::from_inner(plain(input));
    }
    match <DispatchTensor as DispatchKindConversion<Tracked>>::try_into_backend(input) {
        Ok(tensor) => tensor.float(),
        Err(reason) => panic!("kernels run on the CPU backend only: {reason}"),
    }
}

/// A kernel with all that its backward pass needs.
struct Recorded<K: Kernel<N>, const N: usize> {
    kernel: K,
    inputs: [FlexTensor; N],
    saved: K::Saved,
}

/// Shared, because Burn asks for a state that can be cloned.
struct State<K: Kernel<N>, const N: usize>(Arc<Recorded<K, N>>);

impl<K: Kernel<N>, const N: usize> Clone for State<K, N> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Kernel<N>, const N: usize> fmt::Debug for State<K, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.kernel.fmt(f)
    }
}

/// The backward step of every kernel.
struct Node<K, const N: usize>(std::marker::PhantomData<fn() -> K>);

impl<K, const N: usize> fmt::Debug for Node<K, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::any::type_name::<K>())
    }
}

impl<K: Kernel<N>, const N: usize> Backward<Flex, N> for Node<K, N> {
    type State = State<K, N>;

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = contiguous(&grads.consume::<Flex>(&ops.node));
        let recorded = &ops.state.0;
        let shapes = recorded.inputs.each_ref().map(|t| t.shape().to_vec());
        let found = recorded.kernel.backward(
            views(&recorded.inputs, &shapes),
            &recorded.saved,
            View { values: gradient.storage::<f32>(), shape: &gradient.shape().to_vec() },
            ops.parents.each_ref().map(Option::is_some),
        );
        for ((parent, values), shape) in ops.parents.into_iter().zip(found).zip(shapes) {
            if let (Some(parent), Some(values)) = (parent, values) {
                grads.register::<Flex>(parent.id, tensor(values, shape));
            }
        }
    }
}
