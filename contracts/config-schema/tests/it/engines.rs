//! What a pool may tell its engine.

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
