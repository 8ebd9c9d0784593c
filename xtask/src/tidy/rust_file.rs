//! One Rust file as tokens and syntax, with the lines that are test code and those that run on virtual time.

use std::ops::RangeInclusive;
use std::path::Path;

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

use super::Finding;

/// A parsed Rust file.
pub(super) struct RustFile {
    /// Relative to the root.
    pub(super) path: String,
    pub(super) text: String,
    pub(super) syntax: syn::File,
    /// The same as tokens, which unlike the syntax show what is inside macro calls.
    pub(super) tokens: TokenStream,
    test_lines: Vec<RangeInclusive<usize>>,
    paused_lines: Vec<RangeInclusive<usize>>,
    all_tests: bool,
}

impl RustFile {
    /// Parses `text`.
    ///
    /// # Errors
    /// A finding at the place that is not Rust.
    pub(super) fn parse(path: &str, text: &str) -> Result<Self, Finding> {
        let unparsed = |line: usize, why: &dyn std::fmt::Display| {
            Finding::new(path, line, format!("does not parse: {why}"))
        };
        let syntax = syn::parse_file(text).map_err(|error| unparsed(error.span().start().line, &error))?;
        let tokens = text
            .parse()
            .map_err(|error: proc_macro2::LexError| unparsed(error.span().start().line, &error))?;
        let mut places = Places::default();
        places.visit_file(&syntax);
        Ok(Self {
            path: path.to_owned(),
            text: text.to_owned(),
            syntax,
            tokens,
            test_lines: places.tests,
            paused_lines: places.paused,
            all_tests: is_test_path(path),
        })
    }

    /// Whether the line is compiled for tests only.
    pub(super) fn is_test(&self, line: usize) -> bool {
        self.all_tests || holds(&self.test_lines, line)
    }

    /// Whether the line is in a function whose clock is paused, where a sleep takes no time.
    pub(super) fn is_paused(&self, line: usize) -> bool {
        holds(&self.paused_lines, line)
    }
}

fn holds(ranges: &[RangeInclusive<usize>], line: usize) -> bool {
    ranges.iter().any(|range| range.contains(&line))
}

/// Test and bench folders, files that hold only tests, and the test harness.
fn is_test_path(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    let in_folder = parts
        .iter()
        .any(|part| matches!(*part, "tests" | "benches" | "test-harness"));
    let stem = Path::new(path)
        .file_stem()
        .and_then(|stem| stem.to_str())
        .unwrap_or_default();
    in_folder || stem == "tests" || stem == "testing" || stem.ends_with("_tests")
}

#[derive(Default)]
struct Places {
    tests: Vec<RangeInclusive<usize>>,
    paused: Vec<RangeInclusive<usize>>,
}

impl<'ast> Visit<'ast> for Places {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if let (true, Some((braces, _))) = (is_for_tests(&module.attrs), &module.content) {
            self.tests.push(lines(module.ident.span(), braces.span.close()));
        }
        visit::visit_item_mod(self, module);
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        let range = lines(
            function.sig.fn_token.span,
            function.block.brace_token.span.close(),
        );
        if is_for_tests(&function.attrs) {
            self.tests.push(range.clone());
        }
        if pauses_the_clock(function) {
            self.paused.push(range);
        }
        visit::visit_item_fn(self, function);
    }
}

fn lines(from: proc_macro2::Span, to: proc_macro2::Span) -> RangeInclusive<usize> {
    from.start().line..=to.end().line
}

/// `#[test]`, `#[tokio::test]`, `#[cfg(test)]`, `#[cfg(all(test, …))]`.
fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes
        .iter()
        .any(|attribute| match last_name(attribute.path()).as_str() {
            "test" => true,
            "cfg" => attribute
                .meta
                .require_list()
                .is_ok_and(|list| has_ident(&list.tokens, "test")),
            _ => false,
        })
}

fn pauses_the_clock(function: &syn::ItemFn) -> bool {
    let by_attribute = function.attrs.iter().any(|attribute| {
        attribute
            .meta
            .require_list()
            .is_ok_and(|list| has_ident(&list.tokens, "start_paused"))
    });
    by_attribute || PauseCall::is_in(&function.block)
}

/// Looks for `tokio::time::pause()`.
#[derive(Default)]
struct PauseCall {
    found: bool,
}

impl PauseCall {
    fn is_in(block: &syn::Block) -> bool {
        let mut call = Self::default();
        call.visit_block(block);
        call.found
    }
}

impl<'ast> Visit<'ast> for PauseCall {
    fn visit_expr_call(&mut self, call: &'ast syn::ExprCall) {
        if let syn::Expr::Path(function) = &*call.func {
            let names: Vec<String> = function
                .path
                .segments
                .iter()
                .map(|segment| segment.ident.to_string())
                .collect();
            self.found |= names.ends_with(&["time".to_owned(), "pause".to_owned()]);
        }
        visit::visit_expr_call(self, call);
    }
}

/// The last name of a path: `test` of `tokio::test`.
pub(super) fn last_name(path: &syn::Path) -> String {
    path.segments
        .last()
        .map(|segment| segment.ident.to_string())
        .unwrap_or_default()
}

/// Whether `name` occurs as a word anywhere in the tokens.
pub(super) fn has_ident(tokens: &TokenStream, name: &str) -> bool {
    tokens.clone().into_iter().any(|token| match token {
        TokenTree::Ident(ident) => ident == name,
        TokenTree::Group(group) => has_ident(&group.stream(), name),
        TokenTree::Punct(_) | TokenTree::Literal(_) => false,
    })
}

/// Calls `look` with each sequence of tokens between a pair of delimiters, the outermost first.
pub(super) fn each_sequence(tokens: &TokenStream, look: &mut impl FnMut(&[TokenTree])) {
    let sequence: Vec<TokenTree> = tokens.clone().into_iter().collect();
    look(&sequence);
    for token in &sequence {
        if let TokenTree::Group(group) = token {
            each_sequence(&group.stream(), look);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(path: &str, text: &str) -> RustFile {
        RustFile::parse(path, text).unwrap_or_else(|finding| panic!("{finding}"))
    }

    #[test]
    fn test_code_is_known_by_attribute() {
        let file = parse(
            "src/a.rs",
            "fn product() {}\n#[cfg(test)]\nmod tests {\n    fn helper() {}\n}\n",
        );
        assert!(!file.is_test(1) && file.is_test(4));
        let file = parse(
            "src/a.rs",
            "fn product() {}\n#[tokio::test]\nasync fn works() {\n}\n#[cfg(unix)]\nmod m {}\n",
        );
        assert!(!file.is_test(1) && file.is_test(3) && !file.is_test(6));
    }

    #[test]
    fn test_code_is_known_by_path() {
        for path in [
            "a/tests/it/queue.rs",
            "a/src/queue/tests.rs",
            "test-harness/bdd/src/lib.rs",
            "a/benches/b.rs",
        ] {
            assert!(parse(path, "fn helper() {}\n").is_test(1), "{path}");
        }
        assert!(!parse("a/src/latest.rs", "fn product() {}\n").is_test(1));
    }

    #[test]
    fn a_paused_clock_is_known_by_attribute_and_by_call() {
        let text = "#[tokio::test(start_paused = true)]\nasync fn a() {\n}\nasync fn b() {\n    tokio::time::pause();\n}\n\
                    async fn c() {\n    player.pause();\n}\n";
        let file = parse("tests/it.rs", text);
        assert!(file.is_paused(2) && file.is_paused(5) && !file.is_paused(8));
    }

    #[test]
    fn a_syntax_error_is_a_finding_at_its_line() {
        let finding = RustFile::parse("src/a.rs", "//! A.\nfn broken( {\n")
            .err()
            .unwrap();
        assert_eq!(finding.path, "src/a.rs");
        assert_eq!(finding.line, 2);
    }
}
