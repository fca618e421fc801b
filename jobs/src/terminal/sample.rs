//! A report for tests.

use anabranch_pipelines::progress::{
    Curve, Ending, Figure, NodeProgress, Output, Progress, Report,
};

pub(super) fn complete() -> Report {
    let node =
        |name: &str, role: &str, kind: &str, out: u64, bytes: (u64, u64), busy| NodeProgress {
            name: name.into(),
            role: role.into(),
            kind: kind.into(),
            records_in: 2000,
            records_out: out,
            bytes_in: bytes.0,
            bytes_out: bytes.1,
            busy_seconds: busy,
            ..Default::default()
        };
    let mut decode = node("decode", "operator", "decode", 1998, (40_000_000, 900_000_000), 8.25);
    decode.dead_letters = 2;
    let mut sink = node("table", "sink", "table", 1998, (9_000_000, 8_500_000), 0.4);
    sink.records_in = 1998;
    Report {
        job: "photos".into(),
        run: "r1-5f0c9a12".into(),
        ending: Ending::Complete,
        resumed: false,
        resumed_after: None,
        chosen: Default::default(),
        refused: 2,
        class: "pure".into(),
        cpu: "x86_64+avx2".into(),
        progress: Progress {
            nodes: vec![
                node("images", "source", "files", 2000, (40_000_000, 40_000_000), 0.2),
                decode,
                node("shrink", "operator", "resize", 1998, (900_000_000, 90_000_000), 1.5),
                sink,
            ],
            commits: 3,
            records_total: Some(4000),
            bytes_total: Some(40_000_000),
            credit_used: 64 << 20,
            credit: 256 << 20,
            seconds: 5.5,
            ..Default::default()
        },
        outputs: [(
            "table".to_owned(),
            Output {
                location: "file:///data/photos".into(),
                shards: 4,
                rows: 1998,
                bytes: 8_500_000,
            },
        )]
        .into(),
        decisions: Default::default(),
        dead_letters: Some("file:///data/photos/_anabranch/dead_letters".into()),
        dead_letter_examples: vec![
            "decode: broken.png: the file ends in the middle of a chunk".into(),
        ],
        processes: 1,
        restarts: 0,
        credit: 256 << 20,
        cpu_seconds: 10.4,
        peak_rss: 210 << 20,
    }
}

/// A run one of whose operators learned.
pub(super) fn learned() -> Report {
    let mut report = complete();
    let losses = [[300.0, 4.0], [600.0, 2.6], [900.0, 2.1], [1200.0, 1.8342]];
    let held = [[300.0, 3.8], [600.0, 2.2], [1200.0, 1.7911]];
    let curve =
        |name: &str, points: &[[f64; 2]]| Curve { name: name.into(), points: points.into() };
    report.progress.nodes.insert(
        3,
        NodeProgress {
            name: "learn".into(),
            role: "operator".into(),
            kind: "train".into(),
            records_in: 1998,
            records_out: 4,
            busy_seconds: 2.0,
            figures: vec![
                Figure::of("step", 1200.0, 2000.0),
                Figure::new("loss", 1.8342),
                Figure::new("validation", 1.7911),
            ],
            curves: vec![curve("loss", &losses), curve("validation", &held)],
            ..NodeProgress::default()
        },
    );
    report
}
