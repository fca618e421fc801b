use std::sync::Arc;

use ::tar::{Builder, EntryType, Header};
use anabranch_pipelines::record::media;
use anabranch_pipelines::source::{BatchSize, Source, SplitRange};
use arrow::array::{Array, AsArray};
use arrow::datatypes::Int64Type;
use futures::TryStreamExt;

use super::TarOptions;
use crate::conformance::source::{Seen, references};
use crate::source::testing::{block_on, conforming, data, folder, gzip, path, read_all};

fn tar(path: String, options: &str) -> Arc<dyn Source> {
    let mut all = serde_json::json!({ "path": path });
    let more: serde_json::Value = serde_json::from_str(options).unwrap();
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value::<TarOptions>(all).unwrap().build().unwrap()
}

fn member(archive: &mut Builder<Vec<u8>>, name: &str, bytes: &[u8]) {
    let mut header = Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    archive.append_data(&mut header, name, bytes).unwrap();
}

fn link(archive: &mut Builder<Vec<u8>>, kind: EntryType, name: &str) {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(0);
    archive.append_link(&mut header, name, "a.png").unwrap();
}

/// Members of every kind, one with a name that no plain header holds.
fn odd() -> Vec<u8> {
    let mut archive = Builder::new(Vec::new());
    archive.append_pax_extensions([("comment", b"what".as_slice())]).unwrap();
    member(&mut archive, "./a.png", b"first");
    link(&mut archive, EntryType::Symlink, "link.png");
    let mut folder = Header::new_gnu();
    folder.set_entry_type(EntryType::Directory);
    folder.set_size(0);
    archive.append_data(&mut folder, "folder/", [].as_slice()).unwrap();
    member(&mut archive, &format!("{}b.png", "folder/".repeat(40)), &[7; 1000]);
    member(&mut archive, "empty.png", b"");
    archive.append_pax_extensions([("path", "ümlaut/c.jpg".as_bytes())]).unwrap();
    member(&mut archive, "short.jpg", &[9; 512]);
    link(&mut archive, EntryType::Link, "hard.png");
    archive.into_inner().unwrap()
}

fn keys(seen: &Seen) -> Vec<String> {
    let keys = seen.records.column_by_name("key").unwrap();
    keys.as_string::<i32>().iter().map(|key| key.unwrap().to_owned()).collect()
}

fn bodies(seen: &Seen) -> Vec<Vec<u8>> {
    let image = media::of(&seen.records, "image").unwrap();
    (0..seen.rows).map(|row| media::bytes(image, row).unwrap().to_vec()).collect()
}

#[test]
fn members_are_records_and_what_holds_no_bytes_is_none() {
    let folder = folder(&[("odd.tar", &odd()), ("odd.tar.gz", &gzip(&odd()))]);
    let plain = conforming(&tar(path(&folder, "odd.tar"), "{}"));
    let long = format!("{}b.png", "folder/".repeat(40));
    assert_eq!(keys(&plain), ["a.png", long.as_str(), "empty.png", "ümlaut/c.jpg"]);
    assert_eq!(bodies(&plain), [b"first".to_vec(), vec![7; 1000], vec![], vec![9; 512]]);
    let zipped = conforming(&tar(path(&folder, "odd.tar.gz"), "{}"));
    assert_eq!(zipped, plain);
}

#[test]
fn offsets_in_a_gzipped_archive_never_become_references() {
    let folder = folder(&[("a.tar", &odd())]);
    let within = |options| tar(folder.path().to_str().unwrap().to_owned(), options);
    let referring = within(r#"{ "references": true }"#);
    assert!(referring.abilities().random_access);
    block_on(referring.schema()).unwrap();
    assert!(referring.abilities().random_access);
    // One that comes later is refused as a whole; one that is there is an error.
    std::fs::write(folder.path().join("b.tar.gz"), gzip(&odd())).unwrap();
    let refused: Vec<_> =
        read_all(&referring).into_iter().flat_map(|batch| batch.refused).collect();
    assert_eq!(refused.iter().map(|r| r.split.as_str()).collect::<Vec<_>>(), ["b.tar.gz"]);
    assert!(refused[0].error.contains("cannot be read alone"), "{refused:?}");
    let error = block_on(within(r#"{ "references": true }"#).schema()).unwrap_err();
    assert!(error.to_string().contains("`b.tar.gz` is there"), "{error}");
    let reading = within("{}");
    block_on(reading.schema()).unwrap();
    assert!(!reading.abilities().random_access);
}

#[test]
fn references_stand_for_members() {
    let folder = folder(&[("odd.tar", &odd())]);
    let of = |options| tar(path(&folder, "odd.tar"), options);
    block_on(references(&of(r#"{ "references": true }"#), &of("{}"), "image")).unwrap();
    let zipped = serde_json::json!({ "path": "a.tar.gz", "references": true });
    let error = serde_json::from_value::<TarOptions>(zipped).unwrap().build().err().unwrap();
    assert!(error.to_string().contains("cannot be read alone"));
}

#[test]
fn an_archive_cut_anywhere_gives_its_whole_members_and_one_letter() {
    let whole = odd();
    for cut in [100, 700, 1600, 2048, 3000, whole.len() - 1024] {
        let folder = folder(&[("a.tar", &whole[..cut]), ("b.tar.gz", &gzip(&whole[..cut]))]);
        let plain = conforming(&tar(path(&folder, "a.tar"), r#"{ "modality": "image" }"#));
        let zipped = conforming(&tar(path(&folder, "b.tar.gz"), r#"{ "modality": "image" }"#));
        assert_eq!(plain.records, zipped.records, "cut at {cut}");
        assert_eq!(plain.refused.len(), zipped.refused.len());
        assert!(plain.refused.len() == 1 && plain.rows < 5, "cut at {cut}");
        assert!(plain.refused[0].error.contains("the archive ends"), "{:?}", plain.refused);
    }
}

#[test]
fn a_second_member_of_one_name_is_refused_whoever_reads_it() {
    let mut archive = Builder::new(Vec::new());
    for (name, byte) in [("a.png", 1), ("b.png", 2), ("a.png", 3), ("notes.txt", 4), ("b.png", 5)] {
        member(&mut archive, name, &[byte; 100]);
    }
    let archive = archive.into_inner().unwrap();
    let folder = folder(&[("a.tar", &archive), ("b.tar.gz", &gzip(&archive))]);
    for name in ["a.tar", "b.tar.gz"] {
        let of = || tar(path(&folder, name), r#"{ "members": "*.png" }"#);
        let seen = conforming(&of());
        assert_eq!((keys(&seen), bodies(&seen)[1][0]), (vec!["a.png".into(), "b.png".into()], 2));
        let twice: Vec<&str> = seen.refused.iter().map(|r| r.key.as_str()).collect();
        assert_eq!(twice, ["a.png", "b.png"], "{name}");
        assert!(seen.refused[0].error.contains("another member of this name"), "{name}");
        // A process that begins in the middle knows no less.
        let refused = block_on(async {
            let source = of();
            let split = Arc::new(source.splits().await.unwrap().remove(0));
            let range = SplitRange { split, range: 2048..i64::MAX as u64 };
            let size = BatchSize { records: 1000, bytes: 1 << 20 };
            let read: Vec<_> = source.open(vec![range], size).try_collect().await.unwrap();
            read.into_iter().flat_map(|batch| batch.refused).collect::<Vec<_>>()
        });
        assert_eq!(refused, seen.refused, "{name}");
    }
}

/// A member as GNU tar wrote files with holes before POSIX had headers for them: its map takes so many blocks more.
fn holed(archive: &mut Vec<u8>, name: &str, blocks: usize, stored: &[u8]) {
    let mut header = Header::new_gnu();
    header.set_path(name).unwrap();
    header.set_entry_type(EntryType::GNUSparse);
    header.set_size(stored.len() as u64);
    let gnu = header.as_gnu_mut().unwrap();
    gnu.set_is_extended(blocks > 0);
    gnu.realsize[..11].copy_from_slice(b"00000100000");
    header.set_cksum();
    archive.extend_from_slice(header.as_bytes());
    for block in 0..blocks {
        let mut map = ::tar::GnuExtSparseHeader::new();
        map.set_is_extended(block + 1 < blocks);
        archive.extend_from_slice(map.as_bytes());
    }
    archive.extend_from_slice(stored);
    archive.resize(archive.len().next_multiple_of(512), 0);
}

#[test]
fn files_with_holes_are_refused_and_what_follows_them_is_read() {
    let mut bytes = Vec::new();
    for blocks in 0..3 {
        holed(&mut bytes, &format!("old{blocks}.png"), blocks, &[7; 700]);
    }
    let mut archive = Builder::new(Vec::new());
    // As GNU tar writes them in POSIX headers, of each version: the file stands under a made-up name.
    let newest = [
        ("GNU.sparse.major", &b"1"[..]),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"posix/new.png"),
        ("GNU.sparse.realsize", b"100000"),
    ];
    archive.append_pax_extensions(newest).unwrap();
    member(&mut archive, "posix/GNUSparseFile.1/new.png", &[8; 1024]);
    archive.append_pax_extensions([("GNU.sparse.map", &b"0,5,100,5"[..])]).unwrap();
    member(&mut archive, "older.png", &[9; 10]);
    member(&mut archive, "plain.png", b"plain");
    bytes.extend(archive.into_inner().unwrap());
    let folder = folder(&[("a.tar", &bytes), ("b.tar.gz", &gzip(&bytes))]);
    for name in ["a.tar", "b.tar.gz"] {
        let seen = conforming(&tar(path(&folder, name), "{}"));
        assert_eq!(
            (keys(&seen), bodies(&seen)),
            (vec!["plain.png".into()], vec![b"plain".to_vec()])
        );
        let refused: Vec<&str> = seen.refused.iter().map(|r| r.key.as_str()).collect();
        assert_eq!(refused, ["old0.png", "old1.png", "old2.png", "posix/new.png", "older.png"]);
        assert!(seen.refused.iter().all(|r| r.error.contains("stored with holes")), "{name}");
    }
}

#[test]
fn a_flipped_header_costs_the_remainder() {
    let mut bytes = Builder::new(Vec::new());
    (0..10).for_each(|n| member(&mut bytes, &format!("{n}.png"), &[n; 600]));
    let mut bytes = bytes.into_inner().unwrap();
    bytes[4 * 1536 + 20] ^= 1;
    let folder = folder(&[("a.tar", &bytes)]);
    let seen = conforming(&tar(path(&folder, "a.tar"), "{}"));
    assert_eq!((seen.rows, seen.refused.len()), (4, 1));
    assert!(seen.refused[0].error.contains("checksum"));
    assert_eq!(seen.refused[0].range.start, 4 * 1536);
}

#[test]
fn a_bomb_is_bounded_and_large_members_are_letters() {
    let mut archive = Builder::new(Vec::new());
    member(&mut archive, "a.png", b"small");
    member(&mut archive, "b.png", &vec![0; 3 << 20]);
    member(&mut archive, "c.png", b"small too");
    let packed = gzip(&archive.into_inner().unwrap());
    let folder = folder(&[("a.tar.gz", &packed)]);
    let of = |options| conforming(&tar(path(&folder, "a.tar.gz"), options));
    let large = of(r#"{ "max_member": "1MiB" }"#);
    assert_eq!(keys(&large), ["a.png", "c.png"]);
    assert!(large.refused[0].error.contains("`max_member` is 1 MiB"), "{:?}", large.refused);
    let bomb = of(r#"{ "max_unpacked": "1MiB" }"#);
    assert_eq!(keys(&bomb), ["a.png"]);
    assert!(bomb.refused[0].error.contains("raise `max_unpacked`"), "{:?}", bomb.refused);
}

#[test]
fn patterns_and_labels_choose_and_describe_members() {
    let labels = b"file\tlabel\tid\na\t1\tx\nfolder/c.jpg\t3\ty\n";
    let mut archive = Builder::new(Vec::new());
    member(&mut archive, "a.png", b"1");
    member(&mut archive, "notes.txt", b"no image");
    member(&mut archive, "folder/b.jpg", b"2");
    member(&mut archive, "folder/c.jpg", b"3");
    let archive = archive.into_inner().unwrap();
    let folder = folder(&[("one.tar", &archive), ("two.tar", &archive), ("labels.tsv", labels)]);
    let labels = path(&folder, "labels.tsv");
    let of = |name: &str, missing: &str| {
        let options = format!(
            r#"{{ "members": "**/*.{{png,jpg}}", "labels": {{ "path": {labels:?}, "key": "file", "missing": "{missing}" }} }}"#
        );
        conforming(&tar(path(&folder, name), &options))
    };
    let seen = of("*.tar", "null");
    assert_eq!(
        keys(&seen)[..4],
        ["one.tar/a.png", "one.tar/folder/b.jpg", "one.tar/folder/c.jpg", "two.tar/a.png"]
    );
    let label = seen.records.column_by_name("label").unwrap().as_primitive::<Int64Type>();
    assert_eq!(label.iter().take(3).collect::<Vec<_>>(), [Some(1), None, Some(3)]);
    assert!(seen.records.column_by_name("id_").is_some());
    let strict = of("one.tar", "refuse");
    assert_eq!(keys(&strict), ["a.png", "folder/c.jpg"]);
    assert!(strict.refused[0].error.contains("has no row for it"));
}

#[test]
fn real_archives_are_read_whole() {
    for (file, count, column) in [
        ("fashion/images_60x80.tar", 6000, "image"),
        ("fsdd/fsdd_train_idx5-49.tar", 2700, "audio"),
        ("nlvr/dev_images.tar", 989, "image"),
    ] {
        let Some(path) = data(file) else { return };
        let batches = crate::source::testing::read_all(&tar(path, "{}"));
        let rows: usize = batches.iter().map(|batch| batch.records.num_rows()).sum();
        assert!(batches.iter().all(|batch| batch.refused.is_empty()));
        assert_eq!(rows, count, "{file}");
        assert_eq!(media::of(&batches[0].records, column).unwrap().null_count(), 0);
    }
}

#[test]
fn what_is_no_archive_of_files_is_called_by_its_name() {
    let folder = folder(&[
        ("empty.tar", b""),
        ("garbage.tar", &[7; 2000]),
        ("ended.tar", &[0; 1024]),
        ("photo.jpg", b"\xff\xd8\xff\xe0 and so on"),
    ]);
    for (name, expected) in [
        ("empty.tar", "it is empty"),
        ("garbage.tar", "it is no tar archive, or a damaged one"),
        ("ended.tar", "it is an archive without files"),
        ("photo.jpg", "it is no tar archive, or a damaged one"),
    ] {
        let error = block_on(tar(path(&folder, name), "{}").schema()).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains(expected), "{error}");
    }
}
