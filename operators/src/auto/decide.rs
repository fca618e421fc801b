//! The pilot, the walk, and what is made of them.

use base64::prelude::{BASE64_STANDARD, Engine};

use super::decision::{Decision, NamedStep, Sizes};
use super::pilot::{self, Order};
use super::treatment::{Example, Protected, Treatment, protecting};
use super::{Auto, Share};
use crate::choose::{Losses, Step, Verdict, Walk, least_records, walk};
use crate::codec::{Facts, LATENT, Media, Setting};
use crate::round_trip::RoundTrip;
use crate::task::{Blind, Labels, Outcome, Right};

/// Records of the pilot: one of so many, and no more than so many.
const PILOT_SHARE: usize = 5;
const PILOT_MOST: usize = 256;

/// A record that a decision may look at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sampled<'a> {
    pub(crate) media: Media<'a>,
    /// What is right of it, if anybody knows.
    pub(crate) right: Option<Right<'a>>,
    /// Says nothing of the record; records are looked at in its order.
    pub(crate) order: u128,
}

/// A record of which the task knows what it makes of the original.
struct Known<'a> {
    media: Media<'a>,
    right: Right<'a>,
    original: Outcome,
    /// What the model says of it, where records are to be protected.
    logits: Option<Vec<f32>>,
}

/// A setting of the order, and what comes of it.
struct Candidate {
    treatment: Treatment,
    /// Bytes of all records of the pilot.
    bytes: u64,
    /// Records of the others that were protected.
    protected: u64,
}

/// What is chosen.
struct Choice {
    setting: Setting,
    protected: Option<Protected>,
    /// Bytes of all records of the pilot, if they are known.
    bytes: Option<u64>,
    steps: Vec<NamedStep>,
    why: String,
}

impl Choice {
    /// What loses nothing, for a reason.
    fn lossless(order: &Order, steps: Vec<NamedStep>, why: &str) -> Self {
        let (setting, bytes) = (order.lossless.setting, Some(order.lossless.bytes));
        Self { setting, protected: None, bytes, steps, why: format!("it loses nothing; {why}") }
    }
}

impl Auto {
    /// Decides.
    pub(crate) fn decide(&self, mut records: Vec<Sampled<'_>>) -> Decision {
        records.sort_by_key(|record| record.order);
        let known = self.known(&records);
        let (pilot, fresh) = known.split_at((known.len() / PILOT_SHARE).min(PILOT_MOST));
        let media: Vec<Media<'_>> = pilot.iter().map(|record| record.media).collect();
        let order = pilot::order(&self.settings, &media);
        let Choice { setting, protected, bytes, steps, why } = match &order {
            Some(order) => self.choice(order, pilot, fresh),
            None => {
                let why = "no setting that loses nothing can hold all records".to_owned();
                let setting = self.lossless;
                Choice { setting, protected: None, bytes: None, steps: Vec::new(), why }
            }
        };
        let sizes = order
            .zip(bytes)
            .map(|(order, chosen)| Sizes::of(chosen, order.lossless.bytes, pilot.len()));
        let better = protected.as_ref().map(|of| of.codec.as_str());
        let by_latent = [Some(setting.codec.name()), better].contains(&Some(LATENT));
        Decision {
            told: format!("{setting}: {why}"),
            loss: Decision::Q_INFER.to_owned(),
            codec: setting.codec.name().to_owned(),
            step: setting.step(),
            rule: self.rule,
            task: self.task.name().to_owned(),
            model: self.options.sha256.clone().unwrap_or_default(),
            latent: self.options.latent.clone(),
            latent_file: by_latent.then(|| BASE64_STANDARD.encode(&self.latent_file)),
            pilot: pilot.len() as u64,
            fresh: fresh.len() as u64,
            skipped: (records.len() - known.len()) as u64,
            protected,
            sizes,
            steps,
        }
    }

    /// The setting, what was looked at for it, and why it is that one.
    fn choice(&self, order: &Order, pilot: &[Known<'_>], fresh: &[Known<'_>]) -> Choice {
        let lossless = |steps, why: &str| Choice::lossless(order, steps, why);
        let needed = least_records(self.rule.max_loss, 1.0 - self.rule.confidence);
        let found = fresh.len();
        if (found as u64) < needed {
            let why = format!("{found} records are fewer than the {needed} that a decision needs");
            return lossless(Vec::new(), &why);
        }
        if let Some(why) = self.blind(pilot) {
            return lossless(Vec::new(), &why);
        }
        let mut candidates = Vec::new();
        let walk = self.walk((pilot, fresh), order, &mut candidates);
        let accepted = walk.chosen.and_then(|at| Some((candidates.get(at)?, walk.steps.get(at)?)));
        let accepted = accepted.map(|(candidate, step)| self.accepted(order, candidate, step));
        let first = walk.steps.first().map(|step| step.verdict);
        let named = |step: Step| {
            let measured = order.lossy.get(step.setting)?;
            Some(NamedStep::new(measured.setting, step))
        };
        let steps = walk.steps.into_iter().filter_map(named).collect();
        match (accepted, first) {
            (Some(choice), _) => Choice { steps, ..choice },
            (None, Some(Verdict::Rejected)) => {
                lossless(steps, "every other setting loses too much")
            }
            (None, Some(_)) => {
                lossless(steps, "no other setting could be shown to lose little enough")
            }
            (None, None) => lossless(steps, "nothing else is smaller"),
        }
    }

    /// A setting that was shown to lose little enough.
    fn accepted(&self, order: &Order, candidate: &Candidate, step: &Step) -> Choice {
        let Candidate { treatment, bytes, protected } = *candidate;
        let protection = treatment.protection.as_ref().zip(self.options.protect);
        let protected = protection
            .map(|(protection, share)| Protected::new(protection, share, step.records, protected));
        let better = protected.as_ref().map(|of| {
            let share = percent(of.protected as f64 / of.tested.max(1) as f64);
            format!(", of which {share} would get a better setting")
        });
        let why = format!(
            "it loses {} of {} {} (Q_infer), less than {} with confidence {} among records like the {} that were \
             looked at{}; {:.1} times smaller than {}",
            percent(step.interval.mean),
            self.task.name(),
            match self.task.labels() {
                Labels::Classes => "accuracy",
                Labels::Media => "score",
            },
            percent(self.rule.max_loss),
            percent(self.rule.confidence),
            step.records,
            better.unwrap_or_default(),
            order.lossless.bytes as f64 / bytes.max(1) as f64,
            order.lossless.setting,
        );
        let setting = treatment.setting;
        Choice { setting, protected, bytes: Some(bytes), steps: Vec::new(), why }
    }

    fn known<'a>(&self, records: &[Sampled<'a>]) -> Vec<Known<'a>> {
        let media: Vec<Media<'a>> = records.iter().map(|record| record.media).collect();
        let right: Vec<Option<Right<'_>>> = records.iter().map(|record| record.right).collect();
        let outcomes = self.task.outcomes(&media, &right);
        let logits = self.options.protect.map(|_| self.task.logits(&media)).unwrap_or_default();
        let mut logits = logits.into_iter().map(Result::ok);
        let known = records.iter().zip(outcomes).filter_map(|(record, outcome)| {
            let logits = logits.next().flatten();
            let original = outcome.ok()?;
            // Without labels, what it answers is right.
            let right = match self.options.label {
                Some(_) => record.right?,
                None => Right::Class(original.answer?),
            };
            Some(Known { media: record.media, right, original, logits })
        });
        known.collect()
    }

    /// Setting `at` of the order, as it would be acted on: who is protected goes by the pilot, so that what is then
    /// tested on other records is what would be stored of them.
    fn candidate(&self, order: &Order, at: usize, pilot: &[Known<'_>]) -> Option<Candidate> {
        let measured = order.lossy.get(at)?;
        let examples: Vec<Example<'_>> = pilot
            .iter()
            .filter_map(|of| Some(Example { media: of.media, logits: of.logits.as_deref()? }))
            .collect();
        let task = self.task.as_ref();
        let protected =
            self.options.protect.and_then(|share| protecting(order, at, share, task, &examples));
        let plain = (Treatment::plain(measured.setting), measured.bytes);
        let (treatment, bytes) = protected.unwrap_or(plain);
        Some(Candidate { treatment, bytes, protected: 0 })
    }

    fn walk(
        &self,
        (pilot, records): (&[Known<'_>], &[Known<'_>]),
        order: &Order,
        candidates: &mut Vec<Candidate>,
    ) -> Walk {
        let classes: Vec<Option<u32>> =
            records.iter().map(|record| record.right.class().ok()).collect();
        let mut room: Vec<(RoundTrip, Option<Facts>)> = Vec::new();
        let walked = walk(&self.rule, order.lossy.len(), &classes, |setting, range| {
            let records = records.get(range).unwrap_or_default();
            // One after the other is walked to.
            if candidates.len() == setting {
                candidates.extend(self.candidate(order, setting, pilot));
            }
            let mut candidate = candidates.get_mut(setting);
            room.resize_with(records.len().max(room.len()), Default::default);
            for (record, (trip, facts)) in records.iter().zip(&mut room) {
                let gone = candidate.as_mut().and_then(|candidate| {
                    let (task, logits) = (self.task.as_ref(), record.logits.as_deref());
                    let gone = candidate.treatment.go(task, &record.media, logits, trip).ok()?;
                    candidate.protected += u64::from(gone.protected);
                    Some(gone)
                });
                *facts = gone.map(|gone| gone.facts);
            }
            let back = records.iter().zip(&room);
            let back: Vec<(&Known<'_>, Option<Media<'_>>)> =
                back.map(|(known, (trip, facts))| (known, facts.map(|f| trip.media(f)))).collect();
            let media: Vec<Media<'_>> = back.iter().filter_map(|(_, media)| *media).collect();
            let there = back.iter().filter(|(_, media)| media.is_some());
            let right: Vec<Option<Right<'_>>> = there.map(|(known, _)| Some(known.right)).collect();
            let mut outcomes = self.task.outcomes(&media, &right).into_iter();
            let losses = back.into_iter().map(|(known, media)| {
                let decoded = media.and_then(|_| outcomes.next()).and_then(Result::ok);
                // A record that does not come back is lost.
                decoded.map_or(1.0, |decoded| known.original.score - decoded.score)
            });
            Ok::<_, std::convert::Infallible>(losses.collect())
        });
        match walked {
            Ok(walk) => walk,
            Err(never) => match never {},
        }
    }

    /// Why the model's answers say nothing of what is lost, if that is so.
    fn blind(&self, pilot: &[Known<'_>]) -> Option<String> {
        match self.task.labels() {
            Labels::Classes => one_class(pilot),
            Labels::Media => self.same_to_all(pilot),
        }
    }

    /// The same of a model whose answers are media. What can be lost is the part of its scores that hangs on its looking
    /// at the record: that by which they are higher than those of answers that have nothing to do with it. A model that
    /// answers the same to everything, or never anything that is right, has none.
    fn same_to_all(&self, pilot: &[Known<'_>]) -> Option<String> {
        let media: Vec<Media<'_>> = pilot.iter().map(|record| record.media).collect();
        let right: Vec<Option<Right<'_>>> = pilot.iter().map(|record| Some(record.right)).collect();
        let most = self.rule.max_loss;
        self.task.blind_outcomes(&media, &right).into_iter().find_map(|Blind { answers, outcomes }| {
            let pairs = pilot.iter().zip(outcomes).filter_map(|(record, blind)| {
                Some([record.original.score, blind.ok()?.score])
            });
            let pairs: Vec<[f64; 2]> = pairs.collect();
            let mut seen = Losses::default();
            seen.extend(pairs.iter().map(|[own, blind]| own - blind));
            if seen.mean() > most {
                return None;
            }
            let count = pairs.len().max(1) as f64;
            let [own, blind] = [0, 1].map(|which| {
                percent(pairs.iter().filter_map(|pair| pair.get(which)).sum::<f64>() / count)
            });
            Some(format!(
                "the model scores {own} of {} records, and {blind} with {answers}: too little hangs on the record for \
                 a loss of {} to be seen",
                pairs.len(),
                percent(most)
            ))
        })
    }
}

/// Why a model of classes says nothing of what is lost, if that is so.
fn one_class(pilot: &[Known<'_>]) -> Option<String> {
    let mut answers: Vec<u32> = pilot.iter().filter_map(|record| record.original.answer).collect();
    answers.sort_unstable();
    let (first, last) = (answers.first()?, answers.last()?);
    if first == last {
        return Some(format!(
            "the model answers {first} to everything, so that no loss can be seen"
        ));
    }
    let right = pilot.iter().filter_map(|record| record.right.class().ok());
    let mut right: Vec<u32> = right.collect();
    right.sort_unstable();
    let most = right.chunk_by(|one, other| one == other).map(<[u32]>::len).max()?;
    let score = score(pilot);
    (score <= most as f64).then(|| {
        let share = percent(score / pilot.len() as f64);
        format!("the model is right in {share} of the records, no more than always the same answer would be")
    })
}

/// The sum of the scores of originals.
fn score(pilot: &[Known<'_>]) -> f64 {
    pilot.iter().map(|record| record.original.score).sum()
}

fn percent(share: f64) -> String {
    Share((share * 1e4).round() / 1e4).to_string()
}
