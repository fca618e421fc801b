//! `${NAME}` in a job file: the job's own variables, then the environment.
//!
//! `[vars]` declares variables with their defaults; `--set NAME=VALUE` sets them. `${NAME:-text}` stands for
//! `text` when there is no such name, and `$${` for `${` itself. A string that is nothing but `${NAME}`
//! takes the variable's type too, so a variable may be a number.

use std::borrow::Cow;
use std::ops::Range;

use toml::Spanned;
use toml::de::DeValue;

use super::problem::Problem;
use super::tree::{Table, Value};

/// Looks a name up in the environment.
pub(super) type Environment<'e> = &'e dyn Fn(&str) -> Option<String>;

/// Replaces every `${NAME}` in `table` and takes `[vars]` out of it.
pub(super) fn expand<'a>(
    table: &mut Table<'a>,
    environment: Environment<'_>,
    problems: &mut Vec<Problem>,
) {
    let vars = match table.remove("vars") {
        None => Table::new(),
        Some(value) => {
            let span = value.span();
            match value.into_inner() {
                DeValue::Table(vars) => vars,
                other => {
                    let message = format!(
                        "`vars` is {}, not a table",
                        super::tree::article(other.type_str())
                    );
                    problems.push(Problem::new(span, message));
                    Table::new()
                }
            }
        }
    };
    // Variables themselves see the environment only, so they cannot refer to one another in a circle.
    let none = Table::new();
    let vars: Table<'a> = vars
        .into_iter()
        .map(|(key, value)| (key, Scope { vars: &none, environment, problems }.value(value)))
        .collect();
    for (key, value) in &vars {
        if matches!(value.get_ref(), DeValue::Table(_) | DeValue::Array(_)) {
            let message = format!("the variable `{}` is no single value", key.get_ref());
            problems.push(
                Problem::new(value.span(), message).help("give it a string, a number or a boolean"),
            );
        }
    }
    let old = std::mem::take(table);
    let mut scope = Scope { vars: &vars, environment, problems };
    *table = old.into_iter().map(|(key, value)| (key, scope.value(value))).collect();
}

struct Scope<'s, 'a> {
    vars: &'s Table<'a>,
    environment: Environment<'s>,
    problems: &'s mut Vec<Problem>,
}

impl<'a> Scope<'_, 'a> {
    fn value(&mut self, value: Value<'a>) -> Value<'a> {
        let span = value.span();
        let inner = match value.into_inner() {
            DeValue::String(text) if text.contains("${") => self.string(&text, span.clone()),
            DeValue::Array(items) => {
                DeValue::Array(items.into_iter().map(|item| self.value(item)).collect())
            }
            DeValue::Table(table) => DeValue::Table(
                table.into_iter().map(|(key, value)| (key, self.value(value))).collect(),
            ),
            plain => plain,
        };
        Spanned::new(span, inner)
    }

    fn string(&mut self, text: &str, span: Range<usize>) -> DeValue<'a> {
        let whole = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
        if let Some(value) = whole.and_then(|name| self.vars.get(name)) {
            return value.get_ref().clone();
        }
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            let (before, after) = rest.split_at(at);
            let after = after.get(2..).unwrap_or("");
            if let Some(literal) = before.strip_suffix('$') {
                out.push_str(literal);
                out.push_str("${");
                rest = after;
                continue;
            }
            out.push_str(before);
            let Some((name, remainder)) = after.split_once('}') else {
                self.problems.push(
                    Problem::new(span.clone(), "`${` has no closing `}`")
                        .help("write `$${` for a literal `${`"),
                );
                return DeValue::String(Cow::Owned(text.to_owned()));
            };
            out.push_str(&self.lookup(name, &span));
            rest = remainder;
        }
        out.push_str(rest);
        DeValue::String(Cow::Owned(out))
    }

    fn lookup(&mut self, name: &str, span: &Range<usize>) -> String {
        let (name, default) = match name.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (name, None),
        };
        let found = match self.vars.get(name).map(Spanned::get_ref) {
            Some(DeValue::String(text)) => Some(text.to_string()),
            Some(DeValue::Integer(number)) => Some(number.to_string()),
            Some(DeValue::Float(number)) => Some(number.to_string()),
            Some(DeValue::Boolean(flag)) => Some(flag.to_string()),
            Some(DeValue::Datetime(time)) => Some(time.to_string()),
            Some(DeValue::Array(_) | DeValue::Table(_)) => Some(String::new()),
            None => (self.environment)(name),
        };
        match found.or_else(|| default.map(str::to_owned)) {
            Some(text) => text,
            None => {
                let names = self.vars.keys().map(|key| key.get_ref().as_ref());
                let meant = anabranch_pipelines::graph::nearest(name, names);
                let problem = Problem::new(
                    span.clone(),
                    format!("`${{{name}}}` is neither in `[vars]` nor in the environment"),
                );
                self.problems.push(problem.help(match meant {
                    Some(meant) => format!("did you mean `${{{meant}}}`?"),
                    None => format!("declare `{name}` in `[vars]`, export it, or give a default: `${{{name}:-...}}`"),
                }));
                String::new()
            }
        }
    }
}
