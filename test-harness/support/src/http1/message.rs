//! Requests and answers as values. Pure.

use serde::de::DeserializeOwned;

use super::Error;

/// A request to send.
#[derive(Clone, Debug)]
pub struct Call {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Call {
    /// Any method.
    pub fn new(method: &str, target: &str) -> Self {
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// GET.
    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// POST without a body.
    pub fn post(target: &str) -> Self {
        Self::new("POST", target)
    }

    /// POST of a JSON value.
    pub fn post_json(target: &str, body: &impl serde::Serialize) -> Self {
        // A value that has no JSON form shows as an empty body, which every server refuses.
        let body = serde_json::to_vec(body).unwrap_or_default();
        Self::new("POST", target)
            .header("Content-Type", "application/json")
            .body(body)
    }

    /// Adds a header field.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds `Authorization: Bearer`.
    #[must_use]
    pub fn bearer(self, token: &str) -> Self {
        self.header("Authorization", &format!("Bearer {token}"))
    }

    /// Sets the body.
    #[must_use]
    pub fn body(self, body: impl Into<Vec<u8>>) -> Self {
        Self {
            body: body.into(),
            ..self
        }
    }

    /// The bytes on the wire. `Host` and `Content-Length` are added unless they were given.
    pub fn bytes(&self, host: &str) -> Vec<u8> {
        let has = |name: &str| {
            self.headers
                .iter()
                .any(|(known, _)| known.eq_ignore_ascii_case(name))
        };
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        let mut field = |name: &str, value: &str| head.extend([name, ": ", value, "\r\n"]);
        if !has("host") {
            field("Host", host);
        }
        for (name, value) in &self.headers {
            field(name, value);
        }
        if !has("content-length") && (self.method == "POST" || !self.body.is_empty()) {
            field("Content-Length", &self.body.len().to_string());
        }
        head.push_str("\r\n");
        [head.as_bytes(), &self.body].concat()
    }
}

/// The head of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Status code.
    pub status: u16,
    /// Fields in the order sent, names as sent.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// The first field of this name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut fields = self.headers.iter();
        fields
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    pub(super) fn parse(text: &[u8]) -> Result<Self, Error> {
        let malformed = || Error::Malformed(String::from_utf8_lossy(text).into_owned());
        let text = std::str::from_utf8(text).map_err(|_| malformed())?;
        let mut lines = text.split("\r\n");
        let first = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 "));
        let status = first
            .and_then(|line| line.get(..3))
            .and_then(|status| status.parse().ok());
        let field = |line: &str| {
            line.split_once(':')
                .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        };
        Ok(Self {
            status: status.ok_or_else(malformed)?,
            headers: lines.map(field).collect::<Option<_>>().ok_or_else(malformed)?,
        })
    }
}

/// A whole answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Head, status included.
    pub head: Head,
    /// Body without any transfer coding.
    pub body: Vec<u8>,
}

impl Answer {
    /// The first field of this name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    /// The body as text; what is not UTF-8 becomes U+FFFD.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// It is not of that form.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_has_the_bytes_it_says() {
        let call = Call::post("/v1/tasks").header("Host", "evil.example").body("{}");
        let expected = "POST /v1/tasks HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(call.bytes("127.0.0.1:1"), expected.as_bytes());
    }
}
