//! Shipped configuration: every such file is read by a test, so that no example can rot.

use std::path::Path;

use proc_macro2::{TokenStream, TokenTree};

use super::Finding;
use super::rust_file::{RustFile, each_sequence, has_ident};
use super::tree::Tree;

const FOLDERS: [&str; 2] = ["examples", "ci"];
const ENDINGS: [&str; 4] = ["toml", "yaml", "yml", "json"];

/// Checks that some test names each file, or reads its whole folder.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let shipped = tree.paths.iter().filter(|path| is_config(path));
    let unread = shipped.filter(|path| !tree.rust.iter().any(|file| reads(file, path)));
    unread
        .map(|path| Finding::new(path, 1, format!("no test reads {path}")))
        .collect()
}

fn is_config(path: &str) -> bool {
    let ending = Path::new(path).extension().and_then(|ending| ending.to_str());
    let folder = path.split('/').next().unwrap_or_default();
    FOLDERS.contains(&folder) && path.contains('/') && ending.is_some_and(|ending| ENDINGS.contains(&ending))
}

fn reads(file: &RustFile, config: &str) -> bool {
    let (folder, name) = config.rsplit_once('/').unwrap_or_default();
    let reads_folders = has_ident(&file.tokens, "read_dir");
    test_strings(file, &file.tokens)
        .iter()
        .any(|text| ends_with_path(text, name) || (reads_folders && ends_with_path(text, folder)))
}

/// `text` is `path` or a longer path that ends with it.
fn ends_with_path(text: &str, path: &str) -> bool {
    text.strip_suffix(path)
        .is_some_and(|before| before.is_empty() || before.ends_with('/'))
}

fn test_strings(file: &RustFile, tokens: &TokenStream) -> Vec<String> {
    let mut strings = Vec::new();
    each_sequence(tokens, &mut |sequence| {
        for token in sequence {
            if let TokenTree::Literal(literal) = token
                && file.is_test(literal.span().start().line)
                && let Ok(text) = syn::parse_str::<syn::LitStr>(&literal.to_string())
            {
                strings.push(text.value());
            }
        }
    });
    strings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::testing::{places, tree};

    fn findings(rust: &str, path: &str) -> Vec<String> {
        places(&check(&tree(&[
            ("examples/node.toml", ""),
            ("README.md", ""),
            (path, rust),
        ])))
    }

    #[test]
    fn a_file_that_a_test_names_is_read() {
        assert_eq!(
            findings("fn a() { load(\"../examples/node.toml\") }\n", "tests/it.rs"),
            [""; 0]
        );
        assert_eq!(
            findings("fn a() { load(folder.join(\"node.toml\")) }\n", "tests/it.rs"),
            [""; 0]
        );
    }

    #[test]
    fn a_test_may_read_the_whole_folder() {
        assert_eq!(
            findings("fn a() { std::fs::read_dir(\"../examples\") }\n", "tests/it.rs"),
            [""; 0]
        );
        assert_eq!(
            findings("fn a() { open(\"../examples\") }\n", "tests/it.rs"),
            ["examples/node.toml:1"]
        );
    }

    #[test]
    fn product_code_comments_and_other_names_do_not_count() {
        assert_eq!(
            findings("fn a() { load(\"examples/node.toml\") }\n", "src/lib.rs"),
            ["examples/node.toml:1"]
        );
        assert_eq!(
            findings("// \"examples/node.toml\"\n", "tests/it.rs"),
            ["examples/node.toml:1"]
        );
        assert_eq!(
            findings("fn a() { load(\"supernode.toml\") }\n", "tests/it.rs"),
            ["examples/node.toml:1"]
        );
    }

    #[test]
    fn only_configuration_is_meant() {
        assert!(is_config("ci/metrics.lint.json") && is_config("examples/two/node.yaml"));
        assert!(
            !is_config("ci/crate-graph.txt") && !is_config("Cargo.toml") && !is_config("a/examples/x.toml")
        );
    }
}
