//! Which environment variable sets which key, and how its text is read.

use toml::Value;

/// How the text of an environment variable becomes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// As it is.
    Text,
    /// `true`, `false`, `1` or `0`.
    Bool,
    /// A whole number.
    Integer,
    /// Comma-separated texts.
    List,
}

/// One key that an environment variable can set. `AUTH_TOKEN` is not here: a secret never becomes
/// a value of the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// The variable.
    pub env: &'static str,
    /// The key it sets.
    pub key: &'static str,
    /// How its text is read.
    pub kind: Kind,
}

const fn setting(env: &'static str, key: &'static str, kind: Kind) -> Setting {
    Setting { env, key, kind }
}

/// Every key that an environment variable can set.
pub const SETTINGS: &[Setting] = &[
    setting("AUTH_TOKEN_FILE", "auth.token_file", Kind::Text),
    setting("AUTH_OPTIONAL", "auth.optional", Kind::Bool),
    setting("TRUST_PROXY_AUTH", "auth.trust_proxy", Kind::Bool),
    setting("TRUSTED_PROXIES", "auth.trusted_proxies", Kind::List),
    setting("HTTP_ALLOWED_HOSTS", "http.allowed_hosts", Kind::List),
    setting("HTTP_ALLOWED_ORIGINS", "http.allowed_origins", Kind::List),
    setting("LOG_FORMAT", "log.format", Kind::Text),
    setting("LOG_LEVEL", "log.level", Kind::Text),
    setting("ORCHD_ADDR", "orchestratord.addr", Kind::Text),
    setting(
        "CANCEL_ON_DISCONNECT",
        "orchestratord.cancel_on_disconnect",
        Kind::Bool,
    ),
    setting(
        "ORCHD_SSE_CHANNEL_CAP",
        "orchestratord.sse.channel_cap",
        Kind::Integer,
    ),
    setting("ORCHD_SSE_MICROBATCH", "orchestratord.sse.microbatch", Kind::Bool),
    setting(
        "ORCHD_SSE_HEARTBEAT_MS",
        "orchestratord.sse.heartbeat_ms",
        Kind::Integer,
    ),
    setting(
        "ORCHD_SSE_LOGS_ENABLED",
        "orchestratord.sse.logs_enabled",
        Kind::Bool,
    ),
    setting(
        "ORCHD_SSE_LOGS_PERIOD_MS",
        "orchestratord.sse.logs_period_ms",
        Kind::Integer,
    ),
    setting("ORCHD_STATE_DIR", "orchestratord.state_dir", Kind::Text),
    setting("ORCHD_DURABILITY", "orchestratord.durability", Kind::Text),
    setting("POOL_MANAGERD_ADDR", "pool_managerd.addr", Kind::Text),
    setting("ORCHD_URL", "pool_managerd.orchestrator_url", Kind::Text),
    setting(
        "POOL_MANAGERD_ADVERTISE_URL",
        "pool_managerd.advertise_url",
        Kind::Text,
    ),
    setting("POOL_MANAGERD_RELAY", "pool_managerd.relay", Kind::Text),
    setting("POOL_MANAGERD_NODE_ID", "pool_managerd.node_id", Kind::Text),
    setting(
        "POOL_MANAGERD_NVML_LIBRARY",
        "pool_managerd.nvml_library",
        Kind::Text,
    ),
    setting("POOL_MANAGERD_STATE_DIR", "pool_managerd.state_dir", Kind::Text),
    setting("LLAMA_ORCH_CATALOG_ROOT", "catalog.root", Kind::Text),
    setting("LLAMA_ORCH_DOWNLOADS", "catalog.downloads", Kind::Text),
];

/// Prefixes that nobody else uses: a variable that starts so and is none of ours is a typing error.
const OUR_PREFIXES: [&str; 3] = ["ORCHD_", "POOL_MANAGERD_", "LLAMA_ORCH_"];

/// Variables of ours that set no key.
const BESIDE: [&str; 1] = [crate::load::CONFIG_FILE_VARIABLE];

/// Whether a variable looks like ours and is none.
pub(crate) fn is_mistyped(name: &str) -> bool {
    let ours = OUR_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    let known = BESIDE.contains(&name) || SETTINGS.iter().any(|setting| setting.env == name);
    ours && !known
}

impl Kind {
    /// Reads the text of a variable.
    pub(crate) fn read(self, text: &str) -> Result<Value, &'static str> {
        match self {
            Self::Text => Ok(text.into()),
            Self::Bool => match text.to_ascii_lowercase().as_str() {
                "true" | "1" => Ok(true.into()),
                "false" | "0" => Ok(false.into()),
                _ => Err("must be true, false, 1 or 0"),
            },
            Self::Integer => text
                .parse::<i64>()
                .map(Value::from)
                .map_err(|_| "must be a whole number"),
            Self::List => Ok(Value::Array(
                text.split(',').map(|item| item.trim().into()).collect(),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        assert_eq!(Kind::Bool.read("TRUE"), Ok(true.into()));
        assert_eq!(Kind::Bool.read("0"), Ok(false.into()));
        assert!(Kind::Bool.read("yes").is_err());
        assert_eq!(Kind::Integer.read("-5"), Ok(Value::Integer(-5)));
        assert!(Kind::Integer.read("1.5").is_err());
        assert_eq!(
            Kind::List.read("a, b"),
            Ok(Value::Array(vec!["a".into(), "b".into()]))
        );
    }

    #[test]
    fn variables_and_keys_are_unique() {
        for (i, a) in SETTINGS.iter().enumerate() {
            for b in &SETTINGS[i + 1..] {
                assert!(a.env != b.env && a.key != b.key, "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn typing_errors_are_found_only_under_our_prefixes() {
        assert!(is_mistyped("ORCHD_ADRR"));
        assert!(!is_mistyped("ORCHD_ADDR") && !is_mistyped("LLAMA_ORCH_CONFIG") && !is_mistyped("PATH"));
    }
}
