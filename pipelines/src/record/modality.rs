//! What a column means to a model.

use std::fmt;

use arrow::datatypes::Field;

/// Field metadata key under which a table names a column's [`Modality`].
pub const TYPE_KEY: &str = "anabranch:type";

/// The kind of a media or tensor column.
///
/// It stands in the field's metadata under [`TYPE_KEY`], in memory and in tables alike. (Arrow's own
/// `ARROW:extension:name` makes several foreign readers refuse a table.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Modality {
    /// A still image: a media struct, facts in `NAME_encoding, _width, _height, _channels`.
    Image,
    /// Sound: a media struct, facts in `NAME_encoding, _sample_rate, _channels, _frames`.
    Audio,
    /// Text: `Utf8`, or a media struct with `NAME_encoding` when compressed per record.
    Text,
    /// Numbers of a fixed or varying shape: lists, or a media struct when compressed.
    Tensor,
    /// The output of a learned codec, which models may train on undecoded.
    Latent,
}

impl Modality {
    /// Every modality, for messages that list them.
    pub const ALL: [Self; 5] = [Self::Image, Self::Audio, Self::Text, Self::Tensor, Self::Latent];

    /// The name in metadata and job files: `image`, `audio`, `text`, `tensor`, `latent`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Audio => "audio",
            Self::Text => "text",
            Self::Tensor => "tensor",
            Self::Latent => "latent",
        }
    }

    /// The modality with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|modality| modality.name() == name)
    }

    /// The modality that a field's metadata declares.
    pub fn of(field: &Field) -> Option<Self> {
        field.metadata().get(TYPE_KEY).and_then(|name| Self::named(name))
    }

    /// Marks a field with this modality, keeping its other metadata.
    pub fn mark(self, field: Field) -> Field {
        let mut metadata = field.metadata().clone();
        metadata.insert(TYPE_KEY.to_owned(), self.name().to_owned());
        field.with_metadata(metadata)
    }
}

impl fmt::Display for Modality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
