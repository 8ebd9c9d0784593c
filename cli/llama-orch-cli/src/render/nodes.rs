//! Nodes: a row for each GPU of each box.

use api_types::NodeList;
use api_types::link::NodeStatus;
use api_types::pool::{GpuCondition, GpuReport};
use comfy_table::Cell;

use super::table::{Look, Tone, cell, draw, toned};
use super::text::{duration, gib, gpu, wire};

pub(crate) fn list(list: &NodeList, look: Look) -> String {
    let header = [
        "NODE",
        "STATE",
        "ADDRESS",
        "ENGINES",
        "GPU",
        "NAME",
        "FREE GIB",
        "TOTAL GIB",
        "CONDITION",
        "CC",
        "DRIVER",
    ];
    let rows = list.nodes.iter().flat_map(|node| rows(node, look));
    draw(look, &header, rows)
}

fn rows(node: &NodeStatus, look: Look) -> Vec<Vec<Cell>> {
    let gpus: Vec<Option<&GpuReport>> = match node.gpus.as_slice() {
        [] => vec![None],
        gpus => gpus.iter().map(Some).collect(),
    };
    gpus.into_iter().map(|gpu| row(node, gpu, look)).collect()
}

fn row(node: &NodeStatus, report: Option<&GpuReport>, look: Look) -> Vec<Cell> {
    let column = |of: fn(&GpuReport) -> String| cell(report.map_or_else(|| "-".to_owned(), of));
    vec![
        cell(node.node_id.as_str()),
        state(node, look),
        cell(&node.address),
        cell(if node.relay { "by relay" } else { "directly" }),
        column(|report| gpu(&report.uuid).into_owned()),
        column(|report| report.name.clone()),
        column(|report| gib(report.memory_free_bytes)),
        column(|report| gib(report.memory_total_bytes)),
        report.map_or_else(|| cell("-"), |report| condition(report, look)),
        column(|report| report.compute_capability.clone()),
        cell(driver(node)),
    ]
}

fn state(node: &NodeStatus, look: Look) -> Cell {
    if node.live {
        toned("live", Tone::Good, look)
    } else {
        toned(
            format!("silent for {}", duration(node.last_seen_ms)),
            Tone::Bad,
            look,
        )
    }
}

/// What is wrong with it, else why it is slower than it could be.
fn condition(report: &GpuReport, look: Look) -> Cell {
    let words: Vec<String> = report
        .throttled
        .iter()
        .map(|throttle| wire(throttle).replace('_', " "))
        .collect();
    match report.condition {
        GpuCondition::Healthy if words.is_empty() => toned("healthy", Tone::Good, look),
        GpuCondition::Healthy => toned(format!("slowed: {}", words.join(", ")), Tone::Doubtful, look),
        GpuCondition::TooHot => toned("too hot", Tone::Doubtful, look),
        GpuCondition::NeedsReset => toned("needs a reset", Tone::Bad, look),
        GpuCondition::Unusable => toned("unusable", Tone::Bad, look),
    }
}

fn driver(node: &NodeStatus) -> &str {
    let version = node.driver.as_ref().map(|driver| driver.driver_version.as_str());
    version.or(node.driver_error.as_deref()).unwrap_or("-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::samples;

    #[test]
    fn a_table_of_nodes() {
        insta::assert_snapshot!("nodes", list(&samples::nodes(), Look::Piped));
    }
}
