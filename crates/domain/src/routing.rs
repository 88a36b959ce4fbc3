//! Where a request may run, and in which order to try.
//!
//! [`decide`] is a pure function of the request's facts, the routing snapshot and what this coordinator has seen of the
//! deployments lately. It returns every candidate in the order of preference and every other deployment with the reason it
//! was passed over, so that the same inputs can be replayed and explained.
//!
//! How the layers combine, each in its own file:
//! 1. `decide`: the agent's row of the matrix (R2) gives class, tiers and model; without an agent the class comes from R1.
//!    The mode in force (R6) and the first of the owner's rules that holds (`rules`; R4, R5, R7, R8) are looked up.
//! 2. `wish`: a model that the request names replaces every other wish; its deployments are the only candidates. Otherwise
//!    the agent's model, the rule's route, the tier's default and whatever else runs there are wanted in this order.
//! 3. `admit`: what cannot or must not serve is rejected: privacy, tiers, mode, a rule that stays local, capability,
//!    context, flags, price, health, cooldown, budget.
//! 4. `estimate`: cost, latency, and the one score of both (R16).
//! 5. `order`: the rest is ordered by the owner's rules first and by the score behind them; then what would only wait steps
//!    aside. Where the first is local and cold, a machine that has the same model warm goes before it, and the first one is
//!    to be loaded meanwhile ([`Decision::to_load`]).

mod admit;
mod decide;
mod decision;
mod estimate;
mod load;
mod order;
mod policy;
mod rules;
mod snapshot;
#[cfg(test)]
mod tests;
mod warming;
mod wish;

pub use decide::decide;
pub use decision::{Candidate, Decision, Facts, Preference, RejectReason, Rejection};
pub use estimate::{Estimate, Latency};
pub use load::{BudgetLeft, Live, NodeLoad, Speed};
pub use policy::{
    CloudUse, Mode, ModelTraits, Policy, Quality, Rule, Weights, When, Worth, parameters_in_name,
};
pub use snapshot::{
    AgentPlacement, Alias, Capabilities, Deployment, DeploymentState, Flag, Plane, Snapshot, Target, Tier,
};
