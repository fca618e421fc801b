//! Whole models against a plain reading of the architecture in f64.

use proptest::prelude::*;

use super::kernels::each_level;
use super::*;
use crate::artifact::architecture::{
    Architecture, AudioTokens, Bits, FeedForward, Head, ImageTokens, Rows, TextTokens, Wires,
};
use crate::artifact::{Card, Tensor, Values};

/// Tensors of an artifact as numbers.
struct Plain<'a>(&'a Artifact);

impl Plain<'_> {
    fn get(&self, name: &str) -> Vec<f64> {
        match self.0.tensor(name).unwrap().values() {
            Values::F32(values) => values.iter().map(|v| f64::from(*v)).collect(),
            Values::U8(values) => values.iter().map(|v| f64::from(*v)).collect(),
            Values::I8(values) => values.iter().map(|v| f64::from(*v)).collect(),
            Values::U16(values) => values.iter().map(|v| f64::from(*v)).collect(),
            Values::U32(values) => values.iter().map(|v| f64::from(*v)).collect(),
            Values::I32(values) => values.iter().map(|v| f64::from(*v)).collect(),
            Values::U64(_) => panic!("words of bits are no numbers"),
        }
    }

    fn linear(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let weights = self.get(name);
        weights.chunks(x.len()).map(|row| row.iter().zip(x).map(|(a, b)| a * b).sum()).collect()
    }

    fn norm(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let (gain, bias) = (self.get(&format!("{name}.gain")), self.get(&format!("{name}.bias")));
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / x.len() as f64;
        let scaled = x.iter().map(|x| (x - mean) / (variance + 1e-5).sqrt());
        scaled.zip(gain).zip(bias).map(|((x, gain), bias)| x * gain + bias).collect()
    }

    /// Blocks and head over the tokens of a sequence; tables look at the grid that the engine had.
    #[allow(clippy::needless_range_loop)]
    fn logits(&self, mut x: Vec<Vec<f64>>, grids: &[Vec<u8>], first: usize) -> Vec<Vec<f64>> {
        let architecture = self.0.architecture();
        let causal = matches!(architecture.inputs, Inputs::Tokens { .. });
        let (width, head_width) = (architecture.width, architecture.head_width());
        for layer in 0..architecture.layers {
            let block = format!("blocks.{layer}");
            let qkv = x.iter().map(|x| {
                let normed = self.norm(&format!("{block}.norm1"), x);
                self.linear(&format!("{block}.attention.qkv"), &normed)
            });
            let qkv = qkv.collect::<Vec<_>>();
            let tokens = x.len();
            for (token, x) in x.iter_mut().enumerate() {
                let seen = if causal { token + 1 } else { tokens };
                let mut attended = Vec::new();
                for head in 0..architecture.heads {
                    let part = |token: usize, part: usize| {
                        &qkv[token][part * width + head * head_width..][..head_width]
                    };
                    let score = |position: usize| {
                        let products = part(token, 0).iter().zip(part(position, 1));
                        let sum = products.map(|(a, b)| a * b).sum::<f64>();
                        (sum / (head_width as f64).sqrt()).exp()
                    };
                    let weights = (0..seen).map(score).collect::<Vec<_>>();
                    let total = weights.iter().sum::<f64>();
                    attended.extend((0..head_width).map(|feature| {
                        let value = |p: usize| weights[p] * part(p, 2)[feature];
                        (0..seen).map(value).sum::<f64>() / total
                    }));
                }
                let out = self.linear(&format!("{block}.attention.out"), &attended);
                x.iter_mut().zip(out).for_each(|(x, out)| *x += out);
                if architecture.feed_forward == FeedForward::None {
                    continue;
                }
                let normed = self.norm(&format!("{block}.norm2"), x);
                let grid = &grids[layer][(first + token) * width..][..width];
                for (y, q) in normed.iter().zip(grid) {
                    let exact = (y * 32.0 + 128.0).clamp(0.0, 255.0);
                    assert!((exact - f64::from(*q)).abs() < 0.51, "{exact} {q}");
                }
                let out = self.feed_forward(&block, &normed, grid);
                x.iter_mut().zip(out).for_each(|(x, out)| *x += out);
            }
        }
        let bias = match architecture.head {
            Head::NextToken => vec![0.0; architecture.outputs()],
            Head::Classes(_) | Head::Masks(_) => self.get("head.bias"),
        };
        let logits = |x: &Vec<f64>| {
            let logits = self.linear("head.weight", &self.norm("norm", x));
            logits.into_iter().zip(&bias).map(|(logit, bias)| logit + bias).collect()
        };
        x.iter().map(logits).collect()
    }

    fn feed_forward(&self, block: &str, normed: &[f64], grid: &[u8]) -> Vec<f64> {
        let scaled = |sums: Vec<f64>, name: &str| {
            let scale = self.get(&format!("{name}.scale"));
            let bias = self.get(&format!("{name}.bias"));
            let sums = sums.into_iter().zip(scale).zip(bias);
            sums.map(|((sum, scale), bias)| sum * scale + bias).collect()
        };
        let width = normed.len();
        match &self.0.architecture().feed_forward {
            FeedForward::None => vec![0.0; width],
            FeedForward::Mlp { .. } => {
                let gelu = |x: f64| {
                    let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
                    0.5 * x * (1.0 + u.tanh())
                };
                let hidden = self.linear(&format!("{block}.mlp.up.weight"), normed);
                let hidden = hidden.into_iter().zip(self.get(&format!("{block}.mlp.up.bias")));
                let hidden = hidden.map(|(x, bias)| gelu(x + bias)).collect::<Vec<_>>();
                let out = self.linear(&format!("{block}.mlp.down.weight"), &hidden);
                let bias = self.get(&format!("{block}.mlp.down.bias"));
                out.into_iter().zip(bias).map(|(x, bias)| x + bias).collect()
            }
            FeedForward::Rows(rows) => {
                let name = format!("{block}.rows");
                let table = self.get(&format!("{name}.table"));
                let mut sums = vec![0.0; width];
                for (node, address) in
                    self.rows_addresses(&name, rows, grid).into_iter().enumerate()
                {
                    let row = (node << rows.inputs) + address;
                    let row = &table[row * width..][..width];
                    sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
                }
                scaled(sums, &name)
            }
            FeedForward::Bits(bits) => {
                let name = format!("{block}.bits");
                let output = self.get(&format!("{name}.output"));
                let (_, set) = self.bits_addresses(&name, bits, grid);
                let mut sums = vec![0.0; width];
                for (node, bit) in set.into_iter().enumerate() {
                    let row = output[node * width..][..width].iter();
                    sums.iter_mut()
                        .zip(row)
                        .for_each(|(sum, value)| *sum += value * f64::from(u8::from(bit)));
                }
                scaled(sums, &name)
            }
        }
    }

    fn rows_addresses(&self, name: &str, rows: &Rows, grid: &[u8]) -> Vec<usize> {
        let thresholds = self.get(&format!("{name}.thresholds"));
        let values = match rows.wires {
            Wires::Axis => {
                let wires = self.get(&format!("{name}.wires"));
                wires.iter().map(|wire| f64::from(grid[*wire as usize])).collect()
            }
            Wires::Projected => {
                let centred = grid.iter().map(|q| f64::from(*q) - 128.0).collect::<Vec<_>>();
                self.linear(&format!("{name}.projection"), &centred)
            }
        };
        let bits = values.iter().zip(thresholds).map(|(value, threshold)| *value > threshold);
        addresses(&bits.collect::<Vec<_>>(), rows.inputs)
    }

    fn bits_addresses(&self, name: &str, bits: &Bits, grid: &[u8]) -> (Vec<Vec<usize>>, Vec<bool>) {
        let thresholds = self.get(&format!("{name}.thresholds"));
        let above =
            |(wire, threshold): (usize, &f64)| f64::from(grid[wire / bits.levels]) > *threshold;
        let mut from = thresholds.iter().enumerate().map(above).collect::<Vec<bool>>();
        let mut all = Vec::new();
        for layer in 0..bits.nodes.len() {
            let wires = self.get(&format!("{name}.{layer}.wires"));
            let wires = wires.iter().map(|wire| from[*wire as usize]).collect::<Vec<_>>();
            let addresses = addresses(&wires, bits.inputs);
            let table = self.0.tensor(&format!("{name}.{layer}.table")).unwrap();
            let Values::U64(table) = table.values() else { panic!("tables are words") };
            let tables = table.chunks(bits.words()).zip(&addresses);
            from = tables.map(|(table, a)| table[a / 64] >> (a % 64) & 1 == 1).collect();
            all.push(addresses);
        }
        (all, from)
    }
}

fn addresses(bits: &[bool], inputs: usize) -> Vec<usize> {
    let address = |bits: &[bool]| (0..).zip(bits).map(|(k, bit)| usize::from(*bit) << k).sum();
    bits.chunks(inputs).map(address).collect()
}

fn every_feed_forward() -> Vec<FeedForward> {
    let rows = |inputs, wires| FeedForward::Rows(Rows { nodes: 21, inputs, wires });
    let bits = |inputs, nodes: &[usize]| {
        FeedForward::Bits(Bits { levels: 3, nodes: nodes.to_vec(), inputs })
    };
    vec![
        FeedForward::None,
        FeedForward::Mlp { hidden: 70 },
        rows(4, Wires::Axis),
        rows(8, Wires::Axis),
        rows(6, Wires::Projected),
        bits(6, &[90]),
        bits(4, &[70, 130]),
        bits(8, &[40, 30]),
    ]
}

fn text(feed_forward: FeedForward, width: usize) -> Architecture {
    let inputs = Inputs::Tokens { vocabulary: 50, context: 40 };
    Architecture { width, heads: 4, layers: 2, inputs, head: Head::NextToken, feed_forward }
}

fn gpt(artifact: &Artifact, level: Level) -> Gpt {
    Gpt::load_with(artifact, Options { level, int8: false }).unwrap()
}

fn tokens(count: usize) -> Vec<u32> {
    (0..count as u32).map(|i| i * 17 % 50).collect()
}

fn close(found: &[f32], expected: &[f64], level: Level) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        let error = (f64::from(*found) - expected).abs();
        assert!(error < 2e-4 * expected.abs().max(1.0), "{level}: {found} {expected}");
    }
}

#[test]
fn a_gpt_gives_the_logits_of_its_architecture() {
    for width in [32, 40, 132] {
        for feed_forward in every_feed_forward() {
            let artifact = example::random(&text(feed_forward, width)).unwrap();
            let plain = Plain(&artifact);
            // More than a tile of each kernel, and fewer.
            let sequences = [tokens(40), tokens(3), tokens(17)];
            each_level(|level| {
                let gpt = gpt(&artifact, level);
                let sequences = sequences.iter().map(Vec::as_slice).collect::<Vec<_>>();
                let logits = gpt.logits(&sequences).unwrap();
                let grids = gpt.grids(&sequences).unwrap();
                let (token, position) =
                    (plain.get("embedding.token"), plain.get("embedding.position"));
                let mut first = 0;
                let mut expected = Vec::new();
                for tokens in &sequences {
                    let embed = |(at, row): (usize, &u32)| {
                        let row = &token[*row as usize * width..][..width];
                        row.iter().zip(&position[at * width..]).map(|(a, b)| a + b).collect()
                    };
                    let x = tokens.iter().enumerate().map(embed).collect();
                    expected.extend(plain.logits(x, &grids, first).concat());
                    first += tokens.len();
                }
                close(&logits, &expected, level);
            });
        }
    }
}

#[test]
fn every_bit_is_that_of_the_tables() {
    for feed_forward in every_feed_forward() {
        let artifact = example::random(&text(feed_forward.clone(), 40)).unwrap();
        let plain = Plain(&artifact);
        each_level(|level| {
            let gpt = gpt(&artifact, level);
            let grids = gpt.grids(&[&tokens(40)]).unwrap();
            for (layer, grid) in grids.iter().enumerate() {
                let block = gpt.feed_forward(layer).unwrap();
                for grid in grid.chunks(40) {
                    let expected = match &feed_forward {
                        FeedForward::None | FeedForward::Mlp { .. } => Vec::new(),
                        FeedForward::Rows(rows) => {
                            let name = format!("blocks.{layer}.rows");
                            vec![plain.rows_addresses(&name, rows, grid)]
                        }
                        FeedForward::Bits(bits) => {
                            let name = format!("blocks.{layer}.bits");
                            plain.bits_addresses(&name, bits, grid).0
                        }
                    };
                    let found = block.addresses(level, grid);
                    let found =
                        found.iter().map(|layer| layer.iter().map(|a| usize::from(*a)).collect());
                    assert_eq!(found.collect::<Vec<Vec<_>>>(), expected, "{level}");
                }
            }
        });
    }
}

#[test]
fn kept_keys_and_values_change_no_bit() {
    for feed_forward in every_feed_forward() {
        let artifact = example::random(&text(feed_forward, 40)).unwrap();
        each_level(|level| {
            let gpt = gpt(&artifact, level);
            let text = tokens(40);
            let all = gpt.logits(&[&text]).unwrap();
            let ends = gpt.last_logits(&[&text, &text[..9]]).unwrap();
            assert_eq!(ends, [&all[39 * 50..], &all[8 * 50..9 * 50]].concat(), "{level}");
            let mut state = gpt.start();
            let mut found = gpt.prefill(&mut state, &text[..9]).unwrap();
            assert_eq!(found, all[8 * 50..9 * 50], "{level}");
            for (position, token) in text.iter().enumerate().skip(9) {
                found = gpt.step(&mut state, *token).unwrap();
                assert_eq!(found, all[position * 50..][..50], "{level} at {position}");
            }
            assert_eq!(state.tokens(), 40);
        });
    }
}

#[test]
fn tables_give_the_same_grid_at_every_level_of_the_first_block() {
    // Attention may differ by a rounding, so only what stands before it is the same: nothing here but the norm.
    let artifact = example::random(&text(every_feed_forward().remove(2), 40)).unwrap();
    let grids = Level::available().into_iter().map(|level| {
        let gpt = gpt(&artifact, level);
        gpt.feed_forward(0).unwrap().grid(level, &vec![0.7; 48 * 3])
    });
    let grids = grids.collect::<Vec<_>>();
    assert!(grids.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn int8_is_near_f32() {
    let artifact = example::random(&text(FeedForward::Mlp { hidden: 160 }, 40)).unwrap();
    each_level(|level| {
        let exact = gpt(&artifact, level).logits(&[&tokens(40)]).unwrap();
        let int8 = Gpt::load_with(&artifact, Options { level, int8: true }).unwrap();
        let int8 = int8.logits(&[&tokens(40)]).unwrap();
        let error = exact.iter().zip(&int8).map(|(a, b)| (a - b).powi(2)).sum::<f32>();
        let size = exact.iter().map(|a| a.powi(2)).sum::<f32>();
        assert!(error < 1e-3 * size && exact != int8, "{level}: {error} of {size}");
    });
}

#[test]
fn text_is_drawn_beyond_the_context() {
    let artifact = example::random(&text(every_feed_forward().remove(2), 40)).unwrap();
    let gpt = Gpt::load(&artifact).unwrap();
    let sampling = Sampling { temperature: 1.0, top_k: Some(20), seed: 3 };
    let drawn = gpt.generate(&tokens(5), 100, &sampling).unwrap();
    assert_eq!(drawn, gpt.generate(&tokens(5), 100, &sampling).unwrap());
    assert_ne!(drawn, gpt.generate(&tokens(5), 100, &Sampling { seed: 4, ..sampling }).unwrap());
    // The likeliest token is that of the logits.
    let greedy = Sampling { temperature: 0.0, top_k: None, seed: 0 };
    let logits = gpt.logits(&[&tokens(5)]).unwrap();
    let last = &logits[4 * 50..];
    let likeliest = (0..50).max_by(|a, b| last[*a].total_cmp(&last[*b])).unwrap();
    assert_eq!(gpt.generate(&tokens(5), 1, &greedy).unwrap(), [likeliest as u32]);
    assert_eq!(gpt.generate(&tokens(60), 3, &greedy).unwrap().len(), 3);
    // Nothing is drawn after an error.
    let mut lost = gpt.continuation(&[], &greedy).unwrap();
    assert!(lost.next().unwrap().is_err() && lost.next().is_none());
}

fn picture(feed_forward: FeedForward) -> Architecture {
    let image = ImageTokens { height: 12, width: 8, channels: 3, patch: 4 };
    let (inputs, head) = (Inputs::Image(image), Head::Classes(10));
    Architecture { width: 40, heads: 4, layers: 2, inputs, head, feed_forward }
}

fn values(count: usize) -> Vec<f32> {
    (0..count).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect()
}

#[test]
fn a_vit_gives_the_logits_of_its_architecture() {
    let classes = every_feed_forward().into_iter().map(picture);
    let masks = classes.clone().step_by(2);
    let masks = masks.map(|classes| Architecture { head: Head::Masks(9), ..classes });
    for architecture in classes.chain(masks) {
        let artifact = example::random(&architecture).unwrap();
        let plain = Plain(&artifact);
        let images = values(2 * 288);
        let records =
            images.chunks(288).map(|image| Input { image: Some(image), ..Input::default() });
        let records = records.collect::<Vec<_>>();
        each_level(|level| {
            let options = Options { level, int8: false };
            let encoder = Encoder::load_with(&artifact, options).unwrap();
            let logits = encoder.predict(&records).unwrap();
            let grids = encoder.grids(&records).unwrap();
            let position = plain.get("embedding.position");
            let mut expected = Vec::new();
            for (record, image) in images.chunks(288).enumerate() {
                let mut x = vec![plain.get("embedding.class")];
                for (down, across) in [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)] {
                    let mut patch = Vec::new();
                    for row in 0..4 {
                        let at = ((4 * down + row) * 8 + 4 * across) * 3;
                        patch.extend(image[at..at + 12].iter().map(|v| f64::from(*v)));
                    }
                    let weighted = plain.linear("embedding.patch.weight", &patch);
                    let bias = plain.get("embedding.patch.bias");
                    x.push(weighted.iter().zip(bias).map(|(a, b)| a + b).collect());
                }
                let positions = position.chunks(40);
                let add = |(x, position): (&mut Vec<f64>, &[f64])| {
                    x.iter_mut().zip(position).for_each(|(x, p)| *x += p);
                };
                x.iter_mut().zip(positions).for_each(add);
                let tokens = plain.logits(x, &grids, record * 7);
                match architecture.head {
                    Head::Masks(_) => expected.extend(tokens[1..].concat()),
                    _ => expected.extend(&tokens[0]),
                }
            }
            close(&logits, &expected, level);
            // A record alone gives the same bits.
            let alone = encoder.predict(&records[1..]).unwrap();
            assert_eq!(alone, logits[logits.len() / 2..], "{level}");
            let features = encoder.features(records[1]).unwrap();
            assert_eq!(features.logits, alone, "{level}");
            assert_eq!((features.width, features.blocks.len()), (40, 2));
            assert!(features.blocks.iter().all(|block| block.len() == 7 * 40), "{level}");
            assert_ne!(features.blocks[0], features.blocks[1]);
            if let Head::Classes(_) = architecture.head {
                // The head reads what the last block leaves of the class token.
                let class = features.blocks[1][..40].iter();
                let class: Vec<f64> = class.map(|v| f64::from(*v)).collect();
                let mut head = plain.linear("head.weight", &plain.norm("norm", &class));
                head.iter_mut().zip(plain.get("head.bias")).for_each(|(of, bias)| *of += bias);
                close(&features.logits, &head, level);
            }
        });
    }
}

fn modalities() -> Architecture {
    let image = Some(ImageTokens { height: 4, width: 4, channels: 1, patch: 2 });
    let audio = Some(AudioTokens { bands: 6, frames: 8, frames_per_token: 4 });
    let text = Some(TextTokens { vocabulary: 20, length: 5 });
    let rows = Rows { nodes: 21, inputs: 4, wires: Wires::Axis };
    Architecture {
        width: 40,
        heads: 2,
        layers: 2,
        inputs: Inputs::Modalities { image, audio, text },
        head: Head::Classes(3),
        feed_forward: FeedForward::Rows(rows),
    }
}

#[test]
fn an_encoder_takes_any_subset_of_modalities() {
    let artifact = example::random(&modalities()).unwrap();
    let plain = Plain(&artifact);
    let encoder = Encoder::load(&artifact).unwrap();
    let (image, audio, text) = (values(16), values(48), [3, 1, 4]);
    for subset in 1..8 {
        let input = Input {
            image: (subset & 1 != 0).then_some(&image),
            audio: (subset & 2 != 0).then_some(&audio),
            text: (subset & 4 != 0).then_some(&text),
        };
        let mut x = vec![plain.get("embedding.class")];
        let mut push = |name: &str, rows: Vec<Vec<f64>>| {
            let positions = plain.get(&format!("embedding.{name}.position"));
            let kind = plain.get(&format!("embedding.{name}.type"));
            for (row, position) in rows.into_iter().zip(positions.chunks(40)) {
                let sum = row.iter().zip(position).zip(&kind).map(|((a, b), c)| a + b + c);
                x.push(sum.collect());
            }
        };
        let project = |name: &str, values: Vec<f64>| {
            let bias = plain.get(&format!("embedding.{name}.bias"));
            let weighted = plain.linear(&format!("embedding.{name}.weight"), &values);
            weighted.into_iter().zip(bias).map(|(a, b)| a + b).collect::<Vec<_>>()
        };
        if let Some(image) = input.image {
            let pixel = |row: usize, column: usize| f64::from(image[row * 4 + column]);
            let patch = |row, column| {
                vec![
                    pixel(row, column),
                    pixel(row, column + 1),
                    pixel(row + 1, column),
                    pixel(row + 1, column + 1),
                ]
            };
            let patches = [patch(0, 0), patch(0, 2), patch(2, 0), patch(2, 2)];
            push("image", patches.map(|patch| project("image", patch)).into());
        }
        if let Some(audio) = input.audio {
            let tokens = audio.chunks(24).map(|t| t.iter().map(|v| f64::from(*v)).collect());
            push("audio", tokens.map(|token| project("audio", token)).collect());
        }
        if let Some(text) = input.text {
            let rows = plain.get("embedding.text.token");
            push("text", text.iter().map(|t| rows[*t as usize * 40..][..40].to_vec()).collect());
        }
        let grids = encoder.grids(&[input]).unwrap();
        let expected = plain.logits(x, &grids, 0).swap_remove(0);
        close(&encoder.predict(&[input]).unwrap(), &expected, Level::detect());
    }
}

#[test]
fn what_does_not_fit_says_so() {
    let artifact = example::random(&text(FeedForward::None, 40)).unwrap();
    let gpt = Gpt::load(&artifact).unwrap();
    let mut state = gpt.start();
    let mut error = |tokens: &[u32]| gpt.prefill(&mut state, tokens).unwrap_err().to_string();
    assert_eq!(
        error(&[1, 50]),
        "token 50 at position 1 is unknown: the vocabulary has 50 tokens, from 0"
    );
    assert_eq!(error(&[]), "there is nothing to answer to: give at least one token");
    assert_eq!(
        error(&tokens(41)),
        "41 tokens are too many: 0 stand before them and the context has 40"
    );
    gpt.prefill(&mut state, &tokens(40)).unwrap();
    let error = gpt.step(&mut state, 0).unwrap_err().to_string();
    assert_eq!(error, "1 tokens are too many: 40 stand before them and the context has 40");
    let error = Encoder::load(&artifact).unwrap_err().to_string();
    assert_eq!(error, "the model takes tokens, not whole records");

    let artifact = example::random(&modalities()).unwrap();
    let encoder = Encoder::load(&artifact).unwrap();
    let error = |input: Input<'_>| encoder.predict(&[input]).unwrap_err().to_string();
    let image = |values: &[f32]| error(Input { image: Some(values), ..Input::default() });
    assert_eq!(
        image(&[0.0; 15]),
        "record 0: its image has 15 values; the model takes 16, 4 x 4 pixels of 1 channels"
    );
    let mut broken = [0.0; 16];
    broken[7] = f32::NAN;
    assert_eq!(image(&broken), "record 0: value 7 of its image is NaN, not a finite number");
    assert!(error(Input::default()).contains("give at least one modality of each record"));
    assert!(
        error(Input { text: Some(&[1; 6]), ..Input::default() }).contains("6 tokens are too many")
    );
    assert!(
        error(Input { text: Some(&[20]), ..Input::default() }).contains("token 20 at position 0")
    );
    assert!(encoder.predict(&[]).is_err());
    let artifact = example::random(&picture(FeedForward::None)).unwrap();
    let encoder = Encoder::load(&artifact).unwrap();
    let audio = [0.0; 48];
    let input = Input { audio: Some(&audio), ..Input::default() };
    assert_eq!(
        encoder.predict(&[input]).unwrap_err().to_string(),
        "record 0: the model takes no audio"
    );
}

#[test]
fn logits_that_are_no_numbers_say_so() {
    let architecture = text(FeedForward::None, 40);
    let artifact = example::random(&architecture).unwrap();
    let mut tensors = artifact.tensors().clone();
    let head = Tensor::new(&[50, 40], vec![f32::MAX; 50 * 40]);
    tensors.insert("head.weight".to_owned(), head);
    let artifact = Artifact::new(Card::new("too large", architecture), tensors).unwrap();
    let gpt = Gpt::load(&artifact).unwrap();
    let error = gpt.prefill(&mut gpt.start(), &[1, 2]).unwrap_err().to_string();
    assert!(error.starts_with("logit 0 of token 1 is "), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    /// However tokens are cut into batches, each gets the same bits.
    #[test]
    fn batches_change_no_bit(
        kind in 0_usize..8,
        lengths in prop::collection::vec(1_usize..40, 1..20),
    ) {
        let artifact = example::random(&text(every_feed_forward().remove(kind), 40)).unwrap();
        let gpt = Gpt::load(&artifact).unwrap();
        let sequences = lengths.iter().map(|length| tokens(*length)).collect::<Vec<_>>();
        let together = sequences.iter().map(Vec::as_slice).collect::<Vec<_>>();
        let together = gpt.logits(&together).unwrap();
        let alone = sequences.iter().flat_map(|tokens| gpt.logits(&[tokens]).unwrap());
        prop_assert_eq!(together, alone.collect::<Vec<_>>());
    }
}
