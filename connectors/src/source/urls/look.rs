//! A look at each URL when its row is read.

use std::collections::VecDeque;
use std::sync::Arc;

use anabranch_pipelines::quantity::ByteSize;
use anabranch_pipelines::record::{KEY, Reference, media};
use anabranch_pipelines::source::{
    BatchSize, Mark, Marks, SourceBatch, SourceBatches, SourceError, SplitRange, Unreadable,
};
use anabranch_pipelines::store::{Location, explain, refusal};
use arrow::array::{ArrayRef, AsArray, BinaryArray, BooleanArray, RecordBatch, StringArray};
use arrow::compute::filter_record_batch;
use futures::stream::{self, StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;

use super::{Columns, Inner, Unreachable, file};
use crate::source::facts;
use crate::source::inner::{Place, Record, in_order};
use crate::source::media as named;

/// URLs that are asked for at a time.
const REQUESTS: usize = 32;
/// Size of an object at most: what one row can hold.
const LARGEST: u64 = i32::MAX as u64;

/// Reads rows of the list, and looks at their URLs.
pub(super) struct Looks {
    inner: Arc<Inner>,
    batches: SourceBatches,
    /// Ranges whose records' places are not known yet.
    ranges: VecDeque<SplitRange>,
    marks: Option<(SplitRange, Marks)>,
    /// Records that were read and whose places nobody asked for.
    passed: usize,
}

/// What was learnt of an object.
struct Seen {
    reference: Reference,
    etag: Option<String>,
}

impl Looks {
    pub(super) fn new(inner: Arc<Inner>, ranges: Vec<SplitRange>, size: BatchSize) -> Self {
        let batches = inner.list.open(ranges.clone(), size);
        Self { inner, batches, ranges: ranges.into(), marks: None, passed: 0 }
    }

    /// The next batch.
    pub(super) async fn next(&mut self) -> Result<Option<SourceBatch>, SourceError> {
        let inner = Arc::clone(&self.inner);
        let columns = inner.columns().await?;
        let Some(batch) = self.batches.try_next().await? else { return Ok(None) };
        let urls = batch
            .records
            .columns()
            .get(columns.url)
            .and_then(|c| c.as_string_opt::<i32>())
            .cloned();
        let urls = urls.unwrap_or_else(|| StringArray::new_null(batch.records.num_rows()));
        let looks = urls.iter().map(|url| inner.look(url.map(str::to_owned)));
        let looked = stream::iter(looks.collect::<Vec<_>>()).buffered(REQUESTS);
        let looked = looked.try_collect::<Vec<_>>().await?;
        let error = |e: arrow::error::ArrowError| SourceError::Options(e.to_string());
        let count = batch.records.num_rows() + batch.refused.len();
        if batch.refused.is_empty() && looked.iter().all(Result::is_ok) {
            self.passed += count;
            let seen: Vec<Seen> = looked.into_iter().flatten().collect();
            let records = assemble(columns, &batch.records, &seen).map_err(error)?;
            return Ok(Some(SourceBatch { records, refused: Vec::new() }));
        }
        for _ in 0..std::mem::take(&mut self.passed) {
            self.place().await?;
        }
        let mut places = Vec::with_capacity(count);
        for _ in 0..count {
            places.extend(self.place().await?);
        }
        let mut batches = [batch];
        let records = in_order(&inner.list, &places, &mut batches)?;
        let [SourceBatch { records: rows, .. }] = batches;
        let mut looked = looked.into_iter();
        let (mut seen, mut kept, mut refused) = (Vec::new(), Vec::new(), Vec::new());
        let keys = rows.column_by_name(KEY);
        let keys = keys.and_then(|keys| keys.as_string_opt::<i32>());
        for (at, record) in records {
            let row = match record {
                Record::Refused(refusal) => {
                    refused.push(refusal);
                    continue;
                }
                Record::Row(_, row) => row,
            };
            let (Some(place), Some(look)) = (places.get(at), looked.next()) else { continue };
            kept.push(look.is_ok());
            match look {
                Ok(found) => seen.push(found),
                Err(error) => refused.push(Unreadable {
                    key: keys.map(|keys| keys.value(row).to_owned()).unwrap_or_default(),
                    split: place.split.name.clone(),
                    range: place.mark.range.clone(),
                    error,
                    bytes: None,
                }),
            }
        }
        let rows = filter_record_batch(&rows, &BooleanArray::from(kept)).map_err(error)?;
        let records = assemble(columns, &rows, &seen).map_err(error)?;
        Ok(Some(SourceBatch { records, refused }))
    }

    /// Where the next record stands. To know it may take to measure the list, which only a refusal asks for.
    async fn place(&mut self) -> Result<Option<Place>, SourceError> {
        loop {
            if let Some((range, marks)) = &mut self.marks {
                match marks.try_next().await? {
                    Some(mark) if mark.range.start < range.range.end => {
                        return Ok(Some(Place { split: Arc::clone(&range.split), mark }));
                    }
                    _ => self.marks = None,
                }
            }
            let Some(range) = self.ranges.pop_front() else { return Ok(None) };
            if range.range.end.checked_sub(range.range.start) == Some(1) {
                // One offset is one record, as each row of a shuffled list with numbered rows is.
                let mark = Mark { range: range.range, records: 1, bytes: 0 };
                return Ok(Some(Place { split: range.split, mark }));
            }
            let marks = self.inner.list.measure(Arc::clone(&range.split), range.range.start);
            self.marks = Some((range, marks));
        }
    }
}

impl Inner {
    /// The object of a URL, or why the record is refused.
    async fn look(&self, url: Option<String>) -> Result<Result<Seen, String>, SourceError> {
        let Some(url) = url.map(|url| url.trim().to_owned()).filter(|url| !url.is_empty()) else {
            return Ok(Err("it has no URL".to_owned()));
        };
        if !url.contains("://") {
            return Ok(Err(format!("`{url}` is no URL, as `https://...` is")));
        }
        let at = match Location::parse(&url) {
            Ok(at) => at,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let uri = file_or(&at, &url);
        if !self.options.etag {
            return Ok(Ok(Seen { reference: Reference { uri, range: None }, etag: None }));
        }
        let found = match at.store.head(&at.path).await {
            Ok(found) => found,
            Err(error) => {
                // On the web each server decides for itself. A bucket that refuses one object refuses all alike:
                // its credentials are wrong, which is no fault of the records.
                let refused =
                    refusal(&error).filter(|status| *status == 404 || url.starts_with("http"));
                if let Some(status) = refused {
                    let what = match status {
                        404 => "it is not there",
                        401 | 403 => "it may not be read",
                        _ => "the server refuses it",
                    };
                    return Ok(Err(format!("`{url}`: {what} (status {status})")));
                }
                return match self.options.unreachable {
                    Unreachable::Refuse if refusal(&error).is_none() => {
                        Ok(Err(format!("`{url}`: {}", explain(&error))))
                    }
                    _ => Err(SourceError::Store { location: url, source: error }),
                };
            }
        };
        if found.size > LARGEST {
            let (size, most) = (ByteSize(found.size), ByteSize(LARGEST));
            return Ok(Err(format!("`{url}` has {size}, of at most {most}")));
        }
        let reference = Reference { uri, range: Some(0..found.size) };
        // A file on this machine is read by its size, and has no version that reading it would tell again.
        let reference = match &found.e_tag {
            Some(etag) if at.local_path().is_none() => reference.at_version(etag),
            _ => reference,
        };
        Ok(Ok(Seen { reference, etag: found.e_tag }))
    }
}

/// A URL as references name it: without what no server sees.
fn file_or(at: &Location, url: &str) -> String {
    match at.local_path() {
        Some(_) => at.url.clone(),
        None => url.split('#').next().unwrap_or(url).to_owned(),
    }
}

/// The list's columns and those of the objects.
fn assemble(
    columns: &Columns,
    rows: &RecordBatch,
    seen: &[Seen],
) -> Result<RecordBatch, arrow::error::ArrowError> {
    let paths: StringArray = seen.iter().map(|seen| Some(seen.reference.to_string())).collect();
    let bytes = BinaryArray::new_null(seen.len());
    let column = media::assemble(bytes, paths);
    let encoding = |seen: &Seen| named::encoding(file(&seen.reference.uri));
    let encodings: StringArray = seen.iter().map(encoding).collect();
    let facts = facts::columns(columns.modality, &column);
    let etags: StringArray = seen.iter().map(|seen| seen.etag.as_deref()).collect();
    let mut all: Vec<ArrayRef> = rows.columns().to_vec();
    all.push(Arc::new(column));
    all.push(Arc::new(encodings));
    all.extend(facts);
    all.push(Arc::new(etags));
    RecordBatch::try_new(Arc::clone(&columns.schema), all)
}
