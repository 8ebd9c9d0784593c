//! From the configuration and the environment to [`Settings`]. Reads the files that hold tokens and logins, no others.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use config_schema::{BaseUrl, Catalog, Environment};
use downloader::{Downloads, Effort, Policy, PolicyError};
use secrecy::SecretString;
use serde_json::Value;
use url::Url;

use crate::environment::hub_environment;
use crate::error::ProvisionError;
use crate::settings::{RegistryLogin, S3Settings, Settings};

/// Settings, and what somebody has set that has no effect here.
#[derive(Debug, Clone)]
pub struct Configured {
    /// What a provisioner is made with.
    pub settings: Settings,
    /// For a person or a log, once.
    pub notices: Vec<String>,
}

/// Reads `[catalog]`, and what the tools of the hub, of object stores and of registries read: HF_TOKEN and its relatives,
/// AWS_ACCESS_KEY_ID and its relatives, and the logins of Docker's and Podman's configuration. `model_roots` are the folders
/// that `file:` and relative references may lead into. Blocking.
///
/// # Errors
/// [`ProvisionError::Settings`]: a variable or key that cannot be used.
pub fn configured(
    catalog: &Catalog,
    model_roots: Vec<PathBuf>,
    environment: &Environment,
) -> Result<Configured, ProvisionError> {
    let variable = |name: &str| environment.get(name).map(str::to_owned);
    let read = |path: &Path| std::fs::read_to_string(path).ok();
    let mut of = hub_environment(variable, read).map_err(|rule| ProvisionError::Settings {
        field: "HF_ENDPOINT",
        rule,
    })?;
    if of.hub.endpoint.is_none() {
        of.hub.endpoint = endpoint(
            "catalog.hub_endpoint",
            catalog.hub_endpoint.as_ref().map(BaseUrl::as_str),
        )?;
    }
    let settings = Settings {
        model_roots,
        policy: policy(catalog, of.offline)?,
        effort: Effort {
            connections: catalog.connections.get(),
            ..Effort::default()
        },
        hub: of.hub,
        s3: object_storage(catalog, environment)?,
        registries: logins(environment, read),
        spare_percent: catalog.spare_percent.get() as u64,
        ..Settings::new(catalog.root.clone())
    };
    Ok(Configured {
        settings,
        notices: of.notices,
    })
}

fn policy(catalog: &Catalog, offline: bool) -> Result<Policy, ProvisionError> {
    let refused = |error: PolicyError| ProvisionError::Settings {
        field: "catalog",
        rule: error.to_string(),
    };
    let hosts = catalog.allowed_hosts.iter().map(|host| host.to_string().parse());
    let origins = catalog
        .private_origins
        .iter()
        .map(|origin| origin.as_str().parse());
    Ok(Policy {
        downloads: match catalog.downloads {
            _ if offline => Downloads::Off,
            config_schema::Downloads::Off => Downloads::Off,
            config_schema::Downloads::Allowlist => Downloads::Allowlist,
            config_schema::Downloads::On => Downloads::On,
        },
        allowed_hosts: hosts.collect::<Result<_, _>>().map_err(refused)?,
        private_origins: origins.collect::<Result<_, _>>().map_err(refused)?,
    })
}

fn object_storage(catalog: &Catalog, environment: &Environment) -> Result<S3Settings, ProvisionError> {
    let first = |names: &[&'static str]| names.iter().find_map(|name| environment.get(name));
    let configured = catalog.s3_endpoint.as_ref().map(BaseUrl::as_str);
    let named = first(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]);
    Ok(S3Settings {
        endpoint: match named {
            Some(text) => endpoint("AWS_ENDPOINT_URL", Some(text))?,
            None => endpoint("catalog.s3_endpoint", configured)?,
        },
        region: first(&["AWS_REGION", "AWS_DEFAULT_REGION"])
            .map(str::to_owned)
            .or_else(|| catalog.s3_region.clone()),
        access_key: first(&["AWS_ACCESS_KEY_ID"]).map(str::to_owned),
        secret_key: first(&["AWS_SECRET_ACCESS_KEY"]).map(SecretString::from),
        session_token: first(&["AWS_SESSION_TOKEN"]).map(SecretString::from),
    })
}

fn endpoint(field: &'static str, text: Option<&str>) -> Result<Option<Url>, ProvisionError> {
    let parse = |text: &str| {
        Url::parse(text).map_err(|_| ProvisionError::Settings {
            field,
            rule: format!("{text:?} is no URL"),
        })
    };
    text.map(parse).transpose()
}

/// Who is asking, as the clients of containers have it: the first file that is there counts.
fn logins(environment: &Environment, read: impl Fn(&Path) -> Option<String>) -> Vec<RegistryLogin> {
    let below = |name: &str, rest: &str| environment.get(name).map(|folder| Path::new(folder).join(rest));
    let places = [
        environment.get("REGISTRY_AUTH_FILE").map(PathBuf::from),
        below("XDG_RUNTIME_DIR", "containers/auth.json"),
        below("DOCKER_CONFIG", "config.json"),
        below("HOME", ".docker/config.json"),
    ];
    let found = places.into_iter().flatten().find_map(|path| read(&path));
    found.map(|text| logins_of(&text)).unwrap_or_default()
}

/// `{"auths": {"host": {"auth": "base64 of user:password"}}}`. What is kept by helper programs is not here.
fn logins_of(text: &str) -> Vec<RegistryLogin> {
    let document: Value = serde_json::from_str(text).unwrap_or_default();
    let login = |(registry, entry): (&String, &Value)| {
        let decoded = STANDARD.decode(entry["auth"].as_str()?).ok()?;
        let (user, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
        let registry = registry.strip_prefix("https://").unwrap_or(registry);
        Some(RegistryLogin {
            registry: registry.split('/').next()?.to_owned(),
            user: user.to_owned(),
            password: SecretString::from(password),
        })
    };
    let auths = document["auths"].as_object();
    auths.into_iter().flatten().filter_map(login).collect()
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    fn with(variables: &[(&str, &str)], catalog: &Catalog) -> Result<Settings, String> {
        let environment = Environment::of(variables.iter().copied());
        configured(catalog, Vec::new(), &environment)
            .map(|configured| configured.settings)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_configuration_is_taken_and_variables_win() {
        let catalog = Catalog {
            hub_endpoint: Some("http://10.0.0.5:80".parse().unwrap()),
            private_origins: vec!["http://10.0.0.5:80".parse().unwrap()],
            s3_region: Some("eu-west-1".to_owned()),
            ..Catalog::default()
        };
        let plain = with(&[], &catalog).unwrap();
        assert_eq!(plain.policy.downloads, Downloads::Allowlist);
        assert!(
            plain
                .policy
                .allowed_hosts
                .iter()
                .any(|host| host.matches("cdn.hf.co"))
        );
        assert_eq!(plain.policy.private_origins.len(), 1);
        let endpoint = |settings: &Settings| settings.hub.endpoint.clone().unwrap().to_string();
        assert_eq!(endpoint(&plain), "http://10.0.0.5/");
        assert_eq!(plain.s3.region.as_deref(), Some("eu-west-1"));
        let told = with(
            &[
                ("HF_ENDPOINT", "https://mirror.example"),
                ("HF_HUB_OFFLINE", "1"),
                ("AWS_REGION", "us-west-2"),
                ("AWS_ENDPOINT_URL", "https://objects.example"),
            ],
            &catalog,
        );
        let told = told.unwrap();
        assert_eq!(endpoint(&told), "https://mirror.example/");
        assert_eq!(told.policy.downloads, Downloads::Off);
        assert_eq!(told.s3.region.as_deref(), Some("us-west-2"));
        assert_eq!(told.s3.endpoint.unwrap().as_str(), "https://objects.example/");
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let refusal = with(&[("AWS_ENDPOINT_URL", "nothing")], &Catalog::default()).unwrap_err();
        assert!(refusal.contains("AWS_ENDPOINT_URL"), "{refusal}");
        let refusal = with(&[("HF_ENDPOINT", "nothing")], &Catalog::default()).unwrap_err();
        assert!(refusal.contains("HF_ENDPOINT"), "{refusal}");
    }

    #[test]
    fn logins_are_read_as_clients_of_containers_write_them() {
        let auth = STANDARD.encode("me:pass:word");
        let text = format!(
            r#"{{"auths": {{"registry.example:5000": {{"auth": "{auth}"}}, "https://index.docker.io/v1/": {{"auth": "{auth}"}},
                "kept.elsewhere": {{}}, "broken": {{"auth": "?"}}}}, "credsStore": "desktop"}}"#
        );
        let found = logins_of(&text);
        let names: Vec<&str> = found.iter().map(|login| login.registry.as_str()).collect();
        assert_eq!(names, ["index.docker.io", "registry.example:5000"]);
        assert_eq!(
            (found[0].user.as_str(), found[0].password.expose_secret()),
            ("me", "pass:word")
        );
        assert!(logins_of("no JSON").is_empty());
    }
}
