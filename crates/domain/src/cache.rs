//! Answers that are kept: when two requests are the same, and when two questions mean the same.
//!
//! Two requests are the same when everything that bears on the answer is the same ([`canonical`]): who asks (a tenant never gets
//! another's answer), method, model, agent, task, privacy, messages, sampling, tools, format, and what is not modelled. The
//! request's id, its deadline, and whether the answer comes in pieces do not bear on it.

mod canonical;
mod meaning;

use std::time::Duration;

use crate::inference::Request;

pub use canonical::{canonical, setting};
pub use meaning::{Landmarks, landmarks, question};

/// How answers are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// For so long.
    pub ttl: Duration,
    /// Also of requests that ask for a temperature above 0: who asks for chance gets another's draw.
    pub sampled: bool,
    /// Also for questions that mean the same.
    pub semantic: Option<Semantic>,
}

/// When two questions are taken for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Semantic {
    /// Cosine of their vectors at least, in thousandths.
    pub cosine_permille: u32,
    /// What embeddings do not tell apart is compared word for word, see [`landmarks`].
    pub words: Words,
}

/// Which words of two questions have to be the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Words {
    /// All that carry meaning: only order, endings, courtesies and the like may differ.
    #[default]
    Same,
    /// Only landmarks: synonyms are found, and so may be what only looks like one.
    Free,
}

impl Semantic {
    /// High: a wrong answer costs more than a second call.
    pub const COSINE_PERMILLE: u32 = 970;
}

impl Default for Policy {
    /// `cache_ttl: 3600` (S1, "Response Caching").
    fn default() -> Self {
        Self { ttl: Duration::from_secs(3_600), sampled: false, semantic: None }
    }
}

impl Policy {
    /// Longest time to live: 30 days.
    pub const TTL_MAX: Duration = Duration::from_secs(30 * 86_400);

    /// Whether answers to this request are kept.
    #[must_use]
    pub fn takes(&self, request: &Request) -> bool {
        let Request::Generate(asked) = request else { return is_kept(request) };
        self.sampled || asked.sampling.temperature.is_none_or(|temperature| temperature <= 0.0)
    }
}

/// Whether answers to this kind of request are kept at all: audio is not, each piece of it is large and rarely asked for twice.
#[must_use]
pub const fn is_kept(request: &Request) -> bool {
    matches!(request, Request::Generate(_) | Request::Embed(_) | Request::Translate(_))
}

#[cfg(test)]
mod tests;
