//! The drawings of NLVR: squares, circles and triangles in three boxes side by side, which a description gives exactly.
//!
//! A record is a box, 100 x 100 pixels; its mask is drawn from the description: a pixel belongs to an object when its
//! middle lies within it. (Where NLVR's own drawing is blurred at an edge, that is on 1 of 10,000 pixels the other side
//! of half; elsewhere never.)

use std::collections::HashMap;
use std::error::Error;
use std::io::Read;

use anabranch_operators::codec::{self, Facts, Limits, Media};
use serde_json::Value;

use crate::data;

/// Pixels of a side of a box, and from the left of one to that of the next.
pub(crate) const SIDE: usize = 100;
const NEXT: usize = 150;
const BOXES: usize = 3;
pub(crate) const PICTURE: Facts =
    Facts::Image { width: SIDE as u32, height: SIDE as u32, channels: 3 };
const MASK: Facts = Facts::Image { width: SIDE as u32, height: SIDE as u32, channels: 1 };
/// Of so many sentences the boxes of one test: enough that a setting which loses nothing can be shown to.
const TESTED: u32 = 3;

/// A box, and white where its objects are.
pub(crate) struct Scene {
    samples: Vec<u8>,
    mask: Vec<u8>,
}

impl Scene {
    pub(crate) fn media(&self) -> Media<'_> {
        Media { samples: &self.samples, facts: PICTURE }
    }

    pub(crate) fn right(&self) -> Media<'_> {
        Media { samples: &self.mask, facts: MASK }
    }
}

/// Boxes to train on and boxes to test on; no sentence has some of both.
pub(crate) fn all() -> Result<[Vec<Scene>; 2], Box<dyn Error>> {
    let folder = data().join("nlvr");
    let text = std::fs::read_to_string(folder.join("dev.json"))?;
    let described = text.lines().map(serde_json::from_str::<Value>);
    let described = described.collect::<Result<Vec<_>, _>>()?;
    let named =
        described.iter().filter_map(|record| Some((record["identifier"].as_str()?, record)));
    let named: HashMap<&str, &Value> = named.collect();
    let png = codec::named("png").ok_or("no png")?;
    let mut archive = tar::Archive::new(std::fs::File::open(folder.join("dev_images.tar"))?);
    let (mut train, mut test) = (Vec::new(), Vec::new());
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
        let identifier = name.strip_prefix("dev-").and_then(|name| name.strip_suffix("-0"));
        let Some((identifier, record)) = identifier.and_then(|i| named.get_key_value(i)) else {
            continue;
        };
        let sentence = identifier.split('-').next().unwrap_or_default().parse::<u32>()?;
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes)?;
        let mut samples = Vec::new();
        let facts = png.decode(&bytes, &Limits::default(), &mut samples)?;
        let Facts::Image { width, channels, .. } = facts else { return Err("no picture".into()) };
        let into = if sentence % TESTED == 0 { &mut test } else { &mut train };
        for at in 0..BOXES {
            let picture = cut(&samples, (width as usize, usize::from(channels)), at * NEXT);
            if picture.len() != SIDE * SIDE * 3 {
                return Err(format!("{name} is {facts:?}, which holds no {BOXES} boxes").into());
            }
            into.push(Scene { samples: picture, mask: drawn(&record["structured_rep"][at])? });
        }
    }
    Ok([train, test])
}

/// The colours of a box that begins so far to the right.
fn cut(samples: &[u8], (width, channels): (usize, usize), left: usize) -> Vec<u8> {
    let rows = samples.chunks_exact(width * channels).take(SIDE);
    let pixels = rows.flat_map(|row| row.chunks_exact(channels).skip(left).take(SIDE));
    pixels.flat_map(|pixel| pixel.iter().take(3)).copied().collect()
}

/// White where one of these objects is.
fn drawn(objects: &Value) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut mask = vec![0; SIDE * SIDE];
    for object in objects.as_array().ok_or("a box without a description")? {
        let number = |name: &str| object[name].as_f64().ok_or(format!("an object without {name}"));
        let (left, top, size) = (number("x_loc")?, number("y_loc")?, number("size")?);
        let kind = object["type"].as_str().unwrap_or_default();
        let inside: fn(f64, f64) -> bool = match kind {
            "square" => |_, _| true,
            "circle" => |x, y| (x - 0.5).powi(2) + (y - 0.5).powi(2) <= 0.25,
            // It stands on its base.
            "triangle" => |x, y| (x - 0.5).abs() <= y / 2.0,
            _ => return Err(format!("an object of type {kind:?}").into()),
        };
        for (at, pixel) in mask.iter_mut().enumerate() {
            let x = ((at % SIDE) as f64 + 0.5 - left) / size;
            let y = ((at / SIDE) as f64 + 0.5 - top) / size;
            if (0.0..1.0).contains(&x) && (0.0..1.0).contains(&y) && inside(x, y) {
                *pixel = 255;
            }
        }
    }
    Ok(mask)
}
