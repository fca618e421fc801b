//! A run of several processes on one machine: a supervisor, and processes that mesh over Unix sockets.
//!
//! The supervisor takes the run's ticket, makes the sinks ready, and starts the processes; each makes the
//! plan again from the job, and goes on only if it is the same. They meet over sockets that the supervisor
//! made and handed over, so no port is open. When a process dies or falls silent, the others are ended at
//! once and the run starts again from its last commit, unless too many starts brought no new one.
//!
//! ```no_run
//! use std::process::Command;
//! use std::sync::Arc;
//! use anabranch_pipelines::graph::Plan;
//! use anabranch_pipelines::run::cluster::{Launch, Member};
//! use anabranch_pipelines::run::{IfExists, Run};
//! # fn plan_of(job: &serde_json::Value) -> Result<Arc<Plan>, String> { unimplemented!() }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     if std::env::args().nth(1).as_deref() == Some("member") {
//!         let member = Member::join()?;
//!         let plan = plan_of(member.job());
//!         std::process::exit(if member.run(plan) { 0 } else { 1 });
//!     }
//!     let job = serde_json::json!({ "photos": "s3://bucket/photos" });
//!     let plan = plan_of(&job)?; // its settings say `processes: 3`
//!     let command = || {
//!         let mut command = Command::new("/proc/self/exe");
//!         command.arg("member");
//!         command
//!     };
//!     let run = Run::start_processes(plan, IfExists::Resume, Launch { command: Box::new(command), job })?;
//!     println!("{:?}", run.wait()?);
//!     Ok(())
//! }
//! ```

use std::time::Duration;

mod child;
mod member;
mod message;
mod supervisor;
mod wire;

pub(crate) use child::signal_name;
pub use member::Member;
pub use supervisor::Launch;
pub(crate) use supervisor::Supervisor;

/// Time between two signs of life of a process.
const BEAT: Duration = Duration::from_millis(200);
/// Exit code of a process that ended because another one was gone, which is not its own doing.
const PEER_LOST: i32 = 102;
