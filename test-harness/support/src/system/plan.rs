//! What a system is to be. Data only.

use std::path::PathBuf;

use crate::http1::Call;
use crate::scripted_engine::Script;

/// Which engine the pools run.
#[derive(Clone, Debug, Default)]
pub enum EngineChoice {
    /// The scripted engine: no inference.
    #[default]
    Scripted,
    /// This executable with llama-server's command line: real inference.
    Real(PathBuf),
}

/// One more model of a pool; a file of its own.
#[derive(Clone, Debug)]
pub struct ModelPlan {
    /// Its name.
    pub name: String,
    /// What the configuration says of its file.
    pub sha256: Option<String>,
}

/// One pool to configure.
#[derive(Clone, Debug)]
pub struct PoolPlan {
    /// Its id.
    pub id: String,
    /// Index of its GPU in the reference box.
    pub gpu: usize,
    /// Its slots.
    pub slots: u32,
    /// Context per slot, tokens.
    pub ctx: u32,
    /// What its scripted engine does.
    pub script: Script,
    /// More models that it can serve.
    pub more_models: Vec<ModelPlan>,
    /// Further lines of its table in the configuration.
    pub extra: String,
}

impl PoolPlan {
    /// A pool on one GPU with an unpaced engine.
    #[must_use]
    pub fn new(id: &str, gpu: usize, slots: u32) -> Self {
        Self {
            id: id.to_owned(),
            gpu,
            slots,
            ctx: 1024,
            script: Script::default(),
            more_models: Vec::new(),
            extra: String::new(),
        }
    }

    /// One more model that it can serve.
    #[must_use]
    pub fn more_model(mut self, name: &str) -> Self {
        self.more_models.push(ModelPlan {
            name: name.to_owned(),
            sha256: None,
        });
        self
    }

    /// One more model, whose file must have this digest by the configuration.
    #[must_use]
    pub fn pinned_model(mut self, name: &str, sha256: &str) -> Self {
        self.more_models.push(ModelPlan {
            name: name.to_owned(),
            sha256: Some(sha256.to_owned()),
        });
        self
    }

    /// More lines of its table in the configuration.
    #[must_use]
    pub fn extra(mut self, lines: &str) -> Self {
        self.extra.push_str(lines);
        self
    }

    /// Another script.
    #[must_use]
    pub fn script(self, script: Script) -> Self {
        Self { script, ..self }
    }
}

/// A system to start.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Its pools.
    pub pools: Vec<PoolPlan>,
    /// Their engine.
    pub engine: EngineChoice,
    /// The token of both daemons.
    pub token: Option<String>,
    /// Further environment of orchestratord, e.g. its knobs.
    pub orchestrator_env: Vec<(String, String)>,
    /// Further environment of pool-managerd; it goes before what else is said here.
    pub node_env: Vec<(String, String)>,
    /// Tables of the shared configuration file besides the pools.
    pub config: String,
    /// Whether engines outlive pool-managerd.
    pub keep_engines: bool,
}

impl Plan {
    /// The reference box: `gpu0` on the 24 GiB GPU and `gpu1` on the 12 GiB one.
    #[must_use]
    pub fn reference_box(slots: u32) -> Self {
        let pools = vec![PoolPlan::new("gpu0", 0, slots), PoolPlan::new("gpu1", 1, slots)];
        Self {
            pools,
            ..Self::default()
        }
    }

    /// The same script on every pool.
    #[must_use]
    pub fn scripts(mut self, script: &Script) -> Self {
        self.pools
            .iter_mut()
            .for_each(|pool| pool.script = script.clone());
        self
    }

    /// A variable of orchestratord.
    #[must_use]
    pub fn orchestrator_env(mut self, name: &str, value: &str) -> Self {
        self.orchestrator_env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The token of both daemons.
    #[must_use]
    pub fn token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    /// Adds the token, where there is one.
    pub(super) fn authorized(&self, call: Call) -> Call {
        match &self.token {
            Some(token) => call.bearer(token),
            None => call,
        }
    }

    /// More tables of the configuration file.
    #[must_use]
    pub fn config(mut self, tables: &str) -> Self {
        self.config.push_str(tables);
        self
    }
}
