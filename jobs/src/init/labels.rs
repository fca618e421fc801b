//! Which table beside media files holds their labels, and in which column it names them.

use std::collections::HashSet;

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
    /// What separates values in a table of this name; `None` when it is no table.
    pub(super) fn delimiter(name: &str) -> Option<char> {
        match name.rsplit_once('.')?.1.to_ascii_lowercase().as_str() {
            "tsv" => Some('\t'),
            "csv" => Some(','),
            _ => None,
        }
    }

    /// Reads the beginning of a table; its last line may be cut.
    pub(super) fn parse(name: &str, text: &str) -> Option<Self> {
        let delimiter = Self::delimiter(name)?;
        let values = |line: &str| -> Vec<String> {
            line.split(delimiter).map(|value| value.trim().trim_matches('"').to_owned()).collect()
        };
        let mut lines = text.lines();
        let columns = values(lines.next()?);
        let rows = lines.take(ROWS).map(values).collect();
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
        let labels = Table::parse("labels.tsv", "id\tclass\n1\tcat\n2\tdog\n3\tc").unwrap();
        let prices = Table::parse("prices.csv", "item,price\nx,100\ny,200\n").unwrap();
        let found = find(&[prices.clone(), labels], &["cats/1.jpg", "dogs/2.jpg"]).unwrap();
        assert_eq!((found.name.as_str(), found.key.as_str()), ("labels.tsv", "id"));
        assert_eq!(found.columns, ["class"]);
        assert_eq!(find(&[prices], &["1.jpg"]), None);
    }
}
