//! A decoder that follows the WHATWG text word by word over the whole stream at once, without a thought for speed or
//! memory. The yardstick for the real one.

/// One event: name, data, id.
pub(crate) type Event = (Vec<u8>, Vec<u8>, Vec<u8>);

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Decoded {
    pub(crate) events: Vec<Event>,
    pub(crate) comments: u64,
    pub(crate) retry_ms: Option<u64>,
    pub(crate) end: End,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) enum End {
    #[default]
    Clean,
    Partial(Event),
    TooLarge,
}

#[derive(Default)]
struct Fields {
    lines: usize,
    data: String,
    name: String,
    id: String,
}

/// The standard decodes to text first. Here bytes stand for characters, so that invalid UTF-8 passes unchanged.
fn to_chars(bytes: &[u8]) -> String {
    bytes.iter().map(|&b| char::from(b)).collect()
}

fn to_bytes(text: &str) -> Vec<u8> {
    text.chars()
        .filter_map(|c| u8::try_from(u32::from(c)).ok())
        .collect()
}

pub(crate) fn decode(stream: &[u8], limit: usize) -> Decoded {
    let text = to_chars(stream.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(stream));
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut lines: Vec<&str> = text.split('\n').collect();
    let unfinished = lines.pop().unwrap_or_default();
    let mut decoded = Decoded::default();
    let mut fields = Fields::default();
    for line in lines {
        if line.is_empty() {
            dispatch(&mut fields, &mut decoded);
        } else if line.starts_with(':') {
            decoded.comments += 1;
        } else {
            fields.lines += line.len_bytes();
            if fields.lines > limit {
                return Decoded {
                    end: End::TooLarge,
                    ..decoded
                };
            }
            process(line, &mut fields, &mut decoded);
        }
    }
    if !unfinished.starts_with(':') {
        fields.lines += unfinished.len_bytes();
        if fields.lines > limit {
            return Decoded {
                end: End::TooLarge,
                ..decoded
            };
        }
        if !unfinished.is_empty() {
            let mut late = Decoded::default();
            process(unfinished, &mut fields, &mut late);
            decoded.retry_ms = late.retry_ms.or(decoded.retry_ms);
        }
    }
    if fields.lines > 0 {
        decoded.end = End::Partial(event(&fields));
    }
    decoded
}

fn process(line: &str, fields: &mut Fields, decoded: &mut Decoded) {
    let (name, value) = line.split_once(':').unwrap_or((line, ""));
    let value = value.strip_prefix(' ').unwrap_or(value);
    match name {
        "event" => fields.name = value.to_owned(),
        "data" => {
            fields.data.push_str(value);
            fields.data.push('\n');
        }
        "id" if !value.contains('\0') => fields.id = value.to_owned(),
        "retry" if value.chars().all(|c| c.is_ascii_digit()) => {
            decoded.retry_ms = value.parse().ok().or(decoded.retry_ms);
        }
        _ => {}
    }
}

fn dispatch(fields: &mut Fields, decoded: &mut Decoded) {
    if !fields.data.is_empty() {
        decoded.events.push(event(fields));
    }
    *fields = Fields {
        id: std::mem::take(&mut fields.id),
        ..Fields::default()
    };
}

fn event(fields: &Fields) -> Event {
    let name = if fields.name.is_empty() {
        "message"
    } else {
        &fields.name
    };
    let data = fields.data.strip_suffix('\n').unwrap_or(&fields.data);
    (to_bytes(name), to_bytes(data), to_bytes(&fields.id))
}

trait LenBytes {
    fn len_bytes(&self) -> usize;
}

impl LenBytes for str {
    /// One character stands for one byte here.
    fn len_bytes(&self) -> usize {
        self.chars().count()
    }
}
