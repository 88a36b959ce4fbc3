//! The providers: how each is configured, and where it is unlike the others.

use crate::{fixture::Place, outcome::Expected, question::Question};

/// One provider.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) kind: &'static str,
    /// Its own lines of the provider's table, address and key included.
    pub(crate) settings: fn(&Place) -> String,
    /// The provider's name of a model that generates.
    pub(crate) chat: &'static str,
    /// Of one that embeds; the one that generates, where there is none.
    pub(crate) embedding: &'static str,
    /// Of one that only translates, where there is one.
    pub(crate) translation: Option<&'static str>,
    /// Further lines of the deployment that generates.
    pub(crate) deployment: &'static str,
    /// What does not simply pass.
    pub(crate) unlike: &'static [(Question, Expected)],
    /// Whether a rate limit's wait is told.
    pub(crate) tells_retry_after: bool,
    /// Whether its reasoning has to be sent back with a proof.
    pub(crate) signs: bool,
    /// Garbage that its format does not mind.
    pub(crate) reads: fn(e2e::upstream::Garbage) -> bool,
}

impl Row {
    pub(crate) fn expected(&self, question: Question) -> Expected {
        let unlike = self.unlike.iter().find(|(other, _)| *other == question);
        unlike.map_or(Expected::Pass, |(_, expected)| *expected)
    }
}

/// Server-sent events with a terminator that other words may stand in for.
fn openai_reads(garbage: e2e::upstream::Garbage) -> bool {
    use e2e::upstream::Garbage as G;
    !matches!(garbage, G::BrokenJson | G::Html | G::ErrorWith200 | G::LongLine)
}

fn key_and_url(place: &Place, path: &str) -> String {
    format!("base_url = \"{}{path}\"\napi_key = {{ file = \"{}\" }}", place.url, place.key_file.display())
}

pub(crate) const ROWS: &[Row] = &[Row {
    name: "openai",
    kind: "openai",
    settings: |place| key_and_url(place, "/v1"),
    chat: "gpt-4o-mini",
    embedding: "text-embedding-3-small",
    translation: None,
    deployment: "",
    unlike: &[],
    tells_retry_after: true,
    signs: false,
    reads: openai_reads,
}];
