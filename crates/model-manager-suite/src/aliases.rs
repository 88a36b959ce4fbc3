//! Aliases that somebody has switched: kept in the control bucket, in force with the next snapshot, over what the policies
//! say. Each switch remembers what was before, so that it can be taken back.
//!
//! Calls are taken one after the other, and an answer comes only when the snapshot that shows the change is written.

use bus::{Bus, Incoming, control::Control};
use domain::{
    fault::{Code, Fault, Origin},
    id::ModelName,
};
use futures::{Stream, StreamExt};
use prost::Message;
use service_runtime::Clock;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use wire::{
    subject::alias_key,
    v1::{self, alias_request::Action},
};

use crate::view::{View, Views, in_force};

/// Switched aliases of a machine.
pub(crate) const OVERRIDES_MAX: usize = 256;
/// Switches of one alias that can be taken back.
const BEFORE_MAX: usize = 16;
/// Length of the name of whoever switched, characters.
const UPDATED_BY_MAX: usize = 128;

/// Answers alias calls.
pub(crate) struct Aliases {
    pub(crate) bus: Bus,
    pub(crate) control: Control,
    pub(crate) clock: Clock,
    pub(crate) views: Views,
    /// Revision of the last snapshot in the bucket.
    pub(crate) written: watch::Receiver<u64>,
}

impl Aliases {
    /// Answers until `stop` fires.
    pub(crate) async fn serve(
        mut self,
        mut calls: impl Stream<Item = Incoming> + Unpin,
        stop: CancellationToken,
    ) {
        while let Some(Some(call)) = stop.run_until_cancelled(calls.next()).await {
            let Some(reply_to) = call.reply else { continue };
            let reply = match self.answer(&call.payload).await {
                Ok(book) => v1::AliasReply { overrides: book.overrides, error: None },
                Err(fault) => {
                    tracing::info!(%fault, "alias call refused");
                    v1::AliasReply { error: Some(fault.into()), ..v1::AliasReply::default() }
                }
            };
            if let Err(error) = self.bus.reply(&reply_to, &reply).await {
                tracing::warn!(%error, "alias call not answered");
            }
        }
    }

    /// The bucket is asked, and not a copy: what is written next builds on it.
    async fn book(&self) -> Result<v1::AliasBook, Fault> {
        let internal = |error: &dyn std::fmt::Display| Fault::internal(error.to_string());
        let stored = self.control.get(&alias_key(self.bus.machine())).await;
        let Some(stored) = stored.map_err(|error| internal(&error))? else {
            return Ok(v1::AliasBook::default());
        };
        v1::AliasBook::decode(stored).map_err(|error| internal(&error))
    }

    async fn answer(&mut self, payload: &[u8]) -> Result<v1::AliasBook, Fault> {
        let request = v1::AliasRequest::decode(payload).map_err(|error| {
            Fault::invalid("payload", format!("the payload is no llm.v1.AliasRequest: {error}"))
        })?;
        let book = self.book().await?;
        let (name, book) = match request.action {
            None => return Ok(book),
            Some(Action::Switch(switch)) => {
                let view = self.views.borrow().clone();
                let now = self.clock.now_unix_ms();
                (switch.name.clone(), switched(book, &switch, view.as_ref(), now)?)
            }
            Some(Action::Rollback(name)) => {
                let now = self.clock.now_unix_ms();
                (name.clone(), rolled_back(book, &name, now)?)
            }
        };
        let key = alias_key(self.bus.machine());
        self.control.put(&key, &book).await.map_err(|error| Fault::internal(error.to_string()))?;
        let targets = targets(&book, &name).map(<[String]>::to_vec);
        tracing::info!(alias = name, targets = ?targets, "alias switched");
        in_force(&mut self.views, &mut self.written, |view| match &targets {
            Some(targets) => {
                view.wire.aliases.iter().any(|alias| alias.name == name && alias.targets == *targets)
            }
            None => !view.switched.contains(&name),
        })
        .await?;
        Ok(book)
    }
}

fn targets<'a>(book: &'a v1::AliasBook, name: &str) -> Option<&'a [String]> {
    book.overrides.iter().find(|alias| alias.name == name).map(|alias| alias.targets.as_slice())
}

/// The book with one more switch: the target in front of what the alias stood for.
fn switched(
    mut book: v1::AliasBook,
    switch: &v1::SwitchAlias,
    view: Option<&View>,
    now_unix_ms: u64,
) -> Result<v1::AliasBook, Fault> {
    let name = named("switch.name", &switch.name)?;
    let target = named("switch.target", &switch.target)?;
    let by = switch.updated_by.chars();
    if by.clone().count() > UPDATED_BY_MAX || by.clone().any(char::is_control) {
        let text =
            format!("updated_by is too long or has control characters, expected at most {UPDATED_BY_MAX}");
        return Err(Fault::invalid("switch.updated_by", text));
    }
    let wire = view.map(|view| &view.wire);
    let is =
        |deployment: &v1::Deployment| deployment.model == target.as_str() || deployment.id == target.as_str();
    if !wire.is_some_and(|wire| wire.deployments.iter().any(is)) {
        let text =
            format!("target is {:?}, expected a model or a deployment that is registered", target.as_str());
        return Err(Fault::new(Code::NotFound, Origin::Caller, false, text).in_field("switch.target"));
    }
    if wire.is_some_and(|wire| wire.deployments.iter().any(|deployment| deployment.model == name.as_str())) {
        let text = format!("name is {:?}, which is a model, expected an alias", name.as_str());
        return Err(Fault::invalid("switch.name", text));
    }
    let index = book.overrides.iter().position(|alias| alias.name == name.as_str());
    let stood = wire.and_then(|wire| wire.aliases.iter().find(|alias| alias.name == name.as_str()));
    let mut targets = vec![target.to_string()];
    targets.extend(
        stood.into_iter().flat_map(|alias| &alias.targets).filter(|old| **old != target.as_str()).cloned(),
    );
    let (mut before, last) = match index {
        Some(index) => {
            let alias = book.overrides.remove(index);
            (alias.before, v1::AliasTargets { targets: alias.targets })
        }
        None if book.overrides.len() >= OVERRIDES_MAX => {
            let text =
                format!("{OVERRIDES_MAX} aliases are switched already, expected one to be rolled back first");
            return Err(Fault::invalid("switch.name", text));
        }
        None => (vec![], v1::AliasTargets::default()),
    };
    before.insert(0, last);
    before.truncate(BEFORE_MAX);
    book.overrides.push(v1::AliasOverride {
        name: name.into_string(),
        targets,
        before,
        updated_unix_ms: now_unix_ms,
        updated_by: switch.updated_by.clone(),
    });
    book.overrides.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(book)
}

/// The book with the last switch of an alias taken back.
fn rolled_back(mut book: v1::AliasBook, name: &str, now_unix_ms: u64) -> Result<v1::AliasBook, Fault> {
    let name = named("rollback", name)?;
    let Some(index) = book.overrides.iter().position(|alias| alias.name == name.as_str()) else {
        let text = format!("alias {:?} was not switched, expected one that was", name.as_str());
        return Err(Fault::new(Code::NotFound, Origin::Caller, false, text).in_field("rollback"));
    };
    let mut alias = book.overrides.remove(index);
    let before = if alias.before.is_empty() { v1::AliasTargets::default() } else { alias.before.remove(0) };
    if !before.targets.is_empty() {
        alias.targets = before.targets;
        alias.updated_unix_ms = now_unix_ms;
        book.overrides.insert(index, alias);
    }
    Ok(book)
}

fn named(field: &str, name: &str) -> Result<ModelName, Fault> {
    ModelName::new(name).map_err(|error| Fault::from(error).in_field(field))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> View {
        let deployment = |model: &str| v1::Deployment {
            id: format!("mainpc/llama.cpp/{model}"),
            model: model.to_owned(),
            provider: "llama.cpp".to_owned(),
            tier: v1::Tier::LocalCpu.into(),
            machine: "mainpc".to_owned(),
            executor: "pool".to_owned(),
            state: v1::DeploymentState::Warm.into(),
            free: true,
            ..v1::Deployment::default()
        };
        let aliases = vec![v1::ModelAlias {
            name: "local/fast".to_owned(),
            targets: vec!["old".to_owned()],
            ..v1::ModelAlias::default()
        }];
        let wire = v1::RoutingSnapshot {
            machine: "mainpc".to_owned(),
            deployments: ["old", "new", "newer"].map(deployment).to_vec(),
            aliases,
            ..v1::RoutingSnapshot::default()
        };
        View::new(wire, vec![]).unwrap()
    }

    fn switch(book: v1::AliasBook, name: &str, target: &str) -> Result<v1::AliasBook, Fault> {
        let switch = v1::SwitchAlias {
            name: name.to_owned(),
            target: target.to_owned(),
            updated_by: "test".to_owned(),
        };
        switched(book, &switch, Some(&view()), 7)
    }

    #[test]
    fn a_switch_puts_its_target_first_and_can_be_taken_back_step_by_step() {
        let book = switch(v1::AliasBook::default(), "local/fast", "new").unwrap();
        assert_eq!(targets(&book, "local/fast").unwrap(), ["new", "old"]);
        let book = switch(book, "local/fast", "newer").unwrap();
        assert_eq!(targets(&book, "local/fast").unwrap()[0], "newer");
        let book = rolled_back(book, "local/fast", 8).unwrap();
        assert_eq!(targets(&book, "local/fast").unwrap(), ["new", "old"]);
        let book = rolled_back(book, "local/fast", 9).unwrap();
        assert_eq!(book, v1::AliasBook::default(), "the policies hold again");
        let fault = rolled_back(book, "local/fast", 9).unwrap_err();
        assert_eq!((fault.code, fault.field.as_str()), (Code::NotFound, "rollback"));
    }

    #[test]
    fn only_what_is_registered_can_be_a_target_and_no_model_can_be_an_alias() {
        let refused = |name, target| switch(v1::AliasBook::default(), name, target).unwrap_err().field;
        assert_eq!(refused("local/fast", "nobody"), "switch.target");
        assert_eq!(refused("local/fast", "a b"), "switch.target");
        assert_eq!(refused("old", "new"), "switch.name");
    }

    #[test]
    fn a_switch_is_remembered_up_to_a_bound() {
        let mut book = v1::AliasBook::default();
        for number in 0..BEFORE_MAX * 2 {
            book = switch(book, "local/fast", if number % 2 == 0 { "new" } else { "newer" }).unwrap();
        }
        assert_eq!(book.overrides[0].before.len(), BEFORE_MAX);
    }
}
