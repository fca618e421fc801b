//! Lists: their elements become rows of their own, are computed on all at once, and are gathered again.

use std::ops::Range;
use std::sync::Arc;

use anabranch_pipelines::operator::OperatorError;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, ListArray, UInt64Array};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Field, Int64Type};
use arrow::error::ArrowError;

use super::evaluate::{Fault, Value, both, canonical, compare, evaluate, extent, inherited};
use super::scope::Scope;
use super::typed::{Comparison, Expression, Fold, Kind, Loop};

/// The elements of all lists, one after another.
struct Elements {
    values: ArrayRef,
    /// The row of each element.
    parents: UInt64Array,
    /// The elements of each row, or why there are none.
    rows: Vec<Result<Range<usize>, Fault>>,
}

/// Any list in the one Arrow type that stands for all of them.
fn plain(array: &ArrayRef) -> Result<ListArray, ArrowError> {
    let child = match array.data_type() {
        DataType::List(_) => return Ok(array.as_list::<i32>().clone()),
        DataType::LargeList(child) | DataType::FixedSizeList(child, _) => Arc::clone(child),
        other => return Err(ArrowError::CastError(format!("{other} is no list"))),
    };
    Ok(cast(array, &DataType::List(child))?.as_list::<i32>().clone())
}

/// The elements' kind of a list.
fn element(list: &Expression) -> Result<&Kind, OperatorError> {
    match &list.kind {
        Kind::List(element) => Ok(element),
        kind => Err(OperatorError::Failed(format!("a list was promised, this is {kind}"))),
    }
}

impl Elements {
    fn of(list: &Value, kind: &Kind, rows: usize) -> Result<Self, OperatorError> {
        let array = plain(&list.array)?;
        let (mut taken, mut parents, mut ranges) = (Vec::new(), Vec::new(), Vec::new());
        for row in 0..rows {
            let at = list.at(row);
            if let Some(fault) = list.fault(row).or(array.is_null(at).then_some(Fault::Missing)) {
                ranges.push(Err(fault));
                continue;
            }
            let bounds = array.value_offsets().get(at).zip(array.value_offsets().get(at + 1));
            let (from, to) = bounds.map_or((0, 0), |(from, to)| (*from as u64, *to as u64));
            ranges.push(Ok(taken.len()..taken.len() + (to - from) as usize));
            taken.extend(from..to);
            parents.extend((from..to).map(|_| row as u64));
        }
        let values = take(array.values(), &UInt64Array::from(taken), None)?;
        Ok(Self {
            values: canonical(&values, kind)?,
            parents: UInt64Array::from(parents),
            rows: ranges,
        })
    }

    /// A value per row, from the numbers of its elements.
    fn each(&self, mut decide: impl FnMut(usize, Range<usize>) -> Result<bool, Fault>) -> Value {
        let mut faults = vec![None; self.rows.len()];
        let rows = self.rows.iter().zip(&mut faults).enumerate();
        let decided = rows.map(|(row, (elements, fault))| {
            let decided = elements.clone().and_then(|elements| decide(row, elements));
            decided.map_err(|failed| *fault = Some(failed)).ok()
        });
        let array: BooleanArray = decided.collect();
        let faults = faults.iter().any(Option::is_some).then_some(faults);
        Value { array: Arc::new(array), scalar: false, faults }
    }
}

/// Whether the first is an element of the second. Missing values are in no list.
pub(super) fn member(pair: &[Expression; 2], scope: &Scope<'_>) -> Result<Value, OperatorError> {
    let [wanted, list] = pair;
    let kind = element(list)?;
    let kinds = [kind, &wanted.kind];
    let [wanted, list] = both(pair, scope)?;
    let elements = Elements::of(&list, kind, scope.rows())?;
    let wanted_by_element = match wanted.scalar {
        true => Arc::clone(&wanted.array),
        false => take(&wanted.array, &elements.parents, None)?,
    };
    let pair = [
        Value { array: Arc::clone(&elements.values), scalar: false, faults: None },
        Value { array: wanted_by_element, scalar: wanted.scalar, faults: None },
    ];
    let equal = compare(Comparison::Equal, pair, kinds)?.array;
    let equal = equal.as_boolean();
    let there = |row: usize| wanted.array.is_valid(wanted.at(row));
    Ok(elements.each(|row, mut range| match wanted.fault(row) {
        Some(fault) => Err(fault),
        None => Ok(there(row) && range.any(|at| equal.value(at))),
    }))
}

/// The element at a place, counted from 0. One that is not there is missing.
pub(super) fn index(pair: &[Expression; 2], scope: &Scope<'_>) -> Result<Value, OperatorError> {
    let [list, place] = both(pair, scope)?;
    let array = plain(&list.array)?;
    let (rows, scalar) = extent(&[&list, &place]);
    let places = place.array.as_primitive::<Int64Type>();
    let at = |row: usize| {
        let (row, place) = (list.at(row), place.at(row));
        if array.is_null(row) || places.is_null(place) {
            return None;
        }
        let from = u64::try_from(*array.value_offsets().get(row)?).ok()?;
        let place = u64::try_from(places.value(place)).ok()?;
        let within = place < u64::try_from(array.value_length(row)).ok()?;
        within.then_some(from + place)
    };
    let taken: UInt64Array = (0..rows).map(at).collect();
    let [expression, _] = pair;
    let array = canonical(&take(array.values(), &taken, None)?, element(expression)?)?;
    Ok(Value { array, scalar, faults: inherited(&[&list, &place], true) })
}

/// A macro: `all`, `exists`, `exists_one`, `map`, `filter`.
pub(super) fn fold(looping: &Loop, scope: &Scope<'_>) -> Result<Value, OperatorError> {
    let list = evaluate(&looping.list, scope)?;
    let elements = Elements::of(&list, element(&looping.list)?, scope.rows())?;
    let inside = Scope::inside(scope, &looping.variable, &elements.values, &elements.parents);
    let condition = looping.condition.as_ref();
    let condition = condition.map(|condition| evaluate(condition, &inside)).transpose()?;
    let holds = |at: usize| match &condition {
        Some(value) => value.truth(value.array.as_boolean(), at),
        None => Ok(true),
    };
    // As with `&&` and `||`, one element may decide whatever is wrong with the others.
    let any = |elements: Range<usize>, decisive: bool| {
        let mut fault = None;
        for at in elements {
            match holds(at) {
                Ok(truth) if truth == decisive => return Ok(decisive),
                Ok(_) => {}
                Err(failed) => fault = fault.max(Some(failed)),
            }
        }
        fault.map_or(Ok(!decisive), Err)
    };
    Ok(match looping.fold {
        Fold::All => elements.each(|_, range| any(range, false)),
        Fold::Exists => elements.each(|_, range| any(range, true)),
        Fold::ExistsOne => elements.each(|_, range| {
            range
                .map(&holds)
                .try_fold(0_u64, |count, held| Ok(count + u64::from(held?)))
                .map(|count| count == 1)
        }),
        Fold::Collect => {
            let body = looping.body.as_ref();
            let body = body.map(|body| evaluate(body, &inside)).transpose()?;
            collect(&elements, body.as_ref(), holds)?
        }
    })
}

/// Lists of what the elements for which `holds` became.
fn collect(
    elements: &Elements,
    body: Option<&Value>,
    holds: impl Fn(usize) -> Result<bool, Fault>,
) -> Result<Value, OperatorError> {
    let mut kept: Vec<u64> = Vec::new();
    let (mut lengths, mut faults) = (Vec::new(), Vec::new());
    for range in &elements.rows {
        let before = kept.len();
        let gathered = range.clone().and_then(|mut range| {
            range.try_for_each(|at| {
                if holds(at)? {
                    if let Some(fault) = body.and_then(|body| body.fault(at)) {
                        return Err(fault);
                    }
                    kept.push(body.map_or(at, |body| body.at(at)) as u64);
                }
                Ok(())
            })
        });
        if gathered.is_err() {
            kept.truncate(before);
        }
        lengths.push(kept.len() - before);
        faults.push(gathered.err());
    }
    let values = body.map_or(&elements.values, |body| &body.array);
    let values = take(values, &UInt64Array::from(kept), None)?;
    let nulls = NullBuffer::from_iter(faults.iter().map(Option::is_none));
    let field = Arc::new(Field::new_list_field(values.data_type().clone(), true));
    let offsets = OffsetBuffer::from_lengths(lengths);
    let array = Arc::new(ListArray::try_new(field, offsets, values, Some(nulls))?);
    let faults = faults.iter().any(Option::is_some).then_some(faults);
    Ok(Value { array, scalar: false, faults })
}
