//! The configuration file: TOML text to a tree with positions.

use std::borrow::Cow;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use crate::error::{Origin, Position, Problem};
use crate::tree::{Content, Node, join};

/// Largest configuration file, bytes. A file beyond it is not a configuration.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Reads and parses a file.
pub(crate) fn read(path: &Path) -> Result<Node, Vec<Problem>> {
    let whole = |rule: String| vec![Problem::new(Origin::file(path), "", rule)];
    let bytes = read_bounded(path).map_err(|error| whole(format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(whole(format!("is larger than {MAX_FILE_BYTES} bytes")));
    }
    let text = String::from_utf8(bytes).map_err(|_| whole("is not UTF-8".to_owned()))?;
    parse(path, &text)
}

fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

pub(crate) fn parse(path: &Path, text: &str) -> Result<Node, Vec<Problem>> {
    let source = Source { path, text };
    let (document, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        let span = document.span();
        let document = Spanned::new(span, DeValue::Table(document.into_inner()));
        source
            .node(String::new(), 0, document)
            .map_err(|problem| vec![problem])
    } else {
        Err(errors.iter().map(|error| source.syntax(error)).collect())
    }
}

struct Source<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Source<'_> {
    fn origin(&self, offset: usize) -> Origin {
        Origin::File {
            path: self.path.to_owned(),
            position: Some(Position::of(self.text, offset)),
        }
    }

    fn syntax(&self, error: &toml::de::Error) -> Problem {
        let offset = error.span().map_or(0, |span| span.start);
        Problem::new(
            self.origin(offset),
            "",
            format!("TOML syntax: {}", error.message()),
        )
    }

    /// `offset` is where the value is named: its key, or itself inside an array.
    fn node(&self, key: String, offset: usize, value: Spanned<DeValue<'_>>) -> Result<Node, Problem> {
        let span = value.span();
        let content = match value.into_inner() {
            DeValue::Table(table) => {
                let entries = table
                    .into_iter()
                    .map(|(name, value)| self.entry(&key, &name, value));
                Content::Table(entries.collect::<Result<_, _>>()?)
            }
            DeValue::Array(items) => {
                let items = items.into_iter().enumerate();
                let items = items.map(|(index, item)| self.item(&key, index, item));
                Content::Array(items.collect::<Result<_, _>>()?)
            }
            leaf => Content::Leaf(self.leaf(&key, offset, Spanned::new(span, leaf))?),
        };
        let origin = self.origin(offset);
        Ok(Node { key, origin, content })
    }

    fn entry(
        &self,
        parent: &str,
        name: &Spanned<Cow<'_, str>>,
        value: Spanned<DeValue<'_>>,
    ) -> Result<(String, Node), Problem> {
        let text = name.get_ref().to_string();
        let node = self.node(join(parent, &text), name.span().start, value)?;
        Ok((text, node))
    }

    fn item(&self, parent: &str, index: usize, item: Spanned<DeValue<'_>>) -> Result<Node, Problem> {
        self.node(format!("{parent}[{index}]"), item.span().start, item)
    }

    fn leaf(&self, key: &str, offset: usize, value: Spanned<DeValue<'_>>) -> Result<toml::Value, Problem> {
        toml::Value::deserialize(ValueDeserializer::from(value))
            .map_err(|error| Problem::new(self.origin(offset), key, error.message()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn problems(text: &str) -> Vec<String> {
        let parsed = parse(Path::new("x.toml"), text);
        parsed.map_or_else(|p| p.iter().map(ToString::to_string).collect(), |_| Vec::new())
    }

    #[test]
    fn syntax_errors_name_line_and_column() {
        let found = problems("[http]\nmax_headers = = 5\n");
        assert!(found[0].starts_with("x.toml:2:15: TOML syntax: "), "{found:?}");
        assert!(problems("a = 1\na = 2")[0].starts_with("x.toml:2:1: "));
        assert!(problems("a = 99999999999999999999")[0].starts_with("x.toml:1:1: a: "));
    }

    #[test]
    fn values_know_their_lines() {
        let tree = parse(Path::new("x.toml"), "[http]\n\nmax_headers = 5\n").unwrap();
        assert_eq!(
            tree.get("http.max_headers").unwrap().origin.to_string(),
            "x.toml:3:1"
        );
    }

    #[test]
    fn a_directory_and_a_missing_file_are_named() {
        let dir = tempfile::tempdir().unwrap();
        for path in [dir.path().to_owned(), dir.path().join("none.toml")] {
            let error = read(&path).unwrap_err()[0].to_string();
            assert!(
                error.starts_with(&format!("{}: cannot be read", path.display())),
                "{error}"
            );
        }
    }

    proptest! {
        #[test]
        fn parsing_is_total(text in "\\PC{0,80}") {
            let _ = parse(Path::new("x.toml"), &text);
        }
    }
}
