//! What commands work with that stay on this machine: its configuration, and the catalog that it names.

use catalog_core::Catalog;
use config_schema::{Config, Environment, Overrides, load_local};

use crate::args::LocalArgs;
use crate::console::Console;
use crate::failure::Failure;

pub(crate) struct Here<'c> {
    pub(crate) console: &'c Console,
    pub(crate) environment: &'c Environment,
    pub(crate) config: Config,
}

impl<'c> Here<'c> {
    pub(crate) fn new(
        local: &LocalArgs,
        environment: &'c Environment,
        console: &'c Console,
    ) -> Result<Self, Failure> {
        let overrides = Overrides::default().config_file(local.config.clone());
        Ok(Self {
            console,
            environment,
            config: load_local(environment, &overrides)?.config,
        })
    }

    pub(crate) fn catalog(&self) -> Catalog {
        Catalog::at(&self.config.catalog.root)
    }
}
