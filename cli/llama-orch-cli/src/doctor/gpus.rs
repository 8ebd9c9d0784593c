//! The driver and its cards: versions, compute capability, who holds memory. Pure.

use api_types::pool::{GpuCondition, GpuProcess, GpuReport};
use gpu_probe::{DriverError, GpuInventory};

use super::distribution::Distribution;
use super::{Finding, Level};

/// CUDA 13 makes no code for cards below this; engines for them are built with CUDA 12.
const OLDEST_OF_CUDA_13: (u32, u32) = (7, 5);
/// llama.cpp's kernels need this.
const OLDEST: (u32, u32) = (5, 0);

/// The driver, or why it does not answer.
pub(crate) fn driver(state: Result<&GpuInventory, &DriverError>, here: Distribution) -> Vec<Finding> {
    match state {
        Ok(inventory) => {
            let driver = &inventory.driver;
            let what = format!("{}, CUDA up to {}", driver.driver_version, driver.cuda_version);
            let mut findings = vec![Finding::ok("driver", what)];
            findings.extend(inventory.faults.iter().map(|fault| {
                let what = format!("GPU {} does not answer: {}", fault.index, fault.error);
                Finding::problem("gpu", what).fix(["sudo dmesg | grep -i -e xid -e nvrm"])
            }));
            if inventory.gpus.is_empty() && inventory.faults.is_empty() {
                findings.push(Finding::problem("gpu", "the driver lists no GPU").fix(["lspci -d 10de:"]));
            }
            findings
        }
        Err(error) => {
            let what = format!("{error}; {}", error.hint());
            vec![Finding::problem("driver", what).fix(cure(error, here))]
        }
    }
}

fn cure(error: &DriverError, here: Distribution) -> Vec<&'static str> {
    match error {
        DriverError::LibraryMissing { .. } | DriverError::LibraryTooOld { .. } => vec![here.driver()],
        DriverError::DriverNotLoaded => vec!["sudo modprobe nvidia", "sudo dmesg | grep -i nvrm"],
        DriverError::VersionMismatch => vec!["sudo reboot"],
        DriverError::NoPermission => vec!["ls -l /dev/nvidia*", "sudo nvidia-modprobe -u -c=0"],
        DriverError::Unresponsive { .. } => vec![
            "sudo dmesg | grep -i -e xid -e nvrm",
            "sudo systemctl enable --now nvidia-persistenced    # keeps the driver awake: waking it takes seconds",
        ],
        DriverError::Pending | DriverError::ProbeDied | DriverError::Call { .. } => vec!["nvidia-smi"],
    }
}

/// One card. `name` knows programs by their process ids.
pub(crate) fn card(gpu: &GpuReport, name: &dyn Fn(u32) -> Option<String>) -> Vec<Finding> {
    let mut findings = vec![Finding::ok("gpu", told(gpu, name))];
    findings.extend(condition(gpu));
    findings.extend(capability(gpu));
    findings.extend(crowd(gpu));
    findings
}

fn told(gpu: &GpuReport, name: &dyn Fn(u32) -> Option<String>) -> String {
    let mut processes: Vec<&GpuProcess> = gpu.processes.iter().collect();
    processes.sort_by_key(|process| std::cmp::Reverse(process.used_bytes));
    let holders: Vec<String> = processes.iter().map(|process| holder(process, name)).collect();
    let held = if holders.is_empty() {
        String::new()
    } else {
        format!("; held by {}", holders.join(", "))
    };
    format!(
        "{} {} ({}), compute capability {}, {} GiB of {} GiB free{held}",
        gpu.index,
        gpu.name,
        gpu.uuid,
        gpu.compute_capability,
        gib(gpu.memory_free_bytes),
        gib(gpu.memory_total_bytes)
    )
}

fn holder(process: &GpuProcess, name: &dyn Fn(u32) -> Option<String>) -> String {
    let who = match &process.pool_id {
        Some(pool) => format!("pool {pool}"),
        None => name(process.pid).unwrap_or_else(|| "a program".to_owned()),
    };
    let bytes = process
        .used_bytes
        .map(|bytes| format!(" with {} GiB", gib(bytes)));
    format!("{who} (process {}){}", process.pid, bytes.unwrap_or_default())
}

fn condition(gpu: &GpuReport) -> Option<Finding> {
    let what = match gpu.condition {
        GpuCondition::Healthy => return None,
        GpuCondition::TooHot => return Some(hot(gpu)),
        GpuCondition::NeedsReset => "wants a reset",
        GpuCondition::Unusable => "does no work any more",
    };
    let why = gpu.condition_reason.as_deref().map(|why| format!(": {why}"));
    let what = format!("{} {what}{}", gpu.index, why.unwrap_or_default());
    let reset = format!(
        "sudo nvidia-smi --gpu-reset -i {}    # with nothing running there; else reboot",
        gpu.index
    );
    Some(Finding::problem("gpu", what).fix([reset]))
}

/// Cooler air or fewer watts.
fn hot(gpu: &GpuReport) -> Finding {
    let why = gpu.condition_reason.as_deref().unwrap_or_default();
    let what = format!("{} takes no new work before it has cooled: {why}", gpu.index);
    let watts = gpu.power_mw.unwrap_or(0) / 1_000;
    Finding::problem("gpu", what).fix([
        "nvidia-smi -q -d TEMPERATURE,POWER    # clean its fans, give it air".to_owned(),
        format!(
            "sudo nvidia-smi -i {} -pl WATTS    # it draws {watts} W now",
            gpu.index
        ),
    ])
}

fn capability(gpu: &GpuReport) -> Option<Finding> {
    let (major, minor) = gpu.compute_capability.split_once('.')?;
    let capability: (u32, u32) = (major.parse().ok()?, minor.parse().ok()?);
    let told = &gpu.compute_capability;
    if capability < OLDEST {
        let what = format!(
            "{} has compute capability {told}; engines need 5.0 or more",
            gpu.index
        );
        return Some(Finding::problem("gpu", what).fix(["# leave this GPU out of the pools' devices"]));
    }
    (capability < OLDEST_OF_CUDA_13).then(|| {
        let what = format!(
            "{} has compute capability {told}, for which CUDA 13 makes no code",
            gpu.index
        );
        Finding::new("gpu", Level::Warning, what).fix(["# use engines that were built with CUDA 12"])
    })
}

/// Others that hold more than half of a card leave little for models.
fn crowd(gpu: &GpuReport) -> Option<Finding> {
    let others = gpu.used_by_others_bytes;
    (others > gpu.memory_total_bytes / 2).then(|| {
        let what = format!("{}: other programs hold {} GiB of it", gpu.index, gib(others));
        Finding::new("gpu", Level::Warning, what)
            .fix(["nvidia-smi --query-compute-apps=pid,name,used_memory --format=csv"])
    })
}

fn gib(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10) >> 30;
    format!("{}.{}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use api_types::pool::DriverReport;

    fn gpu() -> GpuReport {
        GpuReport {
            uuid: "GPU-1".to_owned(),
            name: "RTX 3090".to_owned(),
            compute_capability: "8.6".to_owned(),
            memory_total_bytes: 24 << 30,
            memory_free_bytes: 20 << 30,
            ..GpuReport::default()
        }
    }

    #[test]
    fn who_holds_memory_is_named() {
        let process = |pid, gib: u64, pool: Option<&str>| GpuProcess {
            pid,
            used_bytes: Some(gib << 30),
            pool_id: pool.map(|pool| pool.parse().unwrap()),
            replica_id: None,
        };
        let held = GpuReport {
            processes: vec![
                process(7, 1, None),
                process(8, 3, Some("chat")),
                process(9, 0, None),
            ],
            ..gpu()
        };
        let name = |pid| (pid == 7).then(|| "Xorg".to_owned());
        let found = card(&held, &name);
        assert_eq!(
            found[0].what,
            "0 RTX 3090 (GPU-1), compute capability 8.6, 20.0 GiB of 24.0 GiB free; held by pool chat (process 8) with \
             3.0 GiB, Xorg (process 7) with 1.0 GiB, a program (process 9) with 0.0 GiB"
        );
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn old_crowded_and_broken_cards_are_told() {
        let levels = |gpu: GpuReport| -> Vec<Level> {
            let found = card(&gpu, &|_| None);
            assert!(
                found
                    .iter()
                    .all(|finding| finding.level == Level::Ok || !finding.fix.is_empty())
            );
            found.iter().map(|finding| finding.level).collect()
        };
        let with = |capability: &str| GpuReport {
            compute_capability: capability.to_owned(),
            ..gpu()
        };
        assert_eq!(levels(with("6.1")), [Level::Ok, Level::Warning]);
        assert_eq!(levels(with("3.5")), [Level::Ok, Level::Problem]);
        assert_eq!(levels(with("12.0")), [Level::Ok]);
        let crowded = GpuReport {
            used_by_others_bytes: 13 << 30,
            condition: GpuCondition::NeedsReset,
            ..gpu()
        };
        assert_eq!(levels(crowded), [Level::Ok, Level::Problem, Level::Warning]);
    }

    #[test]
    fn every_trouble_of_the_driver_has_lines_that_help() {
        let errors = [
            DriverError::LibraryMissing {
                path: "/l".into(),
                detail: "gone".to_owned(),
            },
            DriverError::DriverNotLoaded,
            DriverError::VersionMismatch,
            DriverError::NoPermission,
            DriverError::Unresponsive { deadline_ms: 800 },
            DriverError::ProbeDied,
        ];
        for error in errors {
            let found = driver(Err(&error), Distribution::CachyOs);
            assert!(found.len() == 1 && !found[0].fix.is_empty(), "{found:?}");
        }
        let missing = DriverError::LibraryTooOld {
            detail: String::new(),
        };
        assert!(driver(Err(&missing), Distribution::Arch)[0].fix[0].contains("pacman"));
        let nothing = GpuInventory {
            driver: DriverReport {
                driver_version: "580.1".to_owned(),
                cuda_version: "13.0".to_owned(),
            },
            gpus: Vec::new(),
            mig: Vec::new(),
            faults: Vec::new(),
        };
        let found = driver(Ok(&nothing), Distribution::Other);
        assert_eq!((found[0].level, found[1].level), (Level::Ok, Level::Problem));
    }
}
