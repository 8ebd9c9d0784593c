//! Whether the daemons' ports are theirs: taken by the daemon, or free for it.

use std::io;
use std::net::{SocketAddr, TcpListener};

use super::Finding;

/// Who listens.
pub(crate) enum Listener {
    /// The daemon.
    Daemon,
    /// Something that speaks no HTTP of ours, or nothing.
    Other,
}

/// One daemon's port. `listener` is who has answered there.
pub(crate) fn check(daemon: &'static str, addr: SocketAddr, listener: &Listener) -> Finding {
    if matches!(listener, Listener::Daemon) {
        return Finding::ok("port", format!("{addr}: {daemon} answers"));
    }
    match TcpListener::bind(addr) {
        Ok(_) => Finding::ok("port", format!("{addr} is free for {daemon}")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let what = format!("{addr}, where {daemon} is to listen, is another program's");
            let who = format!("ss -ltnp 'sport = :{}'    # tells whose it is", addr.port());
            Finding::problem("port", what).fix([who])
        }
        Err(error) => {
            let what = format!("{daemon} cannot listen at {addr}: {error}");
            Finding::problem("port", what).fix(["ip -brief address    # the addresses of this machine"])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    #[test]
    fn a_port_is_free_ours_or_somebody_else_s() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = taken.local_addr().unwrap();
        let level = |listener| check("orchestratord", addr, &listener).level;
        assert_eq!(level(Listener::Daemon), Level::Ok);
        assert_eq!(level(Listener::Other), Level::Problem);
        drop(taken);
        assert_eq!(level(Listener::Other), Level::Ok);
        let elsewhere = check(
            "pool-managerd",
            "192.0.2.1:9200".parse().unwrap(),
            &Listener::Other,
        );
        assert_eq!(elsewhere.level, Level::Problem);
    }
}
