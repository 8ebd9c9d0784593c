//! Requirement ids: each is defined once in `.specs/`, at least one test cites it, and whatever cites one cites one that
//! exists.

use std::collections::{BTreeMap, BTreeSet};

use super::Finding;
use super::tree::{TextFile, Tree};

const FOLDER: &str = ".specs/";
/// Explains the form of a definition, so it shows some.
const EXPLANATION: &str = ".specs/README.md";
const DEFINITION: &str = "- **";
/// Families with four digits; our own ids are `REQ-` and words.
const NUMBERED: [&str; 2] = ["ORCH-", "AUTH-"];
const NAMED: &str = "REQ-";

/// Checks definitions and citations.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let definitions = definitions(tree);
    let mut findings = malformed(tree);
    findings.extend(defined_twice(&definitions));
    findings.extend(uncited(tree, &definitions));
    let defined: BTreeSet<&str> = definitions.keys().map(String::as_str).collect();
    findings.extend(
        citations(tree)
            .into_iter()
            .filter(|citation| !defined.contains(citation.id.as_str()))
            .map(|citation| {
                Finding::new(
                    citation.path,
                    citation.line,
                    format!("no file in .specs defines {}", citation.id),
                )
            }),
    );
    findings
}

/// Requirements that no test cites: what nothing shows may as well not be required.
fn uncited(tree: &Tree, definitions: &BTreeMap<String, Vec<(&str, usize)>>) -> Vec<Finding> {
    let cited: BTreeSet<String> = citations(tree)
        .into_iter()
        .filter(|citation| citation.by_test)
        .map(|citation| citation.id)
        .collect();
    let uncited = definitions.iter().filter(|(id, _)| !cited.contains(*id));
    uncited
        .filter_map(|(id, places)| {
            let (path, line) = *places.first()?;
            Some(Finding::new(path, line, format!("no test cites {id}")))
        })
        .collect()
}

/// How many requirements there are.
pub(super) fn count(tree: &Tree) -> usize {
    definitions(tree).len()
}

/// Where each id is defined.
fn definitions(tree: &Tree) -> BTreeMap<String, Vec<(&str, usize)>> {
    let mut definitions: BTreeMap<String, Vec<(&str, usize)>> = BTreeMap::new();
    for (file, line, text) in definition_lines(tree) {
        if let Some(id) = defined_id(text) {
            definitions.entry(id).or_default().push((&file.path, line));
        }
    }
    definitions
}

/// List items of the specs that begin with bold text that looks like an id.
fn definition_lines(tree: &Tree) -> impl Iterator<Item = (&TextFile, usize, &str)> {
    let specs = tree.texts.iter().filter(|file| {
        file.path.starts_with(FOLDER) && file.path != EXPLANATION && file.ending() == Some("md")
    });
    specs
        .flat_map(|file| {
            file.text
                .lines()
                .enumerate()
                .map(move |(index, text)| (file, index + 1, text))
        })
        .filter(|(_, _, text)| {
            let bold = text.strip_prefix(DEFINITION).unwrap_or_default();
            NUMBERED
                .iter()
                .chain([&NAMED])
                .any(|family| bold.starts_with(family))
        })
}

/// The id of `- **ID** text`.
fn defined_id(line: &str) -> Option<String> {
    let (bold, text) = line.strip_prefix(DEFINITION)?.split_once("**")?;
    let (found, _) = next_id(bold)?;
    (found == bold && !text.trim().is_empty()).then(|| found.to_owned())
}

fn malformed(tree: &Tree) -> Vec<Finding> {
    let message = "a requirement is one line `- **ID** text`; an id is ORCH- or AUTH- with four digits, or REQ- with \
                   words in capitals";
    let wrong = definition_lines(tree).filter(|(_, _, text)| defined_id(text).is_none());
    wrong
        .map(|(file, line, _)| Finding::new(&file.path, line, message))
        .collect()
}

fn defined_twice(definitions: &BTreeMap<String, Vec<(&str, usize)>>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (id, places) in definitions {
        if let [(first, line), again @ ..] = places.as_slice() {
            let message = format!("{id} is already defined at {first}:{line}");
            findings.extend(
                again
                    .iter()
                    .map(|(path, line)| Finding::new(*path, *line, message.as_str())),
            );
        }
    }
    findings
}

struct Citation<'a> {
    id: String,
    path: &'a str,
    line: usize,
    by_test: bool,
}

fn citations(tree: &Tree) -> Vec<Citation<'_>> {
    let rust = tree.rust.iter().flat_map(|file| {
        ids_by_line(&file.text).map(|(line, id)| Citation {
            id,
            path: &file.path,
            line,
            by_test: file.is_test(line),
        })
    });
    let features = tree
        .texts
        .iter()
        .filter(|file| file.ending() == Some("feature"))
        .flat_map(|file| {
            ids_by_line(&file.text).map(|(line, id)| Citation {
                id,
                path: &file.path,
                line,
                by_test: true,
            })
        });
    rust.chain(features).collect()
}

fn ids_by_line(text: &str) -> impl Iterator<Item = (usize, String)> {
    text.lines()
        .enumerate()
        .flat_map(|(index, line)| ids(line).into_iter().map(move |id| (index + 1, id.to_owned())))
}

fn ids(mut line: &str) -> Vec<&str> {
    let mut ids = Vec::new();
    while let Some((id, rest)) = next_id(line) {
        ids.push(id);
        line = rest;
    }
    ids
}

/// The first id in `text` and what follows it.
fn next_id(text: &str) -> Option<(&str, &str)> {
    let families = NUMBERED.iter().chain([&NAMED]);
    let starts = families.flat_map(|family| text.match_indices(family));
    let mut starts: Vec<(usize, &str)> = starts
        .filter(|(start, _)| !continues_word(&text[..*start]))
        .collect();
    starts.sort_unstable();
    starts.into_iter().find_map(|(start, family)| {
        let length = family.len() + id_tail(family, &text[start + family.len()..])?;
        Some((&text[start..start + length], &text[start + length..]))
    })
}

fn continues_word(before: &str) -> bool {
    before
        .chars()
        .next_back()
        .is_some_and(|character| character.is_alphanumeric() || character == '-')
}

/// How many bytes of `rest` belong to the id, if it is one.
fn id_tail(family: &str, rest: &str) -> Option<usize> {
    if family == NAMED {
        let tail = rest
            .find(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '-'))
            .unwrap_or(rest.len());
        let length = rest[..tail].trim_end_matches('-').len();
        return (length > 0).then_some(length);
    }
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    (digits == 4).then_some(digits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::testing::{lines, places, tree};

    const SPEC: &str = concat!(
        "# Area\n\n- **ORCH-",
        "0001** One.\n- **REQ-",
        "QUEUE-1** Two.\n- **bold** is no id.\n"
    );

    /// A test that cites both.
    const SHOWN: (&str, &str) = (
        "tests/shown.rs",
        concat!("//! ORCH-", "0001 and REQ-", "QUEUE-1.\n"),
    );

    fn id(family: &str, rest: &str) -> String {
        format!("{family}-{rest}")
    }

    #[test]
    fn ids_are_found_between_other_words() {
        let (a, b, c) = (id("ORCH", "3900"), id("AUTH", "1001"), id("REQ", "QUEUE-LRU"));
        assert_eq!(ids(&format!("({a}…3906), {b}/{c}- and {c}")), [&a, &b, &c, &c]);
        assert_eq!(
            ids(&format!(
                "X{a} {}5 {} {}",
                a,
                id("ORCH", "32xx"),
                id("REQ", "lower")
            )),
            [""; 0]
        );
    }

    #[test]
    fn a_cited_id_must_be_defined() {
        let test = format!("//! Checks {}.\n// {}\n", id("ORCH", "0001"), id("ORCH", "0002"));
        let found = check(&tree(&[(".specs/queue.md", SPEC), ("tests/it.rs", &test), SHOWN]));
        assert_eq!(places(&found), ["tests/it.rs:2"]);
        let feature = format!("@{}\nFeature: A\n", id("REQ", "QUEUE-2"));
        assert_eq!(
            places(&check(&tree(&[
                (".specs/queue.md", SPEC),
                ("a.feature", &feature),
                SHOWN
            ]))),
            ["a.feature:1"]
        );
    }

    #[test]
    fn an_id_is_defined_once() {
        let found = check(&tree(&[(".specs/a.md", SPEC), (".specs/more/b.md", SPEC), SHOWN]));
        assert_eq!(places(&found), [".specs/more/b.md:3", ".specs/more/b.md:4"]);
    }

    #[test]
    fn a_definition_has_an_id_and_a_text() {
        let wrong = format!(
            "- **{}** \n- **{}** Text.\n",
            id("ORCH", "0001"),
            id("ORCH", "32xx")
        );
        assert_eq!(
            places(&check(&tree(&[(".specs/a.md", &wrong)]))),
            [".specs/a.md:1", ".specs/a.md:2"]
        );
    }

    #[test]
    fn the_explanation_defines_nothing() {
        assert_eq!(
            lines(&check(&tree(&[
                (EXPLANATION, SPEC),
                (".specs/a.md", SPEC),
                SHOWN
            ]))),
            [""; 0]
        );
    }

    #[test]
    fn a_requirement_that_no_test_cites_is_a_finding() {
        let one = format!("//! {}.\n", id("ORCH", "0001"));
        let two = format!("//! {}.\n", id("REQ", "QUEUE-1"));
        let partly = tree(&[(".specs/a.md", SPEC), ("tests/it.rs", &one), ("src/lib.rs", &two)]);
        assert_eq!(
            lines(&check(&partly)),
            [format!(".specs/a.md:4: no test cites {}", id("REQ", "QUEUE-1"))]
        );
        let fully = tree(&[(".specs/a.md", SPEC), SHOWN]);
        assert_eq!((lines(&check(&fully)).len(), count(&fully)), (0, 2));
    }
}
