//! What the study found, and what is to be said of it beside what was found here.

use std::collections::BTreeMap;

/// Our name of the deep metric.
pub(super) const DEEP: &str = "deep_similarity_db";

/// A task of the study and the one that stands for it here.
pub(super) struct Published {
    /// The run's name.
    pub(super) ours: &'static str,
    pub(super) heading: &'static str,
    /// What its score is called.
    pub(super) score: &'static str,
    /// The metric of samples, and how the study's went with its task, and so its deep one: Pearson over its codecs.
    waveform: (&'static str, f64),
    deep: f64,
}

/// The four tasks, with correlations computed from the tables of the study's notebooks (danjacobellis/MPQ, 935db1f).
pub(super) const STUDY: [Published; 4] = [
    Published {
        ours: "classification",
        heading: "Classification",
        score: "accuracy",
        waveform: ("psnr", 0.86),
        deep: 0.93,
    },
    Published {
        ours: "segmentation",
        heading: "Segmentation",
        score: "IoU",
        waveform: ("psnr", 0.82),
        deep: 0.98,
    },
    Published {
        ours: "speech",
        heading: "Speech",
        score: "accuracy",
        waveform: ("si_sdr", 0.87),
        deep: 0.26,
    },
    Published {
        ours: "separation",
        heading: "Separation",
        score: "share of voice",
        waveform: ("si_sdr", 0.88),
        deep: 0.56,
    },
];

impl Published {
    /// The study's correlation of a metric with the score of this task, if it had that metric.
    pub(super) fn published(&self, metric: &str) -> Option<f64> {
        match metric {
            _ if metric == DEEP => Some(self.deep),
            _ if metric == self.waveform.0 => Some(self.waveform.1),
            _ => None,
        }
    }

    /// The study's findings one by one, and whether they were found here too.
    pub(super) fn told(figures: &BTreeMap<String, f64>, gains: &[String]) -> String {
        let of = |task: &Self, what: &str| figures.get(&format!("families.{}.{what}", task.ours));
        let wins = |task: &&Self| {
            let times = |family: &str| {
                of(task, &format!("{family}.vs_raw_at_mean_loss")).copied().unwrap_or(0.0)
            };
            times("generative") > times("classical").max(times("neural"))
        };
        let deeper = |task: &&Self| {
            let r = |metric: &str| of(task, &format!("correlation.{metric}")).copied();
            r(DEEP).zip(r(task.waveform.0)).is_some_and(|(deep, other)| deep > other)
        };
        let named = |kept: &dyn Fn(&&Self) -> bool| {
            let names: Vec<&str> = STUDY.iter().filter(kept).map(|task| task.ours).collect();
            if names.is_empty() { "none of the tasks".to_owned() } else { names.join(", ") }
        };
        let gains = match gains {
            [] => "No setting here gained anything that could be shown".to_owned(),
            gains => format!("Shown to gain something here: {}", gains.join(", ")),
        };
        format!(
            "\nThe study's findings, and what was found here (as point estimates, without a test of differences):\n\n\
             1. *Generative codecs store the least at a given loss.* Here the generative decoder stores less than both \
             other families in: {}. Of pictures it reads the same bytes as the neural ones, so that only its loss can differ. \
             The study's rates of its generative codec are bytes that were called bits (a factor of 8), without which it was \
             not the smallest on its pictures either.\n\
             2. *Machine perception goes with deep similarity.* Here the deep metric goes better with the score than the one of \
             samples in: {}. (In the study's own numbers: classification and segmentation, not speech and separation.)\n\
             3. *Compression may make a task easier.* {gains}. (Bounds of 97.5 % for each of some 90 settings by itself, of \
             which two may be wrong; the study gave none, and its gains are one to five pictures.)\n\n\
             What this cannot say: these networks are small and were trained here, so levels of accuracy are not those of \
             the study; those of classification also saw pictures that JPEG had been through (10,000 of 13,000), which may favour \
             it; its neural codecs are larger by orders of magnitude; its sounds are longer. Mixtures share two clips and \
             two voices, and boxes of one drawing a sentence, so that bounds over records are too narrow for others.\n",
            named(&wins),
            named(&deeper),
        )
    }
}
