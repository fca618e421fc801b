//! What is wrong with an expression, in words, and a caret below the place.

/// A message about the place at this byte of the expression.
pub(super) fn at_byte(source: &str, byte: Option<usize>, message: &str) -> String {
    let Some(before) = byte.and_then(|byte| source.get(..byte)) else {
        return format!("`where`: {message}");
    };
    let line = before.matches('\n').count();
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let column = before.get(start..).unwrap_or_default().chars().count();
    let place = match source.trim_end().contains('\n') {
        true => format!("line {}, character {}", line + 1, column + 1),
        false => format!("character {}", column + 1),
    };
    let text = source.lines().nth(line).unwrap_or_default();
    // Tabs are repeated, so that the caret stands below its character however wide they are.
    let indent = text.chars().chain(std::iter::repeat(' ')).take(column);
    let indent: String = indent.map(|c| if c == '\t' { c } else { ' ' }).collect();
    format!("`where`, {place}: {message}\n    {text}\n    {indent}^")
}

/// A message about what the parser met first; its own words name rules of a grammar that nobody sees.
pub(super) fn unreadable(source: &str, (line, column): (isize, isize), parser: &str) -> String {
    let (line, column) = (usize::try_from(line).ok(), usize::try_from(column).ok());
    let byte = line.zip(column).and_then(|(line, column)| byte_of(source, line, column));
    let at = byte.unwrap_or(source.len());
    let (before, rest) =
        (source.get(..at).unwrap_or_default(), source.get(at..).unwrap_or_default());
    let message = explain(before.trim_end(), rest, parser);
    at_byte(source, Some(at), &message)
}

/// The byte at a line and a character, both counted from 1.
fn byte_of(source: &str, line: usize, column: usize) -> Option<usize> {
    let mut lines = source.split_inclusive('\n');
    let skipped: usize = lines.by_ref().take(line.checked_sub(1)?).map(str::len).sum();
    let text = lines.next().unwrap_or_default();
    let within = text.char_indices().nth(column.checked_sub(1)?).map_or(text.len(), |(at, _)| at);
    Some(skipped + within)
}

fn explain(before: &str, rest: &str, parser: &str) -> String {
    let token = token(rest);
    if parser.to_ascii_lowercase().contains("recursion") {
        return "its brackets are nested too deeply to be read".to_owned();
    }
    if parser.contains("simple name") {
        return "a loop begins with a name for the elements, as in `tags.all(t, t > 0)`".to_owned();
    }
    if parser.contains("has()") {
        return "`has` asks for a field, as in `has(image.bytes)`".to_owned();
    }
    match token {
        "" => match (unclosed(before), before) {
            (Some(bracket), _) => format!("a `{bracket}` is never closed"),
            (None, "") => "it is empty".to_owned(),
            (None, _) => "it ends where a value is expected".to_owned(),
        },
        "'" | "\"" => "the text that begins here does not end".to_owned(),
        "=" => "write `==` to compare".to_owned(),
        "&" | "and" | "AND" => "write `&&` for and".to_owned(),
        "|" | "or" | "OR" => "write `||` for or".to_owned(),
        "not" | "NOT" => "write `!` for not".to_owned(),
        "<" | ">" if before.ends_with('<') => "write `!=` for unequal".to_owned(),
        token => match before.split_whitespace().last() {
            Some("not" | "NOT") => "write `!` for not".to_owned(),
            _ if token.starts_with(|c: char| c.is_ascii_digit()) && !parser.contains("Syntax") => {
                format!("`{token}` is not a number that fits 64 bits")
            }
            _ => format!("`{token}` cannot stand here"),
        },
    }
}

/// A word, a number or a sign.
fn token(rest: &str) -> &str {
    let rest = rest.trim_start();
    let word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.');
    let length = match rest.find(|c: char| !word(c)) {
        Some(0) => rest.chars().next().map_or(0, char::len_utf8),
        Some(length) => length,
        None => rest.len(),
    };
    rest.get(..length).unwrap_or_default()
}

/// The innermost bracket that was opened and not closed, texts left aside.
fn unclosed(text: &str) -> Option<char> {
    let (mut open, mut quote, mut escaped) = (Vec::new(), None, false);
    for c in text.chars() {
        match (quote, c) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(opened), c) if c == opened => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '(' | '[' | '{') => open.push(c),
            (None, ')' | ']' | '}') => {
                open.pop();
            }
            (None, _) => {}
        }
    }
    open.pop()
}
