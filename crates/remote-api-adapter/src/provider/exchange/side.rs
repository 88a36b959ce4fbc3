//! Calls beside the requests: files and jobs. Same headers and refusals as a request; longer deadlines, and bodies that go
//! from and to the disk without standing in memory. A job and its files belong to one account, so always the same key is used,
//! see [`crate::keys::Keys::account`].

use std::{path::Path, time::Duration};

use domain::fault::{Code, Fault, Origin};
use futures::{FutureExt, future::BoxFuture};
use reqwest::{
    Body, Response, StatusCode, Url,
    header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue},
    multipart::{Form, Part},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::Instant,
};
use tokio_util::io::ReaderStream;

use super::Exchange;
use crate::{
    credential::{Credential, Key},
    provider::{
        Dialect, Failure,
        jobs::{Ask, Payload, Side},
    },
};

/// A call without a file.
const CALL_MAX: Duration = Duration::from_secs(60);
/// A call that carries a file: 512 MB at 5 Mbit/s.
const FILE_MAX: Duration = Duration::from_secs(15 * 60);
/// Largest file that is fetched: 50,000 answers of some 40 KB.
const DOWNLOAD_BYTES_MAX: u64 = 2 << 30;

impl<D: Dialect> Exchange<D> {
    async fn ask(&self, ask: &Ask<'_>) -> Result<Response, Failure> {
        let account = self.keys.account();
        let mut key = account.map(Credential::current).transpose().map_err(|problem| {
            let message = format!("{} has no key: {problem}", self.name);
            Failure::permanent(Fault::new(Code::UpstreamAuth, Origin::Provider, true, message))
        })?;
        let mut response = self.send_ask(ask, key.as_deref()).await?;
        if response.status() == StatusCode::UNAUTHORIZED
            && let Some((credential, refused)) = account.zip(key.as_ref())
            && let Some(new) = credential.reread(refused)
        {
            response = self.send_ask(ask, Some(&new)).await?;
            key = Some(new);
        }
        if !response.status().is_success() {
            return Err(self.explained(response, key.as_deref().map(Key::expose)).await);
        }
        Ok(response)
    }

    async fn send_ask(&self, ask: &Ask<'_>, key: Option<&Key>) -> Result<Response, Failure> {
        let mut request = reqwest::Request::new(ask.method.clone(), ask.url.clone());
        let headers = request.headers_mut();
        headers.extend(self.headers.clone());
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        match &ask.payload {
            Payload::Nothing => {}
            Payload::Json(body) => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                *request.body_mut() = Some(body.clone().into());
            }
            Payload::Around { before, file, after } => {
                let (body, length) = around(before, file, after).await.map_err(|fault| own(file, &fault))?;
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                headers.insert(CONTENT_LENGTH, length.into());
                *request.body_mut() = Some(body);
            }
            Payload::Form { fields, file, name } => {
                let form = form(fields, file, name).await.map_err(|fault| own(file, &fault))?;
                request = self.transport.with_form(request, form)?;
            }
        }
        self.dialect.authorize(&mut request, key).await?;
        self.transport.send(request).await
    }

    async fn save(&self, url: Url, to: &Path) -> Result<(), Failure> {
        let response = self.ask(&Ask::get(url)).await?;
        let mut body = self.transport.body(response).up_to(DOWNLOAD_BYTES_MAX);
        let mut file = tokio::fs::File::create(to).await.map_err(|error| own(to, &error))?;
        let idle = self.transport.timeouts.idle;
        while let Some(bytes) = body.read(Instant::now() + idle, "more of the file").await.map_err(again)? {
            file.write_all(&bytes).await.map_err(|error| own(to, &error))?;
        }
        file.sync_all().await.map_err(|error| own(to, &error))
    }

    fn late(&self, limit: Duration) -> Failure {
        let message = format!("{} did not answer within {} s", self.name, limit.as_secs());
        again(Fault::new(Code::Timeout, Origin::Provider, true, message))
    }
}

/// What broke on its way may be sent again; what was too large stays so.
const fn again(fault: Fault) -> Failure {
    Failure { transient: fault.retryable, fault }
}

/// Our own disk failed; that may pass.
fn own(file: &Path, error: &std::io::Error) -> Failure {
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    again(Fault::internal(format!("{name}: {error}")))
}

/// A body with a file in its middle, and its length.
async fn around(before: &'static str, file: &Path, after: &'static str) -> std::io::Result<(Body, u64)> {
    let content = tokio::fs::File::open(file).await?;
    let length = content.metadata().await?.len();
    let bytes = before.as_bytes().chain(content.take(length)).chain(after.as_bytes());
    let whole = length + (before.len() + after.len()) as u64;
    Ok((Body::wrap_stream(ReaderStream::new(bytes)), whole))
}

async fn form(fields: &[(&'static str, &str)], file: &Path, name: &str) -> std::io::Result<Form> {
    let content = tokio::fs::File::open(file).await?;
    let length = content.metadata().await?.len();
    let part = Part::stream_with_length(content, length).file_name(name.to_owned());
    let fields = fields.iter().fold(Form::new(), |form, (key, value)| form.text(*key, (*value).to_owned()));
    // the file last, where a server that reads as it comes expects it
    Ok(fields.part("file", part))
}

impl<D: Dialect> Side for Exchange<D> {
    fn provider(&self) -> &str {
        &self.name
    }

    fn call<'a>(&'a self, ask: Ask<'a>) -> BoxFuture<'a, Result<Vec<u8>, Failure>> {
        async move {
            let carries = matches!(ask.payload, Payload::Form { .. } | Payload::Around { .. });
            let limit = if carries { FILE_MAX } else { CALL_MAX };
            let whole = async {
                let response = self.ask(&ask).await?;
                self.transport.whole(response).await.map_err(again)
            };
            tokio::time::timeout(limit, whole).await.unwrap_or_else(|_| Err(self.late(limit)))
        }
        .boxed()
    }

    fn download<'a>(&'a self, url: Url, to: &'a Path) -> BoxFuture<'a, Result<(), Failure>> {
        async move {
            tokio::time::timeout(FILE_MAX, self.save(url, to))
                .await
                .unwrap_or_else(|_| Err(self.late(FILE_MAX)))
        }
        .boxed()
    }
}
