//! What the ledger gets of a job: one event for each request of a batch, one for a training.
//!
//! The origin of the events is the job and their counter the place of the item, so that an event that is told again after a
//! crash is the same event and counts once.

use std::{io, path::Path};

use domain::{pricing::TokenUsage, routing::Tier, units::Tokens};
use wire::{
    subject::service,
    v1::{self, batch_item, batch_result},
};

use super::{
    collect::request_id,
    frames::Frames,
    record::{Ending, Job},
    store,
};

/// What all events of a job have in common.
#[derive(Debug, Clone)]
pub(super) struct Common {
    event: v1::UsageEvent,
    id: String,
    /// The provider may have charged for what it is not known to have answered.
    unknown: bool,
}

impl Common {
    pub(super) fn new(job: &Job, machine: &str) -> Self {
        let event = v1::UsageEvent {
            attempt: 1,
            // the same with every telling
            finished_unix_ms: job.done_unix_ms,
            duration_ms: job.done_unix_ms.saturating_sub(job.submitted_unix_ms),
            machine: machine.to_owned(),
            service: service::REMOTE_API_ADAPTER.to_owned(),
            requested_model: job.requested_model.clone(),
            deployment: job.deployment.clone(),
            provider: job.provider.clone(),
            model: job.model.clone(),
            tier: v1::Tier::from(Tier::RemoteApi).into(),
            executed_on: machine.to_owned(),
            ..v1::UsageEvent::default()
        };
        Self { event, id: job.id.clone(), unknown: job.cost_picodollars.is_none() }
    }

    /// A request of a batch, and what became of it.
    fn item(&self, item: &v1::BatchItem, result: v1::BatchResult) -> v1::UsageEvent {
        let (method, agent, profile) = match &item.request {
            Some(batch_item::Request::Generate(request)) => {
                (v1::Method::Generate, &request.agent, &request.profile)
            }
            Some(batch_item::Request::Embed(request)) => {
                (v1::Method::Embed, &request.agent, &request.profile)
            }
            None => (v1::Method::Unspecified, &self.event.agent, &None),
        };
        let event = v1::UsageEvent {
            request_id: request_id(item).to_owned(),
            method: method.into(),
            agent: agent.clone(),
            task: profile.as_ref().map(|profile| profile.task.clone()).unwrap_or_default(),
            decision: format!("batch job {}", self.id),
            ..self.event.clone()
        };
        match result.outcome {
            Some(batch_result::Outcome::End(end)) => v1::UsageEvent {
                outcome: v1::Outcome::Ok.into(),
                usage: end.usage,
                cost_picodollars: end.cost_picodollars,
                provider_request_id: end.provider_request_id,
                ..event
            },
            Some(batch_result::Outcome::Error(error)) => {
                let cancelled = error.code() == v1::ErrorCode::Cancelled;
                let outcome = if cancelled { v1::Outcome::Cancelled } else { v1::Outcome::Failed };
                let cost_unknown = self.unknown && !cancelled;
                v1::UsageEvent { outcome: outcome.into(), error_code: error.code, cost_unknown, ..event }
            }
            None => v1::UsageEvent { outcome: v1::Outcome::Failed.into(), ..event },
        }
    }

    /// A training.
    pub(super) fn training(&self, job: &Job, ending: Ending) -> v1::UsageEvent {
        let outcome = match ending {
            Ending::Succeeded => v1::Outcome::Ok,
            Ending::Cancelled => v1::Outcome::Cancelled,
            Ending::Failed | Ending::Expired => v1::Outcome::Failed,
        };
        let note = if self.unknown { "; the cost is not known" } else { "" };
        let usage = job
            .trained_tokens
            .map(|trained| TokenUsage { input: Tokens::new(trained), ..TokenUsage::default() }.into());
        let error = job.problem.clone().filter(|_| outcome == v1::Outcome::Failed).map(v1::Error::from);
        v1::UsageEvent {
            request_id: self.id.clone(),
            method: v1::Method::FineTune.into(),
            outcome: outcome.into(),
            error_code: error.map_or(0, |error| error.code),
            usage,
            cost_picodollars: job.cost_picodollars.unwrap_or(0),
            cost_unknown: self.unknown,
            decision: format!("fine-tuning job {}{note}", self.id),
            provider_request_id: job.provider_job_id.clone(),
            ..self.event.clone()
        }
    }
}

/// The events of a batch, from its files.
pub(super) struct Events {
    common: Common,
    items: Frames<v1::BatchItem>,
    results: Frames<v1::BatchResult>,
    counter: u64,
}

impl Events {
    /// Behind the first `accounted` ones.
    ///
    /// # Errors
    /// The disk.
    pub(super) fn open(folder: &Path, common: Common, accounted: u64) -> io::Result<Self> {
        let mut events = Self {
            common,
            items: Frames::open(&folder.join(store::ITEMS), 0)?,
            results: Frames::open(&folder.join(store::RESULTS), 0)?,
            counter: 0,
        };
        while events.counter < accounted {
            if events.items.next()?.is_none() || events.results.next()?.is_none() {
                break;
            }
            events.counter += 1;
        }
        Ok(events)
    }

    /// The next events with their counters, the first being 1; none at the end.
    ///
    /// # Errors
    /// The disk.
    pub(super) fn take(&mut self, count: usize) -> io::Result<Vec<(u64, v1::UsageEvent)>> {
        let mut events = Vec::with_capacity(count);
        while events.len() < count {
            let (Some(item), Some(result)) = (self.items.next()?, self.results.next()?) else { break };
            self.counter += 1;
            events.push((self.counter, self.common.item(&item, result)));
        }
        Ok(events)
    }
}
