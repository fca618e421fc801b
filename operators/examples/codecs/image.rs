//! Images of 32 x 32: how many bytes a model's training set may be reduced to.
//!
//! The 4,000 pixel-exact records of CIFAR-10, of which every fourth tests. Of each setting: its bytes (the whole record),
//! **Q_infer** of a model that was trained on originals, and **Q_train** over paired seeds: the same small model trained
//! on decoded records, tested on originals. A setting is trained with two seeds, and with [`TRIED`] ones when these lost
//! at most [`GIVEN_UP`]. Accuracies of two seeds differ by more than the 1 % that is allowed, so these trials only
//! recommend: the cheapest setting that lost nothing in them is trained anew with seeds that had no say
//! ([`CONFIRMED`]), and these make the figure.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::ops::RangeInclusive;

use anabranch_operators::choose::{Interval, Losses};
use anabranch_operators::codec::{self, Codec, Limits};
use anabranch_operators::evaluate::{Labelled, SeedLoss, accuracy, trained};
use serde_json::{Value, json};

use crate::cifar::{self, FACTS, SIDE};
use crate::part::{Found, Part, Runs};

pub(crate) struct Images;

/// Latent codecs by channels and step.
const LATENTS: [(usize, u16); 5] = [(32, 12), (24, 18), (20, 26), (14, 38), (10, 56)];
const WEBP: [u16; 4] = [75, 40, 15, 0];
const JPEG: [u16; 4] = [90, 60, 30, 10];
/// What is trained on.
const TRAINED: [&str; 7] = [
    "latent-32-12",
    "latent-24-18",
    "latent-20-26",
    "latent-14-38",
    "latent-10-56",
    "webp-75",
    "webp-40",
];
/// What the trials recommend.
const RECOMMENDED: &str = "latent-10-56";
/// Seeds that say whether a setting is worth a trial, those of trials, and those that confirm.
const FIRST: RangeInclusive<u64> = 101..=102;
const TRIED: RangeInclusive<u64> = 1..=20;
const CONFIRMED: RangeInclusive<u64> = 201..=240;
/// Seeds of the models whose answers to decoded pictures are looked at.
const INFERRED: RangeInclusive<u64> = 1..=MODELS;
const MODELS: u64 = 10;
/// What a record can lose: so many of them do not know it any more.
const LOST: RangeInclusive<i32> = -(MODELS as i32)..=MODELS as i32;
/// Codecs that are looked at, between which the probability to be wrong is divided.
const CODECS: [&str; 3] = ["latent", "webp", "jpeg"];
const ALPHA: f64 = 0.05;
/// Pixel-exact records, which the file of a codec is shared between.
const RECORDS: f64 = 4000.0;
/// The loss of the first seeds beyond which a setting is not tried.
const GIVEN_UP: f64 = 0.03;
/// The loss that is allowed.
const MOST: f64 = 0.01;

fn settings() -> Vec<String> {
    let latents = LATENTS.iter().map(|(channels, step)| format!("latent-{channels}-{step}"));
    let webp = WEBP.iter().map(|quality| format!("webp-{quality}"));
    latents.chain(webp).chain(JPEG.iter().map(|quality| format!("jpeg-{quality}"))).collect()
}

/// A codec at one setting.
enum Setting {
    /// With the bytes of its file.
    Latent(Box<codec::Latent>, usize),
    Named(&'static dyn Codec, u16),
}

impl Setting {
    fn of(name: &str, train: &[Labelled]) -> Result<Self, Box<dyn Error>> {
        let (codec, rest) = name.split_once('-').ok_or("CODEC-SETTING")?;
        if let Some((channels, step)) = rest.split_once('-') {
            let (latent, file) = cifar::latent(train, channels.parse()?, step.parse()?)?;
            return Ok(Self::Latent(Box::new(latent), file));
        }
        let codec = codec::named(codec).ok_or_else(|| format!("{codec}: no such codec"))?;
        Ok(Self::Named(codec, rest.parse()?))
    }

    /// What a record comes back as, and its bytes: all of them, and those of a JPEG without its tables.
    fn through(&self, record: &Labelled) -> Result<(Labelled, usize, usize), Box<dyn Error>> {
        let (mut bytes, mut samples) = (Vec::new(), Vec::new());
        let (codec, step): (&dyn Codec, _) = match self {
            Self::Latent(codec, _) => (codec.as_ref(), None),
            Self::Named(codec, step) => (*codec, Some(*step)),
        };
        codec.encode(&cifar::media(record), step, &mut bytes)?;
        let facts = codec.decode(&bytes, &Limits::default(), &mut samples)?;
        if facts != FACTS {
            return Err(format!("{} came back as {facts:?}", codec.name()).into());
        }
        let own = if codec.name() == "jpeg" { without_tables(&bytes) } else { bytes.len() };
        Ok((Labelled { samples, class: record.class }, bytes.len(), own))
    }

    fn decoded(&self, records: &[Labelled]) -> Result<Vec<Labelled>, Box<dyn Error>> {
        records.iter().map(|record| Ok(self.through(record)?.0)).collect()
    }
}

/// Bytes of a JPEG without segments that all pictures of one quality share: application data, quantisers (DQT), Huffman
/// tables (DHT).
fn without_tables(jpeg: &[u8]) -> usize {
    const SHARED: [u8; 3] = [0xdb, 0xc4, 0xe0];
    const SCAN: u8 = 0xda;
    let (mut at, mut shared) = (2, 0);
    while let Some([0xff, marker, high, low]) = jpeg.get(at..at + 4) {
        let length = 2 + usize::from(u16::from_be_bytes([*high, *low]));
        if SHARED.contains(marker) {
            shared += length;
        }
        if *marker == SCAN {
            break;
        }
        at += length;
    }
    jpeg.len() - shared
}

/// Accuracies on originals after trainings from these seeds, by seed.
fn accuracies(
    seeds: RangeInclusive<u64>,
    train: &[Labelled],
    test: &[Labelled],
) -> Result<Vec<f64>, Box<dyn Error>> {
    let model = cifar::model(SIDE, 3);
    seeds.map(|seed| Ok(accuracy(&trained(&model, seed, train)?, test)?)).collect()
}

/// Bytes of every setting, and what models that learned from originals know of what comes back.
fn sweep(train: &[Labelled], test: &[Labelled]) -> Result<Value, Box<dyn Error>> {
    let proxy = cifar::model(SIDE, 3);
    let models = INFERRED.map(|seed| Ok(trained(&proxy, seed, train)?));
    let models = models.collect::<Result<Vec<_>, Box<dyn Error>>>()?;
    // How many of the models know each.
    let right = |records: &[Labelled]| -> Result<Vec<i32>, Box<dyn Error>> {
        let mut right = vec![0; records.len()];
        for model in &models {
            for (right, record) in right.iter_mut().zip(records) {
                *right += accuracy(model, std::slice::from_ref(record))? as i32;
            }
        }
        Ok(right)
    };
    let before = right(test)?;
    let mut found = serde_json::Map::new();
    found.insert("originals".to_owned(), json!({ "right": before.iter().sum::<i32>() }));
    for name in settings() {
        let setting = Setting::of(&name, train)?;
        let (mut all, mut own, mut decoded) = (0, 0, Vec::new());
        for record in test {
            let (back, bytes, without) = setting.through(record)?;
            all += bytes;
            own += without;
            decoded.push(back);
        }
        let file = if let Setting::Latent(_, file) = setting { file } else { 0 };
        let after = right(&decoded)?;
        let lost: Vec<i32> = before.iter().zip(&after).map(|(one, other)| one - other).collect();
        let counts = LOST.map(|loss| lost.iter().filter(|lost| **lost == loss).count());
        let count = test.len() as f64;
        let found_of = json!({
            "bytes": all as f64 / count, "own": own as f64 / count, "file": file,
            "losses": counts.collect::<Vec<_>>(),
        });
        found.insert(name, found_of);
    }
    Ok(found.into())
}

impl Part for Images {
    fn name(&self) -> &'static str {
        "image"
    }

    fn runs(&self) -> Vec<String> {
        let tried = settings().into_iter().filter(|setting| TRAINED.contains(&setting.as_str()));
        let tried = tried.map(|setting| format!("train-{setting}"));
        let confirmed = ["confirm-originals".to_owned(), format!("confirm-{RECOMMENDED}")];
        let first = ["sweep", "originals"].map(str::to_owned);
        first.into_iter().chain(tried).chain(confirmed).collect()
    }

    fn seeds(&self) -> Vec<u64> {
        FIRST.chain(TRIED).chain(CONFIRMED).collect()
    }

    fn run(&self, run: &str) -> Result<Value, Box<dyn Error>> {
        let [train, test] = cifar::exact()?;
        let decoded = |name: &str| Setting::of(name, &train)?.decoded(&train);
        if let Some(name) = run.strip_prefix("confirm-") {
            let train = if name == "originals" { train.clone() } else { decoded(name)? };
            return Ok(json!({ "seeds": accuracies(CONFIRMED, &train, &test)? }));
        }
        if let Some(name) = run.strip_prefix("train-") {
            let decoded = decoded(name)?;
            let first = accuracies(FIRST, &decoded, &test)?;
            let originals = accuracies(FIRST, &train, &test)?;
            let lost: f64 = originals.iter().zip(&first).map(|(a, b)| a - b).sum();
            let promising = lost / FIRST.count() as f64 <= GIVEN_UP;
            let seeds = if promising { accuracies(TRIED, &decoded, &test)? } else { Vec::new() };
            return Ok(json!({ "pilots": first, "seeds": seeds }));
        }
        match run {
            "sweep" => sweep(&train, &test),
            _ => {
                let first = accuracies(FIRST, &train, &test)?;
                Ok(json!({ "pilots": first, "seeds": accuracies(TRIED, &train, &test)? }))
            }
        }
    }

    fn found(&self, runs: &Runs) -> Result<Found, Box<dyn Error>> {
        let of = |setting: &str, which: &str| {
            let found = runs.get("sweep").and_then(|run| run.get(setting)?.get(which)?.as_f64());
            found.unwrap_or(f64::NAN)
        };
        let bytes = |setting: &str| of(setting, "bytes") + of(setting, "file") / RECORDS;
        let seeds = |run: &str| -> Vec<f64> {
            let all = runs.get(run).and_then(|run| run["seeds"].as_array()).into_iter().flatten();
            all.filter_map(Value::as_f64).collect()
        };
        let trained = |before: &str, after: &str| -> Result<Option<SeedLoss>, Box<dyn Error>> {
            let (before, after) = (seeds(before), seeds(after));
            match after.len() {
                0 => Ok(None),
                count if count == before.len() => Ok(Some(SeedLoss::of(
                    before.into_iter().zip(after).map(|(a, b)| [a, b]).collect(),
                )?)),
                count => Err(format!("{count} seeds against {}", before.len()).into()),
            }
        };
        let inferred = |setting: &str| -> Interval {
            let counts =
                runs.get("sweep").and_then(|run| run.get(setting)?.get("losses")?.as_array());
            let mut losses = Losses::default();
            for (loss, count) in LOST.zip(counts.into_iter().flatten()) {
                let count = count.as_u64().unwrap_or_default() as usize;
                losses.extend(std::iter::repeat_n(f64::from(loss) / MODELS as f64, count));
            }
            losses.interval(ALPHA / CODECS.len() as f64)
        };
        let shown = |[low, mean, high]: [f64; 3]| {
            format!("{:+.2} ({:+.2} to {:+.2})", 100.0 * mean, 100.0 * low, 100.0 * high)
        };
        let of_seeds = |loss: &SeedLoss| shown([loss.interval[0], loss.mean, loss.interval[1]]);
        let originals = seeds("originals");
        let mean = originals.iter().sum::<f64>() / originals.len() as f64;
        let mut text = format!(
            "## Pictures\n\n4,000 pixel-exact records of CIFAR-10: every fourth tests, the others train. A ViT of two \
             blocks learns {:.1} % of the classes in {} steps. **Q_infer**: what {MODELS} models of originals lose on decoded \
             records, in points, the mean over the models of each record, with bounds over records (each 98.3 %, at any \
             number of records). **Q_train**: what the model loses when decoded records train it, over {} paired seeds with \
             a 95 % interval over seeds, for these records. Bytes are those of whole records of the test, and of a \
             latent codec's file the share of one of the 4,000. What has no Q_train was not trained on, JPEG above all: a \
             coarser one may do as well as that of quality 90, its tables are most of its bytes.\n\n\
             | setting | bytes | Q_infer | Q_train, tried |\n|---|---|---|---|\n",
            100.0 * mean,
            cifar::STEPS,
            TRIED.count(),
        );
        let raw = (SIDE * SIDE * 3) as f64;
        let (jpeg, own) = (bytes("jpeg-90"), of("jpeg-90", "own"));
        let mut all = settings();
        all.sort_by(|one, other| bytes(other).total_cmp(&bytes(one)));
        let mut recommended: Option<&str> = None;
        for setting in &all {
            let tried = trained("originals", &format!("train-{setting}"))?;
            let Interval { low, mean, high } = inferred(setting);
            writeln!(
                text,
                "| {setting} | {:.1} | {} | {} |",
                bytes(setting),
                shown([low, mean, high]),
                tried.as_ref().map(of_seeds).unwrap_or_default(),
            )?;
            // From the most bytes on, so that the last is the cheapest.
            if tried.is_some_and(|loss| loss.mean <= 0.0) {
                recommended = Some(setting);
            }
        }
        if recommended != Some(RECOMMENDED) {
            return Err(format!("the trials recommend {recommended:?}, not {RECOMMENDED}").into());
        }
        let mut figures = BTreeMap::from([
            ("image.jpeg90_bytes".to_owned(), jpeg),
            ("image.jpeg90_without_tables_bytes".to_owned(), own),
            ("image.accuracy_percent".to_owned(), 100.0 * mean),
        ]);
        // Of each codec from the most bytes on; what comes behind the first failure is not looked at.
        let mut least = f64::INFINITY;
        for codec in CODECS {
            let of = all.iter().filter(|setting| setting.starts_with(codec));
            let Some(last) = of.take_while(|setting| inferred(setting).high <= MOST).last() else {
                continue;
            };
            figures.insert(format!("image.{codec}.vs_raw_at_q_infer"), raw / bytes(last));
            least = least.min(bytes(last));
        }
        if least.is_finite() {
            figures.insert("image.vs_raw".to_owned(), raw / least);
        }
        let confirmed = trained("confirm-originals", &format!("confirm-{RECOMMENDED}"))?;
        let confirmed = confirmed.ok_or("it was not confirmed")?;
        let size = bytes(RECOMMENDED);
        let kept = confirmed.interval[1] <= MOST;
        figures.insert("image.q_train_points".to_owned(), 100.0 * confirmed.mean);
        figures.insert("image.q_train_points_at_most".to_owned(), 100.0 * confirmed.interval[1]);
        if kept {
            figures.insert("image.vs_jpeg90".to_owned(), jpeg / size);
            figures.insert("image.vs_jpeg90_without_tables".to_owned(), own / size);
            figures.insert("image.vs_raw_at_q_train".to_owned(), raw / size);
        }
        writeln!(
            text,
            "\nThe cheapest setting that lost nothing in these trials, **{RECOMMENDED}**, with {} seeds that had no say in \
             that: {} points, which is {}at most {:.0} point with 95 % confidence over seeds. It takes {size:.1} bytes; JPEG \
             at quality 90 takes {jpeg:.1} ({:.2} times as many), and {own:.1} ({:.2} times) when its tables stand outside \
             of records.",
            CONFIRMED.count(),
            of_seeds(&confirmed),
            if kept { "" } else { "not shown to be " },
            100.0 * MOST,
            jpeg / size,
            own / size
        )?;
        Ok(Found { figures, text })
    }

    /// Trained models differ between processors by a few records.
    fn near(&self, name: &str, recorded: f64, found: f64) -> bool {
        let near = (recorded - found).abs();
        match name {
            _ if ["bytes", "own", "file"].iter().any(|word| name.ends_with(word)) => {
                near <= 0.01 * recorded
            }
            _ if name.contains("losses") || name.ends_with("right") => near <= 100.0,
            _ => near <= 0.03,
        }
    }
}
