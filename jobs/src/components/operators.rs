//! Kinds of operators.

use anabranch_operators::evaluate::EvaluateOptions;
use anabranch_operators::{
    CropOptions, DecodeOptions, DedupOptions, DigestOptions, EncodeOptions, FilterOptions,
    InferOptions, JoinOptions, LoudnessOptions, MonoOptions, NormaliseOptions, QualityOptions,
    ResampleOptions, ResizeOptions, SelectOptions, SpectrumOptions, TokeniseOptions, TrainOptions,
    TranscodeOptions, TrimOptions, WatchOptions,
};
use anabranch_pipelines::operator::Operator;

use super::Component;
use crate::component;

/// All kinds of operators.
pub(super) fn all() -> Vec<Component<dyn Operator>> {
    vec![
        component!("crop", CropOptions),
        component!("decode", DecodeOptions),
        component!("dedup", DedupOptions),
        component!("digest", DigestOptions),
        component!("encode", EncodeOptions),
        component!("evaluate", EvaluateOptions),
        component!("filter", FilterOptions),
        component!("infer", InferOptions),
        component!("join", JoinOptions),
        component!("loudness", LoudnessOptions),
        component!("mono", MonoOptions),
        component!("normalise", NormaliseOptions),
        component!("quality", QualityOptions),
        component!("resample", ResampleOptions),
        component!("resize", ResizeOptions),
        component!("select", SelectOptions),
        component!("spectrum", SpectrumOptions),
        component!("tokenise", TokeniseOptions),
        component!("train", TrainOptions),
        component!("transcode", TranscodeOptions),
        component!("trim", TrimOptions),
        component!("watch", WatchOptions),
    ]
}
