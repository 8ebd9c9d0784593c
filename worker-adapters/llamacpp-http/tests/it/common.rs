//! An adapter, a job, and everything that comes out of a stream.

use std::future::poll_fn;
use std::time::Duration;

use adapter_api::{
    Adapter, AdapterError, AdapterErrorKind, Finish, Job, JobInput, Timeouts, TokenBatch, TokenStream,
};
use api_types::{KvHint, Message, Role, Sampling, TaskId, TokenKind};
use llamacpp_http::LlamaCpp;
use proptest::test_runner::Config;
use secrecy::SecretString;

/// Long enough that none fires on a busy machine unless a test wants it to.
pub(crate) const PATIENT: Timeouts = Timeouts {
    connect: Duration::from_secs(10),
    first_token: Duration::from_secs(60),
    token_idle: Duration::from_secs(60),
    probe: Duration::from_secs(30),
};

/// Fires soon: for engines that are silent on purpose.
pub(crate) const HASTY: Timeouts = Timeouts {
    first_token: Duration::from_millis(300),
    token_idle: Duration::from_millis(300),
    connect: Duration::from_millis(300),
    ..PATIENT
};

pub(crate) fn adapter(url: &str, key: Option<&str>, timeouts: Timeouts) -> LlamaCpp {
    let key = key.map(SecretString::from);
    let client = LlamaCpp::client(&timeouts).unwrap();
    let endpoint = client.endpoint(url.parse().unwrap(), key.as_ref()).unwrap();
    LlamaCpp::new(endpoint, timeouts)
}

pub(crate) fn job(prompt: &str, max_tokens: u32) -> Job {
    Job {
        task_id: TaskId::new(uuid::Uuid::from_u128(7)),
        input: JobInput::Prompt(prompt.into()),
        max_tokens,
        seed: 42,
        sampling: Sampling::default(),
        kv_hint: KvHint::Reuse,
        strict: false,
    }
}

/// A chat of one message.
pub(crate) fn chat(content: &str, max_tokens: u32) -> Job {
    Job {
        input: JobInput::Chat([Message::new(Role::User, content)].into()),
        ..job("", max_tokens)
    }
}

pub(crate) fn embed(inputs: &[&str]) -> Job {
    Job {
        input: JobInput::Embedding(inputs.iter().map(|&text| text.to_owned()).collect()),
        ..job("", 0)
    }
}

pub(crate) fn rerank(query: &str, documents: &[&str]) -> Job {
    Job {
        input: JobInput::Rerank {
            query: query.into(),
            documents: documents.iter().map(|&text| text.to_owned()).collect(),
        },
        ..job("", 0)
    }
}

/// Cases are few, because each takes a server; a failing one is printed, not kept in a file.
pub(crate) fn config(cases: u32) -> Config {
    Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    }
}

/// Everything that came out.
#[derive(Debug, PartialEq)]
pub(crate) struct Output {
    pub(crate) texts: Vec<String>,
    /// What each text is.
    pub(crate) kinds: Vec<TokenKind>,
    pub(crate) generated: u32,
    pub(crate) end: Result<Finish, AdapterError>,
}

impl Output {
    pub(crate) fn error_kind(&self) -> Option<AdapterErrorKind> {
        self.end.as_ref().err().map(|e| e.kind)
    }
}

/// Submits and reads to the end, which must come exactly once.
pub(crate) async fn generate(adapter: &LlamaCpp, job: &Job) -> Output {
    match adapter.submit(job).await {
        Ok(stream) => drain(stream).await,
        Err(error) => Output {
            texts: Vec::new(),
            kinds: Vec::new(),
            generated: 0,
            end: Err(error),
        },
    }
}

/// Reads to the end. Every successful poll must have brought something.
pub(crate) async fn drain(mut stream: Box<dyn TokenStream>) -> Output {
    let mut batch = TokenBatch::new();
    let (mut texts, mut kinds) = (Vec::new(), Vec::new());
    let end = loop {
        let before = batch.generated();
        batch.clear();
        if let Err(error) = poll_fn(|cx| stream.poll_next(cx, &mut batch)).await {
            break Err(error);
        }
        texts.extend(batch.tokens().map(str::to_owned));
        kinds.extend(batch.tokens_with_kind().map(|(kind, _)| kind));
        if let Some(finish) = batch.finish() {
            break Ok(finish.clone());
        }
        assert!(
            !batch.is_empty() || batch.generated() > before,
            "a poll brought nothing"
        );
    };
    let after = poll_fn(|cx| stream.poll_next(cx, &mut batch)).await;
    assert!(after.is_err(), "something came after the end");
    Output {
        texts,
        kinds,
        generated: batch.generated(),
        end,
    }
}
