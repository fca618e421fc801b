//! Checksums of a shard's column chunks, in its own footer.
//!
//! Parquet has a place for a checksum in every page, which the library that we write with leaves empty. So the
//! footer's entry `anabranch:crc32` lists the CRC-32 of every column chunk: one list per row group, one number
//! per column. Whoever does not know it reads the shard as ever.

use parquet::file::metadata::{KeyValue, ParquetMetaData, RowGroupMetaData};

/// The key of the footer's entry.
const KEY: &str = "anabranch:crc32";

/// The checksums of a shard that is being written.
#[derive(Debug, Default)]
pub(crate) struct Checksums(Vec<Vec<u32>>);

impl Checksums {
    /// Row groups seen so far.
    pub(crate) fn groups(&self) -> usize {
        self.0.len()
    }

    /// Takes a row group in, whose bytes stand in `bytes`, which begin at `start` in the file.
    pub(crate) fn push(
        &mut self,
        group: &RowGroupMetaData,
        bytes: &[u8],
        start: u64,
    ) -> Result<(), String> {
        let of = |column: &parquet::file::metadata::ColumnChunkMetaData| {
            let (at, length) = column.byte_range();
            let from = usize::try_from(at.checked_sub(start)?).ok()?;
            let until = from.checked_add(usize::try_from(length).ok()?)?;
            bytes.get(from..until).map(crc32fast::hash)
        };
        let sums: Option<Vec<u32>> = group.columns().iter().map(of).collect();
        self.0.push(sums.ok_or("a row group is not where its writer says")?);
        Ok(())
    }

    /// The footer's entry.
    pub(crate) fn entry(&self) -> KeyValue {
        KeyValue::new(KEY.to_owned(), serde_json::json!(self.0).to_string())
    }

    /// The checksums that a footer names; none in files that others wrote.
    pub(crate) fn of(footer: &ParquetMetaData) -> Result<Option<Self>, String> {
        let entries = footer.file_metadata().key_value_metadata();
        let entry = entries.into_iter().flatten().find(|entry| entry.key == KEY);
        let Some(text) = entry.and_then(|entry| entry.value.as_ref()) else { return Ok(None) };
        let sums: Vec<Vec<u32>> = serde_json::from_str(text)
            .map_err(|e| format!("its footer is wrong: no checksums in `{KEY}`: {e}"))?;
        match sums.len() == footer.num_row_groups() {
            true => Ok(Some(Self(sums))),
            false => Err(format!(
                "its footer is wrong: checksums of {} row groups, and there are {}",
                sums.len(),
                footer.num_row_groups()
            )),
        }
    }

    /// Whether these are the bytes that were written as this column of this row group.
    pub(crate) fn fit(&self, group: usize, column: usize, bytes: &[u8]) -> bool {
        let sum = self.0.get(group).and_then(|columns| columns.get(column));
        sum.is_some_and(|sum| *sum == crc32fast::hash(bytes))
    }
}
