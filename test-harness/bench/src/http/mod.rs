//! A lean HTTP/1.1 client for one connection: no pool, no redirects, nothing that costs the measuring core more than
//! the bytes do. Touches its socket and the clock.

mod chunked;
mod connection;
mod head;

pub(crate) use connection::Connection;
pub(crate) use head::Head;
