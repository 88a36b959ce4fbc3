//! Where a request may run, and in which order to try.
//!
//! [`decide`] is a pure function of the request's facts, the routing snapshot and what this coordinator has seen of the
//! deployments lately. It returns every candidate in the order of preference and every other deployment with the reason it
//! was passed over, so that the same inputs can be replayed and explained.
//!
//! How the rules combine:
//! 1. The agent's row of the matrix (R2) gives class, tiers and model; without an agent the class comes from R1.
//! 2. A model that the request names itself replaces the agent's model; its deployments on allowed tiers are the only
//!    candidates.
//! 3. What cannot or must not serve is rejected: privacy, flags, capability, context, price, health, cooldown.
//! 4. The rest is ordered: a named model's targets as listed; otherwise tier by tier, within a tier the agent's model
//!    before the tier's default before any other; then warm before cold, near before far, one with a free slot before a
//!    full one, cheap before dear for this very request (so that of two regions the cheaper one is used), well before
//!    failing, idle before busy, and the id last, so that the order never depends on chance.

mod decide;
mod snapshot;
#[cfg(test)]
mod tests;

pub use decide::{Candidate, Decision, Facts, Live, Preference, RejectReason, Rejection, decide};
pub use snapshot::{
    AgentPlacement, Alias, Capabilities, Deployment, DeploymentState, Flag, Plane, Snapshot, Tier,
};
