//! The pilot, the walk, and what is made of them.

use super::decision::{Decision, NamedStep, Sizes};
use super::pilot::{self, Measured, Order};
use super::{Auto, Share};
use crate::choose::{Step, Verdict, Walk, least_records, walk};
use crate::codec::{Facts, Media, Setting};
use crate::round_trip::RoundTrip;
use crate::task::{Outcome, Right};

/// Records of the pilot: one of so many, and no more than so many.
const PILOT_SHARE: usize = 5;
const PILOT_MOST: usize = 256;

/// A record that a decision may look at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sampled<'a> {
    pub(crate) media: Media<'a>,
    pub(crate) label: Option<u32>,
    /// Says nothing of the record; records are looked at in its order.
    pub(crate) order: u128,
}

/// A record of which the task knows what it makes of the original.
struct Known<'a> {
    media: Media<'a>,
    right: Option<u32>,
    original: Outcome,
}

impl Auto {
    /// Decides.
    pub(crate) fn decide(&self, mut records: Vec<Sampled<'_>>) -> Decision {
        records.sort_by_key(|record| record.order);
        let known = self.known(&records);
        let (pilot, fresh) = known.split_at((known.len() / PILOT_SHARE).min(PILOT_MOST));
        let media: Vec<Media<'_>> = pilot.iter().map(|record| record.media).collect();
        let order = pilot::order(&self.settings, &media);
        let (setting, steps, why) = match &order {
            Some(order) => self.choice(order, pilot, fresh),
            None => {
                let why = "no setting that loses nothing can hold all records";
                (self.lossless, Vec::new(), why.to_owned())
            }
        };
        Decision {
            told: format!("{setting}: {why}"),
            loss: Decision::Q_INFER.to_owned(),
            codec: setting.codec.name().to_owned(),
            step: setting.step(),
            rule: self.rule,
            task: self.task.name().to_owned(),
            model: self.options.sha256.clone().unwrap_or_default(),
            pilot: pilot.len() as u64,
            fresh: fresh.len() as u64,
            skipped: (records.len() - known.len()) as u64,
            sizes: order.map(|order| Sizes::of(&order, setting, pilot.len())),
            steps,
        }
    }

    /// The setting, what was looked at for it, and why it is that one.
    fn choice(
        &self,
        order: &Order,
        pilot: &[Known<'_>],
        fresh: &[Known<'_>],
    ) -> (Setting, Vec<NamedStep>, String) {
        let safe = order.lossless.setting;
        let lossless = |steps, why: &str| (safe, steps, format!("it loses nothing; {why}"));
        let needed = least_records(self.rule.max_loss, 1.0 - self.rule.confidence);
        let found = fresh.len();
        if (found as u64) < needed {
            let why = format!("{found} records are fewer than the {needed} that a decision needs");
            return lossless(Vec::new(), &why);
        }
        if let Some(why) = blind(pilot) {
            return lossless(Vec::new(), &why);
        }
        let walk = self.walk(fresh, &order.lossy);
        let accepted = walk.chosen.and_then(|at| Some((order.lossy.get(at)?, walk.steps.get(at)?)));
        let accepted = accepted.map(|(measured, step)| {
            let sizes = Sizes::of(order, measured.setting, pilot.len());
            let why = format!(
                "it loses {} of {} accuracy (Q_infer), less than {} with confidence {} among records like the {} that were \
                 looked at; {:.1} times smaller than {safe}",
                percent(step.interval.mean),
                self.task.name(),
                percent(self.rule.max_loss),
                percent(self.rule.confidence),
                step.records,
                sizes.lossless / sizes.chosen.max(f64::MIN_POSITIVE),
            );
            (measured.setting, why)
        });
        let first = walk.steps.first().map(|step| step.verdict);
        let named = |step: Step| {
            let measured = order.lossy.get(step.setting)?;
            Some(NamedStep::new(measured.setting, step))
        };
        let steps = walk.steps.into_iter().filter_map(named).collect();
        match (accepted, first) {
            (Some((setting, why)), _) => (setting, steps, why),
            (None, Some(Verdict::Rejected)) => {
                lossless(steps, "every other setting loses too much")
            }
            (None, Some(_)) => {
                lossless(steps, "no other setting could be shown to lose little enough")
            }
            (None, None) => lossless(steps, "nothing else is smaller"),
        }
    }

    fn known<'a>(&self, records: &[Sampled<'a>]) -> Vec<Known<'a>> {
        let media: Vec<Media<'a>> = records.iter().map(|record| record.media).collect();
        let right: Vec<Option<Right<'_>>> =
            records.iter().map(|record| record.label.map(Right::Class)).collect();
        let outcomes = self.task.outcomes(&media, &right);
        let known = records.iter().zip(outcomes).filter_map(|(record, outcome)| {
            let original = outcome.ok()?;
            // Without labels, what it answers is right.
            let right =
                if self.options.label.is_some() { record.label? } else { original.answer? };
            Some(Known { media: record.media, right: Some(right), original })
        });
        known.collect()
    }

    fn walk(&self, records: &[Known<'_>], lossy: &[Measured]) -> Walk {
        let classes: Vec<Option<u32>> = records.iter().map(|record| record.right).collect();
        let mut room: Vec<(RoundTrip, Option<Facts>)> = Vec::new();
        let walked = walk(&self.rule, lossy.len(), &classes, |setting, range| {
            let records = records.get(range).unwrap_or_default();
            let setting = lossy.get(setting).map(|measured| measured.setting);
            room.resize_with(records.len().max(room.len()), Default::default);
            for (record, (trip, facts)) in records.iter().zip(&mut room) {
                *facts = setting.and_then(|setting| trip.go(setting, &record.media).ok());
            }
            let back = records.iter().zip(&room);
            let back: Vec<(&Known<'_>, Option<Media<'_>>)> =
                back.map(|(known, (trip, facts))| (known, facts.map(|f| trip.media(f)))).collect();
            let media: Vec<Media<'_>> = back.iter().filter_map(|(_, media)| *media).collect();
            let there = back.iter().filter(|(_, media)| media.is_some());
            let right: Vec<Option<Right<'_>>> =
                there.map(|(known, _)| known.right.map(Right::Class)).collect();
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
}

/// Why a task's answers say nothing of what is lost, if that is so.
fn blind(pilot: &[Known<'_>]) -> Option<String> {
    let mut answers: Vec<u32> = pilot.iter().filter_map(|record| record.original.answer).collect();
    answers.sort_unstable();
    let (first, last) = (answers.first()?, answers.last()?);
    if first == last {
        return Some(format!(
            "the model answers {first} to everything, so that no loss can be seen"
        ));
    }
    let mut right: Vec<u32> = pilot.iter().filter_map(|record| record.right).collect();
    right.sort_unstable();
    let most = right.chunk_by(|one, other| one == other).map(<[u32]>::len).max()?;
    let score: f64 = pilot.iter().map(|record| record.original.score).sum();
    (score <= most as f64).then(|| {
        let share = percent(score / pilot.len() as f64);
        format!("the model is right in {share} of the records, no more than always the same answer would be")
    })
}

fn percent(share: f64) -> String {
    Share((share * 1e4).round() / 1e4).to_string()
}
