//! `doctor`: what stands in the way of serving models here.

use clap::Args;

use super::local::LocalArgs;

/// What is looked at.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Where the machine's configuration is.
    #[command(flatten)]
    pub local: LocalArgs,
}
