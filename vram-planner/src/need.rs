//! How much is asked for: what was measured, else the estimate, with an allowance for what neither knows.

use api_types::{MeasuredUsage, ModelFacts, Sha256Digest, UsageKey};

use crate::estimate::{Estimate, EstimateError, Load, estimate};

/// What is asked for beyond what is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// Per device, bytes: the driver's context, the engine's libraries, their scratch memory.
    pub fixed: u64,
    /// Of the estimate, percent.
    pub percent: u64,
    /// Beyond what was measured of the same load, percent: use differs a little from start to start.
    pub measured_percent: u64,
}

impl Default for Allowance {
    /// 512 MiB and 5 % over an estimate, 2 % over a measurement.
    fn default() -> Self {
        Self {
            fixed: 512 << 20,
            percent: 5,
            measured_percent: 2,
        }
    }
}

/// What the number comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis {
    /// The header alone.
    Estimated,
    /// The header, and how far it was from the truth for another load of the same model and engine.
    Corrected,
    /// This very load was measured.
    Measured,
}

/// How much a load needs, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// On each of its devices.
    pub per_device: u64,
    /// Over all of them.
    pub total: u64,
    /// Of that, the allowance and what the measurement showed beyond the estimate.
    pub beyond: u64,
    /// The parts; all zero where the header does not tell them and the load was measured.
    pub estimate: Estimate,
    /// What it comes from.
    pub basis: Basis,
}

/// How much the load needs on `devices` devices.
///
/// # Errors
/// [`EstimateError`], unless this very load was measured.
pub fn need(
    model: &Sha256Digest,
    facts: &ModelFacts,
    load: &Load,
    devices: u32,
    measured: &[MeasuredUsage],
    allowance: Allowance,
) -> Result<Need, EstimateError> {
    let devices = u64::from(devices.max(1));
    let key = key(model, load);
    let estimated = estimate(facts, load);
    if let Some(seen) = measured.iter().find(|seen| seen.key == key) {
        let total = with_percent(seen.bytes, allowance.measured_percent);
        return Ok(whole(
            estimated.unwrap_or_default(),
            total,
            devices,
            Basis::Measured,
        ));
    }
    let estimated = estimated?;
    let computes = estimated.compute.saturating_mul(devices);
    let known = estimated.shared().saturating_add(computes);
    if let Some((seen, relative)) = nearest(&key, facts, load, measured) {
        // Weights and cache are exact, so what an estimate misses is nearly the same for every load of the model.
        let relative = relative
            .shared()
            .saturating_add(relative.compute.saturating_mul(devices));
        let corrected = if seen >= relative {
            known.saturating_add(seen - relative)
        } else {
            known.saturating_sub(relative - seen).max(estimated.shared())
        };
        let total = with_percent(corrected, allowance.percent);
        return Ok(whole(estimated, total, devices, Basis::Corrected));
    }
    let total =
        with_percent(known, allowance.percent).saturating_add(allowance.fixed.saturating_mul(devices));
    Ok(whole(estimated, total, devices, Basis::Estimated))
}

/// What this load is measured as.
fn key(model: &Sha256Digest, load: &Load) -> UsageKey {
    UsageKey {
        engine: load.engine,
        engine_version: load.engine_version.clone(),
        model: *model,
        ctx: load.ctx,
        slots: load.slots,
        cache_k: load.cache_k,
        cache_v: load.cache_v,
    }
}

/// The measurement of the most similar load, and the estimate of that load.
fn nearest(
    key: &UsageKey,
    facts: &ModelFacts,
    load: &Load,
    measured: &[MeasuredUsage],
) -> Option<(u64, Estimate)> {
    let size = |of: &UsageKey| of.ctx.saturating_mul(of.slots.into());
    let related = measured.iter().filter(|seen| {
        let of = &seen.key;
        (of.engine, of.model, &of.engine_version) == (key.engine, key.model, &key.engine_version)
            && (of.cache_k, of.cache_v) == (key.cache_k, key.cache_v)
    });
    let nearest = related.min_by_key(|seen| size(&seen.key).abs_diff(size(key)))?;
    let load = Load {
        ctx: nearest.key.ctx,
        slots: nearest.key.slots,
        ..load.clone()
    };
    Some((nearest.bytes, estimate(facts, &load).ok()?))
}

fn whole(estimate: Estimate, total: u64, devices: u64, basis: Basis) -> Need {
    let known = estimate
        .shared()
        .saturating_add(estimate.compute.saturating_mul(devices));
    Need {
        per_device: total.div_ceil(devices),
        total,
        beyond: total.saturating_sub(known),
        estimate,
        basis,
    }
}

const fn with_percent(bytes: u64, percent: u64) -> u64 {
    bytes.saturating_add((bytes / 100).saturating_mul(percent))
}
