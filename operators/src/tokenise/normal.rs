//! What a tokenizer changes of a text before it cuts it.

use std::borrow::Cow;

use icu_normalizer::{
    ComposingNormalizer, ComposingNormalizerBorrowed, DecomposingNormalizer,
    DecomposingNormalizerBorrowed,
};
use regex::{NoExpand, Regex};

/// A change of the whole text.
#[derive(Debug)]
pub(super) enum Normal {
    Composed(ComposingNormalizerBorrowed<'static>),
    Decomposed(DecomposingNormalizerBorrowed<'static>),
    LowerCase,
    Strip {
        left: bool,
        right: bool,
    },
    /// Put before every text that is not empty.
    Prepend(String),
    Replace(Regex, String),
}

impl Normal {
    pub(super) fn form(name: &str) -> Option<Self> {
        Some(match name {
            "NFC" => Self::Composed(ComposingNormalizer::new_nfc()),
            "NFKC" => Self::Composed(ComposingNormalizer::new_nfkc()),
            "NFD" => Self::Decomposed(DecomposingNormalizer::new_nfd()),
            "NFKD" => Self::Decomposed(DecomposingNormalizer::new_nfkd()),
            "Lowercase" => Self::LowerCase,
            _ => return None,
        })
    }

    pub(super) fn apply<'a>(&self, text: Cow<'a, str>) -> Cow<'a, str> {
        fn changed<'a>(
            text: Cow<'a, str>,
            change: impl for<'b> FnOnce(&'b str) -> Cow<'b, str>,
        ) -> Cow<'a, str> {
            match text {
                Cow::Borrowed(text) => change(text),
                Cow::Owned(text) => Cow::Owned(change(&text).into_owned()),
            }
        }
        match self {
            Self::Composed(form) => changed(text, |text| form.normalize(text)),
            Self::Decomposed(form) => changed(text, |text| form.normalize(text)),
            Self::LowerCase => Cow::Owned(text.to_lowercase()),
            Self::Strip { left, right } => changed(text, |text| {
                let text = if *left { text.trim_start() } else { text };
                Cow::Borrowed(if *right { text.trim_end() } else { text })
            }),
            Self::Prepend(_) if text.is_empty() => text,
            Self::Prepend(prefix) => Cow::Owned(format!("{prefix}{text}")),
            Self::Replace(pattern, by) => {
                changed(text, |text| pattern.replace_all(text, NoExpand(by)))
            }
        }
    }
}
