//! One figure: its samples, what it is compared with, and whether its target is met. Pure.

use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};

use crate::stats::Samples;

/// One figure.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    /// What was measured.
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    pub(crate) ours: Samples,
    pub(crate) nginx: Option<Samples>,
    pub(crate) target: Target,
}

/// What must not be exceeded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Target {
    /// Ours over nginx, where there is a target.
    Ratio(Option<f64>),
    /// Ours alone, in the figure's unit, where there is a target.
    Value(Option<f64>),
}

/// Whether a target is met; the worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    NoTarget,
    Met,
    Missed,
}

impl Figure {
    /// A figure whose ratio to nginx counts.
    pub(crate) fn ratio(
        name: String,
        unit: &'static str,
        ours: Samples,
        nginx: Samples,
        most: Option<f64>,
    ) -> Self {
        Self {
            name,
            unit,
            ours,
            nginx: Some(nginx),
            target: Target::Ratio(most),
        }
    }

    /// A figure that counts by itself; nginx's is for the eye.
    pub(crate) fn value(
        name: String,
        unit: &'static str,
        ours: Samples,
        nginx: Option<Samples>,
        most: Option<f64>,
    ) -> Self {
        Self {
            name,
            unit,
            ours,
            nginx,
            target: Target::Value(most),
        }
    }

    /// Ours over nginx, round by round, where that is what counts.
    pub(crate) fn ratios(&self) -> Option<Samples> {
        match (self.target, &self.nginx) {
            (Target::Ratio(_), Some(nginx)) => Some(self.ours.ratios_to(nginx)),
            _ => None,
        }
    }

    /// By medians. What is not a number meets nothing.
    pub(crate) fn verdict(&self) -> Verdict {
        let (value, most) = match self.target {
            Target::Ratio(most) => (self.ratios().map_or(f64::NAN, |ratios| ratios.median()), most),
            Target::Value(most) => (self.ours.median(), most),
        };
        match most {
            None => Verdict::NoTarget,
            Some(most) if value <= most => Verdict::Met,
            Some(_) => Verdict::Missed,
        }
    }

    fn most(&self) -> Option<f64> {
        let (Target::Ratio(most) | Target::Value(most)) = self.target;
        most
    }
}

/// Samples with what people would compute from them.
#[derive(Serialize)]
struct Summary<'a> {
    median: f64,
    least: f64,
    most: f64,
    samples: &'a Samples,
}

impl<'a> Summary<'a> {
    fn of(samples: &'a Samples) -> Self {
        let (least, most) = samples.spread();
        Self {
            median: samples.median(),
            least,
            most,
            samples,
        }
    }
}

impl Serialize for Figure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let ratios = self.ratios();
        let mut fields = serializer.serialize_struct("Figure", 7)?;
        fields.serialize_field("name", &self.name)?;
        fields.serialize_field("unit", self.unit)?;
        fields.serialize_field("ours", &Summary::of(&self.ours))?;
        fields.serialize_field("nginx", &self.nginx.as_ref().map(Summary::of))?;
        fields.serialize_field("ratio", &ratios.as_ref().map(Summary::of))?;
        fields.serialize_field("target_at_most", &self.most())?;
        fields.serialize_field("verdict", &self.verdict())?;
        fields.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ratio(ours: &[f64], nginx: &[f64], most: Option<f64>) -> Figure {
        let samples = |values: &[f64]| Samples::new(values.iter().copied());
        Figure::ratio("cpu".to_owned(), "µs", samples(ours), samples(nginx), most)
    }

    #[test]
    fn the_median_of_the_paired_ratios_counts() {
        let figure = ratio(&[15.0, 30.0, 16.0], &[10.0, 20.0, 10.0], Some(1.5));
        assert_eq!(figure.verdict(), Verdict::Met);
        assert_eq!(ratio(&[16.0], &[10.0], Some(1.5)).verdict(), Verdict::Missed);
        assert_eq!(ratio(&[16.0], &[10.0], None).verdict(), Verdict::NoTarget);
    }

    #[test]
    fn nothing_measured_meets_no_target() {
        assert_eq!(ratio(&[], &[], Some(1.5)).verdict(), Verdict::Missed);
    }

    #[test]
    fn values_count_without_nginx() {
        let value = |us| Figure::value("decide".to_owned(), "µs", Samples::new([us]), None, Some(20.0));
        assert_eq!(
            (value(20.0).verdict(), value(20.1).verdict()),
            (Verdict::Met, Verdict::Missed)
        );
        assert!(value(1.0).ratios().is_none());
    }
}
