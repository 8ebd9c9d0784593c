//! CDI specifications: which GPUs they name, and whether they still fit the driver. Reads the folders; judging what was
//! read is pure.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};
use serde::Deserialize;

use super::{Finding, Needs, Problem, refusal, warning};

/// Where the runtimes look; the second is made anew at each start of the machine and wins.
pub const CDI_DIRS: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];

const KIND: &str = "nvidia.com/gpu";

/// A specification for 16 GPUs with all their parts is a tenth of it.
const MAX_SPEC_BYTES: u64 = 4 << 20;

/// Most files looked at in a folder.
const MAX_FILES: usize = 64;

/// Most missing files told of one specification: after a driver's update they are all missing.
const MAX_MISSING: usize = 3;

/// Libraries that carry the driver's version in their names.
const LIBRARIES: [&str; 3] = ["libcuda.so.", "libnvidia-ml.so.", "libnvidia-ptxjitcompiler.so."];

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    kind: String,
    #[serde(default)]
    devices: Vec<Device>,
    #[serde(default)]
    container_edits: Edits,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Device {
    name: String,
    #[serde(default)]
    container_edits: Edits,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Edits {
    #[serde(default)]
    device_nodes: Option<Vec<Node>>,
    #[serde(default)]
    mounts: Option<Vec<Bind>>,
    #[serde(default)]
    hooks: Option<Vec<Hook>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    path: PathBuf,
    #[serde(default)]
    host_path: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bind {
    host_path: PathBuf,
}

#[derive(Debug, Deserialize)]
struct Hook {
    path: PathBuf,
}

impl Edits {
    fn nodes(&self) -> impl Iterator<Item = &Path> {
        let nodes = self.device_nodes.iter().flatten();
        nodes.map(|node| node.host_path.as_deref().unwrap_or(&node.path))
    }

    fn files(&self) -> impl Iterator<Item = &Path> {
        let mounts = self.mounts.iter().flatten().map(|bind| &*bind.host_path);
        let hooks = self.hooks.iter().flatten().map(|hook| &*hook.path);
        mounts.chain(hooks)
    }
}

/// A specification for NVIDIA's devices, and where it was.
#[derive(Debug)]
struct Loaded {
    path: PathBuf,
    spec: Spec,
}

pub(super) fn check(needs: &Needs) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut specs = Vec::new();
    for dir in &needs.cdi_dirs {
        for path in spec_files(dir) {
            match load(&path) {
                Ok(spec) if spec.kind == KIND => specs.push(Loaded { path, spec }),
                Ok(_of_other_devices) => {}
                // It may be another vendor's; if it was ours, its devices are unknown, which is a refusal.
                Err(why) => findings.push(warning(Problem::CdiUnreadable { path, why })),
            }
        }
    }
    if specs.is_empty() {
        let dirs = needs.cdi_dirs.clone();
        findings.push(refusal(Problem::CdiMissing { dirs }));
        return findings;
    }
    findings.extend(judge(&specs, needs).into_iter().map(refusal));
    findings
}

/// Sorted, so that what is said does not depend on the folder's order. A folder that is not there has none.
fn spec_files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let named = |path: &PathBuf| path.extension().is_some_and(|end| end == "yaml" || end == "json");
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(named)
        .take(MAX_FILES)
        .collect();
    paths.sort();
    paths
}

fn load(path: &Path) -> Result<Spec, String> {
    let mut text = String::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    file.take(MAX_SPEC_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(|error| error.to_string())?;
    if text.len() as u64 > MAX_SPEC_BYTES {
        return Err(format!("it has more than {MAX_SPEC_BYTES} bytes"));
    }
    parse(&text, path.extension().is_some_and(|end| end == "json"))
}

fn parse(text: &str, is_json: bool) -> Result<Spec, String> {
    if is_json {
        serde_json::from_str(text).map_err(|error| error.to_string())
    } else {
        yaml_serde::from_str(text).map_err(|error| error.to_string())
    }
}

/// What is wrong with the devices of the mask, and with the specifications that they come from.
fn judge(specs: &[Loaded], needs: &Needs) -> Vec<Problem> {
    // The later folder wins.
    let named: BTreeMap<&str, (&Loaded, &Device)> = specs
        .iter()
        .flat_map(|loaded| {
            loaded
                .spec
                .devices
                .iter()
                .map(move |device| (&*device.name, (loaded, device)))
        })
        .collect();
    let mut problems = Vec::new();
    let mut used: BTreeMap<&Path, &Loaded> = BTreeMap::new();
    for device in needs.devices.iter() {
        match named.get(device.as_str()) {
            Some((loaded, found)) => {
                used.insert(&loaded.path, loaded);
                problems.extend(found.container_edits.nodes().filter_map(closed));
            }
            None => problems.push(Problem::DeviceUnknown {
                device: device.clone(),
                known: known(&named),
            }),
        }
    }
    for loaded in used.values() {
        problems.extend(stale(loaded, needs.driver.as_deref()));
        problems.extend(loaded.spec.container_edits.nodes().filter_map(closed));
    }
    problems
}

fn known(named: &BTreeMap<&str, (&Loaded, &Device)>) -> Vec<String> {
    let by_uuid = |name: &&&str| name.starts_with("GPU-") || name.starts_with("MIG-");
    named
        .keys()
        .filter(by_uuid)
        .map(|&name| name.to_owned())
        .collect()
}

/// The version that the libraries' names tell, else the files that are missing.
fn stale(loaded: &Loaded, driver: Option<&str>) -> Vec<Problem> {
    let edits = &loaded.spec.container_edits;
    let made_for = edits.files().find_map(version_of);
    if let (Some(made_for), Some(driver)) = (made_for, driver)
        && made_for != driver
    {
        return vec![Problem::CdiStale {
            path: loaded.path.clone(),
            made_for: made_for.to_owned(),
            driver: driver.to_owned(),
        }];
    }
    let missing = edits.files().filter(|file| !file.exists());
    let missing = missing.map(|file| Problem::CdiFileMissing {
        path: loaded.path.clone(),
        file: file.to_owned(),
    });
    missing.take(MAX_MISSING).collect()
}

/// `550.54.15` of `…/libcuda.so.550.54.15`; nothing of `libcuda.so.1`.
fn version_of(file: &Path) -> Option<&str> {
    let name = file.file_name()?.to_str()?;
    let version = LIBRARIES.iter().find_map(|library| name.strip_prefix(library))?;
    let is_version = version.contains('.') && version.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    is_version.then_some(version)
}

fn closed(node: &Path) -> Option<Problem> {
    let why = access(node, Access::READ_OK | Access::WRITE_OK).err()?;
    Some(Problem::DeviceClosed {
        node: node.to_owned(),
        why: why.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::DeviceMask;
    use proptest::prelude::*;
    use tempfile::TempDir;

    const UUID: &str = "GPU-6f1f0d8e-0000-0000-0000-000000000000";

    /// As nvidia-ctk writes it, with files of this machine in place of the driver's.
    fn spec(dir: &Path, driver: &str) -> String {
        let library = dir.join(format!("libcuda.so.{driver}"));
        fs::write(&library, "").unwrap();
        format!(
            "---\ncdiVersion: 0.5.0\nkind: nvidia.com/gpu\ncontainerEdits:\n  deviceNodes:\n  - path: /dev/null\n  \
             env:\n  - NVIDIA_VISIBLE_DEVICES=void\n  hooks:\n  - args: [nvidia-cdi-hook, update-ldcache]\n    \
             hookName: createContainer\n    path: /bin/sh\n  mounts:\n  - containerPath: /usr/lib/libcuda.so.{driver}\n    \
             hostPath: {}\n    options: [ro, nosuid, nodev, bind]\ndevices:\n- name: \"0\"\n  containerEdits:\n    \
             deviceNodes:\n    - path: /dev/nvidia0\n      hostPath: /dev/null\n- name: {UUID}\n  containerEdits:\n    \
             deviceNodes:\n    - path: /dev/nvidia0\n      hostPath: /dev/null\n- name: all\n  containerEdits: {{}}\n",
            library.display()
        )
    }

    struct Case {
        dirs: [TempDir; 2],
        device: &'static str,
        driver: Option<&'static str>,
    }

    fn case() -> Case {
        Case {
            dirs: [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()],
            device: UUID,
            driver: Some("550.54.15"),
        }
    }

    impl Case {
        fn write(&self, dir: usize, name: &str, text: &str) {
            fs::write(self.dirs[dir].path().join(name), text).unwrap();
        }

        fn findings(&self) -> Vec<Finding> {
            let devices = DeviceMask::parse([self.device]).unwrap();
            let dirs: Vec<PathBuf> = self.dirs.iter().map(|dir| dir.path().to_owned()).collect();
            check(&Needs {
                devices,
                driver: self.driver.map(str::to_owned),
                port: None,
                paths: Vec::new(),
                cdi_dirs: dirs,
            })
        }

        fn only(&self) -> Problem {
            let mut findings = self.findings();
            assert_eq!(findings.len(), 1, "{findings:?}");
            findings.remove(0).problem
        }
    }

    /// REQ-CONTAINER-PREFLIGHT.
    #[test]
    fn a_fresh_specification_that_names_the_gpu_is_fine() {
        let case = case();
        case.write(0, "nvidia.yaml", &spec(case.dirs[0].path(), "550.54.15"));
        case.write(0, "other.yaml", "kind: vendor.com/net\ncdiVersion: 0.5.0\n");
        case.write(0, "README", "not one");
        assert!(case.findings().is_empty(), "{:?}", case.findings());
    }

    /// REQ-CONTAINER-PREFLIGHT.
    #[test]
    fn no_specification_at_all() {
        let missing = case().only();
        assert!(
            matches!(&missing, Problem::CdiMissing { dirs } if dirs.len() == 2),
            "{missing:?}"
        );
        assert!(
            missing.hint().contains("nvidia-ctk cdi generate"),
            "{}",
            missing.hint()
        );
    }

    /// REQ-CONTAINER-PREFLIGHT.
    #[test]
    fn a_specification_of_another_driver_is_stale() {
        let case = case();
        case.write(0, "nvidia.yaml", &spec(case.dirs[0].path(), "535.1.2"));
        let problem = case.only();
        assert!(
            matches!(&problem, Problem::CdiStale { made_for, driver, .. } if made_for == "535.1.2" && driver == "550.54.15"),
            "{problem:?}"
        );
    }

    /// REQ-CONTAINER-PREFLIGHT: without a driver's version the files decide.
    #[test]
    fn a_specification_of_files_that_are_gone_is_stale() {
        let case = Case {
            driver: None,
            ..case()
        };
        let text = spec(case.dirs[0].path(), "535.1.2");
        case.write(0, "nvidia.yaml", &text);
        assert!(case.findings().is_empty());
        fs::remove_file(case.dirs[0].path().join("libcuda.so.535.1.2")).unwrap();
        let problem = case.only();
        assert!(matches!(problem, Problem::CdiFileMissing { .. }), "{problem:?}");
    }

    /// REQ-CONTAINER-PREFLIGHT, REQ-CONTAINER-MASK.
    #[test]
    fn a_gpu_that_no_specification_names() {
        let case = Case {
            device: "GPU-dead",
            ..case()
        };
        case.write(0, "nvidia.yaml", &spec(case.dirs[0].path(), "550.54.15"));
        let problem = case.only();
        assert!(
            matches!(&problem, Problem::DeviceUnknown { known, .. } if known == &[UUID]),
            "{problem:?}"
        );
    }

    #[test]
    fn the_later_folder_wins() {
        let case = case();
        case.write(0, "nvidia.yaml", &spec(case.dirs[0].path(), "535.1.2"));
        case.write(1, "nvidia.yaml", &spec(case.dirs[1].path(), "550.54.15"));
        assert!(case.findings().is_empty(), "{:?}", case.findings());
    }

    #[test]
    fn a_node_that_cannot_be_opened_is_told() {
        let case = case();
        let text = spec(case.dirs[0].path(), "550.54.15")
            .replace("hostPath: /dev/null", "hostPath: /dev/nvidia-none");
        case.write(0, "nvidia.yaml", &text);
        let problem = case.only();
        assert!(matches!(problem, Problem::DeviceClosed { .. }), "{problem:?}");
    }

    #[test]
    fn an_unreadable_one_is_told_and_the_others_count() {
        let case = case();
        case.write(0, "nvidia.yaml", &spec(case.dirs[0].path(), "550.54.15"));
        case.write(0, "a.json", "{");
        case.write(0, "b.yaml", &"- ".repeat(MAX_SPEC_BYTES as usize));
        let findings = case.findings();
        assert_eq!(findings.len(), 2, "{findings:?}");
        for finding in &findings {
            assert!(
                matches!(finding.problem, Problem::CdiUnreadable { .. }),
                "{finding}"
            );
            assert_eq!(finding.severity, super::super::Severity::Warning);
        }
    }

    #[test]
    fn json_is_read_as_well() {
        let json =
            format!(r#"{{"cdiVersion":"0.6.0","kind":"nvidia.com/gpu","devices":[{{"name":"{UUID}"}}]}}"#);
        assert_eq!(parse(&json, true).unwrap().devices[0].name, UUID);
        assert_eq!(parse(&json, false).unwrap().devices[0].name, UUID);
    }

    proptest! {
        #[test]
        fn any_file_is_survived(text: String, is_json: bool) {
            let _spec_or_not = parse(&text, is_json);
        }
    }
}
