//! Tensors against the architecture: names, kinds, shapes and values.

use std::collections::BTreeMap;
use std::fmt::Display;

use super::architecture::{Architecture, Dtype, FeedForward, TensorShape};
use super::{ArtifactError, Card, Tensor, Values};

/// Whether these are the tensors of the card.
pub(super) fn tensors(
    card: &Card,
    tensors: &BTreeMap<String, Tensor>,
) -> Result<(), ArtifactError> {
    let wanted: BTreeMap<String, TensorShape> = card
        .architecture
        .tensors()
        .into_iter()
        .map(|tensor| (tensor.name.clone(), tensor))
        .collect();
    if let Some(tensors) = named(wanted.keys().filter(|name| !tensors.contains_key(*name))) {
        return Err(ArtifactError::Missing { tensors });
    }
    if let Some(tensors) = named(tensors.keys().filter(|name| !wanted.contains_key(*name))) {
        return Err(ArtifactError::Unknown { tensors });
    }
    for (wanted, (name, tensor)) in wanted.values().zip(tensors) {
        let values = tensor.values();
        let fits = values.dtype() == wanted.dtype
            && tensor.shape() == wanted.shape
            && values.len() == wanted.elements();
        if !fits {
            let elements = if values.len() == tensor.shape().iter().product::<usize>() {
                String::new()
            } else {
                format!(" with {} elements", values.len())
            };
            return Err(ArtifactError::Shape {
                name: name.clone(),
                found: described(values.dtype(), tensor.shape()) + &elements,
                expected: described(wanted.dtype, &wanted.shape),
            });
        }
        self::values(card, name, values)?;
    }
    Ok(())
}

/// Whether each value means something.
fn values(card: &Card, name: &str, values: &Values) -> Result<(), ArtifactError> {
    match values {
        Values::F32(values) => all(name, values, "a weight is a finite number", |v| v.is_finite()),
        Values::I8(values) if is_table(name) => {
            let bits = card.table_bits;
            let most = i8::MAX >> (8 - bits);
            let wanted = format!("a table of {bits} bits holds -{most} to {most}");
            all(name, values, &wanted, |v| (-most..=most).contains(v))
        }
        Values::U16(values) => {
            let width = card.architecture.width;
            let wanted = format!("a wire leads to one of {width} features");
            all(name, values, &wanted, |v| usize::from(*v) < width)
        }
        Values::U32(values) => {
            let ends = ends(&card.architecture, name);
            let wanted = format!("a wire leads to one of {ends} bits");
            all(name, values, &wanted, |v| usize::try_from(*v).is_ok_and(|v| v < ends))
        }
        Values::U64(values) => {
            let FeedForward::Bits(bits) = &card.architecture.feed_forward else { return Ok(()) };
            let used = if bits.inputs >= 6 { u64::MAX } else { (1 << (1 << bits.inputs)) - 1 };
            all(name, values, "bits beyond the last address are 0", |v| v & !used == 0)
        }
        Values::I8(_) | Values::U8(_) | Values::I32(_) => Ok(()),
    }
}

fn is_table(name: &str) -> bool {
    name.ends_with(".rows.table") || name.ends_with(".bits.output")
}

/// How many bits the wires of a LUT layer choose from.
fn ends(architecture: &Architecture, name: &str) -> usize {
    let FeedForward::Bits(bits) = &architecture.feed_forward else { return 0 };
    let layer = name.strip_suffix(".wires").and_then(|name| name.rsplit('.').next());
    match layer.and_then(|layer| layer.parse::<usize>().ok()) {
        Some(0) | None => architecture.width * bits.levels,
        Some(layer) => bits.nodes.get(layer - 1).copied().unwrap_or_default(),
    }
}

fn all<T: Display>(
    name: &str,
    values: &[T],
    wanted: &str,
    holds: impl Fn(&T) -> bool,
) -> Result<(), ArtifactError> {
    let Some((element, found)) = values.iter().enumerate().find(|(_, value)| !holds(value)) else {
        return Ok(());
    };
    Err(ArtifactError::Value {
        name: name.to_owned(),
        element,
        found: found.to_string(),
        wanted: wanted.to_owned(),
    })
}

fn described(dtype: Dtype, shape: &[usize]) -> String {
    format!("{} {shape:?}", format!("{dtype:?}").to_lowercase())
}

/// The first few names, or nothing when there is none.
fn named<'a>(names: impl Iterator<Item = &'a String>) -> Option<String> {
    const SHOWN: usize = 3;
    let names = names.map(String::as_str).collect::<Vec<_>>();
    let more = names.len().saturating_sub(SHOWN);
    let shown = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    match (shown.is_empty(), more) {
        (true, _) => None,
        (false, 0) => Some(shown),
        (false, more) => Some(format!("{shown} and {more} more tensors")),
    }
}
