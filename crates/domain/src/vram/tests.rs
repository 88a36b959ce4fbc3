use super::*;
use crate::fault::{Code, Fault};

mod giving_way;

const SECOND: Duration = Duration::from_secs(1);

fn gib(count: u64) -> Bytes {
    Bytes::mebibytes(count * 1024)
}

fn at(seconds: u64) -> Duration {
    SECOND * u32::try_from(seconds).unwrap()
}

fn gpu(index: u32, total: Bytes, used: Bytes, processes: &[(u32, Bytes)]) -> Device {
    let processes = processes.iter().map(|&(pid, used)| ProcessUse { pid, used }).collect();
    Device { id: GpuId::new(format!("GPU-{index}")), index, memory: Memory { total, used, processes } }
}

fn machine(devices: Vec<Device>) -> Capacity {
    let system = Memory { total: gib(32), used: gib(4), processes: Vec::new() };
    let gpus = if devices.is_empty() { Gpus::Absent } else { Gpus::Present(devices) };
    Capacity { gpus, system }
}

/// One GiB of reserve keeps the sums readable.
fn policy() -> Policy {
    Policy { reserve: gib(1), exclusive_over: gib(10), ..Policy::default() }
}

fn leases(devices: Vec<Device>) -> Leases {
    Leases::new(policy(), machine(devices), Token::new(100), Vec::new(), Duration::ZERO)
}

fn ask(holder: &str, bytes: Bytes, priority: Priority) -> Ask {
    Ask {
        holder: Holder::new(holder).unwrap(),
        bytes,
        priority,
        ttl: Ttl::default(),
        wanted: Wanted::Gpu,
        pids: Vec::new(),
        worth: Worth::default(),
        anytime: false,
    }
}

fn named(pids: Vec<u32>) -> Told {
    Told { pids, worth: None }
}

fn inference(holder: &str, bytes: Bytes) -> Ask {
    ask(holder, bytes, Priority::Inference)
}

fn place(index: u32) -> Place {
    Place::Gpu(GpuId::new(format!("GPU-{index}")))
}

#[test]
fn a_lease_goes_to_the_device_that_it_fills_best() {
    let mut leases = leases(vec![gpu(0, gib(24), gib(2), &[]), gpu(1, gib(12), gib(1), &[])]);
    let small = leases.acquire(inference("a", gib(8)), at(1)).result.unwrap();
    assert_eq!(small.place, place(1));
    let next = leases.acquire(inference("b", gib(8)), at(1)).result.unwrap();
    assert_eq!(next.place, place(0));
    assert_eq!(leases.gpu_index(&next), Some(0));
}

#[test]
fn a_denial_says_how_much_was_asked_what_is_free_and_who_holds_the_rest() {
    let mut leases = leases(vec![gpu(0, gib(12), gib(3), &[])]);
    leases.acquire(inference("a", gib(4)), at(1)).result.unwrap();
    let denial = leases.acquire(inference("b", gib(5)), at(1)).result.unwrap_err();
    let held = vec![Held { holder: Holder::new("a").unwrap(), bytes: gib(4) }];
    let expected = Denial::NoRoom {
        asked: gib(5),
        place: place(0),
        free: gib(4),
        size: gib(11),
        leased: gib(4),
        others: gib(3),
        held,
        cheapest: Box::new([Holder::new("a").unwrap()]),
        retry_after: None,
    };
    assert_eq!(denial, expected);
    let fault = Fault::from(denial);
    assert_eq!((fault.code, fault.retryable), (Code::Busy, true));
}

#[test]
fn more_than_any_device_has_is_refused_for_good() {
    let mut leases = leases(vec![gpu(0, gib(12), gib(0), &[])]);
    let denial = leases.acquire(inference("a", gib(12)), at(1)).result.unwrap_err();
    assert_eq!(denial, Denial::TooLarge { asked: gib(12), largest: gib(11) });
    assert!(!Fault::from(denial).retryable);
}

#[test]
fn a_large_lease_has_its_gpu_to_itself() {
    let mut leases = leases(vec![gpu(0, gib(48), gib(0), &[])]);
    let large = leases.acquire(inference("large", gib(11)), at(1)).result.unwrap();
    let denial = leases.acquire(inference("small", gib(1)), at(1)).result.unwrap_err();
    assert!(matches!(denial, Denial::Exclusive { .. }), "{denial:?}");
    leases.release(large.token, large.token, at(1)).result.unwrap();
    leases.acquire(inference("small", gib(1)), at(1)).result.unwrap();
    let denial = leases.acquire(inference("large", gib(11)), at(1)).result.unwrap_err();
    assert!(matches!(denial, Denial::Exclusive { .. }), "{denial:?}");
    // Exactly the threshold may share.
    leases.acquire(inference("ten", gib(10)), at(1)).result.unwrap();
}

#[test]
fn a_lease_ends_when_nobody_renews_it_and_is_not_renewed_afterwards() {
    let mut leases = leases(vec![gpu(0, gib(12), gib(0), &[])]);
    let lease = leases.acquire(inference("a", gib(4)), at(0)).result.unwrap();
    let renewed = leases.renew(lease.token, lease.token, Told::default(), at(2)).result.unwrap();
    assert_eq!(renewed.expires_at, at(5));
    let answer = leases.renew(lease.token, lease.token, Told::default(), at(5));
    assert_eq!(answer.result, Err(Denial::Ended { token: lease.token }));
    assert!(matches!(answer.changes.as_slice(), [Change::Expired(ended)] if ended.token == lease.token));
    assert!(leases.held().is_empty());
}

#[test]
fn a_release_may_be_repeated_but_only_with_the_right_token() {
    let mut leases = leases(vec![gpu(0, gib(12), gib(0), &[])]);
    let lease = leases.acquire(inference("a", gib(4)), at(0)).result.unwrap();
    let wrong = Token::new(lease.token.get() + 1);
    let denial = leases.release(lease.token, wrong, at(1)).result.unwrap_err();
    assert_eq!(denial, Denial::StaleToken { given: wrong, token: lease.token });
    assert_eq!(leases.held().len(), 1);
    for _ in 0..3 {
        assert_eq!(leases.release(lease.token, lease.token, at(1)).result, Ok(()));
    }
    let never = Token::new(9_999);
    assert_eq!(leases.release(never, never, at(1)).result, Err(Denial::Unknown { token: never }));
}

#[test]
fn a_holders_next_lease_replaces_the_one_it_has() {
    let mut leases = leases(vec![gpu(0, gib(12), gib(0), &[]), gpu(1, gib(10), gib(0), &[])]);
    let first = leases.acquire(inference("a", gib(9)), at(0)).result.unwrap();
    let grown = leases.acquire(inference("a", gib(10)), at(1)).result;
    // It fits only on the other device, since this one is just 9 GiB large after the reserve.
    let grown = grown.unwrap();
    assert_eq!((first.place, grown.place.clone()), (place(1), place(0)));
    assert!(grown.token > first.token);
    assert_eq!(leases.held().len(), 1);
    let denial = leases.renew(first.token, first.token, Told::default(), at(1)).result.unwrap_err();
    assert_eq!(denial, Denial::Ended { token: first.token });
    // Shrunk, it stays where its memory is, although the other device would fit better.
    let shrunk = leases.acquire(inference("a", gib(9)), at(2)).result.unwrap();
    assert_eq!(shrunk.place, place(0));
    // A denied replacement leaves the lease as it is.
    leases.acquire(inference("a", gib(40)), at(2)).result.unwrap_err();
    assert_eq!(leases.held().len(), 1);
}

#[test]
fn weaker_leases_drain_for_a_stronger_ask_and_the_room_is_kept_for_it() {
    let mut leases = leases(vec![gpu(0, gib(13), gib(0), &[])]);
    let training = leases.acquire(ask("tune", gib(8), Priority::Training), at(0)).result.unwrap();
    let speech = leases.acquire(ask("whisper", gib(3), Priority::Speech), at(0)).result.unwrap();

    let answer = leases.acquire(inference("chat", gib(9)), at(1));
    let Err(Denial::NoRoom { retry_after: Some(wait), .. }) = answer.result else {
        panic!("{:?}", answer.result)
    };
    assert_eq!(wait, at(2), "the training lease was granted at 0 for 3 seconds");
    assert!(matches!(answer.changes.as_slice(), [Change::Draining(lease)] if lease.token == training.token));

    let denial = leases.renew(training.token, training.token, Told::default(), at(2)).result.unwrap_err();
    assert!(matches!(denial, Denial::Draining { ref to, .. } if to == "chat"), "{denial:?}");
    leases.renew(speech.token, speech.token, Told::default(), at(2)).result.unwrap();

    // The trainer obeys and comes back at once: the room is no longer its.
    leases.release(training.token, training.token, at(2)).result.unwrap();
    let denial = leases.acquire(ask("tune", gib(8), Priority::Training), at(2)).result.unwrap_err();
    assert!(matches!(denial, Denial::NoRoom { free, .. } if free == Bytes::ZERO), "{denial:?}");
    leases.acquire(inference("chat", gib(9)), at(2)).result.unwrap();
}

#[test]
fn equals_do_not_drain_for_each_other() {
    let mut leases = leases(vec![gpu(0, gib(12), gib(0), &[])]);
    leases.acquire(inference("a", gib(8)), at(0)).result.unwrap();
    let answer = leases.acquire(inference("b", gib(8)), at(1));
    assert!(matches!(answer.result, Err(Denial::NoRoom { retry_after: None, .. })), "{:?}", answer.result);
    assert!(answer.changes.is_empty());
}

#[test]
fn a_room_set_aside_is_free_again_when_nobody_comes_for_it() {
    let mut leases = leases(vec![gpu(0, gib(12), gib(0), &[])]);
    leases.acquire(ask("tune", gib(8), Priority::Training), at(0)).result.unwrap();
    leases.acquire(inference("chat", gib(8)), at(0)).result.unwrap_err();
    let again = ask("tune", gib(8), Priority::Training);
    assert!(leases.acquire(again.clone(), at(4)).result.is_err());
    assert!(leases.acquire(again, at(6)).result.is_ok());
}

#[test]
fn no_more_drains_than_the_ask_needs() {
    let mut leases = leases(vec![gpu(0, gib(13), gib(0), &[])]);
    for (holder, size) in [("small", 2), ("large", 8)] {
        leases.acquire(ask(holder, gib(size), Priority::Training), at(0)).result.unwrap();
    }
    let answer = leases.acquire(inference("chat", gib(9)), at(1));
    let drained: Vec<&str> = answer
        .changes
        .iter()
        .map(|change| match change {
            Change::Draining(lease) => lease.holder.as_str(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(drained, ["large"]);
}

#[test]
fn without_a_gpu_whoever_asks_for_one_gets_system_memory() {
    let mut leases = leases(Vec::new());
    let lease = leases.acquire(inference("a", gib(20)), at(0)).result.unwrap();
    assert_eq!((lease.place.clone(), leases.gpu_index(&lease)), (Place::System, None));
    // System memory is shared, however large a lease is.
    leases.acquire(inference("b", gib(8)), at(0)).result.unwrap();
    let denial = leases.acquire(inference("c", gib(1)), at(0)).result.unwrap_err();
    assert!(matches!(denial, Denial::NoRoom { others, .. } if others == gib(4)), "{denial:?}");
}

#[test]
fn a_lost_gpu_denies_new_leases_and_keeps_those_that_are_held() {
    let mut leases = leases(vec![gpu(0, gib(12), gib(0), &[])]);
    let lease = leases.acquire(inference("a", gib(4)), at(0)).result.unwrap();
    let lost = Capacity { gpus: Gpus::Lost { reason: "fell off".to_owned() }, ..machine(Vec::new()) };
    leases.observe(lost, at(1));
    let denial = leases.acquire(inference("b", gib(1)), at(1)).result.unwrap_err();
    assert_eq!(denial, Denial::GpuLost { reason: "fell off".to_owned() });
    leases.renew(lease.token, lease.token, Told::default(), at(2)).result.unwrap();
    let system = Ask { wanted: Wanted::System, ..inference("c", gib(1)) };
    leases.acquire(system, at(2)).result.unwrap();
    leases.observe(machine(vec![gpu(0, gib(12), gib(0), &[])]), at(3));
    leases.acquire(inference("b", gib(1)), at(3)).result.unwrap();
}

#[test]
fn a_game_takes_room_from_new_leases_and_gives_it_back() {
    let free = || machine(vec![gpu(0, gib(24), gib(1), &[(7, gib(1))])]);
    let game = || machine(vec![gpu(0, gib(24), gib(13), &[(7, gib(1)), (8, gib(12))])]);
    let mut leases = Leases::new(policy(), free(), Token::new(1), Vec::new(), at(0));
    leases.observe(game(), at(1));
    let denial = leases.acquire(inference("a", gib(12)), at(1)).result.unwrap_err();
    assert!(matches!(denial, Denial::NoRoom { others, free, .. } if others == gib(13) && free == gib(10)));
    leases.observe(free(), at(2));
    leases.acquire(inference("a", gib(12)), at(2)).result.unwrap();
}

#[test]
fn a_lease_that_is_being_filled_is_not_taken_for_a_foreign_program() {
    let mut leases = leases(vec![gpu(0, gib(24), gib(2), &[])]);
    leases.acquire(Ask { ttl: Ttl::new(Ttl::MAX).unwrap(), ..inference("a", gib(8)) }, at(0)).result.unwrap();
    for used in [2, 5, 10] {
        leases.observe(machine(vec![gpu(0, gib(24), gib(used), &[])]), at(1));
        assert_eq!(leases.others_on(&place(0)), gib(2), "{used} GiB used");
    }
    // Three more than both explain.
    leases.observe(machine(vec![gpu(0, gib(24), gib(13), &[])]), at(2));
    assert_eq!(leases.others_on(&place(0)), gib(5));
}

#[test]
fn a_foreign_program_that_ends_beside_a_settled_lease_is_seen_to_end() {
    let mut leases = leases(vec![gpu(0, gib(24), gib(12), &[])]);
    let lease = leases.acquire(inference("a", gib(8)), at(0)).result.unwrap();
    for second in 1..=61 {
        leases.observe(machine(vec![gpu(0, gib(24), gib(20), &[])]), at(second));
        leases.renew(lease.token, lease.token, Told::default(), at(second)).result.unwrap();
    }
    leases.observe(machine(vec![gpu(0, gib(24), gib(8), &[])]), at(62));
    assert_eq!(leases.others_on(&place(0)), Bytes::ZERO);
}

#[test]
fn a_holder_that_names_its_process_is_counted_exactly() {
    let mut leases = leases(vec![gpu(0, gib(24), gib(12), &[(9, gib(12))])]);
    let lease = leases.acquire(inference("a", gib(8)), at(0)).result.unwrap();
    let loaded = vec![gpu(0, gib(24), gib(21), &[(9, gib(12)), (10, gib(9))])];
    leases.renew(lease.token, lease.token, named(vec![10]), at(1)).result.unwrap();
    leases.observe(machine(loaded), at(1));
    assert_eq!(leases.others_on(&place(0)), gib(13), "one GiB beyond the lease counts as foreign");
    // The holder asks for what it really has.
    let exact = leases.acquire(Ask { pids: vec![10], ..inference("a", gib(9)) }, at(2)).result.unwrap();
    assert_eq!(leases.others_on(&exact.place), gib(12));
    leases.observe(machine(vec![gpu(0, gib(24), gib(9), &[(10, gib(9))])]), at(3));
    assert_eq!(leases.others_on(&exact.place), Bytes::ZERO, "the game ended");
}

#[test]
fn a_process_counts_for_the_holder_that_named_it_first() {
    let mut leases = leases(vec![gpu(0, gib(24), gib(8), &[(10, gib(8))])]);
    leases.acquire(Ask { pids: vec![10], ..inference("a", gib(8)) }, at(0)).result.unwrap();
    let second = leases.acquire(Ask { pids: vec![10], ..inference("b", gib(8)) }, at(0)).result.unwrap();
    assert_eq!(second.pids, [0; 0]);
    // Named once, it stays named when the holder grows.
    let grown = leases.acquire(inference("a", gib(9)), at(1)).result.unwrap();
    assert_eq!(grown.pids, [10]);
}

#[test]
fn a_holder_may_shrink_also_before_it_has_given_the_memory_back() {
    let mut leases = leases(vec![gpu(0, gib(12), gib(0), &[])]);
    leases.acquire(inference("a", gib(10)), at(0)).result.unwrap();
    leases.observe(machine(vec![gpu(0, gib(12), gib(12), &[])]), at(1));
    leases.acquire(inference("a", gib(4)), at(1)).result.unwrap();
    assert_eq!(leases.others_on(&place(0)), gib(8), "nobody else gets it yet");
}

#[test]
fn a_holder_whose_lease_was_lost_gets_it_back_for_the_memory_it_uses() {
    let mut leases = leases(vec![gpu(0, gib(10), gib(8), &[(10, gib(8))])]);
    leases.acquire(inference("a", gib(8)), at(0)).result.unwrap_err();
    leases.acquire(Ask { pids: vec![10], ..inference("a", gib(8)) }, at(0)).result.unwrap();
    assert_eq!(leases.others_on(&place(0)), Bytes::ZERO);
}

#[test]
fn memory_of_an_ended_lease_is_free_only_when_it_is_seen_free() {
    let mut leases = leases(vec![gpu(0, gib(12), gib(0), &[])]);
    let lease = leases.acquire(inference("a", gib(8)), at(0)).result.unwrap();
    leases.observe(machine(vec![gpu(0, gib(12), gib(8), &[])]), at(1));
    leases.release(lease.token, lease.token, at(1)).result.unwrap();
    leases.acquire(inference("b", gib(8)), at(1)).result.unwrap_err();
    leases.observe(machine(vec![gpu(0, gib(12), gib(0), &[])]), at(2));
    leases.acquire(inference("b", gib(8)), at(2)).result.unwrap();
}

#[test]
fn the_weakest_lease_drains_when_other_programs_take_its_room() {
    let mut leases = leases(vec![gpu(0, gib(24), gib(0), &[])]);
    let image = leases.acquire(ask("image", gib(8), Priority::Image), at(0)).result.unwrap();
    let chat = leases.acquire(Ask { pids: vec![10], ..inference("chat", gib(8)) }, at(0)).result.unwrap();
    let game = machine(vec![gpu(0, gib(24), gib(20), &[(10, gib(8)), (9, gib(12))])]);
    leases.renew(image.token, image.token, named(vec![11]), at(1)).result.unwrap();
    leases.renew(chat.token, chat.token, Told::default(), at(1)).result.unwrap();
    let changes = leases.observe(game.clone(), at(1));
    assert!(changes.is_empty(), "the image lease may be what fills the card: {changes:?}");
    let game = machine(vec![gpu(0, gib(24), gib(23), &[(10, gib(8)), (11, gib(3)), (9, gib(12))])]);
    let changes = leases.observe(game.clone(), at(2));
    assert!(
        matches!(changes.as_slice(), [Change::Draining(lease)] if lease.token == image.token),
        "{changes:?}"
    );
    assert!(leases.observe(game, at(2)).is_empty(), "it drains once");
    leases.renew(chat.token, chat.token, Told::default(), at(3)).result.unwrap();
}

#[test]
fn leases_of_an_earlier_run_live_on_for_their_time_to_live() {
    let mut before = leases(vec![gpu(0, gib(12), gib(0), &[])]);
    let lease = before.acquire(inference("a", gib(8)), at(1_000)).result.unwrap();
    let loaded = machine(vec![gpu(0, gib(12), gib(8), &[])]);
    let mut after = Leases::new(policy(), loaded, Token::new(5_000), before.held().to_vec(), Duration::ZERO);
    assert_eq!(after.others_on(&place(0)), Bytes::ZERO);
    after.renew(lease.token, lease.token, Told::default(), at(2)).result.unwrap();
    let fresh = after.acquire(inference("b", gib(2)), at(2)).result.unwrap();
    assert!(fresh.token > lease.token);
    let older = Token::new(3);
    let denial = after.renew(older, older, Told::default(), at(2)).result.unwrap_err();
    assert_eq!(denial, Denial::Ended { token: older });
}

#[test]
fn leases_are_bounded_in_number() {
    let mut leases = leases(Vec::new());
    for nth in 0..LEASES_MAX {
        leases.acquire(inference(&format!("h{nth}"), Bytes::new(1)), at(0)).result.unwrap();
    }
    let denial = leases.acquire(inference("one more", Bytes::new(1)), at(0)).result.unwrap_err();
    assert_eq!(denial, Denial::TooMany { held: LEASES_MAX });
    leases.acquire(inference("h3", Bytes::new(2)), at(0)).result.unwrap();
}

#[test]
fn a_lease_id_has_one_spelling() {
    assert_eq!(Token::from_lease_id("lease-12"), Some(Token::new(12)));
    for bad in ["", "lease-", "lease-+1", "lease-01", "lease-1 ", "12", "lease-99999999999999999999"] {
        assert_eq!(Token::from_lease_id(bad), None, "{bad:?}");
    }
}

#[test]
fn a_holder_is_text_of_bounded_length() {
    assert!(Holder::new("local-model-pool-0197/tiny chat").is_ok());
    for bad in [String::new(), "a\nb".to_owned(), "x".repeat(129)] {
        assert!(Holder::new(bad.clone()).is_err(), "{bad:?} was accepted");
    }
}
