//! What one scenario has: the processes it started, the tasks it submitted, the last answer. Every
//! scenario has its own, and everything in it ends with the scenario.

mod failure;
mod task;
mod viewer;

use std::fmt;
use std::time::Duration;

use anyhow::{Context as _, bail};
use cucumber::event::ScenarioFinished;
use serde_json::Value;
use test_harness_support::daemon::{Daemon, Process};
use test_harness_support::http1::{self, Answer, Call};
use test_harness_support::network::Gate;
use test_harness_support::system::{Plan, System};

pub(crate) use failure::StepResult;
pub(crate) use task::{Task, wait_status};
pub(crate) use viewer::{Viewer, is_token, resumption};

/// How long anything may take to come true: far longer than it takes on a machine with other work.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// One scenario.
#[derive(Default, cucumber::World)]
pub(crate) struct World {
    stage: Stage,
    /// The tasks that the scenario is about, in the order of their submission.
    pub(crate) tasks: Vec<Task>,
    /// Ids of tasks that only keep a slot busy.
    pub(crate) long_tasks: Vec<String>,
    /// What was answered last to a submission or a cancel.
    pub(crate) answer: Option<Answer>,
    /// What was answered to submissions at once.
    pub(crate) answers: Vec<Answer>,
    /// What lies between two of the processes.
    gate: Option<Gate>,
    /// A pool's engine as it was before something happened to it: its generation.
    pub(crate) generation: Option<u64>,
    /// What the processes said, once the scenario has failed.
    last_words: String,
}

/// What runs.
#[derive(Debug, Default)]
enum Stage {
    /// Nothing yet, or nothing any more.
    #[default]
    Empty,
    /// Both daemons and the engines.
    Whole(Box<System>),
    /// An orchestrator that knows no node.
    Orchestrator(Box<Daemon>),
    /// A program that is expected to end by itself.
    Program(Box<Process>),
}

impl World {
    /// Starts both daemons and waits until every pool is ready.
    pub(crate) async fn start(&mut self, plan: Plan) -> anyhow::Result<()> {
        self.stage = Stage::Whole(Box::new(System::start(plan).await?));
        Ok(())
    }

    /// Starts both daemons and waits for nothing more.
    pub(crate) async fn start_unready(&mut self, plan: Plan) -> anyhow::Result<()> {
        self.stage = Stage::Whole(Box::new(System::start_unready(plan).await?));
        Ok(())
    }

    pub(crate) fn keep_orchestrator(&mut self, daemon: Daemon) {
        self.stage = Stage::Orchestrator(Box::new(daemon));
    }

    pub(crate) fn keep_program(&mut self, process: Process) {
        self.stage = Stage::Program(Box::new(process));
    }

    pub(crate) fn keep_gate(&mut self, gate: Gate) {
        self.gate = Some(gate);
    }

    /// What lies between two of the processes.
    pub(crate) fn gate(&self) -> anyhow::Result<&Gate> {
        self.gate.as_ref().context("the scenario has no gate")
    }

    /// Both daemons and the engines.
    pub(crate) fn system(&self) -> anyhow::Result<&System> {
        match &self.stage {
            Stage::Whole(system) => Ok(system),
            _ => bail!("the scenario has no GPU box"),
        }
    }

    /// The orchestrator, alone or with a GPU box.
    pub(crate) fn orchestrator(&self) -> anyhow::Result<&Daemon> {
        match &self.stage {
            Stage::Whole(system) => Ok(&system.orchestrator),
            Stage::Orchestrator(daemon) => Ok(daemon),
            Stage::Empty | Stage::Program(_) => bail!("the scenario has no orchestrator"),
        }
    }

    /// Kills the orchestrator as a crash would, starts it again and waits until every pool is ready.
    pub(crate) async fn crash_orchestrator(&mut self) -> anyhow::Result<()> {
        let Stage::Whole(system) = &mut self.stage else {
            bail!("the scenario has no GPU box");
        };
        system.orchestrator.kill()?;
        system.orchestrator.wait(PATIENCE).await?;
        system.restart_orchestrator().await?;
        Ok(system.wait_ready().await?)
    }

    /// The program that is expected to end by itself.
    pub(crate) fn program(&self) -> anyhow::Result<&Process> {
        match &self.stage {
            Stage::Program(process) => Ok(process),
            _ => bail!("the scenario has started no such program"),
        }
    }

    /// Everything that the daemons have said; a daemon that was started again has said what came since.
    pub(crate) fn logs(&self) -> String {
        match &self.stage {
            Stage::Empty => String::new(),
            Stage::Whole(system) => system.logs(),
            Stage::Orchestrator(daemon) => daemon.logs(),
            Stage::Program(process) => process.logs(),
        }
    }

    /// A call to the orchestrator exactly as it is: nothing is added.
    pub(crate) async fn call_bare(&self, call: &Call) -> anyhow::Result<Answer> {
        Ok(http1::call(self.orchestrator()?.address(), call).await?)
    }

    /// Posts a task and remembers it if it is admitted; the answer is judged by later steps.
    pub(crate) async fn submit(&mut self, body: &Value) -> anyhow::Result<()> {
        let answer = self.system()?.call(Call::post_json("/v1/tasks", body)).await?;
        if answer.status == 202 {
            self.tasks.push(Task::new(body, answer.json()?)?);
        }
        self.answer = Some(answer);
        Ok(())
    }

    /// The task submitted last.
    pub(crate) fn task(&self) -> anyhow::Result<&Task> {
        self.tasks.last().with_context(|| self.no_task())
    }

    /// The system and the task submitted last.
    pub(crate) fn system_and_task(&mut self) -> anyhow::Result<(&System, &mut Task)> {
        let no_task = self.no_task();
        let Stage::Whole(system) = &self.stage else {
            bail!("the scenario has no GPU box");
        };
        Ok((system, self.tasks.last_mut().context(no_task)?))
    }

    /// What was answered last to a submission or a cancel.
    pub(crate) fn answer(&self) -> anyhow::Result<&Answer> {
        self.answer.as_ref().context("nothing was answered yet")
    }

    fn no_task(&self) -> String {
        match &self.answer {
            Some(answer) => format!("no task was admitted, but {}: {}", answer.status, answer.text()),
            None => "no task was submitted".to_owned(),
        }
    }

    /// Kills what runs and removes its folder; keeps what it said if the scenario has failed.
    pub(crate) fn end(&mut self, finished: &ScenarioFinished) {
        let last_words = match finished {
            ScenarioFinished::StepPassed => String::new(),
            _ => self.logs(),
        };
        *self = Self {
            last_words,
            ..Self::default()
        };
    }
}

/// Shown by the writer below a step that has failed.
impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.last_words)
    }
}
