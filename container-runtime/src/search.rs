//! The environment that a runtime's client gets, and where programs are looked for. Nothing is inherited: the caller
//! gives the variables, and only those that a client needs pass.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

/// Variables that decide where a client finds its configuration, storage, daemon, registries and proxies. Nothing else
/// passes, so neither our own token nor an engine's key is in a client's environment.
const PASSED: [&str; 29] = [
    "CONTAINERS_CONF",
    "CONTAINERS_REGISTRIES_CONF",
    "CONTAINERS_STORAGE_CONF",
    "DBUS_SESSION_BUS_ADDRESS",
    "DOCKER_CERT_PATH",
    "DOCKER_CONFIG",
    "DOCKER_CONTEXT",
    "DOCKER_HOST",
    "DOCKER_TLS_VERIFY",
    "HOME",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "LANG",
    "LOGNAME",
    "NO_PROXY",
    "PATH",
    "REGISTRY_AUTH_FILE",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "STORAGE_DRIVER",
    "STORAGE_OPTS",
    "TMPDIR",
    "USER",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

/// Where distributions keep what only daemons call; not on every user's search path.
const SYSTEM_FOLDERS: [&str; 4] = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/libexec/podman"];

/// The variables of a client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment(Vec<(OsString, OsString)>);

impl Environment {
    /// Keeps what a client needs of the given variables.
    #[must_use]
    pub fn of<N: Into<OsString>, V: Into<OsString>>(variables: impl IntoIterator<Item = (N, V)>) -> Self {
        let passed = |name: &OsStr| name.to_str().is_some_and(|name| PASSED.contains(&name));
        let all = variables
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()));
        Self(all.filter(|(name, _)| passed(name)).collect())
    }

    /// Keeps what a client needs of what `of` knows.
    #[must_use]
    pub fn looked_up<'a>(of: impl Fn(&'static str) -> Option<&'a str>) -> Self {
        let each = PASSED.into_iter();
        Self(
            each.filter_map(|name| Some((name.into(), of(name)?.into())))
                .collect(),
        )
    }

    /// The variables.
    pub fn variables(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// Where programs are.
    #[must_use]
    pub fn search_path(&self) -> SearchPath {
        let path = self.0.iter().find(|(name, _)| name == "PATH");
        let folders = path.map(|(_, value)| std::env::split_paths(value).collect());
        SearchPath(folders.unwrap_or_default())
    }
}

/// Folders in the order in which programs are looked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SearchPath(Vec<PathBuf>);

impl SearchPath {
    pub(crate) fn find(&self, program: &str) -> Option<PathBuf> {
        first(self.0.iter().map(PathBuf::as_path), program)
    }

    pub(crate) fn find_also_in_sbin(&self, program: &str) -> Option<PathBuf> {
        self.find(program)
            .or_else(|| first(SYSTEM_FOLDERS.iter().map(Path::new), program))
    }
}

/// Relative folders are left out: what they name depends on who runs where.
fn first<'a>(folders: impl Iterator<Item = &'a Path>, program: &str) -> Option<PathBuf> {
    let absolute = folders.filter(|folder| folder.is_absolute());
    absolute
        .map(|folder| folder.join(program))
        .find(|path| path.is_file() && access(path, Access::EXEC_OK).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// REQ-CONTAINER-SECRETS.
    #[test]
    fn only_what_a_client_needs_passes() {
        let environment = Environment::of([
            ("PATH", "/usr/bin:relative:/bin"),
            ("AUTH_TOKEN", "hunter2"),
            ("NOTIFY_SOCKET", "/run/x"),
            ("DOCKER_HOST", "unix:///x"),
        ]);
        let names: Vec<&OsStr> = environment.variables().map(|(name, _)| name).collect();
        assert_eq!(names, ["PATH", "DOCKER_HOST"]);
        assert!(PASSED.is_sorted(), "so that a second one is seen");
    }

    #[test]
    fn the_first_that_can_be_executed_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let folder = |name: &str, mode| {
            let folder = dir.path().join(name);
            std::fs::create_dir(&folder).unwrap();
            let file = folder.join("tool");
            std::fs::write(&file, "").unwrap();
            std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
            folder
        };
        let path = SearchPath(vec![
            "relative".into(),
            dir.path().join("none"),
            folder("data", 0o644),
            folder("program", 0o755),
        ]);
        assert_eq!(path.find("tool"), Some(dir.path().join("program/tool")));
        assert_eq!(path.find("other"), None);
    }
}
