//! Which models are wanted: the caller's, else the agent's, else the rule's, else the tier's.

use super::{AgentPlacement, Alias, Deployment, Facts, Preference, Rule, Snapshot, Tier};
use crate::{
    fault::{Code, Fault, Origin},
    id::ModelName,
};

/// Places between two aliases of a route: an alias has at most so many targets.
const PLACES_OF_ALIAS: u32 = 1 << 16;

/// An alias, or a model by its own name.
#[derive(Clone, Copy)]
struct Names<'a> {
    alias: Option<&'a Alias>,
    name: &'a ModelName,
}

/// Where a deployment stands among the targets of a name.
#[derive(Clone, Copy)]
struct Place {
    order: u32,
    /// Its weight, where several targets share the place.
    weight: Option<u32>,
}

impl<'a> Names<'a> {
    fn of(name: &'a ModelName, snapshot: &'a Snapshot) -> Self {
        Self { alias: snapshot.aliases.get(name), name }
    }

    fn place(self, deployment: &Deployment) -> Option<Place> {
        let Some(alias) = self.alias else {
            return is(deployment, self.name).then_some(Place { order: 0, weight: None });
        };
        let target = alias.targets.iter().find(|target| is(deployment, &target.model))?;
        Some(Place { order: target.order, weight: alias.shares_places().then_some(target.weight) })
    }
}

pub(super) fn is(deployment: &Deployment, target: &ModelName) -> bool {
    deployment.model == *target || deployment.id.as_str() == target.as_str()
}

/// What is wanted of a request's deployments.
pub(super) struct Wish<'a> {
    named: Option<Names<'a>>,
    agent: Option<Names<'a>>,
    route: Vec<Names<'a>>,
    defaults: [Option<Names<'a>>; Tier::ALL.len()],
}

/// How a deployment answers a wish.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) preference: Preference,
    /// Its weight, where several targets share its place.
    pub(super) weight: Option<u32>,
}

impl<'a> Wish<'a> {
    pub(super) fn new(
        named: Option<&'a ModelName>,
        agent: Option<&'a AgentPlacement>,
        rule: Option<&'a Rule>,
        snapshot: &'a Snapshot,
    ) -> Result<Self, Fault> {
        let names = |name| Names::of(name, snapshot);
        let named = named.map(names);
        if let Some(Names { alias: None, name }) = named
            && !snapshot.deployments.iter().any(|deployment| is(deployment, name))
        {
            let message = format!(
                "model {:?} is not known, expected an alias, a model or a deployment that `hybridctl models` lists",
                name.as_str()
            );
            return Err(Fault::new(Code::NotFound, Origin::Caller, false, message).in_field("model"));
        }
        Ok(Self {
            named,
            agent: agent.and_then(|row| row.model.as_ref()).map(names),
            route: rule.map(|rule| rule.route.iter().map(names).collect()).unwrap_or_default(),
            defaults: Tier::ALL.map(|tier| snapshot.tier_defaults.get(&tier).map(names)),
        })
    }

    /// `None` where the caller named another model.
    pub(super) fn of(&self, deployment: &Deployment) -> Option<Wanted> {
        let wanted = |place: Place, preference: Preference| Wanted { preference, weight: place.weight };
        if let Some(named) = self.named {
            return named.place(deployment).map(|place| wanted(place, Preference::Named(place.order)));
        }
        if let Some(place) = self.agent.and_then(|own| own.place(deployment)) {
            return Some(wanted(place, Preference::AgentModel(place.order)));
        }
        for (index, names) in (0..).zip(&self.route) {
            if let Some(place) = names.place(deployment) {
                let order = PLACES_OF_ALIAS * index + place.order;
                return Some(wanted(place, Preference::Rule(order)));
            }
        }
        let default = self.defaults.get(deployment.tier as usize).copied().flatten();
        Some(match default.and_then(|names| names.place(deployment)) {
            Some(place) => wanted(place, Preference::TierDefault(place.order)),
            None => Wanted { preference: Preference::Any, weight: None },
        })
    }

    /// Parameters of the model that the caller named, in millions: of the largest, where an alias stands for several.
    pub(super) fn parameters_millions(facts: &Facts<'_>, snapshot: &Snapshot) -> Option<u64> {
        let model = facts.model?;
        let policy = &snapshot.policy;
        match snapshot.aliases.get(model) {
            Some(alias) => {
                let runs =
                    |name: &ModelName| snapshot.deployments.iter().any(|deployment| is(deployment, name));
                let targets = alias.targets.iter().map(|target| &target.model).filter(|name| runs(name));
                targets.filter_map(|name| policy.parameters_millions(name)).max()
            }
            None => policy.parameters_millions(model),
        }
    }
}
