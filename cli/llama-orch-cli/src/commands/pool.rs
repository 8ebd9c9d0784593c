//! `pool health|drain|unload|load|reload|logs`.

use std::io;
use std::time::Duration;

use api_types::PoolId;
use api_types::link::PoolLogQuery;
use api_types::operation::{OperationAccepted, OperationPhase, OperationState, OperationStatus};
use tokio::time::sleep;

use super::Session;
use crate::args::{Patience, PoolCommand, PoolLogsArgs};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::interrupt::Interrupts;
use crate::render::{engine_log, pools};

/// Between two looks at an operation.
const LOOK_EVERY: Duration = Duration::from_millis(250);

pub(super) async fn perform(session: &Session<'_>, command: &PoolCommand) -> Result<Exit, Failure> {
    let client = &session.client;
    match command {
        PoolCommand::Health { pool } => health(session, pool).await,
        PoolCommand::Drain(args) => {
            let accepted = client.drain(&args.pool, &args.request()).await?;
            see_through(session, &accepted, &args.patience).await
        }
        PoolCommand::Unload(args) => {
            let accepted = client.unload(&args.pool, &args.request()).await?;
            see_through(session, &accepted, &args.patience).await
        }
        PoolCommand::Load(args) => {
            let accepted = client.load(&args.pool, &args.request()).await?;
            see_through(session, &accepted, &args.patience).await
        }
        PoolCommand::Reload(args) => {
            let accepted = client.reload(&args.pool, &args.request()).await?;
            see_through(session, &accepted, &args.patience).await
        }
        PoolCommand::Logs(args) => logs(session, args).await,
    }
}

async fn health(session: &Session<'_>, pool: &PoolId) -> Result<Exit, Failure> {
    let health = session.client.pool_health(pool).await?;
    session.show(&health, |_| pools::health(pool, &health)).await?;
    Ok(Exit::Success)
}

/// Waits for the end of an operation, unless that is not wanted. Ctrl-C ends the wait, not the operation.
async fn see_through(
    session: &Session<'_>,
    accepted: &OperationAccepted,
    patience: &Patience,
) -> Result<Exit, Failure> {
    if patience.no_wait {
        let id = accepted.operation_id;
        session.show(accepted, |_| format!("{id}\n")).await?;
        return Ok(Exit::Success);
    }
    let mut interrupts = Interrupts::listen()?;
    tokio::select! {
        biased;
        () = interrupts.next() => {
            let pool = &accepted.pool_id;
            session.console.note(&format!("the operation goes on: llama-orch pool health {pool} shows it"));
            Ok(Exit::Interrupted)
        }
        exit = tell_end(session, accepted) => exit,
    }
}

async fn tell_end(session: &Session<'_>, accepted: &OperationAccepted) -> Result<Exit, Failure> {
    let pool = &accepted.pool_id;
    let ended = until_over(session, accepted).await?;
    session.show(&ended, |_| pools::ended(pool, &ended)).await?;
    Ok(match ended.state {
        OperationState::Failed => Exit::TaskFailed,
        OperationState::Running | OperationState::Succeeded => Exit::Success,
    })
}

/// How it ended. Its phases are told meanwhile.
async fn until_over(session: &Session<'_>, accepted: &OperationAccepted) -> Result<OperationStatus, Failure> {
    let pool = &accepted.pool_id;
    let mut told = OperationPhase::Steady;
    loop {
        let health = session.client.pool_health(pool).await?;
        let ours = |operation: &OperationStatus| operation.operation_id == accepted.operation_id;
        let Some(operation) = health.last_operation.filter(ours) else {
            return Err(Failure::Superseded(pool.clone()));
        };
        if operation.state != OperationState::Running {
            return Ok(operation);
        }
        if operation.phase != told {
            told = operation.phase;
            session.console.note(&pools::phase(&operation));
        }
        sleep(LOOK_EVERY).await;
    }
}

async fn logs(session: &Session<'_>, args: &PoolLogsArgs) -> Result<Exit, Failure> {
    let query = PoolLogQuery {
        replica_id: args.replica.clone(),
        generation: args.generation,
        tail: args.tail,
        follow: None,
    };
    if args.follow {
        return follow(session, &args.pool, &query).await;
    }
    let log = session.client.pool_log(&args.pool, &query).await?;
    session.show(&log, |_| engine_log::text(&log)).await?;
    session.console.note(&engine_log::summary(&log));
    Ok(Exit::Success)
}

async fn follow(session: &Session<'_>, pool: &PoolId, query: &PoolLogQuery) -> Result<Exit, Failure> {
    let mut body = session.client.follow_pool_log(pool, query).await?;
    let mut lines = engine_log::Lines::new(session.console.json());
    let mut interrupts = Interrupts::listen()?;
    loop {
        let chunk = tokio::select! {
            biased;
            () = interrupts.next() => return Ok(Exit::Interrupted),
            chunk = body.chunk() => chunk,
        };
        let chunk = chunk.map_err(|error| Failure::io("following the log", io::Error::other(error)))?;
        let Some(chunk) = chunk else { break };
        session.console.out(lines.take(&chunk)).await?;
    }
    session.console.out(lines.rest()).await?;
    session.console.note("the engine has ended");
    Ok(Exit::Success)
}
