//! The words near which a credential may stand, and where it begins and ends there.

use std::ops::Range;

/// How to find the credential that belongs to a word.
#[derive(Clone, Copy)]
pub(super) enum Rule {
    /// The word begins the credential, in this spelling only: at least `at_least` bytes of the alphabet follow.
    Key {
        alphabet: fn(u8) -> bool,
        at_least: usize,
    },
    /// An authentication scheme: spaces, then the credential.
    Scheme,
    /// A header or field name: `name: value`, `name=value`, `"name": "value"` or `("name", "value")`.
    Field,
    /// A command line flag: its value is the next word, also in a printed list of arguments.
    Flag,
    /// A query parameter with its `=`, which counts only inside a query.
    Query,
    /// The mark before a URL's authority: everything up to `@` is the credential.
    Authority,
}

const LONG_KEY: Rule = Rule::Key {
    alphabet: |b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'),
    at_least: 8,
};
const ALNUM_KEY: Rule = Rule::Key {
    alphabet: |b| b.is_ascii_alphanumeric(),
    at_least: 8,
};
const AWS_KEY_ID: Rule = Rule::Key {
    alphabet: |b| b.is_ascii_uppercase() || b.is_ascii_digit(),
    at_least: 16,
};

/// Words are found in any case, at the leftmost place, the longest first.
pub(super) const RULES: &[(&str, Rule)] = &[
    ("hf_", ALNUM_KEY),
    ("hf_oauth_", LONG_KEY),
    ("sk-", LONG_KEY),
    ("AKIA", AWS_KEY_ID),
    ("ASIA", AWS_KEY_ID),
    ("bearer", Rule::Scheme),
    ("authorization", Rule::Field),
    ("cookie", Rule::Field),
    ("api-key", Rule::Field),
    ("api_key", Rule::Field),
    ("apikey", Rule::Field),
    ("auth-token", Rule::Field),
    ("auth_token", Rule::Field),
    ("access_token", Rule::Field),
    ("refresh_token", Rule::Field),
    ("session_token", Rule::Field),
    ("secret_access_key", Rule::Field),
    ("secretaccesskey", Rule::Field),
    ("client_secret", Rule::Field),
    ("password", Rule::Field),
    ("x-amz-credential", Rule::Field),
    ("x-amz-security-token", Rule::Field),
    ("x-amz-signature", Rule::Field),
    ("x-goog-credential", Rule::Field),
    ("x-goog-signature", Rule::Field),
    ("--api-key", Rule::Flag),
    ("--auth-token", Rule::Flag),
    ("--token", Rule::Flag),
    ("awsaccesskeyid=", Rule::Query),
    ("key=", Rule::Query),
    ("key-pair-id=", Rule::Query),
    ("policy=", Rule::Query),
    ("secret=", Rule::Query),
    ("sig=", Rule::Query),
    ("signature=", Rule::Query),
    ("token=", Rule::Query),
    ("://", Rule::Authority),
];

/// Spaces and quotes looked at between a name and its value: a bound on the work per word.
const MAX_GAP: usize = 8;

/// Words that stand where a credential could, in messages and JSON, and are none.
const NOT_SECRET: &[&str] = &[
    "null",
    "none",
    "true",
    "false",
    "token",
    "tokens",
    "auth",
    "authentication",
    "realm=",
];

/// Where in `text` the credential lies that belongs to the word at `at`, if there is one.
pub(super) fn secret_near(
    text: &[u8],
    at: Range<usize>,
    (word, rule): &(&str, Rule),
) -> Option<Range<usize>> {
    let rest = &text[at.end..];
    let value = match *rule {
        Rule::Key { alphabet, at_least } => {
            let starts_here = text[at.clone()] == *word.as_bytes() && !follows_alphanumeric(text, at.start);
            let len = if starts_here { run(rest, alphabet) } else { 0 };
            return (len >= at_least).then_some(at.start..at.end + len);
        }
        Rule::Scheme => value_after_gap(rest, is_blank),
        Rule::Field => field_value(rest),
        Rule::Flag => value_after_gap(rest, |b| is_blank(b) || matches!(b, b'=' | b'"' | b'\'' | b',')),
        Rule::Query => in_query(&text[..at.start]).then(|| 0..run(rest, |b| !ends_query_value(b))),
        Rule::Authority => user_info(rest),
    }?;
    is_secret(&rest[value.clone()]).then_some(at.end + value.start..at.end + value.end)
}

fn follows_alphanumeric(text: &[u8], at: usize) -> bool {
    at.checked_sub(1)
        .is_some_and(|before| text[before].is_ascii_alphanumeric())
}

fn is_secret(value: &[u8]) -> bool {
    let value = value.trim_ascii_end();
    let value = value.strip_suffix(b".").unwrap_or(value);
    !value.is_empty()
        && !NOT_SECRET
            .iter()
            .any(|word| value.eq_ignore_ascii_case(word.as_bytes()))
}

/// A word after one to [`MAX_GAP`] bytes of gap.
fn value_after_gap(rest: &[u8], is_gap: impl Fn(u8) -> bool) -> Option<Range<usize>> {
    let gap = gap(rest, is_gap).filter(|&gap| gap > 0)?;
    Some(gap..gap + run(&rest[gap..], |b| !ends_word(b)))
}

fn user_info(rest: &[u8]) -> Option<Range<usize>> {
    let authority = run(rest, |b| {
        !ends_word(b) && !matches!(b, b'/' | b'?' | b'#' | b'<' | b'>')
    });
    memchr::memrchr(b'@', &rest[..authority]).map(|at| 0..at)
}

/// A separator with gaps around it, then the value. A comma separates only after a quoted name.
fn field_value(rest: &[u8]) -> Option<Range<usize>> {
    let name_quote = quote(rest);
    let before = name_quote.len() + gap(&rest[name_quote.len()..], is_blank)?;
    let separator = *rest.get(before)?;
    let separates = matches!(separator, b':' | b'=') || (separator == b',' && !name_quote.is_empty());
    if !separates {
        return None;
    }
    let after = before + 1 + gap(&rest[before + 1..], is_blank)?;
    let value_quote = quote(&rest[after..]);
    let from = after + value_quote.len();
    let value = &rest[from..];
    let len = match value_quote {
        [] => bare_len(value, separator, !name_quote.is_empty()),
        [quote] => quoted_len(value, *quote),
        _ => run(value, |b| b != b'\\' && !ends_line(b)),
    };
    Some(from..from + len)
}

/// Length of a value without quotes: in JSON, in a list of assignments, or as a header's whole line.
fn bare_len(value: &[u8], separator: u8, in_json: bool) -> usize {
    if in_json {
        return after_scheme(value, |b| !ends_word(b) && !matches!(b, b',' | b'}' | b')'));
    }
    if separator == b'=' {
        return after_scheme(value, |b| !ends_query_value(b) && !matches!(b, b',' | b';'));
    }
    run(value, |b| !ends_line(b) && !is_quote(b))
}

/// A quote, or a quote inside JSON text that is itself quoted.
fn quote(bytes: &[u8]) -> &[u8] {
    match bytes {
        [b'\\', b'"', ..] => &bytes[..2],
        [b'"' | b'\'', ..] => &bytes[..1],
        _ => &[],
    }
}

fn quoted_len(value: &[u8], quote: u8) -> usize {
    let mut len = 0;
    while let Some(&b) = value.get(len) {
        match b {
            b'\\' => len += 2,
            b if b == quote || ends_line(b) => break,
            _ => len += 1,
        }
    }
    // An escape at the very end has nothing after it.
    len.min(value.len())
}

/// Length of an unquoted value, which may be two words: a scheme and its credential.
fn after_scheme(value: &[u8], belongs: impl Fn(u8) -> bool) -> usize {
    let begins = |scheme: &[u8]| {
        value
            .get(..scheme.len())
            .is_some_and(|v| v.eq_ignore_ascii_case(scheme))
    };
    let scheme = [b"bearer".as_slice(), b"basic"]
        .into_iter()
        .find(|scheme| begins(scheme))
        .map_or(0, <[u8]>::len);
    let start = scheme
        + gap(&value[scheme..], is_blank)
            .filter(|_| scheme > 0)
            .unwrap_or(0);
    start + run(&value[start..], belongs)
}

fn in_query(before: &[u8]) -> bool {
    matches!(before, [.., b'?' | b'&' | b';']) || before.ends_with(b"u0026")
}

/// Length of the gap at the start, unless it is too long to be one.
fn gap(bytes: &[u8], is_gap: impl Fn(u8) -> bool) -> Option<usize> {
    let len = run(&bytes[..bytes.len().min(MAX_GAP + 1)], is_gap);
    (len <= MAX_GAP).then_some(len)
}

fn run(bytes: &[u8], belongs: impl Fn(u8) -> bool) -> usize {
    bytes.iter().take_while(|&&b| belongs(b)).count()
}

fn is_blank(b: u8) -> bool {
    matches!(b, b' ' | b'\t')
}

fn is_quote(b: u8) -> bool {
    matches!(b, b'"' | b'\'' | b'`')
}

fn ends_line(b: u8) -> bool {
    matches!(b, b'\n' | b'\r')
}

fn ends_word(b: u8) -> bool {
    b.is_ascii_whitespace() || is_quote(b) || b == b'\\'
}

fn ends_query_value(b: u8) -> bool {
    ends_word(b) || matches!(b, b'&' | b'#' | b'<' | b'>')
}
