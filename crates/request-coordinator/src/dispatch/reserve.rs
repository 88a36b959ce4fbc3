//! Money for a call, set aside before it is made.
//!
//! The most a call can cost is what its input can have in tokens and what its answer may have: a request without a bound on its
//! answer is given one, otherwise nothing could be set aside for it.

use std::time::Duration;

use domain::{
    fault::{Code, Fault, Origin},
    units::{Money, Tokens},
};
use tokio::time::Instant;
use wire::{
    subject::BudgetCall,
    v1::{self, execute_request::Method},
};

use super::{Coordinator, attempt::Try};

/// A manager that is there answers within this.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// Between looks at a budget whose money is set aside for others.
const QUEUE: Duration = Duration::from_millis(250);

/// Money that is set aside, and the bound that it counts on.
#[derive(Debug, Default)]
pub(super) struct Reserved {
    /// Stands in the usage event, which settles it; empty = nothing was set aside.
    pub(super) id: String,
    /// The answer may have so many tokens at most; `None` = as the request says.
    pub(super) output_max: Option<u32>,
}

impl Coordinator {
    /// Sets money aside for a try.
    ///
    /// # Errors
    /// `BudgetExceeded`, retryable when a candidate that costs nothing may serve instead; `Unavailable` when nobody keeps the
    /// budgets: what cannot be set aside is not spent.
    pub(super) async fn reserve(&self, step: &Try<'_>) -> Result<Reserved, Fault> {
        let deployment = &step.candidate.deployment;
        let request = &step.asked.request;
        let Some(price) = deployment.price.filter(|_| step.has_budgets) else {
            return Ok(Reserved::default());
        };
        let (output, output_max) = match request.max_output() {
            Some(asked) => (asked, None),
            None => {
                let bound = self.limits.output_when_budgeted;
                (Tokens::new(u64::from(bound)), Some(bound))
            }
        };
        let amount = price.worst_case(&request.most(output));
        if amount == Money::ZERO {
            return Ok(Reserved::default());
        }
        let id = self.reservations.next(self.bus.instance());
        let envelope = request.envelope();
        let until = step.deadline.saturating_duration_since(Instant::now()) + self.limits.last_word;
        let ask = v1::BudgetRequest {
            reserve: Some(v1::Reserve {
                reservation_id: id.clone(),
                provider: deployment.provider.clone(),
                agent: envelope.agent.as_ref().map(ToString::to_string).unwrap_or_default(),
                amount_picodollars: amount.as_picodollars(),
                valid_ms: u64::try_from(until.as_millis()).unwrap_or(u64::MAX),
                request_id: envelope.id.to_string(),
                attempt: step.number,
                deployment: deployment.id.to_string(),
                key: step.asked.visitor.tenant(),
            }),
        };
        loop {
            let Some(exceeded) = self.ask_budgets(&ask).await? else {
                return Ok(Reserved { id, output_max });
            };
            let standing = exceeded.budget.clone().unwrap_or_default();
            let wait = self.wait_for(&standing, exceeded.asked_picodollars);
            let queued = standing.when_spent() == v1::WhenSpent::Queue;
            if !queued || Instant::now() + wait >= step.deadline {
                return Err(refusal(&standing, amount, wait));
            }
            tokio::time::sleep(wait).await;
        }
    }

    async fn ask_budgets(&self, ask: &v1::BudgetRequest) -> Result<Option<v1::BudgetExceeded>, Fault> {
        let machine = self.bus.machine().clone();
        let reply = self.bus.call_within(&BudgetCall(machine), ask, ANSWER_MAX).await.map_err(|error| {
            let message = format!("no money can be set aside for the call: {error}");
            Fault::new(Code::Unavailable, Origin::Internal, true, message)
        })?;
        match reply.error {
            Some(error) => Err(error.into()),
            None => Ok(reply.exceeded),
        }
    }

    /// Until there may be room: soon, when what is set aside would leave some, else when the budget starts anew.
    fn wait_for(&self, standing: &v1::BudgetStanding, asked: i64) -> Duration {
        if standing.spent_picodollars.saturating_add(asked) <= standing.allowed_picodollars {
            return QUEUE;
        }
        let now = self.clock.now_unix_ms();
        Duration::from_millis(standing.resets_unix_ms.saturating_sub(now)).max(QUEUE)
    }
}

fn refusal(standing: &v1::BudgetStanding, amount: Money, wait: Duration) -> Fault {
    let money = Money::picodollars;
    let message = format!(
        "budget {} has no room for a call of up to {amount}: {} of {} are spent, {} set aside for calls under way",
        standing.name,
        money(standing.spent_picodollars),
        money(standing.allowed_picodollars),
        money(standing.reserved_picodollars),
    );
    let local = standing.when_spent() == v1::WhenSpent::Local;
    Fault::new(Code::BudgetExceeded, Origin::Policy, local, message).after(wait)
}

/// Gives a request without a bound on its answer the one that was counted on.
pub(super) fn bounded(mut method: Method, output_max: Option<u32>) -> Method {
    if let (Method::Generate(request), Some(bound)) = (&mut method, output_max) {
        request.sampling.get_or_insert_default().max_tokens.get_or_insert(bound);
    }
    method
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_of_the_caller_stays() {
        let request = |max_tokens: Option<u32>| {
            Method::Generate(v1::GenerateRequest {
                sampling: max_tokens
                    .map(|count| v1::Sampling { max_tokens: Some(count), ..Default::default() }),
                ..Default::default()
            })
        };
        assert_eq!(bounded(request(None), Some(7)), request(Some(7)));
        assert_eq!(bounded(request(Some(3)), Some(7)), request(Some(3)));
        assert_eq!(bounded(request(None), None), request(None));
    }

    #[test]
    fn a_refusal_says_how_the_budget_stands_and_whether_another_place_may_serve() {
        let standing = |when_spent: v1::WhenSpent| v1::BudgetStanding {
            name: "daily".to_owned(),
            when_spent: when_spent.into(),
            allowed_picodollars: 10_000_000_000_000,
            spent_picodollars: 9_500_000_000_000,
            ..Default::default()
        };
        let amount = Money::picodollars(1_000_000_000_000);
        let fault = refusal(&standing(v1::WhenSpent::Local), amount, Duration::from_secs(5));
        assert!(
            fault
                .message
                .contains("budget daily has no room for a call of up to $1.00: $9.50 of $10.00 are spent")
        );
        assert!(fault.retryable && fault.retry_after == Some(Duration::from_secs(5)));
        assert!(!refusal(&standing(v1::WhenSpent::Reject), amount, Duration::ZERO).retryable);
    }
}
