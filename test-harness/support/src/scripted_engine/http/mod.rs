//! The engine's own HTTP/1.1: small, because it must be able to do what no library lets one do (cut
//! a frame, reset a connection, write byte by byte) and to answer with the real server's bytes.

mod connection;
mod request;
mod response;

pub(super) use connection::{Connection, Fragments, Gone, Wake};
pub(super) use request::Request;
pub(super) use response::{Body, KeepAlive, Response, chunk, last_chunk, stream_head};
