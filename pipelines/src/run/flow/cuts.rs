//! The first operator: what the cutter says becomes streams of parts and of planned commits.

use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{Scope, StreamVec};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::mpsc::error::TryRecvError;

use super::{Output, Waker};
use crate::run::cutter::{Cutting, Part, PlannedCommit};

/// Parts of each source, and planned commits; all on the worker that has the receiver.
pub(super) fn cuts<'scope>(
    scope: Scope<'scope, u64>,
    sources: usize,
    first: u64,
    input: Option<(UnboundedReceiver<Cutting>, Waker)>,
) -> (Vec<StreamVec<'scope, u64, Part>>, StreamVec<'scope, u64, PlannedCommit>) {
    let mut builder = OperatorBuilder::new("cuts".to_owned(), scope);
    let mut streams = Vec::new();
    let mut outputs: Vec<Output<Part>> = Vec::new();
    for _ in 0..sources {
        let (output, stream) = builder.new_output();
        outputs.push(Output::from(output));
        streams.push(stream);
    }
    let (output, commits) = builder.new_output();
    let mut planned: Output<PlannedCommit> = Output::from(output);
    let activator = scope.worker().sync_activator_for(builder.operator_info().address.to_vec());
    builder.build(move |mut capabilities: Vec<Capability<u64>>| {
        let mut input = input;
        match &input {
            Some((_, waker)) => {
                waker.attach(activator);
                capabilities.iter_mut().for_each(|capability| capability.downgrade(&first));
            }
            None => capabilities.clear(),
        }
        move |_| {
            let Some((receiver, waker)) = &mut input else { return };
            waker.rest();
            loop {
                match receiver.try_recv() {
                    Ok(Cutting::Part(source, part)) => {
                        let pair = outputs.get_mut(source).zip(capabilities.get(source));
                        if let Some((output, capability)) = pair {
                            output.activate().session(&capability.delayed(&part.epoch)).give(part);
                        }
                    }
                    Ok(Cutting::Commit(commit)) => {
                        if let Some(capability) = capabilities.last() {
                            planned.activate().session(&capability).give(commit);
                        }
                    }
                    Ok(Cutting::Advance(epoch)) => {
                        // A commit is emitted after its last epoch; its capability waits for that.
                        let parts = capabilities.len().saturating_sub(1);
                        capabilities.iter_mut().take(parts).for_each(|c| c.downgrade(&epoch));
                    }
                    Err(TryRecvError::Empty) => return,
                    Err(TryRecvError::Disconnected) => {
                        capabilities.clear();
                        return;
                    }
                }
            }
        }
    });
    (streams, commits)
}
