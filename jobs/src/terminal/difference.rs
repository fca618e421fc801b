//! How two tables differ, as text: `anabranch diff`.

use std::fmt::Write;

use super::number::plural;
use crate::cli::{Difference, Named};

/// What was found.
pub(crate) fn difference(found: &Difference) -> String {
    let mut out = String::new();
    found.schema.iter().for_each(|note| {
        let _ = writeln!(out, "column {note}");
    });
    named(&mut out, "added", &found.added);
    named(&mut out, "gone", &found.gone);
    named(&mut out, "changed", &found.changed);
    for (column, records) in &found.columns {
        let _ = writeln!(out, "  in `{column}`: {}", plural(*records, "record"));
    }
    let all = if out.is_empty() { ": the tables hold the same records" } else { "" };
    let _ = writeln!(out, "same: {}{all}", plural(found.same, "record"));
    out
}

fn named(out: &mut String, what: &str, named: &Named) {
    if named.records == 0 {
        return;
    }
    let more = if named.records > named.first.len() as u64 { ", ..." } else { "" };
    let first = named.first.join(", ");
    let first = if first.is_empty() { first } else { format!(": {first}{more}") };
    let _ = writeln!(out, "{what}: {}{first}", plural(named.records, "record"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_counted_and_the_first_are_named() {
        let named = |records, first: &[&str]| Named {
            records,
            first: first.iter().map(|&name| name.to_owned()).collect(),
        };
        let found = Difference {
            same: 997,
            added: named(1, &["z.png"]),
            gone: Named::default(),
            changed: named(3, &["a.png", "b.png"]),
            columns: [("image".to_owned(), 3)].into(),
            schema: vec!["`label` is new".to_owned()],
        };
        insta::assert_snapshot!(difference(&found));
        let same = Difference { same: 2, ..Difference::default() };
        assert_eq!(difference(&same), "same: 2 records: the tables hold the same records\n");
    }
}
