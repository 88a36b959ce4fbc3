//! Flags: read, set and removed on the bus, kept in the control bucket, in force with the next snapshot.
//!
//! Calls are taken one after the other, and an answer comes only when the snapshot that shows the change is written, so that
//! whoever asks next is answered by it.

use bus::{Bus, Incoming, control::Control};
use domain::{
    fault::{Code, Fault, Origin},
    id::FlagName,
};
use futures::{Stream, StreamExt};
use prost::Message;
use service_runtime::Clock;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use wire::{subject::flag_key, v1};

use crate::{
    registry::{FLAGS_MAX, check_flag},
    view::{Views, in_force},
};

/// Length of the name of whoever set a flag, characters.
const UPDATED_BY_MAX: usize = 128;

/// Answers flag calls.
pub(crate) struct Flags {
    pub(crate) bus: Bus,
    pub(crate) control: Control,
    pub(crate) clock: Clock,
    pub(crate) views: Views,
    /// Revision of the last snapshot in the bucket.
    pub(crate) written: watch::Receiver<u64>,
}

impl Flags {
    /// Answers until `stop` fires.
    pub(crate) async fn serve(
        mut self,
        mut calls: impl Stream<Item = Incoming> + Unpin,
        stop: CancellationToken,
    ) {
        loop {
            let call = tokio::select! {
                () = stop.cancelled() => return,
                call = calls.next() => call,
            };
            let Some(call) = call else { return };
            let Some(reply_to) = call.reply else { continue };
            let error = self.answer(&call.payload).await.err();
            if let Some(fault) = &error {
                tracing::info!(%fault, "flag call refused");
            }
            let reply = v1::FlagReply { flags: self.flags(), error: error.map(Into::into) };
            if let Err(error) = self.bus.reply(&reply_to, &reply).await {
                tracing::warn!(%error, "flag call not answered");
            }
        }
    }

    fn flags(&self) -> Vec<v1::Flag> {
        self.views.borrow().as_ref().map(|view| view.wire.flags.clone()).unwrap_or_default()
    }

    async fn answer(&mut self, payload: &[u8]) -> Result<(), Fault> {
        let request = v1::FlagRequest::decode(payload).map_err(|error| {
            Fault::invalid("payload", format!("the payload is no llm.v1.FlagRequest: {error}"))
        })?;
        match (request.set, request.remove) {
            (None, remove) if remove.is_empty() => Ok(()),
            (Some(flag), remove) if remove.is_empty() => self.set(flag).await,
            (None, remove) => self.remove(FlagName::new(remove)?).await,
            (Some(_), remove) => {
                let message = format!("remove is {remove:?} beside set, expected one of the two");
                Err(Fault::invalid("remove", message))
            }
        }
    }

    async fn set(&mut self, mut flag: v1::Flag) -> Result<(), Fault> {
        let name = check_flag(&flag)?;
        let by = flag.updated_by.chars();
        if by.clone().count() > UPDATED_BY_MAX || by.clone().any(char::is_control) {
            let message = format!(
                "updated_by is too long or has control characters, expected at most {UPDATED_BY_MAX}"
            );
            return Err(Fault::invalid("updated_by", message));
        }
        let flags = self.flags();
        if flags.len() >= FLAGS_MAX && !flags.iter().any(|known| known.name == flag.name) {
            let message = format!("there are {FLAGS_MAX} flags already, expected one to be removed first");
            return Err(Fault::invalid("set", message));
        }
        flag.updated_unix_ms = self.clock.now_unix_ms();
        let key = flag_key(self.bus.machine(), name.as_str());
        self.control.put(&key, &flag).await.map_err(|error| Fault::internal(error.to_string()))?;
        tracing::info!(
            flag = flag.name,
            enabled = flag.enabled,
            percent = flag.rollout_percent,
            by = flag.updated_by,
            "flag set"
        );
        in_force(&mut self.views, &mut self.written, |view| view.flag(&flag.name) == Some(&flag)).await
    }

    async fn remove(&mut self, name: FlagName) -> Result<(), Fault> {
        if !self.flags().iter().any(|flag| flag.name == name.as_str()) {
            let message = format!("flag {:?} is not set, expected one that is", name.as_str());
            return Err(Fault::new(Code::NotFound, Origin::Caller, false, message).in_field("remove"));
        }
        let key = flag_key(self.bus.machine(), name.as_str());
        self.control.delete(&key).await.map_err(|error| Fault::internal(error.to_string()))?;
        tracing::info!(flag = %name, "flag removed");
        in_force(&mut self.views, &mut self.written, |view| view.flag(name.as_str()).is_none()).await
    }
}
