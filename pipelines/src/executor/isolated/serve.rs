//! The worker's side: rebuilds an operator, then invokes it for each batch that comes.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Recipe, frame};
use crate::operator::{Allocation, Context, Operator, OperatorError, Outcome};
use crate::panics;
use crate::record::{from_ipc, to_ipc};

/// What comes with a batch.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ask {
    pub(super) allocation: Allocation,
    /// The epoch that the batch is of, and what was chosen for it.
    pub(super) epoch: u64,
    pub(super) choice: Option<Vec<u8>>,
}

/// What comes back for a batch; its output rows are the body.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    /// The operator is there.
    Ready,
    /// Output rows, and refused input rows with their errors.
    Done { refused: Vec<(usize, String)> },
    /// The invocation failed as a whole.
    Failed(String),
    /// The operator panicked; the worker is fine.
    Panicked(String),
}

/// Serves the other end of `socket` until it closes: the recipe comes first, then batches.
///
/// # Errors
/// When the socket fails.
pub fn serve(
    socket: &UnixStream,
    build: impl Fn(&Recipe) -> Result<Arc<dyn Operator>, String>,
    context: &Context,
) -> io::Result<()> {
    let Some((recipe, _)) = frame::read::<Recipe>(socket)? else { return Ok(()) };
    let built = panics::catch(|| rebuild(&recipe, build)).unwrap_or_else(Err);
    let operator = match built {
        Ok(operator) => operator,
        Err(error) => return frame::write(socket, &Answer::Failed(error), &[]),
    };
    frame::write(socket, &Answer::Ready, &[])?;
    while let Some((Ask { allocation, epoch, choice }, body)) = frame::read::<Ask>(socket)? {
        let context = context.in_epoch(epoch).with_choice(choice.map(Into::into));
        let result = panics::catch(|| {
            let batch = from_ipc(&body)?;
            let Outcome { records, refused } = operator.invoke(batch, &allocation, &context)?;
            Ok::<_, OperatorError>((to_ipc(&records)?, refused))
        });
        let (answer, body) = match result {
            Ok(Ok((records, refused))) => {
                let refused = refused.into_iter().map(|r| (r.row, r.error)).collect();
                (Answer::Done { refused }, records)
            }
            Ok(Err(error)) => (Answer::Failed(error.to_string()), Vec::new()),
            Err(panic) => (Answer::Panicked(panic), Vec::new()),
        };
        frame::write(socket, &answer, &body)?;
    }
    Ok(())
}

fn rebuild(
    recipe: &Recipe,
    build: impl Fn(&Recipe) -> Result<Arc<dyn Operator>, String>,
) -> Result<Arc<dyn Operator>, String> {
    let operator = build(recipe)?;
    let Some(decision) = &recipe.decision else { return Ok(operator) };
    let journaled = operator.journaled().ok_or_else(|| {
        format!("`{}` was rebuilt as an operator that takes no decision", recipe.kind)
    })?;
    journaled.decided(decision).map_err(|error| error.to_string())
}
