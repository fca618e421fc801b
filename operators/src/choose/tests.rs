//! Simulated streams: how often the statistics are wrong, and how soon they are done.

use proptest::prelude::*;

use super::*;

const ALPHA: f64 = 0.05;

/// Numbers in [0, 1) that a seed determines.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// The loss of a record: discordant with probability `discordance`, of this mean.
    fn loss(&mut self, discordance: f64, mean: f64) -> f64 {
        let roll = self.roll();
        if roll < f64::midpoint(discordance, mean) {
            1.0
        } else if roll < discordance {
            -1.0
        } else {
            0.0
        }
    }
}

/// Whether a stream of this mean is ever shown to be below `max_loss`, looking after every so many records.
fn accepted(seed: u64, mean: f64, discordance: f64, max_loss: f64, look: usize) -> Option<usize> {
    let (mut dice, mut losses) = (Dice(seed.wrapping_mul(0x1234_5678_9abc)), Losses::default());
    for at in 1..=4_000 {
        losses.add(dice.loss(discordance, mean));
        if at % look == 0 && losses.below(max_loss, ALPHA) {
            return Some(at);
        }
    }
    None
}

#[test]
fn at_the_boundary_few_of_a_thousand_streams_are_accepted_whenever_one_looks() {
    for (look, discordance) in [(16, 0.02), (64, 0.02), (1_000, 0.05), (64, 0.3)] {
        let wrong =
            (0..1_000).filter(|seed| accepted(*seed, 0.01, discordance, 0.01, look).is_some());
        let wrong = wrong.count();
        // Five per cent are allowed; more than 7 would come up once in 600 tests.
        assert!(wrong <= 70, "{wrong} of 1000, looking every {look}");
    }
}

/// Losses of a task that is right by degrees: any number between -1 and 1.
#[test]
fn bounds_hold_for_losses_between_right_and_wrong() {
    // Most records lose a little and some gain, or few lose all and the rest gain: of mean 0.02 each.
    let shapes: [fn(f64, f64) -> f64; 3] = [
        |roll, _| 0.2 * roll - 0.08,
        |roll, other| if roll < 0.1 { 0.8 + 0.2 * other } else { -0.07 - 0.02 * other + 0.002_222 },
        |roll, other| if roll < 0.5 { 0.04 - other } else { other },
    ];
    for (shape, loss) in shapes.into_iter().enumerate() {
        let (mut wrong, mut mean) = (0, 0.0);
        for seed in 0..300 {
            let mut dice = Dice(seed * 991 + 7);
            let (mut losses, mut ever) = (Losses::default(), false);
            for at in 1..=512 {
                losses.add(loss(dice.roll(), dice.roll()));
                ever |= at % 64 == 0 && losses.below(0.02, ALPHA);
            }
            wrong += usize::from(ever);
            mean += losses.mean() / 300.0;
        }
        assert!((mean - 0.02).abs() < 0.003, "{shape}: {mean}");
        assert!(wrong <= 27, "{shape}: {wrong} of 300");
    }
}

#[test]
fn harmless_settings_are_accepted_within_three_thousand_records() {
    let mut needed: Vec<usize> =
        (0..200).map(|seed| accepted(seed, 0.0, 0.02, 0.01, 16).unwrap_or(usize::MAX)).collect();
    needed.sort_unstable();
    assert!(needed[100] <= 2_200, "{}", needed[100]);
    assert!(needed[160] <= 4_000, "{}", needed[160]);
}

#[test]
fn a_watch_is_quiet_while_nothing_drifts_and_tells_when_something_does() {
    let (mut alarms, mut late) = (0, 0);
    for seed in 0..300 {
        let (mut dice, mut watch) = (Dice(seed * 77), Drift::new(0.01, ALPHA));
        let alarmed = (0..5_000).any(|_| watch.add(dice.loss(0.03, 0.01)));
        alarms += usize::from(alarmed);
        if !alarmed {
            late += usize::from(!(0..2_000).any(|_| watch.add(dice.loss(0.06, 0.05))));
        }
    }
    assert!(alarms <= 25, "{alarms} of 300");
    assert!(late <= 6, "{late} of 300");
}

#[test]
fn a_watch_goes_on_from_its_words_bit_for_bit() {
    let (mut dice, mut watch) = (Dice(5), Drift::new(0.01, ALPHA));
    for _ in 0..500 {
        watch.add(dice.loss(0.03, 0.01));
        let again = Drift::from_words(&watch.to_words()).unwrap();
        assert_eq!((again.to_words(), again.evidence()), (watch.to_words(), watch.evidence()));
        watch = again;
    }
    assert!(watch.claims(0.01, ALPHA) && !watch.claims(0.02, ALPHA));
    let mut damaged = watch.to_words();
    damaged[5] = f64::NAN.to_bits();
    assert_eq!(Drift::from_words(&damaged), None);
    assert_eq!(Drift::from_words(&[u64::MAX; Drift::WORDS]), None);
}

#[test]
fn losses_that_are_no_losses_count_as_the_worst() {
    let (mut losses, mut watch) = (Losses::default(), Drift::new(0.01, ALPHA));
    losses.extend([f64::NAN, f64::INFINITY, 7.0]);
    assert_eq!((losses.mean(), losses.records()), (1.0, 3));
    assert!((0..20).any(|_| watch.add(f64::NAN)));
    let nothing = Losses::default().interval(ALPHA);
    assert!(nothing.low <= -0.999 && nothing.high >= 0.999 && nothing.mean == 0.0);
}

fn rule() -> Rule {
    Rule { max_loss: 0.01, class_loss: 0.05, confidence: 0.95 }
}

#[test]
fn too_few_records_decide_nothing_and_cost_nothing() {
    let few = least_records(0.01, ALPHA) as usize - 1;
    let walk = walk(&rule(), 3, &vec![None; few], |_, _| Err("evaluated all the same"));
    let walk = walk.unwrap();
    assert_eq!(walk.chosen, None);
    assert_eq!(walk.steps.len(), 1);
    assert_eq!((walk.steps[0].verdict, walk.steps[0].records), (Verdict::Inconclusive, 0));
}

#[test]
fn what_cannot_be_told_keeps_the_safer_setting() {
    // The second loses just what is allowed: no number of records tells which side it is on.
    let loses = [0, 1];
    let walk = walk::<()>(&rule(), 2, &vec![None; 3_000], |setting, records| {
        Ok(records.map(|record| f64::from(u8::from(record % 100 < loses[setting]))).collect())
    });
    let walk = walk.unwrap();
    assert_eq!(walk.chosen, Some(0));
    assert_eq!(walk.steps[1].verdict, Verdict::Inconclusive);
    assert_eq!(walk.steps[1].records, 3_000);
    let interval = walk.steps[1].interval;
    assert!(interval.low < 0.01 && interval.high > 0.01, "{interval:?}");
}

#[test]
fn a_class_that_vanishes_is_seen_behind_a_good_mean() {
    // Class 9 is a two-hundredth of the records and loses nine of ten; class 8 is as small, and fine.
    let class = |record: usize| match record % 200 {
        9 => 9,
        8 => 8,
        other => other as u32 % 4,
    };
    let classes: Vec<Option<u32>> = (0..40_000).map(|record| Some(class(record))).collect();
    let evaluate = |_, records: std::ops::Range<usize>| {
        Ok::<_, ()>(records.map(|r| f64::from(u8::from(class(r) == 9 && r % 2_000 != 9))).collect())
    };
    let blind = walk(&rule(), 1, &vec![None; 40_000], evaluate).unwrap();
    assert_eq!(blind.chosen, Some(0), "{:?}", blind.steps);
    let seeing = walk(&rule(), 1, &classes, evaluate).unwrap();
    assert_eq!(seeing.steps[0].verdict, Verdict::Rejected);
    assert_eq!(seeing.steps[0].worst_class.as_ref().unwrap().class, Some(9));
}

#[test]
fn small_classes_are_looked_at_together() {
    // Two thousand classes of ten records each, the odd ones lost.
    let classes: Vec<Option<u32>> = (0..20_000).map(|record| Some(record % 2_000)).collect();
    let lost = |_, records: std::ops::Range<usize>| {
        Ok::<_, ()>(records.map(|record| (record % 2) as f64).collect())
    };
    let walk = walk(&rule(), 1, &classes, lost).unwrap();
    assert_eq!(walk.steps[0].verdict, Verdict::Rejected);
    assert_eq!(walk.steps[0].worst_class.as_ref().unwrap().class, None);
}

proptest! {
    #[test]
    fn bounds_hold_the_mean_seen_and_turn_with_the_signs(
        losses in prop::collection::vec(-1.0_f64..=1.0, 0..60),
        alpha in 0.001_f64..0.5,
    ) {
        let (mut plain, mut turned) = (Losses::default(), Losses::default());
        plain.extend(losses.iter().copied());
        turned.extend(losses.iter().rev().map(|loss| -loss));
        let (one, other) = (plain.interval(alpha), turned.interval(alpha));
        prop_assert!(-1.0 <= one.low && one.low <= one.mean + 1e-9);
        prop_assert!(one.mean <= one.high + 1e-9 && one.high <= 1.0);
        prop_assert!((one.low + other.high).abs() < 1e-9 && (one.high + other.low).abs() < 1e-9);
        prop_assert!(!(plain.below(0.1, alpha) && plain.above(0.1, alpha)));
        // More confidence, wider bounds.
        let wider = plain.interval(alpha / 2.0);
        prop_assert!(wider.low <= one.low && wider.high >= one.high);
        // What the bound says and what the test says are the same.
        prop_assert!(one.high > 0.999 || plain.below(one.high + 1e-6, alpha));
        prop_assert!(one.high < -0.999 || !plain.below(one.high - 1e-6, alpha));
    }
}
