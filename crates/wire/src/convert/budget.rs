//! Budgets: standings, reservations, and the book that a manager keeps.

use domain::{
    budget::{Account, Call, Exceeded, Kept, Origin, Period, Reservation, Seen, Spender, WhenSpent},
    fault::Fault,
    units::Money,
};

use crate::v1;

/// Length of a reservation's id.
const ID_MAX: usize = 128;
/// A day.
const VALID_MS_MAX: u64 = 24 * 60 * 60 * 1_000;

impl From<&Account> for v1::BudgetStanding {
    fn from(account: &Account) -> Self {
        let budget = &account.budget;
        Self {
            name: budget.name.clone(),
            scope: budget.scope.to_string(),
            period: match budget.period {
                Period::Day => v1::BudgetPeriod::Day,
                Period::Month => v1::BudgetPeriod::Month,
            }
            .into(),
            when_spent: match budget.when_spent {
                WhenSpent::Reject => v1::WhenSpent::Reject,
                WhenSpent::Local => v1::WhenSpent::Local,
                WhenSpent::Queue => v1::WhenSpent::Queue,
            }
            .into(),
            limit_picodollars: budget.limit.as_picodollars(),
            allowed_picodollars: budget.allowed().as_picodollars(),
            spent_picodollars: account.spent.as_picodollars(),
            reserved_picodollars: account.reserved.as_picodollars(),
            window_unix_ms: account.window_unix_ms,
            resets_unix_ms: account.resets_unix_ms(),
            alert_millionths: budget.alert_at.as_millionths(),
            alerted: account.alerted,
        }
    }
}

impl From<&Exceeded> for v1::BudgetExceeded {
    fn from(exceeded: &Exceeded) -> Self {
        Self { budget: Some((&exceeded.account).into()), asked_picodollars: exceeded.asked.as_picodollars() }
    }
}

impl v1::Reserve {
    /// The reservation and its id, checked.
    ///
    /// # Errors
    /// `InvalidArgument` naming the field.
    pub fn check(self, now_unix_ms: u64) -> Result<(String, Reservation), Fault> {
        let id = self.reservation_id;
        if id.is_empty() || id.len() > ID_MAX || !id.chars().all(|c| c.is_ascii_graphic()) {
            let start: String = id.chars().take(ID_MAX).collect();
            let message = format!("reservation_id is {start:?}, expected 1 to {ID_MAX} visible characters");
            return Err(Fault::invalid("reservation_id", message));
        }
        if self.amount_picodollars <= 0 {
            let message = format!("amount_picodollars is {}, expected more than 0", self.amount_picodollars);
            return Err(Fault::invalid("amount_picodollars", message));
        }
        if !(1..=VALID_MS_MAX).contains(&self.valid_ms) {
            let message = format!("valid_ms is {}, expected 1 to {VALID_MS_MAX}", self.valid_ms);
            return Err(Fault::invalid("valid_ms", message));
        }
        let reservation = Reservation {
            call: Call { request_id: self.request_id, attempt: self.attempt, deployment: self.deployment },
            spender: Spender { provider: self.provider, agent: self.agent, key: self.key },
            amount: Money::picodollars(self.amount_picodollars),
            until_unix_ms: now_unix_ms.saturating_add(self.valid_ms),
        };
        Ok((id, reservation))
    }
}

impl v1::BudgetBook {
    /// The message that keeps a book.
    #[must_use]
    pub fn new(kept: Kept, settled_sequence: u64) -> Self {
        let accounts = kept.accounts.into_iter().map(|(name, window_unix_ms, spent, alerted)| {
            let spent_picodollars = spent.as_picodollars();
            v1::budget_book::Account { name, window_unix_ms, spent_picodollars, alerted }
        });
        let open = kept.open.into_iter().map(|(id, reservation)| v1::budget_book::Open {
            id,
            provider: reservation.spender.provider,
            agent: reservation.spender.agent,
            key: reservation.spender.key,
            amount_picodollars: reservation.amount.as_picodollars(),
            until_unix_ms: reservation.until_unix_ms,
            request_id: reservation.call.request_id,
            attempt: reservation.call.attempt,
            deployment: reservation.call.deployment,
        });
        let assumed = kept.assumed.into_iter().map(|(id, charged, at_unix_ms)| v1::budget_book::Assumed {
            id,
            charged_picodollars: charged.as_picodollars(),
            at_unix_ms,
        });
        let origins = kept.seen.0.into_iter().map(|(instance, origin)| v1::budget_book::Origin {
            instance,
            ranges: origin.ranges.iter().flat_map(|(first, last)| [*first, *last]).collect(),
            at_unix_ms: origin.at_unix_ms,
        });
        Self {
            accounts: accounts.collect(),
            open: open.collect(),
            assumed: assumed.collect(),
            settled_sequence,
            origins: origins.collect(),
        }
    }

    /// What was kept.
    #[must_use]
    pub fn kept(self) -> Kept {
        let accounts = self.accounts.into_iter().map(|account| {
            let spent = Money::picodollars(account.spent_picodollars);
            (account.name, account.window_unix_ms, spent, account.alerted)
        });
        let open = self.open.into_iter().map(|open| {
            let reservation = Reservation {
                call: Call {
                    request_id: open.request_id,
                    attempt: open.attempt,
                    deployment: open.deployment,
                },
                spender: Spender { provider: open.provider, agent: open.agent, key: open.key },
                amount: Money::picodollars(open.amount_picodollars),
                until_unix_ms: open.until_unix_ms,
            };
            (open.id, reservation)
        });
        let assumed = self.assumed.into_iter();
        let assumed =
            assumed.map(|one| (one.id, Money::picodollars(one.charged_picodollars), one.at_unix_ms));
        let origins = self.origins.into_iter().map(|origin| {
            let pairs = origin.ranges.as_chunks().0.iter();
            let ranges = pairs.map(|[first, last]: &[u64; 2]| (*first, *last)).collect();
            (origin.instance, Origin { ranges, at_unix_ms: origin.at_unix_ms })
        });
        Kept {
            accounts: accounts.collect(),
            open: open.collect(),
            assumed: assumed.collect(),
            seen: Seen(origins.collect()),
        }
    }
}
