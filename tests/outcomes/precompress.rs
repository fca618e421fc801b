//! Jobs that make raw files smaller, each with its page, on a sample.

use std::path::PathBuf;

use anabranch_operators::codec::{self, Limits};
use anabranch_tests::program::{Job, data};
use anabranch_tests::table::Table;
use arrow::array::{Array, AsArray, RecordBatch};

use crate::{example, folder, table};

/// What a job leaves.
struct Made {
    rows: RecordBatch,
    table: Table,
    page: String,
    _folder: tempfile::TempDir,
}

impl Made {
    /// Runs an example with its page; every record must come out, and none may be refused.
    fn by(name: &str, job: impl FnOnce(Job) -> Job) -> Self {
        let folder = folder();
        let page = folder.path().join("page.html");
        let told = job(example(folder.path(), name)).arg("--page").arg(page.display().to_string());
        told.succeed();
        let table = table(folder.path());
        table.check("table");
        assert_eq!(table.dead_letters(), []);
        let page = std::fs::read_to_string(page).unwrap();
        Self { rows: table.rows("table"), table, page, _folder: folder }
    }

    fn bytes(&self) -> u64 {
        self.table.shards("table").iter().map(|shard| shard.bytes).sum()
    }

    fn encoded(&self, column: &str, row: usize) -> Vec<u8> {
        let media = self.rows.column_by_name(column).unwrap().as_struct();
        media.column_by_name("bytes").unwrap().as_binary::<i32>().value(row).to_vec()
    }

    /// Pictures of a column on the page: those that were read, and those that are stored.
    fn shows_both(&self, column: &str) {
        for what in ["as read", "as stored"] {
            let image = format!("<img alt=\"{column}, {what}\" src=\"data:image/png;base64,iVBOR");
            assert!(self.page.contains(&image), "{what} is missing");
        }
        assert!(self.page.contains("times smaller"));
    }
}

fn size(path: PathBuf) -> u64 {
    std::fs::metadata(path).unwrap().len()
}

#[test]
fn precompressed_photos_are_a_sixth_of_their_files() {
    let made = Made::by("precompress-photos", |job| job.set("files", "kodim0[123].png"));
    assert_eq!(made.rows.num_rows(), 3);
    let before: u64 = (1..=3).map(|at| size(data().join(format!("photos/kodim0{at}.png")))).sum();
    assert!(made.bytes() * 6 < before, "{} of {before}", made.bytes());
    made.shows_both("image");
}

#[test]
fn precompressed_cifar10_keeps_its_labels_in_a_third_of_the_bytes() {
    let made = Made::by("precompress-cifar10", |job| job);
    assert_eq!(made.rows.num_rows(), 4000);
    assert_eq!(made.rows.column_by_name("label").unwrap().null_count(), 0);
    let before = size(data().join("cifar10/exact_train_0000-3999.bin"));
    assert!(made.bytes() * 3 < before, "{} of {before}", made.bytes());
    made.shows_both("image");
}

#[test]
fn precompressed_speech_is_packets_that_decode() {
    let made = Made::by("precompress-speech", |job| job.set("members", "**/*_theo_*5.wav"));
    assert!(made.rows.num_rows() >= 40, "{}", made.rows.num_rows());
    let opus = codec::named("opus_packets").unwrap();
    let mut samples = Vec::new();
    opus.decode(&made.encoded("audio", 0), &Limits::default(), &mut samples).unwrap();
    let stored: usize = (0..made.rows.num_rows()).map(|row| made.encoded("audio", row).len()).sum();
    // 8 kb/s of 128 kb/s, and what stands around it.
    let each = stored / made.rows.num_rows();
    assert!(each < samples.len() / 8, "{each} of {}", samples.len());
    made.shows_both("audio");
}

#[test]
fn precompressed_fashion_has_pictures_and_titles() {
    let made = Made::by("precompress-fashion", |job| job);
    assert_eq!(made.rows.num_rows(), 6000);
    assert_eq!(made.rows.column_by_name("text").unwrap().null_count(), 0);
    made.shows_both("image");
}

#[test]
fn precompressed_text_is_no_larger_than_the_file_compressed_at_once() {
    let made = Made::by("precompress-text", |job| job);
    let text = std::fs::read(data().join("text/tinyshakespeare.txt")).unwrap();
    let sizes: Vec<usize> =
        (0..made.rows.num_rows()).map(|row| made.encoded("text", row).len()).collect();
    assert_eq!(sizes.len(), text.len().div_ceil(160 << 10));
    assert!(sizes.iter().all(|size| *size < 60 << 10), "{sizes:?}");
    // `zstd -19` makes 368,313 bytes of it.
    assert!(made.bytes() < 368_313, "{}", made.bytes());
    assert!(made.page.contains("First Citizen:"));
}
