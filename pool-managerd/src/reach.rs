//! How the orchestrator reaches this node and its engines (REQ-RELAY-REACH): directly on loopback, or through this daemon's
//! relay. Decided once, from the configuration and the bound address.

use std::net::SocketAddr;

use api_types::link::relay_url;
use api_types::pool::PoolReport;
use config_schema::{BaseUrl, Http, ListenAddr, PoolManagerd, RelayMode};
use http_front::Limits;
use narration_core::Narration;

use crate::pool::strip_keys;
use crate::story::ACTOR;

/// Connections from an orchestrator beside its streams: health, token counts, reports of an engine's end.
const SHORT_QUESTIONS: usize = 64;

/// How the orchestrator gets here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// The daemon's base URL.
    pub address: String,
    /// Whether engines are reached through the relay.
    pub relay: bool,
    /// Whether what is said between the daemons can be read on the way.
    plain: bool,
    /// An orchestrator on another host cannot come to the address.
    dead_end: bool,
}

/// Nobody can be told where this daemon is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "pool_managerd.addr {bound} is every address of this host and names none, and the orchestrator {orchestrator} is \
     on another host: set pool_managerd.advertise_url to the URL at which it reaches this daemon"
)]
pub struct NoAddress {
    /// Where the daemon listens.
    pub bound: SocketAddr,
    /// `pool_managerd.orchestrator_url`.
    pub orchestrator: String,
}

impl Reach {
    /// From the configuration and where the daemon listens.
    ///
    /// # Errors
    /// [`NoAddress`] when the orchestrator is beyond loopback and there is no address to tell it.
    pub fn new(config: &PoolManagerd, bound: SocketAddr) -> Result<Self, NoAddress> {
        let far = !config.orchestrator_url.is_loopback();
        if far && bound.ip().is_unspecified() && config.advertise_url.is_none() {
            return Err(NoAddress {
                bound,
                orchestrator: config.orchestrator_url.to_string(),
            });
        }
        let own = || BaseUrl::http(ListenAddr::from(bound).reachable());
        let address = config.advertise_url.clone().unwrap_or_else(own);
        Ok(Self {
            relay: far || config.relay == RelayMode::Always,
            plain: config.orchestrator_url.is_plain_beyond_loopback() || address.is_plain_beyond_loopback(),
            dead_end: far && address.is_loopback(),
            address: address.to_string(),
        })
    }

    /// The front's settings for a daemon that also answers to the host of its own `advertise_url`.
    #[must_use]
    pub fn known_hosts(config: &PoolManagerd, http: &Http) -> Http {
        let mut http = http.clone();
        http.allowed_hosts
            .extend(config.advertise_url.as_ref().and_then(BaseUrl::host_name));
        http
    }

    /// Says once what an operator should know of the way.
    pub fn tell(&self) {
        if self.relay {
            let human = "The orchestrator reaches this node's engines through its relay";
            Narration::new(ACTOR, "relay", &"node", human).emit();
        }
        if self.plain {
            let human = "The token, prompts and answers travel unencrypted; use https where that matters";
            Narration::new(ACTOR, "relay", &"node", human).warning().emit();
        }
        if self.dead_end {
            let human = "An orchestrator on another host cannot reach a loopback address";
            Narration::new(ACTOR, "relay", &"node", human).warning().emit();
            tracing::warn!(
                address = self.address,
                hint = "set pool_managerd.addr to an address of this host, or pool_managerd.advertise_url",
                "the orchestrator is told an address that it may not reach"
            );
        }
    }

    /// An orchestrator that comes through the relay brings all its streams from one address: at least as many
    /// connections as the node has slots, and some for short questions, must be allowed from there.
    pub fn make_room(&self, limits: &mut Limits, pools: &[config_schema::Pool]) {
        let slots = |pool: &config_schema::Pool| pool.slots.get() * pool.replicas.get();
        let needed = pools.iter().map(slots).sum::<usize>() + SHORT_QUESTIONS;
        if self.relay {
            limits.max_connections_per_ip = limits.max_connections_per_ip.max(needed);
        }
    }

    /// What a pool's report tells an orchestrator: where relay is, the relay's place for each engine, and no keys.
    pub fn address_engines(&self, pool: &mut PoolReport) {
        if !self.relay {
            return;
        }
        strip_keys(pool);
        for replica in &mut pool.replicas {
            let at = || relay_url(&self.address, &pool.pool_id, &replica.replica_id);
            replica.endpoint = replica.endpoint.is_some().then(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(
        orchestrator: &str,
        addr: &str,
        advertise: Option<&str>,
        relay: RelayMode,
    ) -> Result<Reach, NoAddress> {
        let config = PoolManagerd {
            orchestrator_url: orchestrator.parse().unwrap(),
            advertise_url: advertise.map(|url| url.parse().unwrap()),
            relay,
            ..PoolManagerd::default()
        };
        Reach::new(&config, addr.parse().unwrap())
    }

    /// REQ-RELAY-REACH.
    #[test]
    fn an_orchestrator_beyond_loopback_comes_through_the_relay() {
        let near = "http://127.0.0.1:8080";
        let auto =
            |orchestrator, addr, advertise| reach(orchestrator, addr, advertise, RelayMode::Auto).unwrap();
        assert!(!auto(near, "127.0.0.1:9200", None).relay);
        assert!(!auto("http://localhost", "10.0.0.5:9200", None).relay);
        assert!(auto("http://10.0.0.1:8080", "10.0.0.5:9200", None).relay);
        assert!(auto("https://orchestrator.lan", "10.0.0.5:9200", None).relay);
        assert!(
            reach(near, "127.0.0.1:9200", None, RelayMode::Always)
                .unwrap()
                .relay
        );
    }

    #[test]
    fn the_address_is_one_that_can_be_dialled() {
        let of = |orchestrator, addr, advertise| reach(orchestrator, addr, advertise, RelayMode::Auto);
        let address = |found: Result<Reach, NoAddress>| found.unwrap().address;
        assert_eq!(
            address(of("http://127.0.0.1:1", "0.0.0.0:9200", None)),
            "http://127.0.0.1:9200"
        );
        assert_eq!(
            address(of("http://10.0.0.1", "0.0.0.0:9200", Some("https://box.lan/"))),
            "https://box.lan"
        );
        let error = of("http://10.0.0.1", "0.0.0.0:9200", None)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("advertise_url") && error.contains("0.0.0.0:9200"),
            "{error}"
        );
    }

    #[test]
    fn a_daemon_answers_to_the_name_that_it_advertises() {
        let of = |advertise: Option<&str>| {
            let config = PoolManagerd {
                advertise_url: advertise.map(|url| url.parse().unwrap()),
                ..PoolManagerd::default()
            };
            let hosts = Reach::known_hosts(&config, &Http::default()).allowed_hosts;
            hosts
                .iter()
                .map(|host| host.as_str().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(of(None), [""; 0]);
        assert_eq!(of(Some("https://Box-2.lan/gpu")), ["box-2.lan"]);
        assert_eq!(of(Some("http://[fd00::2]:1")), ["[fd00::2]"]);
    }

    #[test]
    fn what_an_operator_should_know_is_known() {
        let of = |orchestrator, addr, advertise| {
            let reach = reach(orchestrator, addr, advertise, RelayMode::Auto).unwrap();
            (reach.plain, reach.dead_end)
        };
        assert_eq!(of("http://127.0.0.1:1", "127.0.0.1:2", None), (false, false));
        assert_eq!(of("http://10.0.0.1", "10.0.0.5:9200", None), (true, false));
        assert_eq!(of("https://10.0.0.1", "127.0.0.1:9200", None), (false, true));
        assert_eq!(
            of("https://10.0.0.1", "127.0.0.1:9200", Some("https://box.lan")),
            (false, false)
        );
    }

    #[test]
    fn every_slot_may_have_a_connection_from_the_orchestrator() {
        let pool = |slots: usize| {
            let text = format!(
                "id = \"p\"\nengine = \"llamacpp\"\nmodel = \"m\"\nmodel_id = \"m\"\ndevices = [\"GPU-1\"]\nslots = {slots}\nreplicas = 2"
            );
            toml::from_str::<config_schema::Pool>(&text).unwrap()
        };
        let of = |relay, slots| {
            let reach = reach("http://127.0.0.1:1", "127.0.0.1:2", None, relay).unwrap();
            let mut limits = Limits::default();
            reach.make_room(&mut limits, &[pool(slots)]);
            limits.max_connections_per_ip
        };
        assert_eq!(of(RelayMode::Auto, 256), 256);
        assert_eq!(of(RelayMode::Always, 4), 256);
        assert_eq!(of(RelayMode::Always, 256), 512 + SHORT_QUESTIONS);
    }
}
