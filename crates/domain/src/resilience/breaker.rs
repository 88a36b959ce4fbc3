//! The circuit breaker of one deployment: a provider that is down is not asked by everybody, but by one request now and then.
//!
//! ```text
//!            failures in a row, or their share in the window
//!   closed ─────────────────────────────────────────────────► open ◄──┐
//!     ▲                                                        │      │ the probe failed: longer
//!     │ the probe got an answer                      its time  │      │
//!     └──────────────────────────── half-open ◄────────────────┘      │
//!                                   one probe ────────────────────────┘
//! ```
//!
//! Whoever wants to call asks for a [`Permit`] and gives it back with the outcome. Invariants: at most one probe is under
//! way; nothing passes while open; what began before the state last changed has no say in it (a slow success from before the
//! outage does not end the outage). Times are durations since any fixed moment of a monotonic clock.

use std::time::Duration;

use super::health::Health;

/// When it opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Failures in a row; 0 = not by this rule. Envoy's default for outlier detection is 5.
    pub failures: u32,
    /// Share of the calls in the window that failed, percent; 0 = not by this rule.
    pub failure_percent: u32,
    /// Calls in the window below which their share says nothing.
    pub calls_min: u32,
    /// The window.
    pub window: Duration,
    /// How long it stays open, times the number of times it opened without being well for [`Rules::open_max`] in between
    /// (Envoy's rule for ejections).
    pub open: Duration,
    /// Longest time to stay open.
    pub open_max: Duration,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            failures: 5,
            failure_percent: 50,
            calls_min: 30,
            window: Duration::from_secs(60),
            open: Duration::from_secs(30),
            open_max: Duration::from_secs(300),
        }
    }
}

/// Leave to make one call. Comes back with [`Breaker::ended`], whatever became of the call.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a permit that does not come back may hold the only probe"]
pub struct Permit {
    epoch: u64,
    probe: bool,
}

/// How a call went, as far as the provider's health is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It answered.
    Success,
    /// It failed as in an outage: server errors, silence, no connection, a cut.
    Failure,
    /// Says nothing: the caller's own mistake or cancel, a key that was refused.
    Neutral,
}

/// Why a call may not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It is open for so long.
    Open(Duration),
    /// Half-open, and the probe is under way.
    Probing,
}

/// The state, for people and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Calls pass.
    Closed,
    /// One call may pass.
    HalfOpen,
    /// No call passes before this time.
    Open(Duration),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    Open { until: Duration },
    HalfOpen { probing: bool },
}

/// One deployment's breaker.
#[derive(Debug, Clone)]
pub struct Breaker {
    rules: Rules,
    state: State,
    /// Grows with each change of state; a permit of an earlier one has no say.
    epoch: u64,
    calls: Health,
    in_a_row: u32,
    /// Times it opened without a good while in between.
    opened: u32,
    closed_at: Duration,
}

impl Breaker {
    /// Closed.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            state: State::Closed,
            epoch: 0,
            calls: Health::new(rules.window),
            in_a_row: 0,
            opened: 0,
            closed_at: Duration::ZERO,
        }
    }

    /// Asks to make a call.
    ///
    /// # Errors
    /// [`Refused`]: it is open, or half-open with its probe under way.
    pub fn admit(&mut self, now: Duration) -> Result<Permit, Refused> {
        match self.state {
            State::Closed => return Ok(Permit { epoch: self.epoch, probe: false }),
            State::Open { until } if now < until => return Err(Refused::Open(until.saturating_sub(now))),
            State::HalfOpen { probing: true } => return Err(Refused::Probing),
            State::Open { .. } => self.turn(State::HalfOpen { probing: true }),
            State::HalfOpen { probing: false } => self.state = State::HalfOpen { probing: true },
        }
        Ok(Permit { epoch: self.epoch, probe: true })
    }

    /// The call's answer has begun. Enough for a probe: a long answer need not be waited for. What becomes of the rest
    /// counts as of any other call.
    pub fn begun(&mut self, permit: &mut Permit, now: Duration) {
        if permit.probe && permit.epoch == self.epoch {
            self.close(now);
            *permit = Permit { epoch: self.epoch, probe: false };
        }
    }

    /// The call is over.
    pub fn ended(&mut self, permit: Permit, outcome: Outcome, now: Duration) {
        if permit.epoch != self.epoch {
            return;
        }
        match (permit.probe, outcome) {
            (true, Outcome::Success) => self.close(now),
            (true, Outcome::Failure) => self.open(now),
            (true, Outcome::Neutral) => self.state = State::HalfOpen { probing: false },
            (false, Outcome::Neutral) => {}
            (false, Outcome::Success) => {
                self.in_a_row = 0;
                self.calls.record(true, None, now);
            }
            (false, Outcome::Failure) => {
                self.in_a_row = self.in_a_row.saturating_add(1);
                self.calls.record(false, None, now);
                if self.has_failed(now) {
                    self.open(now);
                }
            }
        }
    }

    /// The state at `now`.
    #[must_use]
    pub fn standing(&self, now: Duration) -> Standing {
        match self.state {
            State::Closed => Standing::Closed,
            State::Open { until } if now < until => Standing::Open(until),
            State::Open { .. } | State::HalfOpen { .. } => Standing::HalfOpen,
        }
    }

    fn has_failed(&self, now: Duration) -> bool {
        let Rules { failures, failure_percent, calls_min, .. } = self.rules;
        let calls = self.calls.summary(now);
        (failures > 0 && self.in_a_row >= failures)
            || (failure_percent > 0
                && calls.calls >= calls_min.max(1)
                && calls.failure_percent() >= failure_percent)
    }

    fn open(&mut self, now: Duration) {
        let well_for = now.saturating_sub(self.closed_at);
        if self.state == State::Closed && well_for > self.rules.open_max {
            self.opened = 0;
        }
        self.opened = self.opened.saturating_add(1);
        let time = self.rules.open.saturating_mul(self.opened).min(self.rules.open_max);
        self.turn(State::Open { until: now.saturating_add(time) });
    }

    fn close(&mut self, now: Duration) {
        self.closed_at = now;
        self.in_a_row = 0;
        self.calls = Health::new(self.rules.window);
        self.turn(State::Closed);
    }

    fn turn(&mut self, state: State) {
        self.state = state;
        self.epoch = self.epoch.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests;
