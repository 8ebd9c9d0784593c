//! The command line. Pure.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// Measures what the orchestrator costs, beside nginx, on a scripted engine.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench")]
pub(crate) struct Options {
    /// Fewer repeats and shorter runs, under a minute: to see that it works, not to quote.
    #[arg(long, conflicts_with = "full")]
    quick: bool,
    /// Also what takes long or needs a large machine: 2000 paced streams, 5000 and 10000 open ones.
    #[arg(long)]
    full: bool,
    /// Only this measurement; may be given several times.
    #[arg(long, value_name = "NAME")]
    only: Vec<Section>,
    /// What the orchestrator keeps: its own setting of this name.
    #[arg(long, value_name = "MODE", default_value = "process", value_parser = ["off", "process", "strict"])]
    pub(crate) durability: String,
    /// End with status 1 if a target is missed.
    #[arg(long)]
    pub(crate) check: bool,
    /// Where figures, plot, configurations and logs go [default: target/bench].
    #[arg(long, value_name = "FOLDER")]
    pub(crate) out: Option<PathBuf>,
}

/// One measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Section {
    /// 64 streams at a reader's pace.
    Paced,
    /// 500 streams at a reader's pace.
    Crowd,
    /// 2000 streams at a reader's pace.
    Throng,
    /// Many tokens per write of the engine.
    Bulk,
    /// Requests of 1 to 16 tokens.
    Short,
    /// Receipts with the journal on.
    Admission,
    /// Clients that never read.
    Silent,
    /// Resident memory.
    Memory,
    /// The placement decision.
    Decide,
    /// Predicted starts against real ones.
    Honest,
}

/// How much to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    Quick,
    Usual,
    Full,
}

impl Options {
    /// What to measure, in the order of the list.
    pub(crate) fn sections(&self) -> impl Iterator<Item = Section> {
        let all = Section::value_variants().iter().copied();
        all.filter(|section| match self.only.as_slice() {
            [] => self.full || *section != Section::Throng,
            named => named.contains(section),
        })
    }

    /// How much of it.
    pub(crate) fn scale(&self) -> Scale {
        match (self.quick, self.full) {
            (true, _) => Scale::Quick,
            (false, true) => Scale::Full,
            (false, false) => Scale::Usual,
        }
    }
}

impl Section {
    /// Its name on the command line.
    pub(crate) fn name(self) -> String {
        self.to_possible_value()
            .map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

impl Scale {
    /// Rounds of each comparison.
    pub(crate) fn repeats(self) -> usize {
        self.pick(2, 5)
    }

    /// The size for a quick run, or the one for all others.
    pub(crate) fn pick<T>(self, quick: T, usual: T) -> T {
        match self {
            Self::Quick => quick,
            Self::Usual | Self::Full => usual,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(line: &str) -> Options {
        Options::try_parse_from(line.split(' ')).unwrap()
    }

    #[test]
    fn all_sections_unless_some_are_named() {
        assert_eq!(options("bench").sections().count(), 9);
        assert_eq!(options("bench --full").sections().count(), 10);
        let some: Vec<_> = options("bench --only short --only paced").sections().collect();
        assert_eq!(some, [Section::Paced, Section::Short]);
    }

    #[test]
    fn scales_exclude_each_other() {
        assert_eq!(options("bench --quick").scale(), Scale::Quick);
        assert_eq!(options("bench --full").scale().repeats(), 5);
        assert!(Options::try_parse_from(["bench", "--quick", "--full"]).is_err());
    }
}
