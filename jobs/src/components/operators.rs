//! Kinds of operators.

use anabranch_operators::{
    DecodeOptions, EncodeOptions, FilterOptions, JoinOptions, ResizeOptions, SelectOptions,
};
use anabranch_pipelines::operator::Operator;

use super::Component;
use crate::component;

/// All kinds of operators.
pub(super) fn all() -> Vec<Component<dyn Operator>> {
    vec![
        component!("decode", DecodeOptions),
        component!("encode", EncodeOptions),
        component!("filter", FilterOptions),
        component!("join", JoinOptions),
        component!("resize", ResizeOptions),
        component!("select", SelectOptions),
    ]
}
