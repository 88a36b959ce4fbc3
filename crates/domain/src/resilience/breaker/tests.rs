use proptest::prelude::*;

use super::*;

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn breaker() -> Breaker {
    Breaker::new(Rules::default())
}

fn call(breaker: &mut Breaker, outcome: Outcome, now: Duration) {
    let permit = breaker.admit(now).unwrap();
    breaker.ended(permit, outcome, now);
}

fn fail(breaker: &mut Breaker, times: u32, now: Duration) {
    for _ in 0..times {
        call(breaker, Outcome::Failure, now);
    }
}

#[test]
fn five_failures_in_a_row_open_it_and_a_success_in_between_does_not() {
    let mut breaker = breaker();
    for _ in 0..3 {
        fail(&mut breaker, 4, at(0));
        call(&mut breaker, Outcome::Success, at(0));
    }
    assert_eq!(breaker.standing(at(0)), Standing::Closed);
    fail(&mut breaker, 5, at(1));
    assert_eq!(breaker.standing(at(1)), Standing::Open(at(31)));
    assert_eq!(breaker.admit(at(11)), Err(Refused::Open(at(20))));
}

#[test]
fn what_says_nothing_neither_opens_nor_mends() {
    let mut breaker = breaker();
    fail(&mut breaker, 4, at(0));
    for _ in 0..100 {
        call(&mut breaker, Outcome::Neutral, at(0));
    }
    assert_eq!(breaker.standing(at(0)), Standing::Closed);
    fail(&mut breaker, 1, at(0));
    assert_eq!(breaker.standing(at(0)), Standing::Open(at(30)));
}

#[test]
fn half_of_many_calls_open_it_although_they_never_fail_in_a_row() {
    let mut breaker = breaker();
    let opened_after = (0..60).find(|number| {
        let outcome = if number % 2 == 0 { Outcome::Success } else { Outcome::Failure };
        call(&mut breaker, outcome, at(number / 2));
        breaker.standing(at(number / 2)) != Standing::Closed
    });
    assert_eq!(opened_after, Some(29), "thirty calls are the fewest that say anything");
}

#[test]
fn failures_of_an_hour_ago_do_not_count() {
    let mut breaker = breaker();
    for hour in 0..10 {
        fail(&mut breaker, 4, at(hour * 3_600));
        call(&mut breaker, Outcome::Success, at(hour * 3_600));
        assert_eq!(breaker.standing(at(hour * 3_600)), Standing::Closed);
    }
}

#[test]
fn half_open_lets_one_through_and_its_answer_decides() {
    let mut breaker = breaker();
    fail(&mut breaker, 5, at(0));
    assert_eq!(breaker.standing(at(30)), Standing::HalfOpen);
    let probe = breaker.admit(at(30)).unwrap();
    assert_eq!(breaker.admit(at(30)), Err(Refused::Probing));
    breaker.ended(probe, Outcome::Failure, at(40));
    assert_eq!(breaker.standing(at(40)), Standing::Open(at(100)), "twice as long as the first time");

    let cancelled = breaker.admit(at(100)).unwrap();
    breaker.ended(cancelled, Outcome::Neutral, at(101));
    let mut probe = breaker.admit(at(101)).unwrap();
    // a long answer need not end before others may call
    breaker.begun(&mut probe, at(102));
    assert_eq!(breaker.standing(at(102)), Standing::Closed);
    call(&mut breaker, Outcome::Success, at(102));
    breaker.ended(probe, Outcome::Failure, at(400));
    assert_eq!(breaker.standing(at(400)), Standing::Closed, "one failure after it closed");
}

#[test]
fn it_stays_open_longer_each_time_up_to_its_bound_until_it_was_well_for_a_while() {
    let mut breaker = breaker();
    let mut now = at(0);
    fail(&mut breaker, 5, now);
    let mut times = Vec::new();
    for _ in 0..12 {
        let Standing::Open(until) = breaker.standing(now) else { panic!("closed") };
        times.push((until - now).as_secs());
        now = until;
        fail(&mut breaker, 1, now);
    }
    assert_eq!(times, [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300]);

    let Standing::Open(until) = breaker.standing(now) else { panic!("closed") };
    call(&mut breaker, Outcome::Success, until);
    fail(&mut breaker, 5, until + at(10));
    assert_eq!(breaker.standing(until + at(10)), Standing::Open(until + at(310)), "it was hardly well");

    call(&mut breaker, Outcome::Success, until + at(310));
    let later = until + at(310 + 301);
    fail(&mut breaker, 5, later);
    assert_eq!(breaker.standing(later), Standing::Open(later + at(30)), "it was well for five minutes");
}

#[test]
fn calls_from_before_have_no_say_afterwards() {
    let mut breaker = breaker();
    let early: Vec<Permit> = (0..20).map(|_| breaker.admit(at(0)).unwrap()).collect();
    fail(&mut breaker, 5, at(1));
    let mut early = early.into_iter();
    breaker.ended(early.next().unwrap(), Outcome::Success, at(2));
    assert_eq!(breaker.standing(at(2)), Standing::Open(at(31)), "a success from before the outage");
    call(&mut breaker, Outcome::Success, at(31));
    for permit in early {
        breaker.ended(permit, Outcome::Failure, at(32));
    }
    assert_eq!(breaker.standing(at(32)), Standing::Closed, "failures from before the repair");
}

#[test]
fn a_rule_of_zero_never_opens_it() {
    let mut breaker = Breaker::new(Rules { failures: 0, failure_percent: 0, ..Rules::default() });
    fail(&mut breaker, 1_000, at(0));
    assert_eq!(breaker.standing(at(0)), Standing::Closed);
}

/// What may happen next.
#[derive(Debug, Clone)]
enum Event {
    Pass(u64),
    Ask,
    Begin(prop::sample::Index),
    End(prop::sample::Index, Outcome),
}

fn event() -> impl Strategy<Value = Event> {
    let outcome = prop::sample::select(vec![Outcome::Success, Outcome::Failure, Outcome::Neutral]);
    prop_oneof![
        (0u64..20_000).prop_map(Event::Pass),
        Just(Event::Ask),
        Just(Event::Ask),
        any::<prop::sample::Index>().prop_map(Event::Begin),
        (any::<prop::sample::Index>(), outcome.clone()).prop_map(|(at, outcome)| Event::End(at, outcome)),
        (any::<prop::sample::Index>(), Just(Outcome::Failure))
            .prop_map(|(at, outcome)| Event::End(at, outcome)),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_there_is_one_probe_at_most_and_none_while_open(
        events in prop::collection::vec(event(), 0..400),
    ) {
        let rules = Rules { failures: 3, open: at(10), open_max: at(25), ..Rules::default() };
        let (mut breaker, mut now, mut held) = (Breaker::new(rules), Duration::ZERO, Vec::<Permit>::new());
        for event in events {
            let before = breaker.standing(now);
            match event {
                Event::Pass(millis) => now += Duration::from_millis(millis),
                Event::Ask => {
                    let live_probe = held.iter().any(|permit| permit.probe && permit.epoch == breaker.epoch);
                    match (before, breaker.admit(now)) {
                        (Standing::Closed, admitted) => {
                            let permit = admitted.unwrap();
                            prop_assert!(!permit.probe);
                            held.push(permit);
                        }
                        (Standing::Open(until), admitted) => {
                            prop_assert_eq!(admitted, Err(Refused::Open(until - now)));
                            prop_assert!(until - now <= rules.open_max);
                        }
                        (Standing::HalfOpen, Ok(permit)) => {
                            prop_assert!(permit.probe && !live_probe, "a second probe");
                            held.push(permit);
                        }
                        (Standing::HalfOpen, Err(refused)) => {
                            prop_assert_eq!(refused, Refused::Probing);
                            prop_assert!(live_probe, "refused although no probe is under way");
                        }
                    }
                }
                Event::Begin(_) | Event::End(..) if held.is_empty() => {}
                Event::Begin(at) => {
                    let index = at.index(held.len());
                    let decides = held[index].probe && held[index].epoch == breaker.epoch;
                    breaker.begun(&mut held[index], now);
                    let after = breaker.standing(now);
                    prop_assert_eq!(after, if decides { Standing::Closed } else { before });
                }
                Event::End(at, outcome) => {
                    let permit = held.swap_remove(at.index(held.len()));
                    let (has_say, probe) = (permit.epoch == breaker.epoch, permit.probe);
                    breaker.ended(permit, outcome, now);
                    let after = breaker.standing(now);
                    match (has_say, probe, outcome) {
                        (false, _, _) | (true, _, Outcome::Neutral) => prop_assert_eq!(after, before),
                        (true, _, Outcome::Success) => prop_assert_eq!(after, Standing::Closed),
                        (true, true, Outcome::Failure) => prop_assert!(matches!(after, Standing::Open(_))),
                        (true, false, Outcome::Failure) => prop_assert!(after != Standing::HalfOpen),
                    }
                }
            }
        }
        // whoever is left gives the permit back: it is never stuck
        for permit in held {
            breaker.ended(permit, Outcome::Neutral, now);
        }
        prop_assert!(breaker.admit(now + rules.open_max).is_ok());
    }
}
