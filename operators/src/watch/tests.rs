//! The alarm is raised when it should, and the same rows come out however the losses came.

use super::*;
use crate::conformance::graph;
use anabranch_pipelines::operator::Yield;
use anabranch_pipelines::record::{KEY, with_ids};
use arrow::array::{ArrayRef, AsArray, Float64Array, StringArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema};

fn operator(every: u64) -> Arc<dyn Operator> {
    let options = serde_json::json!({ "column": "loss", "max_loss": "1%", "every": every });
    serde_json::from_value::<WatchOptions>(options).unwrap().build().unwrap()
}

/// A record for each loss, one in ten of them without.
fn batch(losses: &[f64]) -> RecordBatch {
    let keys: StringArray = (0..losses.len()).map(|at| Some(format!("{at:06}"))).collect();
    let known = losses.iter().enumerate().map(|(at, loss)| (at % 10 != 3).then_some(*loss));
    let columns: [(&str, ArrayRef); 2] =
        [(KEY, Arc::new(keys)), ("loss", Arc::new(known.collect::<Float64Array>()))];
    with_ids("losses", &RecordBatch::try_from_iter(columns).unwrap()).unwrap()
}

/// So many losses of which every 500th is lost, and then of which every fifth is.
fn drifting(quiet: usize, loud: usize) -> Vec<f64> {
    let lost = |every: usize| move |at: usize| f64::from(u8::from(at.is_multiple_of(every)));
    (0..quiet).map(lost(500)).chain((0..loud).map(lost(5))).collect()
}

/// What comes out when losses come in epochs of so many, through snapshots as after kills.
fn rows(operator: &Arc<dyn Operator>, losses: &RecordBatch, epoch: usize) -> RecordBatch {
    let keyed = operator.keyed().unwrap();
    assert!(keyed.hashes(0, losses).unwrap().values().iter().all(|hash| *hash == 0));
    let inputs = [losses.schema()];
    let mut shard = keyed.shard(&inputs).unwrap();
    let mut all = Vec::new();
    for at in (0..losses.num_rows()).step_by(epoch) {
        let length = epoch.min(losses.num_rows() - at);
        let Yield { records, refused } = shard.absorb(0, &losses.slice(at, length)).unwrap();
        assert!(refused.is_empty());
        all.extend(records);
        let snapshot = shard.snapshot().unwrap();
        let mut again = keyed.shard(&inputs).unwrap();
        again.restore(&snapshot).unwrap();
        assert_eq!((again.snapshot().unwrap(), again.bytes()), (snapshot, shard.bytes()));
        shard = again;
    }
    all.extend(shard.finish().unwrap().records);
    concat_batches(&operator.output(&inputs).unwrap(), &all).unwrap()
}

fn whole(rows: &RecordBatch, column: &str) -> Vec<i64> {
    rows.column_by_name(column).unwrap().as_primitive::<Int64Type>().values().to_vec()
}

fn number(rows: &RecordBatch, column: &str) -> Vec<f64> {
    rows.column_by_name(column).unwrap().as_primitive::<Float64Type>().values().to_vec()
}

fn alarms(rows: &RecordBatch) -> Vec<bool> {
    let alarms = rows.column_by_name("alarm").unwrap().as_boolean();
    (0..rows.num_rows()).map(|row| alarms.value(row)).collect()
}

#[test]
fn an_alarm_is_raised_soon_after_records_change_and_stays() {
    let losses = batch(&drifting(5_000, 1_000));
    let operator = operator(100);
    let found = rows(&operator, &losses, 6_000);
    let (records, alarms) = (whole(&found, "records"), alarms(&found));
    let raised = alarms.iter().position(|alarm| *alarm).unwrap();
    // Nine of ten were watched.
    let after = records[raised] - 4_500;
    assert!((0..250).contains(&after), "{after}");
    assert!(alarms[raised..].iter().all(|alarm| *alarm));
    // Every hundredth record has a row, counted from the last one, and the alarm has one of its own.
    assert!(records.windows(2).all(|pair| pair[1] - pair[0] <= 100));
    assert!(records[..raised].iter().all(|records| records % 100 == 0));
    assert_eq!(records.last(), Some(&5_400));
    let (evidence, loss) = (number(&found, "evidence"), number(&found, "loss"));
    assert!(evidence[raised] >= 20.0 && evidence[..raised].iter().all(|of| *of < 20.0));
    let lost = (0..6_000).filter(|at| at % 10 != 3);
    let lost: f64 = lost.map(|at| drifting(5_000, 1_000)[at]).sum();
    assert!((loss.last().unwrap() - lost / 5_400.0).abs() < 1e-12);
    assert!(number(&found, "recent_loss").last().unwrap() > &0.1);
    // Epochs and kills change nothing.
    for epoch in [1, 7, 100, 999] {
        let quick = batch(&drifting(300, 150));
        let whole = rows(&operator, &quick, 450);
        assert_eq!(rows(&operator, &quick, epoch), whole, "epochs of {epoch}");
    }
}

#[test]
fn any_number_of_workers_gives_the_same_rows() {
    let losses = batch(&drifting(200, 100));
    let operator = operator(50);
    let schema = operator.output(&[losses.schema()]).unwrap();
    let expected = rows(&operator, &losses, 300);
    assert!(alarms(&expected).contains(&true));
    for (workers, size) in [(1, 64), (4, 7)] {
        let delivered = graph::run(&operator, &losses, &schema, (workers, size)).unwrap();
        assert_eq!(delivered.records, expected, "{workers} workers");
    }
}

#[test]
fn options_columns_and_snapshots_that_are_none_are_told() {
    let build =
        |json: serde_json::Value| serde_json::from_value::<WatchOptions>(json).unwrap().build();
    let told = |json| build(json).err().map(|error| error.0).unwrap();
    assert!(told(serde_json::json!({ "column": "loss", "max_loss": 0 })).contains("max_loss"));
    assert!(told(serde_json::json!({ "column": "loss", "confidence": 1 })).contains("confidence"));
    assert!(told(serde_json::json!({ "column": "loss", "every": 0 })).contains("every"));
    let watch = build(serde_json::json!({ "column": "loss" })).unwrap();
    let output = |field: Field| watch.output(&[Arc::new(Schema::new(vec![field]))]);
    let plain = || Field::new("loss", DataType::Float64, true);
    assert!(output(plain()).unwrap_err().to_string().contains("say `max_loss"));
    let said = [(MAX_LOSS_KEY.to_owned(), "0.02".to_owned())];
    assert!(output(plain().with_metadata(said)).is_ok());
    let text = output(Field::new("loss", DataType::Utf8, true)).unwrap_err().to_string();
    assert!(text.contains("numbers from -1 to 1"), "{text}");
    let losses = batch(&drifting(100, 0));
    let one = operator(10);
    let mut shard = one.keyed().unwrap().shard(&[losses.schema()]).unwrap();
    shard.absorb(0, &losses).unwrap();
    let snapshot = shard.snapshot().unwrap();
    let restore = |bytes: &[u8], of: &str| {
        let other = build(serde_json::json!({ "column": "loss", "max_loss": of })).unwrap();
        let mut shard = other.keyed().unwrap().shard(&[losses.schema()]).unwrap();
        shard.restore(bytes).map_err(|error| error.to_string())
    };
    assert!(restore(&snapshot, "1%").is_ok());
    assert!(restore(&snapshot, "2%").unwrap_err().contains("another loss"));
    for end in [0, 8, 16, 100, snapshot.len() - 1] {
        assert!(restore(&snapshot[..end], "1%").is_err(), "{end} bytes");
    }
    let mut later = snapshot;
    later[8] = 9;
    assert!(restore(&later, "1%").unwrap_err().contains("version 9"));
}
