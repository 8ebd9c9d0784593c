//! What was found, for people, for programs and as a plot. Pure, except for the facts about the machine.

mod distribution;
mod figure;
mod machine;
mod plot;
mod svg;
mod table;

use serde::Serialize;

pub(crate) use distribution::Distribution;
pub(crate) use figure::{Figure, Verdict};
pub(crate) use machine::Machine;

/// Everything about one run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) command: String,
    pub(crate) machine: Machine,
    pub(crate) notes: Vec<String>,
    pub(crate) figures: Vec<Figure>,
    pub(crate) distributions: Vec<Distribution>,
}

impl Report {
    /// The run as text for a terminal.
    pub(crate) fn text(&self) -> String {
        let notes: String = self.notes.iter().map(|note| format!("{note}\n")).collect();
        let table = table::render(&self.figures);
        format!("{}\n\n{table}\n{notes}{}", self.machine, self.summary())
    }

    /// The run as a picture.
    pub(crate) fn plot(&self) -> String {
        plot::render(&self.figures, &self.distributions)
    }

    /// Whether no target was missed.
    pub(crate) fn verdict(&self) -> Verdict {
        let verdicts = self.figures.iter().map(Figure::verdict);
        verdicts.max().unwrap_or(Verdict::NoTarget)
    }

    fn summary(&self) -> String {
        let named = |wanted: Verdict| {
            self.figures
                .iter()
                .filter(move |figure| figure.verdict() == wanted)
        };
        let missed: String = named(Verdict::Missed)
            .map(|figure| format!("missed: {}\n", figure.name))
            .collect();
        let (met, count) = (named(Verdict::Met).count(), named(Verdict::Missed).count());
        format!("{missed}{met} targets met, {count} missed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Samples;

    fn report(us: f64) -> Report {
        let figure = Figure::value("decide".to_owned(), "µs", Samples::new([us]), None, Some(20.0));
        Report {
            command: "cargo xtask bench".to_owned(),
            machine: Machine::default(),
            notes: vec!["the moon was full".to_owned()],
            figures: vec![figure],
            distributions: Vec::new(),
        }
    }

    #[test]
    fn a_missed_target_is_said_plainly() {
        let text = report(30.0).text();
        assert!(text.contains("missed: decide\n0 targets met, 1 missed"), "{text}");
        assert!(text.contains("the moon was full\n"), "{text}");
        assert_eq!(report(30.0).verdict(), Verdict::Missed);
    }

    #[test]
    fn a_met_target_is_not_missed() {
        assert!(report(10.0).text().ends_with("1 targets met, 0 missed"));
        assert_eq!(report(10.0).verdict(), Verdict::Met);
    }

    #[test]
    fn programs_find_every_sample() {
        let json = serde_json::to_value(report(30.0)).unwrap();
        let figure = &json["figures"][0];
        assert_eq!(
            (&figure["ours"]["samples"][0], &figure["verdict"]),
            (&30.0.into(), &"missed".into())
        );
    }
}
