//! Connections per address.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api_types::{ErrorBody, ErrorCode, PolicyLabel};

use super::limits::Limits;
use crate::advice::RetryAdvice;
use crate::error::pause_headers;

pub(crate) struct Caps {
    per_ip: usize,
    shared: Vec<IpAddr>,
    open: Mutex<HashMap<IpAddr, usize>>,
}

pub(crate) enum Admission {
    Admitted(Permit),
    Refused { limit: usize },
}

/// Held as long as the connection.
pub(crate) struct Permit {
    counted: Option<(Arc<Caps>, IpAddr)>,
}

impl Caps {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            per_ip: limits.max_connections_per_ip,
            shared: limits.shared_addresses.iter().map(IpAddr::to_canonical).collect(),
            open: Mutex::default(),
        }
    }

    pub(crate) fn admit(self: &Arc<Self>, ip: IpAddr) -> Admission {
        let ip = ip.to_canonical();
        if ip.is_loopback() || self.shared.contains(&ip) {
            return Admission::Admitted(Permit { counted: None });
        }
        let mut open = self.lock();
        let count = open.entry(ip).or_default();
        if *count >= self.per_ip {
            return Admission::Refused { limit: self.per_ip };
        }
        *count += 1;
        let counted = Some((Arc::clone(self), ip));
        Admission::Admitted(Permit { counted })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Some((caps, ip)) = self.counted.take() else {
            return;
        };
        if let Entry::Occupied(mut count) = caps.lock().entry(ip) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// What a refused connection is told, as a whole HTTP/1.1 response.
pub(crate) fn refusal(limit: usize, advice: &RetryAdvice) -> Vec<u8> {
    let message = format!("more than {limit} connections from one address");
    let mut body = ErrorBody::new(ErrorCode::AdmissionReject, message).with_policy(PolicyLabel::RateLimit);
    body.hint = Some("reuse connections, or raise http.max_connections_per_ip".to_owned());
    advice.complete(&mut body);
    let json = serde_json::to_string(&body).unwrap_or_default();
    let mut answer =
        b"HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/json\r\nconnection: close\r\n".to_vec();
    for (name, value) in &pause_headers(&body) {
        answer.extend_from_slice(name.as_str().as_bytes());
        answer.extend_from_slice(b": ");
        answer.extend_from_slice(value.as_bytes());
        answer.extend_from_slice(b"\r\n");
    }
    answer.extend_from_slice(format!("content-length: {}\r\n\r\n{json}", json.len()).as_bytes());
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caps(per_ip: usize) -> Arc<Caps> {
        Arc::new(Caps::new(&Limits {
            max_connections_per_ip: per_ip,
            shared_addresses: vec!["10.0.0.9".parse().unwrap()],
            ..Limits::default()
        }))
    }

    fn admit(caps: &Arc<Caps>, ip: &str) -> Option<Permit> {
        match caps.admit(ip.parse().unwrap()) {
            Admission::Admitted(permit) => Some(permit),
            Admission::Refused { .. } => None,
        }
    }

    #[test]
    fn the_cap_counts_open_connections_and_forgets_closed_ones() {
        let caps = caps(2);
        let first = admit(&caps, "10.0.0.1").unwrap();
        let second = admit(&caps, "::ffff:10.0.0.1").unwrap();
        assert!(admit(&caps, "10.0.0.1").is_none());
        assert!(admit(&caps, "10.0.0.2").is_some());
        drop(first);
        assert!(admit(&caps, "10.0.0.1").is_some());
        drop(second);
        assert!(caps.lock().is_empty());
    }

    /// ORCH-3106
    #[test]
    fn a_refused_connection_is_told_when_to_come_back() {
        let answer = |advice| String::from_utf8(refusal(8, &advice)).unwrap();
        let told = answer(RetryAdvice::new(|| Some(1_500)));
        let (head, body) = told.split_once("\r\n\r\n").unwrap();
        assert!(
            head.contains("\r\nretry-after: 2\r\nx-backoff-ms: 1500\r\n"),
            "{head}"
        );
        assert!(
            head.ends_with(&format!("content-length: {}", body.len())),
            "{head}"
        );
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["retry_after_ms"], 1_500);
        assert!(!answer(RetryAdvice::default()).contains("retry-after"));
    }

    #[test]
    fn loopback_and_trusted_proxies_are_exempt() {
        let caps = caps(1);
        let held: Vec<_> = ["127.0.0.1", "127.0.0.1", "::1", "::1", "10.0.0.9", "10.0.0.9"]
            .iter()
            .map(|ip| admit(&caps, ip))
            .collect();
        assert!(held.iter().all(Option::is_some));
    }
}
