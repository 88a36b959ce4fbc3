use proptest::prelude::*;

use super::*;

const POLICY: Policy = Policy { failures_max: 3, probe_every: Duration::from_secs(10) };
const START: Duration = Duration::from_secs(1000);

fn on_standby() -> Failover {
    let mut failover = Failover::new(Some(POLICY));
    assert!(!failover.failed(Hub::Primary, START));
    assert!(!failover.failed(Hub::Primary, START));
    assert!(failover.failed(Hub::Primary, START));
    failover
}

#[test]
fn the_standby_takes_over_after_the_configured_failures_in_a_row() {
    assert_eq!(on_standby().choose(START), Hub::Standby);
    let mut failover = Failover::new(Some(POLICY));
    for _ in 0..10 {
        failover.failed(Hub::Primary, START);
        failover.failed(Hub::Primary, START);
        failover.succeeded(Hub::Primary);
    }
    assert_eq!(failover.choose(START), Hub::Primary);
}

#[test]
fn the_primary_is_tried_again_at_intervals_and_used_once_it_answers() {
    let mut failover = on_standby();
    let later = START + POLICY.probe_every;
    assert_eq!(failover.choose(later - Duration::from_millis(1)), Hub::Standby);
    assert_eq!(failover.choose(later), Hub::Primary);
    assert!(failover.failed(Hub::Primary, later), "the same samples go to the standby without a wait");
    assert_eq!(failover.choose(later), Hub::Standby);
    failover.succeeded(Hub::Standby);
    assert_eq!(failover.choose(later + POLICY.probe_every), Hub::Primary);
    failover.succeeded(Hub::Primary);
    assert_eq!((failover.using(), failover.choose(later)), (Hub::Primary, Hub::Primary));
}

#[test]
fn a_standby_that_fails_as_well_sends_the_stream_back_to_the_primary() {
    let mut failover = on_standby();
    assert!(!failover.failed(Hub::Standby, START));
    assert!(!failover.failed(Hub::Standby, START));
    assert!(failover.failed(Hub::Standby, START));
    assert_eq!(failover.choose(START), Hub::Primary);
}

#[test]
fn without_a_standby_there_is_no_choice() {
    let mut failover = Failover::new(None);
    for _ in 0..100 {
        assert!(!failover.failed(Hub::Primary, START));
    }
    assert_eq!(failover.choose(Duration::MAX), Hub::Primary);
}

proptest! {
    /// Whatever happens in between: a primary that answers from some time on is in use again soon.
    #[test]
    fn a_primary_that_stays_healthy_is_used_again(history in prop::collection::vec(any::<bool>(), 0..60)) {
        let mut failover = Failover::new(Some(POLICY));
        let mut now = START;
        for succeeds in history {
            let hub = failover.choose(now);
            if succeeds { failover.succeeded(hub) } else { failover.failed(hub, now); }
            now += Duration::from_secs(1);
        }
        now += POLICY.probe_every;
        prop_assert_eq!(failover.choose(now), Hub::Primary);
        failover.succeeded(Hub::Primary);
        prop_assert_eq!(failover.using(), Hub::Primary);
    }
}
