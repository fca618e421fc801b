//! Records of latents are read by others: numpy and the documentation are enough.

use std::process::Command;

use anabranch_models::artifact::Artifact;
use anabranch_models::artifact::architecture::Inputs;
use anabranch_models::latent::{Codec, Decoder, Fit, Media, Options, Scratch, Training};
use anabranch_operators::codec::{Facts, Limits, sniff};
use anabranch_pipelines::record::media;
use anabranch_tests::program::{Job, data, python, root};
use anabranch_tests::table::Table;
use arrow::array::RecordBatch;

use crate::{PROGRAM, example, folder, table};

/// The first rows of a photo: its width and samples.
fn photo(name: &str, rows: usize) -> (u32, Vec<u8>) {
    let png = std::fs::read(data().join("photos").join(name)).unwrap();
    let mut samples = Vec::new();
    let facts = sniff(&png).unwrap().decode(&png, &Limits::default(), &mut samples).unwrap();
    let Facts::Image { width, channels: 3, .. } = facts else { panic!("{facts:?}") };
    samples.truncate(width as usize * 3 * rows);
    (width, samples)
}

/// What numpy makes of a record.
fn numpy(file: &[u8], record: &[u8]) -> (String, Vec<u8>) {
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("codec"), file).unwrap();
    std::fs::write(path("record"), record).unwrap();
    let script = root().join("tests/clients/latents.py");
    let mut command = Command::new(python());
    let ran = command.arg(script).arg(path("codec")).arg(path("record")).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let line = ran.stdout.iter().position(|byte| *byte == b'\n').unwrap();
    (String::from_utf8_lossy(&ran.stdout[..line]).into_owned(), ran.stdout[line + 1..].to_vec())
}

#[test]
fn example_latents_are_learned_found_by_the_table_and_read_by_numpy() {
    let folder = folder();
    example(folder.path(), "latents").succeed();
    let latents = table(folder.path());
    let rows = latents.rows("table");
    assert_eq!((rows.num_rows(), latents.dead_letters()), (12, Vec::new()));
    let bytes: u64 = latents.shards("table").iter().map(|shard| shard.bytes).sum();
    assert!(bytes * 25 < 12 * 768 * 512 * 3, "{bytes}");
    // A job that reads the table finds the codec by itself.
    let back = folder.path().join("back");
    let job = format!(
        "[job]\nname = 'back'\n[vars]\nout = '{}'\n[source.latents]\nkind = 'table'\npath = '{}'\n\
         [operator.pixels]\nkind = 'decode'\ncolumn = 'image'\ninputs = ['latents']\n\
         [sink.table]\nkind = 'table'\npath = '${{out}}'\ninputs = ['pixels']\n",
        back.display(),
        latents.path.display()
    );
    Job::text(PROGRAM, folder.path(), &job).out("back").succeed();
    let pixels = Table::at(&back);
    assert_eq!(pixels.dead_letters(), []);
    let run = latents.path.join("_anabranch/runs").read_dir().unwrap().next().unwrap().unwrap();
    let file = std::fs::read(run.path().join("decisions/latents")).unwrap();
    let pixels = pixels.rows("table");
    for row in [0, 7] {
        let of = |rows: &RecordBatch| {
            media::bytes(media::of(rows, "image").unwrap(), row).unwrap().to_vec()
        };
        let (decoded, path) = (of(&pixels), media::path(media::of(&pixels, "image").unwrap(), row));
        let name = path.unwrap().rsplit('/').next().unwrap();
        let (_, original) = photo(name, 1000);
        let error = |(a, b): (&u8, &u8)| (f64::from(*a) - f64::from(*b)).powi(2);
        let error: f64 = original.iter().zip(&decoded).map(error).sum();
        let psnr = 10.0 * (255.0_f64.powi(2) * original.len() as f64 / error).log10();
        // At 40 times smaller; the second one is the most detailed of all.
        assert!(psnr > 23.0, "{name}: {psnr}");
        assert!(numpy(&file, &of(&rows)).1 == decoded, "{name}: other samples");
    }
}

#[test]
fn client_numpy_decodes_photos_and_sounds_to_the_same_samples() {
    let picture = |samples, width| {
        let height = <[u8]>::len(samples) as u32 / width / 3;
        Media::Picture { width, height, channels: 3, samples }
    };
    let (width, samples) = photo("kodim01.png", 200);
    let (_, other) = photo("kodim04.png", 90);
    let tone = |at: usize| ((at as f64 * 0.05).sin() * (at as f64 * 0.001).cos() * 9000.0) as i16;
    let tones: Vec<i16> = (0..5000).map(tone).collect();
    let sound = Media::Sound { rate: 8000, channels: 2, samples: &tones };
    let cut = &other[..width as usize * 3 * 37];
    let cases = [
        (picture(&samples, width), picture(&samples, width), "200 768 3", 20),
        // Of a size that is filled up, and so few latents that one state is enough.
        (picture(&samples, width), picture(&cut[..33 * 3 * 37], 33), "37 33 3", 48),
        (sound, sound, "8000 2500 2", 24),
    ];
    for (learn, media, facts, channels) in cases {
        let levels = if matches!(learn, Media::Sound { .. }) { 5 } else { 3 };
        let mut fit = Fit::new(Options {
            channels,
            step: Some(12.0),
            levels: Some(levels),
            ..Options::default()
        });
        fit.add(&learn).unwrap();
        let file = fit.finish().unwrap().to_bytes().unwrap();
        let (codec, mut scratch) = (Codec::from_bytes(&file).unwrap(), Scratch::default());
        let (mut record, mut ours) = (Vec::new(), Vec::new());
        codec.encode(&media, None, &mut scratch, &mut record).unwrap();
        codec.decode(&record, &mut scratch, &mut ours).unwrap();
        let (told, theirs) = numpy(&file, &record);
        assert_eq!(told, facts);
        assert!(ours == theirs, "{facts}: other samples");
    }
}

#[test]
fn client_numpy_corrects_what_it_decodes_as_a_trained_decoder_does() {
    let (width, samples) = photo("kodim01.png", 96);
    let height = 96;
    let media = Media::Picture { width, height, channels: 3, samples: &samples };
    let training = Training { steps: 3, decoder: Decoder::Residual, seed: 1 };
    let options = Options { channels: 20, step: Some(12.0), levels: Some(3), training };
    let mut fit = Fit::new(options);
    fit.add(&media).unwrap();
    let file = fit.finish().unwrap().to_bytes().unwrap();
    let (codec, mut scratch) = (Codec::from_bytes(&file).unwrap(), Scratch::default());
    let (mut record, mut ours) = (Vec::new(), Vec::new());
    codec.encode(&media, None, &mut scratch, &mut record).unwrap();
    codec.decode(&record, &mut scratch, &mut ours).unwrap();
    let (_, theirs) = numpy(&file, &record);
    assert_eq!(ours.len(), theirs.len());
    // Sums of floats depend on their order.
    assert!(ours.iter().zip(&theirs).all(|(a, b)| a.abs_diff(*b) <= 1));
    let same = ours.iter().zip(&theirs).filter(|(a, b)| a == b).count();
    assert!(same * 1000 > ours.len() * 999, "{same} of {}", ours.len());
}

#[test]
fn example_a_model_learns_from_a_table_of_latents_without_decoding() {
    let folder = folder();
    let job = example(folder.path(), "latents-cifar10").set("files", "exact*.bin");
    job.set("gradient_steps", 2).succeed();
    let latents = table(folder.path());
    assert_eq!((latents.rows("table").num_rows(), latents.dead_letters()), (4000, Vec::new()));
    let out = folder.path().join("learned");
    let job = example(folder.path(), "train-latents").out("learned");
    let job = job.set("table", latents.path.display()).set("steps", 12).set("passes", 1);
    let small = [("width", "16"), ("heads", "2"), ("layers", "1"), ("holdout_examples", "64")];
    let job = small
        .into_iter()
        .fold(job, |job, (key, value)| job.set(&format!("operator.learn.{key}"), value));
    job.set("operator.learn.feed_forward", "mlp").succeed();
    let models = out.join("models/data");
    let artifact = Artifact::open(&models.join("latents-step-00000012")).unwrap();
    let Inputs::Image(inputs) = artifact.card().architecture.inputs else { panic!("pictures") };
    assert_eq!((inputs.height, inputs.width, inputs.channels, inputs.patch), (8, 8, 24, 1));
    assert_eq!(Table::at(out.join("measures")).dead_letters(), []);
}
