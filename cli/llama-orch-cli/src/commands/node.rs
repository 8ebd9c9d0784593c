//! `node join`: asks the orchestrator, looks at the box, writes pool-managerd's configuration. Reads the kernel's view of
//! the GPUs and looks for the engine in PATH; opens no GPU, starts nothing.

mod here;

use std::fs::Permissions;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use config_schema::{BaseUrl, ListenAddr};
use tempfile::Builder;
use tokio::net::{TcpListener, UdpSocket};

use super::Session;
use crate::args::{NodeCommand, NodeJoinArgs};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::join::{self, Joining};

/// Where pool-managerd listens unless told otherwise.
const PORT: u16 = 9200;

/// Everybody may read the file: it holds no secret.
const MODE: u32 = 0o644;

pub(super) async fn perform(session: &Session<'_>, command: &NodeCommand) -> Result<Exit, Failure> {
    match command {
        NodeCommand::Join(args) => join(session, args).await,
    }
}

async fn join(session: &Session<'_>, args: &NodeJoinArgs) -> Result<Exit, Failure> {
    let node_id = args
        .node_id
        .clone()
        .unwrap_or_else(|| session.environment.node_id());
    let listen = match &args.listen {
        Some(listen) => listen.clone(),
        None => listen_towards(&session.orchestrator).await?,
    };
    let joining = Joining {
        orchestrator: session.orchestrator.clone(),
        node_id,
        advertise_url: args.advertise_url.clone(),
        token_file: token_file(session)?,
        has_token: session.has_token,
        port_is_free: is_free(&listen).await,
        listen,
        gpus: here::gpus(Path::new(here::GPUS)),
        engine: session.environment.get("PATH").and_then(here::engine),
        out: args.out.clone(),
    };
    ask(session, &joining).await?;
    joining.check()?;
    let text = join::configuration(&joining);
    if let Some(out) = &joining.out {
        write(out, &text, args.force)?;
    }
    session
        .show(&join::document(&joining, &text), |_| join::shown(&joining, &text))
        .await?;
    for note in join::notes(&joining) {
        session.console.note(&note);
    }
    Ok(Exit::Success)
}

/// Whether the orchestrator answers, takes the token, and has no other node of that name.
async fn ask(session: &Session<'_>, joining: &Joining) -> Result<(), Failure> {
    let list = session.client.nodes().await?;
    let own = joining.address();
    let other = |node: &&api_types::link::NodeStatus| {
        node.live && node.node_id == joining.node_id && node.address.trim_end_matches('/') != own.as_str()
    };
    match list.nodes.iter().find(other) {
        Some(node) => Err(Failure::NodeTaken {
            node: joining.node_id.clone(),
            address: node.address.clone(),
        }),
        None => Ok(()),
    }
}

/// The address from which this box speaks to the orchestrator: the one at which the orchestrator finds it, where nothing
/// between the two rewrites addresses. Connecting a datagram socket chooses it and sends nothing.
async fn listen_towards(orchestrator: &BaseUrl) -> Result<ListenAddr, Failure> {
    if orchestrator.is_loopback() {
        return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)).into());
    }
    let found = own_address(orchestrator).await;
    let ip =
        found.map_err(|source| Failure::io("finding this box's address towards the orchestrator", source))?;
    Ok(SocketAddr::from((ip, PORT)).into())
}

async fn own_address(orchestrator: &BaseUrl) -> io::Result<IpAddr> {
    let (host, port) = orchestrator.host_and_port();
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"));
    for peer in tokio::net::lookup_host((host.as_str(), port)).await? {
        let any: SocketAddr = match peer {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any).await?;
        match socket.connect(peer).await {
            Ok(()) => return Ok(socket.local_addr()?.ip()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn is_free(listen: &ListenAddr) -> bool {
    TcpListener::bind(listen.get()).await.is_ok()
}

/// By its full name: the daemon is not started where this command was.
fn token_file(session: &Session<'_>) -> Result<Option<PathBuf>, Failure> {
    let absolute = |path: &PathBuf| std::path::absolute(path);
    let file = session.token_file.as_ref().map(absolute).transpose();
    file.map_err(|source| Failure::io("naming the token's file", source))
}

/// All of it or nothing.
fn write(path: &Path, text: &str, force: bool) -> Result<(), Failure> {
    let failed = |error: io::Error| {
        let named = io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        Failure::io("writing the configuration", named)
    };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut file = Builder::new()
        .permissions(Permissions::from_mode(MODE))
        .tempfile_in(folder.unwrap_or_else(|| Path::new(".")))
        .map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    let placed = if force {
        file.persist(path)
    } else {
        file.persist_noclobber(path)
    };
    match placed {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
            let exists = io::Error::new(io::ErrorKind::AlreadyExists, "it exists; --force replaces it");
            Err(failed(exists))
        }
        Err(error) => Err(failed(error.error)),
    }
}
