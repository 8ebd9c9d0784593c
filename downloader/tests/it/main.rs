//! Downloads from scripted servers, and the guard against everything that has led somewhere before.
#![cfg(test)]

mod faults;
mod fixtures;
mod guard;
mod redirects;
mod whole;
