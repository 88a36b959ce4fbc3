//! Which of the candidates is tried first.
//!
//! The owner's rules go before the score, one behind the other; see `docs/routing.md`.

use std::cmp::{Ordering, Reverse};

use super::{Candidate, DeploymentState, Facts, Live, Plane, Preference, Rule, Snapshot, Tier};

/// What a candidate is ordered by, most important first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    /// The cloud behind the owner's machines.
    cloud_last: bool,
    /// A model that was asked for, or that a rule routes to, goes before the tier.
    before_tier: Preference,
    shared: Shared,
    /// Steps behind what the rule prefers, where no agent's tiers go first.
    preferred_first: u8,
    /// The score before the tier, where the mode says so.
    score_first: i64,
    tier: usize,
    preference: Preference,
    /// Steps behind what the rule prefers.
    not_preferred: u8,
    /// It would be refused as busy.
    full: bool,
    score: i64,
    free_slots: Reverse<u32>,
}

/// Order among targets that share a place: the one with least outstanding work for its weight, then each with its part of
/// all requests.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Shared {
    outstanding: u64,
    draw: u64,
}

/// How a decision orders.
pub(super) struct Order<'a> {
    pub(super) facts: &'a Facts<'a>,
    pub(super) tiers: &'a [Tier],
    pub(super) rule: Option<&'a Rule>,
    pub(super) snapshot: &'a Snapshot,
    pub(super) live: &'a Live,
    /// The agent's tiers go before the rule's models.
    pub(super) by_agent: bool,
    pub(super) cloud_last: bool,
    pub(super) score_first: bool,
}

impl Order<'_> {
    pub(super) fn rank(&self, candidate: &Candidate, weight: Option<u32>) -> Rank {
        let deployment = &candidate.deployment;
        let busy =
            if self.live.outstanding.is_empty() { None } else { self.live.outstanding.get(&deployment.id) };
        let busy = busy.copied().unwrap_or(0);
        let free_slots = deployment.slots.saturating_sub(busy);
        let score = candidate.estimate.score;
        let before_tier = match candidate.preference {
            named @ Preference::Named(_) => named,
            rule @ Preference::Rule(_) if !self.by_agent => rule,
            _ => Preference::Any,
        };
        let not_preferred = self.not_preferred(candidate);
        Rank {
            cloud_last: self.cloud_last && deployment.tier.plane() == Plane::Cloud,
            before_tier,
            shared: weight
                .map_or(Shared { outstanding: 0, draw: 0 }, |weight| self.share(candidate, busy, weight)),
            preferred_first: if self.by_agent { 0 } else { not_preferred },
            score_first: if self.score_first { score } else { 0 },
            tier: self.tiers.iter().position(|tier| *tier == deployment.tier).unwrap_or(usize::MAX),
            preference: candidate.preference,
            not_preferred,
            full: free_slots == 0,
            score,
            free_slots: Reverse(free_slots),
        }
    }

    fn not_preferred(&self, candidate: &Candidate) -> u8 {
        let Some(rule) = self.rule.filter(|rule| !rule.providers.is_empty() || !rule.skills.is_empty())
        else {
            return 0;
        };
        let deployment = &candidate.deployment;
        let provider = rule.providers.is_empty() || rule.providers.contains(&deployment.provider);
        let skills = self.snapshot.policy.models.get(&deployment.model).map(|traits| &traits.skills);
        let skilled = rule.skills.is_empty()
            || skills.is_some_and(|skills| skills.iter().any(|skill| rule.skills.contains(skill)));
        // who runs it is asked before what it is good at
        2 * u8::from(!provider) + u8::from(!skilled)
    }

    fn share(&self, candidate: &Candidate, busy: u32, weight: u32) -> Shared {
        let weight = u64::from(weight.max(1));
        let id = candidate.deployment.id.as_str();
        // FNV-1a, as for flags, then a finisher (SplitMix64's) so that names which differ in one letter draw differently
        let hash = self.facts.id.as_str().bytes().chain(id.bytes());
        let hash = hash.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        #[expect(clippy::cast_precision_loss, reason = "53 bits of a hash, and a weight")]
        let (uniform, weight_of) =
            ((((hash ^ (hash >> 31)) >> 11) as f64 + 1.0) / (1_u64 << 53) as f64, weight as f64);
        // weighted rendezvous hashing (Schindelhauer and Schomaker 2005): the least of -ln(u)/w is drawn with probability w/Σw
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "0 to 37 times a million"
        )]
        let draw = (-uniform.ln() / weight_of * 1e6) as u64;
        Shared { outstanding: u64::from(busy) * 1_000 / weight, draw }
    }
}

/// Orders candidates; the id decides last, so that the order never depends on chance.
pub(super) fn sort(candidates: Vec<(Candidate, Rank)>) -> Vec<Candidate> {
    let mut ranked = candidates;
    ranked.sort_unstable_by(|(one, rank), (two, other)| match rank.cmp(other) {
        Ordering::Equal => one.deployment.id.cmp(&two.deployment.id),
        different => different,
    });
    ranked.into_iter().map(|(candidate, _)| candidate).collect()
}

/// Moves the candidates for which `goes_first` holds before the others, if the first is one for which `steps_aside` holds.
/// Whether anything moved.
pub(super) fn step_aside(
    candidates: &mut [Candidate],
    steps_aside: impl Fn(&Candidate) -> bool,
    goes_first: impl Fn(&Candidate) -> bool,
) -> bool {
    let moves = candidates.first().is_some_and(steps_aside) && candidates.iter().any(&goes_first);
    if moves {
        candidates.sort_by_key(|candidate| !goes_first(candidate));
    }
    moves
}

/// Whether a deployment needs a GPU.
pub(super) fn on_gpu(candidate: &Candidate) -> bool {
    let deployment = &candidate.deployment;
    deployment.tier == Tier::LocalGpu
        || (deployment.vram.get() > 0 && deployment.tier.plane() == Plane::Local)
}

/// Why a candidate's GPU is no place to wait: it is busy, or a model is being swapped in (S2).
pub(super) fn gpu_occupied(candidate: &Candidate, snapshot: &Snapshot) -> Option<String> {
    if !on_gpu(candidate) {
        return None;
    }
    let machine = &candidate.deployment.machine;
    let busy = snapshot.nodes.get(machine).map_or(0, |node| node.gpu_utilization_percent);
    if busy > snapshot.policy.gpu_busy_over {
        let over = snapshot.policy.gpu_busy_over;
        return Some(format!(
            "the GPU of {machine} is {busy} % busy, over {over}: the cloud goes first (R7)"
        ));
    }
    let swapping = snapshot.deployments.iter().any(|deployment| {
        deployment.state == DeploymentState::Loading
            && deployment.machine == *machine
            && (deployment.tier == Tier::LocalGpu || deployment.vram.get() > 0)
    });
    swapping.then(|| format!("a model is being swapped in on {machine}: the cloud goes first (R7)"))
}
