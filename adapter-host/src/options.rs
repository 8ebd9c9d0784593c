//! The limits of a host and the rules they must satisfy.

use adapter_api::Timeouts;

use crate::breaker::BreakerOptions;
use crate::error::HostError;

/// Limits of a host. All from the caller: the host has no defaults of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// How long to wait for an engine.
    pub timeouts: Timeouts,
    /// When to stop asking an engine, and for how long.
    pub breaker: BreakerOptions,
}

impl Options {
    pub(crate) fn check(&self) -> Result<(), HostError> {
        let Self { timeouts, breaker } = self;
        for (field, duration) in [
            ("timeouts.connect", timeouts.connect),
            ("timeouts.first_token", timeouts.first_token),
            ("timeouts.token_idle", timeouts.token_idle),
            ("timeouts.probe", timeouts.probe),
            ("breaker.cooldown", breaker.cooldown),
        ] {
            ensure(!duration.is_zero(), field, "must be longer than zero")?;
        }
        ensure(
            timeouts.first_token >= timeouts.connect,
            "timeouts.first_token",
            "must not be shorter than timeouts.connect",
        )?;
        ensure(
            breaker.faults_to_open > 0,
            "breaker.faults_to_open",
            "must be at least 1",
        )?;
        ensure(
            breaker.cooldown_max >= breaker.cooldown,
            "breaker.cooldown_max",
            "must not be shorter than breaker.cooldown",
        )
    }
}

fn ensure(ok: bool, field: &'static str, rule: &'static str) -> Result<(), HostError> {
    if ok {
        Ok(())
    } else {
        Err(HostError::Option { field, rule })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    type Spoil = fn(&mut Options, Duration);

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn each_option_that_cannot_work_is_named() {
        let good = Options {
            timeouts: Timeouts {
                connect: SECOND,
                first_token: SECOND,
                token_idle: SECOND,
                probe: SECOND,
            },
            breaker: BreakerOptions {
                faults_to_open: 1,
                cooldown: SECOND,
                cooldown_max: SECOND,
            },
        };
        assert!(good.check().is_ok());
        let zero = Duration::ZERO;
        let cases: [(Spoil, &str); 7] = [
            (|o, t| o.timeouts.connect = t, "timeouts.connect must be longer"),
            (
                |o, t| o.timeouts.first_token = t,
                "timeouts.first_token must be longer",
            ),
            (
                |o, t| o.timeouts.token_idle = t,
                "timeouts.token_idle must be longer",
            ),
            (|o, t| o.timeouts.probe = t, "timeouts.probe must be longer"),
            (|o, t| o.breaker.cooldown = t, "breaker.cooldown must be longer"),
            (
                |o, t| o.breaker.cooldown_max = t,
                "breaker.cooldown_max must not be shorter",
            ),
            (
                |o, _| o.breaker.faults_to_open = 0,
                "breaker.faults_to_open must be at least 1",
            ),
        ];
        for (spoil, message) in cases {
            let mut options = good;
            spoil(&mut options, zero);
            let error = options.check().unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
        let mut options = good;
        options.timeouts.connect = 2 * SECOND;
        let error = options.check().unwrap_err().to_string();
        assert_eq!(
            error,
            "timeouts.first_token must not be shorter than timeouts.connect"
        );
    }
}
