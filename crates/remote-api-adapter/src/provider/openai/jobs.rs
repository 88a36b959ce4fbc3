//! Files, batches and fine-tuning jobs of the dialect; Azure speaks the same, also where its address names a version.
//!
//! Reference: <https://platform.openai.com/docs/api-reference/batch>, `/files`, `/fine-tuning`. A job carries our id in its
//! metadata, by which [`JobDialect::find`] knows it.

mod shape;
#[cfg(test)]
mod tests;

use std::path::Path;

use domain::fault::{Code, Fault, Origin};
use futures::{FutureExt, future::BoxFuture};
use reqwest::Url;
use serde_json::value::RawValue;

use crate::provider::{
    Failure, Prepared,
    jobs::{
        Ask, Event, JobDialect, Kind, Line, Look, Options, Order, Outcome, Payload, Place, Side, Work, parse,
    },
    json::{Object, Text},
};
use shape::{Batch, Events, File, Listed, Training};

/// Key of our id in a job's metadata.
const METADATA_KEY: &str = "hybrid_job";
/// The only window there is.
const WINDOW: &str = "24h";
/// Pages of a hundred jobs that are searched for one of ours.
const PAGES_MAX: usize = 10;

/// Where jobs of one server are.
#[derive(Debug)]
pub(crate) struct JobClient {
    /// With a query, where each call has one.
    base: Url,
    /// What a batch writes before the name of an endpoint.
    prefix: &'static str,
}

impl JobClient {
    /// `prefix` is what a batch writes before the name of an endpoint, as in `/v1`: whatever the server's own prefix is, a batch
    /// names the public one.
    pub(crate) fn new(base: &Url, prefix: &'static str) -> Self {
        Self { base: base.clone(), prefix }
    }

    /// The endpoint of a call, as a batch names it.
    fn endpoint(&self, path: &str) -> String {
        let base = self.base.path().trim_end_matches('/');
        let below = path.strip_prefix(base).unwrap_or(path);
        // Azure's deployments stand in the requests' `model`
        let below = below
            .strip_prefix("/deployments/")
            .and_then(|rest| rest.find('/').and_then(|end| rest.get(end..)))
            .unwrap_or(below);
        format!("{}{below}", self.prefix)
    }

    /// An address below the base URL.
    fn at(&self, path: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url
    }

    const fn collection(kind: Kind) -> &'static [&'static str] {
        match kind {
            Kind::Batch => &["batches"],
            Kind::FineTune => &["fine_tuning", "jobs"],
        }
    }

    /// Where the jobs of a kind are listed and created.
    pub(crate) fn list(&self, kind: Kind) -> Url {
        self.at(Self::collection(kind))
    }

    fn job(&self, kind: Kind, id: &str, more: &[&str]) -> Url {
        self.at(&[Self::collection(kind), &[id], more].concat())
    }

    /// A file that the server has not read yet cannot be used (Azure reads it for a while).
    async fn ready(&self, side: &dyn Side, file: &str) -> Result<(), Failure> {
        let body = side.call(Ask::get(self.at(&["files", file]))).await?;
        let file: File<'_> = parse(side, "a file", &body)?;
        match file.status.as_deref().unwrap_or_default() {
            "pending" | "running" | "uploading" | "importing" => {
                let message = format!("{} is still reading the file", side.provider());
                let fault = Fault::new(Code::Unavailable, Origin::Provider, true, message);
                Err(Failure { fault, transient: true })
            }
            "error" | "failed" => {
                let details = file.status_details.map(Text::into_string).unwrap_or_default();
                Err(shape::refused(side, "the file", "invalid_file", &details))
            }
            _ => Ok(()),
        }
    }

    async fn search(&self, side: &dyn Side, order: Order<'_>) -> Result<Option<String>, Failure> {
        let mut after = String::new();
        for _ in 0..PAGES_MAX {
            let mut url = self.list(order.work.kind());
            url.query_pairs_mut().append_pair("limit", "100");
            if !after.is_empty() {
                url.query_pairs_mut().append_pair("after", &after);
            }
            let body = side.call(Ask::get(url)).await?;
            let page: Listed<'_> = parse(side, "a list of jobs", &body)?;
            let ours = page.data.iter().find(|job| job.metadata(METADATA_KEY).as_deref() == Some(order.uid));
            if let Some(job) = ours {
                return Ok(Some(job.id.to_string()));
            }
            match page.data.last() {
                Some(last) if page.has_more => after = last.id.to_string(),
                _ => break,
            }
        }
        Ok(None)
    }
}

impl JobDialect for JobClient {
    fn offers(&self, _kind: Kind) -> Result<(), &'static str> {
        Ok(())
    }

    fn batch_line(&self, line: Place<'_>, prepared: &Prepared, out: &mut Vec<u8>) -> Result<String, Fault> {
        let (custom_id, endpoint) = (line.id, self.endpoint(prepared.url.path()));
        let body: &RawValue = serde_json::from_slice(&prepared.body)
            .map_err(|error| Fault::internal(format!("a request of ours is no JSON: {error}")))?;
        let mut line = Object::begin(out);
        line.text("custom_id", custom_id);
        line.text("method", "POST");
        line.text("url", &endpoint);
        line.raw("body", body.get());
        line.end();
        out.push(b'\n');
        Ok(endpoint)
    }

    fn upload<'a>(
        &'a self,
        side: &'a dyn Side,
        order: Order<'a>,
    ) -> BoxFuture<'a, Result<Vec<String>, Failure>> {
        let (purpose, files): (_, Vec<(&str, &Path)>) = match order.work {
            Work::Batch { requests, .. } => ("batch", vec![("requests", requests)]),
            Work::FineTune { training, validation, .. } => {
                let validation = validation.map(|file| ("validation", file));
                ("fine-tune", [("training", training)].into_iter().chain(validation).collect())
            }
        };
        async move {
            let mut ids = Vec::with_capacity(files.len());
            for (what, file) in files {
                let fields = [("purpose", purpose)];
                let name = format!("{}-{what}.jsonl", order.uid);
                let payload = Payload::Form { fields: &fields, file, name };
                let ask = Ask { method: reqwest::Method::POST, url: self.at(&["files"]), payload };
                let body = side.call(ask).await?;
                ids.push(parse::<File<'_>>(side, "a file", &body)?.id.into_string());
            }
            Ok(ids)
        }
        .boxed()
    }

    fn create<'a>(
        &'a self,
        side: &'a dyn Side,
        order: Order<'a>,
        files: &'a [String],
    ) -> BoxFuture<'a, Result<String, Failure>> {
        async move {
            for file in files {
                self.ready(side, file).await?;
            }
            let body = creation(order, files);
            let url = self.list(order.work.kind());
            let body = side.call(Ask::post(url, body)).await?;
            Ok(parse::<shape::Named<'_>>(side, "a job", &body)?.id.into_string())
        }
        .boxed()
    }

    fn find<'a>(
        &'a self,
        side: &'a dyn Side,
        order: Order<'a>,
        _others: &'a [String],
    ) -> BoxFuture<'a, Result<Option<String>, Failure>> {
        self.search(side, order).boxed()
    }

    fn look<'a>(
        &'a self,
        side: &'a dyn Side,
        kind: Kind,
        id: &'a str,
    ) -> BoxFuture<'a, Result<Look, Failure>> {
        async move {
            let body = side.call(Ask::get(self.job(kind, id, &[]))).await?;
            match kind {
                Kind::Batch => Ok(parse::<Batch<'_>>(side, "a batch", &body)?.into_look(side)),
                Kind::FineTune => Ok(parse::<Training<'_>>(side, "a job", &body)?.into_look(side)),
            }
        }
        .boxed()
    }

    fn events<'a>(
        &'a self,
        side: &'a dyn Side,
        kind: Kind,
        id: &'a str,
    ) -> BoxFuture<'a, Result<Vec<Event>, Failure>> {
        async move {
            if kind == Kind::Batch {
                return Ok(Vec::new());
            }
            let mut url = self.job(kind, id, &["events"]);
            url.query_pairs_mut().append_pair("limit", "20");
            let body = side.call(Ask::get(url)).await?;
            Ok(parse::<Events<'_>>(side, "events", &body)?.into_events())
        }
        .boxed()
    }

    fn cancel<'a>(
        &'a self,
        side: &'a dyn Side,
        kind: Kind,
        id: &'a str,
    ) -> BoxFuture<'a, Result<(), Failure>> {
        async move {
            let url = self.job(kind, id, &["cancel"]);
            let ask = Ask { method: reqwest::Method::POST, url, payload: Payload::Nothing };
            side.call(ask).await.map(drop)
        }
        .boxed()
    }

    fn fetch<'a>(
        &'a self,
        side: &'a dyn Side,
        output: &'a str,
        to: &'a Path,
    ) -> BoxFuture<'a, Result<(), Failure>> {
        side.download(self.at(&["files", output, "content"]), to)
    }

    fn read<'l>(&self, line: &'l [u8]) -> Result<Line<'l>, String> {
        let row: shape::Row<'l> = serde_json::from_slice(line).map_err(|error| {
            format!("a line does not parse ({:?} error in column {})", error.classify(), error.column())
        })?;
        let request_id = |id: Option<Text<'l>>| id.map(Text::into_string).unwrap_or_default();
        let (request_id, outcome) = match (row.response, row.error) {
            (Some(response), _) => {
                let body = response.body.map_or(&b"null"[..], |body| body.get().as_bytes());
                let outcome = match response.status_code {
                    200..300 => Outcome::Answer(body),
                    status => Outcome::Refused { status, body },
                };
                (request_id(response.request_id), outcome)
            }
            (None, Some(error)) => {
                let code = error.code.map(Text::into_string).unwrap_or_default();
                let outcome = match code.as_str() {
                    "batch_expired" => Outcome::Expired,
                    "batch_cancelled" | "batch_canceled" => Outcome::Cancelled,
                    _ => {
                        let message = error.message.map(Text::into_string).unwrap_or_default();
                        Outcome::Failed { code, message }
                    }
                };
                (String::new(), outcome)
            }
            (None, None) => return Err("a line has neither response nor error".to_owned()),
        };
        Ok(Line { custom_id: row.custom_id.into_string(), request_id, outcome })
    }
}

/// The body that creates a job.
fn creation(order: Order<'_>, files: &[String]) -> Vec<u8> {
    let mut body = Vec::new();
    let mut root = Object::begin(&mut body);
    let mut files = files.iter();
    match order.work {
        Work::Batch { endpoint, .. } => {
            if let Some(file) = files.next() {
                root.text("input_file_id", file);
            }
            root.text("endpoint", endpoint);
            root.text("completion_window", WINDOW);
        }
        Work::FineTune { options, .. } => {
            root.text("model", order.model);
            for (name, file) in ["training_file", "validation_file"].into_iter().zip(files) {
                root.text(name, file);
            }
            if !options.suffix.is_empty() {
                root.text("suffix", &options.suffix);
            }
            root.optional("seed", options.seed);
            method(&mut root, options);
        }
    }
    let mut metadata = Object::begin(root.nested("metadata"));
    metadata.text(METADATA_KEY, order.uid);
    metadata.end();
    root.end();
    body
}

/// Supervised training, where anything of it was asked for; otherwise the provider chooses.
fn method(root: &mut Object<'_>, options: &Options) {
    let Options { epochs, batch_size, learning_rate_multiplier, .. } = options;
    if epochs.is_none() && batch_size.is_none() && learning_rate_multiplier.is_none() {
        return;
    }
    let mut method = Object::begin(root.nested("method"));
    method.text("type", "supervised");
    let mut supervised = Object::begin(method.nested("supervised"));
    let mut parameters = Object::begin(supervised.nested("hyperparameters"));
    parameters.optional("n_epochs", *epochs);
    parameters.optional("batch_size", *batch_size);
    parameters.optional("learning_rate_multiplier", *learning_rate_multiplier);
    parameters.end();
    supervised.end();
    method.end();
}
