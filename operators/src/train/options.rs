//! Options of `kind = "train"`.

use anabranch_models::artifact::architecture::{
    Architecture, AudioTokens, Bits, FeedForward, Head, ImageTokens, Inputs, Rows, TextTokens,
    Wires,
};
use anabranch_models::train::Options as Rates;
use anabranch_models::train::export::Precision;
use anabranch_models::transformer::Start;
use anabranch_pipelines::quantity::ByteSize;
use serde::{Deserialize, Serialize};

use crate::OptionsError;

/// Options of `kind = "train"`: a transformer learns from records, and comes out now and then with its measures.
///
/// It takes `tokens` (and predicts the next one), or any of `image`, `audio` and `text` (and predicts a `label`).
/// Rows that come out have `key` (`NAME-step-00002000`), `step`, `records`, `loss`, `rate`, `validation_loss`,
/// `accuracy` with `accuracy_low` and `accuracy_high`, and, where an artifact is due, `card.json` and
/// `weights.safetensors`, which a sink of kind `files` makes a folder of.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainOptions {
    /// What the model is called; keys begin with it. Default `"model"`.
    #[serde(default = "name")]
    pub name: String,
    /// Text: tokens of consecutive records are one text, which is cut into windows.
    #[serde(default)]
    pub tokens: Option<TokensInput>,
    /// Pictures.
    #[serde(default)]
    pub image: Option<ImageInput>,
    /// Spectra of sounds.
    #[serde(default)]
    pub audio: Option<AudioInput>,
    /// A short text of each record, beside pictures or sounds or alone.
    #[serde(default)]
    pub text: Option<TextInput>,
    /// What each record is.
    #[serde(default)]
    pub label: Option<LabelInput>,
    /// Features of a token between the blocks. Default 128.
    #[serde(default = "width")]
    pub width: usize,
    /// Heads of attention, which share the width. Default 4.
    #[serde(default = "four")]
    pub heads: usize,
    /// Blocks. Default 4.
    #[serde(default = "four")]
    pub layers: usize,
    /// The second half of every block: `"none"`, `"mlp"` (four times the width), or look-up tables. Tables of rows
    /// on projected wires learn most; on axis wires (as many nodes as the width, with `choices = 4`) they are served
    /// fastest. Default: `{ rows = { nodes = 64, inputs = 6, wires = "projected" } }`.
    #[serde(default)]
    pub feed_forward: Half,
    /// The largest learning rate. Default 0.002.
    #[serde(default = "rate")]
    pub rate: f32,
    /// The rate of look-up tables, as a multiple of `rate`. Default 2.
    #[serde(default = "table_rate")]
    pub table_rate: f32,
    /// Weight decay of tables of rows, per unit of their rate: 0.5 where examples are few and tables learn them by heart.
    /// Default 0.
    #[serde(default)]
    pub table_decay: f32,
    /// Steps until the rate is at its largest, a quarter of `steps` at most. Default 100.
    #[serde(default = "warm_up")]
    pub warm_up: u64,
    /// Learns tables of rows in the Walsh-Hadamard basis, with this damping per order, 0 to 1.
    #[serde(default)]
    pub damping: Option<f32>,
    /// Candidates that each wire of a table chooses from; 1 fixes the wires. Default 1.
    #[serde(default = "one")]
    pub choices: usize,
    /// Bits of the values of the artifacts' tables: 8, or 4, which is served faster and loses a little. Default 8.
    #[serde(default = "eight")]
    pub table_bits: u8,
    /// How likely a step leaves each modality out, so that the model learns to do with what there is. Default 0.
    #[serde(default)]
    pub modality_dropout: f32,
    /// Examples of a step. Default 16.
    #[serde(default = "batch")]
    pub batch: usize,
    /// Steps of the whole training. Records behind the last one are left out; when the inputs end before it,
    /// training does. Default 2000.
    #[serde(default = "steps")]
    pub steps: u64,
    /// Another seed starts from other weights and draws other batches. Default 1.
    #[serde(default = "seed")]
    pub seed: u64,
    /// Steps from one row of measures to the next. Default 100.
    #[serde(default = "every")]
    pub every: u64,
    /// Steps from one artifact to the next. The last step makes one in any case, and without this no other does.
    #[serde(default)]
    pub artifacts_every: Option<u64>,
    /// The share of records that are held out: never trained on, but measured on. Which ones follows from their ids.
    /// Default 0.1.
    #[serde(default = "holdout")]
    pub holdout: f64,
    /// Examples that are held out at most; further ones are left out. Default 256.
    #[serde(default = "holdout_examples")]
    pub holdout_examples: usize,
    /// So many examples are kept, and steps draw from them at random: a new one takes the place of any. For streams,
    /// and where neighbours are alike. Default 0: steps take examples in the order in which they come.
    #[serde(default)]
    pub reservoir: usize,
    /// What the model, its optimiser, examples that are kept and rows on their way may take in memory. Part of the
    /// job's `credit`. Default: what the sizes need.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub memory: Option<ByteSize>,
    /// What it is trained for, as its card says. Default: `next token`, or `classify COLUMN`.
    #[serde(default)]
    pub tasks: Vec<String>,
    /// What its card says of the data, before the number of records and the hash of their ids.
    #[serde(default)]
    pub data: String,
}

/// Text as one sequence.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokensInput {
    /// The column of lists of tokens. Default `tokens`.
    #[serde(default = "tokens")]
    pub column: String,
    /// How many different tokens there are; one that is not below it refuses its record.
    pub vocabulary: usize,
    /// Tokens that the model sees at most. Default 64.
    #[serde(default = "context")]
    pub context: usize,
}

/// Pictures of one size, or their latents (`decode` with `as = "latents"`), which are learned from without decoding: then
/// `width` and `height` are positions, `channels` those of the latents, and `patch` is 1 for as many tokens as patches
/// of pixels of a block's size would give.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageInput {
    /// The column of decoded pictures or of latents. Default `image`.
    #[serde(default = "image")]
    pub column: String,
    /// Pixels across.
    pub width: usize,
    /// Pixels down.
    pub height: usize,
    /// Values of a pixel. Default 3.
    #[serde(default = "three")]
    pub channels: usize,
    /// Side of the square patches that become tokens; it divides both sides. Default 4.
    #[serde(default = "four")]
    pub patch: usize,
}

/// Spectra of one length.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AudioInput {
    /// The column of lists of floats, frame by frame. Default `audio`.
    #[serde(default = "audio")]
    pub column: String,
    /// Frames of a record.
    pub frames: usize,
    /// Values of a frame.
    pub bands: usize,
    /// Frames that become a token; it divides the frames. Default 4.
    #[serde(default = "four")]
    pub frames_per_token: usize,
}

/// Texts of one length.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TextInput {
    /// The column of lists of tokens. Default `tokens`.
    #[serde(default = "tokens")]
    pub column: String,
    /// How many different tokens there are; one that is not below it refuses its record.
    pub vocabulary: usize,
    /// Tokens of a record: longer texts are cut, shorter ones are filled up with token 0. Default 32.
    #[serde(default = "length")]
    pub length: usize,
}

/// A class of each record.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LabelInput {
    /// The column: whole numbers from 0, or texts if `names` are given. Default `label`.
    #[serde(default = "label")]
    pub column: String,
    /// How many classes, of numbers.
    #[serde(default)]
    pub classes: usize,
    /// The classes by name, in the order of their numbers, of texts.
    #[serde(default)]
    pub names: Vec<String>,
}

/// The second half of a block.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Half {
    /// Nothing.
    None,
    /// Two linear layers, four times the width between them.
    Mlp,
    /// Tables that hold rows.
    Rows(Rows),
    /// 1-bit tables and a conditional sum.
    Bits(Bits),
}

impl Default for Half {
    fn default() -> Self {
        Self::Rows(Rows { nodes: 64, inputs: 6, wires: Wires::Projected })
    }
}

macro_rules! defaults {
    ($($name:ident: $type:ty = $value:expr;)*) => {
        $(fn $name() -> $type { $value.into() })*
    };
}

defaults! {
    name: String = "model";
    tokens: String = "tokens";
    image: String = "image";
    audio: String = "audio";
    label: String = "label";
    width: usize = 128_usize;
    context: usize = 64_usize;
    length: usize = 32_usize;
    one: usize = 1_usize;
    three: usize = 3_usize;
    four: usize = 4_usize;
    eight: u8 = 8_u8;
    batch: usize = 16_usize;
    holdout_examples: usize = 256_usize;
    rate: f32 = 2e-3_f32;
    table_rate: f32 = 2.0_f32;
    holdout: f64 = 0.1_f64;
    warm_up: u64 = 100_u64;
    steps: u64 = 2000_u64;
    seed: u64 = 1_u64;
    every: u64 = 100_u64;
}

impl LabelInput {
    /// How many classes there are.
    pub(super) fn classes(&self) -> usize {
        if self.names.is_empty() { self.classes } else { self.names.len() }
    }
}

impl TrainOptions {
    /// The sizes of the model.
    pub(super) fn architecture(&self) -> Result<Architecture, OptionsError> {
        let image = self.image.as_ref().map(|of| ImageTokens {
            height: of.height,
            width: of.width,
            channels: of.channels,
            patch: of.patch,
        });
        let audio = self.audio.as_ref().map(|of| AudioTokens {
            bands: of.bands,
            frames: of.frames,
            frames_per_token: of.frames_per_token,
        });
        let text = self.text.as_ref();
        let text = text.map(|of| TextTokens { vocabulary: of.vocabulary, length: of.length });
        let error = |message: &str| OptionsError(message.to_owned());
        let (inputs, head) = match (&self.tokens, (image, audio, text), &self.label) {
            (Some(of), (None, None, None), None) => {
                let (vocabulary, context) = (of.vocabulary, of.context);
                (Inputs::Tokens { vocabulary, context }, Head::NextToken)
            }
            (Some(_), _, Some(_)) => {
                let message = "a model of `tokens` predicts the next one and takes no `label`; give `text` instead";
                return Err(error(message));
            }
            (Some(_), _, None) => {
                return Err(error(
                    "give `tokens`, or any of `image`, `audio` and `text`, not both",
                ));
            }
            (None, (None, None, None), _) => {
                return Err(error(
                    "say what the model takes: `tokens`, or any of `image`, `audio` and `text`",
                ));
            }
            (None, _, None) => {
                return Err(error("say what the model predicts: `label = { classes = 10 }`"));
            }
            (None, (Some(image), None, None), Some(label)) => {
                (Inputs::Image(image), Head::Classes(label.classes()))
            }
            (None, (image, audio, text), Some(label)) => {
                (Inputs::Modalities { image, audio, text }, Head::Classes(label.classes()))
            }
        };
        let feed_forward = match &self.feed_forward {
            Half::None => FeedForward::None,
            Half::Mlp => FeedForward::Mlp { hidden: 4 * self.width },
            Half::Rows(rows) => FeedForward::Rows(*rows),
            Half::Bits(bits) => FeedForward::Bits(bits.clone()),
        };
        let Self { width, heads, layers, .. } = *self;
        let architecture = Architecture { width, heads, layers, inputs, head, feed_forward };
        architecture.check().map_err(|e| OptionsError(e.to_string()))?;
        Ok(architecture)
    }

    /// What the trainer is told.
    pub(super) fn rates(&self) -> Rates {
        Rates {
            rate: self.rate,
            steps: self.steps,
            warm_up: self.warm_up.min(self.steps / 4),
            table_rate: self.table_rate,
            table_decay: self.table_decay,
            modality_dropout: self.modality_dropout,
            seed: self.seed,
            ..Rates::default()
        }
    }

    /// How exact the tables of artifacts are.
    pub(super) const fn precision(&self) -> Precision {
        if self.table_bits == 4 { Precision::Int4 } else { Precision::Int8 }
    }

    /// How tables begin.
    pub(super) fn start(&self) -> Start {
        Start { damping: self.damping, choices: self.choices, ..Start::default() }
    }

    /// What it is trained for.
    pub(super) fn tasks(&self) -> Vec<String> {
        match &self.label {
            _ if !self.tasks.is_empty() => self.tasks.clone(),
            Some(label) => vec![format!("classify {}", label.column)],
            None => vec!["next token".to_owned()],
        }
    }

    /// Whether the numbers can be.
    pub(super) fn check(&self) -> Result<(), OptionsError> {
        let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let wrong = [
            (
                self.name.is_empty() || self.name.starts_with('.') || !self.name.chars().all(fits),
                "`name` is letters, digits, `.`, `_` and `-`, and begins with none of the dots",
            ),
            (self.batch == 0, "`batch` is at least 1"),
            (self.steps == 0, "`steps` is at least 1"),
            (self.every == 0, "`every` is at least 1"),
            (!matches!(self.table_bits, 4 | 8), "`table_bits` is 8 or 4"),
            (self.artifacts_every == Some(0), "`artifacts_every` is at least 1"),
            (!(0.0..=0.9).contains(&self.holdout), "`holdout` is a share from 0 to 0.9"),
            (
                self.reservoir != 0 && self.reservoir < self.batch,
                "`reservoir` is 0, or at least as large as `batch`",
            ),
            (!(self.rate > 0.0 && self.rate < 10.0), "`rate` is above 0 and below 10"),
            (
                !(0.0..100.0).contains(&self.table_rate),
                "`table_rate` is a multiple of `rate`, from 0 to 100",
            ),
            (!(0.0..100.0).contains(&self.table_decay), "`table_decay` is from 0 to 100"),
            (
                !(0.0..1.0).contains(&self.modality_dropout),
                "`modality_dropout` is a probability below 1",
            ),
            (
                self.damping.is_some_and(|damping| !(0.0..=1.0).contains(&damping)),
                "`damping` is from 0 to 1",
            ),
            (
                self.label.as_ref().is_some_and(|of| (of.classes == 0) == of.names.is_empty()),
                "give `label` either `classes` or `names`",
            ),
        ];
        match wrong.iter().find(|(wrong, _)| *wrong) {
            Some((_, message)) => Err(OptionsError((*message).to_owned())),
            None => Ok(()),
        }
    }
}
