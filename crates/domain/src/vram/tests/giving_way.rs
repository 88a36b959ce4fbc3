//! Who drains, for whom, and when what drained may come back.

use super::*;

/// One card of 24 GiB, of which a GiB is the reserve.
fn card() -> Leases {
    leases(vec![gpu(0, gib(24), gib(0), &[])])
}

fn worth(reload_s: u64, idle_s: u64, pinned: bool) -> Worth {
    let idle = (idle_s > 0).then(|| at(idle_s));
    Worth { reload: Some(at(reload_s)), idle, use_permille: None, pinned }
}

fn with(ask: Ask, worth: Worth) -> Ask {
    Ask { worth, ..ask }
}

fn drained(changes: &[Change]) -> Vec<&str> {
    changes
        .iter()
        .filter_map(|change| match change {
            Change::Draining(lease) => Some(lease.holder.as_str()),
            _ => None,
        })
        .collect()
}

#[test]
fn of_equally_weak_leases_the_cheapest_to_load_again_drains() {
    let mut leases = card();
    for (holder, worth) in
        [("slow", worth(90, 0, false)), ("fast", worth(5, 0, false)), ("idle", worth(90, 36_000, false))]
    {
        leases.acquire(with(ask(holder, gib(7), Priority::Image), worth), at(0)).result.unwrap();
    }
    // Nobody has asked for `idle` in ten hours: its 90 seconds will hardly be waited for.
    let answer = leases.acquire(inference("chat", gib(8)), at(1));
    assert_eq!(drained(&answer.changes), ["idle"]);
    let Err(denial) = answer.result else { panic!("granted at once") };
    assert_eq!(denial.cheapest(), [Holder::new("idle").unwrap()]);
}

#[test]
fn the_cost_is_that_of_the_last_words_of_the_holder() {
    let mut leases = card();
    let a =
        leases.acquire(with(ask("a", gib(10), Priority::Image), worth(50, 0, false)), at(0)).result.unwrap();
    leases.acquire(with(ask("b", gib(10), Priority::Image), worth(60, 0, false)), at(0)).result.unwrap();
    let told = Told { pids: Vec::new(), worth: Some(worth(70, 0, false)) };
    leases.renew(a.token, a.token, told, at(1)).result.unwrap();
    assert_eq!(drained(&leases.acquire(inference("chat", gib(10)), at(2)).changes), ["b"]);
}

#[test]
fn an_equal_that_was_idle_for_long_gives_way_and_one_in_use_is_only_named() {
    let mut leases = card();
    let first = with(inference("a", gib(9)), worth(20, 59, false));
    let first = leases.acquire(first, at(0)).result.unwrap();
    leases.acquire(with(inference("b", gib(9)), worth(20, 0, false)), at(0)).result.unwrap();
    let early = leases.acquire(inference("c", gib(9)), at(0));
    assert_eq!(drained(&early.changes), [""; 0]);
    let Err(denial) = early.result else { panic!("granted at once") };
    assert_eq!(denial.cheapest(), [Holder::new("a").unwrap()], "the asker may own it");
    let answer = leases.acquire(inference("c", gib(9)), at(1));
    assert_eq!(drained(&answer.changes), ["a"]);
    leases.release(first.token, first.token, at(2)).result.unwrap();
    leases.acquire(inference("c", gib(9)), at(2)).result.unwrap();
}

#[test]
fn what_is_pinned_drains_for_no_ask_and_for_other_programs_last() {
    let mut leases = card();
    let pinned = with(ask("pinned", gib(9), Priority::Training), worth(1, 36_000, true));
    leases.acquire(pinned, at(0)).result.unwrap();
    leases.acquire(inference("chat", gib(9)), at(0)).result.unwrap();
    let answer = leases.acquire(inference("more", gib(9)), at(1));
    assert!(answer.changes.is_empty());
    assert_eq!(answer.result.unwrap_err().cheapest(), [Holder::new("chat").unwrap()]);
    let unnamed = machine(vec![gpu(0, gib(24), gib(23), &[(9, gib(12))])]);
    assert_eq!(drained(&leases.observe(unnamed, at(1))), [""; 0], "the leases may be what fills the card");
    for (holder, pid) in [("pinned", 1), ("chat", 2)] {
        let lease = leases.held().iter().find(|it| it.holder.as_str() == holder).unwrap().clone();
        leases.renew(lease.token, lease.token, named(vec![pid]), at(2)).result.unwrap();
    }
    let game = machine(vec![gpu(0, gib(24), gib(24), &[(1, gib(9)), (2, gib(3)), (9, gib(12))])]);
    assert_eq!(drained(&leases.observe(game, at(2))), ["chat"]);
}

#[test]
fn a_lease_that_fits_on_another_gpu_moves_there_instead_of_ending() {
    let mut leases = leases(vec![gpu(0, gib(13), gib(0), &[]), gpu(1, gib(10), gib(0), &[])]);
    leases.acquire(ask("image", gib(8), Priority::Image), at(0)).result.unwrap();
    let speech = leases.acquire(ask("speech", gib(4), Priority::Speech), at(0)).result.unwrap();
    assert_eq!(speech.place, place(0), "image is where it fits best, so speech is on the larger one");
    let answer = leases.acquire(inference("chat", gib(9)), at(1));
    assert_eq!(drained(&answer.changes), ["image"], "it goes beside speech, which could not go anywhere");
    let image = leases.held().iter().find(|it| it.holder.as_str() == "image").unwrap().token;
    leases.release(image, image, at(2)).result.unwrap();
    let moved = leases.acquire(ask("image", gib(8), Priority::Image), at(2)).result.unwrap();
    let chat = leases.acquire(inference("chat", gib(9)), at(2)).result.unwrap();
    assert_eq!((moved.place, chat.place), (place(0), place(1)));
}

#[test]
fn a_job_that_nobody_waits_for_is_held_in_the_off_peak_window_only() {
    let policy = Policy { off_peak: Window::new(120, 480), ..policy() };
    let card = || machine(vec![gpu(0, gib(24), gib(0), &[])]);
    let mut leases = Leases::new(policy, card(), Token::new(1), Vec::new(), at(0));
    let tune = || ask("tune", gib(8), Priority::Training);
    leases.tell_minute(60, at(0));
    let denial = leases.acquire(tune(), at(0)).result.unwrap_err();
    let Denial::OffPeakOnly { opens_in, .. } = denial else { panic!("{denial:?}") };
    assert_eq!(opens_in, at(3_600));
    leases.acquire(inference("chat", gib(1)), at(0)).result.unwrap();
    leases.acquire(Ask { anytime: true, ..ask("asked for", gib(1), Priority::Image) }, at(0)).result.unwrap();

    assert!(leases.tell_minute(120, at(1)).is_empty());
    let lease = leases.acquire(tune(), at(1)).result.unwrap();
    assert!(leases.tell_minute(479, at(2)).is_empty());
    assert_eq!(drained(&leases.tell_minute(480, at(2))), ["tune"]);
    assert!(leases.tell_minute(480, at(2)).is_empty(), "it drains once");
    let denial = leases.renew(lease.token, lease.token, Told::default(), at(2)).result.unwrap_err();
    assert!(matches!(denial, Denial::Draining { .. }), "{denial:?}");
}

/// A chat model of 8 GiB and what else is on a card of 24 GiB.
fn beside(game: u64, chat: u64) -> Capacity {
    machine(vec![gpu(0, gib(24), gib(game + chat), &[(1, gib(chat)), (9, gib(game))])])
}

#[test]
fn a_model_that_left_for_a_game_comes_back_once_the_game_stays_away() {
    let policy = Policy { return_after: at(20), ..policy() };
    let mut leases = Leases::new(policy, beside(0, 0), Token::new(1), Vec::new(), at(0));
    let ask = || Ask { pids: vec![1], ..inference("chat", gib(12)) };
    let chat = leases.acquire(ask(), at(0)).result.unwrap();
    assert_eq!(drained(&leases.observe(beside(13, 12), at(1))), ["chat"]);
    leases.release(chat.token, chat.token, at(2)).result.unwrap();
    // The game loads a level: for some seconds its memory is free.
    for (second, game) in [(3, 13), (4, 2), (8, 13), (10, 2), (12, 13), (14, 0)] {
        leases.observe(beside(game, 0), at(second));
        let denial = leases.acquire(ask(), at(second)).result.unwrap_err();
        assert_eq!(matches!(denial, Denial::Returning { .. }), game < 12, "{denial}");
    }
    let denial = leases.acquire(ask(), at(14)).result.unwrap_err();
    let Denial::Returning { others, retry_after, .. } = denial else { panic!("{denial:?}") };
    assert_eq!((others, retry_after), (gib(13), at(18)));
    // Whoever fits beside the game is not kept out.
    let small = leases.acquire(inference("speech", gib(2)), at(14)).result.unwrap();
    leases.release(small.token, small.token, at(14)).result.unwrap();
    leases.observe(beside(0, 0), at(32));
    leases.acquire(ask(), at(32)).result.unwrap();
}

#[test]
fn a_program_that_has_taken_all_that_was_free_is_given_room() {
    let mut leases = Leases::new(policy(), beside(0, 0), Token::new(1), Vec::new(), at(0));
    leases.acquire(Ask { pids: vec![1], ..inference("chat", gib(8)) }, at(0)).result.unwrap();
    assert_eq!(drained(&leases.observe(beside(15, 8), at(1))), [""; 0], "a GiB is free, the reserve");
    // It would take more if there were more.
    assert_eq!(drained(&leases.observe(beside(16, 8), at(2))), ["chat"]);
}

#[test]
fn nobody_drains_for_an_ask_whose_room_a_game_may_take_again() {
    let mut leases = Leases::new(policy(), beside(0, 0), Token::new(1), Vec::new(), at(0));
    let chat = leases.acquire(Ask { pids: vec![1], ..inference("chat", gib(12)) }, at(0)).result.unwrap();
    leases.observe(beside(13, 12), at(1));
    leases.release(chat.token, chat.token, at(1)).result.unwrap();
    leases.observe(beside(13, 0), at(2));
    leases.acquire(ask("image", gib(9), Priority::Image), at(2)).result.unwrap();
    leases.observe(beside(0, 0), at(3));
    let answer = leases.acquire(inference("chat", gib(15)), at(3));
    assert!(answer.changes.is_empty() && answer.result.is_err(), "{answer:?}");
}
