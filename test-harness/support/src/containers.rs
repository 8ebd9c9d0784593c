//! Real containers for tests: a Podman with storage of its own in a temporary folder, an image of nothing but the statically
//! linked scripted engine, a GPU that is a line in a CDI specification, and a registry. It needs root. It may touch that
//! folder, `/var/run/cdi`, and what Podman makes.

mod registry;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::binaries::static_engine;

pub use registry::Registry;

/// Where the runtimes look for devices.
const CDI_DIR: &str = "/var/run/cdi";

/// Where the engine is in its image.
pub const ENGINE: &str = "/scripted-engine";

/// Between two looks at what is to end, and how many there are.
const PAUSE: Duration = Duration::from_millis(50);
const LOOKS: u32 = 200;

/// Where programs are, those of administrators too.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "programs are found where the tester's shell finds them"
)]
pub fn search_path() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

/// A Podman whose images, containers and networks lie in one folder. Dropping it leaves no container, process, mount or
/// file, but the folder itself, which is its maker's.
#[derive(Debug)]
pub struct Podman {
    dir: PathBuf,
    environment: Vec<(String, String)>,
    /// The made-up GPU.
    pub device: String,
    cdi: PathBuf,
}

impl Podman {
    /// In this folder, with more lines in the `[engine]` part of its configuration.
    ///
    /// # Errors
    /// The folder or the specification cannot be written.
    pub fn new(dir: &Path, engine: &str) -> Result<Self> {
        let environment = environment(dir, engine)?;
        Self::with(dir, environment)
    }

    /// In this folder, by this environment, which begins with [`environment`]'s.
    ///
    /// # Errors
    /// The specification cannot be written.
    pub fn with(dir: &Path, environment: Vec<(String, String)>) -> Result<Self> {
        let device = format!("GPU-{}", uuid::Uuid::new_v4());
        Ok(Self {
            dir: dir.to_owned(),
            environment,
            cdi: write_cdi(&device)?,
            device,
        })
    }

    /// What its client has to be called with.
    pub fn environment(&self) -> &[(String, String)] {
        &self.environment
    }

    /// Calls the client.
    ///
    /// # Errors
    /// It did not end well; what it said is told.
    pub fn client(&self, args: &[&str]) -> Result<String> {
        let (well, stdout, stderr) = client_ended("podman", &self.environment, args)?;
        ensure!(well, "podman {args:?}: {stderr}");
        Ok(stdout)
    }

    /// Ids of all containers, of whomever.
    ///
    /// # Errors
    /// As [`Podman::client`].
    pub fn containers(&self) -> Result<Vec<String>> {
        let ids = self.client(&["ps", "--all", "--quiet", "--no-trunc"])?;
        Ok(ids.lines().map(str::to_owned).collect())
    }

    /// Makes an image of the scripted engine and a text, so that images of other texts differ.
    ///
    /// # Errors
    /// The engine cannot be built, or the client fails.
    pub fn make_image(&self, name: &str, text: &str) -> Result<()> {
        let archive = engine_archive(&self.dir, text)?;
        let entry = format!("ENTRYPOINT [\"{ENGINE}\"]");
        self.client(&["import", "--change", &entry, &archive.display().to_string(), name])?;
        Ok(fs::remove_file(archive)?)
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        // A test that failed has said why; what cannot be removed here is in a folder that goes.
        let ids = self.containers().unwrap_or_default();
        if !ids.is_empty() {
            let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
            let _removed_or_gone = self.client(&[&["rm", "--force", "-t", "0"], &ids[..]].concat());
        }
        await_cleanup(&self.dir);
        unmount_below(&self.dir);
        let _gone_or_not = fs::remove_file(&self.cdi);
    }
}

/// Calls a client in an environment: whether it ended well, and what it wrote to both streams.
///
/// # Errors
/// It cannot be started.
pub fn client_ended(
    program: &str,
    environment: &[(String, String)],
    args: &[&str],
) -> Result<(bool, String, String)> {
    let output = Command::new(program)
        .args(args)
        .env_clear()
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .output()
        .with_context(|| format!("{program} cannot be started"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((
        output.status.success(),
        text(&output.stdout),
        text(&output.stderr),
    ))
}

/// A tar archive with the scripted engine and a text; it is made in `dir`.
///
/// # Errors
/// The engine cannot be built, or the archive cannot be written.
pub fn engine_archive(dir: &Path, text: &str) -> Result<PathBuf> {
    let files = dir.join("files");
    fs::create_dir_all(files.join("models"))?;
    fs::copy(static_engine()?, files.join(ENGINE.trim_start_matches('/')))?;
    fs::write(files.join("text"), text)?;
    let archive = dir.join("files.tar");
    let made = Command::new("tar")
        .args(["--create", "--owner=0", "--group=0", "--file"])
        .arg(&archive)
        .arg("--directory")
        .arg(&files)
        .arg(".")
        .status()?;
    ensure!(made.success(), "tar failed: {made}");
    Ok(archive)
}

/// Everything that Podman keeps lies in `dir`.
///
/// # Errors
/// A file of its configuration cannot be written.
pub fn environment(dir: &Path, engine: &str) -> Result<Vec<(String, String)>> {
    let file = |name: &str, text: String| -> Result<String> {
        let path = dir.join(name);
        fs::write(&path, text)?;
        Ok(path.display().to_string())
    };
    let at = dir.display();
    let storage =
        format!("[storage]\ndriver = \"overlay\"\ngraphroot = \"{at}/images\"\nrunroot = \"{at}/run\"\n");
    let containers = format!(
        "[engine]\ntmp_dir = \"{at}/tmp\"\nvolume_path = \"{at}/volumes\"\nevents_logger = \"file\"\n{engine}\n\
         [network]\nnetwork_config_dir = \"{at}/networks\"\n"
    );
    let registries =
        "[[registry]]\nlocation = \"127.0.0.1\"\nprefix = \"127.0.0.1\"\ninsecure = true\n".to_owned();
    let variables = [
        ("PATH", search_path()),
        ("HOME", at.to_string()),
        ("CONTAINERS_STORAGE_CONF", file("storage.conf", storage)?),
        ("CONTAINERS_CONF", file("containers.conf", containers)?),
        ("CONTAINERS_REGISTRIES_CONF", file("registries.conf", registries)?),
    ];
    Ok(variables.map(|(name, value)| (name.to_owned(), value)).into())
}

/// A specification of one device that gives a container `/dev/kmsg`, which it has not otherwise, and a variable.
///
/// # Errors
/// It cannot be written: only root may.
pub fn write_cdi(device: &str) -> Result<PathBuf> {
    let spec = serde_json::json!({
        "cdiVersion": "0.5.0",
        "kind": "nvidia.com/gpu",
        "devices": [{
            "name": device,
            "containerEdits": {
                "deviceNodes": [{"path": "/dev/kmsg", "permissions": "rw"}],
                "env": [format!("GPU_OF_A_TEST={device}")],
            },
        }],
    });
    let path = Path::new(CDI_DIR).join(format!("llama-orch-test-{device}.json"));
    fs::create_dir_all(CDI_DIR)
        .and_then(|()| fs::write(&path, spec.to_string()))
        .with_context(|| format!("these tests need root, which writes to {CDI_DIR}"))?;
    Ok(path)
}

/// A container's monitor calls Podman once more when its container has ended, which mounts the storage again.
pub fn await_cleanup(dir: &Path) {
    let name = dir.display().to_string();
    let mentions = |entry: fs::DirEntry| {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&name)
    };
    for _look in 0..LOOKS {
        let mut entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        if !entries.any(mentions) {
            return;
        }
        std::thread::sleep(PAUSE);
    }
}

/// Podman keeps its storage mounted as long as it may be used again.
pub fn unmount_below(dir: &Path) {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = mounts.lines().rev().filter_map(|line| line.split(' ').nth(4));
    for point in points.filter(|point| Path::new(point).starts_with(dir)) {
        let _gone_or_told_by_the_folder = Command::new("umount").args(["--lazy", point]).status();
    }
}
