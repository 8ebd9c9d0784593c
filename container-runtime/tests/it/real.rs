//! A real runtime with storage of its own in a temporary folder, an image of the scripted engine, a GPU that only this
//! test knows, and a model. Dropping it leaves no container, process, mount, network device or file.
//!
//! The GPU: a CDI specification under a made-up UUID that gives a container `/dev/kmsg`, which it has not otherwise, for Podman;
//! for Docker a hook in the place of NVIDIA's that does nothing. What the runtimes make of the mask is real.

mod docker;
mod rootless;

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use container_runtime::{
    Backend, Choice, Container, ContainerEnvironment, ContainerId, ContainerRuntime, ContainerSpec,
    Deadlines, DeviceMask, Environment, Home, ImageRef, Limits, LocalImage, Mount, Owner, PublishedPort,
    Redaction, Setup, detect,
};
use secrecy::SecretString;
use tempfile::TempDir;
use test_harness_support::containers::{self, client_ended, engine_archive};
pub(crate) use test_harness_support::containers::{Registry, search_path};
use test_harness_support::gguf::TinyModel;
use test_harness_support::http1::{Call, call};
use test_harness_support::wait::{Look, wait_for};

use docker::Daemon;
pub(crate) use rootless::USER;

/// What the engine's answers need: its key reaches it as a variable.
pub(crate) const KEY: &str = "a-key-that-nobody-may-see";

/// Longer than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at a program that is to end.
pub(crate) const PAUSE: Duration = Duration::from_millis(50);

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
        let cdi = containers::write_cdi(&device).unwrap();
        let (environment, daemon) = match flavour {
            Flavour::Podman => (containers::environment(dir.path(), engine).unwrap(), None),
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
        client_ended(self.flavour.backend().program(), &self.environment, args).unwrap()
    }

    /// An image of the scripted engine and one more file, so that images of other texts differ.
    pub(crate) fn make_image(&self, name: &str, text: &str) {
        let archive = engine_archive(self.path(), text).unwrap();
        let change = "ENTRYPOINT [\"/scripted-engine\"]";
        self.client(&["import", "--change", change, &archive.display().to_string(), name]);
        fs::remove_file(archive).unwrap();
    }

    /// Makes an image, pushes it under `name`, and forgets it.
    pub(crate) fn push(&self, registry: &Registry, name: &str, text: &str) {
        let name = registry.image(name);
        self.make_image(&name, text);
        self.client(&["push", &name]);
        self.client(&["image", "rm", "--force", &name]);
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
            panic!("{error}; it said {:?}", self.client_ended(&["logs", id.as_str()]));
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
        containers::await_cleanup(self.dir.path());
        containers::unmount_below(self.dir.path());
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
        home: Home::of(Path::new(node)),
        node: node.parse().unwrap(),
        pool: "chat".parse().unwrap(),
        replica: "r0".parse().unwrap(),
        generation,
    }
}
