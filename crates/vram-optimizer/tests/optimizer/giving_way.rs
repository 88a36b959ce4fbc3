//! Who gives way, as holders on the bus see it.

use std::time::Duration;

use e2e::nvml::{Card, IDLE};
use service_runtime::clock::{Clock, ManualClock};
use vram_optimizer::Raw;
use wire::{
    subject::LeaseCall,
    v1::{self, LeasePriority, lease_reply::Result as Outcome, lease_request::Action},
};

use crate::service::{Machine, ask, inference};

async fn soon<T>(probe: impl AsyncFnMut() -> Option<T>) -> T {
    e2e::wait::until("the optimizer to notice", Duration::from_secs(30), probe).await.unwrap()
}

fn worth(reload_ms: u64, idle_ms: u64) -> Option<v1::LeaseWorth> {
    Some(v1::LeaseWorth { reload_ms, idle_ms, ..v1::LeaseWorth::default() })
}

#[tokio::test]
async fn a_denial_names_the_holders_that_are_cheapest_to_load_again() {
    let card = Card::new(IDLE);
    let mut machine = Machine::new().await;
    let running = machine.start(card.library()).await;
    for (holder, reload_ms) in [("slow", 90_000), ("fast", 4_000), ("middling", 30_000)] {
        let acquire = v1::LeaseAcquire { worth: worth(reload_ms, 0), ..inference(holder, 7_000) };
        machine.acquire(acquire).await.unwrap();
    }
    let subject = LeaseCall(machine.bus.machine().clone());
    let request = v1::LeaseRequest { action: Some(Action::Acquire(inference("next", 8_000))) };
    let reply = machine.bus.call_within(&subject, &request, Duration::from_secs(30)).await.unwrap();
    assert!(matches!(reply.result, Some(Outcome::Error(_))), "{reply:?}");
    assert_eq!(reply.cheapest, ["fast"]);
    // Total less reserve, what others use and what is leased.
    assert_eq!(reply.missing_bytes, (8_000 - (23_576 - 576 - 21_000)) << 20);
    running.stop().await;
}

#[tokio::test]
async fn of_two_image_jobs_the_idle_one_drains_for_a_chat() {
    let card = Card::new(IDLE);
    let mut machine = Machine::new().await;
    let running = machine.start(card.library()).await;
    let image = |holder| ask(holder, 9_000, LeasePriority::Image);
    let busy = machine.acquire(v1::LeaseAcquire { worth: worth(20_000, 0), ..image("busy") }).await.unwrap();
    let idle =
        machine.acquire(v1::LeaseAcquire { worth: worth(20_000, 900_000), ..image("idle") }).await.unwrap();
    let denied = machine.acquire(inference("chat", 9_000)).await.unwrap_err();
    assert!(denied.retry_after_ms > 0, "{denied:?}");
    machine.renew(&busy).await.unwrap();
    let gives_way = machine.renew(&idle).await.unwrap_err();
    assert!(gives_way.message.contains("gives way to chat"), "{}", gives_way.message);
    machine.release(&idle).await;
    machine.acquire(inference("chat", 9_000)).await.unwrap();
    running.stop().await;
}

#[tokio::test]
async fn training_is_leased_at_night_and_gives_way_in_the_morning() {
    let card = Card::new(IDLE);
    let mut machine = Machine::new().await;
    // 1970-01-01 01:00 UTC.
    let clock = ManualClock::at(3_600_000);
    let raw = Raw { time_zone: Some("UTC".to_owned()), ..Raw::default() };
    let running = machine.start_with(card.library(), raw, clock.clock()).await;
    let training = || ask("tune", 9_000, LeasePriority::Training);
    let denied = machine.acquire(training()).await.unwrap_err();
    assert_eq!(
        (denied.code(), denied.retry_after_ms),
        (v1::ErrorCode::Busy, 3_600_000),
        "{}",
        denied.message
    );
    assert!(denied.message.contains("02:00-08:00"), "{}", denied.message);
    let asked = v1::LeaseAcquire { anytime: true, ..ask("asked for", 1_000, LeasePriority::Image) };
    let asked = machine.acquire(asked).await.unwrap();

    clock.advance(Duration::from_secs(3_600));
    let held = soon(async || machine.acquire(training()).await.ok()).await;
    machine.renew(&held).await.unwrap();
    clock.advance(Duration::from_secs(6 * 3_600));
    let gives_way = soon(async || machine.renew(&held).await.err()).await;
    assert!(gives_way.message.contains("off-peak window"), "{}", gives_way.message);
    machine.renew(&asked).await.unwrap();
    running.stop().await;
}

#[tokio::test]
async fn what_left_for_a_game_is_told_to_wait_until_the_game_stays_away() {
    let card = Card::new(IDLE);
    let mut machine = Machine::new().await;
    let raw = Raw { return_after_s: 3_600, ..Raw::default() };
    let running = machine.start_with(card.library(), raw, Clock::system()).await;
    let chat = || v1::LeaseAcquire { pids: vec![77], ..inference("chat", 14_000) };
    let held = machine.acquire(chat()).await.unwrap();
    card.describe("Card A;GPU-aaaa;24576;24576;99;50;70;300000;77=11000;4711=12288");
    let gives_way = soon(async || machine.renew(&held).await.err()).await;
    assert!(gives_way.message.contains("gives way to other programs"), "{}", gives_way.message);
    machine.release(&held).await;
    card.describe(IDLE);
    let denied = machine.acquire(chat()).await.unwrap_err();
    assert!(denied.retry_after_ms > 3_000_000 && denied.message.contains("lately"), "{denied:?}");
    // What fits beside the game need not wait.
    machine.acquire(inference("speech", 2_000)).await.unwrap();
    running.stop().await;
}
