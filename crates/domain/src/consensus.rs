//! Several models, one answer: what most of them say.
//!
//! Members are asked cheapest first and only as many at a time as could still agree: of three, two of which have to agree, the
//! third is asked when the first two differ. [`next_step`] is asked after each answer and says what to do.

use crate::{id::ModelName, quality::WhenFailed};

/// Share of the members that has to agree, in thousandths. Two thirds is 0.66 to some and 0.67 to others: both ask two of three.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreement(u32);

impl Agreement {
    /// `consensus_threshold: 0.66`, "2/3 must agree" (S1, "Multi-Model Consensus").
    pub const TWO_THIRDS: Self = Self(667);
    /// A tenth of a member is no member.
    const SLACK_PERMILLE: u32 = 10;

    /// So many thousandths, 1 to 1,000.
    #[must_use]
    pub fn permille(count: u32) -> Option<Self> {
        (1..=1_000).contains(&count).then_some(Self(count))
    }

    /// The count of thousandths.
    #[must_use]
    pub const fn as_permille(self) -> u32 {
        self.0
    }

    /// How many of so many members that are; at least 2, unless there is only one.
    #[must_use]
    pub fn of(self, members: usize) -> usize {
        let exact = self.0.saturating_sub(Self::SLACK_PERMILLE) as usize * members;
        exact.div_ceil(1_000).max(2).min(members)
    }
}

/// How answers are compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Similarity {
    /// By the shape of the answers.
    #[default]
    Fitting,
    /// The same text, see [`normalised`].
    Exact,
    /// The same JSON value.
    Json,
    /// Vectors that point the same way.
    Embedding,
}

impl Similarity {
    /// All that can be asked for.
    pub const ALL: [Self; 4] = [Self::Fitting, Self::Exact, Self::Json, Self::Embedding];

    /// The name in configuration and headers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fitting => "fitting",
            Self::Exact => "exact",
            Self::Json => "json",
            Self::Embedding => "embedding",
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|similarity| similarity.as_str() == name)
    }

    /// Settles [`Similarity::Fitting`]: JSON where JSON was asked for; exact where both answers are labels or numbers, which
    /// embeddings take for alike (`yes` and `no`, 41 and 42); else embeddings.
    #[must_use]
    pub fn settled(self, wants_json: bool, one: &str, other: &str) -> Self {
        let short = |text: &str| text.trim().chars().count() <= LABEL_CHARACTERS_MAX;
        match self {
            Self::Fitting if wants_json => Self::Json,
            Self::Fitting if short(one) || short(other) => Self::Exact,
            Self::Fitting => Self::Embedding,
            settled => settled,
        }
    }
}

/// Longer answers are sentences.
const LABEL_CHARACTERS_MAX: usize = 48;

/// How several models are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Models or aliases; empty = the first models of the decision.
    pub members: Vec<ModelName>,
    /// Members at most, 2 to [`Policy::MEMBERS_MAX`].
    pub count: u32,
    /// How many have to agree.
    pub agreement: Agreement,
    /// How answers are compared.
    pub similarity: Similarity,
    /// Cosine from which two answers are alike, in thousandths.
    pub cosine_permille: u32,
    /// [`WhenFailed::Best`]: the strongest member's answer, marked.
    pub when_split: WhenFailed,
}

impl Policy {
    /// Members of one request.
    pub const MEMBERS_MAX: u32 = 9;
}

impl Default for Policy {
    /// `consensus_models: 3`, `consensus_threshold: 0.66` (S1, "Multi-Model Consensus").
    fn default() -> Self {
        Self {
            members: Vec::new(),
            count: 3,
            agreement: Agreement::TWO_THIRDS,
            similarity: Similarity::Fitting,
            cosine_permille: 900,
            when_split: WhenFailed::Best,
        }
    }
}

/// Where a member stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Member {
    /// Not asked.
    Waiting,
    /// Asked.
    Running,
    /// It has answered.
    Answered,
    /// It has no answer to give.
    Failed,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Ask these members, too.
    Ask(Vec<usize>),
    /// Wait for those that run.
    Wait,
    /// Enough agree: stop the others.
    Agreed {
        /// Who agrees, in order.
        group: Vec<usize>,
        /// Whose answer is nearest to all of theirs; of equals the first, which is the cheapest.
        chosen: usize,
    },
    /// They cannot agree any more: stop the others.
    Split {
        /// The largest group, in order.
        group: Vec<usize>,
    },
}

/// How alike answers are: 0 to 1, and whether that is enough.
pub trait Alike {
    /// Whether two answers say the same.
    fn agree(&self, one: usize, other: usize) -> bool;
    /// How near two answers are; only compared with each other.
    fn nearness(&self, one: usize, other: usize) -> f32;
}

/// What to do, with `members` cheapest first, of whom `needed` have to agree. Each call gets nearer to the end: the answers of
/// members are final, and none is asked twice.
#[must_use]
pub fn next_step(members: &[Member], needed: usize, alike: &impl Alike) -> Step {
    let places = |state: Member| {
        members.iter().enumerate().filter(move |(_, member)| **member == state).map(|(place, _)| place)
    };
    let answered: Vec<usize> = places(Member::Answered).collect();
    let group = largest_group(&answered, alike);
    if group.len() >= needed && !group.is_empty() {
        let chosen = nearest(&group, alike);
        return Step::Agreed { group, chosen };
    }
    let (running, waiting) = (places(Member::Running).count(), places(Member::Waiting).count());
    if group.len() + running + waiting < needed || running + waiting == 0 {
        return Step::Split { group };
    }
    // as few as could complete the group
    let missing = needed.saturating_sub(group.len() + running);
    if missing > 0 {
        return Step::Ask(places(Member::Waiting).take(missing).collect());
    }
    Step::Wait
}

/// The largest set of answers that all agree with each other; of equals the one with the cheapest members. Over all sets: there
/// are at most 2^9.
fn largest_group(answered: &[usize], alike: &impl Alike) -> Vec<usize> {
    let mut best: Vec<usize> = Vec::new();
    let count = answered.len().min(Policy::MEMBERS_MAX as usize);
    for set in 1_u32..(1 << count) {
        let chosen = |(bit, place): (usize, &usize)| (set >> bit & 1 == 1).then_some(*place);
        let members: Vec<usize> = answered.iter().take(count).enumerate().filter_map(chosen).collect();
        let agrees = || {
            members
                .iter()
                .enumerate()
                .all(|(index, one)| members.iter().skip(index + 1).all(|other| alike.agree(*one, *other)))
        };
        if members.len() > best.len() && agrees() {
            best = members;
        }
    }
    best
}

fn nearest(group: &[usize], alike: &impl Alike) -> usize {
    let together = |one: usize| -> f32 {
        group.iter().filter(|other| **other != one).map(|other| alike.nearness(one, *other)).sum()
    };
    let mut best = (group.first().copied().unwrap_or_default(), f32::NEG_INFINITY);
    for place in group {
        let near = together(*place);
        if near > best.1 {
            best = (*place, near);
        }
    }
    best.0
}

/// An answer without what does not matter: case, white space, the punctuation around it, and a fence of code.
#[must_use]
pub fn normalised(text: &str) -> String {
    let fences = crate::quality::fences(text);
    let inner = match fences.as_slice() {
        [only] if text.trim_start().starts_with(['`', '~']) => only.code,
        _ => text,
    };
    let words: Vec<String> = inner.split_whitespace().map(str::to_lowercase).collect();
    let joined = words.join(" ");
    let around = |c: char| {
        !c.is_alphanumeric() && !matches!(c, '-' | '+' | '%' | '$' | '€' | '(' | ')' | '[' | ']' | '{' | '}')
    };
    joined.trim_matches(around).to_owned()
}

/// The cosine of two vectors; 0 where one has no length or they differ in it.
#[must_use]
pub fn cosine(one: &[f32], other: &[f32]) -> f32 {
    if one.len() != other.len() {
        return 0.0;
    }
    let dot = |left: &[f32], right: &[f32]| -> f64 {
        left.iter().zip(right).map(|(l, r)| f64::from(*l) * f64::from(*r)).sum()
    };
    let lengths = (dot(one, one) * dot(other, other)).sqrt();
    if lengths.is_normal() {
        #[expect(clippy::cast_possible_truncation, reason = "-1 to 1")]
        let cosine = (dot(one, other) / lengths) as f32;
        cosine.clamp(-1.0, 1.0)
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests;
