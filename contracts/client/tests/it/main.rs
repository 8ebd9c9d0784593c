//! The client against a server that the tests script byte by byte, over real sockets.

mod calls;
mod errors;
mod resume;
mod server;
mod stream;
