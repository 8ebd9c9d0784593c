//! Log lines on standard error: JSON (one object per line) or pretty. A narration line carries its
//! own `target`; every other line carries the module it comes from there.

use std::fmt;
use std::io::{self, IsTerminal};

use api_types::LogFormat;
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::format::{Compact, Format, Json, JsonFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::writer::MakeWriter;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::narration::TARGET;
use crate::recorder::Texts;

/// Why logging cannot start.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// `log.level` is neither a level nor a list of filter directives.
    #[error("log.level {directives:?} is not a level or a list of filter directives")]
    Filter {
        /// The text.
        directives: String,
        /// What is wrong with it.
        source: ParseError,
    },
    /// Called twice in one process.
    #[error("logging is already set up")]
    Already(#[source] TryInitError),
}

/// Sends the log of this process to standard error.
///
/// # Errors
/// [`InitError`] for bad filter directives, or when logging is already set up.
pub fn init(format: LogFormat, level: &str) -> Result<(), InitError> {
    let filter = filter(level)?;
    let registry = tracing_subscriber::registry().with(filter);
    let done = match format {
        LogFormat::Json => registry.with(json(io::stderr)).try_init(),
        LogFormat::Pretty => registry
            .with(pretty(io::stderr, io::stderr().is_terminal()))
            .try_init(),
    };
    done.map_err(InitError::Already)
}

fn filter(directives: &str) -> Result<EnvFilter, InitError> {
    EnvFilter::builder()
        .parse(directives)
        .map_err(|source| InitError::Filter {
            directives: directives.to_owned(),
            source,
        })
}

fn json<S, W>(writer: W) -> impl tracing_subscriber::Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'w> MakeWriter<'w> + 'static,
{
    let format = || Format::default().json().flatten_event(true).with_span_list(false);
    tracing_subscriber::fmt::layer()
        .fmt_fields(JsonFields::new())
        .event_format(JsonLines {
            narration: format().with_target(false),
            other: format(),
        })
        .with_writer(writer)
}

fn pretty<S, W>(writer: W, colours: bool) -> impl tracing_subscriber::Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'w> MakeWriter<'w> + 'static,
{
    tracing_subscriber::fmt::layer()
        .with_ansi(colours)
        .event_format(PrettyLines {
            other: Format::default().compact(),
        })
        .with_writer(writer)
}

struct JsonLines {
    narration: Format<Json>,
    other: Format<Json>,
}

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, N>, writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        if event.metadata().target() == TARGET {
            self.narration.format_event(ctx, writer, event)
        } else {
            self.other.format_event(ctx, writer, event)
        }
    }
}

struct PrettyLines {
    other: Format<Compact>,
}

impl<S, N> FormatEvent<S, N> for PrettyLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, N>, writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        if event.metadata().target() == TARGET {
            story(writer, event)
        } else {
            self.other.format_event(ctx, writer, event)
        }
    }
}

/// `time LEVEL actor: human [action target, field=value…]`.
fn story(mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
    let mut texts = Texts::default();
    event.record(&mut texts);
    let mut take = |name| texts.0.remove(name).unwrap_or_default();
    let (actor, human, action, target) = (take("actor"), take("human"), take("action"), take("target"));
    SystemTime.format_time(&mut writer)?;
    let level = event.metadata().level();
    write!(writer, " {level:>5} {actor}: {human} [{action} {target}")?;
    for (name, value) in &texts.0 {
        write!(writer, ", {name}={value}")?;
    }
    writeln!(writer, "]")
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use serde_json::Value;
    use tracing_subscriber::Registry;

    use super::*;
    use crate::Narration;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged<L>(layer: impl Fn(Buffer) -> L, work: impl Fn()) -> String
    where
        L: tracing_subscriber::Layer<Registry> + Send + Sync,
    {
        let buffer = Buffer::default();
        let subscriber = tracing_subscriber::registry().with(layer(buffer.clone()));
        tracing::subscriber::with_default(subscriber, work);
        String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap()
    }

    fn json_lines(work: impl Fn()) -> Vec<Value> {
        let text = logged(|buffer| json(move || buffer.clone()), work);
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// ORCH-3300.
    #[test]
    fn a_narration_is_one_json_object_with_the_contract_s_fields() {
        let lines = json_lines(|| {
            Narration::new(
                "orchestratord",
                "placement",
                &"task",
                "places the task on a ready pool",
            )
            .correlation_id(&"c-1")
            .pool_id(&"gpu0")
            .session_id(None::<&String>)
            .queue_position(3)
            .decode_time_ms(None)
            .emit();
        });
        let line = lines[0].as_object().unwrap();
        for (field, value) in [
            ("level", Value::from("INFO")),
            ("actor", "orchestratord".into()),
            ("action", "placement".into()),
            ("target", "task".into()),
            ("human", "places the task on a ready pool".into()),
            ("correlation_id", "c-1".into()),
            ("pool_id", "gpu0".into()),
            ("queue_position", 3.into()),
        ] {
            assert_eq!(line.get(field), Some(&value), "{field}");
        }
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
        assert_eq!(line.len(), 9, "absent fields must not be written: {line:?}");
        assert_eq!(lines.len(), 1);
    }

    #[test]
    fn other_lines_name_their_module_and_their_request() {
        let lines = json_lines(|| {
            let span = tracing::error_span!("request", correlation_id = "c-2");
            span.in_scope(|| tracing::warn!(count = 2, "odd"));
        });
        assert_eq!(lines[0]["target"], module_path!());
        assert_eq!(lines[0]["message"], "odd");
        assert_eq!(lines[0]["span"]["correlation_id"], "c-2");
    }

    #[test]
    fn control_characters_cannot_forge_a_line() {
        let lines = json_lines(|| {
            Narration::new("a", "b", &"x\n{\"forged\":1}", "says\nit").emit();
        });
        assert_eq!(lines.len(), 1);
    }

    #[test]
    fn pretty_tells_the_story_first() {
        let text = logged(
            |buffer| pretty(move || buffer.clone(), false),
            || {
                Narration::new("pool-managerd", "ready", &"gpu0", "serves the model")
                    .replica_id(&"r0")
                    .warning()
                    .emit();
            },
        );
        let (_, story) = text.split_once(' ').unwrap();
        assert_eq!(
            story,
            " WARN pool-managerd: serves the model [ready gpu0, replica_id=r0]\n"
        );
    }

    #[test]
    fn filters_are_parsed_or_refused_with_their_text() {
        assert!(filter("warn,orchestratord=debug").is_ok());
        let error = filter("loud=very,=").unwrap_err().to_string();
        assert!(error.contains("loud=very"), "{error}");
    }

    #[test]
    fn a_filter_lets_only_its_levels_through() {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let subscriber = tracing_subscriber::registry()
            .with(filter("warn").unwrap())
            .with(json(move || writer.clone()));
        tracing::subscriber::with_default(subscriber, || {
            Narration::new("a", "quiet", &"t", "says little").emit();
            Narration::new("a", "loud", &"t", "warns").warning().emit();
        });
        let text = String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
        assert!(text.contains("loud") && !text.contains("quiet"), "{text}");
    }
}
