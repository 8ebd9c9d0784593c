//! Memory that engines were seen to hold, kept so that the next plan is made from it.

use api_types::{MeasuredUsage, UsageKey};

use crate::catalog::Catalog;
use crate::error::CatalogError;

/// Many times the combinations that one machine runs; the oldest make room.
const MOST: usize = 4096;

impl Catalog {
    /// Notes a measurement. The most that was ever seen of a combination counts.
    ///
    /// # Errors
    /// The index cannot be read or written.
    pub fn record_usage(&self, seen: &MeasuredUsage, now_unix_ms: u64) -> Result<(), CatalogError> {
        let turn = self.turn()?;
        let mut index = self.usage.read()?.index.clone();
        match index.find_mut(|known| known.key == seen.key) {
            Some(known) => {
                known.bytes = known.bytes.max(seen.bytes);
                known.samples = known.samples.saturating_add(seen.samples);
                known.measured_unix_ms = known.measured_unix_ms.max(seen.measured_unix_ms);
            }
            None => index.push(seen.clone()),
        }
        let excess = index.entries.len().saturating_sub(MOST);
        index.entries.drain(..excess);
        self.usage.write(index, now_unix_ms)?;
        drop(turn);
        Ok(())
    }

    /// Everything measured, in the order of first measurement.
    ///
    /// # Errors
    /// The index cannot be read.
    pub fn usage(&self) -> Result<Vec<MeasuredUsage>, CatalogError> {
        let snapshot = self.usage.read()?;
        Ok(snapshot
            .index
            .entries
            .iter()
            .map(|known| known.entry.clone())
            .collect())
    }

    /// What was measured of one combination.
    ///
    /// # Errors
    /// The index cannot be read.
    pub fn usage_of(&self, key: &UsageKey) -> Result<Option<MeasuredUsage>, CatalogError> {
        let snapshot = self.usage.read()?;
        Ok(snapshot.index.find(|known| known.key == *key).cloned())
    }
}
