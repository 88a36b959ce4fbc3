use proptest::prelude::*;

use super::*;

fn room(size: u64) -> Room {
    Room { size: Bytes::new(size), closed: false }
}

fn demand(bytes: u64, rank: u8, cost: u64, at: Option<usize>) -> Demand {
    Demand { bytes: Bytes::new(bytes), rank, cost, at, fixed: false, exclusive: false }
}

#[test]
fn the_cheapest_to_load_again_leaves_not_the_weakest_of_its_rank() {
    let held = [demand(8, 1, 900, Some(0)), demand(8, 1, 200, Some(0)), demand(8, 1, 500, Some(0))];
    let asked = demand(6, 2, 1, None);
    let plan = solve(&[room(24)], &[held[0], held[1], held[2], asked]);
    assert_eq!(plan.at, [Some(0), None, Some(0), Some(0)]);
}

#[test]
fn two_cheap_ones_may_leave_in_place_of_one_dear_one() {
    let plan = solve(
        &[room(20)],
        &[
            demand(10, 1, 900, Some(0)),
            demand(5, 1, 200, Some(0)),
            demand(5, 1, 300, Some(0)),
            demand(10, 2, 1, None),
        ],
    );
    assert_eq!(plan.at, [Some(0), None, None, Some(0)]);
}

#[test]
fn moving_is_better_than_ending() {
    let plan = solve(&[room(10), room(8)], &[demand(4, 1, 1, Some(0)), demand(9, 2, 1, None)]);
    assert_eq!(plan.at, [Some(1), Some(0)]);
}

#[test]
fn a_strong_demand_is_never_left_out_for_any_number_of_weak_ones() {
    let mut demands = vec![demand(1, 0, u64::MAX / 16, Some(0)); 8];
    demands.push(demand(8, 1, 1, None));
    assert_eq!(solve(&[room(8)], &demands).at.last(), Some(&Some(0)));
}

#[test]
fn more_than_can_be_searched_is_filled_in_order_and_says_so() {
    let demands: Vec<Demand> = (0..64).map(|n| demand(1, (n % 5) as u8, 1 + n, None)).collect();
    let plan = solve(&[room(10), room(10)], &demands);
    assert!(!plan.exact);
    let placed = plan.at.iter().zip(&demands).filter(|(at, _)| at.is_some());
    // 12 demands have rank 4, so 8 of rank 3 fit too.
    assert!(placed.clone().all(|(_, demand)| demand.rank >= 3));
    assert_eq!(placed.count(), 20);
}

fn rooms() -> impl Strategy<Value = Vec<Room>> {
    prop::collection::vec((0_u64..20, prop::bool::weighted(0.1)), 1..4).prop_map(|rooms| {
        rooms.into_iter().map(|(size, closed)| Room { size: Bytes::new(size), closed }).collect()
    })
}

/// Rooms and demands that are where they may be.
fn problem(most: usize) -> impl Strategy<Value = (Vec<Room>, Vec<Demand>)> {
    let demand = (
        1_u64..12,
        0_u8..4,
        1_u64..50,
        prop::option::of(0_usize..3),
        any::<bool>(),
        prop::bool::weighted(0.2),
    );
    (rooms(), prop::collection::vec(demand, 0..most)).prop_map(|(rooms, demands)| {
        let mut placed: Vec<Demand> = Vec::new();
        for (bytes, rank, cost, at, fixed, exclusive) in demands {
            let mut demand =
                Demand { bytes: Bytes::new(bytes), rank, cost, at: None, fixed: false, exclusive };
            if let Some(at) = at.filter(|at| *at < rooms.len()) {
                let here: Vec<&Demand> = placed.iter().filter(|it| it.at == Some(at)).collect();
                let used: Bytes = here.iter().map(|it| it.bytes).sum();
                let alone = here.is_empty() || (!exclusive && !here.iter().any(|it| it.exclusive));
                if alone && used + demand.bytes <= rooms[at].size {
                    (demand.at, demand.fixed) = (Some(at), fixed);
                }
            }
            placed.push(demand);
        }
        (rooms, placed)
    })
}

fn feasible(rooms: &[Room], demands: &[Demand], at: &[Option<usize>]) -> bool {
    let stays = demands.iter().zip(at).all(|(demand, at)| !demand.fixed || demand.at == *at);
    let fits = rooms.iter().enumerate().all(|(room, it)| {
        let here: Vec<&Demand> =
            demands.iter().zip(at).filter(|(_, at)| **at == Some(room)).map(|(demand, _)| demand).collect();
        let used: Bytes = here.iter().map(|demand| demand.bytes).sum();
        let alone = here.len() < 2 || !here.iter().any(|demand| demand.exclusive);
        let entered = here.iter().any(|demand| demand.at != Some(room));
        used <= it.size && alone && !(it.closed && entered)
    });
    stays && fits
}

/// Left out by rank, and changes: what the best plan has least of.
fn judged(demands: &[Demand], at: &[Option<usize>]) -> ([u64; RANKS], usize) {
    let mut left_out = [0; RANKS];
    for (demand, _) in demands.iter().zip(at).filter(|(_, at)| at.is_none()) {
        left_out[RANKS - 1 - usize::from(demand.rank)] += demand.cost;
    }
    (left_out, demands.iter().zip(at).filter(|(demand, at)| demand.at != **at).count())
}

/// Every assignment there is.
fn all(rooms: usize, demands: usize) -> Vec<Vec<Option<usize>>> {
    let choices = || std::iter::once(None).chain((0..rooms).map(Some));
    (0..demands).fold(vec![Vec::new()], |plans, _| {
        let extend = |plan: Vec<Option<usize>>| {
            choices().map(move |choice| plan.iter().copied().chain([choice]).collect::<Vec<_>>())
        };
        plans.into_iter().flat_map(extend).collect()
    })
}

fn again(rooms: &[Room], demands: &[Demand], at: &[Option<usize>]) -> Vec<Option<usize>> {
    let moved: Vec<Demand> =
        demands.iter().zip(at).map(|(demand, at)| Demand { at: *at, ..*demand }).collect();
    solve(rooms, &moved).at
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_other_plan_leaves_out_less_or_changes_less((rooms, demands) in problem(6)) {
        let plan = solve(&rooms, &demands);
        prop_assert!(plan.exact && feasible(&rooms, &demands, &plan.at), "{plan:?}");
        let best = all(rooms.len(), demands.len())
            .into_iter()
            .filter(|at| feasible(&rooms, &demands, at))
            .map(|at| judged(&demands, &at))
            .min()
            .unwrap();
        prop_assert_eq!(judged(&demands, &plan.at), best);
    }

    #[test]
    fn solving_twice_changes_nothing((rooms, demands) in problem(24)) {
        let first = solve(&rooms, &demands).at;
        prop_assert!(feasible(&rooms, &demands, &first));
        prop_assert_eq!(again(&rooms, &demands, &first), first);
    }

    #[test]
    fn what_is_resident_and_fits_stays((rooms, demands) in problem(24)) {
        // Everything is where it may be, so without newcomers nothing has to change.
        let held: Vec<Demand> = demands.into_iter().filter(|demand| demand.at.is_some()).collect();
        let at: Vec<Option<usize>> = held.iter().map(|demand| demand.at).collect();
        prop_assert_eq!(solve(&rooms, &held).at, at);
    }

    #[test]
    fn a_weaker_demand_takes_nothing_from_a_stronger_one((rooms, demands) in problem(8)) {
        let strong: Vec<Demand> = demands.iter().copied().filter(|demand| demand.rank >= 2 || demand.fixed).collect();
        let left_out = |demands: &[Demand]| {
            let at = solve(&rooms, demands).at;
            let (left_out, _) = judged(demands, &at);
            left_out[..RANKS - 2].to_vec()
        };
        prop_assert_eq!(left_out(&strong), left_out(&demands));
    }
}
