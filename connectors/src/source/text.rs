//! Plain text: `kind = "text"`, whole files, their lines or paragraphs, or pieces of equal size.
//!
//! Offsets are byte positions. What is not UTF-8 is refused with its line; nothing is replaced.

use std::io::{BufRead, Read};
use std::sync::Arc;

use anabranch_pipelines::quantity::ByteSize;
use anabranch_pipelines::record::{KEY, Modality};
use anabranch_pipelines::source::{Abilities, Source, SourceBatch, SourceError, Split};
use arrow::array::{RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use serde::{Deserialize, Serialize};

use super::glob::Objects;
use super::lines::Lines;
use super::object::{Failure, Object, Unpacked};
use super::scan::{Bad, Format, Found, KEPT, Located, Open, Scanned, Scanner, key};

/// Options of `kind = "text"`: every file, line, paragraph or piece is a record.
///
/// Columns: `key` (`FILE@OFFSET`, or the file's name for whole files) and the text.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TextOptions {
    /// A file, a folder or a glob, as a path or URL: `"books/*.txt"`. `.gz` and `.zst` are unpacked.
    pub path: String,
    /// What a record is. Default `"lines"`.
    #[serde(default)]
    pub split: TextSplit,
    /// Size of a piece with `split = "pieces"`, and of any record at most. Default `"4KiB"` and `"16MiB"`.
    #[schemars(with = "Option<String>")]
    pub bytes: Option<ByteSize>,
    /// Name of the text column. Default `text`.
    #[serde(default = "text")]
    pub column: String,
    /// Size to which a packed file may unpack. Default: 200 times its size, and 64 MiB in any case.
    #[schemars(with = "Option<String>")]
    pub max_unpacked: Option<ByteSize>,
}

/// What a record of text is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum TextSplit {
    /// A line that is not blank.
    #[default]
    Lines,
    /// Lines up to a blank one.
    Paragraphs,
    /// So many bytes, or a few less where a character would be cut.
    Pieces,
    /// The whole file.
    Files,
}

fn text() -> String {
    "text".to_owned()
}

impl TextOptions {
    /// The source.
    ///
    /// # Errors
    /// When the path is not understood or pieces are too small to hold a character.
    pub fn build(self) -> Result<Arc<dyn Source>, SourceError> {
        let default = if self.split == TextSplit::Pieces { 4 << 10 } else { 16 << 20 };
        let bytes = self.bytes.map_or(default, |size| size.0);
        if !(4..=i32::MAX as u64).contains(&bytes) {
            let message = "`bytes` is at least 4, and below 2 GiB";
            return Err(SourceError::Options(message.to_owned()));
        }
        let text = Modality::Text.mark(Field::new(&self.column, DataType::Utf8, true));
        let schema = Arc::new(Schema::new(vec![Field::new(KEY, DataType::Utf8, false), text]));
        let objects = Objects::parse(&self.path)?;
        Ok(Arc::new(Scanned::new(objects, Text { schema, bytes, options: self })))
    }
}

struct Text {
    schema: SchemaRef,
    bytes: u64,
    options: TextOptions,
}

impl Format for Text {
    type Row = (String, String);
    type Columns = ();

    fn kind(&self) -> &'static str {
        "text"
    }

    fn options(&self) -> serde_json::Value {
        serde_json::json!({
            "split": self.options.split, "bytes": self.bytes, "column": self.options.column,
            "max_unpacked": self.options.max_unpacked,
        })
    }

    fn abilities(&self) -> Abilities {
        Abilities { random_access: true, references: false, stable_offsets: false, grows: true }
    }

    fn unpacked(&self) -> Unpacked {
        Unpacked { limit: self.options.max_unpacked.map(|size| size.0) }
    }

    fn columns(&self, _: &[Split], _: &Open<'_>) -> Result<(), SourceError> {
        Ok(())
    }

    fn schema(&self, (): &()) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn scanner(
        &self,
        (): &(),
        object: Object,
    ) -> Result<Box<dyn Scanner<Row = (String, String)>>, Failure> {
        let (split, most) = (self.options.split, self.bytes);
        Ok(Box::new(Texts { object, split, most, lines: Lines::default() }))
    }

    fn batch(
        &self,
        (): &(),
        rows: Vec<Located<(String, String)>>,
    ) -> Result<SourceBatch, SourceError> {
        let keys = StringArray::from_iter_values(rows.iter().map(|row| row.row.0.as_str()));
        let texts = StringArray::from_iter_values(rows.iter().map(|row| row.row.1.as_str()));
        let records =
            RecordBatch::try_new(Arc::clone(&self.schema), vec![Arc::new(keys), Arc::new(texts)]);
        let records = records.map_err(|e| SourceError::Options(e.to_string()))?;
        Ok(SourceBatch { records, refused: Vec::new() })
    }
}

/// The texts of one file.
struct Texts {
    object: Object,
    split: TextSplit,
    most: u64,
    lines: Lines,
}

impl Texts {
    /// The bytes of the next record; empty at the end.
    fn take(&mut self) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        match self.split {
            TextSplit::Files => self.up_to(None, &mut bytes)?,
            TextSplit::Pieces => {
                let read = (&mut self.object).take(self.most).read_to_end(&mut bytes);
                read.map_err(|e| self.object.failure(e))?;
                let whole = whole_characters(&bytes);
                let back = (bytes.len() - whole) as u64;
                if back > 0 && bytes.len() as u64 == self.most {
                    bytes.truncate(whole);
                    let to = self.object.position() - back;
                    self.object.seek(to).map_err(|e| self.object.failure(e))?;
                }
            }
            // Blank lines belong to the record behind them, lest offsets have gaps.
            TextSplit::Lines => loop {
                let before = bytes.len();
                self.up_to(Some(b'\n'), &mut bytes)?;
                let line = bytes.get(before..).unwrap_or_default();
                if line.is_empty() || !blank(line) {
                    break;
                }
            },
            TextSplit::Paragraphs => {
                let mut begun = false;
                loop {
                    let before = bytes.len();
                    self.up_to(Some(b'\n'), &mut bytes)?;
                    let line = bytes.get(before..).unwrap_or_default();
                    if line.is_empty() || (begun && blank(line)) {
                        break;
                    }
                    begun |= !blank(line);
                }
            }
        }
        Ok(bytes)
    }

    /// Appends bytes up to and including a delimiter, or all.
    fn up_to(&mut self, delimiter: Option<u8>, bytes: &mut Vec<u8>) -> Result<(), Failure> {
        let room = (self.most + 1).saturating_sub(bytes.len() as u64);
        let mut bounded = (&mut self.object).take(room);
        let read = match delimiter {
            Some(delimiter) => bounded.read_until(delimiter, bytes),
            None => bounded.read_to_end(bytes),
        };
        read.map_err(|e| self.object.failure(e))?;
        if bytes.len() as u64 > self.most {
            let most = ByteSize(self.most);
            return Err(Failure::Damaged(format!("a text is larger than {most}; raise `bytes`")));
        }
        Ok(())
    }
}

impl Scanner for Texts {
    type Row = (String, String);

    fn seek(&mut self, offset: u64) -> Result<(), Failure> {
        match self.object.position() == offset {
            true => Ok(()),
            false => self.object.seek(offset).map_err(|e| self.object.failure(e)),
        }
    }

    fn next(&mut self, measured: bool) -> Result<Option<Found<(String, String)>>, Failure> {
        let start = self.object.position();
        let bytes = self.take()?;
        // Blank lines behind the last record are none.
        let nothing = match self.split {
            TextSplit::Lines | TextSplit::Paragraphs => blank(&bytes),
            TextSplit::Pieces | TextSplit::Files => bytes.is_empty(),
        };
        if nothing {
            return Ok(None);
        }
        let range = start..self.object.position();
        let size = range.end - range.start;
        if measured {
            return Ok(Some(Found { range, bytes: size, row: None }));
        }
        let key = match self.split {
            TextSplit::Files => Object::split(&self.object).name.clone(),
            _ => key(Object::split(&self.object), start),
        };
        let row = match String::from_utf8(bytes) {
            Ok(text) => Ok((key, trimmed(&text, self.split).to_owned())),
            Err(error) => {
                let line = self.lines.at(start, &self.object)?;
                let bytes = error.into_bytes();
                let bytes = (bytes.len() <= KEPT).then_some(bytes);
                Err(Bad { key, error: format!("line {line}: it is not UTF-8"), bytes })
            }
        };
        Ok(Some(Found { range, bytes: size, row: Some(row) }))
    }

    fn position(&self) -> u64 {
        self.object.position()
    }
}

/// The text without the line ends around it, and without a byte order mark.
fn trimmed(text: &str, split: TextSplit) -> &str {
    match split {
        TextSplit::Pieces => text,
        TextSplit::Files => text.trim_start_matches('\u{feff}'),
        TextSplit::Lines | TextSplit::Paragraphs => {
            let text = text.trim_start_matches('\u{feff}');
            // Of a blank line nothing stays, of another one its indentation does.
            let begin = text.split_inclusive('\n').take_while(|line| line.trim().is_empty());
            let begin: usize = begin.map(str::len).sum();
            text.get(begin..).unwrap_or_default().trim_end()
        }
    }
}

fn blank(line: &[u8]) -> bool {
    let line = line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line);
    line.iter().all(u8::is_ascii_whitespace)
}

/// Length of the bytes without a character that is cut at their end.
fn whole_characters(bytes: &[u8]) -> usize {
    let length = bytes.len();
    for back in 1..=length.min(4) {
        let Some(byte) = bytes.get(length - back) else { break };
        let needs = match byte {
            0x00..=0x7f => 1,
            0x80..=0xbf => continue,
            0xc0..=0xdf => 2,
            0xe0..=0xef => 3,
            _ => 4,
        };
        return if needs > back { length - back } else { length };
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::source::Seen;
    use crate::source::testing::{conforming, data, folder, gzip, path, read_all};
    use arrow::array::AsArray;
    use proptest::prelude::*;

    fn source(path: String, split: &str, bytes: Option<&str>) -> Arc<dyn Source> {
        let options = serde_json::json!({ "path": path, "split": split, "bytes": bytes });
        serde_json::from_value::<TextOptions>(options).unwrap().build().unwrap()
    }

    fn texts(seen: &Seen) -> Vec<String> {
        let column = seen.records.column_by_name("text").unwrap().as_string::<i32>();
        column.iter().map(|text| text.unwrap().to_owned()).collect()
    }

    const POEM: &str = "\u{feff}\r\nOne,\r\n  two\r\n\r\n \r\nthree\n\nfour";

    #[test]
    fn files_are_split_as_told() {
        let folder = folder(&[
            ("a.txt", POEM.as_bytes()),
            ("empty.txt", b""),
            ("b.txt.gz", &gzip(POEM.as_bytes())),
        ]);
        for name in ["a.txt", "b.txt.gz"] {
            let of = |split| texts(&conforming(&source(path(&folder, name), split, None)));
            assert_eq!(of("lines"), ["One,", "  two", "three", "four"]);
            assert_eq!(of("paragraphs"), ["One,\r\n  two", "three", "four"]);
            assert_eq!(of("files"), [POEM.trim_start_matches('\u{feff}')]);
        }
        let empty = conforming(&source(path(&folder, "empty.txt"), "files", None));
        assert_eq!((empty.rows, empty.refused.len()), (0, 0));
    }

    #[test]
    fn what_is_no_text_is_refused_with_its_line() {
        let long = [b"ok\n\xff\xfe\nfine\n".as_slice(), &[b'x'; 100], b"\nlost\n"].concat();
        let folder = folder(&[("a.txt", &long)]);
        let seen = conforming(&source(path(&folder, "a.txt"), "lines", Some("50B")));
        assert_eq!(texts(&seen), ["ok", "fine"]);
        assert_eq!(seen.refused[0].error, "line 2: it is not UTF-8");
        assert!(seen.refused[1].error.contains("raise `bytes`"));
    }

    #[test]
    fn real_text_is_read() {
        let Some(path) = data("text/tinyshakespeare.txt") else { return };
        let size = std::fs::metadata(&path).unwrap().len();
        let batches = read_all(&source(path.clone(), "pieces", Some("1KiB")));
        let rows: usize = batches.iter().map(|batch| batch.records.num_rows()).sum();
        assert_eq!(rows as u64, size.div_ceil(1024));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn pieces_put_together_are_the_text(text in "\\PC{0,200}", size in 4u64..40) {
            let folder = folder(&[("a.txt", text.as_bytes())]);
            let seen = conforming(&source(path(&folder, "a.txt"), "pieces", Some(&format!("{size}B"))));
            let pieces = texts(&seen);
            prop_assert!(seen.refused.is_empty());
            prop_assert!(pieces.iter().all(|piece| piece.len() as u64 <= size));
            prop_assert_eq!(pieces.concat(), text);
        }
    }
}
