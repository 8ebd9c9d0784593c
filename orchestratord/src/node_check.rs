//! Whether the orchestrator can reach a node that says how to be reached (REQ-RELAY-WAY-BACK): asked when the node registers, and
//! told to the node, because that is where somebody looks who has just joined a box. Owns no state.

use std::error::Error;
use std::iter::successors;
use std::net::SocketAddr;
use std::time::Duration;

use api_types::link::NodeReport;
use api_types::{ErrorBody, ErrorCode};
use config_schema::BaseUrl;
use http::StatusCode;
use http_front::ApiError;
use llama_orch_client::{ClientError, NodeClient, Timeouts};
use secrecy::SecretString;

/// How long the way back may take. A node waits for it with its first report; a LAN answers in milliseconds.
const TIMEOUTS: Timeouts = Timeouts {
    connect: Duration::from_secs(2),
    request: Duration::from_secs(4),
    idle: Duration::from_secs(4),
};

/// What helps where the address leads to something else.
const LEAD_HERE: &str = "set pool_managerd.advertise_url to the URL that leads to this pool-managerd";

/// Goes the way back. Cheap to clone.
#[derive(Debug, Clone)]
pub struct NodeCheck {
    nodes: NodeClient,
}

impl NodeCheck {
    /// A check with the installation's token.
    ///
    /// # Errors
    /// The HTTP client cannot be set up.
    pub fn new(token: Option<SecretString>) -> Result<Self, ClientError> {
        Ok(Self {
            nodes: NodeClient::new(token, TIMEOUTS)?,
        })
    }

    /// Whether the node's address leads to the pool-managerd that sent the report. Asked only where engines are reached
    /// through its relay: elsewhere the address serves for last words alone.
    ///
    /// # Errors
    /// What the node is told: where its address leads instead, and what to do.
    pub async fn leads_to(&self, report: &NodeReport) -> Result<(), ApiError> {
        if !report.relay {
            return Ok(());
        }
        match self.nodes.node(&report.address).await {
            Ok(found) if (&found.node_id, found.instance) == (&report.node_id, report.instance) => Ok(()),
            Ok(found) => Err(elsewhere(report, &found)),
            Err(error) => Err(unreached(report, &error)),
        }
    }
}

/// Whether the engines of a report can be where it says: loopback is another host for a node that is on another one.
///
/// # Errors
/// What the node is told.
pub fn is_of_this_host(report: &NodeReport, peer: SocketAddr) -> Result<(), ApiError> {
    if report.relay || peer.ip().to_canonical().is_loopback() {
        return Ok(());
    }
    let endpoints = report.pools.iter().flat_map(|pool| {
        let replicas = pool.replicas.iter();
        replicas
            .filter_map(move |replica| Some((&pool.pool_id, &replica.replica_id, replica.endpoint.as_ref()?)))
    });
    let mut near = endpoints.filter(|(_, _, endpoint)| is_loopback(endpoint));
    near.next().map_or(Ok(()), |(pool, replica, endpoint)| {
        let message = format!(
            "pools: the endpoint of {pool}/{replica} is {endpoint}, which is another place on this host than on {}",
            peer.ip()
        );
        let hint = "set pool_managerd.relay to \"always\" on the node";
        Err(refusal(message, hint))
    })
}

fn is_loopback(address: &str) -> bool {
    address.parse::<BaseUrl>().is_ok_and(|url| url.is_loopback())
}

fn elsewhere(report: &NodeReport, found: &NodeReport) -> ApiError {
    let (address, node) = (&report.address, &report.node_id);
    let who = if found.node_id == *node {
        "another pool-managerd of this name".to_owned()
    } else {
        format!("node {}", found.node_id)
    };
    let message =
        format!("address: {address} leads to {who}, not to the one that sent this report of {node}");
    refusal(message, LEAD_HERE)
}

fn unreached(report: &NodeReport, error: &ClientError) -> ApiError {
    let address = &report.address;
    match error {
        ClientError::Api(api) => refused(address, api),
        ClientError::Protocol { .. } => refusal(
            format!("address: what answers at {address} is no pool-managerd"),
            LEAD_HERE,
        ),
        ClientError::Address(_) | ClientError::Setup(_) => refusal(
            format!("address: {}", chain(error)),
            "set pool_managerd.advertise_url to an http or https URL",
        ),
        ClientError::Unreachable { .. }
        | ClientError::Timeout { .. }
        | ClientError::Disconnected { .. }
        | ClientError::LastEventId { .. }
        | ClientError::Unsendable { .. } => refusal(
            format!(
                "address: the orchestrator cannot reach {address}: {}",
                root(error)
            ),
            "let pool_managerd.addr listen beyond loopback and its port through the firewall, or set \
             pool_managerd.advertise_url to a URL that leads to it",
        ),
    }
}

/// The node is there and does not serve the orchestrator.
fn refused(address: &str, api: &llama_orch_client::ApiError) -> ApiError {
    let message = format!(
        "address: {address} answers the orchestrator with {} {}",
        api.status.as_u16(),
        api.code()
    );
    let hint = match api.status {
        StatusCode::UNAUTHORIZED => "give pool-managerd and orchestratord the same AUTH_TOKEN",
        StatusCode::FORBIDDEN => {
            "add the host of pool_managerd.advertise_url to http.allowed_hosts of the node"
        }
        StatusCode::NOT_FOUND => LEAD_HERE,
        _ => "look at the log of this pool-managerd",
    };
    refusal(message, hint)
}

fn refusal(message: String, hint: &str) -> ApiError {
    ErrorBody::new(ErrorCode::InvalidParams, message)
        .with_hint(hint)
        .into()
}

/// The last cause, in the operating system's words where there are any.
fn root(error: &ClientError) -> String {
    let last = successors(Some(error as &dyn Error), |&error| error.source()).last();
    last.map(ToString::to_string).unwrap_or_default()
}

fn chain(error: &ClientError) -> String {
    let causes = successors(Some(error as &dyn Error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn report(endpoint: &str, relay: bool) -> NodeReport {
        let report = json!({
            "node_id": "box", "instance": "01900000-0000-7000-8000-000000000001", "seq": 1,
            "address": "http://10.0.0.5:9200", "relay": relay, "version": "0", "gpus": [],
            "pools": [{
                "pool_id": "p", "engine": "llamacpp", "model_id": "m", "model_ref": "m", "ctx_max": 512,
                "device_mask": [], "supported_workloads": [], "deterministic": false, "generation": 1,
                "draining": false,
                "replicas": [{
                    "replica_id": "r0", "state": "ready", "generation": 1, "endpoint": endpoint, "restarts": 0
                }]
            }]
        });
        serde_json::from_value(report).unwrap()
    }

    /// REQ-RELAY-WAY-BACK.
    #[test]
    fn loopback_of_another_host_is_no_endpoint() {
        let (far, near) = (
            "10.0.0.5:4000".parse().unwrap(),
            "127.0.0.1:4000".parse().unwrap(),
        );
        let own = report("http://127.0.0.1:8090", false);
        let refused = is_of_this_host(&own, far).unwrap_err();
        let ErrorBody { message, hint, .. } = refused.body();
        assert!(
            message.contains("p/r0") && message.contains("10.0.0.5"),
            "{message}"
        );
        assert!(
            hint.as_deref()
                .is_some_and(|hint| hint.contains("pool_managerd.relay"))
        );
        let mapped = "[::ffff:127.0.0.1]:1".parse().unwrap();
        for (report, peer) in [
            (&own, near),
            (&own, mapped),
            (&report("http://127.0.0.1:8090", true), far),
            (&report("http://10.0.0.5:8090", false), far),
        ] {
            assert!(is_of_this_host(report, peer).is_ok(), "{peer}");
        }
    }
}
