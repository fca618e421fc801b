//! `anabranch models sample`: a text that a model goes on with, token by token.

use std::io::{self, Write};

use anabranch_models::engine::{Engine, EngineError, Sampling};
use anabranch_operators::TextTokens;
use anabranch_pipelines::operator::Context;

use super::{SampleArgs, failed, open};
use crate::cli::{Exit, Failure};

/// Prints the prompt and what follows.
pub(super) fn sample(args: &SampleArgs, context: &Context) -> Result<Exit, Failure> {
    let (at, opened) = open(&args.artifact, context)?;
    let mut tokens = tokens(args)?;
    let prompt =
        tokens.encode(&args.prompt).map_err(|error| usage(&format!("--prompt: {error}")))?;
    let engine =
        Engine::load(&opened.artifact).map_err(|error| failed(&format!("{at}: {error}")))?;
    let Engine::Gpt(gpt) = &engine else {
        return Err(usage(&format!("{at} is no model of texts: it does not write")));
    };
    let SampleArgs { temperature, top_k, seed, .. } = *args;
    let sampling = Sampling { temperature, top_k, seed };
    let text = gpt.continuation(&prompt, &sampling).map_err(|error| told(&at, &error))?;
    if !write(args.prompt.as_bytes())? {
        return Ok(Exit::Done);
    }
    for token in text.take(args.tokens) {
        let token = token.map_err(|error| told(&at, &error))?;
        if !write(&tokens.text(&[token]))? {
            return Ok(Exit::Done);
        }
    }
    write(b"\n").map(|_| Exit::Done)
}

fn usage(message: &dyn std::fmt::Display) -> Failure {
    Failure::new(Exit::Usage, format!("error: {message}"))
}

fn tokens(args: &SampleArgs) -> Result<TextTokens, Failure> {
    let Some(file) = &args.tokenizer else { return Ok(TextTokens::bytes()) };
    let wrong =
        |error: &dyn std::fmt::Display| usage(&format!("--tokenizer {}: {error}", file.display()));
    let bytes = std::fs::read(file).map_err(|error| wrong(&error))?;
    TextTokens::read(&bytes).map_err(|error| wrong(&error))
}

/// What the model says, and what to do where the person can.
fn told(at: &str, error: &EngineError) -> Failure {
    match error {
        EngineError::UnknownToken { .. } => {
            usage(&format!("{at}: {error}; give the tokenizer that it was trained with"))
        }
        EngineError::Empty(_) => usage(&"--prompt is empty: give at least one character"),
        EngineError::Sampling { what, found, wanted } => {
            usage(&format!("--{} {found}: {wanted}", what.replace('_', "-")))
        }
        other => failed(&format!("{at}: {other}")),
    }
}

/// Writes what comes at once: a person reads along. Whether anybody still does.
fn write(bytes: &[u8]) -> Result<bool, Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(failed(&format!("cannot write to stdout: {error}"))),
    }
}
