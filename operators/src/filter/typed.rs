//! An expression that was checked: every part of it has a type and says how it is computed.

use arrow::datatypes::DataType;
use regex::Regex;

/// What a part of an expression gives.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Bool,
    /// Any integer column, as 64 bits with a sign; a larger number is a fault.
    Int,
    /// Any float column, as 64 bits.
    Double,
    Text,
    Bytes,
    /// A list, and what its elements are.
    List(Box<Self>),
    Null,
    /// A column that can only be compared with null.
    Other(DataType),
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bool => f.write_str("a truth value"),
            Self::Int => f.write_str("an integer"),
            Self::Double => f.write_str("a floating-point number"),
            Self::Text => f.write_str("a text"),
            Self::Bytes => f.write_str("bytes"),
            Self::List(_) => f.write_str("a list"),
            Self::Null => f.write_str("null"),
            Self::Other(DataType::Struct(_)) => f.write_str("a struct"),
            Self::Other(data_type) => write!(f, "of type {data_type}"),
        }
    }
}

impl Kind {
    pub(super) fn of(data_type: &DataType) -> Self {
        match data_type {
            DataType::Boolean => Self::Bool,
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => Self::Int,
            DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => Self::Int,
            DataType::Float16 | DataType::Float32 | DataType::Float64 => Self::Double,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Self::Text,
            DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView
            | DataType::FixedSizeBinary(_) => Self::Bytes,
            DataType::Dictionary(_, values) => Self::of(values),
            DataType::List(element)
            | DataType::LargeList(element)
            | DataType::FixedSizeList(element, _) => {
                Self::List(Box::new(Self::of(element.data_type())))
            }
            DataType::Null => Self::Null,
            other => Self::Other(other.clone()),
        }
    }

    pub(super) fn is_number(&self) -> bool {
        matches!(self, Self::Int | Self::Double)
    }

    /// Whether values of both can be ordered beside one another.
    pub(super) fn compares(&self, other: &Self) -> bool {
        (self.is_number() && other.is_number())
            || (self == other && matches!(self, Self::Bool | Self::Text))
    }
}

/// A constant in an expression.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Literal {
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(String),
    Null,
}

impl Literal {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Bool(_) => Kind::Bool,
            Self::Int(_) => Kind::Int,
            Self::Double(_) => Kind::Double,
            Self::Text(_) => Kind::Text,
            Self::Null => Kind::Null,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TextTest {
    StartsWith,
    EndsWith,
    Contains,
}

/// What becomes of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TextChange {
    LowerAscii,
    UpperAscii,
    Trim,
}

/// What a loop over a list comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fold {
    All,
    Exists,
    ExistsOne,
    /// A list again: `map` and `filter`.
    Collect,
}

/// One of the macros over lists: `list.all(variable, condition)`.
#[derive(Debug)]
pub(super) struct Loop {
    pub(super) fold: Fold,
    pub(super) list: Expression,
    pub(super) variable: String,
    pub(super) condition: Option<Expression>,
    /// What elements become; without it they stay as they are.
    pub(super) body: Option<Expression>,
}

/// What an expression does.
#[derive(Debug)]
pub(super) enum Work {
    /// A column or the variable of a loop, and the fields inside it.
    Column(Vec<String>),
    Literal(Literal),
    Present(Vec<String>),
    Not(Box<Expression>),
    Negate(Box<Expression>),
    And(Box<[Expression; 2]>),
    Or(Box<[Expression; 2]>),
    Compare(Comparison, Box<[Expression; 2]>),
    Arithmetic(Arithmetic, Box<[Expression; 2]>),
    Text(TextTest, Box<[Expression; 2]>),
    Matches(Box<Expression>, Regex),
    Change(TextChange, Box<Expression>),
    Concatenate(Box<[Expression; 2]>),
    /// To the kind of this expression.
    Convert(Box<Expression>),
    In(Box<Expression>, Vec<Literal>),
    /// Whether the first is an element of the second.
    Member(Box<[Expression; 2]>),
    /// The element of the first that the second counts to.
    Index(Box<[Expression; 2]>),
    Loop(Box<Loop>),
    Size(Box<Expression>),
    If(Box<[Expression; 3]>),
}

/// A checked expression.
#[derive(Debug)]
pub(super) struct Expression {
    pub(super) work: Work,
    pub(super) kind: Kind,
}

impl Expression {
    /// Whether it asks for what this name stands for outside of it.
    pub(super) fn mentions(&self, name: &str) -> bool {
        let any = |all: &[Self]| all.iter().any(|one| one.mentions(name));
        match &self.work {
            Work::Column(path) | Work::Present(path) => {
                path.first().is_some_and(|first| first == name)
            }
            Work::Literal(_) => false,
            Work::Not(x)
            | Work::Negate(x)
            | Work::Matches(x, _)
            | Work::Change(_, x)
            | Work::Convert(x)
            | Work::In(x, _)
            | Work::Size(x) => x.mentions(name),
            Work::And(pair)
            | Work::Or(pair)
            | Work::Compare(_, pair)
            | Work::Arithmetic(_, pair)
            | Work::Text(_, pair)
            | Work::Concatenate(pair)
            | Work::Member(pair)
            | Work::Index(pair) => any(pair.as_slice()),
            Work::If(three) => any(three.as_slice()),
            Work::Loop(looping) => {
                let inside = looping.condition.iter().chain(&looping.body);
                let shadows = looping.variable == name;
                looping.list.mentions(name)
                    || (!shadows && inside.into_iter().any(|part| part.mentions(name)))
            }
        }
    }
}
