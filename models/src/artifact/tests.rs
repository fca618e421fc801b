use proptest::prelude::*;

use super::architecture::{Bits, FeedForward, Head, ImageTokens, Inputs, Rows, Wires};
use super::*;

fn architecture(feed_forward: FeedForward) -> Architecture {
    let inputs = Inputs::Tokens { vocabulary: 5, context: 4 };
    Architecture { width: 8, heads: 2, layers: 2, inputs, head: Head::NextToken, feed_forward }
}

fn rows() -> FeedForward {
    FeedForward::Rows(Rows { nodes: 3, inputs: 4, wires: Wires::Axis })
}

/// Tensors whose elements count up, as far as that makes sense.
fn counting(architecture: &Architecture) -> BTreeMap<String, Tensor> {
    let tensor = |wanted: architecture::TensorShape| {
        let count = 0..wanted.elements();
        use architecture::Dtype;
        let values: Values = match wanted.dtype {
            Dtype::F32 => count.map(|i| i as f32 / 8.0 - 1.0).collect::<Vec<_>>().into(),
            Dtype::U8 => count.map(|i| (i * 37 % 256) as u8).collect::<Vec<_>>().into(),
            Dtype::I8 => count.map(|i| (i % 15) as i8 - 7).collect::<Vec<_>>().into(),
            Dtype::U16 => count.map(|i| (i % 8) as u16).collect::<Vec<_>>().into(),
            Dtype::U32 => count.map(|i| (i % 5) as u32).collect::<Vec<_>>().into(),
            Dtype::I32 => count.map(|i| i as i32 * 1000).collect::<Vec<_>>().into(),
            Dtype::U64 => count.map(|i| i as u64).collect::<Vec<_>>().into(),
        };
        (wanted.name, Tensor::new(&wanted.shape, values))
    };
    architecture.tensors().into_iter().map(tensor).collect()
}

fn artifact(feed_forward: FeedForward) -> Artifact {
    let architecture = architecture(feed_forward);
    let tensors = counting(&architecture);
    let mut card = Card::new("counting", architecture);
    card.training.steps = 7;
    card.accuracy.push(Accuracy {
        task: "next token".to_owned(),
        measure: "loss".to_owned(),
        value: 0.1 + 0.2,
        interval: [0.25, 1.0 / 3.0],
        examples: 12,
    });
    Artifact::new(card, tensors).unwrap()
}

fn message(card: &[u8], weights: &[u8]) -> String {
    Artifact::from_bytes(card, weights).unwrap_err().to_string()
}

#[test]
fn what_is_saved_is_opened() {
    let bits = FeedForward::Bits(Bits { levels: 3, nodes: vec![6, 7], inputs: 3 });
    let projected = FeedForward::Rows(Rows { nodes: 3, inputs: 4, wires: Wires::Projected });
    for feed_forward in [FeedForward::None, FeedForward::Mlp { hidden: 9 }, bits, rows(), projected]
    {
        let artifact = artifact(feed_forward);
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("made");
        artifact.save(&folder).unwrap();
        assert_eq!(Artifact::open(&folder).unwrap(), artifact);
        let mut files = std::fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect::<Vec<_>>();
        files.sort();
        assert_eq!(files, [CARD, WEIGHTS]);
    }
}

#[test]
fn elements_are_little_endian_bytes() {
    use architecture::{Dtype, TensorShape};
    let shape = TensorShape { name: "x".to_owned(), dtype: Dtype::U16, shape: vec![2] };
    let tensor = Tensor::from_bytes(&shape, &[1, 0, 0, 2]);
    assert_eq!(tensor, Tensor::new(&[2], vec![1_u16, 512]));
}

#[test]
fn a_card_is_json_of_its_schema() {
    let (card, _) = artifact(rows()).to_bytes().unwrap();
    let card: serde_json::Value = serde_json::from_slice(&card).unwrap();
    assert_eq!(card["architecture"]["feed_forward"]["rows"]["nodes"], 3);
    let schema = serde_json::to_value(Card::schema()).unwrap();
    let mut fields = schema["properties"].as_object().unwrap().keys().collect::<Vec<_>>();
    fields.sort();
    let mut written = card.as_object().unwrap().keys().collect::<Vec<_>>();
    written.sort();
    assert_eq!(written, fields);
}

#[test]
fn what_is_not_an_artifact_says_so() {
    let (card, weights) = artifact(rows()).to_bytes().unwrap();
    assert_eq!(
        message(b"{}", &weights),
        "card.json is no card of an artifact: missing field `format` at line 1 column 2"
    );
    assert!(message(b"\xff\xd8", &weights).contains("no card"));
    let text = String::from_utf8(card.clone()).unwrap();
    let newer = text.replacen("\"format\": 1", "\"format\": 2", 1);
    assert_eq!(
        message(newer.as_bytes(), &weights),
        "card.json has format 2; this program reads format 1"
    );
    let renamed = text.replacen("counting", "computed", 1);
    assert!(message(renamed.as_bytes(), &weights).contains("edited"));
    assert!(message(&card, &weights[..weights.len() - 1]).contains("bytes, not the"));
    let missing = Artifact::open(std::path::Path::new("/nowhere")).unwrap_err().to_string();
    assert!(missing.starts_with("artifact /nowhere: card.json cannot be read: "), "{missing}");
    let foreign = b"weights of another program";
    let mut other = artifact(rows());
    other.card.files.insert(WEIGHTS.to_owned(), FileFacts::of(foreign));
    let (card, _) = other.to_bytes().unwrap();
    assert!(message(&card, foreign).contains("not in the format of safetensors"));
}

#[test]
fn tensors_of_another_model_are_named() {
    let made = |feed_forward: FeedForward, change: &dyn Fn(&mut BTreeMap<String, Tensor>)| {
        let architecture = architecture(feed_forward);
        let mut tensors = counting(&architecture);
        change(&mut tensors);
        Artifact::new(Card::new("x", architecture), tensors).unwrap_err().to_string()
    };
    let set = |name: &'static str, tensor: Tensor| {
        made(rows(), &|tensors| drop(tensors.insert(name.to_owned(), tensor.clone())))
    };
    assert_eq!(
        made(rows(), &|tensors| drop(tensors.remove("norm.gain"))),
        "weights.safetensors lacks norm.gain, which the architecture of card.json has"
    );
    assert_eq!(
        set("norm.grain", Tensor::new(&[1], vec![1.0_f32])),
        "weights.safetensors holds norm.grain, which the architecture of card.json does not have"
    );
    assert_eq!(
        set("norm.gain", Tensor::new(&[9], vec![1.0_f32; 9])),
        "tensor norm.gain is f32 [9]; the architecture of card.json wants f32 [8]"
    );
    assert_eq!(
        set("norm.gain", Tensor::new(&[8], vec![1_u8; 8])),
        "tensor norm.gain is u8 [8]; the architecture of card.json wants f32 [8]"
    );
    assert!(set("norm.gain", Tensor::new(&[8], vec![1.0_f32; 7])).contains("with 7 elements"));
    assert_eq!(
        set("norm.gain", Tensor::new(&[8], vec![f32::NAN; 8])),
        "tensor norm.gain holds NaN at element 0; a weight is a finite number"
    );
    assert_eq!(
        set("blocks.1.rows.wires", Tensor::new(&[12], vec![8_u16; 12])),
        "tensor blocks.1.rows.wires holds 8 at element 0; a wire leads to one of 8 features"
    );
    let bits = || FeedForward::Bits(Bits { levels: 3, nodes: vec![6, 7], inputs: 3 });
    let set = |name: &'static str, tensor: Tensor| {
        made(bits(), &|tensors| drop(tensors.insert(name.to_owned(), tensor.clone())))
    };
    assert!(
        set("blocks.0.bits.0.wires", Tensor::new(&[18], vec![24_u32; 18])).contains("of 24 bits")
    );
    assert!(
        set("blocks.0.bits.1.wires", Tensor::new(&[21], vec![6_u32; 21])).contains("of 6 bits")
    );
    assert!(set("blocks.0.bits.0.table", Tensor::new(&[6, 1], vec![256_u64; 6])).contains("are 0"));
}

#[test]
fn heads_are_named_and_masks_that_lie_are_refused() {
    let named = |head: Head| serde_json::to_value(head).unwrap();
    assert_eq!(named(Head::NextToken), serde_json::json!("next_token"));
    assert_eq!(named(Head::Classes(10)), serde_json::json!({ "classes": 10 }));
    assert_eq!(named(Head::Masks(4)), serde_json::json!({ "masks": 4 }));
    let image = ImageTokens { height: 4, width: 6, channels: 1, patch: 2 };
    let of = |head| Architecture {
        inputs: Inputs::Image(image),
        head,
        ..architecture(FeedForward::None)
    };
    let made = |said, held| Artifact::new(Card::new("masks", of(said)), counting(&of(held)));
    let artifact = made(Head::Masks(4), Head::Masks(4)).unwrap();
    let (card, weights) = artifact.to_bytes().unwrap();
    assert_eq!(Artifact::from_bytes(&card, &weights).unwrap(), artifact);
    let told = made(Head::Masks(4), Head::Masks(5)).unwrap_err().to_string();
    assert!(
        told.contains("tensor head.bias is f32 [5]") && told.contains("wants f32 [4]"),
        "{told}"
    );
    // A card that counts as a head of classes does.
    let mut other = artifact.clone();
    other.card.operations = Card::new("", of(Head::Classes(4))).operations;
    let (card, _) = other.to_bytes().unwrap();
    assert!(message(&card, &weights).contains("operations"));
    let text = Architecture { head: Head::Masks(4), ..architecture(FeedForward::None) };
    let told = Artifact::new(Card::new("masks", text.clone()), counting(&text)).unwrap_err();
    assert!(told.to_string().contains("one picture or one spectrum"), "{told}");
}

#[test]
fn tables_of_four_bits_hold_four_bits() {
    let architecture = architecture(rows());
    let mut tensors = counting(&architecture);
    let mut card = Card::new("x", architecture);
    card.table_bits = 3;
    let error = Artifact::new(card.clone(), tensors.clone()).unwrap_err().to_string();
    assert_eq!(error, "card.json: table_bits is 3, not from 4 to 8");
    card.table_bits = 4;
    assert!(Artifact::new(card.clone(), tensors.clone()).is_ok());
    let shape = [3, 16, 8];
    let table = Tensor::new(&shape, vec![8_i8; 3 * 16 * 8]);
    tensors.insert("blocks.0.rows.table".to_owned(), table);
    let error = Artifact::new(card, tensors).unwrap_err().to_string();
    assert!(error.ends_with("a table of 4 bits holds -7 to 7"), "{error}");
}

proptest! {
    #[test]
    fn a_changed_byte_is_noticed(at in any::<prop::sample::Index>(), change in 1_u8.., of_card: bool) {
        let (mut card, mut weights) = artifact(rows()).to_bytes().unwrap();
        let bytes = if of_card { &mut card } else { &mut weights };
        let at = at.index(bytes.len());
        bytes[at] ^= change;
        prop_assert!(Artifact::from_bytes(&card, &weights).is_err());
    }

    #[test]
    fn a_cut_file_is_noticed(at in any::<prop::sample::Index>(), of_card: bool) {
        let (mut card, mut weights) = artifact(rows()).to_bytes().unwrap();
        let bytes = if of_card { &mut card } else { &mut weights };
        bytes.truncate(at.index(bytes.len()));
        prop_assert!(Artifact::from_bytes(&card, &weights).is_err());
    }

    /// Weights that were damaged before the card was made still do not panic.
    #[test]
    fn foreign_weights_do_not_panic(at in any::<prop::sample::Index>(), change in 1_u8..) {
        let mut artifact = artifact(rows());
        let (_, mut weights) = artifact.to_bytes().unwrap();
        let at = at.index(weights.len());
        weights[at] ^= change;
        artifact.card.files.insert(WEIGHTS.to_owned(), FileFacts::of(&weights));
        let (card, _) = artifact.to_bytes().unwrap();
        if let Ok(opened) = Artifact::from_bytes(&card, &weights) {
            prop_assert!(opened != artifact);
        }
    }
}
