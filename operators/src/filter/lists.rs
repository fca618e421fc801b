//! Lists: their elements become rows of their own, are computed on all at once, and are gathered again.

use std::ops::Range;
use std::sync::Arc;

use anabranch_pipelines::operator::OperatorError;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, ListArray, UInt64Array};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Field, Int64Type};
use arrow::error::ArrowError;

use super::evaluate::{Fault, Value, both, compare, evaluate, extent, inherited};
use super::scope::Scope;
use super::typed::{Comparison, Expression, Fold, Kind, Loop};

/// Elements that are computed on at once, about: lists of lists, or a list for each element of another, would
/// else be as many as one times the other.
const ELEMENTS: usize = if cfg!(test) { 4 } else { 1 << 16 };

/// The elements of the lists of some rows, one after another.
struct Elements {
    values: ArrayRef,
    /// The row of each element.
    parents: UInt64Array,
    /// The elements of each row, or why there are none.
    rows: Vec<Result<Range<usize>, Fault>>,
    /// The first of the rows.
    first: usize,
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

/// The lists of a value.
struct Lists<'a> {
    value: &'a Value,
    array: ListArray,
}

impl<'a> Lists<'a> {
    fn of(value: &'a Value) -> Result<Self, ArrowError> {
        let array = plain(&value.array)?;
        // Texts as views: a list that many elements of another ask for is not copied for each of them.
        let array = match array.values().data_type() {
            DataType::Utf8 | DataType::LargeUtf8 => {
                let views = Field::new_list_field(DataType::Utf8View, true);
                cast(&array, &DataType::List(Arc::new(views)))?.as_list::<i32>().clone()
            }
            _ => array,
        };
        Ok(Self { value, array })
    }

    /// Where the elements of a row stand, or why there are none.
    fn range(&self, row: usize) -> Result<Range<usize>, Fault> {
        let at = self.value.at(row);
        if let Some(fault) = self.value.fault(row) {
            return Err(fault);
        }
        if at >= self.array.len() || self.array.is_null(at) {
            return Err(Fault::Missing);
        }
        let bounds = self.array.value_offsets().get(at).zip(self.array.value_offsets().get(at + 1));
        Ok(bounds.map_or(0..0, |(from, to)| *from as usize..*to as usize))
    }

    /// The values of `rows` rows, worked on a bounded number of elements at a time.
    fn in_turn(
        &self,
        rows: usize,
        mut work: impl FnMut(&Elements) -> Result<Value, OperatorError>,
    ) -> Result<Value, OperatorError> {
        let (mut done, mut start) = (Vec::new(), 0);
        while start < rows || done.is_empty() {
            let (mut end, mut count) = (start, 0);
            while end < rows && (end == start || count < ELEMENTS) {
                count += self.range(end).map_or(0, |elements| elements.len());
                end += 1;
            }
            done.push(work(&self.elements(start..end)?)?);
            start = end;
        }
        match <[Value; 1]>::try_from(done) {
            Ok([one]) => Ok(one),
            Err(several) => Ok(Value::joined(&several)?),
        }
    }

    fn elements(&self, rows: Range<usize>) -> Result<Elements, ArrowError> {
        let (mut taken, mut parents, mut ranges) = (Vec::new(), Vec::new(), Vec::new());
        let first = rows.start;
        for row in rows {
            ranges.push(self.range(row).map(|elements| {
                let start = taken.len();
                parents.extend(elements.clone().map(|_| row as u64));
                taken.extend(elements.map(|at| at as u64));
                start..taken.len()
            }));
        }
        let values = take(self.array.values(), &UInt64Array::from(taken), None)?;
        Ok(Elements { values, parents: UInt64Array::from(parents), rows: ranges, first })
    }
}

impl Elements {
    /// A value per row, from its number and those of its elements.
    fn each(&self, mut decide: impl FnMut(usize, Range<usize>) -> Result<bool, Fault>) -> Value {
        let mut faults = vec![None; self.rows.len()];
        let rows = self.rows.iter().zip(&mut faults).enumerate();
        let decided = rows.map(|(row, (elements, fault))| {
            let row = self.first + row;
            let decided = elements.clone().and_then(|elements| decide(row, elements));
            decided.map_err(|failed| *fault = Some(failed)).ok()
        });
        let array: BooleanArray = decided.collect();
        let faults = faults.iter().any(Option::is_some).then_some(faults);
        Value::each(Arc::new(array), faults)
    }
}

/// Whether the first is an element of the second. Missing values are in no list.
pub(super) fn member(pair: &[Expression; 2], scope: &Scope<'_>) -> Result<Value, OperatorError> {
    let [wanted, list] = pair;
    let kind = element(list)?;
    let kinds = [kind, &wanted.kind];
    let [wanted, list] = both(pair, scope)?;
    let there = |row: usize| wanted.array.is_valid(wanted.at(row));
    Lists::of(&list)?.in_turn(scope.rows(), |elements| {
        let wanted_by_element = match wanted.scalar {
            true => Arc::clone(&wanted.array),
            false => take(&wanted.array, &elements.parents, None)?,
        };
        let pair = [
            Value::of(&elements.values, kind)?,
            Value::new(wanted_by_element, wanted.scalar, None),
        ];
        let compared = compare(Comparison::Equal, pair, kinds)?;
        let equal = compared.array.as_boolean();
        Ok(elements.each(|row, range| {
            if let Some(fault) = wanted.fault(row) {
                return Err(fault);
            }
            let mut fault = None;
            for at in range {
                match compared.fault(at) {
                    None if there(row) && equal.value(at) => return Ok(true),
                    None => {}
                    failed => fault = fault.max(failed),
                }
            }
            fault.map_or(Ok(false), Err)
        }))
    })
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
    let found = Value::of(&take(array.values(), &taken, None)?, element(expression)?)?;
    let faults = match (inherited(&[&list, &place], true), found.faults) {
        (Some(of_operands), Some(own)) => {
            Some(of_operands.into_iter().zip(own).map(|(a, b)| a.max(b)).collect())
        }
        (of_operands, own) => of_operands.or(own),
    };
    Ok(Value::new(found.array, scalar, faults))
}

/// A macro: `all`, `exists`, `exists_one`, `map`, `filter`.
pub(super) fn fold(looping: &Loop, scope: &Scope<'_>) -> Result<Value, OperatorError> {
    let list = evaluate(&looping.list, scope)?;
    Lists::of(&list)?.in_turn(scope.rows(), |elements| folded(looping, elements, scope))
}

fn folded(looping: &Loop, elements: &Elements, scope: &Scope<'_>) -> Result<Value, OperatorError> {
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
            let body = match &looping.body {
                Some(body) => evaluate(body, &inside)?,
                None => Value::of(&elements.values, element(&looping.list)?)?,
            };
            collect(elements, &body, holds)?
        }
    })
}

/// Lists of what the elements for which `holds` became.
fn collect(
    elements: &Elements,
    body: &Value,
    holds: impl Fn(usize) -> Result<bool, Fault>,
) -> Result<Value, OperatorError> {
    let mut kept: Vec<u64> = Vec::new();
    let (mut lengths, mut faults) = (Vec::new(), Vec::new());
    for range in &elements.rows {
        let before = kept.len();
        let gathered = range.clone().and_then(|mut range| {
            range.try_for_each(|at| {
                if holds(at)? {
                    if let Some(fault) = body.fault(at) {
                        return Err(fault);
                    }
                    kept.push(body.at(at) as u64);
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
    let values = take(&body.array, &UInt64Array::from(kept), None)?;
    let nulls = NullBuffer::from_iter(faults.iter().map(Option::is_none));
    let field = Arc::new(Field::new_list_field(values.data_type().clone(), true));
    let offsets = OffsetBuffer::from_lengths(lengths);
    let array = Arc::new(ListArray::try_new(field, offsets, values, Some(nulls))?);
    let faults = faults.iter().any(Option::is_some).then_some(faults);
    Ok(Value::each(array, faults))
}
