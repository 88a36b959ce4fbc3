//! What holds whatever comes: a small machine in simulated time, one service a request, engines that load and answer, now and
//! then one that dies, callers who give up.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::*;

const LOAD: Duration = Duration::from_secs(2);
const SLOTS: u32 = 2;
const STEP: Duration = Duration::from_millis(500);

const POLICY: Policy = Policy {
    resident_max: Some(1),
    wait_max: Duration::from_secs(20),
    return_after: Duration::from_secs(300),
    notice: Duration::from_secs(1),
    lost_drain_max: Duration::from_secs(5),
    use_half_life: Duration::from_secs(600),
};

#[derive(Debug, Clone)]
struct Arrival {
    at: Duration,
    model: usize,
    service: Duration,
    urgency: Urgency,
}

fn arrivals(models: usize, count: usize) -> impl Strategy<Value = Vec<Arrival>> {
    let one = (0..120_u64, 0..models, 1..6_u64).prop_map(|(at, model, service)| Arrival {
        at: Duration::from_secs(at),
        model,
        service: Duration::from_secs(service),
        urgency: Urgency::Normal,
    });
    prop::collection::vec(one, 1..count).prop_map(|mut all| {
        all.sort_by_key(|arrival| arrival.at);
        all
    })
}

/// A machine: requests for a warm model go to its engine directly, as in production.
struct World {
    lifecycle: Lifecycle,
    now: Duration,
    names: Vec<ModelName>,
    loading: BTreeMap<ModelName, (Run, Duration)>,
    /// Requests with an engine, the first [`SLOTS`] of them at work.
    engines: BTreeMap<ModelName, (Run, Vec<(usize, Duration)>)>,
    /// By ticket: request and when it came.
    waiting: BTreeMap<Ticket, usize>,
    loads: usize,
    waits: Vec<Duration>,
    answered: BTreeSet<usize>,
    refused: BTreeSet<usize>,
    arrivals: Vec<Arrival>,
}

impl World {
    fn new(models: usize, policy: Policy, arrivals: Vec<Arrival>) -> Self {
        let names: Vec<_> = (0..models).map(|index| ModelName::new(format!("m{index}")).unwrap()).collect();
        let mut world = Self {
            lifecycle: Lifecycle::new(policy),
            now: Duration::ZERO,
            names: names.clone(),
            loading: BTreeMap::new(),
            engines: BTreeMap::new(),
            waiting: BTreeMap::new(),
            loads: 0,
            waits: vec![Duration::ZERO; arrivals.len()],
            answered: BTreeSet::new(),
            refused: BTreeSet::new(),
            arrivals,
        };
        for name in names {
            let spec = Spec {
                preload: false,
                pinned: false,
                gpu: true,
                keep_alive: None,
                memory: Bytes::new(1),
                load: LOAD,
            };
            world.tell(Event::Offered(name, spec));
        }
        world
    }

    fn tell(&mut self, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            for action in self.lifecycle.apply(event, self.now) {
                events.extend(self.carry_out(action));
            }
            let resident = self.lifecycle.views().filter(|(_, view)| view.phase.is_resident()).count();
            let max = self.lifecycle.policy().resident_max.unwrap_or(usize::MAX);
            assert!(resident <= max, "{resident} models at once");
        }
    }

    fn carry_out(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::Load { model, run, .. } => {
                self.loads += 1;
                assert!(!self.engines.contains_key(&model) && !self.loading.contains_key(&model));
                self.loading.insert(model, (run, self.now + LOAD));
                None
            }
            Action::End { model, run, .. } => {
                let busy = self.engines.remove(&model).map_or(0, |(_, requests)| requests.len());
                assert_eq!(busy, 0, "a busy engine was ended");
                self.loading.remove(&model);
                let reason = String::new();
                Some(Event::Gone { model, run, reason, retry_in: Duration::ZERO })
            }
            Action::HandOver { model, ticket } => {
                let index = self.waiting.get(&ticket).copied().expect("handed over twice");
                self.deliver(&model, index);
                None
            }
            Action::Refuse { ticket, .. } => {
                let index = self.waiting.remove(&ticket).expect("refused twice");
                assert!(self.refused.insert(index));
                None
            }
        }
    }

    fn deliver(&mut self, model: &ModelName, index: usize) {
        let arrival = &self.arrivals[index];
        self.waits[index] = self.now - arrival.at;
        let (_, requests) = self.engines.get_mut(model).expect("handed to an engine that is not there");
        requests.push((index, arrival.service));
    }

    fn arrive(&mut self, index: usize) {
        let model = self.names[self.arrivals[index].model].clone();
        let warm = matches!(self.lifecycle.view(&model).unwrap().phase, Phase::Warm(_));
        if warm {
            self.deliver(&model, index);
            self.report(&model);
            return;
        }
        let ticket = Ticket(index as u64);
        self.waiting.insert(ticket, index);
        let urgency = self.arrivals[index].urgency;
        self.tell(Event::Asked { model, ticket, urgency, deadline: self.now + Duration::from_secs(100_000) });
    }

    fn report(&mut self, model: &ModelName) {
        let Some((run, requests)) = self.engines.get(model) else { return };
        let (run, in_flight) = (*run, u32::try_from(requests.len()).unwrap());
        self.tell(Event::Busy { model: model.clone(), run, in_flight });
    }

    fn step(&mut self) {
        let due: Vec<_> = self.loading.iter().filter(|(_, (_, at))| *at <= self.now).collect();
        let due: Vec<_> = due.into_iter().map(|(name, (run, _))| (name.clone(), *run)).collect();
        for (model, run) in due {
            self.loading.remove(&model);
            self.engines.insert(model.clone(), (run, Vec::new()));
            self.tell(Event::Ready { model, run, slots: SLOTS, took: LOAD });
        }
        for model in self.names.clone() {
            let mut done = Vec::new();
            if let Some((_, requests)) = self.engines.get_mut(&model) {
                for (index, left) in requests.iter_mut().take(SLOTS as usize) {
                    *left = left.saturating_sub(STEP);
                    if left.is_zero() {
                        done.push(*index);
                    }
                }
                requests.retain(|(_, left)| !left.is_zero());
            }
            for index in done {
                assert!(self.answered.insert(index), "{index} was answered twice");
                let ticket = Ticket(index as u64);
                if self.waiting.remove(&ticket).is_some() {
                    self.tell(Event::Over(ticket));
                }
                self.report(&model);
            }
        }
        self.tell(Event::Tick);
    }

    fn run(&mut self, until: Duration) {
        let mut next = 0;
        while self.now < until {
            while next < self.arrivals.len() && self.arrivals[next].at <= self.now {
                self.arrive(next);
                next += 1;
            }
            self.step();
            self.now += STEP;
        }
    }
}

/// Loads of a machine that takes requests strictly in the order of arrival.
fn loads_in_order(arrivals: &[Arrival]) -> usize {
    let mut loads = 0;
    let mut resident = None;
    for arrival in arrivals {
        if resident != Some(arrival.model) {
            loads += 1;
            resident = Some(arrival.model);
        }
    }
    loads
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn no_request_is_lost_and_none_waits_longer_than_its_bound(arrivals in arrivals(2, 60)) {
        let count = arrivals.len();
        let total: Duration = arrivals.iter().map(|arrival| arrival.service).sum();
        let mut world = World::new(2, POLICY, arrivals);
        world.run(Duration::from_secs(2_000));
        prop_assert_eq!(world.answered.len(), count);
        prop_assert!(world.refused.is_empty());
        // the longest wait, the turn of the other model (all that it may have had at that time), and the swaps about it
        let bound = POLICY.wait_max + total + (LOAD + POLICY.notice + STEP * 4) * 2;
        let longest = world.waits.iter().max().copied().unwrap_or_default();
        prop_assert!(longest <= bound, "{:?} > {:?}", longest, bound);
    }

    #[test]
    fn with_two_models_a_wait_is_the_bound_and_one_service(gap in 1..4_u64, service in 1..4_u64) {
        // A is never idle; one request for B comes in the middle.
        let mut all: Vec<Arrival> = (0..100)
            .map(|index| Arrival {
                at: Duration::from_secs(index),
                model: 0,
                service: Duration::from_secs(service + gap / 4),
                urgency: Urgency::Normal,
            })
            .filter(|arrival| arrival.at.as_secs() % 2 == 0)
            .collect();
        let at = Duration::from_secs(10 + gap);
        all.push(Arrival { at, model: 1, service: Duration::from_secs(1), urgency: Urgency::Normal });
        all.sort_by_key(|arrival| arrival.at);
        let index = all.iter().position(|arrival| arrival.model == 1).unwrap();
        let mut world = World::new(2, POLICY, all);
        world.run(Duration::from_secs(1_000));
        let bound = POLICY.wait_max + Duration::from_secs(service + 1) + STEP * 4;
        prop_assert!(world.waits[index] <= bound, "{:?} > {:?}", world.waits[index], bound);
    }

    #[test]
    fn there_are_never_more_loads_than_in_the_order_of_arrival(arrivals in arrivals(3, 60)) {
        let in_order = loads_in_order(&arrivals);
        let mut world = World::new(3, POLICY, arrivals);
        world.run(Duration::from_secs(3_000));
        prop_assert!(world.loads <= in_order, "{} > {}", world.loads, in_order);
    }

    #[test]
    fn alternating_requests_that_come_together_take_a_load_for_each_model(pairs in 2..20_usize) {
        let arrivals: Vec<_> = (0..pairs * 2)
            .map(|index| Arrival {
                at: Duration::from_secs(index as u64 / 4),
                model: index % 2,
                service: Duration::from_secs(1),
                urgency: Urgency::Normal,
            })
            .collect();
        let in_order = loads_in_order(&arrivals);
        let mut world = World::new(2, POLICY, arrivals);
        world.run(Duration::from_secs(1_000));
        prop_assert_eq!(in_order, pairs * 2);
        prop_assert!(world.loads <= 2 + pairs / 8, "{} loads for {} pairs", world.loads, pairs);
    }

    #[test]
    fn whatever_is_told_there_are_never_more_models_than_allowed_and_each_request_has_one_outcome(
        events in prop::collection::vec((0..12_u8, 0..3_usize, 0..40_u64), 1..200),
        max in 1..3_usize,
    ) {
        let policy = Policy { resident_max: Some(max), ..POLICY };
        let mut lifecycle = Lifecycle::new(policy);
        let names: Vec<_> = (0..3).map(|index| ModelName::new(format!("m{index}")).unwrap()).collect();
        let mut now = Duration::ZERO;
        let mut open = BTreeSet::new();
        let mut next = 0;
        for (index, name) in names.iter().enumerate() {
            let spec = Spec {
                preload: index == 0,
                pinned: false,
                gpu: index < 2,
                keep_alive: (index == 2).then_some(Duration::from_secs(15)),
                memory: Bytes::new(10),
                load: LOAD,
            };
            let _loads = lifecycle.apply(Event::Offered(name.clone(), spec), now);
        }
        for (kind, which, number) in events {
            now += Duration::from_secs(number / 8);
            let model = names[which].clone();
            let run = lifecycle.view(&model).unwrap().run;
            let reason = "because".to_owned();
            let retry_in = Duration::from_secs(1);
            let event = match kind {
                0 | 1 => {
                    next += 1;
                    open.insert(Ticket(next));
                    let urgency = if number % 5 == 0 { Urgency::Urgent } else { Urgency::Normal };
                    Event::Asked { model, ticket: Ticket(next), urgency, deadline: now + Duration::from_secs(60) }
                }
                2 => {
                    let ticket = Ticket(number);
                    open.remove(&ticket);
                    Event::Over(ticket)
                }
                3 => Event::Ready { model, run, slots: 2, took: LOAD },
                4 => Event::Busy { model, run, in_flight: (number % 3) as u32 },
                5 => Event::NoRoom { model, run, reason, missing: (number % 2 == 0).then_some(Bytes::new(5)), retry_in },
                6 => Event::Gone { model, run, reason, retry_in },
                7 => Event::MemoryLost { model, run, reason },
                8 => Event::Load(model),
                9 => Event::Unload(model),
                10 => if number % 2 == 0 { Event::Pin(model) } else { Event::Unpin(model) },
                _ => Event::Wish(model),
            };
            for action in lifecycle.apply(event, now) {
                match action {
                    Action::Refuse { ticket, .. } | Action::HandOver { ticket, .. } => {
                        prop_assert!(open.remove(&ticket), "{:?} has two outcomes", ticket);
                    }
                    Action::Load { .. } | Action::End { .. } => {}
                }
            }
            let resident = lifecycle.views().filter(|(_, view)| view.phase.is_resident()).count();
            prop_assert!(resident <= max, "{} models at once", resident);
            // nothing more to be done at the same moment
            let again = lifecycle.apply(Event::Tick, now);
            prop_assert!(again.is_empty(), "a second look did {:?}", again);
            if let Some(due) = lifecycle.next_due(now) {
                prop_assert!(due > now);
            }
        }
    }
}
