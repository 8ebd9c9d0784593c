//! Counts test cases from what test binaries print: libtest's result lines and cucumber's summary.

use std::fmt;
use std::ops::AddAssign;

use anyhow::Result;

/// How many test cases passed and failed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

/// Reads the output of `cargo test` line by line.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    counts: Counts,
    in_summary: bool,
}

impl Counter {
    /// Takes one line of output.
    pub(crate) fn line(&mut self, line: &str) {
        let line = without_control_sequences(line);
        if line == "[Summary]" {
            self.in_summary = true;
        } else if let Some(result) = line.strip_prefix("test result: ") {
            self.counts += libtest_result(result);
        } else if let (true, Some(counts)) = (self.in_summary, cucumber_scenarios(&line)) {
            self.counts += counts;
            self.in_summary = false;
        }
    }

    /// The sum. A run that failed without any failed case (a binary that crashed or did not compile) counts as one.
    pub(crate) fn finish(self, ended: &Result<()>) -> Counts {
        let silent_failure = ended.is_err() && self.counts.failed == 0;
        Counts {
            failed: self.counts.failed + u64::from(silent_failure),
            ..self.counts
        }
    }
}

/// `ok. 12 passed; 1 failed; 0 ignored; 0 measured; 3 filtered out; finished in 0.05s`
fn libtest_result(line: &str) -> Counts {
    let (_, numbers) = line.split_once(". ").unwrap_or_default();
    named_numbers(numbers, ';')
}

/// `3 scenarios (2 passed, 1 failed)`. A skipped scenario has a step without meaning, which is a failure.
fn cucumber_scenarios(line: &str) -> Option<Counts> {
    let (_, rest) = line.split_once(" scenario")?;
    let inside = rest.split_once('(').map_or("", |(_, inside)| inside);
    let inside = inside.split(')').next().unwrap_or_default();
    Some(named_numbers(inside, ','))
}

fn named_numbers(text: &str, separator: char) -> Counts {
    let mut counts = Counts::default();
    for (number, name) in text
        .split(separator)
        .filter_map(|part| part.trim().split_once(' '))
    {
        let number = number.parse().unwrap_or(0);
        match name.split(' ').next().unwrap_or_default() {
            "passed" => counts.passed += number,
            "failed" | "skipped" => counts.failed += number,
            _ => {}
        }
    }
    counts
}

/// Drops what a terminal would obey instead of show: escape, `[`, parameters, and one letter that ends the sequence.
fn without_control_sequences(line: &str) -> String {
    let mut parts = line.split('\u{1b}');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let sequence = part.strip_prefix('[').unwrap_or(part);
        let end = sequence
            .find(|c: char| c.is_ascii_alphabetic())
            .map_or(sequence.len(), |letter| letter + 1);
        plain.push_str(&sequence[end..]);
    }
    plain.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(output: &str, ended: &Result<()>) -> Counts {
        let mut counter = Counter::default();
        output.lines().for_each(|line| counter.line(line));
        counter.finish(ended)
    }

    #[test]
    fn libtest_lines_of_all_binaries_are_summed() {
        let output = "running 3 tests\ntest result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 9 filtered out; \
                      finished in 0.00s\n\ntest result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; \
                      0 filtered out; finished in 1.20s\n";
        assert_eq!(count(output, &Ok(())), Counts { passed: 4, failed: 2 });
    }

    #[test]
    fn cucumber_scenarios_are_counted_and_steps_are_not() {
        let output = "[Summary]\n2 features\n6 scenarios (4 passed, 1 skipped, 1 failed)\n\
                      30 steps (28 passed, 1 skipped, 1 failed)\n";
        assert_eq!(count(output, &Ok(())), Counts { passed: 4, failed: 2 });
        let one = "[Summary]\n1 feature\n1 rule\n1 scenario (1 passed)\n3 steps (3 passed)\n";
        assert_eq!(count(one, &Ok(())), Counts { passed: 1, failed: 0 });
    }

    #[test]
    fn retried_scenarios_are_counted_once() {
        let output = "[Summary]\n1 feature\n2 scenarios (2 passed with 1 retry)\n4 steps (4 passed)\n";
        assert_eq!(count(output, &Ok(())), Counts { passed: 2, failed: 0 });
    }

    #[test]
    fn colours_do_not_hide_a_summary() {
        let output = "\u{1b}[1m\u{1b}[34m[Summary]\u{1b}[0m\u{1b}[0m\n\u{1b}[1m2 scenarios\u{1b}[0m\u{1b}[1m \
                      \u{1b}[1m(\u{1b}[0m\u{1b}[32m2 passed\u{1b}[0m\u{1b}[1m)\u{1b}[0m\n";
        assert_eq!(count(output, &Ok(())), Counts { passed: 2, failed: 0 });
    }

    #[test]
    fn cursor_movements_do_not_hide_a_summary() {
        let output = "\u{1b}[1A\u{1b}[2K[Summary]\n1 feature\n\u{1b}[2K1 scenario (1 failed)\n";
        assert_eq!(count(output, &Ok(())), Counts { passed: 0, failed: 1 });
    }

    #[test]
    fn words_outside_a_summary_are_not_counted() {
        let output = "the 3 scenarios (3 failed) of this file\nnote: test result: ok. 1 passed;\n";
        assert_eq!(count(output, &Ok(())), Counts::default());
    }

    #[test]
    fn a_crash_without_a_result_line_is_one_failure() {
        let crashed = Err(anyhow::anyhow!("signal: 11"));
        assert_eq!(
            count("running 3 tests\n", &crashed),
            Counts { passed: 0, failed: 1 }
        );
        let failed = "test result: FAILED. 0 passed; 2 failed; 0 ignored;\n";
        assert_eq!(count(failed, &crashed), Counts { passed: 0, failed: 2 });
    }

    #[test]
    fn the_last_line_is_plain() {
        assert_eq!(
            Counts {
                passed: 12,
                failed: 0
            }
            .to_string(),
            "12 passed, 0 failed"
        );
    }
}
