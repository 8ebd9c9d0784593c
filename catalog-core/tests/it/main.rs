//! The catalog from outside: what looking leaves alone, how entries live, what crashes and faults may not do.
#![cfg(test)]

mod confinement;
mod crash;
mod fixtures;
mod lifecycle;
mod lists;
mod looking;
mod removal;
mod schema;
