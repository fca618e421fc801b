use std::sync::Arc;

use anabranch_pipelines::record::media;
use anabranch_pipelines::source::Source;
use arrow::array::AsArray;
use arrow::datatypes::{Int32Type, Int64Type};

use super::IdxOptions;
use crate::source::testing::{block_on, conforming, data, folder, gzip, path};

fn idx(path: String, labels: Option<String>) -> Arc<dyn Source> {
    let options = serde_json::json!({ "path": path, "labels": labels });
    serde_json::from_value::<IdxOptions>(options).unwrap().build().unwrap()
}

/// `count` images of 2x3 whose pixels are their numbers.
fn images(count: u32) -> Vec<u8> {
    let sizes = [0x0803, count, 3, 2].map(u32::to_be_bytes).concat();
    [sizes, (0..count).flat_map(|n| [n as u8; 6]).collect()].concat()
}

fn labels(count: u32) -> Vec<u8> {
    let sizes = [0x0801, count].map(u32::to_be_bytes).concat();
    [sizes, (0..count).map(|n| (n % 10) as u8).collect()].concat()
}

#[test]
fn images_and_labels_are_zipped() {
    let folder = folder(&[
        ("images", &images(50)),
        ("images.gz", &gzip(&images(50))),
        ("labels", &labels(50)),
        ("labels.gz", &gzip(&labels(50))),
    ]);
    let plain = conforming(&idx(path(&folder, "images"), Some(path(&folder, "labels"))));
    assert_eq!((plain.rows, plain.refused.len()), (50, 0));
    let image = media::of(&plain.records, "image").unwrap();
    assert_eq!(media::bytes(image, 7), Some([7; 6].as_slice()));
    let column = |name: &str| plain.records.column_by_name(name).unwrap();
    assert_eq!(column("label").as_primitive::<Int64Type>().value(17), 7);
    assert_eq!(column("index").as_primitive::<Int64Type>().value(17), 17);
    assert_eq!(column("key").as_string::<i32>().value(17), "00000017");
    assert_eq!(column("image_width").as_primitive::<Int32Type>().value(0), 2);
    assert_eq!(column("image_height").as_primitive::<Int32Type>().value(0), 3);
    let zipped = conforming(&idx(path(&folder, "images.gz"), Some(path(&folder, "labels.gz"))));
    assert_eq!(zipped, plain);
    let alone = conforming(&idx(path(&folder, "labels"), None));
    assert_eq!(alone.records.column_by_name("label"), plain.records.column_by_name("label"));
}

#[test]
fn a_cut_file_gives_what_it_has_and_one_letter() {
    let cut = &images(50)[..16 + 6 * 20 + 3];
    let more = [images(50), vec![0]].concat();
    let folder = folder(&[("cut", cut), ("cut.gz", &gzip(cut)), ("more", &more)]);
    for name in ["cut", "cut.gz"] {
        let seen = conforming(&idx(path(&folder, name), None));
        assert_eq!((seen.rows, seen.refused.len()), (20, 1), "{name}");
        assert!(seen.refused[0].error.contains("declares 50 records"), "{:?}", seen.refused);
    }
    let seen = conforming(&idx(path(&folder, "more"), None));
    assert_eq!((seen.rows, seen.refused.len()), (50, 1));
    assert!(seen.refused[0].error.contains("more bytes follow"));
}

#[test]
fn what_does_not_fit_is_said_before_anything_is_read() {
    let many = [[0x0803, 1, u32::MAX, u32::MAX].map(u32::to_be_bytes).concat()].concat();
    let folder = folder(&[
        ("images", &images(5)),
        ("labels", &labels(6)),
        ("png", b"\x89PNG\r\n\x1a\n----------------"),
        ("many", &many),
    ]);
    let error = |name: &str, labels: Option<&str>| {
        let labels = labels.map(|labels| path(&folder, labels));
        block_on(idx(path(&folder, name), labels).schema()).unwrap_err().to_string()
    };
    assert!(error("images", Some("labels")).contains("holds 6 labels, and `images` 5 images"));
    assert!(error("png", None).contains("no IDX file"));
    assert!(error("many", None).contains("gives items of"));
}

#[test]
fn real_mnist_is_read() {
    let Some(images) = data("mnist/train-images-idx3-ubyte.gz") else { return };
    let labels = data("mnist/train-labels-idx1-ubyte.gz");
    let batches = crate::source::testing::read_all(&idx(images, labels));
    assert_eq!(batches.iter().map(|batch| batch.records.num_rows()).sum::<usize>(), 60_000);
    // The first training image is the well-known five.
    let label = batches[0].records.column_by_name("label").unwrap();
    assert_eq!(label.as_primitive::<Int64Type>().value(0), 5);
}
