//! Cross-crate behaviour scenarios.
