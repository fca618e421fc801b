//! Which runs a page of results is made of.

use crate::run::Settings;

/// A study: the same sweep for every contender, and the best rate of each with more seeds.
pub(crate) struct Plan {
    pub(crate) parts: Vec<Part>,
}

/// One table of a page.
pub(crate) struct Part {
    /// How its figures begin: `gpt`, `vit.cifar10`.
    pub(crate) figures: &'static str,
    pub(crate) title: &'static str,
    pub(crate) task: &'static str,
    /// The rates that every contender is trained with, seed 1, so many steps.
    pub(crate) rates: &'static [f32],
    pub(crate) steps: u64,
    /// Further lengths of training, at the best rate.
    pub(crate) longer: &'static [u64],
    pub(crate) seeds: &'static [u64],
    /// Name in figures, and what it is.
    pub(crate) contenders: &'static [(&'static str, &'static str)],
    /// What else was tried, at these rates alone.
    pub(crate) tried: &'static [(&'static str, &'static [f32])],
    /// Whether accuracy is what counts, or loss.
    pub(crate) by_accuracy: bool,
}

const GPT: Part = Part {
    figures: "gpt",
    title: "Characters of Shakespeare, nanoGPT's configuration for processors",
    task: "shakespeare",
    rates: &[5e-4, 1e-3, 2e-3, 4e-3, 6e-3],
    steps: 2_000,
    longer: &[5_000],
    seeds: &[1, 2, 3],
    contenders: &[("none", "none"), ("mlp", "mlp"), ("lut", LUT)],
    tried: &[
        ("rows:128x6:axis:table-bits=4", &[4e-3]),
        ("rows:128x6:axis:choices=4:table-bits=4:teacher=700:fit=300", &[4e-3]),
    ],
    by_accuracy: false,
};

/// The tables that are judged: fast enough with values of 4 bits. Those on projections learn better and are slower.
const LUT: &str = "rows:128x6:axis:choices=4:table-bits=4";

/// For pictures, half as wide and of few examples, which tables learn by heart unless they decay.
const LUT_OF_PICTURES: &str = "rows:64x6:axis:choices=4:decay=0.5:table-bits=4";

/// How [`LUT_OF_PICTURES`] was found.
const TRIED_ON_FASHION: &[(&str, &[f32])] = &[
    ("rows:64x6:axis:choices=4:table-bits=4", &[4e-3]),
    ("rows:128x4:axis:choices=4", &[4e-3]),
    ("rows:128x6:axis:choices=8:damping=0.5", &[2e-3]),
    ("rows:64x4:axis:choices=8:table-rate=1", &[4e-3]),
    ("rows:64x2:projected", &[4e-3]),
    ("rows:64x3:projected", &[4e-3]),
    ("rows:128x3:projected", &[4e-3]),
    ("rows:128x4:projected", &[2e-3, 4e-3]),
    ("rows:64x6:axis:choices=4:decay=2", &[4e-3]),
    ("rows:64x4:projected", &[2e-3, 4e-3]),
    ("rows:64x4:projected:decay=0.1", &[4e-3]),
    ("rows:64x4:projected:decay=0.5", &[4e-3]),
    ("rows:64x4:projected:table-rate=1", &[4e-3]),
    ("rows:64x4:projected:damping=0.5", &[4e-3]),
    ("rows:64x4:projected:damping=0.3", &[6e-3]),
    ("rows:128x4:projected:damping=0.5", &[4e-3]),
    ("rows:64x6:projected", &[2e-3]),
    ("rows:64x6:projected:damping=0.5", &[2e-3, 4e-3]),
    ("rows:64x6:projected:damping=0.3", &[2e-3]),
    ("rows:64x6:projected:damping=0.5:table-rate=1", &[4e-3]),
];

impl Plan {
    pub(crate) fn of(name: &str) -> Option<Self> {
        let vision = |figures, title, task, steps, tried| Part {
            figures,
            title,
            task,
            rates: &[2e-3, 4e-3],
            steps,
            longer: &[],
            contenders: &[("none", "none"), ("mlp", "mlp"), ("lut", LUT_OF_PICTURES)],
            tried,
            by_accuracy: true,
            ..GPT
        };
        let parts = match name {
            "lut" => vec![GPT],
            "lut-cifar10" => {
                let title = "CIFAR-10, a ViT of 2 blocks 64 wide over patches of 8 by 8";
                vec![vision("vit.cifar10", title, "cifar10", 8_000, &[])]
            }
            "lut-fashion" => {
                let title = "118 types of fashion products, a ViT of 2 blocks 64 wide over patches of 10 by 10";
                vec![vision("vit.fashion", title, "fashion", 3_000, TRIED_ON_FASHION)]
            }
            _ => return None,
        };
        Some(Self { parts })
    }
}

impl Part {
    /// Every contender at every rate, one seed each.
    pub(crate) fn sweep(&self) -> Vec<Settings> {
        self.at(self.contenders.iter().map(|(_, word)| (*word, self.rates)))
    }

    /// What else was tried.
    pub(crate) fn beside(&self) -> Vec<Settings> {
        self.at(self.tried.iter().copied())
    }

    fn at(&self, words: impl Iterator<Item = (&'static str, &'static [f32])>) -> Vec<Settings> {
        words
            .flat_map(|(word, rates)| rates.iter().map(move |rate| (word, *rate)))
            .map(|(word, rate)| self.run(word, rate, self.steps, 1))
            .collect()
    }

    /// A run of it.
    pub(crate) fn run(&self, contender: &str, rate: f32, steps: u64, seed: u64) -> Settings {
        let (task, contender) = (self.task.to_owned(), contender.to_owned());
        Settings { task, contender, rate, steps, seed }
    }
}
