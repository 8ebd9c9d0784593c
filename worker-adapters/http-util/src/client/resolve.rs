//! Names to addresses, where somebody wants a say in it. A connection is made to an address that this gives and to no other,
//! so what is checked here is what is connected to. Addresses that stand in a URL are not asked for.

use std::fmt;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::error::Cause;

/// The addresses of a name, or why there are none.
pub type Resolved = Pin<Box<dyn Future<Output = Result<Vec<IpAddr>, Cause>> + Send>>;

/// Finds the addresses of names, instead of the operating system.
pub trait ResolveNames: fmt::Debug + Send + Sync {
    /// Begins to look a name up.
    fn resolve(&self, host: &str) -> Resolved;
}

/// Hides the HTTP library's own form of it.
pub(super) struct Bridge(pub(super) Arc<dyn ResolveNames>);

impl Resolve for Bridge {
    fn resolve(&self, name: Name) -> Resolving {
        let found = self.0.resolve(name.as_str());
        Box::pin(async move {
            // The port is the URL's.
            let addresses = found
                .await?
                .into_iter()
                .map(|address| SocketAddr::new(address, 0));
            Ok(Box::new(addresses) as Addrs)
        })
    }
}
