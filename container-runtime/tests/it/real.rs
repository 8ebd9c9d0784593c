//! A real runtime with storage of its own in a temporary folder, an image of the scripted engine, a GPU that only this
//! test knows, and a model. Dropping it leaves no container, process, mount, network device or file.
//!
//! The GPU: a CDI specification under a made-up UUID that gives a container `/dev/kmsg`, which it has not otherwise, for Podman;
//! for Docker a hook in the place of NVIDIA's that does nothing. What the runtimes make of the mask is real.

mod docker;
mod registry;
mod rootless;

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use container_runtime::{
    Backend, Choice, Container, ContainerEnvironment, ContainerId, ContainerRuntime, ContainerSpec,
    Deadlines, DeviceMask, Environment, ImageRef, Limits, LocalImage, Mount, Owner, PublishedPort, Redaction,
    Setup, detect,
};
use secrecy::SecretString;
use tempfile::TempDir;
use test_harness_support::binaries::static_engine;
use test_harness_support::gguf::TinyModel;
use test_harness_support::http1::{Call, call};
use test_harness_support::wait::{Look, wait_for};

use docker::Daemon;
pub(crate) use registry::Registry;
pub(crate) use rootless::USER;

/// What the engine's answers need: its key reaches it as a variable.
pub(crate) const KEY: &str = "a-key-that-nobody-may-see";

/// Longer than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at a program that is to end.
pub(crate) const PAUSE: Duration = Duration::from_millis(50);

const CDI_DIR: &str = "/var/run/cdi";

/// Which real runtime, and with whose rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flavour {
    /// Podman as root.
    Podman,
    /// Podman as an ordinary user.
    Rootless,
    /// Docker, whose daemon is root.
    Docker,
}

impl Flavour {
    pub(crate) const fn backend(self) -> Backend {
        match self {
            Self::Podman | Self::Rootless => Backend::Podman,
            Self::Docker => Backend::Docker,
        }
    }
}

/// See the module.
pub(crate) struct Real {
    pub(crate) flavour: Flavour,
    environment: Vec<(String, String)>,
    /// The made-up GPU.
    pub(crate) device: String,
    pub(crate) runtime: ContainerRuntime,
    cdi: PathBuf,
    /// Ends before the folder goes.
    daemon: Option<Daemon>,
    dir: TempDir,
}

impl Real {
    pub(crate) async fn start(flavour: Flavour) -> Self {
        Self::start_with(flavour, "").await
    }

    /// With more lines in the `[engine]` part of Podman's configuration.
    pub(crate) async fn start_with(flavour: Flavour, engine: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let device = format!("GPU-{}", uuid::Uuid::new_v4());
        let cdi = write_cdi(&device);
        let (environment, daemon) = match flavour {
            Flavour::Podman => (podman_environment(dir.path(), engine), None),
            Flavour::Rootless => (rootless::environment(dir.path()), None),
            Flavour::Docker => {
                let daemon = Daemon::start(dir.path()).await;
                (daemon.environment(dir.path()), Some(daemon))
            }
        };
        TinyModel::default().write(&dir.path().join("tiny.gguf")).unwrap();
        fs::write(dir.path().join("script.json"), "{}").unwrap();
        if flavour == Flavour::Rootless {
            rootless::hand_over(dir.path());
        }
        let setup = Setup {
            choice: Choice::Only(flavour.backend()),
            environment: Environment::of(environment.clone()),
            deadlines: Deadlines::default(),
            redaction: Redaction::new([KEY.into()], None),
        };
        let runtime = match detect(&setup).await {
            Ok(runtime) => runtime,
            Err(none) => panic!("{none}; {}", none.hint()),
        };
        Self {
            flavour,
            environment,
            device,
            runtime,
            cdi,
            daemon,
            dir,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The client itself, for what the crate has no words for.
    pub(crate) fn client(&self, args: &[&str]) -> String {
        let (well, stdout, stderr) = self.client_ended(args);
        assert!(well, "{:?} {args:?}: {stderr}", self.flavour);
        stdout
    }

    /// Whether it ended well, and what it wrote to both streams.
    pub(crate) fn client_ended(&self, args: &[&str]) -> (bool, String, String) {
        let output = Command::new(self.flavour.backend().program())
            .args(args)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (
            output.status.success(),
            text(&output.stdout),
            text(&output.stderr),
        )
    }

    /// An image of the scripted engine and one more file, so that images of other texts differ.
    pub(crate) fn make_image(&self, name: &str, text: &str) {
        let files = self.path().join("files");
        fs::create_dir_all(files.join("models")).unwrap();
        let engine = static_engine().unwrap_or_else(|error| panic!("{error}"));
        fs::copy(engine, files.join("scripted-engine")).unwrap();
        fs::write(files.join("text"), text).unwrap();
        let archive = self.path().join("files.tar");
        let made = Command::new("tar")
            .args(["--create", "--owner=0", "--group=0", "--file"])
            .arg(&archive)
            .arg("--directory")
            .arg(&files)
            .arg(".")
            .status()
            .unwrap();
        assert!(made.success());
        let change = "ENTRYPOINT [\"/scripted-engine\"]";
        self.client(&["import", "--change", change, &archive.display().to_string(), name]);
        fs::remove_file(archive).unwrap();
    }

    pub(crate) async fn image(&self) -> LocalImage {
        self.make_image("localhost/engine:1", "one");
        let reference = ImageRef::parse("localhost/engine:1").unwrap();
        self.runtime.local_image(&reference).await.unwrap().unwrap()
    }

    /// An engine that serves on `port`.
    pub(crate) fn engine(&self, image: LocalImage, owner: Owner, port: u16) -> ContainerSpec {
        let devices = DeviceMask::parse([&self.device]).unwrap();
        let limits = Limits {
            memory_bytes: 256 << 20,
            shm_bytes: 1 << 20,
            tmp_bytes: 8 << 20,
            pids: 64,
        };
        let args = "--host 0.0.0.0 --port 8080 -m /models/tiny.gguf --script /models/script.json";
        let environment = [("LLAMA_API_KEY".to_owned(), SecretString::from(KEY))];
        ContainerSpec::new(owner, image, devices, limits)
            .unwrap()
            .args(args.split(' ').map(str::to_owned))
            .unwrap()
            .mounts(["tiny.gguf", "script.json"].map(|name| {
                Mount::read_only(self.path().join(name), Path::new("/models").join(name)).unwrap()
            }))
            .ports([PublishedPort {
                host: port,
                container: 8080,
            }])
            .unwrap()
            .environment(ContainerEnvironment::new(environment).unwrap())
    }

    /// Starts it and waits until it answers.
    pub(crate) async fn serve(&self, spec: &ContainerSpec, port: u16) -> ContainerId {
        let id = match self.runtime.run(spec).await {
            Ok(id) => id,
            Err(error) => panic!("{error}"),
        };
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let healthy = wait_for("the engine's health", PATIENCE, || async {
            match call(address, &Call::get("/health")).await {
                Ok(answer) if answer.head.status == 200 => Look::Ready(()),
                other => Look::NotYet(format!("{other:?}")),
            }
        });
        if let Err(error) = healthy.await {
            panic!("{error}; it said {:?}", self.runtime.logs(&id, 100).await);
        }
        id
    }

    pub(crate) async fn inspect(&self, id: &ContainerId) -> Container {
        self.runtime.inspect(id).await.unwrap().unwrap()
    }

    /// Ids of all containers, of whomever.
    pub(crate) fn containers(&self) -> Vec<String> {
        let ids = self.client(&["ps", "--all", "--quiet", "--no-trunc"]);
        ids.lines().map(str::to_owned).collect()
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        let ids = self.client_ended(&["ps", "--all", "--quiet"]).1;
        let ids: Vec<&str> = ids.lines().collect();
        if !ids.is_empty() {
            self.client_ended(&[&["rm", "--force"], &ids[..]].concat());
        }
        // Its own mounts are gone once it has ended.
        drop(self.daemon.take());
        if self.flavour == Flavour::Rootless {
            rootless::end_pause(self.dir.path());
        }
        await_cleanup(self.dir.path());
        unmount_below(self.dir.path());
        let _gone_or_not = fs::remove_file(&self.cdi);
    }
}

/// A port that nobody has now.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

pub(crate) fn owner(node: &str, generation: u64) -> Owner {
    Owner {
        node: node.parse().unwrap(),
        pool: "chat".parse().unwrap(),
        replica: "r0".parse().unwrap(),
        generation,
    }
}

fn write_cdi(device: &str) -> PathBuf {
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
    let written = fs::create_dir_all(CDI_DIR).and_then(|()| fs::write(&path, spec.to_string()));
    written.unwrap_or_else(|error| panic!("these tests need root, which writes to {CDI_DIR}: {error}"));
    path
}

#[expect(
    clippy::disallowed_methods,
    reason = "programs are found where the tester's shell finds them"
)]
pub(crate) fn search_path() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

/// Everything that Podman keeps lies in `dir`.
fn podman_environment(dir: &Path, engine: &str) -> Vec<(String, String)> {
    let file = |name: &str, text: String| {
        let path = dir.join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
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
    [
        ("PATH", search_path()),
        ("HOME", at.to_string()),
        ("CONTAINERS_STORAGE_CONF", file("storage.conf", storage)),
        ("CONTAINERS_CONF", file("containers.conf", containers)),
        ("CONTAINERS_REGISTRIES_CONF", file("registries.conf", registries)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// A container's monitor calls Podman once more when its container has ended, which mounts the storage again.
fn await_cleanup(dir: &Path) {
    let name = dir.display().to_string();
    let mentions = |entry: fs::DirEntry| {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&name)
    };
    for _look in 0..200 {
        if !fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .flatten()
            .any(mentions)
        {
            return;
        }
        std::thread::sleep(PAUSE);
    }
}

/// Podman keeps its storage mounted as long as it may be used again.
fn unmount_below(dir: &Path) {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = mounts.lines().rev().filter_map(|line| line.split(' ').nth(4));
    for point in points.filter(|point| Path::new(point).starts_with(dir)) {
        let _gone_or_told_by_the_folder = Command::new("umount").args(["--lazy", point]).status();
    }
}
