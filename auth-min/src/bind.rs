//! Whether a daemon may listen where it is told to.

use std::net::SocketAddr;

use crate::policy::Policy;

/// A bind beyond loopback without a token (AUTH-1002). The daemon does not start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "refusing to listen on {addr} without a token (code {code}): set AUTH_TOKEN or auth.token_file, or listen on loopback",
    code = Self::CODE
)]
pub struct BindRefusal {
    /// Where it was told to listen.
    pub addr: SocketAddr,
}

impl BindRefusal {
    /// The code of the refusal, printed with it.
    pub const CODE: u32 = 40_301;
}

impl Policy {
    /// Whether a daemon with this policy may listen on an address.
    ///
    /// # Errors
    /// [`BindRefusal`] for an address beyond loopback while no token is configured.
    pub fn check_bind(&self, addr: SocketAddr) -> Result<(), BindRefusal> {
        if self.has_token() || addr.ip().to_canonical().is_loopback() {
            Ok(())
        } else {
            Err(BindRefusal { addr })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_does_without_a_token() {
        let open = Policy::new(None, true, []);
        let closed = Policy::new(Some(&"secret".into()), false, []);
        for addr in [
            "127.0.0.1:80",
            "127.9.9.9:80",
            "[::1]:80",
            "[::ffff:127.0.0.1]:80",
        ] {
            assert_eq!(open.check_bind(addr.parse().unwrap()), Ok(()), "{addr}");
        }
        for addr in ["0.0.0.0:80", "[::]:80", "192.168.1.5:80", "[fe80::1]:80"] {
            let addr = addr.parse().unwrap();
            assert_eq!(closed.check_bind(addr), Ok(()));
            let refusal = open.check_bind(addr).unwrap_err().to_string();
            assert!(
                refusal.contains("40301") && refusal.contains(&addr.to_string()),
                "{refusal}"
            );
        }
    }
}
