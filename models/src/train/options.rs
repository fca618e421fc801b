//! How a model is trained.

use super::groups::Group;

/// Rates, schedule and regularisation. The defaults are nanoGPT's for its CPU configuration, with
/// what study taught about look-up tables beside them.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The largest learning rate of weights.
    pub rate: f32,
    /// The rate at the last step, as a share of the largest.
    pub last: f32,
    /// Steps of the linear warm-up.
    pub warm_up: u64,
    /// Steps of the whole schedule; later steps keep the last rate.
    pub steps: u64,
    /// The decay of the first and second moment.
    pub betas: [f32; 2],
    /// Decoupled weight decay of weights, per unit of rate.
    pub decay: f32,
    /// Decoupled weight decay of look-up tables of rows, per unit of their rate. What few examples address is learned by
    /// heart otherwise.
    pub table_decay: f32,
    /// The largest global norm of all gradients but those of tables; 0 does not clip.
    pub clip: f32,
    /// The rate of look-up tables, as a multiple of `rate`.
    pub table_rate: f32,
    /// The rate of thresholds, as a multiple of `rate`.
    pub threshold_rate: f32,
    /// How likely a step drops each modality (never the last one of a batch).
    pub modality_dropout: f32,
    /// What the random state starts from.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            rate: 2e-3,
            last: 0.1,
            warm_up: 100,
            steps: 2_000,
            betas: [0.9, 0.99],
            decay: 0.1,
            table_decay: 0.0,
            clip: 1.0,
            table_rate: 2.0,
            threshold_rate: 1.0,
            modality_dropout: 0.0,
            seed: 1,
        }
    }
}

impl Options {
    /// The decay of a group.
    pub(super) const fn decay_of(&self, group: Group) -> f32 {
        match group {
            Group::Weight => self.decay,
            Group::Table => self.table_decay,
            Group::Plain | Group::Threshold | Group::BitTable => 0.0,
        }
    }

    /// The rate of weights at a step, counted from 0: linear warm-up, then half a cosine.
    pub fn rate_at(&self, step: u64) -> f32 {
        if step < self.warm_up {
            return self.rate * (step + 1) as f32 / (self.warm_up + 1) as f32;
        }
        let length = self.steps.saturating_sub(self.warm_up).max(1);
        let done = ((step - self.warm_up) as f64 / length as f64).min(1.0);
        let share = 0.5 * (1.0 + (std::f64::consts::PI * done).cos());
        self.rate * (f64::from(self.last) + (1.0 - f64::from(self.last)) * share) as f32
    }

    /// The rate of a group, as a multiple of the one of weights.
    pub(super) fn factor(&self, group: Group) -> f32 {
        match group {
            Group::Table | Group::BitTable => self.table_rate,
            Group::Threshold => self.threshold_rate,
            Group::Weight | Group::Plain => 1.0,
        }
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn the_rate_warms_up_and_falls_to_its_share() {
        let options =
            Options { rate: 1.0, last: 0.1, warm_up: 9, steps: 109, ..Options::default() };
        assert_eq!(options.rate_at(0), 0.1);
        assert_eq!(options.rate_at(9), 1.0);
        assert!((options.rate_at(59) - 0.55).abs() < 1e-6);
        assert!((options.rate_at(109) - 0.1).abs() < 1e-6);
        assert_eq!(options.rate_at(500), options.rate_at(109));
    }
}
