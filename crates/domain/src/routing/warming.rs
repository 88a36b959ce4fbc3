//! Serve while warming: what is cold here and warm elsewhere is answered elsewhere while it warms up here.

use std::sync::Arc;

use super::{Candidate, Deployment, DeploymentState, Plane};

/// Where the first candidate is a local model that has yet to be loaded, and the same model answers at once on another of the
/// owner's machines, that one goes first: same model, same answer, no money, and nobody waits for the load. Whether another
/// model or the cloud may stand in is a matter of the rules that ordered the candidates. Returns why, if anything moved.
pub(super) fn prefer_warm(candidates: &mut Vec<Candidate>) -> Option<String> {
    let first = Arc::clone(&candidates.first()?.deployment);
    let later = matches!(first.state, DeploymentState::Cold | DeploymentState::Loading);
    if !is_local(&first) || !later {
        return None;
    }
    let stands_in = |candidate: &Candidate| {
        let other = &candidate.deployment;
        other.model == first.model && is_local(other) && other.state == DeploymentState::Warm
    };
    let place = candidates.iter().position(stands_in)?;
    let warm = candidates.remove(place);
    candidates.insert(0, warm);
    Some(format!("{} is not loaded: served where the same model is warm meanwhile", first.id))
}

/// The deployment that was to be first, if it is cold and another one goes before it: somebody should ask for it to be loaded,
/// so that later requests stay there.
pub(super) fn passed_over(wanted: Option<Arc<Deployment>>, candidates: &[Candidate]) -> Vec<Arc<Deployment>> {
    let first = candidates.first().map(|first| &first.deployment.id);
    let cold = |wanted: &Arc<Deployment>| {
        is_local(wanted) && wanted.state == DeploymentState::Cold && first != Some(&wanted.id)
    };
    wanted.filter(cold).into_iter().collect()
}

fn is_local(deployment: &Deployment) -> bool {
    deployment.tier.plane() == Plane::Local
}
