//! The Prometheus text format, as far as our daemons write it.

use std::collections::BTreeMap;

/// One scrape.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Exposition {
    /// Family name → type.
    pub types: BTreeMap<String, String>,
    /// Every sample line in order.
    pub samples: Vec<Sample>,
}

/// One sample line.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The name with its suffix (`_bucket`, `_sum`, `_count`).
    pub name: String,
    /// Label name → value, unescaped.
    pub labels: BTreeMap<String, String>,
    /// The value.
    pub value: f64,
}

/// A line that is none of the format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the scrape cannot be read: {text}")]
pub struct Malformed {
    /// Counted from 1.
    pub line: usize,
    /// The line.
    pub text: String,
}

impl Exposition {
    /// Reads a scrape.
    ///
    /// # Errors
    /// [`Malformed`] with the first line that cannot be read.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let mut exposition = Self::default();
        for (index, line) in text.lines().enumerate() {
            exposition.line(line).ok_or_else(|| Malformed {
                line: index + 1,
                text: line.to_owned(),
            })?;
        }
        Ok(exposition)
    }

    fn line(&mut self, line: &str) -> Option<()> {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ')?;
            self.types.insert(name.to_owned(), kind.to_owned());
        } else if !line.starts_with('#') && !line.is_empty() {
            self.samples.push(sample(line)?);
        }
        Some(())
    }
}

fn sample(line: &str) -> Option<Sample> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = match series.split_once('{') {
        Some((name, rest)) => (name, labels(rest)?),
        None => (series, BTreeMap::new()),
    };
    Some(Sample {
        name: name.to_owned(),
        labels,
        value: value.parse().ok()?,
    })
}

/// `a="1",b="2"}` after the opening brace.
fn labels(mut rest: &str) -> Option<BTreeMap<String, String>> {
    let mut labels = BTreeMap::new();
    while rest != "}" {
        let (name, after) = rest.split_once("=\"")?;
        let (value, after) = quoted(after)?;
        labels.insert(name.to_owned(), value);
        rest = after.strip_prefix(',').unwrap_or(after);
    }
    Some(labels)
}

/// A value up to its closing quote, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                escaped => value.push(escaped),
            },
            plain => value.push(plain),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_labels_and_values_are_read() {
        let text = "# HELP a_total Help.\n# TYPE a_total counter\na_total{x=\"1,}\\\"\",y=\"b\"} 2\nb 0.5\n";
        let read = Exposition::parse(text).unwrap();
        assert_eq!(read.types["a_total"], "counter");
        assert_eq!(read.samples[0].labels["x"], "1,}\"");
        assert_eq!((read.samples[0].value, read.samples[1].value), (2.0, 0.5));
    }

    #[test]
    fn what_is_no_sample_is_named_with_its_line() {
        for broken in ["a{x=\"1} 2", "a", "a{x} 1", "a b"] {
            assert_eq!(Exposition::parse(broken).unwrap_err().line, 1, "{broken}");
        }
    }
}
