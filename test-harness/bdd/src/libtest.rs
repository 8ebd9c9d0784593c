//! What the scenario suite understands of a libtest command line, so that `cargo test` can pass the
//! same arguments to it as to every other test binary. Pure.

/// Most scenarios at once: each is a whole system of four processes.
const CONCURRENT: usize = 2;

/// Arguments of libtest that `cargo test` passes on.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Libtest {
    /// Run only scenarios whose name, or whose feature's name, contains one of these texts.
    #[arg(value_name = "TEXT")]
    names: Vec<String>,
    /// Leave out scenarios whose name, or whose feature's name, contains this text.
    #[arg(long, value_name = "TEXT")]
    skip: Vec<String>,
    /// Compare whole names.
    #[arg(long)]
    exact: bool,
    /// Run only ignored scenarios: there are none.
    #[arg(long)]
    ignored: bool,
    /// Scenarios at once.
    #[arg(long, value_name = "COUNT")]
    test_threads: Option<usize>,
    #[command(flatten)]
    _without_meaning: WithoutMeaning,
}

/// Arguments that are true of this suite anyway: it captures nothing, shows everything and ignores
/// no scenario.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
struct WithoutMeaning {
    #[arg(long, hide = true, alias = "no-capture")]
    nocapture: bool,
    #[arg(long, hide = true)]
    show_output: bool,
    #[arg(long, hide = true)]
    include_ignored: bool,
    #[arg(long, short, hide = true)]
    quiet: bool,
}

impl Libtest {
    /// Whether to run a scenario.
    #[must_use]
    pub fn wants(&self, feature: &str, scenario: &str) -> bool {
        let named = |text: &String| {
            if self.exact {
                feature == text || scenario == text
            } else {
                feature.contains(text.as_str()) || scenario.contains(text.as_str())
            }
        };
        let chosen = self.names.is_empty() || self.names.iter().any(named);
        chosen && !self.ignored && !self.skip.iter().any(named)
    }

    /// Whether every scenario is wanted.
    #[must_use]
    pub fn wants_all(&self) -> bool {
        self.names.is_empty() && self.skip.is_empty() && !self.ignored
    }

    /// Scenarios at once.
    #[must_use]
    pub fn concurrent(&self) -> usize {
        self.test_threads.unwrap_or(CONCURRENT)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct CommandLine {
        #[command(flatten)]
        libtest: Libtest,
    }

    fn parsed(arguments: &[&str]) -> Libtest {
        CommandLine::try_parse_from([&["bdd"], arguments].concat())
            .unwrap()
            .libtest
    }

    #[test]
    fn what_says_nothing_new_is_accepted() {
        let libtest = parsed(&["--no-capture", "--show-output", "-q", "--include-ignored"]);
        assert!(libtest.wants_all() && libtest.wants("any feature", "any scenario"));
        assert_eq!(libtest.concurrent(), CONCURRENT);
        assert!(parsed(&["--nocapture"]).wants_all());
    }

    #[test]
    fn names_choose_and_skip_leaves_out() {
        let libtest = parsed(&["queue", "Cancel", "--skip", "running"]);
        assert!(libtest.wants("Cancel is a contract", "A viewer leaves"));
        assert!(libtest.wants("Streams", "Order in the queue"));
        assert!(!libtest.wants("Cancel is a contract", "Cancelling a running task"));
        assert!(!libtest.wants("Streams", "From POST to end"));
        assert!(!libtest.wants_all());
    }

    #[test]
    fn exact_names_are_whole_names() {
        let libtest = parsed(&["--exact", "From POST to end"]);
        assert!(libtest.wants("Streams", "From POST to end"));
        assert!(!libtest.wants("Streams", "From POST to end, twice"));
    }

    #[test]
    fn no_scenario_is_ignored_so_asking_for_ignored_ones_runs_none() {
        assert!(!parsed(&["--ignored"]).wants("any feature", "any scenario"));
        assert_eq!(parsed(&["--test-threads", "1"]).concurrent(), 1);
    }
}
