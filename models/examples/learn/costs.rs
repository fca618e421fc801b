//! What a model costs by its shapes: operations, bytes, and an estimate of energy.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;

use anabranch_models::artifact::architecture::{Architecture, FeedForward};
use serde_json::Value;

use crate::contender::Contender;
use crate::study::Runs;

/// Picojoules of an operation in 45 nm at 0.9 V (M. Horowitz, "Computing's energy problem", ISSCC 2014, figure
/// 1.1.9): an f32 multiplication and addition, an int32 addition, which is more than the int16 of tables.
const F32_MULTIPLICATION: f64 = 3.7;
const F32_ADDITION: f64 = 0.9;
const INT_ADDITION: f64 = 0.1;
/// An int8 multiplication, of projected wires.
const INT8_MULTIPLICATION: f64 = 0.2;

/// Operations, bytes, and an estimate of energy, from shapes alone.
pub(crate) fn write(
    runs: &Runs<'_>,
    base: &Architecture,
    figures: &mut BTreeMap<String, Value>,
    text: &mut String,
) -> Result<(), Box<dyn Error>> {
    let word = runs.part.contenders.iter().find(|(name, _)| *name == "lut");
    let Some((_, word)) = word else { return Ok(()) };
    let tables = base.with_feed_forward(word.parse::<Contender>()?.feed_forward(base.width));
    let mlp = base.with_mlp();
    let rest = base.with_feed_forward(FeedForward::None).operations();
    let rest_energy =
        rest.multiplications as f64 * F32_MULTIPLICATION + rest.additions as f64 * F32_ADDITION;
    let (of_mlp, of_tables) = (mlp.operations(), tables.operations());
    let mlp_energy =
        of_mlp.multiplications as f64 * F32_MULTIPLICATION + of_mlp.additions as f64 * F32_ADDITION;
    let apart = |all: u64, rest: u64| all.saturating_sub(rest) as f64;
    let table_energy = rest_energy
        + apart(of_tables.multiplications, rest.multiplications) * INT8_MULTIPLICATION
        + apart(of_tables.additions, rest.additions) * INT_ADDITION;
    let replaced = 100.0 * tables.replaced_share();
    let bytes = tables.feed_forward_bytes();
    let of_f32 = bytes.exported as f64 / bytes.mlp_f32 as f64;
    let of_int8 = bytes.exported as f64 / bytes.mlp_int8 as f64;
    writeln!(
        text,
        "\nFrom the shapes, per token of a full input: the model with MLPs takes {:.0} multiplications and {:.0} \
         additions, the one with tables {:.0} and {:.0} ({replaced:.1} % of the multiplications replaced). The \
         feed-forward of all blocks weighs {} bytes exported, a byte for each value of a table also where 4 bits \
         would do: {:.1} times the {} of f32 MLPs, {:.1} times the {} of int8 MLPs. Energy of the arithmetic alone, an \
         estimate (ISSCC 2014: 3.7 pJ for an f32 multiplication, 0.9 for an addition, 0.2 for an int8 multiplication, \
         0.1 for an integer addition; memory left out): {:.2} times less.",
        of_mlp.multiplications_per_token(),
        of_mlp.additions_per_token(),
        of_tables.multiplications_per_token(),
        of_tables.additions_per_token(),
        bytes.exported,
        of_f32,
        bytes.mlp_f32,
        of_int8,
        bytes.mlp_int8,
        mlp_energy / table_energy,
    )?;
    let prefix = runs.part.figures;
    let mut figure = |name: &str, value: f64| {
        figures.insert(format!("{prefix}.{name}"), value.into());
    };
    figure("multiplications_replaced_percent", replaced);
    figure("additions_per_token", of_tables.additions_per_token());
    figure("feed_forward_bytes", bytes.exported as f64);
    figure("feed_forward_bytes_vs_mlp_f32", of_f32);
    figure("feed_forward_bytes_vs_mlp_int8", of_int8);
    figure("energy_estimate_ratio", mlp_energy / table_energy);
    Ok(())
}
