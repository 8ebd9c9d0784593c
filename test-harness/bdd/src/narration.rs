//! Narration coverage (ORCH-3307): how much of what happened to tasks the daemons' logs tell. Pure.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

/// What begins a task's story.
const BEGINNING: &str = "admission";
/// What ends it.
const ENDINGS: [&str; 6] = ["end", "cancel", "expiry", "eviction", "failure", "interruption"];
/// What the scenarios lead tasks through, so that each must be told at least once.
const FLOWS: [&str; 7] = [
    BEGINNING,
    "placement",
    "end",
    "cancel",
    "expiry",
    "eviction",
    "failure",
];
/// More lines than that about one task would be lines about its tokens.
const MOST_LINES: usize = 24;

/// The stories that logs have told.
#[derive(Debug, Clone, Default)]
pub struct Coverage {
    /// Times each action was told, of tasks.
    actions: BTreeMap<String, usize>,
    /// The actions of each task.
    stories: BTreeMap<String, Vec<String>>,
    /// Lines about a task without a correlation id.
    uncorrelated: usize,
}

impl Coverage {
    /// Adds what the log of one scenario's daemons tells. Lines that are no narration of a task are passed over.
    pub fn read(&mut self, log: &str) {
        for line in log.lines() {
            let Ok(line) = serde_json::from_str::<Value>(line) else {
                continue;
            };
            let text = |name: &str| line.get(name).and_then(Value::as_str);
            let (Some("orchestratord"), Some(action), Some(task)) =
                (text("actor"), text("action"), text("job_id"))
            else {
                continue;
            };
            self.uncorrelated += usize::from(text("correlation_id").is_none());
            *self.actions.entry(action.to_owned()).or_default() += 1;
            self.stories
                .entry(task.to_owned())
                .or_default()
                .push(action.to_owned());
        }
    }

    /// What is wrong with the narration of a whole run of the suite.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let untold = FLOWS.iter().filter(|flow| !self.actions.contains_key(**flow));
        let mut faults: Vec<String> = untold.map(|flow| format!("no {flow} is told")).collect();
        if self.uncorrelated > 0 {
            faults.push(format!("{} lines have no correlation id", self.uncorrelated));
        }
        let longest = self.longest();
        if longest > MOST_LINES {
            faults.push(format!(
                "{longest} lines tell of one task, at most {MOST_LINES} may"
            ));
        }
        faults
    }

    /// Whether the end of a task is told.
    #[must_use]
    pub fn tells_the_end_of(&self, task: &str) -> bool {
        self.stories.get(task).is_some_and(|story| tells_the_end(story))
    }

    fn longest(&self) -> usize {
        self.stories.values().map(Vec::len).max().unwrap_or(0)
    }

    /// Tasks whose beginning is told, and those of them whose end is told too.
    fn told(&self) -> (usize, usize) {
        let begun = |story: &&Vec<String>| story.iter().any(|action| action == BEGINNING);
        let ended = |story: &&Vec<String>| tells_the_end(story);
        let begun: Vec<_> = self.stories.values().filter(begun).collect();
        (begun.len(), begun.into_iter().filter(ended).count())
    }
}

fn tells_the_end(story: &[String]) -> bool {
    story.iter().any(|action| ENDINGS.contains(&action.as_str()))
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (begun, ended) = self.told();
        let percent = 100.0 * ended as f64 / begun.max(1) as f64;
        let flows = FLOWS
            .iter()
            .filter(|flow| self.actions.contains_key(**flow))
            .count();
        write!(
            f,
            "narration: {flows} of {} flows told; {begun} tasks admitted, the end of {ended} told ({percent:.0} %, the \
             rest ran on when their scenario ended); at most {} lines about one task;",
            FLOWS.len(),
            self.longest()
        )?;
        self.actions
            .iter()
            .try_for_each(|(action, times)| write!(f, " {action} {times}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(action: &str, task: &str) -> String {
        format!(
            "{{\"actor\":\"orchestratord\",\"action\":\"{action}\",\"job_id\":\"{task}\",\"correlation_id\":\"c\"}}\n"
        )
    }

    #[test]
    fn stories_are_counted_per_task() {
        let mut coverage = Coverage::default();
        let log = line("admission", "a") + &line("end", "a") + &line("admission", "b") + "no JSON\n";
        coverage.read(&log);
        assert!(coverage.tells_the_end_of("a") && !coverage.tells_the_end_of("b"));
        let text = coverage.to_string();
        assert!(
            text.contains("2 tasks admitted, the end of 1 told (50 %"),
            "{text}"
        );
        assert!(text.contains("2 of 7 flows told"), "{text}");
        assert!(coverage.faults().contains(&"no cancel is told".to_owned()));
    }

    #[test]
    fn a_line_for_every_token_is_a_fault() {
        let mut coverage = Coverage::default();
        coverage.read(&line("token", "a").repeat(MOST_LINES + 1));
        coverage.read("{\"actor\":\"orchestratord\",\"action\":\"end\",\"job_id\":\"a\"}");
        let faults = coverage.faults();
        assert!(
            faults
                .iter()
                .any(|fault| fault.contains("lines tell of one task"))
        );
        assert!(faults.iter().any(|fault| fault.contains("no correlation id")));
    }
}
