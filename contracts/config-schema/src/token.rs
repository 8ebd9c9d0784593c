//! The token: from a file that only its owner can read, or from the environment. Never from the
//! configuration file, never from an argument, never printed.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use secrecy::{ExposeSecret, SecretString};

use crate::auth::Auth;
use crate::environment::{Environment, Variable};
use crate::error::{Origin, Problem};
use crate::load::{Origins, refuse};

/// Shorter tokens are accepted with a warning, characters. 16 random hex digits are 64 bits, out
/// of reach of guessing over a network.
pub const MIN_TOKEN_LEN: usize = 16;

/// Longest token, bytes; a header line must hold it.
const MAX_TOKEN_LEN: u64 = 4_096;

pub(crate) const TOKEN_VARIABLE: &str = "AUTH_TOKEN";
const FILE_KEY: &str = "auth.token_file";

pub(crate) struct Found {
    pub(crate) token: SecretString,
    pub(crate) origin: Origin,
    pub(crate) warning: Option<String>,
}

/// The token of the best source: a flag's file, then the environment (exactly one of the two
/// variables), then the configuration file's `token_file`.
pub(crate) fn resolve(
    auth: &Auth,
    origins: &Origins,
    environment: &Environment,
) -> Result<Option<Found>, Problem> {
    let origin = origins.of(FILE_KEY).clone();
    let file = auth.token_file.as_deref().map(|path| (path, origin));
    let variable = environment.variable(TOKEN_VARIABLE);
    match (file, variable) {
        (Some((path, origin @ Origin::Flag(_))), _) | (Some((path, origin)), Variable::Unset) => {
            from_file(path, origin).map(Some)
        }
        (Some((_, Origin::Env(other))), Variable::Text(_)) => Err(Problem::new(
            Origin::Env(TOKEN_VARIABLE),
            FILE_KEY,
            format!("{other} is set as well; exactly one of the two may be"),
        )),
        (_, Variable::Text(text)) => {
            let origin = Origin::Env(TOKEN_VARIABLE);
            checked(text, origin.clone())
                .map_err(|rule| Problem::new(origin, "", rule))
                .map(Some)
        }
        (None, Variable::Unset) => Ok(None),
        (_, unusable) => refuse(TOKEN_VARIABLE, "", unusable).map_or(Ok(None), Err),
    }
}

fn from_file(path: &Path, origin: Origin) -> Result<Found, Problem> {
    let problem =
        |rule: String| Problem::new(origin.clone(), FILE_KEY, format!("{}: {rule}", path.display()));
    let text = read_private(path).map_err(problem)?;
    checked(
        text.expose_secret().trim_end_matches(['\n', '\r']),
        origin.clone(),
    )
    .map_err(problem)
}

fn read_private(path: &Path) -> Result<SecretString, String> {
    let cannot = |error: std::io::Error| format!("cannot be read: {error}");
    let file = File::open(path).map_err(cannot)?;
    let mode = file.metadata().map_err(cannot)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(format!(
            "has mode {mode:03o}, others must not reach it: chmod 600"
        ));
    }
    let mut text = String::new();
    file.take(MAX_TOKEN_LEN + 2)
        .read_to_string(&mut text)
        .map_err(cannot)?;
    Ok(text.into())
}

fn checked(text: &str, origin: Origin) -> Result<Found, String> {
    check(text)?;
    let short = text.len() < MIN_TOKEN_LEN;
    let warning = short.then(|| {
        let len = text.len();
        format!("the token from {origin} has {len} characters; at least {MIN_TOKEN_LEN} are advised")
    });
    Ok(Found {
        token: text.into(),
        origin,
        warning,
    })
}

/// Whether a text can travel in a header and be compared without doubt.
pub(crate) fn check(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("is empty".to_owned());
    }
    if text.len() as u64 > MAX_TOKEN_LEN {
        return Err(format!("is longer than {MAX_TOKEN_LEN} bytes"));
    }
    if !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("must be visible ASCII characters without white space".to_owned());
    }
    Ok(())
}
