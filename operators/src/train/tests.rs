use std::collections::BTreeMap;
use std::sync::Arc;

use anabranch_models::artifact::{Artifact, Values};
use anabranch_models::engine::Engine;
use anabranch_pipelines::operator::{Shard, Yield};
use anabranch_pipelines::record::{KEY, Modality, RecordId, media, with_ids};
use arrow::array::{
    Array, ArrayRef, AsArray, Float32Builder, Int8Builder, Int32Array, Int32Builder, Int64Array,
    ListBuilder, RecordBatch, StringArray,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema};
use serde_json::json;

use super::holdout::Holdout;
use super::{TrainOptions, row};

fn options(more: serde_json::Value) -> TrainOptions {
    let mut options = json!({
        "width": 8, "heads": 2, "layers": 1, "batch": 4, "steps": 12, "every": 5, "warm_up": 0, "rate": 0.01,
        "feed_forward": { "rows": { "nodes": 2, "inputs": 2, "wires": "axis" } },
    });
    options.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
    serde_json::from_value(options).unwrap()
}

fn text() -> TrainOptions {
    options(json!({ "tokens": { "vocabulary": 8, "context": 4 }, "holdout": 0.2, "reservoir": 16 }))
}

/// Records of counted tokens; `odd` puts one that the model does not know into that record.
fn texts(records: usize, odd: Option<usize>) -> RecordBatch {
    let mut lists = ListBuilder::new(Int32Builder::new()).with_field(Field::new(
        "element",
        DataType::Int32,
        false,
    ));
    for record in 0..records {
        for token in 0..10 {
            let known = ((record * 3 + token) % 8) as i32;
            lists.values().append_value(if odd == Some(record) && token == 7 { 8 } else { known });
        }
        lists.append(true);
    }
    let keys: StringArray = (0..records).map(|record| Some(format!("r{record:03}"))).collect();
    let columns = [(KEY, Arc::new(keys) as ArrayRef), ("tokens", Arc::new(lists.finish()))];
    with_ids("texts", &RecordBatch::try_from_iter(columns).unwrap()).unwrap()
}

/// Pictures of 2x2 whose brightness tells their class; some have another size or no such class.
fn pictures(records: usize, sizes: impl Fn(usize) -> i32, classes: i64) -> RecordBatch {
    let bytes: Vec<Vec<u8>> = (0..records)
        .map(|record| vec![(record % 2 * 200) as u8; 2 * sizes(record) as usize])
        .collect();
    let image =
        media::column(bytes.iter().map(|b| Some(b.as_slice())).collect(), vec![None; records]);
    let mut fields = vec![
        Field::new(KEY, DataType::Utf8, false),
        media::field("image", Modality::Image, media::State::Decoded),
    ];
    fields.extend(media::fact_fields("image", Modality::Image));
    fields.push(Field::new("label", DataType::Int64, true));
    let keys: StringArray = (0..records).map(|record| Some(format!("p{record}"))).collect();
    let labels = (0..records as i64).map(|r| if r == 5 { classes } else { r % 2 });
    let columns: Vec<ArrayRef> = vec![
        Arc::new(keys),
        Arc::new(image),
        Arc::new(StringArray::from(vec!["raw"; records])),
        Arc::new(Int32Array::from(vec![2; records])),
        Arc::new((0..records).map(|record| Some(sizes(record))).collect::<Int32Array>()),
        Arc::new(Int32Array::from(vec![1; records])),
        Arc::new(Int64Array::from_iter_values(labels)),
    ];
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    with_ids("pictures", &batch).unwrap()
}

struct Made {
    rows: RecordBatch,
    refused: Vec<String>,
}

impl Made {
    fn column(&self, name: &str) -> &ArrayRef {
        self.rows.column_by_name(name).unwrap()
    }

    fn floats(&self, name: &str) -> Vec<Option<f64>> {
        self.column(name).as_primitive::<Float64Type>().iter().collect()
    }

    fn steps(&self) -> Vec<i64> {
        self.column("step").as_primitive::<Int64Type>().values().to_vec()
    }

    /// Artifacts by key, each of which opens and runs.
    fn artifacts(&self) -> BTreeMap<String, Artifact> {
        let (cards, weights) = (self.column("card.json"), self.column("weights.safetensors"));
        let there = (0..cards.len()).filter(|row| cards.is_valid(*row));
        there
            .map(|row| {
                let card = cards.as_string::<i32>().value(row).as_bytes();
                let weights = weights.as_binary::<i32>().value(row);
                let artifact = Artifact::from_bytes(card, weights).unwrap();
                Engine::load(&artifact).unwrap();
                (self.column(KEY).as_string::<i32>().value(row).to_owned(), artifact)
            })
            .collect()
    }
}

/// Trains on records that come in epochs of so many; `through` may replace the shard between epochs.
fn train(
    options: &TrainOptions,
    records: &RecordBatch,
    epoch: usize,
    through: impl Fn(Box<dyn Shard>) -> Box<dyn Shard>,
) -> Made {
    let operator = options.clone().build().unwrap();
    operator.output(&[records.schema()]).unwrap();
    let mut shard = operator.keyed().unwrap().shard(&[records.schema()]).unwrap();
    let (mut rows, mut refused) = (Vec::new(), Vec::new());
    let mut take = |made: Yield| {
        rows.extend(made.records);
        refused.extend(made.refused.into_iter().map(|(row, error)| {
            format!("{}: {error}", row.column_by_name(KEY).unwrap().as_string::<i32>().value(0))
        }));
    };
    for from in (0..records.num_rows()).step_by(epoch) {
        let some = records.slice(from, epoch.min(records.num_rows() - from));
        take(shard.absorb(0, &some).unwrap());
        assert!(shard.bytes() * 2 <= operator.keyed().unwrap().memory());
        shard = through(shard);
    }
    take(shard.finish().unwrap());
    Made { rows: concat_batches(&row::schema(), &rows).unwrap(), refused }
}

#[test]
fn rows_tell_a_loss_that_falls_and_the_last_has_an_artifact() {
    let made = train(&text(), &texts(60, None), 7, |shard| shard);
    assert_eq!(made.refused, [""; 0]);
    assert_eq!(made.steps(), [5, 10, 12]);
    let loss = made.floats("loss");
    assert!(loss[2] < loss[0], "{loss:?}");
    assert!(made.floats("validation_loss").iter().all(|loss| loss.is_some_and(f64::is_finite)));
    assert_eq!(made.floats("accuracy"), [None; 3]);
    let artifacts = made.artifacts();
    let (key, artifact) = artifacts.first_key_value().unwrap();
    assert_eq!((artifacts.len(), key.as_str()), (1, "model-step-00000012"));
    let training = &artifact.card().training;
    assert_eq!((training.steps, training.seed), (12, 1));
    assert_eq!(training.tasks, ["next token"]);
    assert!(training.data_commit.contains(" records, chained SHA-256"), "{training:?}");
}

#[test]
fn kills_and_the_size_of_epochs_change_nothing() {
    for options in [text(), TrainOptions { reservoir: 0, artifacts_every: Some(4), ..text() }] {
        let records = texts(60, None);
        let whole = train(&options, &records, 60, |shard| shard);
        let operator = options.clone().build().unwrap();
        let killed = train(&options, &records, 7, |shard| {
            let snapshot = shard.snapshot().unwrap();
            let mut again = operator.keyed().unwrap().shard(&[records.schema()]).unwrap();
            again.restore(&snapshot).unwrap();
            assert_eq!((again.bytes(), again.snapshot().unwrap()), (shard.bytes(), snapshot));
            again
        });
        assert_eq!(whole.rows, killed.rows);
        let keys: Vec<_> = whole.column(KEY).as_string::<i32>().iter().flatten().collect();
        assert!(keys.windows(2).all(|pair| pair[0] < pair[1]), "{keys:?}");
    }
}

#[test]
fn another_seed_is_another_model() {
    let records = texts(60, None);
    let of = |seed| {
        let made = train(&TrainOptions { seed, ..text() }, &records, 60, |shard| shard);
        made.artifacts().into_values().next().unwrap()
    };
    assert_eq!(of(1), of(1));
    assert_ne!(of(1).tensors(), of(2).tensors());
}

#[test]
fn artifacts_have_tables_of_the_bits_asked_for() {
    for (table_bits, largest) in [(8, 127), (4, 7)] {
        let options = TrainOptions { table_bits, ..text() };
        let made = train(&options, &texts(60, None), 60, |shard| shard);
        let (_, artifact) = made.artifacts().pop_first().unwrap();
        assert_eq!(artifact.card().table_bits, table_bits);
        let table = artifact.tensors().iter().find(|(name, _)| name.ends_with("rows.table"));
        let Values::I8(values) = table.unwrap().1.values() else { panic!("no table of bytes") };
        assert_eq!(values.iter().map(|value| value.abs()).max(), Some(largest));
    }
    let error = TrainOptions { table_bits: 6, ..text() }.build().err().unwrap();
    assert_eq!(error.to_string(), "`table_bits` is 8 or 4");
}

#[test]
fn records_that_the_model_cannot_take_are_refused_by_name() {
    let made = train(&text(), &texts(60, Some(9)), 60, |shard| shard);
    let error =
        "r009: token 8 at position 7 of its `tokens` is unknown to a model with a vocabulary of 8";
    assert_eq!(made.refused, [error]);

    let options = options(json!({
        "image": { "width": 2, "height": 2, "channels": 1, "patch": 2 }, "label": { "classes": 2 },
        "feed_forward": "mlp", "holdout": 0.3, "steps": 8,
    }));
    let sizes = |record| if record == 3 { 3 } else { 2 };
    let made = train(&options, &pictures(60, sizes, 2), 60, |shard| shard);
    let says =
        ["p3: its picture is 2x3 with 1 channels", "p5: its label 2 is none of the 2 classes"];
    assert_eq!(made.refused.len(), 2, "{:?}", made.refused);
    assert!(made.refused.iter().zip(says).all(|(error, says)| error.starts_with(says)));
    // Black and bright are told apart, and the card says how surely.
    let accuracy = made.floats("accuracy").last().unwrap().unwrap();
    let low = made.floats("accuracy_low").last().unwrap().unwrap();
    assert!(low < accuracy && accuracy <= 1.0);
    let artifact = made.artifacts().into_values().next().unwrap();
    let measured = &artifact.card().accuracy[0];
    assert_eq!((measured.task.as_str(), measured.measure.as_str()), ("classify label", "accuracy"));
    assert!(measured.interval[0] < measured.value, "{measured:?}");
}

/// Latents of one channel at 2x2 positions that tell their class; one has another size.
fn latents(records: usize) -> RecordBatch {
    let field = Field::new("element", DataType::Int8, true);
    let mut lists = ListBuilder::new(Int8Builder::new()).with_field(field.clone());
    for record in 0..records {
        let count = if record == 3 { 3 } else { 4 };
        lists.append_value((0..count).map(|_| Some(if record % 2 == 0 { -30 } else { 3 })));
    }
    let list = Field::new("image", DataType::List(Arc::new(field)), true);
    let keys: StringArray = (0..records).map(|record| Some(format!("l{record}"))).collect();
    let labels = Int64Array::from_iter_values((0..records as i64).map(|record| record % 2));
    let fields = vec![
        Field::new(KEY, DataType::Utf8, false),
        Modality::Latent.mark(list),
        Field::new("label", DataType::Int64, true),
    ];
    let columns: Vec<ArrayRef> = vec![Arc::new(keys), Arc::new(lists.finish()), Arc::new(labels)];
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    with_ids("latents", &batch).unwrap()
}

#[test]
fn latents_are_learned_from_as_they_are() {
    let options = options(json!({
        "image": { "width": 2, "height": 2, "channels": 1, "patch": 1 }, "label": { "classes": 2 },
        "feed_forward": "mlp", "holdout": 0.3, "steps": 12,
    }));
    let made = train(&options, &latents(80), 80, |shard| shard);
    assert_eq!(made.refused.len(), 1, "{:?}", made.refused);
    assert!(made.refused[0].starts_with("l3: its latents are"), "{}", made.refused[0]);
    assert_eq!(made.floats("accuracy").last().unwrap().unwrap(), 1.0);
}

/// Spectra of two values, the larger the later.
fn sounds(values: &[f32]) -> RecordBatch {
    let mut lists = ListBuilder::new(Float32Builder::new());
    for value in values {
        lists.append_value([Some(*value), Some(*value)]);
    }
    let keys: StringArray = (0..values.len()).map(|record| Some(format!("s{record}"))).collect();
    let columns = [
        (KEY, Arc::new(keys) as ArrayRef),
        ("audio", Arc::new(lists.finish())),
        ("label", Arc::new(Int64Array::from(vec![0; values.len()]))),
    ];
    with_ids("sounds", &RecordBatch::try_from_iter(columns).unwrap()).unwrap()
}

#[test]
fn a_loss_that_is_no_number_names_the_step_and_its_records() {
    let options = options(json!({
        "audio": { "frames": 1, "bands": 2, "frames_per_token": 1 }, "label": { "classes": 2 }, "holdout": 0.0,
    }));
    let operator = options.build().unwrap();
    // Numbers, but their sums are none.
    let records = sounds(&[1.0, 1.0, 1.0, 1.0, 1.0, f32::MAX, f32::MAX, 1.0]);
    let mut shard = operator.keyed().unwrap().shard(&[records.schema()]).unwrap();
    let error = shard.absorb(0, &records).unwrap_err().to_string();
    assert!(error.contains("step 1: the loss is NaN"), "{error}");
    assert!(error.ends_with("its examples are of the records s4, s5, s6, s7"), "{error}");
    // What is no number to begin with is refused.
    let records = sounds(&[1.0, f32::NAN]);
    let mut shard = operator.keyed().unwrap().shard(&[records.schema()]).unwrap();
    assert!(shard.absorb(0, &records).unwrap().refused[0].1.contains("are no numbers"));
}

#[test]
fn inputs_without_a_step_are_an_error_and_not_an_untrained_model() {
    let operator = text().build().unwrap();
    let records = texts(2, None);
    let mut shard = operator.keyed().unwrap().shard(&[records.schema()]).unwrap();
    shard.absorb(0, &records.slice(0, 1)).unwrap();
    let error = shard.finish().unwrap_err().to_string();
    assert!(error.contains("before the first step") && error.contains("`batch`"), "{error}");
}

#[test]
fn options_that_make_no_training_say_why() {
    let tokens = json!({ "vocabulary": 8, "context": 4 });
    for (more, says) in [
        (json!({}), "say what the model takes"),
        (json!({ "tokens": tokens, "label": { "classes": 2 } }), "takes no `label`"),
        (json!({ "text": { "vocabulary": 8 } }), "say what the model predicts"),
        (json!({ "tokens": tokens, "width": 9 }), "not divisible"),
        (json!({ "tokens": tokens, "reservoir": 3 }), "as large as `batch`"),
        (json!({ "tokens": tokens, "memory": "4KiB" }), "is too little"),
        (json!({ "tokens": tokens, "name": "../up" }), "`name` is"),
        (json!({ "text": { "vocabulary": 8 }, "label": {} }), "`classes` or `names`"),
    ] {
        let error = options(more.clone()).build().err().expect("an error").to_string();
        assert!(error.contains(says), "{more}: {error}");
    }
    let operator = text().build().unwrap();
    let error = operator.output(&[pictures(1, |_| 2, 2).schema()]).unwrap_err().to_string();
    assert!(error.contains("there is no column `tokens`"), "{error}");
}

#[test]
fn a_damaged_snapshot_is_told_and_never_a_panic() {
    let operator = text().build().unwrap();
    let records = texts(20, None);
    let shard = || operator.keyed().unwrap().shard(&[records.schema()]).unwrap();
    let mut first = shard();
    first.absorb(0, &records).unwrap();
    let snapshot = first.snapshot().unwrap();
    for end in (0..snapshot.len()).step_by(97) {
        assert!(shard().restore(&snapshot[..end]).is_err(), "cut off at {end}");
    }
    let longer = [snapshot.as_slice(), &[0]].concat();
    assert!(shard().restore(&longer).unwrap_err().to_string().contains("something follows"));
}

#[test]
fn several_modalities_may_be_missing_one_by_one() {
    let options = options(json!({
        "image": { "width": 2, "height": 2, "channels": 1, "patch": 2 },
        "text": { "vocabulary": 8, "length": 3 }, "label": { "classes": 2 }, "modality_dropout": 0.3,
        "holdout": 0.2,
    }));
    let pictures = pictures(60, |_| 2, 1);
    let texts = texts(60, None);
    let mut fields = pictures.schema().fields().to_vec();
    let tokens = texts.column_by_name("tokens").unwrap();
    let missing = arrow::compute::nullif(
        tokens,
        &(0..60).map(|row| Some(row % 3 == 0)).collect::<arrow::array::BooleanArray>(),
    )
    .unwrap();
    fields.push(Arc::new(Field::new("tokens", tokens.data_type().clone(), true)));
    let columns = pictures.columns().iter().cloned().chain([missing]).collect();
    let both = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    // Examples of a step have the same modalities, and a rest takes none.
    let options = TrainOptions { steps: 100, ..options };
    let ids = (0..60).map(|row| (row % 3, RecordId::of_row(&both, row).unwrap()));
    let (mut one, mut two) = (0, 0);
    for (row, _) in ids.filter(|(_, id)| !Holdout::takes(*id, 0.2)) {
        *(if row == 0 { &mut one } else { &mut two }) += 1;
    }
    let made = train(&options, &both, 11, |shard| shard);
    assert_eq!(made.refused, [""; 0]);
    assert_eq!(made.steps().last(), Some(&(one / 4 + two / 4)));
    assert_eq!(made.artifacts().len(), 1);
}
