//! Commands beside `run`, through the program, on real data.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

use anabranch_models::artifact::architecture::{
    Architecture, FeedForward, Head, Inputs, Rows, Wires,
};
use anabranch_models::engine::example as models;
use anabranch_operators::codec::{self, Facts};
use anabranch_pipelines::record::media;
use anabranch_tests::program::data;

use crate::{PROGRAM, example, folder, table};

fn anabranch(folder: &Path, args: &[&str]) -> Output {
    Command::new(PROGRAM).args(args).current_dir(folder).output().unwrap()
}

/// What a command prints that must end well.
fn prints(folder: &Path, args: &[&str]) -> String {
    let output = anabranch(folder, args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn command_init_writes_jobs_that_run() {
    let folder = folder();
    let cases = [
        ("photos", 15, "codec = \"webp\""),
        ("audio_clips", 3, "codec = \"flac\""),
        ("fashion", 6000, "labels = { path = "),
        ("avmnist", 12_000, "kind = \"csv\""),
    ];
    for (name, rows, guessed) in cases {
        let (path, job) = (data().join(name).display().to_string(), format!("{name}.toml"));
        prints(folder.path(), &["init", &path, "--to", &job]);
        let text = std::fs::read_to_string(folder.path().join(&job)).unwrap();
        assert!(text.contains(guessed), "{text}");
        prints(folder.path(), &["run", "--quiet", &job]);
        let seen = prints(folder.path(), &["inspect", &format!("{name}-table"), "--json"]);
        let seen: serde_json::Value = serde_json::from_str(&seen).unwrap();
        assert_eq!(seen["rows"], rows, "{name}");
        // A file that is there is not written over by accident.
        assert_eq!(anabranch(folder.path(), &["init", &path, "--to", &job]).status.code(), Some(1));
    }
}

#[test]
fn command_diff_tells_what_changed() {
    let folder = folder();
    example(folder.path(), "photos").succeed();
    let same = prints(folder.path(), &["diff", "table", "table", "--exit-code"]);
    assert_eq!(same, "same: 15 records: the tables hold the same records\n");
    let worse = example(folder.path(), "photos").set("operator.encode.quality", 30);
    worse.arg("--if-exists").arg("overwrite").succeed();
    let args = ["diff", "table", "--old-version", "0", "--json", "--exit-code"];
    let output = anabranch(folder.path(), &args);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&found["same"], &found["changed"]["records"]), (&0.into(), &15.into()), "{found}");
    assert_eq!(found["columns"], serde_json::json!({ "image": 15 }));
    // Three photos fewer, in another table.
    let fewer = example(folder.path(), "photos").out("fewer");
    fewer.set("source.files.path", data().join("photos/kodim*.png").display()).succeed();
    let found = prints(folder.path(), &["diff", "table", "fewer", "--show", "1"]);
    assert!(found.starts_with("gone: 3 records: wiki001.png, ...\n"), "{found}");
    assert_eq!(table(folder.path()).rows("table").num_rows(), 15);
}

#[test]
fn command_inspect_draws_pictures_and_sounds() {
    let folder = folder();
    example(folder.path(), "quickstart").set("records", 5).succeed();
    let seen = prints(folder.path(), &["inspect", "table", "--show", "4", "--to", "drawn"]);
    for column in ["image", "audio"] {
        assert!(seen.contains(&format!("drawn/{column}.png: the first 4 records")), "{seen}");
    }
    let pixels = |bytes: &[u8]| {
        let mut samples = Vec::new();
        let codec = codec::sniff(bytes).unwrap();
        let facts = codec.decode(bytes, &Default::default(), &mut samples).unwrap();
        let Facts::Image { width, height, channels } = facts else { panic!("{facts:?}") };
        (width as usize, height as usize, usize::from(channels), samples)
    };
    let sheet = |column: &str| {
        pixels(&std::fs::read(folder.path().join("drawn").join(format!("{column}.png"))).unwrap())
    };
    // Tiles of 160 pixels, four apart.
    let (width, height, channels, drawn) = sheet("image");
    assert_eq!((width, height, channels), (332, 332, 3));
    let rows = table(folder.path()).rows("table");
    let mut pictures = 0;
    for record in 0..4 {
        let (left, top) = (4 + record % 2 * 164, 4 + record / 2 * 164);
        let at = |x: usize, y: usize| &drawn[((top + y) * width + left + x) * 3..][..3];
        let Some(bytes) = media::bytes(media::of(&rows, "image").unwrap(), record) else {
            assert!((0..160).all(|at_x| at(at_x, 80) == [32; 3]), "record {record} has no picture");
            continue;
        };
        pictures += 1;
        // Small pictures are drawn pixel by pixel.
        let (side, high, channels, own) = pixels(bytes);
        assert_eq!((side, high, channels), (96, 96, 3));
        for y in (0..160).step_by(7) {
            for x in (0..160).step_by(7) {
                let from = |tile: usize| (2 * tile + 1) * 96 / 320;
                let expected = &own[(from(y) * side + from(x)) * 3..][..3];
                assert_eq!(at(x, y), expected, "record {record} at {x}, {y}");
            }
        }
    }
    assert!(pictures > 0);
    // Sounds are no flat ground.
    let (_, _, _, drawn) = sheet("audio");
    let colours: BTreeSet<&[u8]> = drawn.chunks(3).collect();
    assert!(colours.len() > 20, "{} colours", colours.len());
}

#[test]
fn command_diff_and_inspect_tell_of_records_that_cannot_be_read() {
    let folder = folder();
    example(folder.path(), "quickstart").set("records", 300).set("job.part.records", 50).succeed();
    let gone = table(folder.path()).visible().into_iter().nth(2).unwrap();
    std::fs::remove_file(folder.path().join("table").join(&gone)).unwrap();
    // A shard that is gone is no difference, and neither are two tables that lack it alike.
    for args in [
        &["diff", "table", "table"][..],
        &["inspect", "table", "--rows", "300"],
        &["inspect", "table", "--rows", "0", "--show", "300", "--to", "drawn"],
    ] {
        let output = anabranch(folder.path(), args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
        assert!(
            said.contains("1 record or shard cannot be read") && said.contains(&gone),
            "{said}"
        );
        // What there is to see is shown.
        assert_eq!(output.stdout.is_empty(), args[0] == "diff");
    }
    assert!(folder.path().join("drawn/image.png").is_file());
}

#[test]
fn command_init_finds_samples_in_archives() {
    let folder = folder();
    example(folder.path(), "quickstart")
        .set("records", 6)
        .sink("webdataset")
        .out("packed")
        .succeed();
    prints(folder.path(), &["init", "packed", "--to", "job.toml"]);
    let text = std::fs::read_to_string(folder.path().join("job.toml")).unwrap();
    assert!(text.contains("kind = \"webdataset\""), "{text}");
    prints(folder.path(), &["run", "--quiet", "job.toml"]);
    let seen = prints(folder.path(), &["inspect", "packed-table", "--json"]);
    let seen: serde_json::Value = serde_json::from_str(&seen).unwrap();
    assert_eq!(seen["rows"], 6, "{seen}");
}

#[test]
fn command_models_tells_of_whole_and_damaged_models() {
    let folder = folder();
    let at = folder.path();
    let gpt = |width: usize, feed_forward: FeedForward| Architecture {
        width,
        heads: 2,
        layers: 1,
        inputs: Inputs::Tokens { vocabulary: 256, context: 8 },
        head: Head::NextToken,
        feed_forward,
    };
    let rows = Rows { nodes: 8, inputs: 4, wires: Wires::Axis };
    for (name, architecture) in
        [("a", gpt(16, FeedForward::Rows(rows))), ("b", gpt(32, FeedForward::None))]
    {
        let random = models::random(&architecture).unwrap();
        random.save(&at.join("models").join(name)).unwrap();
        random.save(&at.join("models").join(format!("{name}-damaged"))).unwrap();
    }
    std::fs::write(at.join("models/a-damaged/weights.safetensors"), "x").unwrap();
    std::fs::remove_file(at.join("models/b-damaged/weights.safetensors")).unwrap();

    let listed = prints(at, &["models", "list", "models", "--json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let problems = listed.as_array().unwrap().iter().map(|model| model["problem"].as_str());
    let problems: Vec<_> = problems.collect();
    assert!(problems[0].is_none() && problems[2].is_none(), "{problems:?}");
    assert!(problems[1].unwrap().starts_with("weights.safetensors has 1 bytes"), "{problems:?}");
    assert_eq!(problems[3], Some("weights.safetensors is not there"));
    let text = prints(at, &["models", "list", "models"]);
    assert!(text.contains("4 models, 2 of them unusable"), "{text}");

    let shown = prints(at, &["models", "show", "models/a"]);
    assert!(shown.contains("GPT 1x16") && shown.contains("all hashes are right"), "{shown}");
    let shown = prints(at, &["models", "show", "models/a", "--json"]);
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["card"]["architecture"]["width"], 16);
    assert!(shown["derived"]["replaced_share"].as_f64().unwrap() > 0.1, "{shown}");
    let compared = prints(at, &["models", "compare", "models/a", "models/b"]);
    assert!(compared.contains("GPT 1x16") && compared.contains("GPT 1x32"), "{compared}");

    let sample = |args: &[&str]| {
        let fixed = ["models", "sample", "models/a", "--tokens", "20", "--prompt"];
        anabranch(at, &[&fixed[..], args].concat())
    };
    let text = sample(&["To be", "--bytes", "--seed", "3"]);
    assert!(text.status.success(), "{}", String::from_utf8_lossy(&text.stderr));
    assert!(text.stdout.starts_with(b"To be") && text.stdout.len() == 5 + 20 + 1);
    assert_eq!(sample(&["To be", "--bytes", "--seed", "3"]).stdout, text.stdout);
    assert_ne!(sample(&["To be", "--bytes", "--seed", "4"]).stdout, text.stdout);
    for (args, code, error) in [
        (&["To be"][..], 2, "--tokenizer"),
        (&["", "--bytes"], 2, "--prompt is empty"),
        (&["To be", "--bytes", "--temperature", "-1"], 2, "--temperature -1: it must be 0 or more"),
        (&["To be", "--tokenizer", "job.toml"], 2, "--tokenizer job.toml: "),
    ] {
        let output = sample(args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        assert!(said.contains(error), "{args:?}: {said}");
    }
    for (args, error) in [
        (&["show", "models"][..], "is no artifact; below it stand"),
        (&["show", "nowhere"], "there is no artifact at"),
        (&["list", "nowhere"], "there is no artifact at"),
        (&["show", "models/a-damaged"], "copy the artifact again"),
    ] {
        let output = anabranch(at, &[&["models"][..], args].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
        assert!(said.contains(error), "{args:?}: {said}");
    }
}
