//! Dead letters on their way to their sink: made where rows were refused, told where they are passed on.

use std::sync::PoisonError;

use arrow::array::{Array, RecordBatch, StringArray};
use arrow::error::ArrowError;

use super::Shared;
use crate::dead_letter::{self, DeadLetter};
use crate::executor::Refusal;
use crate::record::{KEY, RecordId, to_ipc};
use crate::run::RunError;

/// Bytes of the largest row that is kept beside its error.
const LARGEST: usize = 64 << 20;
/// How many refusals a report gives as examples.
const EXAMPLES: usize = 5;

/// Dead letters as rows, and what is told of them.
#[derive(Default)]
pub(super) struct Letters {
    /// Batches of a bounded size.
    pub(super) rows: Vec<RecordBatch>,
    /// Operator, record and error of the first letter.
    first: Option<(String, String, String)>,
    /// The last few letters, as people read them.
    examples: Vec<String>,
}

impl Letters {
    /// The letters as rows.
    pub(super) fn new(letters: &[DeadLetter]) -> Result<Self, ArrowError> {
        let first = letters.first();
        let first = first.map(|l| (l.operator.clone(), l.key.clone(), l.error.clone()));
        let last = letters.get(letters.len().saturating_sub(EXAMPLES)..).unwrap_or_default();
        let example = |letter: &DeadLetter| {
            let name =
                if letter.key.is_empty() { letter.id.to_string() } else { letter.key.clone() };
            format!("{}: {name}: {}", letter.operator, letter.error)
        };
        let examples = last.iter().map(example).collect();
        Ok(Self { rows: dead_letter::to_batches(letters)?, first, examples })
    }

    /// Letters of what operators refused.
    pub(super) fn of(refused: Vec<Refusal>) -> Result<Self, ArrowError> {
        if refused.is_empty() {
            return Ok(Self::default());
        }
        Self::new(&refused.into_iter().map(|refusal| letter(refusal, LARGEST)).collect::<Vec<_>>())
    }
}

/// A refusal with the row as it stood, unless it is larger than `largest`.
fn letter(refusal: Refusal, largest: usize) -> DeadLetter {
    let Refusal { operator, row, mut error } = refusal;
    let key = row.column_by_name(KEY).and_then(|column| {
        let keys = column.as_any().downcast_ref::<StringArray>()?;
        (!keys.is_empty()).then(|| keys.value(0).to_owned())
    });
    let record = match to_ipc(&row) {
        Ok(bytes) if bytes.len() <= largest => Some(bytes),
        Ok(bytes) => {
            error += &format!("; the row of {} bytes is too large to be kept", bytes.len());
            None
        }
        Err(cannot) => {
            error += &format!("; the row cannot be kept: {cannot}");
            None
        }
    };
    DeadLetter {
        id: RecordId::of_row(&row, 0).unwrap_or(RecordId([0; 16])),
        key: key.unwrap_or_default(),
        operator: operator.to_string(),
        error,
        record,
        split: None,
        range: None,
        bytes: None,
    }
}

impl Shared {
    /// Keeps examples of letters that are passed on. Without a sink for them, the first one fails the run.
    pub(super) fn tell(&self, letters: &Letters) -> Result<(), RunError> {
        let mut examples = self.examples.lock().unwrap_or_else(PoisonError::into_inner);
        examples.extend(letters.examples.iter().cloned());
        while examples.len() > EXAMPLES {
            examples.pop_front();
        }
        drop(examples);
        match &letters.first {
            Some((node, record, error)) if self.plan.dead_letters().is_none() => {
                Err(RunError::Operator {
                    node: node.clone(),
                    record: Some(record.clone()),
                    error: format!("{error} (this graph has no sink for dead letters)"),
                })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_row_that_is_too_large_is_a_letter_without_it() {
        let refusal = |text: &str| {
            let column = Arc::new(StringArray::from(vec![text])) as _;
            Refusal {
                operator: "shout".into(),
                row: RecordBatch::try_from_iter([(KEY, column)]).unwrap(),
                error: "too loud".to_owned(),
            }
        };
        let kept = letter(refusal("a"), 4096);
        assert!(kept.record.is_some() && kept.error == "too loud", "{}", kept.error);
        let cut = letter(refusal(&"a".repeat(5000)), 4096);
        assert!(cut.record.is_none() && cut.error.contains("too large"), "{}", cut.error);
    }
}
