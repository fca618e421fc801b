//! Which table beside media files holds their labels, and in which column it names them.

use std::collections::HashSet;

use anabranch_connectors::source::first_rows;

/// Rows that are compared.
const ROWS: usize = 500;

/// The beginning of a table of values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its name below the root.
    name: String,
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// A table of labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels {
    /// The table's name below the root.
    pub name: String,
    /// The column that names files.
    pub key: String,
    /// The columns that come with it.
    pub columns: Vec<String>,
}

impl Table {
    /// Whether a name is that of a table.
    pub(super) fn is_named_like_one(name: &str) -> bool {
        let extension = name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
        matches!(extension.as_deref(), Some("csv" | "tsv"))
    }

    /// Reads the beginning of a table; its last line may be cut.
    pub(super) fn parse(name: &str, bytes: &[u8]) -> Option<Self> {
        let (columns, rows) =
            first_rows(name, bytes, ROWS).filter(|_| Self::is_named_like_one(name))?;
        Some(Self { name: name.to_owned(), columns, rows })
    }
}

/// The table whose column names most of `files`, if at least half of its rows do.
pub(super) fn find(tables: &[Table], files: &[&str]) -> Option<Labels> {
    let mut known: HashSet<&str> = HashSet::new();
    for file in files {
        let name = file.rsplit_once('/').map_or(*file, |(_, name)| name);
        known.extend([*file, stem(file), name, stem(name)]);
    }
    let mut best: Option<(usize, Labels)> = None;
    for table in tables {
        for (at, key) in table.columns.iter().enumerate() {
            let values = table.rows.iter().filter_map(|row| row.get(at));
            let hits = values.filter(|value| known.contains(value.as_str())).count();
            let is_better = best.as_ref().is_none_or(|(most, _)| hits > *most);
            if hits > 0 && hits * 2 >= table.rows.len().saturating_sub(1) && is_better {
                let columns = table.columns.iter().filter(|column| *column != key).cloned();
                let (name, columns) = (table.name.clone(), columns.collect());
                best = Some((hits, Labels { name, key: key.clone(), columns }));
            }
        }
    }
    best.map(|(_, labels)| labels)
}

/// A name without its extension.
fn stem(name: &str) -> &str {
    match name.rsplit_once('.') {
        Some((stem, extension)) if !extension.contains('/') => stem,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_the_table_whose_column_names_files() {
        let labels = Table::parse("labels.tsv", b"id\tclass\n1\tcat\n2\tdog\n3\tc").unwrap();
        let prices = Table::parse("prices.csv", b"item,price\nx,100\ny,200\n").unwrap();
        let found = find(&[prices.clone(), labels], &["cats/1.jpg", "dogs/2.jpg"]).unwrap();
        assert_eq!((found.name.as_str(), found.key.as_str()), ("labels.tsv", "id"));
        assert_eq!(found.columns, ["class"]);
        assert_eq!(find(&[prices], &["1.jpg"]), None);
    }

    #[test]
    fn commas_and_lines_in_quotes_are_no_columns() {
        let text =
            b"\xef\xbb\xbfcaption,file\n\"a cat, asleep\",1.jpg\n\"two\nlines \"\"q\"\"\",2.jpg\n";
        let labels = Table::parse("labels.csv", text).unwrap();
        assert_eq!(labels.rows[1], ["two\nlines \"q\"", "2.jpg"]);
        let found = find(&[labels], &["1.jpg", "2.jpg"]).unwrap();
        assert_eq!(
            (found.key.as_str(), found.columns.as_slice()),
            ("file", &["caption".to_owned()][..])
        );
    }
}
