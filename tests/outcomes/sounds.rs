//! Sounds that other programs wrote are heard as they hear them, and they hear ours.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anabranch_operators::codec::Pcm;
use anabranch_operators::conformance::codec::snr;
use anabranch_pipelines::record::media;
use anabranch_tests::program::{Job, data, python, root};
use arrow::array::AsArray;
use arrow::datatypes::{Int32Type, Int64Type};

use crate::{PROGRAM, folder, table};

/// A sound as a program hears it.
#[derive(Debug, PartialEq)]
struct Heard {
    rate: usize,
    channels: usize,
    frames: usize,
    samples: Vec<f32>,
}

impl Heard {
    fn facts(&self) -> [usize; 3] {
        [self.rate, self.channels, self.frames]
    }
}

fn sound(args: &[&str]) -> Output {
    let script = root().join("tests/clients/sound.py");
    let ran = Command::new(python()).arg(script).args(args).output().unwrap();
    assert!(ran.status.success(), "{args:?}: {}", String::from_utf8_lossy(&ran.stderr));
    ran
}

/// What libsndfile hears.
fn heard_by_libsndfile(path: &Path) -> Heard {
    let out = sound(&["decode", path.to_str().unwrap()]).stdout;
    let line = out.iter().position(|byte| *byte == b'\n').unwrap();
    let facts: Vec<usize> = std::str::from_utf8(&out[..line])
        .unwrap()
        .split(' ')
        .map(|number| number.parse().unwrap())
        .collect();
    let samples = Pcm::S16.floats(&out[line + 1..]);
    Heard { rate: facts[0], channels: facts[1], frames: facts[2], samples }
}

/// Runs files through these operators and gives the bytes of each, in order of the files' names.
fn through(folder: &Path, path: &str, operators: &[&str]) -> Vec<Vec<u8>> {
    let mut text = format!(
        "[job]\nname = 'sounds'\n\n[vars]\nout = 'table'\n\n[source.files]\nkind = 'files'\npath = '{path}'\n"
    );
    let mut input = "files".to_owned();
    for (at, operator) in operators.iter().enumerate() {
        text += &format!(
            "\n[operator.step-{at}]\ncolumn = 'audio'\n{operator}\ninputs = ['{input}']\n"
        );
        input = format!("step-{at}");
    }
    text += &format!("\n[sink.table]\nkind = 'table'\npath = '${{out}}'\ninputs = ['{input}']\n");
    Job::text(PROGRAM, folder, &text).out("table").succeed();
    let rows = table(folder).rows("table");
    let column = media::of(&rows, "audio").unwrap();
    let keys = rows.column_by_name("key").unwrap().as_string::<i32>();
    let mut order: Vec<usize> = (0..rows.num_rows()).collect();
    order.sort_by_key(|row| keys.value(*row));
    order.into_iter().map(|row| media::bytes(column, row).unwrap().to_vec()).collect()
}

/// What we hear: the files as WAV, read by libsndfile.
fn heard_by_us(folder: &Path, path: &str) -> Vec<Heard> {
    std::fs::create_dir_all(folder).unwrap();
    let operators = ["kind = 'decode'", "kind = 'encode'\ncodec = 'wav'"];
    let read = |wav: Vec<u8>| {
        let path = folder.join("heard.wav");
        std::fs::write(&path, wav).unwrap();
        heard_by_libsndfile(&path)
    };
    through(folder, path, &operators).into_iter().map(read).collect()
}

/// Files of these contents, in order of their names.
fn stored(folder: &Path, name: &str, contents: Vec<Vec<u8>>) -> Vec<PathBuf> {
    std::fs::create_dir_all(folder.join(name)).unwrap();
    let write = |(at, bytes): (usize, Vec<u8>)| {
        let path = folder.join(name).join(format!("{at}.{name}"));
        std::fs::write(&path, bytes).unwrap();
        path
    };
    contents.into_iter().enumerate().map(write).collect()
}

const CLIPS: [&str; 2] = ["libri_198-209-0000_16k_mono.wav", "trumpet_44k_stereo.wav"];

#[test]
fn client_libsndfile_hears_our_opus_as_we_do() {
    let folder = folder();
    // A rate that Opus has, for both.
    let clips = data().join("audio_clips/*.wav").display().to_string();
    let wav =
        ["kind = 'decode'", "kind = 'resample'\nrate = 48000", "kind = 'encode'\ncodec = 'wav'"];
    let originals = stored(folder.path(), "wav", through(folder.path(), &clips, &wav));
    let clips = folder.path().join("wav/*").display().to_string();
    let opus = ["kind = 'decode'", "kind = 'encode'\ncodec = 'opus'\nbitrate = 128"];
    let place = folder.path().join("encoded");
    std::fs::create_dir_all(&place).unwrap();
    let files = stored(folder.path(), "opus", through(&place, &clips, &opus));
    let path = folder.path().join("opus/*").display().to_string();
    let ours = heard_by_us(&folder.path().join("ours"), &path);
    assert_eq!((ours.len(), originals.len()), (3, 3));
    for (at, ours) in ours.iter().enumerate() {
        let (theirs, original) =
            (heard_by_libsndfile(&files[at]), heard_by_libsndfile(&originals[at]));
        assert_eq!(ours.facts(), theirs.facts());
        assert_eq!(ours.facts(), original.facts(), "frames in are frames out");
        let alike = snr(&theirs.samples, &ours.samples);
        assert!(alike > 40.0, "clip {at}: {alike:.1} dB between libopus and us");
        let kept = snr(&original.samples, &theirs.samples);
        assert!(kept > 8.0, "clip {at}: {kept:.1} dB between what went in and what came out");
    }
}

#[test]
fn client_what_libsndfile_stores_we_hear_as_it_does() {
    let folder = folder();
    let files = folder.path().join("files");
    std::fs::create_dir_all(&files).unwrap();
    let kinds =
        [("mp3", "MP3", "MPEG_LAYER_III"), ("oga", "OGG", "VORBIS"), ("opus", "OGG", "OPUS")];
    let mut written = Vec::new();
    for (extension, container, subtype) in kinds {
        // Opus has no 44.1 kHz.
        for clip in CLIPS.into_iter().take(if extension == "opus" { 1 } else { 2 }) {
            let path = files.join(format!("{clip}.{extension}"));
            let clip = data().join("audio_clips").join(clip);
            sound(&["encode", clip.to_str().unwrap(), path.to_str().unwrap(), container, subtype]);
            written.push(path);
        }
    }
    written.sort();
    let path = files.join("*").display().to_string();
    let ours = heard_by_us(&folder.path().join("ours"), &path);
    assert_eq!(ours.len(), written.len());
    for (ours, path) in ours.iter().zip(&written) {
        let theirs = heard_by_libsndfile(path);
        assert_eq!(ours.facts(), theirs.facts(), "{}", path.display());
        let alike = snr(&theirs.samples, &ours.samples);
        assert!(alike > 40.0, "{}: {alike:.1} dB", path.display());
    }
    let told = folder.path().join("told");
    std::fs::create_dir_all(&told).unwrap();
    through(&told, &path, &[]);
    let rows = table(&told).rows("table");
    let keys = rows.column_by_name("key").unwrap().as_string::<i32>();
    for row in 0..rows.num_rows() {
        let ours = &ours[written.iter().position(|path| path.ends_with(keys.value(row))).unwrap()];
        let number = |name: &str| {
            rows.column_by_name(name).unwrap().as_primitive::<Int32Type>().value(row) as usize
        };
        let frames = rows.column_by_name("audio_frames").unwrap().as_primitive::<Int64Type>();
        let facts =
            [number("audio_sample_rate"), number("audio_channels"), frames.value(row) as usize];
        assert_eq!(facts, ours.facts(), "{} without decoding", keys.value(row));
    }
}
