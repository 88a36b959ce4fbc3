//! Budgets that are not exceeded: reserve the most a call can cost, settle what it did cost.
//!
//! Each machine has its own [`Book`] with its own part of each budget, so that two machines that cannot hear each other still
//! cannot overspend together. A reservation whose end is never heard of is charged in full: too much spent on paper is put right
//! when the event comes, too much spent for real is not.
//!
//! Invariant: while every call costs at most what was reserved for it, spent and reserved together never exceed a machine's part
//! of any budget.

mod scope;
mod seen;

use std::collections::BTreeMap;

use crate::{routing::BudgetLeft, simulation::Share, units::Money};

pub use scope::Scope;
pub use seen::{Origin, Seen};

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
/// How long a reservation that ran out is remembered, so that a late event corrects its charge.
const REMEMBERED_MS: u64 = 2 * DAY_MS;

/// When a budget starts anew, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Period {
    /// At midnight.
    Day,
    /// On the first of the month.
    Month,
}

impl Period {
    /// Start of the window that holds this moment, Unix time in milliseconds.
    #[must_use]
    pub const fn start(self, unix_ms: u64) -> u64 {
        let day = unix_ms / DAY_MS;
        match self {
            Self::Day => day * DAY_MS,
            Self::Month => (day - (day_of_month(day) - 1)) * DAY_MS,
        }
    }

    /// Start of the next window.
    #[must_use]
    pub const fn end(self, unix_ms: u64) -> u64 {
        match self {
            Self::Day => self.start(unix_ms) + DAY_MS,
            // the longest month has 31 days, the shortest two 59
            Self::Month => self.start(self.start(unix_ms) + 31 * DAY_MS),
        }
    }
}

/// Day of the month, 1 to 31, of a day since 1970 (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`).
const fn day_of_month(days: u64) -> u64 {
    let shifted = days + 719_468;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    of_year - (153 * month + 2) / 5 + 1
}

/// What becomes of a request that a budget has no room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenSpent {
    /// It is refused.
    Reject,
    /// It runs where it costs nothing, if it can.
    Local,
    /// It waits for room until its deadline, then it is refused.
    Queue,
}

/// One budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// Its name in answers, alerts and metrics.
    pub name: String,
    /// Whose spending.
    pub scope: Scope,
    /// How often it starts anew.
    pub period: Period,
    /// For all machines together.
    pub limit: Money,
    /// This machine's part of it.
    pub allowance: Share,
    /// What happens when there is no room.
    pub when_spent: WhenSpent,
    /// Part of this machine's part at which people are told.
    pub alert_at: Share,
}

impl Budget {
    /// What this machine may spend in a window.
    #[must_use]
    pub fn allowed(&self) -> Money {
        // rounded down: the parts of all machines together must not be more than the whole
        let part =
            i128::from(self.limit.as_picodollars()) * i128::from(self.allowance.as_millionths()) / 1_000_000;
        Money::picodollars(i64::try_from(part).unwrap_or(i64::MAX))
    }
}

/// Who spends, and on whom. Empty = not known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spender {
    /// Provider that is called.
    pub provider: String,
    /// Agent that asks.
    pub agent: String,
    /// Id of the virtual key that was shown.
    pub key: String,
}

/// One attempt to answer a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Call {
    /// The request.
    pub request_id: String,
    /// Starting at 1.
    pub attempt: u32,
    /// Where it runs.
    pub deployment: String,
}

/// Money set aside for a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// What it is for.
    pub call: Call,
    /// Who spends it.
    pub spender: Spender,
    /// The most that the call can cost.
    pub amount: Money,
    /// Unix time in milliseconds after which nothing more is heard of the call.
    pub until_unix_ms: u64,
}

/// A budget has no room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exceeded {
    /// How it stands.
    pub account: Account,
    /// What was asked for.
    pub asked: Money,
}

impl Exceeded {
    /// Whether there may be room before the next window: calls under way may cost less than was set aside for them.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        self.account.spent + self.asked <= self.account.budget.allowed()
    }
}

impl std::fmt::Display for Exceeded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "budget {} has no room for {}: {} of {} are spent, {} set aside for calls under way",
            self.account.budget.name,
            self.asked,
            self.account.spent,
            self.account.budget.allowed(),
            self.account.reserved
        )
    }
}

/// How a budget stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The budget.
    pub budget: Budget,
    /// Start of the window, Unix time in milliseconds.
    pub window_unix_ms: u64,
    /// In this window.
    pub spent: Money,
    /// For calls under way.
    pub reserved: Money,
    /// Whether people were told in this window.
    pub alerted: bool,
}

impl Account {
    /// As routing looks at it. Money set aside is not counted: much of it comes back, and what does not fit is refused when it
    /// is to be set aside. Of a window that has begun without a call nothing is spent.
    #[must_use]
    pub fn left(&self, now_unix_ms: u64) -> BudgetLeft {
        let allowed = self.budget.allowed();
        let spent = if now_unix_ms >= self.resets_unix_ms() { Money::ZERO } else { self.spent };
        BudgetLeft {
            name: self.budget.name.clone(),
            scope: self.budget.scope.clone(),
            allowed,
            left: Money::picodollars(allowed.as_picodollars().saturating_sub(spent.as_picodollars()).max(0)),
            degrades: self.budget.when_spent == WhenSpent::Local,
        }
    }

    /// When the next window begins, Unix time in milliseconds.
    #[must_use]
    pub const fn resets_unix_ms(&self) -> u64 {
        self.budget.period.end(self.window_unix_ms)
    }
}

/// A charge that was made because nothing was heard of its call.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Assumed {
    charged: Money,
    at_unix_ms: u64,
}

/// The budgets of one machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Book {
    accounts: Vec<Account>,
    open: BTreeMap<String, Reservation>,
    assumed: BTreeMap<String, Assumed>,
    seen: Seen,
}

/// What of a [`Book`] has to survive a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// Budget's name, start of the window, spent, alerted.
    pub accounts: Vec<(String, u64, Money, bool)>,
    /// Reservations by id.
    pub open: Vec<(String, Reservation)>,
    /// Reservations that ran out: id, charged, when.
    pub assumed: Vec<(String, Money, u64)>,
    /// Events that were settled.
    pub seen: Seen,
}

impl Book {
    /// The book as it was kept, under the budgets of today: a budget that is new starts with nothing spent.
    #[must_use]
    pub fn new(budgets: Vec<Budget>, kept: Kept) -> Self {
        let accounts = budgets
            .into_iter()
            .map(|budget| {
                let known = kept.accounts.iter().find(|(name, ..)| *name == budget.name);
                let (window_unix_ms, spent, alerted) = known
                    .map_or((0, Money::ZERO, false), |(_, window, spent, alerted)| {
                        (*window, *spent, *alerted)
                    });
                Account { budget, window_unix_ms, spent, reserved: Money::ZERO, alerted }
            })
            .collect();
        let assumed =
            kept.assumed.into_iter().map(|(id, charged, at_unix_ms)| (id, Assumed { charged, at_unix_ms }));
        let open = kept.open.into_iter().collect();
        let mut book = Self { accounts, open, assumed: assumed.collect(), seen: kept.seen };
        book.count_reserved();
        book
    }

    /// What has to survive a restart.
    #[must_use]
    pub fn kept(&self) -> Kept {
        let account = |account: &Account| {
            (account.budget.name.clone(), account.window_unix_ms, account.spent, account.alerted)
        };
        Kept {
            accounts: self.accounts.iter().map(account).collect(),
            open: self.open.iter().map(|(id, reservation)| (id.clone(), reservation.clone())).collect(),
            assumed: self
                .assumed
                .iter()
                .map(|(id, assumed)| (id.clone(), assumed.charged, assumed.at_unix_ms))
                .collect(),
            seen: self.seen.clone(),
        }
    }

    /// Other budgets from now on; what was spent under a name that stays is still spent.
    pub fn replace(&mut self, budgets: Vec<Budget>) {
        *self = Self::new(budgets, self.kept());
    }

    /// How each budget stands.
    #[must_use]
    pub fn accounts(&self) -> &[Account] {
        &self.accounts
    }

    /// Calls under way.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// Sets money aside. The same id again is the same reservation.
    ///
    /// # Errors
    /// The first budget that has no room; nothing is set aside then.
    pub fn reserve(&mut self, id: &str, reservation: Reservation, now_unix_ms: u64) -> Result<(), Exceeded> {
        self.roll(now_unix_ms);
        if self.open.contains_key(id) {
            return Ok(());
        }
        let covering = |account: &&Account| account.budget.scope.covers(&reservation.spender);
        for account in self.accounts.iter().filter(covering) {
            if account.spent + account.reserved + reservation.amount > account.budget.allowed() {
                return Err(Exceeded { account: account.clone(), asked: reservation.amount });
            }
        }
        for account in &mut self.accounts {
            if account.budget.scope.covers(&reservation.spender) {
                account.reserved = account.reserved + reservation.amount;
            }
        }
        self.open.insert(id.to_owned(), reservation);
        Ok(())
    }

    /// Whether an event has to be settled: one that comes again is not.
    pub fn first_time(&mut self, origin: &str, number: u64, now_unix_ms: u64) -> bool {
        self.seen.first_time(origin, number, now_unix_ms)
    }

    /// A call ended at `at_unix_ms` and cost so much; one that ended in an earlier window is not charged to this one. `spender`
    /// counts for a call without a reservation. Returns the accounts that people have to be told of.
    pub fn settle(&mut self, id: &str, spender: &Spender, cost: Money, at_unix_ms: u64) -> Vec<Account> {
        self.roll(at_unix_ms);
        let (spender, change) = if let Some(reservation) = self.open.remove(id) {
            self.free(&reservation);
            (reservation.spender, cost.as_picodollars())
        } else {
            let charged = self.assumed.remove(id).map_or(0, |assumed| assumed.charged.as_picodollars());
            (spender.clone(), cost.as_picodollars().saturating_sub(charged))
        };
        self.charge(&spender, change, at_unix_ms)
    }

    /// Charges the reservations of which nothing was heard in time; returns their ids with them, and the accounts that people have
    /// to be told of.
    pub fn expire(&mut self, now_unix_ms: u64) -> (Vec<(String, Reservation)>, Vec<Account>) {
        self.roll(now_unix_ms);
        self.assumed.retain(|_, assumed| assumed.at_unix_ms.saturating_add(REMEMBERED_MS) > now_unix_ms);
        let late = |reservation: &Reservation| reservation.until_unix_ms < now_unix_ms;
        let ids: Vec<String> =
            self.open.iter().filter(|(_, reservation)| late(reservation)).map(|(id, _)| id.clone()).collect();
        let mut expired = Vec::with_capacity(ids.len());
        let mut told = Vec::new();
        for id in ids {
            let Some(reservation) = self.open.remove(&id) else { continue };
            self.free(&reservation);
            told.extend(self.charge(&reservation.spender, reservation.amount.as_picodollars(), now_unix_ms));
            self.assumed.insert(id.clone(), Assumed { charged: reservation.amount, at_unix_ms: now_unix_ms });
            expired.push((id, reservation));
        }
        (expired, told)
    }

    fn free(&mut self, reservation: &Reservation) {
        for account in &mut self.accounts {
            if account.budget.scope.covers(&reservation.spender) {
                let left = account.reserved.as_picodollars() - reservation.amount.as_picodollars();
                account.reserved = Money::picodollars(left.max(0));
            }
        }
    }

    fn charge(&mut self, spender: &Spender, picodollars: i64, at_unix_ms: u64) -> Vec<Account> {
        let mut told = Vec::new();
        for account in &mut self.accounts {
            if !account.budget.scope.covers(spender) || at_unix_ms < account.window_unix_ms {
                continue;
            }
            let spent = account.spent.as_picodollars().saturating_add(picodollars).max(0);
            account.spent = Money::picodollars(spent);
            if !account.alerted && account.spent >= account.budget.alert_at.part_of(account.budget.allowed())
            {
                account.alerted = true;
                told.push(account.clone());
            }
        }
        told
    }

    /// Starts the windows that have begun. Money set aside stays so: its calls end in the new window.
    fn roll(&mut self, now_unix_ms: u64) {
        for account in &mut self.accounts {
            let start = account.budget.period.start(now_unix_ms);
            // a clock that was set back opens no window again
            if start > account.window_unix_ms {
                account.window_unix_ms = start;
                account.spent = Money::ZERO;
                account.alerted = false;
            }
        }
    }

    fn count_reserved(&mut self) {
        for account in &mut self.accounts {
            let covered =
                self.open.values().filter(|reservation| account.budget.scope.covers(&reservation.spender));
            account.reserved = covered.map(|reservation| reservation.amount).sum();
        }
    }
}

#[cfg(test)]
mod tests;
