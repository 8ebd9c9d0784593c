//! The contract, `ci/metrics.lint.json`, and what violates it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::exposition::{Exposition, Sample};

/// The contract.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lint {
    /// Who is scraped.
    pub daemon: String,
    /// Every family.
    pub families: Vec<Family>,
    /// Labels whose values come from a closed set.
    pub label_values: BTreeMap<String, BTreeSet<String>>,
}

/// One family.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Family {
    /// Its name.
    pub name: String,
    /// counter, gauge or histogram.
    pub r#type: Kind,
    /// The labels of each of its series, without a histogram's `le`.
    pub labels: BTreeSet<String>,
    /// Most series (label sets).
    pub max_series: usize,
    /// What it counts.
    pub help: String,
}

/// Types of families.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Only rises.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Buckets, sum and count; its counts only rise.
    Histogram,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

impl Family {
    /// The sample that every series of the family has once.
    fn sample_name(&self) -> String {
        match self.r#type {
            Kind::Histogram => format!("{}_count", self.name),
            Kind::Counter | Kind::Gauge => self.name.clone(),
        }
    }

    fn samples<'a>(&self, scrape: &'a Exposition) -> Vec<&'a Sample> {
        let name = self.sample_name();
        scrape
            .samples
            .iter()
            .filter(|sample| sample.name == name)
            .collect()
    }
}

impl Lint {
    /// Everything that is wrong with a scrape after traffic that feeds every family.
    #[must_use]
    pub fn violations(&self, scrape: &Exposition) -> Vec<String> {
        let mut violations: Vec<String> = self
            .families
            .iter()
            .flat_map(|family| self.of_family(family, scrape))
            .collect();
        let known: BTreeSet<&str> = self.families.iter().map(|family| family.name.as_str()).collect();
        let strangers = scrape.types.keys().filter(|name| !known.contains(name.as_str()));
        violations.extend(strangers.map(|name| format!("{name} is not in the contract")));
        violations
    }

    fn of_family(&self, family: &Family, scrape: &Exposition) -> Vec<String> {
        let name = &family.name;
        let mut violations = Vec::new();
        match scrape.types.get(name) {
            None => violations.push(format!("{name} is missing")),
            Some(kind) if kind != family.r#type.name() => {
                violations.push(format!("{name} is a {kind}, not a {}", family.r#type.name()));
            }
            Some(_) => {}
        }
        let samples = family.samples(scrape);
        if samples.is_empty() {
            violations.push(format!("{name} has no samples"));
        }
        if samples.len() > family.max_series {
            violations.push(format!(
                "{name} has {} series, at most {} are allowed",
                samples.len(),
                family.max_series
            ));
        }
        violations.extend(samples.iter().filter_map(|sample| labels(family, sample)));
        violations.extend(samples.iter().flat_map(|sample| self.values(sample)));
        violations
    }

    fn values(&self, sample: &Sample) -> Vec<String> {
        let foreign = |(label, value): (&String, &String)| {
            let closed = self.label_values.get(label)?;
            (!closed.contains(value)).then(|| format!("{}: {label}={value:?} is not in its set", sample.name))
        };
        sample.labels.iter().filter_map(foreign).collect()
    }

    /// Counters that fell or vanished between two scrapes of one process.
    #[must_use]
    pub fn falls(&self, before: &Exposition, after: &Exposition) -> Vec<String> {
        let counting = self.families.iter().filter(|family| family.r#type != Kind::Gauge);
        counting
            .flat_map(|family| {
                let later = family.samples(after);
                let fell = move |sample: &&Sample| {
                    let same = later.iter().find(|other| other.labels == sample.labels);
                    same.is_none_or(|other| other.value < sample.value)
                };
                family.samples(before).into_iter().filter(fell)
            })
            .map(|sample| format!("{} {:?} fell", sample.name, sample.labels))
            .collect()
    }
}

fn labels(family: &Family, sample: &Sample) -> Option<String> {
    let given: BTreeSet<String> = sample.labels.keys().cloned().collect();
    (given != family.labels).then(|| format!("{} has the labels {given:?}", family.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTRACT: &str = r#"{"daemon": "d", "label_values": {"priority": ["batch"]}, "families": [
        {"name": "a_total", "type": "counter", "labels": ["priority"], "max_series": 1, "help": "A"}]}"#;

    fn violations(text: &str) -> Vec<String> {
        let lint: Lint = serde_json::from_str(CONTRACT).unwrap();
        lint.violations(&Exposition::parse(text).unwrap())
    }

    /// ORCH-3460: each rule alone.
    #[test]
    fn each_violation_is_named() {
        let good = "# TYPE a_total counter\na_total{priority=\"batch\"} 1\n";
        assert_eq!(violations(good), [""; 0]);
        let cases = [
            ("", "is missing"),
            ("# TYPE a_total counter\n", "has no samples"),
            (
                "# TYPE a_total gauge\na_total{priority=\"batch\"} 1\n",
                "is a gauge",
            ),
            ("# TYPE a_total counter\na_total{x=\"1\"} 1\n", "has the labels"),
            (
                "# TYPE a_total counter\na_total{priority=\"else\"} 1\n",
                "is not in its set",
            ),
        ];
        for (text, expected) in cases {
            let found = violations(text);
            assert!(found.iter().any(|line| line.contains(expected)), "{found:?}");
        }
        let many = format!("{good}a_total{{priority=\"batch\"}} 2\n");
        assert!(violations(&many)[0].contains("at most 1"));
        let stranger = format!("{good}# TYPE b gauge\n");
        assert!(violations(&stranger)[0].contains("not in the contract"));
    }

    #[test]
    fn a_counter_that_falls_is_found() {
        let lint: Lint = serde_json::from_str(CONTRACT).unwrap();
        let at = |value: u32| {
            let text = format!("# TYPE a_total counter\na_total{{priority=\"batch\"}} {value}\n");
            Exposition::parse(&text).unwrap()
        };
        assert_eq!(lint.falls(&at(1), &at(2)), [""; 0]);
        assert_eq!(lint.falls(&at(2), &at(1)).len(), 1);
        assert_eq!(lint.falls(&at(2), &Exposition::default()).len(), 1);
    }
}
