//! How a GPU box joins, as pool-managerd's configuration, as JSON, and in words.

use std::fmt::Write;
use std::path::PathBuf;

use api_types::NodeId;
use config_schema::{BaseUrl, GpuUuid, ListenAddr};
use serde::Serialize;
use toml::Value;

use super::text::{clean, clean_line};
use crate::failure::Failure;

/// The driver's name of a GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Gpu {
    pub(crate) uuid: String,
    pub(crate) name: String,
}

/// All that is known of a box that is about to join.
#[derive(Debug, Clone)]
pub(crate) struct Joining {
    pub(crate) orchestrator: BaseUrl,
    pub(crate) node_id: NodeId,
    pub(crate) listen: ListenAddr,
    pub(crate) advertise_url: Option<BaseUrl>,
    /// Where the token was read from a file.
    pub(crate) token_file: Option<PathBuf>,
    pub(crate) has_token: bool,
    /// Nobody listens there yet.
    pub(crate) port_is_free: bool,
    pub(crate) gpus: Vec<Gpu>,
    /// `llama-server` in PATH.
    pub(crate) engine: Option<PathBuf>,
    /// Where the configuration goes.
    pub(crate) out: Option<PathBuf>,
}

/// The answer as data.
#[derive(Debug, Serialize)]
pub(crate) struct Document<'a> {
    orchestrator: &'a str,
    node_id: &'a NodeId,
    address: String,
    gpus: &'a [Gpu],
    #[serde(skip_serializing_if = "Option::is_none")]
    engine: Option<&'a PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    written: Option<&'a PathBuf>,
    configuration: &'a str,
    notes: Vec<String>,
}

impl Joining {
    /// Where the orchestrator is to find this box.
    pub(crate) fn address(&self) -> BaseUrl {
        let own = || BaseUrl::http(self.listen.get());
        self.advertise_url.clone().unwrap_or_else(own)
    }

    /// Whether a pool-managerd with this configuration would start.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        let far = !self.orchestrator.is_loopback();
        let listens_far = !self.listen.get().ip().to_canonical().is_loopback();
        if !self.has_token && (far || listens_far) {
            return Err(Failure::Join(
                "beyond loopback pool-managerd needs the orchestrator's token: --auth-token-file FILE",
            ));
        }
        if far && self.listen.get().ip().is_unspecified() && self.advertise_url.is_none() {
            return Err(Failure::Join(
                "--listen names every address and so none: add --advertise-url, where the orchestrator reaches this box",
            ));
        }
        Ok(())
    }
}

/// The configuration file.
pub(crate) fn configuration(joining: &Joining) -> String {
    let mut text = format!(
        "# pool-managerd of {}, written by `llama-orch node join`. `pool-managerd config check` looks at it.\n\n[auth]\n",
        joining.node_id
    );
    match &joining.token_file {
        Some(file) => line(
            &mut text,
            "token_file",
            &file.display().to_string(),
            "the orchestrator's token, mode 600",
        ),
        None if joining.has_token => {
            text.push_str("# Start pool-managerd with AUTH_TOKEN set to the orchestrator's token.\n");
        }
        None => text.push_str("# The orchestrator takes no token.\n"),
    }
    text.push_str("\n[pool_managerd]\n");
    let how = if joining.orchestrator.is_loopback() {
        "on this host: it reaches the engines directly"
    } else {
        "it reaches the engines through pool-managerd's relay"
    };
    line(&mut text, "orchestrator_url", joining.orchestrator.as_str(), how);
    line(
        &mut text,
        "node_id",
        joining.node_id.as_str(),
        "unique among the orchestrator's nodes",
    );
    line(
        &mut text,
        "addr",
        &joining.listen.to_string(),
        "the orchestrator must get here",
    );
    if let Some(url) = &joining.advertise_url {
        line(&mut text, "advertise_url", url.as_str(), "where it gets here");
    }
    pools(&mut text, joining);
    text
}

fn pools(text: &mut String, joining: &Joining) {
    text.push_str("\n# A table for each engine configuration. The GPUs of this box:\n");
    if joining.gpus.is_empty() {
        text.push_str("#   none is shown by an NVIDIA driver\n");
    }
    for gpu in &joining.gpus {
        let _infallible = writeln!(text, "#   {}  {}", clean_line(&gpu.uuid), clean_line(&gpu.name));
    }
    let first = joining
        .gpus
        .iter()
        .find_map(|gpu| gpu.uuid.parse::<GpuUuid>().ok());
    let device = first.map_or_else(|| "GPU-…".to_owned(), |gpu| gpu.as_str().to_owned());
    let engine = joining.engine.as_ref().map(|path| path.display().to_string());
    let engine = quoted(engine.as_deref().unwrap_or("/usr/local/bin/llama-server"));
    let id = quoted(&format!("{}-chat", joining.node_id));
    let _infallible = write!(
        text,
        "# [[pool_managerd.pools]]\n# id = {id}   # unique among all nodes\n# engine = \"llamacpp\"\n\
         # model = \"file:/models/MODEL.gguf\"\n# devices = [\"{device}\"]\n# slots = 1   # requests at a time\n\
         # ctx = 4096   # tokens per slot\n# binary = {engine}   # built with CUDA\n"
    );
}

fn line(text: &mut String, key: &str, value: &str, why: &str) {
    let _infallible = writeln!(text, "{key} = {}   # {why}", quoted(value));
}

/// As TOML writes it.
fn quoted(value: &str) -> String {
    Value::String(value.to_owned()).to_string()
}

/// What goes to stdout: the configuration, or where it is.
pub(crate) fn shown(joining: &Joining, configuration: &str) -> String {
    match &joining.out {
        Some(path) => format!("{}\n", clean(&path.display().to_string())),
        None => configuration.to_owned(),
    }
}

pub(crate) fn document<'a>(joining: &'a Joining, configuration: &'a str) -> Document<'a> {
    Document {
        orchestrator: joining.orchestrator.as_str(),
        node_id: &joining.node_id,
        address: joining.address().to_string(),
        gpus: &joining.gpus,
        engine: joining.engine.as_ref(),
        written: joining.out.as_ref(),
        configuration,
        notes: notes(joining),
    }
}

/// What a person should know before starting pool-managerd.
pub(crate) fn notes(joining: &Joining) -> Vec<String> {
    let address = joining.address();
    let plain = joining.orchestrator.is_plain_beyond_loopback() || address.is_plain_beyond_loopback();
    let lost = !joining.orchestrator.is_loopback() && address.is_loopback();
    let mut notes = vec![format!(
        "{} answers and knows no other {}",
        joining.orchestrator, joining.node_id
    )];
    let mut when = |holds: bool, note: String| {
        if holds {
            notes.push(note);
        }
    };
    when(
        joining.gpus.is_empty(),
        "no GPU is shown by an NVIDIA driver: pool-managerd starts no engine without one".to_owned(),
    );
    when(
        joining.engine.is_none(),
        "llama-server is not in PATH: name it in the pool's binary".to_owned(),
    );
    when(
        !joining.port_is_free,
        format!(
            "{} is taken, or no address of this box: is pool-managerd running already?",
            joining.listen
        ),
    );
    when(
        lost,
        format!("{address} is loopback: an orchestrator on another host cannot get there"),
    );
    when(
        plain,
        "the token, prompts and answers travel unencrypted; put TLS between where that matters".to_owned(),
    );
    let how = joining.out.as_ref().map_or_else(
        || "keep this as a file, add the pools, then: pool-managerd --config FILE".to_owned(),
        |path| {
            format!(
                "add the pools, then: pool-managerd --config {}",
                clean(&path.display().to_string())
            )
        },
    );
    notes.push(how);
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use config_schema::{Environment, Overrides, load};
    use std::fs;

    fn joining() -> Joining {
        let gpu = |digit: &str, name: &str| Gpu {
            uuid: format!("GPU-{}-0000-0000-0000-000000000000", digit.repeat(8)),
            name: name.to_owned(),
        };
        Joining {
            orchestrator: "http://10.0.0.1:8080".parse().unwrap(),
            node_id: "box-2".parse().unwrap(),
            listen: "10.0.0.5:9200".parse().unwrap(),
            advertise_url: None,
            token_file: Some("/etc/llama-orch/token".into()),
            has_token: true,
            port_is_free: true,
            gpus: vec![
                gpu("a", "NVIDIA GeForce RTX 3090"),
                gpu("b", "NVIDIA GeForce RTX 3060"),
            ],
            engine: Some("/opt/llama.cpp/bin/llama-server".into()),
            out: None,
        }
    }

    #[test]
    fn a_configuration_to_start_from() {
        insta::assert_snapshot!("join_configuration", configuration(&joining()));
        insta::assert_snapshot!("join_notes", notes(&joining()).join("\n"));
    }

    #[test]
    fn what_is_missing_is_said() {
        let bare = Joining {
            orchestrator: "https://orchestrator.lan".parse().unwrap(),
            listen: "127.0.0.1:9200".parse().unwrap(),
            port_is_free: false,
            gpus: Vec::new(),
            engine: None,
            out: Some("/etc/llama-orch/config.toml".into()),
            ..joining()
        };
        insta::assert_snapshot!("join_notes_bare", notes(&bare).join("\n"));
    }

    /// REQ-NODE-JOIN: what is written is a configuration that pool-managerd takes, and says what was asked for.
    #[test]
    fn what_is_written_is_usable() {
        let folder = tempfile::tempdir().unwrap();
        let token = folder.path().join("to \"ken\" #1");
        fs::write(&token, "a-token-of-the-lan-0123\n").unwrap();
        fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let file = folder.path().join("config.toml");
        for advertise in [None, Some("https://box-2.lan/gpu"), Some("http://10.0.0.5:9200")] {
            let joining = Joining {
                advertise_url: advertise.map(|url| url.parse().unwrap()),
                token_file: Some(token.clone()),
                ..joining()
            };
            fs::write(&file, configuration(&joining)).unwrap();
            let overrides = Overrides::default().config_file(Some(file.clone()));
            let loaded = load(&Environment::of([("HOME", "/nonexistent")]), &overrides).unwrap();
            let node = loaded.config.pool_managerd;
            assert_eq!(node.orchestrator_url, joining.orchestrator);
            assert_eq!(
                (node.node_id, node.addr),
                (joining.node_id.clone(), joining.listen.clone())
            );
            assert_eq!(node.advertise_url, joining.advertise_url);
            assert_eq!(loaded.config.auth.token_file.as_ref(), Some(&token));
            assert_eq!(node.pools.len(), 0, "the pools are a person's to fill in");
        }
    }

    /// The table in the comment is one that loads, once its marks are gone.
    #[test]
    fn the_pool_in_the_comment_is_usable() {
        let joining = Joining {
            token_file: None,
            ..joining()
        };
        let text = configuration(&joining).replace("# [[", "[[");
        let (head, pool) = text.split_once("[[pool_managerd.pools]]").unwrap();
        let text = format!("{head}[[pool_managerd.pools]]{}", pool.replace("\n# ", "\n"));
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        let overrides = Overrides::default().config_file(Some(file.path().to_owned()));
        let loaded = load(&Environment::of([("HOME", "/nonexistent")]), &overrides).unwrap();
        let pool = &loaded.config.pool_managerd.pools[0];
        assert_eq!(
            (pool.id.as_str(), pool.devices[0].as_str()),
            ("box-2-chat", joining.gpus[0].uuid.as_str())
        );
        assert_eq!(pool.binary, joining.engine);
    }

    /// REQ-NODE-JOIN.
    #[test]
    fn what_would_not_start_is_refused() {
        let refused = |joining: Joining| joining.check().unwrap_err().to_string();
        let open = Joining {
            has_token: false,
            ..joining()
        };
        assert!(refused(open.clone()).contains("--auth-token-file"));
        let everywhere = Joining {
            listen: "0.0.0.0:9200".parse().unwrap(),
            ..joining()
        };
        assert!(refused(everywhere.clone()).contains("--advertise-url"));
        for fine in [
            joining(),
            Joining {
                advertise_url: Some("http://box-2.lan:9200".parse().unwrap()),
                ..everywhere
            },
            Joining {
                orchestrator: "http://127.0.0.1:8080".parse().unwrap(),
                listen: "127.0.0.1:9200".parse().unwrap(),
                ..open
            },
        ] {
            assert!(fine.check().is_ok(), "{fine:?}");
        }
    }
}
