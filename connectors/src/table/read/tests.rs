use std::collections::{BTreeMap, BTreeSet};

use anabranch_pipelines::log::Commit;
use anabranch_pipelines::record::{ID, KEY, with_ids};
use anabranch_pipelines::sink::{Compute, PartName, RunStart};
use arrow::array::{ArrayRef, AsArray, DictionaryArray, RecordBatch, StringArray, UInt16Array};
use arrow::datatypes::UInt16Type;
use object_store::{ObjectStoreExt, PutPayload};

use super::*;
use crate::sink;
use crate::source::testing::block_on;

const SHARDS: u64 = 6;
const ROWS: u64 = 20;

/// Rows whose label, picture and tag follow from their number.
fn rows(from: u64) -> RecordBatch {
    let numbers = || from..from + ROWS;
    let keys: Vec<String> = numbers().map(|row| format!("k{row:03}")).collect();
    let bytes: Vec<Vec<u8>> = numbers().map(|row| vec![row as u8; 500 + row as usize]).collect();
    let image = media::column(
        bytes.iter().map(|b| Some(b.as_slice())).collect(),
        vec![None; ROWS as usize],
    );
    let tags: DictionaryArray<arrow::datatypes::Int32Type> =
        numbers().map(|row| ["even", "odd"][row as usize % 2]).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(keys)),
        Arc::new(image),
        Arc::new(UInt16Array::from_iter_values(numbers().map(|row| row as u16))),
        Arc::new(UInt16Array::from(vec![7; ROWS as usize])),
        Arc::new(tags),
    ];
    let field = |name: &str, at: usize| Field::new(name, columns[at].data_type().clone(), true);
    let fields = vec![
        Field::new(KEY, DataType::Utf8, false),
        media::field("image", Modality::Image, media::State::Encoded),
        field("label", 2),
        field("seven", 3),
        field("tag", 4),
    ];
    with_ids("somewhere", &RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap())
        .unwrap()
}

/// A table of `SHARDS` shards of `ROWS` rows.
async fn write(path: &str) {
    let table = sink::TableOptions::at(path).build().unwrap();
    let start = RunStart { run: "r1".into(), sink: "out".into(), overwrite: false };
    table.start(&start, &rows(0).schema()).await.unwrap();
    for number in 0..SHARDS {
        let part = PartName {
            run: "r1".into(),
            sink: "out".into(),
            commit: number,
            epoch: number,
            lane: 0,
            generation: None,
        };
        let mut writer = table.writer(&part, &rows(0).schema(), &Compute::inline()).unwrap();
        writer.write(rows(number * ROWS)).await.unwrap();
        let shard = writer.finish().await.unwrap().unwrap();
        let commit = Commit {
            run: "r1".into(),
            number,
            generation: 1,
            epochs: number..number + 1,
            cuts: Vec::new(),
            decisions: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            shards: BTreeMap::from([("out".to_owned(), vec![shard])]),
            last: number + 1 == SHARDS,
            written: 0,
        };
        table.commit(&start, &commit).await.unwrap();
    }
}

fn shuffled(path: &str) -> ReadOptions {
    ReadOptions { shuffle: Some(5), window: ByteSize(80_000), ..ReadOptions::at(path) }
}

/// All records of some positions, and all damage.
async fn read(
    table: &TableReader,
    positions: Range<u64>,
) -> (Vec<(u64, RowAt, String)>, Vec<Damage>) {
    let (mut found, mut damage) = (Vec::new(), Vec::new());
    let mut at = positions.start;
    while at < positions.end {
        let (window, new) = table.window(at).await.unwrap().unwrap();
        let held = at..window.positions().end.min(positions.end);
        let picks: Vec<Pick> = held.clone().map(|at| window.pick(at)).collect();
        let batch = window.gather(&picks).unwrap();
        assert_eq!(&batch.schema(), table.schema());
        let keys = batch.column_by_name(KEY).unwrap().as_string::<i32>();
        let given = picks.iter().zip(keys);
        found.extend(given.map(|(pick, key)| {
            (pick.position, window.row_of(pick).unwrap(), key.unwrap().to_owned())
        }));
        damage.extend(new);
        at = held.end;
    }
    (found, damage)
}

#[test]
fn every_record_comes_once_as_it_was_written() {
    block_on(async {
        let path = "memory://read-once/table";
        write(path).await;
        let table = TableReader::open(shuffled(path)).await.unwrap();
        assert_eq!((table.rows(), table.shards()), (SHARDS * ROWS, SHARDS as usize));
        assert_eq!((table.constant("seven"), table.constant("label")), (Some(7), None));
        let (found, damage) = read(&table, 0..240).await;
        assert_eq!(damage, []);
        for pass in found.chunks(120) {
            let keys: BTreeSet<&String> = pass.iter().map(|(_, _, key)| key).collect();
            assert_eq!(keys.len(), 120);
        }
        let (window, _) = table.window(17).await.unwrap().unwrap();
        let batch = window.gather(&[window.pick(17)]).unwrap();
        let label = batch.column_by_name("label").unwrap().as_primitive::<UInt16Type>().value(0);
        assert_eq!(found[17].2, format!("k{label:03}"));
        let bytes = media::bytes(media::of(&batch, "image").unwrap(), 0).unwrap();
        assert_eq!(bytes, vec![label as u8; 500 + label as usize]);
        let tag = batch.column_by_name("tag").unwrap().as_string::<i32>().value(0);
        assert_eq!(tag, ["even", "odd"][label as usize % 2]);
        assert_eq!(batch.schema().field(0), &Field::new(ID, DataType::FixedSizeBinary(16), false));
        // Begun anywhere, it goes on the same.
        let again = TableReader::open(shuffled(path)).await.unwrap();
        assert_eq!(read(&again, 133..240).await.0, found[133..]);
        // And in the table's own order without a seed.
        let plain = TableReader::open(ReadOptions::at(path)).await.unwrap();
        let keys: Vec<String> =
            read(&plain, 0..120).await.0.into_iter().map(|(_, _, key)| key).collect();
        assert!(keys.is_sorted() && keys.len() == 120);
    });
}

#[test]
fn the_order_does_not_depend_on_the_columns() {
    block_on(async {
        let path = "memory://read-columns/table";
        write(path).await;
        let (whole, _) = read(&TableReader::open(shuffled(path)).await.unwrap(), 0..120).await;
        let columns = Some(vec!["label".to_owned(), KEY.to_owned()]);
        let two = TableReader::open(ReadOptions { columns, ..shuffled(path) }).await.unwrap();
        assert_eq!(
            two.schema().fields().iter().map(|f| f.name().as_str()).collect::<Vec<_>>(),
            ["label", KEY]
        );
        assert_eq!(read(&two, 0..120).await.0, whole);
        let columns = Some(vec!["lable".to_owned()]);
        let error =
            TableReader::open(ReadOptions { columns, ..shuffled(path) }).await.err().unwrap();
        assert_eq!(error.to_string(), "the table has no column `lable`; is `label` meant?");
    });
}

/// Overwrites a shard with what `change` makes of it.
async fn damage(
    path: &str,
    table: &TableReader,
    shard: usize,
    change: impl FnOnce(&mut Vec<u8>),
) -> String {
    let shard = &table.shards[shard];
    let location = Location::parse(path).unwrap().join(&shard.name);
    let mut bytes =
        location.store.get(&location.path).await.unwrap().bytes().await.unwrap().to_vec();
    change(&mut bytes);
    location.store.put(&location.path, PutPayload::from(bytes)).await.unwrap();
    shard.name.clone()
}

#[test]
fn damage_costs_its_own_records_alone() {
    block_on(async {
        let path = "memory://read-damage/table";
        write(path).await;
        let table = TableReader::open(shuffled(path)).await.unwrap();
        let (whole, _) = read(&table, 0..240).await;
        let changes: [fn(&mut Vec<u8>); 4] = [
            |bytes| bytes[600] ^= 1,
            |bytes| bytes.truncate(9000),
            |bytes| bytes.clear(),
            |bytes| {
                let end = bytes.len();
                bytes[end - 40..].fill(0);
            },
        ];
        let mut damaged = Vec::new();
        for (shard, change) in changes.into_iter().enumerate() {
            damaged.push(damage(path, &table, shard, change).await);
            let (found, damage) = read(&table, 0..240).await;
            for (seen, expected) in found.iter().zip(&whole) {
                let lost = damaged.iter().any(|name| **name == *expected.1.shard);
                assert!(!damaged.iter().any(|name| **name == *seen.1.shard), "{seen:?}");
                assert!(lost || seen == expected, "{seen:?} is not {expected:?}");
            }
            let quarantined: BTreeSet<&str> =
                damage.iter().map(|damage| damage.shard.as_str()).collect();
            assert_eq!(quarantined, damaged.iter().map(String::as_str).collect());
            // Whoever opens it anew, and begins elsewhere, sees the same.
            let again = TableReader::open(shuffled(path)).await.unwrap();
            assert_eq!(read(&again, 50..200).await.0, found[50..200]);
        }
        // In the order of the table a window is a block: others stand in from the next that can be read.
        let plain = TableReader::open(ReadOptions::at(path)).await.unwrap();
        let (found, damage) = read(&plain, 0..120).await;
        assert_eq!(damage.len(), 4);
        assert!(found[..80].iter().all(|(_, row, _)| *row.shard == *table.shards[4].name));
    });
}

#[test]
fn nothing_left_to_read_is_an_error() {
    block_on(async {
        let path = "memory://read-nothing/table";
        write(path).await;
        let table = TableReader::open(shuffled(path)).await.unwrap();
        for shard in 0..SHARDS as usize {
            damage(path, &table, shard, Vec::clear).await;
        }
        let error = table.window(3).await.err().unwrap().to_string();
        assert!(error.contains("none of its shards can be read; the first one: `data/"), "{error}");
    });
}
