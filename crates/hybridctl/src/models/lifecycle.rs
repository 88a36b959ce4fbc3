//! What is loaded where, and orders to the pools.

use std::collections::BTreeSet;
use std::time::Duration;

use domain::fault::Fault;
use domain::id::NodeId;
use serde::Serialize;
use wire::subject::{ModelCall, service};
use wire::v1::{self, ModelAction, ModelPhase};

use crate::output::Output;
use crate::table::Table;
use crate::target::Connection;

/// Another machine's pool that says nothing for so long is left out of the list.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// Between looks at a load under way.
const LOOK: Duration = Duration::from_millis(250);

#[derive(Debug, Serialize)]
pub(super) struct LocalView {
    machine: String,
    model: String,
    phase: &'static str,
    why: String,
    progress_percent: u32,
    load_estimate_ms: u64,
    load_remaining_ms: u64,
    pinned: bool,
    preload: bool,
    memory_bytes: u64,
    in_flight: u32,
    waiting: u32,
    oldest_wait_ms: u64,
    idle_ms: u64,
    loads: u64,
    file: String,
    installed: bool,
}

impl LocalView {
    fn new(machine: &str, status: v1::ModelStatus) -> Self {
        let phase = match status.phase() {
            ModelPhase::Unspecified => "unknown",
            ModelPhase::Cold => "cold",
            ModelPhase::Loading => "loading",
            ModelPhase::Warm => "warm",
            ModelPhase::Draining => "draining",
            ModelPhase::Down => "down",
        };
        Self {
            machine: machine.to_owned(),
            model: status.model,
            phase,
            why: status.why,
            progress_percent: status.progress_percent,
            load_estimate_ms: status.load_estimate_ms,
            load_remaining_ms: status.load_remaining_ms,
            pinned: status.pinned,
            preload: status.preload,
            memory_bytes: status.memory_bytes,
            in_flight: status.in_flight,
            waiting: status.waiting,
            oldest_wait_ms: status.oldest_wait_ms,
            idle_ms: status.idle_ms,
            loads: status.loads,
            file: status.file,
            installed: status.installed,
        }
    }

    fn state(&self) -> String {
        let mut text = self.phase.to_owned();
        if self.phase == "loading" {
            text += &format!(" {} %, {} left", self.progress_percent, seconds(self.load_remaining_ms));
        }
        if !self.why.is_empty() {
            text += &format!(": {}", self.why);
        }
        text
    }
}

fn seconds(milliseconds: u64) -> String {
    format!("{}.{} s", milliseconds / 1_000, milliseconds % 1_000 / 100)
}

/// The models of the pools of these machines; of those that answer.
pub(super) async fn everywhere(connection: &Connection, snapshot: &v1::RoutingSnapshot) -> Vec<LocalView> {
    let pools =
        snapshot.services.iter().filter(|other| other.service == service::LOCAL_MODEL_POOL && other.alive);
    let machines: BTreeSet<NodeId> =
        pools.filter_map(|other| NodeId::new(other.machine.as_str()).ok()).collect();
    let mut views = Vec::new();
    for machine in machines {
        let request = v1::ModelRequest::default();
        let answer = connection.bus.call_within(&ModelCall(machine), &request, ANSWER_MAX).await;
        let Ok(reply) = answer else { continue };
        views.extend(reply.models.into_iter().map(|status| LocalView::new(&reply.machine, status)));
    }
    views
}

/// The table of what is loaded.
pub(super) fn lines(models: &[LocalView]) -> Vec<String> {
    let mut table =
        Table::new(["local model", "machine", "state", "load>", "memory>", "at work>", "wait>", "kept"]);
    for model in models {
        let kept = match (model.pinned, model.preload) {
            (true, _) => "pinned",
            (false, true) => "preloaded",
            (false, false) => "",
        };
        table.row([
            model.model.clone(),
            model.machine.clone(),
            model.state(),
            seconds(model.load_estimate_ms),
            format!("{} MiB", model.memory_bytes >> 20),
            model.in_flight.to_string(),
            model.waiting.to_string(),
            kept.to_owned(),
        ]);
    }
    table.lines()
}

/// Has a pool do something: how the model stands then.
pub(super) async fn order(
    connection: &Connection,
    request: &v1::ModelRequest,
) -> anyhow::Result<Vec<LocalView>> {
    let subject = ModelCall(connection.bus.machine().clone());
    let reply = connection.call(&subject, request, service::LOCAL_MODEL_POOL).await?;
    if let Some(error) = reply.error {
        return Err(Fault::from(error).into());
    }
    Ok(reply.models.into_iter().map(|status| LocalView::new(&reply.machine, status)).collect())
}

/// Waits until a model is loaded, or is down.
pub(super) async fn loaded(
    connection: &Connection,
    model: &str,
    (json, output): (bool, &Output),
) -> anyhow::Result<Vec<LocalView>> {
    let request = v1::ModelRequest { model: model.to_owned(), ..v1::ModelRequest::default() };
    let mut told = String::new();
    loop {
        let views = order(connection, &request).await?;
        let state = views.first().map(LocalView::state).unwrap_or_default();
        match views.first().map(|view| view.phase) {
            Some("cold" | "loading" | "draining") => {}
            Some("down") => anyhow::bail!("{model} is {state}"),
            _ => return Ok(views),
        }
        if state != told && !json {
            output.note(&format!("{model} is {state}"));
            told = state;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The request of an order.
pub(super) fn request(action: ModelAction, model: &str) -> v1::ModelRequest {
    v1::ModelRequest { action: action.into(), model: model.to_owned(), install: None }
}
