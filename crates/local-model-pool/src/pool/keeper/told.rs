//! What engines tell, and what follows from it.

use std::time::Duration;

use domain::id::ModelName;
use domain::lifecycle::{Event, Phase, Run};
use domain::units::Bytes;

use super::{Keeper, spec};
use crate::pool::desk::Word;
use crate::pool::status::milliseconds;
use crate::supervisor::{Told, What};

/// An engine that answered for so long was healthy: its next failure is treated as its first.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);

impl Keeper {
    /// What an engine told. What an earlier life still had to say is not taken for the present one's.
    pub(super) async fn told(&mut self, Told { model, run, what }: Told) {
        let Some(view) = self.parts.lifecycle.view(&model) else { return };
        let Some(offer) = self.offers.get_mut(&model) else { return };
        let present = view.run == run;
        match what {
            What::Described(description) => {
                offer.description = Some(description);
                offer.metrics.estimate(description.memory);
                if !offer.removed {
                    let spec = spec(offer);
                    self.apply(Event::Offered(model, spec));
                }
            }
            What::Loading(percent) if present => offer.percent = Some(percent),
            What::Ready(ready, took) if present => {
                tracing::info!(
                    %model, slots = ready.slots, context = ready.context_length,
                    load_ms = ready.load_ms, resident = %Bytes::new(ready.resident_bytes), "model is warm"
                );
                offer.metrics.ready(&ready, took);
                offer.times.took(took);
                offer.loads += 1;
                let (slots, learnt) = (ready.slots, offer.times.learnt().unwrap_or(took));
                offer.ready = Some(ready);
                self.parts.kept.load_ms.insert(model.to_string(), milliseconds(learnt));
                self.apply(Event::Ready { model, run, slots, took: learnt });
                self.publish();
                self.save().await;
            }
            What::Occupancy(busy, waiting) if present => {
                offer.occupancy = (busy, waiting);
                offer.metrics.occupancy(busy, waiting);
                self.apply(Event::Busy { model, run, in_flight: busy.saturating_add(waiting) });
            }
            What::Taken(request_id) => {
                let ticket = self.handed.get(&request_id);
                if let Some(caller) = ticket.and_then(|ticket| self.callers.get(ticket)) {
                    let _left = caller.words.try_send(Word::Taken);
                }
            }
            What::Refused(request_id) => self.over(&request_id),
            What::Finished(finished) => {
                offer.metrics.finished(&finished);
                self.over(&finished.request_id);
            }
            What::NoRoom(no_lease) => {
                let retry_in = offer.backoff.next();
                tracing::warn!(%model, reason = no_lease.reason, "no room for a model");
                offer.metrics.no_room();
                let (reason, missing) = (no_lease.reason, no_lease.missing);
                self.apply(Event::NoRoom { model, run, reason, missing, retry_in });
            }
            What::MemoryLost(reason) => self.apply(Event::MemoryLost { model, run, reason }),
            What::Gone { reason, answered } => self.gone(model, (run, &view.phase), reason, answered),
            What::Loading(_) | What::Ready(..) | What::Occupancy(..) => {}
        }
    }

    /// A request that was handed over has ended.
    fn over(&mut self, request_id: &str) {
        let Some(ticket) = self.handed.remove(request_id) else { return };
        if let Some(caller) = self.callers.remove(&ticket) {
            let _left = caller.words.try_send(Word::Over);
        }
        self.apply(Event::Over(ticket));
    }

    fn gone(&mut self, model: ModelName, (run, phase): (Run, &Phase), reason: String, answered: Duration) {
        let Some(offer) = self.offers.get_mut(&model) else { return };
        (offer.ready, offer.percent, offer.occupancy) = (None, None, (0, 0));
        offer.metrics.gone();
        if answered >= HEALTHY_AFTER {
            offer.backoff.reset();
        }
        let retry_in = offer.backoff.next();
        if !matches!(phase, Phase::Draining(..) | Phase::Ending(_)) {
            tracing::error!(%model, reason, retry_ms = milliseconds(retry_in), "model is down");
            offer.metrics.failure();
        } else if answered > Duration::ZERO {
            offer.backoff.reset();
        }
        let removed = offer.removed;
        let lost: Vec<String> = self
            .handed
            .iter()
            .filter(|(_, ticket)| self.callers.get(ticket).is_some_and(|caller| caller.model == model))
            .map(|(request_id, _)| request_id.clone())
            .collect();
        for request_id in lost {
            self.over(&request_id);
        }
        self.apply(Event::Gone { model: model.clone(), run, reason, retry_in });
        if removed {
            self.offers.remove(&model);
        }
    }
}
