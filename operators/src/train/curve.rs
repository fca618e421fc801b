//! The losses of a training so far, for whoever watches.

use anabranch_pipelines::progress::Curve;

use super::row::Row;
use super::state::{Damaged, Reader, Writer};

/// Points that are kept; beyond it every other one is left out.
const MOST: usize = 256;

/// Loss and validation loss by step.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Losses(Vec<(u64, f64, Option<f64>)>);

impl Losses {
    pub(super) fn add(&mut self, row: &Row) {
        self.0.push((row.step, row.loss, row.score.map(|score| score.loss)));
        if self.0.len() > MOST {
            let mut at = 0;
            // The first point and the last one stay.
            self.0.retain(|_| {
                at += 1;
                at % 2 == 1
            });
        }
    }

    /// The newest loss.
    pub(super) fn last(&self) -> Option<f64> {
        self.0.last().map(|(_, loss, _)| *loss)
    }

    /// As a run shows them.
    pub(super) fn curves(&self) -> Vec<Curve> {
        let loss = self.0.iter().map(|(step, loss, _)| [*step as f64, *loss]).collect();
        let held = self.0.iter().filter_map(|(step, _, loss)| Some([*step as f64, (*loss)?]));
        let all = [("loss", loss), ("validation", held.collect::<Vec<_>>())];
        let curves = all.into_iter().filter(|(_, points): &(_, Vec<_>)| !points.is_empty());
        curves.map(|(name, points)| Curve { name: name.to_owned(), points }).collect()
    }

    pub(super) fn write(&self, to: &mut Writer) {
        to.list(&self.0, |(step, loss, held), to| {
            to.number(*step);
            to.float(*loss);
            to.maybe(held.as_ref(), |loss, to| to.float(*loss));
        });
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<Self, Damaged> {
        let point =
            |from: &mut Reader<'_>| Ok((from.number()?, from.float()?, from.maybe(Reader::float)?));
        from.list(point).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_training_keeps_its_first_and_its_last_point() {
        let mut losses = Losses::default();
        for step in 1..=2000 {
            let row = Row { step, records: 0, loss: 1.0, rate: 0.1, score: None, artifact: None };
            losses.add(&row);
            assert!(losses.0.len() <= MOST);
            assert_eq!((losses.0[0].0, losses.0.last().unwrap().0), (1, step));
        }
        assert_eq!(losses.curves().len(), 1, "nothing was held out");
    }
}
