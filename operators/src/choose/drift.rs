//! Watches the loss of a stream and tells when it is no longer small.

use serde::{Deserialize, Serialize};

use super::stake::{self, COUNT};

/// A watch over the losses of a sample of a stream, for as long as it runs.
///
/// While the mean loss is at most `max_loss`, it raises an alarm with probability `alpha` at most, however long it
/// watches. Capital that was bet from the start would be lost after a long good time, when it is needed; so the bet
/// against record `t` is begun anew at every record, with `1 / (t (t + 1))` of the capital, and what was not bet yet is
/// kept. All of it together is one unit: Ville's inequality holds for the whole. A drift after `t` records is seen only
/// `2 ln t` later, in units of what a record tells, than one at the start.
///
/// The state is a few numbers: it goes into snapshots as it is ([`to_words`](Self::to_words)).
///
/// ```
/// use anabranch_operators::choose::Drift;
///
/// let mut watch = Drift::new(0.01, 0.05);
/// let quiet = (0..100_000).map(|record| if record % 500 == 0 { 1.0 } else { 0.0 });
/// assert!(!quiet.into_iter().any(|loss| watch.add(loss)));
/// // The camera was replaced: every fifth answer is lost.
/// let drifted = (0..).map(|record| if record % 5 == 0 { 1.0 } else { 0.0 });
/// let seen = drifted.take_while(|loss| !watch.add(*loss)).count();
/// assert!(seen < 250, "{seen}");
/// assert!(watch.alarmed());
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Drift {
    max_loss: f64,
    alpha: f64,
    records: u64,
    /// What each stake has made of what was bet so far.
    capital: [f64; COUNT],
    alarmed: bool,
}

impl Drift {
    /// Words of a state.
    pub const WORDS: usize = COUNT + 4;

    /// A watch that has seen nothing.
    pub fn new(max_loss: f64, alpha: f64) -> Self {
        Self { max_loss, alpha, records: 0, capital: [0.0; COUNT], alarmed: false }
    }

    /// Adds the loss of a record and tells whether the alarm is raised; once raised, it stays so. What is no number
    /// is a whole loss.
    pub fn add(&mut self, loss: f64) -> bool {
        let loss = if loss.is_nan() { 1.0 } else { loss.clamp(-1.0, 1.0) };
        self.records += 1;
        let at = self.records as f64;
        let begun = 1.0 / (at * (at + 1.0));
        // The claim is a mean of at most `max_loss`: the same as a mean of at least that, signs turned.
        let factors = stake::factors(-self.max_loss, -loss);
        for (capital, factor) in self.capital.iter_mut().zip(factors) {
            // Beyond the largest number there is nothing more to tell.
            *capital = ((*capital + begun) * factor).min(f64::MAX / COUNT as f64);
        }
        self.alarmed |= self.evidence() >= 1.0 / self.alpha;
        self.alarmed
    }

    /// What one unit of capital became: an alarm is raised when it is `1 / alpha`.
    pub fn evidence(&self) -> f64 {
        let bet: f64 = self.capital.iter().map(|capital| capital / COUNT as f64).sum();
        bet + 1.0 / (self.records as f64 + 1.0)
    }

    /// Whether the alarm was raised.
    pub fn alarmed(&self) -> bool {
        self.alarmed
    }

    /// How many records were watched.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Whether it watches for such a loss, with such a probability of a false alarm.
    pub fn claims(&self, max_loss: f64, alpha: f64) -> bool {
        (self.max_loss, self.alpha) == (max_loss, alpha)
    }

    /// The state bit for bit, which text would not keep.
    pub fn to_words(&self) -> [u64; Self::WORDS] {
        let mut words = [0; Self::WORDS];
        let rest = [self.records, u64::from(self.alarmed)];
        let numbers = [self.max_loss, self.alpha].into_iter().chain(self.capital);
        let all = numbers.map(f64::to_bits).chain(rest);
        words.iter_mut().zip(all).for_each(|(word, of)| *word = of);
        words
    }

    /// The watch with this state; `None` for what is none.
    pub fn from_words(words: &[u64; Self::WORDS]) -> Option<Self> {
        let ([max_loss, alpha], rest) = words.split_first_chunk()?;
        let (capital, [records, alarmed]) = rest.split_first_chunk()? else { return None };
        let [max_loss, alpha] = [max_loss, alpha].map(|word| f64::from_bits(*word));
        let capital: [f64; COUNT] = capital.map(f64::from_bits);
        let sound = capital.iter().all(|of| of.is_finite() && *of >= 0.0);
        let sound = sound && max_loss.is_finite() && alpha > 0.0 && *alarmed < 2;
        sound.then_some(Self {
            max_loss,
            alpha,
            records: *records,
            capital,
            alarmed: *alarmed == 1,
        })
    }
}
