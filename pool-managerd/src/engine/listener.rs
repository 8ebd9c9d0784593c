//! Who listens on a port of this host, by the kernel's own tables: an engine's health is only believed when
//! the process that answers is ours. Reads `/proc`.

use std::fs;
use std::io;
use std::path::Path;

use crate::procfs::{self, Stat};

/// `127.0.0.1` as `/proc/net/tcp` writes it.
const LOOPBACK: &str = "0100007F";
/// The state `LISTEN` there.
const LISTEN: &str = "0A";

/// Who listens on a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listener {
    /// Nobody.
    Nobody,
    /// A process of the group, on loopback only.
    Ours,
    /// A process of the group, reachable from other hosts.
    OursExposed,
    /// A process outside the group.
    Foreign,
}

/// Whose the sockets on an engine's port must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortOwner {
    /// A process of this group.
    Group(u32),
    /// The container runtime's, which leads the port to the engine's container: these very sockets, seen when the
    /// runtime had just taken the port. None: the kernel leads there without anybody listening.
    Sockets(Vec<u64>),
}

/// Looks up who listens on IPv4 `port` and whether that is `owner`. Blocking.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn who_listens(port: u16, owner: &PortOwner) -> io::Result<Listener> {
    let listening = listening(port)?;
    let owned = match owner {
        PortOwner::Sockets(none) if none.is_empty() && listening.is_empty() => return Ok(Listener::Ours),
        PortOwner::Sockets(sockets) => sockets.clone(),
        PortOwner::Group(group) => sockets_of(*group),
    };
    if listening.is_empty() {
        return Ok(Listener::Nobody);
    }
    if listening.iter().any(|row| !owned.contains(&row.inode)) {
        return Ok(Listener::Foreign);
    }
    let loopback_only = listening.iter().all(|row| row.loopback);
    Ok(if loopback_only {
        Listener::Ours
    } else {
        Listener::OursExposed
    })
}

/// The sockets that listen on a port now. Blocking.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn sockets_on(port: u16) -> io::Result<Vec<u64>> {
    Ok(listening(port)?.into_iter().map(|row| row.inode).collect())
}

fn listening(port: u16) -> io::Result<Vec<Row>> {
    let table = fs::read_to_string("/proc/net/tcp")?;
    Ok(rows(&table, port).collect())
}

#[derive(Debug, PartialEq, Eq)]
struct Row {
    inode: u64,
    loopback: bool,
}

fn rows(table: &str, port: u16) -> impl Iterator<Item = Row> {
    let port = format!("{port:04X}");
    table.lines().filter_map(move |line| {
        let mut fields = line.split_ascii_whitespace();
        let (address, local_port) = fields.nth(1)?.split_once(':')?;
        let state = fields.nth(1)?;
        let inode = fields.nth(5)?.parse().ok()?;
        (local_port == port && state == LISTEN).then(|| Row {
            inode,
            loopback: address == LOOPBACK,
        })
    })
}

/// The socket inodes that the processes of a group hold. Processes may come and go while this reads.
fn sockets_of(group: u32) -> Vec<u64> {
    let members = procfs::pids().filter(|pid| Stat::of(*pid).is_some_and(|stat| stat.group == group));
    let folders = members.map(|pid| Path::new("/proc").join(pid.to_string()).join("fd"));
    folders.flat_map(|folder| sockets_in(&folder)).collect()
}

fn sockets_in(fds: &Path) -> Vec<u64> {
    let Ok(entries) = fs::read_dir(fds) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| socket_inode(&fs::read_link(entry.ok()?.path()).ok()?))
        .collect()
}

fn socket_inode(link: &Path) -> Option<u64> {
    let inode = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
    inode.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn our_group() -> PortOwner {
        PortOwner::Group(Stat::of(std::process::id()).unwrap().group)
    }

    /// REQ-POOL-CONTAINER: whoever takes the port later has another socket.
    #[test]
    fn only_the_sockets_that_were_seen_are_a_containers() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = PortOwner::Sockets(sockets_on(port).unwrap());
        assert_eq!(who_listens(port, &seen).unwrap(), Listener::Ours);
        drop(listener);
        assert_eq!(who_listens(port, &seen).unwrap(), Listener::Nobody);
        let _another = TcpListener::bind(("127.0.0.1", port)).unwrap();
        assert_eq!(who_listens(port, &seen).unwrap(), Listener::Foreign);
        let kernel = PortOwner::Sockets(Vec::new());
        assert_eq!(who_listens(port, &kernel).unwrap(), Listener::Foreign);
        assert_eq!(who_listens(1, &kernel).unwrap(), Listener::Ours);
    }

    #[test]
    fn a_listener_of_this_process_is_ours_and_of_no_other_group() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(who_listens(port, &our_group()).unwrap(), Listener::Ours);
        assert_eq!(
            who_listens(port, &PortOwner::Group(1)).unwrap(),
            Listener::Foreign
        );
        drop(listener);
        assert_eq!(who_listens(port, &our_group()).unwrap(), Listener::Nobody);
    }

    #[test]
    fn a_listener_beyond_loopback_is_told_apart() {
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(who_listens(port, &our_group()).unwrap(), Listener::OursExposed);
    }

    #[test]
    fn only_listening_rows_of_the_port_count() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000 0 4242 1 0\n\
            1: 0100007F:1F90 0100007F:9999 01 00000000:00000000 00:00000000 00000000  1000 0 4243 1 0\n\
            2: 00000000:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000 0 4244 1 0\n";
        let of = |port| rows(table, port).collect::<Vec<_>>();
        assert_eq!(
            of(0x1f90),
            [Row {
                inode: 4242,
                loopback: true
            }]
        );
        assert_eq!(
            of(0x1f91),
            [Row {
                inode: 4244,
                loopback: false
            }]
        );
    }
}
