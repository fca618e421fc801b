//! What stands in the second half of the blocks, as one word: `mlp`, `rows:128x6:axis:choices=8`.

use std::error::Error;
use std::str::FromStr;

use anabranch_models::artifact::architecture::{Bits, FeedForward, Rows, Wires};
use anabranch_models::train::export::Precision;
use anabranch_models::transformer::Start;

/// A feed-forward and how it is trained, for models of any width.
#[derive(Debug, Clone)]
pub(crate) struct Contender {
    kind: Kind,
    pub(crate) start: Start,
    /// The learning rate of tables, as a multiple of that of weights.
    pub(crate) table_rate: f32,
    /// The decay of tables.
    pub(crate) table_decay: f32,
    /// Steps of an MLP model whose blocks the tables are fitted to; 0 starts from scratch.
    pub(crate) teacher: u64,
    /// Steps of the fit.
    pub(crate) fit: u64,
    /// Bits of the exported tables' values: what is judged.
    pub(crate) precision: Precision,
}

#[derive(Debug, Clone)]
enum Kind {
    None,
    Mlp,
    Rows(Rows),
    /// Tables of the one layer, as a multiple of the width.
    Bits(usize),
}

impl Contender {
    pub(crate) fn feed_forward(&self, width: usize) -> FeedForward {
        match self.kind {
            Kind::None => FeedForward::None,
            Kind::Mlp => FeedForward::Mlp { hidden: 4 * width },
            Kind::Rows(rows) => FeedForward::Rows(rows),
            Kind::Bits(multiple) => {
                FeedForward::Bits(Bits { levels: 8, nodes: vec![multiple * width], inputs: 6 })
            }
        }
    }
}

impl FromStr for Contender {
    type Err = Box<dyn Error>;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let mut parts = word.split(':');
        let kind = match parts.next().unwrap_or_default() {
            "none" => Kind::None,
            "mlp" => Kind::Mlp,
            "rows" => {
                let form = "rows:NODESxINPUTS:axis or rows:NODESxINPUTS:projected";
                let (nodes, inputs) = parts.next().and_then(|s| s.split_once('x')).ok_or(form)?;
                let wires = match parts.next() {
                    Some("axis") => Wires::Axis,
                    Some("projected") => Wires::Projected,
                    _ => return Err(form.into()),
                };
                Kind::Rows(Rows { nodes: nodes.parse()?, inputs: inputs.parse()?, wires })
            }
            "bits" => Kind::Bits(parts.next().ok_or("bits:MULTIPLE")?.parse()?),
            other => return Err(format!("{other} is no feed-forward").into()),
        };
        let start = Start { choices: 1, ..Start::default() };
        let (table_rate, table_decay, precision) = (2.0, 0.0, Precision::Int8);
        let mut contender =
            Self { kind, start, table_rate, table_decay, teacher: 0, fit: 0, precision };
        for part in parts {
            let (name, value) =
                part.split_once('=').ok_or_else(|| format!("{part}: NAME=VALUE"))?;
            match name {
                "damping" => contender.start.damping = Some(value.parse()?),
                "deviation" => contender.start.deviation = Some(value.parse()?),
                "choices" => contender.start.choices = value.parse()?,
                "table-rate" => contender.table_rate = value.parse()?,
                "decay" => contender.table_decay = value.parse()?,
                "teacher" => contender.teacher = value.parse()?,
                "fit" => contender.fit = value.parse()?,
                "table-bits" => {
                    contender.precision = match value {
                        "4" => Precision::Int4,
                        "8" => Precision::Int8,
                        _ => return Err("table-bits are 4 or 8".into()),
                    };
                }
                _ => return Err(format!("{name} is nothing that a contender has").into()),
            }
        }
        Ok(contender)
    }
}
