//! The parsed job file with every `--set` in it, each value knowing where it was written.

use std::borrow::Cow;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::Problem;
use super::text::Text;

/// A value and where it stands in the [`Text`].
pub(super) type Value<'a> = Spanned<DeValue<'a>>;
/// A table whose keys and values know where they stand.
pub(super) type Table<'a> = DeTable<'a>;
/// A key and where it stands.
pub(super) type Key<'a> = Spanned<Cow<'a, str>>;

/// Parses `text` as the first piece of `all`, telling every syntax error there is.
pub(super) fn parse<'a>(
    all: &mut Text,
    label: &str,
    text: &'a str,
    problems: &mut Vec<Problem>,
) -> Table<'a> {
    all.add(label, text);
    let (table, errors) = DeTable::parse_recoverable(text);
    problems.extend(errors.iter().map(|error| {
        let end = text.len();
        Problem::new(error.span().unwrap_or(end..end), message(error.message()))
    }));
    table.into_inner()
}

/// Sets `path.to.key=value` in `table`. The value is TOML, or text when it does not read as TOML.
///
/// A path of one name sets the job's variable of that name.
pub(super) fn set<'a>(
    all: &mut Text,
    table: &mut Table<'a>,
    argument: &'a str,
    problems: &mut Vec<Problem>,
) {
    let base = all.add("--set", argument);
    let whole = base..base + argument.len();
    let Some((path, text)) = argument.split_once('=') else {
        problems.push(
            Problem::new(whole, "`--set` takes KEY=VALUE")
                .help("write for example --set data=/datasets or --set operator.resize.width=64"),
        );
        return;
    };
    let start = base + path.len() + 1;
    let value = match DeValue::parse(text) {
        Ok(value) => shift(value, start),
        Err(_) => Spanned::new(start..start + text.len(), DeValue::String(Cow::Borrowed(text))),
    };
    let mut names: Vec<Key<'a>> = Vec::new();
    let mut at = base;
    for name in path.split('.') {
        let bare = name.trim();
        names.push(Spanned::new(at..at + name.len(), Cow::Borrowed(bare)));
        if bare.is_empty() {
            problems.push(Problem::new(at..at + name.len(), format!("`{path}` is no key")));
            return;
        }
        at += name.len() + 1;
    }
    if names.len() == 1 {
        let name = path.trim();
        let declared = variables(table);
        if !declared.iter().any(|variable| variable == name) {
            let problem = Problem::new(
                base..base + path.len(),
                format!("the job declares no variable `{name}`"),
            );
            let help =
                "a setting is written with its table, like --set job.credit=512MiB; variables";
            problems.push(if declared.is_empty() {
                problem.help(
                    "declare it in `[vars]`, or write the table too, like --set job.credit=512MiB",
                )
            } else {
                problem.suggest(name, declared.iter().map(String::as_str), help)
            });
            return;
        }
        names.insert(0, Spanned::new(base..base, Cow::Borrowed("vars")));
    }
    if let Err(problem) = place(table, &names, value) {
        problems.push(problem);
    }
}

fn place<'a>(table: &mut Table<'a>, names: &[Key<'a>], value: Value<'a>) -> Result<(), Problem> {
    let Some((name, rest)) = names.split_first() else { return Ok(()) };
    if rest.is_empty() {
        table.remove(name.get_ref().as_ref());
        table.insert(name.clone(), value);
        return Ok(());
    }
    if !table.contains_key(name.get_ref().as_ref()) {
        let empty = Spanned::new(name.span(), DeValue::Table(Table::new()));
        table.insert(name.clone(), empty);
    }
    match table.get_mut(name.get_ref().as_ref()).map(Spanned::get_mut) {
        Some(DeValue::Table(inner)) => place(inner, rest, value),
        Some(other) => {
            let message =
                format!("`{}` is {}, not a table", name.get_ref(), article(other.type_str()));
            Err(Problem::new(name.span(), message))
        }
        None => Ok(()),
    }
}

fn variables(table: &Table<'_>) -> Vec<String> {
    match table.get("vars").map(Spanned::get_ref) {
        Some(DeValue::Table(vars)) => vars.keys().map(|key| key.get_ref().to_string()).collect(),
        _ => Vec::new(),
    }
}

/// The first line of a parser's message, without what the caret shows anyway.
fn message(message: &str) -> String {
    message.lines().next().unwrap_or("this is not TOML").to_owned()
}

/// `an array`, `a string`.
pub(super) fn article(name: &str) -> String {
    let vowel = name.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {name}", if vowel { "an" } else { "a" })
}

/// The same value, `base` bytes further on.
fn shift<'a>(value: Value<'a>, base: usize) -> Value<'a> {
    let moved = |span: Range<usize>| span.start + base..span.end + base;
    let span = moved(value.span());
    let inner = match value.into_inner() {
        DeValue::Array(items) => {
            DeValue::Array(items.into_iter().map(|item| shift(item, base)).collect())
        }
        DeValue::Table(table) => {
            let entry = |(key, value): (Key<'a>, Value<'a>)| {
                (Spanned::new(moved(key.span()), key.into_inner()), shift(value, base))
            };
            DeValue::Table(table.into_iter().map(entry).collect())
        }
        plain => plain,
    };
    Spanned::new(span, inner)
}
