//! Reads a `tokenizer.json` of Hugging Face. What is not supported is refused by name: a tokenizer that gives
//! almost the same tokens would be worse than none.

use std::collections::HashMap;

use regex::Regex;
use serde_json::Value as Json;

use super::bpe::Bpe;
use super::normal::Normal;
use super::pieces::{Behaviour, Cut, Split};
use super::tokenizer::{Added, AddedToken, Tokenizer};

/// Tokens that may stand around a text, at most.
pub(super) const AROUND: usize = 16;

/// The tokenizer that a file describes.
///
/// # Errors
/// With what the file has that is not supported, or lacks.
pub(super) fn read(bytes: &[u8]) -> Result<Tokenizer, String> {
    let file: Json = serde_json::from_slice(bytes).map_err(|e| format!("it is no JSON: {e}"))?;
    let model = file.get("model").filter(|model| model.is_object());
    let model = model.ok_or("it is no `tokenizer.json`: it has no `model`")?;
    if !missing(&file, "truncation") {
        return Err("it truncates texts (`truncation`); set that to null".to_owned());
    }
    if let Some(padding) = file.get("padding").filter(|padding| !padding.is_null())
        && padding.get("strategy").and_then(Json::as_str) != Some("BatchLongest")
    {
        return Err("it pads texts (`padding`); set that to null".to_owned());
    }
    let mut normal = Vec::new();
    normals(file.get("normalizer").unwrap_or(&Json::Null), &mut normal)?;
    let mut cuts = Vec::new();
    cuts_of(file.get("pre_tokenizer").unwrap_or(&Json::Null), &mut cuts)?;
    let mut around = [Vec::new(), Vec::new()];
    around_of(file.get("post_processor").unwrap_or(&Json::Null), &mut around)?;
    if around.iter().map(Vec::len).sum::<usize>() > AROUND {
        return Err(format!("its post_processor adds more than {AROUND} tokens to a text"));
    }
    let [raw, normalised] = added(&file, &normal)?;
    Ok(Tokenizer { raw, normal, normalised, cuts, bpe: bpe(model)?, around })
}

fn missing(value: &Json, field: &str) -> bool {
    value.get(field).is_none_or(Json::is_null)
}

fn text<'a>(value: &'a Json, field: &str) -> Option<&'a str> {
    value.get(field).and_then(Json::as_str)
}

fn flag(value: &Json, field: &str, default: bool) -> bool {
    value.get(field).and_then(Json::as_bool).unwrap_or(default)
}

fn kind(value: &Json) -> &str {
    text(value, "type").unwrap_or("without a type")
}

/// An id; tokens are 32-bit signed integers in tables.
fn id(value: &Json) -> Option<u32> {
    value.as_u64().filter(|id| *id <= i32::MAX as u64).and_then(|id| u32::try_from(id).ok())
}

fn bpe(model: &Json) -> Result<Bpe, String> {
    // Files of the first versions do not name the model; only this one has merges.
    let kind = text(model, "type").unwrap_or(if missing(model, "merges") { "" } else { "BPE" });
    if kind != "BPE" {
        return Err(format!(
            "its model is of type `{kind}`; `tokenise` reads models of type `BPE`"
        ));
    }
    for field in ["continuing_subword_prefix", "end_of_word_suffix"] {
        if text(model, field).is_some_and(|value| !value.is_empty()) {
            return Err(format!("its model has a `{field}`, which is not supported"));
        }
    }
    if model.get("dropout").and_then(Json::as_f64).is_some_and(|dropout| dropout > 0.0) {
        return Err("its model drops merges at random (`dropout`); set that to null".to_owned());
    }
    let entries = model.get("vocab").and_then(Json::as_object).ok_or("its model has no `vocab`")?;
    let mut vocabulary: HashMap<Box<str>, u32> = HashMap::with_capacity(entries.len());
    for (token, number) in entries {
        let number = id(number).ok_or_else(|| format!("the id of token `{token}` is {number}"))?;
        vocabulary.insert(token.as_str().into(), number);
    }
    let token = |token: &str| {
        let id = vocabulary.get(token).copied();
        id.ok_or_else(|| format!("the token `{token}` is not in its `vocab`"))
    };
    let listed = model.get("merges").and_then(Json::as_array).ok_or("its model has no `merges`")?;
    let mut merges = HashMap::with_capacity(listed.len());
    for (rank, merge) in listed.iter().enumerate() {
        let pair = match merge {
            Json::String(pair) => pair.split_once(' '),
            Json::Array(pair) => match pair.as_slice() {
                [Json::String(left), Json::String(right)] => Some((left.as_str(), right.as_str())),
                _ => None,
            },
            _ => None,
        };
        let (left, right) = pair.ok_or_else(|| format!("its merge {merge} is no pair"))?;
        let merged = token(&[left, right].concat())?;
        let rank = u32::try_from(rank).map_err(|_| "it has too many merges".to_owned())?;
        // Of a pair that stands twice the last counts, as where the file comes from.
        merges.insert((token(left)?, token(right)?), (rank, merged));
    }
    let unknown = text(model, "unk_token").map(token).transpose()?;
    let bytes = match flag(model, "byte_fallback", false) {
        false => None,
        true => {
            let mut bytes = Box::new([0; 256]);
            for (byte, id) in bytes.iter_mut().enumerate() {
                *id = token(&format!("<0x{byte:02X}>"))?;
            }
            Some(bytes)
        }
    };
    Ok(Bpe {
        merges,
        unknown,
        fuse_unknown: flag(model, "fuse_unk", false),
        bytes,
        whole: flag(model, "ignore_merges", false),
        vocabulary,
    })
}

/// Added tokens that are looked for before and after texts are brought into normal form.
fn added(file: &Json, normal: &[Normal]) -> Result<[Added; 2], String> {
    let mut kinds: [HashMap<String, AddedToken>; 2] = Default::default();
    for token in file.get("added_tokens").and_then(Json::as_array).into_iter().flatten() {
        let content = text(token, "content").ok_or("an added token has no `content`")?;
        let id = token.get("id").and_then(id);
        let id = id.ok_or_else(|| format!("the added token `{content}` has no `id`"))?;
        if flag(token, "single_word", false) {
            return Err(format!(
                "the added token `{content}` is a `single_word`; that is not supported"
            ));
        }
        let (left, right) = (flag(token, "lstrip", false), flag(token, "rstrip", false));
        let [raw, normalised] = &mut kinds;
        let added = AddedToken { id, left, right };
        if flag(token, "normalized", !flag(token, "special", false)) {
            let content =
                normal.iter().fold(content.into(), |content, normal| normal.apply(content));
            normalised.insert(content.into_owned(), added);
        } else {
            raw.insert(content.to_owned(), added);
        }
    }
    let [raw, normalised] = kinds;
    Ok([Added::new(raw)?, Added::new(normalised)?])
}

fn normals(value: &Json, normal: &mut Vec<Normal>) -> Result<(), String> {
    if value.is_null() {
        return Ok(());
    }
    let found = match kind(value) {
        "Sequence" => {
            let members = value.get("normalizers").and_then(Json::as_array);
            return members.into_iter().flatten().try_for_each(|member| normals(member, normal));
        }
        "Strip" => Some(Normal::Strip {
            left: flag(value, "strip_left", true),
            right: flag(value, "strip_right", true),
        }),
        "Prepend" => text(value, "prepend").map(|prefix| Normal::Prepend(prefix.to_owned())),
        "Replace" => text(value, "content")
            .zip(pattern(value, "normalizer")?)
            .map(|(by, pattern)| {
                let regex = Regex::new(&pattern).map_err(|_| unfit(&pattern))?;
                Ok::<_, String>(Normal::Replace(regex, by.to_owned()))
            })
            .transpose()?,
        name => Normal::form(name),
    };
    let found =
        found.ok_or_else(|| format!("its normalizer `{}` is not supported", kind(value)))?;
    normal.push(found);
    Ok(())
}

fn unfit(pattern: &str) -> String {
    format!("its pattern `{pattern}` is not supported")
}

/// What stands under `pattern`, as a regular expression.
fn pattern(value: &Json, of: &str) -> Result<Option<String>, String> {
    let Some(pattern) = value.get("pattern") else { return Ok(None) };
    match (text(pattern, "Regex"), text(pattern, "String")) {
        (Some(pattern), _) => Ok(Some(pattern.to_owned())),
        (None, Some(literal)) => Ok(Some(regex::escape(literal))),
        (None, None) => Err(format!("the pattern of its {of} is neither `Regex` nor `String`")),
    }
}

fn cuts_of(value: &Json, cuts: &mut Vec<Cut>) -> Result<(), String> {
    if value.is_null() {
        return Ok(());
    }
    let split = match kind(value) {
        "Sequence" => {
            let members = value.get("pretokenizers").and_then(Json::as_array);
            return members.into_iter().flatten().try_for_each(|member| cuts_of(member, cuts));
        }
        "ByteLevel" => {
            let prefix_space = flag(value, "add_prefix_space", true);
            let split = match flag(value, "use_regex", true) {
                true => Some(Split::gpt_2()?),
                false => None,
            };
            cuts.push(Cut::Bytes { prefix_space, split });
            return Ok(());
        }
        "Split" => {
            let pattern = pattern(value, "pre_tokenizer")?.ok_or("its `Split` has no `pattern`")?;
            let behaviour = value.get("behavior").cloned().unwrap_or_default();
            let behaviour: Behaviour = serde_json::from_value(behaviour)
                .map_err(|_| "the `behavior` of its `Split` is not supported".to_owned())?;
            Split::new(&pattern, behaviour, flag(value, "invert", false))?
        }
        "Digits" if flag(value, "individual_digits", false) => {
            Split::new(r"\p{N}", Behaviour::Isolated, false)?
        }
        "Digits" => Split::new(r"\p{N}+", Behaviour::Isolated, false)?,
        "Whitespace" => Split::new(r"\w+|[^\w\s]+", Behaviour::Removed, true)?,
        "WhitespaceSplit" => Split::new(r"\s", Behaviour::Removed, false)?,
        name => return Err(format!("its pre_tokenizer `{name}` is not supported")),
    };
    cuts.push(Cut::Split(split));
    Ok(())
}

/// What the post-processor puts before and after a text.
fn around_of(value: &Json, around: &mut [Vec<u32>; 2]) -> Result<(), String> {
    let [before, after] = around;
    match kind(value) {
        // Moves offsets, not tokens.
        "ByteLevel" => Ok(()),
        _ if value.is_null() => Ok(()),
        "Sequence" => {
            let members = value.get("processors").and_then(Json::as_array);
            members.into_iter().flatten().try_for_each(|member| around_of(member, around))
        }
        "BertProcessing" | "RobertaProcessing" => {
            for (field, tokens) in [("cls", before), ("sep", after)] {
                let pair = value.get(field).and_then(Json::as_array).map(Vec::as_slice);
                let Some([_, number]) = pair else {
                    return Err(format!("its post_processor has no `{field}`"));
                };
                tokens.push(id(number).ok_or_else(|| format!("the id of `{field}` is {number}"))?);
            }
            Ok(())
        }
        "TemplateProcessing" => {
            let template = value.get("single").and_then(Json::as_array);
            let template = template.ok_or("its post_processor has no `single`")?;
            let mut met = false;
            for part in template {
                if part.get("Sequence").is_some() {
                    met = true;
                    continue;
                }
                let name = part.get("SpecialToken").and_then(|token| text(token, "id"));
                let name = name.ok_or_else(|| format!("its post_processor has a part {part}"))?;
                let ids = value.get("special_tokens").and_then(|tokens| tokens.get(name));
                let ids = ids.and_then(|token| token.get("ids")).and_then(Json::as_array);
                let ids =
                    ids.ok_or_else(|| format!("its post_processor does not say what `{name}` is"))?;
                let side = if met { &mut *after } else { &mut *before };
                for number in ids {
                    side.push(id(number).ok_or_else(|| format!("the id of `{name}` is {number}"))?);
                }
            }
            match met {
                true => Ok(()),
                false => Err("its post_processor leaves the text out".to_owned()),
            }
        }
        name => Err(format!("its post_processor `{name}` is not supported")),
    }
}
