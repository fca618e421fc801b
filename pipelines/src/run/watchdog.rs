//! Notices a run that does not get on: a stall, or a cancellation that takes too long.

use std::time::{Duration, Instant};

use super::RunError;
use super::process::Pulse;
use crate::graph::{Mode, Settings};
use crate::progress::Progress;

/// Looks at the figures of a run now and then.
#[derive(Debug)]
pub(crate) struct Watchdog {
    mode: Mode,
    stall: Duration,
    grace: Duration,
    seen: Vec<u64>,
    since: Instant,
    looked: Instant,
    cancelled: Option<Instant>,
}

impl Watchdog {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            mode: settings.mode,
            stall: settings.stall,
            grace: settings.grace,
            seen: Vec::new(),
            since: Instant::now(),
            looked: Instant::now(),
            cancelled: None,
        }
    }

    /// What is wrong, if anything is. `pulses` are those of all processes.
    pub(crate) fn look(
        &mut self,
        progress: &Progress,
        pulses: &[Pulse],
        cancelled: bool,
    ) -> Option<RunError> {
        let now = Instant::now();
        // Whoever was stopped itself (Ctrl-Z, a sleeping machine) has seen nothing of that time.
        if now - self.looked > Duration::from_secs(2) {
            self.since += now - self.looked;
        }
        self.looked = now;
        if cancelled && self.cancelled.get_or_insert(now).elapsed() > self.grace {
            return Some(RunError::Grace { seconds: self.grace.as_secs(), doing: doing(pulses) });
        }
        let totals = totals(progress, pulses);
        if totals != self.seen || self.idles(progress) {
            (self.seen, self.since) = (totals, now);
            return None;
        }
        (now.saturating_duration_since(self.since) > self.stall).then(|| RunError::Stalled {
            seconds: self.stall.as_secs(),
            doing: doing(pulses)
                .unwrap_or_else(|| "a source or a store does not answer".to_owned()),
        })
    }

    /// A stream without new data has nothing to do.
    fn idles(&self, progress: &Progress) -> bool {
        let busy = |node: &crate::progress::NodeProgress| node.in_flight > 0 || node.lag > 0;
        self.mode == Mode::Stream && progress.credit_used == 0 && !progress.nodes.iter().any(busy)
    }
}

/// Numbers of which one changes whenever the run gets on.
fn totals(progress: &Progress, pulses: &[Pulse]) -> Vec<u64> {
    let nodes = progress.nodes.iter();
    let counts = nodes.flat_map(|n| {
        let figures = n.figures.iter().map(|figure| figure.value.to_bits());
        [n.records_in, n.records_out, n.bytes_out, n.dead_letters].into_iter().chain(figures)
    });
    let marks = pulses.iter().map(|pulse| pulse.marks).sum();
    counts.chain([progress.commits, marks]).collect()
}

/// The invocation that has run longest in any process.
fn doing(pulses: &[Pulse]) -> Option<String> {
    let running = pulses.iter().filter_map(|pulse| pulse.longest.as_ref());
    let longest = running.max_by(|a, b| a.0.total_cmp(&b.0));
    longest.map(|(seconds, place)| format!("{place} has been running for {seconds:.0} s"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::NodeProgress;

    fn progress(records_in: u64, in_flight: u64) -> Progress {
        let node = NodeProgress { records_in, in_flight, ..Default::default() };
        Progress { nodes: vec![node], ..Default::default() }
    }

    fn watchdog(mode: Mode) -> Watchdog {
        let settings =
            Settings { mode, stall: Duration::ZERO, grace: Duration::ZERO, ..Default::default() };
        Watchdog::new(&settings)
    }

    #[test]
    fn a_stall_names_what_has_run_longest() {
        let mut watchdog = watchdog(Mode::Batch);
        let pulse = |seconds, doing: &str| Pulse {
            longest: Some((seconds, doing.to_owned())),
            ..Default::default()
        };
        let pulses = [pulse(1.0, "young"), pulse(9.0, "old")];
        assert!(watchdog.look(&progress(1, 1), &pulses, false).is_none());
        std::thread::sleep(Duration::from_millis(2));
        assert!(watchdog.look(&progress(2, 1), &pulses, false).is_none());
        std::thread::sleep(Duration::from_millis(2));
        let error = watchdog.look(&progress(2, 1), &pulses, false).unwrap().to_string();
        assert!(error.contains("old") && error.contains("`stall`"), "{error}");
    }

    #[test]
    fn an_idle_stream_is_no_stall_but_a_busy_one_is() {
        let mut watchdog = watchdog(Mode::Stream);
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(2));
            assert!(watchdog.look(&progress(1, 0), &[], false).is_none());
        }
        std::thread::sleep(Duration::from_millis(2));
        assert!(watchdog.look(&progress(1, 1), &[], false).is_some());
    }

    #[test]
    fn a_source_that_is_measured_before_the_first_cut_is_no_stall() {
        let mut watchdog = watchdog(Mode::Batch);
        let measuring = |marks| [Pulse { marks, ..Default::default() }];
        for marks in 1..4 {
            std::thread::sleep(Duration::from_millis(2));
            assert!(watchdog.look(&progress(0, 0), &measuring(marks), false).is_none());
        }
        std::thread::sleep(Duration::from_millis(2));
        assert!(watchdog.look(&progress(0, 0), &measuring(3), false).is_some());
    }

    #[test]
    fn an_operator_whose_figures_change_is_no_stall() {
        let mut watchdog = watchdog(Mode::Batch);
        let at = |step| {
            let mut progress = progress(7, 1);
            progress.nodes[0].figures = vec![crate::progress::Figure::new("step", step)];
            progress
        };
        for step in 1..4 {
            std::thread::sleep(Duration::from_millis(2));
            assert!(watchdog.look(&at(f64::from(step)), &[], false).is_none());
        }
        std::thread::sleep(Duration::from_millis(2));
        assert!(watchdog.look(&at(3.0), &[], false).is_some());
    }

    #[test]
    fn a_cancelled_run_has_its_grace_and_no_more() {
        let mut watchdog = watchdog(Mode::Batch);
        watchdog.look(&progress(1, 1), &[], true);
        std::thread::sleep(Duration::from_millis(2));
        let error = watchdog.look(&progress(2, 1), &[], true).unwrap().to_string();
        assert!(error.contains("grace"), "{error}");
    }
}
