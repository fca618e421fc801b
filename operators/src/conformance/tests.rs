//! Every operator of this crate, held to the suite.

use super::codec::Example;
use super::operator::{check, numbered};
use crate::codec::{self, Media, Pcm};
use crate::evaluate::EvaluateOptions;
use crate::rewrite::Column;
use crate::task::example;
use crate::{
    CropOptions, DecodeOptions, DigestOptions, EncodeOptions, FilterOptions, LoudnessOptions,
    MonoOptions, NormaliseOptions, QualityOptions, ResampleOptions, ResizeOptions, SelectOptions,
    SpectrumOptions, TokeniseOptions, TranscodeOptions, TrimOptions,
};
use anabranch_models::latent::{Fit, Options as Learning};
use anabranch_pipelines::executor::isolated::Recipe;
use anabranch_pipelines::operator::{Allocation, Context, Operator};
use anabranch_pipelines::record::{Modality, media};
use arrow::array::{Array, ArrayRef, ListArray, RecordBatch, StringArray};
use arrow::datatypes::{Field, Float32Type, Schema};
use serde::de::DeserializeOwned;
use std::sync::Arc;

const ROWS: usize = 100;

fn options<T: DeserializeOwned>(json: &str) -> T {
    serde_json::from_str(json).unwrap()
}

#[track_caller]
fn holds(operator: Arc<dyn Operator>, input: &RecordBatch) {
    let checked = check(&operator, input, &Context::plain(), rebuild);
    checked.unwrap_or_else(|failure| panic!("{failure}"));
}

fn rebuild(recipe: &Recipe) -> Result<Arc<dyn Operator>, String> {
    let options = recipe.options.clone();
    fn read<T: DeserializeOwned>(options: serde_json::Value) -> Result<T, String> {
        serde_json::from_value(options).map_err(|e| e.to_string())
    }
    let built = match recipe.kind.as_str() {
        "crop" => read::<CropOptions>(options)?.build(),
        "decode" => read::<DecodeOptions>(options)?.build(),
        "digest" => read::<DigestOptions>(options)?.build(),
        "encode" => read::<EncodeOptions>(options)?.build(),
        "evaluate" => read::<EvaluateOptions>(options)?.build(),
        "filter" => read::<FilterOptions>(options)?.build(),
        "loudness" => read::<LoudnessOptions>(options)?.build(),
        "mono" => read::<MonoOptions>(options)?.build(),
        "normalise" => read::<NormaliseOptions>(options)?.build(),
        "quality" => read::<QualityOptions>(options)?.build(),
        "resample" => read::<ResampleOptions>(options)?.build(),
        "resize" => read::<ResizeOptions>(options)?.build(),
        "select" => read::<SelectOptions>(options)?.build(),
        "spectrum" => read::<SpectrumOptions>(options)?.build(),
        "tokenise" => read::<TokeniseOptions>(options)?.build(),
        "transcode" => read::<TranscodeOptions>(options)?.build(),
        "trim" => read::<TrimOptions>(options)?.build(),
        "liar" if options == "is rebuilt as another" => return Ok(Arc::new(Liar("swaps rows"))),
        "liar" => return Ok(Arc::new(Liar("nothing"))),
        kind => return Err(format!("no operator `{kind}`")),
    };
    built.map_err(|e| e.to_string())
}

fn with(batch: &RecordBatch, field: Field, column: ArrayRef) -> RecordBatch {
    let mut fields: Vec<Arc<Field>> = batch.schema().fields().iter().cloned().collect();
    fields.push(Arc::new(field));
    let mut columns = batch.columns().to_vec();
    columns.push(column);
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

/// Files of all codecs of a modality, with missing, damaged and unreadable ones among them.
fn files(modality: Modality) -> RecordBatch {
    let codecs: Vec<_> = codec::encoders().filter(|codec| codec.modality() == modality).collect();
    let file = |row: usize| {
        let Example { samples, facts } = match modality {
            Modality::Image => Example::picture(8 + row as u32 % 9, 6 + row as u32 % 4, 3),
            _ => Example::sound(Pcm::S16, 1 + row as u16 % 2, 50 + row as u64),
        };
        let mut bytes = Vec::new();
        let codec = codecs[row % codecs.len()];
        codec.encode(&Media { samples: &samples, facts }, None, &mut bytes).unwrap();
        match row % 10 {
            3 => None,
            5 => Some(bytes[..bytes.len() / 2].to_vec()),
            8 => Some(b"no media".to_vec()),
            _ => Some(bytes),
        }
    };
    let files: Vec<Option<Vec<u8>>> = (0..ROWS).map(file).collect();
    // A reference, in a place without a store.
    let paths = (0..ROWS).map(|row| (row % 20 == 13).then_some("file:///nowhere#0+5")).collect();
    let column = media::column(files.iter().map(Option::as_deref).collect(), paths);
    let field = media::field("media", modality, media::State::Encoded);
    with(&numbered(ROWS, "label"), field, Arc::new(column))
}

/// What `decode` makes of them; every operator but `decode` then meets missing ones only.
fn decoded(modality: Modality) -> RecordBatch {
    let decode = options::<DecodeOptions>(r#"{"column": "media"}"#).build().unwrap();
    let outcome = decode.invoke(files(modality), &Allocation::PLAIN, &Context::plain()).unwrap();
    assert_eq!(outcome.refused.len(), 25);
    outcome.records
}

#[test]
fn codecs_that_are_chosen() {
    let model = example::model().display();
    let codec = format!(r#"{{ "auto": "classify", "model": "{model}", "label": "label" }}"#);
    let json = format!(r#"{{ "column": "media", "codec": {codec} }}"#);
    holds(options::<EncodeOptions>(&json).build().unwrap(), &decoded(Modality::Image));
    holds(options::<TranscodeOptions>(&json).build().unwrap(), &files(Modality::Image));

    let pictures = decoded(Modality::Image);
    let column = Column::of(&pictures, "media", Modality::Image);
    let mut fit = Fit::new(Learning { channels: 9, step: Some(4.0), ..Learning::default() });
    for media in (0..pictures.num_rows()).filter_map(|row| column.samples(row).unwrap()) {
        codec::with_samples(&media, |samples| fit.add(samples)).unwrap();
    }
    let file = std::env::temp_dir().join(format!("anabranch-chosen-{}", std::process::id()));
    std::fs::write(&file, fit.finish().unwrap().to_bytes().unwrap()).unwrap();
    let latent = format!(r#", "latent": {{ "artifact": "{}" }} }}"#, file.display());
    let json = json.replace(r#""label": "label" }"#, &format!(r#""label": "label"{latent}"#));
    let encode = options::<EncodeOptions>(&json).build().unwrap();
    assert_eq!(encode.growth().factor, crate::latent::GROWTH.factor);
    holds(encode, &pictures);
}

#[test]
fn evaluate_without_times() {
    let json =
        r#"{ "column": "media", "codecs": ["png", "qoi"], "metrics": ["psnr"], "times": false }"#;
    holds(options::<EvaluateOptions>(json).build().unwrap(), &decoded(Modality::Image));
    let texts = of_texts(300, |row| format!("a sentence of row {row}, much like any other"));
    let json = r#"{ "column": "text", "codecs": ["bzip2"], "times": false }"#;
    holds(options::<EvaluateOptions>(json).build().unwrap(), &texts);
    let json = r#"{ "column": "text", "codecs": ["zstd"], "dictionary": "1KiB", "times": false }"#;
    holds(options::<EvaluateOptions>(json).build().unwrap(), &texts);
}

#[test]
fn decode_in_all_modes() {
    for mode in ["rgb", "gray", "keep"] {
        let json = format!(r#"{{"column": "media", "mode": "{mode}"}}"#);
        holds(options::<DecodeOptions>(&json).build().unwrap(), &files(Modality::Image));
    }
    let decode = options::<DecodeOptions>(r#"{"column": "media"}"#);
    holds(decode.build().unwrap(), &files(Modality::Audio));
}

#[test]
fn encode_with_all_codecs_and_decode_again() {
    let names = codec::encoders().map(|codec| (codec.name(), codec.modality()));
    for (codec, modality) in names.chain([("raw", Modality::Image), ("raw", Modality::Audio)]) {
        let json = format!(r#"{{"column": "media", "codec": "{codec}"}}"#);
        let encode = options::<EncodeOptions>(&json).build().unwrap();
        let samples = decoded(modality);
        holds(Arc::clone(&encode), &samples);
        let encoded = encode.invoke(samples, &Allocation::PLAIN, &Context::plain()).unwrap();
        let decode = options::<DecodeOptions>(r#"{"column": "media"}"#).build().unwrap();
        holds(Arc::clone(&decode), &encoded.records);
        let again = decode.invoke(encoded.records, &Allocation::PLAIN, &Context::plain()).unwrap();
        assert_eq!(again.refused, [], "{codec}");
    }
}

#[test]
fn resize_with_all_filters() {
    for filter in ["nearest", "bilinear", "bicubic", "lanczos"] {
        let json =
            format!(r#"{{"column": "media", "width": 5, "height": 7, "filter": "{filter}"}}"#);
        holds(options::<ResizeOptions>(&json).build().unwrap(), &decoded(Modality::Image));
    }
}

#[test]
fn spectrum_of_sounds_of_several_rates() {
    let json =
        r#"{"column": "media", "rate": 8000, "frames": 3, "bands": 4, "window": 32, "hop": 16}"#;
    holds(options::<SpectrumOptions>(json).build().unwrap(), &decoded(Modality::Audio));
}

#[test]
fn transcode_that_keeps_and_replaces() {
    for (codec, modality) in codec::encoders().map(|codec| (codec.name(), codec.modality())) {
        for more in ["", r#", "mode": "gray", "if_larger": "replace""#] {
            let json = format!(r#"{{"column": "media", "codec": "{codec}"{more}}}"#);
            holds(options::<TranscodeOptions>(&json).build().unwrap(), &files(modality));
        }
    }
}

#[test]
fn crop_everywhere() {
    for at in ["centre", "fixed", "random"] {
        // Some of them are smaller than the part, and refused.
        let json = format!(r#"{{"column": "media", "width": 10, "height": 7, "at": "{at}"}}"#);
        holds(options::<CropOptions>(&json).build().unwrap(), &decoded(Modality::Image));
        let json = format!(r#"{{"column": "media", "seconds": 0.01, "at": "{at}"}}"#);
        holds(options::<CropOptions>(&json).build().unwrap(), &decoded(Modality::Audio));
    }
}

#[test]
fn sounds_mixed_resampled_trimmed_and_levelled() {
    let sounds = decoded(Modality::Audio);
    holds(options::<MonoOptions>(r#"{"column": "media"}"#).build().unwrap(), &sounds);
    holds(options::<LoudnessOptions>(r#"{"column": "media"}"#).build().unwrap(), &sounds);
    for rate in [8000, 11_025, 16_000, 4000] {
        let json = format!(r#"{{"column": "media", "rate": {rate}}}"#);
        holds(options::<ResampleOptions>(&json).build().unwrap(), &sounds);
    }
    for threshold in [-50, -6] {
        let json = format!(r#"{{"column": "media", "threshold": {threshold}, "margin": 0.001}}"#);
        holds(options::<TrimOptions>(&json).build().unwrap(), &sounds);
    }
}

#[test]
fn filter_that_keeps_drops_and_refuses() {
    for condition in [
        "label % 3 == 0",
        "10 / (label % 7) > 2",
        "media.path == null",
        "string(label).matches('[37]')",
        "false",
    ] {
        let filter = FilterOptions { condition: condition.to_owned() };
        holds(filter.build().unwrap(), &files(Modality::Image));
    }
}

#[test]
fn select_and_rename() {
    for json in
        [r#"{"drop": ["label"]}"#, r#"{"keep": ["media"], "rename": {"media": "image"}}"#, "{}"]
    {
        holds(options::<SelectOptions>(json).build().unwrap(), &files(Modality::Image));
    }
}

/// Records with a column `text`, missing every tenth time.
fn of_texts(rows: usize, text: impl Fn(usize) -> String) -> RecordBatch {
    let texts: StringArray = (0..rows).map(|row| (row % 10 != 3).then(|| text(row))).collect();
    let field = Field::new("text", texts.data_type().clone(), true);
    with(&numbered(rows, "label"), field, Arc::new(texts))
}

#[test]
fn normalise_that_changes_keeps_and_refuses() {
    let text = |row: usize| match row % 7 {
        2 => "\u{fdfa}".repeat(row + 1),
        5 => "plain".to_owned(),
        _ => format!(" Cafe\u{301}\r\n\t{row}  "),
    };
    for more in ["", r#""unicode": "nfkc", "whitespace": "lines", "lower_case": true"#] {
        let normalise: NormaliseOptions = options(&format!("{{{more}}}"));
        holds(normalise.build().unwrap(), &of_texts(ROWS, text));
    }
}

#[test]
fn quality_of_texts_pictures_and_sounds() {
    let text = |row: usize| "a b c d e ".repeat(row % 4) + &"-".repeat(row % 3);
    for more in ["", r#", "min_alphanumeric": 0.5, "max_repeated_words": 0.3, "measures": true"#] {
        let quality: QualityOptions = options(&format!(r#"{{"column": "text"{more}}}"#));
        holds(quality.build().unwrap(), &of_texts(ROWS, text));
    }
    let quality = r#"{"column": "media", "min_deviation": 60, "measures": true}"#;
    holds(options::<QualityOptions>(quality).build().unwrap(), &decoded(Modality::Image));
    let quality = r#"{"column": "media", "min_decibels": -10}"#;
    holds(options::<QualityOptions>(quality).build().unwrap(), &decoded(Modality::Audio));
}

#[test]
fn digest_of_media_and_numbers() {
    let digest: DigestOptions = options(r#"{"by": ["media", "label"]}"#);
    holds(digest.build().unwrap(), &files(Modality::Image));
}

#[test]
fn tokenise_with_all_models() {
    let text = |row: usize| format!("the row {row} of the rows, é {}", "x".repeat(row % 4));
    for model in ["byte", "char", "bpe"] {
        let tokenise: TokeniseOptions = options(&format!(r#"{{"model": "{model}"}}"#));
        holds(tokenise.build().unwrap(), &of_texts(ROWS, text));
    }
}

#[test]
fn texts_with_and_without_a_dictionary() {
    let text = |row: usize| format!("a sentence of row {row}, much like that of any other row");
    let batch = of_texts(3000, text);
    for more in ["", r#", "level": 3, "dictionary": "4KiB""#, r#", "dictionary": "0B""#] {
        let json = format!(r#"{{"column": "text", "codec": "zstd"{more}}}"#);
        holds(options::<EncodeOptions>(&json).build().unwrap(), &batch);
    }
    let json = r#"{"column": "text", "codec": "zstd", "dictionary": "0B"}"#;
    let encode = options::<EncodeOptions>(json).build().unwrap();
    let encoded = encode.invoke(batch, &Allocation::PLAIN, &Context::plain()).unwrap();
    let decode = options::<DecodeOptions>(r#"{"column": "text"}"#);
    holds(decode.build().unwrap(), &encoded.records);
}

#[test]
fn lists_of_numbers() {
    let list = |row: usize| (row % 10 != 3).then(|| (0..row % 50).map(|at| Some(at as f32 * 0.5)));
    let lists = ListArray::from_iter_primitive::<Float32Type, _, _>((0..ROWS).map(list));
    let field = Field::new("x", lists.data_type().clone(), true);
    let batch = with(&numbered(ROWS, "label"), field, Arc::new(lists));
    let encode = options::<EncodeOptions>(r#"{"column": "x", "codec": "pco"}"#).build().unwrap();
    holds(Arc::clone(&encode), &batch);
    let encoded = encode.invoke(batch, &Allocation::PLAIN, &Context::plain()).unwrap();
    holds(options::<DecodeOptions>(r#"{"column": "x"}"#).build().unwrap(), &encoded.records);
}

/// An operator that breaks its word in one way.
struct Liar(&'static str);

impl Operator for Liar {
    fn kind(&self) -> &'static str {
        "liar"
    }

    fn options(&self) -> serde_json::Value {
        self.0.into()
    }

    fn output(
        &self,
        inputs: &[arrow::datatypes::SchemaRef],
    ) -> Result<arrow::datatypes::SchemaRef, anabranch_pipelines::graph::SchemaError> {
        let [input] = inputs else {
            return Err(anabranch_pipelines::graph::SchemaError::Mismatch("one input".into()));
        };
        Ok(match self.0 {
            "promises another schema" => Arc::new(input.project(&[0]).unwrap()),
            _ => Arc::clone(input),
        })
    }

    fn growth(&self) -> anabranch_pipelines::operator::Growth {
        let factor = if self.0 == "outgrows its word" { 0.5 } else { 1.0 };
        anabranch_pipelines::operator::Growth::times(factor)
    }

    fn invoke(
        &self,
        batch: RecordBatch,
        _: &Allocation,
        _: &Context,
    ) -> Result<anabranch_pipelines::operator::Outcome, anabranch_pipelines::operator::OperatorError>
    {
        use anabranch_pipelines::operator::{Outcome, Refused};
        let rows = batch.num_rows();
        let in_a_run = std::thread::current().name().is_some_and(|n| n.starts_with("executor"));
        let refused = match self.0 {
            "refuses what it passes" if rows > 0 => {
                vec![Refused { row: 0, error: "so it says".into() }]
            }
            _ => Vec::new(),
        };
        let records = match self.0 {
            "loses rows in a run" if in_a_run => batch.slice(0, rows.saturating_sub(1)),
            "depends on the batch" => batch.slice(0, rows.min(50)),
            "swaps rows" if rows > 1 => {
                let backwards = arrow::array::UInt64Array::from_iter_values((0..rows as u64).rev());
                arrow::compute::take_record_batch(&batch, &backwards)?
            }
            _ => batch,
        };
        Ok(Outcome { records, refused })
    }
}

#[test]
fn the_suite_tells_what_is_wrong() {
    holds(Arc::new(Liar("nothing")), &numbered(ROWS, "label"));
    let lies = [
        ("promises another schema", "delivers"),
        ("outgrows its word", "declares"),
        ("refuses what it passes", "more rows than it gets"),
        ("depends on the batch", "batches of"),
        ("swaps rows", "order"),
        ("is rebuilt as another", "in a worker"),
        ("loses rows in a run", "in a run of 1 workers"),
    ];
    for (lie, told) in lies {
        let operator: Arc<dyn Operator> = Arc::new(Liar(lie));
        let failure =
            check(&operator, &numbered(ROWS, "label"), &Context::plain(), rebuild).unwrap_err();
        assert!(failure.0.contains(told), "{lie}: {failure}");
    }
}
