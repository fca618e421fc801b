//! Damaged and hostile input, and places that cannot be written: a dead letter or a clear error, the rest
//! committed. The messages are kept as snapshots, to be read as a user reads them.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anabranch_tests::program::{Ended, Job, data, root};

use crate::{PROGRAM, folder, table};

/// Compares with a snapshot, whatever the run's id.
macro_rules! seen {
    ($($what:tt)*) => {
        insta::with_settings!({ filters => [(r"\br\d+-[0-9a-f]{8}", "RUN"), (r"runs/r\d+\b", "runs/RUN")] }, {
            insta::assert_snapshot!($($what)*);
        })
    };
}

/// A job from one source, through these operators, to a table.
fn job(folder: &Path, source: &str, operators: &[&str]) -> Job {
    let mut text = format!(
        "[job]\nname = 'bad'\npart = {{ records = 2 }}\n\n[vars]\nout = 'table'\n\n[source.input]\n{source}\n"
    );
    let mut input = "input".to_owned();
    for (at, operator) in operators.iter().enumerate() {
        let name = operator.split('\'').nth(1).unwrap_or("operator");
        let _ = write!(text, "\n[operator.{name}-{at}]\n{operator}\ninputs = ['{input}']\n");
        input = format!("{name}-{at}");
    }
    let _ =
        write!(text, "\n[sink.table]\nkind = 'table'\npath = '${{out}}'\ninputs = ['{input}']\n");
    Job::text(PROGRAM, folder, &text).out("table")
}

/// The job's whole outcome as a person sees it: exit code, error, rows and dead letters.
fn outcome(folder: &Path, ended: &Ended) -> String {
    let table = table(folder);
    let mut text = format!("exit code {:?}\n", ended.code);
    let here = folder.to_string_lossy().into_owned();
    let clean = |line: &str| line.replace(&here, "FOLDER").replace(&here[1..], "FOLDER");
    for line in ended.err.lines() {
        let _ = writeln!(text, "{}", clean(line));
    }
    if table.path.join("_anabranch/runs").is_dir() && !table.runs().is_empty() {
        if ended.code == Some(0) {
            table.check("table");
        }
        let _ = writeln!(text, "{} rows", table.visible_rows());
        for (key, operator, error) in table.dead_letters() {
            let _ = writeln!(text, "{operator}: {key}: {}", clean(&error));
        }
    }
    text
}

const DECODE: &str = "kind = 'decode'\ncolumn = 'image'";
const JPEG: &str = "kind = 'encode'\ncolumn = 'image'\ncodec = 'jpeg'";

/// A file of the real data.
fn real(name: &str) -> Vec<u8> {
    std::fs::read(data().join(name)).unwrap()
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join("input").join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, bytes).unwrap();
    path
}

/// A PNG of this size whose header is right and whose pixels are not there.
fn declared_png(width: u32, height: u32) -> Vec<u8> {
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut header = b"IHDR".to_vec();
    header.extend(width.to_be_bytes());
    header.extend(height.to_be_bytes());
    header.extend([8, 2, 0, 0, 0]);
    for chunk in [header, b"IDAT\x78\x9c\x03\x00\x00\x00\x00\x01".to_vec(), b"IEND".to_vec()] {
        png.extend((chunk.len() as u32 - 4).to_be_bytes());
        png.extend(&chunk);
        png.extend(crc32(&chunk).to_be_bytes());
    }
    png
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

#[test]
fn bad_input_images() {
    let folder = folder();
    let good = real("photos/kodim01.png");
    write(folder.path(), "a-good.png", &good);
    write(folder.path(), "b-cut-in-the-middle.png", &good[..good.len() / 2]);
    write(folder.path(), "c-cut-in-the-header.png", &good[..20]);
    write(folder.path(), "d-empty.png", b"");
    write(folder.path(), "e-text.png", b"this is no image, whatever its name says");
    let huge = declared_png(60_000, 60_000);
    assert!(huge.len() < 100, "{} bytes", huge.len());
    write(folder.path(), "f-huge.png", &huge);
    let flipped: Vec<u8> =
        good.iter().enumerate().map(|(at, b)| b ^ u8::from(at == 5000)).collect();
    write(folder.path(), "g-one-bit-flipped.png", &flipped);
    let jpeg = cut_jpeg();
    write(folder.path(), "h-cut.jpg", &jpeg[..jpeg.len() / 2]);
    write(folder.path(), "i-good.jpg", &jpeg);
    let ended = job(folder.path(), "kind = 'files'\npath = 'input/*'", &[DECODE, JPEG]).run();
    seen!(outcome(folder.path(), &ended));
}

/// The first product image of the fashion set, which is a JPEG.
fn cut_jpeg() -> Vec<u8> {
    let tar = real("fashion/images_60x80.tar");
    let size = std::str::from_utf8(&tar[124..135]).unwrap();
    let size = usize::from_str_radix(size.trim_matches(['\0', ' ']), 8).unwrap();
    let body = &tar[512..512 + size];
    assert!(body.starts_with(&[0xff, 0xd8]), "the first member is a JPEG");
    body.to_vec()
}

#[test]
fn bad_input_sound() {
    let folder = folder();
    let good = real("audio_clips/libri_198-209-0000_16k_mono.wav");
    write(folder.path(), "a-good.wav", &good);
    write(folder.path(), "b-cut-in-the-middle.wav", &good[..good.len() / 2]);
    write(folder.path(), "c-cut-in-the-header.wav", &good[..30]);
    write(folder.path(), "d-text.wav", b"this is no sound, whatever its name says");
    let mut long = good.clone();
    // Four gigabytes of samples, says the header.
    long[40..44].copy_from_slice(&u32::MAX.to_le_bytes());
    write(folder.path(), "e-declares-more-than-it-has.wav", &long);
    // Half a second of tones in the formats of music players, whole and cut.
    for name in ["mono.mp3", "stereo.ogg", "stereo.opus", "mono.aac", "front.m4a"] {
        let made = std::fs::read(root().join("operators/src/codec/tests").join(name)).unwrap();
        write(folder.path(), &format!("f-good-{name}"), &made);
        write(folder.path(), &format!("g-cut-{name}"), &made[..made.len() / 2]);
    }
    let decode = "kind = 'decode'\ncolumn = 'audio'";
    let flac = "kind = 'encode'\ncolumn = 'audio'\ncodec = 'flac'";
    let ended = job(folder.path(), "kind = 'files'\npath = 'input/*'", &[decode, flac]).run();
    seen!(outcome(folder.path(), &ended));
}

#[test]
fn bad_input_archives() {
    let folder = folder();
    let tar = real("fashion/images_60x80.tar");
    write(folder.path(), "cut.tar", &tar[..20_000]);
    write(folder.path(), "no-archive.tar", &[b'x'; 3000]);
    // A member of 300 MB of zeros in an archive of 300 kB.
    let bomb = "truncate -s 300M zeros.png && tar -c zeros.png | gzip; rm zeros.png";
    let bomb = Command::new("sh").arg("-c").arg(bomb).current_dir(folder.path()).output().unwrap();
    assert!(bomb.stdout.len() < 1_000_000, "{} bytes are no bomb", bomb.stdout.len());
    write(folder.path(), "zip/bomb.tar.gz", &bomb.stdout);
    write(folder.path(), "zip/cut.tar.gz", &gzip(&tar[..60_000])[..20_000]);
    for (name, path) in [
        ("cut", "input/cut.tar"),
        ("no archive", "input/no-archive.tar"),
        ("bomb", "input/zip/bomb.tar.gz"),
        ("cut gzip", "input/zip/cut.tar.gz"),
    ] {
        let place = folder.path().join(name.replace(' ', "-"));
        std::fs::create_dir(&place).unwrap();
        let source = format!("kind = 'tar'\nmodality = 'image'\npath = '../{path}'");
        let ended = job(&place, &source, &[DECODE, JPEG]).run();
        seen!(format!("archive {name}"), outcome(&place, &ended));
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut child = Command::new("gzip")
        .arg("-c")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let bytes = bytes.to_vec();
    let feed = std::thread::spawn(move || input.write_all(&bytes));
    let out = child.wait_with_output().unwrap().stdout;
    feed.join().unwrap().unwrap();
    out
}

#[test]
fn bad_input_rows() {
    let folder = folder();
    write(
        folder.path(),
        "ragged.csv",
        b"key,size,name\na,1,one\nb,2\nc,3,three,more\nd,four,4\ne,5,five\n",
    );
    let ended = job(folder.path(), "kind = 'csv'\npath = 'input/ragged.csv'", &[]).run();
    seen!(outcome(folder.path(), &ended));
}

#[test]
fn bad_input_parquet_of_another_schema() {
    let folder = folder();
    for (name, records) in [("a", "4"), ("b", "4")] {
        let quickstart = Job::example(PROGRAM, folder.path(), "quickstart").out(name);
        quickstart_of(quickstart, records, name == "b").succeed();
        let data = folder.path().join(name).join("data");
        let shard = std::fs::read_dir(data).unwrap().next().unwrap().unwrap().path();
        let bytes = std::fs::read(shard).unwrap();
        write(folder.path(), &format!("{name}.parquet"), &bytes);
    }
    write(folder.path(), "c.parquet", b"PAR1 and nothing that follows from it PAR1");
    let ended = job(folder.path(), "kind = 'parquet'\npath = 'input/*.parquet'", &[]).run();
    seen!(outcome(folder.path(), &ended));
}

/// The quickstart, or one without its sound.
fn quickstart_of(job: Job, records: &str, silent: bool) -> Job {
    let job = job.set("records", records);
    if !silent {
        return job;
    }
    job.set("operator.flac", "{ kind = \"select\", drop = [\"audio\"], inputs = [\"webp\"] }")
}

#[test]
fn bad_input_a_file_that_vanishes() {
    let folder = folder();
    let good = real("photos/kodim01.png");
    for name in ["a.png", "b.png", "c.png", "z.png"] {
        write(folder.path(), name, &good);
    }
    let text = r#"
[job]
name = "vanishing"
part = { records = 1 }
commit = { parts = 1 }
open_commits = 1
[source.files]
kind = "files"
path = "input/*.png"
[sink.table]
kind = "slow_table"
path = "table"
rate = "2MB"
inputs = ["files"]
"#;
    let running = Job::text(PROGRAM, folder.path(), text).start();
    let table = table(folder.path());
    while table.commits() < 1 {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    std::fs::remove_file(folder.path().join("input/z.png")).unwrap();
    let ended = running.wait();
    seen!(outcome(folder.path(), &ended));
}

#[test]
fn bad_input_no_files_at_all() {
    let folder = folder();
    let ended = job(folder.path(), "kind = 'files'\npath = 'input/*.png'", &[DECODE, JPEG]).run();
    seen!(outcome(folder.path(), &ended));
}

#[test]
fn bad_input_a_destination_that_is_read_only() {
    let folder = folder();
    write(folder.path(), "a.png", &real("photos/kodim01.png"));
    let job = job(folder.path(), "kind = 'files'\npath = 'input/*.png'", &[DECODE, JPEG]);
    // Permissions do not bind root; nobody makes a folder there.
    let ended = job.clone().set("out", "/sys/anabranch-table").run();
    seen!("read only", outcome(folder.path(), &ended));
    std::fs::write(folder.path().join("file"), "a file").unwrap();
    let ended = job.set("out", folder.path().join("file/table").display()).run();
    seen!("below a file", outcome(folder.path(), &ended));
}

/// A disk that fills up: the run fails with a clear error and goes on once there is room.
#[test]
fn bad_input_a_full_disk() {
    let folder = folder();
    let photos = Job::example(PROGRAM, folder.path(), "photos").small_commits(2);
    let disk = folder.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let photos = photos.set("operator.encode.quality", 100).out("disk/table");
    // A namespace of its own: needs no rights, and nothing is left mounted.
    let ended = photos.run_on_small_disk(&disk, "260k", "64m", &folder.path().join("table"));
    let text = ended.err.replace(&*folder.path().to_string_lossy(), "FOLDER");
    assert_eq!(ended.code, Some(0), "with room it goes on: {}{}", ended.out, text);
    let table = table(folder.path());
    table.check("table");
    assert_eq!(table.visible_rows(), 15);
    let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("error")).collect();
    assert_eq!(errors.len(), 1, "{text}");
    for says in ["FOLDER/disk/table", "No space left"] {
        assert!(errors[0].contains(says), "`{says}` in {}", errors[0]);
    }
}
