//! The one constructor of HTTP clients. Owns connection pools, TLS set-up, timeouts and credentials; hides the HTTP
//! library, so that another transport can stand in its place.
//!
//! A [`Client`] holds the pool and the limits; an [`Endpoint`] is an address with its own credential. A request names
//! a path below an endpoint, so a credential cannot reach another address. Proxies from the environment are ignored
//! and redirects are not followed, for the same reason.

mod body;
mod endpoint;
mod options;
mod reply;
mod request;
mod resolve;

use std::sync::{Arc, OnceLock};

use reqwest::redirect;
use secrecy::SecretString;
use url::Url;

pub use body::{ByteStream, StreamResponse};
pub use endpoint::Endpoint;
pub use options::ClientOptions;
pub use reply::{Reply, retry_after};
pub use request::Request;
pub use resolve::{ResolveNames, Resolved};

use crate::error::{BuildError, cause};

/// Most bytes of a short reply (8 MiB). The largest short replies known are model lists, metrics pages and whole
/// completions; none comes near.
pub const MAX_REPLY_BYTES: usize = 8 << 20;

/// Most bytes of an error reply that are kept for [`HttpError::Status`](crate::HttpError::Status) (4 KiB): enough for
/// every engine's JSON error object.
pub const MAX_EXCERPT_BYTES: usize = 4 << 10;

/// Idle connections kept per host: more than the parallel streams of one engine, far fewer than the descriptors of a
/// process.
const MAX_IDLE_PER_HOST: usize = 64;

/// Connection pool, TLS set-up and time limits, shared by any number of endpoints. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    options: Arc<ClientOptions>,
    plain: reqwest::Client,
    tls: Arc<OnceLock<reqwest::Client>>,
}

impl Client {
    /// Builds a client.
    ///
    /// # Errors
    /// [`BuildError::Option`] when a limit cannot work, [`BuildError::Setup`] when the connector cannot be made.
    pub fn new(options: ClientOptions) -> Result<Self, BuildError> {
        options.check()?;
        Ok(Self {
            plain: connector(&options, Roots::None)?,
            tls: Arc::default(),
            options: Arc::new(options),
        })
    }

    /// An address to send requests to, with the bearer token for it.
    ///
    /// The first `https` endpoint reads the machine's root certificates (a few milliseconds, blocking); a process that
    /// speaks plain HTTP only never needs them.
    ///
    /// # Errors
    /// [`BuildError::Address`] unless `base` is an `http` or `https` URL without credentials, query and fragment,
    /// [`BuildError::Bearer`] when no header can carry the token, [`BuildError::Setup`] when TLS cannot be set up.
    pub fn endpoint(&self, base: Url, bearer: Option<&SecretString>) -> Result<Endpoint, BuildError> {
        let transport = match base.scheme() {
            "https" => self.tls()?,
            _ => self.plain.clone(),
        };
        Endpoint::new(transport, Arc::clone(&self.options), base, bearer)
    }

    fn tls(&self) -> Result<reqwest::Client, BuildError> {
        if let Some(ready) = self.tls.get() {
            return Ok(ready.clone());
        }
        let built = connector(&self.options, Roots::Platform)?;
        Ok(self.tls.get_or_init(|| built).clone())
    }
}

/// Which certificate authorities a connector trusts.
enum Roots {
    None,
    Platform,
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that builds clients"
)]
fn connector(options: &ClientOptions, roots: Roots) -> Result<reqwest::Client, BuildError> {
    install_crypto_provider();
    let builder = reqwest::Client::builder()
        .no_proxy()
        .redirect(redirect::Policy::none())
        .user_agent(options.user_agent.as_str())
        .tcp_nodelay(true)
        .connect_timeout(options.connect_timeout)
        .pool_idle_timeout(options.pool_idle_timeout)
        .pool_max_idle_per_host(MAX_IDLE_PER_HOST);
    let builder = match roots {
        Roots::None => builder.tls_certs_only([]),
        Roots::Platform => builder,
    };
    let builder = match &options.resolver {
        Some(resolver) => builder.dns_resolver(resolve::Bridge(Arc::clone(resolver))),
        None => builder,
    };
    let builder = if options.http2_prior_knowledge {
        builder.http2_prior_knowledge()
    } else {
        builder.http1_only()
    };
    builder.build().map_err(|e| BuildError::Setup(cause(e)))
}

/// Without a process-wide provider the HTTP library panics, even for plain `http`.
fn install_crypto_provider() {
    // An error means that one is installed already, which is all that is asked for.
    let _installed_before = rustls::crypto::ring::default_provider().install_default();
}
