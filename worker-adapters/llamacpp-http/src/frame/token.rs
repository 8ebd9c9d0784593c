//! The token frame in the one form in which the server writes it:
//! `{"index":0,"content":"…","tokens":[5],"stop":false,"id_slot":-1,"tokens_predicted":2,"tokens_evaluated":10}`.

use adapter_api::TokenBatch;

/// Appends the frame's text to `batch` and returns how many tokens the engine has generated so far. `None`, and nothing
/// appended, when the frame has any other form.
pub(super) fn read(frame: &[u8], batch: &mut TokenBatch) -> Option<u32> {
    let rest = frame.strip_prefix(b"{\"index\":")?;
    let (_index, rest) = number(rest)?;
    let rest = rest.strip_prefix(b",\"content\":")?;
    let (text, rest) = text(rest)?;
    let rest = rest.strip_prefix(b",\"tokens\":[")?;
    // Filled on request only, which we do not make, and then with the last id alone.
    let rest = number(rest).map_or(rest, |(_id, rest)| rest);
    let rest = rest.strip_prefix(b"],\"stop\":false,\"id_slot\":-1,\"tokens_predicted\":")?;
    let (generated, rest) = number(rest)?;
    let rest = rest.strip_prefix(b",\"tokens_evaluated\":")?;
    let (_prompt, rest) = number(rest)?;
    if rest != b"}" {
        return None;
    }
    match text {
        Text::Plain(text) => batch.push(std::str::from_utf8(text).ok()?),
        Text::Escaped(quoted) => batch.push(&serde_json::from_slice::<String>(quoted).ok()?),
    }
    Some(generated)
}

/// A JSON string.
enum Text<'a> {
    /// Without quotes; stands for itself.
    Plain(&'a [u8]),
    /// With quotes and escapes.
    Escaped(&'a [u8]),
}

/// Takes a JSON string, and leaves what follows it.
fn text(json: &[u8]) -> Option<(Text<'_>, &[u8])> {
    let inner = json.strip_prefix(b"\"")?;
    let end = inner.iter().position(|&b| b == b'"' || b == b'\\' || b < b' ')?;
    match inner[end] {
        b'"' => Some((Text::Plain(&inner[..end]), &inner[end + 1..])),
        b'\\' => escaped(json),
        _ => None,
    }
}

/// Finds the end of a string with escapes. What stands in it is checked by whoever takes the escapes out.
fn escaped(json: &[u8]) -> Option<(Text<'_>, &[u8])> {
    let mut at = 1;
    loop {
        match json.get(at)? {
            b'"' => return Some((Text::Escaped(&json[..=at]), &json[at + 1..])),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// Takes a JSON integer without sign, and leaves what follows it.
fn number(json: &[u8]) -> Option<(u32, &[u8])> {
    let len = json.iter().take_while(|b| b.is_ascii_digit()).count();
    let (digits, rest) = json.split_at(len);
    if len > 1 && digits[0] == b'0' {
        return None;
    }
    Some((std::str::from_utf8(digits).ok()?.parse().ok()?, rest))
}
