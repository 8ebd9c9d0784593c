//! `session show`, `session end`.

use super::Session;
use crate::args::SessionCommand;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render;

pub(super) async fn perform(session: &Session<'_>, command: &SessionCommand) -> Result<Exit, Failure> {
    match command {
        SessionCommand::Show { session: id } => {
            let status = session.client.session(id).await?;
            session
                .show(&status, |_| render::session::show(id, &status))
                .await?;
        }
        SessionCommand::End { session: id } => session.client.end_session(id).await?,
    }
    Ok(Exit::Success)
}
