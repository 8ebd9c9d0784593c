//! Engine arguments and variables that a pool may not set, because pool-managerd owns them or
//! because they would let the engine compute on the CPU. There is no switch for the latter.

/// llama-server arguments that pool-managerd sets itself or that would change what it promises.
const OWNED: &[&str] = &[
    "-m",
    "--model",
    "-mu",
    "--model-url",
    "-dr",
    "--docker-repo",
    "-hf",
    "-hfr",
    "--hf-repo",
    "-hff",
    "--hf-file",
    "-hft",
    "--hf-token",
    "--models-dir",
    "--models-preset",
    "--models-max",
    "--no-models-autoload",
    "-a",
    "--alias",
    "--host",
    "--port",
    "--reuse-port",
    "--path",
    "--api-prefix",
    "--api-key",
    "--api-key-file",
    "--ssl-key-file",
    "--ssl-cert-file",
    "-c",
    "--ctx-size",
    "-np",
    "--parallel",
    "-kvu",
    "--kv-unified",
    "-no-kvu",
    "--no-kv-unified",
    "--metrics",
    "--slots",
    "--no-slots",
    "--props",
    "--offline",
    "--log-disable",
    "--log-file",
    "--log-jsonl",
    "--log-colors",
    "-lv",
    "--verbosity",
    "--log-verbosity",
    "-v",
    "--verbose",
    "--log-verbose",
    "--sleep-idle-seconds",
    "-to",
    "--timeout",
    "--version",
    "-h",
    "--help",
    "--usage",
    "--list-devices",
    "--embedding",
    "--embeddings",
    "--rerank",
    "--reranking",
];

/// llama-server arguments that choose where layers, experts or the KV cache live.
const OFFLOAD: &[&str] = &[
    "-ngl",
    "--gpu-layers",
    "--n-gpu-layers",
    "-fit",
    "--fit",
    "-fitt",
    "--fit-target",
    "-fitc",
    "--fit-ctx",
    "-fitp",
    "--fit-print",
    "-ot",
    "--override-tensor",
    "-cmoe",
    "--cpu-moe",
    "-ncmoe",
    "--n-cpu-moe",
    "-nkvo",
    "--no-kv-offload",
    "-kvo",
    "--kv-offload",
    "--no-op-offload",
    "--op-offload",
    "--no-host",
    "-dev",
    "--device",
    "--rpc",
    "-ngld",
    "--gpu-layers-draft",
    "--n-gpu-layers-draft",
    "-devd",
    "--device-draft",
    "-otd",
    "--override-tensor-draft",
    "-cmoed",
    "--cpu-moe-draft",
    "-ncmoed",
    "--n-cpu-moe-draft",
    "--spec-draft-ngl",
    "--spec-draft-device",
    "--spec-draft-override-tensor",
    "--spec-draft-cpu-moe",
    "--spec-draft-n-cpu-moe",
];

/// Variables that choose the devices, or that let memory spill into host RAM.
const OWNED_VARIABLES: &[&str] = &[
    "CUDA_VISIBLE_DEVICES",
    "CUDA_DEVICE_ORDER",
    "NVIDIA_VISIBLE_DEVICES",
    "GGML_CUDA_ENABLE_UNIFIED_MEMORY",
    "GGML_CUDA_DEVICES",
    "LLAMA_API_KEY",
    "LD_PRELOAD",
    "AUTH_TOKEN",
    "AUTH_TOKEN_FILE",
];

/// Every llama-server argument has such a variable; it would be a second way round the list above.
const ARGUMENT_VARIABLES: &str = "LLAMA_ARG_";

/// Why an argument is refused, where it is.
pub(crate) fn refused_argument(arg: &str) -> Option<String> {
    let name = canonical(arg);
    if OFFLOAD.contains(&name.as_str()) {
        return Some(format!(
            "{arg:?} is refused: an engine computes on its GPUs only, and pool-managerd decides what goes there"
        ));
    }
    let owned = OWNED.contains(&name.as_str());
    owned.then(|| format!("{arg:?} is refused: pool-managerd sets it from the pool's own keys"))
}

/// The argument's name as the engine reads it: without `=value`, and in long arguments `_` is `-`.
fn canonical(arg: &str) -> String {
    let name = arg.split('=').next().unwrap_or(arg);
    if name.starts_with("--") {
        name.replace('_', "-")
    } else {
        name.to_owned()
    }
}

/// Why an environment variable is refused, where it is.
pub(crate) fn refused_variable(name: &str) -> Option<String> {
    if name.starts_with(ARGUMENT_VARIABLES) {
        return Some("is refused: engine arguments belong into args".to_owned());
    }
    let owned = OWNED_VARIABLES.contains(&name);
    owned.then(|| "is refused: pool-managerd decides it, so that the engine stays on its GPUs".to_owned())
}

/// Whether a text is a portable variable name.
pub(crate) fn is_variable_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    first && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn offload_and_owned_arguments_are_refused_in_every_spelling() {
        for arg in [
            "-ngl",
            "--fit",
            "--fit=on",
            "--n_gpu_layers",
            "-ot",
            "--cpu-moe",
            "--no_kv_offload",
        ] {
            assert!(refused_argument(arg).unwrap().contains("GPUs only"), "{arg}");
        }
        for arg in ["--host", "--port=1", "-np", "--ctx_size", "--api-key"] {
            assert!(refused_argument(arg).unwrap().contains("own keys"), "{arg}");
        }
        for arg in [
            "-fa",
            "on",
            "-ctk",
            "q8_0",
            "--mlock",
            "0",
            "--cache-reuse",
            "-sm",
        ] {
            assert_eq!(refused_argument(arg), None);
        }
    }

    #[test]
    fn variables_that_move_work_are_refused() {
        for name in [
            "CUDA_VISIBLE_DEVICES",
            "LLAMA_ARG_FIT",
            "GGML_CUDA_ENABLE_UNIFIED_MEMORY",
        ] {
            assert!(refused_variable(name).is_some(), "{name}");
        }
        assert_eq!(refused_variable("HF_HOME"), None);
    }

    proptest! {
        #[test]
        fn a_value_behind_an_equals_sign_changes_nothing(index in 0..OFFLOAD.len(), value in "[a-z0-9=]{0,5}") {
            let arg = format!("{}={value}", OFFLOAD[index]);
            prop_assert!(refused_argument(&arg).is_some());
        }
    }
}
