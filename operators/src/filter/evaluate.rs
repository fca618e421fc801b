//! Runs a checked expression over the columns of a batch.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use anabranch_pipelines::operator::OperatorError;
use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, Datum, Float64Array, Int64Array,
    NullArray, PrimitiveArray, RecordBatch, StringArray, new_null_array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::kernels::{cmp, comparison, length, zip};
use arrow::compute::{cast, is_not_null};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use arrow::error::ArrowError;

use super::typed::{Arithmetic, Comparison, Expression, Kind, Literal, TextTest, Work};

/// Why an expression has no value for a record; the later outweighs the earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// Something was asked of a missing value.
    Missing,
    DivisionByZero,
    Overflow,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "asks for a missing value",
            Self::DivisionByZero => "divides by zero",
            Self::Overflow => "leaves the range of 64-bit integers",
        })
    }
}

/// What becomes of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Keep,
    Drop,
    Refuse(Fault),
}

/// The verdict of a condition on each record of a batch.
pub(super) fn condition(
    expression: &Expression,
    batch: &RecordBatch,
) -> Result<Vec<Verdict>, OperatorError> {
    let value = evaluate(expression, batch)?;
    let truth = value.array.as_boolean();
    let verdict = |row: usize| match value.truth(truth, row) {
        Ok(true) => Verdict::Keep,
        Ok(false) | Err(Fault::Missing) => Verdict::Drop,
        Err(fault) => Verdict::Refuse(fault),
    };
    Ok((0..batch.num_rows()).map(verdict).collect())
}

/// The values of an expression: one per record, or one for all. Nulls are missing values, not faults.
struct Value {
    array: ArrayRef,
    scalar: bool,
    /// As many as values; none when there are no faults at all.
    faults: Option<Vec<Option<Fault>>>,
}

impl Datum for Value {
    fn get(&self) -> (&dyn Array, bool) {
        (self.array.as_ref(), self.scalar)
    }
}

impl Value {
    fn at(&self, row: usize) -> usize {
        if self.scalar { 0 } else { row }
    }

    fn fault(&self, row: usize) -> Option<Fault> {
        self.faults.as_ref()?.get(self.at(row)).copied().flatten()
    }

    fn truth(&self, values: &BooleanArray, row: usize) -> Result<bool, Fault> {
        match (self.fault(row), self.at(row)) {
            (Some(fault), _) => Err(fault),
            (None, row) if values.is_null(row) => Err(Fault::Missing),
            (None, row) => Ok(values.value(row)),
        }
    }

    /// As doubles; integers are rounded to the nearest one.
    fn doubles(&self) -> Result<Self, ArrowError> {
        let array = cast(&self.array, &DataType::Float64)?;
        Ok(Self { array, scalar: self.scalar, faults: self.faults.clone() })
    }
}

/// How many values a combination of values has, and whether they are one for all.
fn extent(values: &[&Value]) -> (usize, bool) {
    match values.iter().find(|value| !value.scalar) {
        Some(value) => (value.array.len(), false),
        None => (1, true),
    }
}

/// The faults that a function of these values has before it is even asked.
fn inherited(values: &[&Value], of_missing: bool) -> Option<Vec<Option<Fault>>> {
    let clean =
        |value: &&Value| value.faults.is_none() && !(of_missing && value.array.null_count() > 0);
    if values.iter().all(clean) {
        return None;
    }
    let fault = |value: &Value, row: usize| {
        let missing = of_missing && value.array.is_null(value.at(row));
        value.fault(row).max(missing.then_some(Fault::Missing))
    };
    let rows = 0..extent(values).0;
    Some(rows.map(|row| values.iter().filter_map(|value| fault(value, row)).max()).collect())
}

/// A function that a kernel computes for all records; missing operands are faults.
fn strict(
    values: &[&Value],
    kernel: impl FnOnce() -> Result<ArrayRef, ArrowError>,
) -> Result<Value, OperatorError> {
    let (array, scalar) = (kernel()?, extent(values).1);
    Ok(Value { array, scalar, faults: inherited(values, true) })
}

fn evaluate(expression: &Expression, batch: &RecordBatch) -> Result<Value, OperatorError> {
    let boolean = |array: BooleanArray| Arc::new(array) as ArrayRef;
    match &expression.work {
        Work::Column(path) => {
            let array = canonical(&column(batch, path)?, &expression.kind)?;
            Ok(Value { array, scalar: false, faults: None })
        }
        Work::Literal(literal) => {
            Ok(Value { array: constant(literal), scalar: true, faults: None })
        }
        Work::Present(path) => {
            let array = boolean(is_not_null(&column(batch, path)?)?);
            Ok(Value { array, scalar: false, faults: None })
        }
        Work::Not(operand) => {
            let operand = evaluate(operand, batch)?;
            let not = || arrow::compute::not(operand.array.as_boolean()).map(boolean);
            strict(&[&operand], not)
        }
        Work::Negate(operand) => negate(evaluate(operand, batch)?),
        Work::And(pair) => Ok(logic(false, &both(pair, batch)?)),
        Work::Or(pair) => Ok(logic(true, &both(pair, batch)?)),
        Work::Compare(comparison, pair) => {
            let [a, b] = pair.as_ref();
            compare(*comparison, both(pair, batch)?, [&a.kind, &b.kind])
        }
        Work::Arithmetic(operation, pair) => compute(*operation, &both(pair, batch)?),
        Work::Text(test, pair) => {
            let [a, b] = both(pair, batch)?;
            let kernel = match test {
                TextTest::StartsWith => comparison::starts_with,
                TextTest::EndsWith => comparison::ends_with,
                TextTest::Contains => comparison::contains,
            };
            strict(&[&a, &b], || kernel(&a, &b).map(boolean))
        }
        Work::In(operand, literals) => Ok(one_of(&evaluate(operand, batch)?, literals)?),
        Work::Size(operand) => {
            let kind = &operand.kind;
            let operand = evaluate(operand, batch)?;
            strict(&[&operand], || size(&operand.array, kind))
        }
        Work::If(three) => {
            let [condition, yes, no] = three.as_ref();
            choose(&evaluate(condition, batch)?, &evaluate(yes, batch)?, &evaluate(no, batch)?)
        }
    }
}

fn both(pair: &[Expression; 2], batch: &RecordBatch) -> Result<[Value; 2], OperatorError> {
    let [a, b] = pair;
    Ok([evaluate(a, batch)?, evaluate(b, batch)?])
}

/// A column, or a field inside it; the fields of a missing struct are missing.
fn column(batch: &RecordBatch, path: &[String]) -> Result<ArrayRef, OperatorError> {
    let lost = || OperatorError::Failed(format!("there is no column `{}`", path.join(".")));
    let (first, fields) = path.split_first().ok_or_else(lost)?;
    let mut array = Arc::clone(batch.column_by_name(first).ok_or_else(lost)?);
    for field in fields {
        let outer = array.as_struct_opt().ok_or_else(lost)?;
        let inner = Arc::clone(outer.column_by_name(field).ok_or_else(lost)?);
        let nulls = NullBuffer::union(outer.nulls(), inner.nulls());
        array = match inner.data_type() {
            DataType::Null => inner,
            _ => arrow::array::make_array(inner.to_data().into_builder().nulls(nulls).build()?),
        };
    }
    Ok(array)
}

/// The column in the one Arrow type that stands for its kind.
fn canonical(array: &ArrayRef, kind: &Kind) -> Result<ArrayRef, ArrowError> {
    match kind {
        Kind::Int => cast(array, &DataType::Int64),
        Kind::Double => cast(array, &DataType::Float64),
        Kind::Text => cast(array, &DataType::Utf8),
        _ => Ok(Arc::clone(array)),
    }
}

fn constant(literal: &Literal) -> ArrayRef {
    match literal {
        Literal::Bool(value) => Arc::new(BooleanArray::from(vec![*value])),
        Literal::Int(value) => Arc::new(Int64Array::from(vec![*value])),
        Literal::Double(value) => Arc::new(Float64Array::from(vec![*value])),
        Literal::Text(value) => Arc::new(StringArray::from(vec![value.as_str()])),
        Literal::Null => Arc::new(NullArray::new(1)),
    }
}

/// `&&` (decided by false) or `||` (decided by true), whatever the other side is.
fn logic(decisive: bool, [a, b]: &[Value; 2]) -> Value {
    let (rows, scalar) = extent(&[a, b]);
    let (left, right) = (a.array.as_boolean(), b.array.as_boolean());
    let mut faults = vec![None; rows];
    let mut any = false;
    let decide =
        |(row, fault): (usize, &mut Option<Fault>)| match (a.truth(left, row), b.truth(right, row))
        {
            (Ok(x), _) | (_, Ok(x)) if x == decisive => decisive,
            (Ok(_), Ok(_)) => !decisive,
            (x, y) => {
                *fault = x.err().max(y.err());
                any = true;
                false
            }
        };
    let truth: Vec<bool> = faults.iter_mut().enumerate().map(decide).collect();
    let array = Arc::new(BooleanArray::from(truth));
    Value { array, scalar, faults: any.then_some(faults) }
}

fn compare(
    comparison: Comparison,
    [a, b]: [Value; 2],
    kinds: [&Kind; 2],
) -> Result<Value, OperatorError> {
    let equality = match comparison {
        Comparison::Equal => Some(true),
        Comparison::NotEqual => Some(false),
        _ => None,
    };
    let [a, b] = match kinds {
        [Kind::Int, Kind::Double] => [a.doubles()?, b],
        [Kind::Double, Kind::Int] => [a, b.doubles()?],
        _ => [a, b],
    };
    // Null is a value to be equal to; everything else asked of it is a fault.
    let (rows, scalar) = extent(&[&a, &b]);
    let faults = inherited(&[&a, &b], equality.is_none());
    let compared = match kinds {
        [Kind::Null, _] | [_, Kind::Null] => BooleanArray::new_null(rows),
        [Kind::Double, _] | [_, Kind::Double] => doubles(comparison, &a, &b),
        _ => match comparison {
            Comparison::Equal => cmp::eq(&a, &b),
            Comparison::NotEqual => cmp::neq(&a, &b),
            Comparison::Less => cmp::lt(&a, &b),
            Comparison::LessOrEqual => cmp::lt_eq(&a, &b),
            Comparison::Greater => cmp::gt(&a, &b),
            Comparison::GreaterOrEqual => cmp::gt_eq(&a, &b),
        }?,
    };
    let array = match equality {
        Some(equal) if compared.null_count() > 0 => {
            let null = |value: &Value, row: usize| value.array.is_null_at(value.at(row));
            let decide = |row: usize| match compared.is_valid(row) {
                true => compared.value(row),
                false => (null(&a, row) && null(&b, row)) == equal,
            };
            (0..rows).map(|row| Some(decide(row))).collect()
        }
        _ => compared,
    };
    Ok(Value { array: Arc::new(array), scalar, faults })
}

/// Whether a value is missing, also where Arrow keeps no bitmap for it.
trait NullAt {
    fn is_null_at(&self, row: usize) -> bool;
}

impl NullAt for ArrayRef {
    fn is_null_at(&self, row: usize) -> bool {
        self.data_type() == &DataType::Null || self.is_null(row)
    }
}

/// Arrow orders floats totally; in an expression, nothing is equal to or less than what is no number.
fn doubles(comparison: Comparison, a: &Value, b: &Value) -> BooleanArray {
    let holds = move |x: f64, y: f64| match comparison {
        Comparison::Equal => x == y,
        Comparison::NotEqual => x != y,
        Comparison::Less => x < y,
        Comparison::LessOrEqual => x <= y,
        Comparison::Greater => x > y,
        Comparison::GreaterOrEqual => x >= y,
    };
    let rows = 0..extent(&[a, b]).0;
    let pairs = rows.map(|row| pair::<Float64Type>(a, b, row));
    pairs.map(|pair| pair.map(|(x, y)| holds(x, y))).collect()
}

/// Both operands of a row, unless one is missing.
fn pair<T: ArrowPrimitiveType>(a: &Value, b: &Value, row: usize) -> Option<(T::Native, T::Native)> {
    let value = |value: &Value| {
        let array = value.array.as_primitive::<T>();
        let row = value.at(row);
        array.is_valid(row).then(|| array.value(row))
    };
    value(a).zip(value(b))
}

fn negate(operand: Value) -> Result<Value, OperatorError> {
    if operand.array.data_type() == &DataType::Float64 {
        let negative = |x: &Float64Array| Arc::new(x.unary::<_, Float64Type>(|x| -x)) as ArrayRef;
        return strict(&[&operand], || Ok(negative(operand.array.as_primitive())));
    }
    let zero = Value { array: constant(&Literal::Int(0)), scalar: true, faults: None };
    compute(Arithmetic::Subtract, &[zero, operand])
}

fn compute(operation: Arithmetic, [a, b]: &[Value; 2]) -> Result<Value, OperatorError> {
    if a.array.data_type() == &DataType::Float64 {
        return strict(&[a, b], || {
            let computed = |x: f64, y: f64| match operation {
                Arithmetic::Add => x + y,
                Arithmetic::Subtract => x - y,
                Arithmetic::Multiply => x * y,
                Arithmetic::Divide => x / y,
                Arithmetic::Remainder => x % y,
            };
            let rows = 0..extent(&[a, b]).0;
            let pairs = rows.map(|row| pair::<Float64Type>(a, b, row));
            let array: Float64Array = pairs.map(|p| p.map(|(x, y)| computed(x, y))).collect();
            Ok(Arc::new(array))
        });
    }
    let computed = |x: i64, y: i64| match operation {
        Arithmetic::Add => x.checked_add(y),
        Arithmetic::Subtract => x.checked_sub(y),
        Arithmetic::Multiply => x.checked_mul(y),
        Arithmetic::Divide => x.checked_div(y),
        Arithmetic::Remainder => x.checked_rem(y),
    };
    let divides = matches!(operation, Arithmetic::Divide | Arithmetic::Remainder);
    let (rows, scalar) = extent(&[a, b]);
    let mut faults = inherited(&[a, b], true);
    let mut values = Vec::with_capacity(rows);
    for row in 0..rows {
        let operands = pair::<Int64Type>(a, b, row);
        let value = operands.and_then(|(x, y)| computed(x, y));
        if let (Some((_, y)), None) = (operands, value) {
            let fault = if divides && y == 0 { Fault::DivisionByZero } else { Fault::Overflow };
            let faults = faults.get_or_insert_with(|| vec![None; rows]);
            if let Some(slot) = faults.get_mut(row) {
                *slot = (*slot).max(Some(fault));
            }
        }
        values.push(value);
    }
    let array = Arc::new(PrimitiveArray::<Int64Type>::from(values));
    Ok(Value { array, scalar, faults })
}

/// Missing values are in no list.
fn one_of(operand: &Value, literals: &[Literal]) -> Result<Value, ArrowError> {
    let array: BooleanArray = match operand.array.data_type() {
        DataType::Int64 if literals.iter().all(|literal| matches!(literal, Literal::Int(_))) => {
            let wanted = literals.iter().filter_map(|literal| match literal {
                Literal::Int(value) => Some(*value),
                _ => None,
            });
            let wanted: HashSet<i64> = wanted.collect();
            let values = operand.array.as_primitive::<Int64Type>();
            values.iter().map(|value| Some(value.is_some_and(|v| wanted.contains(&v)))).collect()
        }
        DataType::Int64 | DataType::Float64 => {
            let wanted = literals.iter().filter_map(|literal| match literal {
                Literal::Int(value) => Some(*value as f64),
                Literal::Double(value) => Some(*value),
                _ => None,
            });
            let wanted: Vec<f64> = wanted.collect();
            let values = cast(&operand.array, &DataType::Float64)?;
            let values = values.as_primitive::<Float64Type>();
            values.iter().map(|value| Some(value.is_some_and(|v| wanted.contains(&v)))).collect()
        }
        DataType::Boolean => {
            let within = |value: bool| literals.contains(&Literal::Bool(value));
            operand.array.as_boolean().iter().map(|v| Some(v.is_some_and(within))).collect()
        }
        _ => {
            let wanted = literals.iter().filter_map(|literal| match literal {
                Literal::Text(value) => Some(value.as_str()),
                _ => None,
            });
            let wanted: HashSet<&str> = wanted.collect();
            let values = operand.array.as_string::<i32>();
            values.iter().map(|value| Some(value.is_some_and(|v| wanted.contains(v)))).collect()
        }
    };
    Ok(Value {
        array: Arc::new(array),
        scalar: operand.scalar,
        faults: inherited(&[operand], false),
    })
}

/// Characters of texts, bytes of bytes, elements of lists.
fn size(array: &ArrayRef, kind: &Kind) -> Result<ArrayRef, ArrowError> {
    match (kind, array.data_type()) {
        (Kind::Text, _) => {
            let texts = array.as_string::<i32>().iter();
            let sizes = texts.map(|text| text.map(|text| text.chars().count() as i64));
            Ok(Arc::new(sizes.collect::<Int64Array>()))
        }
        (_, DataType::FixedSizeBinary(size)) => {
            let sizes = (0..array.len()).map(|row| array.is_valid(row).then_some(i64::from(*size)));
            Ok(Arc::new(sizes.collect::<Int64Array>()))
        }
        _ => cast(&length::length(array)?, &DataType::Int64),
    }
}

fn choose(condition: &Value, yes: &Value, no: &Value) -> Result<Value, OperatorError> {
    let (rows, scalar) = extent(&[condition, yes, no]);
    let truth = condition.array.as_boolean();
    let chosen: Vec<Result<bool, Fault>> =
        (0..rows).map(|row| condition.truth(truth, row)).collect();
    let faults: Vec<Option<Fault>> = chosen
        .iter()
        .enumerate()
        .map(|(row, chosen)| match chosen {
            Ok(true) => yes.fault(row),
            Ok(false) => no.fault(row),
            Err(fault) => Some(*fault),
        })
        .collect();
    let mask: BooleanArray = chosen.iter().map(|chosen| Some(*chosen == Ok(true))).collect();
    let array = match yes.array.data_type() {
        DataType::Null => new_null_array(&DataType::Null, rows),
        _ => zip::zip(&mask, yes, no)?,
    };
    let any = faults.iter().any(Option::is_some);
    Ok(Value { array, scalar, faults: any.then_some(faults) })
}
