//! Attributes: no test is ignored, no lint is allowed, and an expected lint has its reason. Works on tokens, so
//! attributes inside macro calls are seen and strings are not.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use super::Finding;
use super::rust_file::{RustFile, each_sequence, has_ident};
use super::tree::Tree;

/// Checks every attribute of every file.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    tree.rust.iter().flat_map(of_file).collect()
}

fn of_file(file: &RustFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    each_sequence(&file.tokens, &mut |sequence| {
        for (index, _) in sequence.iter().enumerate() {
            if let Some((line, attribute)) = attribute_at(&sequence[index..]) {
                findings.extend(complaint(&attribute).map(|message| Finding::new(&file.path, line, message)));
            }
        }
    });
    findings
}

/// `#[…]` or `#![…]` at the start of `tokens`: its line and what is in the brackets.
fn attribute_at(tokens: &[TokenTree]) -> Option<(usize, TokenStream)> {
    let (hash, rest) = match tokens {
        [TokenTree::Punct(hash), TokenTree::Punct(bang), rest @ ..] if bang.as_char() == '!' => (hash, rest),
        [TokenTree::Punct(hash), rest @ ..] => (hash, rest),
        _ => return None,
    };
    match rest.first() {
        Some(TokenTree::Group(group)) if hash.as_char() == '#' && group.delimiter() == Delimiter::Bracket => {
            Some((hash.span().start().line, group.stream()))
        }
        _ => None,
    }
}

fn complaint(attribute: &TokenStream) -> Option<&'static str> {
    let first = attribute.clone().into_iter().next()?.to_string();
    let applies = |name: &str| first == name || (first == "cfg_attr" && has_ident(attribute, name));
    if applies("ignore") {
        Some("a test is ignored: make it run everywhere or delete it")
    } else if applies("allow") {
        Some("a lint is allowed: use `#[expect(lint, reason = \"…\")]`")
    } else if applies("expect") && !has_ident(attribute, "reason") {
        Some("a lint is expected without its `reason`")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::testing::{places, tree};

    fn findings(text: &str) -> Vec<String> {
        places(&check(&tree(&[("a.rs", text)])))
    }

    #[test]
    fn ignored_tests_are_found_in_every_form() {
        assert_eq!(findings("#[test]\n#[ignore]\nfn a() {}\n"), ["a.rs:2"]);
        assert_eq!(findings("#[ignore = \"slow\"]\nfn a() {}\n"), ["a.rs:1"]);
        assert_eq!(findings("#[cfg_attr(not(gpu), ignore)]\nfn a() {}\n"), ["a.rs:1"]);
    }

    #[test]
    fn attributes_inside_macro_calls_are_found() {
        assert_eq!(
            findings("proptest! {\n    #[test]\n    #[ignore]\n    fn a(n in 0..9) {}\n}\n"),
            ["a.rs:3"]
        );
    }

    #[test]
    fn allowed_lints_are_found() {
        assert_eq!(findings("#![allow(dead_code)]\n"), ["a.rs:1"]);
        assert_eq!(
            findings("#[cfg_attr(test, allow(dead_code))]\nfn a() {}\n"),
            ["a.rs:1"]
        );
    }

    #[test]
    fn expected_lints_need_a_reason() {
        assert_eq!(findings("#[expect(dead_code)]\nfn a() {}\n"), ["a.rs:1"]);
        assert_eq!(
            findings("#[expect(dead_code, reason = \"the C side calls it\")]\nfn a() {}\n"),
            [""; 0]
        );
    }

    #[test]
    fn other_attributes_words_and_strings_are_left_alone() {
        let text = "#![warn(x)]\n#[derive(Debug)]\nstruct A;\nfn ignore(allow: u8) { let a = \"#[ignore]\"; v[allow]; }\n";
        assert_eq!(findings(text), [""; 0]);
    }
}
