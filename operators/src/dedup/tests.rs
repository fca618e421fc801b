use super::*;
use anabranch_pipelines::record::{Modality, media};
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringArray};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{Int64Type, Schema};
use proptest::prelude::*;
use std::collections::BTreeMap;

type Row = (Option<String>, Option<i64>);

/// Rows with a number of their own, from `first` on.
fn batch(rows: &[Row], first: usize) -> RecordBatch {
    let texts: StringArray = rows.iter().map(|(text, _)| text.as_deref()).collect();
    let numbers: Int64Array = rows.iter().map(|(_, number)| *number).collect();
    let places = Int64Array::from_iter_values((first..first + rows.len()).map(|at| at as i64));
    RecordBatch::try_from_iter_with_nullable([
        ("text", Arc::new(texts) as ArrayRef, true),
        ("number", Arc::new(numbers), true),
        ("at", Arc::new(places), false),
    ])
    .unwrap()
}

/// Which rows stay when they come in epochs of so many, through snapshots as after kills.
fn run(options: &DedupOptions, rows: &[Row], epoch: usize) -> Vec<i64> {
    let dedup = Dedup { options: options.clone() };
    let schema = dedup.output(&[batch(&[], 0).schema()]).unwrap();
    let mut shards: BTreeMap<u64, Box<dyn Shard>> = BTreeMap::new();
    let mut kept = Vec::new();
    for (number, rows) in rows.chunks(epoch).enumerate() {
        let rows = batch(rows, number * epoch);
        let mut split: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for (row, hash) in dedup.hashes(0, &rows).unwrap().values().iter().enumerate() {
            split.entry(hash % 3).or_default().push(row as u64);
        }
        for (shard, some) in split {
            let rows = take_record_batch(&rows, &UInt64Array::from(some)).unwrap();
            let inputs = std::slice::from_ref(&schema);
            let state = shards.entry(shard).or_insert_with(|| dedup.shard(inputs).unwrap());
            let made = state.absorb(0, &rows).unwrap();
            assert!(made.refused.is_empty());
            let stay = concat_batches(&schema, &made.records).unwrap();
            kept.extend(stay.column(2).as_primitive::<Int64Type>().values());
            let snapshot = state.snapshot().unwrap();
            let mut again = dedup.shard(inputs).unwrap();
            if !snapshot.is_empty() {
                again.restore(&snapshot).unwrap();
            }
            assert_eq!((again.bytes(), again.snapshot().unwrap()), (state.bytes(), snapshot));
            *state = again;
        }
    }
    kept.sort_unstable();
    kept
}

proptest! {
    #[test]
    fn the_first_of_equal_records_stays(
        rows in prop::collection::vec((
            prop::option::weighted(0.7, "[ab]{0,2}"), prop::option::weighted(0.7, 0i64..3),
        ), 0..40),
        epoch in 1usize..12,
    ) {
        let mut seen = std::collections::HashSet::new();
        let expected: Vec<i64> = (0..rows.len())
            .filter(|at| rows[*at] == (None, None) || seen.insert(rows[*at].clone()))
            .map(|at| at as i64)
            .collect();
        prop_assert_eq!(run(&DedupOptions::by(["text", "number"]), &rows, epoch), expected);
        let mut seen = std::collections::HashSet::new();
        let expected: Vec<i64> = (0..rows.len())
            .filter(|at| rows[*at].0.is_none() || seen.insert(rows[*at].0.clone()))
            .map(|at| at as i64)
            .collect();
        prop_assert_eq!(run(&DedupOptions::by(["text"]), &rows, epoch), expected);
    }
}

#[test]
fn media_are_equal_by_their_bytes_and_references_are_refused() {
    let field = media::field("image", Modality::Image, media::State::Encoded);
    let images = media::column(
        vec![Some(b"abc".as_slice()), Some(b"abc"), Some(b""), None, None],
        vec![Some("a.jpg"), Some("b.jpg"), None, None, Some("s3://b/c.jpg")],
    );
    let schema = Arc::new(Schema::new(vec![field]));
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(images)]).unwrap();
    let dedup = Dedup { options: DedupOptions::by(["image"]) };
    let made = dedup.shard(&[schema]).unwrap().absorb(0, &batch).unwrap();
    let stay = media::of(&made.records[0], "image").unwrap().clone();
    assert_eq!(stay.len(), 3);
    assert_eq!(media::path(&stay, 0), Some("a.jpg"));
    let [(row, error)] = &made.refused[..] else { panic!("{:?}", made.refused) };
    assert_eq!(row.num_rows(), 1);
    assert!(error.contains("put `kind = \"digest\"` before"), "{error}");
}

#[test]
fn snapshots_that_are_none_are_refused() {
    let dedup = Dedup { options: DedupOptions::by(["text"]) };
    let mut shard = dedup.shard(&[]).unwrap();
    for (snapshot, expected) in [
        (&b"ABRNJOIN\x01\0\0\0"[..], "does not begin like one"),
        (b"ABRNDEDU\x01", "ends early"),
        (b"ABRNDEDU\x02\0\0\0", "version 2"),
        (b"ABRNDEDU\x01\0\0\0half", "ends within a hash"),
    ] {
        let error = shard.restore(snapshot).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn options_that_cannot_be_are_refused() {
    let told = |options: DedupOptions| options.build().map(|_| ()).unwrap_err().to_string();
    assert!(told(DedupOptions::by([])).contains("names the columns"));
    assert!(told(DedupOptions::by(["text", "id"])).contains("another for every record"));
    let schema = batch(&[], 0).schema();
    let error = Dedup { options: DedupOptions::by(["txt"]) }.output(&[schema]).unwrap_err();
    assert!(error.to_string().contains("did you mean `text`?"));
}
