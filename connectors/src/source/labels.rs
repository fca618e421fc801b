//! Sidecar labels: a CSV or TSV keyed by file name, whose columns are added to files and archive members.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ::csv::StringRecord;
use anabranch_pipelines::record::{ID, KEY};
use anabranch_pipelines::source::SourceError;
use arrow::array::{ArrayRef, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{Field, FieldRef};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::csv::{Dialect, read_all};
use super::glob::Objects;
use super::object::{Failure, Object, Unpacked};
use super::values::{ValueType, free_name};

/// `labels = { path = "labels.tsv", key = "file" }`: columns from a table beside the data.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LabelsOptions {
    /// A CSV or TSV file with a header, as a path or URL. It is held in memory.
    pub path: String,
    /// The column that holds file names, with or without folders and extensions.
    pub key: String,
    /// Types by column, as in `kind = "csv"`. Default: what the values look like.
    #[serde(default)]
    pub types: BTreeMap<String, ValueType>,
    /// What becomes of a file without labels: `"null"` columns, or a dead letter with `"refuse"`.
    #[serde(default)]
    pub missing: Missing,
}

/// What becomes of a file that the labels do not name.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Missing {
    /// Its label columns are null.
    #[default]
    Null,
    /// It is a dead letter.
    Refuse,
}

/// Labels in memory.
#[derive(Debug)]
pub(super) struct Labels {
    /// Rows by name as the table has it, but for a leading `./` or `/`.
    rows: HashMap<String, u32>,
    /// Rows by what is left of names with folders when the first of those are left out; `None` where that is
    /// not one row.
    shortened: HashMap<String, Option<u32>>,
    /// A name that the table has.
    example: Option<String>,
    /// Whether somebody was told that no row is of any file.
    told: AtomicBool,
    fields: Vec<FieldRef>,
    columns: Vec<ArrayRef>,
    missing: Missing,
    path: String,
    digest: String,
}

impl Labels {
    /// Reads all labels. `taken` are names of columns that stand before them. Blocks.
    pub(super) fn read(
        options: &LabelsOptions,
        taken: impl Fn(&str) -> bool,
    ) -> Result<Self, SourceError> {
        let error =
            |message: String| SourceError::Format { location: options.path.clone(), message };
        let objects = Objects::parse(&options.path)?;
        let listed = tokio::runtime::Handle::current().block_on(objects.list());
        let listed = listed.map_err(|e| match e {
            SourceError::Nothing { location, hint } => SourceError::Nothing {
                location,
                hint: format!("it should be the file of the labels; {hint}"),
            },
            other => other,
        })?;
        let [split] = listed.as_slice() else {
            return Err(error("labels are one file".to_owned()));
        };
        let dialect = Dialect { delimiter: None, quotes: true, columns: None };
        let (names, rows) = Object::open(objects.location(split), split, Unpacked { limit: None })
            .and_then(|object| read_all(&dialect, object))
            .map_err(|failure| match failure {
                Failure::Store(error) => error,
                Failure::Damaged(message) => error(message),
            })?;
        let named = |name: &String| !names.contains(name);
        if let Some(unknown) = options.types.keys().chain([&options.key]).find(|name| named(name)) {
            let names = names.join(", ");
            return Err(error(format!("there is no column `{unknown}`; the columns are {names}")));
        }
        let key = names.iter().position(|name| name == &options.key).unwrap_or_default();
        let mut by_name = HashMap::with_capacity(rows.len());
        let mut shortened = HashMap::new();
        for (at, row) in rows.iter().enumerate() {
            let name = row.get(key).unwrap_or_default();
            let name = name.trim_start_matches("./").trim_start_matches('/');
            for short in suffixes(name).skip(1) {
                let only = |row: &mut Option<u32>| *row = None;
                shortened.entry(short.to_owned()).and_modify(only).or_insert(Some(at as u32));
            }
            if by_name.insert(name.to_owned(), at as u32).is_some() {
                return Err(error(format!("`{name}` has two rows; keep one")));
            }
        }
        let (mut fields, mut columns) = (Vec::<FieldRef>::new(), Vec::new());
        for (at, name) in names.iter().enumerate().filter(|(at, _)| *at != key) {
            let values = || rows.iter().map(|row: &StringRecord| row.get(at).unwrap_or_default());
            let kind = options.types.get(name).copied().unwrap_or(ValueType::infer(values()));
            if let Some(wrong) = values().find(|value| !kind.reads(value)) {
                return Err(error(format!("`{name}` is declared {kind:?}, but holds {wrong:?}")));
            }
            let taken = |name: &str| {
                [ID, KEY].contains(&name) || taken(name) || fields.iter().any(|f| f.name() == name)
            };
            fields.push(Arc::new(Field::new(free_name(name, taken), kind.data_type(), true)));
            columns.push(kind.column(values()));
        }
        let (missing, path) = (options.missing, options.path.clone());
        let digest = digest(&names, &rows);
        let example = rows.first().and_then(|row| row.get(key)).map(str::to_owned);
        let (rows, told) = (by_name, AtomicBool::new(false));
        Ok(Self { rows, shortened, example, told, fields, columns, missing, path, digest })
    }

    /// Of all that they say, wherever they stand: with other labels, rows are others, and a run that was
    /// interrupted must not go on with them.
    pub(super) fn digest(&self) -> &str {
        &self.digest
    }

    /// The columns that are added.
    pub(super) fn fields(&self) -> &[FieldRef] {
        &self.fields
    }

    /// Why a file is refused for want of labels.
    pub(super) fn lacks(&self, name: &str) -> Option<String> {
        (self.missing == Missing::Refuse && self.row(name).is_none())
            .then(|| format!("`{}` has no row for it", self.path))
    }

    /// The columns for these names.
    pub(super) fn columns(&self, names: &[&str]) -> Result<Vec<ArrayRef>, SourceError> {
        let rows: UInt32Array = names.iter().map(|name| self.row(name)).collect();
        let columns: Result<_, _> =
            self.columns.iter().map(|column| take(column, &rows, None)).collect();
        columns.map_err(|e| SourceError::Options(e.to_string()))
    }

    /// Says so, once, when none of these files has a row: the names are then of another kind.
    pub(super) fn look<'a>(&self, mut names: impl Iterator<Item = &'a str>) {
        let Some(first) = names.next() else { return };
        let found = self.row(first).is_some() || names.any(|name| self.row(name).is_some());
        if !found && !self.told.swap(true, Ordering::Relaxed) {
            tracing::warn!("{}", self.strange(first));
        }
    }

    fn strange(&self, name: &str) -> String {
        let path = &self.path;
        match &self.example {
            Some(example) => format!(
                "no row of `{path}` is of any file: its first one is of {example:?}, a file is called {name:?}; \
                 is `key` the column with their names?"
            ),
            None => format!("the labels `{path}` have no rows"),
        }
    }

    /// By the name with all of its folders or the last ones, with its extension or without; or by what the
    /// name is the end of, if that is one row.
    fn row(&self, name: &str) -> Option<u32> {
        let row = suffixes(name).flat_map(both).find_map(|name| self.rows.get(name).copied());
        row.or_else(|| both(name).find_map(|name| self.shortened.get(name).copied().flatten()))
    }
}

/// The name, and what is left of it as its folders are left out one by one.
fn suffixes(name: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(name), |name| Some(name.split_once('/')?.1))
}

/// The name with its extension and without.
fn both(name: &str) -> impl Iterator<Item = &str> {
    let file = name.rfind('/').map_or(0, |slash| slash + 1);
    let stem = name.rfind('.').filter(|dot| *dot >= file).and_then(|dot| name.get(..dot));
    std::iter::once(name).chain(stem)
}

fn digest(names: &[String], rows: &[StringRecord]) -> String {
    let mut hash = Sha256::new();
    let values = rows.iter().flat_map(StringRecord::iter);
    for text in names.iter().map(String::as_str).chain(values) {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    }
    hex(hash)
}

/// The digits of a digest.
pub(super) fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use anabranch_pipelines::source::Source;

    use crate::source::testing::{block_on, folder, path};
    use crate::source::{FilesOptions, IdxOptions, TarOptions};

    fn options(source: Result<Arc<dyn Source>, SourceError>) -> serde_json::Value {
        let source = source.unwrap();
        block_on(source.schema()).unwrap();
        source.options()
    }

    #[test]
    fn other_labels_make_another_source_wherever_they_stand() {
        let images = [[0x0803, 2, 1, 1].map(u32::to_be_bytes).concat(), vec![0, 0]].concat();
        let digits = |n| [[0x0801, 2].map(u32::to_be_bytes).concat(), vec![0, n]].concat();
        let [one, same, other] = [["1", "one"], ["1", "same"], ["2", "other"]].map(|[value, name]| {
            let labels = format!("file\tlabel\na\t{value}\n");
            let digits = digits(value.parse().unwrap());
            let name = format!("{name}.tsv");
            let folder = folder(&[
                ("a.png", b"image"),
                ("a.tar", &[0; 1024]),
                (&name, labels.as_bytes()),
                ("images", &images),
                ("digits", &digits),
            ]);
            let labels = serde_json::json!({ "path": path(&folder, &name), "key": "file" });
            let of = |name| {
                serde_json::json!({ "path": path(&folder, name), "labels": labels, "modality": "image" })
            };
            let (files, tar) = (of("a.png"), of("a.tar"));
            let idx = serde_json::json!({ "path": path(&folder, "images"), "labels": path(&folder, "digits") });
            let files: FilesOptions = serde_json::from_value(files).unwrap();
            let tar: TarOptions = serde_json::from_value(tar).unwrap();
            let idx: IdxOptions = serde_json::from_value(idx).unwrap();
            [options(files.build()), options(tar.build()), options(idx.build())]
        });
        assert_eq!(one, same);
        for (one, other) in one.iter().zip(&other) {
            assert_ne!(one, other);
        }
    }

    fn read(table: &str) -> Labels {
        let folder = folder(&[("labels.tsv", table.as_bytes())]);
        let options = serde_json::json!({ "path": path(&folder, "labels.tsv"), "key": "file" });
        let options: LabelsOptions = serde_json::from_value(options).unwrap();
        block_on(async move {
            let read = move || Labels::read(&options, |_| false);
            tokio::task::spawn_blocking(read).await.unwrap().unwrap()
        })
    }

    #[test]
    fn names_match_with_or_without_folders_and_extensions() {
        let table =
            ["pics/1.jpg", "./2", "/data/x/3", "4.jpg", "a/5.jpg", "b/5.jpg", "c/6.jpg", "d.e/7"];
        let rows = table.iter().map(|name| format!("{name}\t1\n")).collect::<String>();
        let labels = read(&format!("file\tlabel\n{rows}"));
        for (name, row) in [
            ("1.jpg", Some(0)),
            ("pics/1.jpg", Some(0)),
            ("more/pics/1.jpg", Some(0)),
            ("1.png", None),
            ("2.jpg", Some(1)),
            ("pics/2.jpg", Some(1)),
            ("x/3.jpg", Some(2)),
            ("y/3.jpg", None),
            ("z/4.jpg", Some(3)),
            ("a/5.jpg", Some(4)),
            ("z/b/5.jpg", Some(5)),
            // One of two, or of another folder's: no label is better than a wrong one.
            ("5.jpg", None),
            ("z/6.jpg", None),
            ("d.e/7.png", Some(7)),
            ("d", None),
        ] {
            assert_eq!(labels.row(name), row, "{name}");
        }
    }

    #[test]
    fn labels_of_no_file_are_told() {
        let labels = read("file\tlabel\n10004\t1\n");
        labels.look(["other.jpg", "10004.jpg"].into_iter());
        assert!(!labels.told.load(Ordering::Relaxed));
        labels.look(["other.jpg", "more.jpg"].into_iter());
        assert!(labels.told.load(Ordering::Relaxed));
        let message = labels.strange("other.jpg");
        assert!(message.contains("its first one is of \"10004\", a file is called \"other.jpg\""));
    }

    #[test]
    fn labels_that_are_missing_are_called_so() {
        let folder = folder(&[("a.png", b"image")]);
        let labels = serde_json::json!({ "path": path(&folder, "labels.csv"), "key": "file" });
        let files = serde_json::json!({ "path": path(&folder, "a.png"), "labels": labels });
        let files: FilesOptions = serde_json::from_value(files).unwrap();
        let error = block_on(files.build().unwrap().schema()).unwrap_err().to_string();
        assert!(error.contains("labels.csv: it should be the file of the labels"), "{error}");
    }

    #[test]
    fn labels_whose_last_quote_is_open_are_an_error() {
        let folder = folder(&[("labels.csv", b"file,label\na,1\nb,\"2\nc,3\n")]);
        let labels = path(&folder, "labels.csv");
        let options = serde_json::json!({ "path": labels, "key": "file" });
        let options: LabelsOptions = serde_json::from_value(options).unwrap();
        let read = block_on(async move {
            tokio::task::spawn_blocking(move || Labels::read(&options, |_| false)).await.unwrap()
        });
        let error = read.unwrap_err().to_string();
        assert!(error.ends_with("line 3: a quote is never closed"), "{error}");
    }
}
