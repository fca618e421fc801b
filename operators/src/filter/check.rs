//! Checks an expression against the columns it is about.

use anabranch_pipelines::graph::SchemaError;
use arrow::datatypes::{DataType, Schema};
use cel::common::ast::{CallExpr, ComprehensionExpr, Expr, LiteralValue, SelectExpr, operators};
use cel::{IdedExpr, Program};
use regex::Regex;

use super::problem;
use super::typed::{
    Arithmetic, Comparison, Expression, Fold, Kind, Literal, Loop, TextChange, TextTest, Work,
};

const KNOWN: &str = "`== != < <= > >= && || ! + - * / %`, `x in [..]`, `a ? b : c`, `list[0]`, `size`, \
                     `int`, `double`, `string`, `startsWith`, `endsWith`, `contains`, `matches`, \
                     `lowerAscii`, `upperAscii`, `trim`, `has`, and `all`, `exists`, `exists_one`, `map` and \
                     `filter` of lists";

impl Expression {
    /// The program as a condition on records of this schema.
    pub(super) fn condition(program: &Program, schema: &Schema) -> Result<Self, SchemaError> {
        let checker = Checker { program, schema, within: None };
        let root = program.expression();
        let condition = checker.check(root)?;
        match condition.kind {
            Kind::Bool => Ok(condition),
            kind => Err(checker.error(root, format!("it is {kind}, not a truth value"))),
        }
    }

    fn boolean(work: Work) -> Self {
        Self { work, kind: Kind::Bool }
    }
}

struct Checker<'a> {
    program: &'a Program,
    schema: &'a Schema,
    within: Option<Within<'a>>,
}

/// The loop that a part of an expression stands in.
struct Within<'a> {
    variable: &'a str,
    element: &'a Kind,
    outer: &'a Checker<'a>,
}

impl Checker<'_> {
    fn error(&self, at: &IdedExpr, message: impl std::fmt::Display) -> SchemaError {
        let source = self.program.source_info();
        let start = source.offset_for(at.id).map(|(start, _)| start as usize);
        SchemaError::Mismatch(problem::at_byte(&source.source, start, &message.to_string()))
    }

    fn unknown(&self, at: &IdedExpr, name: &str) -> SchemaError {
        self.error(at, format!("there is no `{name}`; there are {KNOWN}"))
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
            Expr::Comprehension(comprehension) => self.comprehension(at, comprehension),
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
                let message = format!("integers have a sign here: write {}", value.inner());
                return Err(self.error(at, message));
            }
            LiteralValue::Bytes(_) => {
                return Err(self.error(at, "bytes can only be compared with null or measured"));
            }
        })
    }

    /// The names from a column or variable down to a field, and what that field holds.
    fn path(&self, at: &IdedExpr) -> Result<(Vec<String>, Kind), SchemaError> {
        match &at.expr {
            Expr::Ident(name) => Ok((vec![name.clone()], self.named(at, name)?)),
            Expr::Select(SelectExpr { operand, field, test: false }) => {
                let (mut path, outer) = self.path(operand)?;
                let inner = self.child(at, &path, &outer, field)?;
                path.push(field.clone());
                Ok((path, inner))
            }
            _ => Err(self.error(at, "only columns have fields")),
        }
    }

    fn named(&self, at: &IdedExpr, name: &str) -> Result<Kind, SchemaError> {
        match &self.within {
            Some(within) if within.variable == name => Ok(within.element.clone()),
            Some(within) => within.outer.named(at, name),
            None => {
                let field = SchemaError::require(self.schema, name);
                let field = field.map_err(|error| self.error(at, error))?;
                Ok(Kind::of(field.data_type()))
            }
        }
    }

    fn child(
        &self,
        at: &IdedExpr,
        path: &[String],
        outer: &Kind,
        field: &str,
    ) -> Result<Kind, SchemaError> {
        let Kind::Other(DataType::Struct(fields)) = outer else {
            let message = format!("`{}` is {outer} and has no fields", path.join("."));
            return Err(self.error(at, message));
        };
        let inner = Schema::new(fields.clone());
        let found = SchemaError::require(&inner, field);
        Ok(Kind::of(found.map_err(|error| self.error(at, error))?.data_type()))
    }

    fn column(&self, at: &IdedExpr) -> Result<Expression, SchemaError> {
        let (path, kind) = self.path(at)?;
        Ok(Expression { work: Work::Column(path), kind })
    }

    fn present(&self, at: &IdedExpr, select: &SelectExpr) -> Result<Expression, SchemaError> {
        let (mut path, outer) = self.path(&select.operand)?;
        self.child(at, &path, &outer, &select.field)?;
        path.push(select.field.clone());
        Ok(Expression::boolean(Work::Present(path)))
    }

    fn call(&self, at: &IdedExpr, call: &CallExpr) -> Result<Expression, SchemaError> {
        let name = call.func_name.as_str();
        if name == operators::IN
            && let [value, list] = call.args.as_slice()
        {
            return self.one_of(at, value, list);
        }
        let operands = call.target.as_deref().into_iter().chain(&call.args);
        let operands: Vec<Expression> =
            operands.map(|operand| self.check(operand)).collect::<Result<_, _>>()?;
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
        let scalar = matches!(kind, Kind::Int | Kind::Double | Kind::Text);
        let (work, result) = match (name, &kind) {
            (operators::LOGICAL_NOT, Kind::Bool) => (Work::Not(x), Kind::Bool),
            (operators::NEGATE, Kind::Int | Kind::Double) => (Work::Negate(x), kind),
            ("size", Kind::Text | Kind::Bytes | Kind::List(_)) => (Work::Size(x), Kind::Int),
            ("int", _) if scalar => (Work::Convert(x), Kind::Int),
            ("double", _) if scalar => (Work::Convert(x), Kind::Double),
            ("string", Kind::Bool) => (Work::Convert(x), Kind::Text),
            ("string", _) if scalar => (Work::Convert(x), Kind::Text),
            ("lowerAscii", Kind::Text) => (Work::Change(TextChange::LowerAscii, x), kind),
            ("upperAscii", Kind::Text) => (Work::Change(TextChange::UpperAscii, x), kind),
            ("trim", Kind::Text) => (Work::Change(TextChange::Trim, x), kind),
            (
                operators::LOGICAL_NOT
                | operators::NEGATE
                | "size"
                | "int"
                | "double"
                | "string"
                | "lowerAscii"
                | "upperAscii"
                | "trim",
                _,
            ) => {
                let name = name.trim_end_matches('_');
                return Err(self.error(at, format!("`{name}` does not apply to {kind}")));
            }
            _ => return Err(self.unknown(at, name)),
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
            let mixed = kinds.0 != kinds.1 && kinds.0.is_number() && kinds.1.is_number();
            let hint = if mixed { "; convert one with `double(..)` or `int(..)`" } else { "" };
            self.error(at, format!("`{name}` does not apply to {} and {}{hint}", kinds.0, kinds.1))
        };
        if let Some(comparison) = comparison(name) {
            let equality = matches!(comparison, Comparison::Equal | Comparison::NotEqual);
            let with_null = equality && (kinds.0 == Kind::Null || kinds.1 == Kind::Null);
            return match with_null || kinds.0.compares(&kinds.1) {
                true => Ok(Expression::boolean(Work::Compare(comparison, pair))),
                false => Err(between()),
            };
        }
        if let Some(arithmetic) = arithmetic(name) {
            let work = match (&kinds.0, &kinds.1) {
                (Kind::Text, Kind::Text) if arithmetic == Arithmetic::Add => {
                    Work::Concatenate(pair)
                }
                (Kind::Int, Kind::Int) => Work::Arithmetic(arithmetic, pair),
                (Kind::Double, Kind::Double) if arithmetic != Arithmetic::Remainder => {
                    Work::Arithmetic(arithmetic, pair)
                }
                _ => return Err(between()),
            };
            return Ok(Expression { work, kind: kinds.0 });
        }
        match (name, &kinds) {
            (operators::LOGICAL_AND, (Kind::Bool, Kind::Bool)) => {
                Ok(Expression::boolean(Work::And(pair)))
            }
            (operators::LOGICAL_OR, (Kind::Bool, Kind::Bool)) => {
                Ok(Expression::boolean(Work::Or(pair)))
            }
            (operators::LOGICAL_AND | operators::LOGICAL_OR, _) => Err(between()),
            (operators::INDEX, (Kind::List(element), Kind::Int)) => {
                Ok(Expression { kind: element.as_ref().clone(), work: Work::Index(pair) })
            }
            (operators::INDEX, _) => {
                Err(self.error(at, format!("{} has no element at {}", kinds.0, kinds.1)))
            }
            ("matches", (Kind::Text, Kind::Text)) => self.matches(at, *pair),
            ("matches", _) => Err(between()),
            _ => match (text_test(name), &kinds) {
                (Some(test), (Kind::Text, Kind::Text)) => {
                    Ok(Expression::boolean(Work::Text(test, pair)))
                }
                (Some(_), _) => Err(between()),
                (None, _) => Err(self.unknown(at, name)),
            },
        }
    }

    fn matches(
        &self,
        at: &IdedExpr,
        [text, pattern]: [Expression; 2],
    ) -> Result<Expression, SchemaError> {
        let Work::Literal(Literal::Text(pattern)) = pattern.work else {
            return Err(self.error(at, "the pattern of `matches` is a constant"));
        };
        let pattern = Regex::new(&pattern).map_err(|error| {
            // The last line is what is wrong; those above it draw the pattern.
            let error = error.to_string();
            let error = error.lines().last().unwrap_or_default();
            let error = error.trim().trim_start_matches("error: ");
            self.error(at, format!("`{pattern}` is no regular expression: {error}"))
        })?;
        Ok(Expression::boolean(Work::Matches(Box::new(text), pattern)))
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

    fn one_of(
        &self,
        at: &IdedExpr,
        value: &IdedExpr,
        list: &IdedExpr,
    ) -> Result<Expression, SchemaError> {
        let checked = self.check(value)?;
        let Expr::List(list_expr) = &list.expr else {
            let list = self.check(list)?;
            return match &list.kind {
                Kind::List(element) if checked.kind.compares(element) => {
                    Ok(Expression::boolean(Work::Member(Box::new([checked, list]))))
                }
                Kind::List(element) => {
                    Err(self.error(at, format!("{} is never {element}", checked.kind)))
                }
                kind => Err(self.error(at, format!("behind `in` stands a list, this is {kind}"))),
            };
        };
        let mut literals = Vec::with_capacity(list_expr.elements.len());
        let mut computed = Vec::new();
        for at in &list_expr.elements {
            let element = self.check(at)?;
            if !checked.kind.compares(&element.kind) {
                let message = format!("{} is never {}", checked.kind, element.kind);
                return Err(self.error(at, message));
            }
            match element.constant() {
                Some(literal) => literals.push(literal),
                None => computed.push(element),
            }
        }
        let constants = Expression::boolean(Work::In(Box::new(checked), literals));
        // The others one by one. A missing value is in no list.
        computed.into_iter().try_fold(constants, |so_far, element| {
            let present = Work::Compare(
                Comparison::NotEqual,
                Box::new([self.check(value)?, Literal::Null.into()]),
            );
            let equal = Work::Compare(Comparison::Equal, Box::new([self.check(value)?, element]));
            let pair = [Expression::boolean(present), Expression::boolean(equal)];
            let found = Expression::boolean(Work::And(Box::new(pair)));
            Ok(Expression::boolean(Work::Or(Box::new([so_far, found]))))
        })
    }

    /// A macro over a list, told from what it was expanded to.
    fn comprehension(
        &self,
        at: &IdedExpr,
        expanded: &ComprehensionExpr,
    ) -> Result<Expression, SchemaError> {
        let strange =
            || self.error(at, format!("this is no loop that is known; there are {KNOWN}"));
        let list = self.check(&expanded.iter_range)?;
        let Kind::List(element) = list.kind.clone() else {
            let message = format!("there are loops over lists, this is {}", list.kind);
            return Err(self.error(&expanded.iter_range, message));
        };
        let variable = expanded.iter_var.clone();
        let element = element.as_ref();
        let within = Within { variable: &variable, element, outer: self };
        let inside = Checker { program: self.program, schema: self.schema, within: Some(within) };
        let truth = |at: &IdedExpr| match inside.check(at)? {
            condition if condition.kind == Kind::Bool => Ok(condition),
            other => {
                let message = format!("a loop asks for a truth value, this is {}", other.kind);
                Err(self.error(at, message))
            }
        };
        let Expr::Call(step) = &expanded.loop_step.expr else { return Err(strange()) };
        let (fold, condition, body) = match (step.func_name.as_str(), step.args.as_slice()) {
            (operators::LOGICAL_AND, [_, condition]) => (Fold::All, Some(truth(condition)?), None),
            (operators::LOGICAL_OR, [_, condition]) => {
                (Fold::Exists, Some(truth(condition)?), None)
            }
            (operators::CONDITIONAL, [condition, then, _]) => {
                let condition = Some(truth(condition)?);
                match appended(then) {
                    Some(body) => (Fold::Collect, condition, Some(inside.check(body)?)),
                    None => (Fold::ExistsOne, condition, None),
                }
            }
            (operators::ADD, _) => {
                let body = appended(&expanded.loop_step).ok_or_else(strange)?;
                (Fold::Collect, None, Some(inside.check(body)?))
            }
            _ => return Err(strange()),
        };
        let kind = match (&body, fold) {
            (Some(body), Fold::Collect) => Kind::List(Box::new(body.kind.clone())),
            _ => Kind::Bool,
        };
        let work = Work::Loop(Box::new(Loop { fold, list, variable, condition, body }));
        Ok(Expression { work, kind })
    }
}

impl Expression {
    /// The constant that this is, signs resolved.
    fn constant(&self) -> Option<Literal> {
        match &self.work {
            Work::Literal(literal) => Some(literal.clone()),
            Work::Negate(inner) => match inner.constant()? {
                Literal::Int(n) => n.checked_neg().map(Literal::Int),
                Literal::Double(x) => Some(Literal::Double(-x)),
                _ => None,
            },
            _ => None,
        }
    }
}

impl From<Literal> for Expression {
    fn from(literal: Literal) -> Self {
        Self { kind: literal.kind(), work: Work::Literal(literal) }
    }
}

/// What `@result + [x]` appends.
fn appended(step: &IdedExpr) -> Option<&IdedExpr> {
    let Expr::Call(CallExpr { func_name, args, .. }) = &step.expr else { return None };
    let [_, list] = args.as_slice() else { return None };
    match &list.expr {
        Expr::List(list) if func_name == operators::ADD => list.elements.first(),
        _ => None,
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
