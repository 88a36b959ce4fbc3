//! What holds for any sequence of events.

use proptest::prelude::*;

use super::*;

const DEVICES: [u64; 2] = [24_000, 8_000];
const RESERVE: u64 = 457;

#[derive(Debug, Clone)]
enum Event {
    Acquire { holder: u8, mib: u64, priority: usize, ttl_ms: u64, system: bool, pids: Vec<u32>, worth: Worth },
    Renew { nth: usize, wrong: bool, pids: Vec<u32> },
    Release { nth: usize, wrong: bool },
    Observe { used: [u64; 3], game: bool, lost: bool },
    Wait { ms: u64 },
}

fn worth() -> impl Strategy<Value = Worth> {
    let seconds = |most: u64| prop::option::of((0..most).prop_map(Duration::from_secs));
    (seconds(60), seconds(600), prop::option::of(0_u16..1_000), prop::bool::weighted(0.1))
        .prop_map(|(reload, idle, use_permille, pinned)| Worth { reload, idle, use_permille, pinned })
}

fn event() -> impl Strategy<Value = Event> {
    let pids = || prop::collection::vec(1_u32..6, 0..2);
    prop_oneof![
        4 => (0_u8..6, 1_u64..26_000, 0_usize..5, 500_u64..9_000, any::<bool>(), pids(), worth()).prop_map(
            |(holder, mib, priority, ttl_ms, system, pids, worth)| {
                Event::Acquire { holder, mib, priority, ttl_ms, system, pids, worth }
            }
        ),
        3 => (0_usize..12, prop::bool::weighted(0.1), pids())
            .prop_map(|(nth, wrong, pids)| Event::Renew { nth, wrong, pids }),
        2 => (0_usize..12, prop::bool::weighted(0.1)).prop_map(|(nth, wrong)| Event::Release { nth, wrong }),
        2 => ([0_u64..24_000, 0_u64..8_000, 0_u64..30_000], any::<bool>(), prop::bool::weighted(0.1))
            .prop_map(|(used, game, lost)| Event::Observe { used, game, lost }),
        2 => (1_u64..4_000).prop_map(|ms| Event::Wait { ms }),
    ]
}

fn capacity(used: [u64; 3], game: bool, lost: bool) -> Capacity {
    let [first, second, system] = used;
    let device = |index: usize, used: u64| {
        let processes = if game {
            vec![ProcessUse { pid: u32::try_from(index).unwrap() + 1, used: Bytes::mebibytes(used / 2) }]
        } else {
            Vec::new()
        };
        Device {
            id: GpuId::new(format!("GPU-{index}")),
            index: u32::try_from(index).unwrap(),
            memory: Memory {
                total: Bytes::mebibytes(DEVICES[index]),
                used: Bytes::mebibytes(used),
                processes,
            },
        }
    };
    let gpus = if lost {
        Gpus::Lost { reason: "lost".to_owned() }
    } else {
        Gpus::Present(vec![device(0, first), device(1, second)])
    };
    let system =
        Memory { total: Bytes::mebibytes(32_000), used: Bytes::mebibytes(system), processes: Vec::new() };
    Capacity { gpus, system }
}

fn start() -> Leases {
    Leases::new(
        Policy::default(),
        capacity([0, 0, 0], false, false),
        Token::new(1),
        Vec::new(),
        Duration::ZERO,
    )
}

/// What happened to whom, for comparing two runs.
#[derive(Debug, PartialEq)]
enum Seen {
    Lease(Result<Lease, Denial>, Vec<Change>),
    Done(Result<(), Denial>, Vec<Change>),
}

struct World {
    leases: Leases,
    granted: Vec<Token>,
    now: Duration,
}

impl World {
    fn new() -> Self {
        Self { leases: start(), granted: Vec::new(), now: Duration::ZERO }
    }

    /// A token that was granted at some time, or one that never was.
    fn token(&self, nth: usize) -> Token {
        self.granted.get(nth).copied().unwrap_or(Token::new(u64::MAX - 1))
    }

    fn step(&mut self, event: &Event) -> Seen {
        let now = self.now;
        match event.clone() {
            Event::Acquire { holder, mib, priority, ttl_ms, system, pids, worth } => {
                let answer = self.leases.acquire(
                    Ask {
                        holder: Holder::new(format!("h{holder}")).unwrap(),
                        bytes: Bytes::mebibytes(mib),
                        priority: Priority::ALL[priority],
                        ttl: Ttl::new(Duration::from_millis(ttl_ms)).unwrap(),
                        wanted: if system { Wanted::System } else { Wanted::Gpu },
                        pids,
                        worth,
                        anytime: false,
                    },
                    now,
                );
                self.granted.extend(answer.result.iter().map(|lease| lease.token));
                Seen::Lease(answer.result, answer.changes)
            }
            Event::Renew { nth, wrong, pids } => {
                let token = self.token(nth);
                let answer = self.leases.renew(token, fence(token, wrong), Told { pids, worth: None }, now);
                Seen::Lease(answer.result, answer.changes)
            }
            Event::Release { nth, wrong } => {
                let token = self.token(nth);
                let answer = self.leases.release(token, fence(token, wrong), now);
                Seen::Done(answer.result, answer.changes)
            }
            Event::Observe { used, game, lost } => {
                Seen::Done(Ok(()), self.leases.observe(capacity(used, game, lost), now))
            }
            Event::Wait { ms } => {
                self.now += Duration::from_millis(ms);
                Seen::Done(Ok(()), self.leases.expire(self.now))
            }
        }
    }

    fn leased(&self, place: &Place) -> Bytes {
        self.leases.held().iter().filter(|lease| lease.place == *place).map(|lease| lease.bytes).sum()
    }
}

fn fence(token: Token, wrong: bool) -> Token {
    if wrong { Token::new(token.get().wrapping_add(1)) } else { token }
}

fn size(place: &Place) -> Bytes {
    match place {
        Place::System => Bytes::mebibytes(32_000),
        Place::Gpu(id) if id.as_str() == "GPU-0" => Bytes::mebibytes(DEVICES[0] - RESERVE),
        Place::Gpu(_) => Bytes::mebibytes(DEVICES[1] - RESERVE),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn leases_never_exceed_a_device_and_no_grant_takes_what_others_use(events in prop::collection::vec(event(), 1..60)) {
        let mut world = World::new();
        for event in &events {
            let seen = world.step(event);
            for place in [Place::System, Place::Gpu(GpuId::new("GPU-0")), Place::Gpu(GpuId::new("GPU-1"))] {
                prop_assert!(world.leased(&place) <= size(&place), "{place} after {event:?}");
            }
            if let (Event::Acquire { .. }, Seen::Lease(Ok(lease), changes)) = (event, seen) {
                // Who shrinks on the spot takes nothing, even where the device is fuller than it should be.
                let shrinks = changes.iter().any(|change| {
                    matches!(change, Change::Replaced(old) if old.place == lease.place && old.bytes >= lease.bytes)
                });
                let taken = world.leased(&lease.place) + world.leases.others_on(&lease.place);
                prop_assert!(shrinks || taken <= size(&lease.place), "{taken} of {} after {event:?}", size(&lease.place));
                let here = world.leases.held().iter().filter(|other| other.place == lease.place);
                let alone = here.count() == 1;
                let large = lease.place != Place::System && lease.bytes > Policy::default().exclusive_over;
                prop_assert!(alone || !large, "a large lease shares {}", lease.place);
            }
        }
    }

    #[test]
    fn without_foreign_changes_the_sum_fits_at_every_tick(
        used in [0_u64..24_000, 0_u64..8_000, 0_u64..30_000],
        events in prop::collection::vec(event(), 1..60),
    ) {
        let mut world = World::new();
        world.leases.observe(capacity(used, false, false), Duration::ZERO);
        for event in events.iter().filter(|event| !matches!(event, Event::Observe { .. })) {
            world.step(event);
            for (nth, place) in
                [Place::Gpu(GpuId::new("GPU-0")), Place::Gpu(GpuId::new("GPU-1")), Place::System].iter().enumerate()
            {
                let others = Bytes::mebibytes(used[nth]);
                let taken = world.leased(place);
                prop_assert!(taken == Bytes::ZERO || taken + others <= size(place), "{place} after {event:?}");
            }
        }
    }

    #[test]
    fn fencing_tokens_strictly_grow(events in prop::collection::vec(event(), 1..60)) {
        let mut world = World::new();
        for event in &events {
            world.step(event);
        }
        prop_assert!(world.granted.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", world.granted);
    }

    #[test]
    fn what_ended_is_never_renewed_and_may_be_released_again(events in prop::collection::vec(event(), 1..60)) {
        let mut world = World::new();
        let mut ended: Vec<Token> = Vec::new();
        for event in &events {
            let (Seen::Lease(_, changes) | Seen::Done(_, changes)) = world.step(event);
            ended.extend(changes.iter().filter_map(|change| match change {
                Change::Expired(lease) | Change::Replaced(lease) | Change::Released(lease) => Some(lease.token),
                Change::Granted(_) | Change::Draining(_) => None,
            }));
            for token in &ended {
                let mut copy = world.leases.clone();
                prop_assert_eq!(copy.renew(*token, *token, Told::default(), world.now).result, Err(Denial::Ended { token: *token }));
                let mut copy = world.leases.clone();
                prop_assert_eq!(copy.release(*token, *token, world.now).result, Ok(()));
                prop_assert_eq!(&copy, &world.leases);
            }
        }
    }

    #[test]
    fn every_lease_ends_within_its_time_to_live_after_the_last_renewal(events in prop::collection::vec(event(), 1..60)) {
        let mut world = World::new();
        for event in &events {
            world.step(event);
            for lease in world.leases.held() {
                prop_assert!(lease.expires_at <= world.now + lease.ttl.get());
            }
        }
        world.leases.expire(world.now + Ttl::MAX);
        prop_assert!(world.leases.held().is_empty());
    }

    #[test]
    fn the_same_events_have_the_same_outcome(events in prop::collection::vec(event(), 1..60)) {
        let (mut one, mut two) = (World::new(), World::new());
        for event in &events {
            prop_assert_eq!(one.step(event), two.step(event));
            prop_assert_eq!(&one.leases, &two.leases);
        }
    }
}
