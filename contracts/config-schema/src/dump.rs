//! The effective configuration as TOML text, every value with its origin, secrets masked.

use std::fmt::Write;

use toml::{Table, Value};

use crate::Config;
use crate::load::Origins;

/// Stands for a secret.
pub(crate) const MASK: &str = "***";
/// The key the token's origin is kept under.
pub(crate) const TOKEN_KEY: &str = "auth.token";

pub(crate) fn render(config: &Config, origins: &Origins) -> String {
    let mut text = String::new();
    match Table::try_from(config) {
        Ok(table) => Printer {
            text: &mut text,
            origins,
        }
        .table(&table, "", ""),
        Err(error) => drop(write!(text, "# cannot be shown: {error}")),
    }
    let token = origins.of(TOKEN_KEY);
    if config.auth.token.is_some() {
        let _ = writeln!(text, "# auth.token = \"{MASK}\"  # {token}");
    }
    text
}

struct Printer<'a> {
    text: &'a mut String,
    origins: &'a Origins,
}

impl Printer<'_> {
    /// `header` is the table's name in TOML, `key` the same with array indexes, as origins have it.
    fn table(&mut self, table: &Table, header: &str, key: &str) {
        for (name, value) in table {
            if !is_nested(value) {
                let origin = self.origins.of(&crate::tree::join(key, name));
                let _ = writeln!(self.text, "{name} = {value}  # {origin}");
            }
        }
        for (name, value) in table {
            let header = crate::tree::join(header, name);
            self.nested(value, &header, &crate::tree::join(key, name));
        }
    }

    fn nested(&mut self, value: &Value, header: &str, key: &str) {
        match value {
            Value::Table(table) => {
                let _ = writeln!(self.text, "\n[{header}]");
                self.table(table, header, key);
            }
            Value::Array(items) if is_nested(value) => {
                for (index, item) in items.iter().enumerate() {
                    let _ = writeln!(self.text, "\n[[{header}]]");
                    let Value::Table(table) = item else { continue };
                    self.table(table, header, &format!("{key}[{index}]"));
                }
            }
            _ => {}
        }
    }
}

fn is_nested(value: &Value) -> bool {
    match value {
        Value::Table(_) => true,
        Value::Array(items) => items.iter().any(Value::is_table),
        _ => false,
    }
}
