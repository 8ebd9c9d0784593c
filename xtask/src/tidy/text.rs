//! Text rules: how files begin, how long they are, and words that only unfinished or local work contains.

use super::Finding;
use super::tree::{TextFile, Tree};

/// A file above this many lines does more than one thing.
const MOST_LINES: usize = 600;

/// A word that must not be in the tree. Spelled in halves, so that this file keeps its own rule.
struct Forbidden {
    word: &'static str,
    case: Case,
    why: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Case {
    Exact,
    Any,
}

const UNFINISHED: &str = "says that the work is unfinished";
const LOCAL: &str = "is a path of one machine";

const FORBIDDEN: [Forbidden; 9] = [
    Forbidden {
        word: concat!("TO", "DO"),
        case: Case::Exact,
        why: UNFINISHED,
    },
    Forbidden {
        word: concat!("FIX", "ME"),
        case: Case::Exact,
        why: UNFINISHED,
    },
    Forbidden {
        word: concat!("XX", "X"),
        case: Case::Exact,
        why: UNFINISHED,
    },
    Forbidden {
        word: concat!("todo", "!"),
        case: Case::Exact,
        why: UNFINISHED,
    },
    Forbidden {
        word: concat!("unimplemented", "!"),
        case: Case::Exact,
        why: UNFINISHED,
    },
    Forbidden {
        word: concat!("for", " now"),
        case: Case::Any,
        why: UNFINISHED,
    },
    Forbidden {
        word: concat!("place", "holder"),
        case: Case::Any,
        why: UNFINISHED,
    },
    Forbidden {
        word: concat!("/root", "/"),
        case: Case::Exact,
        why: LOCAL,
    },
    Forbidden {
        word: concat!("/work", "/"),
        case: Case::Exact,
        why: LOCAL,
    },
];

/// Checks every source file.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    tree.texts
        .iter()
        .flat_map(|file| begins(file).into_iter().chain(length(file)).chain(words(file)))
        .collect()
}

fn begins(file: &TextFile) -> Option<Finding> {
    let is_described = file
        .text
        .lines()
        .next()
        .is_some_and(|line| line.starts_with("//!"));
    let message = "the first line must be `//!`: what this module owns";
    (file.ending() == Some("rs") && !is_described).then(|| Finding::new(&file.path, 1, message))
}

fn length(file: &TextFile) -> Option<Finding> {
    let lines = file.text.lines().count();
    let is_code = matches!(file.ending(), Some("rs" | "py" | "sh") | None);
    let message = || format!("{lines} lines, at most {MOST_LINES} are allowed: split it");
    (is_code && lines > MOST_LINES).then(|| Finding::new(&file.path, MOST_LINES + 1, message()))
}

fn words(file: &TextFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        for forbidden in FORBIDDEN.iter().filter(|forbidden| forbidden.is_in(line)) {
            let message = format!("`{}` {}", forbidden.word, forbidden.why);
            findings.push(Finding::new(&file.path, index + 1, message));
        }
    }
    findings
}

impl Forbidden {
    fn is_in(&self, line: &str) -> bool {
        match self.case {
            Case::Exact => has_word(line, self.word),
            Case::Any => has_word(&line.to_lowercase(), self.word),
        }
    }
}

/// `word` counts where it neither continues another word or path nor goes on in capitals; its own plural counts.
fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(start, found)| {
        let before = line[..start].chars().next_back();
        let after = line[start + found.len()..].chars().next();
        let goes_on = word.ends_with(char::is_alphanumeric) && after.is_some_and(continues_caps);
        !before.is_some_and(continues) && !goes_on
    })
}

fn continues(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, '_' | '/' | '.' | '-' | '}')
}

/// Capital letters make another word of a capital one (a pattern for temporary names, say).
fn continues_caps(character: char) -> bool {
    character.is_uppercase() || character == '_' || character.is_numeric()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::testing::{places, tree};

    fn findings(path: &str, text: &str) -> Vec<String> {
        places(&check(&tree(&[(path, text)])))
    }

    #[test]
    fn a_module_says_first_what_it_owns() {
        assert_eq!(findings("src/a.rs", "//! Owns it.\nuse x;\n"), [""; 0]);
        assert_eq!(findings("src/a.rs", "use x;\n//! Late.\n"), ["src/a.rs:1"]);
        assert_eq!(findings("src/a.rs", ""), ["src/a.rs:1"]);
        assert_eq!(findings("a.md", "# Title\n"), [""; 0]);
    }

    #[test]
    fn a_file_has_at_most_the_allowed_lines() {
        let lines = |count: usize| format!("//! Long.\n{}", "\n".repeat(count - 1));
        assert_eq!(findings("src/a.rs", &lines(MOST_LINES)), [""; 0]);
        assert_eq!(findings("src/a.rs", &lines(MOST_LINES + 1)), ["src/a.rs:601"]);
        assert_eq!(findings("notes.md", &lines(MOST_LINES + 1)), [""; 0]);
    }

    #[test]
    fn every_forbidden_word_is_found_where_it_stands() {
        for forbidden in &FORBIDDEN {
            let text = format!("//! A.\n// see {}\n", forbidden.word);
            assert_eq!(findings("src/a.rs", &text), ["src/a.rs:2"], "{}", forbidden.word);
        }
        let capital = concat!("# Notes\nFor", " now it is Place", "holders only\n");
        assert_eq!(findings("a.md", capital), ["a.md:2", "a.md:2"]);
    }

    #[test]
    fn parts_of_other_words_are_not_found() {
        let text = concat!(
            "//! mktemp XX",
            "XX and XX",
            "X_Y, TO",
            "DOS, {dir}/work",
            "/x, target/root",
            "/y\n",
            "// [workspace.lints] to",
            "do = \"deny\"\n",
        );
        assert_eq!(findings("src/a.rs", text), [""; 0]);
    }
}
