//! How many tasks wait, by pool and class: `queue_depth`. Owns the family; a pool that is gone leaves no series behind.
//! Handles are resolved when the fleet changes, not when a task comes or goes.

use std::collections::BTreeMap;

use api_types::{PoolId, Priority};
use prometheus::{IntGauge, IntGaugeVec, Opts, Registry};

use crate::metrics::UNKNOWN;

const LABELS: [&str; 4] = ["engine", "engine_version", "pool_id", "priority"];

/// Engine and its version, as the labels say it.
pub type Engine = [String; 2];

/// Tasks in one line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Depths {
    /// Of the class that goes first.
    pub interactive: usize,
    /// Of the other one.
    pub batch: usize,
}

/// The family and its series.
#[derive(Debug)]
pub struct QueueGauges {
    family: IntGaugeVec,
    pools: BTreeMap<PoolId, Series>,
    /// Tasks in no line: no pool could serve them now.
    elsewhere: [IntGauge; 2],
}

#[derive(Debug)]
struct Series {
    engine: Engine,
    gauges: [IntGauge; 2],
}

impl QueueGauges {
    /// Registers the family.
    ///
    /// # Errors
    /// When a family of the same name is registered already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let help =
            "Tasks waiting, by the pool in whose line they stand; unknown where no pool could serve them now";
        let family = IntGaugeVec::new(Opts::new("queue_depth", help), &LABELS)?;
        registry.register(Box::new(family.clone()))?;
        let elsewhere = gauges(&family, [UNKNOWN, UNKNOWN], UNKNOWN);
        Ok(Self {
            family,
            pools: BTreeMap::new(),
            elsewhere,
        })
    }

    /// These pools are there, and no others.
    pub fn keep_pools(&mut self, pools: &BTreeMap<PoolId, Engine>) {
        let family = &self.family;
        self.pools.retain(|pool, series| {
            let stays = pools.get(pool) == Some(&series.engine);
            if !stays {
                forget(family, &series.engine, pool);
            }
            stays
        });
        for (pool, engine) in pools {
            self.pools.entry(pool.clone()).or_insert_with(|| Series {
                gauges: gauges(family, [&engine[0], &engine[1]], pool.as_str()),
                engine: engine.clone(),
            });
        }
    }

    /// Shows the lines of the pools, and of `all` that wait those in none.
    pub fn show(&self, all: Depths, line: impl Fn(&PoolId) -> Depths) {
        let mut rest = all;
        for (pool, series) in &self.pools {
            let depths = line(pool);
            set(&series.gauges, depths);
            rest.interactive = rest.interactive.saturating_sub(depths.interactive);
            rest.batch = rest.batch.saturating_sub(depths.batch);
        }
        set(&self.elsewhere, rest);
    }
}

fn gauges(family: &IntGaugeVec, [engine, version]: [&str; 2], pool: &str) -> [IntGauge; 2] {
    let of = |class: Priority| family.with_label_values(&[engine, version, pool, class.as_str()]);
    [of(Priority::Interactive), of(Priority::Batch)]
}

fn set([interactive, batch]: &[IntGauge; 2], depths: Depths) {
    let number = |tasks: usize| i64::try_from(tasks).unwrap_or(i64::MAX);
    interactive.set(number(depths.interactive));
    batch.set(number(depths.batch));
}

fn forget(family: &IntGaugeVec, [engine, version]: &Engine, pool: &PoolId) {
    for class in Priority::ALL {
        // An error means that no such series exists, which is what is wanted.
        let _unknown = family.remove_label_values(&[engine, version, pool.as_str(), class.as_str()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pool, class and depth of each series.
    fn scrape(registry: &Registry) -> Vec<(String, String, f64)> {
        let families = registry.gather();
        let series = families
            .iter()
            .flat_map(prometheus::proto::MetricFamily::get_metric);
        let label = |metric: &prometheus::proto::Metric, name: &str| {
            let labels = metric.get_label().iter();
            let mut of_name = labels.filter(|label| label.name() == name);
            of_name.next().unwrap().value().to_owned()
        };
        let row = |metric| {
            (
                label(metric, "pool_id"),
                label(metric, "priority"),
                metric.get_gauge().get_value(),
            )
        };
        let mut rows: Vec<_> = series.map(row).collect();
        rows.sort_by(|a, b| a.partial_cmp(b).unwrap());
        rows
    }

    fn rows(of: &[(&str, f64, f64)]) -> Vec<(String, String, f64)> {
        let both = |(pool, batch, interactive): &(&str, f64, f64)| {
            let row = |class: &str, depth| ((*pool).to_owned(), class.to_owned(), depth);
            [row("batch", *batch), row("interactive", *interactive)]
        };
        of.iter().flat_map(both).collect()
    }

    fn fleet(pools: &[(&str, &str)]) -> BTreeMap<PoolId, Engine> {
        let engine = |version: &str| ["llamacpp".to_owned(), version.to_owned()];
        let pools = pools.iter();
        pools
            .map(|(pool, version)| (pool.parse().unwrap(), engine(version)))
            .collect()
    }

    /// ORCH-3460: each waiting task is in one series; a pool that leaves takes its series along.
    #[test]
    fn each_waiting_task_is_shown_once() {
        let registry = Registry::new();
        let mut gauges = QueueGauges::new(&registry).unwrap();
        let all = Depths {
            interactive: 3,
            batch: 2,
        };
        let line = |pool: &PoolId| match pool.as_str() {
            "a" => Depths {
                interactive: 2,
                batch: 0,
            },
            _ => Depths {
                interactive: 0,
                batch: 1,
            },
        };
        gauges.keep_pools(&fleet(&[("a", "b1"), ("b", "b1")]));
        gauges.show(all, line);
        let shown = rows(&[("a", 0.0, 2.0), ("b", 1.0, 0.0), (UNKNOWN, 1.0, 1.0)]);
        assert_eq!(scrape(&registry), shown);
        gauges.keep_pools(&fleet(&[("a", "b2")]));
        gauges.show(all, line);
        let shown = rows(&[("a", 0.0, 2.0), (UNKNOWN, 2.0, 1.0)]);
        assert_eq!(scrape(&registry), shown);
    }
}
