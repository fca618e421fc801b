//! The first operator: what the cutter says becomes streams of parts, of ticks and of planned commits.

use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{Scope, StreamVec};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::mpsc::error::TryRecvError;

use super::parcel::Tick;
use super::{Output, Waker};
use crate::run::cutter::{Cutting, Part, PlannedCommit};

/// What the cutter says, on the worker that has its receiver.
pub(super) struct Cuts<'scope> {
    /// Parts of each source.
    pub(super) parts: Vec<StreamVec<'scope, u64, Part>>,
    /// What operators with state must know of commits.
    pub(super) ticks: StreamVec<'scope, u64, Tick>,
    pub(super) planned: StreamVec<'scope, u64, PlannedCommit>,
}

/// Passes on what comes from the cutter.
pub(super) fn cuts<'scope>(
    scope: Scope<'scope, u64>,
    sources: usize,
    first: u64,
    input: Option<(UnboundedReceiver<Cutting>, Waker)>,
) -> Cuts<'scope> {
    let mut builder = OperatorBuilder::new("cuts".to_owned(), scope);
    let mut parts = Vec::new();
    let mut outputs: Vec<Output<Part>> = Vec::new();
    for _ in 0..sources {
        let (output, stream) = builder.new_output();
        outputs.push(Output::from(output));
        parts.push(stream);
    }
    let (output, ticks) = builder.new_output();
    let mut ticking: Output<Tick> = Output::from(output);
    let (output, planned) = builder.new_output();
    let mut commits: Output<PlannedCommit> = Output::from(output);
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
                    Ok(Cutting::Tick(tick)) => {
                        if let Some(capability) = capabilities.get(sources) {
                            ticking.activate().session(&capability).give(tick);
                        }
                    }
                    Ok(Cutting::Commit(commit)) => {
                        if let Some(capability) = capabilities.last() {
                            commits.activate().session(&capability).give(commit);
                        }
                    }
                    Ok(Cutting::Advance(epoch)) => {
                        // A commit is emitted after its last epoch; its capability waits for that.
                        let ticking = capabilities.len().saturating_sub(1);
                        capabilities.iter_mut().take(ticking).for_each(|c| c.downgrade(&epoch));
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
    Cuts { parts, ticks, planned }
}
