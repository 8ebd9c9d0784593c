//! The port and the paths of one start. Touches both.

use std::io;
use std::net::TcpListener;
use std::path::Path;

use rustix::fs::{Access, access};

use super::{Finding, Needs, Problem, refusal};
use crate::spec::LOOPBACK;

pub(super) fn check(needs: &Needs) -> Vec<Finding> {
    let port = needs
        .port
        .and_then(|port| taken(port).err().map(|why| (port, why)));
    let port = port.map(|(port, why)| Problem::PortTaken {
        port,
        why: why.to_string(),
    });
    let paths = needs.paths.iter().filter_map(|path| unreadable(path));
    port.into_iter().chain(paths).map(refusal).collect()
}

/// Takes the port and gives it back.
fn taken(port: u16) -> io::Result<()> {
    TcpListener::bind((LOOPBACK, port)).map(drop)
}

fn unreadable(path: &Path) -> Option<Problem> {
    let why = readable(path).err()?;
    Some(Problem::PathUnreadable {
        path: path.to_owned(),
        why: why.to_string(),
    })
}

/// A folder must be searchable too.
fn readable(path: &Path) -> io::Result<()> {
    let wanted = if path.metadata()?.is_dir() {
        Access::READ_OK | Access::EXEC_OK
    } else {
        Access::READ_OK
    };
    Ok(access(path, wanted)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::DeviceMask;

    /// REQ-CONTAINER-PREFLIGHT.
    #[test]
    fn a_taken_port_and_a_missing_path_are_found() {
        let listener = TcpListener::bind((LOOPBACK, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let dir = tempfile::tempdir().unwrap();
        let paths = [dir.path().to_owned(), dir.path().join("none")];
        let devices = DeviceMask::parse(["GPU-1"]).unwrap();
        let needs = Needs {
            devices,
            driver: None,
            port: Some(port),
            paths: paths.to_vec(),
            cdi_dirs: Vec::new(),
        };
        let findings: Vec<String> = check(&needs).iter().map(Finding::to_string).collect();
        assert_eq!(findings.len(), 2, "{findings:?}");
        assert!(findings[0].contains(&port.to_string()), "{findings:?}");
        assert!(findings[1].contains("none cannot be read"), "{findings:?}");
        drop(listener);
        let needs = Needs {
            paths: paths[..1].to_vec(),
            ..needs
        };
        assert!(check(&needs).is_empty());
    }
}
