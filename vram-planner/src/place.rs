//! The need held against devices: where it fits, with how much it would fit, and what stands in its way.

use std::fmt;

use api_types::{MeasuredUsage, ModelFacts, Sha256Digest};

use crate::estimate::{EstimateError, Load};
use crate::need::{Allowance, Basis, Need, need};
use crate::text::{gib, gib_down};

/// Smallest step of a context that is worth a try, tokens; engines round to it.
const CTX_STEP: u64 = 256;
/// More slots than engines have use for.
const MOST_SLOTS: u32 = 256;

/// Something of ours that is loaded on a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The pool.
    pub name: String,
    /// What it holds on this device.
    pub bytes: u64,
}

/// One GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// How it is named to people.
    pub name: String,
    /// All of its memory.
    pub total: u64,
    /// What the driver says is free.
    pub free: u64,
    /// What the configuration keeps from us.
    pub reserved: u64,
    /// Ours.
    pub loaded: Vec<Loaded>,
    /// What other programs hold.
    pub others: u64,
}

impl Device {
    /// What a load may take now.
    const fn room(&self) -> u64 {
        self.free.saturating_sub(self.reserved)
    }

    /// What a load could take if everything of ours went.
    fn room_alone(&self) -> u64 {
        let ours = self
            .loaded
            .iter()
            .fold(0, |sum: u64, loaded| sum.saturating_add(loaded.bytes));
        let freed = self.free.saturating_add(ours).min(self.total);
        freed.saturating_sub(self.reserved)
    }
}

/// What is asked.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// The model's digest, by which measurements are found.
    pub model: Sha256Digest,
    /// What its header says.
    pub facts: &'a ModelFacts,
    /// How it shall be loaded.
    pub load: Load,
    /// Over how many devices; their layers are split evenly.
    pub devices: u32,
    /// What is asked for beyond what is known.
    pub allowance: Allowance,
}

/// The answer for one device, or for one group of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The names of the devices.
    pub devices: Vec<String>,
    /// On each of them.
    pub need: Need,
    /// What may be taken on the fullest of them.
    pub room: u64,
    /// Whether it fits now.
    pub fits: bool,
    /// The longest context of a slot that fits now with the slots that were asked for; 0 for none.
    pub most_ctx: u64,
    /// Most slots that fit now with the context that was asked for; 0 for none.
    pub most_slots: u32,
    /// What of ours would have to be unloaded for it to fit; `None` where that would not be enough.
    pub without: Option<Vec<String>>,
    /// Who holds the memory of the fullest device, largest first: ours, others, the configuration.
    held: Vec<(String, u64)>,
    /// All memory of the fullest device.
    total: u64,
}

/// All answers, best first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Of each device, or of the best group where several are asked for.
    pub verdicts: Vec<Verdict>,
}

impl Plan {
    /// The best answer.
    #[must_use]
    pub fn best(&self) -> Option<&Verdict> {
        self.verdicts.first()
    }

    /// Whether it fits anywhere now.
    #[must_use]
    pub fn fits(&self) -> bool {
        self.best().is_some_and(|best| best.fits)
    }
}

/// Answers the question for these devices.
///
/// # Errors
/// [`EstimateError`]: the header does not tell enough, or the load is none.
pub fn plan(
    request: &Request<'_>,
    devices: &[Device],
    measured: &[MeasuredUsage],
) -> Result<Plan, EstimateError> {
    let of = |load: &Load| {
        need(
            &request.model,
            request.facts,
            load,
            request.devices,
            measured,
            request.allowance,
        )
    };
    let need = of(&request.load)?;
    let fits_in = |load: &Load, room: u64| of(load).is_ok_and(|need| need.per_device <= room);
    let verdict = |group: &[&Device]| {
        let fullest = group.iter().min_by_key(|device| device.room())?;
        let room = fullest.room();
        Some(Verdict {
            devices: group.iter().map(|device| device.name.clone()).collect(),
            need,
            room,
            fits: need.per_device <= room,
            most_ctx: most_ctx(request, |load| fits_in(load, room)),
            most_slots: most_slots(&request.load, |load| fits_in(load, room)),
            without: without(group, need.per_device),
            held: held(fullest),
            total: fullest.total,
        })
    };
    let mut verdicts: Vec<Verdict> = groups(devices, request.devices)
        .iter()
        .filter_map(|group| verdict(group))
        .collect();
    let rank = |verdict: &Verdict| {
        let unloads = verdict.without.as_ref().map_or(usize::MAX, Vec::len);
        (!verdict.fits, unloads, std::cmp::Reverse(verdict.room))
    };
    verdicts.sort_by(|a, b| rank(a).cmp(&rank(b)).then_with(|| a.devices.cmp(&b.devices)));
    Ok(Plan { verdicts })
}

/// Each device, or the group of those with most room now and the one of those with most room at all.
fn groups(devices: &[Device], count: u32) -> Vec<Vec<&Device>> {
    let count = count.max(1) as usize;
    if count == 1 {
        return devices.iter().map(|device| vec![device]).collect();
    }
    if devices.len() < count {
        return Vec::new();
    }
    let largest = |room: fn(&Device) -> u64| {
        let mut group: Vec<&Device> = devices.iter().collect();
        group.sort_by_key(|device| std::cmp::Reverse(room(device)));
        group.truncate(count);
        group
    };
    let (now, alone) = (largest(Device::room), largest(Device::room_alone));
    if now == alone { vec![now] } else { vec![now, alone] }
}

/// Need grows with the context, so halving finds the longest one.
fn most_ctx(request: &Request<'_>, fits: impl Fn(&Load) -> bool) -> u64 {
    let trained = request.facts.context_length.unwrap_or(request.load.ctx);
    let with = |steps: u64| Load {
        ctx: steps * CTX_STEP,
        ..request.load.clone()
    };
    let most = most_that(trained.max(request.load.ctx) / CTX_STEP, |steps| {
        fits(&with(steps))
    });
    // The context that was asked for need not be a whole number of steps.
    if fits(&request.load) {
        (most * CTX_STEP).max(request.load.ctx)
    } else {
        (most * CTX_STEP).min(request.load.ctx)
    }
}

fn most_slots(load: &Load, fits: impl Fn(&Load) -> bool) -> u32 {
    let with = |slots: u64| Load {
        slots: u32::try_from(slots).unwrap_or(MOST_SLOTS),
        ..load.clone()
    };
    let most = most_that(MOST_SLOTS.max(load.slots).into(), |slots| fits(&with(slots)));
    u32::try_from(most).unwrap_or(MOST_SLOTS)
}

/// The largest number from 1 to `most` that fits, where all smaller ones fit too; 0 for none.
fn most_that(most: u64, fits: impl Fn(u64) -> bool) -> u64 {
    let (mut fitting, mut above) = (0, most.saturating_add(1));
    while above - fitting > 1 {
        let middle = fitting + (above - fitting) / 2;
        if fits(middle) {
            fitting = middle;
        } else {
            above = middle;
        }
    }
    fitting
}

/// The fewest of ours that have to go, the largest first; on every device that is too full.
fn without(group: &[&Device], need: u64) -> Option<Vec<String>> {
    let mut go: Vec<String> = Vec::new();
    for device in group {
        let frees = |names: &[String]| {
            let gone = device.loaded.iter().filter(|loaded| names.contains(&loaded.name));
            let freed = gone.fold(device.free, |sum, loaded| sum.saturating_add(loaded.bytes));
            freed.min(device.total).saturating_sub(device.reserved)
        };
        let mut ours: Vec<&Loaded> = device.loaded.iter().collect();
        ours.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.name.cmp(&b.name)));
        for loaded in ours {
            if frees(&go) >= need {
                break;
            }
            if !go.contains(&loaded.name) {
                go.push(loaded.name.clone());
            }
        }
        if frees(&go) < need {
            return None;
        }
    }
    Some(go)
}

fn held(device: &Device) -> Vec<(String, u64)> {
    let ours = device
        .loaded
        .iter()
        .map(|loaded| (format!("pool {}", loaded.name), loaded.bytes));
    let rest = [
        ("other programs".to_owned(), device.others),
        ("the configured reservation".to_owned(), device.reserved),
    ];
    let mut held: Vec<(String, u64)> = ours.chain(rest).filter(|(_, bytes)| *bytes > 0).collect();
    held.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    held
}

/// `needs 18.2 GiB on each of 2 (weights …), free 12.0 GiB on GPU-a, because pool x holds 8.0 GiB; …`
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Need {
            per_device,
            estimate,
            beyond,
            basis,
            ..
        } = self.need;
        write!(f, "needs {}", gib(per_device))?;
        if self.devices.len() > 1 {
            write!(f, " on each of {} GPUs", self.devices.len())?;
        }
        let parts = [
            ("weights", estimate.weights),
            ("cache", estimate.cache),
            ("state", estimate.state),
            ("compute", estimate.compute),
            ("beyond", beyond),
        ];
        let parts: Vec<String> = parts
            .into_iter()
            .filter(|(_, bytes)| *bytes > 0)
            .map(|(name, bytes)| format!("{name} {}", gib(bytes)))
            .collect();
        let basis = match basis {
            Basis::Estimated => "estimated",
            Basis::Corrected => "corrected by a measurement",
            Basis::Measured => "measured",
        };
        write!(f, " ({basis}: {})", parts.join(", "))?;
        write!(
            f,
            ", free {} on {}",
            gib_down(self.room),
            self.devices.join(" and ")
        )?;
        if self.fits {
            return Ok(());
        }
        f.write_str(", because ")?;
        if self.need.per_device > self.total {
            write!(f, "that is more than all of its {}", gib_down(self.total))?;
        } else {
            let held: Vec<String> = self
                .held
                .iter()
                .map(|(name, bytes)| format!("{} of {name}", gib(*bytes)))
                .collect();
            if held.is_empty() {
                write!(f, "of its {} the driver keeps the rest", gib_down(self.total))?;
            } else {
                write!(f, "of {}", held.join(", "))?;
            }
        }
        self.ways_out(f)
    }
}

impl Verdict {
    fn ways_out(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ways = Vec::new();
        if self.most_ctx > 0 {
            ways.push(format!("a context of {} per slot", self.most_ctx));
        }
        if self.most_slots > 0 {
            let plural = if self.most_slots == 1 { "" } else { "s" };
            ways.push(format!("{} slot{plural}", self.most_slots));
        }
        if let Some(without) = self.without.as_ref().filter(|without| !without.is_empty()) {
            ways.push(format!("unloading {}", without.join(", ")));
        }
        if ways.is_empty() {
            return Ok(());
        }
        write!(f, "; it would fit with {}", ways.join(", or "))
    }
}
