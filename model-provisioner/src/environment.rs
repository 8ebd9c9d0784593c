//! The variables that the hub's own tools obey, read as they are meant. Pure: the caller looks variables and files up.

use std::path::{Path, PathBuf};

use secrecy::SecretString;
use url::Url;

use crate::settings::HubSettings;

/// What the environment says.
#[derive(Debug, Clone, Default)]
pub struct HubEnvironment {
    /// Address and token.
    pub hub: HubSettings,
    /// Nothing may be downloaded (`HF_HUB_OFFLINE`).
    pub offline: bool,
    /// What somebody has set and what that does here; for a log, once.
    pub notices: Vec<String>,
}

/// Reads the variables. `read_token` reads a file, `None` where there is none.
///
/// # Errors
/// A variable that is set to something that cannot be used.
pub fn hub_environment(
    variable: impl Fn(&str) -> Option<String>,
    read_token: impl Fn(&Path) -> Option<String>,
) -> Result<HubEnvironment, String> {
    let set = |name: &str| {
        variable(name)
            .map(|value| value.trim().to_owned())
            .filter(|value| !value.is_empty())
    };
    let endpoint = set("HF_ENDPOINT")
        .map(|text| Url::parse(&text).map_err(|_| format!("HF_ENDPOINT: {text:?} is no URL")))
        .transpose()?;
    let token = set("HF_TOKEN").or_else(|| {
        let path = token_path(&set)?;
        read_token(&path)
            .map(|token| token.trim().to_owned())
            .filter(|token| !token.is_empty())
    });
    let on = |name: &str| set(name).is_some_and(|value| is_true(&value));
    let mut notices = Vec::new();
    if on("HF_HUB_ENABLE_HF_TRANSFER") {
        notices.push(
            "HF_HUB_ENABLE_HF_TRANSFER has no effect: the hub's tools ignore it too; downloads here come in parts at once \
             without it"
                .to_owned(),
        );
    }
    if on("HF_XET_HIGH_PERFORMANCE") {
        notices.push(
            "HF_XET_HIGH_PERFORMANCE has no effect: files come over HTTP, in parts at once; see connections per file in \
             the configuration"
                .to_owned(),
        );
    }
    Ok(HubEnvironment {
        hub: HubSettings {
            endpoint,
            token: token.map(SecretString::from),
        },
        offline: on("HF_HUB_OFFLINE"),
        notices,
    })
}

fn token_path(set: &impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let below_home = || {
        let home = set("HF_HOME").map(PathBuf::from);
        home.or_else(|| set("HOME").map(|home| Path::new(&home).join(".cache/huggingface")))
    };
    set("HF_TOKEN_PATH")
        .map(PathBuf::from)
        .or_else(|| below_home().map(|home| home.join("token")))
}

fn is_true(value: &str) -> bool {
    matches!(value.to_ascii_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE")
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use secrecy::ExposeSecret as _;

    use super::*;

    fn of(variables: &[(&str, &str)], file: Option<(&str, &str)>) -> Result<HubEnvironment, String> {
        let variables: HashMap<_, _> = variables.iter().copied().collect();
        hub_environment(
            |name| variables.get(name).map(|value| (*value).to_owned()),
            |path| {
                file.filter(|(at, _)| Path::new(at) == path)
                    .map(|(_, text)| text.to_owned())
            },
        )
    }

    fn token(of: &HubEnvironment) -> Option<&str> {
        of.hub.token.as_ref().map(|token| token.expose_secret())
    }

    #[test]
    fn a_token_comes_from_the_variable_or_its_file() {
        let both = of(
            &[("HF_TOKEN", "hf_a"), ("HF_HOME", "/h")],
            Some(("/h/token", "hf_b\n")),
        )
        .unwrap();
        assert_eq!(token(&both), Some("hf_a"));
        let home = of(&[("HF_HOME", "/h")], Some(("/h/token", "hf_b\n"))).unwrap();
        assert_eq!(token(&home), Some("hf_b"));
        let path = of(
            &[("HF_TOKEN_PATH", "/t"), ("HF_HOME", "/h")],
            Some(("/t", "hf_c")),
        )
        .unwrap();
        assert_eq!(token(&path), Some("hf_c"));
        let user = of(&[("HOME", "/u")], Some(("/u/.cache/huggingface/token", "hf_d"))).unwrap();
        assert_eq!(token(&user), Some("hf_d"));
        assert_eq!(token(&of(&[("HF_TOKEN", " ")], None).unwrap()), None);
    }

    /// ORCH-3435: what used to make downloads faster does nothing any more, and that is said.
    #[test]
    fn what_has_no_effect_is_told() {
        let told = of(
            &[("HF_HUB_ENABLE_HF_TRANSFER", "1"), ("HF_HUB_OFFLINE", "true")],
            None,
        )
        .unwrap();
        assert!(told.offline && told.notices.len() == 1, "{:?}", told.notices);
        assert!(told.notices[0].contains("no effect"));
        let quiet = of(&[("HF_HUB_ENABLE_HF_TRANSFER", "0")], None).unwrap();
        assert_eq!(quiet.notices, Vec::<String>::new());
        assert!(
            of(&[("HF_ENDPOINT", "not a url")], None)
                .unwrap_err()
                .starts_with("HF_ENDPOINT: ")
        );
    }
}
