//! What a pool may tell its engine.

use std::path::Path;

use config_schema::{Launcher, Runtime};
use secrecy::ExposeSecret;

use crate::pool_file;

#[test]
fn a_complete_pool_is_read() {
    let file = pool_file(
        "slots = 4\nctx = 8192\nreplicas = 2\nbinary = \"/opt/llama-server\"\nargs = [\"-fa\", \"on\"]\n\
         load_timeout_ms = 5000\nhealth_interval_ms = 100\nstop_grace_ms = 0\n\
         env = { HF_HOME = \"/hf\" }\nrestart = { initial_ms = 10, max_ms = 20, budget = 2, window_ms = 1000 }",
    );
    let pool = file.load(&[]).unwrap().config.pool_managerd.pools.remove(0);
    assert_eq!(
        (pool.slots.get_u32(), pool.ctx.get_u32(), pool.replicas.get()),
        (4, 8192, 2)
    );
    assert_eq!(pool.devices[0].as_str(), "GPU-1");
    assert_eq!(pool.env["HF_HOME"].expose_secret(), "/hf");
    assert_eq!(
        (pool.restart.budget.get(), pool.restart.window_ms.ms()),
        (2, 1000)
    );
}

#[test]
fn cpu_offload_and_owned_arguments_are_refused_by_position() {
    let problems =
        pool_file("args = [\"-fa\", \"on\", \"--n-gpu-layers\", \"10\", \"--port\", \"1\"]").problems(&[]);
    assert_eq!(
        problems,
        [
            "llama-orch.toml:6:22: pool_managerd.pools[0].args[2]: \"--n-gpu-layers\" is refused: an engine computes on its GPUs only, and pool-managerd decides what goes there",
            "llama-orch.toml:6:46: pool_managerd.pools[0].args[4]: \"--port\" is refused: pool-managerd sets it from the pool's own keys",
        ]
    );
    let problems = pool_file("env = { CUDA_VISIBLE_DEVICES = \"\", LLAMA_ARG_FIT = \"on\" }").problems(&[]);
    assert!(
        problems[0].contains("env.CUDA_VISIBLE_DEVICES: is refused"),
        "{problems:?}"
    );
    assert!(
        problems[1].contains("env.LLAMA_ARG_FIT: is refused"),
        "{problems:?}"
    );
}

#[test]
fn an_engine_without_a_launcher_is_refused() {
    let text =
        "[[pool_managerd.pools]]\nid = \"a\"\nengine = \"vllm\"\nmodel = \"m\"\ndevices = [\"GPU-1\"]\n";
    let problems = crate::TestFile::new(text).problems(&[]);
    assert_eq!(
        problems,
        [
            "llama-orch.toml:3:1: pool_managerd.pools[0].engine: vllm has no launcher in this version; supported: llamacpp"
        ]
    );
}

const PINNED: &str = "registry.example:5000/engines/llama@sha256:\
                      0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// REQ-POOL-CONTAINER.
#[test]
fn an_engine_is_started_in_one_way() {
    let load = |more: &str| pool_file(more).load(&[]).unwrap();
    let pool = |more: &str| load(more).config.pool_managerd.pools.remove(0);
    assert_eq!(pool("").launcher(), Launcher::Program(Path::new("llama-server")));
    let named = pool("binary = \"/opt/llama-server\"");
    assert_eq!(
        named.launcher(),
        Launcher::Program(Path::new("/opt/llama-server"))
    );
    let contained = pool(&format!(
        "[pool_managerd.pools.container]\nimage = \"{PINNED}\"\nruntime = \"podman\"\n\
         mounts = [{{ source = \"/data/lora\", target = \"/lora\" }}]"
    ));
    let Launcher::Container(container) = contained.launcher() else {
        panic!("{contained:?}")
    };
    assert_eq!(
        (container.image.to_string().as_str(), container.runtime),
        (PINNED, Runtime::Podman)
    );
    assert_eq!(container.mounts[0].target.as_path(), Path::new("/lora"));
    assert_eq!((container.memory_mib, container.pids.get()), (None, 4096));
}

/// REQ-POOL-CONTAINER.
#[test]
fn what_is_wrong_with_a_container_is_told_by_key() {
    let container = |more: &str| format!("[pool_managerd.pools.container]\nimage = \"{PINNED}\"\n{more}");
    for (text, expected) in [
        (
            format!("binary = \"/x\"\n{}", container("")),
            "pools[0].binary: must be left out beside container",
        ),
        (
            "container = { image = \"llama:latest\" }".to_owned(),
            "pools[0].container.image: the image \"llama:latest\" names no registry",
        ),
        (
            "container = { image = \"localhost/x@sha256:12\" }".to_owned(),
            "pools[0].container.image: \"sha256:12\" is no digest",
        ),
        (container("runtime = \"lxc\""), "pools[0].container.runtime: "),
        (
            container("pids = 1"),
            "pools[0].container.pids: is 1, must be 16 to 4194304",
        ),
        (
            container("memory_mib = 0"),
            "pools[0].container.memory_mib: is 0, must be 64",
        ),
        (
            container("entrypoint = \"llama-server\""),
            "container.entrypoint: the path llama-server is not absolute",
        ),
        (
            container("mounts = [{ source = \"/a,b\", target = \"/x\" }]"),
            "container.mounts[0].source: the path /a,b has a comma",
        ),
        (
            container("mounts = [{ source = \"/a\", target = \"/tmp/x\" }]"),
            "container.mounts[0].target: must not be at or below",
        ),
        (
            container(
                "mounts = [{ source = \"/a\", target = \"/x\" }, { source = \"/b\", target = \"/x\" }]",
            ),
            "container.mounts[1].target: /x is used twice",
        ),
        (container("privileged = true"), "privileged"),
        (
            container("[pool_managerd.pools.env]\nA = \"x\\ny\""),
            "pools[0].env.A: has a line break",
        ),
        (
            format!(
                "models = [{{ model = \"file:/a,b.gguf\", model_id = \"m\" }}]\n{}",
                container("")
            ),
            "pools[0].models[0].model: cannot be mounted into the container: the path /a,b.gguf has a comma",
        ),
    ] {
        let problems = pool_file(&text).problems(&[]);
        assert!(problems[0].contains(expected), "{text}: {problems:?}");
    }
}

/// REQ-POOL-CONTAINER.
#[test]
fn an_image_without_a_digest_is_warned_of() {
    let warnings = |image: &str| {
        let text = format!("container = {{ image = \"{image}\" }}");
        pool_file(&text).load(&[]).unwrap().warnings
    };
    assert_eq!(warnings(PINNED), [""; 0]);
    let told = warnings("localhost/llama:cuda");
    assert!(
        told[0].starts_with("pool_managerd.pools[0].container.image: localhost/llama:cuda names no digest"),
        "{told:?}"
    );
}
