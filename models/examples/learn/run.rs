//! One training: a task, a contender, a rate, a seed.

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use anabranch_models::artifact::architecture::Architecture;
use anabranch_models::random::Random;
use anabranch_models::train::{Options, Trainer, evaluate};
use anabranch_models::transformer::{Start, Transformer};
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use crate::contender::Contender;
use crate::score::{self, Scores};
use crate::task::Task;

/// What is trained, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) task: String,
    pub(crate) contender: String,
    pub(crate) rate: f32,
    /// All steps of an optimiser, a teacher's and those of a fit among them.
    pub(crate) steps: u64,
    pub(crate) seed: u64,
}

/// What came of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Outcome {
    #[serde(flatten)]
    pub(crate) settings: Settings,
    pub(crate) parameters: u64,
    /// Step, loss and accuracy on the held-out examples.
    pub(crate) curve: Vec<(u64, f64, f64)>,
    #[serde(flatten)]
    pub(crate) scores: Scores,
    /// Of the whole training, evaluations left out.
    pub(crate) seconds: f64,
}

impl Default for Settings {
    fn default() -> Self {
        let (task, contender) = ("shakespeare".to_owned(), "mlp".to_owned());
        Self { task, contender, rate: 2e-3, steps: 2_000, seed: 1 }
    }
}

impl Settings {
    pub(crate) fn set(&mut self, name: &str, value: &str) -> Result<(), Box<dyn Error>> {
        match name {
            "--task" => value.clone_into(&mut self.task),
            "--contender" => value.clone_into(&mut self.contender),
            "--rate" => self.rate = value.parse()?,
            "--steps" => self.steps = value.parse()?,
            "--seed" => self.seed = value.parse()?,
            _ => return Err(format!("{name} is no option of this program").into()),
        }
        Ok(())
    }

    /// A word that names the run.
    pub(crate) fn name(&self) -> String {
        let Self { task, contender, rate, steps, seed } = self;
        format!("{task}-{}-{rate:e}-{steps}-{seed}", contender.replace([':', '='], "_"))
    }
}

/// Trains, and scores what is exported. `say` gets a line for each look at the held-out examples.
pub(crate) fn run(
    settings: &Settings,
    save: Option<&Path>,
    mut say: impl FnMut(String),
) -> Result<Outcome, Box<dyn Error>> {
    let task = Task::read(&settings.task)?;
    let contender: Contender = settings.contender.parse()?;
    let feed_forward = contender.feed_forward(task.base.width);
    let architecture = task.base.with_feed_forward(feed_forward);
    // Batches have a seed of their own, so that every contender sees the same ones.
    let mut draws = Random::new(settings.seed ^ 0xbade);
    let mut busy = Duration::ZERO;
    let model = start(settings, &contender, &architecture, &task, &mut draws, &mut busy)?;
    let steps = settings.steps.saturating_sub(contender.teacher + contender.fit);
    let mut trainer = Trainer::new(model, options(settings, &contender, steps));
    let mut curve = Vec::new();
    for step in 1..=steps {
        let batch = task.draw(&mut draws)?;
        let begin = Instant::now();
        let metrics = trainer.step(&batch)?;
        busy += begin.elapsed();
        if step % task.every == 0 || step == steps {
            let score = evaluate(&trainer.trained(), &task.held_out)?;
            curve.push((step, score.loss, score.accuracy));
            say(format!(
                "step {step:5}  training {:.4}  held out {:.4}  accuracy {:.2} %  {:.1} ms per step",
                metrics.loss,
                score.loss,
                100.0 * score.accuracy,
                busy.as_secs_f64() * 1e3 / step as f64
            ));
        }
    }
    let model = trainer.trained();
    let artifact = score::artifact(&model, settings, contender.precision)?;
    let scores = score::score(&model, &artifact, &task.held_out)?;
    if let Some(folder) = save {
        score::with_card(artifact, &scores, settings)?.save(folder)?;
    }
    Ok(Outcome {
        settings: settings.clone(),
        parameters: architecture.parameters(),
        curve,
        scores,
        seconds: busy.as_secs_f64(),
    })
}

/// A new model, its tables fitted to a teacher's blocks when the contender has one.
fn start(
    settings: &Settings,
    contender: &Contender,
    architecture: &Architecture,
    task: &Task,
    draws: &mut Random,
    busy: &mut Duration,
) -> Result<Transformer, Box<dyn Error>> {
    let device = Device::flex().autodiff();
    let Contender { start, teacher: steps, fit, .. } = contender;
    if *steps == 0 {
        return Ok(Transformer::new(architecture, start, settings.seed, &device)?);
    }
    let begin = Instant::now();
    let mlp = architecture.with_mlp();
    let model = Transformer::new(&mlp, &Start::default(), settings.seed, &device)?;
    let mut teacher = Trainer::new(model, options(settings, contender, *steps));
    for _ in 0..*steps {
        teacher.step(&task.draw(draws)?)?;
    }
    let teacher = teacher.into_model();
    let tables = architecture.feed_forward.clone();
    let student = teacher.clone().with_feed_forward(tables, start, settings.seed)?;
    let mut student = Trainer::new(student, options(settings, contender, *fit));
    for _ in 0..*fit {
        student.distil(&teacher, &task.draw(draws)?.input)?;
    }
    *busy += begin.elapsed();
    Ok(student.into_model())
}

fn options(settings: &Settings, contender: &Contender, steps: u64) -> Options {
    Options {
        rate: settings.rate,
        steps,
        warm_up: Options::default().warm_up.min(steps / 4),
        table_rate: contender.table_rate,
        table_decay: contender.table_decay,
        seed: settings.seed,
        ..Options::default()
    }
}
