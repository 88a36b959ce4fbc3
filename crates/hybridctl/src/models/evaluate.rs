//! Asks a model a suite of questions, through the coordinator as every caller does.

use std::path::Path;

use anyhow::Context as _;
use async_nats::HeaderMap;
use domain::fault::Fault;
use serde::Serialize;
use wire::subject;
use wire::v1::{self, reply_frame::Kind};

use super::suite::{self, Case, Suite};
use crate::output::Output;
use crate::question;
use crate::target::{Connection, System};

/// Without a word for so long, an answer is given up: a cold model is loaded within, and says so.
const SILENCE_MAX: std::time::Duration = std::time::Duration::from_secs(10);
/// Longest answer where the case says nothing, tokens.
const OUTPUT_MAX: u32 = 128;

/// How a model did.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    model: String,
    cases: Vec<CaseReport>,
    passed: usize,
    threshold_percent: u32,
    pub(super) passes: bool,
}

#[derive(Debug, Serialize)]
struct CaseReport {
    name: String,
    passed: bool,
    /// Why not.
    reason: String,
    answer: String,
}

/// Asks everything, and shows each answer's outcome as it comes unless a program reads the report.
pub(super) async fn run(
    (system, connection): (&System, &Connection),
    model: &str,
    (file, threshold_percent): (&Path, Option<u32>),
    (json, output): (bool, &Output),
) -> anyhow::Result<Report> {
    let suite = Suite::read(file)?;
    let threshold_percent = threshold_percent.unwrap_or(suite.threshold_percent);
    let mut cases = Vec::with_capacity(suite.cases.len());
    for case in &suite.cases {
        let answer = ask(system, connection, model, case).await;
        let (answer, reason) = match answer {
            Ok(answer) => {
                let reason = case.fails(&answer).unwrap_or_default();
                (answer, reason)
            }
            Err(fault) => (String::new(), format!("no answer: {}", fault.message)),
        };
        let passed = reason.is_empty();
        if !json {
            let mark = if passed { "ok  " } else { "FAIL" };
            let why = if passed { String::new() } else { format!(": {answer:?} {reason}") };
            output.line(&format!("{mark} {}{why}", case.name));
        }
        cases.push(CaseReport { name: case.name.clone(), passed, reason, answer });
    }
    let passed = cases.iter().filter(|case| case.passed).count();
    let passes = suite::passes(passed, cases.len(), threshold_percent);
    if !json {
        let verdict = if passes { "passes" } else { "does not pass" };
        output.line(&format!(
            "{model} {verdict}: {passed} of {} cases, {threshold_percent} % needed",
            cases.len()
        ));
    }
    Ok(Report { model: model.to_owned(), cases, passed, threshold_percent, passes })
}

async fn ask(system: &System, connection: &Connection, model: &str, case: &Case) -> Result<String, Fault> {
    let mut messages = Vec::new();
    if let Some(text) = &case.system {
        messages.push(question::message(v1::Role::System, text.clone()));
    }
    messages.push(question::message(v1::Role::User, case.prompt.clone()));
    let request = v1::GenerateRequest {
        request_id: uuid::Uuid::now_v7().to_string(),
        model: model.to_owned(),
        messages,
        sampling: Some(v1::Sampling {
            // the same answer each time, as far as the model can
            temperature: Some(0.0),
            max_tokens: Some(case.max_tokens.unwrap_or(OUTPUT_MAX)),
            ..v1::Sampling::default()
        }),
        ..v1::GenerateRequest::default()
    };
    let mut headers = HeaderMap::new();
    if let Some(authorization) = system.authorization() {
        headers.insert("Authorization", authorization);
    }
    let mut frames = connection.bus.open_with_headers(&subject::Generate, &request, headers).await?;
    let mut text = String::new();
    loop {
        let frame = frames.next(SILENCE_MAX).await.map_err(|error| Fault::internal(error.to_string()))?;
        let delta = match frame.kind {
            Some(Kind::Delta(delta)) => delta,
            Some(Kind::End(end)) => {
                text.extend(end.last_delta.unwrap_or_default().items.into_iter().map(|item| item.text));
                return Ok(text);
            }
            Some(Kind::Error(error)) => return Err(error.into()),
            Some(Kind::Accepted(_) | Kind::Heartbeat(_)) | None => continue,
        };
        text.extend(delta.items.into_iter().map(|item| item.text));
    }
}

impl Report {
    /// The error of a model that may not be switched to.
    pub(super) fn error(&self) -> anyhow::Error {
        anyhow::anyhow!(
            "{} passes {} of {} cases, {} % are needed: nothing is switched",
            self.model,
            self.passed,
            self.cases.len(),
            self.threshold_percent
        )
    }

    /// The report as JSON.
    pub(super) fn json(&self) -> anyhow::Result<serde_json::Value> {
        serde_json::to_value(self).context("the report cannot be written")
    }
}
