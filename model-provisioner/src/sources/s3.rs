//! `s3:`: an object of Amazon's storage or of a compatible one. Each request is signed anew, for a short time.

use std::time::Duration;

use api_types::{RelativePath, Sha256Digest};
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use downloader::{Ask, FetchError, Origin, Probe};
use http::{HeaderName, HeaderValue};
use rusty_s3::{Bucket, Credentials, S3Action as _, UrlStyle};
use secrecy::ExposeSecret as _;
use url::Url;

use super::{Context, Resolved, explain};
use crate::choose;
use crate::error::ProvisionError;
use crate::plan::{Place, PlannedFile};
use crate::settings::S3Settings;

const DEFAULT_REGION: &str = "us-east-1";
/// A signature is used at once.
const SIGNED_FOR: Duration = Duration::from_secs(300);
/// Asks the service for the digest it keeps; part of what is signed.
const CHECKSUM_MODE: &str = "x-amz-checksum-mode";
const CHECKSUM: &str = "x-amz-checksum-sha256";

pub(crate) async fn resolve(
    context: &Context<'_>,
    bucket: &str,
    key: &str,
) -> Result<Resolved, ProvisionError> {
    let (folder, file) = key
        .rsplit_once('/')
        .map_or(("", key), |(folder, file)| (folder, file));
    let mut files = Vec::new();
    for name in choose::with_parts(file)? {
        let key = if folder.is_empty() {
            name.clone()
        } else {
            format!("{folder}/{name}")
        };
        let object = Object::new(&context.settings.s3, bucket, &key)?;
        let probe = object
            .probe(context)
            .await
            .map_err(|error| refused(bucket, &key, error))?;
        let name =
            RelativePath::new(&name).map_err(|error| ProvisionError::malformed(bucket, error.to_string()))?;
        files.push(PlannedFile {
            bytes: probe.bytes,
            sha256: checksum(&probe),
            etag: probe.etag,
            place: Place::S3 {
                bucket: bucket.to_owned(),
                key,
            },
            cached: false,
            name,
        });
    }
    let version = files.first().and_then(|file| match file.sha256 {
        Some(digest) => Some(digest.to_string()),
        None => file.etag.clone(),
    });
    let version = version
        .map(|version| format!(" at {version}"))
        .unwrap_or_default();
    Ok(Resolved {
        pinned: format!("s3://{bucket}/{key}{version}"),
        files,
    })
}

/// The digest of the whole object, where the service keeps one. That of an object in parts is of the digests of its parts,
/// and of no use here.
fn checksum(probe: &Probe) -> Option<Sha256Digest> {
    let text = probe.headers.get(CHECKSUM)?.to_str().ok()?;
    let composite = probe
        .headers
        .get("x-amz-checksum-type")
        .is_some_and(|of| of == "COMPOSITE");
    if composite || text.contains('-') {
        return None;
    }
    let bytes: [u8; 32] = STANDARD.decode(text).ok()?.try_into().ok()?;
    Some(Sha256Digest::new(bytes))
}

/// The service says what is wrong in the code of its XML, which begins the body.
pub(crate) fn refused(bucket: &str, key: &str, error: FetchError) -> ProvisionError {
    let detail = match &error {
        FetchError::Status { detail, .. } => detail.clone().unwrap_or_default(),
        _ => String::new(),
    };
    let code = detail
        .split_once("<Code>")
        .and_then(|(_, rest)| rest.split('<').next())
        .unwrap_or_default();
    let (source_name, what) = (format!("s3://{bucket}"), key.to_owned());
    let unauthorized = |hint: &str| ProvisionError::Unauthorized {
        source_name: source_name.clone(),
        what: what.clone(),
        hint: hint.to_owned(),
    };
    match code {
        "NoSuchKey" | "NoSuchBucket" => ProvisionError::NotFound { source_name, what },
        "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "ExpiredToken" | "InvalidToken" => {
            unauthorized("check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN")
        }
        "RequestTimeTooSkewed" => unauthorized("the clock of this machine is wrong"),
        "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException" => {
            unauthorized("the bucket is in another region; set AWS_REGION")
        }
        "AccessDenied" => ProvisionError::Forbidden {
            source_name,
            what,
            detail: Some("access denied, or no such key and no right to list the bucket".to_owned()),
        },
        _ => explain(
            &source_name,
            &what,
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            error,
        ),
    }
}

/// One object.
pub(crate) struct Object {
    bucket: Bucket,
    credentials: Option<Credentials>,
    key: String,
}

impl Object {
    pub(crate) fn new(settings: &S3Settings, bucket: &str, key: &str) -> Result<Self, ProvisionError> {
        let odd = |rule: String| ProvisionError::Settings { field: "s3", rule };
        let region = settings
            .region
            .clone()
            .unwrap_or_else(|| DEFAULT_REGION.to_owned());
        let (endpoint, style) = match &settings.endpoint {
            Some(endpoint) => (endpoint.clone(), UrlStyle::Path),
            // A bucket with dots is no name below the service's certificate.
            None => {
                let style = if bucket.contains('.') {
                    UrlStyle::Path
                } else {
                    UrlStyle::VirtualHost
                };
                let text = format!("https://s3.{region}.amazonaws.com");
                (
                    Url::parse(&text).map_err(|_| odd(format!("{region:?} is no region")))?,
                    style,
                )
            }
        };
        let bucket = Bucket::new(endpoint, style, bucket.to_owned(), region)
            .map_err(|error| odd(error.to_string()))?;
        Ok(Self {
            bucket,
            credentials: credentials(settings)?,
            key: key.to_owned(),
        })
    }

    /// What the store says of it. It tells the digest only with the head of the whole object, and why it refuses only in a
    /// body, which a HEAD has none of.
    async fn probe(&self, context: &Context<'_>) -> Result<Probe, FetchError> {
        let mut action = self.bucket.head_object(self.credentials.as_ref(), &self.key);
        action.headers_mut().insert(CHECKSUM_MODE, "ENABLED");
        let head = with_checksum(Ask::head(action.sign(SIGNED_FOR)));
        match context.downloader.probe(&head, context.stop).await {
            Err(FetchError::Status { .. }) => context.downloader.probe(&self.request(), context.stop).await,
            told => told,
        }
    }

    fn request(&self) -> Ask {
        let mut action = self.bucket.get_object(self.credentials.as_ref(), &self.key);
        action.headers_mut().insert(CHECKSUM_MODE, "ENABLED");
        with_checksum(Ask::new(action.sign(SIGNED_FOR)))
    }
}

fn with_checksum(ask: Ask) -> Ask {
    ask.header(
        HeaderName::from_static(CHECKSUM_MODE),
        HeaderValue::from_static("ENABLED"),
    )
}

fn credentials(settings: &S3Settings) -> Result<Option<Credentials>, ProvisionError> {
    match (&settings.access_key, &settings.secret_key) {
        (None, None) => Ok(None),
        (Some(key), Some(secret)) => {
            let (key, secret) = (key.clone(), secret.expose_secret().to_owned());
            Ok(Some(match &settings.session_token {
                Some(token) => Credentials::new_with_token(key, secret, token.expose_secret().to_owned()),
                None => Credentials::new(key, secret),
            }))
        }
        (Some(_), None) | (None, Some(_)) => Err(ProvisionError::Settings {
            field: "s3",
            rule: "an access key and its secret belong together".to_owned(),
        }),
    }
}

#[async_trait]
impl Origin for Object {
    async fn ask(&self, _again: bool) -> Result<Ask, FetchError> {
        Ok(self.request())
    }
}
