//! nginx as a relay that copies bytes: no buffering, one process, and like the orchestrator one connection to the engine
//! per stream, because llama.cpp's server closes it after each, whatever it promises.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use super::{Ground, Relay};
use crate::child::{Child, free_address};
use crate::cpus::Side;
use crate::load::Target;

/// Where it is; an ordinary user's search path lacks the second place.
const PLACES: [&str; 2] = ["nginx", "/usr/sbin/nginx"];

/// The version that it tells.
///
/// # Errors
/// There is no nginx.
pub(crate) fn version() -> Result<String> {
    find().map(|(_, version)| version)
}

/// Starts nginx in front of `engine`.
///
/// # Errors
/// It does not come up.
pub(super) async fn start(ground: &Ground, engine: &Target) -> Result<Relay> {
    let address = free_address()?;
    let config = ground.folder.join("nginx.conf");
    fs::write(&config, configuration(&ground.folder, address, engine.address))
        .context("writing nginx.conf")?;
    let mut command = Command::new(find()?.0);
    command
        .arg("-p")
        .arg(&ground.folder)
        .arg("-c")
        .arg(&config)
        .args(["-e", "stderr"]);
    let child = Child::start("nginx", command, (&ground.cpus, Side::Relay), &ground.folder)?;
    child.answers(address).await?;
    Ok(Relay {
        child,
        target: Target {
            address,
            ..engine.clone()
        },
    })
}

/// The first that runs, and its version, which it writes to standard error.
fn find() -> Result<(&'static str, String)> {
    let ask = |place: &&'static str| {
        let output = Command::new(place).arg("-v").stdin(Stdio::null()).output().ok()?;
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Some((
            *place,
            said.strip_prefix("nginx version: ").unwrap_or(&said).to_owned(),
        ))
    };
    PLACES
        .iter()
        .find_map(ask)
        .context("nginx cannot be run: install the package `nginx`")
}

/// One process, so that its books hold nothing but the relaying.
fn configuration(folder: &Path, listen: SocketAddr, engine: SocketAddr) -> String {
    let folder = folder.display();
    format!(
        "daemon off;
master_process off;
worker_processes 1;
error_log stderr warn;
pid {folder}/nginx.pid;
events {{ worker_connections 16384; }}
http {{
    access_log off;
    client_body_temp_path {folder}/nginx-body;
    proxy_temp_path {folder}/nginx-proxy;
    fastcgi_temp_path {folder}/nginx-fastcgi;
    uwsgi_temp_path {folder}/nginx-uwsgi;
    scgi_temp_path {folder}/nginx-scgi;
    keepalive_requests 1000000;
    server {{
        listen {listen};
        location / {{
            proxy_pass http://{engine};
            proxy_http_version 1.1;
            proxy_set_header Connection close;
            proxy_buffering off;
            proxy_read_timeout 1h;
        }}
    }}
}}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_what_the_comparison_needs() {
        let (listen, engine) = ("127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap());
        let text = configuration(Path::new("/f"), listen, engine);
        for line in [
            "listen 127.0.0.1:1;",
            "proxy_pass http://127.0.0.1:2;",
            "proxy_set_header Connection close;",
            "proxy_buffering off;",
            "access_log off;",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        assert_eq!(text.matches('{').count(), text.matches('}').count());
    }
}
