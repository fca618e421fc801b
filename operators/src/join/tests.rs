//! A join against a nested loop.

use std::collections::BTreeMap;

use anabranch_pipelines::operator::Yield;
use anabranch_pipelines::record::RecordId;
use arrow::array::{Array, AsArray, FixedSizeBinaryArray, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use proptest::prelude::*;

use super::*;

/// A row: its key, if it has one, and a number that tells it from all others.
type Row = (Option<i64>, i64);

fn schema(value: &str) -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::FixedSizeBinary(16), false),
        Field::new("key", DataType::Utf8, false),
        Field::new("on", DataType::Int64, true),
        Field::new(value, DataType::Int64, false),
    ]))
}

fn id(side: &str, number: i64) -> [u8; 16] {
    RecordId::new(side, &number.to_string()).0
}

fn batch(side: &str, rows: &[Row]) -> RecordBatch {
    let ids = FixedSizeBinaryArray::try_from_sparse_iter_with_size(
        rows.iter().map(|(_, number)| Some(id(side, *number))),
        16,
    );
    RecordBatch::try_new(
        schema(side),
        vec![
            Arc::new(ids.unwrap()),
            Arc::new(StringArray::from_iter_values(rows.iter().map(|(_, n)| n.to_string()))),
            Arc::new(rows.iter().map(|(key, _)| *key).collect::<Int64Array>()),
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|(_, number)| *number))),
        ],
    )
    .unwrap()
}

/// What came out: (left number, right number) of joined rows with their ids, and refused rows.
#[derive(Debug, Default, PartialEq, Eq)]
struct Joined {
    rows: Vec<(i64, Option<i64>, [u8; 16])>,
    refused: Vec<i64>,
}

impl Joined {
    fn add(&mut self, made: Yield) {
        for batch in made.records {
            let left = batch.column_by_name("left").unwrap().as_primitive::<Int64Type>().clone();
            let right = batch.column_by_name("right").unwrap().as_primitive::<Int64Type>().clone();
            let ids = batch.column_by_name("id").unwrap().as_fixed_size_binary().clone();
            for row in 0..batch.num_rows() {
                let right = right.is_valid(row).then(|| right.value(row));
                self.rows.push((left.value(row), right, ids.value(row).try_into().unwrap()));
            }
        }
        for (row, _) in made.refused {
            assert_eq!(row.num_rows(), 1);
            self.refused.push(row.column(3).as_primitive::<Int64Type>().value(0));
        }
    }

    fn sorted(mut self) -> Self {
        self.rows.sort_unstable();
        self.refused.sort_unstable();
        self
    }
}

/// Feeds the rows in epochs of so many, each side at its own pace, through shards as a run would.
fn run(options: &JoinOptions, left: &[Row], right: &[Row], paces: (usize, usize)) -> Joined {
    let join = Join { options: options.clone() };
    let inputs = [schema("left"), schema("right")];
    let mut shards: BTreeMap<u64, Box<dyn Shard>> = BTreeMap::new();
    let mut result = Joined::default();
    let (mut lefts, mut rights) = (left.chunks(paces.0), right.chunks(paces.1));
    loop {
        let epoch = [lefts.next(), rights.next()];
        if epoch.iter().all(Option::is_none) {
            break;
        }
        for (input, rows) in epoch.into_iter().enumerate() {
            let rows = batch(["left", "right"][input], rows.unwrap_or_default());
            let hashes = join.hashes(input, &rows).unwrap();
            let mut split: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
            for (row, hash) in hashes.values().iter().enumerate() {
                // Few shards, so that several keys meet in one.
                split.entry(hash % 5).or_default().push(row as u64);
            }
            for (shard, some) in split {
                let shard = shards.entry(shard).or_insert_with(|| join.shard(&inputs).unwrap());
                let rows =
                    arrow::compute::take_record_batch(&rows, &UInt64Array::from(some)).unwrap();
                result.add(shard.absorb(input, &rows).unwrap());
                // Through a snapshot and back, as after a kill.
                let state = shard.snapshot().unwrap();
                let mut again = join.shard(&inputs).unwrap();
                if !state.is_empty() {
                    again.restore(&state).unwrap();
                }
                assert_eq!(again.snapshot().unwrap(), state);
                *shard = again;
            }
        }
    }
    shards.values_mut().for_each(|shard| result.add(shard.finish().unwrap()));
    result.sorted()
}

/// The same by a nested loop over whole inputs. Only `all`, and unique keys, are free of order.
fn nested_loop(options: &JoinOptions, left: &[Row], right: &[Row]) -> Joined {
    let all = options.matches == Matches::All;
    let mut result = Joined::default();
    let mut used = Vec::new();
    for (key, number) in left {
        let mut partners: Vec<i64> = right
            .iter()
            .filter(|(other, n)| key.is_some() && other == key && (all || !used.contains(n)))
            .map(|(_, number)| *number)
            .collect();
        if !all {
            partners.truncate(1);
        }
        if options.matches == Matches::One {
            used.extend(&partners);
        }
        let own = id("left", *number);
        for partner in &partners {
            let pair = RecordId::of_pair(&own, &id("right", *partner)).0;
            result.rows.push((*number, Some(*partner), if all { pair } else { own }));
        }
        if partners.is_empty() {
            match (options.how, options.unmatched) {
                (How::Left, _) => result.rows.push((*number, None, own)),
                (How::Inner, Unmatched::Refuse) => result.refused.push(*number),
                (How::Inner, Unmatched::Drop) => {}
            }
        }
    }
    if options.matches == Matches::One && options.unmatched == Unmatched::Refuse {
        result.refused.extend(right.iter().map(|(_, n)| *n).filter(|n| !used.contains(n)));
    }
    result.sorted()
}

fn rows(from: i64) -> impl Strategy<Value = Vec<Row>> {
    let key = prop_oneof![1 => Just(None), 9 => (0..20i64).prop_map(Some)];
    proptest::collection::vec(key, 0..60)
        .prop_map(move |keys| keys.into_iter().zip(from..).collect())
}

fn options() -> impl Strategy<Value = JoinOptions> {
    let how = prop_oneof![Just(How::Inner), Just(How::Left)];
    let matches = prop_oneof![Just(Matches::One), Just(Matches::Many), Just(Matches::All)];
    let unmatched = prop_oneof![Just(Unmatched::Refuse), Just(Unmatched::Drop)];
    (how, matches, unmatched).prop_map(|(how, matches, unmatched)| JoinOptions {
        how,
        matches,
        unmatched,
        ..JoinOptions::on(["on"])
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_join_is_a_nested_loop(
        options in options(),
        left in rows(0),
        mut right in rows(1000),
        paces in (1usize..40, 1usize..40),
    ) {
        if options.matches == Matches::Many {
            // Its right keys are unique; see the test of what becomes of others.
            let mut seen = std::collections::BTreeSet::new();
            right.retain(|(key, _)| key.is_none() || seen.insert(*key));
        }
        let should = nested_loop(&options, &left, &right);
        let is = run(&options, &left, &right, paces);
        if options.matches == Matches::One {
            // Which of several equal keys meet depends on the order of arrival, how many do not.
            prop_assert_eq!(is.rows.len(), should.rows.len());
            prop_assert_eq!(is.refused.len(), should.refused.len());
            let mut rights: Vec<_> = is.rows.iter().filter_map(|(_, right, _)| *right).collect();
            let pairs = rights.len();
            rights.sort_unstable();
            rights.dedup();
            prop_assert_eq!(rights.len(), pairs, "a right row met two left rows");
            let keys: BTreeMap<i64, Option<i64>> =
                left.iter().chain(&right).map(|(key, number)| (*number, *key)).collect();
            for (left, right, id_) in &is.rows {
                prop_assert!(right.is_none_or(|right| keys[&right] == keys[left]));
                prop_assert_eq!(*id_, id("left", *left));
            }
        } else {
            prop_assert_eq!(is, should);
        }
    }

    #[test]
    fn equal_keys_pair_up_in_order_of_arrival(keys in proptest::collection::vec(0..3i64, 0..40)) {
        let side = |from: i64| -> Vec<Row> {
            keys.iter().map(|key| Some(*key)).zip(from..).collect()
        };
        let (left, right) = (side(0), side(1000));
        let is = run(&JoinOptions::on(["on"]), &left, &right, (7, 7));
        prop_assert!(is.rows.iter().all(|(left, right, _)| *right == Some(left + 1000)));
        prop_assert_eq!(is.rows.len(), keys.len());
    }
}

#[test]
fn a_second_right_row_of_a_key_is_refused_where_it_must_be_unique() {
    let options = JoinOptions { matches: Matches::Many, ..JoinOptions::on(["on"]) };
    let right = [(Some(1), 1000), (Some(1), 1001), (Some(2), 1002)];
    let result = run(&options, &[(Some(1), 1), (Some(1), 2)], &right, (1, 1));
    let pairs: Vec<_> = result.rows.iter().map(|(left, right, _)| (*left, *right)).collect();
    assert_eq!(pairs, [(1, Some(1000)), (2, Some(1000))]);
    assert_eq!(result.refused, [1001]);
}

#[test]
fn rows_that_left_give_their_bytes_back() {
    let join = Join { options: JoinOptions::on(["on"]) };
    let mut shard = join.shard(&[schema("left"), schema("right")]).unwrap();
    let left: Vec<Row> = (0..1000).map(|n| (Some(n), n)).collect();
    for rows in left.chunks(10) {
        shard.absorb(0, &batch("left", rows)).unwrap();
    }
    let full = shard.bytes();
    assert!(full > 40_000);
    shard.absorb(1, &batch("right", &left[..900])).unwrap();
    assert!(shard.bytes() < full / 5, "{} of {full}", shard.bytes());
    shard.absorb(1, &batch("right", &left[900..])).unwrap();
    assert_eq!(shard.bytes(), 0);
    assert!(shard.snapshot().unwrap().is_empty());
}

#[test]
fn a_damaged_snapshot_is_an_error() {
    let join = Join { options: JoinOptions::on(["on"]) };
    let inputs = [schema("left"), schema("right")];
    let mut shard = join.shard(&inputs).unwrap();
    shard.absorb(0, &batch("left", &[(Some(1), 1), (Some(2), 2)])).unwrap();
    let state = shard.snapshot().unwrap();
    for cut in 0..state.len() {
        assert!(join.shard(&inputs).unwrap().restore(&state[..cut]).is_err(), "cut at {cut}");
    }
    let mut newer = state.clone();
    newer[8] = 9;
    let error = join.shard(&inputs).unwrap().restore(&newer).unwrap_err().to_string();
    assert_eq!(error, "the snapshot of a join is of version 9, this program reads 1");
    let other = [schema("left"), schema("other")];
    assert!(join.shard(&other).unwrap().restore(&state).is_err());
}

#[test]
fn columns_are_checked_before_anything_runs() {
    let join = |options: JoinOptions| Join { options };
    let inputs = [schema("left"), schema("right")];
    let on = || JoinOptions::on(["on"]);
    let names = |options: JoinOptions| -> Vec<String> {
        let schema = join(options).output(&inputs).unwrap();
        schema.fields().iter().map(|field| field.name().clone()).collect()
    };
    assert_eq!(names(on()), ["id", "key", "on", "left", "right"]);
    let prefixed = JoinOptions { prefix: "r_".into(), ..on() };
    assert_eq!(names(prefixed), ["id", "key", "on", "left", "r_key", "r_right"]);
    let left = join(JoinOptions { how: How::Left, ..on() }).output(&inputs).unwrap();
    assert!(left.field(4).is_nullable() && !left.field(3).is_nullable());

    let error = |options: JoinOptions, inputs: &[SchemaRef]| {
        join(options).output(inputs).unwrap_err().to_string()
    };
    let same = [schema("left"), schema("left")];
    let collides = error(on(), &same);
    assert!(collides.contains("a column `left`") && collides.contains("prefix"), "{collides}");
    let missing = error(JoinOptions::on(["onn"]), &inputs);
    assert!(missing.contains("did you mean `on`?"), "{missing}");
    let types = JoinOptions {
        on: Names::default(),
        left_on: ["on"].into(),
        right_on: ["key"].into(),
        ..on()
    };
    let types = error(types, &inputs);
    assert!(types.contains("column `key` is text, not of integers as `on`"), "{types}");
    let wrong = |on: Names, left_on: Names, right_on: Names| {
        let options = JoinOptions { on, left_on, right_on, ..JoinOptions::on(["x"]) };
        options.build().map(|_| ()).unwrap_err().to_string()
    };
    assert!(wrong(Names::default(), Names::default(), Names::default()).contains("give the key"));
    assert!(wrong(["a"].into(), ["b"].into(), ["c"].into()).contains("not both"));
    assert!(wrong(Names::default(), ["b"].into(), ["c", "d"].into()).contains("name as many"));
}
