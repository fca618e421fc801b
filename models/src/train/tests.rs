use burn::tensor::{Device, Tensor};
use rayon::ThreadPoolBuilder;

use super::export::{Precision, export, forward_on_grid};
use super::{
    Batch, Evaluation, Options, TrainError, Trainer, Windows, evaluate, evaluate_exported,
    parameters,
};
use crate::artifact::architecture::{
    Architecture, AudioTokens, Bits, FeedForward, Head, ImageTokens, Inputs, Rows, TextTokens,
    Wires,
};
use crate::artifact::{self, Artifact, Card};
use crate::engine;
use crate::lut::{Classifier, ClassifierOptions, Spacing, thresholds};
use crate::random::Random;
use crate::transformer::{Input, Start, Transformer, cross_entropy};

fn architecture(feed_forward: FeedForward) -> Architecture {
    Architecture {
        width: 32,
        heads: 2,
        layers: 2,
        inputs: Inputs::Tokens { vocabulary: 8, context: 12 },
        head: Head::NextToken,
        feed_forward,
    }
}

fn rows(wires: Wires) -> FeedForward {
    FeedForward::Rows(Rows { nodes: 16, inputs: 4, wires })
}

fn bits() -> FeedForward {
    FeedForward::Bits(Bits { levels: 4, nodes: vec![48, 64], inputs: 4 })
}

fn trainer(feed_forward: FeedForward, steps: u64) -> Trainer<Transformer> {
    let device = Device::flex().autodiff();
    let start = Start { choices: 1, ..Start::default() };
    let model = Transformer::new(&architecture(feed_forward), &start, 5, &device).unwrap();
    Trainer::new(model, Options { rate: 5e-3, steps, warm_up: 5, ..Options::default() })
}

/// A text whose next token follows from the last one, disturbed now and then.
fn text() -> Vec<u32> {
    let mut random = Random::new(2);
    let mut text = vec![1];
    for i in 1..4000 {
        let next = (3 * text[i - 1] + 1) % 8;
        text.push(if random.below(10) == 0 { random.below(8) as u32 } else { next });
    }
    text
}

fn run(trainer: &mut Trainer<Transformer>, steps: usize) -> f32 {
    let text = text();
    let windows = Windows { text: &text, length: 12 };
    let mut loss = f32::NAN;
    for _ in 0..steps {
        let batch = windows.draw(6, trainer.random()).unwrap();
        loss = trainer.step(&batch).unwrap().loss;
    }
    loss
}

fn score(model: &Transformer) -> Evaluation {
    let text = text();
    evaluate(model, [&Windows { text: &text, length: 12 }.evenly(60).unwrap()]).unwrap()
}

#[test]
fn a_resumed_training_has_the_same_weights_bit_for_bit() {
    for feed_forward in [FeedForward::Mlp { hidden: 64 }, rows(Wires::Projected), bits()] {
        let mut whole = trainer(feed_forward.clone(), 16);
        run(&mut whole, 7);
        let snapshot = whole.snapshot().unwrap();
        run(&mut whole, 6);
        let mut resumed = trainer(feed_forward, 16);
        run(&mut resumed, 2);
        resumed.restore(&snapshot).unwrap();
        assert_eq!(resumed.steps(), 7);
        assert!(resumed.snapshot().unwrap() == snapshot);
        run(&mut resumed, 6);
        assert!(parameters(whole.model()) == parameters(resumed.model()));
        assert!(whole.snapshot().unwrap() == resumed.snapshot().unwrap());
    }
}

#[test]
fn one_and_two_threads_train_to_the_same_bits() {
    for feed_forward in [FeedForward::Mlp { hidden: 64 }, rows(Wires::Axis), bits()] {
        let [one, two] = [1, 2].map(|threads| {
            let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let mut trainer = trainer(feed_forward.clone(), 8);
                run(&mut trainer, 8);
                trainer.snapshot().unwrap()
            })
        });
        assert!(one == two, "{feed_forward:?}");
    }
}

#[test]
fn a_foreign_or_damaged_snapshot_changes_nothing() {
    let mut mlp = trainer(FeedForward::Mlp { hidden: 64 }, 16);
    run(&mut mlp, 2);
    let before = mlp.snapshot().unwrap();
    let foreign = trainer(rows(Wires::Axis), 16).snapshot().unwrap();
    let message = mlp.restore(&foreign).unwrap_err().to_string();
    assert!(message.contains("value.blocks.0.mlp.down.bias: it is missing"), "{message}");
    let wider = trainer(FeedForward::Mlp { hidden: 65 }, 16).snapshot().unwrap();
    let message = mlp.restore(&wider).unwrap_err().to_string();
    assert!(message.contains("blocks.0.mlp.down.weight"), "{message}");
    assert!(mlp.restore(&before[..before.len() - 1]).is_err());
    assert!(mlp.restore(b"").is_err());
    let plain = trainer(FeedForward::None, 16);
    let mut none = trainer(FeedForward::None, 16);
    let message = none.restore(&before).unwrap_err().to_string();
    assert!(message.contains("the model has no such parameter"), "{message}");
    assert_eq!(parameters(plain.model()), parameters(none.model()));
    assert!(mlp.snapshot().unwrap() == before);
}

#[test]
fn a_loss_that_is_not_finite_names_its_step_and_changes_nothing() {
    let mut trainer = trainer(FeedForward::Mlp { hidden: 64 }, 16);
    run(&mut trainer, 3);
    let before = trainer.snapshot().unwrap();
    let error =
        trainer.step_with(|model, _| Ok(model.norm.gain.val().sum() * f32::NAN)).unwrap_err();
    assert!(matches!(error, TrainError::NotFinite { step: 3, .. }), "{error}");
    assert!(error.to_string().starts_with("step 3: the loss is NaN; lower the learning rate"));
    assert!(trainer.snapshot().unwrap() == before);
    // A root at zero: the loss is finite, its slope is not.
    let error =
        trainer.step_with(|model, _| Ok((model.norm.gain.val() * 0.0).sqrt().sum())).unwrap_err();
    assert!(error.to_string().starts_with("step 3: the norm of the gradients is NaN"), "{error}");
    assert!(trainer.snapshot().unwrap() == before);
    let input = Input::Tokens { ids: vec![9], length: 1 };
    let error = trainer.step(&Batch { input, targets: vec![1] }).unwrap_err();
    assert!(error.to_string().starts_with("step 3: token 9 at position 0 of row 0"), "{error}");
}

#[test]
fn every_feed_forward_learns_and_survives_its_export() {
    let none = {
        let mut trainer = trainer(FeedForward::None, 120);
        run(&mut trainer, 120);
        score(trainer.model()).loss
    };
    let contenders =
        [FeedForward::Mlp { hidden: 128 }, rows(Wires::Axis), rows(Wires::Projected), bits()];
    for feed_forward in contenders {
        let mut trainer = trainer(feed_forward.clone(), 120);
        let start = score(trainer.model()).loss;
        run(&mut trainer, 120);
        let trained = score(trainer.model());
        assert!(trained.loss < start - 0.3, "{feed_forward:?}: {start} to {}", trained.loss);
        assert!(trained.loss < none + 0.1, "{feed_forward:?}: {} against {none}", trained.loss);
        assert!(trained.accuracy > 1.0 / 8.0);

        let tensors = export(trainer.model(), Precision::Int8);
        for tensor in &tensors {
            assert_eq!(tensor.bytes.len(), tensor.shape.bytes(), "{}", tensor.shape.name);
        }
        let text = text();
        let batch = Windows { text: &text, length: 12 }.evenly(60).unwrap();
        let pass = forward_on_grid(trainer.model(), &tensors, &batch.input).unwrap();
        let exported = cross_entropy(pass.logits, &batch.targets).into_scalar::<f32>();
        let apart = (f64::from(exported) - trained.loss).abs();
        assert!(apart < 0.05, "{feed_forward:?}: {} became {exported}", trained.loss);
        let coarse = export(trainer.model(), Precision::Int4);
        let values = coarse.iter().filter(|tensor| tensor.shape.name.ends_with("rows.table"));
        assert!(values.flat_map(|tensor| &tensor.bytes).all(|v| v.cast_signed().abs() <= 7));
        let coarse = forward_on_grid(trainer.model(), &coarse, &batch.input).unwrap();
        let coarse = cross_entropy(coarse.logits, &batch.targets).into_scalar::<f32>();
        let apart = (f64::from(coarse) - trained.loss).abs();
        assert!(apart < 0.15, "{feed_forward:?}: {} became {coarse} in 4 bits", trained.loss);
        let layers: Vec<usize> = pass.addresses[1].iter().map(Vec::len).collect();
        let expected: &[usize] = match feed_forward {
            FeedForward::Rows(_) => &[16],
            FeedForward::Bits(_) => &[48, 64],
            _ => &[],
        };
        assert_eq!(layers, expected.iter().map(|nodes| nodes * 720).collect::<Vec<_>>());
        if matches!(feed_forward, FeedForward::Mlp { .. }) {
            assert_eq!(f64::from(exported), f64::from(trained.loss as f32));
        }
    }
}

#[test]
fn tables_fitted_to_an_mlp_start_near_its_loss() {
    let mut teacher = trainer(FeedForward::Mlp { hidden: 128 }, 150);
    run(&mut teacher, 150);
    let taught = score(teacher.model()).loss;
    let start = Start::default();
    let student =
        teacher.model().clone().with_feed_forward(rows(Wires::Projected), &start, 9).unwrap();
    let untaught = score(&student).loss;
    let options = Options { rate: 5e-3, steps: 150, warm_up: 5, ..Options::default() };
    let mut trainer = Trainer::new(student, options);
    let text = text();
    let windows = Windows { text: &text, length: 12 };
    let kept = parameters(trainer.model()).remove("head.weight");
    let mut apart = Vec::new();
    for _ in 0..150 {
        let batch = windows.draw(6, trainer.random()).unwrap();
        apart.push(trainer.distil(teacher.model(), &batch.input).unwrap().loss);
    }
    assert!(apart[149] < 0.6 * apart[0], "{} to {}", apart[0], apart[149]);
    assert_eq!(parameters(trainer.model()).remove("head.weight"), kept);
    let fitted = score(trainer.model()).loss;
    assert!(
        fitted < untaught - 0.5 * (untaught - taught),
        "teacher {taught}, untaught {untaught}, fitted {fitted}"
    );
    let shallow = Architecture { layers: 1, ..architecture(FeedForward::None) };
    let shallow = Transformer::new(&shallow, &start, 1, &Device::flex()).unwrap();
    let batch = windows.evenly(1).unwrap();
    let error = trainer.distil(&shallow, &batch.input).unwrap_err();
    assert!(matches!(error, TrainError::Teacher { teacher: 1, student: 2 }));
}

#[test]
fn a_vision_transformer_learns_where_the_light_is() {
    let architecture = Architecture {
        inputs: Inputs::Image(ImageTokens { height: 8, width: 8, channels: 1, patch: 4 }),
        head: Head::Classes(4),
        ..architecture(rows(Wires::Projected))
    };
    let device = Device::flex().autodiff();
    let model = Transformer::new(&architecture, &Start::default(), 1, &device).unwrap();
    let options = Options { rate: 5e-3, steps: 400, warm_up: 10, ..Options::default() };
    let mut trainer = Trainer::new(model, options);
    let draw = |random: &mut Random| {
        let mut pixels = random.normals(32 * 64, 0.5);
        let targets: Vec<u32> = (0..32).map(|_| random.below(4) as u32).collect();
        for (image, class) in pixels.chunks_mut(64).zip(&targets) {
            for pixel in 0..16 {
                let (top, left) = (4 * (class / 2) as usize, 4 * (class % 2) as usize);
                image[(top + pixel / 4) * 8 + left + pixel % 4] += 2.0;
            }
        }
        Batch { input: Input::Images(pixels), targets }
    };
    for _ in 0..400 {
        let batch = draw(trainer.random());
        trainer.step(&batch).unwrap();
    }
    let mut random = Random::new(50);
    let batches: Vec<Batch> = (0..8).map(|_| draw(&mut random)).collect();
    let found = evaluate(trainer.model(), &batches).unwrap();
    assert!(found.accuracy > 0.75, "{}", found.accuracy);
}

#[test]
fn a_head_of_masks_learns_to_draw_and_the_engine_draws_the_same() {
    // The upper half of the patch with a mark is drawn.
    let architecture = Architecture {
        inputs: Inputs::Image(ImageTokens { height: 8, width: 8, channels: 1, patch: 4 }),
        head: Head::Masks(16),
        ..architecture(FeedForward::Mlp { hidden: 64 })
    };
    let model = Transformer::to_train(&architecture, &Start::default(), 1).unwrap();
    let options = Options { rate: 5e-3, steps: 250, warm_up: 10, ..Options::default() };
    let mut trainer = Trainer::new(model, options);
    let draw = |random: &mut Random| {
        let mut pixels = random.normals(32 * 64, 0.2);
        let mut targets = Vec::new();
        for image in pixels.chunks_mut(64) {
            let marked = random.below(4);
            image[(4 * (marked / 2) + 1) * 8 + 4 * (marked % 2) + 1] += 4.0;
            // Patches row by row, and the pixels of each.
            let bit = |at: usize| u32::from(at / 16 == marked && at % 16 / 4 < 2);
            targets.extend((0..64).map(bit));
        }
        Batch { input: Input::Images(pixels), targets }
    };
    for _ in 0..250 {
        let batch = draw(trainer.random());
        trainer.step(&batch).unwrap();
    }
    let test = draw(&mut Random::new(50));
    let found = evaluate(trainer.model(), [&test]).unwrap();
    assert_eq!(found.count, 32 * 64);
    // Nothing drawn at all is right in seven of eight.
    assert!(found.accuracy > 0.97 && found.loss < 0.1, "{found:?}");

    let trained = trainer.trained();
    let exported = export(&trained, Precision::Int8);
    let again = evaluate_exported(&trained, &exported, [&test]).unwrap();
    assert_eq!(again, found);
    let tensors = exported.into_iter().map(|tensor| {
        let value = artifact::Tensor::from_bytes(&tensor.shape, &tensor.bytes);
        (tensor.shape.name, value)
    });
    let artifact = Artifact::new(Card::new("masks", architecture), tensors.collect()).unwrap();
    let Input::Images(pixels) = &test.input else { panic!("pictures") };
    let records = pixels.chunks(64);
    let records: Vec<engine::Input<'_>> =
        records.map(|r| engine::Input { image: Some(r), ..engine::Input::default() }).collect();
    let logits = engine::Encoder::load(&artifact).unwrap().predict(&records).unwrap();
    let expected = trained.forward(&test.input).unwrap().into_data().try_into_vec::<f32>().unwrap();
    assert_eq!(logits.len(), expected.len());
    for (one, other) in logits.iter().zip(&expected) {
        assert!((one - other).abs() < 1e-3 * other.abs().max(1.0), "{one} {other}");
    }
}

#[test]
fn an_encoder_trained_with_modality_dropout_uses_what_is_there() {
    // The class is written twice: as the loudest band and as a word.
    let architecture = Architecture {
        inputs: Inputs::Modalities {
            image: None,
            audio: Some(AudioTokens { bands: 4, frames: 2, frames_per_token: 1 }),
            text: Some(TextTokens { vocabulary: 4, length: 2 }),
        },
        head: Head::Classes(4),
        ..architecture(rows(Wires::Axis))
    };
    let device = Device::flex().autodiff();
    let model = Transformer::new(&architecture, &Start::default(), 1, &device).unwrap();
    let options =
        Options { rate: 5e-3, steps: 150, warm_up: 5, modality_dropout: 0.4, ..Options::default() };
    let mut trainer = Trainer::new(model, options);
    let draw = |random: &mut Random| {
        let targets: Vec<u32> = (0..24).map(|_| random.below(4) as u32).collect();
        let mut audio = random.normals(24 * 8, 0.3);
        for (record, class) in targets.iter().enumerate() {
            audio[record * 8 + *class as usize] += 2.0;
        }
        let text = targets.iter().flat_map(|class| [*class, 0]).collect();
        let input =
            Input::Modalities { batch: 24, image: None, audio: Some(audio), text: Some(text) };
        Batch { input, targets }
    };
    for _ in 0..150 {
        let batch = draw(trainer.random());
        trainer.step(&batch).unwrap();
    }
    let test = draw(&mut Random::new(77));
    for dropped in
        [None, Some(crate::transformer::Modality::Audio), Some(crate::transformer::Modality::Text)]
    {
        let input = match dropped {
            None => test.input.clone(),
            Some(modality) => test.input.clone().without(modality),
        };
        let batch = Batch { input, targets: test.targets.clone() };
        let found = evaluate(trainer.model(), [&batch]).unwrap();
        assert!(found.accuracy > 0.9, "without {dropped:?}: {}", found.accuracy);
    }
}

#[test]
fn lut_layers_alone_classify() {
    // Four classes: the quadrant of two features among noise.
    let mut random = Random::new(3);
    let draw = |random: &mut Random| {
        let x = random.normals(200 * 6, 1.0);
        let targets: Vec<u32> =
            x.chunks(6).map(|x| u32::from(x[1] > 0.0) + 2 * u32::from(x[4] > 0.0)).collect();
        (x, targets)
    };
    let (x, _) = draw(&mut random);
    let options = ClassifierOptions {
        features: 6,
        classes: 4,
        levels: 3,
        nodes: vec![80, 40],
        inputs: 4,
        choices: 6,
        temperature: 2.0,
    };
    let fitted = thresholds(Spacing::Distributive, &x, 6, 3);
    let device = Device::flex().autodiff();
    let model = Classifier::new(&options, fitted, &mut random, &device).unwrap();
    let options =
        Options { rate: 1e-2, steps: 120, warm_up: 1, table_rate: 1.0, ..Options::default() };
    let mut trainer = Trainer::new(model, options);
    let input =
        |x: &[f32], device: &Device| Tensor::<1>::from_floats(x, device).reshape([x.len() / 6, 6]);
    for _ in 0..120 {
        let (x, targets) = draw(trainer.random());
        let x = input(&x, &device);
        trainer.step_with(|model, _| Ok(cross_entropy(model.forward(x), &targets))).unwrap();
    }
    let (x, targets) = draw(&mut Random::new(99));
    let logits = trainer.model().forward(input(&x, &device)).inner();
    let best = logits.argmax(1).into_data().convert::<i64>().try_into_vec::<i64>().unwrap();
    let right = best.iter().zip(&targets).filter(|(a, b)| **a == i64::from(**b)).count();
    assert!(right > 150, "{right} of 200");
}
