//! Checks an expression against the columns it is about, and gives every part of it a type.

use anabranch_pipelines::graph::SchemaError;
use arrow::datatypes::{DataType, Schema};
use cel::common::ast::{CallExpr, Expr, LiteralValue, SelectExpr, operators};
use cel::{IdedExpr, Program};

/// What a part of an expression gives.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Bool,
    /// Any integer column, as 64 bits.
    Int,
    /// Any float column, as 64 bits.
    Double,
    Text,
    Bytes,
    List,
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
            Self::List => f.write_str("a list"),
            Self::Null => f.write_str("null"),
            Self::Other(DataType::Struct(_)) => f.write_str("a struct"),
            Self::Other(data_type) => write!(f, "of type {data_type}"),
        }
    }
}

impl Kind {
    fn of(data_type: &DataType) -> Self {
        match data_type {
            DataType::Boolean => Self::Bool,
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => Self::Int,
            DataType::UInt8 | DataType::UInt16 | DataType::UInt32 => Self::Int,
            DataType::Float16 | DataType::Float32 | DataType::Float64 => Self::Double,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Self::Text,
            DataType::Binary | DataType::LargeBinary | DataType::FixedSizeBinary(_) => Self::Bytes,
            DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) => Self::List,
            DataType::Null => Self::Null,
            other => Self::Other(other.clone()),
        }
    }

    fn is_number(&self) -> bool {
        matches!(self, Self::Int | Self::Double)
    }

    /// Whether values of both can be ordered beside one another.
    fn compares(&self, other: &Self) -> bool {
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
    fn kind(&self) -> Kind {
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

/// What an expression does.
#[derive(Debug)]
pub(super) enum Work {
    /// A column, and the fields inside it.
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
    In(Box<Expression>, Vec<Literal>),
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
    /// The program as a condition on records of this schema.
    pub(super) fn condition(program: &Program, schema: &Schema) -> Result<Self, SchemaError> {
        let checker = Checker { program, schema };
        let root = program.expression();
        let condition = checker.check(root)?;
        match condition.kind {
            Kind::Bool => Ok(condition),
            kind => Err(checker.error(root, format!("it is {kind}, not a truth value"))),
        }
    }
}

struct Checker<'a> {
    program: &'a Program,
    schema: &'a Schema,
}

const KNOWN: &str = "`== != < <= > >= && || ! + - * / %`, `x in [..]`, `a ? b : c`, `size`, `startsWith`, `endsWith`, \
                     `contains` and `has`";

impl Checker<'_> {
    fn error(&self, at: &IdedExpr, message: impl std::fmt::Display) -> SchemaError {
        let source = self.program.source_info();
        let place = match source.offset_for(at.id) {
            Some((start, _)) => {
                let before = source.source.get(..start as usize).unwrap_or_default();
                format!("`where`, character {}", before.chars().count() + 1)
            }
            None => "`where`".to_owned(),
        };
        SchemaError::Mismatch(format!("{place}: {message}"))
    }

    fn check(&self, at: &IdedExpr) -> Result<Expression, SchemaError> {
        match &at.expr {
            Expr::Literal(value) => self
                .literal(at, value)
                .map(|literal| Expression { kind: literal.kind(), work: Work::Literal(literal) }),
            Expr::Ident(_) => self.column(at),
            Expr::Select(select) if select.test => self.present(at, select),
            Expr::Select(_) => self.column(at),
            Expr::Call(call) => self.call(at, call),
            Expr::Comprehension(_) => {
                Err(self.error(at, format!("there are no loops over lists; there are {KNOWN}")))
            }
            Expr::List(_) => Err(self.error(at, "a list can only stand behind `in`")),
            _ => Err(self.error(at, format!("this is not supported; there are {KNOWN}"))),
        }
    }

    fn literal(&self, at: &IdedExpr, value: &LiteralValue) -> Result<Literal, SchemaError> {
        Ok(match value {
            LiteralValue::Boolean(value) => Literal::Bool(*value.inner()),
            LiteralValue::Int(value) => Literal::Int(*value.inner()),
            LiteralValue::Double(value) => Literal::Double(*value.inner()),
            LiteralValue::String(value) => Literal::Text(value.inner().to_owned()),
            LiteralValue::Null => Literal::Null,
            LiteralValue::UInt(value) => {
                let message = format!("columns have no unsigned numbers: write {}", value.inner());
                return Err(self.error(at, message));
            }
            LiteralValue::Bytes(_) => {
                return Err(self.error(at, "bytes can only be compared with null or measured"));
            }
        })
    }

    /// The names from a column down to a field, and what that field holds.
    fn path(&self, at: &IdedExpr) -> Result<(Vec<String>, DataType), SchemaError> {
        match &at.expr {
            Expr::Ident(name) => {
                let field = SchemaError::require(self.schema, name);
                let field = field.map_err(|error| self.error(at, error))?;
                Ok((vec![name.clone()], field.data_type().clone()))
            }
            Expr::Select(SelectExpr { operand, field, test: false }) => {
                let (mut path, outer) = self.path(operand)?;
                let inner = self.child(at, &path, &outer, field)?;
                path.push(field.clone());
                Ok((path, inner))
            }
            _ => Err(self.error(at, "only columns have fields")),
        }
    }

    fn child(
        &self,
        at: &IdedExpr,
        path: &[String],
        outer: &DataType,
        field: &str,
    ) -> Result<DataType, SchemaError> {
        let DataType::Struct(fields) = outer else {
            let message = format!("`{}` is {} and has no fields", path.join("."), Kind::of(outer));
            return Err(self.error(at, message));
        };
        let inner = Schema::new(fields.clone());
        let found = SchemaError::require(&inner, field);
        Ok(found.map_err(|error| self.error(at, error))?.data_type().clone())
    }

    fn column(&self, at: &IdedExpr) -> Result<Expression, SchemaError> {
        let (path, data_type) = self.path(at)?;
        Ok(Expression { work: Work::Column(path), kind: Kind::of(&data_type) })
    }

    fn present(&self, at: &IdedExpr, select: &SelectExpr) -> Result<Expression, SchemaError> {
        let (mut path, outer) = self.path(&select.operand)?;
        self.child(at, &path, &outer, &select.field)?;
        path.push(select.field.clone());
        Ok(Expression { work: Work::Present(path), kind: Kind::Bool })
    }

    fn call(&self, at: &IdedExpr, call: &CallExpr) -> Result<Expression, SchemaError> {
        if call.func_name == operators::IN
            && let [value, list] = call.args.as_slice()
        {
            return self.one_of(value, list);
        }
        let operands = call.target.as_deref().into_iter().chain(&call.args);
        let operands: Vec<Expression> =
            operands.map(|operand| self.check(operand)).collect::<Result<_, _>>()?;
        let name = call.func_name.as_str();
        let mut operands = operands.into_iter();
        match (operands.next(), operands.next(), operands.next(), operands.next()) {
            (Some(x), None, ..) => self.unary(at, name, x),
            (Some(a), Some(b), None, _) => self.binary(at, name, Box::new([a, b])),
            (Some(a), Some(b), Some(c), None) if name == operators::CONDITIONAL => {
                self.conditional(at, Box::new([a, b, c]))
            }
            _ => Err(self.error(at, format!("there is no `{name}` here; there are {KNOWN}"))),
        }
    }

    fn unary(&self, at: &IdedExpr, name: &str, x: Expression) -> Result<Expression, SchemaError> {
        let (kind, x) = (x.kind.clone(), Box::new(x));
        let (work, result) = match (name, &kind) {
            (operators::LOGICAL_NOT, Kind::Bool) => (Work::Not(x), Kind::Bool),
            (operators::NEGATE, Kind::Int | Kind::Double) => (Work::Negate(x), kind),
            ("size", Kind::Text | Kind::Bytes | Kind::List) => (Work::Size(x), Kind::Int),
            (operators::LOGICAL_NOT | operators::NEGATE | "size", _) => {
                let name = name.trim_end_matches('_');
                return Err(self.error(at, format!("`{name}` does not apply to {kind}")));
            }
            _ => {
                return Err(self.error(at, format!("there is no `{name}`; there are {KNOWN}")));
            }
        };
        Ok(Expression { work, kind: result })
    }

    fn binary(
        &self,
        at: &IdedExpr,
        name: &str,
        pair: Box<[Expression; 2]>,
    ) -> Result<Expression, SchemaError> {
        let [a, b] = pair.as_ref();
        let kinds = (a.kind.clone(), b.kind.clone());
        let between = || {
            let name = name.trim_matches('_');
            self.error(at, format!("`{name}` does not apply to {} and {}", kinds.0, kinds.1))
        };
        let boolean = |work: Work| Ok(Expression { work, kind: Kind::Bool });
        if let Some(comparison) = comparison(name) {
            let equality = matches!(comparison, Comparison::Equal | Comparison::NotEqual);
            let with_null = equality && (kinds.0 == Kind::Null || kinds.1 == Kind::Null);
            return match with_null || kinds.0.compares(&kinds.1) {
                true => boolean(Work::Compare(comparison, pair)),
                false => Err(between()),
            };
        }
        if let Some(arithmetic) = arithmetic(name) {
            let defined = match (&kinds.0, &kinds.1) {
                (Kind::Int, Kind::Int) => true,
                (Kind::Double, Kind::Double) => arithmetic != Arithmetic::Remainder,
                _ => false,
            };
            return match defined {
                true => Ok(Expression { work: Work::Arithmetic(arithmetic, pair), kind: kinds.0 }),
                false => Err(between()),
            };
        }
        match (name, &kinds) {
            (operators::LOGICAL_AND, (Kind::Bool, Kind::Bool)) => boolean(Work::And(pair)),
            (operators::LOGICAL_OR, (Kind::Bool, Kind::Bool)) => boolean(Work::Or(pair)),
            (operators::LOGICAL_AND | operators::LOGICAL_OR, _) => Err(between()),
            _ => match (text_test(name), &kinds) {
                (Some(test), (Kind::Text, Kind::Text)) => boolean(Work::Text(test, pair)),
                (Some(_), _) => Err(between()),
                (None, _) => {
                    Err(self.error(at, format!("there is no `{name}`; there are {KNOWN}")))
                }
            },
        }
    }

    fn conditional(
        &self,
        at: &IdedExpr,
        three: Box<[Expression; 3]>,
    ) -> Result<Expression, SchemaError> {
        let [condition, yes, no] = three.as_ref();
        if condition.kind != Kind::Bool {
            let message = format!("`?` asks for a truth value, this is {}", condition.kind);
            return Err(self.error(at, message));
        }
        let simple =
            matches!(yes.kind, Kind::Bool | Kind::Int | Kind::Double | Kind::Text | Kind::Null);
        if yes.kind != no.kind || !simple {
            let message = format!("`? :` cannot give {} or else {}", yes.kind, no.kind);
            return Err(self.error(at, message));
        }
        let kind = yes.kind.clone();
        Ok(Expression { work: Work::If(three), kind })
    }

    fn one_of(&self, value: &IdedExpr, list: &IdedExpr) -> Result<Expression, SchemaError> {
        let Expr::List(list_expr) = &list.expr else {
            return Err(self.error(list, "behind `in` stands a list of constants"));
        };
        let value = self.check(value)?;
        let mut literals = Vec::with_capacity(list_expr.elements.len());
        for element in &list_expr.elements {
            let literal = match self.check(element)?.work {
                Work::Literal(literal) => literal,
                Work::Negate(inner) => match inner.work {
                    Work::Literal(Literal::Int(n)) => Literal::Int(n.wrapping_neg()),
                    Work::Literal(Literal::Double(x)) => Literal::Double(-x),
                    _ => return Err(self.error(element, "behind `in` stand constants only")),
                },
                _ => return Err(self.error(element, "behind `in` stand constants only")),
            };
            if !value.kind.compares(&literal.kind()) {
                let message = format!("{} is never {}", value.kind, literal.kind());
                return Err(self.error(element, message));
            }
            literals.push(literal);
        }
        Ok(Expression { work: Work::In(Box::new(value), literals), kind: Kind::Bool })
    }
}

fn comparison(name: &str) -> Option<Comparison> {
    Some(match name {
        operators::EQUALS => Comparison::Equal,
        operators::NOT_EQUALS => Comparison::NotEqual,
        operators::LESS => Comparison::Less,
        operators::LESS_EQUALS => Comparison::LessOrEqual,
        operators::GREATER => Comparison::Greater,
        operators::GREATER_EQUALS => Comparison::GreaterOrEqual,
        _ => return None,
    })
}

fn arithmetic(name: &str) -> Option<Arithmetic> {
    Some(match name {
        operators::ADD => Arithmetic::Add,
        operators::SUBSTRACT => Arithmetic::Subtract,
        operators::MULTIPLY => Arithmetic::Multiply,
        operators::DIVIDE => Arithmetic::Divide,
        operators::MODULO => Arithmetic::Remainder,
        _ => return None,
    })
}

fn text_test(name: &str) -> Option<TextTest> {
    Some(match name {
        "startsWith" => TextTest::StartsWith,
        "endsWith" => TextTest::EndsWith,
        "contains" => TextTest::Contains,
        _ => return None,
    })
}
