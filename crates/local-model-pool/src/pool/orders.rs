//! Orders over the bus: what is loaded, load, unload, pin, install.

use std::path::PathBuf;
use std::sync::Arc;

use bus::{Bus, Incoming};
use futures::{Stream, StreamExt};
use prost::Message as _;
use tokio_util::sync::CancellationToken;

use domain::fault::Fault;
use domain::id::ModelName;
use wire::v1::{self, ModelAction};

use super::desk::Desk;
use super::install;
use crate::settings::{RawModel, TierName};

/// Orders at once: each may read a whole model file.
const ORDERS_MAX: usize = 4;

/// Answers orders.
pub(super) struct Orders {
    pub(super) bus: Bus,
    pub(super) desk: Desk,
    pub(super) models_dir: PathBuf,
    pub(super) tier: TierName,
}

impl Orders {
    /// Answers until `stop` fires.
    pub(super) async fn serve(self, calls: impl Stream<Item = Incoming> + Unpin, stop: CancellationToken) {
        let this = Arc::new(self);
        let serving = calls.for_each_concurrent(ORDERS_MAX, |call| {
            let this = Arc::clone(&this);
            async move { this.answer(call).await }
        });
        let _stopped = stop.run_until_cancelled(serving).await;
    }

    async fn answer(&self, call: Incoming) {
        let outcome = self.carry_out(&call.payload).await;
        if let Err(fault) = &outcome {
            tracing::info!(%fault, "order refused");
        }
        // a wish wants no answer
        let Some(reply_to) = call.reply else { return };
        let mut reply =
            v1::ModelReply { machine: self.bus.machine().to_string(), ..v1::ModelReply::default() };
        match outcome {
            Ok(models) => reply.models = models,
            Err(fault) => reply.error = Some(fault.into()),
        }
        if let Err(error) = self.bus.reply(&reply_to, &reply).await {
            tracing::warn!(%error, "order not answered");
        }
    }

    async fn carry_out(&self, payload: &[u8]) -> Result<Vec<v1::ModelStatus>, Fault> {
        let request = v1::ModelRequest::decode(payload).map_err(|error| {
            Fault::invalid("payload", format!("the payload is no llm.v1.ModelRequest: {error}"))
        })?;
        let Ok(action) = ModelAction::try_from(request.action) else {
            let text = format!("action is {}, expected one of llm.v1.ModelAction", request.action);
            return Err(Fault::invalid("action", text));
        };
        let model = match request.model.as_str() {
            "" => None,
            name => Some(ModelName::new(name)?),
        };
        if action != ModelAction::Install {
            return self.desk.command(action, model).await;
        }
        let model = model.ok_or_else(|| Fault::invalid("model", "model is empty, expected a name"))?;
        let wanted = request.install.unwrap_or_default();
        let like = self.like(&wanted.like)?;
        let config = install::check(&self.models_dir, self.tier, &model, &wanted, like).await?;
        self.desk.install(config).await
    }

    fn like(&self, name: &str) -> Result<RawModel, Fault> {
        if name.is_empty() {
            return Ok(RawModel::default());
        }
        let statuses = self.desk.statuses.borrow();
        let found = statuses.models.values().find(|status| status.config.name.as_str() == name);
        found.map(|status| status.config.entry.clone()).ok_or_else(|| {
            let text = format!("install.like is {name:?}, expected a model of this pool");
            Fault::invalid("install.like", text)
        })
    }
}
