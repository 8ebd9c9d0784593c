//! The provisioner against scripted hubs and web servers, a real object store and a real registry, and against being
//! killed at every step.
#![cfg(test)]

mod crash;
mod fixtures;
mod hub;
mod local;
mod objects;
mod once;
mod registry;
mod web;
