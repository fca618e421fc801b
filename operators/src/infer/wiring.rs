//! Which columns go into a model.

use anabranch_models::artifact::architecture::{Architecture, AudioTokens, ImageTokens, Inputs};
use anabranch_pipelines::graph::SchemaError;
use anabranch_pipelines::operator::OperatorError;
use anabranch_pipelines::record::{Modality, media};
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema};

use super::rows::{Rows, Text};
use super::{InferOptions, Score};

const IMAGE: &str = "image";
const AUDIO: &str = "audio";
const TOKENS: &str = "tokens";

/// The columns that go into a model, by what they hold.
#[derive(Debug, Default)]
pub(super) struct Wiring {
    image: Option<(String, ImageTokens)>,
    audio: Option<(String, AudioTokens)>,
    tokens: Option<(String, Text)>,
}

impl Wiring {
    /// # Errors
    /// When a column that the model needs is not there or holds something else.
    pub(super) fn of(
        architecture: &Architecture,
        options: &InferOptions,
        schema: &Schema,
    ) -> Result<Self, SchemaError> {
        // A column that is named must be there; of several modalities, one that is not named may be missing.
        let named = |option: &Option<String>, default: &str, several: bool| {
            let name = option.clone().unwrap_or_else(|| default.to_owned());
            let there = option.is_some() || schema.field_with_name(&name).is_ok();
            (there || !several).then_some(name)
        };
        let (mut wiring, mut taken) = (Self::default(), Vec::new());
        match &architecture.inputs {
            Inputs::Tokens { vocabulary, .. } => {
                let least = if options.score == Score::Loss { 2 } else { 1 };
                let text = Text { vocabulary: *vocabulary, least, length: None };
                wiring.tokens = named(&options.tokens, TOKENS, false).map(|name| (name, text));
                taken.push(TOKENS);
            }
            Inputs::Image(sizes) => {
                wiring.image = named(&options.image, IMAGE, false).map(|name| (name, *sizes));
                taken.push(IMAGE);
            }
            Inputs::Modalities { image, audio, text } => {
                if let Some(sizes) = image {
                    wiring.image = named(&options.image, IMAGE, true).map(|name| (name, *sizes));
                    taken.push(IMAGE);
                }
                if let Some(sizes) = audio {
                    wiring.audio = named(&options.audio, AUDIO, true).map(|name| (name, *sizes));
                    taken.push(AUDIO);
                }
                if let Some(text) = text {
                    let length = Some(text.length);
                    let text = Text { vocabulary: text.vocabulary, least: 1, length };
                    wiring.tokens = named(&options.tokens, TOKENS, true).map(|name| (name, text));
                    taken.push(TOKENS);
                }
            }
        }
        let given = [(IMAGE, &options.image), (AUDIO, &options.audio), (TOKENS, &options.tokens)];
        for (modality, option) in given {
            if let (Some(column), false) = (option, taken.contains(&modality)) {
                let taken = taken.join(" and ");
                let message =
                    format!("`{modality} = \"{column}\"`: the model takes {taken}, no {modality}");
                return Err(SchemaError::Mismatch(message));
            }
        }
        if wiring.image.is_none() && wiring.audio.is_none() && wiring.tokens.is_none() {
            let names = schema.fields().iter().map(|field| field.name().as_str());
            let (taken, names) = (taken.join(" or "), names.collect::<Vec<_>>().join(", "));
            let message =
                format!("no column goes into the model: name one for {taken}; there are {names}");
            return Err(SchemaError::Mismatch(message));
        }
        wiring.check(schema)?;
        Ok(wiring)
    }

    /// What the model takes of which there is no column.
    pub(super) fn missing(&self, architecture: &Architecture) -> Option<&'static str> {
        let Inputs::Modalities { image, audio, text } = &architecture.inputs else { return None };
        let missing = [
            (image.is_some() && self.image.is_none(), IMAGE),
            (audio.is_some() && self.audio.is_none(), AUDIO),
            (text.is_some() && self.tokens.is_none(), TOKENS),
        ];
        missing.into_iter().find_map(|(missing, modality)| missing.then_some(modality))
    }

    fn check(&self, schema: &Schema) -> Result<(), SchemaError> {
        if let Some((column, _)) = &self.image {
            let field = SchemaError::require(schema, column)?;
            let lists = is_list_of(field.data_type(), &DataType::Float32);
            if !lists && !crate::latent::column::holds(field) {
                SchemaError::require_media(
                    schema,
                    column,
                    Modality::Image,
                    Some(media::State::Decoded),
                )?;
            }
        }
        let list = |column: &str, element: &DataType, what: &str, hint: &str| {
            let field = SchemaError::require(schema, column)?;
            if is_list_of(field.data_type(), element) {
                return Ok(());
            }
            Err(SchemaError::Unfit {
                column: column.to_owned(),
                found: format!("of type {}", field.data_type()),
                expected: what.to_owned(),
                hint: hint.to_owned(),
            })
        };
        if let Some((column, _)) = &self.audio {
            let hint = "the model takes a spectrogram, frame by frame";
            list(column, &DataType::Float32, "lists of 32-bit floats", hint)?;
        }
        if let Some((column, _)) = &self.tokens {
            let hint = "`tokenise` makes tokens of texts";
            list(column, &DataType::Int32, "lists of 32-bit integers", hint)?;
        }
        Ok(())
    }

    /// What each row gives to the model, or why it is refused.
    ///
    /// # Errors
    /// When a column is not what the plan promised.
    pub(super) fn rows<'a>(&self, batch: &'a RecordBatch) -> Result<Rows<'a>, OperatorError> {
        let mut rows = Rows::of(batch.num_rows());
        if let Some((column, sizes)) = &self.image {
            rows.image(batch, column, sizes)?;
        }
        if let Some((column, sizes)) = &self.audio {
            rows.audio(batch, column, sizes)?;
        }
        if let Some((column, text)) = &self.tokens {
            rows.tokens(batch, column, *text)?;
        }
        Ok(rows)
    }
}

fn is_list_of(list: &DataType, element: &DataType) -> bool {
    match list {
        DataType::List(child) | DataType::LargeList(child) | DataType::FixedSizeList(child, _) => {
            child.data_type() == element
        }
        _ => false,
    }
}
