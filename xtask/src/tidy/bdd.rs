//! BDD steps: a `#[then]` step that asserts nothing proves nothing.
//!
//! The rule. A `#[then(…)]` function must, on a path that its own code always reaches, do one of:
//! - call an assertion macro (`assert*!`, `ensure!`) on something that is not a constant;
//! - fail explicitly (`bail!`, `panic!`, `Err(…)`), also on one side of an `if`, in a `match` arm or a `let … else`;
//! - call a *checker*: a function in the tree whose name says that it checks ([`CHECKER_PREFIXES`]) and that keeps
//!   this same rule itself. If several functions share the name, all of them must keep it.
//!
//! Not reached for sure, and therefore not counted: bodies of `for` and `while` (they may run zero times), of an `if`
//! whose other side checks nothing, of closures and of nested items, and a result thrown away with `let _ =`. What
//! `?` returns counts only when a checker returned it: fetching something is not yet checking it. The rule sees that
//! something is asserted, not that it is the right thing.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Block, Expr, Signature};

use super::Finding;
use super::rust_file::{RustFile, last_name};
use super::tree::Tree;

const CHECKER_PREFIXES: [&str; 8] = [
    "assert_", "check_", "ensure_", "expect_", "must_", "require_", "verify_", "wait_",
];
const FAILURES: [&str; 3] = ["bail", "panic", "unreachable"];

/// Checks every step of every file.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let functions: Vec<Function<'_>> = tree.rust.iter().flat_map(functions_of).collect();
    let checkers = checkers(&functions);
    let silent = functions
        .iter()
        .filter(|function| function.is_then && !function.checks(&checkers));
    silent.map(Function::finding).collect()
}

/// A function with a body, anywhere in a file.
struct Function<'a> {
    path: &'a str,
    line: usize,
    name: String,
    is_then: bool,
    body: &'a Block,
}

impl Function<'_> {
    fn checks(&self, checkers: &BTreeSet<String>) -> bool {
        let mut search = Search {
            checkers,
            found: false,
        };
        search.visit_block(self.body);
        search.found
    }

    fn finding(&self) -> Finding {
        let message = format!(
            "the step `{}` asserts nothing: assert, `ensure!`, or call a checker",
            self.name
        );
        Finding::new(self.path, self.line, message)
    }
}

/// The names that say "checker" and whose functions all keep the rule: first those that assert themselves, then those
/// that call one of these, until none is added.
fn checkers(functions: &[Function<'_>]) -> BTreeSet<String> {
    let mut by_name: BTreeMap<&str, Vec<&Function<'_>>> = BTreeMap::new();
    for function in functions
        .iter()
        .filter(|function| is_checker_name(&function.name))
    {
        by_name.entry(&function.name).or_default().push(function);
    }
    let mut known: BTreeSet<String> = BTreeSet::new();
    loop {
        let keeps_rule =
            |functions: &Vec<&Function<'_>>| functions.iter().all(|function| function.checks(&known));
        let next: BTreeSet<String> = by_name
            .iter()
            .filter(|(_, functions)| keeps_rule(functions))
            .map(|(name, _)| (*name).to_owned())
            .collect();
        if next == known {
            return known;
        }
        known = next;
    }
}

fn is_checker_name(name: &str) -> bool {
    CHECKER_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

fn functions_of(file: &RustFile) -> Vec<Function<'_>> {
    let mut collector = Collector {
        path: &file.path,
        functions: Vec::new(),
    };
    collector.visit_file(&file.syntax);
    collector.functions
}

struct Collector<'a> {
    path: &'a str,
    functions: Vec<Function<'a>>,
}

impl<'a> Collector<'a> {
    fn add(&mut self, attributes: &[Attribute], signature: &Signature, body: &'a Block) {
        self.functions.push(Function {
            path: self.path,
            line: signature.fn_token.span.start().line,
            name: signature.ident.to_string(),
            is_then: attributes
                .iter()
                .any(|attribute| last_name(attribute.path()) == "then"),
            body,
        });
    }
}

impl<'a> Visit<'a> for Collector<'a> {
    fn visit_item_fn(&mut self, function: &'a syn::ItemFn) {
        self.add(&function.attrs, &function.sig, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'a syn::ImplItemFn) {
        self.add(&function.attrs, &function.sig, &function.block);
        visit::visit_impl_item_fn(self, function);
    }
}

/// Looks for something that checks, on paths that are always reached.
struct Search<'a> {
    checkers: &'a BTreeSet<String>,
    found: bool,
}

impl Search<'_> {
    fn call_of(&mut self, name: &str) {
        self.found |= name == "Err" || self.checkers.contains(name);
    }

    fn both_sides_check(&self, branch: &syn::ExprIf) -> bool {
        let side = |visit: &dyn Fn(&mut Self)| {
            let mut side = Self {
                checkers: self.checkers,
                found: false,
            };
            visit(&mut side);
            side.found
        };
        side(&|search| search.visit_block(&branch.then_branch))
            && branch
                .else_branch
                .as_ref()
                .is_some_and(|(_, other)| side(&|search| search.visit_expr(other)))
    }
}

impl<'ast> Visit<'ast> for Search<'_> {
    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        let name = last_name(&call.path);
        let asserts = (name.starts_with("assert") || name == "ensure") && !is_constant(&call.tokens);
        self.found |= asserts || FAILURES.contains(&name.as_str());
    }

    fn visit_expr_call(&mut self, call: &'ast syn::ExprCall) {
        if let Expr::Path(function) = &*call.func {
            self.call_of(&last_name(&function.path));
        }
        visit::visit_expr_call(self, call);
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        self.call_of(&call.method.to_string());
        visit::visit_expr_method_call(self, call);
    }

    fn visit_expr_if(&mut self, branch: &'ast syn::ExprIf) {
        self.visit_expr(&branch.cond);
        self.found |= Failure::is_in(branch) || self.both_sides_check(branch);
    }

    fn visit_expr_for_loop(&mut self, repeat: &'ast syn::ExprForLoop) {
        self.visit_expr(&repeat.expr);
    }

    fn visit_expr_while(&mut self, repeat: &'ast syn::ExprWhile) {
        self.visit_expr(&repeat.cond);
    }

    fn visit_local(&mut self, local: &'ast syn::Local) {
        if !matches!(local.pat, syn::Pat::Wild(_)) {
            visit::visit_local(self, local);
        }
    }

    fn visit_expr_closure(&mut self, _: &'ast syn::ExprClosure) {}

    fn visit_item(&mut self, _: &'ast syn::Item) {}
}

/// Looks for an explicit failure: the condition in front of it is then what is asserted.
struct Failure {
    found: bool,
}

impl Failure {
    fn is_in(branch: &syn::ExprIf) -> bool {
        let mut failure = Self { found: false };
        visit::visit_expr_if(&mut failure, branch);
        failure.found
    }
}

impl<'ast> Visit<'ast> for Failure {
    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.found |= FAILURES.contains(&last_name(&call.path).as_str());
    }

    fn visit_expr_call(&mut self, call: &'ast syn::ExprCall) {
        if let Expr::Path(function) = &*call.func {
            self.found |= last_name(&function.path) == "Err";
        }
        visit::visit_expr_call(self, call);
    }

    fn visit_expr_closure(&mut self, _: &'ast syn::ExprClosure) {}

    fn visit_item(&mut self, _: &'ast syn::Item) {}
}

/// Whether the tokens name nothing but literals: such an assertion always holds, or never.
fn is_constant(tokens: &TokenStream) -> bool {
    tokens.clone().into_iter().all(|token| match token {
        TokenTree::Ident(ident) => ident == "true" || ident == "false",
        TokenTree::Group(group) => is_constant(&group.stream()),
        TokenTree::Punct(_) | TokenTree::Literal(_) => true,
    })
}

#[cfg(test)]
#[path = "bdd_tests.rs"]
mod tests;
