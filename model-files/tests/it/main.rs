//! The readers against files of our own making: good ones, broken ones, and anybody's bytes.
#![cfg(test)]

mod builder;
mod gguf;
mod hostile;
mod model;
mod safetensors;
