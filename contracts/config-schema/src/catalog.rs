//! `[catalog]`: where models and engines of this machine lie, and what may be fetched from where.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bounded::Count;
use crate::text::{BaseUrl, HostPattern, WebOrigin};

/// Models and engines of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Catalog {
    /// The folder that holds them; nothing else may write there. Default: `catalog` below `pool_managerd.state_dir`.
    pub root: PathBuf,
    /// What may be downloaded. Default `allowlist`.
    pub downloads: Downloads,
    /// Hosts that may be downloaded from with `allowlist`: a name, or `*.` and a name for all below it. Redirects must stay
    /// among them. Default: the model hub and its stores (huggingface.co, *.huggingface.co, *.hf.co).
    pub allowed_hosts: Vec<HostPattern>,
    /// Origins in private networks that may be downloaded from, also without TLS, e.g. a mirror: `http://10.0.0.5:9000`.
    /// Every other private address is refused, whatever name leads there. Default: none.
    pub private_origins: Vec<WebOrigin>,
    /// The model hub. Default https://huggingface.co; the variable HF_ENDPOINT wins.
    pub hub_endpoint: Option<BaseUrl>,
    /// Object storage for `s3:` references, where it is not Amazon's; AWS_ENDPOINT_URL_S3 and AWS_ENDPOINT_URL win.
    pub s3_endpoint: Option<BaseUrl>,
    /// Its region. Default us-east-1; AWS_REGION and AWS_DEFAULT_REGION win.
    pub s3_region: Option<String>,
    /// Connections for one file at once. Default 4: more of them take bandwidth from each other.
    pub connections: Count<1, 4, 16>,
    /// Kept free on the disk beyond what a download needs, percent of it. Default 5.
    pub spare_percent: Count<0, 5, 90>,
}

impl Default for Catalog {
    fn default() -> Self {
        Self {
            root: PathBuf::from("/var/lib/llama-orch/catalog"),
            downloads: Downloads::default(),
            allowed_hosts: HostPattern::of_the_hub(),
            private_origins: Vec::new(),
            hub_endpoint: None,
            s3_endpoint: None,
            s3_region: None,
            connections: Count::default(),
            spare_percent: Count::default(),
        }
    }
}

/// What may be downloaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Downloads {
    /// Nothing.
    Off,
    /// From `allowed_hosts` and `private_origins`.
    #[default]
    Allowlist,
    /// From every public host, and `private_origins`.
    On,
}
