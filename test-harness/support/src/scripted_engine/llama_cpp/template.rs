//! The chat template: messages in, prompt out, as recorded from the real server with a template of this form. Pure.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::super::script::EngineError;
use super::errors::Refusal;

/// As `/props` shows it.
pub(super) const CHAT_TEMPLATE: &str = "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}\
    {% if add_generation_prompt %}[assistant] {% endif %}";

/// The prompt of a chat.
pub(super) fn render(body: &Map<String, Value>) -> Result<String, Refusal> {
    let messages = body.get("messages").and_then(Value::as_array);
    let messages = messages.ok_or_else(|| Refusal::invalid("'messages' is required"))?;
    let mut prompt = String::new();
    for message in messages {
        let (role, content) = parts(message)?;
        let _ = writeln!(prompt, "[{role}] {content}");
    }
    Ok(prompt + "[assistant] ")
}

fn parts(message: &Value) -> Result<(&str, &str), Refusal> {
    let text_of = |key| message.get(key).and_then(Value::as_str);
    let role = text_of("role").ok_or_else(|| {
        let text = format!("Failed to parse messages: Missing 'role' in message: {message}");
        Refusal::Plain(EngineError::new(500, "server_error", text))
    })?;
    Ok((role, text_of("content").unwrap_or_default()))
}
