//! What can be asked for right now, pool by pool.

use api_types::capabilities::{Capabilities, PoolCapability};

use super::table::{Look, cell, draw};

pub(crate) fn list(capabilities: &Capabilities, look: Look) -> String {
    let header = ["MODEL", "POOL", "ENGINE", "CTX", "SLOTS", "WORKLOADS", "FEATURES"];
    let rows = capabilities.pools.iter().map(|pool| {
        let workloads: Vec<&str> = pool
            .supported_workloads
            .iter()
            .map(|workload| workload.as_str())
            .collect();
        vec![
            cell(pool.model_id.as_str()),
            cell(pool.pool_id.as_str()),
            cell(pool.engine.as_str()),
            cell(pool.ctx_max.to_string()),
            cell(pool.slots_total.to_string()),
            cell(workloads.join(" ")),
            cell(features(pool)),
        ]
    });
    draw(look, &header, rows)
}

fn features(pool: &PoolCapability) -> String {
    let mut features = pool.features.clone();
    if pool.deterministic {
        features.push("deterministic".to_owned());
    }
    features.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::samples;

    #[test]
    fn a_table_of_capabilities() {
        insta::assert_snapshot!("capabilities", list(&samples::capabilities(), Look::Piped));
    }
}
