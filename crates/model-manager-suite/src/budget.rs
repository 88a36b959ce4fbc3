//! This machine's part of every budget: sets money aside on the bus, settles it from the ledger.
//!
//! ```text
//! Reserve ─┐
//! usage ───┼─► book ─► control bucket (compare and swap) ─► answers
//! clock ───┘
//! ```
//!
//! One task owns the book. What comes together is applied together and written with one compare-and-swap, and nobody is answered
//! before that, so that a kill at any point forgets no reservation; the position in the usage stream is written with it, so that
//! no event is settled twice. A bucket that does not answer means that nothing is reserved: paid calls wait, free ones go on.

use std::{sync::Arc, time::Duration};

use bus::{
    Bus, Incoming,
    control::{Control, UpdateError},
    ledger::{self, Ledger},
};
use domain::{
    budget::{Account, Book, Reservation, Spender},
    fault::{Code, Fault, Origin},
    units::Money,
};
use futures::{Stream, StreamExt, stream::BoxStream};
use prost::Message;
use service_runtime::Clock;
use tokio::{sync::watch, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use wire::{
    subject::{BudgetAlerts, budget_key},
    v1,
};

use crate::{catalog::Catalog, keys::KeyTable, metrics::Metrics};

/// Calls, and messages of the usage stream, that are applied together.
const TOGETHER_MAX: usize = 256;
/// How often reservations that ran out are looked for.
const TICK: Duration = Duration::from_secs(1);
/// Between tries when the bucket or the usage stream does not answer.
const RETRY: Duration = Duration::from_millis(250);
/// Tries to write before the callers are told that it does not work.
const WRITES_MAX: usize = 4;

/// Keeps the budgets.
pub(crate) struct Budgets {
    pub(crate) bus: Bus,
    pub(crate) control: Control,
    pub(crate) clock: Clock,
    /// For reservations of which nothing more is heard.
    pub(crate) ledger: Ledger,
    pub(crate) catalogs: watch::Receiver<Arc<Catalog>>,
    /// Virtual keys have budgets too.
    pub(crate) keys: watch::Receiver<Arc<KeyTable>>,
    pub(crate) metrics: Metrics,
    /// Told how the budgets stand.
    pub(crate) standings: watch::Sender<Vec<v1::BudgetLeft>>,
}

/// The book as it was last written.
struct Kept {
    book: Book,
    /// Of the key; 0 = there is none.
    revision: u64,
    /// Position in the usage stream.
    settled: u64,
}

/// What changes a book. Applied again, a change has no further effect.
enum Change {
    Reserve(String, Reservation),
    Settle(ledger::Followed),
    Expire,
    Rules,
}

/// What applying changes came to.
#[derive(Default)]
struct Effects {
    /// For each [`Change::Reserve`], in order.
    answers: Vec<v1::BudgetReply>,
    alerts: Vec<Account>,
    expired: Vec<(String, Reservation)>,
}

impl Budgets {
    /// Answers until `stop` fires.
    pub(crate) async fn run(
        mut self,
        calls: impl Stream<Item = Incoming> + Send + Unpin,
        stop: CancellationToken,
    ) {
        let work = async {
            let mut kept = self.read().await;
            let mut calls = calls.ready_chunks(TOGETHER_MAX);
            let mut usage: Option<BoxStream<'static, Vec<_>>> = None;
            let mut tick = tokio::time::interval(TICK);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                let events = async {
                    match usage.as_mut() {
                        Some(usage) => usage.next().await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    calls = calls.next() => match calls {
                        Some(calls) => self.answer(&mut kept, calls).await,
                        None => return,
                    },
                    messages = events => {
                        let whole = self.settle(&mut kept, messages.unwrap_or_default()).await;
                        if !whole {
                            usage = None;
                        }
                    }
                    Ok(()) = self.catalogs.changed() => {
                        self.catalogs.mark_unchanged();
                        self.change(&mut kept, vec![Change::Rules]).await.ok();
                    }
                    Ok(()) = self.keys.changed() => {
                        self.keys.mark_unchanged();
                        self.change(&mut kept, vec![Change::Rules]).await.ok();
                    }
                    _ = tick.tick() => {
                        if usage.is_none() && !kept.book.accounts().is_empty() {
                            usage = self.follow(kept.settled).await;
                        }
                        if kept.book.open() > 0 {
                            self.change(&mut kept, vec![Change::Expire]).await.ok();
                        }
                    }
                }
                self.metrics.budgets(kept.book.accounts());
                self.tell_routing(kept.book.accounts());
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = work => {}
        }
    }

    /// Tells routing what is left, where that has changed.
    fn tell_routing(&self, accounts: &[Account]) {
        let now = self.clock.now_unix_ms();
        let left: Vec<v1::BudgetLeft> = accounts.iter().map(|account| (&account.left(now)).into()).collect();
        self.standings.send_if_modified(|told| {
            let changed = *told != left;
            *told = left;
            changed
        });
    }

    /// The budgets in force.
    fn rules(&self) -> Vec<domain::budget::Budget> {
        let machine = self.bus.machine();
        let catalog = Arc::clone(&self.catalogs.borrow());
        let keys = Arc::clone(&self.keys.borrow());
        let of_keys = keys.usable().flat_map(|key| key.budgets(machine));
        catalog.budgets.iter().map(|budget| budget.of(machine)).chain(of_keys).collect()
    }

    async fn follow(
        &self,
        settled: u64,
    ) -> Option<BoxStream<'static, Vec<Result<ledger::Followed, ledger::FollowError>>>> {
        match ledger::follow(&self.bus, settled).await {
            Ok(messages) => Some(messages.ready_chunks(TOGETHER_MAX).boxed()),
            Err(error) => {
                tracing::warn!(%error, "budgets are not settled for now");
                None
            }
        }
    }

    /// Reads the book, as often as it takes.
    async fn read(&self) -> Kept {
        loop {
            match self.control.entry(&budget_key(self.bus.machine())).await {
                Ok(entry) => return self.opened(entry),
                Err(error) => tracing::warn!(%error, "budgets not read, trying again"),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    fn opened(&self, entry: Option<(bytes::Bytes, u64)>) -> Kept {
        let (bytes, revision) = entry.unwrap_or_default();
        let wire = v1::BudgetBook::decode(bytes).unwrap_or_else(|error| {
            tracing::error!(%error, "the stored budgets do not decode; counting again from the ledger");
            v1::BudgetBook::default()
        });
        let settled = wire.settled_sequence;
        Kept { book: Book::new(self.rules(), wire.kept()), revision, settled }
    }

    async fn answer(&self, kept: &mut Kept, calls: Vec<Incoming>) {
        let now = self.clock.now_unix_ms();
        let mut changes = Vec::new();
        let mut waiting = Vec::new();
        for call in calls {
            let Some(reply_to) = call.reply else { continue };
            let request = v1::BudgetRequest::decode(call.payload).map_err(|error| {
                Fault::invalid("payload", format!("the payload is no llm.v1.BudgetRequest: {error}"))
            });
            let asked = request
                .and_then(|request| request.reserve.map(|reserve| reserve.check(now)).transpose())
                .and_then(|asked| self.known(asked));
            match asked {
                Ok(Some((id, reservation))) => {
                    changes.push(Change::Reserve(id, reservation));
                    waiting.push(reply_to);
                }
                Ok(None) => {
                    let budgets = kept.book.accounts().iter().map(Into::into).collect();
                    self.reply(&reply_to, v1::BudgetReply { budgets, ..Default::default() }).await;
                }
                Err(fault) => {
                    let reply = v1::BudgetReply { error: Some(fault.into()), ..Default::default() };
                    self.reply(&reply_to, reply).await;
                }
            }
        }
        if changes.is_empty() {
            return;
        }
        let answers = match self.change(kept, changes).await {
            Ok(answers) => answers,
            Err(fault) => {
                let reply = v1::BudgetReply { error: Some(fault.into()), ..Default::default() };
                vec![reply; waiting.len()]
            }
        };
        for (reply_to, answer) in waiting.iter().zip(answers) {
            self.reply(reply_to, answer).await;
        }
    }

    /// A key that is not known here yet may have a budget: nothing is set aside for it.
    fn known(&self, asked: Option<(String, Reservation)>) -> Result<Option<(String, Reservation)>, Fault> {
        let key = asked.as_ref().map_or("", |(_, reservation)| reservation.spender.key.as_str());
        if key.is_empty() || self.keys.borrow().has(key) {
            return Ok(asked);
        }
        let message = format!("key {key:?} is not known to this machine's manager yet");
        Err(Fault::new(Code::Unavailable, Origin::Internal, true, message).in_field("key"))
    }

    async fn reply(&self, reply_to: &str, reply: v1::BudgetReply) {
        if let Err(error) = self.bus.reply(reply_to, &reply).await {
            tracing::warn!(%error, "budget call not answered");
        }
    }

    /// `false` when the stream has to be opened again.
    async fn settle(
        &self,
        kept: &mut Kept,
        messages: Vec<Result<ledger::Followed, ledger::FollowError>>,
    ) -> bool {
        let whole = !messages.is_empty() && messages.iter().all(Result::is_ok);
        let changes: Vec<_> = messages.into_iter().filter_map(Result::ok).map(Change::Settle).collect();
        // a stream that has ended gives nothing at once, again and again
        (changes.is_empty() || self.change(kept, changes).await.is_ok()) && whole
    }

    /// Applies changes and writes the book. The book stays as it was when that fails.
    async fn change(&self, kept: &mut Kept, changes: Vec<Change>) -> Result<Vec<v1::BudgetReply>, Fault> {
        let key = budget_key(self.bus.machine());
        let mut reason = String::new();
        for _ in 0..WRITES_MAX {
            let mut next = Kept { book: kept.book.clone(), ..*kept };
            let effects = self.apply(&mut next, &changes);
            if next.book == kept.book && next.settled == kept.settled {
                return Ok(effects.answers);
            }
            let message = v1::BudgetBook::new(next.book.kept(), next.settled);
            match self.control.update(&key, &message, kept.revision).await {
                Ok(revision) => {
                    *kept = Kept { revision, ..next };
                    self.tell(effects.alerts, effects.expired).await;
                    return Ok(effects.answers);
                }
                // our own write whose answer was lost is among these
                Err(UpdateError::Overtaken) => *kept = self.read().await,
                Err(UpdateError::Failed(error)) => {
                    reason = error.to_string();
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
        tracing::error!(reason, "budgets are not written");
        let message = format!("budgets cannot be kept now: {reason}");
        Err(Fault::new(Code::Unavailable, Origin::Internal, true, message))
    }

    fn apply(&self, kept: &mut Kept, changes: &[Change]) -> Effects {
        let now = self.clock.now_unix_ms();
        let mut effects = Effects::default();
        for change in changes {
            match change {
                Change::Reserve(id, reservation) => {
                    let refused = kept.book.reserve(id, reservation.clone(), now).err();
                    let exceeded = refused.as_ref().map(Into::into);
                    effects.answers.push(v1::BudgetReply { exceeded, ..Default::default() });
                }
                Change::Settle(message) if message.sequence > kept.settled => {
                    kept.settled = message.sequence;
                    for event in &message.events {
                        if kept.book.first_time(&event.origin_instance, event.origin_counter, now) {
                            effects.alerts.extend(settle(&mut kept.book, event, now));
                        }
                    }
                }
                Change::Settle(_) => {}
                Change::Expire => {
                    let (expired, alerts) = kept.book.expire(now);
                    effects.expired.extend(expired);
                    effects.alerts.extend(alerts);
                }
                Change::Rules => kept.book.replace(self.rules()),
            }
        }
        effects
    }

    async fn tell(&self, alerts: Vec<Account>, expired: Vec<(String, Reservation)>) {
        for account in alerts {
            let (spent, allowed) = (account.spent, account.budget.allowed());
            tracing::warn!(budget = account.budget.name, %spent, %allowed, "a budget is nearly spent");
            let alert =
                v1::BudgetAlert { machine: self.bus.machine().to_string(), budget: Some((&account).into()) };
            if let Err(error) = self.bus.publish(&BudgetAlerts, &alert).await {
                tracing::warn!(%error, "budget alert not published");
            }
        }
        for (id, reservation) in expired {
            tracing::warn!(reservation = id, amount = %reservation.amount, "nothing more was heard of a call: charged in full");
            if let Err(error) = self.ledger.record(self.unheard(id, reservation)).await {
                tracing::error!(%error, "usage event");
            }
        }
    }

    /// The ledger's row of a call whose coordinator is gone: its cost is the most that it can have been.
    fn unheard(&self, id: String, reservation: Reservation) -> v1::UsageEvent {
        v1::UsageEvent {
            request_id: reservation.call.request_id,
            attempt: reservation.call.attempt,
            finished_unix_ms: self.clock.now_unix_ms(),
            machine: self.bus.machine().to_string(),
            service: self.bus.service().to_owned(),
            outcome: v1::Outcome::Failed.into(),
            error_code: v1::ErrorCode::from(Code::Unavailable).into(),
            agent: reservation.spender.agent,
            tenant: reservation.spender.key,
            deployment: reservation.call.deployment,
            provider: reservation.spender.provider,
            usage: Some(v1::TokenUsage { estimated: true, ..Default::default() }),
            cost_picodollars: reservation.amount.as_picodollars(),
            reservation_id: id,
            ..Default::default()
        }
    }
}

fn settle(book: &mut Book, event: &v1::UsageEvent, now_unix_ms: u64) -> Vec<Account> {
    if event.reservation_id.is_empty() && event.cost_picodollars == 0 {
        return Vec::new();
    }
    let spender =
        Spender { provider: event.provider.clone(), agent: event.agent.clone(), key: event.tenant.clone() };
    // a clock that runs ahead must not begin tomorrow's window
    let at = event.finished_unix_ms.min(now_unix_ms);
    book.settle(&event.reservation_id, &spender, Money::picodollars(event.cost_picodollars.max(0)), at)
}
