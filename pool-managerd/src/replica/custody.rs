//! What a replica's engine is entrusted to its shim with, and what is done with engines that an earlier run of the
//! daemon has left: those that are still wanted are taken over, all others are ended.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use api_types::{NodeId, PoolId, ReplicaId};
use container_runtime::{Backend, Home, Owner};
use narration_core::wall;
use rustix::process::Signal;
use secrecy::{ExposeSecret, SecretString};

use crate::engine::command::EngineCommand;
use crate::engine::container::{Client, ContainerRun};
use crate::engine::output::Output;
use crate::engine::shim::{
    Contained, FORMAT, LogFiles, LogLimits, Orders, Place, Record, Run, SHIM, Start, end_remains, read_record,
};
use crate::facts::Inputs;
use crate::procfs::{self, ProcessIdentity};
use crate::state_dir::read_key;

/// How long the shim of an unwanted engine may take to end it: SIGKILL, reap, three small files.
const END_ROUNDS: u32 = 300;
const PAUSE: Duration = Duration::from_millis(10);

/// How the engines of one replica are kept.
#[derive(Debug, Clone)]
pub struct Custody {
    /// Its pool.
    pub pool: PoolId,
    /// Itself.
    pub replica: ReplicaId,
    /// Its private folder: records, logs, keys, and the engine's working directory.
    pub dir: PathBuf,
    /// Configured values that must not appear in any line of its output.
    pub secrets: Vec<SecretString>,
    /// How much of the output is kept.
    pub log: LogLimits,
    /// Lines of it that are shown.
    pub log_lines: usize,
    /// Between the polite and the forced end.
    pub grace: Duration,
    /// What all replicas share.
    pub node: NodeCustody,
}

/// What one start runs.
#[derive(Debug, Clone)]
pub enum Vessel {
    /// A program of this machine.
    Program(PathBuf),
    /// A container of this runtime.
    Container(Backend, ContainerRun),
}

/// What is run, and what is recorded of it.
#[derive(Debug, Clone)]
pub struct StartOrder {
    /// What is run.
    pub vessel: Vessel,
    /// Of everything that makes this engine another one.
    pub fingerprint: String,
    /// The loopback port it listens on.
    pub port: u16,
    /// The files it uses.
    pub inputs: Inputs,
    /// What of its model has to be on GPUs at least, bytes.
    pub weights: u64,
}

/// The part of it that is the same for all replicas of a node.
#[derive(Debug, Clone)]
pub struct NodeCustody {
    /// By which its containers are known.
    pub home: Home,
    /// What it is called.
    pub node: NodeId,
    /// How container runtimes are called.
    pub client: Client,
    /// The file that this daemon holds a lock on as long as it lives.
    pub owner_lock: PathBuf,
    /// How long an engine may be without a daemon.
    pub adopt_within: Duration,
    /// Where a control group per start can be made; absent where none can.
    pub cgroups: Option<PathBuf>,
    /// The run of the kernel.
    pub boot_id: String,
}

impl Custody {
    /// The orders to hold a container that runs without a shim.
    #[must_use]
    pub fn orders_to_hold(&self, record: Record, output: &Output) -> Orders {
        self.orders_for(
            Run::Held(self.node.client.clone()),
            EngineCommand::default(),
            record,
            output,
        )
    }

    fn contained(&self, backend: Backend, generation: u64) -> Contained {
        Contained {
            backend,
            owner: Owner {
                home: self.node.home.clone(),
                node: self.node.node.clone(),
                pool: self.pool.clone(),
                replica: self.replica.clone(),
                generation,
            },
            running: None,
        }
    }

    /// Where the API key of one start is.
    #[must_use]
    pub fn key_file(&self, generation: u64) -> PathBuf {
        self.dir.join(format!("api-key.{generation}"))
    }

    /// Where the output of one start is.
    #[must_use]
    pub fn log_files(&self, generation: u64) -> LogFiles {
        LogFiles::new(&self.dir, generation)
    }

    /// The orders for one start. Makes its control group, unless it gets a container.
    #[must_use]
    pub fn orders(&self, command: EngineCommand, start: StartOrder, output: &Output) -> Orders {
        let (run, place) = match start.vessel {
            Vessel::Program(program) => (Run::Program(program), Place::Host(self.node.cgroups.clone())),
            Vessel::Container(backend, run) => {
                let contained = self.contained(backend, output.generation());
                (
                    Run::Container(run, self.node.client.clone()),
                    Place::Container(contained),
                )
            }
        };
        let record = Record {
            format: FORMAT,
            boot_id: self.node.boot_id.clone(),
            generation: output.generation(),
            start: begun(place),
            fingerprint: start.fingerprint,
            port: start.port,
            inputs: start.inputs,
            weights: start.weights,
            started_unix_ms: wall::unix_ms(),
            shim: None,
            engine: None,
        };
        self.orders_for(run, command, record, output)
    }

    fn orders_for(&self, run: Run, command: EngineCommand, record: Record, output: &Output) -> Orders {
        let own = std::iter::once(output.key()).chain(&self.secrets);
        let secrets = own.map(|secret| secret.expose_secret().to_owned());
        let env = command.env.into_iter();
        Orders {
            run,
            args: command.args,
            env: env
                .map(|(name, value)| (name, value.expose_secret().to_owned()))
                .collect(),
            secrets: secrets.collect(),
            log: self.log,
            grace_ms: ms(self.grace),
            owner_lock: self.node.owner_lock.clone(),
            adopt_within_ms: ms(self.node.adopt_within),
            record,
        }
    }
}

/// A start there; the control group is made below the one that is named.
fn begun(place: Place) -> Start {
    let mut start = Start::new(place);
    if let Place::Host(parent) = &start.place {
        let group = parent.as_ref().and_then(|parent| {
            let group = parent.join(format!("llama-orch-engine-{}", start.mark));
            fs::create_dir(&group).is_ok().then_some(group)
        });
        start.place = Place::Host(group);
    }
    start
}

impl NodeCustody {
    /// With its shim it is watched; a container goes on without one, and can be given another.
    fn is_alive(&self, record: &Record) -> bool {
        let watched = record.shim.is_some_and(ProcessIdentity::is_running);
        record.boot_id == self.boot_id && (watched || record.lost_its_shim())
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What earlier runs of the daemon have left of one replica.
#[derive(Debug, Clone)]
pub enum Legacy {
    /// It never ran.
    Nothing,
    /// Its latest start, of that generation, is over.
    Ended(u64),
    /// Its latest start runs, with this API key.
    Running(Box<Record>, SecretString),
}

impl Legacy {
    /// The latest start; 0 when there was none.
    #[must_use]
    pub fn generation(&self) -> u64 {
        match self {
            Self::Nothing => 0,
            Self::Ended(generation) => *generation,
            Self::Running(record, _) => record.generation,
        }
    }
}

/// What earlier runs of the daemon have left.
#[derive(Debug)]
pub struct Inheritance {
    /// Below it every replica has its folder.
    engines: PathBuf,
    node: NodeCustody,
    kept: HashSet<ProcessIdentity>,
    containers: BTreeSet<Owner>,
}

/// What becomes of the rest.
#[derive(Debug, Default)]
pub struct Rest {
    /// What could not be ended.
    pub troubles: Vec<String>,
    /// Whose containers go on.
    pub kept: BTreeSet<Owner>,
    /// Containers of starts that are over. Their processes are ended; they are to be removed.
    pub left: Vec<Contained>,
}

impl Inheritance {
    /// Of the daemon whose engines have their folders below `engines`.
    #[must_use]
    pub fn new(engines: PathBuf, node: NodeCustody) -> Self {
        Self {
            engines,
            node,
            kept: HashSet::new(),
            containers: BTreeSet::new(),
        }
    }

    /// What there is of a replica; its engine is taken when it runs and is the one that would be started now, which
    /// `wanted` is the fingerprint of.
    pub fn take(&mut self, custody: &Custody, wanted: Option<&str>) -> Legacy {
        let Some(record) = read_record(&custody.dir) else {
            return Legacy::Nothing;
        };
        let generation = record.generation;
        let wanted = wanted == Some(record.fingerprint.as_str()) && record.engine.is_some();
        // Without its key the engine is of no use.
        let key = read_key(&custody.key_file(generation));
        match key {
            Ok(key) if wanted && self.node.is_alive(&record) => {
                self.kept.extend(record.shim);
                let contained = record.start.contained();
                self.containers
                    .extend(contained.map(|contained| contained.owner.clone()));
                Legacy::Running(Box::new(record), key)
            }
            _ => Legacy::Ended(generation),
        }
    }

    /// Ends everything that was not taken. Blocking.
    #[must_use]
    pub fn end_the_rest(self) -> Rest {
        let mut troubles = Vec::new();
        for shim in self.shims().filter(|shim| !self.kept.contains(shim)) {
            troubles.extend(end_shim(shim).err().map(|error| error.to_string()));
        }
        let kept = |record: &Record| record.shim.is_some_and(|shim| self.kept.contains(&shim));
        let over: Vec<Record> = self.records().filter(|record| !kept(record)).collect();
        for record in over.iter().filter(|record| record.boot_id == self.node.boot_id) {
            troubles.extend(end_remains(&record.start).err().map(|error| error.to_string()));
        }
        let left = over.iter().filter_map(|record| record.start.contained().cloned());
        Rest {
            troubles,
            left: left.collect(),
            kept: self.containers,
        }
    }

    /// Every shim of this state directory that runs, with or without a record.
    fn shims(&self) -> impl Iterator<Item = ProcessIdentity> {
        let ours = |pid: &u32| {
            let arguments = procfs::arguments(*pid);
            let is_shim = arguments.get(1).is_some_and(|first| first == SHIM.as_bytes());
            let dir = arguments
                .get(2)
                .map(|dir| PathBuf::from(String::from_utf8_lossy(dir).into_owned()));
            is_shim && dir.is_some_and(|dir| dir.starts_with(&self.engines))
        };
        procfs::pids()
            .filter(ours)
            .filter_map(|pid| ProcessIdentity::of(pid).ok())
    }

    fn records(&self) -> impl Iterator<Item = Record> {
        let pools = folders(&self.engines);
        pools
            .flat_map(|pool| folders(&pool))
            .filter_map(|replica| read_record(&replica))
    }
}

fn folders(of: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(of)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
}

fn end_shim(shim: ProcessIdentity) -> io::Result<()> {
    shim.signal(Signal::INT)?;
    for _ in 0..END_ROUNDS {
        if !shim.is_running() {
            return Ok(());
        }
        sleep(PAUSE);
    }
    // The kernel ends its engine with it; a container is among what is left.
    shim.signal(Signal::KILL)
}
