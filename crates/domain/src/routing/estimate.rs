//! What a deployment would cost and how long it would take, and the one score of both (R16).
//!
//! ```text
//! time  = queue + load + eviction + start + tokens of the answer
//! score = time × worth of a second × weight of latency
//!       + expected cost × scarcity of money × weight of cost
//!       + steps of quality missing × worth of a step × weight of quality
//! ```
//!
//! All in pico-dollars, smallest is best. Scarcity grows as the tightest budget shrinks, up to twenty times. Until a
//! coordinator has seen a deployment answer, it is taken to be as quick as the owner's documents say of its tier: S1 gives
//! 50 to 200 ms for the local fast tier and 1 to 5 s for the API, S4 less than 50 ms of way on the LAN, S2 15 to 30 s to load
//! 20 GB; rates of tokens are those of its 8B and 32B on a 3090 and of providers' common models.

use std::time::Duration;

use super::{Deployment, DeploymentState, Facts, Live, NodeLoad, Speed, Tier, Weights, Worth};
use crate::{
    pricing::{Most, Price, TokenUsage},
    units::{Bytes, Money, Tokens},
};

/// Bytes that a load reads in a millisecond: 20 GB in 20 s (S2).
const LOAD_BYTES_PER_MS: u64 = 1_000_000;
/// What a load takes beside reading, milliseconds (a 175M model: spawn to first token in 113 ms).
const LOAD_MS_MIN: u64 = 100;
/// A load that is under way has, taken over all moments, half of its time to go.
const LOADING_PART: u64 = 2;
/// A deployment that fails often lately is taken to need two tries.
const DEGRADED_TRIES: u64 = 2;
/// Money counts at most so many times its price when a budget is nearly spent.
const SCARCITY_MAX: i64 = 20;

/// How long an answer would take, in parts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Latency {
    /// Until a slot is free, milliseconds.
    pub queue_ms: u64,
    /// Until the model is loaded.
    pub load_ms: u64,
    /// To load again what has to go for it.
    pub eviction_ms: u64,
    /// From a free slot to the first piece.
    pub start_ms: u64,
    /// From the first piece to the last.
    pub tokens_ms: u64,
}

impl Latency {
    /// Until the first piece.
    #[must_use]
    pub const fn until_start_ms(&self) -> u64 {
        self.queue_ms.saturating_add(self.load_ms).saturating_add(self.start_ms)
    }

    /// Until the last piece.
    #[must_use]
    pub const fn whole_ms(&self) -> u64 {
        self.until_start_ms().saturating_add(self.tokens_ms)
    }
}

/// What one deployment would mean for one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    /// The most it can cost.
    pub worst_case_cost: Money,
    /// What it costs when the answer is as long as answers are.
    pub expected_cost: Money,
    /// How long it would take.
    pub latency: Latency,
    /// Pico-dollars; smallest is best.
    pub score: i64,
}

/// What estimates of one decision have in common.
pub(super) struct Estimator<'a> {
    pub(super) most: Most,
    usage: TokenUsage,
    pub(super) weights: Weights,
    pub(super) worth: Worth,
    pub(super) live: &'a Live,
}

impl<'a> Estimator<'a> {
    pub(super) fn new(
        facts: &Facts<'_>,
        expected: Tokens,
        weights: Weights,
        worth: Worth,
        live: &'a Live,
    ) -> Self {
        let output = facts.max_output.unwrap_or(expected);
        let (input, audio, characters) = (facts.input, facts.audio, facts.characters);
        let usage =
            TokenUsage { input, output: output.min(expected), audio, characters, ..TokenUsage::default() };
        Self { most: Most { input, output, audio, characters }, usage, weights, worth, live }
    }

    /// What a request costs whose answer is as long as answers are.
    pub(super) fn expected_cost(&self, price: &Price) -> Money {
        price.cost(&self.usage)
    }

    /// `missing` is steps of quality below the best, `left_percent` what is left of the tightest budget.
    pub(super) fn of(
        &self,
        deployment: &Deployment,
        price: &Price,
        node: Option<&NodeLoad>,
        missing: i64,
        left_percent: i64,
    ) -> Estimate {
        let expected_cost = self.expected_cost(price);
        let latency = self.latency(deployment, node);
        let tries = if deployment.degraded { DEGRADED_TRIES } else { 1 };
        let ms = latency.whole_ms().saturating_add(latency.eviction_ms).saturating_mul(tries);
        let weigh = |amount: i64, weight: u32| amount / 1_000 * i64::from(weight);
        let time = self.worth.second.times(ms).as_picodollars() / 1_000;
        let scarcity = (100 / left_percent.max(1)).clamp(1, SCARCITY_MAX);
        let money = expected_cost.as_picodollars().saturating_mul(scarcity);
        let quality = self.worth.quality_step.as_picodollars().saturating_mul(missing);
        let score = weigh(time, self.weights.latency)
            .saturating_add(weigh(money, self.weights.cost))
            .saturating_add(weigh(quality, self.weights.quality));
        let worst_case_cost = price.worst_case(&self.most);
        Estimate { worst_case_cost, expected_cost, latency, score }
    }

    fn latency(&self, deployment: &Deployment, node: Option<&NodeLoad>) -> Latency {
        let usual = usual(deployment.tier, self.usage.input);
        let speed = if self.live.speeds.is_empty() { None } else { self.live.speeds.get(&deployment.id) };
        let sibling = || self.live.siblings.get(&deployment.tier)?.get(&deployment.model);
        let speed = speed.or_else(sibling).copied().unwrap_or(usual);
        let tokens_ms = speed.token_us.saturating_mul(self.usage.output.get()) / 1_000;
        let service_ms = speed.start_ms.saturating_add(tokens_ms);
        let busy =
            if self.live.outstanding.is_empty() { None } else { self.live.outstanding.get(&deployment.id) };
        let busy = busy.copied().unwrap_or(0);
        let slots = deployment.slots.max(1);
        let ahead = if busy < slots { 0 } else { u64::from(busy - slots) + 1 };
        let whole_load = load_ms(deployment.vram);
        let (load_ms, eviction_ms) = match deployment.state {
            DeploymentState::Warm | DeploymentState::Down(_) => (0, 0),
            // a pool that has loaded it before knows better
            DeploymentState::Loading if !deployment.load.is_zero() => (millis(deployment.load), 0),
            DeploymentState::Cold if !deployment.load.is_zero() => {
                (millis(deployment.load), eviction_ms(deployment, node))
            }
            DeploymentState::Loading => (whole_load / LOADING_PART, 0),
            DeploymentState::Cold => (whole_load, eviction_ms(deployment, node)),
        };
        Latency {
            queue_ms: service_ms.saturating_mul(ahead) / u64::from(slots),
            load_ms,
            eviction_ms,
            start_ms: speed.start_ms,
            tokens_ms,
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn load_ms(size: Bytes) -> u64 {
    LOAD_MS_MIN + size.get() / LOAD_BYTES_PER_MS
}

/// What has to go to make room is taken to be wanted again: reading it again is the price of the swap.
fn eviction_ms(deployment: &Deployment, node: Option<&NodeLoad>) -> u64 {
    match node.and_then(|node| node.gpu_memory_free) {
        Some(free) if deployment.vram > free => load_ms(deployment.vram.saturating_sub(free)),
        _ => 0,
    }
}

/// How quick a tier is until something was seen of the deployment itself.
const fn usual(tier: Tier, input: Tokens) -> Speed {
    // milliseconds to the first piece, microseconds a token of input, microseconds a token of output
    let (start_ms, input_us, token_us) = match tier {
        Tier::LocalGpu => (50, 500, 20_000),
        Tier::LocalCpu => (50, 5_000, 60_000),
        Tier::Fallback => (60, 2_000, 50_000),
        Tier::Edge => (100, 1_000, 30_000),
        Tier::RemoteApi => (1_000, 50, 15_000),
    };
    Speed { start_ms: start_ms + input.get().saturating_mul(input_us) / 1_000, token_us }
}
