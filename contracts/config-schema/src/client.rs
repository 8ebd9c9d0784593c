//! What a client of the orchestrator needs: its URL and the token. Flags and environment only; the
//! daemons' file may be unreadable to the person at the terminal.

use secrecy::{ExposeSecret, SecretString};

use crate::auth::Auth;
use crate::environment::{Environment, Variable};
use crate::error::{ConfigErrors, Origin, Problem};
use crate::load::{Origins, refuse};
use crate::text::{BaseUrl, ListenAddr};
use crate::token;

const URL_VARIABLE: &str = "ORCHD_URL";
const ADDR_VARIABLE: &str = "ORCHD_ADDR";
const TOKEN_FILE_VARIABLE: &str = "AUTH_TOKEN_FILE";

/// How to reach the orchestrator.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// Its base URL.
    pub url: BaseUrl,
    /// The token, where there is one.
    pub token: Option<SecretString>,
}

impl ClientConfig {
    /// URL: the `--addr` flag (`host:port` or a URL) > `ORCHD_URL` > `ORCHD_ADDR` > the default
    /// address on this host. Token: the `--auth-token` flag > `AUTH_TOKEN` > `AUTH_TOKEN_FILE`.
    ///
    /// # Errors
    /// Every value that cannot be used, with its flag or variable.
    pub fn load(
        environment: &Environment,
        addr: Option<&str>,
        token: Option<SecretString>,
    ) -> Result<Self, ConfigErrors> {
        let url = url(environment, addr);
        let token = client_token(environment, token);
        match (url, token) {
            (Ok(url), Ok(token)) => Ok(Self { url, token }),
            (url, token) => Err(ConfigErrors {
                problems: url.err().into_iter().chain(token.err()).collect(),
            }),
        }
    }
}

fn url(environment: &Environment, addr: Option<&str>) -> Result<BaseUrl, Problem> {
    if let Some(text) = addr {
        return parse_url(text, Origin::Flag("--addr"));
    }
    if let Some(text) = text(environment, URL_VARIABLE)? {
        return parse_url(text, Origin::Env(URL_VARIABLE));
    }
    let Some(text) = text(environment, ADDR_VARIABLE)? else {
        return Ok(crate::PoolManagerd::default().orchestrator_url);
    };
    let addr: ListenAddr = text.parse().map_err(|error: crate::text::TextError| {
        Problem::new(Origin::Env(ADDR_VARIABLE), "", error.to_string())
    })?;
    Ok(BaseUrl::http(addr.reachable()))
}

fn parse_url(text: &str, origin: Origin) -> Result<BaseUrl, Problem> {
    let parsed = if text.contains("://") {
        text.parse()
    } else {
        format!("http://{text}").parse()
    };
    parsed.map_err(|error: crate::text::TextError| Problem::new(origin, "", error.to_string()))
}

fn text<'a>(environment: &'a Environment, name: &'static str) -> Result<Option<&'a str>, Problem> {
    match environment.variable(name) {
        Variable::Text(text) => Ok(Some(text)),
        other => refuse(name, "", other).map_or(Ok(None), Err),
    }
}

fn client_token(
    environment: &Environment,
    flag: Option<SecretString>,
) -> Result<Option<SecretString>, Problem> {
    if let Some(token) = flag {
        token::check(token.expose_secret())
            .map_err(|rule| Problem::new(Origin::Flag("--auth-token"), "", rule))?;
        return Ok(Some(token));
    }
    let auth = Auth {
        token_file: text(environment, TOKEN_FILE_VARIABLE)?.map(Into::into),
        ..Auth::default()
    };
    let origins = Origins::of_one("auth.token_file", Origin::Env(TOKEN_FILE_VARIABLE));
    token::resolve(&auth, &origins, environment).map(|found| found.map(|found| found.token))
}
