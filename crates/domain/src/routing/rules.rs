//! Which line of the owner's matrix holds for a request.

use super::{Facts, Policy, Rule, When};
use crate::{classification::WorkloadClass, complexity::Complexity};

/// What rules look at beside the facts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen<'a> {
    pub(super) mode: &'a str,
    pub(super) class: WorkloadClass,
    pub(super) complexity: Complexity,
    /// Some cloud deployment may still be paid for.
    pub(super) budget_left: bool,
    /// Parameters of the named model, in millions.
    pub(super) parameters_millions: Option<u64>,
}

/// The first rule that holds.
pub(super) fn first<'a>(policy: &'a Policy, facts: &Facts<'_>, seen: Seen<'_>) -> Option<&'a Rule> {
    policy.rules.iter().find(|rule| holds(&rule.when, facts, seen))
}

fn holds(when: &When, facts: &Facts<'_>, seen: Seen<'_>) -> bool {
    let profile = facts.profile;
    let of_size = when.parameters_over.is_some() || when.parameters_up_to.is_some();
    if of_size != facts.model.is_some() {
        return false;
    }
    let size = seen.parameters_millions;
    let one_of = |wanted: bool, empty: bool| empty || wanted;
    one_of(when.methods.contains(&facts.needs.method), when.methods.is_empty())
        && one_of(profile.task.as_ref().is_some_and(|task| when.tasks.contains(task)), when.tasks.is_empty())
        && one_of(when.classes.contains(&seen.class), when.classes.is_empty())
        && one_of(when.complexities.contains(&seen.complexity), when.complexities.is_empty())
        && one_of(when.modes.iter().any(|mode| mode == seen.mode), when.modes.is_empty())
        && when.criticality.is_none_or(|level| profile.criticality == Some(level))
        && when.latency.is_none_or(|level| profile.latency_sensitivity == Some(level))
        && when.budget_sensitivity.is_none_or(|level| profile.budget_sensitivity == Some(level))
        && when.context_over.is_none_or(|tokens| facts.input > tokens)
        && when.context_up_to.is_none_or(|tokens| facts.input <= tokens)
        && when.tools.is_none_or(|tools| facts.needs.tools == tools)
        && when.tool_turns_min.is_none_or(|turns| facts.tool_turns >= turns)
        && when.budget_left.is_none_or(|left| seen.budget_left == left)
        && when.parameters_over.is_none_or(|least| size.is_some_and(|size| size > least))
        && when.parameters_up_to.is_none_or(|most| size.is_some_and(|size| size <= most))
}
