//! `artifact put`, `artifact get`, `artifact list`.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use api_types::{Artifact, ArtifactId, ArtifactQuery, ArtifactRequest, ContentEncoding};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Session;
use crate::args::{ArtifactCommand, ArtifactPutArgs};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::artifacts;

/// No orchestrator stores more.
const MAX_BYTES: u64 = 64 << 20;

pub(super) async fn perform(session: &Session<'_>, command: &ArtifactCommand) -> Result<Exit, Failure> {
    match command {
        ArtifactCommand::Put(args) => put(session, args).await?,
        ArtifactCommand::Get { id } => get(session, *id).await?,
        ArtifactCommand::List {
            tag,
            kind,
            limit,
            cursor,
        } => {
            let query = ArtifactQuery {
                tag: tag.clone(),
                kind: *kind,
                cursor: cursor.clone(),
                limit: *limit,
            };
            list(session, &query).await?;
        }
    }
    Ok(Exit::Success)
}

/// Only the id is data: a script can take it as it is.
async fn put(session: &Session<'_>, args: &ArtifactPutArgs) -> Result<(), Failure> {
    let bytes = read(&args.file).map_err(|source| Failure::io("reading the file", source))?;
    let request = request(args, bytes);
    request.validate()?;
    let stored = session.client.store_artifact(&request).await?;
    session
        .show(&stored.info, |_| format!("{}\n", stored.info.id))
        .await?;
    session.console.note(&artifacts::stored(&stored));
    Ok(())
}

fn request(args: &ArtifactPutArgs, bytes: Vec<u8>) -> ArtifactRequest {
    let (encoding, content) = match String::from_utf8(bytes) {
        Ok(text) => (ContentEncoding::Utf8, text),
        Err(bytes) => (ContentEncoding::Base64, STANDARD.encode(bytes.as_bytes())),
    };
    ArtifactRequest {
        kind: args.kind,
        content,
        encoding,
        media_type: args.media_type.clone(),
        tags: args.tags.clone(),
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    if path == Path::new("-") {
        return bounded(&mut io::stdin().lock()).map_err(named);
    }
    File::open(path)
        .and_then(|mut file| bounded(&mut file))
        .map_err(named)
}

fn bounded(input: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        let message = format!("has more than {MAX_BYTES} bytes, which no orchestrator stores");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(bytes)
}

async fn get(session: &Session<'_>, id: ArtifactId) -> Result<(), Failure> {
    let artifact = session.client.artifact(id).await?;
    if session.console.json() {
        return session.console.document(&artifact).await;
    }
    session.console.out(bytes(artifact)?).await
}

fn bytes(artifact: Artifact) -> Result<Vec<u8>, Failure> {
    match artifact.encoding {
        ContentEncoding::Utf8 => Ok(artifact.content.into_bytes()),
        ContentEncoding::Base64 => STANDARD
            .decode(artifact.content)
            .map_err(|error| Failure::io("decoding the artifact", io::Error::other(error))),
    }
}

async fn list(session: &Session<'_>, query: &ArtifactQuery) -> Result<(), Failure> {
    let list = session.client.artifacts(query).await?;
    session.show(&list, |look| artifacts::list(&list, look)).await?;
    if let Some(cursor) = &list.next_cursor {
        session.console.note(&format!("more: --cursor {cursor}"));
    }
    Ok(())
}
