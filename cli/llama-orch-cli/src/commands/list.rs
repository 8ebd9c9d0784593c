//! `pools`, `nodes`, `capabilities`: one question, one table.

use super::Session;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::{capabilities, nodes, pools};

pub(super) async fn pools(session: &Session<'_>) -> Result<Exit, Failure> {
    let list = session.client.pools().await?;
    session.show(&list, |look| pools::list(&list, look)).await?;
    for line in pools::advice(&list) {
        session.console.note(&line);
    }
    Ok(Exit::Success)
}

pub(super) async fn nodes(session: &Session<'_>) -> Result<Exit, Failure> {
    let list = session.client.nodes().await?;
    session.show(&list, |look| nodes::list(&list, look)).await?;
    Ok(Exit::Success)
}

pub(super) async fn capabilities(session: &Session<'_>) -> Result<Exit, Failure> {
    let answer = session.client.capabilities().await?;
    session
        .show(&answer, |look| capabilities::list(&answer, look))
        .await?;
    Ok(Exit::Success)
}
