//! What the API says about batches.

use serde::Deserialize;
use serde_json::value::RawValue;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::provider::{
    jobs::{Ended, Look},
    json::Text,
};

/// Milliseconds since 1970 of a date as the API writes it; 0 for what is none.
fn unix_ms(date: Option<&Text<'_>>) -> u64 {
    let read = date.and_then(|date| OffsetDateTime::parse(date, &Rfc3339).ok());
    read.map_or(0, |at| u64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(0))
}

#[derive(Deserialize)]
pub(super) struct Named<'a> {
    #[serde(borrow)]
    pub(super) id: Text<'a>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(super) struct Counts {
    processing: u64,
    succeeded: u64,
    errored: u64,
    canceled: u64,
    expired: u64,
}

impl Counts {
    pub(super) const fn total(self) -> u64 {
        self.processing
            .saturating_add(self.succeeded)
            .saturating_add(self.errored)
            .saturating_add(self.canceled)
            .saturating_add(self.expired)
    }
}

#[derive(Deserialize)]
pub(super) struct Batch<'a> {
    #[serde(borrow)]
    pub(super) id: Text<'a>,
    #[serde(borrow)]
    processing_status: Text<'a>,
    #[serde(default)]
    pub(super) request_counts: Counts,
    #[serde(borrow, default)]
    created_at: Option<Text<'a>>,
    #[serde(borrow, default)]
    expires_at: Option<Text<'a>>,
    #[serde(borrow, default)]
    cancel_initiated_at: Option<Text<'a>>,
    /// Only whether there are results counts, see the module above.
    #[serde(borrow, default)]
    results_url: Option<Text<'a>>,
}

impl Batch<'_> {
    pub(super) fn created_unix_ms(&self) -> u64 {
        unix_ms(self.created_at.as_ref())
    }

    pub(super) fn has_results(&self) -> bool {
        &*self.processing_status == "ended" && self.results_url.is_some()
    }

    pub(super) fn into_look(self) -> Look {
        let counts = self.request_counts;
        let ended = (&*self.processing_status == "ended").then_some(match () {
            () if counts.canceled > 0 || self.cancel_initiated_at.is_some() => Ended::Cancelled,
            () if counts.expired > 0 => Ended::Expired,
            () => Ended::Completed,
        });
        let outputs = if self.has_results() { vec![self.id.to_string()] } else { Vec::new() };
        Look {
            ended,
            succeeded: counts.succeeded,
            failed: counts.total().saturating_sub(counts.succeeded).saturating_sub(counts.processing),
            outputs,
            expires_unix_ms: unix_ms(self.expires_at.as_ref()),
            word: self.processing_status.into_string(),
            ..Look::default()
        }
    }
}

#[derive(Deserialize)]
pub(super) struct Listed<'a> {
    #[serde(borrow, default)]
    pub(super) data: Vec<Batch<'a>>,
    #[serde(default)]
    pub(super) has_more: bool,
    #[serde(borrow, default)]
    pub(super) last_id: Option<Text<'a>>,
}

/// A line of the results.
#[derive(Deserialize)]
pub(super) struct Row<'a> {
    #[serde(borrow)]
    pub(super) custom_id: Text<'a>,
    #[serde(borrow)]
    pub(super) result: Result<'a>,
}

#[derive(Deserialize)]
pub(super) struct Result<'a> {
    #[serde(borrow, rename = "type")]
    pub(super) kind: Text<'a>,
    #[serde(borrow, default)]
    pub(super) message: Option<&'a RawValue>,
    /// As a refused call is answered: an `error` in an object.
    #[serde(borrow, default)]
    pub(super) error: Option<&'a RawValue>,
}

/// Under which the provider knows a call that failed.
pub(super) fn request_id(error: &RawValue) -> Option<Text<'_>> {
    #[derive(Deserialize)]
    struct Numbered<'a> {
        #[serde(borrow, default)]
        request_id: Option<Text<'a>>,
    }
    serde_json::from_str::<Numbered<'_>>(error.get()).ok()?.request_id
}
