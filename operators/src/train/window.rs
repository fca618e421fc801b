//! Texts of consecutive records, cut into windows.

use super::sample::Sample;
use super::state::{Damaged, Reader, Writer};

/// Tokens that are no whole window yet.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Cutter(Vec<u32>);

impl Cutter {
    /// Windows of `context` tokens and the one behind them, which a record completes. One begins with the token that
    /// the one before ends with, so that each token but the first is predicted once.
    pub(super) fn cut(&mut self, tokens: Vec<u32>, context: usize, record: &str) -> Vec<Sample> {
        self.0.extend(tokens);
        let mut windows = Vec::new();
        let mut from = 0;
        while let Some(window) = self.0.get(from..from + context + 1) {
            let record = record.to_owned();
            windows.push(Sample { record, tokens: Some(window.to_vec()), ..Sample::default() });
            from += context;
        }
        self.0.drain(..from);
        windows
    }

    pub(super) fn bytes(&self) -> usize {
        4 * self.0.len()
    }

    pub(super) fn write(&self, to: &mut Writer) {
        to.words(self.0.iter().copied());
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<Self, Damaged> {
        from.words().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_token_is_predicted_once_however_records_are_cut(
            records in prop::collection::vec(prop::collection::vec(0u32..9, 0..20), 0..20),
            context in 1usize..7,
        ) {
            let mut cutter = Cutter::default();
            let text: Vec<u32> = records.concat();
            let windows: Vec<Sample> =
                records.into_iter().flat_map(|tokens| cutter.cut(tokens, context, "r")).collect();
            let predicted: Vec<u32> =
                windows.iter().flat_map(|w| w.tokens.as_ref().unwrap()[1..].to_vec()).collect();
            prop_assert_eq!(&text[1.min(text.len())..][..predicted.len()], predicted.as_slice());
            prop_assert!(cutter.0.len() <= context);
            prop_assert_eq!(windows.len(), text.len().saturating_sub(1) / context);
        }
    }
}
