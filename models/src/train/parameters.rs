//! A module's float parameters by name.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Gradients, Tensor};

/// The values of one parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Row-major.
    pub values: Vec<f32>,
    /// The sizes of the dimensions.
    pub shape: Vec<usize>,
}

/// The parameters of a module by path, as `blocks.0.norm1.gain`.
pub fn parameters<M: Module>(module: &M) -> BTreeMap<String, Parameter> {
    let mut reader = Reader::default();
    module.visit(&mut reader);
    reader.found
}

/// A path that modules are entered and left on.
#[derive(Default)]
struct Path(Vec<String>);

impl Path {
    fn name(&self) -> String {
        self.0.join(".")
    }
}

#[derive(Default)]
struct Reader {
    path: Path,
    found: BTreeMap<String, Parameter>,
}

impl ModuleVisitor for Reader {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.0.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.0.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val().inner();
        let shape = value.dims().to_vec();
        self.found.insert(self.path.name(), Parameter { values: floats(value), shape });
    }
}

/// Takes the gradients of a module's parameters out of a backward pass, by path. Parameters that the
/// loss did not depend on are missing.
pub(crate) fn gradients<M: Module>(
    module: &M,
    gradients: &mut Gradients,
) -> BTreeMap<String, Vec<f32>> {
    struct Taker<'a> {
        path: Path,
        gradients: &'a mut Gradients,
        found: BTreeMap<String, Vec<f32>>,
    }

    impl ModuleVisitor for Taker<'_> {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.0.push(name.to_owned());
        }

        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.0.pop();
        }

        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = param.val().grad_remove(self.gradients) {
                self.found.insert(self.path.name(), floats(gradient));
            }
        }
    }

    let mut taker = Taker { path: Path::default(), gradients, found: BTreeMap::new() };
    module.visit(&mut taker);
    taker.found
}

/// The module with other values: `change` gets every parameter's path and values and returns whether
/// it changed them.
pub(super) fn change<M: Module>(module: M, change: impl FnMut(&str, &mut [f32]) -> bool) -> M {
    struct Changer<F> {
        path: Path,
        change: F,
    }

    impl<F: FnMut(&str, &mut [f32]) -> bool> ModuleMapper for Changer<F> {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.0.push(name.to_owned());
        }

        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.0.pop();
        }

        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let name = self.path.name();
            param.map(|tensor| {
                let device = tensor.device();
                let learns = tensor.is_require_grad();
                // A copy while the module before the change is alive; its values may not move.
                let mut data = tensor.clone().inner().into_data().convert::<f32>();
                let changed =
                    data.as_mut_slice::<f32>().is_ok_and(|values| (self.change)(&name, values));
                if !changed {
                    return tensor;
                }
                let changed = Tensor::from_data(data, &device);
                if learns { changed.require_grad() } else { changed }
            })
        }
    }

    module.map(&mut Changer { path: Path::default(), change })
}

/// Values as `f32`, whatever float the backend keeps.
fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    let data = tensor.into_data().convert::<f32>();
    data.try_into_vec::<f32>().unwrap_or_default()
}
