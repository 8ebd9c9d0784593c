//! What each command does: ask the client, or look at this machine, hand the answer to `render`, and the text to the
//! console.

mod artifact;
mod doctor;
mod follow;
mod gpus;
mod here;
mod list;
mod models;
mod node;
mod plan;
mod pool;
mod run;
mod session;
mod task;

use std::path::PathBuf;

use config_schema::{BaseUrl, ClientConfig, ConfigErrors, Environment};
use llama_orch_client::OrchestratorClient;
use serde::Serialize;

use crate::args::{Command, Global, LocalArgs};
use crate::console::Console;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::table::Look;

use here::Here;

/// What every command works with.
pub(crate) struct Session<'c> {
    pub(crate) client: OrchestratorClient,
    pub(crate) console: &'c Console,
    /// Where the client asks.
    pub(crate) orchestrator: BaseUrl,
    pub(crate) has_token: bool,
    /// The file that the token is from, where it is from one.
    pub(crate) token_file: Option<PathBuf>,
    pub(crate) environment: &'c Environment,
}

impl<'c> Session<'c> {
    pub(crate) fn new(
        global: &Global,
        environment: &'c Environment,
        console: &'c Console,
    ) -> Result<Self, Failure> {
        let ClientConfig { url, token } = configuration(global, environment)?;
        let has_token = token.is_some();
        let config = llama_orch_client::ClientConfig::new(url.as_str(), token);
        Ok(Self {
            client: OrchestratorClient::new(config)?,
            console,
            orchestrator: url,
            has_token,
            token_file: token_file(global, environment),
            environment,
        })
    }

    /// An answer as data: its JSON document, or the text that is made of it.
    pub(crate) async fn show<T: Serialize>(
        &self,
        answer: &T,
        text: impl FnOnce(Look) -> String,
    ) -> Result<(), Failure> {
        self.console.show(answer, text).await
    }
}

/// Flag > environment > default. A token file given as a flag stands in for the variables about the token.
fn configuration(global: &Global, environment: &Environment) -> Result<ClientConfig, ConfigErrors> {
    let addr = global.addr.as_deref();
    let Some(file) = &global.auth_token_file else {
        return ClientConfig::load(environment, addr, global.auth_token.clone());
    };
    let addresses = ["ORCHD_URL", "ORCHD_ADDR"].map(|name| (name, environment.get(name)));
    let kept = addresses
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?.into())));
    let environment = Environment::of(kept.chain([("AUTH_TOKEN_FILE", file.clone().into_os_string())]));
    ClientConfig::load(&environment, addr, None)
}

/// Where the token is from, by the rules of [`configuration`].
fn token_file(global: &Global, environment: &Environment) -> Option<PathBuf> {
    let given = global.auth_token_file.clone();
    let elsewhere = global.auth_token.is_some() || environment.get("AUTH_TOKEN").is_some();
    let variable = || environment.get("AUTH_TOKEN_FILE").map(PathBuf::from);
    given.or_else(|| variable().filter(|_| !elsewhere))
}

pub(crate) async fn perform(
    global: &Global,
    environment: &Environment,
    console: &Console,
    command: &Command,
) -> Result<Exit, Failure> {
    let session = || Session::new(global, environment, console);
    let here = |local: &LocalArgs| Here::new(local, environment, console);
    match command {
        Command::Run(task) => run::run(&session()?, task).await,
        Command::Embed(args) => run::embed(&session()?, args).await,
        Command::Rerank(args) => run::rerank(&session()?, args).await,
        Command::Task(command) => task::perform(&session()?, command).await,
        Command::Session(command) => session::perform(&session()?, command).await,
        Command::Artifact(command) => artifact::perform(&session()?, command).await,
        Command::Pools => list::pools(&session()?).await,
        Command::Pool(command) => pool::perform(&session()?, command).await,
        Command::Nodes => list::nodes(&session()?).await,
        Command::Node(command) => node::perform(&session()?, command).await,
        Command::Capabilities => list::capabilities(&session()?).await,
        Command::Models(args) => models::perform(&here(&args.local)?, &args.command).await,
        Command::Doctor(args) => doctor::perform(console, environment, global, args).await,
        Command::Plan(args) => plan::perform(&here(&args.local)?, global, args).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Cli;
    use clap::Parser;
    use secrecy::ExposeSecret;
    use std::os::unix::fs::PermissionsExt;

    fn configured(line: &[&str], variables: &[(&str, &str)]) -> Result<(String, Option<String>), String> {
        let cli =
            Cli::try_parse_from(["llama-orch", "pools"].iter().chain(line)).map_err(|e| e.to_string())?;
        let environment = Environment::of(variables.iter().map(|&(name, value)| (name, value)));
        let config = configuration(&cli.global, &environment).map_err(|e| e.to_string())?;
        let token = config.token.map(|token| token.expose_secret().to_owned());
        Ok((config.url.as_str().to_owned(), token))
    }

    #[test]
    fn the_address_may_lack_its_scheme() {
        let (url, token) = configured(&["--addr", "box:8080"], &[]).unwrap();
        assert_eq!((url.as_str(), token), ("http://box:8080", None));
        assert_eq!(configured(&[], &[]).unwrap().0, "http://127.0.0.1:8080");
        let bound = configured(&[], &[("ORCHD_ADDR", "0.0.0.0:7000")]).unwrap();
        assert_eq!(bound.0, "http://127.0.0.1:7000");
    }

    #[test]
    fn a_flag_beats_the_environment() {
        let variables = [
            ("ORCHD_URL", "http://other:1"),
            ("AUTH_TOKEN", "from-the-environment"),
        ];
        let line = [
            "--addr",
            "http://box:8080",
            "--auth-token",
            "from-the-flag-itself",
        ];
        let (url, token) = configured(&line, &variables).unwrap();
        assert_eq!(url, "http://box:8080");
        assert_eq!(token.as_deref(), Some("from-the-flag-itself"));
        let (url, token) = configured(&[], &variables).unwrap();
        assert_eq!(url, "http://other:1");
        assert_eq!(token.as_deref(), Some("from-the-environment"));
    }

    #[test]
    fn a_token_file_stands_in_for_the_variables() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "from-a-private-file\n").unwrap();
        let line = ["--auth-token-file", file.path().to_str().unwrap()];
        let variables = [
            ("ORCHD_URL", "http://other:1"),
            ("AUTH_TOKEN", "from-the-environment"),
        ];
        let (url, token) = configured(&line, &variables).unwrap();
        assert_eq!(url, "http://other:1");
        assert_eq!(token.as_deref(), Some("from-a-private-file"));
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
        let error = configured(&line, &variables).unwrap_err();
        assert!(error.contains("chmod 600"), "{error}");
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let error = configured(&["--addr", "http://user:hunter2@box"], &[]).unwrap_err();
        assert!(error.contains("--addr") && !error.contains("hunter2"), "{error}");
        let both = ["--auth-token", "a", "--auth-token-file", "b"];
        assert!(
            configured(&both, &[])
                .unwrap_err()
                .contains("cannot be used with")
        );
    }
}
