//! What a case expects, and how it differs from what came.

use domain::{
    fault::Fault,
    routing::{Candidate, Decision, RejectReason},
    units::Money,
};
use serde::Deserialize;

use crate::world::World;

/// Every field that is given has to hold.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Expect {
    class: Option<String>,
    complexity: Option<String>,
    mode: Option<String>,
    rule: Option<String>,
    not_rule: Option<String>,
    /// Part of one of the reasons.
    reason: Option<String>,
    first_model: Option<String>,
    first_tier: Option<String>,
    first_machine: Option<String>,
    first_provider: Option<String>,
    first_quality: Option<String>,
    first_cost_zero: Option<bool>,
    first_tools: Option<bool>,
    second_tier: Option<String>,
    last_tier: Option<String>,
    /// Tiers in the order in which candidates first come from them.
    tier_order: Option<Vec<String>>,
    /// `tier=provider`: of this tier's candidates the first is this provider's.
    tier_first_provider: Option<String>,
    /// Tiers of no candidate.
    never: Vec<String>,
    /// Tiers of which the first candidate is not.
    never_first: Vec<String>,
    /// Kind of some rejection.
    rejected_as: Option<String>,
    /// Code of the error; nothing else is looked at then.
    error: Option<String>,
}

impl Expect {
    /// What is not as expected, in words.
    pub(crate) fn differences(&self, outcome: &Result<Decision, Fault>, world: &World) -> Vec<String> {
        let decision = match (outcome, &self.error) {
            (Err(fault), Some(code)) if fault.code.as_str() == code => return Vec::new(),
            (Err(fault), _) => return vec![format!("failed: {} {fault}", fault.code.as_str())],
            (Ok(decision), Some(code)) => {
                let first = decision.candidates[0].deployment.id.as_str();
                return vec![format!("expected {code}, {first} would serve")];
            }
            (Ok(decision), None) => decision,
        };
        let mut check = Check { decision, asked: 0, wrong: Vec::new() };
        let first = &decision.candidates[0];
        let deployment = &first.deployment;
        check.equal("class", &self.class, decision.class.as_str());
        check.equal("complexity", &self.complexity, decision.complexity.as_str());
        check.equal("mode", &self.mode, &decision.mode);
        check.equal("rule", &self.rule, &decision.rule);
        check.equal("first model", &self.first_model, deployment.model.as_str());
        check.equal("first tier", &self.first_tier, deployment.tier.as_str());
        check.equal("first machine", &self.first_machine, deployment.machine.as_str());
        check.equal("first provider", &self.first_provider, &deployment.provider);
        let quality = world.snapshot.policy.quality(&deployment.model, deployment.tier);
        check.equal("first quality", &self.first_quality, quality.as_str());
        check.equal("last tier", &self.last_tier, tier(decision.candidates.last().unwrap()));
        check.equal("second tier", &self.second_tier, decision.candidates.get(1).map_or("none", tier));
        check.flag(
            "first costs nothing",
            self.first_cost_zero,
            first.estimate.worst_case_cost == Money::ZERO,
        );
        check.flag("first calls tools", self.first_tools, deployment.capabilities.tools);
        check.holds("another rule", self.not_rule.as_ref().map(|rule| *rule != decision.rule));
        let said = |part: &String| decision.reasons.iter().any(|reason| reason.contains(part));
        check.holds("the reason", self.reason.as_ref().map(said));
        let kind =
            |kind: &String| decision.rejected.iter().any(|rejection| reject_kind(&rejection.reason) == kind);
        check.holds("the rejection", self.rejected_as.as_ref().map(kind));
        self.tiers(&mut check);
        if check.asked == 0 {
            check.wrong.push("the case expects nothing".to_owned());
        }
        check.wrong
    }

    fn tiers(&self, check: &mut Check<'_>) {
        let candidates = &check.decision.candidates;
        let mut order: Vec<&str> = candidates.iter().map(tier).collect();
        order.dedup();
        let order = order.join(" ");
        check.holds("the order of tiers", self.tier_order.as_ref().map(|tiers| tiers.join(" ") == order));
        for never in &self.never {
            check.holds("a tier that is left out", Some(candidates.iter().all(|one| tier(one) != never)));
        }
        for never in &self.never_first {
            check.holds(
                "a tier that is not first",
                Some(candidates.first().is_some_and(|one| tier(one) != never)),
            );
        }
        let first_of_tier = self.tier_first_provider.as_ref().map(|pair| {
            let (wanted, provider) = pair.split_once('=').unwrap();
            candidates
                .iter()
                .find(|one| tier(one) == wanted)
                .is_some_and(|one| one.deployment.provider == provider)
        });
        check.holds("the tier's first provider", first_of_tier);
    }
}

struct Check<'a> {
    decision: &'a Decision,
    asked: usize,
    wrong: Vec<String>,
}

impl Check<'_> {
    fn equal(&mut self, what: &str, expected: &Option<String>, found: &str) {
        if let Some(expected) = expected {
            self.asked += 1;
            if expected != found {
                self.wrong.push(format!("{what} is {found}, expected {expected}; {}", self.shown()));
            }
        }
    }

    fn flag(&mut self, what: &str, expected: Option<bool>, found: bool) {
        self.holds(what, expected.map(|expected| expected == found));
    }

    fn holds(&mut self, what: &str, held: Option<bool>) {
        if let Some(held) = held {
            self.asked += 1;
            if !held {
                self.wrong.push(format!("{what} is not as expected; {}", self.shown()));
            }
        }
    }

    fn shown(&self) -> String {
        let order: Vec<String> = self
            .decision
            .candidates
            .iter()
            .take(6)
            .map(|one| format!("{} ({})", one.deployment.id, tier(one)))
            .collect();
        format!(
            "rule {:?}, {}, order {}",
            self.decision.rule,
            self.decision.reasons.join("; "),
            order.join(", ")
        )
    }
}

fn tier(candidate: &Candidate) -> &str {
    candidate.deployment.tier.as_str()
}

const fn reject_kind(reason: &RejectReason) -> &'static str {
    match reason {
        RejectReason::ModelMismatch => "model",
        RejectReason::TierNotAllowed(_) => "tier",
        RejectReason::Privacy => "privacy",
        RejectReason::Mode(_) => "mode",
        RejectReason::Rule(_) => "rule",
        RejectReason::Capability(_) => "capability",
        RejectReason::ContextTooSmall { .. } => "context",
        RejectReason::Down(_) => "down",
        RejectReason::Cooldown(_) => "cooldown",
        RejectReason::Flag(_) => "flag",
        RejectReason::NoPrice => "no-price",
        RejectReason::Budget(_) => "budget",
        RejectReason::Key(_) => "key",
    }
}
