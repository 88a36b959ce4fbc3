//! The circuit breaker of one deployment and how its calls went lately, shared by all calls.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use domain::{
    fault::Fault,
    resilience::{
        breaker::{Breaker, Outcome, Permit, Refused, Rules, Standing},
        health::{Health, Summary},
    },
};
use tokio::{sync::Notify, time::Instant};

/// How far back "lately" goes.
const LATELY: Duration = Duration::from_secs(300);
/// Fewer calls say nothing.
const CALLS_MIN: u32 = 10;
/// From this share of failures on a deployment counts as failing often, percent.
const OFTEN: u32 = 20;
/// How long a caller is told to wait while a probe is under way.
const PROBING: Duration = Duration::from_secs(1);

/// One deployment's breaker and health.
pub(crate) struct Circuit {
    began: Instant,
    state: Mutex<State>,
    /// Told when calls begin or cease to pass.
    changed: Arc<Notify>,
}

struct State {
    breaker: Breaker,
    health: Health,
    /// The last failure.
    why: String,
}

/// No call may be made now.
#[derive(Debug)]
pub(crate) struct Stopped {
    pub(crate) wait: Duration,
    /// The last failure.
    pub(crate) why: String,
}

/// How it stands.
#[derive(Debug)]
pub(crate) struct Condition {
    pub(crate) standing: Standing,
    pub(crate) summary: Summary,
    /// What is wrong, for people, in words that stay the same while the reason does; empty when nothing is.
    pub(crate) detail: String,
}

impl Circuit {
    pub(crate) fn new(rules: Rules, changed: Arc<Notify>) -> Self {
        let state = State { breaker: Breaker::new(rules), health: Health::new(LATELY), why: String::new() };
        Self { began: Instant::now(), state: Mutex::new(state), changed }
    }

    /// Asks to make a call.
    ///
    /// # Errors
    /// The breaker is open, or its only probe is under way.
    pub(crate) fn enter(&self) -> Result<Pass<'_>, Stopped> {
        let mut state = self.lock();
        let admitted = state.breaker.admit(self.now());
        admitted
            .map(|permit| Pass { circuit: self, permit: Some(permit), entered: Instant::now(), first: None })
            .map_err(|refused| {
                let wait = match refused {
                    Refused::Open(wait) => wait,
                    Refused::Probing => PROBING,
                };
                Stopped { wait, why: state.why.clone() }
            })
    }

    pub(crate) fn condition(&self) -> Condition {
        let (state, now) = (self.lock(), self.now());
        let (standing, summary) = (state.breaker.standing(now), state.health.summary(now));
        let percent = summary.failure_percent();
        let detail = match standing {
            Standing::Open(_) => format!("the circuit breaker is open: {}", state.why),
            Standing::HalfOpen => format!("tried again with one request at a time: {}", state.why),
            // by tens, so that it is not told anew with each call
            Standing::Closed if summary.calls >= CALLS_MIN && percent >= OFTEN => {
                format!(
                    "fails often: more than {} % of the calls of the last five minutes",
                    percent / 10 * 10
                )
            }
            Standing::Closed => String::new(),
        };
        Condition { standing, summary, detail }
    }

    /// How long an open breaker stays so.
    pub(crate) fn closes_in(&self) -> Option<Duration> {
        match self.lock().breaker.standing(self.now()) {
            Standing::Open(until) => Some(until.saturating_sub(self.now())),
            Standing::Closed | Standing::HalfOpen => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn tell(&self, before: Standing, after: Standing) {
        if std::mem::discriminant(&before) != std::mem::discriminant(&after) {
            self.changed.notify_one();
        }
    }
}

/// Leave to make one call. Dropped, it says nothing about the provider: the call was cancelled, or the caller's mistake.
pub(crate) struct Pass<'a> {
    circuit: &'a Circuit,
    permit: Option<Permit>,
    entered: Instant,
    first: Option<Duration>,
}

impl Pass<'_> {
    /// The answer has begun.
    pub(crate) fn begun(&mut self) {
        let Some(permit) = self.permit.as_mut().filter(|_| self.first.is_none()) else { return };
        self.first = Some(self.entered.elapsed());
        let (mut state, now) = (self.circuit.lock(), self.circuit.now());
        let before = state.breaker.standing(now);
        state.breaker.begun(permit, now);
        self.circuit.tell(before, state.breaker.standing(now));
    }

    /// The answer is whole.
    pub(crate) fn succeeded(mut self) {
        self.first.get_or_insert(self.entered.elapsed());
        self.end(Outcome::Success);
    }

    /// The call failed as in an outage.
    pub(crate) fn failed(mut self, fault: &Fault) {
        fault.message.clone_into(&mut self.circuit.lock().why);
        self.end(Outcome::Failure);
    }

    fn end(&mut self, outcome: Outcome) {
        let Some(permit) = self.permit.take() else { return };
        let (mut state, now) = (self.circuit.lock(), self.circuit.now());
        let before = state.breaker.standing(now);
        state.breaker.ended(permit, outcome, now);
        if outcome != Outcome::Neutral {
            state.health.record(outcome == Outcome::Success, self.first, now);
        }
        self.circuit.tell(before, state.breaker.standing(now));
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.end(Outcome::Neutral);
    }
}

#[cfg(test)]
mod tests {
    use domain::fault::{Code, Origin};

    use super::*;

    fn circuit() -> (Circuit, Arc<Notify>) {
        let changed = Arc::new(Notify::new());
        (Circuit::new(Rules::default(), Arc::clone(&changed)), changed)
    }

    fn down() -> Fault {
        Fault::new(Code::Upstream, Origin::Provider, true, "acme answered 503")
    }

    fn fail(circuit: &Circuit, times: usize) {
        for _ in 0..times {
            circuit.enter().unwrap_or_else(|_| panic!("open")).failed(&down());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_told_and_its_end_too() {
        let (circuit, changed) = circuit();
        fail(&circuit, 5);
        changed.notified().await;
        let stopped = circuit.enter().err().unwrap();
        assert_eq!((stopped.wait, stopped.why.as_str()), (Duration::from_secs(30), "acme answered 503"));
        assert!(circuit.condition().detail.contains("open: acme answered 503"));

        tokio::time::advance(Duration::from_secs(29)).await;
        assert_eq!(circuit.closes_in(), Some(Duration::from_secs(1)));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!((circuit.condition().standing, circuit.closes_in()), (Standing::HalfOpen, None));
        let mut probe = circuit.enter().unwrap_or_else(|_| panic!("open"));
        assert_eq!(circuit.enter().err().unwrap().wait, PROBING);
        probe.begun();
        changed.notified().await;
        assert_eq!(circuit.condition().standing, Standing::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_is_dropped_leaves_room_for_another() {
        let (circuit, _) = circuit();
        fail(&circuit, 5);
        tokio::time::advance(Duration::from_secs(30)).await;
        drop(circuit.enter());
        assert!(circuit.enter().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_deployment_that_fails_often_says_so_in_words_that_last() {
        let (circuit, _) = circuit();
        for _ in 0..7 {
            circuit.enter().unwrap_or_else(|_| panic!("open")).succeeded();
        }
        fail(&circuit, 2);
        assert_eq!(circuit.condition().detail, "", "nine calls say nothing");
        fail(&circuit, 1);
        let told = circuit.condition().detail;
        assert!(told.contains("30 %"), "{told}");
        circuit.enter().unwrap_or_else(|_| panic!("open")).failed(&down());
        assert_eq!(circuit.condition().detail, told, "36 % is told as 30 %");
        tokio::time::advance(Duration::from_secs(400)).await;
        assert_eq!(circuit.condition().detail, "");
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_to_the_first_piece_is_kept() {
        let (circuit, _) = circuit();
        let mut pass = circuit.enter().unwrap_or_else(|_| panic!("open"));
        tokio::time::advance(Duration::from_millis(300)).await;
        pass.begun();
        tokio::time::advance(Duration::from_secs(9)).await;
        pass.succeeded();
        assert_eq!(circuit.condition().summary.latency, Some(Duration::from_millis(300)));
    }
}
