//! Runs a checked expression over the columns of a batch.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use anabranch_pipelines::operator::OperatorError;
use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, Datum, Float64Array, Int64Array,
    NullArray, RecordBatch, StringViewArray, UInt64Array, new_null_array,
};
use arrow::compute::kernels::{cmp, comparison, zip};
use arrow::compute::{cast, concat, is_not_null, take};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use arrow::error::ArrowError;

use super::scope::Scope;
use super::typed::{Arithmetic, Comparison, Expression, Kind, Literal, TextTest, Work};
use super::{functions, lists};

/// Why an expression has no value for a record; the later outweighs the earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// Something was asked of a missing value.
    Missing,
    DivisionByZero,
    Overflow,
    NoNumber,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "asks for a missing value",
            Self::DivisionByZero => "divides by zero",
            Self::Overflow => "leaves the range of 64-bit integers",
            Self::NoNumber => "converts a text that is no number",
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
    let value = evaluate(expression, &Scope::of(batch))?;
    let truth = value.array.as_boolean();
    let verdict = |row: usize| match value.truth(truth, row) {
        Ok(true) => Verdict::Keep,
        Ok(false) | Err(Fault::Missing) => Verdict::Drop,
        Err(fault) => Verdict::Refuse(fault),
    };
    Ok((0..batch.num_rows()).map(verdict).collect())
}

/// The values of an expression: one per record, or one for all. Nulls are missing values, not faults.
pub(super) struct Value {
    pub(super) array: ArrayRef,
    pub(super) scalar: bool,
    /// The value of each record, where lists stand for many records each and are not copied for them.
    rows: Option<UInt64Array>,
    /// As many as values; none when there are no faults at all.
    pub(super) faults: Option<Vec<Option<Fault>>>,
}

impl Datum for Value {
    fn get(&self) -> (&dyn Array, bool) {
        (self.array.as_ref(), self.scalar)
    }
}

impl Value {
    /// A value per record.
    pub(super) fn each(array: ArrayRef, faults: Option<Vec<Option<Fault>>>) -> Self {
        Self { array, scalar: false, rows: None, faults }
    }

    /// One value for all, or one per record.
    pub(super) fn new(array: ArrayRef, scalar: bool, faults: Option<Vec<Option<Fault>>>) -> Self {
        Self { array, scalar, rows: None, faults }
    }

    /// A column in the one Arrow type that stands for its kind. Texts are views, so that to have one for each
    /// element of a list copies none of them.
    pub(super) fn of(array: &ArrayRef, kind: &Kind) -> Result<Self, ArrowError> {
        let plain = match array.data_type() {
            DataType::Dictionary(_, values) => cast(array, values)?,
            _ => Arc::clone(array),
        };
        let array = match (kind, plain.data_type()) {
            (Kind::Int, DataType::UInt64) => {
                let signed = cast(&plain, &DataType::Int64)?;
                let too_large = |row| plain.is_valid(row) && signed.is_null(row);
                let faults = (signed.null_count() > plain.null_count()).then(|| {
                    let rows = 0..plain.len();
                    rows.map(|row| too_large(row).then_some(Fault::Overflow)).collect()
                });
                return Ok(Self::each(signed, faults));
            }
            (Kind::Int, _) => cast(&plain, &DataType::Int64)?,
            (Kind::Double, _) => cast(&plain, &DataType::Float64)?,
            (Kind::Text, _) => cast(&plain, &DataType::Utf8View)?,
            (Kind::Bytes, DataType::Binary | DataType::LargeBinary) => {
                cast(&plain, &DataType::BinaryView)?
            }
            _ => plain,
        };
        Ok(Self::each(array, None))
    }

    /// The values of the rows that these are.
    fn spread(self, rows: &UInt64Array) -> Result<Self, ArrowError> {
        if self.scalar {
            return Ok(self);
        }
        let at = |row: &u64| self.at(usize::try_from(*row).unwrap_or(usize::MAX));
        let lists = matches!(
            self.array.data_type(),
            DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..)
        );
        if lists {
            let rows = rows.values().iter().map(|row| at(row) as u64).collect();
            return Ok(Self { rows: Some(rows), ..self });
        }
        let faults = self.faults.as_ref();
        let fault = |faults: &Vec<Option<Fault>>, row| faults.get(at(row)).copied().flatten();
        let faults =
            faults.map(|faults| rows.values().iter().map(|row| fault(faults, row)).collect());
        Ok(Self::each(take(&self.array, rows, None)?, faults))
    }

    /// One behind the other.
    pub(super) fn joined(values: &[Self]) -> Result<Self, ArrowError> {
        let arrays: Vec<&dyn Array> = values.iter().map(|value| value.array.as_ref()).collect();
        let any = values.iter().any(|value| value.faults.is_some());
        let all =
            values.iter().flat_map(|value| (0..value.array.len()).map(|row| value.fault(row)));
        Ok(Self::each(concat(&arrays)?, any.then(|| all.collect())))
    }

    /// How many records it has a value for; `None`, when it is one for all.
    fn count(&self) -> Option<usize> {
        match &self.rows {
            _ if self.scalar => None,
            Some(rows) => Some(rows.len()),
            None => Some(self.array.len()),
        }
    }

    pub(super) fn at(&self, row: usize) -> usize {
        match &self.rows {
            _ if self.scalar => 0,
            Some(rows) => rows.values().get(row).map_or(usize::MAX, |row| *row as usize),
            None => row,
        }
    }

    pub(super) fn fault(&self, row: usize) -> Option<Fault> {
        self.faults.as_ref()?.get(self.at(row)).copied().flatten()
    }

    pub(super) fn truth(&self, values: &BooleanArray, row: usize) -> Result<bool, Fault> {
        match (self.fault(row), self.at(row)) {
            (Some(fault), _) => Err(fault),
            (None, row) if values.is_null(row) => Err(Fault::Missing),
            (None, row) => Ok(values.value(row)),
        }
    }

    /// As doubles; integers are rounded to the nearest one.
    fn doubles(&self) -> Result<Self, ArrowError> {
        let array = cast(&self.array, &DataType::Float64)?;
        Ok(Self::new(array, self.scalar, self.faults.clone()))
    }
}

/// How many values a combination of values has, and whether they are one for all.
pub(super) fn extent(values: &[&Value]) -> (usize, bool) {
    match values.iter().find_map(|value| value.count()) {
        Some(rows) => (rows, false),
        None => (1, true),
    }
}

/// The faults that a function of these values has before it is even asked.
pub(super) fn inherited(values: &[&Value], of_missing: bool) -> Option<Vec<Option<Fault>>> {
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
pub(super) fn strict(
    values: &[&Value],
    kernel: impl FnOnce() -> Result<ArrayRef, ArrowError>,
) -> Result<Value, OperatorError> {
    let (array, scalar) = (kernel()?, extent(values).1);
    Ok(Value::new(array, scalar, inherited(values, true)))
}

pub(super) fn evaluate(expression: &Expression, scope: &Scope<'_>) -> Result<Value, OperatorError> {
    // Once for each row of the outer scope, and not once for each element.
    if let Some((outer, rows)) = scope.outside(expression) {
        return Ok(evaluate(expression, outer)?.spread(rows)?);
    }
    let boolean = |array: BooleanArray| Arc::new(array) as ArrayRef;
    match &expression.work {
        Work::Column(path) => Ok(Value::of(&scope.column(path)?, &expression.kind)?),
        Work::Literal(literal) => Ok(Value::new(constant(literal), true, None)),
        Work::Present(path) => {
            let array = boolean(is_not_null(&scope.column(path)?)?);
            Ok(Value::each(array, None))
        }
        Work::Not(operand) => {
            let operand = evaluate(operand, scope)?;
            let not = || arrow::compute::not(operand.array.as_boolean()).map(boolean);
            strict(&[&operand], not)
        }
        Work::Negate(operand) => negate(evaluate(operand, scope)?),
        Work::And(pair) => Ok(logic(false, &both(pair, scope)?)),
        Work::Or(pair) => Ok(logic(true, &both(pair, scope)?)),
        Work::Compare(comparison, pair) => {
            let [a, b] = pair.as_ref();
            compare(*comparison, both(pair, scope)?, [&a.kind, &b.kind])
        }
        Work::Arithmetic(operation, pair) => compute(*operation, &both(pair, scope)?),
        Work::Text(test, pair) => {
            let [a, b] = both(pair, scope)?;
            let kernel = match test {
                TextTest::StartsWith => comparison::starts_with,
                TextTest::EndsWith => comparison::ends_with,
                TextTest::Contains => comparison::contains,
            };
            strict(&[&a, &b], || kernel(&a, &b).map(boolean))
        }
        Work::Matches(text, pattern) => functions::matches(&evaluate(text, scope)?, pattern),
        Work::Change(change, text) => functions::change(&evaluate(text, scope)?, *change),
        Work::Concatenate(pair) => functions::concatenate(&both(pair, scope)?),
        Work::Convert(operand) => functions::convert(&evaluate(operand, scope)?, &expression.kind),
        Work::Member(pair) => lists::member(pair, scope),
        Work::Index(pair) => lists::index(pair, scope),
        Work::Loop(looping) => lists::fold(looping, scope),
        Work::In(operand, literals) => Ok(one_of(&evaluate(operand, scope)?, literals)?),
        Work::Size(operand) => {
            let kind = &operand.kind;
            let operand = evaluate(operand, scope)?;
            strict(&[&operand], || functions::size(&operand.array, kind))
        }
        Work::If(three) => {
            let [condition, yes, no] = three.as_ref();
            choose(&evaluate(condition, scope)?, &evaluate(yes, scope)?, &evaluate(no, scope)?)
        }
    }
}

pub(super) fn both(pair: &[Expression; 2], scope: &Scope<'_>) -> Result<[Value; 2], OperatorError> {
    let [a, b] = pair;
    Ok([evaluate(a, scope)?, evaluate(b, scope)?])
}

fn constant(literal: &Literal) -> ArrayRef {
    match literal {
        Literal::Bool(value) => Arc::new(BooleanArray::from(vec![*value])),
        Literal::Int(value) => Arc::new(Int64Array::from(vec![*value])),
        Literal::Double(value) => Arc::new(Float64Array::from(vec![*value])),
        Literal::Text(value) => Arc::new(StringViewArray::from(vec![value.as_str()])),
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
    Value::new(array, scalar, any.then_some(faults))
}

pub(super) fn compare(
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
    Ok(Value::new(Arc::new(array), scalar, faults))
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
pub(super) fn pair<T: ArrowPrimitiveType>(
    a: &Value,
    b: &Value,
    row: usize,
) -> Option<(T::Native, T::Native)> {
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
    let zero = Value::new(constant(&Literal::Int(0)), true, None);
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
    let values = (0..extent(&[a, b]).0).map(|row| match pair::<Int64Type>(a, b, row) {
        Some((_, 0)) if divides => Err(Fault::DivisionByZero),
        Some((x, y)) => computed(x, y).map(Some).ok_or(Fault::Overflow),
        None => Ok(None),
    });
    Ok(fallible::<Int64Array, _>(&[a, b], values))
}

/// The values of a function that fails for some.
pub(super) fn fallible<A: Array + FromIterator<Option<T>> + 'static, T>(
    operands: &[&Value],
    values: impl Iterator<Item = Result<Option<T>, Fault>>,
) -> Value {
    let (rows, scalar) = extent(operands);
    let mut faults = inherited(operands, true);
    let values = values.enumerate().map(|(row, value)| {
        value.unwrap_or_else(|fault| {
            let faults = faults.get_or_insert_with(|| vec![None; rows]);
            if let Some(slot) = faults.get_mut(row) {
                *slot = (*slot).max(Some(fault));
            }
            None
        })
    });
    let array: A = values.collect();
    Value::new(Arc::new(array), scalar, faults)
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
            let values = operand.array.as_string_view();
            values.iter().map(|value| Some(value.is_some_and(|v| wanted.contains(v)))).collect()
        }
    };
    Ok(Value::new(Arc::new(array), operand.scalar, inherited(&[operand], false)))
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
    Ok(Value::new(array, scalar, any.then_some(faults)))
}
