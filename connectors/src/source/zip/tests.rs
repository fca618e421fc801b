use std::io::{Cursor, Write};
use std::sync::Arc;

use ::zip::write::SimpleFileOptions;
use ::zip::{CompressionMethod, ZipWriter};
use anabranch_pipelines::record::media;
use anabranch_pipelines::source::Source;
use arrow::array::AsArray;

use super::ZipOptions;
use crate::conformance::source::{Seen, references};
use crate::source::testing::{block_on, conforming, folder, path};

const STORED: CompressionMethod = CompressionMethod::Stored;
const DEFLATE: CompressionMethod = CompressionMethod::Deflated;

fn zip(path: String, options: &str) -> Arc<dyn Source> {
    let mut all = serde_json::json!({ "path": path });
    let more: serde_json::Value = serde_json::from_str(options).unwrap();
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value::<ZipOptions>(all).unwrap().build().unwrap()
}

type Archive = ZipWriter<Cursor<Vec<u8>>>;

fn member(archive: &mut Archive, name: &str, bytes: &[u8], method: CompressionMethod, large: bool) {
    let options = SimpleFileOptions::default().compression_method(method).large_file(large);
    archive.start_file(name, options).unwrap();
    archive.write_all(bytes).unwrap();
}

fn archive(members: &[(&str, &[u8], CompressionMethod)]) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    members
        .iter()
        .for_each(|(name, bytes, method)| member(&mut archive, name, bytes, *method, false));
    archive.finish().unwrap().into_inner()
}

/// Members of every kind, one with the fields of zip64.
fn odd() -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default();
    member(&mut archive, "a.png", b"first", STORED, false);
    archive.add_directory("folder", options).unwrap();
    archive.add_symlink("link.png", "a.png", options).unwrap();
    member(&mut archive, &format!("{}b.png", "folder/".repeat(40)), &[7; 100_000], DEFLATE, true);
    member(&mut archive, "empty.png", b"", STORED, false);
    member(&mut archive, "ümlaut/c.jpg", &[9; 512], CompressionMethod::Zstd, false);
    member(&mut archive, "last.png", b"the last one", STORED, true);
    archive.set_comment("PK\u{5}\u{6} is how an end begins").unwrap();
    archive.finish().unwrap().into_inner()
}

fn keys(seen: &Seen) -> Vec<String> {
    let keys = seen.records.column_by_name("key").unwrap();
    keys.as_string::<i32>().iter().map(|key| key.unwrap().to_owned()).collect()
}

fn bodies(seen: &Seen) -> Vec<Vec<u8>> {
    let image = media::of(&seen.records, "image").unwrap();
    (0..seen.rows).map(|row| media::bytes(image, row).unwrap().to_vec()).collect()
}

/// Changes the bytes at each place where a text stands.
fn patch(bytes: &mut [u8], text: &[u8], at: usize, to: &[u8]) -> usize {
    let found: Vec<usize> =
        (0..bytes.len()).filter(|place| bytes[*place..].starts_with(text)).collect();
    found.iter().for_each(|place| bytes[place + at..][..to.len()].copy_from_slice(to));
    found.len()
}

#[test]
fn members_are_records_and_what_holds_no_bytes_is_none() {
    let folder = folder(&[("odd.zip", &odd())]);
    let seen = conforming(&zip(path(&folder, "odd.zip"), "{}"));
    let long = format!("{}b.png", "folder/".repeat(40));
    assert_eq!(keys(&seen), ["a.png", &long, "empty.png", "ümlaut/c.jpg", "last.png"]);
    let expected =
        [b"first".to_vec(), vec![7; 100_000], vec![], vec![9; 512], b"the last one".to_vec()];
    assert_eq!(bodies(&seen), expected);
    assert_eq!(seen.refused, []);
}

#[test]
fn what_stands_before_an_archive_moves_it() {
    let moved = [b"#!/bin/sh\nexec unzip \"$0\"\n".as_slice(), &odd()].concat();
    let folder = folder(&[("odd.zip", &odd()), ("moved.zip", &moved)]);
    let of = |name| conforming(&zip(path(&folder, name), "{}"));
    assert_eq!(of("moved.zip"), of("odd.zip"));
}

#[test]
fn references_stand_for_stored_members_and_packed_ones_are_read() {
    let bytes =
        archive(&[("a.png", b"1", STORED), ("b.png", &[2; 300], STORED), ("c.png", b"", STORED)]);
    let folder = folder(&[("stored.zip", &bytes), ("odd.zip", &odd())]);
    let of = |name, options| zip(path(&folder, name), options);
    let referring = r#"{ "references": true }"#;
    block_on(references(&of("stored.zip", referring), &of("stored.zip", "{}"), "image")).unwrap();
    let seen = conforming(&of("odd.zip", referring));
    let image = media::of(&seen.records, "image").unwrap();
    let read: Vec<_> =
        (0..seen.rows).map(|row| media::bytes(image, row).map(<[u8]>::len)).collect();
    assert_eq!(read, [None, Some(100_000), None, Some(512), None]);
    assert!(media::path(image, 4).unwrap().ends_with("+12"));
}

#[test]
fn more_members_than_the_small_record_counts_are_read() {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for number in 0..65_600 {
        member(&mut archive, &format!("{number}.png"), b"", STORED, false);
    }
    let folder = folder(&[("many.zip", &archive.finish().unwrap().into_inner())]);
    let batches = crate::source::testing::read_all(&zip(path(&folder, "many.zip"), "{}"));
    let rows: usize = batches.iter().map(|batch| batch.records.num_rows()).sum();
    let refused: usize = batches.iter().map(|batch| batch.refused.len()).sum();
    assert_eq!((rows, refused), (65_600, 0));
}

#[test]
fn what_cannot_be_unpacked_costs_itself() {
    let bytes = |name, method| (name, b"some bytes, some bytes, some bytes".as_slice(), method);
    let good = archive(&[
        bytes("a.png", DEFLATE),
        bytes("locked.png", DEFLATE),
        bytes("strange.png", DEFLATE),
        bytes("flipped.png", STORED),
        bytes("lies.png", DEFLATE),
        bytes("z.png", STORED),
    ]);
    let mut bad = good.clone();
    // Flags, method, checksum and unpacked size stand at 8, 10, 16 and 24 of an entry, before its name at 46.
    let mut entry = |name: &str, at: i64, to: &[u8]| {
        let place = (0..bad.len()).rev().find(|p| bad[*p..].starts_with(name.as_bytes())).unwrap();
        let at = (place as i64 - 46 + at) as usize;
        bad[at..at + to.len()].copy_from_slice(to);
    };
    entry("locked.png", 8, &[1, 0]);
    entry("strange.png", 10, &[14, 0]);
    entry("flipped.png", 16, &[1, 2, 3, 4]);
    entry("lies.png", 24, &[5, 0, 0, 0]);
    let folder = folder(&[("good.zip", &good), ("bad.zip", &bad)]);
    assert_eq!(conforming(&zip(path(&folder, "good.zip"), "{}")).rows, 6);
    let seen = conforming(&zip(path(&folder, "bad.zip"), "{}"));
    assert_eq!(keys(&seen), ["a.png", "z.png"]);
    let errors: Vec<_> = seen.refused.iter().map(|r| (r.key.as_str(), r.error.as_str())).collect();
    for ((key, error), (name, says)) in errors.iter().zip([
        ("locked.png", "it is encrypted"),
        ("strange.png", "packed with LZMA"),
        ("flipped.png", "checksum"),
        ("lies.png", "more than the 5 bytes"),
    ]) {
        assert_eq!(*key, name);
        assert!(error.contains(says), "{error}");
    }
    assert_eq!(errors.len(), 4);
}

#[test]
fn an_archive_cut_anywhere_is_refused_as_a_whole() {
    let whole = odd();
    for cut in [10, 700, whole.len() / 2, whole.len() - 200, whole.len() - 1] {
        let folder = folder(&[("a.zip", &whole[..cut])]);
        let seen = conforming(&zip(path(&folder, "a.zip"), r#"{ "modality": "image" }"#));
        assert_eq!((seen.rows, seen.refused.len()), (0, 1), "cut at {cut}: {:?}", seen.refused);
    }
}

#[test]
fn any_flipped_byte_costs_members_and_not_the_run() {
    let whole = archive(&[("a.png", &[1; 90], DEFLATE), ("b.png", b"22", STORED)]);
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x40;
        let folder = folder(&[("a.zip", &bytes)]);
        let seen = conforming(&zip(path(&folder, "a.zip"), r#"{ "modality": "image" }"#));
        assert!(seen.rows <= 2, "flipped at {at}");
    }
}

#[test]
fn a_damaged_directory_gives_what_stands_before() {
    let mut bytes =
        archive(&[("a.png", b"1", STORED), ("b.png", b"2", STORED), ("c.png", b"3", STORED)]);
    let at = (0..bytes.len()).rev().find(|p| bytes[*p..].starts_with(b"b.png")).unwrap();
    bytes[at - 46] ^= 1;
    let folder = folder(&[("a.zip", &bytes)]);
    let seen = conforming(&zip(path(&folder, "a.zip"), "{}"));
    assert_eq!((keys(&seen), seen.refused.len()), (vec!["a.png".to_owned()], 1));
    assert!(seen.refused[0].error.contains("its directory is damaged"), "{:?}", seen.refused);
}

#[test]
fn a_bomb_is_bounded_and_large_members_are_letters() {
    let bytes = archive(&[
        ("a.png", b"small", DEFLATE),
        ("b.png", &vec![0; 3 << 20], DEFLATE),
        ("c.png", b"small too", DEFLATE),
    ]);
    let folder = folder(&[("a.zip", &bytes)]);
    let of = |options| conforming(&zip(path(&folder, "a.zip"), options));
    let large = of(r#"{ "max_member": "1MiB" }"#);
    assert_eq!(keys(&large), ["a.png", "c.png"]);
    assert!(large.refused[0].error.contains("`max_member` is 1 MiB"), "{:?}", large.refused);
    let bomb = of(r#"{ "max_unpacked": "1MiB" }"#);
    assert_eq!(keys(&bomb), ["a.png"]);
    assert!(bomb.refused[0].error.contains("raise `max_unpacked`"), "{:?}", bomb.refused);
}

#[test]
fn of_two_members_with_one_name_the_second_is_refused() {
    let mut bytes = archive(&[("one.png", b"1", STORED), ("two.png", b"2", STORED)]);
    assert_eq!(patch(&mut bytes, b"two.png", 0, b"one.png"), 2);
    let folder = folder(&[("a.zip", &bytes)]);
    let seen = conforming(&zip(path(&folder, "a.zip"), "{}"));
    assert_eq!((bodies(&seen), seen.refused.len()), (vec![b"1".to_vec()], 1));
    assert!(seen.refused[0].error.contains("another member of this name"), "{:?}", seen.refused);
}

#[test]
fn patterns_choose_members_and_archives_name_them() {
    let bytes = archive(&[
        ("a.png", b"1", STORED),
        ("notes.txt", b"no image", DEFLATE),
        ("folder/b.jpg", b"2", DEFLATE),
    ]);
    let folder = folder(&[("one.zip", &bytes), ("two.zip", &bytes)]);
    let only = r#"{ "members": "**/*.{png,jpg}" }"#;
    let seen = conforming(&zip(path(&folder, "*.zip"), only));
    let expected =
        ["one.zip/a.png", "one.zip/folder/b.jpg", "two.zip/a.png", "two.zip/folder/b.jpg"];
    assert_eq!(keys(&seen), expected);
}

#[test]
fn what_is_no_archive_of_files_is_called_by_its_name() {
    let folder = folder(&[
        ("empty.zip", b""),
        ("garbage.zip", &[7; 2000]),
        ("ended.zip", &archive(&[])),
        ("text.zip", &archive(&[("a.txt", b"", STORED)])),
    ]);
    for (name, expected) in [
        ("empty.zip", "it is no zip archive"),
        ("garbage.zip", "it is no zip archive"),
        ("ended.zip", "it is an archive without files"),
        ("text.zip", "1 .txt, tells no modality"),
    ] {
        let error = block_on(zip(path(&folder, name), "{}").schema()).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains(expected), "{error}");
    }
}
