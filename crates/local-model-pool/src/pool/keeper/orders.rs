//! What people and other services want done.

use domain::fault::{Code, Fault, Origin};
use domain::id::ModelName;
use domain::lifecycle::Event;
use wire::v1;

use super::{Keeper, Offer};
use crate::settings::ModelConfig;

impl Keeper {
    pub(super) async fn command(
        &mut self,
        action: v1::ModelAction,
        model: Option<&ModelName>,
    ) -> Result<(), Fault> {
        let model = match (action, model) {
            (v1::ModelAction::Unspecified, None) => return Ok(()),
            (_, None) => return Err(Fault::invalid("model", "model is empty, expected the name of one")),
            (_, Some(model)) => model.clone(),
        };
        let Some(offer) = self.offers.get_mut(&model).filter(|offer| !offer.removed) else {
            let text = format!("model is {:?}, which is not on this machine", model.as_str());
            return Err(Fault::new(Code::NotFound, Origin::Caller, false, text).in_field("model"));
        };
        tracing::debug!(%model, action = action.as_str_name(), "asked for");
        match action {
            v1::ModelAction::Load => self.apply(Event::Load(model)),
            v1::ModelAction::Unload => {
                let was_pinned = self.parts.kept.pinned.remove(model.as_str());
                self.apply(Event::Unload(model));
                if was_pinned {
                    self.save().await;
                }
            }
            v1::ModelAction::Wish => self.apply(Event::Wish(model)),
            v1::ModelAction::Pin => {
                self.parts.kept.pinned.insert(model.to_string());
                self.apply(Event::Pin(model));
                self.save().await;
            }
            v1::ModelAction::Unpin => {
                self.parts.kept.pinned.remove(model.as_str());
                self.apply(Event::Unpin(model));
                self.save().await;
            }
            v1::ModelAction::Remove if offer.config.installed => {
                offer.removed = true;
                self.parts.kept.installed.retain(|entry| entry.name != model.as_str());
                self.parts.kept.pinned.remove(model.as_str());
                self.apply(Event::Withdrawn(model.clone()));
                if self.parts.lifecycle.view(&model).is_none() {
                    self.offers.remove(&model);
                }
                self.save().await;
            }
            v1::ModelAction::Remove => {
                let text = format!("model is {:?}, which stands in the configuration", model.as_str());
                return Err(Fault::invalid("model", format!("{text}, expected an installed one")));
            }
            v1::ModelAction::Unspecified | v1::ModelAction::Install => {}
        }
        Ok(())
    }

    pub(super) async fn install(&mut self, config: ModelConfig) -> Result<(), Fault> {
        let name = config.name.clone();
        let taken = |offer: &&Offer| offer.config.name == name || offer.config.executor == config.executor;
        if let Some(other) = self.offers.values().find(taken) {
            let text = format!(
                "model is {:?}, expected a name whose letters, digits, `-` and `_` differ from those of {}",
                name.as_str(),
                other.config.name
            );
            return Err(Fault::invalid("model", text));
        }
        let mut kept = self.parts.kept.clone();
        kept.installed.push(config.entry.clone());
        // on disk before anybody hears that it is there
        self.parts.store.save(&kept).await.map_err(|error| Fault::internal(format!("{error:#}")))?;
        self.parts.kept = kept;
        tracing::info!(model = %name, file = config.entry.file, "model installed");
        self.offer(config);
        Ok(())
    }
}
