//! Kinds of operators.

use anabranch_operators::{
    DecodeOptions, DedupOptions, DigestOptions, EncodeOptions, FilterOptions, JoinOptions,
    NormaliseOptions, QualityOptions, ResizeOptions, SelectOptions, TokeniseOptions,
};
use anabranch_pipelines::operator::Operator;

use super::Component;
use crate::component;

/// All kinds of operators.
pub(super) fn all() -> Vec<Component<dyn Operator>> {
    vec![
        component!("decode", DecodeOptions),
        component!("dedup", DedupOptions),
        component!("digest", DigestOptions),
        component!("encode", EncodeOptions),
        component!("filter", FilterOptions),
        component!("join", JoinOptions),
        component!("normalise", NormaliseOptions),
        component!("quality", QualityOptions),
        component!("resize", ResizeOptions),
        component!("select", SelectOptions),
        component!("tokenise", TokeniseOptions),
    ]
}
