use std::time::Duration;

use super::*;

fn model(name: &str) -> ModelName {
    ModelName::new(name).unwrap()
}

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

const SPEC: Spec = Spec {
    preload: false,
    pinned: false,
    gpu: true,
    keep_alive: None,
    memory: Bytes::new(10),
    load: Duration::from_secs(2),
};

/// One model at a time.
const ONE: Policy = Policy {
    resident_max: Some(1),
    wait_max: Duration::from_secs(30),
    return_after: Duration::from_secs(300),
    notice: Duration::from_secs(1),
    lost_drain_max: Duration::from_secs(5),
    use_half_life: Duration::from_secs(600),
};

/// A machine whose engines do what they are told.
struct Machine {
    lifecycle: Lifecycle,
    now: Duration,
}

impl Machine {
    fn new(policy: Policy, models: &[(&str, Spec)]) -> Self {
        let mut machine = Self { lifecycle: Lifecycle::new(policy), now: seconds(1_000) };
        for (name, spec) in models {
            machine.tell(Event::Offered(model(name), *spec));
        }
        machine
    }

    fn tell(&mut self, event: Event) -> Vec<Action> {
        self.lifecycle.apply(event, self.now)
    }

    fn after(&mut self, time: Duration) -> Vec<Action> {
        self.now += time;
        self.tell(Event::Tick)
    }

    fn ask(&mut self, name: &str, ticket: u64) -> Vec<Action> {
        self.ask_with(name, ticket, Urgency::Normal)
    }

    fn ask_with(&mut self, name: &str, ticket: u64, urgency: Urgency) -> Vec<Action> {
        let deadline = self.now + seconds(600);
        self.tell(Event::Asked { model: model(name), ticket: Ticket(ticket), urgency, deadline })
    }

    fn view(&self, name: &str) -> View {
        self.lifecycle.view(&model(name)).unwrap()
    }

    fn run(&self, name: &str) -> Run {
        self.view(name).run
    }

    fn ready(&mut self, name: &str) -> Vec<Action> {
        let run = self.run(name);
        self.tell(Event::Ready { model: model(name), run, slots: 4, took: seconds(2) })
    }

    fn busy(&mut self, name: &str, in_flight: u32) -> Vec<Action> {
        let run = self.run(name);
        self.tell(Event::Busy { model: model(name), run, in_flight })
    }

    fn gone(&mut self, name: &str) -> Vec<Action> {
        let (run, reason) = (self.run(name), "killed".to_owned());
        self.tell(Event::Gone { model: model(name), run, reason, retry_in: seconds(1) })
    }

    fn no_room(&mut self, name: &str, missing: Option<u64>) -> Vec<Action> {
        let (run, reason) = (self.run(name), "no lease".to_owned());
        let missing = missing.map(Bytes::new);
        self.tell(Event::NoRoom { model: model(name), run, reason, missing, retry_in: seconds(1) })
    }

    /// Loads a model by asking for it, and answers the request.
    fn warm(&mut self, name: &str) {
        let ticket = 1_000_000 + self.now.as_secs();
        assert_eq!(loads(&self.ask(name, ticket)), [name]);
        self.ready(name);
        self.tell(Event::Over(Ticket(ticket)));
    }
}

fn loads(actions: &[Action]) -> Vec<String> {
    let load = |action: &Action| match action {
        Action::Load { model, .. } => Some(model.to_string()),
        _ => None,
    };
    actions.iter().filter_map(load).collect()
}

fn ends(actions: &[Action]) -> Vec<(String, Leaving)> {
    let end = |action: &Action| match action {
        Action::End { model, why, .. } => Some((model.to_string(), why.clone())),
        _ => None,
    };
    actions.iter().filter_map(end).collect()
}

fn handed(actions: &[Action]) -> Vec<u64> {
    let hand = |action: &Action| match action {
        Action::HandOver { ticket, .. } => Some(ticket.0),
        _ => None,
    };
    actions.iter().filter_map(hand).collect()
}

fn refused(actions: &[Action]) -> Vec<u64> {
    let refuse = |action: &Action| match action {
        Action::Refuse { ticket, .. } => Some(ticket.0),
        _ => None,
    };
    actions.iter().filter_map(refuse).collect()
}

#[test]
fn a_request_loads_its_model_and_is_handed_over_when_it_is_ready() {
    let mut machine = Machine::new(ONE, &[("a", SPEC)]);
    assert_eq!(loads(&machine.ask("a", 1)), ["a"]);
    assert_eq!(loads(&machine.ask("a", 2)), [""; 0], "it was loaded twice");
    assert_eq!(handed(&machine.ready("a")), [1, 2]);
    assert_eq!(handed(&machine.ask("a", 3)), [3], "a warm model was not asked at once");
}

#[test]
fn no_more_is_handed_over_than_the_engine_has_slots() {
    let mut machine = Machine::new(ONE, &[("a", SPEC)]);
    for ticket in 1..=6 {
        machine.ask("a", ticket);
    }
    assert_eq!(handed(&machine.ready("a")), [1, 2, 3, 4]);
    assert_eq!(handed(&machine.tell(Event::Over(Ticket(2)))), [5]);
}

#[test]
fn alternating_requests_are_collated_by_model() {
    let mut machine = Machine::new(ONE, &[("a", SPEC), ("b", SPEC)]);
    machine.warm("a");
    // A B A B: the second A goes to its engine, both B wait until A has nothing to do.
    machine.busy("a", 1);
    assert_eq!(machine.ask("b", 1), []);
    machine.busy("a", 2);
    assert_eq!(machine.ask("b", 2), []);
    assert_eq!(machine.busy("a", 1), []);
    machine.busy("a", 0);
    assert!(matches!(machine.view("a").phase, Phase::Draining(..)));
    assert_eq!(ends(&machine.after(seconds(1))), [("a".to_owned(), Leaving::Evicted(model("b")))]);
    assert_eq!(loads(&machine.gone("a")), ["b"]);
    assert_eq!(handed(&machine.ready("b")), [1, 2]);
}

#[test]
fn a_busy_model_is_drained_when_somebody_has_waited_too_long() {
    let mut machine = Machine::new(ONE, &[("a", SPEC), ("b", SPEC)]);
    machine.warm("a");
    machine.busy("a", 2);
    machine.ask("b", 1);
    // the load and the notice are part of the wait
    let due = machine.lifecycle.next_due(machine.now).unwrap();
    assert_eq!(due, machine.now + seconds(27));
    machine.after(seconds(26));
    assert!(matches!(machine.view("a").phase, Phase::Warm(_)));
    machine.after(seconds(1));
    assert!(matches!(machine.view("a").phase, Phase::Draining(..)));
    // what it has is finished, what comes for it waits for its next turn
    machine.ask("a", 2);
    assert_eq!(machine.after(seconds(60)), []);
    assert_eq!(ends(&machine.busy("a", 0)).len(), 1);
    assert_eq!(loads(&machine.gone("a")), ["b"]);
    assert_eq!(handed(&machine.ready("b")), [1]);
    // the one that waits for A has waited too long as well: its turn comes when B has answered
    machine.tell(Event::Over(Ticket(1)));
    machine.after(seconds(1));
    assert_eq!(loads(&machine.gone("b")), ["a"]);
}

#[test]
fn an_urgent_request_does_not_wait_for_a_busy_model() {
    let mut machine = Machine::new(ONE, &[("a", SPEC), ("b", SPEC)]);
    machine.warm("a");
    machine.busy("a", 2);
    machine.ask_with("b", 1, Urgency::Urgent);
    assert!(matches!(machine.view("a").phase, Phase::Draining(..)));
}

#[test]
fn an_urgent_request_is_answered_before_those_that_came_earlier() {
    let mut machine = Machine::new(ONE, &[("a", SPEC)]);
    for ticket in 1..=5 {
        machine.ask("a", ticket);
    }
    machine.ask_with("a", 6, Urgency::Urgent);
    assert_eq!(handed(&machine.ready("a")), [6, 1, 2, 3]);
}

#[test]
fn a_model_stays_when_nobody_waits_for_the_other_any_more() {
    let mut machine = Machine::new(ONE, &[("a", SPEC), ("b", SPEC)]);
    machine.warm("a");
    machine.busy("a", 1);
    machine.ask_with("b", 1, Urgency::Urgent);
    machine.ask("a", 2);
    assert_eq!(handed(&machine.tell(Event::Over(Ticket(1)))), [2], "the drain was not called off");
    assert!(matches!(machine.view("a").phase, Phase::Warm(_)));
}

#[test]
fn the_default_comes_back_when_its_guest_has_been_idle_for_five_minutes() {
    let home = Spec { preload: true, ..SPEC };
    let mut machine = Machine::new(ONE, &[("home", home)]);
    machine.ready("home");
    machine.tell(Event::Offered(model("guest"), SPEC));
    machine.ask("guest", 1);
    machine.after(seconds(1));
    machine.gone("home");
    machine.ready("guest");
    machine.tell(Event::Over(Ticket(1)));
    assert_eq!(machine.lifecycle.next_due(machine.now), Some(machine.now + seconds(300)));
    machine.after(seconds(299));
    assert!(matches!(machine.view("guest").phase, Phase::Warm(_)));
    machine.after(seconds(1));
    machine.after(seconds(1));
    assert_eq!(loads(&machine.gone("guest")), ["home"]);
}

#[test]
fn an_idle_model_goes_after_its_keep_alive_and_a_pinned_one_never() {
    let short = Spec { keep_alive: Some(seconds(10)), ..SPEC };
    let both = Policy { resident_max: None, ..ONE };
    let mut machine = Machine::new(both, &[("a", short), ("b", Spec { pinned: true, ..short })]);
    machine.ready("b");
    machine.warm("a");
    machine.busy("a", 1);
    machine.after(seconds(11));
    assert!(matches!(machine.view("a").phase, Phase::Warm(_)), "it works");
    machine.busy("a", 0);
    machine.after(seconds(10));
    assert_eq!(ends(&machine.after(seconds(1))), [("a".to_owned(), Leaving::Idle)]);
    machine.gone("a");
    assert_eq!((machine.view("a").phase, machine.after(seconds(1_000))), (Phase::Cold, vec![]));
    assert!(matches!(machine.view("b").phase, Phase::Warm(_)));
}

#[test]
fn where_memory_is_short_the_cheapest_to_miss_goes_and_only_of_the_same_memory() {
    let free = Policy { resident_max: None, ..ONE };
    let fast = Spec { load: seconds(1), ..SPEC };
    let cpu = Spec { gpu: false, load: Duration::ZERO, ..SPEC };
    let mut machine = Machine::new(free, &[("slow", SPEC), ("fast", fast), ("cpu", cpu), ("new", SPEC)]);
    machine.warm("cpu");
    machine.warm("slow");
    machine.now += seconds(1);
    machine.warm("fast");
    // both took two seconds; `slow` was used longer ago
    machine.now += seconds(600);
    machine.busy("fast", 1);
    machine.busy("fast", 0);
    assert_eq!(loads(&machine.ask("new", 1)), ["new"]);
    machine.no_room("new", Some(5));
    assert!(matches!(machine.view("slow").phase, Phase::Draining(..)));
    assert!(matches!(machine.view("fast").phase, Phase::Warm(_)));
    machine.after(seconds(1));
    assert_eq!(loads(&machine.gone("slow")), ["new"]);
}

#[test]
fn what_nobody_can_make_room_for_is_refused_at_once_and_tried_again() {
    let free = Policy { resident_max: None, ..ONE };
    let pinned = Spec { pinned: true, ..SPEC };
    let mut machine = Machine::new(free, &[("a", pinned), ("b", SPEC)]);
    machine.ready("a");
    machine.ask("b", 1);
    assert_eq!(refused(&machine.no_room("b", None)), [1]);
    assert_eq!(refused(&machine.ask("b", 2)), [2], "it is down");
    assert_eq!(loads(&machine.after(seconds(1))), ["b"]);
}

#[test]
fn a_preloaded_model_that_finds_no_room_is_tried_again() {
    let free = Policy { resident_max: None, ..ONE };
    let mut machine = Machine::new(free, &[("a", Spec { preload: true, ..SPEC })]);
    machine.no_room("a", None);
    assert!(matches!(machine.view("a").phase, Phase::Down { .. }));
    assert_eq!(loads(&machine.after(seconds(1))), ["a"]);
}

#[test]
fn a_killed_engine_is_down_for_a_while_and_its_last_words_are_not_taken_for_the_next_ones() {
    let mut machine = Machine::new(ONE, &[("a", Spec { preload: true, ..SPEC })]);
    machine.ready("a");
    let first = machine.run("a");
    machine.gone("a");
    assert!(matches!(machine.view("a").phase, Phase::Down { .. }));
    assert_eq!(refused(&machine.ask("a", 1)), [1]);
    assert_eq!(loads(&machine.after(seconds(1))), ["a"]);
    machine.tell(Event::Ready { model: model("a"), run: first, slots: 4, took: seconds(1) });
    assert!(matches!(machine.view("a").phase, Phase::Loading(_)), "an old engine was believed");
}

#[test]
fn an_engine_that_dies_while_it_loads_gives_its_callers_a_reason() {
    let mut machine = Machine::new(ONE, &[("a", SPEC)]);
    machine.ask("a", 1);
    assert_eq!(
        machine.gone("a"),
        [Action::Refuse { ticket: Ticket(1), reason: "killed".to_owned(), retry_in: seconds(1) }]
    );
    assert_eq!(loads(&machine.after(seconds(1))), ["a"], "it is not tried again");
}

#[test]
fn a_model_that_loses_its_memory_is_given_little_time_and_comes_back() {
    let mut machine = Machine::new(ONE, &[("a", SPEC)]);
    machine.warm("a");
    machine.busy("a", 1);
    let run = machine.run("a");
    machine.tell(Event::MemoryLost { model: model("a"), run, reason: "a game".to_owned() });
    assert_eq!(machine.after(seconds(4)), []);
    let ended = ends(&machine.after(seconds(1)));
    assert_eq!(ended, [("a".to_owned(), Leaving::MemoryLost("a game".to_owned()))]);
    machine.gone("a");
    assert_eq!(loads(&machine.after(seconds(1))), ["a"]);
}

#[test]
fn what_somebody_unloads_goes_when_it_has_finished_and_comes_back_with_a_request() {
    let mut machine = Machine::new(ONE, &[("a", Spec { preload: true, ..SPEC })]);
    machine.ready("a");
    machine.busy("a", 1);
    machine.tell(Event::Unload(model("a")));
    assert_eq!(machine.after(seconds(5)), []);
    assert_eq!(ends(&machine.busy("a", 0)), [("a".to_owned(), Leaving::Asked)]);
    machine.gone("a");
    assert_eq!(machine.after(seconds(1_000)), [], "it came back by itself");
    assert_eq!(loads(&machine.ask("a", 1)), ["a"]);
}

#[test]
fn a_wish_sends_away_what_is_idle_and_nothing_that_works() {
    let mut machine = Machine::new(ONE, &[("a", SPEC), ("b", SPEC)]);
    machine.warm("a");
    machine.busy("a", 1);
    machine.tell(Event::Wish(model("b")));
    assert!(matches!(machine.view("a").phase, Phase::Warm(_)));
    machine.busy("a", 0);
    assert!(matches!(machine.view("a").phase, Phase::Draining(..)));
    // and is forgotten when it was not granted
    let mut machine = Machine::new(ONE, &[("a", SPEC), ("b", SPEC)]);
    machine.warm("a");
    machine.busy("a", 1);
    machine.tell(Event::Wish(model("b")));
    machine.after(seconds(31));
    machine.busy("a", 0);
    assert!(matches!(machine.view("a").phase, Phase::Warm(_)));
}

#[test]
fn a_pin_loads_and_keeps_and_a_load_waits_no_longer_than_a_request() {
    let mut machine = Machine::new(ONE, &[("a", SPEC), ("b", SPEC)]);
    machine.warm("a");
    machine.busy("a", 1);
    machine.tell(Event::Load(model("b")));
    machine.after(seconds(30));
    assert!(matches!(machine.view("a").phase, Phase::Draining(..)));
    machine.tell(Event::Pin(model("a")));
    assert!(matches!(machine.view("a").phase, Phase::Warm(_)), "a pinned model was drained");
    machine.after(seconds(60));
    assert!(machine.view("a").pinned && matches!(machine.view("a").phase, Phase::Warm(_)));
    machine.tell(Event::Unpin(model("a")));
    assert!(matches!(machine.view("a").phase, Phase::Draining(..)));
}

#[test]
fn a_model_that_is_withdrawn_ends_and_is_forgotten() {
    let mut machine = Machine::new(ONE, &[("a", SPEC)]);
    machine.ask("a", 1);
    machine.ready("a");
    machine.ask("a", 2);
    machine.tell(Event::Withdrawn(model("a")));
    assert_eq!(refused(&machine.ask("a", 3)), [3]);
    machine.tell(Event::Over(Ticket(1)));
    machine.tell(Event::Over(Ticket(2)));
    assert_eq!(ends(&machine.after(seconds(1))).len(), 1);
    machine.gone("a");
    assert_eq!(machine.lifecycle.view(&model("a")), None);
}
