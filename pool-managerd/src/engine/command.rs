//! The command line of llama.cpp's server, as data. Pure: what to run is decided here, running it is
//! [`process`](super::process)'s part.
//!
//! The flags forbid every way of computing on the CPU: `-dev CUDA…` makes the engine exit when a GPU of the
//! mask is not usable, `-ngl all --fit off` keeps it from moving layers away, and
//! `GGML_CUDA_ENABLE_UNIFIED_MEMORY`, which would spill into system memory, can never be in the environment.

use std::ffi::OsString;
use std::net::SocketAddrV4;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use api_types::{ModelChoice, Workload};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

use super::launcher::Launcher;
use super::probe::LOOPBACK;

/// What an engine is started for. One excludes the others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EngineMode {
    /// Completions and chats.
    #[default]
    Generate,
    /// Embeddings.
    Embed,
    /// Scores.
    Rerank,
}

impl EngineMode {
    /// What a pool of these workloads needs; the configuration's check has refused mixtures.
    #[must_use]
    pub fn of(workloads: &[Workload]) -> Self {
        match workloads {
            [Workload::Embedding] => Self::Embed,
            [Workload::Rerank] => Self::Rerank,
            _ => Self::Generate,
        }
    }

    const fn switch(self) -> Option<&'static str> {
        match self {
            Self::Generate => None,
            Self::Embed => Some("--embeddings"),
            Self::Rerank => Some("--reranking"),
        }
    }
}

/// What distinguishes one pool's engines from another's.
#[derive(Debug, Clone)]
pub struct EngineSpec {
    /// GPU UUIDs, in the order the engine shall number them.
    pub devices: Vec<String>,
    /// What it shall do.
    pub mode: EngineMode,
    /// Parallel sequences.
    pub slots: u32,
    /// Context per slot, tokens.
    pub ctx: u32,
    /// More flags from the configuration, which has checked them.
    pub extra_args: Vec<String>,
    /// The whole environment besides the devices.
    pub env: Vec<(String, SecretString)>,
}

/// What distinguishes one start from another.
#[derive(Debug, Clone)]
pub struct LaunchParams {
    /// The model file, where the engine sees it.
    pub model: PathBuf,
    /// The name the engine reports for the model.
    pub alias: String,
    /// Where it listens.
    pub listen: SocketAddrV4,
    /// How it gets its API key.
    pub key: ApiKey,
}

/// How an engine gets its API key.
#[derive(Debug, Clone)]
pub enum ApiKey {
    /// From a file that only its user can read.
    File(PathBuf),
    /// From its environment: a container's user may be another one.
    Variable(SecretString),
}

/// The variable of [`ApiKey::Variable`]; configuration cannot set it.
const KEY_VARIABLE: &str = "LLAMA_API_KEY";

/// Arguments and complete environment.
#[derive(Debug, Clone, Default)]
pub struct EngineCommand {
    /// Arguments, as they are; no shell reads them.
    pub args: Vec<OsString>,
    /// Nothing else is inherited.
    pub env: Vec<(String, SecretString)>,
}

/// The command for one start.
#[must_use]
pub fn llama_server(spec: &EngineSpec, launch: &LaunchParams) -> EngineCommand {
    let total_ctx = u64::from(spec.ctx) * u64::from(spec.slots);
    let mut args: Vec<OsString> = Vec::new();
    let mut option = |flag: &str, value: OsString| args.extend([OsString::from(flag), value]);
    option("-m", launch.model.clone().into());
    option("-a", launch.alias.clone().into());
    option("--host", launch.listen.ip().to_string().into());
    option("--port", launch.listen.port().to_string().into());
    if let ApiKey::File(path) = &launch.key {
        option("--api-key-file", path.clone().into());
    }
    option("-c", total_ctx.to_string().into());
    option("-np", spec.slots.to_string().into());
    option("-dev", device_names(spec.devices.len()).into());
    option("-ngl", "all".into());
    option("--fit", "off".into());
    option("-fa", "on".into());
    option("-lv", "4".into());
    option("--log-colors", "off".into());
    for (flag, value) in batch(spec) {
        option(flag, value.to_string().into());
    }
    args.extend(spec.mode.switch().map(OsString::from));
    let switches = ["--no-kv-unified", "--metrics", "--slots", "--no-ui", "--offline"];
    args.extend(switches.map(OsString::from));
    args.extend(spec.extra_args.iter().map(OsString::from));
    EngineCommand {
        args,
        env: environment(spec, &launch.key),
    }
}

/// What makes one engine another one: everything of its command but what changes from start to start. A running engine
/// whose fingerprint is not the configured one any more is not taken over.
#[must_use]
pub fn fingerprint(spec: &EngineSpec, launcher: &Launcher, model: &ModelChoice) -> String {
    let command = llama_server(
        spec,
        &LaunchParams {
            model: model.model_ref.as_str().into(),
            alias: model.model_id.to_string(),
            listen: SocketAddrV4::new(LOOPBACK, 0),
            key: ApiKey::File(PathBuf::new()),
        },
    );
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update(bytes.len().to_le_bytes());
        hash.update(bytes);
    };
    part(&launcher.identity());
    command.args.iter().for_each(|arg| part(arg.as_bytes()));
    for (name, value) in &command.env {
        part(name.as_bytes());
        part(value.expose_secret().as_bytes());
    }
    hex::encode(hash.finalize())
}

/// An input that is embedded or scored must fit into one batch, else the engine refuses it whatever its context; so the
/// batch is as large as a slot's context, which the engine rounds up to 256. A pool's own argument wins.
fn batch(spec: &EngineSpec) -> Vec<(&'static str, u32)> {
    let given = |names: [&str; 2]| {
        let name = |arg: &String| arg.split('=').next().is_some_and(|arg| names.contains(&arg));
        spec.extra_args.iter().any(name)
    };
    let batch = spec.ctx.next_multiple_of(256);
    let wanted = spec.mode != EngineMode::Generate;
    let flags = [("-b", "--batch-size"), ("-ub", "--ubatch-size")];
    flags
        .into_iter()
        .filter(|(short, long)| wanted && !given([short, long]))
        .map(|(short, _)| (short, batch))
        .collect()
}

/// Inside the process only the mask is visible, so its devices are `CUDA0` to `CUDAn-1` in the mask's order.
fn device_names(count: usize) -> String {
    let names: Vec<String> = (0..count).map(|index| format!("CUDA{index}")).collect();
    names.join(",")
}

/// Names that configuration cannot set: the mask is the pool's, and the spill into system memory is
/// forbidden.
const RESERVED: [&str; 3] = [
    "CUDA_VISIBLE_DEVICES",
    "CUDA_DEVICE_ORDER",
    "GGML_CUDA_ENABLE_UNIFIED_MEMORY",
];

fn environment(spec: &EngineSpec, key: &ApiKey) -> Vec<(String, SecretString)> {
    let given = spec
        .env
        .iter()
        .filter(|(name, _)| !RESERVED.contains(&name.as_str()));
    let devices = [
        ("CUDA_VISIBLE_DEVICES".to_owned(), spec.devices.join(",").into()),
        ("CUDA_DEVICE_ORDER".to_owned(), "PCI_BUS_ID".into()),
    ];
    let key = match key {
        ApiKey::File(_) => None,
        ApiKey::Variable(key) => Some((KEY_VARIABLE.to_owned(), key.clone())),
    };
    given.cloned().chain(devices).chain(key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use api_types::ModelId;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    fn spec() -> EngineSpec {
        EngineSpec {
            devices: vec!["GPU-a".into(), "GPU-b".into()],
            mode: EngineMode::Generate,
            slots: 3,
            ctx: 4096,
            extra_args: vec!["--threads-http".into(), "8".into()],
            env: vec![
                ("PATH".into(), "/usr/bin".into()),
                ("GGML_CUDA_ENABLE_UNIFIED_MEMORY".into(), "1".into()),
                ("CUDA_VISIBLE_DEVICES".into(), "all".into()),
            ],
        }
    }

    fn launch() -> LaunchParams {
        LaunchParams {
            model: "/models/tiny.gguf".into(),
            alias: "tiny".into(),
            listen: SocketAddrV4::new(LOOPBACK, 40_001),
            key: ApiKey::File("/state/key".into()),
        }
    }

    #[test]
    fn the_line_is_llama_servers_canonical_gpu_line() {
        let command = llama_server(&spec(), &launch());
        let line: Vec<&str> = command.args.iter().map(|arg| arg.to_str().unwrap()).collect();
        assert_eq!(
            line.join(" "),
            "-m /models/tiny.gguf -a tiny --host 127.0.0.1 --port 40001 --api-key-file /state/key -c 12288 -np 3 \
             -dev CUDA0,CUDA1 -ngl all --fit off -fa on -lv 4 --log-colors off --no-kv-unified --metrics --slots \
             --no-ui --offline --threads-http 8"
        );
    }

    /// The flags of the mode, and of the batch that holds a whole input (ORCH-3526).
    #[test]
    fn an_engine_is_started_for_its_workload() {
        let flags = |mode: EngineMode, extra: &[&str]| {
            let extra_args = extra.iter().map(|&arg| arg.to_owned()).collect();
            let spec = EngineSpec {
                mode,
                ctx: 1000,
                extra_args,
                ..spec()
            };
            let args = llama_server(&spec, &launch()).args;
            let line: Vec<String> = args.iter().map(|arg| arg.to_str().unwrap().to_owned()).collect();
            line.join(" ")
        };
        let embed = flags(EngineMode::Embed, &[]);
        assert!(
            embed.contains(" -b 1024 -ub 1024 --embeddings --no-kv-unified"),
            "{embed}"
        );
        let rerank = flags(EngineMode::Rerank, &["--ubatch-size=64"]);
        assert!(
            rerank.contains(" -b 1024 --reranking --no-kv-unified"),
            "{rerank}"
        );
        let generate = flags(EngineMode::Generate, &[]);
        assert!(
            !generate.contains(" -b ") && !generate.contains("embed"),
            "{generate}"
        );
        for (workloads, mode) in [
            (&[Workload::Completion, Workload::Chat][..], EngineMode::Generate),
            (&[Workload::Chat], EngineMode::Generate),
            (&[Workload::Embedding], EngineMode::Embed),
            (&[Workload::Rerank], EngineMode::Rerank),
        ] {
            assert_eq!(EngineMode::of(workloads), mode);
        }
    }

    #[test]
    fn the_environment_holds_the_mask_and_no_spill() {
        let env = llama_server(&spec(), &launch()).env;
        let text: Vec<String> = env
            .iter()
            .map(|(name, value)| format!("{name}={}", value.expose_secret()))
            .collect();
        assert_eq!(
            text,
            [
                "PATH=/usr/bin",
                "CUDA_VISIBLE_DEVICES=GPU-a,GPU-b",
                "CUDA_DEVICE_ORDER=PCI_BUS_ID"
            ]
        );
    }

    /// REQ-POOL-CONTAINER: no argument shows the key, and the engine listens where the published port leads.
    #[test]
    fn in_a_container_the_key_is_a_variable() {
        let launch = LaunchParams {
            listen: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 8080),
            key: ApiKey::Variable("5ecret-5ecret".into()),
            ..launch()
        };
        let command = llama_server(&spec(), &launch);
        let line: Vec<&str> = command.args.iter().map(|arg| arg.to_str().unwrap()).collect();
        let line = line.join(" ");
        assert!(line.contains("--host 0.0.0.0 --port 8080 -c"), "{line}");
        assert!(!line.contains("api-key") && !line.contains("5ecret"), "{line}");
        let (name, value) = command.env.last().unwrap();
        assert_eq!(
            (name.as_str(), value.expose_secret()),
            (KEY_VARIABLE, "5ecret-5ecret")
        );
    }

    #[test]
    fn another_setting_is_another_engine() {
        let of = |spec: &EngineSpec, model: &str| {
            let model = ModelChoice {
                model_ref: model.parse().unwrap(),
                model_id: ModelId::new("tiny").unwrap(),
            };
            fingerprint(spec, &Launcher::Program("/opt/llama-server".into()), &model)
        };
        let same = of(&spec(), "file:/m.gguf");
        assert_eq!(same, of(&spec(), "file:/m.gguf"));
        let mut other = spec();
        other.env.push(("LANG".into(), "C".into()));
        assert_ne!(same, of(&other, "file:/m.gguf"));
        assert_ne!(same, of(&EngineSpec { slots: 4, ..spec() }, "file:/m.gguf"));
        assert_ne!(same, of(&spec(), "file:/n.gguf"));
    }

    proptest! {
        /// ORCH-3422, ORCH-3425.
        #[test]
        fn no_setting_leaves_the_gpus_or_the_loopback(
            slots in 1_u32..65, ctx in 1_u32..1_000_000, devices in 1_usize..9, port: u16,
        ) {
            let spec = EngineSpec { slots, ctx, devices: vec!["GPU-x".into(); devices], ..spec() };
            let args = llama_server(&spec, &LaunchParams { listen: SocketAddrV4::new(LOOPBACK, port), ..launch() }).args;
            let value = |flag: &str| {
                let at = args.iter().position(|arg| arg == flag).unwrap();
                args[at + 1].to_str().unwrap().to_owned()
            };
            prop_assert_eq!(value("-dev").split(',').count(), devices);
            prop_assert_eq!(value("-ngl"), "all");
            prop_assert_eq!(value("--fit"), "off");
            prop_assert_eq!(value("--host"), "127.0.0.1");
            prop_assert_eq!(value("-c").parse::<u64>().unwrap(), u64::from(slots) * u64::from(ctx));
        }
    }
}
