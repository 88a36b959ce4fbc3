use super::*;

const PAID: KeyRules = KeyRules {
    free: false,
    limits: Limits { requests_per_minute: None, tokens_per_minute: None, requests_per_day: None },
};
const MODEL: &str = "large";

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn free(requests_per_minute: u64) -> KeyRules {
    let limits = Limits { requests_per_minute: Some(requests_per_minute), ..Limits::default() };
    KeyRules { free: true, limits }
}

fn ring(keys: impl IntoIterator<Item = KeyRules>) -> KeyRing {
    KeyRing::new(Pauses::default(), keys)
}

fn pick(ring: &mut KeyRing, now: Duration) -> Result<usize, Exhausted> {
    ring.pick(MODEL, 100, |_| true, now).map(|pick| pick.index)
}

#[test]
fn free_keys_with_room_go_first_then_the_paid_ones_in_turn() {
    let mut ring = ring([PAID, free(2), PAID, free(1)]);
    let order: Vec<usize> = (0..8).map(|_| pick(&mut ring, at(0)).unwrap()).collect();
    assert_eq!(order[..3].iter().filter(|index| **index == 1).count(), 2);
    assert_eq!(order[..3].iter().filter(|index| **index == 3).count(), 1);
    assert!(order[3..] == [0, 2, 0, 2, 0] || order[3..] == [2, 0, 2, 0, 2], "{order:?}");
    // a minute later they are free again
    assert!([1, 3].contains(&pick(&mut ring, at(62)).unwrap()));
}

#[test]
fn a_call_with_a_free_key_says_so() {
    let mut ring = ring([free(1), PAID]);
    assert!(ring.pick(MODEL, 1, |_| true, at(0)).unwrap().free);
    assert!(!ring.pick(MODEL, 1, |_| true, at(0)).unwrap().free);
}

#[test]
fn with_no_room_left_it_says_when_the_first_key_frees() {
    let mut ring = ring([free(1), free(1)]);
    pick(&mut ring, at(0)).unwrap();
    pick(&mut ring, at(20)).unwrap();
    let exhausted = pick(&mut ring, at(30)).unwrap_err();
    assert_eq!((exhausted.cause, exhausted.wait), (Cause::RateLimit, at(31)));
    assert!(pick(&mut ring, at(61)).is_ok());
}

#[test]
fn a_rate_limit_cools_that_key_for_that_model_only_as_long_as_was_said() {
    let mut ring = ring([PAID, PAID]);
    ring.refused(0, MODEL, Cause::RateLimit, Some(at(42)), "slow down", at(0));
    for _ in 0..4 {
        assert_eq!(pick(&mut ring, at(41)), Ok(1));
    }
    let others: Vec<_> = (0..2).map(|_| ring.pick("small", 1, |_| true, at(41)).unwrap().index).collect();
    assert!(others.contains(&0), "another model of the same key is not cooled");
    assert!((0..2).any(|_| pick(&mut ring, at(42)) == Ok(0)), "after its time it is used again");
}

#[test]
fn rate_limits_without_a_time_back_off_and_those_that_come_together_count_once() {
    let mut ring = ring([PAID]);
    let mut now = at(0);
    let mut waits = Vec::new();
    for _ in 0..9 {
        for _ in 0..50 {
            ring.refused(0, MODEL, Cause::RateLimit, None, "", now);
        }
        let wait = pick(&mut ring, now).unwrap_err().wait;
        waits.push(wait.as_millis());
        now += wait;
    }
    assert_eq!(waits, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
    ring.accepted(0, MODEL, now);
    ring.refused(0, MODEL, Cause::RateLimit, None, "", now);
    assert_eq!(pick(&mut ring, now).unwrap_err().wait.as_millis(), 500, "a success starts it anew");
}

#[test]
fn a_shorter_wait_never_replaces_a_longer_one() {
    let mut ring = ring([PAID]);
    ring.refused(0, MODEL, Cause::RateLimit, Some(at(600)), "", at(0));
    ring.refused(0, MODEL, Cause::RateLimit, Some(at(1)), "", at(1));
    assert_eq!(pick(&mut ring, at(2)).unwrap_err().wait, at(598));
}

#[test]
fn a_refused_key_cools_until_it_is_changed() {
    let mut ring = ring([PAID]);
    ring.refused(0, MODEL, Cause::Auth, None, "invalid key", at(0));
    let exhausted = pick(&mut ring, at(60)).unwrap_err();
    assert_eq!((exhausted.cause, exhausted.why.as_str()), (Cause::Auth, "invalid key"));
    assert!(ring.awaits_change(0, at(60)));
    ring.renewed(0);
    assert!(!ring.awaits_change(0, at(60)));
    assert!(pick(&mut ring, at(60)).is_ok());
}

#[test]
fn an_empty_account_cools_like_an_outage_longer_each_time() {
    let mut ring = ring([PAID]);
    ring.refused(0, MODEL, Cause::Credit, None, "pay", at(0));
    assert_eq!(pick(&mut ring, at(0)).unwrap_err().wait, at(60));
    ring.refused(0, MODEL, Cause::Credit, None, "pay", at(60));
    assert_eq!(pick(&mut ring, at(60)).unwrap_err().wait, at(120));
}

#[test]
fn causes_are_kept_apart() {
    let mut ring = ring([PAID]);
    ring.refused(0, MODEL, Cause::Auth, None, "invalid key", at(0));
    ring.refused(0, MODEL, Cause::RateLimit, Some(at(1)), "slow down", at(0));
    assert_eq!(
        pick(&mut ring, at(2)).unwrap_err().cause,
        Cause::Auth,
        "the end of one is not that of the other"
    );
}

#[test]
fn of_several_reasons_the_one_that_passes_by_itself_is_told() {
    let mut ring = ring([PAID, PAID]);
    ring.refused(0, MODEL, Cause::Auth, None, "invalid key", at(0));
    ring.refused(1, MODEL, Cause::RateLimit, Some(at(3_600)), "daily limit", at(0));
    let exhausted = pick(&mut ring, at(1)).unwrap_err();
    assert_eq!((exhausted.cause, exhausted.wait), (Cause::RateLimit, at(3_599)));
}

#[test]
fn an_outage_with_a_time_rests_every_key() {
    let mut ring = ring([PAID, PAID]);
    ring.refused(1, MODEL, Cause::Outage, Some(at(9)), "overloaded", at(0));
    let exhausted = pick(&mut ring, at(1)).unwrap_err();
    assert_eq!((exhausted.cause, exhausted.wait), (Cause::Outage, at(8)));
    assert!(!ring.awaits_change(0, at(1)));
}

#[test]
fn what_the_provider_says_is_left_is_kept_to() {
    let left = |remaining, limit, reset| Left { remaining, limit, reset: at(reset) };
    let mut ring = ring([PAID, PAID]);
    let seen = Seen { requests: Some(left(2, None, 30)), tokens: None };
    ring.saw(0, MODEL, seen, at(0));
    let order: Vec<_> = (0..6).map(|_| pick(&mut ring, at(1)).unwrap()).collect();
    assert_eq!(order, [0, 1, 0, 1, 1, 1], "two requests are left");
    assert!((0..2).any(|_| pick(&mut ring, at(30)) == Ok(0)), "until they are there again");

    // 1,000 of 10,000 tokens left, all there in 9 s: 1,000 a second
    let seen = Seen { requests: None, tokens: Some(left(1_000, Some(10_000), 9)) };
    ring.saw(1, MODEL, seen, at(100));
    let only = |index: usize| index == 1;
    assert!(ring.blocked(MODEL, 1_000, only, at(100)).is_none());
    assert_eq!(ring.blocked(MODEL, 3_000, only, at(100)).unwrap().wait, at(2));
    assert_eq!(ring.blocked(MODEL, 50_000, only, at(100)).unwrap().wait, at(9), "more than there ever is");
}

#[test]
fn a_key_that_cannot_be_read_is_passed_over() {
    let mut ring = ring([free(60), PAID]);
    assert_eq!(ring.pick(MODEL, 1, |index| index == 1, at(0)).unwrap().index, 1);
    assert!(ring.pick(MODEL, 1, |_| false, at(0)).is_err());
}

#[test]
fn real_usage_takes_the_place_of_the_estimate() {
    let limits = Limits { tokens_per_minute: Some(14_400), ..Limits::default() };
    let mut ring = ring([KeyRules { free: true, limits }]);
    let estimated = ring.pick(MODEL, 14_000, |_| true, at(0)).unwrap();
    assert!(ring.blocked(MODEL, 1_000, |_| true, at(0)).is_some());
    ring.settle(estimated, 200);
    assert!(ring.blocked(MODEL, 14_000, |_| true, at(0)).is_none());
}

proptest::proptest! {
    #[test]
    fn no_key_is_used_while_it_cools_and_a_wait_that_is_named_is_enough(
        events in proptest::collection::vec((0usize..3, 0u8..4, 0u64..5_000, 0u64..20_000), 1..120),
    ) {
        let mut ring = ring([free(3), PAID, PAID]);
        let mut now = Duration::ZERO;
        let mut cool = [Duration::ZERO; 3];
        for (index, kind, pause, asked) in events {
            now += Duration::from_millis(pause);
            let asked = Duration::from_millis(asked);
            match kind {
                0 => {
                    ring.refused(index, MODEL, Cause::RateLimit, Some(asked), "", now);
                    cool[index] = cool[index].max(now + asked);
                }
                1 => ring.accepted(index, MODEL, now),
                _ => match pick(&mut ring, now) {
                    Ok(picked) => proptest::prop_assert!(cool[picked] <= now, "{} cools", picked),
                    Err(exhausted) => {
                        proptest::prop_assert!(exhausted.wait > Duration::ZERO);
                        now += exhausted.wait;
                        proptest::prop_assert!(pick(&mut ring, now).is_ok());
                    }
                },
            }
        }
    }
}
